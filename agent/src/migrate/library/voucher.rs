//! How far the target is with the batches of one lane: what a page in one of them can be referred to by.

use std::sync::Arc;
use std::sync::atomic::{AtomicU8, AtomicU64, Ordering};

/// The target may still process batches.
const RUNNING: u8 = 0;
/// It processed all of them.
const COMPLETED: u8 = 1;
/// What it has not processed it never will.
const ENDED: u8 = 2;

/// Of one lane of one migration.
#[derive(Debug)]
pub struct Voucher {
    processed: Arc<AtomicU64>,
    state: AtomicU8,
}

impl Voucher {
    /// Of a lane, with the live number of its batches that the target has processed.
    pub fn new(processed: Arc<AtomicU64>) -> Arc<Self> {
        Arc::new(Self { processed, state: AtomicU8::new(RUNNING) })
    }

    /// The target has proven that it processed every batch of the lane.
    pub fn complete(&self) {
        self.state.store(COMPLETED, Ordering::Release);
    }

    /// The lane is over, unless it completed.
    pub fn end(&self) {
        let (from, to) = (RUNNING, ENDED);
        // It failed because it was over already, one way or the other.
        let _ = self.state.compare_exchange(from, to, Ordering::AcqRel, Ordering::Acquire);
    }

    /// Whether the target has processed the batch of this number. `None`: not yet.
    pub(super) fn has_processed(&self, batch: u64) -> Option<bool> {
        // Read first: the number does not change any more once the lane is over.
        let state = self.state.load(Ordering::Acquire);
        if state == COMPLETED || self.processed.load(Ordering::Acquire) > batch {
            return Some(true);
        }
        (state == ENDED).then_some(false)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_not_processed_is_open_until_the_lane_is_over() {
        let processed = Arc::new(AtomicU64::new(0));
        let voucher = Voucher::new(Arc::clone(&processed));
        assert_eq!(voucher.has_processed(0), None);
        processed.store(1, Ordering::Release);
        assert_eq!((voucher.has_processed(0), voucher.has_processed(1)), (Some(true), None));
        voucher.end();
        assert_eq!((voucher.has_processed(0), voucher.has_processed(1)), (Some(true), Some(false)));
    }

    #[test]
    fn a_lane_that_completed_stays_completed() {
        let voucher = Voucher::new(Arc::default());
        voucher.complete();
        voucher.end();
        assert_eq!(voucher.has_processed(9), Some(true));
    }
}
