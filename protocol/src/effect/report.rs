//! What agents report.

use serde::{Deserialize, Serialize};

use crate::ids::{EffectId, Generation, MigrationId, NodeName, VmId};
use crate::migration::{MigrationAccount, MigrationPhase, MigrationProgress};

/// One thing that an agent has to say.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum Report {
    /// What became of an effect.
    EffectDone {
        /// The effect.
        effect: EffectId,
        /// What became of it.
        outcome: EffectOutcome,
    },
    /// How a machine stands, whenever it changed.
    Machine(MachineReport),
    /// How far a migration is; sent at least once a second by the source.
    Progress {
        /// The migration.
        migration: MigrationId,
        /// How far.
        progress: MigrationProgress,
    },
    /// A migration ended, as its source knows; durable at the source until committed.
    MigrationEnded {
        /// The migration.
        migration: MigrationId,
        /// How.
        end: MigrationEnd,
    },
    /// The target holds the machine now; durable at the target until committed.
    HandedOver(Handover),
}

/// What became of an effect. Kept durably by the agent, so that the same effect gets the same answer.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum EffectOutcome {
    /// Done (or had been done before).
    Done,
    /// Not possible; the text is for a person and says what would be right.
    Failed {
        /// The reason.
        reason: String,
    },
    /// Not done because the agent holds another generation of the machine, or none.
    Stale {
        /// The generation that the agent holds.
        held: Option<Generation>,
    },
}

/// How a machine stands at the agent that has it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct MachineReport {
    /// The machine.
    pub vm: VmId,
    /// The generation that the agent holds.
    pub generation: Generation,
    /// How it stands.
    pub state: ObservedState,
    /// Why, where that is not obvious.
    pub reason: String,
}

/// How a machine's process stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub enum ObservedState {
    /// No process.
    Stopped,
    /// The guest runs.
    Running,
    /// The guest's processors stand still.
    Paused,
    /// The process ended without being asked.
    Failed,
}

/// The target durably accepted the machine.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Handover {
    /// The migration.
    pub migration: MigrationId,
    /// The machine.
    pub vm: VmId,
    /// The generation that the target holds now.
    pub generation: Generation,
}

/// How a migration ended for its source.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct MigrationEnd {
    /// The target.
    pub target: NodeName,
    /// The phase that it had reached.
    pub phase: MigrationPhase,
    /// How it ended.
    pub result: SourceResult,
}

/// What the source knows of the end.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum SourceResult {
    /// The machine is at the target, and nothing of it here.
    Completed(MigrationAccount),
    /// The machine never left.
    Failed {
        /// Why, for a person.
        reason: String,
    },
    /// The machine never left because somebody asked.
    Cancelled,
}
