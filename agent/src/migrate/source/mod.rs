//! The source of a migration: one task that owns the machine while it leaves.
//!
//! The session (`novacron_protocol::session::source`) decides; this task waits for one event, hands it over, and does
//! what the session says. Whatever takes long runs beside it and comes back as a [`Step`].

mod disks;
mod memo;
mod pilot;
mod progress;
mod qemu;
mod steering;
mod warm;

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use novacron_protocol::disk::DiskContent;
use novacron_protocol::effect::{MigrationEnd, SourceResult};
use novacron_protocol::ids::{MigrationId, NodeName};
use novacron_protocol::migration::{MigrationAccount, MigrationMode};
use novacron_protocol::qemu::return_path::ReturnMessage;
use novacron_protocol::qemu::{QemuVersion, StreamLayout, StreamLimits};
use novacron_protocol::session::handover::{SourceRecord, Verdict};
use novacron_protocol::session::message::{
    Digests, DiskOffer, FileOffer, FileRole, MemoryOffer, Offer, ShelfOffer, SourceMessage,
    StreamHeader, TargetMessage,
};
use novacron_protocol::session::source::{
    Source, SourceAction, SourceEvent, SourceLimits, SourceOutcome,
};
use novacron_protocol::version::MINOR_RANGE;
use novacron_transport::{CloseCode, ExpectedPeer, Role};
use tokio::sync::{broadcast, mpsc, oneshot};
use tokio::task::JoinSet;
use tracing::Instrument;

use super::account::{Account, Mark};
use super::cache::{Image, ImageOrigin};
use super::console_log::OutgoingLog;
use super::context::{Context, SourceCommand};
use super::control::{Control, ControlError, Dialogue, SAY_PATIENCE};
use super::files::{self, boot_files};
use super::library::Catalogue;
use super::memory::{Knowledge, Outgoing, OutgoingEvent, OutgoingForm, PagesPlan};
use super::relay::{Limit, Outlets};
use crate::disk::OutgoingDisks;
use crate::qmp::{Event, MigrateStatus, Qmp};
use crate::reason::reason;
use crate::vm::{BootFiles, GuestFacts, SourceGuest};
use pilot::Course;
use qemu::QemuPlan;
use steering::Steering;
use warm::Warm;

/// How long the target's last words are waited for.
const FAREWELL: Duration = Duration::from_secs(5);

/// How often progress is told.
const PROGRESS_INTERVAL: Duration = Duration::from_millis(500);

/// Something that took its time is done.
enum Step {
    Connected(Result<Control, String>),
    Resumed(Result<Resumption, ResumeFault>),
    FilesSent(Result<u64, String>),
    DisksReady(Result<(), String>),
    /// A disk that was in step failed.
    DiskFailed(String),
    DisksDrained(Result<Vec<[u8; 16]>, String>),
    LogSent(Result<(), String>),
    Remaining(Option<progress::Remaining>),
    /// What was left to send at the beginning of a round.
    Round(Option<u64>),
    /// Of a warm migration: what is left of the disks.
    Left(Option<u64>),
    /// Of a warm migration: the guest was shut down.
    ShutDown(Result<(), String>),
    /// QEMU was told something that needs no answer.
    Told,
}

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
    remembered: Option<MigrationAccount>,
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
    file_bytes: u64,
    hash_seed: u64,
    base: Option<Image>,
    /// What the target has of other machines.
    catalogue: Option<Arc<Catalogue>>,
    progress: progress::Meter,
    steering: Steering,
    steps: JoinSet<Step>,
    waiting: Vec<oneshot::Sender<()>>,
    outcome: Option<SourceOutcome>,
}

/// Starts the task for a machine that was lent for a new migration.
pub(super) fn begin(
    context: &Arc<Context>,
    guest: SourceGuest,
    version: Option<QemuVersion>,
    commands: mpsc::Receiver<SourceCommand>,
) {
    let base = context.images.take(guest.facts().vm);
    let hash_seed = base.as_ref().map_or_else(rand::random, |base| base.hash_seed);
    let form = choose_form(context, &guest, version, hash_seed);
    let mut offer = make_offer(context, &guest, &form, version, hash_seed);
    offer.base = base.as_ref().map(|base| base.origin.migration);
    let session = Source::begin(offer, limits(context));
    spawn(context, guest, session, (form, hash_seed, base), commands);
}

