//! The words that labels can have. All are this program's own, so there are few, and none tells a secret.

use novacron_protocol::effect::ObservedState;
use novacron_protocol::migration::{DowntimeParts, MigrationMode, MigrationPhase};
use novacron_protocol::session::source::SourceOutcome;
use prometheus_client::encoding::EncodeLabelSet;

/// Which end of a migration.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Side {
    /// It gives the machine away.
    Source,
    /// It gets it.
    Target,
}

impl Side {
    pub(crate) fn word(self) -> &'static str {
        match self {
            Self::Source => "source",
            Self::Target => "target",
        }
    }
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
pub(super) struct Role {
    pub(super) role: &'static str,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
pub(super) struct RoleEnd {
    pub(super) role: &'static str,
    pub(super) mode: &'static str,
    pub(super) result: &'static str,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
pub(super) struct End {
    pub(super) mode: &'static str,
    pub(super) result: &'static str,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
pub(super) struct Mode {
    pub(super) mode: &'static str,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
pub(super) struct Content {
    pub(super) content: &'static str,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
pub(super) struct Form {
    pub(super) form: &'static str,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
pub(super) struct Part {
    pub(super) part: &'static str,
}

/// All modes.
pub(super) const MODES: [MigrationMode; 3] =
    [MigrationMode::Live, MigrationMode::Warm, MigrationMode::Cold];

pub(super) fn mode_word(mode: MigrationMode) -> &'static str {
    match mode {
        MigrationMode::Live => "live",
        MigrationMode::Warm => "warm",
        MigrationMode::Cold => "cold",
    }
}

/// All phases.
pub(super) const PHASES: [MigrationPhase; 7] = [
    MigrationPhase::Validate,
    MigrationPhase::Prepare,
    MigrationPhase::DiskSync,
    MigrationPhase::DataSync,
    MigrationPhase::Switchover,
    MigrationPhase::Verify,
    MigrationPhase::Cleanup,
];

pub(super) fn phase_word(phase: MigrationPhase) -> &'static str {
    match phase {
        MigrationPhase::Validate => "validate",
        MigrationPhase::Prepare => "prepare",
        MigrationPhase::DiskSync => "disk_sync",
        MigrationPhase::DataSync => "data_sync",
        MigrationPhase::Switchover => "switchover",
        MigrationPhase::Verify => "verify",
        MigrationPhase::Cleanup => "cleanup",
    }
}

/// All results.
pub(super) const RESULTS: [&str; 3] = ["completed", "failed", "cancelled"];

pub(crate) fn result_word(outcome: &SourceOutcome) -> &'static str {
    match outcome {
        SourceOutcome::Completed => "completed",
        SourceOutcome::Failed { .. } => "failed",
        SourceOutcome::Cancelled => "cancelled",
    }
}

/// States of machines.
pub(super) const STATES: [(ObservedState, &str); 4] = [
    (ObservedState::Stopped, "stopped"),
    (ObservedState::Running, "running"),
    (ObservedState::Paused, "paused"),
    (ObservedState::Failed, "failed"),
];

/// The parts of a downtime, in microseconds.
pub(super) fn parts(downtime: &DowntimeParts) -> [(&'static str, u64); 6] {
    [
        ("disk_drain", downtime.disk_drain_us),
        ("memory_drain", downtime.memory_drain_us),
        ("target_load", downtime.target_load_us),
        ("verify", downtime.verify_us),
        ("release", downtime.release_us),
        ("resume", downtime.resume_us),
    ]
}
