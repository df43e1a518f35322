//! NBD over blocking sockets: the server that QEMU's mirror writes to, the client that writes to QEMU's export.
//!
//! As little of the protocol as those two need: fixed newstyle, one export, no TLS (the sockets lie in a directory
//! that only the agent may enter), simple replies, one request after the other. It knows disks as sizes and names.

mod client;
mod handshake;
mod server;
pub mod wire;

pub use client::{ClientError, NbdClient};
pub use handshake::{Export, HandshakeError};
pub use server::{End, ServeError, Sink, serve};

/// Blocks in which disks travel: requests at the server must be whole ones.
pub const EXPORT_BLOCK_BYTES: u32 = novacron_protocol::limits::DISK_BLOCK_BYTES as u32;

/// The longest request that the server takes. QEMU cuts zeroing as well as writing to this, and begins a mirror by
/// zeroing all of the target: 32 MiB (its own limit) make that 32,768 requests for a disk of 1 TiB.
pub const REQUEST_BYTES_MAX: u32 = 32 << 20;

/// Bytes of a write that are handed on at once, so that a request's length costs no memory.
pub const CHUNK_BYTES: usize = novacron_protocol::disk::record::DATA_RECORD_BYTES_MAX;
