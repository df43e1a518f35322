//! What this host has, can run, and may lend.

mod accelerator;
mod capacity;
mod hypervisor;
mod load;

use novacron_protocol::node::{Accelerator, NodeFacts};
use novacron_protocol::version::PROTOCOL_VERSION;

pub use accelerator::{NoKvm, Verdict};
pub use hypervisor::{Hypervisor, QemuProblem, Unfit, look_for_qemu};
pub use load::{ProcessorLoad, ProcessorTimes, processor_times};

use crate::config::Config;
use crate::records::Records;
use crate::vm::tpm::find_program;

/// Finds out what this host can run. Without a usable QEMU the agent still runs: its node says why it takes no machine.
///
/// # Errors
/// [`NoKvm`] if the configuration demands KVM and it does not work.
pub async fn hypervisor(config: &Config, records: Option<&Records>) -> Result<Hypervisor, NoKvm> {
    let qemu = look_for_qemu(&config.qemu_binary).await;
    let verdict = match &qemu {
        Ok(version) => {
            let kernel = config.probe_kernel.as_deref();
            accelerator::decide(config.accel, (&config.qemu_binary, *version), kernel, records)
                .await?
        }
        Err(problem) => {
            tracing::error!(%problem, "this node can run no machine");
            Verdict { accelerator: Accelerator::Tcg, reason: problem.to_string() }
        }
    };
    let Verdict { accelerator, reason: accelerator_reason } = verdict;
    Ok(Hypervisor { qemu, accelerator, accelerator_reason })
}

/// What the coordinators are told of this host.
pub fn facts(config: &Config, hypervisor: &Hypervisor) -> NodeFacts {
    let version = hypervisor.qemu.as_ref().map(ToString::to_string);
    NodeFacts {
        capacity: capacity::capacity(config),
        labels: config.labels.clone(),
        migration_address: config.migration_advertise(),
        agent_version: format!("{} (dwcp {PROTOCOL_VERSION})", env!("CARGO_PKG_VERSION")),
        qemu_version: version.unwrap_or_default(),
        accelerator: hypervisor.accelerator,
        accelerator_reason: hypervisor.accelerator_reason.clone(),
        has_swtpm: find_program(&config.swtpm_binary).is_some(),
    }
}
