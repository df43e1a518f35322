//! When the guest may be stopped, and when there is no point in going on: pure.
//!
//! QEMU stops the guest as soon as what is left to send is less than a threshold, which is a bandwidth times a time. Its
//! own idea of the bandwidth is what our sockets take, which says little about a round of small differences. So the
//! bandwidth is told to QEMU such that the threshold becomes what the last round's pace sends in the time that is
//! aimed at. The aim begins far below what is allowed, since a few more rounds cost little while they shrink; when they
//! no longer do, it grows to what is needed, up to what is allowed. Where even that is not enough, the guest writes
//! faster than the link carries.
//!
//! Sources: `migration_update_counters` and `migration_iteration_run` of QEMU; that remaining work is a saw tooth, so
//! that only values at the end of a round compare, was learnt by everybody who sampled it.

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
/// Such rounds, with the aim at its limit, after which the guest counts as too fast…
const HOPELESS_ROUNDS: u32 = 8;
/// … if they have taken at least so many milliseconds: a guest may be busy for a while.
const HOPELESS_MS: u64 = 30_000;
/// The same with throttling, which takes a while to bite.
const HOPELESS_THROTTLED_MS: u64 = 300_000;

/// What was asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Course {
    /// Milliseconds that the guest may stand still, as far as sending is concerned.
    pub downtime_limit_ms: u64,
    /// Whether QEMU slows the guest down.
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
    /// Tell QEMU this bandwidth in bytes per second: its threshold follows from it.
    Bandwidth(u64),
    /// Give up: the guest writes faster than the link carries.
    Hopeless(Pace),
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
        }
        if self.is_hopeless(round, pace) {
            return Advice::Hopeless(pace);
        }
        Advice::Bandwidth(self.bandwidth(pace.sent))
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

    fn is_hopeless(&self, round: RoundEnd, pace: Pace) -> bool {
        let patience_ms =
            if self.course.is_throttling { HOPELESS_THROTTLED_MS } else { HOPELESS_MS };
        self.stagnant >= HOPELESS_ROUNDS
            && round.now_ms.saturating_sub(self.stagnant_since_ms) >= patience_ms
            && needed_ms(round.left_bytes, pace.sent) > self.course.downtime_limit_ms
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
    }

    impl Simulation {
        fn new(dirty: u64, sent: u64, set: u64) -> Self {
            Self { dirty, sent, set: set * MB, now_ms: 0, left_bytes: 512 * MB }
        }

        fn round(&mut self) -> RoundEnd {
            let bytes = self.left_bytes;
            let took_us = bytes / self.sent;
            self.now_ms += took_us / 1000;
            self.left_bytes = (self.dirty * took_us).min(self.set);
            RoundEnd { now_ms: self.now_ms, bytes, took_us, left_bytes: self.left_bytes }
        }
    }

    fn course(is_throttling: bool) -> Course {
        Course { downtime_limit_ms: LIMIT_MS, is_throttling }
    }

    /// Rounds until QEMU would stop the guest, and for how many milliseconds.
    fn run(mut simulation: Simulation) -> Result<(u32, u64), Pace> {
        let mut pilot = Pilot::new(course(false));
        for round in 1..100_000 {
            let end = simulation.round();
            match pilot.round_ended(end) {
                Advice::Hopeless(pace) => return Err(pace),
                Advice::Bandwidth(bandwidth) => {
                    if end.left_bytes < bandwidth / 1000 * LIMIT_MS {
                        return Ok((round, end.left_bytes / 1000 / simulation.sent));
                    }
                }
            }
        }
        panic!("it neither ends nor gives up");
    }

    #[test]
    fn a_guest_that_is_slower_than_the_link_stops_for_a_moment() {
        for (dirty, sent) in [(1, 100), (20, 115), (50, 1000), (200, 1000)] {
            let (rounds, downtime_ms) = run(Simulation::new(dirty, sent, 256)).unwrap();
            assert!(downtime_ms <= AIM_MS_FIRST, "{dirty} of {sent}: {downtime_ms} ms");
            assert!(rounds < 8, "{dirty} of {sent}: {rounds} rounds");
        }
    }

    #[test]
    fn a_guest_that_is_nearly_as_fast_stops_for_as_long_as_it_must() {
        let (rounds, downtime_ms) = run(Simulation::new(95, 100, 20)).unwrap();
        assert!((100..=LIMIT_MS).contains(&downtime_ms), "{downtime_ms} ms");
        assert!(rounds < 20, "{rounds} rounds");
    }

    #[test]
    fn a_guest_that_is_too_fast_is_given_up_with_its_pace() {
        let pace = run(Simulation::new(200, 100, 256)).unwrap_err();
        assert_eq!(pace.sent / MB, 100);
        assert!(pace.to_string().contains("100.0 MB/s can be sent"), "{pace}");
    }

    #[test]
    fn throttling_is_given_time() {
        let mut simulation = Simulation::new(200, 100, 256);
        let mut pilot = Pilot::new(course(true));
        while simulation.now_ms < HOPELESS_THROTTLED_MS {
            let advice = pilot.round_ended(simulation.round());
            assert!(matches!(advice, Advice::Bandwidth(_)), "at {} ms", simulation.now_ms);
        }
    }

    #[test]
    fn a_limit_below_the_aim_is_kept() {
        let mut pilot = Pilot::new(Course { downtime_limit_ms: 3, is_throttling: false });
        let end = RoundEnd { now_ms: 1, bytes: 900 * MB, took_us: 1_000_000, left_bytes: MB };
        // 3 ms at 900 MB/s, written as a bandwidth over 3 ms.
        assert_eq!(pilot.round_ended(end), Advice::Bandwidth(900 * MB));
    }

    #[test]
    fn nonsense_harms_nobody() {
        let mut pilot = Pilot::new(Course { downtime_limit_ms: 0, is_throttling: false });
        for (bytes, took_us, left_bytes) in [(0, 0, 0), (u64::MAX, 0, u64::MAX), (0, u64::MAX, 1)] {
            let end = RoundEnd { now_ms: u64::MAX, bytes, took_us, left_bytes };
            assert!(matches!(pilot.round_ended(end), Advice::Bandwidth(1..)));
        }
    }
}
