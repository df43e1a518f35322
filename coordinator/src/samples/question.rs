//! What somebody wants to see: which part of time, and how finely. Pure.

use std::ops::Range;

use novacron_protocol::api::METRIC_POINTS_MAX;
use novacron_protocol::sample::TICK_S;
use novacron_protocol::time::Timestamp;

use super::level::{Level, WINDOW_S};

/// How much older than what is remembered somebody may ask for: clocks differ, requests take their time, and beginnings
/// are rounded down. The ring of ticks and the files have so much more.
fn slack_s(level: Level) -> u64 {
    if level == Level::Ticks { 40 } else { WINDOW_S }
}

/// Intervals that are taken where none is said.
const INTERVALS_S: [u64; 8] = [10, 60, 300, 900, 3_600, 4 * 3_600, 12 * 3_600, 24 * 3_600];

/// Where none is said, the time before the end.
const SPAN_S: u64 = 3_600;

/// Part of time, in whole points.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Question {
    /// From this second on; a multiple of the interval.
    pub from_s: u64,
    /// Up to this one; another.
    pub to_s: u64,
    /// Seconds of a point of the answer; a multiple of the level's step.
    pub interval_s: u64,
    /// What the answer is made of.
    pub level: Level,
}

/// Why that cannot be shown.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum QuestionError {
    /// Nothing is between its ends.
    #[error("`from` has to be before `to` and before now, which is {now}")]
    Empty {
        /// Now.
        now: Timestamp,
    },
    /// It is forgotten.
    #[error("`from`: metrics are remembered for 30 days, since {oldest}")]
    Forgotten {
        /// The oldest moment.
        oldest: Timestamp,
    },
    /// It is not remembered so finely.
    #[error(
        "`interval_s`: what was measured at {from} is remembered in points of {step_s} s: give a multiple of {step_s}"
    )]
    TooFine {
        /// The beginning.
        from: Timestamp,
        /// Seconds of a point.
        step_s: u64,
    },
    /// It would be too long.
    #[error(
        "`interval_s`: {points} points are more than the {METRIC_POINTS_MAX} of one answer: give {interval_s} or more, or \
         ask for less time"
    )]
    TooMany {
        /// How many there would be.
        points: u64,
        /// The least interval with which it fits.
        interval_s: u64,
    },
}

impl QuestionError {
    /// The parameter that is wrong.
    pub fn parameter(&self) -> &'static str {
        match self {
            Self::Empty { .. } | Self::Forgotten { .. } => "from",
            Self::TooFine { .. } | Self::TooMany { .. } => "interval_s",
        }
    }
}

impl Question {
    /// What is meant, at a moment.
    ///
    /// # Errors
    /// [`QuestionError`], with what would be right.
    pub fn new(
        from: Option<Timestamp>,
        to: Option<Timestamp>,
        interval_s: Option<u64>,
        now: Timestamp,
    ) -> Result<Self, QuestionError> {
        let now_s = now.unix_ms.div_ceil(1000);
        let to_s = to.map_or(now_s, |to| to.unix_ms.div_ceil(1000)).min(now_s);
        let from_s = from.map_or(to_s.saturating_sub(SPAN_S), |from| from.unix_ms / 1000);
        if from_s >= to_s {
            return Err(QuestionError::Empty { now });
        }
        if level_at(from_s, now_s).is_none() {
            let oldest_s = now_s.saturating_sub(Level::Quarters.remembered_s());
            return Err(QuestionError::Forgotten { oldest: seconds(oldest_s) });
        }
        let by = |interval_s| Self::by(from_s..to_s, interval_s, now_s);
        match interval_s {
            Some(interval_s) => by(interval_s),
            None => {
                let (last, first) = INTERVALS_S.split_last().unwrap_or((&TICK_S, &[]));
                first
                    .iter()
                    .find_map(|interval_s| by(*interval_s).ok())
                    .map_or_else(|| by(*last), Ok)
            }
        }
    }

    /// By an interval that somebody wants.
    fn by(span: Range<u64>, interval_s: u64, now_s: u64) -> Result<Self, QuestionError> {
        let is_sensible = (1..=Level::Quarters.remembered_s()).contains(&interval_s);
        let from_s = if is_sensible { span.start - span.start % interval_s } else { span.start };
        let level = level_at(from_s, now_s).unwrap_or(Level::Quarters);
        let step_s = level.step_s();
        if !is_sensible || !interval_s.is_multiple_of(step_s) {
            return Err(QuestionError::TooFine { from: seconds(span.start), step_s });
        }
        let to_s = span.end.next_multiple_of(interval_s);
        let points = (to_s - from_s) / interval_s;
        if points > METRIC_POINTS_MAX {
            let least = (to_s - from_s).div_ceil(METRIC_POINTS_MAX - 1);
            let interval_s = least.next_multiple_of(step_s);
            return Err(QuestionError::TooMany { points, interval_s });
        }
        Ok(Self { from_s, to_s, interval_s, level })
    }

    /// How many points of the level make a point of the answer.
    pub fn level_points(&self) -> usize {
        (self.interval_s / self.level.step_s()) as usize
    }

