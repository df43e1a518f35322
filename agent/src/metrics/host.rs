//! How the host stands: looked up when somebody asks.

use std::fmt;

use novacron_metrics::moment::{Moment, whole};
use novacron_protocol::node::Accelerator;
use prometheus_client::collector::Collector;
use prometheus_client::encoding::DescriptorEncoder;

use super::labels::{STATES, Side};
use crate::host::Hypervisor;
use crate::metering::Recorder;
use crate::migrate::Migrations;
use crate::report::Reporter;
use crate::sampling::Sampler;
use crate::vm::Machines;

/// Where the numbers of one host are to be found.
#[derive(Debug)]
pub struct HostNumbers {
    /// Its machines.
    pub machines: Machines,
    /// Its migrations.
    pub migrations: Migrations,
    /// What it has to tell.
    pub reporter: Reporter,
    /// What it meters.
    pub recorder: Recorder,
    /// What it measures.
    pub sampler: Sampler,
}

impl Collector for HostNumbers {
    fn encode(&self, encoder: DescriptorEncoder<'_>) -> fmt::Result {
        let mut moment = Moment::new(encoder);
        info(&mut moment, self.machines.hypervisor())?;
        self.machines(&mut moment)?;
        self.memory_cache(&mut moment)?;
        self.shared_cache(&mut moment)?;
        moment.gauge(
            "novacron_reports_waiting",
            "Reports that the coordinators have not committed yet",
            whole(self.reporter.waiting()),
        )?;
        self.usage(&mut moment)?;
        self.samples(&mut moment)
    }
}

impl HostNumbers {
    fn machines(&self, moment: &mut Moment<'_>) -> fmt::Result {
        let inventory = self.machines.inventory();
        let states = STATES.map(|(state, word)| {
            (word, whole(inventory.iter().filter(|machine| machine.state == state).count()))
        });
        moment.gauges("novacron_machines", "Machines in this agent's care", "state", states)?;
        let sides = [Side::Source, Side::Target];
        moment.gauges(
            "novacron_migrations_running",
            "Migrations that this agent takes part in",
            "role",
            sides.map(|side| (side.word(), whole(self.migrations.running(side)))),
        )
    }

    fn usage(&self, moment: &mut Moment<'_>) -> fmt::Result {
        let numbers = self.recorder.numbers();
        moment.gauge(
            "novacron_usage_records_waiting",
            "Records of usage that the coordinators have not acknowledged yet",
            whole(numbers.waiting),
        )?;
        moment.gauge(
            "novacron_usage_journal_bytes",
            "Bytes of the records of usage that wait on the disk",
            whole(numbers.waiting_bytes),
        )?;
        moment.gauge(
            "novacron_machines_metered",
            "Machines whose guest is metered",
            whole(numbers.running),
        )?;
        moment.counter(
            "novacron_usage_records_refused",
            "Records of usage that the ledger will never take; they are in usage/refused",
            numbers.refused,
        )?;
        moment.counter(
            "novacron_usage_records_lost",
            "Records of usage that were lost because the disk failed for too long",
            numbers.lost,
        )
    }

    fn samples(&self, moment: &mut Moment<'_>) -> fmt::Result {
        let numbers = self.sampler.numbers();
        moment.gauge(
            "novacron_sample_ticks_waiting",
            "Times that everything was measured and that were not sent yet, of the last ten minutes",
            whole(numbers.waiting),
        )?;
        moment.counter(
            "novacron_sample_ticks_dropped",
            "Times that everything was measured and that were forgotten before they could be sent",
            numbers.dropped,
        )
    }

    fn memory_cache(&self, moment: &mut Moment<'_>) -> fmt::Result {
        let images = self.migrations.images();
        moment.gauge(
            "novacron_memory_cache_used_bytes",
            "Bytes of guests' memory that are remembered, for migrations under way and for machines that come back",
            whole(images.budget().used_bytes()),
        )?;
        moment.gauge(
            "novacron_memory_cache_limit_bytes",
            "Bytes of guests' memory that may be remembered",
            whole(images.budget().limit_bytes()),
        )?;
        moment.gauge(
            "novacron_memory_cache_images",
            "Machines that left or came, and whose memory is remembered",
            whole(images.len()),
        )
    }

    fn shared_cache(&self, moment: &mut Moment<'_>) -> fmt::Result {
        let budget = self.migrations.shelves().budget();
        moment.gauge(
            "novacron_shared_cache_reserved_bytes",
            "Bytes that are reserved for pages that machines of one tenant share",
            whole(budget.used_bytes()),
        )?;
        moment.gauge(
            "novacron_shared_cache_limit_bytes",
            "Bytes that may be reserved for pages that machines of one tenant share",
            whole(budget.limit_bytes()),
        )
    }
}

fn info(moment: &mut Moment<'_>, hypervisor: &Hypervisor) -> fmt::Result {
    let qemu = hypervisor.qemu.as_ref().map(ToString::to_string).unwrap_or_default();
    let accelerator = match hypervisor.accelerator {
        Accelerator::Kvm => "kvm",
        Accelerator::Tcg => "tcg",
    };
    let labels = [
        ("version", env!("CARGO_PKG_VERSION")),
        ("qemu", qemu.as_str()),
        ("accelerator", accelerator),
    ];
    moment.info("novacron_agent_info", "Always 1; its labels say what runs here", &labels)
}
