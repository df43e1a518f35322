//! The source of a migration: one task that owns the machine while it leaves.
//!
//! The session (`novacron_protocol::session::source`) decides; this task waits for one event, hands it over, and does
//! what the session says. Whatever takes long runs beside it and comes back as a [`Step`].

mod begin;
mod counts;
mod disks;
mod end;
mod events;
mod gate;
mod link;
mod memo;
mod memory;
mod offer;
mod perform;
mod pilot;
mod progress;
mod qemu;
mod restart;
mod steering;
mod step;
mod warm;

use std::sync::Arc;
use std::time::{Duration, Instant};

use novacron_protocol::disk::DiskContent;
use novacron_protocol::ids::{MigrationId, NodeName};
use novacron_protocol::migration::{MigrationAccount, MigrationMode};
use novacron_protocol::pages::PageTable;
use novacron_protocol::session::message::Digests;
use novacron_protocol::session::source::{Source, SourceEvent, SourceOutcome};
use tokio::sync::{broadcast, mpsc, oneshot};
use tokio::task::JoinSet;

use super::account::{Account, Mark};
use super::cache::Image;
use super::console_log::OutgoingLog;
use super::context::{Context, SourceCommand};
use super::control::Dialogue;
use super::library::Catalogue;
use super::memory::{Outgoing, OutgoingEvent, OutgoingForm};
use super::relay::Outlets;
use crate::clock;
use crate::disk::OutgoingDisks;
use crate::hold::{self, Moment, Performed};
use crate::metrics::Tally;
use crate::qmp::{Event, Qmp};
use crate::vm::{GuestFacts, SourceGuest};
pub(super) use begin::{begin, resume};
use events::next_event;
use gate::Gate;
use memo::Memo;
use restart::Earlier;
use steering::Steering;
use step::Step;
use warm::Warm;

/// How often progress is told.
const PROGRESS_INTERVAL: Duration = Duration::from_millis(500);

/// Why the task cannot go on; the machine stays as its record says until the agent starts again.
struct Stuck(String);

impl Stuck {
    fn agent_ends() -> Self {
        Self("the agent ends".to_owned())
    }
}

/// The task's state.
struct Run {
    context: Arc<Context>,
    guest: Option<SourceGuest>,
    facts: GuestFacts,
    target: NodeName,
    mode: MigrationMode,
    session: Source,
    form: OutgoingForm,
    account: Account,
    /// What an earlier run of the agent remembered, if this one only ends the migration.
    remembered: Option<Memo>,
    /// What earlier runs of the agent have sent, as far as the last of them remembered.
    carried: MigrationAccount,
    /// When this run's share was remembered last.
    remembered_at: Option<Instant>,
    dialogue: Dialogue,
    outlets: Outlets,
    events: Option<broadcast::Receiver<Event>>,
    outgoing: Option<Outgoing>,
    memory_events: Option<mpsc::Receiver<OutgoingEvent>>,
    disks: Option<Arc<OutgoingDisks>>,
    /// What the target's disks hold, until they are copied; none before the target has said anything.
    contents: Vec<DiskContent>,
    /// What the disks had handed over when the guest stopped.
    bytes_disk_at_stop: Option<u64>,
    warm: Warm,
    log: Option<OutgoingLog>,
    digests: Digests,
    /// What the target lacks, until it is prepared: what was on its way when the link was lost is sent again.
    missing_files: Vec<[u8; 32]>,
    file_bytes: u64,
    hash_seed: u64,
    base: Option<Image>,
    /// Of the offer.
    source_run: u64,
    /// What the target has of other machines.
    catalogue: Option<Arc<Catalogue>>,
    /// What the target says that it has of the memory, until it is sent.
    held_pages: Option<PageTable>,
    earlier: Earlier,
    progress: progress::Meter,
    tally: Tally,
    steering: Steering,
    gate: Gate,
    steps: JoinSet<Step>,
    waiting: Vec<oneshot::Sender<()>>,
    /// Who gave it up, and is told when that is durable.
    cancelling: Vec<oneshot::Sender<bool>>,
    outcome: Option<SourceOutcome>,
}

