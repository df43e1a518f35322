//! Effects: each is done once however often it comes, and what became of it is durable before it is told.
//!
//! ```text
//! effect ─► outcome known, not committed? ── yes ─► tell it again
//!              │ no
//!              ├─► being done? ── yes ─► nothing: it will be told
//!              │ no
//!              ├─► deadline past? ── yes ─► failed
//!              │ no
//!              └─► machine (fenced by its driver) or migration ─► outcome: durable, then told
//! ```
//!
//! A known outcome is forgotten once it is committed. The coordinators have then removed the row; should an effect come
//! once more all the same, every action is one that may be done twice.

use std::collections::HashSet;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use novacron_protocol::effect::{Action, Effect, EffectOutcome};
use novacron_protocol::ids::EffectId;
use tokio::time::Instant;
use tokio_util::task::TaskTracker;
use tracing::Instrument;

use super::migration_orders;
use crate::clock;
use crate::migrate::Migrations;
use crate::report::Reporter;
use crate::vm::{MachineOrder, Machines, Order, SnapshotOrder};

/// Takes effects; clones share one inbox.
#[derive(Debug, Clone)]
pub struct Inbox {
    shared: Arc<Shared>,
}

#[derive(Debug)]
struct Shared {
    machines: Machines,
    migrations: Migrations,
    reporter: Reporter,
    /// Being done at this moment.
    begun: Mutex<HashSet<EffectId>>,
    tasks: TaskTracker,
}

impl Inbox {
    /// An inbox that orders machines and migrations about.
    pub fn new(machines: Machines, migrations: Migrations, reporter: Reporter) -> Self {
        let (begun, tasks) = (Mutex::default(), TaskTracker::new());
        Self { shared: Arc::new(Shared { machines, migrations, reporter, begun, tasks }) }
    }

    /// Takes an effect. Returns at once; effects on one machine are begun in the order of these calls.
    pub fn take(&self, effect: Effect) {
        if self.shared.reporter.repeat_outcome(effect.id) || !self.shared.begin(effect.id) {
            return;
        }
        let span = tracing::info_span!(
            "effect", effect = %effect.id, vm = %effect.vm, generation = %effect.generation,
            request = %effect.request
        );
        tracing::info!(parent: &span, action = name(&effect.action), "effect begun");
        let shared = Arc::clone(&self.shared);
        let id = effect.id;
        // Queued here, not in the task, so that the machine sees its orders in order.
        let work = shared.clone().start(effect);
        self.shared.tasks.spawn(
            async move {
                let outcome = work.await;
                shared.finish(id, outcome).await;
            }
            .instrument(span),
        );
    }

    /// Returns once nothing is being done any more.
    pub async fn finished(&self) {
        self.shared.tasks.close();
        self.shared.tasks.wait().await;
    }
}

type Work = std::pin::Pin<Box<dyn Future<Output = Option<EffectOutcome>> + Send>>;

impl Shared {
    fn begin(&self, effect: EffectId) -> bool {
        self.begun().insert(effect)
    }

    fn begun(&self) -> MutexGuard<'_, HashSet<EffectId>> {
        self.begun.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Begins an effect. The outcome is `None` if the agent ends before there is one: then it comes again.
    fn start(self: Arc<Self>, effect: Effect) -> Work {
        let deadline = clock::instant_of(effect.deadline);
        if deadline.is_none() && !self.is_begun(&effect.action) {
            let reason = format!("it reached this node after its deadline, {}", effect.deadline);
            return Box::pin(async { Some(EffectOutcome::Failed { reason }) });
        }
        match machine_order(&effect.action).zip(deadline) {
            Some((order, deadline)) => self.order(&effect, order, deadline),
            None => Box::pin(async move {
                let Self { machines, migrations, reporter, .. } = &*self;
                migration_orders::perform(effect, machines, migrations, reporter).await
            }),
        }
    }

    /// Whether it is about a migration that an earlier run of the agent has begun: its deadline was for the beginning.
    fn is_begun(&self, action: &Action) -> bool {
        match action {
            Action::SendMigration { migration, .. } => {
                self.migrations.is_source_of(*migration) || self.reporter.has_ended(*migration)
            }
            _ => false,
        }
    }

    fn order(&self, effect: &Effect, order: MachineOrder, deadline: Instant) -> Work {
        let answer = self.machines.order(effect.vm, effect.generation, order, deadline);
        Box::pin(async move { answer.await.ok() })
    }

    async fn finish(&self, effect: EffectId, outcome: Option<EffectOutcome>) {
        if let Some(outcome) = outcome {
            tracing::info!(?outcome, "effect done");
            if let Err(error) = self.reporter.effect_done(effect, outcome).await {
                // Not told, so the row stays open and the effect comes again.
                tracing::error!(error = &error as &dyn std::error::Error, "outcome not recorded");
            }
        }
        self.begun().remove(&effect);
    }
}

/// The order in an action that is about one machine and this agent only.
fn machine_order(action: &Action) -> Option<MachineOrder> {
    match action {
        Action::Create { spec } => Some(MachineOrder::Create(Box::new(spec.clone()))),
        Action::Start => Some(MachineOrder::Existing(Order::Start)),
        Action::Stop { force } => Some(MachineOrder::Existing(Order::Stop { force: *force })),
        Action::Destroy => Some(MachineOrder::Existing(Order::Destroy)),
        Action::TakeSnapshot { snapshot } => {
            Some(MachineOrder::Snapshot(SnapshotOrder::Take(*snapshot)))
        }
        Action::RestoreSnapshot { snapshot } => {
            Some(MachineOrder::Snapshot(SnapshotOrder::Restore(*snapshot)))
        }
        Action::DeleteSnapshot { snapshot } => {
            Some(MachineOrder::Snapshot(SnapshotOrder::Delete(*snapshot)))
        }
        Action::ExpectMigration { .. }
        | Action::SendMigration { .. }
        | Action::CancelMigration { .. }
        | Action::AbandonMigration { .. } => None,
    }
}

fn name(action: &Action) -> &'static str {
    match action {
        Action::Create { .. } => "create",
        Action::Start => "start",
        Action::Stop { .. } => "stop",
        Action::Destroy => "destroy",
        Action::ExpectMigration { .. } => "expect migration",
        Action::SendMigration { .. } => "send migration",
        Action::CancelMigration { .. } => "cancel migration",
        Action::AbandonMigration { .. } => "abandon migration",
        Action::TakeSnapshot { .. } => "take snapshot",
        Action::RestoreSnapshot { .. } => "restore snapshot",
        Action::DeleteSnapshot { .. } => "delete snapshot",
    }
}
