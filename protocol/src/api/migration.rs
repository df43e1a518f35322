//! Migrations.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::Links;
use crate::ids::{MigrationId, NodeName, Revision, VmId, VmName};
use crate::migration::{
    Convergence, DowntimeParts, MemoryPath, MigrationMode, MigrationOptions, MigrationPhase,
    MigrationStatus,
};
use crate::time::Timestamp;

/// A migration: its progress while it runs, its record when it ended.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct MigrationView {
    /// Identity.
    pub migration_id: MigrationId,
    /// The machine.
    pub vm: VmId,
    /// The machine's name.
    pub vm_name: VmName,
    /// How it moves.
    pub mode: MigrationMode,
    /// What was asked for beyond that.
    #[serde(default)]
    pub options: MigrationOptions,
    /// How it stands.
    pub status: MigrationStatus,
    /// What it is busy with, or was when it ended.
    pub phase: MigrationPhase,
    /// Why it failed.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub reason: String,
    /// The node it leaves.
    pub source: NodeName,
    /// The node it goes to.
    pub target: NodeName,
    /// 0 to 100; never falls.
    pub progress_percentage: u32,
    /// Bytes put on the wire so far.
    pub bytes_transferred: u64,
    /// When it will be done at the rates of the last seconds; none where nobody can tell.
    pub estimated_completion: Option<Timestamp>,
    /// Whether copying memory comes to an end at the present rates; none while memory is not being copied.
    #[serde(default)]
    pub convergence: Option<Convergence>,
    /// Bytes of memory that the guest writes per second, as measured last.
    #[serde(default)]
    pub dirty_bytes_per_second: Option<u64>,
    /// Rates.
    pub metrics: MigrationMetrics,
    /// Milliseconds from the source's first step to the first moment the target ran the guest.
    pub total_ms: Option<u64>,
    /// Milliseconds of `total_ms` before memory began to move.
    pub prepare_ms: Option<u64>,
    /// Milliseconds of `total_ms` from the first byte of memory on.
    pub memory_ms: Option<u64>,
    /// Milliseconds from the stop of the source to the first moment the target runs.
    pub downtime_ms: Option<f64>,
    /// Which part of the downtime was what, in microseconds.
    pub downtime_parts: Option<DowntimeParts>,
    /// Rounds over the memory, or of a warm migration over what the guest wrote to its disks.
    pub rounds: u32,
    /// Bytes of guest memory handled, zero pages and repeated pages included.
    pub bytes_guest: u64,
    /// Bytes put on the wire, memory, disks and files.
    pub bytes_wire: u64,
    /// Of these, memory and device state.
    #[serde(default)]
    pub bytes_wire_memory: u64,
    /// Of these, disks.
    #[serde(default)]
    pub bytes_wire_disks: u64,
    /// Of these, files to boot from.
    #[serde(default)]
    pub bytes_wire_files: u64,
    /// Bytes in UDP packets that the source sent, with everything that the protocols add.
    #[serde(default)]
    pub bytes_link: u64,
    /// Bytes of disk content handled.
    pub bytes_disk: u64,
    /// Bytes of disk content that the target had before anything was sent.
    #[serde(default)]
    pub bytes_disk_held: u64,
    /// Bytes of disk content handled after the guest had stopped.
    #[serde(default)]
    pub bytes_disk_final: u64,
    /// Bytes handled (memory and disks) per byte on the wire.
    pub compression_ratio: Option<f64>,
    /// Pages that were zero, had the same content at the target, and were sent.
    pub pages_zero: u64,
    /// Pages not sent because the target had the same content.
    pub pages_same: u64,
    /// Pages whose content was sent, or what changed of it.
    pub pages_sent: u64,
    /// Pages not sent because the target has them in a file or from another machine.
    #[serde(default)]
    pub pages_known: u64,
    /// Of `pages_sent`, those of which what changed was sent.
    #[serde(default)]
    pub pages_differing: u64,
    /// Of `pages_sent`, those that were sent compressed.
    #[serde(default)]
    pub pages_packed: u64,
    /// Of `pages_sent`, those that were sent as they are.
    #[serde(default)]
    pub pages_raw: u64,
    /// Whether both ends' digests of memory and disks were compared and equal.
    pub verified: bool,
    /// How memory travelled.
    pub memory_path: Option<MemoryPath>,
    /// When it was accepted.
    pub created_at: Timestamp,
    /// When it ended.
    pub ended_at: Option<Timestamp>,
    /// The revision of its last change.
    pub revision: Revision,
    /// Links.
    #[serde(rename = "_links")]
    pub links: Links,
}

/// Rates of a migration.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct MigrationMetrics {
    /// Megabits per second on the wire.
    pub transfer_rate_mbps: f64,
    /// Share of the source host's processors in use, by whomever, 0 to 1; none before it is measured and after the end.
    #[serde(default)]
    pub source_vm_load: Option<f64>,
    /// The same of the target's host; none while the two cannot reach each other, too.
    #[serde(default)]
    pub target_vm_load: Option<f64>,
}
