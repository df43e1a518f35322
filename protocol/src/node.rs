//! What a hypervisor host is to the fleet.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::vm::Labels;

/// What a host has and may lend.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct NodeCapacity {
    /// Memory for machines, in bytes.
    pub memory_bytes: u64,
    /// Virtual CPUs for machines.
    pub cpus: u32,
    /// Disk space for machines, in bytes.
    pub disk_bytes: u64,
}

/// What an agent says of its host when it connects.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct NodeFacts {
    /// Capacity.
    pub capacity: NodeCapacity,
    /// Labels from the agent's configuration.
    pub labels: Labels,
    /// Address (`host:port`) at which other agents reach this one for migrations.
    pub migration_address: String,
    /// Version of the agent.
    pub agent_version: String,
    /// Version of QEMU, such as `10.0.2`; empty if there is none.
    pub qemu_version: String,
    /// What accelerates guests.
    pub accelerator: Accelerator,
    /// Why this accelerator and no better one, in one line.
    pub accelerator_reason: String,
    /// Whether swtpm is there.
    pub has_swtpm: bool,
}

/// What runs a guest's instructions.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Accelerator {
    /// The processor, by the kernel's KVM.
    Kvm,
    /// QEMU's translator.
    Tcg,
}

impl std::fmt::Display for Accelerator {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.write_str(match self {
            Self::Kvm => "KVM",
            Self::Tcg => "TCG",
        })
    }
}

/// What an operator wants of a node.
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, JsonSchema,
)]
#[serde(rename_all = "lowercase")]
pub enum Scheduling {
    /// It takes machines.
    Active,
    /// It takes none, and those that it has move away.
    Draining,
    /// It takes none and has none.
    Drained,
}

/// Whether a node answers.
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, JsonSchema,
)]
#[serde(rename_all = "lowercase")]
pub enum NodeState {
    /// Its agent answers.
    Ready,
    /// Some heartbeats are missing.
    Suspect,
    /// No heartbeat for long; its machines' states are unknown.
    Down,
}
