//! What a source has handled so far, counted where it happens and read by whoever reports.

use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};

/// Live counters of one migration's memory. Each is monotone.
#[derive(Debug, Default)]
pub struct MemoryCounters {
    bytes_guest: AtomicU64,
    bytes_wire: AtomicU64,
    pages_zero: AtomicU64,
    pages_same: AtomicU64,
    pages_sent: AtomicU64,
    rounds: AtomicU32,
}

/// The counters at one moment.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct MemoryTotals {
    /// Bytes of guest memory that QEMU handed over.
    pub bytes_guest: u64,
    /// Bytes put on the wire.
    pub bytes_wire: u64,
    /// Pages that were zero.
    pub pages_zero: u64,
    /// Pages (not zero) that the target had already.
    pub pages_same: u64,
    /// Pages sent.
    pub pages_sent: u64,
    /// Rounds over the memory that were begun.
    pub rounds: u32,
}

/// What one packet added.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct PacketCount {
    pub zero: u64,
    pub same: u64,
    pub sent: u64,
    pub total: u64,
}

impl MemoryCounters {
    pub(super) fn count_packet(&self, packet: PacketCount) {
        let bytes = packet.total * crate::sys::PAGE_BYTES as u64;
        self.bytes_guest.fetch_add(bytes, Ordering::Relaxed);
        self.pages_zero.fetch_add(packet.zero, Ordering::Relaxed);
        self.pages_same.fetch_add(packet.same, Ordering::Relaxed);
        self.pages_sent.fetch_add(packet.sent, Ordering::Relaxed);
    }

    pub(super) fn count_wire(&self, bytes: usize) {
        self.bytes_wire.fetch_add(bytes as u64, Ordering::Relaxed);
    }

    pub(super) fn count_tunnel(&self, bytes_guest: usize, bytes_wire: usize) {
        self.bytes_guest.fetch_add(bytes_guest as u64, Ordering::Relaxed);
        self.count_wire(bytes_wire);
    }

    pub(super) fn begin_round(&self, rounds: u32) {
        self.rounds.fetch_max(rounds, Ordering::Relaxed);
    }

    /// The counters now.
    pub fn totals(&self) -> MemoryTotals {
        MemoryTotals {
            bytes_guest: self.bytes_guest.load(Ordering::Relaxed),
            bytes_wire: self.bytes_wire.load(Ordering::Relaxed),
            pages_zero: self.pages_zero.load(Ordering::Relaxed),
            pages_same: self.pages_same.load(Ordering::Relaxed),
            pages_sent: self.pages_sent.load(Ordering::Relaxed),
            rounds: self.rounds.load(Ordering::Relaxed),
        }
    }
}
