//! Disks on their way out: what the target holds, the mirrors, their end.

use std::sync::Arc;
use std::time::Duration;

use novacron_protocol::disk::DiskContent;
use novacron_protocol::migration::MigrationMode;
use novacron_protocol::session::source::SourceEvent;

use super::{Run, Step};
use crate::disk::{OutgoingDisks, Route};
use crate::migrate::account::Mark;
use crate::migrate::console_log::OutgoingLog;
use crate::reason::reason;

impl Run {
    /// The target's disk does not begin as zeros.
    pub(super) fn target_holds(&mut self, disk: u16, piece: &[u8]) {
        if let Err(reason) = self.try_target_holds(disk, piece) {
            self.fail(reason);
        }
    }

    fn try_target_holds(&mut self, disk: u16, piece: &[u8]) -> Result<(), String> {
        if self.disks.is_some() {
            return Err("the target tells what its disks hold when they are being copied".into());
        }
        let mut contents = self.take_contents()?;
        let content = contents.get_mut(usize::from(disk));
        let content =
            content.ok_or_else(|| format!("the target holds disk {disk}, which is none"))?;
        content.begin_with(piece).map_err(|error| reason(&error))?;
        self.contents = contents;
        Ok(())
    }

    /// What each of the target's disks holds.
    fn take_contents(&mut self) -> Result<Vec<DiskContent>, String> {
        if !self.contents.is_empty() {
            return Ok(std::mem::take(&mut self.contents));
        }
        let disks = self.facts.hardware.disks.iter();
        let blank = |disk: &crate::vm::Disk| DiskContent::new(disk.size_bytes, self.hash_seed);
        disks.map(blank).collect::<Result<_, _>>().map_err(|error| reason(&error))
    }

    pub(super) async fn synchronise_disks(&mut self) {
        if let Err(reason) = self.begin_disks().await {
            return self.fail(reason);
        }
        let Some(disks) = self.disks.clone() else {
            return self.handle(SourceEvent::DisksSynchronised);
        };
        self.steps.spawn(async move {
            Step::DisksReady(disks.wait_ready().await.map_err(|error| reason(&error)))
        });
    }

    async fn begin_disks(&mut self) -> Result<(), String> {
        let contents = self.take_contents()?;
        let Some(guest) = &mut self.guest else { return Ok(()) };
        let log = self.facts.directories.console_log();
        let log = OutgoingLog::begin(&mut self.outlets, &log).map_err(|error| reason(&error))?;
        self.log = Some(log);
        if contents.is_empty() {
            return Ok(());
        }
        let qmp = match guest.role().mode {
            MigrationMode::Live | MigrationMode::Warm => guest.qmp().cloned(),
            MigrationMode::Cold => Some(guest.hold_disks().await.map_err(|error| reason(&error))?),
        };
        let qmp = qmp.ok_or("the guest's QEMU does not answer")?;
        let run = &self.facts.directories.run;
        let route = Route {
            run_directory: run,
            link_patience: Duration::from_secs(self.context.settings.link_patience_s),
            compression_level: self.context.settings.compression_level,
            processor_percent_max: self.context.settings.processor_percent.into(),
        };
        let disks = OutgoingDisks::start(&qmp, contents, route, &mut self.outlets).await;
        self.disks = Some(Arc::new(disks.map_err(|error| reason(&error))?));
        Ok(())
    }

    /// From now on the mirrors keep them in step; one that fails is not left to be found out when the guest is stopped.
    pub(super) fn disks_ready(&mut self) {
        if let Some(disks) = self.disks.clone() {
            self.steps.spawn(async move {
                let failure = disks.failure().await;
                failure.map_or(Step::Told, |error| Step::DiskFailed(reason(&error)))
            });
        }
        self.handle(SourceEvent::DisksSynchronised);
    }

    /// The disks are equal: a live guest's QEMU may go on with the switchover, a stopped machine is sent whole.
    pub(super) async fn disks_drained(&mut self, digests: Vec<[u8; 16]>) {
        self.reach(Mark::DisksDrained);
        self.digests.disks = digests;
        if self.outgoing.is_none() {
            return self.handle(SourceEvent::AllSent(self.digests.clone()));
        }
        if let Some(qmp) = self.qmp()
            && let Err(error) = qmp.migrate_continue().await
        {
            self.fail(reason(&error));
        }
    }

    pub(super) fn drain_disks(&mut self) {
        let Some(disks) = self.disks.clone() else {
            // Nothing to drain: as good as drained.
            self.steps.spawn(async { Step::DisksDrained(Ok(Vec::new())) });
            return;
        };
        self.steps.spawn(async move {
            Step::DisksDrained(disks.complete().await.map_err(|error| reason(&error)))
        });
    }
}
