//! Calls of entries that outlive openraft's patience.
//!
//! openraft 0.9 gives a call up after a heartbeat and makes it again from the beginning, and says nothing else to the
//! follower meanwhile: what a link does not carry within a heartbeat would never arrive, and after some heartbeats the
//! follower would call elections. So a call with many bytes, and the second one for the same entries, is a task of its
//! own, which goes on when it is given up and whose answer serves the next try. Each further try says the same without the
//! entries, as a sign of life.
//!
//! To Raft this is a slow network: the answer is to the same leader, of the same term, about the same entries.

use openraft::raft::{AppendEntriesRequest, AppendEntriesResponse};
use openraft::{EntryPayload, LogId, Vote};
use tokio_util::task::AbortOnDropHandle;

use super::network::Way;
use super::types::TypeConfig;
use crate::peers::{Answer, Call, PeerError};

type Append = AppendEntriesRequest<TypeConfig>;

/// Bytes of commands from which on a call is one from the beginning: a link of 21 Mbit/s carries less within the usual
/// heartbeat.
const BYTES_MIN: usize = 256 << 10;

/// Where in which leader's log entries go. A leader only appends, so of two calls for one place one begins the other.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Stretch {
    vote: Vote<u64>,
    previous: Option<LogId<u64>>,
}

impl Stretch {
    pub(super) fn of(request: &Append) -> Self {
        Self { vote: request.vote, previous: request.prev_log_id }
    }
}

/// A call that is under way. Dropped, nobody waits for it any more.
#[derive(Debug)]
pub(super) struct Lengthy {
    way: Way,
    last: Option<LogId<u64>>,
    answer: AbortOnDropHandle<Result<Answer, PeerError>>,
}

impl Lengthy {
    /// Whether a call carries so much.
    pub(super) fn is(request: &Append) -> bool {
        let bytes = request.entries.iter().map(|entry| match &entry.payload {
            EntryPayload::Normal(proposal) => proposal.length_bytes(),
            EntryPayload::Blank | EntryPayload::Membership(_) => 0,
        });
        bytes.sum::<usize>() >= BYTES_MIN
    }

    pub(super) fn begin(way: Way, request: Append) -> Self {
        let last = last(&request);
        let call = {
            let way = way.clone();
            async move { way.call(Call::Append(request)).await }
        };
        let answer = AbortOnDropHandle::new(tokio::spawn(call));
        Self { way, last, answer }
    }

    /// Waits for the answer. Not to be called again when it has come.
    ///
    /// # Errors
    /// [`PeerError`].
    pub(super) async fn answer(&mut self) -> Result<Answer, PeerError> {
        (&mut self.answer).await.map_err(|_| PeerError::ShuttingDown)?
    }

    /// Waits for the answer as one to a further try for the same [`Stretch`].
    ///
    /// # Errors
    /// [`PeerError`].
    pub(super) async fn answer_to(&mut self, request: Append) -> Result<Answer, PeerError> {
        let asked = last(&request);
        let sign = refusal(self.way.clone(), Append { entries: Vec::new(), ..request });
        let answer = tokio::select! {
            biased;
            answer = self.answer() => answer?,
            refused = sign => return Ok(refused),
        };
        Ok(match answer {
            Answer::Append(Ok(AppendEntriesResponse::Success)) if self.last < asked => {
                Answer::Append(Ok(AppendEntriesResponse::PartialSuccess(self.last)))
            }
            answer => answer,
        })
    }
}

/// The last entry that a follower has when it has taken a request.
fn last(request: &Append) -> Option<LogId<u64>> {
    request.entries.last().map(|entry| entry.log_id).or(request.prev_log_id)
}

