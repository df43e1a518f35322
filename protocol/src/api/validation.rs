//! What each body of a write finds wrong with itself. What only the fleet can know, whether something is there, taken
//! or possible at the moment, is decided when the write is applied.

use std::collections::BTreeSet;

use super::{
    AlertNote, AlertRaise, AnnotationWrite, ApiKeyCreate, BatchCreate, BindingCreate, BudgetChange,
    CorrectionPost, FieldCode, Findings, NetworkChange, NetworkCreate, NodeDrain, NodeRegionChange,
    NodeUndrain, PlanChange, PricesView, PrincipalChange, PrincipalCreate, ProjectChange,
    ProjectCreate, RateCardView, RegionChange, RegionCreate, SecretWrite, SettingsChange,
    SnapshotCreate, TokenCreate, UsagePost, Validate, VmCreate, VmMigrate, VmStop,
};
use crate::access::PermissionPattern;
use crate::alert::{AlertObject, Condition};
use crate::annotation::check_value;
use crate::ids::{AlertName, NetworkName, NodeName, ProjectName, RegionCode, SnapshotName, VmName};
use crate::limits::{
    ALERT_NOTE_BYTES_MAX, ALERT_SUMMARY_BYTES_MAX, API_KEY_TTL_S_RANGE, BUDGET_MICRO_DOLLARS_RANGE,
    CORRECTION_REASON_BYTES_MAX, DISPLAY_NAME_BYTES_MAX, MIGRATIONS_PER_NODE_RANGE,
    PRICE_MICRO_DOLLARS_MAX, TOKEN_TTL_S_RANGE,
};
use crate::migration::MigrationMode;
use crate::network::{NetworkUsers, wrong_bridge, wrong_name, wrong_regions, wrong_users};
use crate::region::{
    Certification, RESERVED_REGION_CODES, Residency, check_certifications, check_latencies,
};
use crate::time::Timestamp;
use crate::usage::HOUR_S;
use crate::vm::{InvalidField, examine_labels};

impl Validate for VmCreate {
    fn validate(&self, findings: &mut Findings) {
        self.examine(findings);
    }
}

impl Validate for VmStop {
    fn validate(&self, _: &mut Findings) {}
}

impl Validate for VmMigrate {
    fn validate(&self, findings: &mut Findings) {
        self.options().examine(self.mode, findings);
    }
}

impl Validate for BatchCreate {
    fn validate(&self, findings: &mut Findings) {
        examine_labels("labels", &self.labels, findings);
        // Where each moves as it is, what is about guests that run is for those.
        self.options().examine(self.mode.unwrap_or(MigrationMode::Live), findings);
    }
}

impl Validate for NodeDrain {
    fn validate(&self, findings: &mut Findings) {
        self.options().examine(MigrationMode::Live, findings);
    }
}

impl Validate for NodeUndrain {
    fn validate(&self, _: &mut Findings) {}
}

impl Validate for ProjectCreate {
    fn validate(&self, findings: &mut Findings) {
        findings.parse("name", self.name.parse::<ProjectName>());
        examine_display_name("display_name", &self.display_name, findings);
        examine_labels("labels", &self.labels, findings);
        examine_residency(&self.residency, findings);
    }
}

impl Validate for ProjectChange {
    fn validate(&self, findings: &mut Findings) {
        examine_display_name(
            "display_name",
            self.display_name.as_deref().unwrap_or_default(),
            findings,
        );
        self.labels.iter().for_each(|labels| examine_labels("labels", labels, findings));
        self.residency.iter().for_each(|residency| examine_residency(residency, findings));
    }
}

impl Validate for RegionCreate {
    fn validate(&self, findings: &mut Findings) {
        findings.parse("region_code", self.region_code.parse::<RegionCode>());
        if RESERVED_REGION_CODES.contains(&self.region_code.as_str()) {
            let reason = format!("`{}` is a word of the API's own", self.region_code);
            findings.add("region_code", FieldCode::Conflict, reason);
        }
        examine_display_name("region_name", &self.region_name, findings);
        examine_certifications(&self.compliance_certifications, findings);
        let rules = self.data_residency_rules.problems("data_residency_rules");
        examine_problems(rules, findings);
    }
}

