//! What happened, in order.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use super::AuditObject;
use crate::access::Permission;
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
    /// Who caused it.
    pub actor: EventActor,
    /// What changed, in the words of the audit log.
    pub object: AuditObject,
    /// What was there before of what differs; absent if there was nothing. Values that would make `before` and `after`
    /// longer than 512 bytes together are left out whole: the record of the audit log has them.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub before: Option<Map<String, Value>>,
    /// What is there instead; absent if nothing is.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub after: Option<Map<String, Value>>,
    /// Number of the record of the audit log that has the whole; absent if the command has none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub audit: Option<u64>,
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

/// Who caused an event. The audit log says more of them: from where, and with which key.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(tag = "kind", rename_all = "kebab-case")]
pub enum EventActor {
    /// The cluster itself.
    Cluster,
    /// An agent, by what it reported.
    Agent {
        /// Its node.
        node: NodeName,
    },
    /// Whoever showed a certificate.
    Certificate {
        /// The name in it.
        name: String,
    },
    /// Whoever showed an API key.
    ApiKey {
        /// Whose key it is.
        name: String,
    },
}

impl std::fmt::Display for EventActor {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Cluster => formatter.write_str("cluster"),
            Self::Agent { node } => write!(formatter, "agent {node}"),
            Self::Certificate { name } | Self::ApiKey { name } => formatter.write_str(name),
        }
    }
}

/// Kinds of events. Those of secrets, prices, plans, corrections, keys, access and tokens are shown only to those who may
/// read these, too.
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
    /// A value of a secret was written.
    #[serde(rename = "secret.set")]
    SecretSet,
    /// A secret is gone.
    #[serde(rename = "secret.deleted")]
    SecretDeleted,
    /// The key that encrypts secrets is to turn, is another one, or the one before is forgotten.
    #[serde(rename = "secret-key.changed")]
    SecretKeyChanged,
    /// What a plan costs from some hour on was set.
    #[serde(rename = "rate.set")]
    RateSet,
    /// Which plan a project has from some hour on was set.
    #[serde(rename = "plan.set")]
    PlanSet,
    /// An entry of the ledger was corrected.
    #[serde(rename = "ledger.corrected")]
    LedgerCorrected,
    /// Somebody may join with a new token.
    #[serde(rename = "token.created")]
    TokenCreated,
    /// A join token was used up.
    #[serde(rename = "token.used")]
    TokenUsed,
    /// The source of a migration was asked to give it up; how it ends is another event.
    #[serde(rename = "migration.cancelling")]
    MigrationCancelling,
    /// What of a batch has not moved is given up.
    #[serde(rename = "batch.stopped")]
    BatchStopped,
    /// A node's agent says something else of its host than before.
    #[serde(rename = "node.changed")]
    NodeChanged,
}

impl EventKind {
    /// All of them.
    pub const ALL: [Self; 35] = [
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
        Self::SecretSet,
        Self::SecretDeleted,
        Self::SecretKeyChanged,
        Self::RateSet,
        Self::PlanSet,
        Self::LedgerCorrected,
        Self::TokenCreated,
        Self::TokenUsed,
        Self::MigrationCancelling,
        Self::BatchStopped,
        Self::NodeChanged,
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
            Self::SecretSet => "secret.set",
            Self::SecretDeleted => "secret.deleted",
            Self::SecretKeyChanged => "secret-key.changed",
            Self::RateSet => "rate.set",
            Self::PlanSet => "plan.set",
            Self::LedgerCorrected => "ledger.corrected",
            Self::TokenCreated => "token.created",
            Self::TokenUsed => "token.used",
            Self::MigrationCancelling => "migration.cancelling",
            Self::BatchStopped => "batch.stopped",
            Self::NodeChanged => "node.changed",
        }
    }

    /// What somebody needs beside `event.read` to see events of this kind: what it takes to read what they are about.
    pub fn needs(self) -> Option<Permission> {
        match self {
            Self::SecretSet | Self::SecretDeleted => Some(Permission::SecretRead),
            Self::SecretKeyChanged => Some(Permission::ClusterRead),
            Self::AccessChanged => Some(Permission::PrincipalRead),
            Self::TokenCreated | Self::TokenUsed => Some(Permission::ClusterRead),
            Self::RateSet | Self::PlanSet | Self::LedgerCorrected => Some(Permission::LedgerRead),
            Self::VmCreated
            | Self::VmState
            | Self::VmDeleted
            | Self::NodeJoined
            | Self::NodeState
            | Self::NodeChanged
            | Self::NodeScheduling
            | Self::MigrationCreated
            | Self::MigrationPhase
            | Self::MigrationCompleted
            | Self::MigrationFailed
            | Self::MigrationCancelled
            | Self::MigrationCancelling
            | Self::BatchCreated
            | Self::BatchStopped
            | Self::BatchEnded
            | Self::MemberChanged
            | Self::SettingsChanged
            | Self::ProjectChanged
            | Self::RegionChanged
            | Self::ResidencyViolation
            | Self::SnapshotChanged
            | Self::AlertRaised
            | Self::AlertAcknowledged
            | Self::AlertResolved
            | Self::NetworkChanged => None,
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
            [EventKind::BatchCreated, EventKind::BatchEnded, EventKind::BatchStopped]
        );
        for none in ["", "*", "vm", "vm*", "vm.", "vm.sta*", "*.*", "none.*"] {
            assert_eq!(EventKind::matching(none), [], "{none}");
        }
    }
}
