//! The coordinator cluster itself.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::ids::{ClusterId, MemberId, Revision};

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
}
