//! The target of a migration: one task that owns the machine while it arrives.
//!
//! The session (`novacron_protocol::session::target`) decides; this task waits for one event, hands it over, and does
//! what the session says. The coordinator announced the machine before, and only its source may bring it.

mod offer;

use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use novacron_protocol::effect::Handover;
use novacron_protocol::ids::NodeName;
use novacron_protocol::migration::MigrationMode;
use novacron_protocol::session::handover::TargetRecord;
use novacron_protocol::session::message::{
    Digests, FileOffer, MemoryOffer, Offer, SourceMessage, StreamHeader, TargetMessage,
};
use novacron_protocol::session::target::{
    Target, TargetAction, TargetEvent, TargetLimits, TargetOutcome,
};
use novacron_protocol::wire::codec;
use novacron_transport::{CloseCode, Connection, FramedRecv};
use quinn::RecvStream;
use tokio::sync::{mpsc, oneshot};
use tokio::task::JoinSet;
use tracing::Instrument;

use super::cache::{Image, ImageOrigin};
use super::console_log;
use super::context::{COMMANDS_MAX, Context, TargetCommand};
use super::control::{Control, ControlError, Dialogue, SAY_PATIENCE};
use super::files::{FileReader, boot_files};
use super::library::{Circle, Shelf};
use super::listener;
use super::memory::{Incoming, IncomingEvent, IncomingForm, IncomingPlan};
use super::relay::{Inlet, Inlets};
use crate::disk::{DiskEvent, DisksPlan, IncomingDisks};
use crate::qmp::Capability;
use crate::reason::reason;
use crate::vm::{FileHash, IncomingGuest, Processor, Receiving};
use offer::Announced;

/// Name of the socket at which QEMU waits for its stream.
const SOCKET_NAME: &str = "in.sock";

/// Bytes of a frame on any data stream: each kind has its own, lower limit behind this one.
const DATA_FRAME_BYTES_MAX: usize = 2 << 20;

/// How long an announced machine may keep its source waiting.
const OFFER_PATIENCE: Duration = Duration::from_secs(300);

/// How long the last words to the source may take.
const FAREWELL: Duration = Duration::from_secs(5);

/// How much longer than its source a target waits for the link to come back, in milliseconds.
const LINK_GRACE_MS: u64 = 5000;

/// How often the source is told what has been processed: at 10 Gbit/s, 5 ms are 6 MB that it keeps.
const NEWS_INTERVAL: Duration = Duration::from_millis(5);

/// Why a stream that came cannot begin.
enum StreamFault {
    /// The connection is gone, of which the control stream tells.
    Cut,
    /// It is no stream of a migration.
    Nonsense(String),
}

/// Something that took its time is done.
enum Step {
    Stream(Result<(StreamHeader, FramedRecv<RecvStream>), StreamFault>),
    FileReceived(Result<[u8; 32], String>),
    LogReceived(Result<(), String>),
    DisksBegun(Result<(IncomingDisks, mpsc::Receiver<DiskEvent>), String>),
    DisksFinished(Result<Vec<[u8; 16]>, String>),
}

/// Why the task cannot go on; the machine stays as its record says until the agent starts again.
struct Stuck(String);

/// What has arrived since the source said that everything is sent.
#[derive(Debug, Default)]
struct Loading {
    since: Option<Instant>,
    memory: bool,
    log: bool,
    disks: Option<Vec<[u8; 16]>>,
}

/// The task's state.
struct Run {
    context: Arc<Context>,
    guest: Option<IncomingGuest>,
    handover: Handover,
    source: NodeName,
    session: Target,
    dialogue: Dialogue,
    inlets: Inlets,
    offer: Option<Offer>,
    missing_files: Vec<FileOffer>,
    base: Option<Image>,
    /// Where pages are kept for further machines.
    shelf: Option<Arc<Shelf>>,
    receiving: Option<Receiving>,
    incoming: Option<Incoming>,
    memory_events: Option<mpsc::Receiver<IncomingEvent>>,
    disks: Option<IncomingDisks>,
    disk_events: Option<mpsc::Receiver<DiskEvent>>,
    loading: Loading,
    go_at: Option<Instant>,
    steps: JoinSet<Step>,
    waiting: Vec<oneshot::Sender<()>>,
    outcome: Option<TargetOutcome>,
}

