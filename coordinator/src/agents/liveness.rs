//! Whether nodes answer: the leader listens, and the fleet is told when its judgement changes.

use std::collections::BTreeMap;
use std::time::Duration;

use novacron_protocol::ids::NodeName;
use novacron_protocol::node::NodeState;
use tokio::time::{Instant, MissedTickBehavior, interval};
use tokio_util::sync::CancellationToken;

use super::Sessions;
use crate::clock::{Clock, new_request};
use crate::peers::desk::Desk;
use crate::state::{Body, Command};
use crate::view::View;

/// Until a silent node is suspect. An agent says something every two seconds, and is back at the next leader about 6 s
/// after one died: neither a lost heartbeat nor an election makes anybody suspect.
pub const SUSPECT_AFTER: Duration = Duration::from_secs(10);

/// Until a silent node is down: an agent that is restarted, or whose host's network is, has 20 s more to come back before
/// its machines are out of sight.
pub const DOWN_AFTER: Duration = Duration::from_secs(30);

/// How long a node may be silent. An agent says something every two seconds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Patience {
    /// Until it is suspect: five heartbeats.
    pub suspect_after: Duration,
    /// Until it is down: fifteen heartbeats.
    pub down_after: Duration,
}

impl Default for Patience {
    fn default() -> Self {
        Self { suspect_after: SUSPECT_AFTER, down_after: DOWN_AFTER }
    }
}

impl Patience {
    /// What a node is that has been silent this long. One that is down stays down until it is heard on a
    /// session: a leader that has just begun has heard nobody.
    pub fn judge(&self, present: NodeState, silent: Duration, is_connected: bool) -> NodeState {
        match () {
            () if silent >= self.down_after => NodeState::Down,
            () if silent >= self.suspect_after => present.max(NodeState::Suspect),
            () if is_connected => NodeState::Ready,
            () => present,
        }
    }
}

/// Judges every second until `stop`. Whoever was not heard yet counts as heard when the watch began.
pub async fn watch(
    sessions: Sessions,
    view: View,
    desk: Desk,
    clock: Clock,
    patience: Patience,
    stop: CancellationToken,
) {
    let began = Instant::now();
    let mut heard: BTreeMap<NodeName, Instant> = BTreeMap::new();
    let mut ticks = interval((patience.suspect_after / 6).max(Duration::from_millis(20)));
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        tokio::select! {
            biased;
            () = stop.cancelled() => return,
            _ = ticks.tick() => {}
        }
        let connected = sessions.all();
        for (node, session) in &connected {
            heard.insert(node.clone(), session.heard_at);
        }
        let is_connected = |node: &NodeName| connected.iter().any(|(name, _)| name == node);
        let changed: Vec<_> = view.local(|fleet| {
            heard.retain(|node, _| fleet.node(node).is_some());
            let judged = fleet.nodes().map(|node| {
                let silent = heard.get(&node.name).unwrap_or(&began).elapsed();
                let judged = patience.judge(node.state, silent, is_connected(&node.name));
                (node, judged)
            });
            let changed = judged.filter(|(node, judged)| node.state != *judged);
            changed.map(|(node, judged)| (node.name.clone(), judged)).collect()
        });
        if !changed.is_empty() {
            let at = clock.now();
            let command = Command::of_cluster(new_request(at), at, Body::SetNodeStates(changed));
            if let Err(declined) = desk.propose(command).await {
                tracing::info!(%declined, "the states of nodes could not be committed");
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use NodeState::{Down, Ready, Suspect};

    #[test]
    fn silence_makes_suspect_and_down_and_a_heartbeat_makes_ready() {
        let patience = Patience::default();
        let judge = |present, seconds, is_connected| {
            patience.judge(present, Duration::from_secs(seconds), is_connected)
        };
        assert_eq!(judge(Ready, 9, true), Ready);
        assert_eq!(judge(Ready, 10, true), Suspect);
        assert_eq!(judge(Suspect, 1, true), Ready);
        assert_eq!(judge(Suspect, 29, true), Suspect);
        assert_eq!(judge(Suspect, 30, true), Down);
        assert_eq!(judge(Down, 1, true), Ready);
        assert_eq!(judge(Down, 1, false), Down, "a new leader has not heard it yet");
        assert_eq!(judge(Down, 7, false), Down);
    }
}
