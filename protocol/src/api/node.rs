//! Hypervisor hosts.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::Links;
use crate::ids::{MigrationId, NodeName, RegionCode, Revision, VmId, VmName};
use crate::migration::MigrationOptions;
use crate::node::{Accelerator, NodeCapacity, NodeState, Scheduling};
use crate::time::Timestamp;
use crate::vm::Labels;

/// A hypervisor host.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct NodeView {
    /// Name.
    pub name: NodeName,
    /// Whether its agent answers.
    pub state: NodeState,
    /// Whether it takes machines.
    pub scheduling: Scheduling,
    /// How far its draining is; left out in lists.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub drain: Option<DrainView>,
    /// What it may lend in all.
    pub capacity: NodeCapacity,
    /// What its machines, and those on their way to it, take of that.
    pub allocated: NodeCapacity,
    /// Machines that it has.
    pub machines: u32,
    /// Labels.
    pub labels: Labels,
    /// The region in which it stands.
    pub region: Option<RegionCode>,
    /// Address for migrations.
    pub migration_address: String,
    /// Version of its agent.
    pub agent_version: String,
    /// Version of its QEMU.
    pub qemu_version: String,
    /// What accelerates its guests.
    pub accelerator: Accelerator,
    /// Why that and nothing better.
    pub accelerator_reason: String,
    /// When it was seen first.
    pub created_at: Timestamp,
    /// When anything of it changed last.
    pub updated_at: Timestamp,
    /// The revision of that change.
    pub revision: Revision,
    /// Links.
    #[serde(rename = "_links")]
    pub links: Links,
}

/// How the machines of a node shall move away.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct NodeDrain {
    /// Milliseconds for which a running guest may stand still, 1 to 60,000; the source agent's setting unless said.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub downtime_limit_ms: Option<u64>,
    /// Bits per second that each migration may put on the wire, from 1,000,000 on; without limit unless said.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub bandwidth_bits_per_second: Option<u64>,
    /// Slow down guests that write faster than the link carries, until they fit.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub auto_converge: bool,
}

impl NodeDrain {
    /// What is asked for of each migration beyond its target and mode.
    pub fn options(&self) -> MigrationOptions {
        MigrationOptions {
            downtime_limit_ms: self.downtime_limit_ms,
            bandwidth_bits_per_second: self.bandwidth_bits_per_second,
            auto_converge: self.auto_converge,
            force_shutdown: false,
        }
    }
}

/// What becomes of the migrations of a node that takes machines again.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct NodeUndrain {
    /// Give up those that are under way because of the draining; they go on unless said.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub cancel: bool,
}

/// How far the draining of a node is.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct DrainView {
    /// When it was asked for.
    pub since: Timestamp,
    /// When nothing was left.
    pub drained_at: Option<Timestamp>,
    /// What was asked for of each migration.
    pub options: MigrationOptions,
    /// Machines that have a migration.
    pub moving: u32,
    /// Machines that are about to get one, or will be tried again.
    pub waiting: u32,
    /// Machines that cannot move unless something changes.
    pub blocked: u32,
    /// The machines that are left, in the order of their creation, at most 1,000.
    pub machines: Vec<DrainMachineView>,
}

/// A machine that is to leave a node.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct DrainMachineView {
    /// The machine.
    pub vm: VmId,
    /// Its name.
    pub vm_name: VmName,
    /// How it stands.
    pub status: DrainMachineStatus,
    /// Its migration, if it has one.
    pub migration_id: Option<MigrationId>,
    /// Why it does not move.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub reason: String,
    /// When it is tried again, if a migration of it did not end well.
    pub retry_at: Option<Timestamp>,
}

/// How a machine that is to leave a node stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum DrainMachineStatus {
    /// It has a migration.
    Moving,
    /// It is about to get one, or will be tried again.
    Waiting,
    /// It cannot move unless something changes.
    Blocked,
}
