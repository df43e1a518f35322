//! QEMU's command line, built from what a machine is: the same at both ends of a migration except for what is
//! marked *this end only*.
//!
//! Pure: a golden test pins every word, because a changed device, order or property is a machine that can no
//! longer be moved to an agent of the version before.

use std::path::{Path, PathBuf};

use novacron_protocol::ids::VmId;
use novacron_protocol::node::Accelerator;
use novacron_protocol::vm::{Network, VmSpec};
use serde_json::{Value, json};

use super::directories::MachineDirectories;
use super::files::FileStore;
use super::image::format_name;
use super::network::mac_address;
use super::record::{BootFiles, Hardware, Processor};

/// The name of the guest's memory block on both ends.
pub const RAM_BLOCK: &str = "pc.ram";

/// The block node of a disk, on both ends.
pub fn disk_node(index: usize) -> String {
    format!("disk{index}")
}

/// What a process is started for; *this end only*.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Purpose {
    /// To run the guest at once.
    Run,
    /// To stand still: only its disks are wanted.
    HoldDisks,
    /// To wait for a migration, with its memory in a file that the agent shares.
    Receive,
}

/// Everything that the command line depends on.
#[derive(Debug)]
pub struct Plan<'a> {
    /// The machine.
    pub vm: VmId,
    /// What was ordered.
    pub spec: &'a VmSpec,
    /// What it is made of.
    pub hardware: &'a Hardware,
    /// What runs its instructions.
    pub processor: &'a Processor,
    /// Where its files are.
    pub directories: &'a MachineDirectories,
    /// Where kernels are.
    pub files: &'a FileStore,
    /// Its tap, if it is in a bridge.
    pub tap: Option<&'a str>,
    /// What the process is for.
    pub purpose: Purpose,
}

/// QEMU's arguments.
pub fn arguments(plan: &Plan<'_>) -> Vec<String> {
    let mut line = Line(Vec::new());
    base(&mut line, plan);
    machine(&mut line, plan);
    disks(&mut line, plan);
    network(&mut line, plan);
    devices(&mut line, plan);
    boot(&mut line, plan);
    control(&mut line, plan);
    purpose(&mut line, plan);
    line.0
}

struct Line(Vec<String>);

impl Line {
    fn flag(&mut self, option: &str) {
        self.0.push(option.to_owned());
    }

    fn text(&mut self, option: &str, value: impl Into<String>) {
        self.flag(option);
        self.0.push(value.into());
    }

    fn json(&mut self, option: &str, value: &Value) {
        self.text(option, value.to_string());
    }
}

/// A path inside a `key=value,…` option, where a comma is written twice.
fn escaped(path: &Path) -> String {
    path.to_string_lossy().replace(',', ",,")
}

fn base(line: &mut Line, plan: &Plan<'_>) {
    for option in ["-nodefaults", "-no-user-config"] {
        line.flag(option);
    }
    // A guest that powers off leaves the process until the agent has seen it: so "ended" and "crashed" are never
    // confused, not even while the agent is away.
    line.flag("-no-shutdown");
    line.text(
        "-sandbox",
        "on,obsolete=deny,elevateprivileges=deny,spawn=deny,resourcecontrol=deny",
    );
    line.text("-display", "none");
    line.text("-vga", "none");
    line.text("-name", format!("guest={}", plan.spec.name));
    line.text("-uuid", plan.vm.to_string());
    line.text("-rtc", "base=utc");
    line.text("-boot", "strict=on");
}

fn machine(line: &mut Line, plan: &Plan<'_>) {
    let accelerator = match plan.processor.accelerator {
        Accelerator::Kvm => "kvm",
        Accelerator::Tcg => "tcg",
    };
    // suppress-vmdesc: 43 KB of debugging text less in every switchover.
    line.text(
        "-machine",
        format!(
            "{},accel={accelerator},usb=off,vmport=off,suppress-vmdesc=on,memory-backend={RAM_BLOCK}",
            plan.hardware.machine_type
        ),
    );
    line.json("-object", &memory(plan));
    line.text("-m", format!("size={}b", plan.spec.memory_bytes));
    line.text("-cpu", plan.processor.cpu_model.clone());
    let cpus = plan.spec.cpus;
    line.text("-smp", format!("cpus={cpus},sockets=1,cores={cpus},threads=1"));
}

