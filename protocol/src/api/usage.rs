//! What machines used, what it costs, and how the ledger can be checked.
//!
//! Quantities are whole numbers of a meter's unit, as texts: a month of a fleet's byte-seconds is more than a JSON
//! number carries exactly.

use std::collections::BTreeMap;
use std::fmt;
use std::str::FromStr;

use schemars::JsonSchema;
use schemars::schema::{InstanceType, Schema, SchemaObject, StringValidation};
use serde::{Deserialize, Deserializer, Serialize, Serializer, de};

use crate::ids::{NodeName, PlanName, ProjectName, VmId};
use crate::time::Timestamp;
use crate::usage::{Meter, RecordOutcome, UsageRecord};
use crate::vm::Labels;

/// A whole number of any size; a text in JSON.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct Whole(pub i128);

impl fmt::Display for Whole {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(formatter)
    }
}

impl FromStr for Whole {
    type Err = std::num::ParseIntError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        text.parse().map(Self)
    }
}

impl Serialize for Whole {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Whole {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer)?.parse().map_err(de::Error::custom)
    }
}

impl JsonSchema for Whole {
    fn schema_name() -> String {
        "Whole".to_owned()
    }

    fn json_schema(_: &mut schemars::r#gen::SchemaGenerator) -> Schema {
        let pattern = Some("^-?[0-9]{1,39}$".to_owned());
        SchemaObject {
            instance_type: Some(InstanceType::String.into()),
            string: Some(Box::new(StringValidation { pattern, ..StringValidation::default() })),
            ..SchemaObject::default()
        }
        .into()
    }
}

/// Records to post for a node.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct UsagePost {
    /// The node that provided what was used.
    pub node: NodeName,
    /// 1 to 1,000 records; one more, and none is taken.
    pub records: Vec<UsageRecord>,
}

/// What became of posted records.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct UsagePosted {
    /// One for each record, in order.
    pub outcomes: Vec<RecordOutcome>,
}

/// What was used of a meter.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct UsageRow {
    /// What it is grouped by: the beginning of the hour or day, an id, a name, a label's value. Absent if by nothing,
    /// and for machines without the label.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub group: Option<String>,
    /// The machine's name, when grouped by machine.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub vm_name: Option<String>,
    /// Of what.
    pub meter: Meter,
    /// How much, in the meter's unit. Corrections can make it negative.
    pub quantity: Whole,
}

/// Points of one series of usage in one answer.
pub const USAGE_POINTS_MAX: u64 = 1_000;

/// How much time a point of usage stands for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum UsageStep {
    /// An hour.
    Hour,
    /// A day (UTC).
    Day,
}

/// What was used over time.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct UsageSeries {
    /// From this hour on.
    pub from: Timestamp,
    /// Up to this hour.
    pub to: Timestamp,
    /// How much time each point stands for; the first and the last day may be parts of one.
    pub by: UsageStep,
    /// In order of time, also where nothing was used; at most 1,000.
    pub points: Vec<UsagePoint>,
}

/// What was posted to the ledger in an hour or a day.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct UsagePoint {
    /// When it begins.
    pub at: Timestamp,
    /// How much of each meter, in its unit. Corrections can make it negative.
    pub quantities: BTreeMap<Meter, Whole>,
    /// What that costs; absent where nobody who used something had a plan.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub micro_dollars: Option<i64>,
}

/// An entry of the ledger.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct EntryView {
    /// Its window: the beginning of the hour.
    pub window: Timestamp,
    /// Its number.
    pub index: u64,
    /// What it does.
    pub kind: EntryKind,
    /// The machine.
    pub vm: VmId,
    /// The project that used.
    pub project: ProjectName,
    /// The node that provided.
    pub node: NodeName,
    /// Of what.
    pub meter: Meter,
    /// How much; taken back from the project if it is a reversal.
    pub quantity: Whole,
    /// The hour of the use.
    pub used: Timestamp,
    /// When it was posted.
    pub posted_at: Timestamp,
    /// The entry that it corrects.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub corrects: Option<EntryPlace>,
    /// Who corrected.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub actor: Option<String>,
    /// Why.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
}

/// What an entry does.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum EntryKind {
    /// Seconds at some level.
    Interval,
    /// A migration that completed.
    Migration,
    /// Takes another entry back.
    Reversal,
    /// Is right instead of one that was taken back.
    Replacement,
}

/// Where an entry is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct EntryPlace {
    /// The beginning of its window.
    pub window: Timestamp,
    /// Its number.
    pub index: u64,
}

/// An entry that is wrong.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct CorrectionPost {
    /// The beginning of its window.
    pub window: Timestamp,
    /// Its number.
    pub index: u64,
    /// What would have been right; `0` if nothing was used.
    pub quantity: Whole,
    /// Why, 1 to 512 bytes.
    pub reason: String,
}

/// A correction that was posted.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct CorrectionView {
    /// The entry that takes the wrong one back; what is right follows it.
    pub reversal: EntryPlace,
}

/// What one dimension costs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct PriceView {
    /// Micro-dollars, at most 1,000,000,000.
    pub micro_dollars: u64,
    /// For so many units: 1, 10, 100 … 1,000,000; 1 unless said.
    #[serde(default = "one")]
    pub per_units: u64,
}

fn one() -> u64 {
    1
}

impl Default for PriceView {
    fn default() -> Self {
        Self { micro_dollars: 0, per_units: 1 }
    }
}

