//! The question before an election: whether others miss the leader, too.
//!
//! A member that alone does not hear a leader would end it: it raises its own term, refuses the leader for it from then
//! on, and the leader goes. So it first asks whether a majority could vote for it at all, and raises nothing until then.
//! (The pre-vote of Ongaro's dissertation, "Consensus: Bridging Theory and Practice", §9.6. Whose log is longer is left to
//! the election.)

use std::time::Duration;

use futures_util::stream::FuturesUnordered;
use futures_util::{Stream, StreamExt};
use novacron_protocol::ids::MemberId;
use tokio::time::{Instant, timeout_at};

use super::heard::Heard;
use super::timing::Timing;
use super::types::{MemberNode, Raft};
use crate::peers::{Answer, Call, LeaderLink};
use crate::state::formats::PREVOTE;

/// Whether a majority, this member with it, misses the leader, as far as they answer in time.
///
/// Members of the release before cannot be asked: then nobody is.
pub(super) async fn is_leader_missed(leader: &LeaderLink, timing: Timing) -> bool {
    let voters = leader.voters();
    if voters.len() < 2 || leader.desk().formats() < PREVOTE {
        return true;
    }
    let own = leader.links().own();
    let others = voters.iter().filter(|(member, _)| *member != own);
    let asked: FuturesUnordered<_> =
        others.map(|(member, node)| ask(leader, *member, node)).collect();
    is_missed(asked, voters.len() / 2, timing).await
}

/// How long a question may take.
pub(super) fn patience(timing: Timing) -> Duration {
    timing.stagger().max(timing.lease() / 2)
}

/// `None`: it cannot be asked.
async fn ask(leader: &LeaderLink, member: MemberId, node: &MemberNode) -> Option<bool> {
    match leader.links().call(member, node, Call::MissesLeader).await {
        Ok(Answer::MissesLeader(misses)) => Some(misses),
        _ => None,
    }
}

/// Whether so many others say yes. Where one says no, the rest are hardly waited for: it may be asked again soon, and who
/// does not answer is most likely the leader that is missed.
async fn is_missed(
    mut answers: impl Stream<Item = Option<bool>> + Unpin,
    needed: usize,
    timing: Timing,
) -> bool {
    let (mut missing, mut until) = (0, Instant::now() + patience(timing));
    while missing < needed {
        match timeout_at(until, answers.next()).await {
            Ok(Some(Some(true))) => missing += 1,
            Ok(Some(Some(false))) => until = until.min(Instant::now() + timing.heartbeat() / 2),
            Ok(Some(None)) => {}
            Ok(None) | Err(_) => return false,
        }
    }
    true
}

/// What this member answers: whether it would give a vote, for all that it knows of a leader.
pub(crate) fn misses_leader(raft: &Raft, heard: &Heard, is_aside: bool) -> bool {
    let is_silent = heard.is_silent();
    let metrics = raft.server_metrics();
    let metrics = metrics.borrow();
    if metrics.current_leader != Some(metrics.id) {
        return !metrics.vote.is_committed() || is_silent;
    }
    is_aside || has_lost_quorum(since_quorum(raft), heard.lease())
}

/// A leader does not step down for want of followers in openraft; it must not be in the way of one that would have some.
fn has_lost_quorum(since_quorum: Option<Duration>, lease: Duration) -> bool {
    since_quorum.is_none_or(|since| since > lease)
}

/// How long ago the newest of what a quorum has acknowledged was said. `None`: a quorum has acknowledged nothing yet.
pub(crate) fn since_quorum(raft: &Raft) -> Option<Duration> {
    raft.data_metrics().borrow().millis_since_quorum_ack.map(Duration::from_millis)
}

#[cfg(test)]
mod tests {
    use futures_util::stream;

    use super::*;
    use crate::raft::testing::pass;

    /// Asks others of whom each answers after a time.
    async fn asked(answers: &[(u64, Option<bool>)], needed: usize) -> (bool, Duration) {
        let answers = answers.iter().map(|(after_ms, answer)| async {
            pass(ms(*after_ms)).await;
            *answer
        });
        let (asked_at, answers) = (Instant::now(), answers.collect::<FuturesUnordered<_>>());
        (is_missed(answers, needed, Timing::default()).await, asked_at.elapsed())
    }

    fn ms(milliseconds: u64) -> Duration {
        Duration::from_millis(milliseconds)
    }

    #[tokio::test(start_paused = true)]
    async fn a_majority_is_enough_and_the_rest_is_not_waited_for() {
        let (yes, no, away) = (Some(true), Some(false), None);
        assert_eq!(asked(&[(3, yes), (9_000, no)], 1).await, (true, ms(3)));
        assert_eq!(asked(&[(3, yes), (9_000, away), (5, yes), (1, no)], 2).await, (true, ms(5)));
        assert_eq!(asked(&[(3, away), (300, yes)], 1).await, (true, ms(300)), "still in time");
        assert_eq!(asked(&[(3, away), (7, away)], 1).await, (false, ms(7)));
        assert_eq!(asked(&[(3, no), (4, no)], 1).await, (false, ms(4)));
    }

    #[tokio::test(start_paused = true)]
    async fn whoever_does_not_answer_is_waited_for_briefly_once_one_says_no() {
        let (yes, no) = (Some(true), Some(false));
        assert_eq!(asked(&[(3, no), (9_000, yes)], 1).await, (false, ms(53)));
        assert_eq!(asked(&[(3, no), (50, yes)], 1).await, (true, ms(50)));
        assert_eq!(asked(&[(9_000, yes), (9_000, yes)], 1).await, (false, ms(500)));
    }

    #[tokio::test(start_paused = true)]
    async fn nobody_to_be_asked_is_nobody_who_misses_it() {
        assert!(!is_missed(stream::empty(), 1, Timing::default()).await);
    }

    #[test]
    fn a_leader_that_nobody_follows_is_in_nobodys_way() {
        let lost = |since_ms: Option<u64>| has_lost_quorum(since_ms.map(ms), ms(1_000));
        assert_eq!([Some(0), Some(1_000), Some(1_001), None].map(lost), [false, false, true, true]);
    }
}
