//! Machines.

use novacron_protocol::api::VmView;
use novacron_protocol::size::display_size;
use novacron_protocol::vm::{Boot, DiskSpec, Network};

use super::text::{labels, or_dash, or_nothing, size, word};
use super::{Fields, Row, Show};

impl Row for VmView {
    const HEADER: &'static [&'static str] =
        &["NAME", "PROJECT", "STATE", "NODE", "CPUS", "MEMORY", "DISK", "LABELS"];

    fn row(&self) -> Vec<String> {
        vec![
            self.name.to_string(),
            self.project.to_string(),
            word(&self.state),
            or_dash(self.node.as_ref()),
            self.cpus.to_string(),
            display_size(self.memory),
            size(self.disks.iter().map(|disk| disk.size_bytes).fold(0, u64::saturating_add)),
            labels(&self.labels),
        ]
    }
}

impl Show for VmView {
    fn fields(&self) -> Fields {
        vec![
            ("name", self.name.to_string()),
            ("id", self.id.to_string()),
            ("project", self.project.to_string()),
            ("state", word(&self.state)),
            ("reason", self.reason.clone()),
            ("node", or_nothing(self.node.as_ref())),
            ("migration", or_nothing(self.migration_id)),
            ("cpus", self.cpus.to_string()),
            ("memory", display_size(self.memory)),
            ("disks", lines(self.disks.iter().map(disk))),
            ("boot", boot(&self.boot)),
            ("network", network(self)),
            ("tpm", if self.enable_tpm { "yes".into() } else { String::new() }),
            ("labels", labels(&self.labels)),
            ("node selector", labels(&self.node_selector)),
            ("annotations", lines(self.annotations.iter().map(annotation))),
            ("created", self.created_at.to_string()),
            ("updated", self.updated_at.to_string()),
        ]
    }
}

/// One line: how the machine stands.
pub fn state_line(vm: &VmView) -> String {
    let place = vm.node.as_ref().map(|node| format!(" on {node}")).unwrap_or_default();
    let reason = if vm.reason.is_empty() { String::new() } else { format!(": {}", vm.reason) };
    format!("{} is {}{place}{reason}", vm.name, word(&vm.state))
}

fn lines(items: impl Iterator<Item = String>) -> String {
    items.collect::<Vec<_>>().join("\n")
}

fn disk(disk: &DiskSpec) -> String {
    let size = match disk.size_bytes {
        0 => "size of the image".to_owned(),
        bytes => display_size(bytes),
    };
    let image = if disk.image.is_empty() { String::new() } else { format!(" from {}", disk.image) };
    format!("{size} {}{image}", word(&disk.format))
}

/// One line, whatever the text is.
fn annotation((key, value): (&String, &String)) -> String {
    format!("{key}={}", value.escape_debug())
}

fn boot(boot: &Boot) -> String {
    match boot {
        Boot::Disk => "first disk".to_owned(),
        Boot::Kernel { kernel, initrd, append } => {
            let parts = [kernel.as_str(), initrd.as_str(), append.as_str()];
            lines(parts.iter().filter(|part| !part.is_empty()).map(|part| (*part).to_owned()))
        }
    }
}

fn network(vm: &VmView) -> String {
    match (&vm.network, &vm.network_name) {
        (Network::Bridge { bridge }, Some(name)) => format!("{name} (bridge {bridge})"),
        (Network::Bridge { bridge }, None) => format!("bridge {bridge}"),
        (Network::None, _) => "none".to_owned(),
        (Network::User, _) => "user".to_owned(),
    }
}
