//! How many bytes may be written and not yet acknowledged: what the congestion controller lets be under way, and little
//! more. Pure.
//!
//! QUIC's send window counts whatever was written and is not yet acknowledged without a gap. Too small, it leaves the
//! path empty; too large, what was written waits here until it is old: pages that wait when the guest is stopped are
//! downtime. So it follows the congestion window.
//!
//! A packet that is lost holds back all that was acknowledged behind it until its second copy has been: while packets
//! are lost, there is room for that.

use std::time::Duration;

/// Between two looks. What a window of a moment ago cannot carry waits no longer than that.
pub const LOOK_INTERVAL: Duration = Duration::from_millis(50);
/// Looks after a loss for which there is room for more: a second.
const LOSSY_LOOKS: u32 = 20;
/// Half round trips of what a loss holds back: two until the second copy has arrived, one for what is lost again. Measured
/// at 100 Mbit/s, 40 ms and 0.5 %: two leave 5 % of the path empty, four fill it no better.
const HALF_ROUND_TRIPS_HELD: u64 = 3;
/// Written ahead, so that the sender never runs dry between two looks of its writers: one batch of pages.
const AHEAD_BYTES: u64 = 128 * 1024;
/// The least window: on a local network enough for any rate.
pub const WINDOW_BYTES_MIN: u64 = 256 * 1024;
/// The largest: 1 Gbit/s for 134 ms. Three migrations at once hold 48 MiB of it.
pub const WINDOW_BYTES_MAX: u64 = 16 << 20;

/// What a connection has counted and measured so far.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Look {
    /// What the congestion controller lets be under way, in bytes.
    pub congestion_window: u64,
    /// Bytes that were lost so far.
    pub lost_bytes: u64,
    /// The shortest round trip.
    pub round_trip_min: Duration,
    /// The round trip of now, queues included.
    pub round_trip: Duration,
}

/// See the module.
#[derive(Debug, Default)]
pub struct SendWindow {
    lost_bytes: u64,
    lossy_looks: u32,
}

impl SendWindow {
    /// The window from now on, in bytes.
    pub fn look(&mut self, look: Look) -> u64 {
        let is_lossy = look.lost_bytes > self.lost_bytes;
        self.lost_bytes = look.lost_bytes;
        self.lossy_looks = if is_lossy { LOSSY_LOOKS } else { self.lossy_looks.saturating_sub(1) };
        let held = if self.lossy_looks > 0 { held_back(&look) } else { 0 };
        let window = look.congestion_window.saturating_add(held).saturating_add(AHEAD_BYTES);
        window.clamp(WINDOW_BYTES_MIN, WINDOW_BYTES_MAX)
    }
}

/// What is acknowledged behind a gap until that is closed: of what is under way, only what the path itself holds.
fn held_back(look: &Look) -> u64 {
    let shortest_us = look.round_trip_min.as_micros().max(1);
    let now_us = look.round_trip.as_micros().max(shortest_us);
    let on_the_path = u128::from(look.congestion_window).saturating_mul(shortest_us) / now_us;
    u64::try_from(on_the_path).unwrap_or(u64::MAX).saturating_mul(HALF_ROUND_TRIPS_HELD) / 2
}

#[cfg(test)]
mod tests {
    use super::*;

    fn look(congestion_window: u64, lost_bytes: u64, ms: [u64; 2]) -> Look {
        let [round_trip_min, round_trip] = ms.map(Duration::from_millis);
        Look { congestion_window, lost_bytes, round_trip_min, round_trip }
    }

    #[test]
    fn it_follows_the_congestion_window() {
        let mut window = SendWindow::default();
        for congestion_window in [1_000_000, 5_000_000, 300_000] {
            let bytes = window.look(look(congestion_window, 0, [40, 50]));
            assert_eq!(bytes, congestion_window + AHEAD_BYTES);
        }
    }

    #[test]
    fn losses_make_room_for_a_second() {
        let mut window = SendWindow::default();
        let lossy = 625_000 + 750_000 + AHEAD_BYTES;
        assert_eq!(window.look(look(625_000, 1452, [40, 50])), lossy);
        for _ in 1..LOSSY_LOOKS {
            assert_eq!(window.look(look(625_000, 1452, [40, 50])), lossy);
        }
        assert_eq!(window.look(look(625_000, 1452, [40, 50])), 625_000 + AHEAD_BYTES);
    }

    #[test]
    fn on_a_local_network_they_make_hardly_any() {
        let bytes = SendWindow::default().look(look(1_250_000, 1452, [1, 10]));
        assert_eq!(bytes, 1_250_000 + 187_500 + AHEAD_BYTES);
    }

    #[test]
    fn it_has_bounds() {
        let mut window = SendWindow::default();
        assert_eq!(window.look(Look::default()), WINDOW_BYTES_MIN);
        assert_eq!(window.look(look(u64::MAX, u64::MAX, [u64::MAX, 0])), WINDOW_BYTES_MAX);
    }
}
