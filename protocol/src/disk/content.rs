//! What one end knows of a disk: every block's hash. It decides what of a write is sent, and counts
//! what is applied.
//!
//! # Disks that do not begin as zeros
//!
//! A mirror of QEMU begins by zeroing all of its target and copies only what is allocated at the source. Taken by the
//! word, that would throw away what the target's disk holds. So zeroing a block that was not written yet says nothing at
//! first; when the mirror has been through ([`DiskContent::settle`]), the blocks that were not written are zeros, whether
//! it said so or not.

use super::record::{DATA_RECORD_BYTES_MAX, Record, RunContent, ZERO_RECORD_BYTES_MAX};
use super::table::{Admission, BlockTable, InvalidDiskSize, OutsideDisk};
use super::{BLOCK_BYTES, BeginningError, BlockHash, BlockHasher};
use crate::limits::DISK_BLOCK_BYTES;
use crate::pages::compressible;

/// See the module. The source calls [`Self::write`] and [`Self::zero`], the target [`Self::apply`].
#[derive(Debug)]
pub struct DiskContent {
    hasher: BlockHasher,
    table: BlockTable,
    /// Of a disk that does not begin as zeros, until it is settled.
    unsettled: Option<Unsettled>,
}

/// Blocks that were not written yet.
#[derive(Debug)]
struct Unsettled {
    /// One bit a block: 2^30 blocks at most are 128 MiB.
    written: Vec<u64>,
}

impl Unsettled {
    fn new(blocks: usize) -> Self {
        Self { written: vec![0; blocks.div_ceil(64)] }
    }

    fn note_write(&mut self, block: u64) {
        if let Some(word) = self.written.get_mut(block as usize / 64) {
            *word |= 1 << (block % 64);
        }
    }

    fn was_written(&self, block: u64) -> bool {
        let word = self.written.get(block as usize / 64);
        word.is_some_and(|word| word & (1 << (block % 64)) != 0)
    }
}

/// Neighbouring blocks that are to be sent as one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Run {
    first: u64,
    blocks: u64,
    kind: Kind,
}

/// What the blocks of a run have in common: noise among others would cost time in zstd, and spoil its window.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    Zero,
    Noise,
    Structured,
}

impl Kind {
    fn of(bytes: &[u8; BLOCK_BYTES], hash: BlockHash) -> Self {
        match hash {
            BlockHash::ZERO => Self::Zero,
            _ if compressible::any_worth_trying(bytes) => Self::Structured,
            _ => Self::Noise,
        }
    }
}

impl DiskContent {
    /// A disk of zeros.
    pub fn new(size_bytes: u64, hash_seed: u64) -> Result<Self, InvalidDiskSize> {
        let (hasher, table) = (BlockHasher::new(hash_seed), BlockTable::new(size_bytes)?);
        Ok(Self { hasher, table, unsettled: None })
    }

    /// Source: the target's disk holds this; before anything is written.
    ///
    /// # Errors
    /// [`BeginningError`].
    pub fn begin_with(&mut self, piece: &[u8]) -> Result<(), BeginningError> {
        let blocks = self.table.blocks();
        self.unsettled.get_or_insert_with(|| Unsettled::new(blocks));
        self.table.begin_with(piece)
    }

    /// Target: what the disk holds, to be told to the source before it sends anything.
    pub fn pieces(&self) -> impl Iterator<Item = Vec<u8>> {
        self.table.pieces()
    }

    /// Bytes of the disk.
    pub fn size_bytes(&self) -> u64 {
        self.table.blocks() as u64 * DISK_BLOCK_BYTES
    }

    /// Bytes of the blocks that hold anything but zeros.
    pub fn held_bytes(&self) -> u64 {
        let held = self.table.content().iter().filter(|hash| **hash != 0).count();
        held as u64 * DISK_BLOCK_BYTES
    }

