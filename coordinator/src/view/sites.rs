//! Regions in the overview: how their nodes are, how many machines stand in them, and what these cost an hour.

use std::collections::BTreeMap;

use novacron_protocol::api::RegionTotals;
use novacron_protocol::ids::RegionCode;
use novacron_protocol::node::NodeState;
use novacron_protocol::region::RegionStatus;

use super::savings::PerHour;
use crate::state::node::Node;
use crate::state::region::Region;

/// Regions, and where nodes are in none, as far as they were counted.
#[derive(Debug, Default)]
pub struct Sites {
    all: BTreeMap<Option<RegionCode>, Site>,
}

#[derive(Debug)]
struct Site {
    status: Option<RegionStatus>,
    nodes: BTreeMap<NodeState, u64>,
    machines: u64,
    cost: PerHour,
}

impl Default for Site {
    fn default() -> Self {
        let states = [NodeState::Ready, NodeState::Suspect, NodeState::Down];
        let nodes = states.map(|state| (state, 0)).into();
        Self { status: None, nodes, machines: 0, cost: PerHour::default() }
    }
}

impl Sites {
    /// Counts a machine that stands there; `cost` is nothing where somebody may not know it.
    pub fn add_machine(&mut self, region: Option<&RegionCode>, cost: PerHour) {
        let site = self.site(region);
        site.machines += 1;
        site.cost.plus(cost);
    }

    /// Counts a node.
    pub fn add_node(&mut self, node: &Node) {
        *self.site(node.region.as_ref()).nodes.entry(node.state).or_default() += 1;
    }

    /// A region that there is, with or without nodes.
    pub fn add_region(&mut self, region: &Region) {
        self.site(Some(&region.code)).status = Some(region.status);
    }

    fn site(&mut self, region: Option<&RegionCode>) -> &mut Site {
        self.all.entry(region.cloned()).or_default()
    }

    /// By code, and what is in no region last. `has_costs` says whether somebody may know what anything costs.
    pub fn shown(self, has_costs: bool) -> Vec<RegionTotals> {
        let (none, some): (Vec<_>, Vec<_>) =
            self.all.into_iter().partition(|(region, _)| region.is_none());
        let show = |(region, site): (Option<RegionCode>, Site)| RegionTotals {
            region,
            status: site.status,
            nodes: site.nodes,
            machines: site.machines,
            micro_dollars_per_hour: has_costs.then(|| site.cost.micro_dollars(1)),
        };
        some.into_iter().chain(none).map(show).collect()
    }
}
