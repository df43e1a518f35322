//! How the migrations under way from here stand, all together: there are a few at a time, and each has its own account
//! at the end.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use novacron_metrics::moment::{Moment, whole};
use novacron_protocol::ids::MigrationId;
use novacron_protocol::migration::MigrationPhase;
use prometheus_client::collector::Collector;
use prometheus_client::encoding::DescriptorEncoder;

use super::labels::{PHASES, phase_word};

/// How one migration stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Standing {
    /// Its phase.
    pub phase: MigrationPhase,
    /// Bytes of memory and disks that are still to be sent.
    pub remaining_bytes: u64,
    /// Bytes of memory that the guest writes per second, page by page; 0 before it was measured.
    pub dirty_bytes_per_second: u64,
    /// Bytes that may be under way on its link; 0 while there is none.
    pub congestion_window_bytes: u64,
}

/// The migrations that run. As many as the agent runs at once; each leaves when its task ends. Clones share them.
#[derive(Debug, Clone, Default)]
pub(super) struct Running {
    standings: Arc<Mutex<BTreeMap<MigrationId, Standing>>>,
}

impl Running {
    fn lock(&self) -> MutexGuard<'_, BTreeMap<MigrationId, Standing>> {
        self.standings.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn stands(&self, migration: MigrationId, standing: Standing) {
        self.lock().insert(migration, standing);
    }

    pub(super) fn gone(&self, migration: MigrationId) {
        self.lock().remove(&migration);
    }
}

impl Collector for Running {
    fn encode(&self, encoder: DescriptorEncoder<'_>) -> fmt::Result {
        let standings: Vec<Standing> = self.lock().values().copied().collect();
        let sum =
            |of: fn(&Standing) -> u64| whole(standings.iter().map(of).fold(0, u64::saturating_add));
        let mut moment = Moment::new(encoder);
        let in_phase = PHASES.map(|phase| {
            let count = standings.iter().filter(|standing| standing.phase == phase).count();
            (phase_word(phase), whole(count))
        });
        moment.gauges(
            "novacron_migration_sources",
            "Migrations from here that are under way, by phase",
            "phase",
            in_phase,
        )?;
        moment.gauge(
            "novacron_migration_remaining_bytes",
            "Bytes that migrations from here have still to send, by the newest estimate",
            sum(|standing| standing.remaining_bytes),
        )?;
        moment.gauge(
            "novacron_migration_dirty_bytes_per_second",
            "Bytes of memory that the guests of migrations from here write per second, page by page",
            sum(|standing| standing.dirty_bytes_per_second),
        )?;
        moment.gauge(
            "novacron_migration_link_congestion_window_bytes",
            "Bytes that may be under way on the links of migrations from here",
            sum(|standing| standing.congestion_window_bytes),
        )
    }
}
