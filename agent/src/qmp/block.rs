//! Commands about block nodes, mirrors and the NBD server.

use std::path::Path;
use std::time::Duration;

use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use super::command::plain_command;
use super::{Command, Empty, Qmp, QmpError};

/// Name of a block node, such as `disk0`.
pub type NodeName = str;
/// Name of a block export.
pub type ExportId = str;

/// One running block job.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct BlockJob {
    /// The job's name.
    pub device: String,
    /// Bytes to do in all; grows while the guest writes.
    pub len: u64,
    /// Bytes done.
    pub offset: u64,
    /// Whether a mirror has caught up.
    pub ready: bool,
    /// Whether guest writes reach the mirror's target before they complete.
    #[serde(default)]
    pub actively_synced: bool,
    /// QEMU's name of the job's state, such as `running` or `ready`.
    pub status: String,
}

/// What a guest has done with a disk since its process began.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize)]
pub struct DiskCounters {
    /// Bytes read.
    #[serde(rename = "rd_bytes")]
    pub read_bytes: u64,
    /// Bytes written.
    #[serde(rename = "wr_bytes")]
    pub written_bytes: u64,
    /// Reads.
    #[serde(rename = "rd_operations")]
    pub reads: u64,
    /// Writes.
    #[serde(rename = "wr_operations")]
    pub writes: u64,
}

/// One device with a disk. Its place in QEMU's tree of objects names it, whatever block node is behind it now.
#[derive(Debug, Deserialize)]
pub(super) struct DeviceStatistics {
    #[serde(default)]
    qdev: String,
    stats: DiskCounters,
}

impl DeviceStatistics {
    /// Which disk, of `/machine/peripheral/blk0/…`.
    fn index(&self) -> Option<u8> {
        let name = self.qdev.strip_prefix("/machine/peripheral/blk")?;
        name.split('/').next()?.parse().ok()
    }
}

plain_command!(QueryBlockStats = "query-blockstats" -> Vec<DeviceStatistics>);
plain_command!(QueryBlockJobs = "query-block-jobs" -> Vec<BlockJob>);
plain_command!(NbdServerStop = "nbd-server-stop" -> Empty);

/// Bytes of reads and writes may wait in the host's disk before these commands come back.
const BLOCK_DEADLINE: Duration = Duration::from_secs(30);

macro_rules! block_command {
    ($name:ident = $text:literal) => {
        #[derive(Debug, Serialize)]
        #[serde(transparent)]
        struct $name(Value);

        impl Command for $name {
            const NAME: &'static str = $text;
            const DEADLINE: Duration = BLOCK_DEADLINE;
            type Answer = Empty;
        }
    };
}

block_command!(BlockdevAdd = "blockdev-add");
block_command!(BlockdevDel = "blockdev-del");
block_command!(BlockdevMirror = "blockdev-mirror");
block_command!(BlockJobCancel = "block-job-cancel");
block_command!(BlockJobSetSpeed = "block-job-set-speed");
block_command!(NbdServerStart = "nbd-server-start");
block_command!(BlockExportAdd = "block-export-add");
block_command!(BlockExportDel = "block-export-del");

/// A root node with what its image holds beside the present content.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "kebab-case")]
struct NamedNode {
    node_name: String,
    image: NodeImage,
}

#[derive(Debug, Deserialize)]
struct NodeImage {
    #[serde(default)]
    snapshots: Vec<NodeSnapshot>,
}

#[derive(Debug, Deserialize)]
struct NodeSnapshot {
    name: String,
}

#[derive(Debug, Serialize)]
struct QueryNamedNodes {
    flat: bool,
}

impl Command for QueryNamedNodes {
    const NAME: &'static str = "query-named-block-nodes";
    const DEADLINE: Duration = BLOCK_DEADLINE;
    type Answer = Vec<NamedNode>;
}

/// One snapshot in each of some nodes, all of them or none.
#[derive(Debug, Serialize)]
struct SnapshotAll {
    actions: Vec<Value>,
}

/// For each cluster of a disk a counter is written: a TiB has 16 million of them, 32 MiB of counters.
const SNAPSHOT_DEADLINE: Duration = Duration::from_secs(120);

impl Command for SnapshotAll {
    const NAME: &'static str = "transaction";
    const DEADLINE: Duration = SNAPSHOT_DEADLINE;
    type Answer = Empty;
}

#[derive(Debug, Serialize)]
struct DeleteSnapshot<'a> {
    device: &'a str,
    name: &'a str,
}

impl Command for DeleteSnapshot<'_> {
    const NAME: &'static str = "blockdev-snapshot-delete-internal-sync";
    const DEADLINE: Duration = SNAPSHOT_DEADLINE;
    /// What was removed.
    type Answer = Value;
}

impl Qmp {
    /// What the guest has done with each of its disks, by their number. QEMU has `deadline` to say so.
    ///
    /// # Errors
    /// [`QmpError`].
    pub async fn disk_counters(
        &self,
        deadline: Duration,
    ) -> Result<Vec<(u8, DiskCounters)>, QmpError> {
        let devices = self.execute_within(&QueryBlockStats {}, deadline).await?;
        Ok(devices.iter().filter_map(|device| Some((device.index()?, device.stats))).collect())
    }

