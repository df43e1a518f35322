//! The fleet in one document: what can be counted of it, and what somebody should look at.
//!
//! It is one pass over machines, migrations, projects, nodes and regions, in looks at so many rows each: between two of them the fleet
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
use crate::view::resource::links;
use crate::view::savings::{PerHour, PriceList, Savings};
use crate::view::sites::Sites;

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
    /// Where it is seen what things cost.
    pub costs: Reach,
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
    sites: Sites,
    violations: u64,
    prices: PriceList,
    savings: Savings,
    has_costs: bool,
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
    /// They are few, and looked at at once; the next, too.
    Regions,
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
        self.has_costs = lens.costs.is_somewhere();
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
                    if !sees(vm) {
                        return 1;
                    }
                    self.counting.add_vm(vm);
                    self.add_machine(fleet, vm, lens)
                };
                let last = pass(left, fleet.vms_after(after), |vm| vm.id, show);
                last.map_or(Step::Violations(None), Step::Machines)
            }
            Step::Violations(after) => {
                let show = |(vm, _): (&Vm, &Violation)| {
                    if sees(vm) {
                        self.violations += 1;
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
                let show = |node: &Node| {
                    self.sites.add_node(node);
                    nodes.add(fleet, node, &mut self.counting)
                };
                let rows = fleet.nodes_after(after.as_ref());
                let last = pass(left, rows, |node| node.name.clone(), show);
                last.map_or(Step::Regions, |last| Step::Nodes(Some(last)))
            }
            Step::Regions => {
                fleet.regions_after(None).for_each(|region| self.sites.add_region(region));
                Step::Alerts
            }
            Step::Alerts => {
                self.alerts = firing(fleet, &lens.alerts);
                *left = 0;
                Step::Done
            }
            Step::Done => Step::Done,
        }
    }

    /// Looks where a machine stands, what it costs, and what could be saved; how many rows that was.
    fn add_machine(&mut self, fleet: &Fleet, vm: &Vm, lens: &Lens) -> usize {
        if vm.state() == VmState::Deleted {
            return 1;
        }
        let mut cost = PerHour::default();
        if lens.costs.covers_project(vm.project()) {
            cost = self.prices.of_machine(fleet, vm);
            self.savings.look_at(fleet, vm, &mut self.prices);
        }
        if vm.node.is_some() {
            self.sites.add_machine(fleet.region_of_vm(vm), cost);
        }
        2 + fleet.snapshots_of(vm.id).count()
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
        let has_nodes = self.nodes.is_some();
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
            regions: has_nodes.then(|| self.sites.shown(self.has_costs)),
            violations: self.violations,
            cost: None,
            savings: self.savings.shown(),
            quotas: self.quotas,
            alerts: Some(self.alerts),
            attention: Vec::new(),
            attention_total: 0,
            links: links(&[("violations", "/residency/violations".to_owned())]),
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
pub(crate) mod tests;
