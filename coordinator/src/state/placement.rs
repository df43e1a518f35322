//! Whether a machine fits a node. The planner asks before a proposal, `apply` asks again: the fleet may have
//! changed in between.

use novacron_protocol::ids::{NetworkName, NodeName};
use novacron_protocol::node::{NodeCapacity, NodeState};
use novacron_protocol::size::display_size;
use novacron_protocol::vm::VmSpec;
use serde::{Deserialize, Serialize};

use super::fleet::Fleet;
use super::node::Node;
use super::residency::RuleBroken;
use super::vm::Vm;

/// Virtual CPUs that may be promised per virtual CPU that a node lends. Memory is never promised twice.
pub const CPU_OVERCOMMIT: u32 = 4;

/// Why a machine does not fit a node.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, thiserror::Error)]
pub enum Misfit {
    /// The agent does not answer.
    #[error("its agent does not answer at the moment")]
    NotReady,
    /// Its machines are to move away.
    #[error("it is being drained")]
    Draining,
    /// There is no QEMU.
    #[error("it has no QEMU that can be used")]
    NoQemu,
    /// A label is missing or has another value.
    #[error("it does not have the label `{label}`")]
    Selector {
        /// `key=value` as the selector wants it.
        label: String,
    },
    /// Too little memory.
    #[error("{} of memory needed, {} free", display_size(*.needed_bytes), display_size(*.free_bytes))]
    Memory {
        /// Bytes that the machine needs.
        needed_bytes: u64,
        /// Bytes that are free.
        free_bytes: u64,
    },
    /// Too few virtual CPUs.
    #[error("{needed} virtual CPUs needed, {free} free")]
    Cpus {
        /// Virtual CPUs that the machine needs.
        needed: u32,
        /// Virtual CPUs that may still be promised.
        free: u32,
    },
    /// Too little disk space.
    #[error("{} of disk needed, {} free", display_size(*.needed_bytes), display_size(*.free_bytes))]
    Disk {
        /// Bytes that the machine needs.
        needed_bytes: u64,
        /// Bytes that are free.
        free_bytes: u64,
    },
    /// No swtpm.
    #[error("it has no swtpm, which a machine with a TPM needs")]
    NoTpm,
    /// A rule about regions.
    #[error(transparent)]
    Region(#[from] RuleBroken),
}

/// What machines take of a node.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Allocation {
    /// Memory in bytes.
    pub memory_bytes: u64,
    /// Virtual CPUs.
    pub cpus: u32,
    /// Disk space in bytes.
    pub disk_bytes: u64,
}

impl Allocation {
    /// What one machine takes.
    pub fn of(spec: &VmSpec) -> Self {
        Self { memory_bytes: spec.memory_bytes, cpus: spec.cpus, disk_bytes: spec.disk_bytes() }
    }

    /// What another machine takes as well.
    pub fn add(&mut self, other: Self) {
        self.memory_bytes = self.memory_bytes.saturating_add(other.memory_bytes);
        self.cpus = self.cpus.saturating_add(other.cpus);
        self.disk_bytes = self.disk_bytes.saturating_add(other.disk_bytes);
    }
}

impl From<Allocation> for NodeCapacity {
    fn from(allocation: Allocation) -> Self {
        Self {
            memory_bytes: allocation.memory_bytes,
            cpus: allocation.cpus,
            disk_bytes: allocation.disk_bytes,
        }
    }
}

/// A machine for which a place is wanted.
#[derive(Debug, Clone, Copy)]
pub struct Wanted<'a> {
    /// What it is made of.
    pub spec: &'a VmSpec,
    /// The network of the fleet that it is in, or shall be.
    pub network: Option<&'a NetworkName>,
}

impl<'a> Wanted<'a> {
    /// One in no network of the fleet.
    pub fn without_network(spec: &'a VmSpec) -> Self {
        Self { spec, network: None }
    }
}

impl Fleet {
    /// A machine that there is, as something that wants a place.
    pub fn wanted<'a>(&'a self, vm: &'a Vm) -> Wanted<'a> {
        Wanted { spec: &vm.spec, network: self.network_of(vm.id) }
    }

    /// What the machines of a node, and those on their way to it, take of it.
    pub fn allocation(&self, node: &NodeName) -> Allocation {
        let mut sum = Allocation::default();
        for vm in self.index.vms_charged_to(node) {
            if let Some(vm) = self.vms.get(&vm) {
                sum.add(Allocation::of(&vm.spec));
            }
        }
        sum
    }

    /// Whether a new machine fits a node.
    ///
    /// # Errors
    /// The first thing that is missing.
    pub fn fit(&self, node: &Node, machine: Wanted<'_>) -> Result<(), Misfit> {
        self.fit_beside(node, machine, self.allocation(&node.name), None)
    }

    /// The same for a machine that comes from `source`, or is new, where it is known what other machines take of the node.
    ///
    /// # Errors
    /// The first thing that is missing.
    pub fn fit_beside(
        &self,
        node: &Node,
        machine: Wanted<'_>,
        taken: Allocation,
        source: Option<&NodeName>,
    ) -> Result<(), Misfit> {
        let Wanted { spec, network } = machine;
        self.check_entry(node, &spec.project, network, source)?;
        if node.state != NodeState::Ready {
            return Err(Misfit::NotReady);
        }
        if self.drain(&node.name).is_some() {
            return Err(Misfit::Draining);
        }
        if node.facts.qemu_version.is_empty() {
            return Err(Misfit::NoQemu);
        }
        fit_labels(node, spec)?;
        if spec.enable_tpm && !node.facts.has_swtpm {
            return Err(Misfit::NoTpm);
        }
        fit_capacity(&node.facts.capacity, taken, spec)
    }
}

fn fit_labels(node: &Node, spec: &VmSpec) -> Result<(), Misfit> {
    let missing =
        spec.node_selector.iter().find(|(key, value)| node.facts.labels.get(*key) != Some(*value));
    match missing {
        Some((key, value)) => Err(Misfit::Selector { label: format!("{key}={value}") }),
        None => Ok(()),
    }
}

fn fit_capacity(capacity: &NodeCapacity, taken: Allocation, spec: &VmSpec) -> Result<(), Misfit> {
    let free_bytes = capacity.memory_bytes.saturating_sub(taken.memory_bytes);
    if spec.memory_bytes > free_bytes {
        return Err(Misfit::Memory { needed_bytes: spec.memory_bytes, free_bytes });
    }
    let free = capacity.cpus.saturating_mul(CPU_OVERCOMMIT).saturating_sub(taken.cpus);
    if spec.cpus > free {
        return Err(Misfit::Cpus { needed: spec.cpus, free });
    }
    let needed_bytes = spec.disk_bytes();
    let free_bytes = capacity.disk_bytes.saturating_sub(taken.disk_bytes);
    if needed_bytes > free_bytes {
        return Err(Misfit::Disk { needed_bytes, free_bytes });
    }
    Ok(())
}
