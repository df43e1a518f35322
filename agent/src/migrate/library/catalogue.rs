//! The source's side: which content has which number on one shelf of a target.

use std::collections::HashMap;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Instant;

use novacron_protocol::pages::PAGE_BYTES;

use super::strong_hash::StrongHash;
use super::voucher::Voucher;
use crate::migrate::cache::{CacheBudget, Lease};

/// Bytes that a number may take: 16 of hash and 24 of entry, twice that in a hash table that has just grown, and its
/// control bytes.
pub(super) const ENTRY_BYTES: u64 = 96;

/// What is known of a content.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Find {
    /// It is on the shelf under this number, or will be before anything else of this lane is looked at.
    Known(u64),
    /// A lane has sent it a moment ago.
    Pending,
    /// It is not on the shelf.
    Absent,
}

#[derive(Debug)]
struct Entry {
    slot: u64,
    batch: u64,
    voucher: Arc<Voucher>,
}

/// See the module.
pub struct Catalogue {
    key: [u8; blake3::KEY_LEN],
    pages_max: u64,
    state: Mutex<State>,
    /// Something that was pending may be known now.
    news: Condvar,
}

struct State {
    next_slot: u64,
    entries: HashMap<StrongHash, Entry>,
    room: Lease,
}

impl std::fmt::Debug for Catalogue {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let state = self.lock();
        formatter
            .debug_struct("Catalogue")
            .field("pages_max", &self.pages_max)
            .field("next_slot", &state.next_slot)
            .finish_non_exhaustive()
    }
}

impl State {
    fn find(&mut self, content: StrongHash, lane: &Arc<Voucher>) -> Find {
        let Some(entry) = self.entries.get(&content) else { return Find::Absent };
        if Arc::ptr_eq(&entry.voucher, lane) {
            return Find::Known(entry.slot);
        }
        match entry.voucher.has_processed(entry.batch) {
            Some(true) => Find::Known(entry.slot),
            None => Find::Pending,
            Some(false) => {
                self.entries.remove(&content);
                Find::Absent
            }
        }
    }
}

impl Catalogue {
    /// Of an empty shelf with room for so many pages. `key` is a secret of this catalogue; its own memory is taken from
    /// `budget`.
    pub fn new(key: [u8; blake3::KEY_LEN], pages_max: u32, budget: &CacheBudget) -> Self {
        let room = budget.lease();
        let state = State { next_slot: 0, entries: HashMap::new(), room };
        Self { key, pages_max: pages_max.into(), state: Mutex::new(state), news: Condvar::new() }
    }

    /// What a page is known by here.
    pub fn hash(&self, content: &[u8; PAGE_BYTES]) -> StrongHash {
        StrongHash::of(&self.key, content)
    }

    /// What a lane may say of a page with this content.
    pub fn find(&self, content: StrongHash, lane: &Arc<Voucher>) -> Find {
        self.lock().find(content, lane)
    }

    /// As [`Self::find`], but waits until then for what is pending.
    pub fn find_until(&self, content: StrongHash, lane: &Arc<Voucher>, deadline: Instant) -> Find {
        let mut state = self.lock();
        loop {
            let found = state.find(content, lane);
            let left = deadline.saturating_duration_since(Instant::now());
            if found != Find::Pending || left.is_zero() {
                return found;
            }
            let waited = self.news.wait_timeout(state, left);
            state = waited.unwrap_or_else(PoisonError::into_inner).0;
        }
    }

    /// The target has processed something, or never will.
    pub fn has_news(&self) {
        // Whoever looks and then waits does so under the lock, and so misses nothing.
        drop(self.lock());
        self.news.notify_all();
    }

    /// Numbers for so many pages, one after the other, of which this is the first; `None` if the shelf is full, or if
    /// there is no room here to note them.
    pub fn reserve(&self, pages: u64) -> Option<u64> {
        let mut state = self.lock();
        let first = state.next_slot;
        let end = first.checked_add(pages).filter(|end| *end <= self.pages_max)?;
        if !state.room.grow(pages * ENTRY_BYTES) {
            return None;
        }
        state.next_slot = end;
        Some(first)
    }

    /// These contents are under the numbers from the first on, once the target has processed that batch of the lane.
    pub fn enter(&self, contents: &[StrongHash], first: u64, batch: u64, lane: &Arc<Voucher>) {
        let mut state = self.lock();
        for (slot, content) in (first..).zip(contents) {
            let entry = Entry { slot, batch, voucher: Arc::clone(lane) };
            state.entries.insert(*content, entry);
        }
    }

