//! Hypervisor hosts.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::Links;
use crate::ids::{NodeName, Revision};
use crate::node::{Accelerator, NodeCapacity, NodeState};
use crate::time::Timestamp;
use crate::vm::Labels;

/// A hypervisor host.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct NodeView {
    /// Name.
    pub name: NodeName,
    /// Whether its agent answers.
    pub state: NodeState,
    /// What it may lend in all.
    pub capacity: NodeCapacity,
    /// What its machines, and those on their way to it, take of that.
    pub allocated: NodeCapacity,
    /// Machines that it has.
    pub machines: u32,
    /// Labels.
    pub labels: Labels,
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
