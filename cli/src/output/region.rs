//! Regions, and machines that stand against a rule of residency.

use std::collections::{BTreeMap, BTreeSet};

use novacron_protocol::api::{RegionView, ResidencyViolationView, RouteChoice};
use novacron_protocol::ids::RegionCode;
use novacron_protocol::region::{Residency, ResidencyRules};

use super::text::{or_dash, word};
use super::{Fields, Row, Show};

/// `a,b`.
pub(super) fn words<T: ToString>(items: &BTreeSet<T>) -> String {
    items.iter().map(ToString::to_string).collect::<Vec<_>>().join(",")
}

fn leaving(rules: &ResidencyRules) -> String {
    match &rules.may_leave_to {
        None => "any".to_owned(),
        Some(regions) if regions.is_empty() => "none".to_owned(),
        Some(regions) => words(regions),
    }
}

/// Where machines of a project may stand; nothing if anywhere.
pub fn residency_line(residency: &Residency) -> String {
    let Residency { regions, certifications } = residency;
    let regions = (!regions.is_empty()).then(|| format!("in {}", words(regions)));
    let certified =
        (!certifications.is_empty()).then(|| format!("certified for {}", words(certifications)));
    regions.into_iter().chain(certified).collect::<Vec<_>>().join(", ")
}

impl Row for RegionView {
    const HEADER: &'static [&'static str] =
        &["CODE", "STATUS", "NODES", "MAY LEAVE TO", "CERTIFICATIONS", "NAME"];

    fn row(&self) -> Vec<String> {
        vec![
            self.region_code.to_string(),
            word(&self.status),
            self.nodes.to_string(),
            leaving(&self.data_residency_rules),
            words(&self.compliance_certifications),
            self.region_name.clone(),
        ]
    }
}

impl Show for RegionView {
    fn fields(&self) -> Fields {
        vec![
            ("code", self.region_code.to_string()),
            ("name", self.region_name.clone()),
            ("status", word(&self.status)),
            ("nodes", self.nodes.to_string()),
            ("may leave to", leaving(&self.data_residency_rules)),
            ("certifications", words(&self.compliance_certifications)),
            ("latencies", latencies(&self.latencies_ms)),
            ("created", self.created_at.to_string()),
            ("updated", self.updated_at.to_string()),
        ]
    }
}

/// `eu-2 12 ms, us 90 ms`.
fn latencies(all: &BTreeMap<RegionCode, u32>) -> String {
    all.iter().map(|(code, ms)| format!("{code} {ms} ms")).collect::<Vec<_>>().join(", ")
}

impl Row for RouteChoice {
    const HEADER: &'static [&'static str] = &["REGION", "USABLE", "LATENCY", "NODES", "REASON"];

    fn row(&self) -> Vec<String> {
        vec![
            self.region.to_string(),
            if self.usable { "yes" } else { "no" }.to_owned(),
            or_dash(self.latency_ms.map(|ms| format!("{ms} ms"))),
            match self.nodes_ready {
                Some(ready) => format!("{ready}/{}", self.nodes),
                None => self.nodes.to_string(),
            },
            self.reason.clone(),
        ]
    }
}

impl Row for ResidencyViolationView {
    const HEADER: &'static [&'static str] = &["VM", "PROJECT", "NODE", "REGION", "SINCE", "REASON"];

    fn row(&self) -> Vec<String> {
        vec![
            self.vm_name.to_string(),
            self.project.to_string(),
            self.node.to_string(),
            or_dash(self.region.as_ref()),
            self.since.to_string(),
            self.reason.clone(),
        ]
    }
}
