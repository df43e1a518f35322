//! When the guest may be stopped, and when there is no point in going on: pure.
//!
//! QEMU stops the guest as soon as what is left to send is less than a threshold, which is a bandwidth times a time. Its
//! own idea of the bandwidth is what our sockets take, which says little about a round of small differences. So the
//! bandwidth is told to QEMU such that the threshold becomes what the last round's pace sends in the time that is
//! aimed at. The aim begins far below what is allowed, since a few more rounds cost little while they shrink; when they
//! no longer do, it grows to what is needed, up to what is allowed. Where even that is not enough, the guest writes
//! faster than the link carries; where that was asked for, it is slowed down until it does not.
//!
//! Sources: `migration_update_counters` and `migration_iteration_run` of QEMU; that remaining work is a saw tooth, so
//! that only values at the end of a round compare, was learnt by everybody who sampled it.

use std::ops::RangeInclusive;
use std::time::Duration;

use super::progress::per_second;

/// Bytes that QEMU may have left when it stops the guest, before any round has shown its pace: what a guest writes
/// that does nothing.
const THRESHOLD_BYTES_FIRST: u64 = 1 << 20;
/// Milliseconds of sending that are aimed at first.
const AIM_MS_FIRST: u64 = 8;
/// A round that leaves more than this share (in percent) of what the round before left does not shrink.
const STAGNATION_PERCENT: u64 = 70;
/// Such rounds one after the other, before the aim grows.
const STAGNANT_ROUNDS: u32 = 2;
/// Milliseconds of such rounds, with the aim at its limit, after which the guest counts as too fast: it may be busy for a
/// while.
const HOPELESS_MS: u64 = 30_000;
/// The same with throttling, which takes a while to bite.
const HOPELESS_THROTTLED_MS: u64 = 300_000;
/// A guest that is slowed down is to write at most this share (in percent) of what can be sent: then each round leaves
/// half of the one before.
const THROTTLED_WRITES_PERCENT: u64 = 50;
/// Percent of its time that a guest loses at least, and at most, where it is slowed down.
const THROTTLE_PERCENT: RangeInclusive<u8> = 20..=95;

/// What was asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Course {
    /// Milliseconds that the guest may stand still, as far as sending is concerned.
    pub downtime_limit_ms: u64,
    /// Whether the guest may be slowed down.
    pub is_throttling: bool,
}

/// The end of a round over the memory.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct RoundEnd {
    /// Milliseconds of the clock of all calls.
    pub now_ms: u64,
    /// Bytes of guest memory that the round handled.
    pub bytes: u64,
    /// Microseconds that it took.
    pub took_us: u64,
    /// Bytes of guest memory that were written meanwhile and are to be sent again.
    pub left_bytes: u64,
}

/// What is to be done after a round.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Advice {
    /// Go on like this.
    Go(Setting),
    /// Give up: the guest writes faster than the link carries.
    Hopeless(Verdict),
}

/// How to go on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Setting {
    /// Bytes per second that QEMU is told: its threshold follows from it.
    pub bandwidth: u64,
    /// Percent of its time that the guest loses.
    pub throttle_percent: u8,
}

/// Why there is no end.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Verdict {
    pace: Pace,
    /// Milliseconds for which the guest would stand still if it was stopped now, and may.
    needed_ms: u64,
    allowed_ms: u64,
}

impl std::fmt::Display for Verdict {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Self { pace, needed_ms, allowed_ms } = self;
        write!(
            formatter,
            "{pace}: what it has written since would keep it standing still for {needed_ms} ms, and {allowed_ms} ms are \
             allowed"
        )
    }
}

/// How fast things go, in bytes of guest memory per second.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Pace {
    /// Written by the guest.
    pub dirtied: u64,
    /// Sent.
    pub sent: u64,
}

impl std::fmt::Display for Pace {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let megabytes = |bytes: u64| bytes as f64 / 1e6;
        write!(
            formatter,
            "the guest writes {:.1} MB/s of memory and {:.1} MB/s can be sent",
            megabytes(self.dirtied),
            megabytes(self.sent)
        )
    }
}

/// See the module.
#[derive(Debug)]
pub(super) struct Pilot {
    course: Course,
    aim_ms: u64,
    left_before_bytes: Option<u64>,
    stagnant: u32,
    stagnant_since_ms: u64,
    throttle_percent: u8,
}

impl Pilot {
    /// At the beginning of a migration.
    pub(super) fn new(course: Course) -> Self {
        Self {
            course,
            aim_ms: AIM_MS_FIRST.min(course.downtime_limit_ms),
            left_before_bytes: None,
            stagnant: 0,
            stagnant_since_ms: 0,
            throttle_percent: 0,
        }
    }

    /// The bandwidth to begin with. Without it QEMU would take the pace of the first pages, most of which are zero, and
    /// stop the guest in the middle of the first round.
    pub(super) fn first_bandwidth(&self) -> u64 {
        THRESHOLD_BYTES_FIRST * 1000 / self.course.downtime_limit_ms.max(1)
    }

