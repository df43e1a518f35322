//! Work at a steady rate by the clock, in a guest whose clock may have stood still for a while.

use std::time::{Duration, Instant};

/// The most debt that is ever worked off: after a pause the guest goes on, it does not catch up.
const DEBT_MAX: Duration = Duration::from_millis(200);

/// Says how many units are due. Holds no clock: the time is given.
#[derive(Debug)]
pub struct Pace {
    units_per_s: u64,
    last: Instant,
    /// What is owed, in units times nanoseconds per second, so that nothing is rounded away.
    debt: u128,
}

impl Pace {
    /// A rate that starts now.
    pub fn new(units_per_s: u64, now: Instant) -> Self {
        Self { units_per_s, last: now, debt: 0 }
    }

    /// Whole units due since the last call.
    pub fn due(&mut self, now: Instant) -> u64 {
        const NANOS: u128 = 1_000_000_000;
        let passed = now.saturating_duration_since(self.last).min(DEBT_MAX);
        self.last = now;
        self.debt += passed.as_nanos() * u128::from(self.units_per_s);
        let units = self.debt / NANOS;
        self.debt %= NANOS;
        u64::try_from(units).unwrap_or(u64::MAX)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keeps_the_rate_over_uneven_steps() {
        let start = Instant::now();
        let mut pace = Pace::new(1000, start);
        let mut now = start;
        let mut units = 0;
        for step_us in [900, 7, 13_093, 50_000, 1, 35_999].repeat(10) {
            now += Duration::from_micros(step_us);
            units += pace.due(now);
        }
        assert_eq!(units, 1000);
    }

    #[test]
    fn a_long_pause_is_not_caught_up() {
        let start = Instant::now();
        let mut pace = Pace::new(1000, start);
        assert_eq!(pace.due(start + Duration::from_secs(60)), 200);
    }

    #[test]
    fn nought_is_never_due() {
        let start = Instant::now();
        assert_eq!(Pace::new(0, start).due(start + Duration::from_secs(1)), 0);
    }
}
