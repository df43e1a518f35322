//! What a target's disk holds before anything is sent: the hashes of its blocks, for the source's table.
//!
//! A disk that begins as a copy of an image, or as what an earlier visit left behind, is told in pieces. A piece is a
//! list of runs without anything around it:
//!
//! | bytes | field |
//! |---|---|
//! | 1–10 | LEB128: blocks of zeros between the run before and this one; before the first, from block 0 |
//! | 1–10 | LEB128: blocks of the run, more than 0 |
//! | 16 each | their hashes, little-endian, none of them that of zeros |
//!
//! No block is told twice, in one piece or in several.

use super::{BlockHash, BlockTable};
use crate::pages::varint;

/// Blocks with content that all disks of a machine may begin with: 64 MiB of hashes for 256 GiB. Disks that hold more
/// begin blank, since each hash is kept until the other side has heard it.
pub const BEGINNING_BLOCKS_MAX: u64 = 1 << 22;

/// Blocks of one piece: 256 KiB of hashes.
const PIECE_BLOCKS_MAX: usize = 1 << 14;

/// Bytes of one piece: every block in a run of its own takes two numbers of at most 5 bytes (2^30 blocks).
pub const PIECE_BYTES_MAX: usize = PIECE_BLOCKS_MAX * (16 + 2 * 5);

/// A piece that makes no sense.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum BeginningError {
    /// Not a list of runs.
    #[error("what the target's disk holds is cut off or not understood")]
    Format,
    /// Not on the disk.
    #[error("the target's disk holds block {block}, and the disk has {blocks}")]
    OutsideDisk {
        /// Index of the block.
        block: u64,
        /// Blocks of the disk.
        blocks: usize,
    },
    /// Said before.
    #[error("block {block} of the target's disk is told twice")]
    Twice {
        /// Index of the block.
        block: u64,
    },
}

impl BlockTable {
    /// All that is not zeros, in pieces.
    pub fn pieces(&self) -> impl Iterator<Item = Vec<u8>> {
        let held = (0..).zip(self.content()).filter(|(_, hash)| **hash != 0);
        let mut held = held.map(|(block, hash)| (block, *hash)).peekable();
        std::iter::from_fn(move || {
            held.peek()?;
            Some(piece(held.by_ref().take(PIECE_BLOCKS_MAX)))
        })
    }

    /// Takes over a piece of what the other end's disk holds.
    ///
    /// # Errors
    /// [`BeginningError`]; the table is of no use then.
    pub fn begin_with(&mut self, mut piece: &[u8]) -> Result<(), BeginningError> {
        let mut block = 0;
        while !piece.is_empty() {
            let (skipped, count) = take_run(&mut piece)?;
            block = add(block, skipped)?;
            for _ in 0..count {
                self.begin_block(block, take_hash(&mut piece)?)?;
                block = add(block, 1)?;
            }
        }
        Ok(())
    }

    fn begin_block(&mut self, block: u64, hash: BlockHash) -> Result<(), BeginningError> {
        let blocks = self.blocks();
        let is_known = self.is_known(block);
        match is_known.map_err(|_| BeginningError::OutsideDisk { block, blocks })? {
            true => Err(BeginningError::Twice { block }),
            false => {
                self.applied(block, hash).map_err(|_| BeginningError::OutsideDisk { block, blocks })
            }
        }
    }
}

/// One piece of these blocks, which are in order.
fn piece(held: impl Iterator<Item = (u64, u128)>) -> Vec<u8> {
    let mut runs: Vec<(u64, Vec<u128>)> = Vec::new();
    for (block, hash) in held {
        match runs.last_mut() {
            Some((first, run)) if *first + run.len() as u64 == block => run.push(hash),
            _ => runs.push((block, vec![hash])),
        }
    }
    let (mut bytes, mut end) = (Vec::new(), 0);
    for (first, run) in runs {
        varint::put(first - end, &mut bytes);
        varint::put(run.len() as u64, &mut bytes);
        run.iter().for_each(|hash| bytes.extend_from_slice(&hash.to_le_bytes()));
        end = first + run.len() as u64;
    }
    bytes
}

