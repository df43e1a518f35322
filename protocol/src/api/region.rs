//! Regions, and machines that stand against a rule of residency.

use std::collections::{BTreeMap, BTreeSet};

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
    pub region_code: String,
    /// What it is called for people, at most 128 bytes.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub region_name: String,
    /// What somebody outside has attested of it, at most 32.
    #[serde(default, skip_serializing_if = "BTreeSet::is_empty")]
    pub compliance_certifications: BTreeSet<Certification>,
    /// What holds for machines that stand in it.
    #[serde(default)]
    pub data_residency_rules: ResidencyRules,
}

/// What to change of a region; what is absent stays as it is.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct RegionChange {
    /// What it is called for people.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub region_name: Option<String>,
    /// All that is attested of it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub compliance_certifications: Option<BTreeSet<Certification>>,
    /// All that holds for machines that stand in it. Migrations that a new rule forbids are given up.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub data_residency_rules: Option<ResidencyRules>,
    /// Whether it takes machines.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub status: Option<RegionStatus>,
    /// Milliseconds from it to other regions and back, by code, 0 to 60,000: all that are known. Regions must be there; a
    /// way that was said from one end counts for both.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub latencies_ms: Option<BTreeMap<RegionCode, u32>>,
}

/// A region.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct RegionView {
    /// Code, for ever.
    pub region_code: RegionCode,
    /// What it is called for people.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub region_name: String,
    /// What somebody outside has attested of it.
    pub compliance_certifications: BTreeSet<Certification>,
    /// What holds for machines that stand in it.
    pub data_residency_rules: ResidencyRules,
    /// Whether it takes machines.
    pub status: RegionStatus,
    /// Milliseconds from it to other regions and back, as they were said here.
    #[serde(default)]
    pub latencies_ms: BTreeMap<RegionCode, u32>,
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

/// Regions in the order in which somebody in one of them should turn to them.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct RegionRoute {
    /// The region that it is seen from.
    pub from: RegionCode,
    /// The project whose rules were asked, if any.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub project: Option<ProjectName>,
    /// The first that can be chosen; absent if none can.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub chosen: Option<RegionCode>,
    /// All of them: those that can be chosen, the best first, then the others.
    pub regions: Vec<RouteChoice>,
    /// The revision of the fleet that it is about.
    pub revision: Revision,
}

/// A region on a route.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct RouteChoice {
    /// Its code.
    pub region: RegionCode,
    /// Whether it can be chosen.
    pub usable: bool,
    /// Milliseconds there and back; absent if nobody said.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub latency_ms: Option<u32>,
    /// Hosts that stand in it.
    pub nodes: u32,
    /// Those of them that answer and take machines, for whoever may read nodes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub nodes_ready: Option<u32>,
    /// Why it is where it is, for a person.
    pub reason: String,
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
