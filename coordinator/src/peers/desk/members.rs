//! Who is a member: how one gets in, how one gets out, and how a change ends that nobody waits for any more.
//!
//! ```text
//! admit: an id ──► enter: log and archive, no vote ──► a vote ──► remove: no member, the id never again
//! ```

use std::collections::BTreeSet;
use std::time::Duration;

use novacron_protocol::ids::{MemberId, RequestId};
use tokio::sync::MutexGuard;
use tokio::time::timeout;

use super::Desk;
use crate::clock::new_request;
use crate::newcomer::votes_for_good;
use crate::peers::committer::{COMMIT_TIMEOUT, declined_write};
#[cfg(doc)]
use crate::peers::courier::TRY_TIMEOUT;
use crate::peers::keepers::stays;
use crate::peers::message::{Answer, Declined};
use crate::raft::MemberNode;
use crate::raft::words::{ChangeMembers, RaftMetrics};
use crate::state::member::MemberFacts;
use crate::state::{Accepted, Body, Command, Fleet, Origin};

/// How long a newcomer is waited for that lacks entries, within [`TRY_TIMEOUT`]: it goes on getting them, and asks again.
const CATCH_UP_TIMEOUT: Duration = Duration::from_secs(3);

/// How long another change of members is waited for.
const CHANGE_TIMEOUT: Duration = Duration::from_secs(1);

impl Desk {
    /// Gives an applicant an id.
    pub(super) async fn admit(
        &self,
        request: RequestId,
        facts: MemberFacts,
    ) -> Result<Answer, Declined> {
        match self.propose_body(request, Body::AdmitMember(facts)).await? {
            Accepted::Member(member) => {
                let incarnation = self.cell.look(Fleet::incarnation);
                Ok(Answer::Admitted { member, incarnation })
            }
            _ => Err(Declined::NotPossible("the cluster gave no member id".to_owned())),
        }
    }

    /// Takes the second step of a change of members that nobody else takes, and notes who has left by it: the fleet has them until
    /// whoever asked for it, and is gone, would have done so.
    pub(crate) async fn end_change(&self) -> Result<(), Declined> {
        let _changing = self.begin_change().await?;
        let leaving = self.leaving();
        // Nobody more: what is left is the second step.
        let nobody = ChangeMembers::AddVoterIds(BTreeSet::new());
        self.raft.change_membership(nobody, false).await.map_err(|error| declined_write(&error))?;
        for member in leaving {
            let request = new_request(self.clock.now());
            self.propose_body(request, Body::RemoveMember { member }).await?;
        }
        Ok(())
    }

    /// Those that are no members any more after the second step of a change.
    fn leaving(&self) -> Vec<MemberId> {
        let metrics = self.raft.server_metrics();
        let metrics = metrics.borrow();
        let membership = metrics.membership_config.membership();
        let members = membership.nodes().map(|(id, _)| *id);
        members.filter(|id| !stays(membership, *id)).map(MemberId).collect()
    }

    /// Lets an admitted member take part: it catches up without a vote first, with log and archive, then it votes.
    pub(super) async fn enter(&self, member: MemberId, settled: u64) -> Result<Answer, Declined> {
        if !self.leads() {
            return Err(Declined::NotLeader { leader: self.leader() });
        }
        let facts = self.admitted(member)?;
        if self.votes_for_good(member) {
            return Ok(Answer::Done);
        }
        self.let_in(member, facts).await?;
        let caught_up = timeout(CATCH_UP_TIMEOUT, self.caught_up(member)).await;
        caught_up.map_err(|_| Declined::OutcomeUnknown)??;
        self.check_archive(member, settled)?;
        let _changing = self.begin_change().await?;
        // It may have been removed meanwhile, and then it is nobody who could vote.
        self.admitted(member)?;
        if self.votes_for_good(member) {
            return Ok(Answer::Done);
        }
        let voter = ChangeMembers::AddVoterIds(BTreeSet::from([member.0]));
        let changed = timeout(COMMIT_TIMEOUT, self.raft.change_membership(voter, false)).await;
        changed.map_err(|_| Declined::OutcomeUnknown)?.map_err(|error| declined_write(&error))?;
        Ok(Answer::Done)
    }

    /// What an admitted member that has not left said of itself.
    fn admitted(&self, member: MemberId) -> Result<MemberFacts, Declined> {
        let facts = self.cell.look(|fleet| {
            let record = fleet.member(member).filter(|record| !record.has_left());
            record.map(|record| record.facts.clone())
        });
        facts.ok_or_else(|| Declined::NotPossible(format!("member {member} was not admitted")))
    }

