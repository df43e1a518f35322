//! What openraft is told about our types.

use std::fmt;
use std::io::Cursor;

use serde::{Deserialize, Serialize};

use super::proposal::Proposal;
use crate::state::Reply;
use crate::state::member::MemberFacts;

openraft::declare_raft_types!(
    /// Our commands, replies and members.
    pub TypeConfig:
        D = Proposal,
        R = Vec<Reply>,
        NodeId = u64,
        Node = MemberNode,
        Entry = openraft::Entry<TypeConfig>,
        SnapshotData = Cursor<Vec<u8>>,
        AsyncRuntime = openraft::TokioRuntime,
);

/// The consensus of this process.
pub type Raft = openraft::Raft<TypeConfig>;

/// A member as Raft's own membership keeps it: enough to reach it, whatever the state machine knows.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct MemberNode {
    /// Name, as in its certificate.
    pub name: String,
    /// Address for members and agents.
    pub peer_address: String,
    /// Address of its API.
    pub api_address: String,
}

impl MemberNode {
    /// Any coordinator at an address.
    pub fn at(peer_address: String) -> Self {
        Self { peer_address, ..Self::default() }
    }
}

impl fmt::Display for MemberNode {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{} at {}", self.name, self.peer_address)
    }
}

impl From<MemberFacts> for MemberNode {
    fn from(facts: MemberFacts) -> Self {
        Self { name: facts.name, peer_address: facts.peer_address, api_address: facts.api_address }
    }
}
