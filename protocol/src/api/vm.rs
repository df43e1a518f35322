//! Virtual machines.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{FieldCode, Findings, Links, NetworkChoice};
use crate::annotation::Annotations;
use crate::ids::{
    Generation, MigrationId, NetworkName, NodeName, ProjectName, Revision, VmId, VmName,
};
use crate::migration::{MigrationMode, MigrationOptions};
use crate::time::Timestamp;
use crate::vm::{Boot, DiskFormat, DiskSpec, InvalidField, Labels, Network, VmSpec, VmState};

/// Memory of a machine unless said: 2 GiB.
const MEMORY_BYTES_DEFAULT: u64 = 2 << 30;
/// Virtual CPUs unless said.
const CPUS_DEFAULT: u32 = 2;
/// First disk unless said: 20 GiB.
const DISK_BYTES_DEFAULT: u64 = 20 << 30;
/// Image unless said.
const IMAGE_DEFAULT: &str = "ubuntu-22.04";

/// A machine to create. Whatever is absent has its default: 2 GiB, 2 CPUs, one 20 GiB disk of image
/// `ubuntu-22.04`. With a kernel there is no default image.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct VmCreate {
    /// Name, unique in the fleet.
    pub name: String,
    /// Whose it shall be, for ever; project `default` unless said.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub project: Option<String>,
    /// Memory in bytes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub memory: Option<u64>,
    /// Virtual CPUs.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cpus: Option<u32>,
    /// Size of the first disk in bytes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub disk: Option<u64>,
    /// Image of the first disk.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub image: Option<String>,
    /// All disks, instead of `disk` and `image`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub disks: Vec<VmDisk>,
    /// Path of a kernel on the node, instead of booting the first disk.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub kernel: Option<String>,
    /// Path of an initial RAM disk on the node.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub initrd: Option<String>,
    /// Kernel command line.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub append: Option<String>,
    /// Network; `user` unless said.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub network: Option<NetworkChoice>,
    /// Labels.
    #[serde(default, skip_serializing_if = "Labels::is_empty")]
    pub labels: Labels,
    /// Labels that the node must have.
    #[serde(default, rename = "nodeSelector", skip_serializing_if = "Labels::is_empty")]
    pub node_selector: Labels,
    /// Whether the machine has a TPM 2.0.
    #[serde(default)]
    pub enable_tpm: bool,
    /// The node that shall run it; the scheduler picks one unless said.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub node: Option<String>,
    /// Whether to start it once it is made; yes unless said.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub start: Option<bool>,
}

/// One disk of a machine to create.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct VmDisk {
    /// Size in bytes; the image's size unless said.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub size: Option<u64>,
    /// Image that it starts as a copy of.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub image: Option<String>,
    /// Format of the file on the node; qcow2 unless said.
    #[serde(default)]
    pub format: DiskFormat,
}

impl VmCreate {
    /// The specification that this asks for, defaults filled in, checked.
    ///
    /// # Errors
    /// The field that is wrong, as a person may read it.
    pub fn to_spec(&self) -> Result<VmSpec, InvalidField> {
        let mut findings = Findings::default();
        let spec = self.examine(&mut findings);
        findings.first()?;
        // Nothing was found, so there is one.
        spec.ok_or_else(|| InvalidField { field: "name".into(), problem: "needed".into() })
    }

    /// Finds everything that is wrong with it; the specification, if its names are such.
    pub(super) fn examine(&self, findings: &mut Findings) -> Option<VmSpec> {
        let name = findings.parse("name", self.name.parse::<VmName>());
        let project = self.project.as_deref().map(str::parse::<ProjectName>).transpose();
        let project = findings.parse("project", project);
        // Any name will do to look at the rest.
        let spec = self.spec_of(name.clone().or_else(|| "a".parse().ok())?, project.clone());
        spec.examine(findings);
        let network = self.named_network().map(str::parse::<NetworkName>).transpose();
        findings.parse("network.named", network);
        self.examine_together(findings);
        self.examine_each_disk(&spec, findings);
        (name.is_some() && project.is_some()).then_some(spec)
    }

