//! What a virtual machine is to everyone: its specification and its states.

use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::ids::{ProjectName, VmName};
use crate::limits::{
    DISK_BLOCK_BYTES, DISK_BYTES_MAX, DISK_BYTES_MIN, DISKS_MAX, KERNEL_APPEND_BYTES_MAX,
    LABEL_BYTES_MAX, LABELS_MAX, PATH_BYTES_MAX, VM_CPUS_MAX, VM_MEMORY_BYTES_MAX,
    VM_MEMORY_BYTES_MIN,
};

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

fn invalid(field: &str, problem: String) -> Result<(), InvalidField> {
    Err(InvalidField { field: field.to_owned(), problem })
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
        self.check_memory()?;
        if !(1..=VM_CPUS_MAX).contains(&self.cpus) {
            return invalid("cpus", format!("{} is outside 1 to {VM_CPUS_MAX}", self.cpus));
        }
        self.check_disks()?;
        self.check_boot()?;
        self.check_network()?;
        check_labels("labels", &self.labels)?;
        check_labels("nodeSelector", &self.node_selector)
    }

    fn check_memory(&self) -> Result<(), InvalidField> {
        let range = VM_MEMORY_BYTES_MIN..=VM_MEMORY_BYTES_MAX;
        if !range.contains(&self.memory_bytes) || !self.memory_bytes.is_multiple_of(1 << 20) {
            let problem = format!(
                "{} bytes is not possible: a whole number of MiB from 16 MiB to 16 TiB is needed",
                self.memory_bytes
            );
            return invalid("memory", problem);
        }
        Ok(())
    }

    fn check_disks(&self) -> Result<(), InvalidField> {
        if self.disks.len() > DISKS_MAX {
            return invalid("disks", format!("{} disks; at most {DISKS_MAX}", self.disks.len()));
        }
        self.disks.iter().try_for_each(DiskSpec::check)?;
        if self.boot == Boot::Disk && self.disks.is_empty() {
            return invalid("disks", "a machine without a kernel needs a disk to boot from".into());
        }
        Ok(())
    }

    fn check_boot(&self) -> Result<(), InvalidField> {
        let Boot::Kernel { kernel, initrd, append } = &self.boot else { return Ok(()) };
        for (field, path) in [("kernel", kernel), ("initrd", initrd)] {
            let absent = path.is_empty() && field == "initrd";
            if !absent && (!path.starts_with('/') || path.len() > PATH_BYTES_MAX) {
                let problem =
                    format!("an absolute path of at most {PATH_BYTES_MAX} bytes is needed");
                return invalid(field, problem);
            }
        }
        if append.len() > KERNEL_APPEND_BYTES_MAX {
            return invalid("append", format!("longer than {KERNEL_APPEND_BYTES_MAX} bytes"));
        }
        Ok(())
    }

    fn check_network(&self) -> Result<(), InvalidField> {
        let Network::Bridge { bridge } = &self.network else { return Ok(()) };
        let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"-_.".contains(&byte);
        // Linux bounds interface names at 15 bytes.
        if !(1..=15).contains(&bridge.len()) || !bridge.bytes().all(plain) {
            return invalid("network.bridge", format!("`{bridge}` is not an interface name"));
        }
        Ok(())
    }

    /// Bytes of all disks as the guest sees them.
    pub fn disk_bytes(&self) -> u64 {
        self.disks.iter().map(|disk| disk.size_bytes).fold(0, u64::saturating_add)
    }
}

impl DiskSpec {
    fn check(&self) -> Result<(), InvalidField> {
        let sized_by_image = self.size_bytes == 0 && !self.image.is_empty();
        let in_range = (DISK_BYTES_MIN..=DISK_BYTES_MAX).contains(&self.size_bytes)
            && self.size_bytes.is_multiple_of(DISK_BLOCK_BYTES);
        if !sized_by_image && !in_range {
            let problem = format!(
                "{} bytes is not possible: a multiple of 64 KiB from 1 MiB to 64 TiB is needed",
                self.size_bytes
            );
            return invalid("disk", problem);
        }
        let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"-_.+".contains(&byte);
        if self.image.len() > PATH_BYTES_MAX
            || self.image.starts_with('.')
            || !self.image.bytes().all(plain)
        {
            let problem =
                format!("`{}` is not an image name: letters, digits and -_.+", self.image);
            return invalid("image", problem);
        }
        Ok(())
    }
}

/// Checks labels of whatever has some.
///
/// # Errors
/// What is wrong with them, about `field`.
pub fn check_labels(field: &str, labels: &Labels) -> Result<(), InvalidField> {
    if labels.len() > LABELS_MAX {
        return invalid(field, format!("{} entries; at most {LABELS_MAX}", labels.len()));
    }
    let too_long = |text: &String| text.len() > LABEL_BYTES_MAX;
    match labels.iter().find(|(key, value)| key.is_empty() || too_long(key) || too_long(value)) {
        Some((key, _)) => invalid(
            field,
            format!(
                "`{key}`: a key of 1 to {LABEL_BYTES_MAX} bytes and a value of at most as many"
            ),
        ),
        None => Ok(()),
    }
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
