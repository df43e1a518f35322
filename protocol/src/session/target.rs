//! The target's end of a migration, without I/O.
//!
//! ```text
//! Preparing → Receiving → Loading → Ready ── go ──► Accepting → Starting → Finished
//!     └──────────┴───────────┴────────┴── abort, link lost, failure ──► Refusing → Discarding → Finished
//! ```
//!
//! A loaded machine (`Ready`) outlives a lost link for a while, because the source may have released it: it then asks
//! on a new connection and is told to go on. Before that the link may be away for a while too.
//!
//! Until it has accepted or refused, everything may be offered anew by a source that was restarted, and a target that was
//! restarted itself waits for that: back to `Preparing`.

use super::handover::{TargetRecord, Verdict};
use super::message::{Digests, SourceMessage, TargetMessage};
use crate::limits::cut_reason;

/// Time limits of a target.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TargetLimits {
    /// Milliseconds that a loaded machine waits for *go* after its link was lost.
    pub ready_without_link_ms_max: u64,
    /// Milliseconds for which the source may be away before that.
    pub link_patience_ms: u64,
}

impl Default for TargetLimits {
    /// A minute: longer than an agent takes to restart. A source gives up after a minute too, and is waited for a little
    /// longer.
    fn default() -> Self {
        Self { ready_without_link_ms_max: 60_000, link_patience_ms: 65_000 }
    }
}

/// What happened to the target.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum TargetEvent {
    /// Process, disks and memory are there.
    Prepared,
    /// The source said something on the present connection.
    Message(SourceMessage),
    /// The target's QEMU wrote these bytes to its return path (without the final `SHUT`).
    ReturnPath(Vec<u8>),
    /// Everything that the source sent is applied and loaded, and these are the digests.
    Loaded {
        /// Digests of what the target holds.
        digests: Digests,
        /// Microseconds since `Sent` arrived.
        load_us: u64,
    },
    /// The record is durable.
    Persisted(TargetRecord),
    /// The guest runs (or, for a machine that was moved stopped, is the target's to start).
    Running {
        /// Microseconds since `Go` arrived.
        resume_us: u64,
    },
    /// Nothing of the machine is left here.
    Discarded,
    /// The connection is gone.
    LinkLost,
    /// The source connected again; its first message follows.
    LinkBack,
    /// The source offers everything anew; what was begun here of it is undone.
    OfferedAnew,
    /// Something here failed, such as the target's QEMU.
    Failed {
        /// For a person.
        reason: String,
    },
    /// The coordinator says that the migration is over.
    Abandon,
}

/// What the target shall do.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum TargetAction {
    /// Say this to the source.
    Send(TargetMessage),
    /// Apply and load the rest, then say so.
    Load,
    /// Write this record, then say so.
    Persist(TargetRecord),
    /// Run the guest, then say so.
    Run,
    /// Remove everything of the machine, then say so.
    Discard,
    /// Over.
    Finish(TargetOutcome),
}

/// How it ended for the target.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum TargetOutcome {
    /// The machine is the target's.
    Accepted,
    /// Nothing is left of it.
    Refused {
        /// For a person.
        reason: String,
    },
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum State {
    Preparing,
    Receiving,
    Loading { expected: Digests },
    Ready { linked: bool, deadline_ms: Option<u64> },
    Accepting,
    Starting,
    Refusing { reason: String },
    Discarding { reason: String },
    Finished { verdict: Verdict },
}

/// The target's end of one migration.
#[derive(Debug, Clone)]
pub struct Target {
    limits: TargetLimits,
    state: State,
    /// Until when a source that is away before the machine is loaded may come back.
    link_deadline_ms: Option<u64>,
    actions: Vec<TargetAction>,
}

impl Target {
    /// A migration whose offer was taken.
    pub fn begin(limits: TargetLimits) -> Self {
        Self { limits, state: State::Preparing, link_deadline_ms: None, actions: Vec::new() }
    }

    /// A migration that was undecided when an earlier process of this agent ended. Its source is waited for as after a
    /// lost link, and offers everything anew.
    pub fn resume(limits: TargetLimits, now_ms: u64) -> Self {
        let mut target = Self::begin(limits);
        target.link_lost(now_ms);
        target
    }

    /// The actions that are due, in order; each is handed out once.
    pub fn poll_actions(&mut self) -> Vec<TargetAction> {
        std::mem::take(&mut self.actions)
    }

    /// When [`Target::handle_timeout`] wants to be called, in milliseconds.
    pub fn poll_timeout(&self) -> Option<u64> {
        match self.state {
            State::Ready { deadline_ms, .. } => deadline_ms,
            State::Preparing | State::Receiving | State::Loading { .. } => self.link_deadline_ms,
            _ => None,
        }
    }

    /// Whether the migration is over.
    pub fn is_finished(&self) -> bool {
        matches!(self.state, State::Finished { .. })
    }

    /// Whether everything can be offered anew: nothing is decided.
    pub fn may_be_offered_anew(&self) -> bool {
        matches!(
            self.state,
            State::Preparing | State::Receiving | State::Loading { .. } | State::Ready { .. }
        )
    }

    /// Time has come to `now_ms`.
    pub fn handle_timeout(&mut self, now_ms: u64) {
        if self.poll_timeout().is_some_and(|due_ms| due_ms <= now_ms) {
            self.give_up("the source did not come back in time".to_owned());
        }
    }

