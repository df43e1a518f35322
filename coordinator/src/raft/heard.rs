//! What this member heard of others: what decides when it calls an election, and when each of them answered last.

use std::cmp::Ordering;
use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use novacron_protocol::ids::MemberId;
use openraft::Vote;
use openraft::raft::{VoteRequest, VoteResponse};
use tokio::time::Instant;

use super::timing::Timing;

/// When the leader was heard last, and what those said who refused their votes: noted by those who talk with other
/// members, asked by whoever calls elections. Clones share it.
#[derive(Debug, Clone)]
pub struct Heard(Arc<Mutex<Inner>>);

#[derive(Debug)]
struct Inner {
    /// For how long a silent leader is waited for.
    lease: Duration,
    last: Instant,
    /// Calls of the leader that are not answered yet.
    under_way: usize,
    /// Requests for this member's vote that are not answered yet.
    asked_for_vote: usize,
    /// What was asked for in this member's newest election.
    asked: Vote<u64>,
    chance: Chance,
    began: Instant,
    /// When each member last answered a call of Raft.
    answered: BTreeMap<MemberId, Instant>,
}

/// What the answers to one election say of the next one that this member calls. The worst of them counts.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Chance {
    /// Nobody has answered.
    Alone,
    /// Somebody has.
    Open,
    /// Somebody has voted in a later term and lacks entries that this member has: it would be given the next vote, and could
    /// not lead this member.
    Ahead,
    /// Somebody has entries that this member lacks, and will never give it a vote.
    Behind,
}

/// A call of the leader that this member is at. What it takes is no silence of the leader.
#[derive(Debug)]
pub struct Hearing(Heard);

/// A request for this member's vote that it is at.
#[derive(Debug)]
pub struct Voting(Heard);

impl Default for Heard {
    /// With the usual pace.
    fn default() -> Self {
        Self::new(Timing::default())
    }
}

impl Heard {
    /// Nobody yet: silence begins now.
    pub fn new(timing: Timing) -> Self {
        let (last, asked, chance) = (Instant::now(), Vote::default(), Chance::Alone);
        let (lease, began, answered) = (timing.lease(), last, BTreeMap::new());
        let (under_way, asked_for_vote) = (0, 0);
        let inner =
            Inner { lease, last, under_way, asked_for_vote, asked, chance, began, answered };
        Self(Arc::new(Mutex::new(inner)))
    }

    /// A call of the leader has come; it is answered when what is returned is dropped.
    pub fn begin(&self) -> Hearing {
        self.with(|inner| inner.under_way += 1);
        Hearing(self.clone())
    }

    /// When the last call was answered; now, while one is not.
    pub(super) fn last(&self) -> Instant {
        self.with(|inner| if inner.under_way > 0 { Instant::now() } else { inner.last })
    }

    /// Another member wants this one's vote; it is answered when what is returned is dropped.
    pub fn begin_vote(&self) -> Voting {
        self.with(|inner| inner.asked_for_vote += 1);
        Voting(self.clone())
    }

    /// Whether another member waits for this one's vote, which the disk may not have yet.
    pub(super) fn is_voting(&self) -> bool {
        self.with(|inner| inner.asked_for_vote > 0)
    }

    /// For how long a silent leader is waited for.
    pub(super) fn lease(&self) -> Duration {
        self.with(|inner| inner.lease)
    }

    /// Whether nobody was heard for so long.
    pub(super) fn is_silent(&self) -> bool {
        self.last().elapsed() > self.lease()
    }

    /// Another member is asked for its vote.
    pub(super) fn asks(&self, asked: &VoteRequest<u64>) {
        self.with(|inner| {
            if asked.vote > inner.asked {
                (inner.asked, inner.chance) = (asked.vote, Chance::Alone);
            }
        });
    }

    /// Another member answers. What it says to an earlier election shows only that it is there: openraft does not heed it
    /// either.
    pub(super) fn answered(&self, asked: &VoteRequest<u64>, answer: &VoteResponse<u64>) {
        let said = Chance::of(asked, answer);
        self.with(|inner| {
            let chance = if asked.vote == inner.asked { said } else { Chance::Open };
            inner.chance = inner.chance.max(chance);
        });
    }

    /// What answers have said since the last election.
    pub(super) fn chance(&self) -> Chance {
        self.with(|inner| inner.chance)
    }

    /// There is a new election: what was said before counts no more.
    pub(super) fn forget_chance(&self) {
        self.with(|inner| inner.chance = Chance::Alone);
    }

    /// A member has answered a call of Raft.
    pub(super) fn has_answered(&self, member: MemberId) {
        self.with(|inner| {
            inner.answered.insert(member, Instant::now());
        });
    }

