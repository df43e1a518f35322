//! Which node a machine goes to: the one with the most free memory of those that fit; of equals, the first
//! name, so that the answer depends on the fleet only.

use std::cmp::Reverse;

use novacron_protocol::ids::NodeName;

use crate::state::Fleet;
use crate::state::command::Placement;
use crate::state::node::Node;
use crate::state::placement::{Misfit, Wanted};

/// Nodes that a reason names; the rest is counted.
const REASONS_MAX: usize = 5;

/// Why one node does not fit.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NodeMisfit {
    /// The node.
    pub node: NodeName,
    /// What is missing.
    pub misfit: Misfit,
}

/// The node for a machine, or why there is none.
pub fn place(fleet: &Fleet, machine: Wanted<'_>) -> Placement {
    let fitting = fleet.nodes().filter(|node| fleet.fit(node, machine).is_ok());
    let best = fitting.min_by_key(|node| Reverse(free_memory_bytes(fleet, node)));
    match best {
        Some(node) => Placement::Node(node.name.clone()),
        None => Placement::Nowhere { reason: explain_misfits(&reasons(fleet, machine)) },
    }
}

/// Why each node does not fit, in the order of their names; nodes that do are left out.
pub fn reasons(fleet: &Fleet, machine: Wanted<'_>) -> Vec<NodeMisfit> {
    let misfit = |node: &Node| {
        let misfit = fleet.fit(node, machine).err()?;
        Some(NodeMisfit { node: node.name.clone(), misfit })
    };
    fleet.nodes().filter_map(misfit).collect()
}

fn free_memory_bytes(fleet: &Fleet, node: &Node) -> u64 {
    let taken = fleet.allocation(&node.name).memory_bytes;
    node.facts.capacity.memory_bytes.saturating_sub(taken)
}

fn explain_misfits(reasons: &[NodeMisfit]) -> String {
    if reasons.is_empty() {
        return "no node has joined the cluster yet".to_owned();
    }
    explain(reasons.iter().map(|reason| (&reason.node, reason.misfit.to_string())).collect())
}

/// That no node fits, and why not each.
pub(super) fn explain(reasons: Vec<(&NodeName, String)>) -> String {
    if reasons.is_empty() {
        return "there is no other node".to_owned();
    }
    let named = reasons.iter().take(REASONS_MAX).map(|(node, reason)| format!("{node}: {reason}"));
    let named = named.collect::<Vec<_>>().join("; ");
    match reasons.len().saturating_sub(REASONS_MAX) {
        0 => format!("no node fits: {named}"),
        more => format!("no node fits: {named}; and {more} more"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::state::testing::{Scene, spec};
    use novacron_protocol::vm::VmSpec;

    fn place_plain(scene: &Scene, spec: &VmSpec) -> Placement {
        place(&scene.fleet, Wanted::without_network(spec))
    }

    #[test]
    fn the_most_free_memory_wins_and_ties_go_by_name() {
        let mut scene = Scene::new();
        scene.join("node-02", 8);
        scene.join("node-01", 8);
        scene.join("node-03", 4);
        let chosen = |scene: &Scene| place_plain(scene, &spec("web"));
        assert_eq!(chosen(&scene), Placement::Node("node-01".parse().unwrap()));
        scene.create("one");
        assert_eq!(chosen(&scene), Placement::Node("node-02".parse().unwrap()));
    }

    #[test]
    fn every_node_says_why_not() {
        let mut scene = Scene::new();
        assert_eq!(
            place_plain(&scene, &spec("web")),
            Placement::Nowhere { reason: "no node has joined the cluster yet".into() }
        );
        scene.join("node-01", 8);
        let mut picky = spec("web");
        picky.node_selector.insert("zone".into(), "a".into());
        let Placement::Nowhere { reason } = place_plain(&scene, &picky) else { panic!("placed") };
        assert_eq!(reason, "no node fits: node-01: it does not have the label `zone=a`");
        let mut large = spec("web");
        large.memory_bytes = 9 << 30;
        let Placement::Nowhere { reason } = place_plain(&scene, &large) else { panic!("placed") };
        assert_eq!(reason, "no node fits: node-01: 9 GiB of memory needed, 8 GiB free");
    }
}
