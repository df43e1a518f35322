//! What a target holds of a machine's memory before anything is sent: the hashes of its pages, for the source's table.
//!
//! When either agent was restarted in the middle of a migration, what the other end had is not known any more; but it is
//! there. The target hashes the memory as it is, under the secret of the attempt that begins, and tells it in pieces:
//! runs of pages with their hashes, see `held_runs`. No page is told twice. A page that is not told is zero.

use super::{ContentHash, PageTable};
use crate::held_runs::{self, MalformedPiece};

/// Pages with content that are told: 64 MiB of hashes for 16 GiB, each kept, to be said again, until the source has heard
/// it. A target that holds more makes the rest of them zero.
pub const BEGINNING_PAGES_MAX: usize = 1 << 22;

/// Bytes of one piece.
pub const PIECE_BYTES_MAX: usize = held_runs::PIECE_BYTES_MAX;

/// A piece that makes no sense.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum BeginningError {
    /// Not a list of runs.
    #[error("what the target holds of the memory is cut off or not understood")]
    Format,
    /// Not in the memory.
    #[error("the target holds page {page} of the memory, which has {pages}")]
    OutsideMemory {
        /// Index of the page.
        page: u64,
        /// Pages of the memory.
        pages: usize,
    },
    /// Said before.
    #[error("page {page} of the target's memory is told twice")]
    Twice {
        /// Index of the page.
        page: u64,
    },
}

impl From<MalformedPiece> for BeginningError {
    fn from(_: MalformedPiece) -> Self {
        Self::Format
    }
}

impl PageTable {
    /// All that is not zeros, in pieces.
    pub fn pieces(&self) -> impl Iterator<Item = Vec<u8>> {
        held_runs::pieces(self.contents())
    }

    /// Takes over a piece of what the other end's memory holds, before anything is sent.
    ///
    /// # Errors
    /// [`BeginningError`]; the table is of no use then.
    pub fn begin_with(&mut self, piece: &[u8]) -> Result<(), BeginningError> {
        held_runs::read(piece, |page, hash| self.begin_told(page, ContentHash(hash)))
    }

    fn begin_told(&mut self, page: u64, hash: ContentHash) -> Result<(), BeginningError> {
        let pages = self.pages();
        let outside = BeginningError::OutsideMemory { page, pages };
        let page_index = u32::try_from(page).map_err(|_| outside)?;
        match self.begin_page(page_index, hash) {
            Ok(true) => Ok(()),
            Ok(false) => Err(BeginningError::Twice { page }),
            Err(_) => Err(outside),
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn what_is_told_is_what_is_held(
            held in prop::collection::btree_map(0_u32..60_000, 1_u128.., 0..300),
            run in 0_u32..40_000,
        ) {
            let (mut there, mut here) = (PageTable::new(60_000), PageTable::new(60_000));
            for page in 0..run {
                prop_assert!(there.begin_page(page, ContentHash(u128::from(page) + 1)).unwrap());
            }
            for (page, hash) in held.range(run..) {
                prop_assert!(there.begin_page(*page, ContentHash(*hash)).unwrap());
            }
            for piece in there.pieces() {
                prop_assert!(piece.len() <= PIECE_BYTES_MAX);
                here.begin_with(&piece).unwrap();
            }
            prop_assert_eq!(here.contents(), there.contents());
            prop_assert_eq!(here.regions(), there.regions());
        }

        #[test]
        fn hostile_pieces_are_taken_or_refused(piece in prop::collection::vec(any::<u8>(), 0..200)) {
            let mut table = PageTable::new(300);
            if table.begin_with(&piece).is_ok() {
                let again: Vec<u8> = table.pieces().flatten().collect();
                prop_assert_eq!(again.is_empty(), piece.is_empty());
            }
            prop_assert_eq!(table.recomputed_regions(), table.regions());
        }
    }

    fn piece(skipped: u8, hashes: &[u128]) -> Vec<u8> {
        let bytes = hashes.iter().flat_map(|hash| hash.to_le_bytes());
        [skipped, hashes.len() as u8].into_iter().chain(bytes).collect()
    }

    #[test]
    fn nonsense_is_named() {
        let (mut table, pages) = (PageTable::new(4), 4);
        for (nonsense, error) in [
            (vec![0], BeginningError::Format),
            (piece(0, &[0]), BeginningError::Format),
            (piece(0, &[7])[..17].to_vec(), BeginningError::Format),
            (piece(4, &[7]), BeginningError::OutsideMemory { page: 4, pages }),
        ] {
            assert_eq!(table.begin_with(&nonsense), Err(error), "{nonsense:?}");
        }
        table.begin_with(&piece(1, &[7, 7])).unwrap();
        assert_eq!(table.begin_with(&piece(2, &[7])), Err(BeginningError::Twice { page: 2 }));
    }

    #[test]
    fn golden_bytes() {
        let mut table = PageTable::new(400);
        for (page, hash) in [(300, 0x0102), (301, 3), (303, 4)] {
            table.begin_page(page, ContentHash(hash)).unwrap();
        }
        let hash = |low: [u8; 2]| [&low[..], &[0; 14]].concat();
        let expected = [vec![0xac, 0x02, 2], hash([2, 1]), hash([3, 0]), vec![1, 1], hash([4, 0])];
        assert_eq!(table.pieces().collect::<Vec<_>>(), [expected.concat()]);
    }

    #[test]
    fn what_is_held_is_not_sent() {
        use crate::pages::Admission;
        let mut table = PageTable::new(4);
        table.begin_with(&piece(1, &[7])).unwrap();
        assert_eq!(table.admit(1, 1, ContentHash(7)), Ok(Admission::SameContent));
        assert_eq!(table.admit(2, 1, ContentHash(7)), Ok(Admission::Send));
    }
}
