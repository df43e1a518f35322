//! The sessions of a migration's source and target against each other.
#![allow(missing_docs)]
#![allow(clippy::unwrap_used, reason = "a test that cannot go on fails")]

mod model;
mod pair;
mod reasons;
mod world;
