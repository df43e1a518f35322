//! Two hosts and a switch in namespaces of their own, joined as `novacron dev up` joins its nodes: so plain QEMUs
//! cross the same kind of wire.
//!
//! ```text
//!  [source] eth0 ══ p1 [switch: bridge] p2 ══ eth0 [target]      every end of every link is shaped
//! ```

mod plan;
mod rate;
mod wire;

use anyhow::Result;

pub use plan::{Host, Plan};
pub use rate::Rate;
pub use wire::{Shape, Wire, WireBytes};

use crate::execute::{Argv, execute_all, execute_each};

/// The network, for as long as this lives.
#[derive(Debug)]
pub struct Network {
    plan: Plan,
}

impl Network {
    /// Makes it.
    pub fn create(link: Rate) -> Result<Self> {
        let network = Self { plan: Plan::new(std::process::id(), link) };
        // If this fails half way, dropping the value removes the first half.
        execute_all(&network.plan.create())?;
        Ok(network)
    }

    /// The command that runs a program on a host.
    pub fn enter(&self, host: Host) -> Argv {
        self.plan.enter(host)
    }

    /// What is counted on the wire.
    pub fn wire(&self) -> Wire {
        Wire::between(&self.plan.namespace(Host::Source), &self.plan.namespace(Host::Target))
    }
}

impl Drop for Network {
    fn drop(&mut self) {
        execute_each(&self.plan.remove());
    }
}
