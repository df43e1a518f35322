//! The coordinator cluster itself.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::ids::{ClusterId, Incarnation, MemberId, Revision};
use crate::limits::MIGRATIONS_PER_NODE_DEFAULT;

/// The cluster as the answering member sees it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct ClusterView {
    /// The cluster.
    pub cluster: ClusterId,
    /// The member that leads, if any.
    pub leader: Option<MemberId>,
    /// The last revision that the answering member applied.
    pub revision: Revision,
    /// The members.
    pub members: Vec<MemberView>,
    /// What operators have set for the whole fleet.
    #[serde(default)]
    pub settings: ClusterSettings,
}

/// What operators have set for the whole fleet.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct ClusterSettings {
    /// Migrations that a node takes part in at once, as source or target.
    pub migrations_per_node: u32,
}

impl Default for ClusterSettings {
    fn default() -> Self {
        Self { migrations_per_node: MIGRATIONS_PER_NODE_DEFAULT }
    }
}

/// Settings to change; what is absent stays as it is.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct SettingsChange {
    /// Migrations that a node may take part in at once, 1 to 64. Those that are under way go on.
    // Part of a command, whose encoding knows no fields that are left out.
    #[serde(default)]
    pub migrations_per_node: Option<u32>,
}

/// A coordinator.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct MemberView {
    /// Identity; never used again after the member left.
    pub id: MemberId,
    /// Name, as in its certificate.
    pub name: String,
    /// Address for members and agents.
    pub peer_address: String,
    /// Address of its API.
    pub api_address: String,
    /// Its part.
    pub role: MemberRole,
}

/// How the coordinators are.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct ClusterStatus {
    /// The cluster.
    pub cluster: ClusterId,
    /// Which life of it: 1 since it was founded, or the time of its last restore in milliseconds since 1970.
    pub incarnation: Incarnation,
    /// Version of formats that it works with: the newest that all members understand, since all of them did.
    #[serde(default)]
    pub formats: u16,
    /// The member that leads.
    pub leader: Option<MemberId>,
    /// Whether one more member may be lost and the cluster goes on.
    pub tolerates_a_loss: bool,
    /// The members.
    pub members: Vec<MemberStatus>,
}

/// How a coordinator is.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct MemberStatus {
    /// Who it is.
    #[serde(flatten)]
    pub member: MemberView,
    /// Whether it answered the coordinator that was asked.
    pub reachable: bool,
    /// Why not.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub problem: Option<String>,
    /// Entries of the log that it has not applied.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub lag_entries: Option<u64>,
    /// What it said of itself.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub report: Option<MemberReport>,
}

/// What a coordinator says of itself.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct MemberReport {
    /// Version of its program.
    pub version: String,
    /// Oldest version of formats that it understands.
    #[serde(default)]
    pub formats_oldest: u16,
    /// Newest version of formats that it understands.
    #[serde(default)]
    pub formats_newest: u16,
    /// The term of its last vote.
    pub term: u64,
    /// The last entry of its log.
    pub log_last: u64,
    /// The last entry that it applied.
    pub applied: u64,
    /// The last entry in its newest snapshot.
    pub snapshot: u64,
    /// Files of the archive that the cluster has and this coordinator has not.
    pub archive_missing: u64,
    /// How many of these another coordinator may have; the others were asked for the rest in vain.
    #[serde(default)]
    pub archive_wanted: Option<u64>,
    /// Files of the archive that it has.
    #[serde(default)]
    pub archive_files: Option<u64>,
    /// Bytes that its disk has, where it knows.
    pub disk_bytes: Option<u64>,
    /// Bytes that are free there.
    pub disk_free_bytes: Option<u64>,
    /// What somebody has to look at, for a person; nothing if all is well.
    #[serde(default)]
    pub alerts: Vec<String>,
}

/// What a member is to the cluster.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum MemberRole {
    /// Leads.
    Leader,
    /// Votes.
    Voter,
    /// Follows without a vote while it catches up.
    Learner,
    /// Has an id and no part in consensus: it has not started yet, or is being removed.
    Outside,
}

impl MemberRole {
    /// Whether it counts for a majority.
    pub fn votes(self) -> bool {
        matches!(self, Self::Leader | Self::Voter)
    }
}
