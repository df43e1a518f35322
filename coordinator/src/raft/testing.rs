//! A leader's way to a follower, for tests of what is said on it.

use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use bytes::Bytes;
use futures_util::FutureExt;
use futures_util::future::BoxFuture;
use novacron_protocol::ids::{Incarnation, MemberId};
use novacron_protocol::wire::codec;
use openraft::network::{RPCOption, RaftNetwork, RaftNetworkFactory};
use openraft::raft::{AppendEntriesRequest, AppendEntriesResponse};
use openraft::{CommittedLeaderId, Entry, EntryPayload, LogId, Vote};
use tokio::time::timeout;

use super::heard::Heard;
use super::network::{MemberNetwork, Network};
use super::proposal::Proposal;
use super::{Haste, MemberNode, TypeConfig};
use crate::peers::message::{PeerRequest, PeerResponse};
use crate::peers::{Answer, Call, Carrier, PeerError, PeerLinks};

type Append = AppendEntriesRequest<TypeConfig>;
type Said = AppendEntriesResponse<u64>;

pub(super) const FOLLOWER: MemberId = MemberId(2);

/// How long openraft waits for an answer here.
pub(super) const PATIENCE: Duration = Duration::from_millis(150);

/// A follower that takes everything, unless it is told otherwise.
#[derive(Debug, Default)]
pub(super) struct Follower(Mutex<Inner>);

#[derive(Debug, Default)]
struct Inner {
    asked: Vec<Append>,
    answered: usize,
    is_away: bool,
    takes: Duration,
    bytes_per_second: Option<u32>,
    /// For whom it has voted, if not for the leader.
    voted: Option<Vote<u64>>,
}

impl Inner {
    /// How long a request is on its way and looked at.
    fn take(&mut self, request: Append, bytes: usize) -> Duration {
        self.asked.push(request);
        let travels = self.bytes_per_second.map(|link| Duration::from_secs(bytes as u64) / link);
        self.takes + travels.unwrap_or_default()
    }

    fn said(&self) -> Result<Said, PeerError> {
        match self.is_away {
            true => Err(PeerError::NoAnswer),
            false => Ok(self.voted.map_or(Said::Success, Said::HigherVote)),
        }
    }
}

impl Follower {
    fn inner(&self) -> MutexGuard<'_, Inner> {
        self.0.lock().unwrap()
    }

    /// Entries and commit of what it was asked since.
    pub(super) fn asked(&self) -> Vec<(usize, Option<u64>)> {
        let asked = std::mem::take(&mut self.inner().asked);
        let brief =
            |request: &Append| (request.entries.len(), request.leader_commit.map(|id| id.index));
        asked.iter().map(brief).collect()
    }

    /// How many calls it was there for to their end since.
    pub(super) fn answered(&self) -> usize {
        std::mem::take(&mut self.inner().answered)
    }

    pub(super) fn takes(&self, time: Duration) {
        self.inner().takes = time;
    }

    pub(super) fn goes_away(&self) {
        self.inner().is_away = true;
    }

    /// How much of each call the link to it carries.
    pub(super) fn is_behind(&self, bytes_per_second: u32) {
        self.inner().bytes_per_second = Some(bytes_per_second);
    }

    /// Has it vote for somebody else.
    pub(super) fn votes(&self, vote: Vote<u64>) {
        self.inner().voted = Some(vote);
    }

    async fn answer(&self, request: &[u8]) -> Result<Bytes, PeerError> {
        let Call::Append(append) = codec::decode::<PeerRequest>(request)?.call else {
            panic!("only entries are sent here");
        };
        let time = self.inner().take(append, request.len());
        pass(time).await;
        self.inner().answered += 1;
        let answer = Answer::Append(Ok(self.inner().said()?));
        Ok(codec::encode(&PeerResponse::Answer(Box::new(answer)))?.into())
    }
}

impl Carrier for Follower {
    fn connect<'a>(&'a self, _: &'a MemberNode) -> BoxFuture<'a, Result<(), PeerError>> {
        async { Ok(()) }.boxed()
    }

    fn exchange<'a>(
        &'a self,
        _: &'a MemberNode,
        request: Bytes,
    ) -> BoxFuture<'a, Result<Bytes, PeerError>> {
        async move { self.answer(&request).await }.boxed()
    }
}

/// Lets time go by.
pub(crate) async fn pass(time: Duration) {
    drop(timeout(time, std::future::pending::<()>()).await);
}

pub(super) struct Leader {
    pub(super) follower: Arc<Follower>,
    pub(super) haste: Haste,
    way: MemberNetwork,
}

impl Leader {
    pub(super) async fn new() -> Self {
        let follower = Arc::<Follower>::default();
        let links = PeerLinks::carried(MemberId(1), Incarnation(0), Arc::clone(&follower) as _);
        let haste = Haste::default();
        let mut network = Network::new(links, haste.clone(), Heard::default());
        let way = network.new_client(FOLLOWER.0, &MemberNode::default()).await;
        Self { follower, haste, way }
    }

    /// What openraft gets to hear: nothing if it takes too long, or if there is no answer.
    pub(super) async fn ask(&mut self, request: Append) -> Option<Said> {
        let asking = self.way.append_entries(request, RPCOption::new(PATIENCE));
        timeout(PATIENCE, asking).await.ok()?.ok()
    }

    pub(super) async fn say(&mut self, request: Append) -> bool {
        self.ask(request).await.is_some()
    }

    /// Entry `index`, while what is before `committed` is committed.
    pub(super) async fn write(&mut self, index: u64, committed: u64) -> bool {
        let entry = Entry { log_id: log_id(index), payload: EntryPayload::Blank };
        self.say(Append { entries: vec![entry], ..commit(index - 1, committed) }).await
    }
}

/// An entry of so many bytes.
pub(super) fn large(index: u64, bytes: usize) -> Entry<TypeConfig> {
    let payload = EntryPayload::Normal(Proposal::of_bytes(vec![0; bytes]));
    Entry { log_id: log_id(index), payload }
}

pub(super) fn log_id(index: u64) -> LogId<u64> {
    LogId::new(CommittedLeaderId::new(3, 1), index)
}

pub(super) fn commit(last: u64, committed: u64) -> Append {
    Append {
        vote: Vote::new_committed(3, 1),
        prev_log_id: Some(log_id(last)),
        entries: Vec::new(),
        leader_commit: Some(log_id(committed)),
    }
}
