//! A source and a target session with a simulated QEMU and disk on each side and a link between them. What happens next
//! is chosen by whoever drives it: at random in [`crate::pair`], everything in [`crate::model`].

mod conditions;
mod link;
mod moves;
mod property;
mod source_side;
mod target_side;

use std::collections::BTreeSet;

use novacron_protocol::session::handover::{SourceRecord, TargetRecord, Verdict};
use novacron_protocol::session::message::{Digests, SourceMessage, TargetMessage};
use novacron_protocol::session::source::{SourceEvent, SourceLimits, SourceOutcome};
use novacron_protocol::session::target::TargetEvent;

pub use conditions::{BrokenRule, Conditions};
use link::Link;
pub use moves::Move;
pub use property::Property;
use source_side::SourceSide;
pub use source_side::offer;
use target_side::TargetSide;

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

/// A record on its way to the disk: lost if the agent dies now.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Write<R>(pub R);

/// All there is.
#[derive(Debug, Clone)]
pub struct World {
    now_ms: u64,
    source: SourceSide,
    target: TargetSide,
    link: Link,
    /// The target was told to expect the guest, and the source came.
    has_begun: bool,
    /// The target took the offer, and either end knows what it said to the other since.
    is_taken: bool,
    conditions: Conditions,
    wrong: BTreeSet<Property>,
}

fn digests(byte: u8) -> Digests {
    Digests { memory: Vec::new(), disks: vec![[byte; 16]] }
}

impl World {
    /// A migration that begins.
    pub fn new(conditions: Conditions) -> Self {
        let writes_late = |rule| conditions.broken == Some(rule);
        let limits = SourceLimits::default();
        let restarts_max = if conditions.restarts_once { 1 } else { limits.restarts_max };
        let limits = SourceLimits { restarts_max, ..limits };
        let mut world = Self {
            now_ms: 0,
            source: SourceSide::new(limits, writes_late(BrokenRule::SourceWritesLate)),
            target: TargetSide::new(
                conditions.is_corrupt,
                writes_late(BrokenRule::TargetWritesLate),
            ),
            link: Link::new(conditions.is_wild),
            has_begun: false,
            is_taken: false,
            conditions,
            wrong: BTreeSet::new(),
        };
        world.perform();
        world
    }

    /// Whether the target has taken the offer, as the source knows.
    pub fn was_taken(&self) -> bool {
        self.source.copies
    }

    /// Whether the source has released the guest, or is about to.
    pub fn may_be_released(&self) -> bool {
        self.source.record != SourceRecord::Holds || self.source.qemu == Qemu::Completed
    }

    /// How it ended for the source.
    pub fn outcome(&self) -> Option<&SourceOutcome> {
        self.source.outcome.as_ref()
    }

    /// What was violated on the way here.
    pub fn wrong(&self) -> &BTreeSet<Property> {
        &self.wrong
    }

    /// Whether this can happen now.
    pub fn allows(&self, what: Move) -> bool {
        let (source, target, link) = (&self.source, &self.target, &self.link);
        let is_open = source.outcome.is_none() && !source.is_stuck;
        let is_wild = self.conditions.is_wild;
        match what {
            Move::ToTarget => link.is_up && !link.to_target.is_empty() && !target.is_deaf(),
            Move::ToSource => link.is_up && !link.to_source.is_empty() && !source.is_deaf(),
            Move::AtSource => !source.events.is_empty() && !source.is_deaf(),
            Move::AtTarget => !target.events.is_empty() && !target.is_deaf(),
            Move::SourceWrites => source.writing.is_some(),
            Move::TargetWrites => target.writing.is_some(),
            Move::SourceWriteFails => source.writing.is_some() && !source.writes_late,
            Move::TargetWriteFails => target.writing.is_some() && !target.writes_late,
            Move::Reach | Move::Miss => source.dials,
            Move::Wait => !self.is_busy() && !self.settled(),
            Move::Hurry => self.is_busy() && self.due_ms().is_some(),
            Move::Cut => link.is_up,
            Move::CrashSource | Move::Cancel => is_open,
            Move::CrashTarget | Move::Abandon => target.session.is_some(),
            Move::RestartSource => source.is_stuck,
            Move::RestartTarget => target.is_stuck,
            Move::KillSourceQemu => source.qemu != Qemu::Gone && source.outcome.is_none(),
            Move::KillTargetQemu => target.qemu != Qemu::Gone,
            Move::AgainToTarget => is_wild && self.allows(Move::ToTarget),
            Move::AgainToSource => is_wild && self.allows(Move::ToSource),
            Move::LateToTarget => is_wild && link.to_target.len() > 1,
            Move::LateToSource => is_wild && link.to_source.len() > 1,
        }
    }

