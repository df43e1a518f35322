//! Where the threads of a source meet: the main thread tells the lanes the blocks, the lanes tell it how far they
//! are, and what they found that belongs into the main stream.

use std::collections::BTreeMap;
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};

use novacron_protocol::pages::PAGE_BYTES;
use novacron_protocol::qemu::BlockList;

/// Pages of other blocks (firmware, option ROMs, video memory) that may wait for a flush: 64 MiB.
const FOREIGN_PAGES_MAX: usize = (64 << 20) / PAGE_BYTES;

/// Block and index of a page.
pub(super) type PageKey = (u16, u32);

/// Content of a page that belongs into the main stream; `None` is a zero page.
pub(super) type ForeignPage = Option<Box<[u8; PAGE_BYTES]>>;

/// The migration is over: the thread ends without a further word.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Over;

/// Why a foreign page cannot be kept.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("more than {FOREIGN_PAGES_MAX} pages of blocks other than guest memory wait for a flush")]
pub(super) struct TooManyForeignPages;

#[derive(Debug, Default)]
struct State {
    blocks: Option<BlockList>,
    lane_epochs: Vec<u32>,
    foreign: BTreeMap<PageKey, (u32, ForeignPage)>,
    over: bool,
}

/// See the module.
#[derive(Debug)]
pub(super) struct Meeting {
    state: Mutex<State>,
    changed: Condvar,
}

impl Meeting {
    pub(super) fn new(lanes: usize) -> Self {
        let state = State { lane_epochs: vec![0; lanes], ..State::default() };
        Self { state: Mutex::new(state), changed: Condvar::new() }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        // Every change below is a single assignment: a panic elsewhere leaves nothing half done.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn wait_for<T>(&self, mut ready: impl FnMut(&mut State) -> Option<T>) -> Result<T, Over> {
        let mut state = self.lock();
        loop {
            if state.over {
                return Err(Over);
            }
            if let Some(value) = ready(&mut state) {
                return Ok(value);
            }
            state = self.changed.wait(state).unwrap_or_else(PoisonError::into_inner);
        }
    }

    /// The main thread: these are the RAM blocks.
    pub(super) fn announce_blocks(&self, blocks: &BlockList) {
        self.lock().blocks = Some(blocks.clone());
        self.changed.notify_all();
    }

    /// A lane: the RAM blocks, as soon as they are known.
    pub(super) fn blocks(&self) -> Result<BlockList, Over> {
        self.wait_for(|state| state.blocks.clone())
    }

    /// A lane: everything before its SYNC packet number `epoch` is on the wire.
    pub(super) fn lane_reached(&self, lane: usize, epoch: u32) {
        if let Some(reached) = self.lock().lane_epochs.get_mut(lane) {
            *reached = epoch;
        }
        self.changed.notify_all();
    }

    /// A lane: a page that is not guest memory. A newer content of the same page replaces an older one.
    pub(super) fn keep_foreign(
        &self,
        key: PageKey,
        epoch: u32,
        page: ForeignPage,
    ) -> Result<(), TooManyForeignPages> {
        let mut state = self.lock();
        if state.foreign.len() >= FOREIGN_PAGES_MAX && !state.foreign.contains_key(&key) {
            return Err(TooManyForeignPages);
        }
        let newer = state.foreign.get(&key).is_none_or(|(kept, _)| *kept <= epoch);
        if newer {
            state.foreign.insert(key, (epoch, page));
        }
        Ok(())
    }

    /// The main thread: waits until every lane has ended `epoch`, then takes the foreign pages.
    pub(super) fn flush(&self, epoch: u32) -> Result<BTreeMap<PageKey, (u32, ForeignPage)>, Over> {
        self.wait_for(|state| {
            let reached = state.lane_epochs.iter().all(|&lane| lane > epoch);
            reached.then(|| std::mem::take(&mut state.foreign))
        })
    }

    /// Nobody waits any longer.
    pub(super) fn end(&self) {
        self.lock().over = true;
        self.changed.notify_all();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_flush_waits_for_every_lane_and_takes_the_newest_content() {
        let meeting = Meeting::new(2);
        meeting.keep_foreign((1, 7), 0, Some(Box::new([1; PAGE_BYTES]))).unwrap();
        meeting.keep_foreign((1, 7), 1, None).unwrap();
        meeting.keep_foreign((1, 7), 0, Some(Box::new([2; PAGE_BYTES]))).unwrap();
        std::thread::scope(|scope| {
            let flush = scope.spawn(|| meeting.flush(0));
            meeting.lane_reached(0, 1);
            meeting.lane_reached(1, 1);
            let pages = flush.join().unwrap().unwrap();
            assert_eq!(pages.into_iter().collect::<Vec<_>>(), [((1, 7), (1, None))]);
        });
    }

    #[test]
    fn the_end_wakes_whoever_waits() {
        let meeting = Meeting::new(1);
        std::thread::scope(|scope| {
            let flush = scope.spawn(|| meeting.flush(0).unwrap_err());
            let blocks = scope.spawn(|| meeting.blocks().map(|_| ()).unwrap_err());
            meeting.end();
            assert_eq!((flush.join().unwrap(), blocks.join().unwrap()), (Over, Over));
        });
    }
}