    /// Something happened at `now_ms`.
    pub fn handle(&mut self, event: TargetEvent, now_ms: u64) {
        match event {
            TargetEvent::Prepared => self.prepared(),
            TargetEvent::Message(message) => self.message(message),
            TargetEvent::ReturnPath(bytes) => self.send(TargetMessage::ReturnPath(bytes)),
            TargetEvent::Loaded { digests, load_us } => self.loaded(digests, load_us),
            TargetEvent::Persisted(record) => self.persisted(record),
            TargetEvent::Running { resume_us } => self.running(resume_us),
            TargetEvent::Discarded => self.discarded(),
            TargetEvent::LinkLost => self.link_lost(now_ms),
            TargetEvent::LinkBack => self.link_back(),
            TargetEvent::OfferedAnew => self.offered_anew(),
            TargetEvent::Failed { reason } => self.give_up(reason),
            TargetEvent::Abandon => {
                self.give_up("the coordinator gave the migration up".to_owned())
            }
        }
    }

    fn send(&mut self, message: TargetMessage) {
        self.actions.push(TargetAction::Send(message));
    }

    fn prepared(&mut self) {
        if self.state == State::Preparing {
            self.state = State::Receiving;
            self.send(TargetMessage::Prepared);
        }
    }

    fn message(&mut self, message: SourceMessage) {
        match message {
            SourceMessage::Sent(sent) if self.state == State::Receiving => {
                self.state = State::Loading { expected: sent.digests };
                self.actions.push(TargetAction::Load);
            }
            SourceMessage::Go => self.go(),
            SourceMessage::Ask { .. } => self.send(TargetMessage::Verdict(self.verdict())),
            SourceMessage::Abort { reason } => {
                self.give_up(format!("the source gave up: {reason}"));
            }
            SourceMessage::Offer(_) => self.give_up("a second offer on one connection".to_owned()),
            // Resuming is seen to before it comes here.
            SourceMessage::DisksSynchronised
            | SourceMessage::Sent(_)
            | SourceMessage::Resume { .. } => {}
        }
    }

    fn verdict(&self) -> Verdict {
        match self.state {
            State::Starting => Verdict::Accepted,
            State::Discarding { .. } => Verdict::Refused,
            State::Finished { verdict } => verdict,
            _ => Verdict::Waiting,
        }
    }

    fn loaded(&mut self, digests: Digests, load_us: u64) {
        let State::Loading { expected } = &self.state else { return };
        if let Some(difference) = expected.difference(&digests) {
            return self.give_up(format!("verification failed: {difference}"));
        }
        // A source that is away keeps its deadline.
        let (linked, deadline_ms) = (self.link_deadline_ms.is_none(), self.link_deadline_ms);
        self.state = State::Ready { linked, deadline_ms };
        self.send(TargetMessage::Ready { digests, load_us });
    }

    fn go(&mut self) {
        match self.state {
            State::Ready { .. } => {
                self.state = State::Accepting;
                self.actions.push(TargetAction::Persist(TargetRecord::Accepted));
            }
            // Being written already: the answer follows.
            State::Accepting | State::Refusing { .. } => {}
            State::Starting | State::Discarding { .. } | State::Finished { .. } => {
                self.send(TargetMessage::Verdict(self.verdict()));
            }
            State::Preparing | State::Receiving | State::Loading { .. } => {
                self.give_up("the source said go before the machine was here".to_owned());
            }
        }
    }

    fn persisted(&mut self, record: TargetRecord) {
        match (&self.state, record) {
            (State::Accepting, TargetRecord::Accepted) => {
                self.state = State::Starting;
                self.actions.push(TargetAction::Run);
                self.send(TargetMessage::Verdict(Verdict::Accepted));
            }
            (State::Refusing { reason }, TargetRecord::Refused) => {
                let reason = reason.clone();
                self.state = State::Discarding { reason: reason.clone() };
                self.actions.push(TargetAction::Discard);
                self.send(TargetMessage::Verdict(Verdict::Refused));
                self.send(TargetMessage::Failed { reason });
            }
            _ => {}
        }
    }

    fn running(&mut self, resume_us: u64) {
        if self.state == State::Starting {
            self.state = State::Finished { verdict: Verdict::Accepted };
            self.send(TargetMessage::Running { resume_us });
            self.actions.push(TargetAction::Finish(TargetOutcome::Accepted));
        }
    }

    fn discarded(&mut self) {
        if let State::Discarding { reason } = &self.state {
            let reason = reason.clone();
            self.state = State::Finished { verdict: Verdict::Refused };
            self.actions.push(TargetAction::Finish(TargetOutcome::Refused { reason }));
        }
    }

    fn link_lost(&mut self, now_ms: u64) {
        match &mut self.state {
            State::Ready { linked, deadline_ms } => {
                *linked = false;
                *deadline_ms = Some(now_ms + self.limits.ready_without_link_ms_max);
            }
            State::Preparing | State::Receiving | State::Loading { .. } => {
                if self.limits.link_patience_ms == 0 {
                    return self.give_up("the connection to the source was lost".to_owned());
                }
                self.link_deadline_ms = Some(now_ms + self.limits.link_patience_ms);
            }
            _ => {}
        }
    }

    fn link_back(&mut self) {
        self.link_deadline_ms = None;
        if let State::Ready { linked, deadline_ms } = &mut self.state {
            *linked = true;
            *deadline_ms = None;
        }
    }

    fn offered_anew(&mut self) {
        if self.may_be_offered_anew() {
            self.link_deadline_ms = None;
            self.state = State::Preparing;
        }
    }

    fn give_up(&mut self, reason: String) {
        // What may be offered anew is what is not decided.
        if self.may_be_offered_anew() {
            // It may be the source's, in as many words as a message holds.
            self.state = State::Refusing { reason: cut_reason(reason) };
            self.actions.push(TargetAction::Persist(TargetRecord::Refused));
        }
    }
}
