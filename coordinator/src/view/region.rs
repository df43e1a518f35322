//! Regions, and machines that stand against a rule, as the API shows them.

use std::collections::BTreeMap;

use novacron_protocol::api::{RegionRoute, RegionView, ResidencyViolationView, RouteChoice};
use novacron_protocol::ids::{ProjectName, RegionCode};

use super::resource::links;
use crate::planner::route::{Candidate, candidates, route};
use crate::state::Fleet;
use crate::state::region::Region;
use crate::state::residency::Violation;
use crate::state::vm::Vm;

/// A region as the API shows it; `counts` is how many hosts stand in each.
pub fn region_view(
    fleet: &Fleet,
    region: &Region,
    counts: &BTreeMap<&RegionCode, u32>,
) -> RegionView {
    let code = &region.code;
    RegionView {
        region_code: code.clone(),
        region_name: region.name.clone(),
        compliance_certifications: region.certifications.clone(),
        data_residency_rules: region.rules.clone(),
        status: region.status,
        latencies_ms: fleet.latencies_from(code),
        nodes: counts.get(code).copied().unwrap_or(0),
        created_at: region.created_at,
        updated_at: region.updated_at,
        revision: region.revision,
        links: links(&[("self", format!("/regions/{code}"))]),
    }
}

/// Regions in the order of a route as the API shows them; how many of their nodes answer, for whoever may read nodes.
pub fn route_view(
    fleet: &Fleet,
    from: RegionCode,
    project: Option<ProjectName>,
    has_nodes: bool,
) -> RegionRoute {
    let found = route(candidates(fleet, &from, project.as_ref()));
    let regions: Vec<_> = found.into_iter().map(|one| route_choice(one, has_nodes)).collect();
    let chosen = regions.iter().find(|one| one.usable).map(|one| one.region.clone());
    RegionRoute { from, project, chosen, regions, revision: fleet.revision() }
}

fn route_choice(candidate: Candidate, has_nodes: bool) -> RouteChoice {
    let obstacle = candidate.obstacle();
    let Candidate { region, latency_ms, nodes, nodes_ready, .. } = candidate;
    let reason = obstacle.as_ref().map_or_else(
        || {
            let far = match latency_ms {
                Some(ms) => format!("{ms} ms away"),
                None => "nobody said how far away".to_owned(),
            };
            match has_nodes {
                true => format!("{far}, {nodes_ready} of {nodes} nodes take machines"),
                false => far,
            }
        },
        ToString::to_string,
    );
    let nodes_ready = has_nodes.then_some(nodes_ready);
    RouteChoice { region, usable: obstacle.is_none(), latency_ms, nodes, nodes_ready, reason }
}

/// A machine that stands against a rule as the API shows it.
pub fn violation_view(
    fleet: &Fleet,
    vm: &Vm,
    violation: &Violation,
) -> Option<ResidencyViolationView> {
    let node = fleet.node(vm.node.as_ref()?)?;
    Some(ResidencyViolationView {
        vm: vm.id,
        vm_name: vm.spec.name.clone(),
        project: vm.project().clone(),
        node: node.name.clone(),
        region: node.region.clone(),
        reason: fleet.rule_broken_by(vm)?.to_string(),
        since: violation.since,
        links: links(&[
            ("vm", format!("/vms/{}", vm.id)),
            ("project", format!("/projects/{}", vm.project())),
        ]),
    })
}
