//! For how long a call goes on trying, and when it says that it does. Pure: it is told the time.

use std::time::{Duration, Instant};

/// The first pause between rounds; each is twice as long as the one before.
const PAUSE_FIRST: Duration = Duration::from_millis(100);
/// The longest pause between rounds.
const PAUSE_MAX: Duration = Duration::from_secs(2);
/// After which the caller is told: longer than most elections, shorter than people wait without a word.
const TELL_AFTER: Duration = Duration::from_secs(2);
/// The most patience where every coordinator's host says that none runs there: what restarts is back in less, and in
/// an election the others still listen.
const REFUSED_MAX: Duration = Duration::from_secs(5);
/// To connect in the first round over all endpoints, if there are others to try: a packet that was lost and three
/// round trips over half the earth.
const CONNECT_FIRST: Duration = Duration::from_secs(2);
/// To connect in later rounds.
const CONNECT_MAX: Duration = Duration::from_secs(5);
/// To connect when the patience is at its end.
const CONNECT_MIN: Duration = Duration::from_secs(1);

/// Whether another round may help: the later ones give more hope.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Hope {
    /// It will be so in a moment too.
    None,
    /// Nobody listens; somebody may be about to.
    Refused,
    /// Somebody may answer any moment.
    Soon,
}

impl Hope {
    /// Of two endpoints together: one that is there, or may be, is enough.
    pub(crate) fn or(self, other: Self) -> Self {
        self.max(other)
    }
}

/// The patience of one call.
#[derive(Debug)]
pub(crate) struct Patience {
    began: Instant,
    limit: Duration,
    pause: Duration,
    is_first_round: bool,
    has_told: bool,
}

impl Patience {
    /// Of a call that begins now.
    pub(crate) fn new(limit: Duration, now: Instant) -> Self {
        Self { began: now, limit, pause: PAUSE_FIRST, is_first_round: true, has_told: false }
    }

    /// The pause before another round; none if there shall be none.
    pub(crate) fn pause(&mut self, hope: Hope, now: Instant) -> Option<Duration> {
        let left = self.left(hope, now);
        if left.is_zero() {
            return None;
        }
        let until_told = TELL_AFTER.saturating_sub(now.duration_since(self.began));
        let longest = if until_told.is_zero() { left } else { left.min(until_told) };
        let pause = self.pause.min(longest);
        self.pause = (self.pause * 2).min(PAUSE_MAX);
        self.is_first_round = false;
        Some(pause)
    }

    /// How long connecting may take.
    pub(crate) fn connect(&self, endpoints: usize, now: Instant) -> Duration {
        if self.is_first_round && endpoints > 1 {
            return CONNECT_FIRST;
        }
        self.left(Hope::Soon, now).clamp(CONNECT_MIN, CONNECT_MAX)
    }

    /// For how long it will go on, if it is time to say that: once.
    pub(crate) fn news(&mut self, hope: Hope, now: Instant) -> Option<Duration> {
        let left = self.left(hope, now);
        let is_due = now.duration_since(self.began) >= TELL_AFTER && !left.is_zero();
        if self.has_told || !is_due {
            return None;
        }
        self.has_told = true;
        Some(left)
    }

    fn left(&self, hope: Hope, now: Instant) -> Duration {
        let limit = match hope {
            Hope::None => Duration::ZERO,
            Hope::Refused => self.limit.min(REFUSED_MAX),
            Hope::Soon => self.limit,
        };
        limit.saturating_sub(now.duration_since(self.began))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LIMIT: Duration = Duration::from_secs(15);

    /// When rounds end that take no time, and when it is said for how long more, in milliseconds.
    fn played(hope: Hope) -> (Vec<u128>, Vec<(u128, u128)>) {
        let began = Instant::now();
        let (mut now, mut patience) = (began, Patience::new(LIMIT, began));
        let (mut rounds, mut told) = (Vec::new(), Vec::new());
        loop {
            let at = now.duration_since(began).as_millis();
            rounds.push(at);
            told.extend(patience.news(hope, now).map(|left| (at, left.as_millis())));
            match patience.pause(hope, now) {
                Some(pause) => now += pause,
                None => return (rounds, told),
            }
        }
    }

    #[test]
    fn one_that_is_refused_everywhere_is_tried_for_five_seconds_and_said_after_two() {
        let (rounds, told) = played(Hope::Refused);
        assert_eq!(rounds, [0, 100, 300, 700, 1500, 2000, 4000, 5000]);
        assert_eq!(told, [(2000, 3000)]);
    }

    #[test]
    fn one_that_may_be_answered_is_tried_to_the_end_of_the_patience() {
        let (rounds, told) = played(Hope::Soon);
        assert_eq!(rounds.last(), Some(&15_000));
        assert_eq!(told, [(2000, 13_000)]);
        assert_eq!(played(Hope::None), (vec![0], vec![]));
    }

    #[test]
    fn a_host_that_is_gone_costs_the_first_round_little() {
        let began = Instant::now();
        let mut patience = Patience::new(LIMIT, began);
        assert_eq!(patience.connect(3, began), CONNECT_FIRST);
        assert_eq!(patience.connect(1, began), CONNECT_MAX, "there is nobody else");
        patience.pause(Hope::Soon, began);
        assert_eq!(patience.connect(3, began), CONNECT_MAX);
        assert_eq!(patience.connect(3, began + LIMIT), CONNECT_MIN);
    }

    #[test]
    fn one_endpoint_with_hope_is_enough() {
        assert_eq!(Hope::None.or(Hope::Refused), Hope::Refused);
        assert_eq!(Hope::Refused.or(Hope::Soon), Hope::Soon);
        assert_eq!(Hope::None.or(Hope::None), Hope::None);
    }
}
