//! The links between sources here and their targets, in numbers.

use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::histogram::Histogram;
use prometheus_client::registry::Registry;

use super::labels::Role;

/// Seconds of a round trip: a rack, a city, a continent, the other side of the world.
const ROUND_TRIP_BOUNDS: [f64; 9] = [0.0002, 0.0005, 0.001, 0.002, 0.005, 0.02, 0.05, 0.1, 0.3];

/// Counters of links.
#[derive(Debug)]
pub(super) struct LinkMetrics {
    pub(super) round_trip: Histogram,
    pub(super) sent_bytes: Counter,
    pub(super) packets: Counter,
    pub(super) packets_lost: Counter,
    pub(super) bytes_lost: Counter,
    pub(super) congestion_events: Counter,
    pub(super) interruptions: Family<Role, Counter>,
}

impl Default for LinkMetrics {
    fn default() -> Self {
        Self {
            round_trip: Histogram::new(ROUND_TRIP_BOUNDS),
            sent_bytes: Counter::default(),
            packets: Counter::default(),
            packets_lost: Counter::default(),
            bytes_lost: Counter::default(),
            congestion_events: Counter::default(),
            interruptions: Family::default(),
        }
    }
}

impl LinkMetrics {
    pub(super) fn register(&self, registry: &mut Registry) {
        registry.register(
            "novacron_migration_link_round_trip_seconds",
            "Round trip between source and target, twice a second while a migration runs",
            self.round_trip.clone(),
        );
        registry.register(
            "novacron_migration_link_interruptions",
            "Links between source and target that were lost while a migration ran",
            self.interruptions.clone(),
        );
        for (name, help, counter) in [
            (
                "novacron_migration_link_sent_bytes",
                "Bytes in UDP packets that sources here sent, with QUIC's own and what was sent again",
                &self.sent_bytes,
            ),
            (
                "novacron_migration_link_packets",
                "Packets that sources here sent to targets",
                &self.packets,
            ),
            (
                "novacron_migration_link_lost_packets",
                "Of these, packets that were lost; what was in them was sent again",
                &self.packets_lost,
            ),
            (
                "novacron_migration_link_lost_bytes",
                "Bytes in packets that were lost",
                &self.bytes_lost,
            ),
            (
                "novacron_migration_link_congestion_events",
                "Times at which congestion control slowed a source down",
                &self.congestion_events,
            ),
        ] {
            registry.register(name, help, counter.clone());
        }
    }
}
