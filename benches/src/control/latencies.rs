//! Latencies of a run: every one is kept, so that percentiles are exact.

use std::time::Duration;

/// Latencies that are kept: 60 s of 20,000 operations a second, 5 MB. What comes later is counted and not kept.
const KEPT_MAX: usize = 1_200_000;

/// See the module.
#[derive(Debug, Clone, Default)]
pub struct Latencies {
    kept_us: Vec<u32>,
    count: u64,
}

/// Milliseconds below which a share of the operations were.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub struct Spread {
    /// Half of them.
    pub p50_ms: f64,
    /// 95 of 100.
    pub p95_ms: f64,
    /// 99 of 100.
    pub p99_ms: f64,
    /// All.
    pub max_ms: f64,
}

impl Latencies {
    /// Counts one.
    pub fn add(&mut self, latency: Duration) {
        self.count += 1;
        if self.kept_us.len() < KEPT_MAX {
            self.kept_us.push(u32::try_from(latency.as_micros()).unwrap_or(u32::MAX));
        }
    }

    /// Adds those of another client.
    pub fn merge(&mut self, other: &Self) {
        self.count += other.count;
        let room = KEPT_MAX.saturating_sub(self.kept_us.len());
        self.kept_us.extend(other.kept_us.iter().take(room));
    }

    /// How many there were.
    pub fn count(&self) -> u64 {
        self.count
    }

    /// How they are spread; nothing if there was none.
    pub fn spread(&self) -> Option<Spread> {
        let mut sorted = self.kept_us.clone();
        sorted.sort_unstable();
        let last = sorted.len().checked_sub(1)?;
        // The nearest rank: the smallest latency that at least this share of all did not exceed.
        let at = |percent: usize| {
            let rank = (sorted.len() * percent).div_ceil(100);
            f64::from(sorted[rank.saturating_sub(1).min(last)]) / 1000.0
        };
        Some(Spread { p50_ms: at(50), p95_ms: at(95), p99_ms: at(99), max_ms: at(100) })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn percentiles_are_nearest_ranks() {
        let mut all = Latencies::default();
        for ms in (1..=100).rev() {
            let mut one = Latencies::default();
            one.add(Duration::from_millis(ms));
            all.merge(&one);
        }
        let spread = Spread { p50_ms: 50.0, p95_ms: 95.0, p99_ms: 99.0, max_ms: 100.0 };
        assert_eq!((all.count(), all.spread()), (100, Some(spread)));
        assert_eq!(Latencies::default().spread(), None);
    }

    #[test]
    fn one_is_every_percentile() {
        let mut one = Latencies::default();
        one.add(Duration::from_micros(1500));
        let spread = one.spread().unwrap();
        assert_eq!((spread.p50_ms, spread.p99_ms, spread.max_ms), (1.5, 1.5, 1.5));
    }
}
