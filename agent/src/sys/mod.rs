//! The only `unsafe` of this crate: guest memory that is shared with another process.

mod memory;

pub use memory::{GuestMemory, GuestMemoryError, PAGE_BYTES};