    /// A member that is removed at the same time comes back by none of the steps in which another one enters: each change of
    /// members is made while nobody else makes one, and what the fleet says of a member is asked inside.
    async fn begin_change(&self) -> Result<MutexGuard<'_, ()>, Declined> {
        timeout(CHANGE_TIMEOUT, self.changing.lock()).await.map_err(|_| Declined::Busy)
    }

    /// Makes an admitted member one that is sent the log.
    async fn let_in(&self, member: MemberId, facts: MemberFacts) -> Result<(), Declined> {
        let _changing = self.begin_change().await?;
        // From here on the id stands for the member's log and vote; it cannot be given away any more. One that has left is
        // refused.
        let request = new_request(self.clock.now());
        self.propose_body(request, Body::EnterMember { member }).await?;
        let node = MemberNode::from(facts);
        let added = timeout(COMMIT_TIMEOUT, self.raft.add_learner(member.0, node, false)).await;
        added.map_err(|_| Declined::OutcomeUnknown)?.map_err(|error| declined_write(&error))?;
        Ok(())
    }

    /// Waits until a newcomer has what the log holds now. openraft calls one caught up that lacks less than some thousand
    /// entries, whether it answers or not; a vote of one that does not would only be missing.
    async fn caught_up(&self, member: MemberId) -> Result<(), Declined> {
        let mut metrics = self.raft.metrics();
        let last = metrics.borrow().last_log_index;
        let has_all = |metrics: &RaftMetrics<u64, MemberNode>| {
            let replicated = metrics.replication.as_ref().and_then(|to| *to.get(&member.0)?);
            // Nothing is replicated by one that leads no more.
            metrics.replication.is_none() || replicated.map(|log| log.index) >= last
        };
        drop(metrics.wait_for(has_all).await.map_err(|_| Declined::Stopped)?);
        if self.leads() { Ok(()) } else { Err(Declined::NotLeader { leader: self.leader() }) }
    }

    /// A snapshot names what the archive has, without the contents. A member that votes without them lets others leave that
    /// are the last to have them.
    fn check_archive(&self, member: MemberId, settled: u64) -> Result<(), Declined> {
        let archived = self.cell.look(|fleet| fleet.archives().count()) as u64;
        if settled >= archived {
            return Ok(());
        }
        Err(Declined::NotPossible(format!(
            "member {member} has {settled} of {archived} files of the archive so far; it gets them from the others, and asks again"
        )))
    }

    fn votes_for_good(&self, member: MemberId) -> bool {
        votes_for_good(&self.raft.metrics().borrow(), member)
    }

    fn votes(&self, member: MemberId) -> bool {
        let metrics = self.raft.server_metrics();
        let metrics = metrics.borrow();
        metrics.membership_config.membership().voter_ids().any(|voter| voter == member.0)
    }

    /// Takes a member out of consensus, then notes it in the fleet.
    pub(super) async fn remove(
        &self,
        request: RequestId,
        origin: Origin,
        member: MemberId,
    ) -> Result<Answer, Declined> {
        if !self.leads() {
            return Err(Declined::NotLeader { leader: self.leader() });
        }
        let is_known = self.cell.look(|fleet| fleet.member(member).is_some());
        if !is_known {
            return Err(Declined::NotPossible(format!("there is no member {member}")));
        }
        if self.is_last_voter(member) {
            let text = "the last coordinator of a cluster cannot leave it".to_owned();
            return Err(Declined::NotPossible(text));
        }
        // What is asked for is begun before the command that notes it is judged.
        let (at, body) = (self.clock.now(), Body::RemoveMember { member });
        let command = Command { request, at, origin, body };
        let judged = self.cell.look(|fleet| fleet.check_asker(&command));
        judged.map_err(|refusal| Declined::NotPossible(refusal.to_string()))?;
        self.check_fit(at)?;
        let _changing = self.begin_change().await?;
        if let Some(keepers) = &self.keepers {
            keepers.check_leaving(member).await.map_err(Declined::NotPossible)?;
        }
        let members = BTreeSet::from([member.0]);
        // One that has entered and does not vote would stay, and be sent entries for ever.
        let leaving = match self.votes(member) {
            true => ChangeMembers::RemoveVoters(members),
            false => ChangeMembers::RemoveNodes(members),
        };
        let changed = timeout(COMMIT_TIMEOUT, self.raft.change_membership(leaving, false)).await;
        changed.map_err(|_| Declined::OutcomeUnknown)?.map_err(|error| declined_write(&error))?;
        let reply = self.propose(command).await?;
        reply.map(|_| Answer::Done).map_err(|refusal| Declined::NotPossible(refusal.to_string()))
    }

    fn is_last_voter(&self, member: MemberId) -> bool {
        let metrics = self.raft.server_metrics();
        let metrics = metrics.borrow();
        let voters: Vec<u64> = metrics.membership_config.membership().voter_ids().collect();
        voters == [member.0]
    }
}

#[cfg(test)]
mod tests {
    use tokio::task::yield_now;

    use super::*;
    use crate::peers::pair::Pair;

    /// However the two fall together.
    #[tokio::test(start_paused = true)]
    async fn a_member_that_is_removed_while_it_enters_stays_removed() {
        let member = MemberId(2);
        for turns in 0..40 {
            let pair = Pair::new().await;
            let desk = pair.desk().await;
            let remove = async || {
                let request = new_request(desk.clock.now());
                desk.remove(request, Origin::Cluster, member).await
            };
            let removing = async {
                for _ in 0..turns {
                    yield_now().await;
                }
                while remove().await.is_err() {
                    yield_now().await;
                }
            };
            // Whether it has entered for a moment does not matter.
            let (_entered, ()) = tokio::join!(desk.enter(member, 0), removing);
            let has_left = pair.cell.look(|fleet| fleet.member(member).unwrap().has_left());
            assert!(has_left, "after {turns} turns");
            let metrics = pair.one.server_metrics();
            let metrics = metrics.borrow().clone();
            let nodes = metrics.membership_config.membership().nodes();
            let nodes: Vec<u64> = nodes.map(|(id, _)| *id).collect();
            assert_eq!(nodes, [1], "after {turns} turns");
            pair.one.shutdown().await.unwrap();
            pair.other.shutdown().await.unwrap();
        }
    }
}
