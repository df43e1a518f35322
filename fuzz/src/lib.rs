//! Fuzz targets of the decoders. Add one: a function in [`bodies`], a file in `fuzz_targets`, a
//! `[[bin]]`, and a test in `protocol/tests/formats/mutation.rs`.

pub mod bodies;
