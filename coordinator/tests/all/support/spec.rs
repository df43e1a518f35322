//! A machine for tests.

use novacron_protocol::vm::{Boot, DiskFormat, DiskSpec, Labels, Network, VmSpec};

/// 1 GiB, 1 CPU, a 1 GiB disk.
pub fn spec(name: &str) -> VmSpec {
    VmSpec {
        name: name.parse().unwrap(),
        project: novacron_protocol::ids::ProjectName::default(),
        memory_bytes: 1 << 30,
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
