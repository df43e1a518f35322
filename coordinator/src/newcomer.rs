//! A member that was admitted asks to take part until it votes.

use std::time::Duration;

use novacron_protocol::ids::MemberId;
use tokio::time::{sleep, timeout};
use tokio_util::sync::CancellationToken;

use crate::history::History;
use crate::peers::{Answer, Call, LeaderLink};
use crate::raft::words::RaftMetrics;
use crate::raft::{MemberNode, Raft};
use crate::view::FleetCell;

/// How long it waits before it asks again: twice as long each time.
const PERIOD_MIN: Duration = Duration::from_millis(250);
const PERIOD_MAX: Duration = Duration::from_secs(10);

/// How long asking may take. Who has not caught up by then goes on doing so, and asks again.
const TIMEOUT: Duration = Duration::from_secs(15);

/// A member that may not vote yet.
pub struct Newcomer {
    /// Its consensus.
    pub raft: Raft,
    /// Its way to the others.
    pub leader: LeaderLink,
    /// What it knows of the fleet.
    pub cell: FleetCell,
    /// What it has of the past.
    pub history: History,
    /// Where others were when it was admitted.
    pub contacts: Vec<String>,
}

impl Newcomer {
    /// Asks until it votes, or until `stop`.
    pub async fn enter(self, stop: CancellationToken) {
        let own = self.leader.links().own();
        let mut period = PERIOD_MIN;
        while !self.votes(own) {
            for contact in self.contacts.iter().cloned().chain(self.other_members(own)) {
                let node = MemberNode::at(contact.clone());
                // Whoever fetches says why the archive cannot be listed.
                let settled = self.history.stock().map_or(0, |stock| stock.settled());
                let call = Call::Enter { member: own, settled };
                let asked = self.leader.links().call(MemberId(0), &node, call);
                let answer = tokio::select! {
                    biased;
                    () = stop.cancelled() => return,
                    answer = timeout(TIMEOUT, asked) => answer,
                };
                match answer {
                    Ok(Ok(Answer::Done)) => break,
                    Ok(Ok(_)) | Err(_) => {}
                    Ok(Err(error)) => {
                        let error = &error as &dyn std::error::Error;
                        tracing::info!(contact, error, "cannot take part yet");
                    }
                }
            }
            self.history.hurry();
            tokio::select! {
                biased;
                () = stop.cancelled() => return,
                () = sleep(period) => {}
            }
            period = (period * 2).min(PERIOD_MAX);
        }
    }

    fn votes(&self, own: MemberId) -> bool {
        votes_for_good(&self.raft.metrics().borrow(), own)
    }

    /// Addresses of those that it knows from the time when it took part.
    fn other_members(&self, own: MemberId) -> Vec<String> {
        self.cell.look(|fleet| {
            let others = fleet.present_members().filter(|member| member.id != own);
            others.map(|member| member.facts.peer_address.clone()).collect()
        })
    }
}

/// Whether a member votes by a change of members that is committed. One that is not may be undone by another leader, and
/// nobody would ask for the member again.
pub(crate) fn votes_for_good(metrics: &RaftMetrics<u64, MemberNode>, member: MemberId) -> bool {
    let membership = &metrics.membership_config;
    let is_committed = *membership.log_id() <= metrics.last_applied;
    is_committed && membership.membership().voter_ids().any(|voter| voter == member.0)
}

#[cfg(test)]
mod tests {
    use std::collections::{BTreeMap, BTreeSet};
    use std::sync::Arc;

    use openraft::{CommittedLeaderId, LogId, Membership, StoredMembership};

    use super::*;

    #[test]
    fn a_vote_that_may_be_undone_is_none_yet() {
        let at = |index| Some(LogId::new(CommittedLeaderId::new(1, 1), index));
        let nodes = BTreeMap::from([1, 2].map(|id| (id, MemberNode::default())));
        let voters = |ids: &[u64]| vec![ids.iter().copied().collect::<BTreeSet<u64>>()];
        let mut metrics = RaftMetrics::new_initial(2);
        metrics.last_applied = at(7);
        for (ids, made_at, votes) in [(&[1, 2][..], 7, true), (&[1, 2], 8, false), (&[1], 7, false)]
        {
            let membership = Membership::new(voters(ids), nodes.clone());
            metrics.membership_config = Arc::new(StoredMembership::new(at(made_at), membership));
            assert_eq!(votes_for_good(&metrics, MemberId(2)), votes, "{ids:?} at {made_at}");
        }
    }
}
