//! The formats of `qemu` and `pages`, from outside: against recorded streams, against themselves
//! for any chunking, and against damage.

mod batch;
mod golden;
mod golden_files;
mod hostile;
mod mutation;
mod rewriting;
mod stream;

/// The fuzz targets' bodies, so that they run without the nightly compiler as well.
#[path = "../../../fuzz/src/bodies.rs"]
mod bodies;