/// What a plan costs; a dimension that is left out costs nothing.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct PricesView {
    /// For an hour of a machine that runs.
    #[serde(default)]
    pub vm_hours: PriceView,
    /// For a GiB of disk, for an hour.
    #[serde(default)]
    pub storage_gb: PriceView,
    /// For a GiB that a migration puts on the wire.
    #[serde(default)]
    pub transfer_gb: PriceView,
    /// For a snapshot, for an hour.
    #[serde(default)]
    pub snapshots: PriceView,
    /// For a migration that completed.
    #[serde(default)]
    pub migrations: PriceView,
}

/// A rate card: what a plan costs from an hour on, until the next one.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct RateCardView {
    /// The plan.
    pub plan: PlanName,
    /// The hour from which it holds; one that has not begun.
    pub valid_from: Timestamp,
    /// Machines that a project may have under it; without a bound unless said.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub vms_max: Option<u32>,
    /// What it costs.
    pub prices: PricesView,
}

/// The plan that a project has from an hour on.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct PlanChange {
    /// The project.
    pub project: ProjectName,
    /// The plan.
    pub plan: PlanName,
    /// The hour from which it has it: the present one at the earliest, and unless said.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub valid_from: Option<Timestamp>,
}

/// All rate cards and plans.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct RatesView {
    /// The rate cards, by plan and hour.
    pub cards: Vec<RateCardView>,
    /// The plans of projects, by project and hour.
    pub plans: Vec<PlanChange>,
}

/// Whether an invoice can still change.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum InvoiceStatus {
    /// Some windows of its period are open.
    Draft,
    /// All windows of its period are sealed: it never changes.
    Final,
}

/// What the projects owe for a month.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Invoice {
    /// The month, as `2026-11`.
    pub period: String,
    /// Its first window.
    pub from: Timestamp,
    /// The window after its last one.
    pub to: Timestamp,
    /// Whether it can still change.
    pub status: InvoiceStatus,
    /// By project, dimension and rate.
    pub lines: Vec<InvoiceLine>,
    /// What each project owes.
    pub totals: Vec<ProjectTotal>,
    /// What all of them owe.
    pub micro_dollars: i64,
    /// The chain hash of the last sealed window that counts in it, in hexadecimal: the proof of what it was made from.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub chain: Option<String>,
}

/// One line of an invoice.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct InvoiceLine {
    /// The project.
    pub project: ProjectName,
    /// What is billed: `vm-hours`, `storage-gb`, `transfer-gb`, `snapshots` or `migrations`.
    pub dimension: String,
    /// The plan; absent if the project had none, and then it costs nothing.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub plan: Option<PlanName>,
    /// From when its price holds.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rate_from: Option<Timestamp>,
    /// The price.
    pub price: PriceView,
    /// The meter.
    pub meter: Meter,
    /// How much, in the meter's unit.
    pub quantity: Whole,
    /// The meter's units in one unit of the dimension.
    pub base_units: u64,
    /// What it costs, rounded.
    pub micro_dollars: i64,
    /// Its parts by tag, if that was asked for; they sum to the line.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub allocations: Vec<Allocation>,
}

/// A part of a line.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Allocation {
    /// The labels that it is for; empty for machines that have none of them.
    pub tags: Labels,
    /// How much.
    pub quantity: Whole,
    /// What it costs.
    pub micro_dollars: i64,
}

/// What a project owes.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct ProjectTotal {
    /// The project.
    pub project: ProjectName,
    /// The sum of its lines.
    pub micro_dollars: i64,
}

/// A sealed window.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct WindowView {
    /// The beginning of its hour.
    pub window: Timestamp,
    /// The number of its first entry.
    pub first_index: u64,
    /// The number of its last entry.
    pub last_index: u64,
    /// How many entries it has.
    pub entries: u64,
    /// What was posted.
    pub sums: Vec<WindowSum>,
    /// Its files in the archive.
    pub files: Vec<WindowFile>,
    /// When it was sealed.
    pub sealed_at: Timestamp,
    /// The chain hash of the window before, in hexadecimal.
    pub previous: String,
    /// Its own chain hash.
    pub chain: String,
}

/// What was posted of a meter in a window.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct WindowSum {
    /// The meter.
    pub meter: Meter,
    /// Used.
    pub used: Whole,
    /// Taken back.
    pub taken_back: Whole,
}

/// A file of a sealed window.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct WindowFile {
    /// Its name.
    pub name: String,
    /// SHA-256 of its content, in hexadecimal.
    pub hash: String,
    /// Bytes of its content.
    pub bytes: u64,
}

/// What a check of a part of the ledger found.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct LedgerVerdict {
    /// Whether nothing is wrong with this part.
    pub intact: bool,
    /// Sealed windows that were checked.
    pub windows: u64,
    /// Entries that were checked.
    pub entries: u64,
    /// The last sealed window that was checked, and its chain hash: `time:hash`. Keep it, and hand it in as `known`
    /// later.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub last: Option<String>,
    /// Check on from here; absent if that was all, open windows and accounts included.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub next_cursor: Option<String>,
    /// Where the first thing is that is wrong.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub fault_at: Option<String>,
    /// What is wrong there.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub fault: Option<String>,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn whole_numbers_are_texts_and_come_back() {
        for number in [0, -1, i128::MAX, i128::MIN] {
            let json = serde_json::to_string(&Whole(number)).unwrap();
            assert_eq!(json, format!("\"{number}\""));
            assert_eq!(serde_json::from_str::<Whole>(&json).unwrap(), Whole(number));
        }
        for bad in ["1", "\"\"", "\"1.5\"", "\" 1\""] {
            assert!(serde_json::from_str::<Whole>(bad).is_err(), "{bad}");
        }
    }
}
