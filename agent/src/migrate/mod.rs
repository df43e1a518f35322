//! Moving machines: what an agent does as source and as target.
//!
//! The order of things and who may run the machine is decided in `novacron_protocol::session`, which knows no I/O. Here
//! are the hands: QEMU's sockets, the page pipeline, the streams to the other agent, and the durable records.

mod account;
pub mod cache;
mod console_log;
mod context;
mod control;
mod digest;
mod files;
pub mod library;
mod listener;
pub mod memory;
pub mod relay;
mod said;
mod settings;
mod source;
mod target;

use std::sync::Arc;
use std::time::Duration;

use novacron_protocol::effect::{EffectOutcome, MigrationEnd, SourceResult};
use novacron_protocol::ids::{Generation, MigrationId, VmId};
use novacron_protocol::migration::MigrationPhase;
use novacron_protocol::vm::VmSpec;
use novacron_transport::connection::CloseCode;
use novacron_transport::{Acceptor, Endpoint};
use tokio::sync::oneshot;

#[cfg(test)]
pub(crate) use self::account::account_of_distinct_numbers;
pub use settings::{InvalidMigrationSetting, MigrationSettings};

use self::context::{Context, SourceCommand, TargetCommand};
use crate::metrics::{MigrationMetrics, Side};
use crate::reason::reason;
use crate::records::RecordsError;
use crate::report::Reporter;
use crate::vm::{Departure, Interrupted, LeaseError, Machines, SourceRole, TargetRole};

/// Of a migration whose task could not write what it had to.
const STUCK: &str = "this node's agent cannot end the migration before it is started again";

/// How long migrations are waited for when the agent ends.
const SHUT_DOWN_PATIENCE: Duration = Duration::from_secs(10);

/// The migrations of this agent, as source and as target; clones share them.
#[derive(Debug, Clone)]
pub struct Migrations {
    context: Arc<Context>,
}

impl Migrations {
    /// Migrations over `endpoint`, none under way.
    pub fn new(
        machines: Machines,
        reporter: Reporter,
        endpoint: Endpoint,
        settings: MigrationSettings,
    ) -> Self {
        Self { context: Context::new(machines, reporter, endpoint, settings) }
    }

    /// Where migrations are counted.
    pub fn metrics(&self) -> &Arc<MigrationMetrics> {
        &self.context.metrics
    }

    /// How many are under way of which this agent is this end.
    pub fn running(&self, side: Side) -> usize {
        match side {
            Side::Source => self.context.sources().len(),
            Side::Target => self.context.targets().len(),
        }
    }

    /// What this host remembers of guests' memory.
    pub fn images(&self) -> &cache::Images {
        &self.context.images
    }

    /// What this host keeps of machines that came, for others.
    pub fn shelves(&self) -> &library::Shelves {
        &self.context.shelves
    }

    /// Takes connections of other agents until the endpoint is closed.
    pub async fn serve(&self, acceptor: Acceptor) {
        listener::run(Arc::clone(&self.context), acceptor).await;
    }

    /// Goes on with what an earlier run of the agent left behind.
    pub fn recover(&self, interrupted: Vec<Interrupted>) {
        for lease in interrupted {
            match lease {
                Interrupted::Source(guest) => source::resume(&self.context, guest),
                Interrupted::Target(guest) => target::resume(&self.context, guest),
            }
        }
    }

    /// At the target: makes room for a machine. Done when its source may come.
    pub async fn expect(
        &self,
        vm: VmId,
        generation: Generation,
        spec: VmSpec,
        role: TargetRole,
    ) -> EffectOutcome {
        if self.context.targets().contains_key(&role.migration) {
            return EffectOutcome::Done;
        }
        let migration = role.migration;
        match self.context.machines.expect(vm, generation, spec, role).await {
            Ok(guest) => {
                target::begin(&self.context, guest);
                self.expected(migration).await
            }
            Err(error) => refused(&error),
        }
    }

    /// The order to forget a migration may overtake the one to expect it, and leaves a refusal.
    async fn expected(&self, migration: MigrationId) -> EffectOutcome {
        let reason = match self.context.machines.has_refused(migration).await {
            Ok(false) => return EffectOutcome::Done,
            Ok(true) => "the migration was given up meanwhile".to_owned(),
            Err(error) => reason(&error),
        };
        self.end_target(migration).await;
        EffectOutcome::Failed { reason }
    }

    /// At the source: moves a machine. Done when the migration ended, one way or the other; how, is a report of its
    /// own.
    pub async fn send(&self, vm: VmId, generation: Generation, role: SourceRole) -> EffectOutcome {
        let migration = role.migration;
        if self.context.was_cancelled(migration) {
            return self.end_unbegun(vm, role).await;
        }
        if !self.context.sources().contains_key(&migration) {
            let commands = self.context.register_source(migration);
            match self.context.machines.lend(vm, generation, role).await {
                Ok(guest) => source::begin(&self.context, guest, commands),
                Err(error) => {
                    self.context.sources().remove(&migration);
                    return match error {
                        LeaseError::Over => self.end_again(vm, migration).await,
                        error => refused(&error),
                    };
                }
            }
        }
        self.sent(vm, migration).await
    }

