//! The fleet in one document: what can be counted of it, and what somebody should look at.
//!
//! It is one pass over machines, migrations and nodes under one lock, so that all numbers are of one revision: for 20,000
//! machines some milliseconds.

use std::collections::BTreeMap;

use novacron_protocol::api::{
    Attention, AttentionKind, MachineTotals, MigrationTotals, NodeTotals, Overview, QuotaUse,
    Severity,
};
use novacron_protocol::migration::MigrationStatus;
use novacron_protocol::node::{NodeCapacity, NodeState, Scheduling};
use novacron_protocol::project::Quota;
use novacron_protocol::vm::VmState;

use crate::state::Fleet;
use crate::state::binding::Reach;
use crate::state::node::Node;
use crate::state::placement::Allocation;
use crate::state::project::Project;
use crate::state::vm::Vm;

/// What is listed of what somebody should look at; all of it is counted.
pub const ATTENTION_MAX: usize = 100;

/// From how many hundredths on a quota is worth a look.
const QUOTA_WARNING_PERCENT: u128 = 80;

/// States of machines that are there.
const VM_STATES: [VmState; 10] = [
    VmState::Pending,
    VmState::Creating,
    VmState::Stopped,
    VmState::Starting,
    VmState::Running,
    VmState::Paused,
    VmState::Migrating,
    VmState::Stopping,
    VmState::Failed,
    VmState::Unknown,
];

/// What somebody sees.
#[derive(Debug, Clone, Default)]
pub struct Lens {
    /// Where machines are seen.
    pub machines: Reach,
    /// Where projects are seen with their quotas.
    pub projects: Reach,
    /// Whether nodes are seen.
    pub has_nodes: bool,
}

/// The fleet, as far as somebody sees it; without what it costs and what the coordinators say of themselves.
pub fn overview(fleet: &Fleet, lens: &Lens) -> Overview {
    let mut counting = Counting::default();
    let seen = |vm: &&Vm| lens.machines.covers_project(vm.project());
    fleet.vms().filter(seen).for_each(|vm| counting.add_vm(vm));
    let violations = fleet.violations_after(None).filter(|(vm, _)| seen(vm));
    violations.for_each(|(vm, _)| counting.look_at_machine(vm, AttentionKind::Residency));
    let quotas = quotas(fleet, lens);
    quotas.iter().for_each(|quota| counting.look_at(quota_attention(quota)));
    let nodes = lens.has_nodes.then(|| node_totals(fleet, &mut counting));
    let mut overview = Overview {
        revision: fleet.revision(),
        at: fleet.clock(),
        machines: counting.machines,
        migrations: migration_totals(fleet, &lens.machines),
        nodes,
        cost: None,
        quotas,
        attention: Vec::new(),
        attention_total: 0,
    };
    point_out(&mut overview, counting.attention);
    // Counted, but not listed: each kind is listed as far as there is room.
    overview.attention_total += counting.attention_left_out;
    overview
}

/// Adds to what somebody should look at.
pub fn point_out(overview: &mut Overview, more: impl IntoIterator<Item = Attention>) {
    let before = overview.attention.len();
    overview.attention.extend(more);
    overview.attention_total += (overview.attention.len() - before) as u64;
    // Stable: things of one kind stay in the order of the fleet.
    overview.attention.sort_by_key(|one| (one.severity, one.kind));
    overview.attention.truncate(ATTENTION_MAX);
}

/// What is counted in one pass.
struct Counting {
    machines: MachineTotals,
    attention: Vec<Attention>,
    attention_left_out: u64,
}

impl Default for Counting {
    fn default() -> Self {
        let by_state = BTreeMap::from(VM_STATES.map(|state| (state, 0)));
        let machines = MachineTotals { by_state, ..MachineTotals::default() };
        Self { machines, attention: Vec::new(), attention_left_out: 0 }
    }
}

impl Counting {
    fn add_vm(&mut self, vm: &Vm) {
        let state = vm.state();
        if state == VmState::Deleted {
            return;
        }
        let totals = &mut self.machines;
        totals.total += 1;
        *totals.by_state.entry(state).or_default() += 1;
        totals.cpus = totals.cpus.saturating_add(u64::from(vm.spec.cpus));
        totals.memory_bytes = totals.memory_bytes.saturating_add(vm.spec.memory_bytes);
        totals.disk_bytes = totals.disk_bytes.saturating_add(vm.spec.disk_bytes());
        let kind = match state {
            VmState::Failed => AttentionKind::MachineFailed,
            VmState::Unknown => AttentionKind::MachineUnknown,
            _ => return,
        };
        self.look_at_machine(vm, kind);
    }

