//! The question before an election: whether others have not heard the leader either.
//!
//! A member that alone does not hear a leader would end it: it raises its own term, refuses the leader for it from then
//! on, and the leader goes. So it first asks whether a majority could vote for it at all, and raises nothing until then.
//! (The pre-vote of Ongaro's dissertation, "Consensus: Bridging Theory and Practice", §9.6. Whose log is longer is left to
//! the election.)

use std::time::Duration;

use futures_util::StreamExt;
use futures_util::stream::FuturesUnordered;
use novacron_protocol::ids::MemberId;
use tokio::time::timeout;

use super::types::MemberNode;
use crate::peers::{Answer, Call, LeaderLink};
use crate::state::formats::PREVOTE;

/// Whether a majority, this member with it, has heard no leader for a lease, as far as they answer within `patience`.
///
/// Members of the release before cannot be asked: then nobody is.
pub(super) async fn is_leader_missed(leader: &LeaderLink, patience: Duration) -> bool {
    let voters = leader.voters();
    if voters.len() < 2 || leader.desk().formats() < PREVOTE {
        return true;
    }
    let own = leader.links().own();
    let others = voters.iter().filter(|(member, _)| *member != own);
    let mut asked: FuturesUnordered<_> =
        others.map(|(member, node)| misses_leader(leader, *member, node)).collect();
    let is_missed = async {
        let mut missing = 1;
        while let Some(misses) = asked.next().await {
            missing += usize::from(misses);
            if missing > voters.len() / 2 {
                return true;
            }
        }
        false
    };
    timeout(patience, is_missed).await.unwrap_or(false)
}

async fn misses_leader(leader: &LeaderLink, member: MemberId, node: &MemberNode) -> bool {
    let answer = leader.links().call(member, node, Call::MissesLeader).await;
    matches!(answer, Ok(Answer::MissesLeader(true)))
}
