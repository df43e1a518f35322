//! Projects in numbers: what they take of their quotas, and what they cost this month so far.
//!
//! Names of projects are the only labels that people choose. So there are at most [`SHOWN_MAX`] of them.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use novacron_metrics::moment::{Moment, whole};
use novacron_protocol::api::Invoice;
use novacron_protocol::project::Quota;
use prometheus_client::collector::Collector;
use prometheus_client::encoding::DescriptorEncoder;
use tokio::sync::Notify;
use tokio_util::sync::CancellationToken;

use crate::clock::Clock;
use crate::ledger::Ledger;
use crate::ledger::invoice::InvoiceFilter;
use crate::state::Fleet;
use crate::view::FleetCell;

/// Projects of one metric: with five quotas each 500 series.
const SHOWN_MAX: usize = 100;

/// What all projects beyond those are called, which no project can be.
const OTHERS: &str = "(others)";

/// For how long what was computed stands: it reads a whole month.
const COST_PERIOD: Duration = Duration::from_secs(15 * 60);

/// What the projects cost this month, computed when somebody has asked for it and it is older than a quarter of an hour.
/// Cheap to clone.
#[derive(Debug, Clone, Default)]
pub struct Costs(Arc<Shared>);

#[derive(Debug, Default)]
struct Shared {
    micro_dollars: Mutex<BTreeMap<String, i64>>,
    asked: Notify,
}

impl Costs {
    /// Computes them whenever somebody asked, until the coordinator stops.
    pub async fn run(self, ledger: Ledger, clock: Clock, stop: CancellationToken) {
        let compute = async {
            loop {
                self.0.asked.notified().await;
                let month: String = clock.now().to_string().chars().take("2026-11".len()).collect();
                let filter = InvoiceFilter::default();
                match ledger.run(move |ledger| ledger.invoice(&month, &filter)).await {
                    Ok(invoice) => self.set(largest(&invoice)),
                    Err(error) => tracing::warn!(%error, "the costs of this month are not known"),
                }
                tokio::time::sleep(COST_PERIOD).await;
            }
        };
        tokio::select! {
            biased;
            () = stop.cancelled() => {}
            () = compute => {}
        }
    }

    fn set(&self, costs: BTreeMap<String, i64>) {
        *self.0.micro_dollars.lock().unwrap_or_else(PoisonError::into_inner) = costs;
    }

    fn look(&self) -> BTreeMap<String, i64> {
        self.0.asked.notify_one();
        self.0.micro_dollars.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

/// The projects that cost most, and all others together.
fn largest(invoice: &Invoice) -> BTreeMap<String, i64> {
    let mut totals: Vec<_> = invoice.totals.iter().collect();
    totals.sort_by_key(|total| std::cmp::Reverse(total.micro_dollars));
    let mut costs = BTreeMap::<String, i64>::new();
    for (at, total) in totals.into_iter().enumerate() {
        let name = if at < SHOWN_MAX { total.project.as_str() } else { OTHERS };
        let cost = costs.entry(name.to_owned()).or_default();
        *cost = cost.saturating_add(total.micro_dollars);
    }
    costs
}

/// Where the numbers of projects are to be found.
#[derive(Debug)]
pub struct ProjectNumbers {
    /// The fleet.
    pub cell: FleetCell,
    /// What they cost.
    pub costs: Costs,
}

/// Project and quota, what is used, what is possible.
type Row = (String, &'static str, u64, u64);

/// Of projects that have quotas, in the order of their names.
fn quotas(fleet: &Fleet) -> Vec<Row> {
    let limited = |project: &&crate::state::project::Project| {
        Quota::ALL.iter().any(|quota| project.quotas.of(*quota).is_some())
    };
    let shown = fleet.projects_after(None).filter(limited).take(SHOWN_MAX);
    let rows = shown.flat_map(|project| {
        let used = fleet.project_usage(&project.name);
        Quota::ALL.into_iter().filter_map(move |quota| {
            let limit = project.quotas.of(quota)?;
            Some((project.name.to_string(), quota.word(), used.of(quota), limit))
        })
    });
    rows.collect()
}

impl Collector for ProjectNumbers {
    fn encode(&self, encoder: DescriptorEncoder<'_>) -> fmt::Result {
        let rows = self.cell.look(quotas);
        let of = |value: fn(&Row) -> u64| {
            rows.iter().map(move |row| {
                ([("project", row.0.as_str()), ("resource", row.1)], whole(value(row)))
            })
        };
        let mut moment = Moment::new(encoder);
        moment.labelled(
            "novacron_quota_used",
            "What a project takes of what a quota limits",
            of(|row| row.2),
        )?;
        moment.labelled(
            "novacron_quota_limit",
            "How much of it the project may take",
            of(|row| row.3),
        )?;
        let costs = self.costs.look();
        let costs = costs.iter().map(|(project, cost)| ([("project", project.as_str())], *cost));
        moment.labelled(
            "novacron_cost_micro_dollars",
            "What a project costs this month so far, as on its invoice, up to a quarter of an hour ago",
            costs,
        )
    }
}
