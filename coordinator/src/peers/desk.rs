//! What the leader does for others and for itself. Every answer tells apart what did not happen from what is
//! not known to have happened.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::{Duration, Instant};

use crate::raft::words::{ChangeMembers, CheckIsLeaderError, LogId, RaftError, RaftMetrics};
use futures_util::future::join_all;
use novacron_protocol::ids::{MemberId, RequestId};
use novacron_protocol::time::Timestamp;
use tokio::sync::{Mutex, MutexGuard};
use tokio::time::timeout;

use super::committer::{COMMIT_TIMEOUT, Committer, declined_write};
#[cfg(doc)]
use super::courier::TRY_TIMEOUT;
use super::keepers::{Keepers, stays};
use super::message::{Answer, Call, Committed, Declined};
use crate::clock::{Clock, new_request};
use crate::fitness::Fitness;
use crate::metrics::{CommitMetrics, CommitOutcome};
use crate::newcomer::votes_for_good;
use crate::raft::{Haste, MemberNode, Raft};
use crate::state::formats::FormatVersion;
use crate::state::member::MemberFacts;
use crate::state::{Accepted, Body, Command, Fleet, Origin, Reply};
use crate::view::FleetCell;

/// How long a quorum may take to confirm the leader.
const CONFIRM_TIMEOUT: Duration = Duration::from_secs(2);

/// How long a command may take that came together with others: less than [`TRY_TIMEOUT`].
const TOGETHER_TIMEOUT: Duration = Duration::from_millis(4_500);

/// How long a newcomer is waited for that lacks entries, within [`TRY_TIMEOUT`]: it goes on getting them, and asks again.
const CATCH_UP_TIMEOUT: Duration = Duration::from_secs(3);

/// How long another change of members is waited for.
const CHANGE_TIMEOUT: Duration = Duration::from_secs(1);

/// The leader's desk; on a follower it declines everything. Cheap to clone.
#[derive(Clone)]
pub struct Desk {
    raft: Raft,
    cell: FleetCell,
    clock: Clock,
    held: Option<LogId<u64>>,
    committer: Committer,
    commits: CommitMetrics,
    fitness: Fitness,
    /// Nobody where no member leaves.
    keepers: Option<Keepers>,
    /// Held by whoever changes the members: what the fleet says of one and its part in consensus change together.
    changing: Arc<Mutex<()>>,
}

impl Desk {
    /// The desk of a member whose log ended with `held` when its process began, and whose network knows from `haste`
    /// who waits for commits.
    pub fn new(
        (raft, haste): (Raft, Haste),
        cell: FleetCell,
        clock: Clock,
        held: Option<LogId<u64>>,
    ) -> Self {
        let committer = Committer::new(raft.clone(), haste);
        let (commits, fitness) = (CommitMetrics::default(), Fitness::default());
        let (keepers, changing) = (None, Arc::default());
        Self { raft, cell, clock, held, committer, commits, fitness, keepers, changing }
    }

    /// The same, of a member that is watched.
    #[must_use]
    pub fn watched(self, fitness: Fitness) -> Self {
        let committer = self.committer.watched(fitness.clone());
        Self { committer, fitness, ..self }
    }

    /// The same, and nobody leaves who cannot be spared.
    #[must_use]
    pub fn kept_by(self, keepers: Keepers) -> Self {
        Self { keepers: Some(keepers), ..self }
    }

    /// Whether this member is fit.
    pub fn fitness(&self) -> &Fitness {
        &self.fitness
    }

    /// What it answers to [`Call::Condition`].
    pub(super) fn condition(&self) -> Answer {
        let clock = self.clock.now();
        let (is_fit, has_room) =
            (self.fitness.check(clock).is_ok(), self.fitness.check_room().is_ok());
        Answer::Condition { clock, is_fit, has_room }
    }

