//! What happened, in order.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::ids::{MigrationId, NodeName, ProjectName, RequestId, Revision, VmId};
use crate::time::Timestamp;

/// One thing that happened. `revision` and `sequence` order all events; a stream that is resumed from a
/// revision repeats nothing and leaves nothing out.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Event {
    /// The revision of the fleet that made it.
    pub revision: Revision,
    /// Its number among the events of that revision, from 0.
    pub sequence: u32,
    /// When it was proposed.
    pub at: Timestamp,
    /// What kind it is.
    pub kind: EventKind,
    /// The machine that it is about.
    pub vm: Option<VmId>,
    /// The node that it is about.
    pub node: Option<NodeName>,
    /// The migration that it is about.
    pub migration: Option<MigrationId>,
    /// The project that it is about, or whose the machine is.
    #[serde(default)]
    pub project: Option<ProjectName>,
    /// The client request that caused it.
    pub request: Option<RequestId>,
    /// In one line, for a person.
    pub message: String,
}

/// Kinds of events.
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, JsonSchema,
)]
pub enum EventKind {
    /// A machine was accepted.
    #[serde(rename = "vm.created")]
    VmCreated,
    /// A machine's state changed.
    #[serde(rename = "vm.state")]
    VmState,
    /// A machine is gone.
    #[serde(rename = "vm.deleted")]
    VmDeleted,
    /// A node came.
    #[serde(rename = "node.joined")]
    NodeJoined,
    /// A node's state changed.
    #[serde(rename = "node.state")]
    NodeState,
    /// A node is to be drained, is drained, or takes machines again.
    #[serde(rename = "node.scheduling")]
    NodeScheduling,
    /// A migration was accepted.
    #[serde(rename = "migration.created")]
    MigrationCreated,
    /// A migration reached another phase.
    #[serde(rename = "migration.phase")]
    MigrationPhase,
    /// A migration ended well.
    #[serde(rename = "migration.completed")]
    MigrationCompleted,
    /// A migration failed.
    #[serde(rename = "migration.failed")]
    MigrationFailed,
    /// A migration was cancelled.
    #[serde(rename = "migration.cancelled")]
    MigrationCancelled,
    /// A batch of migrations was accepted.
    #[serde(rename = "batch.created")]
    BatchCreated,
    /// The last migration of a batch ended.
    #[serde(rename = "batch.ended")]
    BatchEnded,
    /// A coordinator joined or left.
    #[serde(rename = "member.changed")]
    MemberChanged,
    /// A setting of the fleet was changed.
    #[serde(rename = "settings.changed")]
    SettingsChanged,
    /// A project was made, changed or deleted.
    #[serde(rename = "project.changed")]
    ProjectChanged,
    /// Who may do what was changed.
    #[serde(rename = "access.changed")]
    AccessChanged,
    /// A region was made, changed or deleted, or a node came into one or left it.
    #[serde(rename = "region.changed")]
    RegionChanged,
    /// A machine stands against a rule of residency since a rule was changed, or does so no more.
    #[serde(rename = "residency.violation")]
    ResidencyViolation,
}
