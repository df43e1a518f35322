//! Memory on its way out: when QEMU begins, what its threads say, and what it is told.

use novacron_protocol::migration::MigrationMode;
use novacron_protocol::qemu::return_path::ReturnMessage;
use novacron_protocol::session::source::SourceEvent;

use super::qemu::QemuPlan;
use super::{Run, qemu};
use crate::migrate::account::Mark;
use crate::migrate::files::boot_files;
use crate::migrate::memory::{Knowledge, Outgoing, OutgoingEvent};
use crate::reason::reason;

impl Run {
    pub(super) async fn copy_memory(&mut self) {
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
            pause_before_switchover: self.disks.is_some(),
        };
        let run = self.facts.directories.run.clone();
        let knowledge = Knowledge {
            boot_files: boot_files(&self.context, &self.facts.hardware.boot),
            base: self.take_base(),
            images: self.context.images.clone(),
            catalogue: self.catalogue.clone(),
        };
        match qemu::begin_memory(&qmp, &run, &mut self.outlets, &plan, knowledge).await {
            Ok((outgoing, events)) => {
                self.outgoing = Some(outgoing);
                self.memory_events = Some(events);
            }
            Err(error) => self.fail(reason(&error)),
        }
    }

    pub(super) async fn memory_event(&mut self, event: Option<OutgoingEvent>) {
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

    pub(super) fn allow_switchover(&mut self) {
        if self.gate.allow() {
            self.open_gate();
        }
    }

    pub(super) fn give_return_path(&mut self, bytes: &[u8]) {
        self.tell_qemu(|outgoing| outgoing.give_return_path(bytes));
        if self.gate.answered() {
            self.open_gate();
        }
    }

    fn open_gate(&mut self) {
        self.tell_qemu(Outgoing::allow_switchover);
    }

    fn tell_qemu(&mut self, tell: impl FnOnce(&Outgoing) -> std::io::Result<()>) {
        let told = self.outgoing.as_ref().map_or(Ok(()), tell);
        if let Err(error) = told {
            self.fail(format!("QEMU does not take the return path: {error}"));
        }
    }

    /// The word by which QEMU's migration completes. A stopped machine has no QEMU to complete.
    pub(super) fn give_shut(&mut self) {
        if self.outgoing.is_none() {
            self.reach(Mark::Verified);
            return self.handle(SourceEvent::QemuCompleted);
        }
        let mut bytes = Vec::new();
        ReturnMessage::Shut { status: 0 }.encode(&mut bytes);
        self.give_return_path(&bytes);
    }
}