    /// Forgets which content has which number. The numbers stay taken: the target has those pages, or they are on the way
    /// to it.
    pub(in crate::migrate) fn forget(&self) {
        let mut state = self.lock();
        state.entries = HashMap::new();
        state.room.clear();
    }

    /// Whether nothing is known.
    pub(super) fn is_empty(&self) -> bool {
        self.lock().entries.is_empty()
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicU64, Ordering};
    use std::time::Duration;

    use super::*;

    fn lane() -> (Arc<AtomicU64>, Arc<Voucher>) {
        let processed = Arc::new(AtomicU64::new(0));
        (Arc::clone(&processed), Voucher::new(processed))
    }

    fn content(byte: u8) -> StrongHash {
        StrongHash::of(&[1; 32], &[byte; PAGE_BYTES])
    }

    fn catalogue(pages_max: u32, budget_bytes: u64) -> Catalogue {
        Catalogue::new([1; 32], pages_max, &CacheBudget::new(budget_bytes))
    }

    #[test]
    fn others_may_refer_to_a_page_once_it_is_processed_and_the_lane_itself_at_once() {
        let catalogue = catalogue(100, 1 << 20);
        let (processed, mine) = lane();
        let (_, other) = lane();
        let first = catalogue.reserve(1).unwrap();
        catalogue.enter(&[content(1)], first, 4, &mine);
        assert_eq!(catalogue.find(content(1), &mine), Find::Known(first));
        assert_eq!(catalogue.find(content(1), &other), Find::Pending);
        processed.store(4, Ordering::Release);
        assert_eq!(catalogue.find(content(1), &other), Find::Pending, "that was the batch before");
        processed.store(5, Ordering::Release);
        assert_eq!(catalogue.find(content(1), &other), Find::Known(first));
        assert_eq!(catalogue.find(content(2), &other), Find::Absent);
    }

    #[test]
    fn what_a_lane_did_not_bring_is_absent_when_it_ended() {
        let catalogue = catalogue(100, 1 << 20);
        let (processed, dead) = lane();
        let (_, other) = lane();
        catalogue.enter(&[content(1)], 0, 0, &dead);
        catalogue.enter(&[content(2)], 1, 1, &dead);
        processed.store(1, Ordering::Release);
        dead.end();
        assert_eq!(catalogue.find(content(1), &other), Find::Known(0));
        assert_eq!(catalogue.find(content(2), &other), Find::Absent);
        catalogue.enter(&[content(2)], 7, 0, &other);
        assert_eq!(catalogue.find(content(2), &other), Find::Known(7));
    }

    #[test]
    fn whoever_waits_hears_the_news_and_waits_no_longer_than_until_the_deadline() {
        let catalogue = catalogue(100, 1 << 20);
        let (processed, busy) = lane();
        let (_, other) = lane();
        catalogue.enter(&[content(1)], 3, 0, &busy);
        let now = Instant::now();
        assert_eq!(catalogue.find_until(content(1), &other, now), Find::Pending);
        let deadline = now + Duration::from_secs(60);
        std::thread::scope(|scope| {
            let waiting = scope.spawn(|| catalogue.find_until(content(1), &other, deadline));
            processed.store(1, Ordering::Release);
            catalogue.has_news();
            assert_eq!(waiting.join().unwrap(), Find::Known(3));
        });
    }

    #[test]
    fn numbers_are_given_once_and_end_with_the_shelf() {
        let catalogue = catalogue(100, 1 << 20);
        assert_eq!(catalogue.reserve(60), Some(0));
        assert_eq!(catalogue.reserve(60), None);
        assert_eq!(catalogue.reserve(40), Some(60));
        assert_eq!(catalogue.reserve(1), None);
        assert_eq!(catalogue.reserve(u64::MAX), None);
    }

    #[test]
    fn what_is_forgotten_gives_its_room_back_but_not_its_numbers() {
        let catalogue = catalogue(100, 10 * ENTRY_BYTES);
        let (_, mine) = lane();
        let first = catalogue.reserve(10).unwrap();
        catalogue.enter(&[content(1)], first, 0, &mine);
        catalogue.forget();
        assert!(catalogue.is_empty());
        assert_eq!(catalogue.find(content(1), &mine), Find::Absent);
        assert_eq!(catalogue.reserve(10), Some(10));
    }

    #[test]
    fn numbers_end_with_the_room_to_note_them() {
        let catalogue = catalogue(1 << 30, 10 * ENTRY_BYTES);
        assert_eq!(catalogue.reserve(11), None);
        assert_eq!(catalogue.reserve(10), Some(0));
        assert_eq!(catalogue.reserve(1), None);
    }
}