    /// A round ended.
    pub(super) fn round_ended(&mut self, round: RoundEnd) -> Advice {
        let pace = pace(round);
        self.note_progress(round);
        if self.stagnant >= STAGNANT_ROUNDS {
            self.raise_aim(round, pace);
            if self.is_too_slow(round, pace) {
                if self.is_hopeless(round) {
                    return Advice::Hopeless(self.verdict(round, pace));
                }
                self.throttle(pace);
            }
        }
        let bandwidth = self.bandwidth(pace.sent);
        Advice::Go(Setting { bandwidth, throttle_percent: self.throttle_percent })
    }

    fn note_progress(&mut self, round: RoundEnd) {
        let shrinks = self.left_before_bytes.is_none_or(|before| {
            round.left_bytes.saturating_mul(100) <= before.saturating_mul(STAGNATION_PERCENT)
        });
        self.left_before_bytes = Some(round.left_bytes);
        if shrinks {
            self.stagnant = 0;
        } else {
            if self.stagnant == 0 {
                self.stagnant_since_ms = round.now_ms;
            }
            self.stagnant += 1;
        }
    }

    /// To what the present remainder needs and a little more, but at least to twice of what it was.
    fn raise_aim(&mut self, round: RoundEnd, pace: Pace) {
        let needed = needed_ms(round.left_bytes, pace.sent);
        let wanted = (needed + needed / 4).max(self.aim_ms * 2);
        self.aim_ms = wanted.min(self.course.downtime_limit_ms);
    }

    fn is_too_slow(&self, round: RoundEnd, pace: Pace) -> bool {
        needed_ms(round.left_bytes, pace.sent) > self.course.downtime_limit_ms
    }

    fn is_hopeless(&self, round: RoundEnd) -> bool {
        let patience_ms =
            if self.course.is_throttling { HOPELESS_THROTTLED_MS } else { HOPELESS_MS };
        round.now_ms.saturating_sub(self.stagnant_since_ms) >= patience_ms
    }

    fn verdict(&self, round: RoundEnd, pace: Pace) -> Verdict {
        let needed_ms = needed_ms(round.left_bytes, pace.sent);
        Verdict { pace, needed_ms, allowed_ms: self.course.downtime_limit_ms }
    }

    /// So that the guest writes what is wanted, if it writes in proportion to its time; never less than before, since a
    /// guest that writes the same pages again and again seems slower than it is.
    fn throttle(&mut self, pace: Pace) {
        if !self.course.is_throttling {
            return;
        }
        let wanted = u128::from(pace.sent) * u128::from(THROTTLED_WRITES_PERCENT);
        let time_left = u128::from(100 - self.throttle_percent.min(99));
        let time_wanted = time_left * wanted / (u128::from(pace.dirtied.max(1)) * 100);
        let percent = 100 - u8::try_from(time_wanted).unwrap_or(100).min(100);
        let (least, most) = THROTTLE_PERCENT.into_inner();
        self.throttle_percent = percent.clamp(self.throttle_percent.max(least), most);
    }

    /// The bandwidth that, times the limit that QEMU knows, is the threshold that is wanted.
    fn bandwidth(&self, sent: u64) -> u64 {
        let threshold = u128::from(sent) * u128::from(self.aim_ms);
        let threshold = threshold.max(u128::from(THRESHOLD_BYTES_FIRST) * 1000);
        let bandwidth = threshold / u128::from(self.course.downtime_limit_ms.max(1));
        // 0 would let QEMU use its own idea.
        u64::try_from(bandwidth).unwrap_or(u64::MAX).max(1)
    }
}

fn pace(round: RoundEnd) -> Pace {
    let took = Duration::from_micros(round.took_us);
    Pace { dirtied: per_second(round.left_bytes, took), sent: per_second(round.bytes, took) }
}

