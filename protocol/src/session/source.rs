//! The source's end of a migration, without I/O.
//!
//! ```text
//! Connecting → Offering → Preparing → Synchronising → Copying → Switching → Completing → Releasing
//!                                                                                            │
//!        (any of these: link lost, refused, cancelled, deadline) → Retreating → Failed       ▼
//!                                                                     ▲      Released ⇄ (ask again)
//!                                                                     │           │
//!                                                                     └ refused ──┤
//!                                                             Finished ◄ Removing ◄ accepted
//!
//! this agent restarted, or the target's (Preparing to Completing) → StartingOver → Connecting
//! ```
//!
//! Until the release is durable the source may go back at any moment. From then on only the target's durable verdict
//! decides, and a lost link is answered by asking again until it is heard.
//!
//! Once the target has taken the offer, a link that is lost before the release may come back: the migration stays where
//! it is for as long as [`SourceLimits::link_patience_ms`], and what either side says meanwhile is said when it is back.
//! That is whoever performs the actions' to see to.
//!
//! If either agent was restarted instead, before the release, nobody knows any more what was said and sent. Then the
//! migration starts over under the same name: what was begun here is undone, and everything is offered again to a target
//! that says what it has. Until then the link may be away for as long as at any other time.
//!
//! Where there are no disks to wait for, memory begins to move while the target still prepares. The guest is stopped
//! only when [`SourceAction::AllowSwitchover`] has been given, which needs a target that is prepared.

use super::handover::{SourceRecord, Verdict};
use super::message::{Digests, MemoryOffer, Offer, SourceMessage, TargetMessage};
use crate::ids::{MigrationId, VmId};
use crate::limits::cut_reason;
use crate::migration::MigrationPhase;

/// Time limits of a source.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SourceLimits {
    /// Milliseconds that the guest may stand still before the source takes it back.
    pub switchover_ms_max: u64,
    /// Milliseconds between two attempts to reach the target again.
    pub ask_interval_ms: u64,
    /// Milliseconds for which a link may be away before the release; 0 gives up at once.
    pub link_patience_ms: u64,
    /// How often the migration may start over because one of the agents was restarted.
    pub restarts_max: u32,
}

impl Default for SourceLimits {
    /// 10 s of standing still: far beyond a normal switchover, below what clients of the guest take for dead. A minute
    /// without a link: what a switch takes to start again, and a QEMU can wait. Eight restarts: more than somebody who
    /// tries out a new agent makes, fewer than one that dies of this very migration.
    fn default() -> Self {
        Self {
            switchover_ms_max: 10_000,
            ask_interval_ms: 500,
            link_patience_ms: 60_000,
            restarts_max: 8,
        }
    }
}

/// What happened to the source.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum SourceEvent {
    /// The control stream to the target is open; if it was before, both sides know what the other has heard.
    Connected,
    /// The target said something.
    Message(TargetMessage),
    /// The connection to the target is gone, or could not be made.
    LinkLost {
        /// For a person.
        reason: String,
    },
    /// The target is there again and expects the machine, but has forgotten what it was offered and sent.
    Forgotten,
    /// What was begun here is undone, and this is to be offered now.
    StartedOver(Box<Offer>),
    /// All disks are copied and kept in step.
    DisksSynchronised,
    /// The guest was stopped for the switchover.
    GuestStopped,
    /// Memory and disks are sent whole, and these are their digests; the device state follows on its own stream.
    AllSent(Digests),
    /// QEMU has completed its migration: it will not run the guest unless it is told to.
    QemuCompleted,
    /// Something here failed.
    Failed {
        /// For a person.
        reason: String,
    },
    /// The record is durable.
    Persisted(SourceRecord),
    /// The guest is back in its earlier state.
    TakenBack,
    /// Nothing of the machine is left here.
    Removed,
    /// Somebody asked to give the migration up.
    Cancel,
}

