//! A source and a target session with a simulated QEMU on each side and a link between them. What happens next is chosen
//! by whoever drives it: at random in [`crate::pair`], everything in [`crate::model`].

use std::collections::VecDeque;

use novacron_protocol::ids::{Generation, MigrationId, VmId};
use novacron_protocol::migration::MigrationMode;
use novacron_protocol::session::handover::{SourceRecord, TargetRecord, Verdict};
use novacron_protocol::session::message::{
    Digests, MemoryOffer, Offer, SourceMessage, TargetMessage,
};
use novacron_protocol::session::source::{
    Source, SourceAction, SourceEvent, SourceLimits, SourceOutcome,
};
use novacron_protocol::session::target::{
    Target, TargetAction, TargetEvent, TargetLimits, TargetOutcome,
};
use novacron_protocol::version::MINOR_RANGE;
use uuid::Uuid;

/// How a guest's QEMU stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Qemu {
    Runs,
    /// Stopped by its own migration: runs again by itself if the agent goes away.
    Switching,
    /// Migration completed: runs only if told to.
    Completed,
    /// Started paused at the target.
    Paused,
    Gone,
}

#[derive(Debug, Clone)]
pub struct World {
    now_ms: u64,
    source: Source,
    source_record: SourceRecord,
    source_qemu: Qemu,
    source_outcome: Option<SourceOutcome>,
    source_events: VecDeque<SourceEvent>,
    target: Option<Target>,
    target_record: TargetRecord,
    target_qemu: Qemu,
    target_outcome: Option<TargetOutcome>,
    target_events: VecDeque<TargetEvent>,
    target_killed_after_accept: bool,
    linked: bool,
    to_target: VecDeque<SourceMessage>,
    to_source: VecDeque<TargetMessage>,
    offered: bool,
    copies: bool,
    source_restarted: bool,
    is_target_forgetful: bool,
    /// The source is dialling.
    dials: bool,
    corrupt: bool,
}

/// What may happen next.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Move {
    /// The oldest message of the source arrives.
    ToTarget,
    /// The oldest message of the target arrives.
    ToSource,
    /// Something at the source takes effect.
    AtSource,
    /// Something at the target takes effect.
    AtTarget,
    /// The source reaches the target.
    Reach,
    /// It does not.
    Miss,
    /// Nothing else can happen, so time passes until somebody's patience ends.
    Wait,
    /// The link breaks.
    Cut,
    /// The source's agent dies and starts again.
    CrashSource,
    /// The target's agent dies and starts again.
    CrashTarget,
    /// The target's QEMU dies.
    KillTargetQemu,
    /// Somebody wants it cancelled.
    Cancel,
}

impl Move {
    /// All of them.
    pub const ALL: [Self; 12] = [
        Self::ToTarget,
        Self::ToSource,
        Self::AtSource,
        Self::AtTarget,
        Self::Reach,
        Self::Miss,
        Self::Wait,
        Self::Cut,
        Self::CrashSource,
        Self::CrashTarget,
        Self::KillTargetQemu,
        Self::Cancel,
    ];

    /// Whether something breaks, or somebody interferes.
    pub fn is_fault(self) -> bool {
        matches!(
            self,
            Self::Miss
                | Self::Cut
                | Self::CrashSource
                | Self::CrashTarget
                | Self::KillTargetQemu
                | Self::Cancel
        )
    }
}

fn digests(byte: u8) -> Digests {
    Digests { memory: Vec::new(), disks: vec![[byte; 16]] }
}

fn offer() -> Offer {
    Offer {
        versions: MINOR_RANGE,
        migration: MigrationId(Uuid::from_u128(1)),
        vm: VmId(Uuid::from_u128(2)),
        generation: Generation(2),
        mode: MigrationMode::Live,
        machine_type: "pc-q35-10.0".into(),
        qemu_version: "10.0.2".into(),
        cpu_model: "max".into(),
        memory: MemoryOffer::Pages { lanes: 2 },
        hash_seed: 7,
        base: None,
        disks: Vec::new(),
        files: Vec::new(),
        start: true,
    }
}

