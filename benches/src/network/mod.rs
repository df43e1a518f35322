//! Two hosts and a switch in namespaces of their own, joined as `novacron dev up` joins its nodes: so plain QEMUs
//! cross the same kind of wire.
//!
//! ```text
//!  [source] eth0 ══ p1 [switch: bridge] p2 ══ eth0 [target]      every end of every link is shaped
//!     wan0 ────────────── emulated line ───────────── wan0        only if it is long: then between these two hosts
//! ```

mod emulator;
mod line;
mod plan;
mod rate;
mod tcp;
mod wire;

use anyhow::Result;

pub use emulator::{Emulator, End};
pub use line::LinkArgs;
pub use plan::{Host, Plan};
pub use tcp::Tcp;
pub use wire::{Shape, Wire, WireBytes};

use crate::execute::{Argv, execute_all, execute_each};

/// The network, for as long as this lives.
#[derive(Debug)]
pub struct Network {
    emulator: Option<Emulator>,
    plan: Plan,
}

impl Network {
    /// Makes it; its hosts' TCP is this machine's unless said.
    pub fn create(link: &LinkArgs, tcp: Option<Tcp>) -> Result<Self> {
        let plan = Plan::new(std::process::id(), link.link);
        let mut network = Self { emulator: None, plan };
        // If this fails half way, dropping the value removes the first half.
        execute_all(&network.plan.create())?;
        let hosts = Host::ALL.map(|host| network.plan.namespace(host));
        if let Some(tcp) = tcp {
            tcp.choose(&hosts)?;
        }
        network.emulator = link.join(&Host::ALL.map(|host| network.plan.end(host)))?;
        Ok(network)
    }

    /// The command that runs a program on a host.
    pub fn enter(&self, host: Host) -> Argv {
        self.plan.enter(host)
    }

    /// The namespace of a host.
    pub fn namespace(&self, host: Host) -> String {
        self.plan.namespace(host)
    }

    /// What is counted on the wire.
    pub fn wire(&self) -> Wire {
        let [source, target] = Host::ALL.map(|host| self.plan.namespace(host));
        Wire::between(&source, &target).with_line(self.emulator.as_ref())
    }
}

impl Drop for Network {
    fn drop(&mut self) {
        self.emulator = None;
        execute_each(&self.plan.remove());
    }
}
