//! The leader's duties begin when this member leads, with a quorum that says so, and have ended before it may lead
//! again. A leader that is cut off from the others does not learn that it was replaced (openraft 0.9 lets it go on
//! thinking so); its agents would stay with it and hear nothing. So it asks its quorum every two seconds, and lets
//! its agents go when it has lost it ([`quorum`]).

use std::sync::{Arc, PoisonError, RwLock};
use std::time::Duration;

use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio::time::sleep;
use tokio_util::sync::CancellationToken;

use crate::agents::liveness::{self, Patience};
use crate::agents::reports::Reports;
use crate::agents::{Sessions, herald};
use crate::alerts::watch::AlertWatch;
use crate::clock::Clock;
use crate::joint;
use crate::journal;
use crate::outbox::reconcile;
use crate::peers::LeaderLink;
use crate::quorum;
use crate::raft::Raft;
use crate::raft::words::RaftServerMetrics;
use crate::secrets::keyring::Keyring;
use crate::secrets::turn::Turning;
use crate::upgrade::Upgrade;
use crate::view::View;

/// Before duties begin anew of which one has panicked: it may do so again.
const PANIC_PAUSE: Duration = Duration::from_secs(1);

/// Whether this member leads, and what its sessions need while it does. Cheap to clone.
#[derive(Clone)]
pub struct Leadership {
    leads: watch::Sender<bool>,
    reports: Arc<RwLock<Option<Arc<Reports>>>>,
}

/// What the duties work with.
#[derive(Clone)]
pub(crate) struct Duties {
    pub(crate) raft: Raft,
    pub(crate) leader: LeaderLink,
    pub(crate) view: View,
    pub(crate) sessions: Sessions,
    pub(crate) clock: Clock,
    pub(crate) patience: Patience,
    pub(crate) keyring: Keyring,
    /// `None` where alerts are turned off.
    pub(crate) alerts: Option<AlertWatch>,
}

impl Leadership {
    pub(crate) fn new() -> Self {
        Self { leads: watch::Sender::new(false), reports: Arc::default() }
    }

    /// Whether this member leads, as it changes.
    pub fn watch(&self) -> watch::Receiver<bool> {
        self.leads.subscribe()
    }

    /// Where sessions hand in reports, while this member leads.
    pub fn reports(&self) -> Option<Arc<Reports>> {
        self.reports.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    fn set(&self, reports: Option<Arc<Reports>>) {
        let leads = reports.is_some();
        *self.reports.write().unwrap_or_else(PoisonError::into_inner) = reports;
        self.leads.send_replace(leads);
    }

    /// Follows Raft until `stop`: whoever leads does the duties.
    pub(crate) async fn follow(self, duties: Duties, stop: CancellationToken) {
        let mut metrics = duties.raft.server_metrics();
        loop {
            let leads =
                |metrics: &RaftServerMetrics<u64, _>| metrics.current_leader == Some(metrics.id);
            tokio::select! {
                biased;
                () = stop.cancelled() => break,
                found = metrics.wait_for(|metrics| leads(metrics)) => if found.is_err() { break },
            }
            if !is_confirmed(&duties, &stop).await {
                continue;
            }
            let term = stop.child_token();
            let mut tasks = self.begin(&duties, &term);
            tokio::select! {
                biased;
                () = stop.cancelled() => {}
                _ = metrics.wait_for(|metrics| !leads(metrics)) => {}
                () = quorum::lost(&duties.raft, duties.leader.desk()) => tracing::warn!("no quorum answers this leader"),
                () = one_panicked(&mut tasks) => {}
            }
            self.end(&duties, &term, tasks).await;
        }
    }

    fn begin(&self, duties: &Duties, term: &CancellationToken) -> JoinSet<()> {
        tracing::info!("this coordinator leads");
        let Duties { raft, leader, view, sessions, clock, patience, keyring, alerts } =
            duties.clone();
        let desk = leader.desk().clone();
        let mut tasks = JoinSet::new();
        let reports = Reports::new(desk.clone(), clock.clone());
        tasks.spawn(herald::run(view.clone(), sessions.clone(), term.clone()));
        tasks.spawn(liveness::watch(
            sessions,
            view.clone(),
            desk.clone(),
            clock.clone(),
            patience,
            term.clone(),
        ));
        if let Some(alerts) = alerts {
            tasks.spawn(alerts.run(term.clone()));
        }
        tasks.spawn(journal::run(view.clone(), term.clone()));
        tasks.spawn(joint::end(raft, desk.clone(), term.clone()));
        let (of_upgrade, at) = (leader.clone(), clock.clone());
        let upgrade = Upgrade { view: view.clone(), leader: of_upgrade, clock: at };
        tasks.spawn(upgrade.run(term.clone()));
        let turning = Turning { keyring, view: view.clone(), leader, clock: clock.clone() };
        tasks.spawn(turning.run(term.clone()));
        tasks.spawn(reconcile::run(view, desk, clock, term.clone()));
        self.set(Some(Arc::new(reports)));
        tasks
    }

    /// Sessions see that nobody leads here and send their agents on.
    async fn end(&self, duties: &Duties, term: &CancellationToken, mut tasks: JoinSet<()>) {
        tracing::info!("this coordinator does not lead any more");
        self.set(None);
        term.cancel();
        while tasks.join_next().await.is_some() {}
        drop(duties.sessions.take_all());
    }
}

/// Whether a quorum says that this member leads; waits a little after a no.
async fn is_confirmed(duties: &Duties, stop: &CancellationToken) -> bool {
    let confirmed = duties.leader.desk().confirm().await.is_ok();
    if !confirmed {
        tokio::select! {
            biased;
            () = stop.cancelled() => {}
            () = sleep(quorum::CONFIRM_PAUSE) => {}
        }
    }
    confirmed
}

/// Ready a moment after a duty has panicked: the others would go on without it, so all of them begin anew.
async fn one_panicked(duties: &mut JoinSet<()>) {
    while let Some(ended) = duties.join_next().await {
        if ended.is_err_and(|error| error.is_panic()) {
            tracing::error!("a duty of the leader ended in a panic: all of them begin anew");
            return sleep(PANIC_PAUSE).await;
        }
    }
    std::future::pending().await
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_duty_that_panics_is_missed_and_one_that_ends_is_not() {
        let mut duties = JoinSet::new();
        duties.spawn(async {});
        let missed = tokio::time::timeout(PANIC_PAUSE, one_panicked(&mut duties)).await;
        assert!(missed.is_err());
        duties.spawn(async { panic!("as a bug would") });
        one_panicked(&mut duties).await;
    }
}
