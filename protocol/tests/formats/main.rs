//! The formats of this crate, from outside: against recorded streams, against themselves
//! for any chunking, and against damage.
#![allow(clippy::unwrap_used, reason = "a test that cannot go on fails")]

mod batch;
mod disk;
mod golden;
mod golden_batch;
mod golden_files;
mod hostile;
mod mutation;
mod rewriting;
mod stream;
mod synthetic;

/// The fuzz targets' bodies, so that they run without the nightly compiler as well.
#[path = "../../../fuzz/src/bodies.rs"]
mod bodies;
