//! What a source has handled so far, counted where it happens and read by whoever reports.

use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};

use novacron_protocol::pages::{EncodedBatch, Form};

/// Live counters of one migration's memory. Each is monotone.
#[derive(Debug, Default)]
pub struct MemoryCounters {
    bytes_guest: AtomicU64,
    bytes_wire: AtomicU64,
    pages_zero: AtomicU64,
    pages_same: AtomicU64,
    pages_known: AtomicU64,
    pages_differing: AtomicU64,
    pages_packed: AtomicU64,
    pages_raw: AtomicU64,
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
    /// Pages that the target has in a file or from another machine.
    pub pages_known: u64,
    /// Pages of which what changed was sent.
    pub pages_differing: u64,
    /// Pages sent compressed.
    pub pages_packed: u64,
    /// Pages sent as they are.
    pub pages_raw: u64,
    /// Rounds over the memory that were begun.
    pub rounds: u32,
}

impl MemoryTotals {
    /// These and those of another attempt.
    #[must_use]
    pub fn plus(self, other: Self) -> Self {
        Self {
            bytes_guest: self.bytes_guest + other.bytes_guest,
            bytes_wire: self.bytes_wire + other.bytes_wire,
            pages_zero: self.pages_zero + other.pages_zero,
            pages_same: self.pages_same + other.pages_same,
            pages_known: self.pages_known + other.pages_known,
            pages_differing: self.pages_differing + other.pages_differing,
            pages_packed: self.pages_packed + other.pages_packed,
            pages_raw: self.pages_raw + other.pages_raw,
            rounds: self.rounds + other.rounds,
        }
    }

    /// Pages of which something was sent: all, or what changed.
    pub fn pages_sent(&self) -> u64 {
        self.pages_differing + self.pages_packed + self.pages_raw
    }
}

/// What one packet of QEMU added.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct PacketCount {
    /// Pages of zeros.
    pub zero: u64,
    /// Pages of all kinds.
    pub total: u64,
    /// Pages, not of zeros, that need not be sent.
    pub same: u64,
}

impl MemoryCounters {
    pub(super) fn count_packet(&self, packet: PacketCount) {
        let bytes = packet.total * crate::sys::PAGE_BYTES as u64;
        self.bytes_guest.fetch_add(bytes, Ordering::Relaxed);
        self.pages_zero.fetch_add(packet.zero, Ordering::Relaxed);
        self.pages_same.fetch_add(packet.same, Ordering::Relaxed);
    }

    pub(super) fn count_batch(&self, batch: &EncodedBatch) {
        self.count_wire(batch.bytes);
        for (counter, form) in [
            (&self.pages_known, Form::Known),
            (&self.pages_differing, Form::Differing),
            (&self.pages_packed, Form::Packed),
            (&self.pages_raw, Form::Raw),
        ] {
            counter.fetch_add(batch.forms.of(form) as u64, Ordering::Relaxed);
        }
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
        let now = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        MemoryTotals {
            bytes_guest: now(&self.bytes_guest),
            bytes_wire: now(&self.bytes_wire),
            pages_zero: now(&self.pages_zero),
            pages_same: now(&self.pages_same),
            pages_known: now(&self.pages_known),
            pages_differing: now(&self.pages_differing),
            pages_packed: now(&self.pages_packed),
            pages_raw: now(&self.pages_raw),
            rounds: self.rounds.load(Ordering::Relaxed),
        }
    }
}