fn take_run(piece: &mut &[u8]) -> Result<(u64, u64), BeginningError> {
    let skipped = varint::take(piece).ok_or(BeginningError::Format)?;
    let count = varint::take(piece).filter(|count| *count > 0).ok_or(BeginningError::Format)?;
    Ok((skipped, count))
}

fn take_hash(piece: &mut &[u8]) -> Result<BlockHash, BeginningError> {
    let (hash, rest) = piece.split_first_chunk().ok_or(BeginningError::Format)?;
    *piece = rest;
    let hash = BlockHash(u128::from_le_bytes(*hash));
    if hash == BlockHash::ZERO { Err(BeginningError::Format) } else { Ok(hash) }
}

fn add(block: u64, count: u64) -> Result<u64, BeginningError> {
    block.checked_add(count).ok_or(BeginningError::Format)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::limits::DISK_BLOCK_BYTES;

    fn table(blocks: u64) -> BlockTable {
        BlockTable::new(blocks * DISK_BLOCK_BYTES).unwrap()
    }

    proptest! {
        #[test]
        fn what_is_told_is_what_is_held(
            held in prop::collection::btree_map(0_u64..100_000, 1_u128.., 0..300),
            run in 0_u64..40_000,
        ) {
            let (mut there, mut here) = (table(100_000), table(100_000));
            for block in 0..run {
                there.applied(block, BlockHash(u128::from(block) + 1)).unwrap();
            }
            for (block, hash) in held {
                there.applied(block, BlockHash(hash)).unwrap();
            }
            for piece in there.pieces() {
                prop_assert!(piece.len() <= PIECE_BYTES_MAX);
                here.begin_with(&piece).unwrap();
            }
            prop_assert_eq!(here.content(), there.content());
            prop_assert_eq!(here.digest(), there.digest());
        }

        #[test]
        fn hostile_pieces_are_taken_or_refused(piece in prop::collection::vec(any::<u8>(), 0..200)) {
            let mut table = table(300);
            if table.begin_with(&piece).is_ok() {
                let again: Vec<u8> = table.pieces().flatten().collect();
                prop_assert_eq!(again.is_empty(), piece.is_empty());
            }
            prop_assert_eq!(table.digest(), table.recomputed_digest());
        }
    }

    #[test]
    fn nonsense_is_named() {
        let hash = 7_u128.to_le_bytes();
        let piece = |skipped: u8, hashes: &[[u8; 16]]| {
            [&[skipped, hashes.len() as u8][..], hashes.as_flattened()].concat()
        };
        let mut table = table(4);
        let blocks = 4;
        for (nonsense, error) in [
            (vec![0], BeginningError::Format),
            (vec![0, 0], BeginningError::Format),
            (piece(0, &[[0; 16]]), BeginningError::Format),
            (piece(0, &[hash])[..17].to_vec(), BeginningError::Format),
            (piece(4, &[hash]), BeginningError::OutsideDisk { block: 4, blocks }),
        ] {
            assert_eq!(table.begin_with(&nonsense), Err(error), "{nonsense:?}");
        }
        table.begin_with(&piece(1, &[hash, hash])).unwrap();
        assert_eq!(table.begin_with(&piece(2, &[hash])), Err(BeginningError::Twice { block: 2 }));
    }

    #[test]
    fn golden_bytes() {
        let mut table = table(400);
        for (block, hash) in [(300, 0x0102), (301, 3), (303, 4)] {
            table.applied(block, BlockHash(hash)).unwrap();
        }
        let hash = |low: [u8; 2]| [&low[..], &[0; 14]].concat();
        let expected = [vec![0xac, 0x02, 2], hash([2, 1]), hash([3, 0]), vec![1, 1], hash([4, 0])];
        assert_eq!(table.pieces().collect::<Vec<_>>(), [expected.concat()]);
    }
}
