//! The controller on a path of its own time: a queue, a rate, a delay and losses from a seed.

use std::collections::VecDeque;

use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};

use super::*;

const PACKET_BYTES: u64 = 1452;

/// A path, and a sender with something to send at all times.
struct Path {
    control: RateControl,
    now: Instant,
    bytes_per_second: u64,
    round_trip: Duration,
    queue_bytes: u64,
    loss: f64,
    /// Percent of the window that this sender uses.
    use_percent: u64,
    random: StdRng,
    free_at: Instant,
    next_packet: u64,
    /// What is under way: when it was sent, when that it came (or not) is known, and whether it comes.
    under_way: VecDeque<(u64, Instant, Instant, bool)>,
    arrived_bytes: u64,
    waited_max: Duration,
}

impl Path {
    fn new(megabits_per_second: u64, round_trip_ms: u64, loss: f64) -> Self {
        let now = Instant::now();
        let bytes_per_second = megabits_per_second * 125_000;
        Self {
            control: RateControl::new(now, PACKET_BYTES as u16),
            now,
            bytes_per_second,
            round_trip: Duration::from_millis(round_trip_ms),
            queue_bytes: (bytes_per_second * round_trip_ms / 1000).max(256 * 1024),
            loss,
            use_percent: 100,
            random: StdRng::seed_from_u64(1),
            free_at: now,
            next_packet: 0,
            under_way: VecDeque::new(),
            arrived_bytes: 0,
            waited_max: Duration::ZERO,
        }
    }

    fn send(&mut self) {
        let waits = self.free_at.saturating_duration_since(self.now);
        let waiting_bytes = self.bytes_per_second * waits.as_micros() as u64 / 1_000_000;
        let is_dropped = waiting_bytes + PACKET_BYTES > self.queue_bytes;
        if !is_dropped {
            let takes = Duration::from_nanos(PACKET_BYTES * 1_000_000_000 / self.bytes_per_second);
            self.free_at = self.free_at.max(self.now) + takes;
            self.waited_max = self.waited_max.max(waits);
        }
        let comes = !is_dropped && !self.random.random_bool(self.loss);
        self.next_packet += 1;
        self.control.sent(self.next_packet);
        let known_at = self.free_at.max(self.now) + self.round_trip;
        self.under_way.push_back((self.next_packet, self.now, known_at, comes));
    }

    /// Until so much time has passed.
    fn run(&mut self, time: Duration) {
        let end = self.now + time;
        while self.now < end {
            while self.under_way.len() as u64 * PACKET_BYTES
                < self.control.window() * self.use_percent / 100
            {
                self.send();
            }
            let (packet, sent, known_at, comes) = self.under_way.pop_front().unwrap();
            self.now = self.now.max(known_at);
            if comes {
                self.arrived_bytes += PACKET_BYTES;
                self.control.arrived(self.now, sent, PACKET_BYTES);
                let under_way = self.under_way.len() as u64 * PACKET_BYTES;
                self.control.told(self.now, Some(packet), under_way);
            } else {
                self.control.lost(PACKET_BYTES);
            }
        }
    }

    /// Which share of the path is filled in so much time, and how long something waits in its queue at most.
    fn share(&mut self, time: Duration) -> (f64, Duration) {
        let (before, begun) = (self.arrived_bytes, self.now);
        self.waited_max = Duration::ZERO;
        self.run(time);
        let possible = self.bytes_per_second as f64 * (self.now - begun).as_secs_f64();
        ((self.arrived_bytes - before) as f64 / possible, self.waited_max)
    }
}

fn seconds(seconds: u64) -> Duration {
    Duration::from_secs(seconds)
}