    /// Source: the runs of this write that are new to the target, in order. They count as sent.
    /// Offset and length are multiples of 64 KiB; what is less than a block at the end is ignored.
    pub fn write<'a>(
        &mut self,
        offset: u64,
        data: &'a [u8],
    ) -> Result<Vec<Record<'a>>, OutsideDisk> {
        let first = offset / DISK_BLOCK_BYTES;
        let (blocks, _) = data.as_chunks::<BLOCK_BYTES>();
        let mut runs = Vec::new();
        for (block, bytes) in (first..).zip(blocks) {
            let hash = self.hasher.hash(bytes);
            if let Some(unsettled) = &mut self.unsettled {
                unsettled.note_write(block);
            }
            if self.table.admit(block, hash)? == Admission::Send {
                extend(&mut runs, block, Kind::of(bytes, hash));
            }
        }
        let record = |run: Run| {
            let from = (run.first - first) as usize * BLOCK_BYTES;
            let bytes = &data[from..from + run.blocks as usize * BLOCK_BYTES];
            let content = match run.kind {
                // A run is at most as long as ZERO_RECORD_BYTES_MAX.
                Kind::Zero => RunContent::Zero(bytes.len() as u32),
                Kind::Noise | Kind::Structured => RunContent::Data(bytes),
            };
            Record { offset: run.first * DISK_BLOCK_BYTES, content }
        };
        Ok(runs.into_iter().map(record).collect())
    }

    /// Source: as [`Self::write`], of zeros.
    pub fn zero(&mut self, offset: u64, bytes: u64) -> Result<Vec<Record<'static>>, OutsideDisk> {
        let first = offset / DISK_BLOCK_BYTES;
        let mut runs = Vec::new();
        for block in first..first + bytes / DISK_BLOCK_BYTES {
            let says_nothing = self.unsettled.as_ref().is_some_and(|all| !all.was_written(block));
            if !says_nothing && self.table.admit(block, BlockHash::ZERO)? == Admission::Send {
                extend(&mut runs, block, Kind::Zero);
            }
        }
        Ok(runs.into_iter().map(zero_record).collect())
    }

    /// Source: the mirror has been through all of the disk once, so what it did not write is zeros. The runs of those
    /// that are not at the target; none when it is asked again.
    pub fn settle(&mut self) -> Vec<Record<'static>> {
        let Some(unsettled) = self.unsettled.take() else { return Vec::new() };
        let mut runs = Vec::new();
        for block in (0..self.table.blocks() as u64).filter(|block| !unsettled.was_written(*block))
        {
            // Every block is one of the table's.
            if self.table.admit(block, BlockHash::ZERO) == Ok(Admission::Send) {
                extend(&mut runs, block, Kind::Zero);
            }
        }
        runs.into_iter().map(zero_record).collect()
    }

    /// Target: this record is being written to the disk.
    pub fn apply(&mut self, record: &Record<'_>) -> Result<(), OutsideDisk> {
        let first = record.offset / DISK_BLOCK_BYTES;
        match record.content {
            RunContent::Zero(bytes) => (first..first + u64::from(bytes) / DISK_BLOCK_BYTES)
                .try_for_each(|block| self.table.applied(block, BlockHash::ZERO)),
            RunContent::Data(data) => {
                let (blocks, _) = data.as_chunks::<BLOCK_BYTES>();
                (first..).zip(blocks).try_for_each(|(block, bytes)| {
                    let hash = self.hasher.hash(bytes);
                    self.table.applied(block, hash)
                })
            }
        }
    }

    /// Digest of the disk as it was sent or applied.
    pub fn digest(&self) -> [u8; 16] {
        self.table.digest()
    }
}

fn zero_record(run: Run) -> Record<'static> {
    // A run is at most as long as ZERO_RECORD_BYTES_MAX.
    let bytes = (run.blocks * DISK_BLOCK_BYTES) as u32;
    Record { offset: run.first * DISK_BLOCK_BYTES, content: RunContent::Zero(bytes) }
}

/// Adds the block to the last run, or begins another.
fn extend(runs: &mut Vec<Run>, block: u64, kind: Kind) {
    match runs.last_mut() {
        Some(run) if run.takes(block, kind) => run.blocks += 1,
        _ => runs.push(Run { first: block, blocks: 1, kind }),
    }
}