/// What the source shall do.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum SourceAction {
    /// Say this to the target.
    Send(SourceMessage),
    /// Send the files with these hashes: the target cannot prepare without them.
    SendFiles {
        /// Hashes of the files that the target lacks.
        missing_files: Vec<[u8; 32]>,
    },
    /// Copy the disks until they are in step, then say so (at once if there are none).
    SynchroniseDisks,
    /// Have QEMU send memory (a cold migration: finish the disks and compute their digests).
    CopyMemory,
    /// From now on QEMU may stop the guest when little is left to send.
    AllowSwitchover,
    /// Give these bytes to QEMU's return path.
    GiveReturnPath(Vec<u8>),
    /// Tell QEMU that the target has everything (`SHUT 0`), so that it completes.
    GiveShut,
    /// Write this record, then say so.
    Persist(SourceRecord),
    /// Write how often that was, so that a migration of which its own agent dies comes to an end. Then undo what was
    /// begun, as for giving up, but keep the machine for this migration, and say what to offer. What is said and sent
    /// from now on has nothing to do with what was before.
    StartOver {
        /// How often the migration has started over, with this one.
        restarts: u32,
    },
    /// Give up: undo the migration and have the guest in its earlier state, then say so. This is how it will have ended.
    TakeBack(SourceOutcome),
    /// Connect to the target again.
    Connect,
    /// Remove the machine here, then say so.
    Remove,
    /// Over.
    Finish(SourceOutcome),
}

/// How it ended for the source.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum SourceOutcome {
    /// The machine is at the target.
    Completed,
    /// The machine never left, or came back.
    Failed {
        /// For a person.
        reason: String,
    },
    /// The machine never left because somebody asked.
    Cancelled,
}

/// Whether a migration can still be given up.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the machine was handed over already")]
pub struct TooLate;

#[derive(Debug, Clone, PartialEq, Eq)]
enum State {
    StartingOver,
    Connecting,
    Offering,
    /// `copies`: memory is on its way already.
    Preparing {
        copies: bool,
    },
    Synchronising {
        copies: bool,
    },
    Copying,
    Switching {
        deadline_ms: u64,
        ours: Option<Digests>,
    },
    Completing {
        deadline_ms: u64,
    },
    Releasing {
        linked: bool,
    },
    Released {
        connected: bool,
        ask_at_ms: u64,
    },
    Reclaiming {
        reason: String,
    },
    Confirming,
    Removing,
    Retreating {
        outcome: SourceOutcome,
    },
    Finished,
}

impl State {
    /// The phase as the world sees it; `None` on the way back.
    fn phase(&self) -> Option<MigrationPhase> {
        match self {
            Self::Connecting | Self::Offering => Some(MigrationPhase::Validate),
            Self::Preparing { .. } => Some(MigrationPhase::Prepare),
            Self::Synchronising { .. } => Some(MigrationPhase::DiskSync),
            Self::Copying => Some(MigrationPhase::DataSync),
            Self::Switching { .. } | Self::Completing { .. } => Some(MigrationPhase::Switchover),
            Self::Releasing { .. } | Self::Released { .. } | Self::Confirming => {
                Some(MigrationPhase::Verify)
            }
            Self::Removing => Some(MigrationPhase::Cleanup),
            Self::StartingOver
            | Self::Reclaiming { .. }
            | Self::Retreating { .. }
            | Self::Finished => None,
        }
    }

    /// Whether the target has taken the offer, and nothing is released.
    fn is_under_way(&self) -> bool {
        matches!(
            self,
            Self::Preparing { .. }
                | Self::Synchronising { .. }
                | Self::Copying
                | Self::Switching { .. }
                | Self::Completing { .. }
        )
    }
}

/// The link before the release.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Link {
    Up,
    /// It may come back until `deadline_ms`; the next attempt is due at `retry_at_ms`.
    Away {
        deadline_ms: u64,
        retry_at_ms: u64,
    },
}

/// The source's end of one migration.
#[derive(Debug, Clone)]
pub struct Source {
    vm: VmId,
    migration: MigrationId,
    offer: Option<Offer>,
    copies_early: bool,
    /// It is not the first time that this is offered: the target may be on its way back, too.
    is_anew: bool,
    restarts: u32,
    limits: SourceLimits,
    link: Link,
    state: State,
    phase: MigrationPhase,
    actions: Vec<SourceAction>,
}

impl Source {
    /// A migration that begins. The first action is to connect.
    pub fn begin(offer: Offer, limits: SourceLimits) -> Self {
        Self {
            vm: offer.vm,
            migration: offer.migration,
            copies_early: offer.disks.is_empty()
                && matches!(offer.memory, MemoryOffer::Pages { .. }),
            offer: Some(offer),
            is_anew: false,
            restarts: 0,
            limits,
            link: Link::Up,
            state: State::Connecting,
            phase: MigrationPhase::Validate,
            actions: vec![SourceAction::Connect],
        }
    }

