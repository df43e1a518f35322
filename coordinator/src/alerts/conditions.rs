//! What holds. A function of what the leader knows at a moment, without memory.

use std::collections::{BTreeMap, BTreeSet};

use novacron_protocol::alert::{AlertKey, AlertObject, Condition};
use novacron_protocol::api::{ClusterStatus, Severity};
use novacron_protocol::ids::ProjectName;
use novacron_protocol::migration::MigrationStatus;
use novacron_protocol::node::NodeState;
use novacron_protocol::project::Quota;
use novacron_protocol::time::Timestamp;

use super::gathering::{Gathering, One};
use super::{members, money};
use crate::state::Fleet;
use crate::state::migration::Migration;
use crate::state::node::Node;
use crate::state::project::Project;

/// Conditions that have an alert: the worst of them. The others are counted in one more.
pub const CONDITIONS_MAX: usize = 1_000;

/// From how many hundredths on a quota or a budget is nearly used up.
pub(super) const NEARLY_PERCENT: u128 = 80;

/// For how long a failed migration is something to look at: a night and the day after it.
const MIGRATION_FAILED_MS: u64 = DAY_MS;

/// A day.
pub const DAY_MS: u64 = 24 * 3_600 * 1_000;

/// Migrations that are looked at because they ended: the newest.
const MIGRATIONS_ENDED_LOOKED_AT: usize = 2_048;

/// After what silence a migration that is under way stands still. Its source says every second how far it is.
const MIGRATION_SILENT_MS: u64 = 10 * 60 * 1_000;

/// What the leader knows.
#[derive(Debug, Clone, Copy)]
pub struct Outlook<'a> {
    /// The fleet.
    pub fleet: &'a Fleet,
    /// The leader's clock.
    pub now: Timestamp,
    /// What the coordinators said of themselves last; `None` if that is not known.
    pub members: Option<&'a ClusterStatus>,
    /// What projects with budgets cost this month, in micro-dollars; `None` if that is not known.
    pub costs: Option<&'a BTreeMap<ProjectName, i64>>,
    /// After how many milliseconds without one a backup is overdue; `None`: never.
    pub backup_overdue_ms: Option<u64>,
}

/// What is wrong with something.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Finding {
    /// How bad it is.
    pub severity: Severity,
    /// In one line, for a person.
    pub summary: String,
}

/// What holds.
#[derive(Debug, Default)]
pub struct Findings {
    /// What has an alert of its own, by what that is known by.
    pub alerts: BTreeMap<AlertKey, Finding>,
    /// What holds too, and is told by one alert together with others.
    pub gathered: BTreeSet<AlertKey>,
}

impl Findings {
    pub(super) fn insert(&mut self, key: AlertKey, finding: Finding) {
        self.alerts.insert(key, finding);
    }

    pub(super) fn extend(&mut self, found: impl Iterator<Item = (AlertKey, Finding)>) {
        self.alerts.extend(found);
    }

    pub(super) fn gather(&mut self, keys: impl Iterator<Item = AlertKey>) {
        self.gathered.extend(keys);
    }
}

impl Outlook<'_> {
    /// Whether it can be seen if a condition holds. What cannot be seen is not over.
    pub fn sees(&self, condition: Condition) -> bool {
        match condition {
            Condition::MemberUnreachable
            | Condition::MemberUnfit
            | Condition::MemberBehind
            | Condition::MemberDiskLow
            | Condition::NoSpareMember => self.members.is_some(),
            Condition::Budget => self.costs.is_some(),
            _ => true,
        }
    }
}

/// Everything that holds, with at most [`CONDITIONS_MAX`] alerts.
pub fn conditions(outlook: &Outlook<'_>) -> Findings {
    let fleet = outlook.fleet;
    let mut found = Findings::default();
    nodes(fleet, &mut found);
    machines(fleet, &mut found);
    violations(fleet, &mut found);
    migrations(outlook, &mut found);
    fleet.projects_after(None).for_each(|project| quotas(fleet, project, &mut found));
    outlook.members.into_iter().for_each(|status| members::look(status, &mut found));
    money::look(outlook, &mut found);
    backups(outlook, &mut found);
    bounded(found)
}

/// Of more than have room the worst stay.
fn bounded(mut found: Findings) -> Findings {
    let alerts = &mut found.alerts;
    if alerts.len() <= CONDITIONS_MAX {
        return found;
    }
    let mut order: Vec<_> = alerts.iter().map(|(key, one)| (one.severity, key.clone())).collect();
    order.sort_unstable();
    // One place is for what says so.
    let left_out = order.split_off(CONDITIONS_MAX - 1);
    left_out.iter().for_each(|(_, key)| drop(alerts.remove(key)));
    let severity = left_out.first().map_or(Severity::Warning, |(severity, _)| *severity);
    let summary = format!("{} more things are wrong than have an alert each", left_out.len());
    let key = AlertKey::of(Condition::MoreConditions, AlertObject::Cluster);
    found.insert(key, Finding { severity, summary });
    found.gather(left_out.into_iter().map(|(_, key)| key));
    found
}

/// Hosts, gathered by region.
fn nodes(fleet: &Fleet, found: &mut Findings) {
    let mut gathering = Gathering::of(Condition::NodesUnreachable, "hosts do not answer");
    for node in fleet.nodes() {
        let Some(finding) = silent_node(node) else { continue };
        let many = node.region.clone().map_or(AlertObject::Cluster, AlertObject::Region);
        let (condition, object) =
            (Condition::NodeUnreachable, AlertObject::Node(node.name.clone()));
        gathering.add(many, One { condition, object, finding });
    }
    gathering.into_findings(found);
}

