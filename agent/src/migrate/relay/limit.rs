//! How many bytes a migration may put on the wire: a bucket that fills at the rate and holds little, so that what leaves
//! is as even as the link would have it.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

/// Time for which the bucket fills at most: what may leave at once after a pause.
const BURST_MS: u64 = 5;

/// The bucket: pure, time is an argument.
#[derive(Debug, Clone, Copy)]
struct Bucket {
    bytes_per_second: u64,
    /// When what was taken so far has been paid for, in microseconds.
    paid_at_us: u64,
}

impl Bucket {
    /// Takes so many bytes at `now_us`; how many microseconds to wait before they are sent.
    fn take(&mut self, bytes: u64, now_us: u64) -> u64 {
        let earliest = now_us.saturating_sub(BURST_MS * 1000);
        let begin_us = self.paid_at_us.max(earliest);
        let cost_us = u128::from(bytes) * 1_000_000 / u128::from(self.bytes_per_second.max(1));
        self.paid_at_us = begin_us.saturating_add(u64::try_from(cost_us).unwrap_or(u64::MAX));
        self.paid_at_us.saturating_sub(now_us)
    }
}

/// A limit that all streams of a migration share; clones are the same. Without a rate it never waits.
#[derive(Debug, Clone)]
pub struct Limit {
    bucket: Option<Arc<Mutex<Bucket>>>,
    begun: Instant,
}

impl Default for Limit {
    fn default() -> Self {
        Self::new(None)
    }
}

impl Limit {
    /// At most so many bits per second.
    pub fn new(bits_per_second: Option<u64>) -> Self {
        let bucket = |bits: u64| {
            Arc::new(Mutex::new(Bucket { bytes_per_second: bits.div_ceil(8), paid_at_us: 0 }))
        };
        Self { bucket: bits_per_second.map(bucket), begun: Instant::now() }
    }

    /// Waits until so many bytes may be sent. Cancel-safe; what was taken stays taken.
    pub(in crate::migrate) async fn take(&self, bytes: usize) {
        let Some(bucket) = &self.bucket else { return };
        let now_us = u64::try_from(self.begun.elapsed().as_micros()).unwrap_or(u64::MAX);
        let wait_us = {
            let mut bucket = bucket.lock().unwrap_or_else(PoisonError::into_inner);
            bucket.take(bytes as u64, now_us)
        };
        if wait_us > 0 {
            tokio::time::sleep(Duration::from_micros(wait_us)).await;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_leaves_is_the_rate_and_at_most_one_burst_more() {
        let mut bucket = Bucket { bytes_per_second: 1_000_000, paid_at_us: 0 };
        let mut now_us = 0;
        // A pause is not made up for, however long it was.
        for pause_us in [0, 1_000_000, 100, 3_600_000_000] {
            now_us += pause_us;
            let (begin_us, mut sent) = (now_us, 0);
            for step in 0..1000_u64 {
                let bytes = 500 + step * 37 % 3000;
                now_us += bucket.take(bytes, now_us);
                sent += bytes;
                assert!(sent <= now_us - begin_us + BURST_MS * 1000, "step {step}: {sent} bytes");
            }
            assert!(sent + 4000 >= now_us - begin_us, "there was always something to send");
        }
    }

    #[test]
    fn nonsense_harms_nobody() {
        let mut bucket = Bucket { bytes_per_second: 0, paid_at_us: 0 };
        assert!(bucket.take(u64::MAX, 5) > 0);
        assert_eq!(bucket.take(u64::MAX, u64::MAX), 0, "time has come to its end");
    }
}