#[test]
fn paths_are_filled_whatever_they_lose_and_little_waits() {
    for (rate, round_trip_ms, loss) in [
        (100, 40, 0.005),
        (100, 40, 0.0),
        (1000, 1, 0.0),
        (1000, 100, 0.001),
        (10, 200, 0.02),
        (50, 20, 0.02),
    ] {
        let mut path = Path::new(rate, round_trip_ms, loss);
        path.run(seconds(3));
        // After a drain this sender, which does not space its packets, sends what was missing at once.
        let (_, waited) = path.share(seconds(5));
        let (share, _) = path.share(seconds(15));
        let what = format!("{rate} Mbit/s, {round_trip_ms} ms, {loss}: {share:.3}, {waited:?}");
        assert!(share > 0.95 - loss, "{what}");
        assert!(waited < QUEUE_MAX + Duration::from_millis(3), "{what}");
    }
}

#[test]
fn the_startup_takes_a_few_round_trips() {
    let mut path = Path::new(100, 40, 0.005);
    path.run(Duration::from_millis(500));
    let (share, _) = path.share(Duration::from_millis(500));
    assert!(share > 0.9, "{share:.3}");
}

#[test]
fn a_sender_that_is_late_fills_the_path_too() {
    let mut path = Path::new(100, 40, 0.005);
    path.use_percent = 65;
    path.run(seconds(4));
    let (share, waited) = path.share(seconds(5));
    // What the largest gain lets wait if the sender is not late any more: a round trip and the queue.
    assert!(share > 0.9 && waited < path.round_trip + QUEUE_MAX, "{share:.3}, {waited:?}");
}

#[test]
fn chance_losses_do_not_keep_it_small() {
    for seed in 0..50 {
        let mut path = Path::new(100, 40, 0.01);
        path.random = StdRng::seed_from_u64(seed);
        path.control.forget(path.now);
        path.run(seconds(2));
        let (share, _) = path.share(seconds(1));
        assert!(share > 0.9, "seed {seed}: {share:.3}");
    }
}

#[test]
fn a_short_queue_is_not_flooded() {
    let mut path = Path::new(1000, 1, 0.0);
    path.queue_bytes = 500_000;
    path.run(seconds(1));
    let first = path.next_packet;
    let (share, _) = path.share(seconds(5));
    let sent_bytes = (path.next_packet - first) * PACKET_BYTES;
    let lost = 1.0 - share * 5.0 * path.bytes_per_second as f64 / sent_bytes as f64;
    assert!(share > 0.95 && lost < 0.03, "{share:.3} of the path, {lost:.3} lost");
}

#[test]
fn a_path_that_changes_is_followed() {
    let mut path = Path::new(100, 40, 0.005);
    path.run(seconds(3));
    path.bytes_per_second /= 4;
    path.run(seconds(3));
    let (share, waited) = path.share(seconds(5));
    assert!(share > 0.93 && waited < QUEUE_MAX * 2, "slower: {share:.3}, {waited:?}");

    path.bytes_per_second *= 4;
    path.run(seconds(3));
    let (share, _) = path.share(seconds(5));
    assert!(share > 0.93, "faster: {share:.3}");

    path.round_trip *= 3;
    path.run(seconds(25));
    let (share, _) = path.share(seconds(5));
    assert!(share > 0.9, "longer: {share:.3}");
}

#[test]
fn a_sender_without_anything_to_send_keeps_what_it_knows() {
    let mut path = Path::new(100, 40, 0.0);
    path.run(seconds(2));
    let window = path.control.window();
    for _ in 0..100 {
        path.now += Duration::from_millis(50);
        path.control.sent(path.next_packet + 1);
        path.next_packet += 1;
        path.control.arrived(path.now, path.now - path.round_trip, 1000);
        path.control.told(path.now, Some(path.next_packet), 1000);
    }
    assert!(path.control.window() >= window / 2, "{} of {window}", path.control.window());
}

#[test]
fn the_window_has_bounds() {
    let now = Instant::now();
    let mut control = RateControl::new(now, 1452);
    let later = now + seconds(5);
    control.sent(1);
    control.arrived(later, now, 1 << 50);
    control.told(later, Some(1), 1 << 50);
    assert_eq!(control.window(), WINDOW_BYTES_MAX);
    control.forget(later);
    assert_eq!(control.window(), 8 * 1452);
}
