//! The bytes of one simulated file: as programs see them, and as the platter has them.

use std::io;
use std::ops::Range;

use crate::disk::dice::Dice;

/// What a drive writes whole or not at all.
const SECTOR_BYTES: usize = 512;

#[derive(Debug, Default)]
pub(super) struct Contents {
    current: Vec<u8>,
    durable: Vec<u8>,
    /// From the start to here nothing was written since the last sync.
    stable_bytes: usize,
    /// The least length since the last sync.
    shortest_bytes: usize,
    /// What a failed sync did not write: programs read it, no later sync writes it.
    lost: Vec<Range<usize>>,
}

impl Contents {
    pub(super) fn len(&self) -> u64 {
        self.current.len() as u64
    }

    pub(super) fn read_at(&self, offset: u64, buffer: &mut [u8]) -> io::Result<()> {
        let start = usize::try_from(offset).unwrap_or(usize::MAX);
        let end = start.saturating_add(buffer.len());
        let bytes = self.current.get(start..end).ok_or(io::ErrorKind::UnexpectedEof)?;
        buffer.copy_from_slice(bytes);
        Ok(())
    }

    pub(super) fn append(&mut self, bytes: &[u8]) {
        self.current.extend_from_slice(bytes);
    }

    pub(super) fn overwrite(&mut self, offset: u64, bytes: &[u8]) -> io::Result<()> {
        let start = usize::try_from(offset).unwrap_or(usize::MAX);
        let end = start.saturating_add(bytes.len());
        let place = self.current.get_mut(start..end).ok_or(io::ErrorKind::InvalidInput)?;
        place.copy_from_slice(bytes);
        self.stable_bytes = self.stable_bytes.min(start);
        // Even a part of a sector makes the kernel write all of it again.
        let first_sector = start / SECTOR_BYTES * SECTOR_BYTES;
        self.is_written_anew(first_sector..end.next_multiple_of(SECTOR_BYTES));
        Ok(())
    }

    pub(super) fn truncate(&mut self, length_bytes: u64) -> io::Result<()> {
        let length = usize::try_from(length_bytes).unwrap_or(usize::MAX);
        if length > self.current.len() {
            return Err(io::ErrorKind::InvalidInput.into());
        }
        self.current.truncate(length);
        self.stable_bytes = self.stable_bytes.min(length);
        self.shortest_bytes = self.shortest_bytes.min(length);
        self.is_written_anew(length..usize::MAX);
        Ok(())
    }

    pub(super) fn sync(&mut self) {
        if self.lost.is_empty() {
            // Before this nothing was written since the last sync: the platter has it.
            self.durable.truncate(self.stable_bytes);
            self.durable.extend_from_slice(&self.current[self.durable.len()..]);
        } else {
            let old = std::mem::replace(&mut self.durable, self.current.clone());
            for at in self.lost.iter().cloned().flatten() {
                self.durable[at] = old.get(at).copied().unwrap_or(0);
            }
        }
        self.stable_bytes = self.current.len();
        self.shortest_bytes = self.current.len();
    }

    pub(super) fn fail_sync(&mut self) {
        self.lost.push(self.stable_bytes..self.current.len());
    }

    pub(super) fn flip_bit(&mut self, offset: u64, bit: u8) -> bool {
        let Ok(offset) = usize::try_from(offset) else { return false };
        let mask = 1 << (bit % 8);
        let current = self.current.get_mut(offset).map(|byte| *byte ^= mask);
        let durable = self.durable.get_mut(offset).map(|byte| *byte ^= mask);
        current.or(durable).is_some()
    }

    /// Decides what the platter has when the power returns.
    pub(super) fn survive_power_cut(&mut self, dice: &mut Dice) {
        let survivor =
            if dice.coin() { self.torn_at_a_byte(dice) } else { self.torn_by_sector(dice) };
        self.stable_bytes = survivor.len();
        self.shortest_bytes = survivor.len();
        self.current = survivor.clone();
        self.durable = survivor;
        self.lost.clear();
    }

    /// Writes reached the platter in order, up to some byte; within what existed before, up to
    /// some sector.
    fn torn_at_a_byte(&self, dice: &mut Dice) -> Vec<u8> {
        let mut written = dice.between(self.stable_bytes, self.current.len());
        if written < self.shortest_bytes {
            written = (written / SECTOR_BYTES * SECTOR_BYTES).max(self.stable_bytes);
        }
        let mut survivor = self.current[..written].to_vec();
        survivor.extend(self.platter_bytes(written..self.shortest_bytes.max(written)));
        self.lose(survivor)
    }

    /// Writes reached the platter in any order: each sector is new or old.
    fn torn_by_sector(&self, dice: &mut Dice) -> Vec<u8> {
        let longest = self.current.len().max(self.durable.len());
        let length = dice.between(self.shortest_bytes, longest);
        let mut survivor = self.platter_bytes(0..self.stable_bytes.min(length));
        while survivor.len() < length {
            let start = survivor.len();
            let end = ((start / SECTOR_BYTES + 1) * SECTOR_BYTES).min(length);
            if dice.coin() {
                survivor.extend((start..end).map(|at| self.current.get(at).copied().unwrap_or(0)));
            } else {
                survivor.extend(self.platter_bytes(start..end));
            }
        }
        self.lose(survivor)
    }

    /// What the platter had at the last sync, zeros where there was nothing.
    fn platter_bytes(&self, range: Range<usize>) -> Vec<u8> {
        range.map(|at| self.durable.get(at).copied().unwrap_or(0)).collect()
    }

    fn lose(&self, mut survivor: Vec<u8>) -> Vec<u8> {
        let length = survivor.len();
        for at in self.lost.iter().cloned().flatten().filter(|at| *at < length) {
            survivor[at] = self.durable.get(at).copied().unwrap_or(0);
        }
        survivor
    }

    /// The next sync writes this part, whatever an earlier one lost.
    fn is_written_anew(&mut self, part: Range<usize>) {
        self.lost = self.lost.iter().flat_map(|lost| without(lost, &part)).collect();
    }
}

/// The parts of `range` that are not in `hole`.
fn without(range: &Range<usize>, hole: &Range<usize>) -> Vec<Range<usize>> {
    let before = range.start..range.end.min(hole.start);
    let after = range.start.max(hole.end)..range.end;
    [before, after].into_iter().filter(|part| part.start < part.end).collect()
}
