//! What a coordinator says of itself and of the fleet in numbers, at `/metrics`.
//!
//! | module | holds |
//! |---|---|
//! | `requests` | the API: answers by operation and status, and how long they took |
//! | `consensus` | Raft: term, log, leader, commits, applying |
//! | `fleet` | nodes, machines, migrations and open effects, as this member has them |
//! | `projects` | quotas and costs of projects |
//! | `security` | who was refused, and why |
//! | `samples` | what agents measured, as far as it is kept |
//!
//! Labels are words of this program and names of projects, never names of machines, nodes, operators or addresses. Every member says
//! what it sees; of the fleet the leader's word is the newest.

mod consensus;
mod fleet;
mod projects;
mod requests;
mod samples;
mod security;

use std::fmt;

use novacron_metrics::Pages;
use novacron_metrics::certificate::Certificate;
use novacron_metrics::moment::Moment;
use novacron_metrics::pages::METRICS_PATH;
use novacron_metrics::process::Process;
use prometheus_client::collector::Collector;
use prometheus_client::encoding::DescriptorEncoder;
use prometheus_client::registry::Registry;

pub use consensus::{ApplyMetrics, CommitMetrics, CommitOutcome, Consensus, LeaderlessMetrics};
pub use fleet::FleetNumbers;
pub use projects::{Costs, ProjectNumbers};
pub use requests::{RequestMetrics, SecurityRefusal};
pub use samples::SampleNumbers;
pub use security::{EnrolmentNumbers, RefusalReason, SecurityMetrics};

/// What runs here.
#[derive(Debug)]
struct Info;

impl Collector for Info {
    fn encode(&self, encoder: DescriptorEncoder<'_>) -> fmt::Result {
        let labels = [("version", env!("CARGO_PKG_VERSION"))];
        let help = "Always 1; its labels say what runs here";
        Moment::new(encoder).info("novacron_coordinator_info", help, &labels)
    }
}

/// The page of one coordinator.
pub fn pages(
    requests: &RequestMetrics,
    consensus: Consensus,
    fleet: FleetNumbers,
    projects: ProjectNumbers,
    samples: Option<SampleNumbers>,
    enrolments: EnrolmentNumbers,
    certificate: Certificate,
) -> Pages {
    let mut registry = Registry::default();
    requests.register(&mut registry);
    consensus.register(&mut registry);
    registry.register_collector(Box::new(fleet));
    registry.register_collector(Box::new(projects));
    if let Some(samples) = samples {
        registry.register_collector(Box::new(samples));
    }
    registry.register_collector(Box::new(enrolments));
    registry.register_collector(Box::new(Info));
    registry.register_collector(Box::new(certificate));
    registry.register_collector(Box::new(Process));
    Pages::default().with(METRICS_PATH, registry)
}
