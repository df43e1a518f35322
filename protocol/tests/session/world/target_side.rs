//! The target of a world: its session, what its agent has written, and the QEMU that waits for the guest.

use std::collections::{BTreeSet, VecDeque};

use novacron_protocol::session::handover::{TargetRecord, Verdict};
use novacron_protocol::session::message::{Sent, SourceMessage, TargetMessage};
use novacron_protocol::session::target::{Target, TargetAction, TargetEvent, TargetLimits};

use super::{Property, Qemu, Write, digests};

/// The target's end.
#[derive(Debug, Clone)]
pub struct TargetSide {
    pub session: Option<Target>,
    /// What is durable.
    pub record: TargetRecord,
    pub writing: Option<Write<TargetRecord>>,
    /// What is to be done when the record is written.
    due: VecDeque<TargetAction>,
    pub events: VecDeque<TargetEvent>,
    pub qemu: Qemu,
    /// The QEMU died to which the guest had been handed over.
    pub died_as_owner: bool,
    /// The verdict that the source was given.
    told: Option<Verdict>,
    /// Started again: it remembers no offer.
    pub has_forgotten: bool,
    /// It could not write, and is to be started again.
    pub is_stuck: bool,
    /// It does not wait for what it writes: a rule broken on purpose.
    pub writes_late: bool,
    is_corrupt: bool,
}

impl TargetSide {
    pub fn new(is_corrupt: bool, writes_late: bool) -> Self {
        Self {
            session: None,
            record: TargetRecord::Waiting,
            writing: None,
            due: VecDeque::new(),
            events: VecDeque::new(),
            qemu: Qemu::Gone,
            died_as_owner: false,
            told: None,
            has_forgotten: false,
            is_stuck: false,
            writes_late,
            is_corrupt,
        }
    }

    /// Whether the agent takes nothing up, because it waits for its disk.
    pub fn is_deaf(&self) -> bool {
        self.writing.is_some() && !self.writes_late
    }

    /// When its patience ends.
    pub fn due_ms(&self) -> Option<u64> {
        let session = self.session.as_ref().filter(|_| !self.is_deaf());
        session.and_then(Target::poll_timeout)
    }

    /// Whether everything can be offered to it once more.
    pub fn may_be_offered_anew(&self) -> bool {
        self.session.as_ref().is_some_and(Target::may_be_offered_anew)
    }

    /// Takes the offer of a source that starts over, or that it has forgotten: with another QEMU.
    pub fn begin_anew(&mut self, now_ms: u64) -> TargetMessage {
        self.handle(TargetEvent::OfferedAnew, now_ms);
        self.events.retain(|event| *event == TargetEvent::Abandon);
        self.has_forgotten = false;
        self.qemu = Qemu::Paused;
        self.events.push_back(TargetEvent::Prepared);
        TargetMessage::Taken { minor: 0, missing_files: Vec::new(), has_base: false, shelf: None }
    }

    /// Takes the offer.
    pub fn begin(&mut self) -> TargetMessage {
        self.session = Some(Target::begin(TargetLimits::default()));
        self.qemu = Qemu::Paused;
        self.events.push_back(TargetEvent::Prepared);
        TargetMessage::Taken { minor: 0, missing_files: Vec::new(), has_base: false, shelf: None }
    }

    pub fn handle(&mut self, event: TargetEvent, now_ms: u64) {
        if let Some(session) = &mut self.session {
            session.handle(event, now_ms);
        }
    }

    /// Something happens that the agent will take up, if it is there.
    pub fn expect(&mut self, event: TargetEvent) {
        if self.session.is_some() {
            self.events.push_back(event);
        }
    }

    /// Does what the session says, up to a write. Gives what is to be said.
    pub fn perform(&mut self, now_ms: u64, wrong: &mut BTreeSet<Property>) -> Vec<TargetMessage> {
        let mut said = Vec::new();
        loop {
            self.due.extend(self.session.iter_mut().flat_map(Target::poll_actions));
            if self.is_deaf() {
                return said;
            }
            let Some(action) = self.due.pop_front() else { return said };
            match action {
                TargetAction::Send(message) => {
                    self.check_said(&message, wrong);
                    said.push(message);
                }
                TargetAction::Persist(record) => self.write(record, now_ms),
                TargetAction::Run => self.run(wrong),
                TargetAction::Finish(_) => self.session = None,
                other => self.act(&other),
            }
        }
    }

