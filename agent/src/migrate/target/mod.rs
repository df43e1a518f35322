//! The target of a migration: one task that owns the machine while it arrives.
//!
//! The session (`novacron_protocol::session::target`) decides; this task waits for one event, hands it over, and does
//! what the session says. The coordinator announced the machine before, and only its source may bring it.

mod anew;
mod begin;
mod end;
mod link;
mod load;
mod memory;
mod offer;
mod prepare;
mod step;
mod streams;

use std::sync::Arc;
use std::time::{Duration, Instant};

use novacron_protocol::effect::Handover;
use novacron_protocol::ids::NodeName;
use novacron_protocol::migration::MigrationMode;
use novacron_protocol::session::handover::TargetRecord;
use novacron_protocol::session::message::{FileOffer, Offer};
use novacron_protocol::session::target::{Target, TargetAction, TargetEvent, TargetOutcome};
use novacron_transport::CloseCode;
use tokio::sync::{mpsc, oneshot};
use tokio::task::JoinSet;

use super::cache::Image;
use super::context::{Context, TargetCommand};
use super::control::Dialogue;
use super::library::Shelf;
use super::memory::{Incoming, IncomingEvent, PagesSearch};
use super::relay::Inlets;
use crate::disk::{DiskEvent, IncomingDisks};
use crate::hold::{self, Moment, Performed};
use crate::host::ProcessorLoad;
use crate::vm::{IncomingGuest, Receiving};
pub(super) use begin::{begin, resume};
use load::Loading;
use step::Step;
use streams::next_stream;

/// How long an announced machine may keep its source waiting.
const OFFER_PATIENCE: Duration = Duration::from_secs(300);

/// How long the last words to the source may take.
const FAREWELL: Duration = Duration::from_secs(5);

/// How often the source is told what has been processed: at 10 Gbit/s, 5 ms are 6 MB that it keeps.
const NEWS_INTERVAL: Duration = Duration::from_millis(5);

/// How often the source is told how busy this host is: often enough that short migrations say it too.
const LOAD_INTERVAL: Duration = Duration::from_millis(250);

/// Why the task cannot go on; the machine stays as its record says until the agent starts again.
struct Stuck(String);

/// The task's state.
struct Run {
    context: Arc<Context>,
    guest: Option<IncomingGuest>,
    handover: Handover,
    mode: MigrationMode,
    source: NodeName,
    session: Target,
    dialogue: Dialogue,
    inlets: Inlets,
    offer: Option<Offer>,
    /// What is in the guest's memory and on its disks is of an earlier attempt.
    is_anew: bool,
    missing_files: Vec<FileOffer>,
    base: Option<Image>,
    /// Where pages are kept for further machines.
    shelf: Option<Arc<Shelf>>,
    receiving: Option<Receiving>,
    /// The look at the memory, as long as it takes.
    search: Option<PagesSearch>,
    incoming: Option<Incoming>,
    memory_events: Option<mpsc::Receiver<IncomingEvent>>,
    disks: Option<IncomingDisks>,
    disk_events: Option<mpsc::Receiver<DiskEvent>>,
    loading: Loading,
    go_at: Option<Instant>,
    load: ProcessorLoad,
    steps: JoinSet<Step>,
    waiting: Vec<oneshot::Sender<()>>,
    outcome: Option<TargetOutcome>,
}

impl Run {
    async fn run(mut self, mut commands: mpsc::Receiver<TargetCommand>) {
        match self.follow(&mut commands).await {
            Ok(()) => tracing::info!(outcome = ?self.outcome, "migration ended"),
            Err(Stuck(reason)) => {
                tracing::error!(reason, "the migration cannot go on before the agent starts again");
            }
        }
        self.context.targets().remove(&self.handover.migration);
        for waiting in self.waiting {
            let _ = waiting.send(());
        }
        if let Some(connection) = self.dialogue.cut() {
            // The source closes when it has read the last word; without that, the connection would take it along.
            let _ = tokio::time::timeout(FAREWELL, connection.closed()).await;
            // With it goes every thread that still waits for the source, and the memory that it writes.
            connection.close(CloseCode::Done, "the migration is over");
        }
    }

