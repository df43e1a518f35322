//! What a virtual machine is to everyone: its specification and its states.

use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::api::{FieldCode, Findings};
use crate::ids::{ProjectName, VmName};
use crate::limits::{
    DISK_BLOCK_BYTES, DISK_BYTES_MAX, DISK_BYTES_MIN, DISKS_MAX, KERNEL_APPEND_BYTES_MAX,
    LABEL_BYTES_MAX, LABELS_MAX, PATH_BYTES_MAX, VM_CPUS_MAX, VM_MEMORY_BYTES_MAX,
    VM_MEMORY_BYTES_MIN, cut,
};
use crate::network::wrong_bridge;

/// Labels of a machine or node, and node selectors.
pub type Labels = BTreeMap<String, String>;

/// What a machine is made of. Checked by [`VmSpec::check`] before it is proposed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub struct VmSpec {
    /// Name, unique in the fleet.
    pub name: VmName,
    /// Whose it is, for ever.
    pub project: ProjectName,
    /// Memory in bytes, a multiple of 1 MiB.
    pub memory_bytes: u64,
    /// Virtual CPUs.
    pub cpus: u32,
    /// Disks in the order in which the guest sees them.
    pub disks: Vec<DiskSpec>,
    /// What the machine boots.
    pub boot: Boot,
    /// Its network.
    pub network: Network,
    /// Labels for people and queries.
    pub labels: Labels,
    /// Labels that a node must have to run the machine.
    pub node_selector: Labels,
    /// Whether the machine has a TPM 2.0 (needs swtpm on the node).
    pub enable_tpm: bool,
}

/// One disk.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct DiskSpec {
    /// Size in bytes that the guest sees, a multiple of 64 KiB. 0 means the size of the image.
    pub size_bytes: u64,
    /// Image of the node's image directory that the disk starts as a copy of; empty for a blank disk.
    pub image: String,
    /// Format of the file on the node.
    pub format: DiskFormat,
}

/// Format of a disk file.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum DiskFormat {
    /// QEMU's copy-on-write format.
    #[default]
    Qcow2,
    /// Plain bytes, sparse.
    Raw,
}

/// What a machine boots.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Boot {
    /// The firmware boots the first disk.
    Disk,
    /// A kernel that QEMU loads.
    Kernel {
        /// Path of the kernel on the node that creates the machine.
        kernel: String,
        /// Path of the initial RAM disk on that node; empty for none.
        initrd: String,
        /// Kernel command line.
        append: String,
    },
}

/// How a machine is connected.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Network {
    /// No network card.
    None,
    /// QEMU's own network address translation; the guest reaches out, nothing reaches in.
    #[default]
    User,
    /// A tap device in a bridge of the node.
    Bridge {
        /// The bridge's name on every node that may run the machine.
        bridge: String,
    },
}

/// A field of a specification that cannot be, and what would be right.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema, thiserror::Error)]
#[error("{field}: {problem}")]
pub struct InvalidField {
    /// The field, as the API names it.
    pub field: String,
    /// What is wrong and what would be right.
    pub problem: String,
}

/// The label that names a machine's tenant within its project.
pub const TENANT_LABEL: &str = "tenant";

impl VmSpec {
    /// Whose the machine is, as far as machines may share what they hold: its project, and within that the value of
    /// its label [`TENANT_LABEL`]. Machines of one project without such a label are all of one tenant. Names of
    /// projects hold no `/`, so no label reaches into another project.
    pub fn tenant(&self) -> String {
        let label = self.labels.get(TENANT_LABEL).map_or("", String::as_str);
        format!("{}/{label}", self.project)
    }

    /// Checks every field against the limits.
    ///
    /// # Errors
    /// The first field that is out of its bounds.
    pub fn check(&self) -> Result<(), InvalidField> {
        let mut findings = Findings::default();
        self.examine(&mut findings);
        self.disks.iter().for_each(|disk| disk.examine("disk", "image", &mut findings));
        findings.first()
    }