    /// Lets it happen, and looks whether what must always be so still is.
    pub fn happen(&mut self, what: Move) {
        match what {
            Move::ToTarget => drop(self.deliver_to_target()),
            Move::ToSource => drop(self.deliver_to_source()),
            Move::AgainToTarget => {
                let again = self.deliver_to_target();
                self.link.to_target.extend(again);
            }
            Move::AgainToSource => {
                let again = self.deliver_to_source();
                self.link.to_source.extend(again);
            }
            Move::LateToTarget => self.link.delay_to_target(),
            Move::LateToSource => self.link.delay_to_source(),
            Move::AtSource => self.source.take_up_event(self.now_ms),
            Move::AtTarget => self.target_event(),
            Move::SourceWrites => self.source.written(self.now_ms),
            Move::TargetWrites => self.target.written(self.now_ms),
            Move::Reach => self.reach(),
            Move::Miss => self.miss(),
            Move::Wait | Move::Hurry => self.pass_time(),
            Move::Cancel => self.source.events.push_back(SourceEvent::Cancel),
            Move::Abandon => self.target.expect(TargetEvent::Abandon),
            other => self.break_something(other),
        }
        self.perform();
        self.check();
    }

    fn break_something(&mut self, what: Move) {
        match what {
            Move::Cut => self.cut_link(),
            Move::CrashSource | Move::RestartSource => self.crash_source(),
            Move::CrashTarget | Move::RestartTarget => self.crash_target(),
            Move::SourceWriteFails => {
                self.cut_link();
                self.source.give_in();
            }
            Move::TargetWriteFails => {
                self.cut_link();
                self.target.give_in();
            }
            Move::KillSourceQemu => self.source.qemu_dies(),
            Move::KillTargetQemu => self.target.qemu_dies(),
            _ => {}
        }
    }

    /// What must be so at every moment.
    fn check(&mut self) {
        if self.source.qemu == Qemu::Runs && self.target.qemu == Qemu::Runs {
            self.wrong.insert(Property::OneCopy);
        }
        if self.source.record.may_run() && self.target.record.may_run() {
            self.wrong.insert(Property::OneOwner);
        }
        if self.settled() && !self.has_ended_well() {
            self.wrong.insert(Property::EndsWell);
        }
    }

    /// Both sides do what is due; what they say is on its way.
    fn perform(&mut self) {
        let said = self.source.perform(self.now_ms, &mut self.wrong);
        if std::mem::take(&mut self.source.starts_over) {
            self.hang_up();
        }
        if self.link.is_up || self.is_heard_later() {
            self.link.to_target.extend(said);
        }
        let said = self.target.perform(self.now_ms, &mut self.wrong);
        if self.link.is_up || self.is_heard_later() {
            self.link.to_source.extend(said);
        }
    }

    fn miss(&mut self) {
        self.source.dials = false;
        let reason = "unreachable".to_owned();
        self.source.events.push_back(SourceEvent::LinkLost { reason });
    }

    /// A target that has nothing of a migration that would go on says so, and one that was restarted that it has
    /// forgotten it.
    fn reach(&mut self) {
        self.source.dials = false;
        let resumes = self.source.session.resumes_link();
        if resumes && self.target.session.is_none() {
            let reason = "this node does not expect the machine".to_owned();
            return self.source.events.push_back(SourceEvent::Failed { reason });
        }
        if resumes && self.target.has_forgotten {
            return self.source.events.push_back(SourceEvent::Forgotten);
        }
        self.link.is_up = true;
        // Otherwise the first message, which says that it goes on, has been seen to already.
        self.link.is_fresh = !resumes;
        self.source.events.push_back(SourceEvent::Connected);
        if resumes {
            self.target.expect(TargetEvent::LinkBack);
        } else {
            self.link.forget();
        }
    }

    /// The source cuts the link and begins everything anew, whatever was on the way.
    fn hang_up(&mut self) {
        if std::mem::take(&mut self.link.is_up) && !self.link.is_fresh {
            self.target.expect(TargetEvent::LinkLost);
        }
        self.link.forget();
        self.is_taken = false;
    }

    /// A message reaches the target's agent: it goes to the session, or, without one, is answered from the record if it is
    /// the first of its connection. Otherwise the source is turned away.
    fn deliver_to_target(&mut self) -> Option<SourceMessage> {
        let message = self.link.to_target.pop_front()?;
        let is_first = std::mem::take(&mut self.link.is_fresh);
        if is_first && matches!(message, SourceMessage::Offer(_)) {
            self.offer(&message);
        } else if self.target.session.is_some() {
            if is_first {
                self.target.handle(TargetEvent::LinkBack, self.now_ms);
            }
            self.target.handle(TargetEvent::Message(message.clone()), self.now_ms);
        } else if is_first {
            let answer = self.target.answer(&message, &mut self.wrong);
            self.link.to_source.extend(answer);
        } else {
            self.cut_link();
        }
        Some(message)
    }