    /// A migration that an earlier process of this agent left behind with this record, after it had started over so
    /// often.
    pub fn resume(
        vm: VmId,
        migration: MigrationId,
        record: SourceRecord,
        restarts: u32,
        limits: SourceLimits,
    ) -> Self {
        let mut source = Self {
            vm,
            migration,
            offer: None,
            copies_early: false,
            is_anew: true,
            restarts,
            limits,
            link: Link::Up,
            state: State::StartingOver,
            phase: MigrationPhase::Validate,
            actions: Vec::new(),
        };
        source.take_up(record);
        source.phase = source.state.phase().unwrap_or(source.phase);
        source
    }

    fn take_up(&mut self, record: SourceRecord) {
        match record {
            SourceRecord::Holds => self.start_over(),
            SourceRecord::Released => {
                self.state = State::Released { connected: false, ask_at_ms: u64::MAX };
                self.actions.push(SourceAction::Connect);
            }
            SourceRecord::Confirmed => {
                self.state = State::Removing;
                self.actions.push(SourceAction::Remove);
            }
        }
    }

    /// The actions that are due, in order; each is handed out once.
    pub fn poll_actions(&mut self) -> Vec<SourceAction> {
        std::mem::take(&mut self.actions)
    }

    /// When [`Source::handle_timeout`] wants to be called, in milliseconds of the clock of the other calls.
    pub fn poll_timeout(&self) -> Option<u64> {
        self.state_due_ms().into_iter().chain(self.link_due_ms()).min()
    }

    fn link_due_ms(&self) -> Option<u64> {
        match self.link {
            Link::Up => None,
            Link::Away { deadline_ms, retry_at_ms } => Some(deadline_ms.min(retry_at_ms)),
        }
    }

    fn state_due_ms(&self) -> Option<u64> {
        match &self.state {
            State::Switching { deadline_ms, .. } | State::Completing { deadline_ms } => {
                Some(*deadline_ms)
            }
            State::Released { connected: false, ask_at_ms } => Some(*ask_at_ms),
            _ => None,
        }
    }

    /// Whether the machine may still come back at this side's will.
    ///
    /// # Errors
    /// [`TooLate`] once the release may be durable.
    pub fn can_cancel(&self) -> Result<(), TooLate> {
        let late = matches!(
            self.state,
            State::Releasing { .. }
                | State::Released { .. }
                | State::Confirming
                | State::Removing
                | State::Finished
        );
        if late { Err(TooLate) } else { Ok(()) }
    }

    /// The migration.
    pub fn migration(&self) -> MigrationId {
        self.migration
    }

    /// The phase that was reached; giving up does not change it.
    pub fn phase(&self) -> MigrationPhase {
        self.phase
    }

    /// Whether the next connection goes on where the last one ended; if not, it begins with an offer or a question.
    pub fn resumes_link(&self) -> bool {
        matches!(self.link, Link::Away { .. }) && self.state.is_under_way()
    }

    /// Whether the migration is over.
    pub fn is_finished(&self) -> bool {
        self.state == State::Finished
    }

    /// Time has come to `now_ms`.
    pub fn handle_timeout(&mut self, now_ms: u64) {
        self.link_timeout(now_ms);
        if self.state_due_ms().is_none_or(|due_ms| due_ms > now_ms) {
            return;
        }
        if let State::Released { ask_at_ms, .. } = &mut self.state {
            // One attempt at a time: the next is due when this one has failed.
            *ask_at_ms = u64::MAX;
            self.actions.push(SourceAction::Connect);
            return;
        }
        let seconds = self.limits.switchover_ms_max as f64 / 1000.0;
        self.retreat(SourceOutcome::Failed {
            reason: format!("the switchover took longer than {seconds} s"),
        });
    }

    fn link_timeout(&mut self, now_ms: u64) {
        let Link::Away { deadline_ms, retry_at_ms } = &mut self.link else { return };
        if *deadline_ms <= now_ms {
            let seconds = self.limits.link_patience_ms as f64 / 1000.0;
            return self
                .fail(format!("the link to the target did not come back within {seconds} s"));
        }
        if *retry_at_ms <= now_ms {
            // One attempt at a time: the next is due when this one has failed.
            *retry_at_ms = u64::MAX;
            self.actions.push(SourceAction::Connect);
        }
    }

