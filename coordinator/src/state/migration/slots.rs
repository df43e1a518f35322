//! Who may begin: a migration takes a slot of its source and one of its target.
//!
//! The queue is in the order of acceptance. A migration whose nodes are not both free lets later ones pass, unless they
//! would take the slot that it waits for: the first that waits at a node keeps one of the node's slots from all that
//! were accepted later. So nobody waits for ever, and a node leaves at most one slot unused meanwhile.

use std::collections::{BTreeMap, BTreeSet};

use novacron_protocol::ids::NodeName;
use novacron_protocol::node::NodeState;

use crate::state::fleet::Fleet;

/// The slots of all nodes while the queue is gone through, oldest first.
pub(super) struct Slots {
    limit: u32,
    ready: BTreeSet<NodeName>,
    taken: BTreeMap<NodeName, u32>,
    claimed: BTreeSet<NodeName>,
}

impl Slots {
    pub(super) fn of(fleet: &Fleet) -> Self {
        let ready = fleet.nodes().filter(|node| node.state == NodeState::Ready);
        let mut slots = Self {
            limit: fleet.settings().migrations_per_node,
            ready: ready.map(|node| node.name.clone()).collect(),
            taken: BTreeMap::new(),
            claimed: BTreeSet::new(),
        };
        for migration in fleet.open_migrations().filter(|migration| migration.step.is_at_work()) {
            slots.take([&migration.source, &migration.target]);
        }
        slots
    }

    /// Whether the next migration of the queue may begin. If it has to wait for a slot, it claims it; one whose nodes
    /// do not both answer waits for something else, and holds nobody up.
    pub(super) fn admit(&mut self, nodes: [&NodeName; 2]) -> bool {
        if !nodes.iter().all(|node| self.ready.contains(*node)) {
            return false;
        }
        let is_free = nodes.iter().all(|node| self.is_free(node));
        if !is_free {
            self.claimed.extend(nodes.into_iter().cloned());
        }
        is_free
    }

    /// A migration began.
    pub(super) fn take(&mut self, nodes: [&NodeName; 2]) {
        for node in nodes {
            *self.taken.entry(node.clone()).or_default() += 1;
        }
    }

    fn is_free(&self, node: &NodeName) -> bool {
        let taken = self.taken.get(node).copied().unwrap_or(0);
        taken + u32::from(self.claimed.contains(node)) < self.limit
    }
}
