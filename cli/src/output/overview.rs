//! The fleet in one document.

use std::collections::BTreeMap;

use novacron_protocol::api::{MonthCost, NodeTotals, Overview};
use novacron_protocol::node::NodeCapacity;
use novacron_protocol::size::display_size;
use serde::Serialize;

use super::alert::totals_line;
use super::text::{table, word};
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
        fields.extend(self.cost.as_ref().map(|cost| ("cost", month(cost))));
        let quotas = self.quotas.iter().map(|one| {
            let name = format!("{}/{}", one.project, one.quota);
            vec![name, one.used.to_string(), one.limit.to_string()]
        });
        let quotas: Vec<_> = quotas.collect();
        if !quotas.is_empty() {
            let quotas = table(&["QUOTA", "USED", "LIMIT"], quotas);
            fields.push(("quotas", quotas.trim_end().to_owned()));
        }
        fields.push(("alerts", totals_line(&self.alerts)));
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
