//! One task per machine: waits for one thing, decides by [`Machine`], performs, tells.
//!
//! The driver owns the record and the process. What an order does is in `orders`, what a migration asks is in
//! `lending`.

use std::sync::Arc;
use std::time::Duration;

use novacron_protocol::effect::{EffectOutcome, MachineReport, ObservedState};
use novacron_protocol::ids::{Generation, VmId};
use novacron_protocol::limits::cut_reason;
use novacron_protocol::vm::{Network, VmSpec};
use tokio::sync::broadcast::error::RecvError;
use tokio::sync::{broadcast, mpsc, oneshot};
use tokio::time::Instant;

use super::launch::Running;
use super::lease::{IncomingGuest, LeaseRequest, Reply, SourceGuest};
use super::machine::{IO_ERROR, Machine, Observation, POWER_BUTTON_INTERVAL, State, Step};
use super::machines::{MachineOrder, Shared};
use super::network::tap_name;
use super::orders::OrderError;
use super::process::{Ending, last_words, log_tail};
use super::record::{Desired, Hardware, Role, SourceRole, TargetRole, VmRecord};
use crate::metering::{Held, signs};
use crate::qmp::{Event, GuestStatus, Qmp};
use crate::reason::reason;
use crate::records::{RecordName, RecordsError};
use crate::sampling::Measurable;
use crate::sys::GuestMemory;

/// How long to wait before a QEMU that closed its QMP connection, but lives, is asked again.
const RECONNECT_INTERVAL: Duration = Duration::from_secs(1);

/// How long a QEMU may take to end once it was told to: it writes its disks' last metadata.
const QUIT_DEADLINE: Duration = Duration::from_secs(10);

/// What a driver is asked.
#[derive(Debug)]
pub(super) enum Request {
    Order(OrderRequest),
    Lend(Box<LendRequest>),
    Expect(Box<ExpectRequest>),
    Lease(LeaseRequest),
}

#[derive(Debug)]
pub(super) struct OrderRequest {
    pub(super) generation: Generation,
    pub(super) order: MachineOrder,
    pub(super) deadline: Instant,
    pub(super) reply: oneshot::Sender<EffectOutcome>,
}

#[derive(Debug)]
pub(super) struct LendRequest {
    pub(super) generation: Generation,
    pub(super) role: SourceRole,
    pub(super) reply: Reply<SourceGuest>,
}

#[derive(Debug)]
pub(super) struct ExpectRequest {
    pub(super) generation: Generation,
    pub(super) spec: VmSpec,
    pub(super) role: TargetRole,
    pub(super) reply: Reply<IncomingGuest>,
}

impl Request {
    /// Answers an order that no driver took; other requests learn it from their closed channel.
    pub(super) fn refuse(self, outcome: EffectOutcome) {
        if let Self::Order(order) = self {
            answer(order.reply, outcome);
        }
    }
}

/// Answers; whoever does not wait any more does not want to know.
pub(super) fn answer<T>(reply: oneshot::Sender<T>, value: T) {
    drop(reply.send(value));
}

/// Somebody who waits for the guest to shut itself down.
#[derive(Debug)]
pub(super) struct StopWaiter {
    pub(super) deadline: Instant,
    pub(super) reply: oneshot::Sender<EffectOutcome>,
}

/// One thing that happened.
enum Input {
    AgentEnds,
    Asked(Request),
    Said(Event),
    /// Events were lost, or QMP was closed while the process lives.
    AskAgain,
    ProcessEnded,
    /// The guest may not have heard the button.
    PressAgain,
    StopOverdue,
}

/// The driver of one machine.
pub(super) struct Driver {
    pub(super) vm: VmId,
    pub(super) shared: Arc<Shared>,
    /// The line that leases use.
    pub(super) requests: mpsc::Sender<Request>,
    pub(super) record: Option<VmRecord>,
    pub(super) machine: Machine,
    pub(super) running: Option<Running>,
    pub(super) stops: Vec<StopWaiter>,
    pub(super) press_again_at: Option<Instant>,
    /// Memory of a machine that arrives, until it is accepted or refused.
    pub(super) arriving: Option<Arc<GuestMemory>>,
    pub(super) events: Option<broadcast::Receiver<Event>>,
    /// Why a disk of the host failed the guest, from the event before the guest stopped.
    io_error: String,
    pub(super) ask_again_at: Option<Instant>,
}

