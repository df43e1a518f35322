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
    /// A snapshot was asked for, is ready, restored, deleted, or failed.
    #[serde(rename = "snapshot.changed")]
    SnapshotChanged,
    /// An alert fires: it is new, worse than before, or not acknowledged any more.
    #[serde(rename = "alert.raised")]
    AlertRaised,
    /// Somebody looks at what an alert says.
    #[serde(rename = "alert.acknowledged")]
    AlertAcknowledged,
    /// What an alert said is over.
    #[serde(rename = "alert.resolved")]
    AlertResolved,
    /// A network was made, changed or deleted.
    #[serde(rename = "network.changed")]
    NetworkChanged,
}

impl EventKind {
    /// All of them.
    pub const ALL: [Self; 24] = [
        Self::VmCreated,
        Self::VmState,
        Self::VmDeleted,
        Self::NodeJoined,
        Self::NodeState,
        Self::NodeScheduling,
        Self::MigrationCreated,
        Self::MigrationPhase,
        Self::MigrationCompleted,
        Self::MigrationFailed,
        Self::MigrationCancelled,
        Self::BatchCreated,
        Self::BatchEnded,
        Self::MemberChanged,
        Self::SettingsChanged,
        Self::ProjectChanged,
        Self::AccessChanged,
        Self::RegionChanged,
        Self::ResidencyViolation,
        Self::SnapshotChanged,
        Self::AlertRaised,
        Self::AlertAcknowledged,
        Self::AlertResolved,
        Self::NetworkChanged,
    ];

    /// As it is written. A kind that is added here is added to [`EventKind::ALL`], too.
    pub fn word(self) -> &'static str {
        match self {
            Self::VmCreated => "vm.created",
            Self::VmState => "vm.state",
            Self::VmDeleted => "vm.deleted",
            Self::NodeJoined => "node.joined",
            Self::NodeState => "node.state",
            Self::NodeScheduling => "node.scheduling",
            Self::MigrationCreated => "migration.created",
            Self::MigrationPhase => "migration.phase",
            Self::MigrationCompleted => "migration.completed",
            Self::MigrationFailed => "migration.failed",
            Self::MigrationCancelled => "migration.cancelled",
            Self::BatchCreated => "batch.created",
            Self::BatchEnded => "batch.ended",
            Self::MemberChanged => "member.changed",
            Self::SettingsChanged => "settings.changed",
            Self::ProjectChanged => "project.changed",
            Self::AccessChanged => "access.changed",
            Self::RegionChanged => "region.changed",
            Self::ResidencyViolation => "residency.violation",
            Self::SnapshotChanged => "snapshot.changed",
            Self::AlertRaised => "alert.raised",
            Self::AlertAcknowledged => "alert.acknowledged",
            Self::AlertResolved => "alert.resolved",
            Self::NetworkChanged => "network.changed",
        }
    }

    /// The kinds that a pattern means: one of them such as `vm.state`, or all of a family such as `vm.*`. None if it
    /// means nothing.
    pub fn matching(pattern: &str) -> Vec<Self> {
        let family = pattern.strip_suffix('*').filter(|family| family.ends_with('.'));
        let is_meant = |kind: &Self| match family {
            Some(family) => kind.word().starts_with(family),
            None => kind.word() == pattern,
        };
        Self::ALL.into_iter().filter(is_meant).collect()
    }
}

/// One page of events.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct EventPage {
    /// The events.
    pub items: Vec<Event>,
    /// Give this as `cursor` to get the next page; absent on the last one.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub next_cursor: Option<String>,
    /// The revision of the fleet at which the page was read: follow from the next one and nothing is missed.
    pub revision: Revision,
    /// The oldest revision from which a stream can go on. Events before it may be forgotten.
    pub oldest_revision: Revision,
    /// How many events are kept: the newest.
    pub events_max: u64,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn kinds_are_written_as_their_words() {
        for kind in EventKind::ALL {
            assert_eq!(serde_json::to_value(kind).unwrap(), kind.word());
        }
    }

    #[test]
    fn a_pattern_is_a_kind_or_a_family() {
        assert_eq!(EventKind::matching("vm.state"), [EventKind::VmState]);
        assert_eq!(
            EventKind::matching("batch.*"),
            [EventKind::BatchCreated, EventKind::BatchEnded]
        );
        for none in ["", "*", "vm", "vm*", "vm.", "vm.sta*", "*.*", "none.*"] {
            assert_eq!(EventKind::matching(none), [], "{none}");
        }
    }
}