    /// Waits for the end of a migration.
    async fn sent(&self, vm: VmId, migration: MigrationId) -> EffectOutcome {
        let (over, ended) = oneshot::channel();
        let running = self.context.sources().get(&migration).cloned();
        if let Some(source) = running
            && source.send(SourceCommand::Wait(over)).await.is_ok()
            && ended.await.is_ok()
        {
            return EffectOutcome::Done;
        }
        if self.context.ending.is_cancelled() {
            // It goes on when the agent is started again, and its end is told then.
            return EffectOutcome::Done;
        }
        self.end_again(vm, migration).await
    }

    /// What to say of a migration that has no task, or no longer. If the machine stayed, how it ended is told again: that
    /// may be what could not be written.
    async fn end_again(&self, vm: VmId, migration: MigrationId) -> EffectOutcome {
        let departure = self.context.machines.departure(vm, migration).await;
        self.say_again(migration, departure).await
    }

    async fn say_again(
        &self,
        migration: MigrationId,
        departure: Result<Departure, RecordsError>,
    ) -> EffectOutcome {
        match departure {
            Ok(Departure::None) => EffectOutcome::Done,
            Ok(Departure::Stayed(end)) => self.report_end(migration, *end).await,
            Ok(Departure::Open) => EffectOutcome::Failed { reason: STUCK.to_owned() },
            Err(error) => EffectOutcome::Failed { reason: reason(&error) },
        }
    }

    async fn report_end(&self, migration: MigrationId, end: MigrationEnd) -> EffectOutcome {
        match self.context.reporter.migration_ended(migration, end).await {
            Ok(()) => EffectOutcome::Done,
            Err(error) => EffectOutcome::Failed { reason: reason(&error) },
        }
    }

    /// Whether this agent sends the machine of this migration at this moment.
    pub fn is_source_of(&self, migration: MigrationId) -> bool {
        self.context.sources().contains_key(&migration)
    }

    /// A migration that was cancelled before its order to begin came.
    async fn end_unbegun(&self, vm: VmId, role: SourceRole) -> EffectOutcome {
        let departure = self.context.machines.departure(vm, role.migration).await;
        if !matches!(departure, Ok(Departure::None)) {
            return self.say_again(role.migration, departure).await;
        }
        let phase = MigrationPhase::Validate;
        let end = MigrationEnd { target: role.target, phase, result: SourceResult::Cancelled };
        self.report_end(role.migration, end).await
    }

    /// At the source: gives a migration up if the machine was not handed over. Done when that is over.
    pub async fn cancel(&self, vm: VmId, migration: MigrationId) -> EffectOutcome {
        let (answer, possible) = oneshot::channel();
        let running = self.context.sources().get(&migration).cloned();
        let Some(source) = running else {
            // Before its record is looked at: the order to begin may come meanwhile.
            self.context.remember_cancelled(migration);
            return self.end_again(vm, migration).await;
        };
        if source.send(SourceCommand::Cancel(answer)).await.is_err() {
            return self.end_again(vm, migration).await;
        }
        // Not before it is durable: a migration whose agent is restarted goes on.
        let reason = match possible.await {
            Ok(true) => return EffectOutcome::Done,
            Ok(false) => "the machine was handed over already",
            Err(_) => STUCK,
        };
        EffectOutcome::Failed { reason: reason.to_owned() }
    }

    /// At the target: ends a migration that was not accepted. Done when nothing of it is left, or when it had been
    /// accepted.
    pub async fn abandon(&self, vm: VmId, migration: MigrationId) -> EffectOutcome {
        if !self.end_target(migration).await {
            // Not under way, or about to be: refused first, looked for again then, so that neither is missed.
            if let Err(error) = listener::verdict(&self.context, vm, migration).await {
                return EffectOutcome::Failed { reason: reason(&error) };
            }
            self.end_target(migration).await;
        }
        EffectOutcome::Done
    }

    /// Whether there was a target's end of this migration; it is over then.
    async fn end_target(&self, migration: MigrationId) -> bool {
        let (over, ended) = oneshot::channel();
        let running = self.context.targets().get(&migration).cloned();
        let Some(target) = running else { return false };
        if target.send(TargetCommand::Abandon(over)).await.is_ok() {
            // An error means that it ended, too.
            let _ = ended.await;
        }
        true
    }

    /// Closes every link and waits a while for what that makes of the migrations. One that has not ended by then goes on
    /// after the next start, or is asked about if it was handed over. Guests go on.
    pub async fn shut_down(&self) {
        self.context.endpoint.close(CloseCode::Done, "the agent ends");
        self.context.tasks.close();
        if tokio::time::timeout(SHUT_DOWN_PATIENCE, self.context.tasks.wait()).await.is_err() {
            tracing::warn!("migrations are left as they are until the agent starts again");
            self.context.ending.cancel();
        }
    }
}

fn refused(error: &LeaseError) -> EffectOutcome {
    match error {
        LeaseError::Stale(stale) => EffectOutcome::Stale { held: stale.held },
        error => EffectOutcome::Failed { reason: reason(error) },
    }
}