fn needed_ms(left_bytes: u64, bytes_per_second: u64) -> u64 {
    let needed = u128::from(left_bytes) * 1000 / u128::from(bytes_per_second.max(1));
    u64::try_from(needed).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    const MB: u64 = 1_000_000;
    const LIMIT_MS: u64 = 300;

    /// A guest that writes at one rate over a set of pages, and a link that sends at another, both in MB/s.
    struct Simulation {
        dirty: u64,
        sent: u64,
        set: u64,
        now_ms: u64,
        left_bytes: u64,
        throttle_percent: u64,
    }

    impl Simulation {
        fn new(dirty: u64, sent: u64, set: u64) -> Self {
            let (left_bytes, set) = (512 * MB, set * MB);
            Self { dirty, sent, set, now_ms: 0, left_bytes, throttle_percent: 0 }
        }

        fn round(&mut self) -> RoundEnd {
            let bytes = self.left_bytes;
            let took_us = bytes / self.sent;
            self.now_ms += took_us / 1000;
            let written = self.dirty * took_us * (100 - self.throttle_percent) / 100;
            self.left_bytes = written.min(self.set);
            RoundEnd { now_ms: self.now_ms, bytes, took_us, left_bytes: self.left_bytes }
        }
    }

    fn course(is_throttling: bool) -> Course {
        Course { downtime_limit_ms: LIMIT_MS, is_throttling }
    }

    /// Rounds until QEMU would stop the guest, and for how many milliseconds.
    fn run(mut simulation: Simulation, course: Course) -> Result<(u32, u64), Verdict> {
        let mut pilot = Pilot::new(course);
        for round in 1..100_000 {
            let end = simulation.round();
            match pilot.round_ended(end) {
                Advice::Hopeless(verdict) => return Err(verdict),
                Advice::Go(setting) => {
                    if end.left_bytes < setting.bandwidth / 1000 * LIMIT_MS {
                        return Ok((round, end.left_bytes / 1000 / simulation.sent));
                    }
                    simulation.throttle_percent = setting.throttle_percent.into();
                }
            }
        }
        panic!("it neither ends nor gives up");
    }

    #[test]
    fn a_guest_that_is_slower_than_the_link_stops_for_a_moment() {
        for (dirty, sent) in [(1, 100), (20, 115), (50, 1000), (200, 1000)] {
            let (rounds, downtime_ms) =
                run(Simulation::new(dirty, sent, 256), course(false)).unwrap();
            assert!(downtime_ms <= AIM_MS_FIRST, "{dirty} of {sent}: {downtime_ms} ms");
            assert!(rounds < 8, "{dirty} of {sent}: {rounds} rounds");
        }
    }

    #[test]
    fn a_guest_that_is_nearly_as_fast_stops_for_as_long_as_it_must() {
        let (rounds, downtime_ms) = run(Simulation::new(95, 100, 20), course(false)).unwrap();
        assert!((100..=LIMIT_MS).contains(&downtime_ms), "{downtime_ms} ms");
        assert!(rounds < 20, "{rounds} rounds");
    }

    #[test]
    fn a_guest_that_is_too_fast_is_given_up_and_the_reason_says_why() {
        let verdict = run(Simulation::new(200, 100, 256), course(false)).unwrap_err();
        let said = verdict.to_string();
        for part in ["100.0 MB/s can be sent", "standing still for 2560 ms", "300 ms are allowed"] {
            assert!(said.contains(part), "{said}");
        }
    }

    #[test]
    fn giving_up_takes_little_more_than_half_a_minute_of_stagnation() {
        // Rounds of 64 s, of 2.6 s and of 0.2 s.
        for (dirty, sent, set) in [(8, 4, 256), (200, 100, 256), (2000, 1000, 200)] {
            let mut simulation = Simulation::new(dirty, sent, set);
            let mut pilot = Pilot::new(Course { downtime_limit_ms: 100, is_throttling: false });
            let first_ms = simulation.round().now_ms;
            while matches!(pilot.round_ended(simulation.round()), Advice::Go(_)) {}
            let round_ms = set * 1000 / sent;
            let at_most_ms = HOPELESS_MS + 3 * round_ms;
            assert!(simulation.now_ms - first_ms <= at_most_ms, "{sent}: {} ms", simulation.now_ms);
        }
    }

    #[test]
    fn a_guest_that_is_too_fast_is_slowed_down_as_far_as_it_must() {
        for (dirty, sent) in [(110, 100), (200, 100), (1000, 100), (30, 4)] {
            let (rounds, downtime_ms) =
                run(Simulation::new(dirty, sent, 256), course(true)).unwrap();
            assert!(downtime_ms <= LIMIT_MS, "{dirty} of {sent}: {downtime_ms} ms");
            assert!(rounds < 20, "{dirty} of {sent}: {rounds} rounds");
        }
    }

    #[test]
    fn a_guest_that_no_throttling_helps_is_given_up_too() {
        assert!(run(Simulation::new(10_000, 100, 256), course(true)).is_err());
    }

    #[test]
    fn a_limit_below_the_aim_is_kept() {
        let mut pilot = Pilot::new(Course { downtime_limit_ms: 3, is_throttling: false });
        let end = RoundEnd { now_ms: 1, bytes: 900 * MB, took_us: 1_000_000, left_bytes: MB };
        // 3 ms at 900 MB/s, written as a bandwidth over 3 ms.
        let setting = Setting { bandwidth: 900 * MB, throttle_percent: 0 };
        assert_eq!(pilot.round_ended(end), Advice::Go(setting));
    }

    #[test]
    fn nonsense_harms_nobody() {
        let mut pilot = Pilot::new(Course { downtime_limit_ms: 0, is_throttling: false });
        for (bytes, took_us, left_bytes) in [(0, 0, 0), (u64::MAX, 0, u64::MAX), (0, u64::MAX, 1)] {
            let end = RoundEnd { now_ms: u64::MAX, bytes, took_us, left_bytes };
            assert!(matches!(
                pilot.round_ended(end),
                Advice::Go(Setting { bandwidth: 1.., throttle_percent: 0 })
            ));
        }
    }
}
