//! How hard to compress while memory moves: pure.
//!
//! A lane that waits for the link has time to compress harder; a link that waits for the lanes wants them to compress
//! less. The level goes one step at a time, since each step tells only at the next look whether it was right, and never
//! so far that compressing takes more of the processor than it may.

use novacron_protocol::pages::Compression;

/// The steps, from the fastest. Above 9 zstd takes many times as long for a few per cent.
const STEPS: [Compression; 8] = [
    Compression::Off,
    Compression::Zstd { level: -5 },
    Compression::Zstd { level: -1 },
    Compression::Zstd { level: 1 },
    Compression::Zstd { level: 3 },
    Compression::Zstd { level: 5 },
    Compression::Zstd { level: 7 },
    Compression::Zstd { level: 9 },
];

/// Percent of their time that lanes must have waited for the link to compress as at each step. The cheap steps are worth
/// their price as soon as there is time to spare; the dear ones take time that guests on this host could use, and save
/// little, so the link must be very slow for them.
const WAITING_PERCENT_MIN: [u64; STEPS.len()] = [0, 0, 15, 30, 50, 85, 90, 95];
/// A step is left for a cheaper one only if they waited for less than this: most of a migration the link is the limit,
/// and at the beginning, where pages are many and small, nobody waits for it.
const WAITING_PERCENT_BUSY: u64 = 4;

/// What happened between two looks, in microseconds, all lanes together.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Look {
    /// Time that passed on one clock.
    pub passed_us: u64,
    /// Time that the lanes account for, all together.
    pub lanes_us: u64,
    /// Time that they waited for room on the link.
    pub waited_us: u64,
    /// Time that they waited for QEMU to write: neither link nor compression is to blame.
    pub idle_us: u64,
    /// Time of processors that they took.
    pub processor_us: u64,
}

impl Look {
    /// With what another lane tells.
    pub(crate) fn add(&mut self, other: &Self) {
        self.lanes_us += other.lanes_us;
        self.waited_us += other.waited_us;
        self.idle_us += other.idle_us;
        self.processor_us += other.processor_us;
    }
}

/// See the module.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct LevelControl {
    step: usize,
    budget_percent: u64,
}

impl LevelControl {
    /// Beginning near zstd's `level`, with so many percent of one processor to spend.
    pub(crate) fn new(level: i32, budget_percent: u64) -> Self {
        let is_reached = |step: &Compression| match step {
            Compression::Off => false,
            Compression::Zstd { level: reached } => *reached >= level,
        };
        let step = STEPS.iter().position(is_reached).unwrap_or(STEPS.len() - 1);
        Self { step, budget_percent }
    }

    /// How to compress now.
    pub(crate) fn compression(&self) -> Compression {
        STEPS[self.step]
    }

    /// After a look; the step changes by one at most.
    pub(crate) fn look(&mut self, look: Look) {
        let working_us = look.lanes_us.saturating_sub(look.idle_us);
        if working_us == 0 {
            return;
        }
        let waiting_percent = look.waited_us * 100 / working_us;
        let spent_percent = look.processor_us * 100 / look.passed_us.max(1);
        if spent_percent > self.budget_percent || waiting_percent < WAITING_PERCENT_BUSY {
            self.step = self.step.saturating_sub(1);
        } else if WAITING_PERCENT_MIN.get(self.step + 1).is_some_and(|min| waiting_percent >= *min)
        {
            self.step += 1;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn look(waited_us: u64, processor_us: u64) -> Look {
        Look { passed_us: 100_000, lanes_us: 200_000, waited_us, idle_us: 0, processor_us }
    }

    fn level_of(control: &LevelControl) -> Option<i32> {
        match control.compression() {
            Compression::Off => None,
            Compression::Zstd { level } => Some(level),
        }
    }

    #[test]
    fn begins_where_it_is_told() {
        for (asked, level) in [(-7, -5), (-5, -5), (0, 1), (1, 1), (4, 5), (19, 9)] {
            assert_eq!(level_of(&LevelControl::new(asked, 100)), Some(level), "{asked}");
        }
    }

    #[test]
    fn a_slow_link_is_worth_more_compression() {
        let mut control = LevelControl::new(1, 100);
        for _ in 0..10 {
            control.look(look(196_000, 4_000));
        }
        assert_eq!(level_of(&control), Some(9));
    }

    #[test]
    fn a_fast_link_is_worth_none() {
        let mut control = LevelControl::new(1, 200);
        for _ in 0..10 {
            control.look(look(0, 190_000));
        }
        assert_eq!(level_of(&control), None);
    }

    #[test]
    fn the_budget_is_kept_whatever_the_link() {
        let mut control = LevelControl::new(9, 100);
        control.look(look(90_000, 110_000));
        assert_eq!(level_of(&control), Some(7));
        control.look(look(196_000, 4_000));
        assert_eq!(level_of(&control), Some(9));
    }

    #[test]
    fn a_balance_stays() {
        let mut control = LevelControl::new(1, 100);
        for _ in 0..10 {
            control.look(look(40_000, 80_000));
        }
        assert_eq!(level_of(&control), Some(1));
    }

    #[test]
    fn lanes_that_have_nothing_to_do_say_nothing() {
        let mut control = LevelControl::new(3, 100);
        control.look(Look { passed_us: 100, lanes_us: 200, idle_us: 200, ..Look::default() });
        control.look(Look::default());
        assert_eq!(level_of(&control), Some(3));
    }
}
