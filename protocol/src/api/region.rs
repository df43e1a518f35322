//! Regions, and machines that stand against a rule of residency.

use std::collections::BTreeSet;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::Links;
use crate::ids::{NodeName, ProjectName, RegionCode, Revision, VmId, VmName};
use crate::region::{Certification, RegionStatus, ResidencyRules};
use crate::time::Timestamp;

/// A region to make.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct RegionCreate {
    /// Code, for ever: lower-case letters, digits and `-`.
    pub code: String,
    /// What it is called for people, at most 128 bytes.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub name: String,
    /// What somebody outside has attested of it, at most 32.
    #[serde(default, skip_serializing_if = "BTreeSet::is_empty")]
    pub compliance_certifications: BTreeSet<Certification>,
    /// What holds for machines that stand in it.
    #[serde(default)]
    pub residency_rules: ResidencyRules,
}

/// What to change of a region; what is absent stays as it is.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct RegionChange {
    /// What it is called for people.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    /// All that is attested of it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub compliance_certifications: Option<BTreeSet<Certification>>,
    /// All that holds for machines that stand in it. Migrations that a new rule forbids are given up.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub residency_rules: Option<ResidencyRules>,
    /// Whether it takes machines.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub status: Option<RegionStatus>,
}

/// A region.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct RegionView {
    /// Code, for ever.
    pub code: RegionCode,
    /// What it is called for people.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub name: String,
    /// What somebody outside has attested of it.
    pub compliance_certifications: BTreeSet<Certification>,
    /// What holds for machines that stand in it.
    pub residency_rules: ResidencyRules,
    /// Whether it takes machines.
    pub status: RegionStatus,
    /// Hosts that stand in it.
    pub nodes: u32,
    /// When it was made.
    pub created_at: Timestamp,
    /// When it was changed last; its hosts apart.
    pub updated_at: Timestamp,
    /// The revision of that change.
    pub revision: Revision,
    /// Links.
    #[serde(rename = "_links")]
    pub links: Links,
}

/// Where a host stands.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct NodeRegionChange {
    /// The region, or `null` for none.
    pub region: Option<String>,
}

/// A machine that stands where a rule does not allow it. It stood there before the rule was made, or came by a migration
/// that could not be stopped any more.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct ResidencyViolationView {
    /// The machine.
    pub vm: VmId,
    /// Its name.
    pub vm_name: VmName,
    /// Whose it is.
    pub project: ProjectName,
    /// The host that it is on.
    pub node: NodeName,
    /// Where that stands.
    pub region: Option<RegionCode>,
    /// The rule, in words.
    pub reason: String,
    /// Since when.
    pub since: Timestamp,
    /// Links.
    #[serde(rename = "_links")]
    pub links: Links,
}