    /// The network of the fleet that it shall be in, if it names one.
    pub fn network_name(&self) -> Option<NetworkName> {
        self.named_network()?.parse().ok()
    }

    fn named_network(&self) -> Option<&str> {
        self.network.as_ref().and_then(NetworkChoice::named)
    }

    fn spec_of(&self, name: VmName, project: Option<Option<ProjectName>>) -> VmSpec {
        VmSpec {
            name,
            project: project.flatten().unwrap_or_default(),
            memory_bytes: self.memory.unwrap_or(MEMORY_BYTES_DEFAULT),
            cpus: self.cpus.unwrap_or(CPUS_DEFAULT),
            disks: self.disk_specs(),
            boot: self.boot(),
            network: self.network.clone().unwrap_or_default().to_network(),
            labels: self.labels.clone(),
            node_selector: self.node_selector.clone(),
            enable_tpm: self.enable_tpm,
        }
    }

    fn examine_together(&self, findings: &mut Findings) {
        let has_kernel = self.kernel.is_some();
        for (field, is_given) in
            [("initrd", self.initrd.is_some()), ("append", self.append.is_some())]
        {
            if is_given && !has_kernel {
                findings.add(
                    field,
                    FieldCode::Conflict,
                    "it goes with a kernel, and there is none",
                );
            }
        }
        for (field, is_given) in [("disk", self.disk.is_some()), ("image", self.image.is_some())] {
            if is_given && !self.disks.is_empty() {
                let reason = "give all disks in `disks`, or the first one here";
                findings.add(field, FieldCode::Conflict, reason);
            }
        }
    }

    fn examine_each_disk(&self, spec: &VmSpec, findings: &mut Findings) {
        for (at, disk) in spec.disks.iter().enumerate() {
            match self.disks.is_empty() {
                true => disk.examine("disk", "image", findings),
                false => {
                    let (size, image) = (format!("disks[{at}].size"), format!("disks[{at}].image"));
                    disk.examine(&size, &image, findings);
                }
            }
        }
    }

    fn boot(&self) -> Boot {
        match &self.kernel {
            None => Boot::Disk,
            Some(kernel) => Boot::Kernel {
                kernel: kernel.clone(),
                initrd: self.initrd.clone().unwrap_or_default(),
                append: self.append.clone().unwrap_or_default(),
            },
        }
    }

    fn disk_specs(&self) -> Vec<DiskSpec> {
        if !self.disks.is_empty() {
            return self.disks.iter().map(VmDisk::to_spec).collect();
        }
        let image = match (&self.image, &self.kernel) {
            (Some(image), _) => image.clone(),
            (None, None) => IMAGE_DEFAULT.to_owned(),
            (None, Some(_)) => String::new(),
        };
        if self.kernel.is_some() && self.disk.is_none() && image.is_empty() {
            return Vec::new();
        }
        vec![DiskSpec {
            size_bytes: self.disk.unwrap_or(DISK_BYTES_DEFAULT),
            image,
            format: DiskFormat::default(),
        }]
    }
}

impl VmDisk {
    fn to_spec(&self) -> DiskSpec {
        DiskSpec {
            size_bytes: self.size.unwrap_or_default(),
            image: self.image.clone().unwrap_or_default(),
            format: self.format,
        }
    }
}

/// How to stop a machine.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct VmStop {
    /// At once, rather than by asking the guest.
    #[serde(default)]
    pub force: bool,
}

/// Where and how to move a machine.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct VmMigrate {
    /// The node to move to.
    pub target: String,
    /// How; `cold` unless said.
    #[serde(default = "cold")]
    pub mode: MigrationMode,
    /// Milliseconds for which a running guest may stand still, 1 to 60,000; the source agent's setting unless said.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub downtime_limit_ms: Option<u64>,
    /// Bits per second that the migration may put on the wire, from 1,000,000 on; without limit unless said.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub bandwidth_bits_per_second: Option<u64>,
    /// Slow down a guest that writes faster than the link carries, until it fits.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub auto_converge: bool,
    /// Stop a guest that does not shut down in time in a warm migration, as if its power had failed.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub force_shutdown: bool,
}