    /// Something happened at `now_ms`.
    pub fn handle(&mut self, event: SourceEvent, now_ms: u64) {
        match event {
            SourceEvent::Connected => self.connected(),
            SourceEvent::Message(message) => self.message(message),
            SourceEvent::LinkLost { reason } => self.link_lost(reason, now_ms),
            SourceEvent::Forgotten => self.forgotten(),
            SourceEvent::StartedOver(offer) => self.started_over(*offer),
            SourceEvent::DisksSynchronised => self.disks_synchronised(),
            SourceEvent::GuestStopped => self.guest_stopped(now_ms),
            SourceEvent::AllSent(digests) => self.all_sent(digests, now_ms),
            SourceEvent::QemuCompleted => self.qemu_completed(),
            SourceEvent::Failed { reason } => self.fail(reason),
            SourceEvent::Persisted(record) => self.persisted(record, now_ms),
            SourceEvent::TakenBack => self.taken_back(),
            SourceEvent::Removed => self.removed(),
            SourceEvent::Cancel => {
                if self.can_cancel().is_ok() {
                    self.retreat(SourceOutcome::Cancelled);
                }
            }
        }
        self.phase = self.state.phase().unwrap_or(self.phase).max(self.phase);
    }

    fn send(&mut self, message: SourceMessage) {
        self.actions.push(SourceAction::Send(message));
    }

    fn connected(&mut self) {
        match &mut self.state {
            State::Connecting => {
                self.link = Link::Up;
                if let Some(offer) = self.offer.clone() {
                    self.state = State::Offering;
                    self.send(SourceMessage::Offer(offer));
                }
            }
            State::Released { connected, .. } => {
                *connected = true;
                self.send(SourceMessage::Ask { vm: self.vm, migration: self.migration });
            }
            _ => self.link = Link::Up,
        }
    }

    fn forgotten(&mut self) {
        if self.state.is_under_way() {
            self.start_over();
        }
    }

    fn start_over(&mut self) {
        if self.restarts >= self.limits.restarts_max {
            let times = self.limits.restarts_max + 1;
            return self.fail(format!(
                "agents were restarted in the middle of it {times} times: perhaps one dies of it"
            ));
        }
        self.restarts += 1;
        self.is_anew = true;
        self.link = Link::Up;
        self.state = State::StartingOver;
        self.actions.push(SourceAction::StartOver { restarts: self.restarts });
    }

    fn started_over(&mut self, offer: Offer) {
        if self.state == State::StartingOver {
            // What the target has is known when it is prepared, not before.
            self.copies_early = false;
            self.offer = Some(offer);
            self.state = State::Connecting;
            self.actions.push(SourceAction::Connect);
        }
    }

    fn message(&mut self, message: TargetMessage) {
        match message {
            TargetMessage::Taken { missing_files, .. } if self.state == State::Offering => {
                // A page of a file that the target lacks cannot be sent as one.
                let copies = self.copies_early && missing_files.is_empty();
                self.state = State::Preparing { copies };
                self.actions.push(SourceAction::SendFiles { missing_files });
                if copies {
                    self.actions.push(SourceAction::CopyMemory);
                }
            }
            TargetMessage::Prepared => self.prepared(),
            TargetMessage::ReturnPath(bytes) if self.moves_memory() => {
                self.actions.push(SourceAction::GiveReturnPath(bytes));
            }
            TargetMessage::Ready { digests, .. } => self.ready(&digests),
            TargetMessage::Verdict(verdict) => self.verdict(verdict),
            TargetMessage::Running { .. } => self.verdict(Verdict::Accepted),
            TargetMessage::Failed { reason } => self.fail(format!("the target gave up: {reason}")),
            _ => {}
        }
    }

    fn prepared(&mut self) {
        if let State::Preparing { copies } = self.state {
            self.state = State::Synchronising { copies };
            self.actions.push(SourceAction::SynchroniseDisks);
        }
    }

    fn moves_memory(&self) -> bool {
        matches!(
            self.state,
            State::Preparing { copies: true }
                | State::Synchronising { copies: true }
                | State::Copying
                | State::Switching { .. }
        )
    }

    fn disks_synchronised(&mut self) {
        if let State::Synchronising { copies } = self.state {
            self.state = State::Copying;
            self.send(SourceMessage::DisksSynchronised);
            if !copies {
                self.actions.push(SourceAction::CopyMemory);
            }
            self.actions.push(SourceAction::AllowSwitchover);
        }
    }

    fn guest_stopped(&mut self, now_ms: u64) {
        if self.state == State::Copying {
            let deadline_ms = now_ms + self.limits.switchover_ms_max;
            self.state = State::Switching { deadline_ms, ours: None };
        }
    }

    fn all_sent(&mut self, digests: Digests, now_ms: u64) {
        // A cold migration has no guest to stop.
        self.guest_stopped(now_ms);
        if let State::Switching { ours, .. } = &mut self.state {
            *ours = Some(digests.clone());
            self.send(SourceMessage::Sent(super::message::Sent { digests }));
        }
    }

