//! The fleet in one document.

use std::collections::BTreeMap;

use novacron_protocol::api::{MonthCost, NodeTotals, Overview, RegionTotals, Saving};
use novacron_protocol::node::{NodeCapacity, NodeState};
use novacron_protocol::size::display_size;
use serde::Serialize;

use super::alert::totals_line;
use super::text::{or_dash, table, word};
use super::usage::dollars;
use super::{Fields, Show};

impl Show for Overview {
    fn fields(&self) -> Fields {
        let machines = &self.machines;
        let mut fields = vec![
            ("revision", self.revision.to_string()),
            ("machines", counted(machines.total, &machines.by_state)),
            (
                "size",
                format!(
                    "{} CPUs, {} of memory, {} of disk",
                    machines.cpus,
                    display_size(machines.memory_bytes),
                    display_size(machines.disk_bytes)
                ),
            ),
            (
                "migrations",
                format!(
                    "{} under way, {} queued",
                    self.migrations.in_progress, self.migrations.queued
                ),
            ),
        ];
        fields.extend(self.nodes.iter().flat_map(nodes));
        fields.extend(self.regions.as_ref().map(|all| ("regions", regions(all))));
        fields.push(("violations", violations(self)));
        fields.extend(self.cost.as_ref().map(|cost| ("cost", month(cost))));
        fields.push(("savings", savings(&self.savings)));
        let quotas = self.quotas.iter().map(|one| {
            let name = format!("{}/{}", one.project, one.quota);
            vec![name, one.used.to_string(), one.limit.to_string()]
        });
        let quotas: Vec<_> = quotas.collect();
        if !quotas.is_empty() {
            let quotas = table(&["QUOTA", "USED", "LIMIT"], quotas);
            fields.push(("quotas", quotas.trim_end().to_owned()));
        }
        let alerts = self.alerts.as_ref().map(totals_line);
        fields.push(("alerts", alerts.unwrap_or_else(|| "turned off at this coordinator".into())));
        fields.push(("attention", attention(self)));
        fields
    }
}

fn counted<State: Serialize>(total: u64, by_state: &BTreeMap<State, u64>) -> String {
    let there = by_state.iter().filter(|(_, count)| **count > 0);
    let words: Vec<_> = there.map(|(state, count)| format!("{count} {}", word(state))).collect();
    match words.is_empty() {
        true => total.to_string(),
        false => format!("{total}: {}", words.join(", ")),
    }
}

fn nodes(nodes: &NodeTotals) -> [(&'static str, String); 3] {
    let drained = match nodes.draining {
        0 => String::new(),
        count => format!("; {count} drained or being drained"),
    };
    [
        ("nodes", counted(nodes.total, &nodes.by_state) + &drained),
        ("capacity", capacity(&nodes.capacity)),
        ("allocated", capacity(&nodes.allocated)),
    ]
}

fn regions(all: &[RegionTotals]) -> String {
    let header = ["REGION", "STATUS", "READY", "SUSPECT", "DOWN", "MACHINES", "DOLLARS AN HOUR"];
    let rows = all.iter().map(|one| {
        let mut row = vec![or_dash(one.region.as_ref()), or_dash(one.status.as_ref().map(word))];
        let states = [NodeState::Ready, NodeState::Suspect, NodeState::Down];
        row.extend(states.map(|state| one.nodes.get(&state).copied().unwrap_or(0).to_string()));
        row.push(one.machines.to_string());
        row.push(or_dash(one.micro_dollars_per_hour.map(dollars)));
        row
    });
    table(&header, rows).trim_end().to_owned()
}

/// Nothing, where there are none.
fn violations(overview: &Overview) -> String {
    match overview.violations {
        0 => String::new(),
        count => format!("{count} against a rule of residency: `novacron region violations`"),
    }
}

fn savings(all: &[Saving]) -> String {
    if all.is_empty() {
        return String::new();
    }
    let rows = all.iter().map(|one| {
        let left = one.count.saturating_sub(one.names.len() as u64);
        let more = if left > 0 { format!(" and {left} more") } else { String::new() };
        vec![
            word(&one.rule),
            one.count.to_string(),
            dollars(one.micro_dollars_per_month),
            one.names.join(",") + &more,
        ]
    });
    table(&["SAVING", "COUNT", "DOLLARS A MONTH", "NAMES"], rows).trim_end().to_owned()
}

fn capacity(capacity: &NodeCapacity) -> String {
    format!(
        "{} CPUs, {} of memory, {} of disk",
        capacity.cpus,
        display_size(capacity.memory_bytes),
        display_size(capacity.disk_bytes)
    )
}

fn month(cost: &MonthCost) -> String {
    let sum = format!("{} in {} so far", dollars(cost.micro_dollars), cost.month);
    let projects = cost
        .projects
        .iter()
        .map(|total| format!("\n{} {}", dollars(total.micro_dollars), total.project));
    sum + &projects.collect::<String>()
}

fn attention(overview: &Overview) -> String {
    if overview.attention.is_empty() {
        return "nothing".to_owned();
    }
    let rows = overview.attention.iter().map(|one| {
        vec![word(&one.severity), word(&one.kind), one.name.clone(), one.detail.clone()]
    });
    let listed = table(&["SEVERITY", "KIND", "NAME", "DETAIL"], rows);
    let left = overview.attention_total.saturating_sub(overview.attention.len() as u64);
    let more = if left > 0 { format!("{left} more") } else { String::new() };
    (listed + &more).trim_end().to_owned()
}