/// Starts the task for a machine whose migration an earlier run of the agent left behind.
pub(super) fn resume(context: &Arc<Context>, guest: SourceGuest) {
    let (vm, role) = (guest.facts().vm, guest.role());
    let session = Source::resume(vm, role.migration, role.decision, limits(context));
    let commands = context.register_source(role.migration);
    spawn(context, guest, session, (OutgoingForm::Tunnel, 0, None), commands);
}

fn limits(context: &Context) -> SourceLimits {
    SourceLimits {
        switchover_ms_max: context.settings.switchover_ms_max,
        link_patience_ms: context.settings.link_patience_s * 1000,
        ..SourceLimits::default()
    }
}

/// What was asked of this migration, or else of all of this agent.
fn course(context: &Context, guest: &SourceGuest) -> Course {
    let options = guest.role().options;
    Course {
        downtime_limit_ms: options.downtime_limit_ms.unwrap_or(context.settings.downtime_limit_ms),
        is_throttling: options.auto_converge,
    }
}

fn choose_form(
    context: &Context,
    guest: &SourceGuest,
    version: Option<QemuVersion>,
    hash_seed: u64,
) -> OutgoingForm {
    let known = version.map(StreamLayout::of) == Some(StreamLayout::Known);
    if !known || context.settings.force_tunnel {
        return OutgoingForm::Tunnel;
    }
    OutgoingForm::Pages(PagesPlan {
        channels: context.settings.channels,
        hash_seed,
        compression_level: context.settings.compression_level,
        processor_percent_max: context.settings.processor_percent.into(),
        limits: StreamLimits::for_guest_memory(guest.facts().spec.memory_bytes),
    })
}

fn make_offer(
    context: &Context,
    guest: &SourceGuest,
    form: &OutgoingForm,
    version: Option<QemuVersion>,
    hash_seed: u64,
) -> Offer {
    let (facts, role) = (guest.facts(), guest.role());
    let memory = match (role.mode, form) {
        (MigrationMode::Cold | MigrationMode::Warm, _) => MemoryOffer::None,
        (MigrationMode::Live, OutgoingForm::Tunnel) => MemoryOffer::Tunnel,
        (MigrationMode::Live, OutgoingForm::Pages(plan)) => {
            MemoryOffer::Pages { lanes: plan.channels + 1 }
        }
    };
    let disk =
        |disk: &crate::vm::Disk| DiskOffer { size_bytes: disk.size_bytes, format: disk.format };
    Offer {
        versions: MINOR_RANGE,
        migration: role.migration,
        vm: facts.vm,
        generation: role.target_generation,
        mode: role.mode,
        machine_type: facts.hardware.machine_type.clone(),
        qemu_version: version.map(|version| version.to_string()).unwrap_or_default(),
        cpu_model: facts.processor.cpu_model.clone(),
        memory,
        hash_seed,
        base: None,
        source_run: context.run,
        disks: facts.hardware.disks.iter().map(disk).collect(),
        files: file_offers(context, &facts.hardware.boot),
        start: role.mode == MigrationMode::Warm,
    }
}

fn file_offers(context: &Context, boot: &BootFiles) -> Vec<FileOffer> {
    let BootFiles::Kernel { kernel, initrd, .. } = boot else { return Vec::new() };
    let store = context.machines.files();
    let offer = |role, hash: crate::vm::FileHash| {
        let bytes = store.length_bytes(hash).unwrap_or_default();
        FileOffer { role, hash: hash.0, bytes }
    };
    let initrd = initrd.map(|hash| offer(FileRole::Initrd, hash));
    [offer(FileRole::Kernel, *kernel)].into_iter().chain(initrd).collect()
}

