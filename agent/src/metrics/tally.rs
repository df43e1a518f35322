//! What one migration has added so far to the numbers of all.

use novacron_metrics::IntCounter;
use quinn::ConnectionStats;

use super::MigrationMetrics;
use crate::migrate::memory::MemoryTotals;

/// How much a migration has handled at one moment; none of it ever shrinks.
#[derive(Debug, Clone, Copy, Default)]
pub struct Moved {
    /// Of memory.
    pub memory: MemoryTotals,
    /// Bytes of disks, as the guest sees them.
    pub disk_guest_bytes: u64,
    /// Bytes of disks on the wire.
    pub disk_wire_bytes: u64,
    /// Bytes of files on the wire.
    pub file_wire_bytes: u64,
}

/// What was counted already of one migration.
#[derive(Debug, Default)]
pub struct Tally {
    moved: Moved,
    packets: u64,
    packets_lost: u64,
    bytes_lost: u64,
    congestion_events: u64,
}

/// Adds to a counter what a number has grown by. A smaller one is that of something that began anew or is gone: nothing
/// of it is counted twice.
fn grow(counter: &IntCounter, before: &mut u64, now: u64) {
    counter.inc_by(now.saturating_sub(*before));
    *before = (*before).max(now);
}

impl Tally {
    /// The migration has handled so much by now.
    pub fn moved(&mut self, metrics: &MigrationMetrics, now: Moved) {
        let (before, memory) = (&mut self.moved, now.memory);
        let guest = |content: &str| metrics.guest_bytes.with_label_values(&[content]);
        let wire = |content: &str| metrics.wire_bytes.with_label_values(&[content]);
        grow(&guest("memory"), &mut before.memory.bytes_guest, memory.bytes_guest);
        grow(&guest("disk"), &mut before.disk_guest_bytes, now.disk_guest_bytes);
        grow(&wire("memory"), &mut before.memory.bytes_wire, memory.bytes_wire);
        grow(&wire("disk"), &mut before.disk_wire_bytes, now.disk_wire_bytes);
        grow(&wire("file"), &mut before.file_wire_bytes, now.file_wire_bytes);
        for (form, before, now) in [
            ("zero", &mut before.memory.pages_zero, memory.pages_zero),
            ("same", &mut before.memory.pages_same, memory.pages_same),
            ("known", &mut before.memory.pages_known, memory.pages_known),
            ("delta", &mut before.memory.pages_differing, memory.pages_differing),
            ("compressed", &mut before.memory.pages_packed, memory.pages_packed),
            ("raw", &mut before.memory.pages_raw, memory.pages_raw),
        ] {
            grow(&metrics.pages.with_label_values(&[form]), before, now);
        }
        let rounds = memory.rounds.saturating_sub(before.memory.rounds);
        metrics.rounds.inc_by(rounds.into());
        before.memory.rounds = before.memory.rounds.max(memory.rounds);
    }

    /// How the present connection has done so far.
    pub fn link(&mut self, metrics: &MigrationMetrics, now: &ConnectionStats) {
        let path = &now.path;
        if path.sent_packets < self.packets {
            // Another connection than last time.
            *self = Self { moved: self.moved, ..Self::default() };
        }
        metrics.round_trip.observe(path.rtt.as_secs_f64());
        grow(&metrics.packets, &mut self.packets, path.sent_packets);
        grow(&metrics.packets_lost, &mut self.packets_lost, path.lost_packets);
        grow(&metrics.bytes_lost, &mut self.bytes_lost, path.lost_bytes);
        grow(&metrics.congestion_events, &mut self.congestion_events, path.congestion_events);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_byte_is_counted_once_whatever_order_the_looks_come_in() {
        let metrics = MigrationMetrics::new().unwrap();
        let mut tally = Tally::default();
        let memory = |bytes_wire| MemoryTotals { bytes_wire, pages_raw: 3, ..Default::default() };
        for bytes_wire in [100, 100, 250, 0, 0] {
            tally.moved(&metrics, Moved { memory: memory(bytes_wire), ..Moved::default() });
        }
        let wire = metrics.wire_bytes.with_label_values(&["memory"]).get();
        let raw = metrics.pages.with_label_values(&["raw"]).get();
        assert_eq!((wire, raw), (250, 3));
    }

    #[test]
    fn a_second_connection_begins_anew() {
        let metrics = MigrationMetrics::new().unwrap();
        let mut tally = Tally::default();
        let mut link = ConnectionStats::default();
        for (sent_packets, lost_packets) in [(10, 1), (20, 1), (4, 2), (6, 2)] {
            (link.path.sent_packets, link.path.lost_packets) = (sent_packets, lost_packets);
            tally.link(&metrics, &link);
        }
        assert_eq!((metrics.packets.get(), metrics.packets_lost.get()), (26, 3));
        assert_eq!(metrics.round_trip.get_sample_count(), 4);
    }
}
