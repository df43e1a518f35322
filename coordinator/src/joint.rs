//! Ends changes of members that were left in the middle.
//!
//! Members change in two steps. Between them a majority of those before and one of those after have to agree to
//! everything, so one lost member can be one too many. openraft 0.9 takes the second step where the change was asked for:
//! a leader that goes away in between, or one that nobody waits for any more, leaves its cluster there. Whoever leads takes
//! the step then.

use std::collections::BTreeSet;
use std::time::Duration;

use tokio::sync::watch::error::RecvError;
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;

use crate::fitness::Fitness;
use crate::raft::words::{ChangeMembers, RaftServerMetrics};
use crate::raft::{MemberNode, Raft};

/// After how long a change is taken for left: whoever asks for one waits for 4 s.
const PATIENCE: Duration = Duration::from_secs(5);

type Metrics = RaftServerMetrics<u64, MemberNode>;

/// Ends them until `stop`: while this member leads, and when it has room for it.
pub async fn end(raft: Raft, fitness: Fitness, stop: CancellationToken) {
    tokio::select! {
        biased;
        () = stop.cancelled() => {}
        // Raft has stopped.
        _ = end_each(&raft, &fitness) => {}
    }
}

async fn end_each(raft: &Raft, fitness: &Fitness) -> Result<(), RecvError> {
    let mut metrics = raft.server_metrics();
    loop {
        let left = *metrics.wait_for(is_joint).await?.membership_config.log_id();
        let is_other = |metrics: &Metrics| *metrics.membership_config.log_id() != left;
        if let Ok(other) = timeout(PATIENCE, metrics.wait_for(is_other)).await {
            other?;
            continue;
        }
        if let Err(reason) = fitness.check_room() {
            tracing::warn!(%reason, "a change of members stays in the middle");
            continue;
        }
        // Nobody more: what is left is the second step.
        let nobody = ChangeMembers::AddVoterIds(BTreeSet::new());
        match timeout(PATIENCE, raft.change_membership(nobody, false)).await {
            Ok(Ok(_)) => {
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
    use std::collections::BTreeMap;

    use tokio::time::error::Elapsed;

    use super::*;
    use crate::peers::pair::Pair;

    /// Two members, and a change that nobody waits for.
    async fn left_in_the_middle() -> Pair {
        let pair = Pair::new().await;
        let one = &pair.one;
        one.initialize(BTreeMap::from([(1, MemberNode::default())])).await.unwrap();
        one.trigger().elect().await.unwrap();
        one.add_learner(2, MemberNode::default(), true).await.unwrap();
        let more = ChangeMembers::AddVoterIds(BTreeSet::from([2]));
        let mut metrics = one.server_metrics();
        let joint = tokio::select! {
            biased;
            joint = metrics.wait_for(is_joint) => joint.is_ok(),
            changed = one.change_membership(more, false) => panic!("{changed:?}"),
        };
        assert!(joint);
        pair
    }

    async fn until_uniform(raft: &Raft) -> Result<(), Elapsed> {
        let is_uniform = |metrics: &Metrics| {
            let voters: Vec<u64> = metrics.membership_config.membership().voter_ids().collect();
            !is_joint(metrics) && voters == [1, 2]
        };
        let mut metrics = raft.server_metrics();
        timeout(PATIENCE * 3, metrics.wait_for(is_uniform))
            .await
            .map(|metrics| drop(metrics.unwrap()))
    }

    #[tokio::test(start_paused = true)]
    async fn a_change_that_nobody_waits_for_is_ended_when_there_is_room() {
        let Pair { one, other, .. } = left_in_the_middle().await;
        let (stop, fitness) = (CancellationToken::new(), Fitness::default());
        fitness.note_room(0, 1 << 20);
        let ending = tokio::spawn(end(one.clone(), fitness.clone(), stop.clone()));
        until_uniform(&one).await.unwrap_err();
        fitness.note_room(2 << 20, 1 << 20);
        until_uniform(&one).await.unwrap();
        stop.cancel();
        ending.await.unwrap();
        one.shutdown().await.unwrap();
        other.shutdown().await.unwrap();
    }
}