impl World {
    /// A migration that begins; if `corrupt`, what arrives is not what was sent.
    pub fn new(corrupt: bool) -> Self {
        let mut world = Self {
            now_ms: 0,
            source: Source::begin(offer(), SourceLimits::default()),
            source_record: SourceRecord::Holds,
            source_qemu: Qemu::Runs,
            source_outcome: None,
            source_events: VecDeque::new(),
            target: None,
            target_record: TargetRecord::Waiting,
            target_qemu: Qemu::Gone,
            target_outcome: None,
            target_events: VecDeque::new(),
            target_killed_after_accept: false,
            linked: false,
            to_target: VecDeque::new(),
            to_source: VecDeque::new(),
            offered: false,
            copies: false,
            source_restarted: false,
            is_target_forgetful: false,
            dials: false,
            corrupt,
        };
        world.perform_source();
        world
    }

    /// A world whose target forgets across a crash that it refused, and would take the guest: the rule broken on purpose.
    pub fn with_a_forgetful_target() -> Self {
        Self { is_target_forgetful: true, ..Self::new(false) }
    }

    /// Whether the target has taken the offer, as the source knows.
    pub fn was_taken(&self) -> bool {
        self.copies
    }

    /// How it ended for the source.
    pub fn outcome(&self) -> Option<&SourceOutcome> {
        self.source_outcome.as_ref()
    }

    /// What must be so at every moment.
    fn check(&self) {
        let both = self.source_qemu == Qemu::Runs && self.target_qemu == Qemu::Runs;
        assert!(!both, "two running copies");
        assert!(
            !(self.source_record.may_run() && self.target_record.may_run()),
            "two owners by their records"
        );
    }

    fn perform_source(&mut self) {
        for action in self.source.poll_actions() {
            match action {
                SourceAction::Send(message) if self.linked || self.is_heard_later() => {
                    self.to_target.push_back(message);
                }
                SourceAction::Send(_)
                | SourceAction::GiveReturnPath(_)
                | SourceAction::SendFiles { .. } => {}
                SourceAction::SynchroniseDisks => {
                    self.source_events.push_back(SourceEvent::DisksSynchronised);
                }
                SourceAction::CopyMemory => self.copies = true,
                SourceAction::AllowSwitchover => {
                    assert!(self.copies, "there is no memory to switch over to");
                    self.source_events.push_back(SourceEvent::GuestStopped);
                    self.source_events.push_back(SourceEvent::AllSent(digests(1)));
                }
                SourceAction::GiveShut => {
                    self.source_qemu = Qemu::Completed;
                    self.source_events.push_back(SourceEvent::QemuCompleted);
                }
                SourceAction::Persist(record) => {
                    self.source_record = record;
                    self.source_events.push_back(SourceEvent::Persisted(record));
                }
                SourceAction::TakeBack => {
                    assert!(self.source_record.may_run(), "taken back without the right");
                    self.source_qemu = Qemu::Runs;
                    // The cancelled migration of QEMU says nothing more.
                    self.source_events.clear();
                    self.source_events.push_back(SourceEvent::TakenBack);
                }
                SourceAction::Connect => self.dials = true,
                SourceAction::Remove => {
                    self.source_qemu = Qemu::Gone;
                    self.source_events.push_back(SourceEvent::Removed);
                }
                SourceAction::Finish(outcome) => self.source_outcome = Some(outcome),
            }
        }
    }

    fn miss(&mut self) {
        self.dials = false;
        let reason = "unreachable".to_owned();
        self.source_events.push_back(SourceEvent::LinkLost { reason });
    }

    fn reach(&mut self) {
        self.dials = false;
        self.linked = true;
        if !self.is_heard_later() {
            self.to_source.clear();
            self.to_target.clear();
        } else if self.offered && self.target.is_none() {
            let reason = "this node does not expect the machine".to_owned();
            self.to_source.push_back(TargetMessage::Failed { reason });
        }
        self.source_events.push_back(SourceEvent::Connected);
        if self.target.is_some() {
            self.target_events.push_back(TargetEvent::LinkBack);
        }
    }