    fn check_fit(&self, now: Timestamp) -> Result<(), Declined> {
        // What a majority cannot store is not begun: nobody would learn what becomes of it. Whoever else led could not either.
        let checked = self.fitness.check(now).and_then(|()| self.fitness.check_storing());
        let Err(reason) = checked else { return Ok(()) };
        if reason.is_momentary() {
            self.fitness.hurry();
        }
        // A member of the release before does not know all reasons.
        if self.cell.look(Fleet::formats) < reason.since() {
            return Err(Declined::NoQuorum);
        }
        Err(Declined::Unfit { reason, is_aside: self.fitness.is_aside(now) })
    }

    /// How proposals fare.
    pub fn commits(&self) -> &CommitMetrics {
        &self.commits
    }

    /// How much of the room for commands that are not committed yet is taken, of [`UNITS_MAX`](super::UNITS_MAX).
    pub fn units(&self) -> usize {
        self.committer.units()
    }

    /// The formats that all members understand.
    pub(crate) fn formats(&self) -> FormatVersion {
        self.cell.look(Fleet::formats)
    }

    /// The member that leads, as far as this one knows.
    pub fn leader(&self) -> Option<MemberId> {
        self.raft.server_metrics().borrow().current_leader.map(MemberId)
    }

    /// Whether another member should lead, and can.
    pub(crate) fn is_aside(&self) -> bool {
        self.fitness.is_aside(self.clock.now())
    }

    fn leads(&self) -> bool {
        let metrics = self.raft.server_metrics();
        let metrics = metrics.borrow();
        metrics.current_leader == Some(metrics.id)
    }

    /// Does what was asked. Consoles and Raft's own calls are not for the desk.
    ///
    /// # Errors
    /// [`Declined`].
    pub async fn serve(&self, call: Call) -> Result<Answer, Declined> {
        match call {
            Call::Propose(command) => self.commit(*command).await.map(Answer::Reply),
            Call::ReadIndex => self.read_index().await.map(Answer::ReadIndex),
            Call::Admit { request, facts } => self.admit(request, facts).await,
            Call::Enter { member, settled } => self.enter(member, settled).await,
            Call::Remove { request, origin, member } => self.remove(request, origin, member).await,
            Call::Append(_)
            | Call::Vote(_)
            | Call::InstallSnapshot(_)
            | Call::Status
            | Call::ArchivePart { .. }
            | Call::SecretKey(_)
            | Call::HasSecretKey(_)
            | Call::Condition
            | Call::Samples(_)
            | Call::ProposeTogether(_)
            | Call::MissesLeader
            | Call::Console { .. } => {
                Err(Declined::NotPossible("this call is not for the leader's desk".to_owned()))
            }
        }
    }

    /// Does what another member asked, which hears at once when a command of its own is committed.
    ///
    /// # Errors
    /// [`Declined`].
    pub async fn serve_member(&self, from: MemberId, call: Call) -> Result<Answer, Declined> {
        match call {
            Call::Propose(command) => {
                let hurry = self.committer.haste().hurry(from);
                let committed = self.commit(*command).await?;
                hurry.owe(committed.index);
                Ok(Answer::Reply(committed))
            }
            Call::ProposeTogether(commands) => {
                let hurry = self.committer.haste().hurry(from);
                let each = commands.into_iter().map(|one| self.commit_in_time(one));
                let replies = join_all(each).await;
                let committed = replies.iter().flatten().map(|committed| committed.index);
                if let Some(index) = committed.max() {
                    hurry.owe(index);
                }
                Ok(Answer::Replies(replies))
            }
            call => self.serve(call).await,
        }
    }

    /// Proposes a command here. Its time becomes the leader's, so that only one clock of the cluster counts at
    /// a time, whatever member the command came from.
    ///
    /// # Errors
    /// [`Declined`].
    pub async fn propose(&self, command: Command) -> Result<Reply, Declined> {
        self.commit(command).await.map(|committed| committed.reply)
    }

    /// The same, in a time after which whoever asked still listens: one slow command does not take the outcomes of those
    /// that came with it along.
    async fn commit_in_time(&self, command: Command) -> Result<Committed, Declined> {
        let committed = timeout(TOGETHER_TIMEOUT, self.commit(command)).await;
        committed.unwrap_or(Err(Declined::OutcomeUnknown))
    }

