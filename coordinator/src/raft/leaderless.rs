//! For how long this member was without a leader that it could hear: what clients feel of a failover. Pure: what is heard and
//! what time it is are said from outside.

use std::time::Duration;

use tokio::time::Instant;

/// When there was a leader last, as far as this member knows.
#[derive(Debug)]
pub(super) struct Leaderless {
    /// A silence that is no longer is none: the next sign of life is on its way.
    lease: Duration,
    led_at: Instant,
}

impl Leaderless {
    /// From now on: until the first leader is there, none is.
    pub(super) fn begin(lease: Duration, now: Instant) -> Self {
        Self { lease, led_at: now }
    }

    /// Takes in whether this member leads, or else when it heard a leader last. Answers for how long there was none, if there
    /// is one again. It is known as exactly as this is asked often.
    pub(super) fn see(&mut self, leads: bool, heard: Instant, now: Instant) -> Option<Duration> {
        let led_at = if leads { now } else { heard.min(now) };
        let silence = led_at.saturating_duration_since(self.led_at);
        self.led_at = self.led_at.max(led_at);
        (silence > self.lease).then_some(silence)
    }

    /// Nobody is missed: this member belongs to no cluster yet.
    pub(super) fn forget(&mut self, now: Instant) {
        self.led_at = now;
    }

    /// It is asked later than it wanted: this process stood still for so long, and no leader was silent for that.
    pub(super) fn woken(&mut self, wanted: Instant, now: Instant) {
        self.led_at = (self.led_at + now.saturating_duration_since(wanted)).min(now);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ms(milliseconds: u64) -> Duration {
        Duration::from_millis(milliseconds)
    }

    #[test]
    fn the_time_from_the_last_leader_to_the_next_is_told_once() {
        let begin = Instant::now();
        let at = |milliseconds| begin + ms(milliseconds);
        let mut leaderless = Leaderless::begin(ms(1_000), begin);
        assert_eq!(leaderless.see(false, at(900), at(950)), None, "within the lease");
        assert_eq!(leaderless.see(false, at(900), at(5_000)), None, "still silent");
        assert_eq!(leaderless.see(false, at(5_100), at(5_150)), Some(ms(4_200)));
        assert_eq!(leaderless.see(false, at(5_200), at(5_250)), None);
        assert_eq!(leaderless.see(true, at(5_200), at(7_250)), Some(ms(2_050)), "it leads itself");
        assert_eq!(leaderless.see(true, at(5_200), at(8_250)), None, "and goes on");
        assert_eq!(leaderless.see(false, at(5_200), at(8_300)), None, "and leads no more");
        assert_eq!(leaderless.see(false, at(9_300), at(9_300)), Some(ms(1_050)));
    }

    #[test]
    fn what_this_member_slept_is_no_silence_of_the_leader() {
        let begin = Instant::now();
        let at = |milliseconds| begin + ms(milliseconds);
        let mut leaderless = Leaderless::begin(ms(1_000), begin);
        leaderless.woken(at(100), at(60_100));
        assert_eq!(leaderless.see(false, at(60_150), at(60_150)), None);
        leaderless.forget(at(90_000));
        assert_eq!(leaderless.see(false, at(90_500), at(90_500)), None);
        leaderless.woken(at(90_600), at(120_000));
        leaderless.woken(at(90_600), at(120_000));
        assert_eq!(leaderless.see(false, at(121_500), at(121_500)), Some(ms(1_500)));
    }
}
