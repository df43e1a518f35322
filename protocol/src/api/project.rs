//! Projects.

use schemars::JsonSchema;
use serde::{Deserialize, Deserializer, Serialize};

use super::Links;
use crate::ids::{ProjectName, Revision};
use crate::project::{ProjectState, ProjectUsage, Quota, Quotas};
use crate::region::Residency;
use crate::time::Timestamp;
use crate::vm::Labels;

/// A project to make.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct ProjectCreate {
    /// Name, for ever.
    pub name: String,
    /// What it is called for people, at most 128 bytes.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub display_name: String,
    /// How much it may take; without limits unless said.
    #[serde(default)]
    pub quotas: Quotas,
    /// Labels.
    #[serde(default, skip_serializing_if = "Labels::is_empty")]
    pub labels: Labels,
    /// Where its machines may stand; anywhere unless said.
    #[serde(default, skip_serializing_if = "Residency::is_none")]
    pub residency: Residency,
}

/// What to change of a project; what is absent stays as it is.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct ProjectChange {
    /// What it is called for people.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub display_name: Option<String>,
    /// Whether it may begin anything.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub state: Option<ProjectState>,
    /// How much it may take. Machines above a lowered quota go on.
    #[serde(default)]
    pub quotas: QuotaChange,
    /// All of its labels.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub labels: Option<Labels>,
    /// Where its machines may stand. Those that stand elsewhere stay where they are and are listed as violations;
    /// migrations to elsewhere are given up.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub residency: Option<Residency>,
}

/// Quotas to change: absent stays as it is, `null` takes the limit away.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct QuotaChange {
    /// Machines.
    #[serde(default, deserialize_with = "said", skip_serializing_if = "Option::is_none")]
    pub vms: Option<Option<u64>>,
    /// Virtual CPUs.
    #[serde(default, deserialize_with = "said", skip_serializing_if = "Option::is_none")]
    pub cpus: Option<Option<u64>>,
    /// Memory in bytes.
    #[serde(default, deserialize_with = "said", skip_serializing_if = "Option::is_none")]
    pub memory_bytes: Option<Option<u64>>,
    /// Disks in bytes.
    #[serde(default, deserialize_with = "said", skip_serializing_if = "Option::is_none")]
    pub disk_bytes: Option<Option<u64>>,
    /// Migrations that wait or are under way.
    #[serde(default, deserialize_with = "said", skip_serializing_if = "Option::is_none")]
    pub migrations: Option<Option<u64>>,
    /// Snapshots.
    #[serde(default, deserialize_with = "said", skip_serializing_if = "Option::is_none")]
    pub snapshots: Option<Option<u64>>,
}

/// A field that is there, be it `null`.
fn said<'de, D: Deserializer<'de>>(field: D) -> Result<Option<Option<u64>>, D::Error> {
    Option::deserialize(field).map(Some)
}

impl QuotaChange {
    /// What is said, one by one: which quota, and its new limit.
    pub fn entries(&self) -> Vec<(Quota, Option<u64>)> {
        let said = |quota| match quota {
            Quota::Vms => self.vms,
            Quota::Cpus => self.cpus,
            Quota::MemoryBytes => self.memory_bytes,
            Quota::DiskBytes => self.disk_bytes,
            Quota::Migrations => self.migrations,
            Quota::Snapshots => self.snapshots,
        };
        Quota::ALL.into_iter().filter_map(|quota| Some((quota, said(quota)?))).collect()
    }
}

/// A project.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct ProjectView {
    /// Name, for ever.
    pub name: ProjectName,
    /// What it is called for people.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub display_name: String,
    /// Whether it may begin anything.
    pub state: ProjectState,
    /// How much it may take; what is `null` is not limited.
    pub quotas: Quotas,
    /// How much it takes.
    pub usage: ProjectUsage,
    /// Micro-dollars that it may cost in a calendar month (UTC) before an alert says so; `null` for no budget.
    #[serde(default)]
    pub budget_micro_dollars_per_month: Option<u64>,
    /// Labels.
    pub labels: Labels,
    /// Where its machines may stand; anywhere if nothing is said.
    #[serde(default)]
    pub residency: Residency,
    /// When it was made.
    pub created_at: Timestamp,
    /// When it was changed last; what it takes apart.
    pub updated_at: Timestamp,
    /// The revision of that change.
    pub revision: Revision,
    /// Links.
    #[serde(rename = "_links")]
    pub links: Links,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_quota_that_is_null_is_taken_away_and_one_that_is_absent_stays() {
        let change: ProjectChange =
            serde_json::from_str(r#"{"quotas":{"vms":null,"disk_bytes":7}}"#).unwrap();
        assert_eq!(change.quotas.entries(), [(Quota::Vms, None), (Quota::DiskBytes, Some(7))]);
        let written = serde_json::to_string(&change).unwrap();
        assert_eq!(serde_json::from_str::<ProjectChange>(&written).unwrap(), change);
    }
}