    fn perform_target(&mut self) {
        let heard_later = self.is_heard_later();
        let Some(target) = &mut self.target else { return };
        for action in target.poll_actions() {
            match action {
                TargetAction::Send(message) if self.linked || heard_later => {
                    self.to_source.push_back(message);
                }
                TargetAction::Send(_) => {}
                TargetAction::Load => {
                    let digests = digests(if self.corrupt { 9 } else { 1 });
                    self.target_events.push_back(TargetEvent::Loaded { digests, load_us: 1 });
                }
                TargetAction::Persist(record) => {
                    self.target_record = record;
                    self.target_events.push_back(TargetEvent::Persisted(record));
                }
                TargetAction::Run => {
                    assert!(self.target_record.may_run(), "run without the right");
                    if self.target_qemu == Qemu::Paused {
                        self.target_qemu = Qemu::Runs;
                    } else {
                        self.target_killed_after_accept = true;
                    }
                    self.target_events.push_back(TargetEvent::Running { resume_us: 1 });
                }
                TargetAction::Discard => {
                    self.target_qemu = Qemu::Gone;
                    self.target_events.push_back(TargetEvent::Discarded);
                }
                TargetAction::Finish(outcome) => self.target_outcome = Some(outcome),
            }
        }
    }

    /// A message reaches the target agent: it goes to the session, or, without one, is answered from the record.
    fn deliver_to_target(&mut self) {
        if !self.linked {
            return;
        }
        let Some(message) = self.to_target.pop_front() else { return };
        if let Some(target) = &mut self.target {
            return target.handle(TargetEvent::Message(message), self.now_ms);
        }
        match message {
            SourceMessage::Offer(_) if self.target_record == TargetRecord::Waiting => {
                self.offered = true;
                self.target = Some(Target::begin(TargetLimits::default()));
                self.target_qemu = Qemu::Paused;
                self.to_source.push_back(TargetMessage::Taken {
                    minor: 0,
                    missing_files: Vec::new(),
                    has_base: false,
                });
                self.target_events.push_back(TargetEvent::Prepared);
            }
            SourceMessage::Ask { .. } | SourceMessage::Go => {
                self.target_record = self.target_record.after_giving_up();
                self.to_source.push_back(TargetMessage::Verdict(self.target_record.verdict()));
            }
            _ => {}
        }
    }

    fn deliver_to_source(&mut self) {
        if !self.linked {
            return;
        }
        let Some(message) = self.to_source.pop_front() else { return };
        self.source.handle(SourceEvent::Message(message), self.now_ms);
    }

    fn cut_link(&mut self) {
        if !std::mem::take(&mut self.linked) {
            return;
        }
        if !self.is_heard_later() {
            self.to_source.clear();
            self.to_target.clear();
        }
        self.source_events.push_back(SourceEvent::LinkLost { reason: "cut".into() });
        if self.target.is_some() {
            self.target_events.push_back(TargetEvent::LinkLost);
        }
    }

    /// Whether what is said without a link is said when there is one again: an offer was taken and nothing released.
    fn is_heard_later(&self) -> bool {
        self.offered && self.source_record == SourceRecord::Holds && !self.source_restarted
    }

    fn crash_source(&mut self) {
        if self.source_outcome.is_some() {
            return;
        }
        self.cut_link();
        self.source_events.clear();
        if self.source_qemu == Qemu::Switching {
            self.source_qemu = Qemu::Runs;
        }
        let migration = MigrationId(Uuid::from_u128(1));
        let vm = VmId(Uuid::from_u128(2));
        self.source_restarted = true;
        self.dials = false;
        self.to_source.clear();
        self.to_target.clear();
        self.source = Source::resume(vm, migration, self.source_record, SourceLimits::default());
    }

    fn crash_target(&mut self) {
        self.cut_link();
        self.target_events.clear();
        self.to_source.clear();
        self.to_target.clear();
        self.target = None;
        self.target_record = match self.is_target_forgetful {
            // As if it had accepted whatever it was asked about.
            true => TargetRecord::Accepted,
            false => self.target_record.after_giving_up(),
        };
        match self.target_record {
            TargetRecord::Accepted if self.target_qemu == Qemu::Paused => {
                self.target_qemu = Qemu::Runs;
            }
            TargetRecord::Accepted => {
                self.target_killed_after_accept |= self.target_qemu == Qemu::Gone
            }
            _ => self.target_qemu = Qemu::Gone,
        }
    }