/// Says something to a follower; ready only if that refuses it, since it will refuse the entries as well.
async fn refusal(way: Way, sign: Append) -> Answer {
    match way.call(Call::Append(sign)).await {
        Ok(Answer::Append(Ok(AppendEntriesResponse::Success))) | Err(_) => {
            std::future::pending().await
        }
        Ok(refused) => refused,
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::raft::testing::{Leader, PATIENCE, commit, large, log_id, pass};

    type Said = AppendEntriesResponse<u64>;

    /// A leader whose calls with an entry of 1 MiB take half a second, and that entry.
    async fn slow() -> (Leader, Append) {
        let leader = Leader::new().await;
        leader.follower.is_behind(2 << 20);
        (leader, Append { entries: vec![large(6, 1 << 20)], ..commit(5, 5) })
    }

    #[tokio::test(start_paused = true)]
    async fn what_a_link_carries_slowly_arrives_while_signs_of_life_go_on() {
        let (mut leader, request) = slow().await;
        for _ in 0..3 {
            assert_eq!(leader.ask(request.clone()).await, None);
        }
        assert_eq!(leader.ask(request.clone()).await, Some(Said::Success));
        let sign = (0, Some(5));
        assert_eq!(leader.follower.asked(), [(1, Some(5)), sign, sign, sign], "sent once");
        // It is over: the same again is another call.
        assert_eq!(leader.ask(request).await, None);
        assert_eq!(leader.follower.asked(), [(1, Some(5))]);
    }

    #[tokio::test(start_paused = true)]
    async fn a_further_try_with_more_entries_is_served_in_part() {
        let (mut leader, request) = slow().await;
        assert_eq!(leader.ask(request.clone()).await, None);
        let mut more = request;
        more.entries.push(large(7, 10));
        for _ in 0..2 {
            assert_eq!(leader.ask(more.clone()).await, None);
        }
        let part = Said::PartialSuccess(Some(log_id(6)));
        assert_eq!(leader.ask(more).await, Some(part));
    }

    #[tokio::test(start_paused = true)]
    async fn a_heartbeat_is_made_and_leaves_it_alone() {
        let (mut leader, request) = slow().await;
        assert_eq!(leader.ask(request.clone()).await, None);
        assert_eq!(leader.ask(commit(5, 5)).await, Some(Said::Success));
        pass(PATIENCE * 3).await;
        assert_eq!(leader.ask(request).await, Some(Said::Success));
        assert_eq!(leader.follower.asked()[..2], [(1, Some(5)), (0, Some(5))]);
    }

    #[tokio::test(start_paused = true)]
    async fn another_call_ends_it() {
        let (mut leader, request) = slow().await;
        let small = Append { entries: vec![large(6, 10)], ..request.clone() };
        let another = [
            Append { vote: Vote::new_committed(4, 1), ..small.clone() },
            Append { prev_log_id: Some(log_id(4)), ..small.clone() },
        ];
        for another in another {
            assert_eq!(leader.ask(request.clone()).await, None);
            assert_eq!(leader.ask(another).await, Some(Said::Success));
            pass(PATIENCE * 4).await;
            assert_eq!(leader.follower.answered(), 1, "the other one only");
        }
        // What is known of the follower is used again.
        assert_eq!(leader.ask(small).await, Some(Said::Success));
        leader.follower.asked();
        assert_eq!(leader.ask(commit(6, 6)).await, Some(Said::Success));
        assert_eq!(leader.follower.asked(), [], "told later");
    }

    #[tokio::test(start_paused = true)]
    async fn what_was_given_up_once_goes_on_the_second_time_however_little_it_is() {
        let (mut leader, _) = slow().await;
        leader.follower.is_behind(100 << 10);
        let request = Append { entries: vec![large(6, 30 << 10)], ..commit(5, 5) };
        for _ in 0..3 {
            assert_eq!(leader.ask(request.clone()).await, None);
        }
        assert_eq!(leader.ask(request).await, Some(Said::Success));
        let sign = (0, Some(5));
        assert_eq!(leader.follower.asked(), [(1, Some(5)), (1, Some(5)), sign, sign]);
    }

    #[tokio::test(start_paused = true)]
    async fn whoever_is_refused_hears_it_at_once() {
        let (mut leader, request) = slow().await;
        assert_eq!(leader.ask(request.clone()).await, None);
        let vote = Vote::new(9, 3);
        leader.follower.votes(vote);
        let asked_at = tokio::time::Instant::now();
        assert_eq!(leader.ask(request).await, Some(Said::HigherVote(vote)));
        assert!(asked_at.elapsed() < Duration::from_millis(10));
    }

    #[tokio::test(start_paused = true)]
    async fn what_breaks_off_is_made_anew() {
        let (mut leader, request) = slow().await;
        leader.follower.goes_away();
        for _ in 0..5 {
            assert_eq!(leader.ask(request.clone()).await, None);
        }
        let sent = leader.follower.asked();
        assert_eq!(sent.iter().filter(|(entries, _)| *entries == 1).count(), 2);
    }
}
