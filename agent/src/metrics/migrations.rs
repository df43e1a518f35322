//! Migrations in numbers.

use std::sync::atomic::AtomicU64;

use novacron_protocol::migration::{DowntimeParts, MigrationMode};
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::histogram::Histogram;
use prometheus_client::registry::Registry;

use super::dwcp::DwcpMetrics;
use super::labels::{
    Content, End, Form, MODES, Mode, Part, RESULTS, Role, RoleEnd, Side, mode_word, parts,
};
use super::link::LinkMetrics;
use super::running::Running;

/// Seconds that a migration may take, from an idle guest on a fast link to a large disk on a slow one.
const DURATION_BOUNDS: [f64; 13] =
    [0.5, 1.0, 2.0, 5.0, 10.0, 20.0, 30.0, 60.0, 120.0, 300.0, 600.0, 1800.0, 3600.0];

/// Seconds that a guest may stand still: most are tens of milliseconds, a guest that shuts down takes seconds.
const DOWNTIME_BOUNDS: [f64; 15] =
    [0.005, 0.01, 0.015, 0.02, 0.03, 0.05, 0.075, 0.1, 0.15, 0.2, 0.3, 0.5, 1.0, 10.0, 60.0];

/// How a migration ended, as its source saw it.
#[derive(Debug, Clone)]
pub struct Ended {
    /// How it moved.
    pub mode: MigrationMode,
    /// `completed`, `failed` or `cancelled`.
    pub result: &'static str,
    /// From the order to the end.
    pub duration_seconds: f64,
    /// Where the time went for which the guest stood still, if it was handed over.
    pub downtime: Option<DowntimeParts>,
}

type FractionCounter = Counter<f64, AtomicU64>;

/// Counters of all migrations of this agent. Each grows while migrations run.
#[derive(Debug)]
pub struct MigrationMetrics {
    ended: Family<RoleEnd, Counter>,
    duration: Family<End, Histogram>,
    downtime: Family<Mode, Histogram>,
    downtime_parts: Family<Part, FractionCounter>,
    pub(super) guest_bytes: Family<Content, Counter>,
    pub(super) wire_bytes: Family<Content, Counter>,
    pub(super) disk_held_bytes: Counter,
    pub(super) pages: Family<Form, Counter>,
    pub(super) rounds: Counter,
    pub(super) link: LinkMetrics,
    pub(super) running: Running,
    dwcp: DwcpMetrics,
}

impl Default for MigrationMetrics {
    fn default() -> Self {
        let metrics = Self {
            ended: Family::default(),
            duration: Family::new_with_constructor(|| Histogram::new(DURATION_BOUNDS)),
            downtime: Family::new_with_constructor(|| Histogram::new(DOWNTIME_BOUNDS)),
            downtime_parts: Family::default(),
            guest_bytes: Family::default(),
            wire_bytes: Family::default(),
            disk_held_bytes: Counter::default(),
            pages: Family::default(),
            rounds: Counter::default(),
            link: LinkMetrics::default(),
            running: Running::default(),
            dwcp: DwcpMetrics::default(),
        };
        metrics.begin();
        metrics
    }
}

impl MigrationMetrics {
    /// A counter that appears with its first event has no rate at that moment: all are there from the beginning.
    fn begin(&self) {
        for mode in MODES.map(mode_word) {
            for result in RESULTS {
                let _ = self.duration.get_or_create_owned(&End { mode, result });
                for role in [Side::Source, Side::Target].map(Side::word) {
                    let _ = self.ended.get_or_create_owned(&RoleEnd { role, mode, result });
                }
            }
            let _ = self.downtime.get_or_create_owned(&Mode { mode });
        }
        for (part, _) in parts(&DowntimeParts::default()) {
            let _ = self.downtime_parts.get_or_create_owned(&Part { part });
        }
        for role in [Side::Source, Side::Target].map(Side::word) {
            let _ = self.link.interruptions.get_or_create_owned(&Role { role });
        }
    }

    pub(super) fn register(&self, registry: &mut Registry) {
        self.register_ends(registry);
        self.register_content(registry);
        self.link.register(registry);
        registry.register_collector(Box::new(self.running.clone()));
    }

    fn register_ends(&self, registry: &mut Registry) {
        registry.register(
            "novacron_migrations",
            "Migrations that ended here, by end (source or target), mode and result",
            self.ended.clone(),
        );
        registry.register(
            "novacron_migration_duration_seconds",
            "Time from the order to the end of a migration, at its source",
            self.duration.clone(),
        );
        registry.register(
            "novacron_migration_downtime_seconds",
            "Time for which guests stood still that were handed over, at their source",
            self.downtime.clone(),
        );
        registry.register(
            "novacron_migration_downtime_parts_seconds",
            "Where that time went; the parts add up to the whole",
            self.downtime_parts.clone(),
        );
    }

