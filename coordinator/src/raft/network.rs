//! Raft's calls over the links between members. A member to whom there is no connection is `Unreachable`, which
//! makes openraft wait a moment; a call that is only slow is dropped by openraft at its deadline and tried again
//! at once. One that carries much goes on all the same (`lengthy`).

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
use super::lengthy::{Lengthy, Stretch};
use super::types::{MemberNode, TypeConfig};
use crate::peers::{Answer, Call, PeerError, PeerLinks};

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
        let way = Way { links: self.links.clone(), target: MemberId(target), node: node.clone() };
        let announcements = Announcements::new(way.clone(), self.haste.clone());
        MemberNetwork { way, announcements, tried: None, lengthy: None, heard: self.heard.clone() }
    }
}

/// The way to one member. Cheap to clone.
#[derive(Debug, Clone)]
pub(super) struct Way {
    links: PeerLinks,
    target: MemberId,
    node: MemberNode,
}

impl Way {
    /// Whom it leads to.
    pub(super) fn target(&self) -> MemberId {
        self.target
    }

    /// Asks.
    ///
    /// # Errors
    /// [`PeerError`].
    pub(super) async fn call(&self, call: Call) -> Result<Answer, PeerError> {
        self.links.call(self.target, &self.node, call).await
    }
}

/// Raft's calls to one member.
#[derive(Debug)]
pub struct MemberNetwork {
    way: Way,
    announcements: Announcements,
    /// The entries that are being brought, or that openraft has given up bringing.
    tried: Option<Stretch>,
    /// The call for them, if it goes on then.
    lengthy: Option<Lengthy>,
    heard: Heard,
}

type Append = AppendEntriesRequest<TypeConfig>;
type RpcError<E> = RPCError<u64, MemberNode, E>;

impl MemberNetwork {
    async fn call<E: std::error::Error>(
        &self,
        call: Call,
        option: &RPCOption,
    ) -> Result<Answer, RpcError<E>> {
        self.connect(option).await?;
        self.way.call(call).await.map_err(unreachable)
    }

    async fn connect<E: std::error::Error>(&self, option: &RPCOption) -> Result<(), RpcError<E>> {
        let connecting = self.way.links.connect(&self.way.node);
        match timeout(option.soft_ttl(), connecting).await {
            Ok(connected) => connected.map_err(unreachable),
            Err(elapsed) => Err(RPCError::Unreachable(Unreachable::new(&elapsed))),
        }
    }

    /// Brings entries. If openraft gives that up and tries again, the call goes on.
    async fn append(
        &mut self,
        request: Append,
        option: &RPCOption,
    ) -> Result<Answer, RpcError<RaftError<u64>>> {
        let stretch = Stretch::of(&request);
        let is_further = self.tried.replace(stretch) == Some(stretch);
        if !is_further {
            self.lengthy = None;
        }
        let answer = if let Some(call) = &mut self.lengthy {
            call.answer_to(request).await
        } else {
            self.connect(option).await?;
            // What was given up once is not in time the second time either.
            match is_further || Lengthy::is(&request) {
                true => {
                    let call = Lengthy::begin(self.way.clone(), request);
                    self.lengthy.insert(call).answer().await
                }
                false => self.way.call(Call::Append(request)).await,
            }
        };
        (self.lengthy, self.tried) = (None, None);
        answer.map_err(unreachable)
    }

    fn remote<T, E: std::error::Error>(&self, result: Result<T, E>) -> Result<T, RpcError<E>> {
        result.map_err(|error| RPCError::RemoteError(RemoteError::new(self.way.target.0, error)))
    }
}

fn unreachable<E: std::error::Error>(error: PeerError) -> RpcError<E> {
    RPCError::Unreachable(Unreachable::new(&error))
}

/// The member answered something else: as good as no answer.
fn confused<E: std::error::Error>() -> RpcError<E> {
    unreachable(PeerError::OtherAnswer)
}

impl RaftNetwork<TypeConfig> for MemberNetwork {
    async fn append_entries(
        &mut self,
        rpc: Append,
        option: RPCOption,
    ) -> Result<AppendEntriesResponse<u64>, RpcError<RaftError<u64>>> {
        if self.announcements.may_wait(&rpc) {
            return Ok(AppendEntriesResponse::Success);
        }
        let asked = self.announcements.asking(&rpc);
        // How long the follower takes is not known then.
        let is_further = self.tried == Some(Stretch::of(&rpc));
        let answer = match rpc.entries.is_empty() {
            true => self.call(Call::Append(rpc), &option).await?,
            false => self.append(rpc, &option).await?,
        };
        self.heard.has_answered(self.way.target);
        let answer = match answer {
            Answer::Append(result) => self.remote(result),
            _ => Err(confused()),
        };
        if matches!(answer, Ok(AppendEntriesResponse::Success)) && !is_further {
            self.announcements.succeeded(asked);
        }
        answer
    }

    async fn install_snapshot(
        &mut self,
        rpc: InstallSnapshotRequest<TypeConfig>,
        option: RPCOption,
    ) -> Result<InstallSnapshotResponse<u64>, RpcError<RaftError<u64, InstallSnapshotError>>> {
        let answer = self.call(Call::InstallSnapshot(rpc), &option).await?;
        self.heard.has_answered(self.way.target);
        match answer {
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
