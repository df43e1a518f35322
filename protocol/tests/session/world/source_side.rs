//! The source of a world: its session, what its agent has written, and the guest's QEMU.

use std::collections::{BTreeSet, VecDeque};

use novacron_protocol::ids::{Generation, MigrationId, VmId};
use novacron_protocol::migration::MigrationMode;
use novacron_protocol::session::handover::SourceRecord;
use novacron_protocol::session::message::{MemoryOffer, Offer, SourceMessage};
use novacron_protocol::session::source::{
    Source, SourceAction, SourceEvent, SourceLimits, SourceOutcome,
};
use novacron_protocol::version::MINOR_RANGE;
use uuid::Uuid;

use super::{Property, Qemu, Write, digests};

pub const MIGRATION: MigrationId = MigrationId(Uuid::from_u128(1));
pub const VM: VmId = VmId(Uuid::from_u128(2));

/// The source's end.
#[derive(Debug, Clone)]
pub struct SourceSide {
    pub session: Source,
    /// What is durable.
    pub record: SourceRecord,
    /// How often it has started over, durable as well.
    restarts: u32,
    limits: SourceLimits,
    pub writing: Option<Write<SourceRecord>>,
    /// What is to be done when the record is written.
    due: VecDeque<SourceAction>,
    pub events: VecDeque<SourceEvent>,
    pub qemu: Qemu,
    pub qemu_died: bool,
    pub outcome: Option<SourceOutcome>,
    pub dials: bool,
    pub copies: bool,
    /// What was said until now has nothing to do with what follows.
    pub starts_over: bool,
    /// It could not write, and does nothing before it is started again.
    pub is_stuck: bool,
    /// It does not wait for what it writes: a rule broken on purpose.
    pub writes_late: bool,
}

pub fn offer() -> Offer {
    Offer {
        versions: MINOR_RANGE,
        migration: MIGRATION,
        vm: VM,
        generation: Generation(2),
        mode: MigrationMode::Live,
        machine_type: "pc-q35-10.0".into(),
        qemu_version: "10.0.2".into(),
        cpu_model: "max".into(),
        memory: MemoryOffer::Pages { lanes: 2 },
        hash_seed: 7,
        source_run: 1,
        base: None,
        disks: Vec::new(),
        files: Vec::new(),
        start: true,
    }
}

impl SourceSide {
    pub fn new(limits: SourceLimits, writes_late: bool) -> Self {
        Self {
            session: Source::begin(offer(), limits),
            record: SourceRecord::Holds,
            restarts: 0,
            limits,
            writing: None,
            due: VecDeque::new(),
            events: VecDeque::new(),
            qemu: Qemu::Runs,
            qemu_died: false,
            outcome: None,
            dials: false,
            copies: false,
            starts_over: false,
            is_stuck: false,
            writes_late,
        }
    }

    /// Whether the agent takes nothing up, because it waits for its disk or for somebody to start it.
    pub fn is_deaf(&self) -> bool {
        self.is_stuck || (self.writing.is_some() && !self.writes_late)
    }

    /// When its patience ends.
    pub fn due_ms(&self) -> Option<u64> {
        self.session.poll_timeout().filter(|due_ms| *due_ms != u64::MAX && !self.is_deaf())
    }

    /// Does what the session says, up to a write. Gives what is to be said.
    pub fn perform(&mut self, now_ms: u64, wrong: &mut BTreeSet<Property>) -> Vec<SourceMessage> {
        let mut said = Vec::new();
        loop {
            self.due.extend(self.session.poll_actions());
            if self.is_deaf() {
                return said;
            }
            let Some(action) = self.due.pop_front() else { return said };
            match action {
                SourceAction::Send(message) => {
                    if message == SourceMessage::Go && !self.record.may_say_go() {
                        wrong.insert(Property::GoAfterRelease);
                    }
                    said.push(message);
                }
                SourceAction::Persist(record) => self.write(record, now_ms),
                SourceAction::TakeBack(_) => self.take_back(wrong),
                SourceAction::StartOver { restarts } => {
                    self.restarts = restarts;
                    self.start_over(wrong);
                    said.clear();
                }
                other => self.act(other),
            }
        }
    }

