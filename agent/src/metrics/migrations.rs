//! Migrations in numbers.

use novacron_metrics::{Histogram, HistogramVec, IntCounter, IntCounterVec, MetricError, Metrics};
use novacron_protocol::migration::MigrationMode;

use super::dwcp::DwcpMetrics;

/// Seconds that a migration may take, from an idle guest on a fast link to a large disk on a slow one.
const DURATION_BOUNDS: [f64; 13] =
    [0.5, 1.0, 2.0, 5.0, 10.0, 20.0, 30.0, 60.0, 120.0, 300.0, 600.0, 1800.0, 3600.0];

/// Seconds that a guest may stand still: most are tens of milliseconds, and ten seconds is the limit.
const DOWNTIME_BOUNDS: [f64; 14] =
    [0.005, 0.01, 0.015, 0.02, 0.03, 0.05, 0.075, 0.1, 0.15, 0.2, 0.3, 0.5, 1.0, 10.0];

/// Seconds of a round trip: a rack, a city, a continent, the other side of the world.
const ROUND_TRIP_BOUNDS: [f64; 9] = [0.0002, 0.0005, 0.001, 0.002, 0.005, 0.02, 0.05, 0.1, 0.3];

/// Which end of a migration.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Side {
    /// It gives the machine away.
    Source,
    /// It gets it.
    Target,
}

impl Side {
    pub(super) fn word(self) -> &'static str {
        match self {
            Self::Source => "source",
            Self::Target => "target",
        }
    }
}

/// How a migration ended, as its source saw it.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Ended {
    /// How it moved.
    pub mode: MigrationMode,
    /// `completed`, `failed` or `cancelled`.
    pub result: &'static str,
    /// From the order to the end.
    pub duration_seconds: f64,
    /// How long the guest stood still, if it was handed over.
    pub downtime_seconds: Option<f64>,
}

/// Counters of all migrations of this agent. Each grows while migrations run.
#[derive(Debug)]
pub struct MigrationMetrics {
    registry: Metrics,
    dwcp: DwcpMetrics,
    ended: IntCounterVec,
    duration: HistogramVec,
    downtime: HistogramVec,
    pub(super) guest_bytes: IntCounterVec,
    pub(super) wire_bytes: IntCounterVec,
    pub(super) pages: IntCounterVec,
    pub(super) rounds: IntCounter,
    pub(super) round_trip: Histogram,
    pub(super) packets: IntCounter,
    pub(super) packets_lost: IntCounter,
    pub(super) bytes_lost: IntCounter,
    pub(super) congestion_events: IntCounter,
    interruptions: IntCounterVec,
}

impl MigrationMetrics {
    /// Counters at zero.
    ///
    /// # Errors
    /// [`MetricError`].
    pub fn new() -> Result<Self, MetricError> {
        let registry = Metrics::default();
        let metrics = Self {
            dwcp: DwcpMetrics::new()?,
            ended: registry.counters(
                "novacron_migrations_total",
                "Migrations that ended here, by end (source or target), mode and result.",
                &["role", "mode", "result"],
            )?,
            duration: registry.histograms(
                "novacron_migration_duration_seconds",
                "Time from the order to the end of a migration, at its source.",
                &DURATION_BOUNDS,
                &["mode", "result"],
            )?,
            downtime: registry.histograms(
                "novacron_migration_downtime_seconds",
                "Time for which guests stood still that were handed over, at their source.",
                &DOWNTIME_BOUNDS,
                &["mode"],
            )?,
            guest_bytes: registry.counters(
                "novacron_migration_guest_bytes_total",
                "Bytes of memory and disks as guests see them that migrations from here handled.",
                &["content"],
            )?,
            wire_bytes: registry.counters(
                "novacron_migration_wire_bytes_total",
                "Bytes that migrations from here put on the wire.",
                &["content"],
            )?,
            pages: registry.counters(
                "novacron_migration_pages_total",
                "Pages of memory that migrations from here handled, by the form in which they went.",
                &["form"],
            )?,
            rounds: registry.counter(
                "novacron_migration_rounds_total",
                "Rounds over guests' memory that were begun here.",
            )?,
            round_trip: registry.histogram(
                "novacron_migration_link_round_trip_seconds",
                "Round trip between source and target, twice a second while a migration runs.",
                &ROUND_TRIP_BOUNDS,
            )?,
            packets: registry.counter(
                "novacron_migration_link_packets_total",
                "Packets that sources here sent to targets.",
            )?,
            packets_lost: registry.counter(
                "novacron_migration_link_lost_packets_total",
                "Of these, packets that were lost; what was in them was sent again.",
            )?,
            bytes_lost: registry.counter(
                "novacron_migration_link_lost_bytes_total",
                "Bytes in packets that were lost.",
            )?,
            congestion_events: registry.counter(
                "novacron_migration_link_congestion_events_total",
                "Times at which congestion control slowed a source down.",
            )?,
            interruptions: registry.counters(
                "novacron_migration_link_interruptions_total",
                "Links between source and target that were lost while a migration ran.",
                &["role"],
            )?,
            registry,
        };
        metrics.begin();
        Ok(metrics)
    }