    /// Makes a snapshot called `name` within each of the nodes, in all of them or in none. The guest should stand still:
    /// then it is one moment for all.
    ///
    /// # Errors
    /// [`QmpError`].
    pub async fn snapshot_nodes(&self, nodes: &[String], name: &str) -> Result<(), QmpError> {
        let action = |node: &String| {
            let data = json!({ "device": node, "name": name });
            json!({ "type": "blockdev-snapshot-internal-sync", "data": data })
        };
        self.execute(&SnapshotAll { actions: nodes.iter().map(action).collect() }).await.map(drop)
    }

    /// Removes the snapshots called `name` from those of the nodes that have one.
    ///
    /// # Errors
    /// [`QmpError`]; some may be removed then.
    pub async fn forget_snapshots(&self, nodes: &[String], name: &str) -> Result<(), QmpError> {
        let found = self.execute(&QueryNamedNodes { flat: true }).await?;
        let has_it = |node: &&NamedNode| {
            nodes.contains(&node.node_name)
                && node.image.snapshots.iter().any(|snapshot| snapshot.name == name)
        };
        for node in found.iter().filter(has_it) {
            self.execute(&DeleteSnapshot { device: &node.node_name, name }).await?;
        }
        Ok(())
    }

    /// Adds a node that is a client of the NBD server at a unix socket.
    ///
    /// # Errors
    /// [`QmpError`].
    pub async fn add_nbd_client(
        &self,
        node: &NodeName,
        socket: &Path,
        export: &str,
    ) -> Result<(), QmpError> {
        let server = json!({ "type": "unix", "path": socket });
        let arguments =
            json!({ "driver": "nbd", "node-name": node, "server": server, "export": export });
        self.execute(&BlockdevAdd(arguments)).await.map(drop)
    }

    /// Adds any node; `arguments` are those of `blockdev-add`.
    ///
    /// # Errors
    /// [`QmpError`].
    pub async fn blockdev_add(&self, arguments: Value) -> Result<(), QmpError> {
        self.execute(&BlockdevAdd(arguments)).await.map(drop)
    }

    /// Removes a node.
    ///
    /// # Errors
    /// [`QmpError`].
    pub async fn blockdev_del(&self, node: &NodeName) -> Result<(), QmpError> {
        self.execute(&BlockdevDel(json!({ "node-name": node }))).await.map(drop)
    }

    /// Mirrors all of `source` to `target` in the background, as job `job`, which stays after it ended only
    /// until its events were sent.
    ///
    /// # Errors
    /// [`QmpError`].
    pub async fn blockdev_mirror(
        &self,
        job: &str,
        source: &NodeName,
        target: &NodeName,
    ) -> Result<(), QmpError> {
        let arguments = json!({
            "job-id": job, "device": source, "target": target,
            "sync": "full", "copy-mode": "background",
        });
        self.execute(&BlockdevMirror(arguments)).await.map(drop)
    }

    /// Starts a mirror with `arguments` of `blockdev-mirror`.
    ///
    /// # Errors
    /// [`QmpError`].
    pub async fn blockdev_mirror_with(&self, arguments: Value) -> Result<(), QmpError> {
        self.execute(&BlockdevMirror(arguments)).await.map(drop)
    }

    /// Ends a job: without `force` a mirror that is ready completes its copy first.
    ///
    /// # Errors
    /// [`QmpError`].
    pub async fn block_job_cancel(&self, job: &str, force: bool) -> Result<(), QmpError> {
        self.execute(&BlockJobCancel(json!({ "device": job, "force": force }))).await.map(drop)
    }

    /// Gives a job another speed in bytes per second, 0 for no limit.
    ///
    /// # Errors
    /// [`QmpError`].
    pub async fn block_job_set_speed(
        &self,
        job: &str,
        bytes_per_second: u64,
    ) -> Result<(), QmpError> {
        let arguments = json!({ "device": job, "speed": bytes_per_second });
        self.execute(&BlockJobSetSpeed(arguments)).await.map(drop)
    }

    /// The jobs that are there.
    ///
    /// # Errors
    /// [`QmpError`].
    pub async fn block_jobs(&self) -> Result<Vec<BlockJob>, QmpError> {
        self.execute(&QueryBlockJobs {}).await
    }

    /// Starts QEMU's NBD server at a unix socket.
    ///
    /// # Errors
    /// [`QmpError`].
    pub async fn nbd_server_start(&self, socket: &Path) -> Result<(), QmpError> {
        let addr = json!({ "type": "unix", "data": { "path": socket } });
        self.execute(&NbdServerStart(json!({ "addr": addr }))).await.map(drop)
    }

    /// Stops it.
    ///
    /// # Errors
    /// [`QmpError`].
    pub async fn nbd_server_stop(&self) -> Result<(), QmpError> {
        self.execute(&NbdServerStop {}).await.map(drop)
    }

    /// Exports a node, writable, under its own name.
    ///
    /// # Errors
    /// [`QmpError`].
    pub async fn block_export_add(
        &self,
        export: &ExportId,
        node: &NodeName,
    ) -> Result<(), QmpError> {
        let arguments = json!({
            "type": "nbd", "id": export, "node-name": node, "name": node, "writable": true,
        });
        self.execute(&BlockExportAdd(arguments)).await.map(drop)
    }

    /// Takes an export back, whoever is still connected.
    ///
    /// # Errors
    /// [`QmpError`].
    pub async fn block_export_del(&self, export: &ExportId) -> Result<(), QmpError> {
        self.execute(&BlockExportDel(json!({ "id": export, "mode": "hard" }))).await.map(drop)
    }
}
