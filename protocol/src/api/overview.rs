//! The fleet in one document.

use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{AlertTotals, Links, ProjectTotal};
use crate::ids::{ProjectName, RegionCode, Revision};
use crate::node::{NodeCapacity, NodeState};
use crate::region::RegionStatus;
use crate::time::Timestamp;
use crate::vm::VmState;

/// The fleet in one document, as far as whoever asks sees it. What it may not see is absent.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Overview {
    /// The revision of the fleet that it shows.
    pub revision: Revision,
    /// The fleet's clock at that revision.
    pub at: Timestamp,
    /// Machines, deleted ones apart.
    pub machines: MachineTotals,
    /// Migrations that have not ended.
    pub migrations: MigrationTotals,
    /// Nodes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub nodes: Option<NodeTotals>,
    /// The same by region, and last for nodes that stand in none; for those who see nodes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub regions: Option<Vec<RegionTotals>>,
    /// Machines that stand against a rule of residency; the link `violations` lists them.
    #[serde(default)]
    pub violations: u64,
    /// What this month costs so far.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cost: Option<MonthCost>,
    /// Where money could be saved, of what one sees and knows the costs of.
    #[serde(default)]
    pub savings: Vec<Saving>,
    /// Quotas of which 80 % or more are used, by project.
    pub quotas: Vec<QuotaUse>,
    /// Alerts that fire, by severity; absent where alerts are turned off.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub alerts: Option<AlertTotals>,
    /// What somebody should look at, the worst first; at most 100.
    pub attention: Vec<Attention>,
    /// How much that is in all.
    pub attention_total: u64,
    /// Links.
    #[serde(rename = "_links", default)]
    pub links: Links,
}

/// A region, counted.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct RegionTotals {
    /// Its code; absent for what stands in none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub region: Option<RegionCode>,
    /// Whether it takes machines.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub status: Option<RegionStatus>,
    /// How many nodes in each state; those in which there are none, too.
    pub nodes: BTreeMap<NodeState, u64>,
    /// Machines on its nodes.
    pub machines: u64,
    /// What they cost an hour as they stand, by the prices that hold now: running, with their disks and snapshots. Sums
    /// of the ledger do not say where something was used: this is not what was billed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub micro_dollars_per_hour: Option<i64>,
}

/// Rules by which savings are found.
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, JsonSchema,
)]
#[serde(rename_all = "snake_case")]
pub enum SavingRule {
    /// Machines that are stopped, of which nothing has changed for 30 days, and whose disks cost.
    StoppedMachines,
    /// Snapshots that are older than 30 days, and cost.
    OldSnapshots,
}

/// What could be saved by one rule.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Saving {
    /// The rule.
    pub rule: SavingRule,
    /// How many there are.
    pub count: u64,
    /// What they cost in a month of 730 hours, by the prices that hold now.
    pub micro_dollars_per_month: i64,
    /// The first 20: machines by name, snapshots as `machine/snapshot`.
    pub names: Vec<String>,
}

/// Machines, counted.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct MachineTotals {
    /// How many.
    pub total: u64,
    /// How many in each state; those in which there are none, too.
    pub by_state: BTreeMap<VmState, u64>,
    /// Their virtual CPUs.
    pub cpus: u64,
    /// Their memory in bytes.
    pub memory_bytes: u64,
    /// The sizes of their disks in bytes, as far as they were said when the machines were made.
    pub disk_bytes: u64,
}

/// Migrations, counted.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct MigrationTotals {
    /// They wait for a slot.
    pub queued: u64,
    /// They are under way.
    pub in_progress: u64,
}

/// Nodes, counted.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct NodeTotals {
    /// How many.
    pub total: u64,
    /// How many in each state; those in which there are none, too.
    pub by_state: BTreeMap<NodeState, u64>,
    /// How many take no machines because they are or were drained.
    pub draining: u64,
    /// What they may lend in all, down ones too.
    pub capacity: NodeCapacity,
    /// What machines on them, and on their way to them, take of that.
    pub allocated: NodeCapacity,
}

/// What a month costs so far, from the ledger.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct MonthCost {
    /// The month (UTC), as `2026-11`.
    pub month: String,
    /// The sum of all projects.
    pub micro_dollars: i64,
    /// Projects that used something.
    pub projects: Vec<ProjectTotal>,
}

/// A quota that is nearly or wholly used.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct QuotaUse {
    /// The project.
    pub project: ProjectName,
    /// Which quota: a field of the project's `quotas`.
    pub quota: String,
    /// How much is used; more than the limit, if that was lowered.
    pub used: u64,
    /// The limit.
    pub limit: u64,
}

/// How bad it is; what is worse is less.
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, JsonSchema,
)]
#[serde(rename_all = "lowercase")]
pub enum Severity {
    /// Something does not work.
    Critical,
    /// Something is about not to work.
    Warning,
    /// Something to know of.
    Info,
}

/// What somebody should look at.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Attention {
    /// How bad it is.
    pub severity: Severity,
    /// What it is.
    pub kind: AttentionKind,
    /// The name of the machine, node, coordinator or project.
    pub name: String,
    /// In one line, for a person.
    pub detail: String,
}

/// Kinds of things that somebody should look at; in this order, since what many things come from is before them.
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, JsonSchema,
)]
#[serde(rename_all = "snake_case")]
pub enum AttentionKind {
    /// No coordinator may be lost.
    NoSpareMember,
    /// A coordinator does not answer.
    MemberUnreachable,
    /// A coordinator is far behind the others.
    MemberBehind,
    /// The ledger cannot be read at the coordinator that answers, so there is no cost.
    LedgerUnreadable,
    /// A node's agent does not answer.
    NodeDown,
    /// A node's agent is late.
    NodeSuspect,
    /// 80 % of a quota are used, or all of it.
    Quota,
    /// A machine stands against a rule of residency.
    Residency,
    /// A machine has failed.
    MachineFailed,
    /// A machine's state is unknown, because its node is down.
    MachineUnknown,
}