    fn look_at_machine(&mut self, vm: &Vm, kind: AttentionKind) {
        // A node with many machines that is down must not hold the document up.
        if self.attention.len() >= 2 * ATTENTION_MAX {
            self.attention_left_out += 1;
            return;
        }
        let severity = match kind {
            AttentionKind::Residency => Severity::Warning,
            _ => Severity::Critical,
        };
        let detail = match kind {
            AttentionKind::Residency => {
                "a rule of residency does not allow it where it stands".to_owned()
            }
            AttentionKind::MachineUnknown => "its node is down; most likely it runs".to_owned(),
            _ if vm.reason.is_empty() => "it has failed".to_owned(),
            _ => vm.reason.clone(),
        };
        self.look_at(Attention { severity, kind, name: vm.spec.name.to_string(), detail });
    }

    fn look_at(&mut self, attention: Attention) {
        self.attention.push(attention);
    }
}

fn migration_totals(fleet: &Fleet, sees: &Reach) -> MigrationTotals {
    let mut totals = MigrationTotals::default();
    for migration in fleet.open_migrations().filter(|one| sees.covers_project(&one.project)) {
        match migration.status() {
            MigrationStatus::Queued => totals.queued += 1,
            _ => totals.in_progress += 1,
        }
    }
    totals
}

fn node_totals(fleet: &Fleet, counting: &mut Counting) -> NodeTotals {
    let states = [NodeState::Ready, NodeState::Suspect, NodeState::Down];
    let mut totals =
        NodeTotals { by_state: states.map(|state| (state, 0)).into(), ..NodeTotals::default() };
    let (mut capacity, mut allocated) = (Allocation::default(), Allocation::default());
    for node in fleet.nodes() {
        totals.total += 1;
        *totals.by_state.entry(node.state).or_default() += 1;
        totals.draining += u64::from(fleet.scheduling(&node.name) != Scheduling::Active);
        let NodeCapacity { memory_bytes, cpus, disk_bytes } = node.facts.capacity;
        capacity.add(Allocation { memory_bytes, cpus, disk_bytes });
        allocated.add(fleet.allocation(&node.name));
        counting.attention.extend(node_attention(node));
    }
    NodeTotals { capacity: capacity.into(), allocated: allocated.into(), ..totals }
}

fn node_attention(node: &Node) -> Option<Attention> {
    let (severity, kind, detail) = match node.state {
        NodeState::Ready => return None,
        NodeState::Suspect => {
            (Severity::Warning, AttentionKind::NodeSuspect, "its agent is late with its heartbeats")
        }
        NodeState::Down => {
            (Severity::Critical, AttentionKind::NodeDown, "its agent does not answer")
        }
    };
    Some(Attention { severity, kind, name: node.name.to_string(), detail: detail.to_owned() })
}

fn quotas(fleet: &Fleet, lens: &Lens) -> Vec<QuotaUse> {
    let projects = fleet.projects_after(None);
    let seen = projects.filter(|project| lens.projects.covers_project(&project.name));
    seen.flat_map(|project| project_quotas(fleet, project)).collect()
}

fn project_quotas(fleet: &Fleet, project: &Project) -> impl Iterator<Item = QuotaUse> {
    let usage = fleet.project_usage(&project.name);
    Quota::ALL.into_iter().filter_map(move |quota| {
        let (used, limit) = (usage.of(quota), project.quotas.of(quota)?);
        let is_near = u128::from(used) * 100 >= u128::from(limit) * QUOTA_WARNING_PERCENT;
        // A quota of nothing of which nothing is used worries nobody.
        (is_near && used > 0).then(|| QuotaUse {
            project: project.name.clone(),
            quota: quota.to_string(),
            used,
            limit,
        })
    })
}

fn quota_attention(quota: &QuotaUse) -> Attention {
    let QuotaUse { project, quota, used, limit } = quota;
    let severity = if used > limit { Severity::Critical } else { Severity::Warning };
    let detail = format!("{used} of {limit} {quota} are used");
    Attention { severity, kind: AttentionKind::Quota, name: project.to_string(), detail }
}

#[cfg(test)]
pub(crate) mod tests {
    use novacron_protocol::api::{NodeView, VmView};

    use super::*;
    use crate::state::testing::{Scene, spec};
    use crate::view::access::project_view;
    use crate::view::resource::{migration_view, node_view, vm_view};

    /// Whoever sees everything.
    fn everything() -> Lens {
        Lens { machines: Reach::everywhere(), projects: Reach::everywhere(), has_nodes: true }
    }

