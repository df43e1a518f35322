//! How disks were, kept within them: a qcow2 file holds any number of its former contents, which share what is equal.
//!
//! ```text
//! take:    remove what an interrupted attempt left ─► in all disks at one moment ─► record (from now on it is whole)
//! restore: all disks have it? ─► record (nothing runs from these disks) ─► each disk ─► record (all are what they were)
//! delete:  record (from now on it is nothing) ─► from each disk
//! ```
//!
//! So wherever the agent or QEMU dies, what the record names is whole, and the same order given again brings what was
//! begun to its end. A guest that runs stands still while its disks are noted: then it is one moment for all of them, as
//! if the power had failed. A restore that was interrupted is brought to its end when the agent starts.

use std::fs::File;
use std::os::unix::fs::MetadataExt;
use std::path::PathBuf;

use novacron_protocol::ids::SnapshotId;
use novacron_protocol::limits::SNAPSHOTS_PER_VM_MAX;
use novacron_protocol::vm::DiskFormat;

use super::command_line::disk_node;
use super::driver::Driver;
use super::machine::{DiskUse, Refusal};
use super::machines::SnapshotOrder;
use super::orders::{OrderError, blocking};
use super::record::Disk;
use crate::qmp::{Event, Qmp};
use crate::reason::reason;

/// Unit of `st_blocks`, whatever the file system.
const STAT_BLOCK_BYTES: u64 = 512;

impl Driver {
    pub(super) async fn keep_or_restore(&mut self, order: SnapshotOrder) -> Result<(), OrderError> {
        match order {
            SnapshotOrder::Take(snapshot) => self.take_snapshot(snapshot).await,
            SnapshotOrder::Restore(snapshot) => self.restore_snapshot(snapshot).await,
            SnapshotOrder::Delete(snapshot) => self.delete_snapshot(snapshot).await,
        }
    }

    async fn take_snapshot(&mut self, snapshot: SnapshotId) -> Result<(), OrderError> {
        if self.has_snapshot(snapshot) {
            return Ok(());
        }
        self.check_snapshot().await?;
        let name = snapshot.to_string();
        match self.machine.disk_use()? {
            DiskUse::Nobody => self.take_at_rest(&name).await?,
            DiskUse::StandingGuest => {
                take_in_process(self.listening()?, &self.nodes(), &name).await?
            }
            DiskUse::RunningGuest => self.take_while_running(&name).await?,
        }
        self.save(|record| record.snapshots.push(snapshot)).await.map_err(OrderError::from)
    }

    /// Whether there may be one more.
    async fn check_snapshot(&self) -> Result<(), OrderError> {
        let record = self.record.as_ref().ok_or(Refusal::Absent)?;
        if record.snapshots.len() >= SNAPSHOTS_PER_VM_MAX {
            return Err(OrderError::TooManySnapshots);
        }
        if record.restoring.is_some() {
            return Err(OrderError::HalfRestored);
        }
        let is_raw = |disk: &Disk| disk.format != DiskFormat::Qcow2;
        let disks = record.hardware.as_ref().map_or(&[][..], |hardware| &hardware.disks);
        if let Some(index) = disks.iter().position(is_raw) {
            return Err(OrderError::NotQcow2 { index });
        }
        let files = self.disk_files();
        blocking(move || check_room(&files)).await
    }

    /// The guest stands still meanwhile.
    async fn take_while_running(&mut self, name: &str) -> Result<(), OrderError> {
        let nodes = self.nodes();
        let qmp = self.listening()?.clone();
        qmp.forget_snapshots(&nodes, name).await?;
        if let Err(error) = qmp.stop().await {
            // The answer may only be late: then the guest stands still, and goes on when that is seen.
            self.ask_again_at = Some(tokio::time::Instant::now());
            return Err(error.into());
        }
        let taken = qmp.snapshot_nodes(&nodes, name).await;
        // Whatever became of it. If this fails, the guest is found standing still, and told again.
        let resumed = qmp.cont().await;
        self.pass_over_pause().await;
        if resumed.is_err() {
            self.ask_again_at = Some(tokio::time::Instant::now());
        }
        taken?;
        Ok(())
    }

    /// The guest stood still for a moment, and nobody needs to hear of that; of everything else that was said, somebody
    /// does.
    async fn pass_over_pause(&mut self) {
        let mut others = Vec::new();
        if let Some(events) = &mut self.events {
            while let Ok(event) = events.try_recv() {
                if !matches!(event, Event::Stop | Event::Resume) {
                    others.push(event);
                }
            }
        }
        for event in others {
            if matches!(event, Event::BlockIoError { .. }) {
                self.ask_again_at = Some(tokio::time::Instant::now());
            }
            self.hear(event).await;
        }
    }

    async fn take_at_rest(&self, name: &str) -> Result<(), OrderError> {
        for file in self.disk_files() {
            self.shared.disks.forget_snapshot(&file, name).await?;
        }
        for file in self.disk_files() {
            if let Err(error) = self.shared.disks.take_snapshot(&file, name).await {
                self.forget_at_rest(name).await;
                return Err(error.into());
            }
        }
        self.sync_disks().await
    }

    /// Best effort: whoever tries again begins with it.
    async fn forget_at_rest(&self, name: &str) {
        for file in self.disk_files() {
            if let Err(error) = self.shared.disks.forget_snapshot(&file, name).await {
                tracing::warn!(reason = reason(&error), "part of a snapshot stays behind");
            }
        }
    }