impl Run {
    async fn run(mut self, mut commands: mpsc::Receiver<SourceCommand>) {
        let migration = self.migration();
        match self.follow(&mut commands).await {
            Ok(()) => tracing::info!(outcome = ?self.outcome, "migration ended"),
            Err(Stuck(reason)) => {
                tracing::error!(reason, "the migration cannot go on before the agent starts again");
            }
        }
        self.context.sources().remove(&migration);
        commands.close();
        while let Some(command) = commands.recv().await {
            self.command(command);
        }
        self.tell_who_waits();
        self.hang_up().await;
    }

    /// Whoever waits for the end of a migration that cannot go on hears nothing, and sees that.
    fn tell_who_waits(&mut self) {
        let Some(outcome) = &self.outcome else { return };
        let is_here = *outcome != SourceOutcome::Completed;
        for waiting in self.waiting.drain(..) {
            let _ = waiting.send(());
        }
        for cancelling in self.cancelling.drain(..) {
            let _ = cancelling.send(is_here);
        }
    }

    fn migration(&self) -> MigrationId {
        self.session.migration()
    }

    async fn follow(&mut self, commands: &mut mpsc::Receiver<SourceCommand>) -> Result<(), Stuck> {
        let mut ticks = tokio::time::interval(PROGRESS_INTERVAL);
        loop {
            self.perform_all().await?;
            if self.outcome.is_some() {
                return Ok(());
            }
            let due = self.until_due();
            if due == Some(Duration::ZERO) {
                // Not in the select below, where a target that never stops talking could keep it waiting.
                self.session.handle_timeout(self.context.now_ms());
                continue;
            }
            tokio::select! {
                biased;
                Some(command) = commands.recv() => self.command(command),
                () = self.context.ending.cancelled() => return Err(Stuck::agent_ends()),
                heard = self.dialogue.hear() => self.heard(heard),
                event = next_event(&mut self.events) => self.qemu_event(event).await,
                event = next_memory_event(&mut self.memory_events) => self.memory_event(event).await,
                Some(step) = self.steps.join_next() => self.step(step).await,
                () = tokio::time::sleep(due.unwrap_or_default()), if due.is_some() => {}
                _ = ticks.tick() => self.tick().await,
            }
        }
    }

    /// How long until the session's own deadline, if it has one.
    fn until_due(&self) -> Option<Duration> {
        let due_ms = self.session.poll_timeout()?;
        Some(Duration::from_millis(due_ms.saturating_sub(self.context.now_ms())))
    }

    /// Until the session has nothing more to do: performing one action can make the next one due.
    async fn perform_all(&mut self) -> Result<(), Stuck> {
        loop {
            let actions = self.session.poll_actions();
            if actions.is_empty() {
                return Ok(());
            }
            for action in actions {
                tracing::debug!(?action);
                let step = action.step();
                hold::at(step, Moment::Before);
                self.perform(action).await?;
                hold::at(step, Moment::After);
            }
        }
    }

    fn handle(&mut self, event: SourceEvent) {
        tracing::debug!(?event);
        self.session.handle(event, self.context.now_ms());
    }

    fn fail(&mut self, reason: String) {
        tracing::warn!(reason, "migration fails");
        self.handle(SourceEvent::Failed { reason });
    }

    fn reach(&mut self, mark: Mark) {
        self.account.reach(mark, Instant::now());
    }

    /// The target says that the guest runs there.
    fn runs_there(&mut self) {
        self.reach(Mark::Running);
        if let Some(remembered) = &mut self.remembered {
            remembered.runs(clock::since_boot_us());
        }
    }

    fn command(&mut self, command: SourceCommand) {
        match command {
            SourceCommand::Cancel(answer) if self.outcome.is_some() => self.cancelling.push(answer),
            SourceCommand::Cancel(answer) => {
                match self.session.can_cancel() {
                    Ok(()) => self.cancelling.push(answer),
                    Err(_) => drop(answer.send(false)),
                }
                self.handle(SourceEvent::Cancel);
            }
            SourceCommand::Wait(over) => self.waiting.push(over),
        }
    }

    fn qmp(&self) -> Option<Qmp> {
        self.guest.as_ref().and_then(|guest| guest.qmp().cloned())
    }
}

async fn next_memory_event(
    events: &mut Option<mpsc::Receiver<OutgoingEvent>>,
) -> Option<OutgoingEvent> {
    match events {
        Some(events) => events.recv().await,
        None => std::future::pending().await,
    }
}
