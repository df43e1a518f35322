//! The only `unsafe` of this crate: guest memory that is shared with another process, and descriptors that the
//! reactor watches.

mod memory;
mod watch;

pub use memory::{GuestMemory, GuestMemoryError, PAGE_BYTES};
pub use watch::watch;
