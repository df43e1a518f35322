//! The fleet in numbers, as this member has it: counted when somebody asks.

use std::collections::BTreeMap;
use std::fmt;

use novacron_metrics::moment::{Moment, whole};
use novacron_protocol::api::{AlertState, Severity};
use novacron_protocol::ids::{EffectId, NodeName};
use novacron_protocol::migration::MigrationStatus;
use novacron_protocol::node::NodeState;
use novacron_protocol::time::Timestamp;
use novacron_protocol::vm::VmState;
use prometheus_client::collector::Collector;
use prometheus_client::encoding::DescriptorEncoder;

use crate::agents::Sessions;
use crate::clock::Clock;
use crate::state::Fleet;
use crate::state::node::Node;
use crate::view::FleetCell;

const NODES: [(NodeState, &str); 3] =
    [(NodeState::Ready, "ready"), (NodeState::Suspect, "suspect"), (NodeState::Down, "down")];

/// Deleted machines are kept for the record only.
const MACHINES: [(VmState, &str); 10] = [
    (VmState::Pending, "pending"),
    (VmState::Creating, "creating"),
    (VmState::Stopped, "stopped"),
    (VmState::Starting, "starting"),
    (VmState::Running, "running"),
    (VmState::Paused, "paused"),
    (VmState::Migrating, "migrating"),
    (VmState::Stopping, "stopping"),
    (VmState::Failed, "failed"),
    (VmState::Unknown, "unknown"),
];

const MIGRATIONS: [(MigrationStatus, &str); 5] = [
    (MigrationStatus::Queued, "queued"),
    (MigrationStatus::InProgress, "in_progress"),
    (MigrationStatus::Completed, "completed"),
    (MigrationStatus::Failed, "failed"),
    (MigrationStatus::Cancelled, "cancelled"),
];

/// Where the numbers of the fleet are to be found.
#[derive(Debug)]
pub struct FleetNumbers {
    /// The fleet.
    pub cell: FleetCell,
    /// The agents that are connected here.
    pub sessions: Sessions,
    /// The time.
    pub clock: Clock,
    /// Whether alerts are watched: those that were open when that ended say nothing.
    pub are_alerts_on: bool,
}

const SEVERITIES: [(Severity, &str); 3] =
    [(Severity::Critical, "critical"), (Severity::Warning, "warning"), (Severity::Info, "info")];

const ALERTS: [(AlertState, &str); 2] =
    [(AlertState::Firing, "firing"), (AlertState::Acknowledged, "acknowledged")];

/// By severity, state and region, at most 3 × 2 × 257.
type AlertCounts = BTreeMap<(&'static str, &'static str, String), i64>;

