//! What a source has handled of the disks so far, counted where it happens and read by whoever reports.

use std::sync::atomic::{AtomicU64, Ordering};

use novacron_protocol::disk::Record;

/// Live counters of one migration's disks. Each is monotone.
#[derive(Debug, Default)]
pub struct DiskCounters {
    bytes_total: u64,
    bytes_held: u64,
    bytes_disk: AtomicU64,
    bytes_sent: AtomicU64,
    bytes_wire: AtomicU64,
}

impl DiskCounters {
    pub(super) fn new(bytes_total: u64, bytes_held: u64) -> Self {
        Self { bytes_total, bytes_held, ..Self::default() }
    }

    pub(super) fn count_written(&self, bytes: u64) {
        self.bytes_disk.fetch_add(bytes, Ordering::Relaxed);
    }

    pub(super) fn count_record(&self, record: &Record<'_>, wire_bytes: usize) {
        self.bytes_sent.fetch_add(record.disk_bytes(), Ordering::Relaxed);
        self.bytes_wire.fetch_add(wire_bytes as u64, Ordering::Relaxed);
    }

    /// Sizes of all disks together, as the guest sees them.
    pub fn bytes_total(&self) -> u64 {
        self.bytes_total
    }

    /// Content that the target had before anything was sent.
    pub fn bytes_held(&self) -> u64 {
        self.bytes_held
    }

    /// Content that QEMU handed over: all that it wrote, and what it zeroed where there was something else. A disk of
    /// which the guest wrote half counts half, plus what it writes meanwhile.
    pub fn bytes_disk(&self) -> u64 {
        self.bytes_disk.load(Ordering::Relaxed)
    }

    /// Content that was new to the target and so was sent, before compression, zeros included.
    pub fn bytes_sent(&self) -> u64 {
        self.bytes_sent.load(Ordering::Relaxed)
    }

    /// Bytes put on the wire.
    pub fn bytes_wire(&self) -> u64 {
        self.bytes_wire.load(Ordering::Relaxed)
    }
}
