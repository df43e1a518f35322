//! A token bucket: pure, it is told the time.

use std::time::Duration;

/// How often something may happen.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Rate {
    /// In the long run; at least 1.
    pub per_second: u32,
    /// At once after a long silence; at least 1.
    pub burst: u32,
}

/// A token in the unit that is counted: at a rate of one a second, each nanosecond brings one.
const TOKEN: u64 = 1_000_000_000;

/// Tokens that come with time, up to a burst of them; what happens takes one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Bucket {
    units: u64,
    filled_at: Duration,
}

impl Rate {
    fn capacity(self) -> u64 {
        u64::from(self.burst.max(1)) * TOKEN
    }
}

impl Bucket {
    /// A full one. Times are since one moment that all calls agree on.
    pub fn full(rate: Rate, now: Duration) -> Self {
        Self { units: rate.capacity(), filled_at: now }
    }

    /// Takes a token.
    ///
    /// # Errors
    /// How long it takes until there is one.
    pub fn take(&mut self, rate: Rate, now: Duration) -> Result<(), Duration> {
        self.fill(rate, now);
        match self.units.checked_sub(TOKEN) {
            Some(left) => {
                self.units = left;
                Ok(())
            }
            None => {
                let missing = TOKEN - self.units;
                Err(Duration::from_nanos(missing.div_ceil(u64::from(rate.per_second.max(1)))))
            }
        }
    }

    /// Whether it says nothing more than that there was a long silence.
    pub fn is_full(&self, rate: Rate, now: Duration) -> bool {
        let mut then = *self;
        then.fill(rate, now);
        then.units == rate.capacity()
    }

    /// A clock that went back brings nothing.
    fn fill(&mut self, rate: Rate, now: Duration) {
        let passed = now.saturating_sub(self.filled_at);
        let passed_ns = u64::try_from(passed.as_nanos()).unwrap_or(u64::MAX);
        let more = passed_ns.saturating_mul(u64::from(rate.per_second));
        self.units = self.units.saturating_add(more).min(rate.capacity());
        self.filled_at = self.filled_at.max(now);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const RATE: Rate = Rate { per_second: 10, burst: 3 };

    fn ms(milliseconds: u64) -> Duration {
        Duration::from_millis(milliseconds)
    }

    #[test]
    fn a_burst_passes_and_then_the_rate() {
        let mut bucket = Bucket::full(RATE, ms(0));
        let taken: Vec<bool> = (0..4).map(|_| bucket.take(RATE, ms(0)).is_ok()).collect();
        assert_eq!(taken, [true, true, true, false]);
        assert_eq!(bucket.take(RATE, ms(40)), Err(ms(60)));
        assert_eq!(bucket.take(RATE, ms(100)), Ok(()));
        assert_eq!(bucket.take(RATE, ms(100)), Err(ms(100)));
    }

    #[test]
    fn in_the_long_run_no_more_passes_than_the_rate_whatever_the_steps() {
        for step_ms in [1, 7, 33, 250, 1_000] {
            let mut bucket = Bucket::full(RATE, ms(0));
            let mut passed = 0;
            for now in (0..60_000).step_by(step_ms) {
                while bucket.take(RATE, ms(now)).is_ok() {
                    passed += 1;
                }
            }
            assert!(passed <= 3 + 600, "{passed} at {step_ms} ms");
            // Where tokens are taken at least as often as the bucket overflows, none is lost.
            assert!(step_ms > 300 || passed >= 598, "{passed} at {step_ms} ms");
        }
    }

    #[test]
    fn silence_does_not_fill_it_further_and_a_clock_that_goes_back_changes_nothing() {
        let mut bucket = Bucket::full(RATE, ms(5_000));
        assert_eq!(bucket.take(RATE, ms(1_000)), Ok(()));
        assert!(!bucket.is_full(RATE, ms(4_000)));
        assert!(bucket.is_full(RATE, ms(5_100)));
        assert!(bucket.is_full(RATE, Duration::from_secs(u64::MAX)));
        let later = Duration::from_secs(1 << 40);
        assert_eq!((0..9).filter(|_| bucket.take(RATE, later).is_ok()).count(), 3);
    }
}
