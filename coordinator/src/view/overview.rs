//! The fleet in one document: what can be counted of it, and what somebody should look at.
//!
//! It is one pass over machines, migrations, projects and nodes, in looks at so many rows each: between two of them the fleet
//! changes. A number is what was found when its rows were looked at, not before the revision that the document says.

use std::collections::BTreeMap;

use novacron_protocol::api::{
    AlertState, AlertTotals, Attention, AttentionKind, MachineTotals, MigrationTotals, NodeTotals,
    Overview, QuotaUse, Severity,
};
use novacron_protocol::ids::{MigrationId, NodeName, ProjectName, Revision, VmId};
use novacron_protocol::migration::MigrationStatus;
use novacron_protocol::node::{NodeCapacity, NodeState, Scheduling};
use novacron_protocol::project::Quota;
use novacron_protocol::time::Timestamp;
use novacron_protocol::vm::VmState;
use uuid::Uuid;

use crate::state::Fleet;
use crate::state::binding::Reach;
use crate::state::migration::Migration;
use crate::state::node::Node;
use crate::state::placement::Allocation;
use crate::state::project::Project;
use crate::state::residency::Violation;
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
    /// Where alerts are seen.
    pub alerts: Reach,
}

/// Rows of one look. With some 0.2 µs for each nobody who changes the fleet waits for a survey longer than half a
/// millisecond, however large the fleet is.
const LOOK_ROWS_MAX: usize = 2_048;

/// An overview that is being put together, one look after the other.
#[derive(Debug, Default)]
pub struct Survey {
    step: Step,
    began: Option<(Revision, Timestamp)>,
    counting: Counting,
    migrations: MigrationTotals,
    quotas: Vec<QuotaUse>,
    nodes: Option<Nodes>,
    alerts: AlertTotals,
}

/// Behind which row of which table to look next.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Step {
    Machines(VmId),
    Violations(Option<VmId>),
    Projects(Option<ProjectName>),
    Migrations(Option<MigrationId>),
    Nodes(Option<NodeName>),
    /// They are few, and looked at at once.
    Alerts,
    Done,
}

impl Default for Step {
    fn default() -> Self {
        // The first id of all is no machine's.
        Self::Machines(VmId(Uuid::nil()))
    }
}

/// Nodes as far as they were counted.
#[derive(Debug)]
struct Nodes {
    totals: NodeTotals,
    capacity: Allocation,
    allocated: Allocation,
}

/// Shows a table's rows to `show` until the look has seen enough: the key of the last one then, and none at the table's end.
fn pass<R, K>(
    left: &mut usize,
    rows: impl Iterator<Item = R>,
    key: impl Fn(&R) -> K,
    mut show: impl FnMut(R) -> usize,
) -> Option<K> {
    for row in rows {
        let at = key(&row);
        *left = left.saturating_sub(show(row));
        if *left == 0 {
            return Some(at);
        }
    }
    None
}

impl Survey {
    /// Looks at the next rows, as far as somebody sees them; whether that was all.
    pub fn look(&mut self, fleet: &Fleet, lens: &Lens) -> bool {
        self.began.get_or_insert_with(|| (fleet.revision(), fleet.clock()));
        let mut left = LOOK_ROWS_MAX;
        while left > 0 && self.step != Step::Done {
            self.step = self.next(fleet, lens, &mut left);
        }
        self.step == Step::Done
    }