    /// For how long a member has answered no call of Raft: since this one was started, if never.
    pub fn silence_of(&self, member: MemberId) -> Duration {
        self.with(|inner| *inner.answered.get(&member).unwrap_or(&inner.began)).elapsed()
    }

    fn with<T>(&self, work: impl FnOnce(&mut Inner) -> T) -> T {
        work(&mut self.0.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

impl Chance {
    fn of(asked: &VoteRequest<u64>, answer: &VoteResponse<u64>) -> Self {
        if answer.vote_granted {
            return Self::Open;
        }
        // Whoever follows a leader is not won by a later term.
        let is_for_term = answer.vote > asked.vote && !answer.vote.is_committed();
        match answer.last_log_id.cmp(&asked.last_log_id) {
            Ordering::Greater => Self::Behind,
            Ordering::Less if is_for_term => Self::Ahead,
            Ordering::Less | Ordering::Equal => Self::Open,
        }
    }
}

impl Drop for Hearing {
    fn drop(&mut self) {
        self.0.with(|inner| {
            inner.under_way -= 1;
            inner.last = Instant::now();
        });
    }
}

impl Drop for Voting {
    fn drop(&mut self) {
        self.0.with(|inner| inner.asked_for_vote -= 1);
    }
}

#[cfg(test)]
mod tests {
    use openraft::{CommittedLeaderId, LogId};
    use tokio::time::advance;

    use super::*;

    #[tokio::test(start_paused = true)]
    async fn silence_begins_when_the_last_call_is_answered() {
        let heard = Heard::default();
        let second = Duration::from_secs(1);
        advance(second).await;
        assert_eq!(heard.last() + second, Instant::now());
        let (one, other) = (heard.begin(), heard.begin());
        advance(second).await;
        drop(one);
        advance(second).await;
        assert_eq!(heard.last(), Instant::now(), "another is under way");
        drop(other);
        advance(second).await;
        assert_eq!(heard.last() + second, Instant::now());
        assert!(!heard.is_silent(), "the lease is a second");
        advance(Duration::from_millis(1)).await;
        assert!(heard.is_silent());
    }

    #[test]
    fn a_vote_is_under_way_until_the_last_is_answered() {
        let heard = Heard::default();
        assert!(!heard.is_voting());
        let (one, other) = (heard.begin_vote(), heard.begin_vote());
        drop(one);
        assert!(heard.is_voting());
        drop(other);
        assert!(!heard.is_voting());
    }

    #[tokio::test(start_paused = true)]
    async fn a_member_that_answers_no_call_is_silent() {
        let (heard, second) = (Heard::default(), Duration::from_secs(1));
        advance(second).await;
        heard.has_answered(MemberId(2));
        advance(second).await;
        let silences = [2, 3].map(|member| heard.silence_of(MemberId(member)));
        assert_eq!(silences, [second, second * 2]);
    }

    #[tokio::test(start_paused = true)]
    async fn refusals_say_whether_another_election_would_help() {
        let log = |index| Some(LogId::new(CommittedLeaderId::new(5, 1), index));
        let refused = |vote, last| VoteResponse::new(vote, log(last), false);
        let (asked, later) = (VoteRequest::new(Vote::new(20, 1), log(40)), Vote::new(21, 2));
        let heard = Heard::default();
        assert_eq!(heard.chance(), Chance::Alone);
        heard.asks(&asked);
        let chance = |answer| {
            heard.answered(&asked, &answer);
            heard.chance()
        };
        assert_eq!(chance(VoteResponse::new(Vote::new(20, 1), log(41), true)), Chance::Open);
        assert_eq!(chance(refused(later, 40)), Chance::Open, "it may win itself");
        assert_eq!(chance(refused(Vote::new(19, 3), 36)), Chance::Open, "still waits for a leader");
        assert_eq!(
            chance(refused(Vote::new_committed(21, 2), 36)),
            Chance::Open,
            "it has a leader"
        );
        assert_eq!(chance(refused(later, 36)), Chance::Ahead);
        assert_eq!(chance(refused(later, 41)), Chance::Behind);
        assert_eq!(chance(refused(later, 36)), Chance::Behind);
        heard.asks(&asked);
        assert_eq!(heard.chance(), Chance::Behind, "the same election");
        heard.asks(&VoteRequest::new(Vote::new(22, 1), log(40)));
        assert_eq!(heard.chance(), Chance::Alone);
        assert_eq!(chance(refused(later, 41)), Chance::Open, "an answer to the election before");
    }
}
