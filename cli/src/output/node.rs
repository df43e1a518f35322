//! Nodes.

use novacron_protocol::api::{DrainMachineView, DrainView, NodeView};
use novacron_protocol::node::Scheduling;
use novacron_protocol::size::display_size;

use super::text::{labels, or_dash, or_nothing, table, word};
use super::{Fields, Row, Show};

impl Row for NodeView {
    const HEADER: &'static [&'static str] = &[
        "NAME",
        "STATE",
        "SCHEDULING",
        "REGION",
        "VMS",
        "CPUS",
        "MEMORY",
        "DISK",
        "ACCEL",
        "QEMU",
        "LABELS",
    ];

    fn row(&self) -> Vec<String> {
        vec![
            self.name.to_string(),
            word(&self.state),
            word(&self.scheduling),
            or_dash(self.region.as_ref()),
            self.machines.to_string(),
            format!("{}/{}", self.allocated.cpus, self.capacity.cpus),
            of(self.allocated.memory_bytes, self.capacity.memory_bytes),
            of(self.allocated.disk_bytes, self.capacity.disk_bytes),
            word(&self.accelerator),
            self.qemu_version.clone(),
            labels(&self.labels),
        ]
    }
}

impl Show for NodeView {
    fn fields(&self) -> Fields {
        vec![
            ("name", self.name.to_string()),
            ("state", word(&self.state)),
            ("scheduling", word(&self.scheduling)),
            ("region", or_nothing(self.region.as_ref())),
            ("machines", self.machines.to_string()),
            ("left", self.drain.as_ref().map(progress).unwrap_or_default()),
            ("to leave", self.drain.as_ref().map(left).unwrap_or_default()),
            ("cpus", cpus(self.allocated.cpus, self.capacity.cpus)),
            ("memory", in_use(self.allocated.memory_bytes, self.capacity.memory_bytes)),
            ("disk", in_use(self.allocated.disk_bytes, self.capacity.disk_bytes)),
            ("accelerator", word(&self.accelerator)),
            ("because", self.accelerator_reason.clone()),
            ("qemu", self.qemu_version.clone()),
            ("agent", self.agent_version.clone()),
            ("migrations at", self.migration_address.clone()),
            ("labels", labels(&self.labels)),
            ("first seen", self.created_at.to_string()),
            ("updated", self.updated_at.to_string()),
        ]
    }
}

/// How far the draining of a node is, in one line.
pub fn drain_line(view: &NodeView) -> String {
    match (view.scheduling, &view.drain) {
        (Scheduling::Draining, Some(drain)) => format!("{}: {}", view.name, progress(drain)),
        (scheduling, _) => format!("{} is {}", view.name, word(&scheduling)),
    }
}

fn progress(drain: &DrainView) -> String {
    if drain.drained_at.is_some() {
        return "nothing".to_owned();
    }
    let parts = [(drain.moving, "moving"), (drain.waiting, "waiting"), (drain.blocked, "blocked")];
    let parts = parts.iter().filter(|(count, _)| *count > 0);
    let parts: Vec<_> = parts.map(|(count, word)| format!("{count} {word}")).collect();
    // What arrives or is cleared up is no machine of the node.
    if parts.is_empty() { "clearing up".to_owned() } else { parts.join(", ") }
}

fn left(drain: &DrainView) -> String {
    if drain.machines.is_empty() {
        return String::new();
    }
    let header = ["VM", "STATUS", "MIGRATION", "AGAIN AT", "REASON"];
    table(&header, drain.machines.iter().map(machine)).trim_end().to_owned()
}

fn machine(machine: &DrainMachineView) -> Vec<String> {
    vec![
        machine.vm_name.to_string(),
        word(&machine.status),
        or_dash(machine.migration_id),
        or_dash(machine.retry_at),
        machine.reason.clone(),
    ]
}

/// Machines may have more processors than the host, which they share then.
fn cpus(used: u32, all: u32) -> String {
    let shared = if used > all { ", which the machines share" } else { "" };
    format!("{used} of {all} in use{shared}")
}

fn of(used: u64, all: u64) -> String {
    format!("{}/{}", display_size(used), display_size(all))
}

fn in_use(used: u64, all: u64) -> String {
    format!("{} of {} in use", display_size(used), display_size(all))
}