/// The guest's memory. Whether it is a shared file is *this end only*; the block's name is not.
fn memory(plan: &Plan<'_>) -> Value {
    let size = plan.spec.memory_bytes;
    match plan.purpose {
        Purpose::Receive => json!({
            "qom-type": "memory-backend-file", "id": RAM_BLOCK, "size": size,
            "mem-path": plan.directories.memory, "share": true,
        }),
        Purpose::Run | Purpose::HoldDisks => {
            json!({ "qom-type": "memory-backend-ram", "id": RAM_BLOCK, "size": size })
        }
    }
}

fn disks(line: &mut Line, plan: &Plan<'_>) {
    for (index, disk) in plan.hardware.disks.iter().enumerate() {
        let node = disk_node(index);
        let file = json!({
            "driver": "file", "node-name": format!("file{index}"),
            "filename": plan.directories.disk(index, disk.format), "discard": "unmap",
        });
        line.json(
            "-blockdev",
            &json!({
                "driver": format_name(disk.format), "node-name": node, "file": file,
                "discard": "unmap", "detect-zeroes": "unmap",
            }),
        );
        line.json(
            "-device",
            &json!({
                "driver": "virtio-blk-pci", "id": format!("blk{index}"), "drive": node,
                "serial": node, "bootindex": index + 1,
            }),
        );
    }
}

fn network(line: &mut Line, plan: &Plan<'_>) {
    let netdev = match (&plan.spec.network, plan.tap) {
        (Network::None, _) => return,
        (Network::Bridge { .. }, Some(tap)) => json!({
            "type": "tap", "id": "net0", "ifname": tap, "script": "no", "downscript": "no",
        }),
        (Network::User, _) | (Network::Bridge { .. }, None) => {
            json!({ "type": "user", "id": "net0" })
        }
    };
    line.json("-netdev", &netdev);
    // No boot ROM: it would be guest memory to move, and nothing boots from the network.
    line.json(
        "-device",
        &json!({
            "driver": "virtio-net-pci", "id": "nic0", "netdev": "net0",
            "mac": mac_address(plan.vm), "romfile": "",
        }),
    );
}

fn devices(line: &mut Line, plan: &Plan<'_>) {
    line.json("-object", &json!({ "qom-type": "rng-builtin", "id": "rng0" }));
    line.json("-device", &json!({ "driver": "virtio-rng-pci", "id": "random0", "rng": "rng0" }));
    if plan.spec.enable_tpm {
        let socket = escaped(&plan.directories.tpm_socket());
        line.text("-chardev", format!("socket,id=tpm0,path={socket}"));
        line.text("-tpmdev", "emulator,id=tpm0,chardev=tpm0");
        line.json("-device", &json!({ "driver": "tpm-crb", "tpmdev": "tpm0" }));
    }
}

fn boot(line: &mut Line, plan: &Plan<'_>) {
    let BootFiles::Kernel { kernel, initrd, append } = &plan.hardware.boot else { return };
    let path = |hash| path_text(&plan.files.path(hash));
    line.text("-kernel", path(*kernel));
    if let Some(initrd) = initrd {
        line.text("-initrd", path(*initrd));
    }
    if !append.is_empty() {
        line.text("-append", append.clone());
    }
}

fn control(line: &mut Line, plan: &Plan<'_>) {
    let directories = plan.directories;
    let socket = |id: &str, path: PathBuf| {
        format!("socket,id={id},path={},server=on,wait=off", escaped(&path))
    };
    let log = escaped(&directories.console_log());
    let serial = socket("serial0", directories.serial());
    line.text("-chardev", format!("{serial},logfile={log},logappend=on"));
    line.text("-serial", "chardev:serial0");
    for (id, path) in [("qmp0", directories.qmp()), ("qmp1", directories.qmp_operator())] {
        line.text("-chardev", socket(id, path));
        line.text("-mon", format!("chardev={id},mode=control"));
    }
    line.text("-msg", "timestamp=on");
    line.text("-pidfile", path_text(&directories.pid()));
}

fn purpose(line: &mut Line, plan: &Plan<'_>) {
    match plan.purpose {
        Purpose::Run => (),
        Purpose::HoldDisks => line.flag("-S"),
        Purpose::Receive => {
            // Paused: only the hand-over may start the guest.
            line.flag("-S");
            line.text("-incoming", "defer");
        }
    }
}

fn path_text(path: &Path) -> String {
    path.to_string_lossy().into_owned()
}

#[cfg(test)]
mod tests;
