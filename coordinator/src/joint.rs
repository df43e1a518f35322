//! Ends changes of members that were left in the middle.
//!
//! Members change in two steps. Between them a majority of those before and one of those after have to agree to
//! everything, so one lost member can be one too many. openraft 0.9 takes the second step where the change was asked for:
//! a leader that goes away in between, or one that nobody waits for any more, leaves its cluster there. Whoever leads takes
//! the step then.

use std::time::Duration;

use tokio::sync::watch::error::RecvError;
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;

use crate::peers::desk::Desk;
use crate::raft::words::RaftServerMetrics;
use crate::raft::{MemberNode, Raft};

/// After how long a change is taken for left: whoever asks for one waits for 4 s.
const PATIENCE: Duration = Duration::from_secs(5);

type Metrics = RaftServerMetrics<u64, MemberNode>;

/// Ends them until `stop`: while this member leads, and when it has room for it.
pub async fn end(raft: Raft, desk: Desk, stop: CancellationToken) {
    tokio::select! {
        biased;
        () = stop.cancelled() => {}
        // Raft has stopped.
        _ = end_each(&raft, &desk) => {}
    }
}

async fn end_each(raft: &Raft, desk: &Desk) -> Result<(), RecvError> {
    let mut metrics = raft.server_metrics();
    loop {
        let left = *metrics.wait_for(is_joint).await?.membership_config.log_id();
        let is_other = |metrics: &Metrics| *metrics.membership_config.log_id() != left;
        if let Ok(other) = timeout(PATIENCE, metrics.wait_for(is_other)).await {
            other?;
            continue;
        }
        if let Err(reason) = desk.fitness().check_room() {
            tracing::warn!(%reason, "a change of members stays in the middle");
            continue;
        }
        match timeout(PATIENCE, desk.end_change()).await {
            Ok(Ok(())) => {
                tracing::info!("a change of members that was left in the middle has ended")
            }
            Ok(Err(error)) => tracing::warn!(%error, "a change of members stays in the middle"),
            Err(_) => tracing::warn!("a change of members stays in the middle: no quorum answers"),
        }
    }
}

fn is_joint(metrics: &Metrics) -> bool {
    metrics.membership_config.membership().get_joint_config().len() > 1
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use novacron_protocol::ids::MemberId;
    use tokio::time::error::Elapsed;

    use super::*;
    use crate::peers::pair::Pair;
    use crate::raft::words::{ChangeMembers, RaftMetrics};

    /// A change is begun, and nobody waits for it any more.
    async fn leave_in_the_middle(raft: &Raft, change: ChangeMembers<u64, MemberNode>) {
        let mut metrics = raft.server_metrics();
        tokio::select! {
            biased;
            joint = metrics.wait_for(is_joint) => drop(joint.unwrap()),
            changed = raft.change_membership(change, false) => panic!("{changed:?}"),
        }
    }

    async fn until_voters(raft: &Raft, wanted: &[u64]) -> Result<(), Elapsed> {
        let is_uniform = |metrics: &RaftMetrics<u64, MemberNode>| {
            let membership = &metrics.membership_config;
            let voters: Vec<u64> = membership.membership().voter_ids().collect();
            let is_uniform = membership.membership().get_joint_config().len() == 1;
            // Another change can be begun.
            is_uniform && voters == wanted && *membership.log_id() <= metrics.last_applied
        };
        let mut metrics = raft.metrics();
        timeout(PATIENCE * 3, metrics.wait_for(is_uniform))
            .await
            .map(|metrics| drop(metrics.unwrap()))
    }

    #[tokio::test(start_paused = true)]
    async fn a_change_that_nobody_waits_for_is_ended_when_there_is_room() {
        let pair = Pair::new().await;
        let (desk, one) = (pair.desk().await, &pair.one);
        one.add_learner(2, MemberNode::default(), true).await.unwrap();
        leave_in_the_middle(one, ChangeMembers::AddVoterIds(BTreeSet::from([2]))).await;
        let stop = CancellationToken::new();
        desk.fitness().note_room(0, 1 << 20);
        let ending = tokio::spawn(end(one.clone(), desk.clone(), stop.clone()));
        until_voters(one, &[1, 2]).await.unwrap_err();
        desk.fitness().note_room(2 << 20, 1 << 20);
        until_voters(one, &[1, 2]).await.unwrap();

        leave_in_the_middle(one, ChangeMembers::RemoveVoters(BTreeSet::from([2]))).await;
        until_voters(one, &[1]).await.unwrap();
        let has_left =
            |_: &_| pair.cell.look(|fleet| fleet.member(MemberId(2)).unwrap().has_left());
        let mut metrics = one.metrics();
        let noted = timeout(PATIENCE, metrics.wait_for(has_left)).await;
        drop(noted.expect("it is noted that it left").unwrap());
        stop.cancel();
        ending.await.unwrap();
        one.shutdown().await.unwrap();
        pair.other.shutdown().await.unwrap();
    }
}
