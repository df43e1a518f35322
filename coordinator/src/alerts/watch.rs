//! The leader's part: it looks at what holds now and then, and proposes what changed, many alerts in one command.

use std::collections::BTreeMap;
use std::time::Duration;

use novacron_protocol::api::{ClusterStatus, MonthCost};
use novacron_protocol::ids::{AlertId, ProjectName};
use novacron_protocol::time::Timestamp;
use tokio::time::{Instant, MissedTickBehavior, interval};
use tokio_util::sync::CancellationToken;

use super::conditions::Outlook;
use super::holding::{AlertPatience, Holding};
use crate::clock::{Clock, new_request, new_uuid};
use crate::cluster::Cluster;
use crate::ledger::{Ledger, LedgerError};
use crate::peers::desk::Desk;
use crate::state::alert::{AlertOrder, Observed};
use crate::state::formats::ALERTS;
use crate::state::{Body, Command, Fleet};
use crate::view::View;

/// The longest time from one look to the next.
const LOOK_PERIOD_MAX: Duration = Duration::from_secs(5);

/// The shortest.
const LOOK_PERIOD_MIN: Duration = Duration::from_millis(50);

/// For how long what the month costs stands, as long as no budget is changed.
const COSTS_PERIOD: Duration = Duration::from_secs(5 * 60);

/// Commands of one look. Of what is left, the next look proposes more.
const COMMANDS_MAX: usize = 16;

/// What the duty works with.
#[derive(Clone)]
pub(crate) struct AlertWatch {
    pub(crate) view: View,
    pub(crate) desk: Desk,
    pub(crate) clock: Clock,
    pub(crate) cluster: Cluster,
    pub(crate) ledger: Ledger,
    pub(crate) patience: AlertPatience,
    /// As in [`Outlook`].
    pub(crate) backup_overdue_ms: Option<u64>,
}

/// What the projects with budgets cost.
#[derive(Default)]
struct Costs {
    known: Option<BTreeMap<ProjectName, i64>>,
    computed: Option<Instant>,
    /// When the last budget was set, and how many there are.
    budgets: (Timestamp, usize),
}

impl AlertWatch {
    /// Looks until `stop`.
    pub(crate) async fn run(self, stop: CancellationToken) {
        let (began, mut holding, mut costs) =
            (Instant::now(), Holding::default(), Costs::default());
        let period = self.patience.fire_after / 3;
        let mut ticks = interval(period.clamp(LOOK_PERIOD_MIN, LOOK_PERIOD_MAX));
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            let looked = async {
                ticks.tick().await;
                // A coordinator of the release before could not read what is proposed.
                if self.view.local(Fleet::formats) >= ALERTS {
                    self.look(began, &mut holding, &mut costs).await;
                }
            };
            tokio::select! {
                biased;
                () = stop.cancelled() => return,
                () = looked => {}
            }
        }
    }

    async fn look(&self, began: Instant, holding: &mut Holding, costs: &mut Costs) {
        let members = self.cluster.status().await.ok();
        self.compute(costs).await;
        for _ in 0..COMMANDS_MAX {
            let observed = self.observe(began, holding, members.as_ref(), costs);
            let (is_old, now) = (observed.is_none(), self.clock.now());
            if is_old && !self.view.local(|fleet| fleet.has_old_alerts(now)) {
                return;
            }
            if !self.propose(observed.unwrap_or_default()).await {
                return;
            }
        }
    }

    /// What is to be noted, if anything is.
    fn observe(
        &self,
        began: Instant,
        holding: &mut Holding,
        members: Option<&ClusterStatus>,
        costs: &Costs,
    ) -> Option<Observed> {
        let now = self.clock.now();
        let observed = self.view.local(|fleet| {
            let (costs, backup_overdue_ms) = (costs.known.as_ref(), self.backup_overdue_ms);
            let outlook = Outlook { fleet, now, members, costs, backup_overdue_ms };
            let new_id = || AlertId(new_uuid(now));
            holding.step(began.elapsed(), &self.patience, &outlook, new_id)
        });
        (observed != Observed::default()).then_some(observed)
    }

    async fn propose(&self, observed: Observed) -> bool {
        let (at, body) = (self.clock.now(), Body::Alerts(AlertOrder::Observe(observed)));
        match self.desk.propose(Command::of_cluster(new_request(at), at, body)).await {
            Ok(Ok(_)) => true,
            Ok(Err(refusal)) => {
                tracing::info!(%refusal, "alerts are not noted");
                false
            }
            Err(declined) => {
                tracing::info!(%declined, "alerts are not noted");
                false
            }
        }
    }

    /// Nothing is computed while there is no budget.
    async fn compute(&self, costs: &mut Costs) {
        let budgets = self.view.local(|fleet| {
            let last = fleet.budgets().map(|(_, budget)| budget.set_at).max();
            (last.unwrap_or_default(), fleet.budgets().count())
        });
        let is_new = costs.computed.is_some_and(|at| at.elapsed() < COSTS_PERIOD);
        if is_new && costs.budgets == budgets {
            return;
        }
        costs.known = match budgets.1 {
            0 => Some(BTreeMap::new()),
            _ => self.month_so_far().await,
        };
        (costs.computed, costs.budgets) = (Some(Instant::now()), budgets);
    }

    async fn month_so_far(&self) -> Option<BTreeMap<ProjectName, i64>> {
        let month = self.ledger.run(Ledger::month_so_far).await;
        match month {
            Ok(MonthCost { projects, .. }) => {
                let costs = projects.into_iter().map(|total| (total.project, total.micro_dollars));
                Some(costs.collect())
            }
            Err(error) => {
                let error: &LedgerError = &error;
                tracing::warn!(%error, "what this month costs is not known: no alerts of budgets");
                None
            }
        }
    }
}