    fn next(&mut self, fleet: &Fleet, lens: &Lens, left: &mut usize) -> Step {
        let sees = |vm: &Vm| lens.machines.covers_project(vm.project());
        match std::mem::take(&mut self.step) {
            Step::Machines(after) => {
                let show = |vm: &Vm| {
                    if sees(vm) {
                        self.counting.add_vm(vm);
                    }
                    1
                };
                let last = pass(left, fleet.vms_after(after), |vm| vm.id, show);
                last.map_or(Step::Violations(None), Step::Machines)
            }
            Step::Violations(after) => {
                let show = |(vm, _): (&Vm, &Violation)| {
                    if sees(vm) {
                        self.counting.look_at_machine(vm, AttentionKind::Residency);
                    }
                    1
                };
                let last = pass(left, fleet.violations_after(after), |(vm, _)| vm.id, show);
                last.map_or(Step::Projects(None), |last| Step::Violations(Some(last)))
            }
            Step::Projects(after) => {
                let show = |project: &Project| {
                    if lens.projects.covers_project(&project.name) {
                        self.add_project(fleet, project);
                    }
                    1
                };
                let rows = fleet.projects_after(after.as_ref());
                let last = pass(left, rows, |project| project.name.clone(), show);
                last.map_or(Step::Migrations(None), |last| Step::Projects(Some(last)))
            }
            Step::Migrations(after) => {
                let show = |one: &Migration| {
                    if lens.machines.covers_project(&one.project) {
                        self.add_migration(one);
                    }
                    1
                };
                let last = pass(left, fleet.migrations_after(after), |one| one.id, show);
                let nodes = if lens.has_nodes { Step::Nodes(None) } else { Step::Alerts };
                last.map_or(nodes, |last| Step::Migrations(Some(last)))
            }
            Step::Nodes(after) => {
                let nodes = self.nodes.get_or_insert_with(Nodes::default);
                // What is allocated is added up from the machines.
                let show = |node: &Node| nodes.add(fleet, node, &mut self.counting);
                let rows = fleet.nodes_after(after.as_ref());
                let last = pass(left, rows, |node| node.name.clone(), show);
                last.map_or(Step::Alerts, |last| Step::Nodes(Some(last)))
            }
            Step::Alerts => {
                self.alerts = firing(fleet, &lens.alerts);
                *left = 0;
                Step::Done
            }
            Step::Done => Step::Done,
        }
    }

    fn add_project(&mut self, fleet: &Fleet, project: &Project) {
        let before = self.quotas.len();
        self.quotas.extend(project_quotas(fleet, project));
        let near = self.quotas[before..].iter().map(quota_attention);
        self.counting.attention.extend(near);
    }

    fn add_migration(&mut self, migration: &Migration) {
        match migration.status() {
            MigrationStatus::Queued => self.migrations.queued += 1,
            MigrationStatus::InProgress => self.migrations.in_progress += 1,
            _ => {}
        }
    }

    /// What was found; without what it costs and what the coordinators say of themselves.
    pub fn into_overview(self) -> Overview {
        let (revision, at) = self.began.unwrap_or_default();
        let mut overview = Overview {
            revision,
            at,
            machines: self.counting.machines,
            migrations: self.migrations,
            nodes: self.nodes.map(|Nodes { totals, capacity, allocated }| NodeTotals {
                capacity: capacity.into(),
                allocated: allocated.into(),
                ..totals
            }),
            cost: None,
            quotas: self.quotas,
            alerts: self.alerts,
            attention: Vec::new(),
            attention_total: 0,
        };
        point_out(&mut overview, self.counting.attention);
        // Counted, but not listed: each kind is listed as far as there is room.
        overview.attention_total += self.counting.attention_left_out;
        overview
    }
}

impl Default for Nodes {
    fn default() -> Self {
        let states = [NodeState::Ready, NodeState::Suspect, NodeState::Down];
        let by_state = states.map(|state| (state, 0)).into();
        let totals = NodeTotals { by_state, ..NodeTotals::default() };
        Self { totals, capacity: Allocation::default(), allocated: Allocation::default() }
    }
}

