//! Disks on their way: the mirror of both ends.
//!
//! ```text
//! source   QEMU's mirror job ─NBD─► server thread: hash, admit, compress ─► stream ═QUIC═►
//! target   ►═ stream ─► thread: decode, hash ─NBD─► QEMU's own export of the new disk
//! ```
//!
//! The target's disks begin with what is there (nothing, an image, what an earlier visit left behind), of which the
//! source is told the hashes; so what both have does not travel.
//!
//! One operating system thread and one QUIC stream per disk. A write is answered when the stream has taken it, so a
//! full QUIC window stops the thread, which stops QEMU's mirror; the guest's own writes do not wait for it, QEMU
//! notes them and copies again. Both ends count what every block holds, and compare before the guest changes sides.
//!
//! **What must never happen** is that QEMU waits for a write that nobody will answer: when the guest is stopped or a
//! block node comes or goes, it does so with its big lock held, and hears no command. So whatever ends a stream closes
//! the socket as well, a record that the target does not take ends the stream, and QEMU's job fails instead.

mod counters;
mod disk_in;
mod disk_out;
mod error;
mod flusher;
mod follow;
mod held;
mod incoming;
mod mirror;
pub mod nbd;
mod nodes;
mod outgoing;
mod socket;

pub use counters::DiskCounters;
pub use error::DiskError;
pub use incoming::{DiskEvent, DisksPlan, IncomingDisks};
pub use outgoing::{DiskProgress, OutgoingDisks, Route};
