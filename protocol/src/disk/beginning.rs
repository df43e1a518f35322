//! What a target's disk holds before anything is sent: the hashes of its blocks, for the source's table.
//!
//! A disk that begins as a copy of an image, or as what an earlier visit left behind, is told in pieces: runs of blocks
//! with their hashes, see `held_runs`. No block is told twice, in one piece or in several.

use super::{BlockHash, BlockTable};
use crate::held_runs::{self, MalformedPiece};

/// Blocks with content that all disks of a machine may begin with: 64 MiB of hashes for 256 GiB. Disks that hold more
/// begin blank, since each hash is kept, to be said again, until the source has heard it.
pub const BEGINNING_BLOCKS_MAX: u64 = 1 << 22;

/// Bytes of one piece.
pub const PIECE_BYTES_MAX: usize = held_runs::PIECE_BYTES_MAX;

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

impl From<MalformedPiece> for BeginningError {
    fn from(_: MalformedPiece) -> Self {
        Self::Format
    }
}

impl BlockTable {
    /// All that is not zeros, in pieces.
    pub fn pieces(&self) -> impl Iterator<Item = Vec<u8>> {
        held_runs::pieces(self.content())
    }

    /// Takes over a piece of what the other end's disk holds.
    ///
    /// # Errors
    /// [`BeginningError`]; the table is of no use then.
    pub fn begin_with(&mut self, piece: &[u8]) -> Result<(), BeginningError> {
        held_runs::read(piece, |block, hash| self.begin_block(block, BlockHash(hash)))
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