impl Run {
    fn takes(&self, block: u64, kind: Kind) -> bool {
        let bytes_max = match self.kind {
            Kind::Zero => u64::from(ZERO_RECORD_BYTES_MAX),
            Kind::Noise | Kind::Structured => DATA_RECORD_BYTES_MAX as u64,
        };
        self.kind == kind
            && self.first + self.blocks == block
            && (self.blocks + 1) * DISK_BLOCK_BYTES <= bytes_max
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SIZE_BYTES: u64 = 16 * DISK_BLOCK_BYTES;

    fn filled(bytes: &[u8]) -> Vec<u8> {
        bytes.iter().flat_map(|byte| [*byte; BLOCK_BYTES]).collect()
    }

    /// First block, blocks, whether they are zero.
    fn summary(records: &[Record<'_>]) -> Vec<(u64, u64, bool)> {
        let zero = |record: &Record<'_>| matches!(record.content, RunContent::Zero(_));
        let blocks = |bytes| bytes / DISK_BLOCK_BYTES;
        records.iter().map(|r| (blocks(r.offset), blocks(r.disk_bytes()), zero(r))).collect()
    }

    #[test]
    fn only_what_changes_is_sent_in_runs() {
        let mut disk = DiskContent::new(SIZE_BYTES, 1).unwrap();
        let first = filled(&[0, 1, 2, 0, 3]);
        let records = disk.write(DISK_BLOCK_BYTES, &first).unwrap();
        assert_eq!(summary(&records), [(2, 2, false), (5, 1, false)]);
        assert_eq!(disk.write(DISK_BLOCK_BYTES, &first).unwrap(), []);

        let second = filled(&[1, 0, 0, 7, 3]);
        let records = disk.write(2 * DISK_BLOCK_BYTES, &second).unwrap();
        assert_eq!(summary(&records), [(3, 1, true), (5, 2, false)]);

        assert_eq!(summary(&disk.zero(0, SIZE_BYTES).unwrap()), [(2, 1, true), (5, 2, true)]);
        assert_eq!(disk.digest(), [0; 16]);
    }

    #[test]
    fn what_the_target_holds_is_not_sent_and_what_only_it_holds_is_zeroed() {
        let (mut there, mut here) =
            (DiskContent::new(SIZE_BYTES, 1).unwrap(), DiskContent::new(SIZE_BYTES, 1).unwrap());
        let held = filled(&[1, 2, 3, 4]);
        there.apply(&Record { offset: 0, content: RunContent::Data(&held) }).unwrap();
        assert_eq!(there.held_bytes(), 4 * DISK_BLOCK_BYTES);
        there.pieces().for_each(|piece| here.begin_with(&piece).unwrap());

        // A mirror: everything is zeroed, then what is allocated is written.
        assert_eq!(here.zero(0, SIZE_BYTES).unwrap(), []);
        let data = filled(&[1, 7]);
        assert_eq!(summary(&here.write(0, &data).unwrap()), [(1, 1, false)]);
        // The guest discards what was written meanwhile: that is said at once.
        assert_eq!(summary(&here.zero(0, DISK_BLOCK_BYTES).unwrap()), [(0, 1, true)]);
        assert_eq!(summary(&here.settle()), [(2, 2, true)]);
        assert_eq!(here.settle(), []);
        assert_eq!(summary(&here.zero(0, SIZE_BYTES).unwrap()), [(1, 1, true)]);
        assert_eq!(here.digest(), [0; 16]);
    }

    #[test]
    fn noise_and_structure_are_not_one_record() {
        let mut disk = DiskContent::new(SIZE_BYTES, 1).unwrap();
        let mut data = filled(&[1, 2, 3, 4, 5]);
        let noise = crate::pages::hash::tests::noise(7, 2 * BLOCK_BYTES);
        data[BLOCK_BYTES..3 * BLOCK_BYTES].copy_from_slice(&noise);
        let records = disk.write(0, &data).unwrap();
        assert_eq!(summary(&records), [(0, 1, false), (1, 2, false), (3, 2, false)]);
    }

    #[test]
    fn a_record_is_not_longer_than_it_may_be() {
        let mut disk = DiskContent::new(1 << 30, 1).unwrap();
        let data = vec![1; DATA_RECORD_BYTES_MAX + BLOCK_BYTES];
        let records = disk.write(0, &data).unwrap();
        assert_eq!(summary(&records), [(0, 16, false), (16, 1, false)]);
        assert!(records.iter().all(|record| record.check().is_ok()));
    }

    #[test]
    fn nothing_is_outside_of_the_disk() {
        let mut disk = DiskContent::new(SIZE_BYTES, 1).unwrap();
        assert!(disk.zero(SIZE_BYTES, DISK_BLOCK_BYTES).is_err());
        assert!(disk.write(SIZE_BYTES - DISK_BLOCK_BYTES, &filled(&[1, 1])).is_err());
        let content = RunContent::Zero(2 * DISK_BLOCK_BYTES as u32);
        assert!(disk.apply(&Record { offset: SIZE_BYTES - DISK_BLOCK_BYTES, content }).is_err());
    }
}