/// What is taken from the fleet while it is locked.
struct Counts {
    /// By state and region, at most 3 × 257.
    nodes: Vec<(&'static str, String, i64)>,
    /// By state and region, at most 10 × 257: of regions only states that there are.
    machines: Vec<(&'static str, String, i64)>,
    migrations: [(&'static str, i64); MIGRATIONS.len()],
    queued_seconds_max: f64,
    effects: i64,
    violations: i64,
    alerts: AlertCounts,
    audit_records: i64,
    ledger_entries: i64,
    ledger_sealed_before_s: i64,
    /// `None` while nothing is remembered of backups.
    backup_age_s: Option<f64>,
}

impl Counts {
    fn of(fleet: &Fleet, now: Timestamp) -> Self {
        let queued = fleet
            .migrations()
            .filter(|migration| migration.status() == MigrationStatus::Queued)
            .map(|migration| now.since_ms(migration.created_at));
        Self {
            nodes: nodes(fleet),
            machines: machines(fleet),
            migrations: count(MIGRATIONS, fleet.migrations().map(|migration| migration.status())),
            queued_seconds_max: queued.max().unwrap_or(0) as f64 / 1e3,
            effects: whole(fleet.outbox_after(EffectId(0)).count()),
            violations: whole(fleet.violations()),
            alerts: alerts(fleet),
            audit_records: whole(fleet.audit_head().number.0),
            ledger_entries: whole(fleet.book().last_index),
            ledger_sealed_before_s: whole(fleet.book().sealed_before.begin_s()),
            backup_age_s: fleet.backups().map(|log| log.age_ms(now) as f64 / 1e3),
        }
    }
}

/// Nodes by state and region; those without a region always, so that no series is missing where there are no regions.
fn nodes(fleet: &Fleet) -> Vec<(&'static str, String, i64)> {
    let mut states: BTreeMap<String, Vec<NodeState>> = BTreeMap::from([(String::new(), vec![])]);
    for node in fleet.nodes() {
        let region = node.region.as_ref().map(ToString::to_string).unwrap_or_default();
        states.entry(region).or_default().push(node.state);
    }
    let of_region = |(region, states): (String, Vec<NodeState>)| {
        let counts = count(NODES, states.into_iter());
        counts.map(|(word, number)| (word, region.clone(), number))
    };
    states.into_iter().flat_map(of_region).collect()
}

/// Machines by state and by the region of the node that they are on. Those in no region always with every state, so that no
/// series is missing where there are no regions.
fn machines(fleet: &Fleet) -> Vec<(&'static str, String, i64)> {
    let region = |node: &Node| Some((node.name.clone(), node.region.as_ref()?.to_string()));
    let regions: BTreeMap<NodeName, String> = fleet.nodes().filter_map(region).collect();
    let mut states: BTreeMap<&str, Vec<VmState>> = BTreeMap::from([("", vec![])]);
    for vm in fleet.vms() {
        let region = vm.node.as_ref().and_then(|node| regions.get(node));
        states.entry(region.map_or("", String::as_str)).or_default().push(vm.state());
    }
    let of_region = |(region, states): (&str, Vec<VmState>)| {
        let (counts, region) = (count(MACHINES, states.into_iter()), region.to_owned());
        let shown = counts.into_iter().filter(|(_, number)| region.is_empty() || *number > 0);
        shown.map(|(word, number)| (word, region.clone(), number)).collect::<Vec<_>>()
    };
    states.into_iter().flat_map(of_region).collect()
}

/// Alerts that are not resolved. Those without a region are always said, so that no series is missing while all is well.
fn alerts(fleet: &Fleet) -> AlertCounts {
    let mut counts = AlertCounts::new();
    for (_, severity) in SEVERITIES {
        for (_, state) in ALERTS {
            counts.insert((severity, state, String::new()), 0);
        }
    }
    for alert in fleet.open_alerts() {
        let severity = SEVERITIES.iter().find(|(severity, _)| *severity == alert.severity);
        let state = ALERTS.iter().find(|(state, _)| *state == alert.stage.state());
        if let (Some((_, severity)), Some((_, state))) = (severity, state) {
            let region = alert.region.as_ref().map(ToString::to_string).unwrap_or_default();
            *counts.entry((severity, state, region)).or_default() += 1;
        }
    }
    counts
}

/// How many there are of each state.
fn count<T: PartialEq, const N: usize>(
    words: [(T, &'static str); N],
    states: impl Iterator<Item = T>,
) -> [(&'static str, i64); N] {
    let mut counts = [0; N];
    for state in states {
        if let Some(place) = words.iter().position(|(word, _)| *word == state) {
            counts[place] += 1;
        }
    }
    let mut counts = counts.into_iter();
    words.map(|(_, word)| (word, counts.next().unwrap_or(0)))
}

impl FleetNumbers {
    fn alerts(&self, moment: &mut Moment<'_>, counts: &AlertCounts) -> fmt::Result {
        if !self.are_alerts_on {
            return Ok(());
        }
        let help = "Alerts that are not resolved, by severity, state and region; the region is empty where there is none";
        let alerts = counts.iter().map(|((severity, state, region), count)| {
            let labels = [("severity", *severity), ("state", *state), ("region", region.as_str())];
            (labels, *count)
        });
        moment.labelled("novacron_alerts", help, alerts)
    }
}

impl Collector for FleetNumbers {
    fn encode(&self, encoder: DescriptorEncoder<'_>) -> fmt::Result {
        let now = self.clock.now();
        let counts = self.cell.look(|fleet| Counts::of(fleet, now));
        let mut moment = Moment::new(encoder);
        let help = "Nodes, by state and region; the region is empty for those in none";
        let nodes = counts.nodes.iter().map(|(state, region, count)| {
            ([("state", *state), ("region", region.as_str())], *count)
        });
        moment.labelled("novacron_fleet_nodes", help, nodes)?;
        moment.gauge(
            "novacron_fleet_residency_violations",
            "Machines that stand against a rule of residency",
            counts.violations,
        )?;
        self.alerts(&mut moment, &counts.alerts)?;
        let help = "Machines that are not deleted, by state and by the region of their node; the region is empty for those in none";
        let machines = counts.machines.iter().map(|(state, region, count)| {
            ([("state", *state), ("region", region.as_str())], *count)
        });
        moment.labelled("novacron_fleet_machines", help, machines)?;
        moment.gauges(
            "novacron_fleet_migrations",
            "Migrations that the fleet remembers, by status",
            "status",
            counts.migrations,
        )?;
        moment.gauge(
            "novacron_fleet_migration_queue_seconds",
            "How long the migration has waited that was queued first; 0 if none waits",
            counts.queued_seconds_max,
        )?;
        moment.gauge(
            "novacron_fleet_effects_open",
            "Orders to agents that are not done yet",
            counts.effects,
        )?;
        moment.gauge(
            "novacron_audit_records",
            "Number of the last record of the audit log",
            counts.audit_records,
        )?;
        moment.gauge(
            "novacron_ledger_entries",
            "Number of the last entry of the ledger",
            counts.ledger_entries,
        )?;
        moment.gauge(
            "novacron_ledger_sealed_before_seconds",
            "Every window of the ledger before this moment is sealed; 0 before the first use",
            counts.ledger_sealed_before_s,
        )?;
        if let Some(age_s) = counts.backup_age_s {
            moment.gauge(
                "novacron_backup_age_seconds",
                "Time since the last backup was begun; since the cluster was founded if there was none",
                age_s,
            )?;
        }
        moment.gauge(
            "novacron_agents_connected",
            "Agents that are connected to this member: all of them to the leader",
            whole(self.sessions.all().len()),
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_state_is_counted_under_its_word() {
        use NodeState::{Down, Ready};
        let counted = count(NODES, [Down, Ready, Down].into_iter());
        assert_eq!(counted, [("ready", 1), ("suspect", 0), ("down", 2)]);
    }
}