    async fn follow(&mut self, commands: &mut mpsc::Receiver<TargetCommand>) -> Result<(), Stuck> {
        let patience = tokio::time::sleep(OFFER_PATIENCE);
        tokio::pin!(patience);
        let mut news = tokio::time::interval(NEWS_INTERVAL);
        news.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        let mut loads = tokio::time::interval(LOAD_INTERVAL);
        loads.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        loop {
            self.perform_all().await?;
            if self.outcome.is_some() {
                return Ok(());
            }
            let connection = self.dialogue.connection().cloned();
            let due = self.until_due();
            if due == Some(Duration::ZERO) {
                // Not in the select below, where a source that never stops talking could keep it waiting.
                self.session.handle_timeout(self.context.now_ms());
                continue;
            }
            tokio::select! {
                biased;
                () = self.context.ending.cancelled() => {
                    return Err(Stuck("the agent ends".to_owned()));
                }
                Some(command) = commands.recv() => self.command(command).await,
                heard = self.dialogue.hear() => self.heard(heard),
                event = next(&mut self.memory_events) => self.memory_event(event),
                event = next(&mut self.disk_events) => self.disk_event(event),
                Some(step) = self.steps.join_next() => self.step(step).await,
                stream = next_stream(connection.as_ref()) => self.stream(stream),
                () = qemu_ended(self.receiving.as_ref()) => self.qemu_ended(),
                () = tokio::time::sleep(due.unwrap_or_default()), if due.is_some() => {}
                _ = news.tick(), if self.receiving.is_some() || self.incoming.is_some() => self.tell_news().await,
                _ = loads.tick() => self.tell_load().await,
                () = &mut patience, if self.offer.is_none() => {
                    self.fail("the source did not come".to_owned());
                }
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

    fn handle(&mut self, event: TargetEvent) {
        tracing::debug!(?event);
        self.session.handle(event, self.context.now_ms());
    }

    fn fail(&mut self, reason: String) {
        tracing::warn!(reason, "migration fails");
        self.handle(TargetEvent::Failed { reason });
    }

    async fn command(&mut self, command: TargetCommand) {
        match command {
            TargetCommand::Connected(connected) => {
                let (control, message) = *connected;
                self.connected(control, message).await;
            }
            TargetCommand::Abandon(over) => {
                self.waiting.push(over);
                self.handle(TargetEvent::Abandon);
            }
        }
    }

    fn qemu_ended(&mut self) {
        self.receiving = None;
        self.fail("the target's QEMU ended".to_owned());
    }

    fn disk_event(&mut self, event: Option<DiskEvent>) {
        match event {
            Some(DiskEvent::Failed { reason }) => self.fail(reason),
            None => self.disk_events = None,
        }
    }

    async fn perform(&mut self, action: TargetAction) -> Result<(), Stuck> {
        match action {
            TargetAction::Send(message) => self.send(message).await,
            TargetAction::Load => self.load(),
            TargetAction::Persist(TargetRecord::Accepted) => self.accept().await?,
            TargetAction::Persist(_) => self.refuse().await?,
            // The lease runs the guest, and removes it, together with the record.
            TargetAction::Run => {
                let resume_us = self.go_at.map_or(0, |at| micros(at.elapsed()));
                self.handle(TargetEvent::Running { resume_us });
            }
            TargetAction::Discard => self.handle(TargetEvent::Discarded),
            TargetAction::Finish(outcome) => self.finish(outcome).await?,
        }
        Ok(())
    }
}

fn micros(time: Duration) -> u64 {
    u64::try_from(time.as_micros()).unwrap_or(u64::MAX)
}

async fn next<T>(events: &mut Option<mpsc::Receiver<T>>) -> Option<T> {
    match events {
        Some(events) => events.recv().await,
        None => std::future::pending().await,
    }
}

async fn qemu_ended(receiving: Option<&Receiving>) {
    match receiving {
        Some(receiving) => receiving.qmp.closed().await,
        None => std::future::pending().await,
    }
}
