//! Wakes the sessions for whose nodes there are new effects: with thousands of agents, waking all of them at every change
//! would be most of a leader's work.

use std::collections::BTreeSet;

use novacron_protocol::ids::{EffectId, NodeName};
use tokio_util::sync::CancellationToken;

use super::sessions::Sessions;
use crate::state::Fleet;
use crate::view::View;

/// Until `stop`. A session that begins looks for itself.
pub async fn run(view: View, sessions: Sessions, stop: CancellationToken) {
    let mut applied = view.applied();
    let mut told = EffectId(0);
    loop {
        applied.mark_unchanged();
        let (nodes, last) = view.local(|fleet| new_effects(fleet, told));
        told = last;
        nodes.iter().for_each(|node| sessions.wake(node));
        tokio::select! {
            biased;
            () = stop.cancelled() => return,
            changed = applied.changed() => if changed.is_err() { return },
        }
    }
}

/// The nodes of the effects behind one, and the last of them. Ids only grow.
fn new_effects(fleet: &Fleet, told: EffectId) -> (BTreeSet<NodeName>, EffectId) {
    let mut last = told;
    let rows = fleet.outbox_after(told).inspect(|row| last = row.effect.id);
    let nodes = rows.map(|row| row.node.clone()).collect();
    (nodes, last)
}

#[cfg(test)]
mod tests {
    use novacron_protocol::node::NodeState;

    use super::*;
    use crate::state::testing::{Scene, name};

    #[test]
    fn each_effect_is_told_once_and_to_its_node_only() {
        let mut scene = Scene::new();
        scene.join("node-01", 8);
        scene.create("one");
        scene.join("node-02", 64);
        let (nodes, told) = new_effects(&scene.fleet, EffectId(0));
        assert_eq!(nodes, BTreeSet::from([name("node-01")]));
        assert_eq!(new_effects(&scene.fleet, told), (BTreeSet::new(), told));
        scene.set_node("node-01", NodeState::Down);
        scene.create("two");
        assert_eq!(new_effects(&scene.fleet, told).0, BTreeSet::from([name("node-02")]));
    }
}