impl Driver {
    pub(super) fn new(vm: VmId, shared: Arc<Shared>, requests: mpsc::Sender<Request>) -> Self {
        Self {
            vm,
            shared,
            requests,
            record: None,
            machine: Machine::new(State::Absent),
            running: None,
            stops: Vec::new(),
            press_again_at: None,
            arriving: None,
            events: None,
            io_error: String::new(),
            ask_again_at: None,
        }
    }

    /// Runs until the machine is gone or the agent ends; the guest goes on.
    #[tracing::instrument(name = "machine", skip_all, fields(vm = %self.vm))]
    pub(super) async fn run(
        mut self,
        record: Option<VmRecord>,
        mut queue: mpsc::Receiver<Request>,
        ready: oneshot::Sender<Option<Qmp>>,
    ) {
        if let Some(record) = record {
            self.take_up(record).await;
            self.publish();
        }
        answer(ready, self.qmp().cloned());
        // Afterwards: disks may take long, and the other machines need their agent.
        self.finish_restore().await;
        self.publish();
        loop {
            let input = self.next(&mut queue).await;
            match input {
                Input::AgentEnds => return,
                Input::Asked(request) => self.take(request).await,
                Input::Said(event) => self.hear(event).await,
                Input::AskAgain => self.ask_again().await,
                Input::ProcessEnded => self.process_ended().await,
                Input::PressAgain => self.press_again().await,
                Input::StopOverdue => self.give_up_stops(),
            }
            self.publish();
            if *self.machine.state() == State::Absent && self.shared.retire(self.vm, &queue) {
                return;
            }
        }
    }

    /// The next thing that happens. Cancel-safe, as everything in it is.
    async fn next(&mut self, queue: &mut mpsc::Receiver<Request>) -> Input {
        let process = self.running.as_ref().map(|running| &running.process);
        let stop_overdue_at = self.stops.iter().map(|stop| stop.deadline).min();
        tokio::select! {
            biased;
            () = self.shared.shutdown.cancelled() => Input::AgentEnds,
            () = when(process, |process| process.ended()) => Input::ProcessEnded,
            event = when(self.events.as_mut(), |events| events.recv()) => match event {
                Ok(event) => Input::Said(event),
                Err(RecvError::Lagged(_)) => Input::AskAgain,
                Err(RecvError::Closed) => {
                    self.lose_qmp();
                    Input::AskAgain
                }
            },
            () = when(self.ask_again_at, tokio::time::sleep_until) => Input::AskAgain,
            () = when(stop_overdue_at, tokio::time::sleep_until) => Input::StopOverdue,
            () = when(self.press_again_at, tokio::time::sleep_until) => Input::PressAgain,
            request = queue.recv() => match request {
                Some(request) => Input::Asked(request),
                // Cannot be while this driver holds a sender; if it were, nobody could ask any more.
                None => Input::AgentEnds,
            },
        }
    }

    async fn take(&mut self, request: Request) {
        match request {
            Request::Order(order) => self.take_order(order).await,
            Request::Lend(request) => {
                let lent = self.lend(request.generation, request.role).await;
                answer(request.reply, lent);
            }
            Request::Expect(request) => {
                let expected = self.expect(request.generation, request.spec, request.role).await;
                answer(request.reply, expected);
            }
            Request::Lease(request) => self.take_lease(request).await,
        }
    }

    /// Finds out how a machine stands that an earlier run of the agent had.
    async fn take_up(&mut self, record: VmRecord) {
        let found = self.shared.launcher.find(self.vm).await;
        let running = found.unwrap_or_else(|error| {
            tracing::error!(%error, "processes cannot be listed");
            None
        });
        if running.is_none() {
            self.look_for_signs();
        }
        let pid = running.as_ref().map(|running| running.process.pid());
        tracing::info!(pid, role = ?record.role, "machine taken up");
        self.set_running(running);
        let role = record.role.clone();
        self.record = Some(record);
        match role {
            Role::Owner => self.settle().await,
            Role::Source(role) => {
                let observed = self.observed_process();
                self.machine = Machine::new(State::Sending { migration: role.migration, observed });
            }
            Role::Target(role) => {
                self.machine = Machine::new(State::Expecting { migration: role.migration });
            }
        }
    }