    fn act(&mut self, action: &TargetAction) {
        match action {
            TargetAction::Load => {
                let digests = digests(if self.is_corrupt { 9 } else { 1 });
                self.events.push_back(TargetEvent::Loaded { digests, load_us: 1 });
            }
            TargetAction::Discard => {
                self.qemu = Qemu::Gone;
                self.events.push_back(TargetEvent::Discarded);
            }
            _ => {}
        }
    }

    fn run(&mut self, wrong: &mut BTreeSet<Property>) {
        if !self.record.may_run() {
            wrong.insert(Property::RunByRight);
        }
        self.go_on_if_there();
        self.events.push_back(TargetEvent::Running { resume_us: 1 });
    }

    fn go_on_if_there(&mut self) {
        match self.qemu {
            Qemu::Paused => self.qemu = Qemu::Runs,
            Qemu::Gone => self.died_as_owner = true,
            _ => {}
        }
    }

    fn write(&mut self, record: TargetRecord, now_ms: u64) {
        self.writing = Some(Write(record));
        if self.writes_late {
            self.handle(TargetEvent::Persisted(record), now_ms);
        }
    }

    /// What is being written is durable.
    pub fn written(&mut self, now_ms: u64) {
        let Some(Write(record)) = self.writing.take() else { return };
        self.record = record;
        if !self.writes_late {
            self.handle(TargetEvent::Persisted(record), now_ms);
        }
    }

    /// The agent has no session for this migration: it answers from the record, and a migration that is not decided is
    /// refused first.
    pub fn answer(
        &mut self,
        message: &SourceMessage,
        wrong: &mut BTreeSet<Property>,
    ) -> Option<TargetMessage> {
        if !matches!(message, SourceMessage::Ask { .. }) {
            let reason = "this node does not expect the machine".to_owned();
            return matches!(message, SourceMessage::Offer(_))
                .then_some(TargetMessage::Failed { reason });
        }
        self.record = self.record.after_giving_up();
        let answer = TargetMessage::Verdict(self.record.verdict());
        self.check_said(&answer, wrong);
        Some(answer)
    }

    fn check_said(&mut self, message: &TargetMessage, wrong: &mut BTreeSet<Property>) {
        let verdict = match message {
            TargetMessage::Verdict(Verdict::Waiting) => return,
            TargetMessage::Verdict(verdict) => *verdict,
            TargetMessage::Running { .. } => Verdict::Accepted,
            _ => return,
        };
        if self.told.replace(verdict).is_some_and(|before| before != verdict) {
            wrong.insert(Property::SteadyVerdict);
        }
    }

    /// The agent is started and finds what is durable: what it has accepted runs, and for the source of what is not decided
    /// it waits.
    pub fn restart(&mut self, now_ms: u64) {
        let was_undecided =
            self.record == TargetRecord::Waiting && (self.session.is_some() || self.is_stuck);
        self.stop();
        self.is_stuck = false;
        match self.record {
            TargetRecord::Accepted => self.go_on_if_there(),
            TargetRecord::Waiting if was_undecided => {
                self.has_forgotten = true;
                // Left there, and of no use.
                self.qemu = Qemu::Gone;
                self.session = Some(Target::resume(TargetLimits::default(), now_ms));
            }
            TargetRecord::Waiting => {}
            TargetRecord::Refused => self.qemu = Qemu::Gone,
        }
    }

    /// The rule broken on purpose: it was refused, and here it is again, loaded.
    pub fn restart_as_if_loaded(&mut self, now_ms: u64) {
        self.stop();
        self.record = TargetRecord::Waiting;
        self.qemu = Qemu::Paused;
        self.has_forgotten = false;
        self.session = Some(Target::begin(TargetLimits::default()));
        self.handle(TargetEvent::Prepared, now_ms);
        let sent = SourceMessage::Sent(Sent { digests: digests(1) });
        self.handle(TargetEvent::Message(sent), now_ms);
        self.handle(TargetEvent::Loaded { digests: digests(1), load_us: 1 }, now_ms);
        self.session.iter_mut().for_each(|session| drop(session.poll_actions()));
    }

    fn stop(&mut self) {
        self.session = None;
        self.writing = None;
        self.due.clear();
        self.events.clear();
    }

    /// The write failed: the task ends, and everything stays as the record says.
    pub fn give_in(&mut self) {
        self.stop();
        self.is_stuck = true;
    }

    pub fn qemu_dies(&mut self) {
        self.died_as_owner |= self.record == TargetRecord::Accepted;
        self.qemu = Qemu::Gone;
        self.expect(TargetEvent::Failed { reason: "QEMU died".into() });
    }

    /// Whether nothing more will happen here.
    pub fn is_settled(&self) -> bool {
        self.session.is_none() && self.events.is_empty() && self.writing.is_none() && !self.is_stuck
    }
}
