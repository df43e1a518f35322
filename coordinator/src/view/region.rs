//! Regions, and machines that stand against a rule, as the API shows them.

use std::collections::BTreeMap;

use novacron_protocol::api::{RegionView, ResidencyViolationView};
use novacron_protocol::ids::RegionCode;

use super::resource::links;
use crate::state::Fleet;
use crate::state::region::Region;
use crate::state::residency::Violation;
use crate::state::vm::Vm;

/// A region as the API shows it; `counts` is how many hosts stand in each.
pub fn region_view(region: &Region, counts: &BTreeMap<&RegionCode, u32>) -> RegionView {
    let code = &region.code;
    RegionView {
        code: code.clone(),
        name: region.name.clone(),
        compliance_certifications: region.certifications.clone(),
        residency_rules: region.rules.clone(),
        status: region.status,
        nodes: counts.get(code).copied().unwrap_or(0),
        created_at: region.created_at,
        updated_at: region.updated_at,
        revision: region.revision,
        links: links(&[("self", format!("/regions/{code}"))]),
    }
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