    async fn restore_snapshot(&mut self, snapshot: SnapshotId) -> Result<(), OrderError> {
        if !self.has_snapshot(snapshot) {
            return Err(OrderError::NoSnapshot);
        }
        if self.machine.disk_use()? != DiskUse::Nobody || self.running.is_some() {
            return Err(Refusal::NotStopped.into());
        }
        let name = snapshot.to_string();
        self.check_restorable(&name).await?;
        self.save(|record| record.restoring = Some(snapshot)).await?;
        for file in self.disk_files() {
            self.shared.disks.restore_snapshot(&file, &name).await?;
        }
        self.sync_disks().await?;
        self.save(|record| record.restoring = None).await?;
        Ok(())
    }

    /// What is not in all disks is not restored in any.
    async fn check_restorable(&self, name: &str) -> Result<(), OrderError> {
        for (index, file) in self.disk_files().into_iter().enumerate() {
            if !self.shared.disks.has_snapshot(&file, name).await? {
                return Err(OrderError::NotInDisk { index });
            }
        }
        Ok(())
    }

    /// The agent may have ended in the middle of a restore.
    pub(super) async fn finish_restore(&mut self) {
        let Some(snapshot) = self.record.as_ref().and_then(|record| record.restoring) else {
            return;
        };
        match self.restore_snapshot(snapshot).await {
            Ok(()) => tracing::info!(%snapshot, "disks are what they were"),
            Err(error) => {
                tracing::error!(%snapshot, reason = reason(&error), "disks are restored in part only");
            }
        }
    }

    async fn delete_snapshot(&mut self, snapshot: SnapshotId) -> Result<(), OrderError> {
        let name = snapshot.to_string();
        if self.record.as_ref().is_some_and(|record| record.restoring == Some(snapshot)) {
            return Err(OrderError::HalfRestored);
        }
        let disk_use = self.machine.disk_use()?;
        // Before the disks: a snapshot that some of them have lost must not be restored.
        if self.has_snapshot(snapshot) {
            self.save(|record| record.snapshots.retain(|other| *other != snapshot)).await?;
        }
        match disk_use {
            DiskUse::Nobody => {
                for file in self.qcow2_files() {
                    self.shared.disks.forget_snapshot(&file, &name).await?;
                }
            }
            DiskUse::StandingGuest | DiskUse::RunningGuest => {
                self.listening()?.forget_snapshots(&self.nodes(), &name).await?;
            }
        }
        Ok(())
    }

    fn has_snapshot(&self, snapshot: SnapshotId) -> bool {
        self.record.as_ref().is_some_and(|record| record.snapshots.contains(&snapshot))
    }

    fn listening(&self) -> Result<&Qmp, OrderError> {
        self.qmp().ok_or(OrderError::NoAnswer)
    }

    fn disks(&self) -> Vec<Disk> {
        let hardware = self.record.as_ref().and_then(|record| record.hardware.as_ref());
        hardware.map(|hardware| hardware.disks.clone()).unwrap_or_default()
    }

    fn nodes(&self) -> Vec<String> {
        (0..self.disks().len()).map(disk_node).collect()
    }

    fn disk_files(&self) -> Vec<PathBuf> {
        let directories = self.shared.launcher.directories.machine(self.vm);
        let disks = self.disks();
        (0..).zip(disks).map(|(index, disk)| directories.disk(index, disk.format)).collect()
    }

    fn qcow2_files(&self) -> Vec<PathBuf> {
        let files = self.disk_files().into_iter().zip(self.disks());
        files.filter(|(_, disk)| disk.format == DiskFormat::Qcow2).map(|(file, _)| file).collect()
    }

    async fn sync_disks(&self) -> Result<(), OrderError> {
        let files = self.disk_files();
        blocking(move || files.iter().try_for_each(sync)).await
    }
}

async fn take_in_process(qmp: &Qmp, nodes: &[String], name: &str) -> Result<(), OrderError> {
    qmp.forget_snapshots(nodes, name).await?;
    Ok(qmp.snapshot_nodes(nodes, name).await?)
}

fn sync(path: &PathBuf) -> Result<(), OrderError> {
    File::open(path)
        .and_then(|file| file.sync_all())
        .map_err(|source| OrderError::Directory { path: path.clone(), source })
}

/// Whether the file system could hold once more all that the disks hold now: so much is kept twice, at most, when the
/// guest has written everything anew.
fn check_room(files: &[PathBuf]) -> Result<(), OrderError> {
    let mut needed_bytes = 0_u64;
    for path in files {
        let failed = |source| OrderError::Directory { path: path.clone(), source };
        let blocks = std::fs::metadata(path).map_err(failed)?.blocks();
        needed_bytes = needed_bytes.saturating_add(blocks.saturating_mul(STAT_BLOCK_BYTES));
    }
    let Some(path) = files.first() else { return Ok(()) };
    let failed = |error: rustix::io::Errno| OrderError::Directory {
        path: path.clone(),
        source: error.into(),
    };
    let system = rustix::fs::statvfs(path.as_path()).map_err(failed)?;
    let free_bytes = system.f_bavail.saturating_mul(system.f_frsize);
    if needed_bytes > free_bytes {
        return Err(OrderError::NoRoom { needed_bytes, free_bytes });
    }
    Ok(())
}
