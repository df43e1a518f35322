//! The bytes of one file: what is below, and what was done since it was synced.

use std::ops::Range;

use crate::disk::{DiskError, DiskFile};

/// A file whose changes are in memory until it is synced.
#[derive(Debug)]
pub(super) struct Contents {
    below: Box<dyn DiskFile>,
    below_bytes: u64,
    /// How much of the file below is still a part of this one.
    kept_bytes: u64,
    /// What was written over the kept part, in order.
    overwritten: Vec<(u64, Vec<u8>)>,
    /// What follows the kept part.
    tail: Vec<u8>,
}

impl Contents {
    pub(super) fn over(below: Box<dyn DiskFile>) -> Result<Contents, DiskError> {
        let below_bytes = below.len()?;
        let (overwritten, tail) = (Vec::new(), Vec::new());
        Ok(Contents { below, below_bytes, kept_bytes: below_bytes, overwritten, tail })
    }

    pub(super) fn len(&self) -> u64 {
        self.kept_bytes + self.tail.len() as u64
    }

    pub(super) fn is_synced(&self) -> bool {
        self.kept_bytes == self.below_bytes && self.overwritten.is_empty() && self.tail.is_empty()
    }

    /// Bytes of changes that are in memory only; what is cut off counts, too.
    pub(super) fn unsynced_bytes(&self) -> u64 {
        let overwritten: usize = self.overwritten.iter().map(|(_, bytes)| bytes.len()).sum();
        (self.tail.len() + overwritten) as u64 + (self.below_bytes - self.kept_bytes)
    }

    /// `None` if the file ends before.
    pub(super) fn read_at(&self, offset: u64, buffer: &mut [u8]) -> Result<Option<()>, DiskError> {
        let Some(part) = self.part(offset, buffer.len()) else { return Ok(None) };
        let below = self.kept_bytes.clamp(part.start, part.end) - part.start;
        let (from_below, from_tail) = buffer.split_at_mut(below as usize);
        if !from_below.is_empty() {
            self.below.read_at(offset, from_below)?;
        }
        for (at, bytes) in &self.overwritten {
            copy_over(offset, from_below, *at, bytes);
        }
        copy_over(part.start + below, from_tail, self.kept_bytes, &self.tail);
        Ok(Some(()))
    }

    pub(super) fn append(&mut self, bytes: &[u8]) {
        self.tail.extend_from_slice(bytes);
    }

    /// `None` if there is not that much to write over.
    pub(super) fn overwrite(&mut self, offset: u64, bytes: &[u8]) -> Option<()> {
        let part = self.part(offset, bytes.len())?;
        let below = (self.kept_bytes.clamp(part.start, part.end) - part.start) as usize;
        if below > 0 {
            self.overwritten.push((offset, bytes[..below].to_vec()));
        }
        copy_over(self.kept_bytes, &mut self.tail, offset, bytes);
        Some(())
    }

    /// `None` if the file is shorter.
    pub(super) fn truncate(&mut self, length_bytes: u64) -> Option<()> {
        self.part(0, usize::try_from(length_bytes).ok()?)?;
        self.tail.truncate(length_bytes.saturating_sub(self.kept_bytes) as usize);
        self.kept_bytes = self.kept_bytes.min(length_bytes);
        for (at, bytes) in &mut self.overwritten {
            bytes.truncate(length_bytes.saturating_sub(*at) as usize);
        }
        Some(())
    }

    /// Makes the file below what this one is, durably. After an error it may be by half; trying again goes on.
    pub(super) fn sync(&mut self) -> Result<(), DiskError> {
        self.write_back()?;
        self.below.sync_data()
    }

    /// The same, and leaves it to the operating system when it becomes durable.
    pub(super) fn write_back(&mut self) -> Result<(), DiskError> {
        if self.kept_bytes < self.below_bytes {
            self.below.truncate(self.kept_bytes)?;
            self.below_bytes = self.kept_bytes;
        }
        for (at, bytes) in &self.overwritten {
            self.below.overwrite(*at, bytes)?;
        }
        self.below.append(&self.tail)?;
        self.below_bytes += self.tail.len() as u64;
        self.kept_bytes = self.below_bytes;
        self.tail.clear();
        self.overwritten.clear();
        Ok(())
    }

    fn part(&self, offset: u64, length: usize) -> Option<Range<u64>> {
        let end = offset.checked_add(length as u64)?;
        (end <= self.len()).then_some(offset..end)
    }
}

/// Copies what of `bytes`, which begin at `bytes_at`, falls into `target`, which begins at `target_at`.
fn copy_over(target_at: u64, target: &mut [u8], bytes_at: u64, bytes: &[u8]) {
    let start = target_at.max(bytes_at);
    let end = (target_at + target.len() as u64).min(bytes_at + bytes.len() as u64);
    if start < end {
        let within = |at: u64| (start - at) as usize..(end - at) as usize;
        target[within(target_at)].copy_from_slice(&bytes[within(bytes_at)]);
    }
}
