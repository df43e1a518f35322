//! Disks go from one real QEMU to another through the mirror, over real QUIC, while somebody writes to them.
//!
//! The guests are empty: what writes is a client of the source's own NBD export, which takes the same way through
//! QEMU's block layer as a guest's device. A booted guest that writes moves in the end-to-end tests.

mod copies;
mod harness;
mod known;
mod trouble;
