//! The target's side: pages of one circle, by number.

use std::sync::{PoisonError, RwLock};

use novacron_protocol::pages::{ContentHash, PAGE_BYTES, PageHasher};
use novacron_protocol::session::message::ShelfOffer;

use crate::migrate::cache::{CacheBudget, Lease, Shadow};
use crate::sys::{CHUNK_BYTES, CHUNK_PAGES};

/// A shelf of which so many percent of the numbers are taken has no future: the next migration gets another one.
const FULL_PERCENT: u64 = 90;

/// Bytes of a page's hash, and of its place in the list.
const NOTE_BYTES: u64 = 16 + 4;

/// Bytes of a chunk of pages with all that belongs to it.
const CHUNK_ROOM_BYTES: u64 = CHUNK_BYTES as u64 + CHUNK_PAGES as u64 * NOTE_BYTES;

/// Why a page cannot be put on a shelf or taken from it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum ShelfError {
    /// The number is not one of the shelf's.
    #[error("there is no place {slot} on the shelf")]
    Outside {
        /// The number.
        slot: u64,
    },
    /// Another page is there: nothing is ever replaced.
    #[error("place {slot} of the shelf is taken")]
    Taken {
        /// The number.
        slot: u64,
    },
    /// Nothing is there.
    #[error("place {slot} of the shelf is empty")]
    Empty {
        /// The number.
        slot: u64,
    },
    /// The page is not what it was.
    #[error("the page in place {slot} of the shelf is damaged")]
    Damaged {
        /// The number.
        slot: u64,
    },
    /// The host has no memory for it.
    #[error("the host has no memory for the shelf")]
    NoMemory,
}

/// See the module.
pub struct Shelf {
    offer: ShelfOffer,
    hasher: PageHasher,
    pages: RwLock<Pages>,
    _room: Lease,
}

struct Pages {
    content: Shadow,
    hashes: Vec<ContentHash>,
    /// The number behind the highest that is taken: those below may be on the way, or were lost with a migration.
    end: u64,
    is_damaged: bool,
}

impl std::fmt::Debug for Shelf {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.debug_struct("Shelf").field("offer", &self.offer).finish_non_exhaustive()
    }
}

impl Shelf {
    /// Pages that fit into so many bytes.
    pub(super) fn pages_in(bytes: u64) -> u32 {
        let pages = (bytes / CHUNK_ROOM_BYTES).saturating_mul(CHUNK_PAGES as u64);
        // The last number of all means nothing in a list.
        pages.min(u64::from(u32::MAX - 1)) as u32
    }

    /// An empty shelf, whose room is taken from `budget` at once: it was promised. `None` if there is not as much.
    pub(super) fn new(offer: ShelfOffer, budget: &CacheBudget) -> Option<Self> {
        let pages_max = offer.pages_max as usize;
        let bytes = pages_max.div_ceil(CHUNK_PAGES) as u64 * CHUNK_ROOM_BYTES;
        let mut room = budget.lease();
        if !room.grow(bytes) {
            return None;
        }
        // Its room was taken above: this budget cannot be in the way.
        let content = Shadow::new(pages_max, &CacheBudget::new(u64::MAX));
        let hashes = vec![ContentHash::ZERO_PAGE; pages_max];
        let pages = RwLock::new(Pages { content, hashes, end: 0, is_damaged: false });
        Some(Self { offer, hasher: PageHasher::new(rand::random()), pages, _room: room })
    }

    /// What the source is told of it.
    pub fn offer(&self) -> ShelfOffer {
        self.offer
    }

    /// Puts pages under their numbers, all that come before one that cannot be.
    ///
    /// # Errors
    /// [`ShelfError::Outside`], [`ShelfError::Taken`], [`ShelfError::NoMemory`].
    pub fn put<'a>(
        &self,
        pages: impl Iterator<Item = (u64, &'a [u8; PAGE_BYTES])>,
    ) -> Result<(), ShelfError> {
        let mut shelf = self.pages.write().unwrap_or_else(PoisonError::into_inner);
        for (slot, content) in pages {
            shelf.put(self.place(slot)?, content, self.hasher.hash_bytes(content))?;
        }
        Ok(())
    }

    /// The page of a number.
    ///
    /// # Errors
    /// [`ShelfError::Outside`], [`ShelfError::Empty`], or [`ShelfError::Damaged`], after which the shelf is used for no
    /// further migration.
    pub fn get(&self, slot: u64) -> Result<[u8; PAGE_BYTES], ShelfError> {
        let place = self.place(slot)?;
        let shelf = self.pages.read().unwrap_or_else(PoisonError::into_inner);
        let content = *shelf.content.get(place).ok_or(ShelfError::Empty { slot })?;
        if shelf.hashes.get(place as usize) == Some(&self.hasher.hash_bytes(&content)) {
            return Ok(content);
        }
        drop(shelf);
        self.pages.write().unwrap_or_else(PoisonError::into_inner).is_damaged = true;
        Err(ShelfError::Damaged { slot })
    }