    /// The ticks from a second on.
    pub fn ticks_from(&self, from_s: u64) -> Range<u32> {
        let tick = |second: u64| u32::try_from(second / TICK_S).unwrap_or(u32::MAX);
        tick(from_s.max(self.from_s))..tick(self.to_s)
    }
}

/// The finest level that reaches back to a second.
fn level_at(from_s: u64, now_s: u64) -> Option<Level> {
    let age_s = now_s.saturating_sub(from_s);
    Level::ALL.into_iter().find(|level| age_s <= level.remembered_s() + slack_s(*level))
}

/// A second of UTC.
pub fn seconds(unix_s: u64) -> Timestamp {
    Timestamp::from_unix_ms(unix_s.saturating_mul(1000))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const NOW_S: u64 = 1_800_000_123;

    fn ask(
        ago_s: Option<u64>,
        until_ago_s: Option<u64>,
        interval_s: Option<u64>,
    ) -> Result<Question, QuestionError> {
        let ago = |ago_s: u64| seconds(NOW_S - ago_s);
        Question::new(ago_s.map(ago), until_ago_s.map(ago), interval_s, seconds(NOW_S))
    }

    #[test]
    fn what_is_not_said_is_the_last_hour() {
        let question = ask(None, None, None).unwrap();
        let expected = Question {
            from_s: 1_799_996_520,
            to_s: 1_800_000_130,
            interval_s: 10,
            level: Level::Ticks,
        };
        assert_eq!(question, expected);
        assert_eq!(question.ticks_from(0), 179_999_652..180_000_013);
        assert_eq!(question.ticks_from(1_800_000_000).start, 180_000_000);
    }

    #[test]
    fn longer_spans_get_longer_intervals() {
        for (ago_s, interval_s, level) in [
            (600, 10, Level::Ticks),
            (3_630, 10, Level::Ticks),
            (3_700, 60, Level::Minutes),
            (24 * 3_600, 300, Level::Minutes),
            (25 * 3_600, 900, Level::Quarters),
            (30 * 24 * 3_600, 3_600, Level::Quarters),
        ] {
            let question = ask(Some(ago_s), None, None).unwrap();
            assert_eq!((question.interval_s, question.level), (interval_s, level), "{ago_s}");
        }
    }

    #[test]
    fn refusals_say_what_would_be_right() {
        let text = |asked: Result<Question, QuestionError>| {
            let error = asked.unwrap_err();
            (error.parameter(), error.to_string())
        };
        let (parameter, said) = text(ask(Some(7_200), None, Some(10)));
        assert!(parameter == "interval_s" && said.contains("a multiple of 60"), "{said}");
        let (parameter, said) = text(ask(Some(31 * 24 * 3_600), None, None));
        assert!(parameter == "from" && said.contains("since 2026-12-16"), "{said}");
        let (parameter, said) = text(ask(Some(24 * 3_600), None, Some(60)));
        assert!(parameter == "interval_s" && said.contains("give 120 or more"), "{said}");
        assert!(ask(Some(24 * 3_600), None, Some(120)).is_ok());
        for empty in [ask(Some(10), Some(10), None), ask(Some(10), Some(20), None)] {
            assert!(text(empty).1.contains("before `to`"));
        }
        assert!(ask(None, None, Some(0)).is_err() && ask(None, None, Some(15)).is_err());
        assert!(ask(None, None, Some(u64::MAX - 5)).is_err());
    }

    proptest! {
        #[test]
        fn what_is_granted_keeps_the_limits(
            ago_s in 0_u64..40 * 24 * 3_600, until_s in 0_u64..40 * 24 * 3_600,
            interval_s in prop::option::of(0_u64..100_000),
        ) {
            let asked = ask(Some(ago_s), Some(until_s), interval_s);
            match asked {
                Ok(question) => {
                    let Question { from_s, to_s, interval_s, level } = question;
                    prop_assert!(from_s < to_s && from_s <= NOW_S - ago_s);
                    prop_assert!((to_s - from_s) / interval_s <= METRIC_POINTS_MAX);
                    prop_assert_eq!(from_s % interval_s + to_s % interval_s, 0);
                    prop_assert_eq!(interval_s % level.step_s(), 0);
                }
                // What a refusal proposes is granted, or refused for another reason: a beginning that is rounded down
                // may be remembered less finely.
                Err(QuestionError::TooMany { interval_s, .. }) => {
                    let again = ask(Some(ago_s), Some(until_s), Some(interval_s));
                    let is_refused_again = matches!(again, Err(QuestionError::TooMany { .. }));
                    prop_assert!(!is_refused_again);
                }
                Err(QuestionError::TooFine { step_s, .. }) => {
                    let again = ask(Some(ago_s), Some(until_s), Some(step_s));
                    let is_refused_again = matches!(
                        again, Err(QuestionError::TooFine { step_s: again, .. }) if again <= step_s
                    );
                    prop_assert!(!is_refused_again);
                }
                Err(_) => prop_assert!(ago_s <= until_s || ago_s > 30 * 24 * 3_600),
            }
        }
    }
}