fn spawn(
    context: &Arc<Context>,
    guest: SourceGuest,
    session: Source,
    (form, hash_seed, base): (OutgoingForm, u64, Option<Image>),
    commands: mpsc::Receiver<SourceCommand>,
) {
    let migration = guest.role().migration;
    let span = tracing::info_span!("migration", %migration, vm = %guest.facts().vm, end = "source");
    let remembered =
        matches!(guest.role().decision, SourceRecord::Released | SourceRecord::Confirmed)
            .then(|| memo::read(&guest.role().memo));
    let run = Run {
        context: Arc::clone(context),
        facts: guest.facts().clone(),
        target: guest.role().target.clone(),
        mode: guest.role().mode,
        events: guest.qmp().map(Qmp::events),
        session,
        form,
        account: Account::begin(Instant::now()),
        remembered,
        dialogue: Dialogue::default(),
        outlets: Outlets::default(),
        outgoing: None,
        memory_events: None,
        disks: None,
        contents: Vec::new(),
        bytes_disk_at_stop: None,
        warm: Warm::default(),
        log: None,
        digests: Digests::default(),
        file_bytes: 0,
        hash_seed,
        base,
        catalogue: None,
        progress: progress::Meter::default(),
        steering: Steering::new(course(context, &guest)),
        steps: JoinSet::new(),
        waiting: Vec::new(),
        outcome: None,
        guest: Some(guest),
    };
    context.tasks.spawn(run.run(commands).instrument(span));
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
        for waiting in std::mem::take(&mut self.waiting) {
            let _ = waiting.send(());
        }
        self.hang_up().await;
    }

    /// Ends the connection, and with it every thread that still waits for it. A target that was told to forget the
    /// machine gets the time to hear so.
    async fn hang_up(mut self) {
        if self.outcome != Some(SourceOutcome::Completed) && self.dialogue.is_linked() {
            let until_over = async {
                while !matches!(
                    self.dialogue.hear().await,
                    Err(_) | Ok(TargetMessage::Failed { .. })
                ) {}
            };
            let _ = tokio::time::timeout(FAREWELL, until_over).await;
        }
        self.outlets.end();
        if let Some(connection) = self.dialogue.cut() {
            connection.close(CloseCode::Done, "the migration is over");
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
                self.perform(action).await?;
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

    fn command(&mut self, command: SourceCommand) {
        match command {
            SourceCommand::Cancel(answer) => {
                let _ = answer.send(self.session.can_cancel().is_ok());
                self.handle(SourceEvent::Cancel);
            }
            SourceCommand::Wait(over) => self.waiting.push(over),
        }
    }

    fn heard(&mut self, heard: Result<TargetMessage, ControlError>) {
        match heard {
            Ok(message) => {
                match &message {
                    TargetMessage::Ready { .. } => self.reach(Mark::TargetLoaded),
                    // It says so after the guest was told to run. `Running` may be lost with the link.
                    TargetMessage::Running { .. } | TargetMessage::Verdict(Verdict::Accepted) => {
                        self.reach(Mark::Running);
                    }
                    TargetMessage::Taken { has_base, shelf, .. } => {
                        self.target_has(*has_base, *shelf)
                    }
                    TargetMessage::Processed(counts) => return self.processed(counts),
                    TargetMessage::Holds { disk, piece } => return self.target_holds(*disk, piece),
                    _ => {}
                }
                self.handle(SourceEvent::Message(message));
            }
            Err(error) => self.link_lost(reason(&error)),
        }
    }

    /// What the target has already, of this machine and of others.
    fn target_has(&mut self, has_base: bool, shelf: Option<ShelfOffer>) {
        self.base = self.base.take().filter(|_| has_base);
        self.catalogue = shelf.map(|shelf| self.context.catalogues.open(&self.target, shelf));
    }

    fn bandwidth_limit(&self) -> Limit {
        let options = self.guest.as_ref().map(|guest| guest.role().options);
        Limit::new(options.and_then(|options| options.bandwidth_bits_per_second))
    }

    fn processed(&mut self, counts: &[(StreamHeader, u64)]) {
        if let Err(error) = self.outlets.processed(counts) {
            self.fail(reason(&error));
        }
        if let Some(outgoing) = &self.outgoing {
            outgoing.has_news();
        }
    }

    fn link_lost(&mut self, reason: String) {
        tracing::info!(reason, "the link to the target is lost");
        self.outlets.detach();
        if let Some(connection) = self.dialogue.cut() {
            // Whatever else travels on it is of no use any more, and threads may wait for it.
            connection.close(CloseCode::Done, "given up");
        }
        self.handle(SourceEvent::LinkLost { reason });
    }

    async fn qemu_event(&mut self, event: Result<Event, broadcast::error::RecvError>) {
        match event {
            Ok(Event::Stop) if self.outgoing.is_some() => self.guest_stopped(),
            Ok(Event::Shutdown(_)) if self.mode == MigrationMode::Warm => self.guest_ends(),
            Ok(Event::Migration(migration)) => self.qemu_status(migration.status).await,
            Ok(_) => {}
            Err(broadcast::error::RecvError::Lagged(_)) => {
                let Some(qmp) = self.qmp() else { return };
                if let Ok(info) = qmp.migration().await {
                    self.qemu_status(info.status).await;
                }
            }
            Err(broadcast::error::RecvError::Closed) => {
                self.events = None;
                self.fail("the guest's QEMU ended".to_owned());
            }
        }
    }

    fn guest_stopped(&mut self) {
        self.reach(Mark::Stopped);
        self.bytes_disk_at_stop = Some(self.disk_counters().bytes_disk);
        self.handle(SourceEvent::GuestStopped);
        self.finish_log();
    }

    async fn qemu_status(&mut self, status: MigrateStatus) {
        match status {
            MigrateStatus::PreSwitchover => self.drain_disks(),
            MigrateStatus::Device if matches!(self.form, OutgoingForm::Tunnel) => {
                // Where memory ends inside the tunnel is not known; the tunnel verifies itself.
                self.handle(SourceEvent::AllSent(self.digests.clone()));
            }
            MigrateStatus::Completed => {
                self.reach(Mark::Verified);
                self.handle(SourceEvent::QemuCompleted);
            }
            MigrateStatus::Failed | MigrateStatus::Cancelled => {
                let said = match self.qmp() {
                    Some(qmp) => qmp.migration().await.ok().and_then(|info| info.error_desc),
                    None => None,
                };
                let said = said.unwrap_or_else(|| "it does not say why".to_owned());
                self.fail(format!("QEMU gave the migration up: {said}"));
            }
            _ => {}
        }
    }

    async fn memory_event(&mut self, event: Option<OutgoingEvent>) {
        match event {
            Some(OutgoingEvent::SwitchoverBegun) => {}
            Some(OutgoingEvent::RoundEnded) => self.round_ends(),
            Some(OutgoingEvent::MemorySent(digest)) => {
                self.reach(Mark::MemoryDrained);
                self.digests.memory = vec![digest];
                self.handle(SourceEvent::AllSent(self.digests.clone()));
            }
            Some(OutgoingEvent::Failed { reason }) => self.fail(reason),
            None => self.memory_events = None,
        }
    }

    async fn step(&mut self, step: Result<Step, tokio::task::JoinError>) {
        let Ok(step) = step else { return };
        match step {
            Step::Connected(Ok(control)) => {
                let connection = control.connection().clone();
                self.outlets = Outlets::begin_limited(connection, self.bandwidth_limit());
                self.dialogue.begin(control, 0);
                self.handle(SourceEvent::Connected);
            }
            Step::Resumed(Ok(resumption)) => self.resumed(resumption).await,
            Step::Connected(Err(reason)) | Step::Resumed(Err(ResumeFault::Away(reason))) => {
                self.link_lost(reason);
            }
            Step::Resumed(Err(ResumeFault::Over(reason))) => {
                self.fail(format!("the target gave up: {reason}"));
            }
            Step::FilesSent(Ok(bytes)) => self.file_bytes += bytes,
            Step::DisksReady(Ok(())) => self.disks_ready(),
            Step::DisksDrained(Ok(digests)) => self.disks_drained(digests).await,
            Step::LogSent(Ok(())) => {}
            Step::Remaining(said) => {
                said.into_iter().for_each(|said| self.progress.remaining(said))
            }
            Step::Round(left_bytes) => self.round_began(left_bytes),
            Step::Left(left_bytes) => self.round_looked(left_bytes).await,
            Step::ShutDown(Ok(())) => self.guest_is_down(),
            Step::Told => {}
            Step::FilesSent(Err(reason))
            | Step::DisksReady(Err(reason))
            | Step::DiskFailed(reason)
            | Step::ShutDown(Err(reason))
            | Step::DisksDrained(Err(reason))
            | Step::LogSent(Err(reason)) => self.fail(reason),
        }
    }

    async fn perform(&mut self, action: SourceAction) -> Result<(), Stuck> {
        match action {
            SourceAction::Connect => self.connect(),
            SourceAction::Send(message) => self.send(message).await,
            SourceAction::SendFiles { missing_files } => self.send_files(&missing_files),
            SourceAction::SynchroniseDisks => self.synchronise_disks().await,
            SourceAction::CopyMemory => self.copy_memory().await,
            SourceAction::AllowSwitchover => self.allow_switchover(),
            SourceAction::GiveReturnPath(bytes) => self.give_return_path(&bytes),
            SourceAction::GiveShut => self.give_shut(),
            SourceAction::Persist(record) => self.persist(record).await?,
            SourceAction::TakeBack => self.take_back().await?,
            SourceAction::Remove => self.remove().await?,
            SourceAction::Finish(outcome) => self.finish(outcome).await?,
        }
        Ok(())
    }

    fn connect(&mut self) {
        let Some(guest) = &self.guest else { return };
        let role = guest.role();
        let expected = ExpectedPeer::named(Role::Agent, role.target.clone().into());
        let (endpoint, address) = (self.context.endpoint.clone(), role.target_address.clone());
        let connected = async move {
            let address = resolve(&address).await?;
            let connection = endpoint.connect(address, &expected).await;
            let connection = connection.map_err(|error| reason(&error))?;
            Control::open(connection).await.map_err(|error| reason(&error))
        };
        if self.session.is_link_away() {
            let (vm, migration) = (self.facts.vm, self.migration());
            let resume = SourceMessage::Resume { vm, migration, heard: self.dialogue.heard() };
            self.steps.spawn(async move {
                let resumed = async {
                    let control = connected.await.map_err(ResumeFault::Away)?;
                    resume_with(control, &resume).await
                };
                Step::Resumed(resumed.await)
            });
        } else {
            self.steps.spawn(async move { Step::Connected(connected.await) });
        }
    }

    /// Both sides know what the other has heard and taken: the rest is said and sent again.
    async fn resumed(&mut self, resumption: Resumption) {
        let Resumption { control, heard, streams } = resumption;
        if let Err(error) = self.outlets.attach(control.connection().clone(), &streams).await {
            return self.fail(reason(&error));
        }
        match self.dialogue.go_on(control, heard).await {
            Ok(()) => self.handle(SourceEvent::Connected),
            Err(error) => self.link_lost(reason(&error)),
        }
    }

    fn allow_switchover(&mut self) {
        let allowed = self.outgoing.as_ref().map_or(Ok(()), Outgoing::allow_switchover);
        if let Err(error) = allowed {
            self.fail(format!("QEMU does not take the return path: {error}"));
        }
    }

    /// A target that does not even take a word is as good as gone: a guest that stands still cannot wait for it.
    async fn send(&mut self, message: SourceMessage) {
        let patience = self.until_due().map_or(SAY_PATIENCE, |due| due.min(SAY_PATIENCE));
        match tokio::time::timeout(patience, self.dialogue.say(&message)).await {
            Ok(Ok(())) => {}
            Ok(Err(error)) => self.link_lost(reason(&error)),
            Err(_) => self.link_lost("it takes no messages".to_owned()),
        }
    }

    fn send_files(&mut self, missing: &[[u8; 32]]) {
        let Some(connection) = self.dialogue.connection().cloned() else { return };
        for &hash in missing {
            let connection = connection.clone();
            let path = self.context.machines.files().path(crate::vm::FileHash(hash));
            self.steps.spawn(async move {
                let sent = files::send(&connection, &path, hash).await;
                Step::FilesSent(sent.map_err(|error| reason(&error)))
            });
        }
    }

    async fn copy_memory(&mut self) {
        self.reach(Mark::MemoryAsked);
        match self.mode {
            MigrationMode::Live => (),
            MigrationMode::Warm => return self.begin_rounds(),
            MigrationMode::Cold => {
                self.finish_log();
                return self.drain_disks();
            }
        }
        let Some(qmp) = self.qmp() else {
            return self.fail("the guest's QEMU does not answer".to_owned());
        };
        let plan = QemuPlan {
            form: self.form,
            downtime_limit_ms: self.steering.course().downtime_limit_ms,
            switchover_bandwidth: self.steering.first_bandwidth(),
            auto_converge: self.steering.course().is_throttling,
            pause_before_switchover: self.disks.is_some(),
        };
        let run = &self.facts.directories.run;
        let knowledge = Knowledge {
            boot_files: boot_files(&self.context, &self.facts.hardware.boot),
            base: self.base.take(),
            images: self.context.images.clone(),
            catalogue: self.catalogue.clone(),
        };
        match qemu::begin_memory(&qmp, run, &mut self.outlets, &plan, knowledge).await {
            Ok((outgoing, events)) => {
                self.outgoing = Some(outgoing);
                self.memory_events = Some(events);
            }
            Err(error) => self.fail(reason(&error)),
        }
    }

    fn finish_log(&mut self) {
        let Some(log) = self.log.take() else { return };
        let finish = || Step::LogSent(log.finish().map_err(|error| reason(&error)));
        self.steps.spawn_blocking(finish);
    }

    fn give_return_path(&mut self, bytes: &[u8]) {
        let given =
            self.outgoing.as_ref().map_or(Ok(()), |outgoing| outgoing.give_return_path(bytes));
        if let Err(error) = given {
            self.fail(format!("QEMU does not take the return path: {error}"));
        }
    }

    /// The word by which QEMU's migration completes. A stopped machine has no QEMU to complete.
    fn give_shut(&mut self) {
        if self.outgoing.is_none() {
            self.reach(Mark::Verified);
            return self.handle(SourceEvent::QemuCompleted);
        }
        let mut bytes = Vec::new();
        ReturnMessage::Shut { status: 0 }.encode(&mut bytes);
        self.give_return_path(&bytes);
    }

    async fn persist(&mut self, record: SourceRecord) -> Result<(), Stuck> {
        let memo = memo::write(&self.closed_account());
        let Some(guest) = &mut self.guest else { return Ok(()) };
        let decided = guest.decide(record, memo).await;
        decided.map_err(|error| Stuck(reason(&error)))?;
        if record == SourceRecord::Released {
            self.reach(Mark::Released);
        }
        self.handle(SourceEvent::Persisted(record));
        Ok(())
    }

    /// Undoes everything here, in an order in which nothing can wait for anything else: QEMU's sockets first, those of
    /// its mirrors too.
    async fn take_back(&mut self) -> Result<(), Stuck> {
        self.account.resume();
        self.outlets.end();
        let (outgoing, disks) = (self.outgoing.take(), self.disks.take());
        // A QEMU that waits for a page or a block to be taken hears no command.
        if let Some(outgoing) = &outgoing {
            outgoing.close();
        }
        if let Some(disks) = &disks {
            disks.close();
        }
        if self.mode == MigrationMode::Live
            && let Some(qmp) = self.qmp()
            && let Err(error) = qemu::cancel_memory(&qmp).await
        {
            tracing::warn!(error = reason(&error), "QEMU's migration cannot be ended");
        }
        if let Some(disks) = disks {
            disks.abandon().await;
        }
        if let Some(guest) = self.guest.take() {
            guest.keep().await.map_err(|error| Stuck(reason(&error)))?;
        }
        self.handle(SourceEvent::TakenBack);
        Ok(())
    }

    /// The target has it. The account is told before the record that keeps it goes.
    async fn remove(&mut self) -> Result<(), Stuck> {
        let result = SourceResult::Completed(self.closed_account());
        self.report_end(result).await?;
        self.keep_image();
        if let Some(guest) = self.guest.take() {
            guest.remove().await.map_err(|error| Stuck(reason(&error)))?;
        }
        self.handle(SourceEvent::Removed);
        Ok(())
    }

    /// What the target has of the memory is worth remembering: the machine may come back.
    fn keep_image(&mut self) {
        let Some(outgoing) = self.outgoing.take() else { return };
        outgoing.all_processed();
        let origin = ImageOrigin { vm: self.facts.vm, migration: self.migration() };
        if let Some(image) = outgoing.take_image(origin, self.hash_seed) {
            self.context.images.keep(image);
        }
    }

    async fn finish(&mut self, outcome: SourceOutcome) -> Result<(), Stuck> {
        match &outcome {
            SourceOutcome::Completed => {}
            SourceOutcome::Failed { reason } => {
                self.report_end(SourceResult::Failed { reason: reason.clone() }).await?;
            }
            SourceOutcome::Cancelled => self.report_end(SourceResult::Cancelled).await?,
        }
        self.outcome = Some(outcome);
        Ok(())
    }

    async fn report_end(&self, result: SourceResult) -> Result<(), Stuck> {
        let end = MigrationEnd { target: self.target.clone(), phase: self.session.phase(), result };
        let told = self.context.reporter.migration_ended(self.migration(), end).await;
        told.map_err(|error| Stuck(reason(&error)))
    }

    fn qmp(&self) -> Option<Qmp> {
        self.guest.as_ref().and_then(|guest| guest.qmp().cloned())
    }
}

/// The target is there again, and has said what it has.
struct Resumption {
    control: Control,
    heard: u64,
    streams: Vec<(StreamHeader, u64)>,
}

/// How long the target may take to say what it has.
const RESUME_PATIENCE: Duration = Duration::from_secs(5);

/// Why a migration did not go on over a new connection.
enum ResumeFault {
    /// The target may answer next time.
    Away(String),
    /// It has nothing of the migration any more, and never will: waiting for it is of no use.
    Over(String),
}

async fn resume_with(
    mut control: Control,
    resume: &SourceMessage,
) -> Result<Resumption, ResumeFault> {
    let answered = async {
        control.say(resume).await?;
        control.hear().await
    };
    let away = |reason: &str| ResumeFault::Away(reason.to_owned());
    let answer = tokio::time::timeout(RESUME_PATIENCE, answered).await;
    let answer = answer.map_err(|_| away("the target does not say what it has"))?;
    match answer.map_err(|error| ResumeFault::Away(reason(&error)))? {
        TargetMessage::Resumed { heard, streams } => Ok(Resumption { control, heard, streams }),
        TargetMessage::Failed { reason } => Err(ResumeFault::Over(reason)),
        _ => Err(away("the target says something else than what it has")),
    }
}

async fn resolve(address: &str) -> Result<SocketAddr, String> {
    let found = tokio::net::lookup_host(address).await;
    let mut found = found.map_err(|error| format!("{address} cannot be resolved: {error}"))?;
    found.next().ok_or_else(|| format!("{address} has no address"))
}

async fn next_event(
    events: &mut Option<broadcast::Receiver<Event>>,
) -> Result<Event, broadcast::error::RecvError> {
    match events {
        Some(events) => events.recv().await,
        None => std::future::pending().await,
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
