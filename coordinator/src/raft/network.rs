//! Raft's calls over the links between members. A member to whom there is no connection is `Unreachable`, which
//! makes openraft wait a moment; a call that is only slow is dropped by openraft at its deadline and tried again
//! at once.

use std::time::Duration;

use novacron_protocol::ids::MemberId;
use openraft::error::{InstallSnapshotError, RPCError, RaftError, RemoteError, Unreachable};
use openraft::network::{Backoff, RPCOption, RaftNetwork, RaftNetworkFactory};
use openraft::raft::{
    AppendEntriesRequest, AppendEntriesResponse, InstallSnapshotRequest, InstallSnapshotResponse,
    VoteRequest, VoteResponse,
};

use tokio::time::timeout;

use super::announce::{Announcements, Haste};
use super::heard::Heard;
use super::types::{MemberNode, TypeConfig};
use crate::peers::{Answer, Call, Declined, PeerError, PeerLinks};

/// How long to leave a member alone that cannot be reached: short, because a restarted member should be found
/// within an election.
const BACKOFF: Duration = Duration::from_millis(200);

/// Makes the ways to members.
#[derive(Debug, Clone)]
pub struct Network {
    links: PeerLinks,
    haste: Haste,
    heard: Heard,
}

impl Network {
    /// Over these links; `haste` says to whom commits are told at once, `heard` is told what is said of votes.
    pub fn new(links: PeerLinks, haste: Haste, heard: Heard) -> Self {
        Self { links, haste, heard }
    }
}

impl RaftNetworkFactory<TypeConfig> for Network {
    type Network = MemberNetwork;

    async fn new_client(&mut self, target: u64, node: &MemberNode) -> MemberNetwork {
        let (links, node) = (self.links.clone(), node.clone());
        let (haste, heard) = (self.haste.clone(), self.heard.clone());
        let announcements =
            Announcements::new(links.clone(), MemberId(target), node.clone(), haste);
        MemberNetwork { links, target, node, announcements, heard }
    }
}

/// The way to one member.
#[derive(Debug)]
pub struct MemberNetwork {
    links: PeerLinks,
    target: u64,
    node: MemberNode,
    announcements: Announcements,
    heard: Heard,
}

type RpcError<E> = RPCError<u64, MemberNode, E>;

impl MemberNetwork {
    async fn call<E: std::error::Error>(
        &self,
        call: Call,
        option: &RPCOption,
    ) -> Result<Answer, RpcError<E>> {
        let unreachable = |error: PeerError| RPCError::Unreachable(Unreachable::new(&error));
        match timeout(option.soft_ttl(), self.links.connect(&self.node)).await {
            Ok(connected) => connected.map_err(unreachable)?,
            Err(elapsed) => return Err(RPCError::Unreachable(Unreachable::new(&elapsed))),
        }
        self.links.call(MemberId(self.target), &self.node, call).await.map_err(unreachable)
    }

    fn remote<T, E: std::error::Error>(&self, result: Result<T, E>) -> Result<T, RpcError<E>> {
        result.map_err(|error| RPCError::RemoteError(RemoteError::new(self.target, error)))
    }
}

/// The member answered something else: as good as no answer.
fn confused<E: std::error::Error>() -> RpcError<E> {
    let error = PeerError::Declined(Declined::NotPossible("the answer is to another call".into()));
    RPCError::Unreachable(Unreachable::new(&error))
}

impl RaftNetwork<TypeConfig> for MemberNetwork {
    async fn append_entries(
        &mut self,
        rpc: AppendEntriesRequest<TypeConfig>,
        option: RPCOption,
    ) -> Result<AppendEntriesResponse<u64>, RpcError<RaftError<u64>>> {
        if self.announcements.may_wait(&rpc) {
            return Ok(AppendEntriesResponse::Success);
        }
        let asked = self.announcements.asking(&rpc);
        let answer = match self.call(Call::Append(rpc), &option).await? {
            Answer::Append(result) => self.remote(result),
            _ => Err(confused()),
        };
        if matches!(answer, Ok(AppendEntriesResponse::Success)) {
            self.announcements.succeeded(asked);
        }
        answer
    }

    async fn install_snapshot(
        &mut self,
        rpc: InstallSnapshotRequest<TypeConfig>,
        option: RPCOption,
    ) -> Result<InstallSnapshotResponse<u64>, RpcError<RaftError<u64, InstallSnapshotError>>> {
        match self.call(Call::InstallSnapshot(rpc), &option).await? {
            Answer::InstallSnapshot(result) => self.remote(result),
            _ => Err(confused()),
        }
    }

    async fn vote(
        &mut self,
        rpc: VoteRequest<u64>,
        option: RPCOption,
    ) -> Result<VoteResponse<u64>, RpcError<RaftError<u64>>> {
        self.heard.asks(&rpc);
        let answer = match self.call(Call::Vote(rpc.clone()), &option).await? {
            Answer::Vote(result) => self.remote(result)?,
            _ => return Err(confused()),
        };
        self.heard.answered(&rpc, &answer);
        Ok(answer)
    }

    fn backoff(&self) -> Backoff {
        Backoff::new(std::iter::repeat(BACKOFF))
    }
}
