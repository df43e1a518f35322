//! What the leader does for others and for itself. Every answer tells apart what did not happen from what is
//! not known to have happened.

mod members;

use std::sync::Arc;
use std::time::{Duration, Instant};

use crate::raft::words::{CheckIsLeaderError, LogId, RaftError};
use futures_util::future::join_all;
use novacron_protocol::ids::{MemberId, RequestId};
use novacron_protocol::time::Timestamp;
use tokio::sync::Mutex;
use tokio::time::timeout;

use super::committer::Committer;
#[cfg(doc)]
use super::courier::TRY_TIMEOUT;
use super::keepers::Keepers;
use super::message::{Answer, Call, Committed, Declined};
use crate::clock::Clock;
use crate::fitness::Fitness;
use crate::metrics::{CommitMetrics, CommitOutcome};
use crate::raft::{Haste, Raft};
use crate::state::formats::FormatVersion;
use crate::state::{Accepted, Body, Command, Fleet, Reply};
use crate::view::FleetCell;

/// How long a quorum may take to confirm the leader.
const CONFIRM_TIMEOUT: Duration = Duration::from_secs(2);

/// How long a command may take that came together with others: less than [`TRY_TIMEOUT`].
const TOGETHER_TIMEOUT: Duration = Duration::from_millis(4_500);

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
}

/// The entry that a read must have seen where openraft says `read`. A leader that starts again within its term goes on
/// leading it, and openraft takes for committed what it knew to be so at some time before: what was acknowledged since
/// then is in its log. An entry that another leader wrote may never be committed and does not count.
fn read_after(read: LogId<u64>, held: Option<LogId<u64>>) -> LogId<u64> {
    held.filter(|held| held.leader_id == read.leader_id).map_or(read, |held| read.max(held))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::raft::words::CommittedLeaderId;

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
