//! How many bytes may be on their way at once: what the path holds, as measured while it is used. Pure.
//!
//! QUIC's send window counts whatever was written and is not yet acknowledged without a gap. Too small, it leaves the
//! path empty; too large, what was written waits here until it is old: pages that wait when the guest is stopped are
//! downtime. So the window is the rate that was measured, times the round trip, and ten milliseconds.
//!
//! A packet that is lost holds back all that was acknowledged behind it until its second copy has been: while packets
//! are lost, and while the rate still grows, it is two and a half round trips.

use std::time::Duration;

/// Between two looks. Shorter ones would measure how acknowledgements clump.
pub const LOOK_INTERVAL: Duration = Duration::from_millis(100);
/// Looks that count: a second.
const LOOKS: usize = 10;
/// Time of sending that may wait.
const QUEUE: Duration = Duration::from_millis(10);
/// Half round trips while packets are lost: two until a loss shows, two for the second copy, and a little for a loss of
/// that. Measured at 100 Mbit/s, 40 ms and 0.5 %: four leave 5 % of the path empty, six fill it no better.
const HALF_ROUND_TRIPS_LOSSY: u32 = 5;
/// Half round trips if none are.
const HALF_ROUND_TRIPS: u32 = 2;
/// A rate that is more than this share above those before, in percent, grows.
const GROWTH_PERCENT: u64 = 10;
/// The least window: 50 ms at 10 Mbit/s, and on a local network enough for any rate.
pub const WINDOW_BYTES_MIN: u64 = 64 * 1024;
/// The largest: 1 Gbit/s for 134 ms. Six migrations at once hold 96 MiB of it.
pub const WINDOW_BYTES_MAX: u64 = 16 << 20;

/// What a connection has counted and measured so far.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Look {
    /// When, on a clock that never goes back.
    pub at: Duration,
    /// Bytes that were sent.
    pub sent_bytes: u64,
    /// Bytes of these that were lost.
    pub lost_bytes: u64,
    /// The shortest round trip ever: what is longer may be a queue of our own.
    pub round_trip_min: Duration,
}

/// What one look showed beside the one before.
#[derive(Debug, Clone, Copy, Default)]
struct Step {
    bytes_per_second: u64,
    is_lossy: bool,
}

/// See the module.
#[derive(Debug, Default)]
pub struct SendWindow {
    last: Look,
    steps: [Option<Step>; LOOKS],
    next: usize,
}

impl SendWindow {
    /// The window from now on, in bytes; `None` if this look shows nothing.
    pub fn look(&mut self, look: Look) -> Option<u64> {
        let before = std::mem::replace(&mut self.last, look);
        let passed_us = look.at.saturating_sub(before.at).as_micros();
        if passed_us == 0 {
            return None;
        }
        let lost_bytes = look.lost_bytes.saturating_sub(before.lost_bytes);
        let sent_bytes = look.sent_bytes.saturating_sub(before.sent_bytes);
        let arrived = u128::from(sent_bytes.saturating_sub(lost_bytes)) * 1_000_000 / passed_us;
        let bytes_per_second = u64::try_from(arrived).unwrap_or(u64::MAX);
        let grows = self.grows(bytes_per_second);
        let step = Step { bytes_per_second, is_lossy: lost_bytes > 0 };
        self.steps[self.next] = Some(step);
        self.next = (self.next + 1) % LOOKS;
        Some(self.window(grows))
    }

    fn steps(&self) -> impl Iterator<Item = &Step> {
        self.steps.iter().flatten()
    }

    fn best(&self) -> u64 {
        self.steps().map(|step| step.bytes_per_second).max().unwrap_or(0)
    }

    fn grows(&self, bytes_per_second: u64) -> bool {
        let best = self.best();
        bytes_per_second > best.saturating_add(best / 100 * GROWTH_PERCENT)
    }

    fn window(&self, grows: bool) -> u64 {
        let is_lossy = self.steps().any(|step| step.is_lossy);
        let halves = if is_lossy || grows { HALF_ROUND_TRIPS_LOSSY } else { HALF_ROUND_TRIPS };
        let time = (self.last.round_trip_min / 2).saturating_mul(halves).saturating_add(QUEUE);
        let bytes = u128::from(self.best()).saturating_mul(time.as_micros()) / 1_000_000;
        u64::try_from(bytes).unwrap_or(u64::MAX).clamp(WINDOW_BYTES_MIN, WINDOW_BYTES_MAX)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A path that a sender fills as far as its window lets it.
    struct Path {
        bytes_per_second: u64,
        round_trip: Duration,
        loses: bool,
        look: Look,
        window: SendWindow,
        bytes: u64,
    }

    impl Path {
        fn new(megabits_per_second: u64, round_trip_ms: u64, loses: bool) -> Self {
            let round_trip = Duration::from_millis(round_trip_ms);
            let look = Look { round_trip_min: round_trip, ..Look::default() };
            let bytes_per_second = megabits_per_second * 125_000;
            Self {
                bytes_per_second,
                round_trip,
                loses,
                look,
                window: SendWindow::default(),
                bytes: 1 << 20,
            }
        }

        /// The window after so many looks. Of what it lets through three fifths wait for second copies if packets are lost.
        fn after(&mut self, looks: u32) -> u64 {
            for _ in 0..looks {
                let useful = if self.loses { self.bytes * 2 / 5 } else { self.bytes };
                let possible = useful as f64 / self.round_trip.as_secs_f64();
                let rate = (self.bytes_per_second as f64).min(possible);
                self.look.at += LOOK_INTERVAL;
                self.look.sent_bytes += (rate * LOOK_INTERVAL.as_secs_f64()) as u64;
                self.look.lost_bytes += if self.loses { 1452 } else { 0 };
                self.bytes = self.window.look(self.look).unwrap();
            }
            self.bytes
        }
    }

    fn ms_of(path: &Path, window: u64) -> u64 {
        window * 1000 / path.bytes_per_second
    }

    #[test]
    fn the_window_becomes_what_the_path_holds_and_ten_milliseconds() {
        for (rate, round_trip_ms) in [(1000, 1), (100, 40), (1000, 100), (10, 200), (10_000, 1)] {
            let mut path = Path::new(rate, round_trip_ms, false);
            let window = path.after(40);
            let ms = ms_of(&path, window);
            let wanted = round_trip_ms + 10;
            assert!((wanted * 95 / 100..=wanted).contains(&ms), "{rate}, {round_trip_ms}: {ms}");
        }
    }

    #[test]
    fn it_grows_within_a_second() {
        let mut path = Path::new(1000, 100, false);
        path.after(9);
        let before = path.look.sent_bytes;
        path.after(1);
        assert_eq!(path.look.sent_bytes - before, path.bytes_per_second / 10);
    }

    #[test]
    fn where_packets_are_lost_it_is_more_round_trips() {
        let mut path = Path::new(100, 40, true);
        let window = path.after(30);
        assert!((105..=110).contains(&ms_of(&path, window)), "{window}");
    }

    #[test]
    fn it_has_bounds() {
        let mut window = SendWindow::default();
        assert_eq!(window.look(Look::default()), None);
        let second = |at| Look { at: Duration::from_secs(at), ..Look::default() };
        assert_eq!(window.look(second(1)), Some(WINDOW_BYTES_MIN));
        let much = Look { sent_bytes: u64::MAX, round_trip_min: Duration::MAX / 4, ..second(2) };
        assert_eq!(window.look(much), Some(WINDOW_BYTES_MAX));
    }
}
