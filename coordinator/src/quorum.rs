//! Whether a quorum still follows this leader.
//!
//! A question to the quorum does not tell: openraft waits for its answers for a heartbeat, and members that are busy answer
//! later now and then, two questions in a row too, while they take entries all the same. To let two thousand agents go for
//! that, who then come back at once, makes busy members busier. So a leader has lost its quorum when it is not confirmed and
//! nothing that a quorum has acknowledged was said for a while either.

use std::time::Duration;

use tokio::time::sleep;

use crate::peers::desk::Desk;
use crate::raft::{Raft, since_quorum};

/// How often a leader asks its quorum: one heartbeat to each member.
const CONFIRM_PERIOD: Duration = Duration::from_secs(2);

/// How long a leader that was not confirmed waits before it asks again.
pub(crate) const CONFIRM_PAUSE: Duration = Duration::from_millis(250);

/// How long a quorum may be silent: less than whoever it follows instead needs for its agents.
const SILENCE_MAX: Duration = Duration::from_secs(3);

/// Ready when no quorum follows this leader.
pub(crate) async fn lost(raft: &Raft, desk: &Desk) {
    let mut pause = CONFIRM_PERIOD;
    loop {
        sleep(pause).await;
        let is_confirmed = desk.confirm().await.is_ok();
        if !is_confirmed && since_quorum(raft).is_none_or(|since| since >= SILENCE_MAX) {
            return;
        }
        pause = if is_confirmed { CONFIRM_PERIOD } else { CONFIRM_PAUSE };
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use tokio::time::{Instant, timeout};

    use super::*;
    use crate::clock::{Clock, new_request};
    use crate::peers::pair::Pair;
    use crate::raft::MemberNode;
    use crate::raft::testing::pass;
    use crate::state::{Body, Command};

    /// Longer than openraft waits for an answer.
    const LATE: Duration = Duration::from_millis(150);

    async fn leader(pair: &Pair) -> Desk {
        let members = BTreeMap::from([1, 2].map(|id| (id, MemberNode::default())));
        pair.one.initialize(members).await.unwrap();
        pair.one.trigger().elect().await.unwrap();
        pair.one.wait(None).current_leader(1, "the first leads").await.unwrap();
        Desk::new((pair.one.clone(), pair.haste.clone()), pair.cell.clone(), Clock::system(), None)
    }

    /// Never ends: an entry now and then.
    async fn write(desk: &Desk) -> ! {
        loop {
            let at = Clock::system().now();
            let nothing = Command::of_cluster(new_request(at), at, Body::SetNodeStates(Vec::new()));
            drop(desk.propose(nothing).await);
            pass(LATE).await;
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_quorum_that_takes_entries_follows_and_one_that_is_silent_is_lost() {
        let pair = Pair::new().await;
        let desk = leader(&pair).await;
        let is_lost_while_busy = async || {
            tokio::select! {
                lost = timeout(Duration::from_secs(60), lost(&pair.one, &desk)) => lost.is_ok(),
                never = write(&desk) => never,
            }
        };
        assert!(!is_lost_while_busy().await, "answers in time");

        pair.line.takes(LATE);
        assert!(!is_lost_while_busy().await, "answers that questions do not wait for");
        assert!(desk.confirm().await.is_err(), "questions wait for no such answer");

        pair.line.takes(Duration::from_secs(3_600));
        let cut_at = Instant::now();
        lost(&pair.one, &desk).await;
        let took = cut_at.elapsed();
        assert!(took >= SILENCE_MAX && took < SILENCE_MAX + Duration::from_secs(1), "{took:?}");
        pair.one.shutdown().await.unwrap();
        pair.other.shutdown().await.unwrap();
    }
}
