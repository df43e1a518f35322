//! Comparing clocks: who is off is decided by a majority of those that vote. Pure.

use std::collections::BTreeMap;

use novacron_protocol::ids::MemberId;
use novacron_protocol::time::Timestamp;
use tokio::time::Instant;

/// How far two clocks may differ. Machines that keep time by the network differ by milliseconds; what depends on time
/// here (tokens, leases of answers, hours of the ledger with two hours of grace) does not suffer from ten seconds.
pub const CLOCK_OFF_MS_MAX: u64 = 10_000;

/// The own clock at a moment, and from then on by the clock that does not jump. A comparison is held against this: a jump in
/// the middle of a question would look like an answer that took long, and be believed.
#[derive(Debug, Clone, Copy)]
pub struct Anchor {
    /// What the clock said.
    pub wall: Timestamp,
    /// When.
    pub at: Instant,
}

impl Anchor {
    /// What the clock says now, unless it has jumped, in Unix milliseconds.
    pub fn expected_ms(&self) -> u64 {
        self.wall.unix_ms.saturating_add(self.at.elapsed().as_millis() as u64)
    }

    /// How far the clock has jumped if it says `wall` now.
    pub fn jump_ms(&self, wall: Timestamp) -> i64 {
        difference_ms(wall.unix_ms, self.expected_ms())
    }
}

/// A clock that was read over the network.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Reading {
    /// The own clock when the question left.
    pub asked_ms: u64,
    /// The own clock when the answer came.
    pub answered_ms: u64,
    /// What the other one said in between.
    pub theirs_ms: u64,
}

impl Reading {
    /// How much later the own clock is, at least: within the time that the question took, theirs may have been right.
    pub fn offset_ms(&self) -> i64 {
        let latest = difference_ms(self.asked_ms, self.theirs_ms);
        let earliest = difference_ms(self.answered_ms, self.theirs_ms);
        let (low, high) = (latest.min(earliest), latest.max(earliest));
        if low > 0 { low } else { high.min(0) }
    }
}

/// `a` less `b`.
pub fn difference_ms(a: u64, b: u64) -> i64 {
    i64::try_from(i128::from(a) - i128::from(b)).unwrap_or(if a > b { i64::MAX } else { i64::MIN })
}

/// By how much the own clock is off, if it is: a majority of those that vote says so, or, after it has jumped, all that
/// answered. The offset is the smallest of theirs.
pub fn off_ms(
    offsets_ms: &BTreeMap<MemberId, i64>,
    voters: usize,
    has_jumped: bool,
) -> Option<i64> {
    let is_far = |offset: &&i64| offset.unsigned_abs() > CLOCK_OFF_MS_MAX;
    let far: Vec<i64> = offsets_ms.values().filter(is_far).copied().collect();
    let is_majority = far.len() > voters / 2;
    let is_everybody = has_jumped && !far.is_empty() && far.len() == offsets_ms.len();
    if !is_majority && !is_everybody {
        return None;
    }
    far.into_iter().min_by_key(|offset| offset.unsigned_abs())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_slow_answer_says_little() {
        let offset = |asked_ms, answered_ms, theirs_ms| {
            Reading { asked_ms, answered_ms, theirs_ms }.offset_ms()
        };
        assert_eq!(offset(1_000, 1_010, 1_005), 0);
        assert_eq!(offset(1_000, 60_000, 30_000), 0, "any time in between may be right");
        assert_eq!(offset(70_000, 70_010, 10_000), 60_000);
        assert_eq!(offset(10_000, 10_010, 70_000), -59_990);
        assert_eq!(difference_ms(0, u64::MAX), i64::MIN);
    }

    #[test]
    fn a_majority_decides_who_is_off() {
        let off = |offsets_ms: &[i64], voters, has_jumped| {
            let offsets = (2..).map(MemberId).zip(offsets_ms.iter().copied()).collect();
            off_ms(&offsets, voters, has_jumped)
        };
        let hour = 3_600_000;
        assert_eq!(off(&[hour, hour + 50], 3, false), Some(hour));
        assert_eq!(off(&[hour, 20], 3, false), None, "the other one is off");
        assert_eq!(off(&[hour, -hour], 3, false), Some(hour), "all three differ");
        assert_eq!(off(&[-hour, -hour, -hour, 0], 5, false), Some(-hour));
        assert_eq!(off(&[-hour, -hour, 0, 0], 5, false), None);
        // Of two nobody can say which, unless one has just jumped.
        assert_eq!(off(&[hour], 2, false), None);
        assert_eq!(off(&[hour], 2, true), Some(hour));
        assert_eq!(off(&[], 1, true), None, "alone, a clock is believed");
        assert_eq!(off(&[9_999, -9_999], 3, true), None);
    }
}