    /// Recomputes every number of the document from what the API shows of each thing.
    pub(crate) fn check(fleet: &Fleet) {
        let found = overview(fleet, &everything());
        let vms: Vec<VmView> = fleet.vms().map(|vm| vm_view(fleet, vm)).collect();
        let vms: Vec<_> = vms.iter().filter(|vm| vm.state != VmState::Deleted).collect();
        assert_eq!(found.machines.total, vms.len() as u64);
        assert_eq!(found.machines.by_state.len(), 10);
        for (state, count) in &found.machines.by_state {
            let those = vms.iter().filter(|vm| vm.state == *state).count();
            assert_eq!(*count, those as u64, "{state:?}");
        }
        assert_eq!(found.machines.cpus, vms.iter().map(|vm| u64::from(vm.cpus)).sum::<u64>());
        assert_eq!(found.machines.memory_bytes, vms.iter().map(|vm| vm.memory).sum::<u64>());
        let disks = vms.iter().flat_map(|vm| &vm.disks).map(|disk| disk.size_bytes);
        assert_eq!(found.machines.disk_bytes, disks.sum::<u64>());
        let troubled =
            vms.iter().filter(|vm| matches!(vm.state, VmState::Failed | VmState::Unknown));
        let mut attention = troubled.count() + fleet.violations();

        let migrations: Vec<_> = fleet.migrations().map(migration_view).collect();
        let with = |status| migrations.iter().filter(|one| one.status == status).count() as u64;
        let MigrationTotals { queued, in_progress } = found.migrations;
        assert_eq!(queued, with(MigrationStatus::Queued));
        assert_eq!(in_progress, with(MigrationStatus::InProgress));

        let nodes: Vec<NodeView> = fleet.nodes().map(|node| node_view(fleet, node)).collect();
        let totals = found.nodes.unwrap();
        assert_eq!(totals.total, nodes.len() as u64);
        for (state, count) in &totals.by_state {
            let those = nodes.iter().filter(|node| node.state == *state).count();
            assert_eq!(*count, those as u64, "{state:?}");
        }
        let sum = |of: fn(&NodeView) -> &NodeCapacity, part: fn(&NodeCapacity) -> u64| {
            nodes.iter().map(|node| part(of(node))).sum::<u64>()
        };
        for part in [
            (|capacity| capacity.memory_bytes) as fn(&NodeCapacity) -> u64,
            |capacity| capacity.disk_bytes,
            |capacity| u64::from(capacity.cpus),
        ] {
            assert_eq!(part(&totals.capacity), sum(|node| &node.capacity, part));
            assert_eq!(part(&totals.allocated), sum(|node| &node.allocated, part));
        }
        let is_active = |node: &&NodeView| node.scheduling == Scheduling::Active;
        assert_eq!(totals.draining, (nodes.len() - nodes.iter().filter(is_active).count()) as u64);
        attention += nodes.iter().filter(|node| node.state != NodeState::Ready).count();

        let projects = fleet.projects_after(None).map(|project| project_view(fleet, project));
        let mut near = 0;
        for project in projects {
            for quota in Quota::ALL {
                let Some(limit) = project.quotas.of(quota) else { continue };
                let used = project.usage.of(quota);
                let is_near = used > 0 && used as f64 >= limit as f64 * 0.8;
                near += usize::from(is_near);
                let expected = QuotaUse {
                    project: project.name.clone(),
                    quota: quota.to_string(),
                    used,
                    limit,
                };
                assert_eq!(found.quotas.contains(&expected), is_near, "{expected:?}");
            }
        }
        assert_eq!(found.quotas.len(), near);
        assert_eq!(found.attention_total, (attention + near) as u64);
        assert_eq!(found.attention.len(), (attention + near).min(ATTENTION_MAX));
        assert!(found.attention.is_sorted_by_key(|one| (one.severity, one.kind)));
    }

    #[test]
    fn what_many_things_come_from_is_listed_before_them() {
        let mut scene = Scene::new();
        // 32 fit each node's processors: more than are looked at one by one.
        let (nodes, machines) = (7, 7 * 32);
        for node in 0..nodes {
            let node = format!("node-{node}");
            scene.join(&node, 100);
            for number in 0..machines / nodes {
                let spec = spec(&format!("{node}-vm-{number}"));
                let body = scene.create_body(spec, Some(&node), false);
                scene.apply(body).unwrap();
            }
            scene.set_node(&node, NodeState::Down);
        }
        let shown = overview(&scene.fleet, &everything());
        assert_eq!(shown.machines.by_state[&VmState::Unknown], machines as u64);
        let total = (machines + nodes) as u64;
        assert_eq!((shown.attention_total, shown.attention.len()), (total, ATTENTION_MAX));
        assert_eq!(shown.attention[0].kind, AttentionKind::NodeDown);
        check(&scene.fleet);
    }

    #[test]
    fn who_sees_nothing_is_shown_nothing() {
        let mut scene = Scene::new();
        scene.join("node-01", 16);
        scene.running("web", "node-01");
        let shown = overview(&scene.fleet, &Lens::default());
        assert_eq!((shown.machines.total, shown.nodes, shown.quotas.len()), (0, None, 0));
        check(&scene.fleet);
    }
}
