//! What the agent says of itself in numbers, at `/metrics`.
//!
//! | module | holds |
//! |---|---|
//! | `labels` | the words that labels can have |
//! | `migrations` | counters of all migrations |
//! | `link` | counters of the links that they use |
//! | `tally` | what one migration has added to them |
//! | `running` | how the migrations under way stand |
//! | `host` | how the host stands |
//! | `dwcp` | the same migrations under older names |
//!
//! Labels are words of this program only (an end, a mode, a result, a form of pages), never names of machines, nodes or
//! migrations: there are as many series on the first day as after a year, and nobody learns who is whose tenant.
//!
//! `/metrics/dwcp` has the migrations under the names that dashboards for DWCP look for; one of them counts in
//! milliseconds, which the rules for `/metrics` forbid.

mod dwcp;
mod host;
mod labels;
mod link;
mod migrations;
mod running;
mod tally;

use novacron_metrics::Pages;
use novacron_metrics::certificate::Certificate;
use novacron_metrics::pages::METRICS_PATH;
use novacron_metrics::process::Process;
use prometheus_client::registry::Registry;

pub use host::HostNumbers;
pub use labels::Side;
pub(crate) use labels::result_word;
pub use migrations::{Ended, MigrationMetrics};
pub use running::Standing;
pub use tally::{Moved, Tally};

/// Where the migrations are under older names.
pub const DWCP_PATH: &str = "/metrics/dwcp";

/// The pages of one agent.
pub fn pages(host: HostNumbers, certificate: Certificate) -> Pages {
    let (mut registry, mut dwcp) = (Registry::default(), Registry::default());
    let migrations = host.migrations.metrics();
    migrations.register(&mut registry);
    migrations.register_dwcp(&mut dwcp);
    registry.register_collector(Box::new(host));
    registry.register_collector(Box::new(certificate));
    registry.register_collector(Box::new(Process));
    Pages::default().with(METRICS_PATH, registry).with(DWCP_PATH, dwcp)
}