impl Validate for RegionChange {
    fn validate(&self, findings: &mut Findings) {
        let name = self.region_name.as_deref().unwrap_or_default();
        examine_display_name("region_name", name, findings);
        let certifications = self.compliance_certifications.iter();
        certifications.for_each(|all| examine_certifications(all, findings));
        let rules = self.data_residency_rules.iter();
        rules.for_each(|rules| examine_problems(rules.problems("data_residency_rules"), findings));
        let latencies = self.latencies_ms.iter();
        latencies
            .for_each(|ms| examine_problems(check_latencies("latencies_ms", None, ms), findings));
    }
}

impl Validate for NetworkCreate {
    fn validate(&self, findings: &mut Findings) {
        let name = findings.parse("name", self.name.parse::<NetworkName>());
        let reserved = name.and_then(|name| wrong_name("name", &name));
        let name = reserved.into_iter().map(|wrong| (wrong, FieldCode::Conflict));
        name.for_each(|(wrong, code)| findings.add(&wrong.field, code, wrong.problem));
        examine_network(
            Some(&self.description),
            Some(&self.bridge),
            Some(&self.users),
            Some(&self.regions),
            findings,
        );
    }
}

impl Validate for NetworkChange {
    fn validate(&self, findings: &mut Findings) {
        let (description, bridge) = (self.description.as_deref(), self.bridge.as_deref());
        let (users, regions) = (self.users.as_ref(), self.regions.as_ref());
        examine_network(description, bridge, users, regions, findings);
    }
}

impl Validate for SnapshotCreate {
    fn validate(&self, findings: &mut Findings) {
        findings.parse("name", self.name.parse::<SnapshotName>());
    }
}

impl Validate for NodeRegionChange {
    fn validate(&self, findings: &mut Findings) {
        if let Some(region) = &self.region {
            findings.parse("region", region.parse::<RegionCode>());
        }
    }
}

impl Validate for PrincipalCreate {
    fn validate(&self, findings: &mut Findings) {
        findings.parse("name", self.name.parse::<NodeName>());
        examine_display_name("display_name", &self.display_name, findings);
    }
}

impl Validate for PrincipalChange {
    fn validate(&self, findings: &mut Findings) {
        examine_display_name(
            "display_name",
            self.display_name.as_deref().unwrap_or_default(),
            findings,
        );
    }
}

impl Validate for BindingCreate {
    fn validate(&self, findings: &mut Findings) {
        if self.role.is_some() == self.permission.is_some() {
            findings.add("role", FieldCode::Conflict, "give a role or a permission, one of both");
        }
        if let Some(pattern) = &self.permission {
            findings.parse("permission", pattern.parse::<PermissionPattern>());
        }
        if let Some(project) = &self.project {
            findings.parse("project", project.parse::<ProjectName>());
        }
    }
}

impl Validate for ApiKeyCreate {
    fn validate(&self, findings: &mut Findings) {
        if self.name.is_empty() {
            let reason = format!("say what the key is for, in 1 to {DISPLAY_NAME_BYTES_MAX} bytes");
            findings.add("name", FieldCode::Length, reason);
        }
        examine_display_name("name", &self.name, findings);
        examine_ttl(self.ttl_seconds, &API_KEY_TTL_S_RANGE, findings);
    }
}

impl Validate for TokenCreate {
    fn validate(&self, findings: &mut Findings) {
        if !["agent", "coordinator", "operator"].contains(&self.role.as_str()) {
            let role = crate::limits::cut(&self.role, DISPLAY_NAME_BYTES_MAX);
            let reason = format!("`{role}` is none of agent, coordinator and operator");
            findings.add("role", FieldCode::Format, reason);
        }
        if let Some(name) = &self.name {
            findings.parse("name", name.parse::<NodeName>());
        }
        examine_ttl(self.ttl_seconds, &TOKEN_TTL_S_RANGE, findings);
    }
}

impl Validate for SettingsChange {
    fn validate(&self, findings: &mut Findings) {
        let Some(limit) = self.migrations_per_node else { return };
        if !MIGRATIONS_PER_NODE_RANGE.contains(&limit) {
            let (least, most) =
                (MIGRATIONS_PER_NODE_RANGE.start(), MIGRATIONS_PER_NODE_RANGE.end());
            let reason = format!("{limit} migrations at once; a node has {least} to {most}");
            findings.add("migrations_per_node", FieldCode::Range, reason);
        }
    }
}

