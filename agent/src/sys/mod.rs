//! The only `unsafe` of this crate: guest memory that is shared with another process, and descriptors that the
//! reactor watches.

mod chunk;
mod memory;
mod watch;

pub use chunk::{CHUNK_BYTES, CHUNK_PAGES, Chunk};
pub use memory::{GuestMemory, GuestMemoryError, PAGE_BYTES};
pub use watch::watch;
