//! What a mirror leaves in QEMU, and how it goes: jobs first, then the nodes that they wrote to.

use std::time::Duration;

use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use super::nbd::EXPORT_BLOCK_BYTES;
use crate::qmp::{Command, Qmp, QmpError};
use crate::vm::disk_node;

/// The mirror of a disk: the job and the node that it writes to.
pub(super) fn mirror_name(disk: usize) -> String {
    format!("{MIRROR}{disk}")
}

const MIRROR: &str = "mirror";

/// Two writes of QEMU's usual size.
const BYTES_IN_FLIGHT: usize = 2 * super::nbd::CHUNK_BYTES;

/// The disk of a mirror of this name.
pub(super) fn mirrored_disk(name: &str) -> Option<usize> {
    name.strip_prefix(MIRROR)?.parse().ok()
}

/// Arguments of `blockdev-add` for the node that the mirror writes to.
///
/// `discard` lets QEMU believe that zeroing is cheap, which here it is: it then begins by zeroing all of the target
/// and copies only what is allocated at the source.
pub(super) fn client_node(disk: usize, socket: &std::path::Path) -> Value {
    json!({
        "driver": "nbd", "node-name": mirror_name(disk), "export": disk_node(disk),
        "server": { "type": "unix", "path": socket },
        "discard": "unmap", "detect-zeroes": "unmap",
    })
}

/// Arguments of `blockdev-mirror`.
///
/// In the background: a guest's write never waits for the network. Errors end the job, and only the job.
///
/// Little is in flight, because whatever changes QEMU's block graph, or stops the guest, waits until all of it has been
/// answered: with the 2 MiB of a stream's window that is 34 ms at 1 Gbit/s. The thread at the other end takes one
/// write at a time, so a second one that is ready keeps it busy.
///
/// It waits behind its first write until it is given its speed.
pub(super) fn mirror_job(disk: usize) -> Value {
    json!({
        "job-id": mirror_name(disk), "device": disk_node(disk), "target": mirror_name(disk),
        "sync": "full", "copy-mode": "background", "granularity": EXPORT_BLOCK_BYTES,
        "buf-size": BYTES_IN_FLIGHT, "speed": FIRST_BYTES_PER_SECOND,
        "on-source-error": "report", "on-target-error": "report",
    })
}

/// As little as can be said: the first write goes at once, the second an hour later.
const FIRST_BYTES_PER_SECOND: u64 = 1;

#[derive(Debug, Serialize)]
struct QueryNodes {
    flat: bool,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "kebab-case")]
struct Node {
    node_name: String,
}

impl Command for QueryNodes {
    const NAME: &'static str = "query-named-block-nodes";
    type Answer = Vec<Node>;
}

/// Ends all mirrors whatever their state, and removes their nodes. Their sockets must be closed before, else a job
/// waits for what is in flight.
///
/// It does not matter who began them: an agent that died in the middle leaves a node behind.
pub(super) async fn remove_mirrors(qmp: &Qmp) -> Result<(), QmpError> {
    let mut events = qmp.events();
    for job in mirror_jobs(qmp).await? {
        match qmp.block_job_cancel(&job, true).await {
            // It ended by itself meanwhile.
            Ok(()) | Err(QmpError::Refused { .. }) => (),
            Err(error) => return Err(error),
        }
    }
    while !mirror_jobs(qmp).await?.is_empty() {
        // Whatever happens next may be its end; events may be lost, so it is asked again anyway.
        let _ = tokio::time::timeout(ASK_AGAIN, events.recv()).await;
    }
    let nodes = qmp.execute(&QueryNodes { flat: true }).await?;
    for node in nodes.iter().filter(|node| mirrored_disk(&node.node_name).is_some()) {
        qmp.blockdev_del(&node.node_name).await?;
    }
    Ok(())
}

const ASK_AGAIN: Duration = Duration::from_millis(100);

async fn mirror_jobs(qmp: &Qmp) -> Result<Vec<String>, QmpError> {
    let jobs = qmp.block_jobs().await?.into_iter().map(|job| job.device);
    Ok(jobs.filter(|job| mirrored_disk(job).is_some()).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_mirrors_are_mirrors() {
        assert_eq!(mirrored_disk(&mirror_name(12)), Some(12));
        for other in ["mirror", "mirrors", "disk0", "#block123", "mirror-1"] {
            assert_eq!(mirrored_disk(other), None, "{other}");
        }
    }
}