    fn register_content(&self, registry: &mut Registry) {
        registry.register(
            "novacron_migration_guest_bytes",
            "Bytes of memory and disks as guests see them that migrations from here handled",
            self.guest_bytes.clone(),
        );
        registry.register(
            "novacron_migration_wire_bytes",
            "Bytes that migrations from here put on the wire",
            self.wire_bytes.clone(),
        );
        registry.register(
            "novacron_migration_disk_held_bytes",
            "Bytes of disks that targets had before anything was sent",
            self.disk_held_bytes.clone(),
        );
        registry.register(
            "novacron_migration_pages",
            "Pages (4096 bytes) of memory that migrations from here handled, by the form in which they went",
            self.pages.clone(),
        );
        registry.register(
            "novacron_migration_rounds",
            "Rounds over guests' memory that were begun here",
            self.rounds.clone(),
        );
    }

    pub(super) fn register_dwcp(&self, registry: &mut Registry) {
        self.dwcp.register(registry);
    }

    /// A migration from here ended.
    pub fn ended_at_source(&self, ended: &Ended) {
        let (mode, result) = (mode_word(ended.mode), ended.result);
        let role = Side::Source.word();
        self.ended.get_or_create(&RoleEnd { role, mode, result }).inc();
        self.duration.get_or_create(&End { mode, result }).observe(ended.duration_seconds);
        if let Some(downtime) = &ended.downtime {
            self.downtime.get_or_create(&Mode { mode }).observe(seconds(downtime.total_us()));
            for (part, microseconds) in parts(downtime) {
                self.downtime_parts.get_or_create(&Part { part }).inc_by(seconds(microseconds));
            }
        }
        self.dwcp.ended(mode, ended);
    }

    /// A migration to here ended: `completed` or `failed`.
    pub fn ended_at_target(&self, mode: MigrationMode, result: &'static str) {
        let (role, mode) = (Side::Target.word(), mode_word(mode));
        self.ended.get_or_create(&RoleEnd { role, mode, result }).inc();
    }

    /// The link to the other end was lost.
    pub fn link_interrupted(&self, side: Side) {
        self.link.interruptions.get_or_create(&Role { role: side.word() }).inc();
    }
}

fn seconds(microseconds: u64) -> f64 {
    microseconds as f64 / 1e6
}

#[cfg(test)]
mod tests {
    use super::*;
    use novacron_metrics::lint::problems;
    use novacron_metrics::pages::text;

    #[test]
    fn a_migration_is_in_every_number_and_the_rules_are_kept() {
        let metrics = MigrationMetrics::default();
        let downtime =
            DowntimeParts { memory_drain_us: 9000, resume_us: 3000, ..DowntimeParts::default() };
        metrics.ended_at_source(&Ended {
            mode: MigrationMode::Live,
            result: "completed",
            duration_seconds: 3.5,
            downtime: Some(downtime),
        });
        metrics.ended_at_target(MigrationMode::Cold, "failed");
        metrics.link_interrupted(Side::Source);
        let (mut registry, mut dwcp) = (Registry::default(), Registry::default());
        metrics.register(&mut registry);
        metrics.register_dwcp(&mut dwcp);
        let (said, dwcp) = (text(&registry).unwrap(), text(&dwcp).unwrap());
        for line in [
            "novacron_migrations_total{role=\"source\",mode=\"live\",result=\"completed\"} 1",
            "novacron_migrations_total{role=\"target\",mode=\"live\",result=\"failed\"} 0",
            "novacron_migrations_total{role=\"target\",mode=\"cold\",result=\"failed\"} 1",
            "novacron_migration_duration_seconds_bucket{mode=\"live\",result=\"completed\",le=\"5\"} 1",
            "novacron_migration_downtime_seconds_bucket{mode=\"live\",le=\"0.01\"} 0",
            "novacron_migration_downtime_seconds_bucket{mode=\"live\",le=\"0.015\"} 1",
            "novacron_migration_downtime_parts_seconds_total{part=\"resume\"} 0.003",
            "novacron_migration_link_interruptions_total{role=\"source\"} 1",
        ] {
            assert!(said.lines().any(|found| found == line), "{line}\nnot in\n{said}");
        }
        assert_eq!(problems(&said), Vec::<String>::new());
        for line in [
            "dwcp_migration_total{mode=\"live\",result=\"completed\"} 1",
            "dwcp_migration_downtime_milliseconds_sum{mode=\"live\",result=\"completed\"} 12.0",
        ] {
            assert!(dwcp.lines().any(|found| found == line), "{line}\nnot in\n{dwcp}");
        }
    }
}
