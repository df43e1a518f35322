//! What the agent says of itself in numbers, at `/metrics`.
//!
//! Labels are words of this program only (a side, a mode, an outcome, a form of pages), never names of machines, nodes
//! or migrations: there are as many series on the first day as after a year.
//!
//! `/metrics/dwcp` has the same migrations under the names that dashboards for DWCP look for; one of them counts in
//! milliseconds, which the rules for `/metrics` forbid.

mod dwcp;
mod host;
mod migrations;
mod tally;

use std::sync::Arc;

use novacron_metrics::process::Process;
use novacron_metrics::{MetricError, Metrics, Pages};

pub use host::HostMetrics;
pub use migrations::{Ended, MigrationMetrics, Side};
pub use tally::{Moved, Tally};

use crate::host::Hypervisor;
use crate::migrate::Migrations;
use crate::report::Reporter;
use crate::vm::Machines;

/// The pages of one agent.
#[derive(Debug)]
pub struct AgentPages {
    metrics: Metrics,
    dwcp: Metrics,
    host: HostMetrics,
    process: Process,
    machines: Machines,
    migrations: Migrations,
    reporter: Reporter,
}

impl AgentPages {
    /// The pages of an agent whose parts these are.
    ///
    /// # Errors
    /// [`MetricError`].
    pub fn new(
        hypervisor: &Hypervisor,
        machines: Machines,
        migrations: Migrations,
        reporter: Reporter,
    ) -> Result<Self, MetricError> {
        let counted = Arc::clone(migrations.metrics());
        let (metrics, dwcp) = (counted.registry().clone(), counted.dwcp().clone());
        let host = HostMetrics::new(&metrics, hypervisor)?;
        let process = Process::new(&metrics)?;
        Ok(Self { metrics, dwcp, host, process, machines, migrations, reporter })
    }
}

impl Pages for AgentPages {
    fn page(&self, path: &str) -> Option<String> {
        match path {
            "/metrics" => {
                self.host.look(&self.machines, &self.migrations, &self.reporter);
                self.process.look();
                Some(self.metrics.text())
            }
            "/metrics/dwcp" => Some(self.dwcp.text()),
            _ => None,
        }
    }
}
