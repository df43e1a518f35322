//! What one migration has added so far to the numbers of all.

use std::sync::Arc;

use novacron_protocol::ids::MigrationId;
use prometheus_client::metrics::counter::Counter;
use quinn::ConnectionStats;

use super::labels::{Content, Form};
use super::{MigrationMetrics, Standing};
use crate::migrate::memory::MemoryTotals;

/// How much a migration has handled at one moment; none of it ever shrinks.
#[derive(Debug, Clone, Copy, Default)]
pub struct Moved {
    /// Of memory.
    pub memory: MemoryTotals,
    /// Bytes of disks, as the guest sees them.
    pub disk_guest_bytes: u64,
    /// Bytes of disks that the target had before.
    pub disk_held_bytes: u64,
    /// Bytes of disks on the wire.
    pub disk_wire_bytes: u64,
    /// Bytes of files on the wire.
    pub file_wire_bytes: u64,
}

/// What was counted already of one migration. With it goes what the gauges say of the migration.
#[derive(Debug)]
pub struct Tally {
    metrics: Arc<MigrationMetrics>,
    migration: MigrationId,
    moved: Moved,
    link: Link,
    earlier_links_sent_bytes: u64,
}

/// Of one connection.
#[derive(Debug, Default)]
struct Link {
    sent_bytes: u64,
    packets: u64,
    packets_lost: u64,
    bytes_lost: u64,
    congestion_events: u64,
}

/// Adds to a counter what a number has grown by. A smaller one is that of something that began anew or is gone: nothing
/// of it is counted twice.
fn grow(counter: &Counter, before: &mut u64, now: u64) {
    counter.inc_by(now.saturating_sub(*before));
    *before = (*before).max(now);
}

impl Tally {
    /// Of a migration of which nothing is counted yet.
    pub fn begin(metrics: Arc<MigrationMetrics>, migration: MigrationId) -> Self {
        Self {
            metrics,
            migration,
            moved: Moved::default(),
            link: Link::default(),
            earlier_links_sent_bytes: 0,
        }
    }

    /// The migration has handled so much by now.
    pub fn moved(&mut self, now: Moved) {
        let (metrics, before) = (&self.metrics, &mut self.moved);
        let guest = |content| metrics.guest_bytes.get_or_create_owned(&Content { content });
        let wire = |content| metrics.wire_bytes.get_or_create_owned(&Content { content });
        grow(&guest("memory"), &mut before.memory.bytes_guest, now.memory.bytes_guest);
        grow(&guest("disk"), &mut before.disk_guest_bytes, now.disk_guest_bytes);
        grow(&metrics.disk_held_bytes, &mut before.disk_held_bytes, now.disk_held_bytes);
        grow(&wire("memory"), &mut before.memory.bytes_wire, now.memory.bytes_wire);
        grow(&wire("disk"), &mut before.disk_wire_bytes, now.disk_wire_bytes);
        grow(&wire("file"), &mut before.file_wire_bytes, now.file_wire_bytes);
        let mut rounds = before.memory.rounds.into();
        grow(&metrics.rounds, &mut rounds, now.memory.rounds.into());
        before.memory.rounds = before.memory.rounds.max(now.memory.rounds);
        self.pages(now.memory);
    }

    fn pages(&mut self, now: MemoryTotals) {
        let before = &mut self.moved.memory;
        for (form, before, now) in [
            ("zero", &mut before.pages_zero, now.pages_zero),
            ("same", &mut before.pages_same, now.pages_same),
            ("known", &mut before.pages_known, now.pages_known),
            ("difference", &mut before.pages_differing, now.pages_differing),
            ("packed", &mut before.pages_packed, now.pages_packed),
            ("raw", &mut before.pages_raw, now.pages_raw),
        ] {
            grow(&self.metrics.pages.get_or_create(&Form { form }), before, now);
        }
    }