impl Nodes {
    /// Counts a node; how many rows that was.
    fn add(&mut self, fleet: &Fleet, node: &Node, counting: &mut Counting) -> usize {
        let totals = &mut self.totals;
        totals.total += 1;
        *totals.by_state.entry(node.state).or_default() += 1;
        totals.draining += u64::from(fleet.scheduling(&node.name) != Scheduling::Active);
        let NodeCapacity { memory_bytes, cpus, disk_bytes } = node.facts.capacity;
        self.capacity.add(Allocation { memory_bytes, cpus, disk_bytes });
        self.allocated.add(fleet.allocation(&node.name));
        counting.attention.extend(node_attention(node));
        1 + fleet.machines_on(&node.name)
    }
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

/// What is counted of machines, and what was seen that somebody should look at.
#[derive(Debug)]
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
        self.attention.push(Attention { severity, kind, name: vm.spec.name.to_string(), detail });
    }
}

fn firing(fleet: &Fleet, sees: &Reach) -> AlertTotals {
    let mut totals = AlertTotals::default();
    let seen = fleet.open_alerts().filter(|alert| sees.covers(&alert.scope()));
    for alert in seen.filter(|alert| alert.stage.state() == AlertState::Firing) {
        *match alert.severity {
            Severity::Critical => &mut totals.critical,
            Severity::Warning => &mut totals.warning,
            Severity::Info => &mut totals.info,
        } += 1;
    }
    totals
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
    use std::cell::Cell;

    use novacron_protocol::api::{NodeView, VmView};
    use novacron_protocol::ids::RequestId;

    use super::*;
    use crate::state::command::{CreateVm, Placement};
    use crate::state::testing::{Scene, name, spec};
    use crate::state::{Body, Command};
    use crate::view::FleetCell;
    use crate::view::access::project_view;
    use crate::view::resource::{migration_view, node_view, vm_view};

    /// What somebody sees of a fleet that nobody changes.
    fn overview(fleet: &Fleet, lens: &Lens) -> Overview {
        let mut survey = Survey::default();
        while !survey.look(fleet, lens) {}
        survey.into_overview()
    }

    /// Whoever sees everything.
    fn everything() -> Lens {
        Lens {
            machines: Reach::everywhere(),
            projects: Reach::everywhere(),
            has_nodes: true,
            alerts: Reach::everywhere(),
        }
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

    fn large(nodes: usize, machines: usize) -> Fleet {
        let mut scene = Scene::new();
        for node in 0..nodes {
            scene.join(&format!("node-{node}"), 100);
        }
        for number in 0..machines {
            let node = name(&format!("node-{}", number % nodes));
            let create = CreateVm {
                vm: VmId(scene.id()),
                spec: spec(&format!("vm-{number}")),
                requested_node: Some(node.clone()),
                placement: Placement::Node(node),
                start: false,
            };
            let request = RequestId(scene.id());
            let command = Command::of_cluster(request, scene.now, Body::CreateVm(create));
            // Not by the scene, which looks at all rows after each.
            scene.fleet.apply(scene.fleet.revision().next(), &command).unwrap();
        }
        scene.fleet
    }

    /// Looks are counted, not timed: whoever changes a fleet waits for one of them.
    #[tokio::test]
    async fn a_large_fleet_is_changed_between_any_two_looks_of_a_survey() {
        let (nodes, machines) = (700, 20_000);
        let cell = FleetCell::new(large(nodes, machines), 0);
        let (mut survey, mut looks, lens) = (Survey::default(), 0, everything());
        let changes = Cell::new(0);
        let surveying = async {
            loop {
                looks += 1;
                if cell.look(|fleet| survey.look(fleet, &lens)) {
                    return;
                }
                tokio::task::yield_now().await;
            }
        };
        let changing = async {
            loop {
                cell.change(|_| changes.set(changes.get() + 1));
                tokio::task::yield_now().await;
            }
        };
        tokio::select! {
            biased;
            () = changing => {}
            () = surveying => {}
        }
        // Machines, and again where they are.
        assert!(looks >= 2 * machines / LOOK_ROWS_MAX, "{looks} looks");
        assert!(changes.get() >= looks, "{} changes, {looks} looks", changes.get());
        assert_eq!(survey.into_overview().machines.total, machines as u64);
        cell.look(check);
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