/// Starts the task for a machine that was announced.
pub(super) fn begin(context: &Arc<Context>, guest: IncomingGuest) {
    spawn(context, guest, None);
}

/// Ends what an earlier run of the agent left undecided: it is refused.
pub(super) fn resume(context: &Arc<Context>, guest: IncomingGuest) {
    spawn(context, guest, Some("the target's agent was restarted".to_owned()));
}

fn spawn(context: &Arc<Context>, guest: IncomingGuest, give_up: Option<String>) {
    let migration = guest.migration();
    let (sender, commands) = mpsc::channel(COMMANDS_MAX);
    context.targets().insert(migration, sender);
    let span = tracing::info_span!("migration", %migration, vm = %guest.vm(), end = "target");
    let handover = Handover { migration, vm: guest.vm(), generation: guest.generation() };
    let patience_ms = context.settings.link_patience_s * 1000;
    let mut session = Target::begin(TargetLimits {
        // The source decides; a target that gave up first would spoil its last attempt.
        link_patience_ms: if patience_ms == 0 { 0 } else { patience_ms + LINK_GRACE_MS },
        ..TargetLimits::default()
    });
    if let Some(reason) = give_up {
        session.handle(TargetEvent::Failed { reason }, context.now_ms());
    }
    let run = Run {
        context: Arc::clone(context),
        source: guest.role().source.clone(),
        guest: Some(guest),
        handover,
        session,
        dialogue: Dialogue::default(),
        inlets: Inlets::default(),
        offer: None,
        missing_files: Vec::new(),
        base: None,
        shelf: None,
        receiving: None,
        incoming: None,
        memory_events: None,
        disks: None,
        disk_events: None,
        loading: Loading::default(),
        go_at: None,
        steps: JoinSet::new(),
        waiting: Vec::new(),
        outcome: None,
    };
    context.tasks.spawn(run.run(commands).instrument(span));
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
        loop {
            self.perform_all().await?;
            if self.outcome.is_some() {
                return Ok(());
            }
            let connection = self.dialogue.connection().cloned();
            let now_ms = self.context.now_ms();
            let due = self.session.poll_timeout().map(|due_ms| due_ms.saturating_sub(now_ms));
            if due == Some(0) {
                // Not in the select below, where a source that never stops talking could keep it waiting.
                self.session.handle_timeout(now_ms);
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
                () = tokio::time::sleep(Duration::from_millis(due.unwrap_or_default())),
                    if due.is_some() => {}
                _ = news.tick(), if self.receiving.is_some() || self.incoming.is_some() => self.tell_news().await,
                () = &mut patience, if self.offer.is_none() => {
                    self.fail("the source did not come".to_owned());
                }
            }
        }
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

    async fn connected(&mut self, control: Control, message: SourceMessage) {
        let is_source = control.connection().peer().name.as_str() == self.source.as_str();
        match message {
            _ if !is_source => {
                listener::dismiss(control, "another node is the source of this migration");
            }
            SourceMessage::Offer(offer) if self.offer.is_none() => {
                self.dialogue.begin(control, 1);
                self.take_offer(offer).await;
            }
            SourceMessage::Resume { heard, .. } if self.offer.is_some() => {
                self.resume_link(control, heard).await;
            }
            SourceMessage::Ask { .. } if self.offer.is_some() => {
                self.dialogue.begin(control, 1);
                self.handle(TargetEvent::LinkBack);
                self.handle(TargetEvent::Message(message));
            }
            _ => listener::dismiss(control, "this migration has a source already"),
        }
    }

    /// The source is back: it is told what was heard and taken, and goes on from there.
    async fn resume_link(&mut self, mut control: Control, they_heard: u64) {
        if let Some(connection) = self.dialogue.cut() {
            // The source has given it up, whether this side has noticed or not.
            connection.close(CloseCode::Done, "another connection takes its place");
        }
        let streams = self.inlets.next_connection();
        let resumed = TargetMessage::Resumed { heard: self.dialogue.heard(), streams };
        let resumed = async {
            control.say(&resumed).await?;
            self.dialogue.go_on(control, they_heard).await
        };
        match resumed.await {
            Ok(()) => self.handle(TargetEvent::LinkBack),
            Err(error) => self.link_lost(&reason(&error)),
        }
    }

    /// What was processed need not be kept by the source.
    async fn tell_news(&mut self) {
        if self.dialogue.is_linked()
            && let Some(counts) = self.inlets.processed_news()
        {
            self.send(TargetMessage::Processed(counts)).await;
        }
    }

    async fn take_offer(&mut self, offer: Offer) {
        let (Some(guest), Some(connection)) = (&self.guest, self.dialogue.connection()) else {
            return;
        };
        let announced = Announced {
            vm: guest.vm(),
            migration: guest.migration(),
            generation: guest.generation(),
            source: &guest.role().source,
            mode: guest.role().mode,
            spec: guest.spec(),
        };
        let sender = connection.peer().name.as_str().to_owned();
        let minor = match offer::check(&offer, announced, &sender) {
            Ok(minor) => minor,
            Err(refusal) => return self.fail(refusal.to_string()),
        };
        let store = self.context.machines.files();
        let lacking = |file: &&FileOffer| !store.has(FileHash(file.hash));
        self.missing_files = offer.files.iter().filter(lacking).cloned().collect();
        let missing_files = self.missing_files.iter().map(|file| file.hash).collect();
        self.base = self.find_base(&offer);
        self.shelf = self.find_shelf(&offer);
        let shelf = self.shelf.as_ref().map(|shelf| shelf.offer());
        self.offer = Some(offer);
        let has_base = self.base.is_some();
        // Pages may come as soon as the offer is taken, if the files are here that they may refer to.
        if self.missing_files.is_empty()
            && let Err(reason) = self.begin_memory()
        {
            return self.fail(reason);
        }
        self.send(TargetMessage::Taken { minor, missing_files, has_base, shelf }).await;
        if self.missing_files.is_empty() {
            self.prepare().await;
        }
    }

    /// What this host remembers of the machine's memory, if it is what the source thinks.
    fn find_base(&self, offer: &Offer) -> Option<Image> {
        let origin = ImageOrigin { vm: offer.vm, migration: offer.base? };
        let image = self.context.images.take_if(origin);
        image.filter(|image| image.hash_seed == offer.hash_seed)
    }

    /// Where pages of the machine may be kept, and taken from: by whose it is, as the coordinator says.
    fn find_shelf(&self, offer: &Offer) -> Option<Arc<Shelf>> {
        let guest = self.guest.as_ref()?;
        if !matches!(offer.memory, MemoryOffer::Pages { .. }) {
            return None;
        }
        let (source_run, tenant) = (offer.source_run, guest.spec().tenant().to_owned());
        let circle = Circle { source: self.source.clone(), source_run, tenant };
        self.context.shelves.open(&circle, rand::random())
    }

    /// Everything that QEMU needs is here: starts it and opens it for disks and memory.
    async fn prepare(&mut self) {
        if let Err(reason) = self.try_prepare().await {
            self.fail(reason);
        }
    }

    async fn try_prepare(&mut self) -> Result<(), String> {
        let (Some(guest), Some(offer)) = (&mut self.guest, &self.offer) else {
            return Err("there is no offer".to_owned());
        };
        let hardware = offer::hardware(offer, guest.spec());
        let processor = Processor::of_model(&offer.cpu_model);
        let receiving = guest.prepare(hardware, processor).await.map_err(|error| reason(&error))?;
        let plan = DisksPlan {
            run_directory: guest.directories().run.clone(),
            disks: offer.disks.clone(),
            held: receiving.held.clone(),
            hash_seed: offer.hash_seed,
        };
        let qmp = receiving.qmp.clone();
        self.receiving = Some(receiving);
        self.steps.spawn(async move {
            let begun = IncomingDisks::begin(&qmp, plan).await;
            Step::DisksBegun(begun.map_err(|error| reason(&error)))
        });
        Ok(())
    }

    /// The disks can be written, and it is known what they hold.
    async fn disks_begun(&mut self, disks: IncomingDisks, events: mpsc::Receiver<DiskEvent>) {
        for (disk, piece) in disks.pieces().collect::<Vec<_>>() {
            self.send(TargetMessage::Holds { disk, piece }).await;
        }
        if self.offer.as_ref().is_some_and(|offer| offer.disks.is_empty()) {
            self.loading.disks = Some(Vec::new());
        } else {
            self.disks = Some(disks);
            self.disk_events = Some(events);
        }
        match self.open_memory().await {
            Ok(()) => self.handle(TargetEvent::Prepared),
            Err(reason) => self.fail(reason),
        }
    }

    async fn open_memory(&mut self) -> Result<(), String> {
        let (Some(receiving), Some(guest)) = (self.receiving.clone(), &self.guest) else {
            return Err("the target's QEMU is gone".to_owned());
        };
        let run = guest.directories().run.clone();
        if self.incoming.is_none() {
            self.begin_memory()?;
        }
        self.feed_memory(&receiving, &run).await
    }

    /// The guest's QEMU is there: what is not memory can be given to it.
    async fn feed_memory(&mut self, receiving: &Receiving, run: &Path) -> Result<(), String> {
        let Some(incoming) = &self.incoming else { return Ok(()) };
        let capabilities = [(Capability::ReturnPath, true), (Capability::Events, true)];
        let qmp = &receiving.qmp;
        qmp.set_capabilities(&capabilities).await.map_err(|error| reason(&error))?;
        qmp.migrate_incoming(&run.join(SOCKET_NAME)).await.map_err(|error| reason(&error))?;
        incoming.feed();
        Ok(())
    }

    /// From now on pages can come.
    fn begin_memory(&mut self) -> Result<(), String> {
        let (Some(guest), Some(offer)) = (&self.guest, &self.offer) else {
            return Err("there is no offer".to_owned());
        };
        let Some(form) = incoming_form(offer) else {
            self.loading.memory = true;
            return Ok(());
        };
        let plan = IncomingPlan {
            form,
            qemu_socket: guest.directories().run.join(SOCKET_NAME),
            boot_files: boot_files(&self.context, &offer::hardware(offer, guest.spec()).boot),
            base: self.base.take(),
            images: self.context.images.clone(),
            shelf: self.shelf.clone(),
        };
        let memory = guest.memory().ok_or("the machine's memory is gone")?;
        let begun = Incoming::begin(plan, memory);
        let (incoming, events) = begun.map_err(|error| reason(&error))?;
        self.incoming = Some(incoming);
        self.memory_events = Some(events);
        Ok(())
    }

    fn heard(&mut self, heard: Result<SourceMessage, ControlError>) {
        let message = match heard {
            Ok(message) => message,
            Err(error) => return self.link_lost(&reason(&error)),
        };
        if message == SourceMessage::Go {
            self.go_at.get_or_insert_with(Instant::now);
            if self.receiving.as_ref().is_some_and(|receiving| receiving.qmp.is_closed()) {
                self.qemu_ended();
            }
        }
        self.handle(TargetEvent::Message(message));
    }

    fn qemu_ended(&mut self) {
        self.receiving = None;
        self.fail("the target's QEMU ended".to_owned());
    }

    fn memory_event(&mut self, event: Option<IncomingEvent>) {
        match event {
            Some(IncomingEvent::ReturnPath(bytes)) => self.handle(TargetEvent::ReturnPath(bytes)),
            Some(IncomingEvent::Loaded) => {
                self.loading.memory = true;
                self.check_loaded();
            }
            Some(IncomingEvent::Failed { reason }) => self.fail(reason),
            None => self.memory_events = None,
        }
    }

    fn disk_event(&mut self, event: Option<DiskEvent>) {
        match event {
            Some(DiskEvent::Failed { reason }) => self.fail(reason),
            None => self.disk_events = None,
        }
    }

    fn stream(&mut self, stream: RecvStream) {
        let Some(connection) = self.dialogue.connection() else { return };
        let mut frames = connection.framed(stream, DATA_FRAME_BYTES_MAX);
        self.steps.spawn(async move {
            let header = async {
                let frame = frames.receive().await.map_err(|_| StreamFault::Cut)?;
                let frame = frame.ok_or(StreamFault::Cut)?;
                codec::decode(&frame).map_err(|error| StreamFault::Nonsense(reason(&error)))
            };
            let header = header.await;
            Step::Stream(header.map(|header| (header, frames)))
        });
    }

    async fn step(&mut self, step: Result<Step, tokio::task::JoinError>) {
        let Ok(step) = step else { return };
        match step {
            Step::Stream(Ok((header, frames))) => self.begin_stream(header, frames),
            Step::FileReceived(Ok(hash)) => {
                self.missing_files.retain(|file| file.hash != hash);
                if self.missing_files.is_empty() {
                    self.prepare().await;
                }
            }
            Step::LogReceived(Ok(())) => {
                self.loading.log = true;
                self.check_loaded();
            }
            Step::DisksBegun(Ok((disks, events))) => self.disks_begun(disks, events).await,
            Step::DisksFinished(Ok(digests)) => {
                self.loading.disks = Some(digests);
                self.check_loaded();
            }
            Step::Stream(Err(StreamFault::Cut)) => {}
            Step::Stream(Err(StreamFault::Nonsense(reason)))
            | Step::FileReceived(Err(reason))
            | Step::LogReceived(Err(reason))
            | Step::DisksBegun(Err(reason))
            | Step::DisksFinished(Err(reason)) => self.fail(reason),
        }
    }

    fn begin_stream(&mut self, header: StreamHeader, frames: FramedRecv<RecvStream>) {
        let begun = match header {
            StreamHeader::File { hash } => self.begin_file(hash, frames),
            _ => self.begin_or_resume(header, frames),
        };
        if let Err(reason) = begun {
            self.fail(reason);
        }
    }

    /// A stream that may go on from an earlier connection.
    fn begin_or_resume(
        &mut self,
        header: StreamHeader,
        frames: FramedRecv<RecvStream>,
    ) -> Result<(), String> {
        let added = self.inlets.add(header, frames).map_err(|error| reason(&error))?;
        let Some(inlet) = added else { return Ok(()) };
        match (header, &mut self.incoming, &mut self.disks) {
            (StreamHeader::Lane { lane }, Some(incoming), _) => {
                incoming.add_lane(lane, inlet).map_err(|error| reason(&error))
            }
            (StreamHeader::Main, Some(incoming), _) => {
                incoming.add_main(inlet).map_err(|error| reason(&error))
            }
            (StreamHeader::Disk { disk }, _, Some(disks)) => {
                disks.add_disk(disk, inlet).map_err(|error| reason(&error))
            }
            (StreamHeader::ConsoleLog, ..) => self.begin_log(inlet),
            _ => Err(UNANNOUNCED.to_owned()),
        }
    }

    fn begin_log(&mut self, frames: Inlet) -> Result<(), String> {
        let guest = self.guest.as_ref().ok_or("the machine is gone")?;
        let path = guest.directories().console_log();
        self.steps.spawn(async move {
            let received = console_log::receive(frames, path).await;
            Step::LogReceived(received.map_err(|error| reason(&error)))
        });
        Ok(())
    }

    fn begin_file(&mut self, hash: [u8; 32], frames: FramedRecv<RecvStream>) -> Result<(), String> {
        let offer = self.missing_files.iter().find(|file| file.hash == hash);
        let bytes = offer.ok_or("a file came that was not asked for")?.bytes;
        let store = self.context.machines.files().clone();
        let runtime = tokio::runtime::Handle::current();
        self.steps.spawn_blocking(move || {
            let mut reader = FileReader::new(frames, runtime, bytes);
            let received = store.receive_expected(&mut reader, FileHash(hash));
            Step::FileReceived(received.map(|()| hash).map_err(|error| reason(&error)))
        });
        Ok(())
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

    async fn send(&mut self, message: TargetMessage) {
        match tokio::time::timeout(SAY_PATIENCE, self.dialogue.say(&message)).await {
            Ok(Ok(())) => {}
            Ok(Err(error)) => self.link_lost(&reason(&error)),
            Err(_) => self.link_lost("it takes no messages"),
        }
    }

    fn link_lost(&mut self, reason: &str) {
        tracing::info!(reason, "the link to the source ended");
        if let Some(connection) = self.dialogue.cut() {
            connection.close(CloseCode::Done, "given up");
        }
        self.handle(TargetEvent::LinkLost);
    }

    fn load(&mut self) {
        self.loading.since = Some(Instant::now());
        if let Some(mut disks) = self.disks.take() {
            self.steps.spawn(async move {
                Step::DisksFinished(disks.finish().await.map_err(|error| reason(&error)))
            });
        }
        self.check_loaded();
    }

    fn check_loaded(&mut self) {
        let Loading { since: Some(since), memory: true, log: true, disks: Some(disks) } =
            &self.loading
        else {
            return;
        };
        let memory = self.incoming.as_ref().and_then(Incoming::digest);
        let digests = Digests { memory: memory.into_iter().collect(), disks: disks.clone() };
        let load_us = micros(since.elapsed());
        self.handle(TargetEvent::Loaded { digests, load_us });
    }

    async fn accept(&mut self) -> Result<(), Stuck> {
        let Some(guest) = self.guest.take() else { return Ok(()) };
        let start = self.offer.as_ref().is_some_and(|offer| offer.start);
        guest.accept(start).await.map_err(|error| Stuck(reason(&error)))?;
        self.handle(TargetEvent::Persisted(TargetRecord::Accepted));
        Ok(())
    }

    async fn refuse(&mut self) -> Result<(), Stuck> {
        self.steps.abort_all();
        self.incoming = None;
        self.disks = None;
        self.receiving = None;
        if let Some(guest) = self.guest.take() {
            guest.reject().await.map_err(|error| Stuck(reason(&error)))?;
        }
        self.handle(TargetEvent::Persisted(TargetRecord::Refused));
        Ok(())
    }

    async fn finish(&mut self, outcome: TargetOutcome) -> Result<(), Stuck> {
        if outcome == TargetOutcome::Accepted {
            let told = self.context.reporter.handed_over(self.handover.clone()).await;
            told.map_err(|error| Stuck(reason(&error)))?;
            self.context.machines.report_again(self.handover.vm);
            self.keep_image();
        }
        self.outcome = Some(outcome);
        Ok(())
    }

    /// What the source had of the memory is worth remembering: the machine may go back.
    fn keep_image(&mut self) {
        let Some(incoming) = self.incoming.take() else { return };
        let Handover { vm, migration, .. } = self.handover;
        if let Some(image) = incoming.take_image(ImageOrigin { vm, migration }) {
            self.context.images.keep(image);
        }
    }
}

/// Why a stream is refused.
const UNANNOUNCED: &str = "a stream came that was not announced";

fn micros(time: Duration) -> u64 {
    u64::try_from(time.as_micros()).unwrap_or(u64::MAX)
}

fn incoming_form(offer: &Offer) -> Option<IncomingForm> {
    match (&offer.memory, offer.mode) {
        (_, MigrationMode::Cold | MigrationMode::Warm) | (MemoryOffer::None, _) => None,
        (MemoryOffer::Tunnel, _) => Some(IncomingForm::Tunnel),
        (MemoryOffer::Pages { lanes }, _) => {
            Some(IncomingForm::Pages { lanes: *lanes, hash_seed: offer.hash_seed })
        }
    }
}

async fn next<T>(events: &mut Option<mpsc::Receiver<T>>) -> Option<T> {
    match events {
        Some(events) => events.recv().await,
        None => std::future::pending().await,
    }
}

/// The next data stream. A connection that is gone gives none: the control stream says so.
async fn next_stream(connection: Option<&Connection>) -> RecvStream {
    if let Some(connection) = connection
        && let Ok(stream) = connection.accept_uni().await
    {
        return stream;
    }
    std::future::pending().await
}

async fn qemu_ended(receiving: Option<&Receiving>) {
    match receiving {
        Some(receiving) => receiving.qmp.closed().await,
        None => std::future::pending().await,
    }
}
