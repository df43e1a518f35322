//! Guest memory on its way: the page pipeline of both ends.
//!
//! ```text
//! source   channel socket ─► lane thread: parse, hash, admit, differ, compress ─► lane ═QUIC═►
//!          main socket ────► main thread: rewrite, inject foreign pages ─► main stream ═QUIC═►
//! target   ►═ lane ─► lane thread: decode, hash, apply ─► guest RAM (shared mapping)
//!          ►═ main stream ─► feeder: waits at the barrier ─► unix socket of QEMU, and its return path
//! ```
//!
//! One operating system thread per lane: reading, hashing and compressing a packet in place costs no hop, and a
//! full QUIC window stops the thread, which stops reading QEMU's socket. That is the whole backpressure.

mod boot_pages;
mod counters;
mod feeder;
mod found_pages;
mod held_pages;
mod incoming;
mod lane_in;
mod lane_out;
pub(crate) mod level;
mod main_out;
mod meeting;
mod outgoing;
pub(crate) mod pace;
mod sent_pages;
mod sharing;
mod sockets;
mod tunnel_out;

pub use boot_pages::BootFile;
pub use counters::{MemoryCounters, MemoryTotals};
pub use found_pages::PagesSearch;
pub use incoming::{Beginning, Incoming, IncomingEvent, IncomingPlan};
pub use incoming::{IncomingError, IncomingForm};
pub(crate) use outgoing::open;
pub use outgoing::{Knowledge, Outgoing, OutgoingError, OutgoingEvent, OutgoingForm, PagesPlan};
pub use sockets::{QemuSockets, SocketError};

/// The RAM block that travels page by page: the guest's memory. Firmware and option ROMs stay in the main stream.
pub const SHARED_BLOCK: &str = "pc.ram";

/// Its number in page batches: the only block that travels so.
const SHARED_BLOCK_INDEX: u16 = 0;