    /// Whether it can be given to a further migration.
    pub(super) fn has_future(&self) -> bool {
        let pages = self.pages.read().unwrap_or_else(PoisonError::into_inner);
        !pages.is_damaged && pages.end * 100 < u64::from(self.offer.pages_max) * FULL_PERCENT
    }

    fn place(&self, slot: u64) -> Result<u32, ShelfError> {
        let place = u32::try_from(slot).ok().filter(|place| *place < self.offer.pages_max);
        place.ok_or(ShelfError::Outside { slot })
    }
}

impl Pages {
    fn put(
        &mut self,
        place: u32,
        content: &[u8; PAGE_BYTES],
        hash: ContentHash,
    ) -> Result<(), ShelfError> {
        if self.content.get(place).is_some() {
            return Err(ShelfError::Taken { slot: place.into() });
        }
        self.content.put(place, content);
        self.content.get(place).ok_or(ShelfError::NoMemory)?;
        if let Some(known) = self.hashes.get_mut(place as usize) {
            *known = hash;
        }
        self.end = self.end.max(u64::from(place) + 1);
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const PAGES: u32 = 2 * CHUNK_PAGES as u32;

    fn shelf() -> Shelf {
        let offer = ShelfOffer { id: 1, pages_max: PAGES };
        Shelf::new(offer, &CacheBudget::new(2 * CHUNK_ROOM_BYTES)).unwrap()
    }

    fn put(shelf: &Shelf, slot: u64, byte: u8) -> Result<(), ShelfError> {
        shelf.put([(slot, &[byte; PAGE_BYTES])].into_iter())
    }

    #[test]
    fn a_page_is_found_under_its_number_and_no_other() {
        let shelf = shelf();
        put(&shelf, 3, 3).unwrap();
        put(&shelf, 4, 0).unwrap();
        assert_eq!(shelf.get(3), Ok([3; PAGE_BYTES]));
        assert_eq!(shelf.get(4), Ok([0; PAGE_BYTES]), "zeros are a content, too");
        assert_eq!(shelf.get(2), Err(ShelfError::Empty { slot: 2 }));
        for slot in [u64::from(PAGES), u64::MAX] {
            assert_eq!(put(&shelf, slot, 1), Err(ShelfError::Outside { slot }));
            assert_eq!(shelf.get(slot), Err(ShelfError::Outside { slot }));
        }
    }

    #[test]
    fn nothing_is_ever_replaced() {
        let shelf = shelf();
        put(&shelf, 3, 3).unwrap();
        assert_eq!(put(&shelf, 3, 4), Err(ShelfError::Taken { slot: 3 }));
        assert_eq!(shelf.get(3), Ok([3; PAGE_BYTES]));
    }

    #[test]
    fn a_flipped_bit_is_found_and_ends_the_shelf() {
        let shelf = shelf();
        put(&shelf, 3, 3).unwrap();
        let mut damaged = [3; PAGE_BYTES];
        damaged[1000] ^= 4;
        shelf.pages.write().unwrap().content.put(3, &damaged);
        assert!(shelf.has_future());
        assert_eq!(shelf.get(3), Err(ShelfError::Damaged { slot: 3 }));
        assert!(!shelf.has_future());
    }

    #[test]
    fn a_shelf_whose_last_numbers_are_taken_is_full_whatever_was_lost() {
        let shelf = shelf();
        put(&shelf, 0, 1).unwrap();
        assert!(shelf.has_future());
        put(&shelf, u64::from(PAGES) - 1, 1).unwrap();
        assert!(!shelf.has_future());
    }

    #[test]
    fn its_room_is_taken_at_once_and_comes_back() {
        let budget = CacheBudget::new(2 * CHUNK_ROOM_BYTES);
        let pages_max = Shelf::pages_in(budget.limit_bytes());
        assert_eq!(pages_max, PAGES);
        let shelf = Shelf::new(ShelfOffer { id: 1, pages_max }, &budget);
        assert_eq!(budget.used_bytes(), 2 * CHUNK_ROOM_BYTES);
        assert!(Shelf::new(ShelfOffer { id: 2, pages_max: 1 }, &budget).is_none());
        drop(shelf);
        assert_eq!(budget.used_bytes(), 0);
    }
}
