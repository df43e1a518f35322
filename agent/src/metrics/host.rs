//! How the host stands: looked up when somebody asks.

use novacron_metrics::{IntGauge, IntGaugeVec, MetricError, Metrics};
use novacron_protocol::effect::ObservedState;
use novacron_protocol::node::Accelerator;

use super::Side;
use crate::host::Hypervisor;
use crate::migrate::Migrations;
use crate::report::Reporter;
use crate::vm::Machines;

/// Gauges of one host.
#[derive(Debug)]
pub struct HostMetrics {
    machines: IntGaugeVec,
    migrations: IntGaugeVec,
    cache_used: IntGauge,
    cache_limit: IntGauge,
    images: IntGauge,
    reports: IntGauge,
}

impl HostMetrics {
    pub(super) fn new(metrics: &Metrics, hypervisor: &Hypervisor) -> Result<Self, MetricError> {
        let info = metrics.gauges(
            "novacron_agent_info",
            "Always 1; its labels say what runs here.",
            &["version", "qemu", "accelerator"],
        )?;
        let qemu = hypervisor.qemu.as_ref().map(ToString::to_string).unwrap_or_default();
        let accelerator = match hypervisor.accelerator {
            Accelerator::Kvm => "kvm",
            Accelerator::Tcg => "tcg",
        };
        info.with_label_values(&[env!("CARGO_PKG_VERSION"), &qemu, accelerator]).set(1);
        Ok(Self {
            machines: metrics.gauges(
                "novacron_machines",
                "Machines in this agent's care.",
                &["state"],
            )?,
            migrations: metrics.gauges(
                "novacron_migrations_running",
                "Migrations that this agent takes part in.",
                &["role"],
            )?,
            cache_used: metrics.gauge(
                "novacron_memory_cache_used_bytes",
                "Bytes of guests' memory that are remembered, for migrations under way and for machines that come back.",
            )?,
            cache_limit: metrics.gauge(
                "novacron_memory_cache_limit_bytes",
                "Bytes of guests' memory that may be remembered.",
            )?,
            images: metrics.gauge(
                "novacron_memory_cache_images",
                "Machines that left or came, and whose memory is remembered.",
            )?,
            reports: metrics.gauge(
                "novacron_reports_waiting",
                "Reports that the coordinators have not committed yet.",
            )?,
        })
    }

    /// Brings the gauges up to date.
    pub(super) fn look(&self, machines: &Machines, migrations: &Migrations, reporter: &Reporter) {
        let inventory = machines.inventory();
        for (state, word) in [
            (ObservedState::Stopped, "stopped"),
            (ObservedState::Running, "running"),
            (ObservedState::Paused, "paused"),
            (ObservedState::Failed, "failed"),
        ] {
            let count = inventory.iter().filter(|machine| machine.state == state).count();
            self.machines.with_label_values(&[word]).set(whole(count));
        }
        for side in [Side::Source, Side::Target] {
            let count = migrations.running(side);
            self.migrations.with_label_values(&[side.word()]).set(whole(count));
        }
        let images = migrations.images();
        self.images.set(whole(images.len()));
        self.cache_used.set(bytes(images.budget().used_bytes()));
        self.cache_limit.set(bytes(images.budget().limit_bytes()));
        self.reports.set(whole(reporter.waiting()));
    }
}

fn whole(count: usize) -> i64 {
    i64::try_from(count).unwrap_or(i64::MAX)
}

fn bytes(count: u64) -> i64 {
    i64::try_from(count).unwrap_or(i64::MAX)
}
