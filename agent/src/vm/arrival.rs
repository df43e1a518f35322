//! The disks of a machine that arrives: they begin with whatever is here that may be alike, so that it need not be sent.
//!
//! That is what an earlier attempt at the same migration or an earlier visit of the machine left behind, or else a copy
//! of the image of the name that the machine was made of. Neither has to be what it seems: the source is told what is in
//! there, block by block, and sends what differs. But what is written there has to stay, so a file that was here before
//! is used only if its own notes are in order, which a power cut may have torn.

use std::path::Path;

use novacron_protocol::disk::BEGINNING_BLOCKS_MAX;
use novacron_protocol::vm::DiskFormat;

use super::driver::Driver;
use super::extents::Extents;
use super::image::ImageError;
use super::machines::Shared;
use super::orders::{OrderError, blocking};
use super::record::{Disk, Role};
use crate::reason::reason;

impl Driver {
    /// Makes the files of all disks, in the machine's directory; says where each holds anything.
    pub(super) async fn begin_disks(&self, disks: &[Disk]) -> Result<Vec<Extents>, ImageError> {
        self.shared.make_room().await;
        let mut room_blocks = BEGINNING_BLOCKS_MAX;
        let mut held = Vec::with_capacity(disks.len());
        for (index, disk) in disks.iter().enumerate() {
            let extents = self.begin_disk(index, *disk, room_blocks).await?;
            room_blocks -= extents.count();
            held.push(extents);
        }
        self.forget_former().await;
        Ok(held)
    }

    /// What was of use is taken.
    async fn forget_former(&self) {
        let (former, vm) = (self.shared.former.clone(), self.vm);
        let forgotten = tokio::task::spawn_blocking(move || former.forget(vm));
        if let Ok(Err(error)) = forgotten.await {
            tracing::warn!(reason = reason(&error), "what an earlier visit left stays behind");
        }
    }

    /// Whatever goes wrong with what is here, a blank disk does.
    async fn begin_disk(
        &self,
        index: usize,
        disk: Disk,
        room_blocks: u64,
    ) -> Result<Extents, ImageError> {
        let path = self.shared.launcher.directories.machine(self.vm).disk(index, disk.format);
        match self.begin_alike(index, disk, &path).await {
            Ok(Some(extents)) if extents.count() <= room_blocks => {
                tracing::info!(index, blocks = extents.count(), "a disk begins with what is here");
                return Ok(extents);
            }
            Ok(None) => (),
            Ok(Some(_)) => {
                tracing::info!(index, "there is too much on the disk to tell the source")
            }
            Err(error) => tracing::info!(index, reason = reason(&error), "a disk begins blank"),
        }
        // There may be none.
        let _ = std::fs::remove_file(&path);
        self.shared.disks.make_blank(disk.size_bytes, disk.format, &path).await?;
        Ok(Extents::default())
    }

    async fn begin_alike(
        &self,
        index: usize,
        disk: Disk,
        path: &Path,
    ) -> Result<Option<Extents>, OrderError> {
        let maker = &self.shared.disks;
        let is_there = self.is_of_use(index, disk, path).await
            || self.take_former(index, disk.format, path).await?
                && self.is_of_use(index, disk, path).await;
        if !is_there {
            let specified = self.record.as_ref().and_then(|record| record.spec.disks.get(index));
            match specified {
                Some(specified) if !specified.image.is_empty() => {
                    maker.make_as(disk, &specified.image, path).await?;
                }
                _ => return Ok(None),
            }
        }
        Ok(Some(maker.extents(path, disk.format).await?))
    }

    async fn take_former(
        &self,
        index: usize,
        format: DiskFormat,
        path: &Path,
    ) -> Result<bool, OrderError> {
        let (former, vm, to) = (self.shared.former.clone(), self.vm, path.to_owned());
        blocking(move || {
            let taken = former.take(vm, index, format, &to);
            taken.map_err(|source| OrderError::Directory { path: to, source })
        })
        .await
    }

    async fn is_of_use(&self, index: usize, disk: Disk, path: &Path) -> bool {
        if !path.is_file() {
            return false;
        }
        let sound = self.shared.disks.is_sound(disk, path).await;
        let is_sound = matches!(sound, Ok(true));
        if !is_sound {
            let reason = sound.err().map(|error| reason(&error));
            tracing::warn!(index, reason, "what is here of a disk is damaged, or of another size");
        }
        is_sound
    }

    /// The machine is not this agent's any more, or was not yet: its disks may be of use when it comes back.
    pub(super) async fn keep_disks(&mut self) {
        let is_owner = self.record.as_ref().is_none_or(|record| record.role == Role::Owner);
        let hardware = self.record.as_ref().and_then(|record| record.hardware.as_ref());
        let Some(disks) = hardware.map(|hardware| hardware.disks.clone()) else { return };
        if is_owner {
            return;
        }
        self.kill_process().await;
        let (former, vm) = (self.shared.former.clone(), self.vm);
        let from = self.shared.launcher.directories.machine(vm).durable;
        let kept = blocking(move || {
            let kept = former.keep(vm, &from, &disks);
            kept.map_err(|source| OrderError::Directory { path: from, source })
        });
        if let Err(error) = kept.await {
            tracing::warn!(reason = reason(&error), "disks are not kept for the machine's return");
        }
    }
}

impl Shared {
    /// Removes disks of machines that left where they are in the way.
    pub(super) async fn make_room(&self) {
        let former = self.former.clone();
        let made = tokio::task::spawn_blocking(move || former.make_room(0));
        if let Ok(Err(error)) = made.await {
            tracing::warn!(
                reason = reason(&error),
                "disks of machines that left cannot be removed"
            );
        }
    }
}
