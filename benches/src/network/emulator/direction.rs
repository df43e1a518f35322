//! One direction of an emulated line: what becomes of a packet, given when it comes. Pure.
//!
//! A packet waits until all before it have left, leaves at the line's rate, and arrives after the delay, unless it is
//! lost on the way. Times follow from each other and not from when somebody looked, so a machine that is late now
//! and then delays single packets and never changes the rate.

use std::time::Duration;

use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};

use crate::network::line::Line;

/// Ethernet's header, which the shapers of the other links count too.
const FRAME_HEADER_BYTES: u64 = 14;

/// What becomes of a packet.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fate {
    /// It arrives then.
    Arrives(Duration),
    /// It has left and never arrives.
    Lost,
    /// Too much waits already: it never leaves.
    Dropped,
}

/// What became of all packets so far.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Counts {
    /// Packets that left, lost ones included.
    pub packets: u64,
    /// Bytes that left, with their frames' headers, lost ones included.
    pub bytes: u64,
    /// Packets that left and were lost.
    pub lost_packets: u64,
    /// Packets that found the queue full.
    pub dropped_packets: u64,
}

/// See the module. Times count from any moment that stays the same.
#[derive(Debug)]
pub struct Direction {
    line: Line,
    /// When everything that waits will have left.
    free_at: Duration,
    random: StdRng,
    counts: Counts,
}

impl Direction {
    /// An empty line; `number` tells directions of one line apart, which do not lose the same packets.
    pub fn new(line: Line, number: u64) -> Self {
        let random = StdRng::seed_from_u64(line.seed.wrapping_mul(2).wrapping_add(number));
        Self { line, free_at: Duration::ZERO, random, counts: Counts::default() }
    }

    /// Decides about a packet of `packet_bytes` that comes at `now`, which never runs backwards.
    pub fn send(&mut self, now: Duration, packet_bytes: usize) -> Fate {
        let bytes = packet_bytes as u64 + FRAME_HEADER_BYTES;
        let waiting = self.line.rate.bytes_in(self.free_at.saturating_sub(now));
        if waiting + bytes > self.line.queue_bytes {
            self.counts.dropped_packets += 1;
            return Fate::Dropped;
        }
        self.free_at = self.free_at.max(now) + self.line.rate.time_of(bytes);
        self.counts.packets += 1;
        self.counts.bytes += bytes;
        if self.random.random_bool(self.line.loss.share()) {
            self.counts.lost_packets += 1;
            return Fate::Lost;
        }
        Fate::Arrives(self.free_at + Duration::from(self.line.delay))
    }

    /// What became of all packets so far.
    pub fn counts(&self) -> Counts {
        self.counts
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::network::line::tests::line;

    const PACKET_BYTES: usize = 1500 - FRAME_HEADER_BYTES as usize;

    fn ms(milliseconds: u64) -> Duration {
        Duration::from_millis(milliseconds)
    }

    fn micros(microseconds: u64) -> Duration {
        Duration::from_micros(microseconds)
    }

    #[test]
    fn packets_leave_one_after_the_other_and_arrive_after_the_delay() {
        let mut direction = Direction::new(line("100mbit", "20ms", "0%", 500_000), 0);
        // 1,500 bytes take 120 µs at 100 Mbit/s.
        assert_eq!(direction.send(ms(1), PACKET_BYTES), Fate::Arrives(ms(21) + micros(120)));
        assert_eq!(direction.send(ms(1), PACKET_BYTES), Fate::Arrives(ms(21) + micros(240)));
        assert_eq!(direction.send(ms(5), PACKET_BYTES), Fate::Arrives(ms(25) + micros(120)));
        assert_eq!(direction.counts(), Counts { packets: 3, bytes: 4500, ..Counts::default() });
    }

    #[test]
    fn what_does_not_fit_into_the_queue_is_dropped() {
        let mut direction = Direction::new(line("100mbit", "20ms", "0%", 30_000), 0);
        let fates: Vec<_> = (0..25).map(|_| direction.send(ms(1), PACKET_BYTES)).collect();
        assert_eq!(fates.iter().filter(|fate| **fate == Fate::Dropped).count(), 5);
        assert_eq!(fates[20..], [Fate::Dropped; 5]);
        // 1.2 ms later ten of them have left.
        let later = ms(1) + micros(1200);
        let fates = (0..11).map(|_| direction.send(later, PACKET_BYTES));
        assert_eq!(fates.filter(|fate| *fate == Fate::Dropped).count(), 1);
        assert_eq!(direction.counts().dropped_packets, 6);
    }

    #[test]
    fn the_seed_decides_which_packets_are_lost() {
        let lost = |seed, number| -> Vec<bool> {
            let line = Line { seed, ..line("1gbit", "1ms", "5%", 1 << 30) };
            let mut direction = Direction::new(line, number);
            (0..20_000).map(|_| direction.send(ms(1), 86) == Fate::Lost).collect()
        };
        assert_eq!(lost(1, 0), lost(1, 0));
        assert_ne!(lost(1, 0), lost(2, 0));
        assert_ne!(lost(1, 0), lost(1, 1));
        // 1,000 of 20,000 are expected with a deviation of 31: four of these.
        let count = lost(1, 0).iter().filter(|is_lost| **is_lost).count();
        assert!((876..=1124).contains(&count), "{count}");
    }
}
