//! QEMU's own storage migration, in the order in which libvirt gives its orders: the target's QEMU exports its empty
//! disk by NBD, the source's mirrors all of its own into it, then memory moves, and between the guest's stop and its
//! start at the target the mirror ends.

use std::path::Path;
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use serde_json::{Value, json};

use super::machine::{DISK_NODE, Machine};
use super::qmp::Event;
use crate::execute::{Argv, execute};
use crate::network::Host;

/// Where the target's QEMU exports its disk.
const PORT: u16 = 4445;
/// The job, and the node that it writes to.
const MIRROR: &str = "mirror0";

/// What memory's migration needs so that the mirror can end in between.
pub const CAPABILITY: &str = "pause-before-switchover";

/// What the reader of a comparison with disks must know.
pub const REMARK: &str = "\
The guest wrote the used part of its disk, a qcow2 file, itself before it was moved: blocks of 64 KiB with a number and
a sum, every other one of random bytes, the rest like tables. Every target begins with nothing of the disk: NovaCron's
makes an empty one, a peer's has an empty one that it exports by NBD. A peer mirrors all of it there
(`blockdev-mirror`, `sync=full`) and then moves memory as its name says; the guest is stopped before the mirror ends. Its
total is from the order to mirror until memory's migration has completed, by a clock outside, and its *own count*,
*memory* and *rounds* are of memory only; NovaCron's total is its record's, as ever. Each guest read back every block at
its target.";

/// Makes an empty disk in the format that ours has by default.
pub fn create(path: &Path, bytes: u64) -> Result<()> {
    let words = ["qemu-img", "create", "-q", "-f", "qcow2"].map(str::to_owned);
    let file = [path.to_string_lossy().into_owned(), bytes.to_string()];
    execute(&words.into_iter().chain(file).collect::<Argv>()).map(drop)
}

/// The target exports its disk.
pub fn export(target: &mut Machine) -> Result<()> {
    target.qmp.execute("nbd-server-start", &json!({ "addr": listening_address() }))?;
    let export = json!({
        "type": "nbd", "id": "export0", "node-name": DISK_NODE, "name": DISK_NODE, "writable": true,
    });
    target.qmp.execute("block-export-add", &export).map(drop)
}

/// Mirrors the whole disk; returns when the target has all of it and gets every further write.
pub fn mirror(source: &mut Machine, patience: Duration) -> Result<()> {
    let node = json!({
        "driver": "nbd", "node-name": MIRROR, "server": address(), "export": DISK_NODE,
        "discard": "unmap",
    });
    source.qmp.execute("blockdev-add", &node)?;
    let job = json!({ "job-id": MIRROR, "device": DISK_NODE, "target": MIRROR, "sync": "full" });
    source.qmp.execute("blockdev-mirror", &job)?;
    let ready = source.qmp.wait(patience, is_ready_or_ended).context("the mirror")?;
    ensure!(ready.name == "BLOCK_JOB_READY", "QEMU's mirror: {}", ready.data);
    Ok(())
}

/// Waits until the guest is stopped and memory is there, ends the mirror, which then has every write, and has memory's
/// migration end.
pub fn switch_over(source: &mut Machine, target: &mut Machine, patience: Duration) -> Result<()> {
    let event = source.qmp.wait(patience, is_stopped_or_ended)?;
    if event.data["status"] != "pre-switchover" {
        bail!("QEMU's migration: {}", event.data);
    }
    source.qmp.execute("block-job-cancel", &json!({ "device": MIRROR }))?;
    let ended = source.qmp.wait(patience, |event| event.name == "BLOCK_JOB_COMPLETED")?;
    ensure!(ended.data["error"].is_null(), "QEMU's mirror: {}", ended.data);
    // The guest cannot start at the target while another may write to its disk.
    target.qmp.execute("nbd-server-stop", &json!({}))?;
    source.qmp.execute("migrate-continue", &json!({ "state": "pre-switchover" })).map(drop)
}

/// The target's address, as a client names it.
fn address() -> Value {
    json!({ "type": "inet", "host": Host::Target.address(), "port": PORT.to_string() })
}

/// The same, as a server names it.
fn listening_address() -> Value {
    let data = json!({ "host": Host::Target.address(), "port": PORT.to_string() });
    json!({ "type": "inet", "data": data })
}

fn is_ready_or_ended(event: &Event) -> bool {
    let names = ["BLOCK_JOB_READY", "BLOCK_JOB_COMPLETED", "BLOCK_JOB_CANCELLED"];
    names.contains(&event.name.as_str())
}

fn is_stopped_or_ended(event: &Event) -> bool {
    let is_stopped = event.name == "MIGRATION" && event.data["status"] == "pre-switchover";
    is_stopped || super::has_ended(event)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn event(name: &str, data: Value) -> Event {
        Event { name: name.to_owned(), at: Duration::ZERO, data }
    }

    #[test]
    fn a_mirror_is_ready_or_has_ended() {
        assert!(is_ready_or_ended(&event("BLOCK_JOB_READY", json!({}))));
        assert!(is_ready_or_ended(&event("BLOCK_JOB_COMPLETED", json!({ "error": "no room" }))));
        assert!(!is_ready_or_ended(&event("JOB_STATUS_CHANGE", json!({ "status": "ready" }))));
    }

    #[test]
    fn the_mirror_ends_when_the_guest_is_stopped() {
        let status = |status: &str| event("MIGRATION", json!({ "status": status }));
        assert!(is_stopped_or_ended(&status("pre-switchover")));
        assert!(is_stopped_or_ended(&status("failed")));
        assert!(!is_stopped_or_ended(&status("active")));
    }

    #[test]
    fn servers_and_clients_name_one_address_differently() {
        let client = json!({ "type": "inet", "host": "192.0.2.2", "port": "4445" });
        assert_eq!(address(), client);
        assert_eq!(listening_address()["data"]["host"], client["host"]);
    }
}
