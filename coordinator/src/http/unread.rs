//! Answers of one connection that its other end has not read. HTTP/2 lets a client ask for much on one connection and take
//! none of it, for as long as the connection lives: so there is a bound on what waits, and a connection on which an answer
//! did not get on for some time ends, with all that waits on it.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::time::{Instant, sleep_until};

use crate::admission::SMALL_BYTES;

/// Bytes of larger answers that wait on one connection. One of them is never too much: pages have their own bound.
const BYTES_MAX: u64 = 8 << 20;

/// The answers of one connection that were begun and not read to their end.
#[derive(Debug, Default)]
pub(super) struct Unread(Mutex<Answers>);

#[derive(Debug, Default)]
struct Answers {
    next: u64,
    /// Of larger ones.
    bytes: u64,
    rows: BTreeMap<u64, Row>,
}

#[derive(Debug)]
struct Row {
    /// What counts of it.
    bytes: u64,
    /// Whether it is there whole, so that it is the reader who is waited for.
    is_whole: bool,
    /// Pieces that were handed on and are not in the socket yet.
    pieces: usize,
    /// When it got on last.
    since: Instant,
}

impl Row {
    fn waits(&self) -> bool {
        self.is_whole || self.pieces > 0
    }
}

/// An answer, as long as anything of it is in memory.
#[derive(Debug)]
pub(super) struct Reading {
    unread: Arc<Unread>,
    number: u64,
}

impl Unread {
    /// An answer begins; `bytes` is what is there of it already, if it is there whole.
    pub(super) fn begin(unread: &Arc<Self>, whole_bytes: Option<u64>) -> Reading {
        let mut answers = unread.answers();
        let number = answers.next;
        answers.next += 1;
        let bytes = whole_bytes.filter(|bytes| *bytes > SMALL_BYTES).unwrap_or(0);
        answers.bytes += bytes;
        let is_whole = whole_bytes.is_some();
        answers.rows.insert(number, Row { bytes, is_whole, pieces: 0, since: Instant::now() });
        drop(answers);
        Reading { unread: Arc::clone(unread), number }
    }

    /// Whether one more answer of so many bytes is too much beside what waits.
    pub(super) fn is_full(&self, bytes: u64) -> bool {
        let waiting = self.answers().bytes;
        bytes > SMALL_BYTES && waiting > 0 && waiting + bytes > BYTES_MAX
    }

    /// Ends when an answer did not get on for that long.
    pub(super) async fn stalls(&self, patience: Duration) {
        loop {
            let now = Instant::now();
            let waiting =
                self.answers().rows.values().filter(|row| row.waits()).map(|row| row.since).min();
            match waiting {
                Some(since) if since + patience <= now => return,
                // Whatever begins to wait meanwhile waits at least that long.
                waiting => sleep_until(waiting.unwrap_or(now) + patience).await,
            }
        }
    }

    fn answers(&self) -> MutexGuard<'_, Answers> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Reading {
    /// A piece is handed on.
    pub(super) fn hands_on(&self) {
        self.change(|row| row.pieces += 1);
    }

    /// A piece was taken.
    pub(super) fn gets_on(&self) {
        self.change(|row| {
            row.pieces = row.pieces.saturating_sub(1);
            row.since = Instant::now();
        });
    }

    fn change(&self, change: impl FnOnce(&mut Row)) {
        if let Some(row) = self.unread.answers().rows.get_mut(&self.number) {
            if row.pieces == 0 && !row.is_whole {
                row.since = Instant::now();
            }
            change(row);
        }
    }
}

impl Drop for Reading {
    fn drop(&mut self) {
        let mut answers = self.unread.answers();
        if let Some(row) = answers.rows.remove(&self.number) {
            answers.bytes -= row.bytes;
        }
    }
}

#[cfg(test)]
mod tests {
    use futures_util::FutureExt;
    use tokio::time::advance;

    use super::*;

    const PATIENCE: Duration = Duration::from_secs(30);

    #[test]
    fn a_large_answer_is_taken_beside_small_ones_and_another_only_as_far_as_there_is_room() {
        let unread = Arc::new(Unread::default());
        let _small = Unread::begin(&unread, Some(SMALL_BYTES));
        assert!(!unread.is_full(2 * BYTES_MAX));
        let large = Unread::begin(&unread, Some(2 * BYTES_MAX));
        assert!(unread.is_full(SMALL_BYTES + 1) && !unread.is_full(SMALL_BYTES));
        drop(large);
        assert!(!unread.is_full(SMALL_BYTES + 1));
    }

    #[tokio::test(start_paused = true)]
    async fn a_connection_stalls_when_one_answer_does_not_get_on() {
        let unread = Arc::new(Unread::default());
        let stalls = unread.stalls(PATIENCE);
        tokio::pin!(stalls);
        let stream = Unread::begin(&unread, None);
        advance(3 * PATIENCE).await;
        assert!(stalls.as_mut().now_or_never().is_none(), "a stream that says nothing is none");
        stream.hands_on();
        let whole = Unread::begin(&unread, Some(9));
        for _ in 0..9 {
            advance(PATIENCE / 2).await;
            assert!(stalls.as_mut().now_or_never().is_none(), "both get on");
            stream.gets_on();
            stream.hands_on();
            whole.hands_on();
            whole.gets_on();
        }
        drop(stream);
        advance(2 * PATIENCE).await;
        assert!(stalls.as_mut().now_or_never().is_some());
    }
}