fn silent_node(node: &Node) -> Option<Finding> {
    let (severity, what) = match node.state {
        NodeState::Ready => return None,
        NodeState::Suspect => (Severity::Warning, "is late with its heartbeats"),
        NodeState::Down => {
            (Severity::Critical, "does not answer; how its machines are is not known")
        }
    };
    Some(Finding { severity, summary: format!("host {} {what}", node.name) })
}

fn machines(fleet: &Fleet, found: &mut Findings) {
    let mut gathering = Gathering::of(Condition::VmsFailed, "machines have failed");
    for vm in fleet.failed_vms() {
        let reason = if vm.reason.is_empty() { "" } else { ": " };
        let summary = format!("machine {} has failed{reason}{}", vm.spec.name, vm.reason);
        let finding = Finding { severity: Severity::Critical, summary };
        let (condition, object) = (Condition::VmFailed, AlertObject::Vm(vm.id));
        let many = AlertObject::Project(vm.project().clone());
        gathering.add(many, One { condition, object, finding });
    }
    gathering.into_findings(found);
}

fn violations(fleet: &Fleet, found: &mut Findings) {
    let what = "machines stand where a rule of residency does not allow it";
    let mut gathering = Gathering::of(Condition::ResidencyViolations, what);
    for (vm, _) in fleet.violations_after(None) {
        let summary =
            format!("machine {} stands where a rule of residency does not allow it", vm.spec.name);
        let finding = Finding { severity: Severity::Warning, summary };
        let (condition, object) = (Condition::ResidencyViolation, AlertObject::Vm(vm.id));
        let many = AlertObject::Project(vm.project().clone());
        gathering.add(many, One { condition, object, finding });
    }
    gathering.into_findings(found);
}

fn migrations(outlook: &Outlook<'_>, found: &mut Findings) {
    let what = "migrations failed in the last day";
    let mut gathering = Gathering::of(Condition::MigrationsFailed, what);
    let ended = outlook.fleet.ended_migrations().take(MIGRATIONS_ENDED_LOOKED_AT);
    let is_new = |one: &&Migration| {
        one.ended_at.is_some_and(|at| outlook.now.since_ms(at) <= MIGRATION_FAILED_MS)
    };
    let failed = ended.take_while(is_new).filter(|one| one.status() == MigrationStatus::Failed);
    for migration in failed {
        let Migration { vm_name, source, target, reason, .. } = migration;
        let summary = format!(
            "the migration of machine {vm_name} from {source} to {target} failed: {reason}"
        );
        let finding = Finding { severity: Severity::Warning, summary };
        let (condition, object) =
            (Condition::MigrationFailed, AlertObject::Migration(migration.id));
        let many = AlertObject::Project(migration.project.clone());
        gathering.add(many, One { condition, object, finding });
    }
    gathering.into_findings(found);
    stalled(outlook, found);
}

/// At most as many are at work as all hosts together may have.
fn stalled(outlook: &Outlook<'_>, found: &mut Findings) {
    let under_way = outlook.fleet.open_migrations();
    let under_way = under_way.filter(|one| one.status() == MigrationStatus::InProgress);
    let silent = under_way.filter(|one| outlook.now.since_ms(one.updated_at) > MIGRATION_SILENT_MS);
    found.extend(silent.map(|one| {
        let summary = format!(
            "nothing was heard of the migration of machine {} from {} to {} for ten minutes",
            one.vm_name, one.source, one.target
        );
        let key = AlertKey::of(Condition::MigrationStalled, AlertObject::Migration(one.id));
        (key, Finding { severity: Severity::Warning, summary })
    }));
}

/// Whether whoever asked for the last one has it is not known here: only that it was begun.
fn backups(outlook: &Outlook<'_>, found: &mut Findings) {
    let (Some(log), Some(overdue_ms)) = (outlook.fleet.backups(), outlook.backup_overdue_ms) else {
        return;
    };
    let age_ms = log.age_ms(outlook.now);
    if age_ms < overdue_ms {
        return;
    }
    let days = age_ms / DAY_MS;
    let summary = match log.begun_at {
        Some(_) => format!("the last backup was begun {days} days ago"),
        None => format!("no backup was begun in {days} days"),
    };
    let key = AlertKey::of(Condition::BackupOverdue, AlertObject::Cluster);
    found.insert(key, Finding { severity: Severity::Warning, summary });
}

fn quotas(fleet: &Fleet, project: &Project, found: &mut Findings) {
    let usage = fleet.project_usage(&project.name);
    for quota in Quota::ALL {
        let (used, Some(limit)) = (usage.of(quota), project.quotas.of(quota)) else { continue };
        let is_near = u128::from(used) * 100 >= u128::from(limit) * NEARLY_PERCENT;
        // A quota of nothing of which nothing is used worries nobody.
        if !is_near || used == 0 {
            continue;
        }
        let severity = if used >= limit { Severity::Warning } else { Severity::Info };
        let summary = format!("project {} uses {used} of {limit} {quota}", project.name);
        let key =
            AlertKey::of(Condition::of_quota(quota), AlertObject::Project(project.name.clone()));
        found.insert(key, Finding { severity, summary });
    }
}