impl Validate for AnnotationWrite {
    fn validate(&self, findings: &mut Findings) {
        if let Err(wrong) = check_value(&self.value) {
            findings.add(&wrong.field, FieldCode::Length, wrong.problem);
        }
    }
}

impl Validate for SecretWrite {
    fn validate(&self, findings: &mut Findings) {
        if let Err(wrong) = self.value.check_value() {
            findings.add(&wrong.field, FieldCode::Length, wrong.problem);
        }
    }
}

impl Validate for AlertRaise {
    fn validate(&self, findings: &mut Findings) {
        findings.parse("key", self.key.parse::<AlertName>());
        if Condition::ALL.iter().any(|condition| condition.word() == self.key) {
            let reason = "the cluster itself raises such alerts: take another word";
            findings.add("key", FieldCode::Conflict, reason);
        }
        examine_line("summary", &self.summary, 1, ALERT_SUMMARY_BYTES_MAX, findings);
        let is_named =
            self.object.strip_prefix("vm/").is_some_and(|vm| vm.parse::<VmName>().is_ok());
        if !is_named {
            findings.parse("object", self.object.parse::<AlertObject>());
        }
    }
}

impl Validate for AlertNote {
    fn validate(&self, findings: &mut Findings) {
        examine_line("note", &self.note, 0, ALERT_NOTE_BYTES_MAX, findings);
    }
}

impl Validate for BudgetChange {
    fn validate(&self, findings: &mut Findings) {
        if let Some(amount) = self.micro_dollars_per_month {
            findings.range("micro_dollars_per_month", amount, &BUDGET_MICRO_DOLLARS_RANGE);
        }
    }
}

impl Validate for UsagePost {
    /// Each record is judged for itself, and so are too many of them: both have answers of their own.
    fn validate(&self, findings: &mut Findings) {
        if self.records.is_empty() {
            findings.add("records", FieldCode::Length, "none; send 1 to 1,000");
        }
    }
}

impl Validate for CorrectionPost {
    fn validate(&self, findings: &mut Findings) {
        examine_hour("window", self.window, findings);
        if self.quantity.0 < 0 {
            findings.add("quantity", FieldCode::Range, "what would have been right, 0 or more");
        }
        if self.reason.trim().is_empty() || self.reason.len() > CORRECTION_REASON_BYTES_MAX {
            let reason = format!("needed, 1 to {CORRECTION_REASON_BYTES_MAX} bytes");
            findings.add("reason", FieldCode::Length, reason);
        }
    }
}

impl Validate for RateCardView {
    fn validate(&self, findings: &mut Findings) {
        examine_hour("valid_from", self.valid_from, findings);
        self.prices.examine(findings);
    }
}

impl PricesView {
    fn examine(&self, findings: &mut Findings) {
        for (word, price) in [
            ("vm-hours", self.vm_hours),
            ("storage-gb", self.storage_gb),
            ("transfer-gb", self.transfer_gb),
            ("snapshots", self.snapshots),
            ("migrations", self.migrations),
        ] {
            let is_step = (0..=6).any(|zeros| price.per_units == 10_u64.pow(zeros));
            if price.micro_dollars > PRICE_MICRO_DOLLARS_MAX || !is_step {
                let reason = format!(
                    "at most {PRICE_MICRO_DOLLARS_MAX} micro-dollars for 1, 10, 100 … 1,000,000 units"
                );
                findings.add(&format!("prices.{word}"), FieldCode::Range, reason);
            }
        }
    }
}

impl Validate for PlanChange {
    fn validate(&self, findings: &mut Findings) {
        if let Some(from) = self.valid_from {
            examine_hour("valid_from", from, findings);
        }
    }
}

fn examine_display_name(field: &str, text: &str, findings: &mut Findings) {
    if text.len() > DISPLAY_NAME_BYTES_MAX || text.chars().any(char::is_control) {
        let reason = format!(
            "at most {DISPLAY_NAME_BYTES_MAX} bytes in one line, without control characters"
        );
        findings.add(field, FieldCode::Length, reason);
    }
}

fn examine_line(field: &str, text: &str, least: usize, most: usize, findings: &mut Findings) {
    if !(least..=most).contains(&text.len()) || text.chars().any(char::is_control) {
        let reason = format!("{least} to {most} bytes in one line, without control characters");
        findings.add(field, FieldCode::Length, reason);
    }
}

