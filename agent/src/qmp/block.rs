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

impl Qmp {
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