    /// How the present connection has done so far.
    pub fn link(&mut self, now: &ConnectionStats) {
        let (metrics, path) = (&self.metrics.link, &now.path);
        let before = &mut self.link;
        metrics.round_trip.observe(path.rtt.as_secs_f64());
        grow(&metrics.sent_bytes, &mut before.sent_bytes, now.udp_tx.bytes);
        grow(&metrics.packets, &mut before.packets, path.sent_packets);
        grow(&metrics.packets_lost, &mut before.packets_lost, path.lost_packets);
        grow(&metrics.bytes_lost, &mut before.bytes_lost, path.lost_bytes);
        grow(&metrics.congestion_events, &mut before.congestion_events, path.congestion_events);
    }

    /// The connection is gone: the next one begins at nothing.
    pub fn unlinked(&mut self) {
        let gone = std::mem::take(&mut self.link);
        self.earlier_links_sent_bytes += gone.sent_bytes;
    }

    /// Bytes in UDP packets that were sent over all connections so far, as of the last look.
    pub fn link_sent_bytes(&self) -> u64 {
        self.earlier_links_sent_bytes + self.link.sent_bytes
    }

    /// How the migration stands now.
    pub fn stands(&self, standing: Standing) {
        self.metrics.running.stands(self.migration, standing);
    }
}

impl Drop for Tally {
    fn drop(&mut self) {
        self.metrics.running.gone(self.migration);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use novacron_metrics::pages::text;
    use novacron_protocol::migration::MigrationPhase;
    use prometheus_client::registry::Registry;
    use uuid::Uuid;

    fn begin() -> (Arc<MigrationMetrics>, Tally) {
        let metrics = Arc::new(MigrationMetrics::default());
        let tally = Tally::begin(Arc::clone(&metrics), MigrationId(Uuid::from_u128(7)));
        (metrics, tally)
    }

    #[test]
    fn each_byte_is_counted_once_whatever_order_the_looks_come_in() {
        let (metrics, mut tally) = begin();
        let memory = |bytes_wire| MemoryTotals {
            bytes_wire,
            pages_raw: 3,
            rounds: 2,
            ..MemoryTotals::default()
        };
        for bytes_wire in [100, 100, 250, 0, 0] {
            tally.moved(Moved { memory: memory(bytes_wire), ..Moved::default() });
        }
        let wire = metrics.wire_bytes.get_or_create(&Content { content: "memory" }).get();
        let raw = metrics.pages.get_or_create(&Form { form: "raw" }).get();
        assert_eq!((wire, raw, metrics.rounds.get()), (250, 3, 2));
    }

    #[test]
    fn a_second_connection_begins_anew() {
        let (metrics, mut tally) = begin();
        let mut link = ConnectionStats::default();
        link.udp_tx.bytes = 3000;
        for (sent_packets, lost_packets) in [(10, 1), (20, 1)] {
            (link.path.sent_packets, link.path.lost_packets) = (sent_packets, lost_packets);
            tally.link(&link);
        }
        tally.unlinked();
        (link.path.sent_packets, link.path.lost_packets) = (100, 2);
        link.udp_tx.bytes = 7000;
        tally.link(&link);
        assert_eq!((metrics.link.packets.get(), metrics.link.packets_lost.get()), (120, 3));
        assert_eq!((metrics.link.sent_bytes.get(), tally.link_sent_bytes()), (10_000, 10_000));
    }

    #[test]
    fn what_is_over_is_not_under_way() {
        let (metrics, tally) = begin();
        let mut registry = Registry::default();
        metrics.register(&mut registry);
        let says = |line: &str| text(&registry).unwrap().lines().any(|found| found == line);
        tally.stands(Standing {
            phase: MigrationPhase::DataSync,
            remaining_bytes: 4096,
            dirty_bytes_per_second: 8192,
            congestion_window_bytes: 14_720,
        });
        assert!(says("novacron_migration_sources{phase=\"data_sync\"} 1"));
        assert!(says("novacron_migration_remaining_bytes 4096"));
        assert!(says("novacron_migration_dirty_bytes_per_second 8192"));
        assert!(says("novacron_migration_link_congestion_window_bytes 14720"));
        drop(tally);
        assert!(says("novacron_migration_sources{phase=\"data_sync\"} 0"));
        assert!(says("novacron_migration_remaining_bytes 0"));
    }
}