    /// A counter that appears with its first event has no rate at that moment: those that matter are there from the
    /// beginning.
    fn begin(&self) {
        for side in [Side::Source, Side::Target] {
            self.interruptions.with_label_values(&[side.word()]);
            for result in ["completed", "failed"] {
                self.ended.with_label_values(&[
                    side.word(),
                    mode_word(MigrationMode::Live),
                    result,
                ]);
            }
        }
    }

    /// Where they are registered, with room for more.
    pub fn registry(&self) -> &Metrics {
        &self.registry
    }

    pub(super) fn dwcp(&self) -> &Metrics {
        self.dwcp.registry()
    }

    /// A migration from here ended.
    pub fn ended_at_source(&self, ended: &Ended) {
        let mode = mode_word(ended.mode);
        self.ended.with_label_values(&[Side::Source.word(), mode, ended.result]).inc();
        self.duration.with_label_values(&[mode, ended.result]).observe(ended.duration_seconds);
        if let Some(seconds) = ended.downtime_seconds {
            self.downtime.with_label_values(&[mode]).observe(seconds);
        }
        self.dwcp.ended(mode, ended);
    }

    /// A migration to here ended: `completed` or `failed`.
    pub fn ended_at_target(&self, mode: MigrationMode, result: &'static str) {
        self.ended.with_label_values(&[Side::Target.word(), mode_word(mode), result]).inc();
    }

    /// The link to the other end was lost.
    pub fn link_interrupted(&self, side: Side) {
        self.interruptions.with_label_values(&[side.word()]).inc();
    }
}

/// The mode as a label.
fn mode_word(mode: MigrationMode) -> &'static str {
    match mode {
        MigrationMode::Live => "live",
        MigrationMode::Cold => "cold",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_migration_is_in_every_number_and_the_rules_are_kept() {
        let metrics = MigrationMetrics::new().unwrap();
        metrics.ended_at_source(&Ended {
            mode: MigrationMode::Live,
            result: "completed",
            duration_seconds: 3.5,
            downtime_seconds: Some(0.012),
        });
        metrics.ended_at_target(MigrationMode::Cold, "failed");
        metrics.link_interrupted(Side::Source);
        let text = metrics.registry().text();
        for line in [
            "novacron_migrations_total{mode=\"live\",result=\"completed\",role=\"source\"} 1",
            "novacron_migrations_total{mode=\"live\",result=\"failed\",role=\"target\"} 0",
            "novacron_migrations_total{mode=\"cold\",result=\"failed\",role=\"target\"} 1",
            "novacron_migration_duration_seconds_bucket{mode=\"live\",result=\"completed\",le=\"5\"} 1",
            "novacron_migration_downtime_seconds_bucket{mode=\"live\",le=\"0.01\"} 0",
            "novacron_migration_downtime_seconds_bucket{mode=\"live\",le=\"0.015\"} 1",
            "novacron_migration_link_interruptions_total{role=\"source\"} 1",
        ] {
            assert!(text.lines().any(|found| found == line), "{line}\nnot in\n{text}");
        }
        assert_eq!(novacron_metrics::lint::problems(&text), Vec::<String>::new());
        let text = metrics.dwcp().text();
        assert!(
            text.contains("dwcp_migration_total{mode=\"live\",result=\"completed\"} 1"),
            "{text}"
        );
        let downtime =
            "dwcp_migration_downtime_milliseconds_sum{mode=\"live\",result=\"completed\"} 12";
        assert!(text.contains(downtime), "{text}");
    }
}
