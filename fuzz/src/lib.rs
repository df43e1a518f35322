//! Fuzz targets of the decoders. Add one: a function in [`bodies`] or [`storage`], a file in
//! `fuzz_targets`, a `[[bin]]`, and a test in `protocol/tests/formats/mutation.rs` or
//! `storage/tests/it/mutation.rs`.

pub mod bodies;
pub mod storage;
pub mod vault;