    /// Finds every field that is out of its bounds, single disks apart.
    pub fn examine(&self, findings: &mut Findings) {
        self.examine_memory(findings);
        findings.range("cpus", self.cpus.into(), &(1..=VM_CPUS_MAX.into()));
        self.examine_disks(findings);
        self.examine_boot(findings);
        self.examine_network(findings);
        examine_labels("labels", &self.labels, findings);
        examine_labels("nodeSelector", &self.node_selector, findings);
    }

    fn examine_memory(&self, findings: &mut Findings) {
        let range = VM_MEMORY_BYTES_MIN..=VM_MEMORY_BYTES_MAX;
        if !range.contains(&self.memory_bytes) || !self.memory_bytes.is_multiple_of(1 << 20) {
            let reason = format!(
                "{} bytes is not possible: a whole number of MiB from 16 MiB to 16 TiB is needed",
                self.memory_bytes
            );
            findings.add("memory", FieldCode::Range, reason);
        }
    }

    fn examine_disks(&self, findings: &mut Findings) {
        if self.disks.len() > DISKS_MAX {
            let reason = format!("{} disks; at most {DISKS_MAX}", self.disks.len());
            findings.add("disks", FieldCode::Length, reason);
        }
        if self.boot == Boot::Disk && self.disks.is_empty() {
            let reason = "a machine without a kernel needs a disk to boot from";
            findings.add("disks", FieldCode::Length, reason);
        }
    }

    fn examine_boot(&self, findings: &mut Findings) {
        let Boot::Kernel { kernel, initrd, append } = &self.boot else { return };
        for (field, path) in [("kernel", kernel), ("initrd", initrd)] {
            let absent = path.is_empty() && field == "initrd";
            if !absent && (!path.starts_with('/') || path.len() > PATH_BYTES_MAX) {
                let reason =
                    format!("an absolute path of at most {PATH_BYTES_MAX} bytes is needed");
                findings.add(field, FieldCode::Format, reason);
            }
        }
        if append.len() > KERNEL_APPEND_BYTES_MAX {
            let reason = format!("longer than {KERNEL_APPEND_BYTES_MAX} bytes");
            findings.add("append", FieldCode::Length, reason);
        }
    }

    fn examine_network(&self, findings: &mut Findings) {
        let Network::Bridge { bridge } = &self.network else { return };
        if let Some(wrong) = wrong_bridge("network.bridge", bridge) {
            findings.add(&wrong.field, FieldCode::Format, wrong.problem);
        }
    }

    /// Bytes of all disks as the guest sees them.
    pub fn disk_bytes(&self) -> u64 {
        self.disks.iter().map(|disk| disk.size_bytes).fold(0, u64::saturating_add)
    }
}

impl DiskSpec {
    /// Finds what is wrong with its size and image, under the names that a body has for them.
    pub fn examine(&self, size_field: &str, image_field: &str, findings: &mut Findings) {
        let sized_by_image = self.size_bytes == 0 && !self.image.is_empty();
        let in_range = (DISK_BYTES_MIN..=DISK_BYTES_MAX).contains(&self.size_bytes)
            && self.size_bytes.is_multiple_of(DISK_BLOCK_BYTES);
        if !sized_by_image && !in_range {
            let reason = format!(
                "{} bytes is not possible: a multiple of 64 KiB from 1 MiB to 64 TiB is needed",
                self.size_bytes
            );
            findings.add(size_field, FieldCode::Range, reason);
        }
        let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"-_.+".contains(&byte);
        let is_name = !self.image.starts_with('.') && self.image.bytes().all(plain);
        if self.image.len() > PATH_BYTES_MAX || !is_name {
            let reason = format!("`{}` is not an image name: letters, digits and -_.+", self.image);
            findings.add(image_field, FieldCode::Format, reason);
        }
    }
}

/// Checks labels of whatever has some.
///
/// # Errors
/// What is wrong with them, about `field`.
pub fn check_labels(field: &str, labels: &Labels) -> Result<(), InvalidField> {
    let mut findings = Findings::default();
    examine_labels(field, labels, &mut findings);
    findings.first()
}

