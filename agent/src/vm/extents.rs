//! Where on a disk there is data.

use std::ops::Range;

use novacron_protocol::limits::DISK_BLOCK_BYTES;

/// Parts of a disk that may hold something, as whole blocks of 64 KiB, in order and apart; what is outside reads as
/// zeros. The default is a blank disk.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Extents {
    blocks: Vec<Range<u64>>,
}

impl Extents {
    /// Adds `length` bytes at `start`, which is not before anything that was added earlier.
    pub(super) fn add(&mut self, start: u64, length: u64) {
        let end = start.saturating_add(length).div_ceil(DISK_BLOCK_BYTES);
        let start = start / DISK_BLOCK_BYTES;
        match self.blocks.last_mut() {
            Some(last) if start <= last.end => last.end = last.end.max(end),
            _ if start < end => self.blocks.push(start..end),
            _ => (),
        }
    }

    /// How many blocks.
    pub fn count(&self) -> u64 {
        self.blocks.iter().map(|run| run.end - run.start).sum()
    }

    /// The same as pieces of at most `blocks_max` blocks: offset and length in bytes.
    pub fn pieces(&self, blocks_max: u64) -> impl Iterator<Item = (u64, u64)> {
        let cut = move |run: &Range<u64>| {
            let run = run.clone();
            (run.start..run.end).step_by(blocks_max.max(1) as usize).map(move |first| {
                let blocks = (run.end - first).min(blocks_max);
                (first * DISK_BLOCK_BYTES, blocks * DISK_BLOCK_BYTES)
            })
        };
        self.blocks.iter().flat_map(cut)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parts_are_whole_blocks_and_run_together() {
        let mut extents = Extents::default();
        for (start, length) in
            [(0, 512), (60_000, 10_000), (70_000, 1), (0x30_0000, 0x2_0000), (0x40_0000, 0)]
        {
            extents.add(start, length);
        }
        assert_eq!(extents.count(), 4);
        assert_eq!(
            extents.pieces(1).collect::<Vec<_>>(),
            [(0, 65_536), (65_536, 65_536), (0x30_0000, 65_536), (0x31_0000, 65_536)]
        );
        assert_eq!(extents.pieces(16).collect::<Vec<_>>(), [(0, 131_072), (0x30_0000, 131_072)]);
    }
}
