//! Alerts, and budgets of projects.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{Links, Severity};
use crate::ids::{AlertId, ProjectName, RegionCode, Revision};
use crate::time::Timestamp;

/// How an alert stands.
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, JsonSchema,
)]
#[serde(rename_all = "lowercase")]
pub enum AlertState {
    /// Somebody has to look.
    Firing,
    /// Somebody looks.
    Acknowledged,
    /// It is over.
    Resolved,
}

/// Which alerts to list.
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, JsonSchema,
)]
#[serde(rename_all = "lowercase")]
pub enum AlertStateFilter {
    /// Those that are firing or acknowledged.
    Open,
    /// Those that are firing.
    Firing,
    /// Those that are acknowledged.
    Acknowledged,
    /// Those that are over.
    Resolved,
}

impl AlertStateFilter {
    /// Whether an alert that stands so is listed.
    pub fn lets_through(self, state: AlertState) -> bool {
        match self {
            Self::Open => state != AlertState::Resolved,
            Self::Firing => state == AlertState::Firing,
            Self::Acknowledged => state == AlertState::Acknowledged,
            Self::Resolved => state == AlertState::Resolved,
        }
    }
}

/// An alert to raise. One with the same key and object that is not resolved is counted, not made a second time.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct AlertRaise {
    /// What is wrong, as a name: lower-case letters, digits and `-`. Not a word that the cluster itself uses.
    pub key: String,
    /// How bad it is.
    pub severity: Severity,
    /// What is wrong in one line for a person, 1 to 512 bytes.
    pub summary: String,
    /// What something is wrong with: `vm/NAME` (or its id), `migration/ID`, `project/NAME`; and, for who may do so on the
    /// whole fleet, `node/NAME`, `region/CODE`, `member/ID` or `cluster`.
    pub object: String,
}

/// What to write beside an alert that is acknowledged or resolved.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct AlertNote {
    /// One line for the next reader, at most 512 bytes.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub note: String,
}

/// Who did something with an alert, when, and what was written beside it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct AlertDeed {
    /// Who; `cluster` if nobody asked.
    pub by: String,
    /// When.
    pub at: Timestamp,
    /// What was written beside it.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub note: String,
}

/// An alert.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct AlertView {
    /// Identity.
    pub id: AlertId,
    /// What it is known by: kind and object. At most one alert with a key is not resolved.
    pub key: String,
    /// What is wrong, in a word.
    pub kind: String,
    /// What something is wrong with, such as `node/node-01`, or `cluster`.
    pub object: String,
    /// How bad it is.
    pub severity: Severity,
    /// How it stands.
    pub state: AlertState,
    /// What is wrong, in one line for a person, as it was said last.
    pub summary: String,
    /// Whose; `null` for what belongs to no project.
    pub project: Option<ProjectName>,
    /// Where it is, if that is known.
    pub region: Option<RegionCode>,
    /// Who raised it first; `cluster` if it did so by itself.
    pub raised_by: String,
    /// When it was raised first.
    pub since: Timestamp,
    /// When it was raised last.
    pub last_raised_at: Timestamp,
    /// How often it was raised.
    pub raises: u64,
    /// Who has acknowledged it.
    pub acknowledged: Option<AlertDeed>,
    /// By whom or by what it was resolved.
    pub resolved: Option<AlertDeed>,
    /// The alert with this key before this one.
    pub previous: Option<AlertId>,
    /// The revision of its last change.
    pub revision: Revision,
    /// Links.
    #[serde(rename = "_links")]
    pub links: Links,
}

/// Alerts that fire, counted.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct AlertTotals {
    /// Something does not work.
    pub critical: u64,
    /// Something is about not to work.
    pub warning: u64,
    /// Something to know of.
    pub info: u64,
}

/// How much a project may cost before it is told so.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct BudgetChange {
    /// Micro-dollars for a calendar month (UTC), 1 to 10^15; `null` for none. Nothing is stopped when it is used up.
    pub micro_dollars_per_month: Option<u64>,
}
