//! Batches: many machines that move from one node to another.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::Links;
use crate::ids::{BatchId, MigrationId, NodeName, Revision, VmId, VmName};
use crate::migration::{MigrationMode, MigrationOptions};
use crate::time::Timestamp;
use crate::vm::Labels;

/// Machines to move together: those on a node that have all of the labels, at most 1,000.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct BatchCreate {
    /// The node that they leave.
    pub from: String,
    /// The node that they go to.
    pub to: String,
    /// Only machines with all of these labels.
    #[serde(default, skip_serializing_if = "Labels::is_empty")]
    pub labels: Labels,
    /// How all of them move; unless said, running machines live and the others cold.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub mode: Option<MigrationMode>,
    /// Give up those that have not moved as soon as one is refused or fails.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub abort_on_failure: bool,
    /// Milliseconds for which a running guest may stand still, 1 to 60,000; the source agent's setting unless said.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub downtime_limit_ms: Option<u64>,
    /// Bits per second that each migration may put on the wire, from 1,000,000 on; without limit unless said.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub bandwidth_bits_per_second: Option<u64>,
    /// Slow down guests that write faster than the link carries, until they fit.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub auto_converge: bool,
    /// Stop guests that do not shut down in time, as if their power had failed; only with `mode` `warm`.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub force_shutdown: bool,
}

impl BatchCreate {
    /// What is asked for of each migration beyond its target and mode.
    pub fn options(&self) -> MigrationOptions {
        MigrationOptions {
            downtime_limit_ms: self.downtime_limit_ms,
            bandwidth_bits_per_second: self.bandwidth_bits_per_second,
            auto_converge: self.auto_converge,
            force_shutdown: self.force_shutdown,
        }
    }
}

/// A batch and what became of its machines.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct BatchView {
    /// Identity.
    pub batch_id: BatchId,
    /// The node that they leave.
    pub from: NodeName,
    /// The node that they go to.
    pub to: NodeName,
    /// Labels by which they were chosen.
    pub labels: Labels,
    /// How all of them move; absent if each moves as it is, running or stopped.
    pub mode: Option<MigrationMode>,
    /// What was asked for beyond that.
    pub options: MigrationOptions,
    /// Whether one failure gives up the others.
    pub abort_on_failure: bool,
    /// How it stands.
    pub status: BatchStatus,
    /// How many machines stand how.
    pub counts: BatchCounts,
    /// Every machine, in the order in which they move; left out in lists of batches.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub items: Vec<BatchItemView>,
    /// When it was accepted.
    pub created_at: Timestamp,
    /// When its last migration ended.
    pub ended_at: Option<Timestamp>,
    /// The revision of its last change.
    pub revision: Revision,
    /// Links.
    #[serde(rename = "_links")]
    pub links: Links,
}

/// How a batch stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum BatchStatus {
    /// Some of its migrations have not ended.
    InProgress,
    /// All of its machines have moved.
    Completed,
    /// Some were refused, failed, or were given up because of one that failed.
    Failed,
    /// Some were given up because somebody asked.
    Cancelled,
}

/// Machines of a batch by how they stand.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct BatchCounts {
    /// In all.
    pub items: u32,
    /// Could not be accepted.
    pub refused: u32,
    /// Wait for a free slot.
    pub queued: u32,
    /// Move.
    pub in_progress: u32,
    /// Have moved.
    pub completed: u32,
    /// Did not move.
    pub failed: u32,
    /// Were given up.
    pub cancelled: u32,
}

/// One machine of a batch.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct BatchItemView {
    /// The machine.
    pub vm: VmId,
    /// Its name.
    pub vm_name: VmName,
    /// How it stands.
    pub status: BatchItemStatus,
    /// Its migration, unless it was refused.
    pub migration_id: Option<MigrationId>,
    /// Why it was refused, failed or was given up.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub reason: String,
}

/// How a machine of a batch stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum BatchItemStatus {
    /// It could not be accepted.
    Refused,
    /// It waits for a free slot.
    Queued,
    /// It moves.
    InProgress,
    /// It has moved.
    Completed,
    /// It did not move.
    Failed,
    /// It was given up.
    Cancelled,
}