    /// Nothing is under way: takes the state from record and process, and does what follows from it.
    pub(super) async fn settle(&mut self) {
        let seen = match self.qmp() {
            Some(qmp) => qmp.status().await.ok(),
            None => None,
        };
        if seen.is_none() && self.running.is_some() {
            // It lives and does not say how it is: running, until it says otherwise.
            self.machine = Machine::new(State::Running);
            self.ask_again_at = Some(Instant::now() + RECONNECT_INTERVAL);
            return;
        }
        self.settle_as(seen).await;
    }

    async fn settle_as(&mut self, seen: Option<GuestStatus>) {
        let Some(record) = &self.record else { return };
        let step = self.machine.settle(record.desired, record.failure.as_deref(), seen);
        self.follow(step).await;
    }

    /// Does what an observation asks for.
    async fn follow(&mut self, step: Step) {
        match step {
            Step::Continue => self.continue_guest().await,
            Step::Kill => {
                // Durable first: a process that is gone is then no failure, whatever happens to the agent.
                self.update(|record| record.desired = Desired::Stopped).await;
                self.end_process().await;
            }
            Step::Relaunch => match self.relaunch_guest().await {
                Ok(()) => self.machine.took(step),
                Err(error) => tracing::error!(reason = reason(&error), "guest not started"),
            },
            Step::Nothing | Step::Launch | Step::PressPower | Step::Remove => (),
        }
    }

    async fn continue_guest(&mut self) {
        let Some(qmp) = self.qmp() else { return };
        match qmp.cont().await {
            Ok(()) => self.machine.took(Step::Continue),
            Err(error) => {
                tracing::error!(error = &error as &dyn std::error::Error, "guest stands still");
                self.ask_again_at = Some(Instant::now() + RECONNECT_INTERVAL);
            }
        }
    }

    pub(super) async fn hear(&mut self, event: Event) {
        let observation = match event {
            Event::Stop => Observation::GuestStopped(std::mem::take(&mut self.io_error)),
            Event::Resume => Observation::GuestRuns,
            Event::Shutdown(reason) => Observation::GuestEnded(reason),
            Event::BlockIoError { node, reason } => {
                tracing::warn!(%node, %reason, "a disk of the host failed the guest");
                IO_ERROR.clone_into(&mut self.io_error);
                return;
            }
            _ => return,
        };
        let step = self.machine.observe(observation);
        self.follow(step).await;
    }

    /// QMP may have been lost, and events with it: asks how the guest is.
    async fn ask_again(&mut self) {
        self.ask_again_at = None;
        let is_lost = self.qmp().is_none_or(Qmp::is_closed);
        if is_lost && self.running.is_some() {
            self.find_again().await;
        }
        if self.running.is_none() {
            self.process_ended().await;
        } else if self.is_owner() && *self.machine.state() != State::Stopping {
            self.observe_status().await;
        }
    }

    /// QMP was lost. A process that is about to end has lost its arguments and is not found, but ends in its own time.
    async fn find_again(&mut self) {
        let found = self.shared.launcher.find(self.vm).await.ok().flatten();
        let (known, found) = match (self.running.take(), found) {
            (None, found) => return self.set_running(found),
            (Some(known), None) => (known, None),
            (Some(known), Some(found)) if known.process.pid() != found.process.pid() => {
                return self.set_running(Some(found));
            }
            (Some(known), Some(found)) => (known, found.qmp),
        };
        // Its parent goes on knowing how it ends.
        self.set_running(Some(Running { process: known.process, qmp: found }));
    }

    /// Whether the process is over now: one that does not answer may be about to end.
    pub(super) async fn has_ended_soon(&self) -> bool {
        let Some(running) = &self.running else { return true };
        tokio::time::timeout(QUIT_DEADLINE, running.process.ended()).await.is_ok()
    }

