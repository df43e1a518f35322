//! Calls to whoever leads: to this member's own desk or over the link to another.
//!
//! A call is tried again, with the same content, until it is answered or its time is over. That is safe for
//! every call: reads change nothing, clients' commands carry a request id that is applied once, and commands
//! of the cluster itself change nothing the second time.

use std::time::Duration;

use novacron_protocol::ids::MemberId;
use tokio::time::{Instant, timeout, timeout_at};

use super::attempt::Attempt;
use super::courier::{Courier, TRY_TIMEOUT};
use super::desk::Desk;
use super::links::PeerLinks;
use super::message::{Answer, Call};
use crate::fitness::Unfit;
use crate::raft::{MemberNode, Raft};
use crate::state::formats::TOGETHER;

/// How long a call goes on being tried: two elections.
const CALL_TIMEOUT: Duration = Duration::from_secs(10);

/// How long to wait for news of the leader before the next try.
const PAUSE: Duration = Duration::from_millis(100);

/// Why whoever leads gave no answer.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum LeaderError {
    /// Nobody leads, or no quorum follows. Nothing is known to have happened.
    #[error("no leader with a quorum")]
    NoLeader,
    /// The call may have been done.
    #[error("the outcome is not known")]
    OutcomeUnknown,
    /// It cannot be done, and why.
    #[error("{0}")]
    NotPossible(String),
    /// Whoever leads is not fit for it, and nobody else can lead. Nothing happened.
    #[error("{0}")]
    Unfit(Unfit),
    /// This member has stopped.
    #[error("this member has stopped")]
    Stopped,
}

/// The way to the leader. Cheap to clone.
#[derive(Clone)]
pub struct LeaderLink {
    raft: Raft,
    desk: Desk,
    links: PeerLinks,
    courier: Courier,
}

impl LeaderLink {
    /// A way to the leader: this member's desk, or the links to others.
    pub fn new(raft: Raft, desk: Desk, links: PeerLinks) -> Self {
        let courier = Courier::new(raft.clone(), links.clone());
        Self { raft, desk, links, courier }
    }

    /// Asks whoever leads.
    ///
    /// # Errors
    /// [`LeaderError`].
    pub async fn call(&self, call: Call) -> Result<Answer, LeaderError> {
        let deadline = Instant::now() + CALL_TIMEOUT;
        let mut may_have_happened = false;
        while Instant::now() < deadline {
            let mut metrics = self.raft.server_metrics();
            metrics.mark_unchanged();
            match timeout_at(deadline.min(Instant::now() + TRY_TIMEOUT), self.attempt(&call)).await
            {
                Ok(Ok(answer)) => return Ok(answer),
                Ok(Err(Attempt::NotPossible(reason))) => {
                    return Err(LeaderError::NotPossible(reason));
                }
                // An earlier try may go on where it is.
                Ok(Err(Attempt::Unfit(_))) if may_have_happened => break,
                // Whoever asked knows other members, and this one is not what is wrong with the call.
                Ok(Err(Attempt::Stranger)) => break,
                Ok(Err(Attempt::Unfit(reason))) => return Err(LeaderError::Unfit(reason)),
                Ok(Err(Attempt::Stopped)) => return Err(LeaderError::Stopped),
                Ok(Err(Attempt::NotDone)) => {}
                Ok(Err(Attempt::Unknown)) | Err(_) => may_have_happened = true,
            }
            // News of the leader, or a pause: either way the next try. No news any more: consensus has ended.
            if let Ok(Err(_)) = timeout(PAUSE, metrics.changed()).await {
                return Err(LeaderError::Stopped);
            }
        }
        if may_have_happened {
            Err(LeaderError::OutcomeUnknown)
        } else {
            Err(LeaderError::NoLeader)
        }
    }

    async fn attempt(&self, call: &Call) -> Result<Answer, Attempt> {
        let leader = self.desk.leader().ok_or(Attempt::NotDone)?;
        if leader == self.links.own() {
            return self.desk.serve(call.clone()).await.map_err(Attempt::from);
        }
        match call {
            // A leader of the release before takes one at a time.
            Call::Propose(command) if self.desk.formats() >= TOGETHER => {
                self.courier.bring(leader, command.as_ref().clone()).await.map(Answer::Reply)
            }
            call => self.courier.ask(leader, call.clone()).await,
        }
    }

