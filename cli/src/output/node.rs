//! Nodes.

use novacron_protocol::api::NodeView;
use novacron_protocol::size::display_size;

use super::text::{labels, word};
use super::{Fields, Row, Show};

impl Row for NodeView {
    const HEADER: &'static [&'static str] =
        &["NAME", "STATE", "VMS", "CPUS", "MEMORY", "DISK", "ACCEL", "QEMU", "LABELS"];

    fn row(&self) -> Vec<String> {
        vec![
            self.name.to_string(),
            word(&self.state),
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
            ("machines", self.machines.to_string()),
            ("cpus", format!("{} of {} in use", self.allocated.cpus, self.capacity.cpus)),
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

fn of(used: u64, all: u64) -> String {
    format!("{}/{}", display_size(used), display_size(all))
}

fn in_use(used: u64, all: u64) -> String {
    format!("{} of {} in use", display_size(used), display_size(all))
}
