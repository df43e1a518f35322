//! When metered time passes and where it lies: pure.
//!
//! Durations come from the monotonic clock, which nobody can set and which stands still while the host sleeps. The wall
//! clock says only where they lie. So a clock that is set bills no second that did not pass, and loses none that did.

use serde::{Deserialize, Serialize};

/// Both clocks at one moment, in milliseconds.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Reading {
    /// UTC since 1970, as the host believes.
    pub wall_ms: u64,
    /// Since the host was started, without the time for which it slept.
    pub monotonic_ms: u64,
}

impl Reading {
    /// The full second that the wall clock shows.
    pub fn wall_s(self) -> u64 {
        self.wall_ms / 1000
    }

    /// The moment in the same run of the host at which the wall clock showed `wall_ms`, no earlier than this one and no
    /// later than `now`; this one if the clock was set in between, because then nobody can tell.
    #[must_use]
    pub fn moved_to(self, wall_ms: u64, now: Self) -> Self {
        let passed_ms = now.monotonic_ms.saturating_sub(self.monotonic_ms);
        let shown_ms = now.wall_ms.saturating_sub(self.wall_ms);
        if passed_ms.abs_diff(shown_ms) >= STEP_MS_MIN {
            return self;
        }
        let by_ms = wall_ms.saturating_sub(self.wall_ms).min(passed_ms);
        Self { wall_ms: self.wall_ms + by_ms, monotonic_ms: self.monotonic_ms + by_ms }
    }
}

/// A difference between the clocks that means that the wall clock was set: two readings are milliseconds apart, and a
/// clock that is slewed takes the monotonic one with it.
pub const STEP_MS_MIN: u64 = 1000;

/// Where a stretch of metered time lies. It goes on at the pace of the monotonic clock.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Placement {
    monotonic_ms: u64,
    utc_ms: u64,
}

impl Placement {
    /// `now` lies where the wall clock says, and `ahead_s` later.
    pub fn new(now: Reading, ahead_s: u64) -> Self {
        Self { monotonic_ms: now.monotonic_ms, utc_ms: now.wall_ms + ahead_s * 1000 }
    }

    /// Where `now` lies, in milliseconds of UTC since 1970.
    pub fn utc_ms(self, now: Reading) -> u64 {
        self.utc_ms + now.monotonic_ms.saturating_sub(self.monotonic_ms)
    }

    /// The second in which `now` lies.
    pub fn floor_s(self, now: Reading) -> u64 {
        self.utc_ms(now) / 1000
    }

    /// The first full second at or after `now`.
    pub fn ceil_s(self, now: Reading) -> u64 {
        self.utc_ms(now).div_ceil(1000)
    }

    /// Whole seconds by which the wall clock is ahead of this placement; negative if it is behind.
    pub fn wall_ahead_s(self, now: Reading) -> i64 {
        let (wall_ms, utc_ms) = (now.wall_ms.cast_signed(), self.utc_ms(now).cast_signed());
        wall_ms.saturating_sub(utc_ms) / 1000
    }

    /// Moved by whole seconds, so that started seconds stay as many as they are.
    #[must_use]
    pub fn moved_s(self, by_s: i64) -> Self {
        Self { utc_ms: self.utc_ms.saturating_add_signed(by_s.saturating_mul(1000)), ..self }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn reading(wall_ms: u64, monotonic_ms: u64) -> Reading {
        Reading { wall_ms, monotonic_ms }
    }

    #[test]
    fn a_placement_passes_with_the_monotonic_clock_only() {
        let placed = Placement::new(reading(100_400, 7_000), 0);
        let set = reading(3_700_500, 7_100);
        assert_eq!(
            (placed.utc_ms(set), placed.floor_s(set), placed.ceil_s(set)),
            (100_500, 100, 101)
        );
        assert_eq!(placed.wall_ahead_s(set), 3600);
        assert_eq!(placed.moved_s(3600).utc_ms(set), 3_700_500);
        assert_eq!(placed.wall_ahead_s(reading(99_000, 7_100)), -1);
    }

    #[test]
    fn a_sign_of_life_counts_only_between_two_readings_of_a_clock_that_was_not_set() {
        let (mark, now) = (reading(50_000, 1_000), reading(80_000, 31_000));
        assert_eq!(mark.moved_to(60_000, now), reading(60_000, 11_000));
        assert_eq!(mark.moved_to(40_000, now), mark);
        assert_eq!(mark.moved_to(99_000, now), now);
        let set = reading(3_680_000, 31_000);
        assert_eq!(mark.moved_to(60_000, set), mark);
    }
}