    /// A guest that stands still for no reason is told to go on, until it does.
    async fn observe_status(&mut self) {
        let Some(qmp) = self.qmp() else { return };
        match qmp.status().await {
            Ok(status) => self.settle_as(Some(status)).await,
            Err(_) => self.ask_again_at = Some(Instant::now() + RECONNECT_INTERVAL),
        }
    }

    /// The process is gone: whatever it left is removed, whoever waits is told.
    async fn process_ended(&mut self) {
        let directories = self.shared.launcher.directories.machine(self.vm);
        let log = log_tail(&directories.log());
        let words = last_words(&directories.log());
        let words = if words.is_empty() { "it left no word".to_owned() } else { words };
        let ending = match self.running.take() {
            Some(running) => running.process.ending().await,
            None => Ending::Unknown,
        };
        // What follows takes its time, and the guest is gone.
        self.look_for_signs();
        self.meter();
        self.events = None;
        self.ask_again_at = None;
        self.press_again_at = None;
        self.shared.launcher.clean_up(self.vm).await;
        let reason = cut_reason(format!("QEMU ended by itself ({ending}): {words}"));
        if *self.machine.state() != State::Stopping && self.shall_run() && !self.is_shut_down() {
            tracing::error!(%reason, log, "machine failed");
            let failure = reason.clone();
            self.update(|record| record.failure = Some(failure)).await;
        } else if !ending.may_be_orderly() {
            tracing::warn!(%ending, log, "QEMU did not end as it should");
        } else if ending == Ending::Unknown {
            tracing::info!(%ending, log, "QEMU has ended");
        }
        self.machine.observe(Observation::ProcessEnded(reason));
        for stop in self.stops.drain(..) {
            answer(stop.reply, EffectOutcome::Done);
        }
    }

    /// Ends the process, by its own means if it listens, and waits until it is gone.
    pub(super) async fn end_process(&mut self) {
        let Some(running) = &self.running else { return };
        let listens = match &running.qmp {
            Some(qmp) => qmp.quit().await.is_ok(),
            None => false,
        };
        let has_ended =
            listens && tokio::time::timeout(QUIT_DEADLINE, running.process.ended()).await.is_ok();
        if !has_ended {
            tracing::warn!(pid = running.process.pid(), "QEMU does not quit; killed");
            running.process.kill_and_wait().await;
        }
        self.process_ended().await;
    }

    /// Presses the power button, as often as it takes while somebody waits.
    pub(super) async fn press_power(&mut self) -> Result<(), OrderError> {
        self.press_again_at = Some(Instant::now() + POWER_BUTTON_INTERVAL);
        Ok(self.qmp().ok_or(OrderError::NoAnswer)?.power_down().await?)
    }

    async fn press_again(&mut self) {
        let is_waited_for = !self.stops.is_empty() && *self.machine.state() == State::Stopping;
        if !is_waited_for {
            self.press_again_at = None;
        } else if let Err(error) = self.press_power().await {
            tracing::warn!(error = reason(&error), "the power button cannot be pressed again");
        }
    }

    fn give_up_stops(&mut self) {
        let now = Instant::now();
        let (overdue, waiting) = self.stops.drain(..).partition(|stop| stop.deadline <= now);
        self.stops = waiting;
        for stop in Vec::<StopWaiter>::into_iter(overdue) {
            let reason = "the guest did not shut down in time; stop it with --force".to_owned();
            answer(stop.reply, EffectOutcome::Failed { reason });
        }
        if self.stops.is_empty() {
            self.machine.stop_given_up();
        }
    }

    /// How the guest is told what to do, if it listens.
    pub(super) fn qmp(&self) -> Option<&Qmp> {
        self.running.as_ref().and_then(|running| running.qmp.as_ref())
    }

    /// Takes a process into care, or none.
    pub(super) fn set_running(&mut self, running: Option<Running>) {
        self.events =
            running.as_ref().and_then(|running| running.qmp.as_ref()).map(|qmp| qmp.events());
        if running.as_ref().is_some_and(|running| running.qmp.is_none()) {
            self.ask_again_at = Some(Instant::now() + RECONNECT_INTERVAL);
        }
        self.running = running;
    }

    fn lose_qmp(&mut self) {
        self.events = None;
        if let Some(running) = &mut self.running {
            running.qmp = None;
        }
    }