    /// Where a member is, as Raft's membership says.
    pub fn node(&self, member: MemberId) -> Option<MemberNode> {
        self.courier.node(member)
    }

    /// All other members and where they are, as Raft's membership says.
    pub fn others(&self) -> Vec<(MemberId, MemberNode)> {
        let metrics = self.raft.server_metrics();
        let metrics = metrics.borrow();
        let nodes = metrics.membership_config.membership().nodes();
        let others = nodes.filter(|(id, _)| MemberId(**id) != self.links.own());
        others.map(|(id, node)| (MemberId(*id), node.clone())).collect()
    }

    /// All members that vote and where they are, as Raft's membership says.
    pub fn voters(&self) -> Vec<(MemberId, MemberNode)> {
        let metrics = self.raft.server_metrics();
        let metrics = metrics.borrow();
        let membership = metrics.membership_config.membership();
        let node = |id| Some((MemberId(id), membership.get_node(&id)?.clone()));
        membership.voter_ids().filter_map(node).collect()
    }

    /// Who leads and where, if it is another member.
    pub fn other_leader(&self) -> Option<(MemberId, MemberNode)> {
        let leader = self.desk.leader().filter(|leader| *leader != self.links.own())?;
        Some((leader, self.node(leader)?))
    }

    /// Whether this member leads, as far as it knows.
    pub fn leads(&self) -> bool {
        self.desk.leader() == Some(self.links.own())
    }

    pub(crate) fn desk(&self) -> &Desk {
        &self.desk
    }

    pub(crate) fn links(&self) -> &PeerLinks {
        &self.links
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;
    use std::sync::Arc;

    use bytes::Bytes;
    use futures_util::FutureExt;
    use futures_util::future::BoxFuture;
    use novacron_protocol::ids::Incarnation;
    use novacron_protocol::wire::codec;

    use super::*;
    use crate::clock::Clock;
    use crate::peers::message::{Declined, PeerResponse};
    use crate::peers::pair::Pair;
    use crate::peers::{Carrier, PeerError};
    use crate::raft::Haste;

    /// Others who do not know this member any more.
    #[derive(Debug)]
    struct Refusing;

    impl Carrier for Refusing {
        fn connect<'a>(&'a self, _: &'a MemberNode) -> BoxFuture<'a, Result<(), PeerError>> {
            async { Ok(()) }.boxed()
        }

        fn exchange<'a>(
            &'a self,
            _: &'a MemberNode,
            _: Bytes,
        ) -> BoxFuture<'a, Result<Bytes, PeerError>> {
            let refused = PeerResponse::Declined(Declined::MemberLeft { member: MemberId(2) });
            async move { Ok(codec::encode(&refused)?.into()) }.boxed()
        }
    }

    /// Its clients ask another one: they did nothing that could not be.
    #[tokio::test(start_paused = true)]
    async fn a_member_that_was_removed_does_not_blame_the_call() {
        let pair = Pair::new().await;
        let members = BTreeMap::from([(1, MemberNode::default()), (2, MemberNode::default())]);
        pair.one.initialize(members).await.unwrap();
        pair.one.trigger().elect().await.unwrap();
        let mut metrics = pair.other.server_metrics();
        metrics.wait_for(|metrics| metrics.current_leader == Some(1)).await.unwrap();
        let raft = pair.other.clone();
        let desk =
            Desk::new((raft.clone(), Haste::default()), pair.cell.clone(), Clock::system(), None);
        let links = PeerLinks::carried(MemberId(2), Incarnation(1), Arc::new(Refusing));
        let asked = LeaderLink::new(raft, desk, links).call(Call::ReadIndex).await;
        assert_eq!(asked.unwrap_err(), LeaderError::NoLeader);
        pair.one.shutdown().await.unwrap();
        pair.other.shutdown().await.unwrap();
    }
}