    async fn commit(&self, command: Command) -> Result<Committed, Declined> {
        if !self.leads() {
            return Err(Declined::NotLeader { leader: self.leader() });
        }
        let understood = self.cell.look(|fleet| fleet.check_since(&command.body));
        understood.map_err(|refusal| Declined::NotPossible(refusal.to_string()))?;
        let at = self.clock.now();
        self.check_fit(at)?;
        let command = Command { at, ..command };
        let begun = Instant::now();
        let written = self.committer.commit(&command).await;
        let outcome = match written {
            Ok(_) => CommitOutcome::Committed,
            Err(_) => CommitOutcome::Failed,
        };
        self.commits.proposed(outcome, begun.elapsed());
        written
    }

    /// Asks a quorum whether this member leads.
    ///
    /// # Errors
    /// [`Declined`].
    pub async fn confirm(&self) -> Result<(), Declined> {
        self.read_index().await.map(drop)
    }

    async fn read_index(&self) -> Result<u64, Declined> {
        // Asking a quorum is a sign of life, too: who steps aside gives none.
        if self.is_aside() {
            return Err(Declined::NotLeader { leader: None });
        }
        let confirmed = timeout(CONFIRM_TIMEOUT, self.raft.get_read_log_id()).await;
        match confirmed.map_err(|_| Declined::NoQuorum)? {
            Ok((read, _)) => Ok(read.map_or(0, |read| read_after(read, self.held).index)),
            Err(RaftError::APIError(CheckIsLeaderError::ForwardToLeader(other))) => {
                Err(Declined::NotLeader { leader: other.leader_id.map(MemberId) })
            }
            Err(RaftError::APIError(CheckIsLeaderError::QuorumNotEnough(_))) => {
                Err(Declined::NoQuorum)
            }
            Err(RaftError::Fatal(_)) => Err(Declined::Stopped),
        }
    }

    pub(super) async fn propose_body(
        &self,
        request: RequestId,
        body: Body,
    ) -> Result<Accepted, Declined> {
        let at: Timestamp = self.clock.now();
        let reply = self.propose(Command::of_cluster(request, at, body)).await?;
        reply.map_err(|refusal| Declined::NotPossible(refusal.to_string()))
    }

    async fn admit(&self, request: RequestId, facts: MemberFacts) -> Result<Answer, Declined> {
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
    async fn enter(&self, member: MemberId, settled: u64) -> Result<Answer, Declined> {
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

    async fn remove(
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

/// The entry that a read must have seen where openraft says `read`. A leader that starts again within its term goes on
/// leading it, and openraft takes for committed what it knew to be so at some time before: what was acknowledged since
/// then is in its log. An entry that another leader wrote may never be committed and does not count.
fn read_after(read: LogId<u64>, held: Option<LogId<u64>>) -> LogId<u64> {
    held.filter(|held| held.leader_id == read.leader_id).map_or(read, |held| read.max(held))
}

#[cfg(test)]
mod tests {
    use tokio::task::yield_now;

    use super::*;
    use crate::peers::pair::Pair;
    use crate::raft::words::CommittedLeaderId;

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

    fn log_id(term: u64, index: u64) -> LogId<u64> {
        LogId::new(CommittedLeaderId::new(term, 1), index)
    }

    #[test]
    fn a_leader_that_started_again_within_its_term_reads_after_all_that_it_wrote() {
        assert_eq!(read_after(log_id(3, 5), Some(log_id(3, 9))), log_id(3, 9));
        assert_eq!(read_after(log_id(3, 12), Some(log_id(3, 9))), log_id(3, 12));
    }

    #[test]
    fn what_another_leader_wrote_is_not_waited_for() {
        assert_eq!(read_after(log_id(4, 6), Some(log_id(3, 9))), log_id(4, 6));
        assert_eq!(read_after(log_id(3, 5), None), log_id(3, 5));
    }
}