    fn act(&mut self, action: SourceAction) {
        match action {
            SourceAction::SynchroniseDisks => self.events.push_back(SourceEvent::DisksSynchronised),
            SourceAction::CopyMemory => self.copies = true,
            SourceAction::AllowSwitchover => {
                assert!(self.copies, "there is no memory to switch over to");
                self.events.push_back(SourceEvent::GuestStopped);
                self.events.push_back(SourceEvent::AllSent(digests(1)));
            }
            SourceAction::GiveShut if !self.qemu_died => {
                self.qemu = Qemu::Completed;
                self.events.push_back(SourceEvent::QemuCompleted);
            }
            SourceAction::Connect => self.dials = true,
            SourceAction::Remove => {
                self.qemu = Qemu::Gone;
                self.events.push_back(SourceEvent::Removed);
            }
            SourceAction::Finish(outcome) => self.outcome = Some(outcome),
            _ => {}
        }
    }

    fn write(&mut self, record: SourceRecord, now_ms: u64) {
        self.writing = Some(Write(record));
        if self.writes_late {
            self.session.handle(SourceEvent::Persisted(record), now_ms);
        }
    }

    /// What is being written is durable.
    pub fn written(&mut self, now_ms: u64) {
        let Some(Write(record)) = self.writing.take() else { return };
        self.record = record;
        if !self.writes_late {
            self.session.handle(SourceEvent::Persisted(record), now_ms);
        }
    }

    /// As taking back, for another attempt. A guest whose QEMU is gone cannot be offered.
    fn start_over(&mut self, wrong: &mut BTreeSet<Property>) {
        if !self.record.may_run() {
            wrong.insert(Property::BackByRight);
        }
        self.starts_over = true;
        self.copies = false;
        self.dials = false;
        self.events.retain(|event| *event == SourceEvent::Cancel);
        self.events.push_back(if self.qemu_died {
            SourceEvent::Failed { reason: "QEMU died".into() }
        } else {
            self.qemu = Qemu::Runs;
            SourceEvent::StartedOver(Box::new(offer()))
        });
    }

    fn take_back(&mut self, wrong: &mut BTreeSet<Property>) {
        if !self.record.may_run() {
            wrong.insert(Property::BackByRight);
        }
        if !self.qemu_died {
            self.qemu = Qemu::Runs;
        }
        // The cancelled migration of QEMU says nothing more.
        self.events.clear();
        self.events.push_back(SourceEvent::TakenBack);
    }

    pub fn take_up_event(&mut self, now_ms: u64) {
        let Some(event) = self.events.pop_front() else { return };
        if event == SourceEvent::GuestStopped && self.qemu == Qemu::Runs {
            self.qemu = Qemu::Switching;
        }
        self.session.handle(event, now_ms);
    }

    /// The agent is started and finds what is durable. A QEMU whose migration had not completed has gone on by itself.
    pub fn restart(&mut self) {
        if self.qemu == Qemu::Switching {
            self.qemu = Qemu::Runs;
        }
        let session = Source::resume(VM, MIGRATION, self.record, self.restarts, self.limits);
        *self = Self {
            session,
            writing: None,
            due: VecDeque::new(),
            events: VecDeque::new(),
            dials: false,
            copies: false,
            is_stuck: false,
            ..self.clone()
        };
    }

    /// The write failed: the task ends, and everything stays as the record says.
    pub fn give_in(&mut self) {
        self.writing = None;
        self.due.clear();
        self.events.clear();
        self.dials = false;
        self.is_stuck = true;
    }

    pub fn qemu_dies(&mut self) {
        self.qemu = Qemu::Gone;
        self.qemu_died = true;
        if !self.is_stuck {
            self.events.push_back(SourceEvent::Failed { reason: "QEMU died".into() });
        }
    }

    /// The rule broken on purpose: as if the record said otherwise.
    pub fn take_back_released(&mut self) {
        self.record = SourceRecord::Holds;
        self.restart();
    }
}
