//! What coordinators and agents say to each other.
//!
//! An *effect* is a row of the replicated outbox: something that an agent shall do. It may arrive twice and
//! late; the agent keeps what it did with each (see [`EffectOutcome`]) and acts only if the effect's
//! generation is the one that it holds. A *report* is what an agent has to say; it counts once the
//! coordinator has committed it.

mod link;
mod report;

pub use link::{AgentMessage, CoordinatorMessage, Hello, StreamRequest, StreamResponse};
pub use report::{
    EffectOutcome, Handover, MachineReport, MigrationEnd, ObservedState, Report, SourceResult,
};

use serde::{Deserialize, Serialize};

use crate::ids::{EffectId, Generation, MigrationId, NodeName, RequestId, SnapshotId, VmId};
use crate::migration::{MigrationMode, MigrationOptions};
use crate::time::Timestamp;
use crate::vm::VmSpec;

/// Something that an agent shall do.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Effect {
    /// The row of the outbox.
    pub id: EffectId,
    /// The machine.
    pub vm: VmId,
    /// The generation for which this was decided.
    pub generation: Generation,
    /// After this moment the effect counts as failed if it was not begun.
    pub deadline: Timestamp,
    /// The client request that caused it; a field of every log line about it.
    pub request: RequestId,
    /// What to do.
    pub action: Action,
}

/// What an agent can be asked to do. Each is safe to do twice.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum Action {
    /// Make the machine's disks and take it into the agent's care, stopped.
    Create {
        /// What to make.
        spec: VmSpec,
    },
    /// Start it; done when the guest runs.
    Start,
    /// Stop it; done when the process is gone.
    Stop {
        /// At once, rather than by asking the guest.
        force: bool,
    },
    /// Remove it and everything that belongs to it; done when nothing is left.
    Destroy,
    /// At the target: make room and wait for the source. `Effect::generation` is the generation that the
    /// target will hold. Done when the source may come.
    ExpectMigration {
        /// The migration.
        migration: MigrationId,
        /// The machine as it will be.
        spec: VmSpec,
        /// The only node that may send it.
        source: NodeName,
        /// How it moves.
        mode: MigrationMode,
    },
    /// At the source: move the machine. Done when the migration ended one way or the other.
    SendMigration {
        /// The migration.
        migration: MigrationId,
        /// The node that it goes to.
        target: NodeName,
        /// Address of the target's agent.
        target_address: String,
        /// How it moves.
        mode: MigrationMode,
        /// The generation that the target will hold.
        target_generation: Generation,
        /// What the client asked for beyond that.
        options: MigrationOptions,
    },
    /// At the source: give up the migration if it has not handed over.
    CancelMigration {
        /// The migration.
        migration: MigrationId,
    },
    /// At the target: whatever the source says, the migration is over if it was not accepted.
    AbandonMigration {
        /// The migration.
        migration: MigrationId,
    },
    /// Keep how all disks are at one moment; done when that is durable.
    TakeSnapshot {
        /// The snapshot.
        snapshot: SnapshotId,
    },
    /// Make all disks what they were; the machine is stopped.
    RestoreSnapshot {
        /// The snapshot.
        snapshot: SnapshotId,
    },
    /// Forget a snapshot; done when nothing of it is left.
    DeleteSnapshot {
        /// The snapshot.
        snapshot: SnapshotId,
    },
}