/// Finds what is wrong with labels of whatever has some.
pub fn examine_labels(field: &str, labels: &Labels, findings: &mut Findings) {
    if labels.len() > LABELS_MAX {
        let reason = format!("{} entries; at most {LABELS_MAX}", labels.len());
        return findings.add(field, FieldCode::Length, reason);
    }
    let is_wrong =
        |text: &String| text.len() > LABEL_BYTES_MAX || text.chars().any(char::is_control);
    let wrong =
        labels.iter().filter(|(key, value)| key.is_empty() || is_wrong(key) || is_wrong(value));
    let keys: Vec<&str> = wrong.map(|(key, _)| cut(key, LABEL_BYTES_MAX)).collect();
    if keys.is_empty() {
        return;
    }
    let reason = format!(
        "`{}`: a key of 1 to {LABEL_BYTES_MAX} bytes and a value of at most as many, without control characters",
        keys.join("`, `")
    );
    findings.add(field, FieldCode::Length, reason);
}

/// Where a machine stands.
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, JsonSchema,
)]
#[serde(rename_all = "lowercase")]
pub enum VmState {
    /// Accepted, and no node can take it yet.
    Pending,
    /// Its node makes the disks.
    Creating,
    /// Defined, not running.
    Stopped,
    /// Its node starts it.
    Starting,
    /// It runs.
    Running,
    /// Its processors stand still, its memory is kept.
    Paused,
    /// It runs, and moves to another node.
    Migrating,
    /// It was told to shut down.
    Stopping,
    /// It ended or could not be made; the reason says why.
    Failed,
    /// Its node does not answer.
    Unknown,
    /// Gone; kept for the record.
    Deleted,
}

#[cfg(test)]
mod tests {
    use super::*;

    fn spec() -> VmSpec {
        VmSpec {
            name: "web-01".parse().unwrap(),
            project: ProjectName::default(),
            memory_bytes: 512 << 20,
            cpus: 1,
            disks: vec![DiskSpec {
                size_bytes: 1 << 30,
                image: String::new(),
                format: DiskFormat::Raw,
            }],
            boot: Boot::Disk,
            network: Network::User,
            labels: Labels::new(),
            node_selector: Labels::new(),
            enable_tpm: false,
        }
    }

    fn field_of(change: impl FnOnce(&mut VmSpec)) -> Option<String> {
        let mut spec = spec();
        change(&mut spec);
        spec.check().err().map(|invalid| invalid.field)
    }

    #[test]
    fn every_bad_field_is_named() {
        assert_eq!(field_of(|_| ()), None);
        let named = |field: &str| Some(field.to_owned());
        assert_eq!(field_of(|spec| spec.memory_bytes = 1), named("memory"));
        assert_eq!(field_of(|spec| spec.cpus = 0), named("cpus"));
        assert_eq!(field_of(|spec| spec.disks[0].size_bytes = 1000), named("disk"));
        assert_eq!(field_of(|spec| spec.disks[0].image = "../etc".into()), named("image"));
        assert_eq!(field_of(|spec| spec.disks.clear()), named("disks"));
        assert_eq!(
            field_of(|spec| spec.network = Network::Bridge { bridge: "a b".into() }),
            named("network.bridge")
        );
        let kernel = |kernel: &str| Boot::Kernel {
            kernel: kernel.into(),
            initrd: String::new(),
            append: String::new(),
        };
        assert_eq!(field_of(|spec| spec.boot = kernel("vmlinuz")), named("kernel"));
        assert_eq!(field_of(|spec| spec.boot = kernel("/boot/vmlinuz")), None);
        assert_eq!(
            field_of(|spec| drop(spec.labels.insert(String::new(), String::new()))),
            named("labels")
        );
    }

    #[test]
    fn a_label_does_not_reach_into_another_project() {
        let of = |project: &str, label: Option<&str>| {
            let mut spec = spec();
            spec.project = project.parse().unwrap();
            spec.labels =
                label.map(|value| (TENANT_LABEL.into(), value.into())).into_iter().collect();
            spec.tenant()
        };
        let tenants = [of("a", None), of("b", None), of("a", Some("b")), of("a", Some("b/"))];
        let distinct: std::collections::BTreeSet<_> = tenants.iter().collect();
        assert_eq!(distinct.len(), tenants.len());
        assert_eq!(of("a", Some("x")), of("a", Some("x")));
    }
}
