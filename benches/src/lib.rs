//! What the micro-benchmarks share.

#![forbid(unsafe_code)]

pub mod corpus;