fn examine_certifications(all: &BTreeSet<Certification>, findings: &mut Findings) {
    if let Some(wrong) = check_certifications("compliance_certifications", all) {
        findings.add(&wrong.field, FieldCode::Length, wrong.problem);
    }
}

fn examine_residency(residency: &Residency, findings: &mut Findings) {
    examine_problems(residency.problems("residency"), findings);
}

/// What was said of a network.
fn examine_network(
    description: Option<&str>,
    bridge: Option<&str>,
    users: Option<&NetworkUsers>,
    regions: Option<&BTreeSet<RegionCode>>,
    findings: &mut Findings,
) {
    examine_display_name("description", description.unwrap_or_default(), findings);
    if let Some(wrong) = bridge.and_then(|bridge| wrong_bridge("bridge", bridge)) {
        findings.add(&wrong.field, FieldCode::Format, wrong.problem);
    }
    let users = users.and_then(|users| wrong_users("users", users));
    let regions = regions.and_then(|regions| wrong_regions("regions", regions));
    examine_problems(users.into_iter().chain(regions).collect(), findings);
}

fn examine_problems(problems: Vec<InvalidField>, findings: &mut Findings) {
    for wrong in problems {
        findings.add(&wrong.field, FieldCode::Length, wrong.problem);
    }
}

fn examine_ttl(
    given: Option<u64>,
    bounds: &std::ops::RangeInclusive<u64>,
    findings: &mut Findings,
) {
    if let Some(seconds) = given {
        findings.range("ttl_seconds", seconds, bounds);
    }
}