    /// An offer is the first message of a connection.
    fn offer(&mut self, message: &SourceMessage) {
        let taken = if self.target.may_be_offered_anew() {
            Some(self.target.begin_anew(self.now_ms))
        } else if self.target.record == TargetRecord::Waiting && !self.has_begun {
            Some(self.target.begin())
        } else {
            None
        };
        if taken.is_some() {
            (self.has_begun, self.is_taken) = (true, true);
        }
        let answer = taken.or_else(|| self.target.answer(message, &mut self.wrong));
        self.link.to_source.extend(answer);
    }

    fn deliver_to_source(&mut self) -> Option<TargetMessage> {
        let message = self.link.to_source.pop_front()?;
        self.source.session.handle(SourceEvent::Message(message.clone()), self.now_ms);
        Some(message)
    }

    fn target_event(&mut self) {
        if let Some(event) = self.target.events.pop_front() {
            self.target.handle(event, self.now_ms);
        }
    }

    fn cut_link(&mut self) {
        if !std::mem::take(&mut self.link.is_up) {
            return;
        }
        if !self.is_heard_later() {
            self.link.forget();
        }
        if !self.source.is_stuck {
            self.source.events.push_back(SourceEvent::LinkLost { reason: "cut".into() });
        }
        if !self.link.is_fresh {
            self.target.expect(TargetEvent::LinkLost);
        }
    }

    /// Whether what is said without a link is said when there is one again: an offer was taken and nothing released.
    fn is_heard_later(&self) -> bool {
        self.is_taken && self.source.record == SourceRecord::Holds
    }

    fn crash_source(&mut self) {
        self.cut_link();
        self.source.restart();
        self.link.forget();
    }

    fn crash_target(&mut self) {
        self.cut_link();
        self.link.forget();
        let forgets = self.conditions.broken == Some(BrokenRule::RefusalForgotten);
        if forgets && self.target.record == TargetRecord::Refused {
            self.target.restart_as_if_loaded(self.now_ms);
        } else {
            self.target.restart(self.now_ms);
        }
    }

    fn is_busy(&self) -> bool {
        let (source, target) = (&self.source, &self.target);
        source.dials
            || source.is_stuck
            || target.is_stuck
            || source.writing.is_some()
            || target.writing.is_some()
            || !source.events.is_empty()
            || !target.events.is_empty()
            || self.link.is_busy()
    }

    fn due_ms(&self) -> Option<u64> {
        self.source.due_ms().into_iter().chain(self.target.due_ms()).min()
    }

    /// Until the next patience ends.
    fn pass_time(&mut self) {
        let Some(due_ms) = self.due_ms() else {
            // Nobody waits for anything but the other side: the coordinator, told that the source gave up, says so.
            if self.source.outcome.is_some() {
                self.target.expect(TargetEvent::Abandon);
            }
            return;
        };
        self.now_ms = self.now_ms.max(due_ms);
        if self.source.due_ms().is_some_and(|due_ms| due_ms <= self.now_ms) {
            self.source_timeout();
        }
        if let Some(session) =
            self.target.session.as_mut().filter(|_| self.target.writing.is_none())
        {
            session.handle_timeout(self.now_ms);
        }
    }

    fn source_timeout(&mut self) {
        let runs_out = self.conditions.broken == Some(BrokenRule::ReleaseRunsOut);
        if runs_out && self.source.record == SourceRecord::Released {
            self.source.take_back_released();
        } else {
            self.source.session.handle_timeout(self.now_ms);
        }
    }

    /// Whether nothing more will happen.
    pub fn settled(&self) -> bool {
        self.source.outcome.is_some() && self.source.writing.is_none() && self.target.is_settled()
    }

    /// Whether one copy runs and nothing is left at the other side, unless the QEMU that had the guest died.
    fn has_ended_well(&self) -> bool {
        let (source, target) = (&self.source, &self.target);
        match self.outcome() {
            Some(SourceOutcome::Completed) => {
                source.qemu == Qemu::Gone
                    && target.record.verdict() == Verdict::Accepted
                    && (target.qemu == Qemu::Runs || target.died_as_owner)
            }
            Some(SourceOutcome::Failed { .. } | SourceOutcome::Cancelled) => {
                (source.qemu == Qemu::Runs || source.qemu_died) && target.qemu == Qemu::Gone
            }
            None => false,
        }
    }
}