    fn kill_target_qemu(&mut self) {
        if self.target_qemu == Qemu::Gone {
            return;
        }
        self.target_qemu = Qemu::Gone;
        self.target_killed_after_accept |= self.target_record == TargetRecord::Accepted;
        if self.target.is_some() {
            self.target_events.push_back(TargetEvent::Failed { reason: "QEMU died".into() });
        }
    }

    /// Whether this can happen now.
    pub fn allows(&self, what: Move) -> bool {
        let is_open = self.source_outcome.is_none();
        match what {
            Move::ToTarget => self.linked && !self.to_target.is_empty(),
            Move::ToSource => self.linked && !self.to_source.is_empty(),
            Move::AtSource => !self.source_events.is_empty(),
            Move::AtTarget => !self.target_events.is_empty(),
            Move::Reach | Move::Miss => self.dials,
            Move::Wait => !self.is_busy() && !self.settled(),
            Move::Cut => self.linked,
            Move::CrashSource | Move::Cancel => is_open,
            Move::CrashTarget => self.target.is_some(),
            Move::KillTargetQemu => self.target_qemu != Qemu::Gone,
        }
    }

    /// Lets it happen, and checks what must always be so.
    pub fn happen(&mut self, what: Move) {
        match what {
            Move::ToTarget => self.deliver_to_target(),
            Move::ToSource => self.deliver_to_source(),
            Move::AtSource => self.source_event(),
            Move::AtTarget => self.target_event(),
            Move::Reach => self.reach(),
            Move::Miss => self.miss(),
            Move::Wait => self.wait(),
            Move::Cut => self.cut_link(),
            Move::CrashSource => self.crash_source(),
            Move::CrashTarget => self.crash_target(),
            Move::KillTargetQemu => self.kill_target_qemu(),
            Move::Cancel => self.source_events.push_back(SourceEvent::Cancel),
        }
        self.perform_source();
        self.perform_target();
        self.check();
    }

    fn source_event(&mut self) {
        let Some(event) = self.source_events.pop_front() else { return };
        if event == SourceEvent::GuestStopped && self.source_qemu == Qemu::Runs {
            self.source_qemu = Qemu::Switching;
        }
        self.source.handle(event, self.now_ms);
    }

    fn target_event(&mut self) {
        let Some(event) = self.target_events.pop_front() else { return };
        if let Some(target) = &mut self.target {
            target.handle(event, self.now_ms);
        }
    }

    fn is_busy(&self) -> bool {
        self.dials
            || !self.source_events.is_empty()
            || !self.target_events.is_empty()
            || (self.linked && !(self.to_source.is_empty() && self.to_target.is_empty()))
    }

    /// Time jumps only when nothing else could happen, as it does in a system that is waiting.
    fn wait(&mut self) {
        let target_due = self.target.as_ref().and_then(Target::poll_timeout);
        let Some(due_ms) = self.source.poll_timeout().into_iter().chain(target_due).min() else {
            // Nobody waits for anything but the other side: the coordinator, told that the source gave up, says so.
            if self.source_outcome.is_some() && self.target.is_some() {
                self.target_events.push_back(TargetEvent::Abandon);
            }
            return;
        };
        if due_ms == u64::MAX {
            return;
        }
        self.now_ms = self.now_ms.max(due_ms);
        self.source.handle_timeout(self.now_ms);
        if let Some(target) = &mut self.target {
            target.handle_timeout(self.now_ms);
        }
    }

    /// Whether nothing more will happen.
    pub fn settled(&self) -> bool {
        let target_done = match &self.target {
            None => true,
            Some(target) => target.is_finished(),
        };
        self.source_outcome.is_some() && target_done && self.target_events.is_empty()
    }

    /// What must be so at the end: exactly one copy, unless its QEMU died after the target had accepted it.
    pub fn check_end(&self) {
        match self.source_outcome.as_ref().unwrap() {
            SourceOutcome::Completed => {
                assert_eq!(self.source_qemu, Qemu::Gone);
                assert_eq!(self.target_record.verdict(), Verdict::Accepted);
                assert!(self.target_qemu == Qemu::Runs || self.target_killed_after_accept);
            }
            SourceOutcome::Failed { .. } | SourceOutcome::Cancelled => {
                assert_eq!(self.source_qemu, Qemu::Runs);
                assert_eq!(self.target_qemu, Qemu::Gone, "left at the target");
            }
        }
    }
}
