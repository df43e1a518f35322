//! One meter of one machine: pure.
//!
//! ```text
//!             level                level
//!  Closed ────────────► Open ◄───────────── the same: goes on
//!    ▲                   │  └────────────── another: cut at the next full second, goes on
//!    └──── no level ─────┘
//! ```
//!
//! A stretch covers every second that it started: from the second in which it began up to and with the one in which it
//! ended. Seconds before `until_s` are decided: a stretch that begins within one does not count it once more, so
//! consecutive stretches share their boundary, also within one second.
//!
//! **When the wall clock is set** forward, what is metered is cut where it was and goes on where the clock is now: the time
//! in between did not pass and is not metered. Set back, it goes on where it was: what is metered stays in order and apart,
//! ahead of the wall clock, until the clock has caught up. Only if that would be more than [`AHEAD_S_MAX`] it goes back to
//! where the clock is; seconds that were metered there before are the ledger's to refuse. Whichever it is, the sum is that
//! of a clock that was never set, to the second.

use novacron_protocol::ids::Generation;
use novacron_protocol::limits::USAGE_AGE_S_MAX;
use novacron_protocol::usage::HOUR_S;
use serde::{Deserialize, Serialize};

use super::time::{Placement, Reading};

/// How far metered time may lie ahead of the wall clock: a clock that was an hour wrong (a summer time, a zone) and is
/// put right makes no overlap; one that was further off had its records refused.
pub const AHEAD_S_MAX: u64 = 2 * HOUR_S;

/// What a meter stands at.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Level {
    /// The generation for which this agent has the machine.
    pub generation: Generation,
    /// At least 1.
    pub level: u64,
}

/// Seconds at a level, within one hour.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Interval {
    /// The first second.
    pub start_s: u64,
    /// The one after the last.
    pub end_s: u64,
    /// What the meter stood at.
    pub level: Level,
}

/// One meter of one machine.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Series {
    /// What lies before is metered or was not used.
    until_s: u64,
    /// What the meter stands at, if at anything.
    level: Option<Level>,
    /// Where its time lies, once it was metered in this run of the host.
    placed: Option<Placement>,
}

impl Series {
    /// The first second that is not decided.
    pub fn until_s(&self) -> u64 {
        self.until_s
    }

    /// Whether it is metered now.
    pub fn is_open(&self) -> bool {
        self.level.is_some()
    }

    /// From `now` on the meter stands at `level`, or at nothing.
    pub fn set(&mut self, now: Reading, level: Option<Level>) -> Vec<Interval> {
        let (placed, mut done) = self.follow(now);
        if level == self.level {
            return done;
        }
        if self.level.is_some() {
            done.extend(self.decide(placed.ceil_s(now)));
        }
        self.until_s = self.until_s.max(placed.floor_s(now));
        self.level = level;
        done
    }

    /// What is metered up to the last full `period_s` of UTC.
    pub fn cut(&mut self, now: Reading, period_s: u64) -> Vec<Interval> {
        let (placed, mut done) = self.follow(now);
        let at_s = placed.floor_s(now);
        done.extend(self.decide(at_s - at_s % period_s));
        done
    }

    /// What was metered is known to reach further than this series remembers. Not if it lies where the wall clock has been
    /// and will not be for long.
    pub fn decided(&mut self, now: Reading, until_s: u64) {
        if until_s <= now.wall_s() + AHEAD_S_MAX {
            self.until_s = self.until_s.max(until_s);
        }
    }

    /// The host was started anew since `mark`, and what is metered outlived that: it goes on where the wall clock is now,
    /// if that is later and not absurdly so; else it ended at the mark.
    pub fn carry_over(&mut self, mark: Reading, now: Reading) -> Vec<Interval> {
        let at_mark_ms = self.placed.map_or(0, |placed| placed.utc_ms(mark));
        let passed_ms = now.wall_ms.checked_sub(at_mark_ms);
        if passed_ms.is_some_and(|passed_ms| passed_ms / 1000 <= USAGE_AGE_S_MAX) {
            self.placed = Some(Placement::new(now, 0));
            return Vec::new();
        }
        self.end(mark)
    }

    /// It ended at `mark`, in an earlier run of the host.
    pub fn end(&mut self, mark: Reading) -> Vec<Interval> {
        let done = self.set(mark, None);
        self.placed = None;
        done
    }

    /// Goes where the wall clock was set to, if it was.
    fn follow(&mut self, now: Reading) -> (Placement, Vec<Interval>) {
        let Some(placed) = self.placed else { return (self.place(now), Vec::new()) };
        let by_s = placed.wall_ahead_s(now);
        if (-AHEAD_S_MAX.cast_signed()..=0).contains(&by_s) {
            return (placed, Vec::new());
        }
        let done = self.decide(placed.floor_s(now));
        let placed = placed.moved_s(by_s);
        self.until_s = self.until_s.saturating_add_signed(by_s);
        self.placed = Some(placed);
        (placed, done)
    }

    /// Where the wall clock is, unless what was metered before reaches further.
    fn place(&mut self, now: Reading) -> Placement {
        let ahead_s = self.until_s.saturating_sub(now.wall_s());
        let placed = match ahead_s {
            // The next full second is only the rest of one that is counted.
            0 | 1 => Placement::new(now, 0),
            2..=AHEAD_S_MAX => Placement::new(now, ahead_s),
            _ => {
                self.until_s = now.wall_s();
                Placement::new(now, 0)
            }
        };
        self.placed = Some(placed);
        placed
    }

    /// Meters up to `end_s`, hour by hour; at most as many as may still be told.
    fn decide(&mut self, end_s: u64) -> Vec<Interval> {
        let Some(level) = self.level else { return Vec::new() };
        let mut start_s = self.until_s.max(end_s.saturating_sub(USAGE_AGE_S_MAX));
        let mut done = Vec::new();
        while start_s < end_s {
            let piece_end_s = end_s.min(start_s - start_s % HOUR_S + HOUR_S);
            done.push(Interval { start_s, end_s: piece_end_s, level });
            start_s = piece_end_s;
        }
        self.until_s = self.until_s.max(end_s);
        done
    }
}