fn examine_hour(field: &str, moment: Timestamp, findings: &mut Findings) {
    if !moment.unix_ms.is_multiple_of(HOUR_S * 1000) {
        findings.add(field, FieldCode::Format, format!("{moment} is not a full hour (UTC)"));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde::de::DeserializeOwned;
    use serde_json::{Value, json};

    fn fields<T: Validate + DeserializeOwned>(body: Value) -> Vec<String> {
        let body: T = serde_json::from_value(body).unwrap();
        let found = Findings::of(&body);
        found.wrong().iter().map(|wrong| wrong.field.clone()).collect()
    }

    #[test]
    fn every_body_lists_all_that_is_wrong_with_it() {
        let long = "x".repeat(5000);
        let vm = json!({
            "name": "Not Good", "project": "Neither", "memory": 1, "cpus": 0, "kernel": "boot",
            "initrd": "x", "append": long, "network": { "bridge": { "bridge": "a b" } },
            "labels": { "": "" }, "nodeSelector": { "k": long },
            "disks": [{ "size": 65536 << 8, "image": "../etc" }, { "size": 1 }],
        });
        let expected = [
            "name",
            "project",
            "memory",
            "cpus",
            "kernel",
            "initrd",
            "append",
            "network.bridge",
            "labels",
            "nodeSelector",
            "disks[0].image",
            "disks[1].size",
        ];
        assert_eq!(fields::<VmCreate>(vm), expected);
        let vm = json!({ "name": "a", "disk": 1, "image": ".x", "initrd": "/x", "append": "y" });
        assert_eq!(fields::<VmCreate>(vm), ["initrd", "append", "disk", "image"]);
        let both = json!({ "name": "a", "disk": 1, "disks": [{ "size": 1 << 20 }] });
        assert_eq!(fields::<VmCreate>(both), ["disk"]);

        let options = json!({
            "target": "n", "downtime_limit_ms": 0, "bandwidth_bits_per_second": 1,
            "auto_converge": true, "force_shutdown": true,
        });
        let expected =
            ["downtime_limit_ms", "bandwidth_bits_per_second", "auto_converge", "force_shutdown"];
        assert_eq!(fields::<VmMigrate>(options), expected);
        let batch = json!({ "from": "a", "to": "b", "labels": { "": "" }, "downtime_limit_ms": 0 });
        assert_eq!(fields::<BatchCreate>(batch), ["labels", "downtime_limit_ms"]);
        let drain = json!({ "downtime_limit_ms": 0, "bandwidth_bits_per_second": 0 });
        assert_eq!(fields::<NodeDrain>(drain).len(), 2);

        let named = json!({ "name": "a", "network": { "named": "Not Good" } });
        assert_eq!(fields::<VmCreate>(named), ["network.named"]);
        let many = Vec::from_iter((0..257).map(|number| format!("n{number}")));
        let network = json!({
            "name": "user", "description": long, "bridge": "a b",
            "users": { "projects": many }, "regions": many,
        });
        let expected = ["name", "description", "bridge", "users.projects", "regions"];
        assert_eq!(fields::<NetworkCreate>(network.clone()), expected);
        let mut change = network;
        change.as_object_mut().unwrap().remove("name");
        assert_eq!(fields::<NetworkChange>(change), expected[1..]);

        let project = json!({ "name": "-", "display_name": long, "labels": { "k": long } });
        assert_eq!(fields::<ProjectCreate>(project), ["name", "display_name", "labels"]);
        let change = json!({ "display_name": "a\nb", "labels": { "k": "\u{0}" } });
        assert_eq!(fields::<ProjectChange>(change), ["display_name", "labels"]);
        let principal = json!({ "name": "-", "kind": "service", "display_name": long });
        assert_eq!(fields::<PrincipalCreate>(principal), ["name", "display_name"]);
        assert_eq!(fields::<PrincipalChange>(json!({ "display_name": long })), ["display_name"]);
        let binding =
            json!({ "principal": "a", "role": "admin", "permission": "vm.fly", "project": "-" });
        assert_eq!(fields::<BindingCreate>(binding), ["role", "permission", "project"]);
        let key = json!({ "principal": "a", "name": "", "ttl_seconds": 1 });
        assert_eq!(fields::<ApiKeyCreate>(key), ["name", "ttl_seconds"]);
        let token = json!({ "role": "god", "name": "-", "ttl_seconds": 86_401 });
        assert_eq!(fields::<TokenCreate>(token), ["role", "name", "ttl_seconds"]);
        assert_eq!(fields::<SettingsChange>(json!({ "migrations_per_node": 0 })).len(), 1);
        assert_eq!(fields::<AnnotationWrite>(json!({ "value": long })), ["value"]);

        let alert =
            json!({ "key": "-", "severity": "info", "summary": "a\nb", "object": "disk/a" });
        assert_eq!(fields::<AlertRaise>(alert), ["key", "summary", "object"]);
        let alert =
            json!({ "key": "vm-failed", "severity": "info", "summary": "", "object": "vm/No" });
        assert_eq!(fields::<AlertRaise>(alert), ["key", "summary", "object"]);
        assert_eq!(fields::<AlertNote>(json!({ "note": long })), ["note"]);
        let budget = json!({ "micro_dollars_per_month": 0 });
        assert_eq!(fields::<BudgetChange>(budget), ["micro_dollars_per_month"]);

        let within = "2026-11-26T13:30:00Z";
        let correction = json!({ "window": within, "index": 1, "quantity": "-1", "reason": " " });
        assert_eq!(fields::<CorrectionPost>(correction), ["window", "quantity", "reason"]);
        let price = json!({ "micro_dollars": 1_000_000_001 });
        let prices =
            json!({ "vm-hours": price, "migrations": { "micro_dollars": 1, "per_units": 3 } });
        let card = json!({ "plan": "a", "valid_from": within, "prices": prices });
        let expected = ["valid_from", "prices.vm-hours", "prices.migrations"];
        assert_eq!(fields::<RateCardView>(card), expected);
        let plan = json!({ "project": "a", "plan": "b", "valid_from": within });
        assert_eq!(fields::<PlanChange>(plan), ["valid_from"]);
        assert_eq!(fields::<UsagePost>(json!({ "node": "a", "records": [] })), ["records"]);
    }

    #[test]
    fn what_is_right_has_nothing_wrong() {
        assert_eq!(fields::<VmCreate>(json!({ "name": "a" })), [""; 0]);
        assert_eq!(
            fields::<VmMigrate>(json!({ "target": "n", "mode": "live", "auto_converge": true })),
            [""; 0]
        );
        let alert =
            |object| json!({ "key": "a", "severity": "info", "summary": "b", "object": object });
        for object in ["vm/web", "cluster", "node/node-01"] {
            assert_eq!(fields::<AlertRaise>(alert(object)), [""; 0], "{object}");
        }
        let card = json!({ "plan": "a", "valid_from": "2026-11-26T13:00:00Z", "prices": {} });
        assert_eq!(fields::<RateCardView>(card), [""; 0]);
    }
}
