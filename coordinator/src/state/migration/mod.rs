//! Migrations: at most one per machine, and as many at work per node as the fleet's [`Settings`] allow.
//!
//! ```text
//!  queued ──slot free──► preparing ──target ready──► sending ──target accepted──► handed over ──source's end──► completed
//!    │                      │                           │ source's end: completed (proves that the target accepted)
//!    │ cancel               │ cancel, target failed     │ source's end: failed, cancelled
//!    ▼                      ▼                           ▼
//!  cancelled             cancelled, failed           failed, cancelled
//! ```
//!
//! Who ends a migration: before `sending` the fleet may, because the source was never told. From then on only
//! the source's own word ends it (it decides durably whether the machine left), or the target's word that it
//! has the machine. The target's word wins over any other: it is given only after the point of no return.
//!
//! [`Settings`]: super::settings::Settings

mod begin;
mod end;
mod progress;
mod slots;

pub use begin::{Asked, natural_mode};

use novacron_protocol::ids::{
    BatchId, EffectId, Generation, MigrationId, NodeName, ProjectName, RequestId, Revision, VmId,
    VmName,
};
use novacron_protocol::migration::{
    MigrationAccount, MigrationMode, MigrationOptions, MigrationPhase, MigrationProgress,
    MigrationStatus,
};
use novacron_protocol::time::Timestamp;
use novacron_protocol::wire::codec::Message;
use serde::{Deserialize, Serialize};

use super::fleet::{Applying, Fleet};
use super::table::ROW_BYTES_MAX;

/// Migrations that ended and are kept for the record.
pub const MIGRATIONS_ENDED_MAX: usize = 10_000;

/// Migrations that may be queued or under way.
pub const MIGRATIONS_OPEN_MAX: usize = 10_000;

/// A migration as the fleet keeps it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Migration {
    /// Identity.
    pub id: MigrationId,
    /// The machine.
    pub vm: VmId,
    /// Its name.
    pub vm_name: VmName,
    /// Whose it is.
    pub project: ProjectName,
    /// How it moves.
    pub mode: MigrationMode,
    /// What the client asked for beyond that.
    pub options: MigrationOptions,
    /// The node that it leaves.
    pub source: NodeName,
    /// The node that it goes to.
    pub target: NodeName,
    /// The generation that the source holds.
    pub source_generation: Generation,
    /// The generation that the target will hold; promised to nobody else, ever.
    pub target_generation: Generation,
    /// Where it stands.
    pub step: Step,
    /// The phase that it reached.
    pub phase: MigrationPhase,
    /// How far it is, as the source said last.
    pub progress: Option<MigrationProgress>,
    /// The highest percentage that was reached.
    pub(super) percentage_reached: u32,
    /// The final account, if it completed.
    pub account: Option<MigrationAccount>,
    /// Why it failed.
    pub reason: String,
    /// Who asked for it.
    pub cause: Cause,
    /// The client request that caused it.
    pub request: RequestId,
    /// The revision that accepted it: the order of the queue.
    pub accepted: Revision,
    /// When it was accepted.
    pub created_at: Timestamp,
    /// When it ended.
    pub ended_at: Option<Timestamp>,
    /// When its progress was updated last.
    pub updated_at: Timestamp,
    /// The revision of its last change.
    pub revision: Revision,
}

/// Who asked for a migration.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum Cause {
    /// A client, for this machine.
    Client,
    /// A client, for many.
    Batch(BatchId),
    /// The source is being drained.
    Drain,
}

/// Where a migration stands.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum Step {
    /// It waits for its nodes to have a free slot.
    Queued,
    /// The target makes room.
    Preparing {
        /// The effect at the target.
        expect: EffectId,
    },
    /// The source sends.
    Sending {
        /// The effect at the source.
        send: EffectId,
        /// The effect that asks the source to give up, if somebody asked.
        cancel: Option<EffectId>,
    },
    /// The target has the machine; the source clears up.
    HandedOver,
    /// Nothing more will happen.
    Ended(Ending),
}

/// How a migration ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum Ending {
    /// The machine is at the target.
    Completed,
    /// The machine is at the source.
    Failed,
    /// The machine is at the source because somebody asked.
    Cancelled,
}

impl Step {
    /// Whether nothing more will happen.
    pub fn is_ended(&self) -> bool {
        matches!(self, Self::Ended(_))
    }

    /// The status as the world sees it.
    pub fn status(&self) -> MigrationStatus {
        match self {
            Self::Queued => MigrationStatus::Queued,
            Self::Preparing { .. } | Self::Sending { .. } | Self::HandedOver => {
                MigrationStatus::InProgress
            }
            Self::Ended(Ending::Completed) => MigrationStatus::Completed,
            Self::Ended(Ending::Failed) => MigrationStatus::Failed,
            Self::Ended(Ending::Cancelled) => MigrationStatus::Cancelled,
        }
    }

    /// Whether it takes a slot of both nodes.
    pub fn is_at_work(&self) -> bool {
        matches!(self, Self::Preparing { .. } | Self::Sending { .. })
    }
}

impl Message for Migration {
    const VERSION: u16 = 6;
    const BYTES_MAX: usize = ROW_BYTES_MAX;
    const NAME: &'static str = "migration row";
}

impl Migration {
    /// The status as the world sees it.
    pub fn status(&self) -> MigrationStatus {
        self.step.status()
    }
}

impl Fleet {
    /// Migrations that have not ended, in the order in which they were accepted.
    pub fn open_migrations(&self) -> impl Iterator<Item = &Migration> {
        self.index.migrations_open.iter().filter_map(|(_, id)| self.migrations.get(id))
    }

    /// Migrations that ended and are kept, the last one first.
    pub fn ended_migrations(&self) -> impl Iterator<Item = &Migration> {
        let ended = self.index.migrations_ended.iter().rev();
        ended.filter_map(|(_, id)| self.migrations.get(id))
    }

    /// Whether a machine is leaving a node: the node's own clearing up must not be disturbed.
    pub(super) fn is_leaving(&self, vm: VmId, node: &NodeName) -> bool {
        self.index.is_leaving(vm, node)
    }

    /// Changes a migration and keeps the indexes.
    fn change_migration(
        &mut self,
        now: &Applying,
        id: MigrationId,
        change: impl FnOnce(&mut Migration),
    ) {
        let Some(before) = self.migrations.get(&id) else { return };
        let mut after = before.clone();
        change(&mut after);
        if after == *before {
            return;
        }
        after.revision = now.revision;
        after.updated_at = now.at;
        self.index.remove_migration(before);
        self.index.add_migration(&after);
        self.migrations.insert(id, after);
        while self.index.migrations_ended.len() > MIGRATIONS_ENDED_MAX
            && let Some((_, oldest)) = self.index.migrations_ended.pop_first()
        {
            self.migrations.remove(&oldest);
        }
    }
}