    fn ready(&mut self, theirs: &Digests) {
        let State::Switching { deadline_ms, ours: Some(ours) } = &self.state else { return };
        if let Some(difference) = ours.difference(theirs) {
            return self.fail(format!("verification failed: {difference}"));
        }
        self.state = State::Completing { deadline_ms: *deadline_ms };
        self.actions.push(SourceAction::GiveShut);
    }

    fn qemu_completed(&mut self) {
        if let State::Completing { .. } = self.state {
            let linked = self.link == Link::Up;
            self.link = Link::Up;
            self.state = State::Releasing { linked };
            self.actions.push(SourceAction::Persist(SourceRecord::Released));
        }
    }

    fn persisted(&mut self, record: SourceRecord, now_ms: u64) {
        match (&self.state, record) {
            (State::Releasing { linked }, SourceRecord::Released) => {
                let linked = *linked;
                self.state = State::Released { connected: linked, ask_at_ms: now_ms };
                if linked {
                    self.send(SourceMessage::Go);
                }
            }
            (State::Reclaiming { reason }, SourceRecord::Holds) => {
                let outcome = SourceOutcome::Failed { reason: reason.clone() };
                self.state = State::Retreating { outcome: outcome.clone() };
                self.actions.push(SourceAction::TakeBack(outcome));
            }
            (State::Confirming, SourceRecord::Confirmed) => {
                self.state = State::Removing;
                self.actions.push(SourceAction::Remove);
            }
            _ => {}
        }
    }

    fn verdict(&mut self, verdict: Verdict) {
        if !matches!(self.state, State::Released { .. }) {
            return;
        }
        match verdict {
            Verdict::Waiting => self.send(SourceMessage::Go),
            Verdict::Accepted => {
                self.state = State::Confirming;
                self.actions.push(SourceAction::Persist(SourceRecord::Confirmed));
            }
            Verdict::Refused => {
                let reason = "the target refused the machine at the last moment".to_owned();
                self.state = State::Reclaiming { reason };
                self.actions.push(SourceAction::Persist(SourceRecord::Holds));
            }
        }
    }

    fn link_lost(&mut self, reason: String, now_ms: u64) {
        match &mut self.state {
            // The release is being written: the target is asked on the next connection.
            State::Releasing { linked } => *linked = false,
            State::Released { connected, ask_at_ms } => {
                *connected = false;
                *ask_at_ms = now_ms + self.limits.ask_interval_ms;
            }
            _ => self.link_lost_early(reason, now_ms),
        }
    }

    fn link_lost_early(&mut self, reason: String, now_ms: u64) {
        let offers_anew = self.is_anew && matches!(self.state, State::Connecting | State::Offering);
        let may_wait = offers_anew || self.state.is_under_way();
        if !may_wait || self.limits.link_patience_ms == 0 {
            return self.fail(format!("the connection to the target was lost: {reason}"));
        }
        let deadline_ms = match self.link {
            Link::Up => now_ms + self.limits.link_patience_ms,
            Link::Away { deadline_ms, .. } => deadline_ms,
        };
        if offers_anew {
            // Whether it was heard or not, the target takes it once more.
            self.state = State::Connecting;
        }
        let retry_at_ms = now_ms + self.limits.ask_interval_ms;
        self.link = Link::Away { deadline_ms, retry_at_ms };
    }

    fn fail(&mut self, reason: String) {
        if self.can_cancel().is_ok() {
            // Much of what fails here is told by the target, in as many words as a message holds.
            self.retreat(SourceOutcome::Failed { reason: cut_reason(reason) });
        }
    }

    fn retreat(&mut self, outcome: SourceOutcome) {
        if matches!(self.state, State::Retreating { .. } | State::Reclaiming { .. }) {
            return;
        }
        let reason = match &outcome {
            SourceOutcome::Failed { reason } => reason.clone(),
            _ => "cancelled".to_owned(),
        };
        let target_knows = self.state != State::Connecting;
        self.state = State::Retreating { outcome: outcome.clone() };
        self.link = Link::Up;
        // The guest first: it may stand still, and the link may be what is broken.
        self.actions.push(SourceAction::TakeBack(outcome));
        if target_knows {
            self.send(SourceMessage::Abort { reason });
        }
    }

    fn taken_back(&mut self) {
        if let State::Retreating { outcome } = &self.state {
            let outcome = outcome.clone();
            self.state = State::Finished;
            self.actions.push(SourceAction::Finish(outcome));
        }
    }

    fn removed(&mut self) {
        if self.state == State::Removing {
            self.state = State::Finished;
            self.actions.push(SourceAction::Finish(SourceOutcome::Completed));
        }
    }
}