impl VmMigrate {
    /// To this node, in this mode, with nothing else asked for.
    pub fn to(target: impl Into<String>, mode: MigrationMode) -> Self {
        Self {
            target: target.into(),
            mode,
            downtime_limit_ms: None,
            bandwidth_bits_per_second: None,
            auto_converge: false,
            force_shutdown: false,
        }
    }

    /// What is asked for beyond target and mode.
    pub fn options(&self) -> MigrationOptions {
        MigrationOptions {
            downtime_limit_ms: self.downtime_limit_ms,
            bandwidth_bits_per_second: self.bandwidth_bits_per_second,
            auto_converge: self.auto_converge,
            force_shutdown: self.force_shutdown,
        }
    }
}

fn cold() -> MigrationMode {
    MigrationMode::Cold
}

/// A machine.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct VmView {
    /// Identity, for ever.
    pub id: VmId,
    /// Name.
    pub name: VmName,
    /// Whose it is.
    #[serde(default)]
    pub project: ProjectName,
    /// State.
    pub state: VmState,
    /// Why it is in that state, where that is not obvious.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub reason: String,
    /// The node that has it.
    pub node: Option<NodeName>,
    /// The generation of the right to run it.
    pub generation: Generation,
    /// The migration under way.
    pub migration_id: Option<MigrationId>,
    /// Memory in bytes.
    pub memory: u64,
    /// Virtual CPUs.
    pub cpus: u32,
    /// Size of the first disk in bytes, 0 if there is none.
    pub disk: u64,
    /// Image of the first disk, empty if it was blank.
    pub image: String,
    /// All disks.
    pub disks: Vec<DiskSpec>,
    /// What it boots.
    pub boot: Boot,
    /// Network.
    pub network: Network,
    /// The network of the fleet that it is in, whose bridge is that of `network`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub network_name: Option<NetworkName>,
    /// Labels.
    pub labels: Labels,
    /// What people and tools keep beside it. Lists leave it out.
    #[serde(default, skip_serializing_if = "Annotations::is_empty")]
    pub annotations: Annotations,
    /// Labels that its node must have.
    #[serde(rename = "nodeSelector")]
    pub node_selector: Labels,
    /// Whether it has a TPM 2.0.
    pub enable_tpm: bool,
    /// When it was accepted.
    pub created_at: Timestamp,
    /// When anything of it changed last.
    pub updated_at: Timestamp,
    /// The revision of that change.
    pub revision: Revision,
    /// Links.
    #[serde(rename = "_links")]
    pub links: Links,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn defaults_are_those_of_the_contract() {
        let create: VmCreate = serde_json::from_str(r#"{"name":"web-01"}"#).unwrap();
        let spec = create.to_spec().unwrap();
        assert_eq!(spec.memory_bytes, 2 << 30);
        assert_eq!(spec.cpus, 2);
        assert_eq!(spec.disks[0].size_bytes, 20 << 30);
        assert_eq!(spec.disks[0].image, "ubuntu-22.04");
        assert_eq!(spec.boot, Boot::Disk);
    }

    #[test]
    fn a_kernel_needs_neither_disk_nor_image() {
        let create: VmCreate =
            serde_json::from_str(r#"{"name":"a","kernel":"/boot/vmlinuz"}"#).unwrap();
        assert_eq!(create.to_spec().unwrap().disks, []);
    }

    #[test]
    fn unknown_fields_and_bad_names_are_refused() {
        assert!(serde_json::from_str::<VmCreate>(r#"{"name":"a","memmory":1}"#).is_err());
        let create: VmCreate = serde_json::from_str(r#"{"name":"Not Good"}"#).unwrap();
        assert_eq!(create.to_spec().unwrap_err().field, "name");
    }
}