    fn observed_process(&self) -> ObservedState {
        let runs = self.running.is_some() && self.shall_run();
        if runs { ObservedState::Running } else { ObservedState::Stopped }
    }

    pub(super) fn shall_run(&self) -> bool {
        self.record.as_ref().is_some_and(|record| record.desired == Desired::Running)
    }

    /// Whether the guest was told to shut down for a migration: it is started again, if it is not elsewhere.
    fn is_shut_down(&self) -> bool {
        let role = self.record.as_ref().map(|record| &record.role);
        matches!(role, Some(Role::Source(role)) if role.is_shut_down)
    }

    fn is_owner(&self) -> bool {
        self.record.as_ref().is_some_and(|record| record.role == Role::Owner)
    }

    /// The generation held: at a target, nothing is held before it was accepted.
    pub(super) fn held(&self) -> Option<Generation> {
        let record = self.record.as_ref()?;
        (!matches!(record.role, Role::Target(_))).then_some(record.generation)
    }

    /// Changes the record, durably.
    pub(super) async fn save(
        &mut self,
        change: impl FnOnce(&mut VmRecord),
    ) -> Result<(), RecordsError> {
        let Some(record) = &self.record else { return Ok(()) };
        let mut changed = record.clone();
        change(&mut changed);
        self.shared.records.put(RecordName::Vm(self.vm), &changed).await?;
        self.record = Some(changed);
        Ok(())
    }

    /// As [`Self::save`] for what may be found out again: a failure is told and lived with.
    pub(super) async fn update(&mut self, change: impl FnOnce(&mut VmRecord)) {
        if let Err(error) = self.save(change).await {
            tracing::error!(error = &error as &dyn std::error::Error, "record is behind");
        }
    }

    fn publish(&self) {
        let report =
            self.record.as_ref().zip(self.machine.observed()).map(|(record, (state, reason))| {
                MachineReport {
                    vm: self.vm,
                    generation: record.generation,
                    state,
                    reason: reason.to_owned(),
                }
            });
        self.shared.publish(self.vm, report);
        self.meter();
        self.shared.note_measurable(self.vm, self.measurable());
    }

    /// Of a process that is gone: until when it lived, in case nobody saw it end.
    fn look_for_signs(&self) {
        let directories = self.shared.launcher.directories.machine(self.vm);
        self.shared.recorder.sign(self.vm, signs::newest_ms(&directories));
    }

    /// Tells what there is to meter.
    fn meter(&self) {
        self.shared.recorder.hold(self.vm, self.metered().as_ref());
    }

    /// How the machine can be measured, while it is this agent's and has a process.
    fn measurable(&self) -> Option<Measurable> {
        self.metered()?;
        let (running, record) = (self.running.as_ref()?, self.record.as_ref()?);
        let spec = &record.spec;
        let tap = matches!(spec.network, Network::Bridge { .. }).then(|| tap_name(self.vm));
        // QEMU answers one after the other: what moves a machine does not wait for what measures it.
        let is_still = matches!(record.role, Role::Owner);
        let (pid, qmp) = (running.process.pid(), running.qmp.clone().filter(|_| is_still));
        Some(Measurable { vm: self.vm, pid, qmp, memory_bytes: spec.memory_bytes, tap })
    }

    /// What this agent has of the machine: from the release on it is nobody's, then the target's.
    fn metered(&self) -> Option<Held> {
        let record = self.record.as_ref()?;
        let is_ours = match &record.role {
            Role::Owner => true,
            Role::Source(role) => role.decision.may_run(),
            Role::Target(_) => false,
        };
        is_ours.then(|| Held {
            generation: record.generation,
            runs: self.running.is_some() && self.machine.guest_runs(),
            disk_bytes: record.hardware.as_ref().map_or(0, Hardware::disk_bytes),
            snapshots: record.snapshots.len() as u64,
        })
    }
}

/// What `make` makes of something that is there; for ever nothing if it is not.
async fn when<T, F: Future>(there: Option<T>, make: impl FnOnce(T) -> F) -> F::Output {
    match there {
        Some(there) => make(there).await,
        None => std::future::pending().await,
    }
}
