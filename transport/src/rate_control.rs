//! Congestion control by measured rate: what is in flight is what the path holds, and a queue of ten milliseconds.
//!
//! ```text
//!   window = gain × rate × shortest round trip + rate × queue
//!
//!   Startup ──rate grows no more, or much is lost──► Drain ──a round──► Steady ──every ten seconds──► Drain …
//!   gain 2.5                                         gain 0.75, no queue    gain 1 to 2
//! ```
//!
//! The rate is the best of what arrived in the last rounds, the round trip the shortest of the last seconds. A packet
//! that is lost says nothing: long paths lose some without being full. That a path is full shows in its rate, which no
//! longer grows, and bounds what waits: pages that wait are old, and stand in the way when the guest is stopped. Where a
//! queue is too short for ten milliseconds so much is lost that it shows, and less is left to wait there.
//!
//! A sender that spaces its packets does so with a clock that is late, and then sends less than the window lets it: the
//! gain grows until the window is nearly in use, and shrinks when it is. A sender without enough to send makes it grow
//! too, which does no harm before it has.
//!
//! The idea is that of BBR (draft-cardwell-iccrg-bbr-congestion-control): rate and round trip are measured, not losses
//! counted. It differs in that the queue is a time, that the rate is measured over rounds of some milliseconds, and that
//! there are no phases that probe for more: the queue is full at all times, so whatever the path can carry more shows at
//! once. Pure: time is an argument.

use std::any::Any;
use std::ops::RangeInclusive;
use std::sync::Arc;
use std::time::{Duration, Instant};

use quinn::congestion::{Controller, ControllerFactory};
use quinn_proto::RttEstimator;

/// Time of sending that waits somewhere on the path, where it can.
const QUEUE_MAX: Duration = Duration::from_millis(10);
/// The least: without any, each hiccup of a sender would cost rate.
const QUEUE_MIN: Duration = Duration::from_millis(2);
/// Shorter rounds would measure how acknowledgements clump.
const ROUND_MIN: Duration = Duration::from_millis(10);
/// Rounds whose best rate counts.
const RATE_ROUNDS: usize = 10;
/// Rounds without growth that end the startup; less than a quarter more is none.
const FLAT_ROUNDS: u32 = 3;
/// For how long a round trip counts as the shortest.
const ROUND_TRIP_LIFE: Duration = Duration::from_secs(10);
/// Percent of a round's bytes whose loss says that a queue overflows…
const OVERFLOW_PERCENT: u64 = 3;
/// … if it is more than this: of few packets, one that is lost by chance is a large share.
const OVERFLOW_BYTES_MIN: u64 = 12_000;
/// Bounds of the gain when the rate is known, in percent, and its step.
const GAIN_PERCENT: RangeInclusive<u64> = 100..=200;
const GAIN_STEP_PERCENT: u64 = 10;
/// Percent of the window that is under way at some moment of a round if the window is in use.
const IN_USE_PERCENT: u64 = 90;
/// Window before anything is known: 45 packets, in flight on a path of 10 Mbit/s for 50 ms.
const FIRST_WINDOW_BYTES: u64 = 64 * 1024;
/// The least window in packets: enough for losses to be noticed by what comes after them.
const PACKETS_MIN: u64 = 8;
/// The largest window: 1 Gbit/s for 134 ms. It bounds the memory of a connection together with the send window.
pub const WINDOW_BYTES_MAX: u64 = 16 << 20;

/// See the module.
#[derive(Debug, Clone)]
pub struct RateControl {
    phase: Phase,
    round: Round,
    rates: Rates,
    round_trip: ShortestRoundTrip,
    queue: Duration,
    gain_percent: u64,
    drained_at: Instant,
    last_sent: u64,
    /// Of what is being told to have arrived.
    told_bytes: u64,
    packet_bytes: u64,
    window: u64,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Phase {
    Startup { best_bytes_per_second: u64, flat_rounds: u32 },
    Steady,
    Drain,
}

/// From one moment until a packet that was sent after it has arrived.
#[derive(Debug, Clone, Copy)]
struct Round {
    began: Instant,
    last_sent_before: u64,
    arrived_bytes: u64,
    lost_bytes: u64,
    /// What was under way whenever something arrived: the sum, the number of times, and the most.
    under_way_bytes_sum: u64,
    times: u64,
    under_way_bytes_max: u64,
}

impl Round {
    fn begin(now: Instant, last_sent_before: u64) -> Self {
        Self {
            began: now,
            last_sent_before,
            arrived_bytes: 0,
            lost_bytes: 0,
            under_way_bytes_sum: 0,
            times: 0,
            under_way_bytes_max: 0,
        }
    }

    fn bytes_per_second(&self, now: Instant) -> u64 {
        let took_us = now.duration_since(self.began).as_micros().max(1);
        let rate = u128::from(self.arrived_bytes) * 1_000_000 / took_us;
        u64::try_from(rate).unwrap_or(u64::MAX)
    }

    /// Whether there was not enough to send: then the path carries at least what arrived. (QUIC's own notion of it tells
    /// only whether the last packet had company.) A sender that sends in bursts fills the window now and then.
    fn is_starved(&self, window: u64) -> bool {
        self.under_way_bytes_sum < (window / 4 * 3).saturating_mul(self.times)
    }

    fn overflows(&self) -> bool {
        let sent_bytes = self.arrived_bytes.saturating_add(self.lost_bytes);
        self.lost_bytes > OVERFLOW_BYTES_MIN.max(sent_bytes / 100 * OVERFLOW_PERCENT)
    }
}

/// The rates of the last rounds in bytes per second.
#[derive(Debug, Clone, Default)]
struct Rates {
    rounds: [u64; RATE_ROUNDS],
    next: usize,
}

impl Rates {
    fn best(&self) -> u64 {
        self.rounds.iter().copied().max().unwrap_or(0)
    }

    /// A round in which there was not enough to send tells only that the path carries at least so much.
    fn note(&mut self, rate: u64, is_starved: bool) {
        if !is_starved || rate > self.best() {
            self.rounds[self.next] = rate;
            self.next = (self.next + 1) % RATE_ROUNDS;
        }
    }
}

/// The shortest round trip of this span of [`ROUND_TRIP_LIFE`] and of the one before.
#[derive(Debug, Clone, Copy)]
struct ShortestRoundTrip {
    span_began: Instant,
    this: Option<Duration>,
    before: Option<Duration>,
}

impl ShortestRoundTrip {
    fn note(&mut self, now: Instant, round_trip: Duration) {
        if now.duration_since(self.span_began) >= ROUND_TRIP_LIFE {
            self.before = self.this.take();
            self.span_began = now;
        }
        self.this = Some(self.this.map_or(round_trip, |shortest| shortest.min(round_trip)));
    }

    fn get(&self) -> Option<Duration> {
        [self.this, self.before].into_iter().flatten().min()
    }
}

impl RateControl {
    /// At the beginning of a path with packets of so many bytes.
    pub fn new(now: Instant, packet_bytes: u16) -> Self {
        Self {
            phase: Phase::Startup { best_bytes_per_second: 0, flat_rounds: 0 },
            round: Round::begin(now, 0),
            rates: Rates::default(),
            round_trip: ShortestRoundTrip { span_began: now, this: None, before: None },
            queue: QUEUE_MAX,
            gain_percent: *GAIN_PERCENT.start(),
            drained_at: now,
            last_sent: 0,
            told_bytes: 0,
            packet_bytes: u64::from(packet_bytes),
            window: FIRST_WINDOW_BYTES,
        }
    }

    /// A packet was sent.
    fn sent(&mut self, packet: u64) {
        self.last_sent = packet;
    }

    /// A packet that was sent then has arrived.
    fn arrived(&mut self, now: Instant, sent: Instant, bytes: u64) {
        self.round.arrived_bytes += bytes;
        self.told_bytes += bytes;
        self.round_trip.note(now, now.saturating_duration_since(sent));
    }

    /// Packets with so many bytes are lost.
    fn lost(&mut self, bytes: u64) {
        self.round.lost_bytes += bytes;
    }

    /// Nothing arrived for so long that nothing is known any more.
    fn forget(&mut self, now: Instant) {
        *self = Self { last_sent: self.last_sent, ..Self::new(now, self.mtu()) };
        self.round = Round::begin(now, self.last_sent);
        self.window = self.window_min();
    }

    /// All that arrived together was told; the newest packet of it, and what is still under way.
    fn told(&mut self, now: Instant, newest: Option<u64>, under_way_bytes: u64) {
        let under_way_bytes = under_way_bytes + std::mem::take(&mut self.told_bytes);
        self.round.times += 1;
        self.round.under_way_bytes_sum =
            self.round.under_way_bytes_sum.saturating_add(under_way_bytes);
        self.round.under_way_bytes_max = self.round.under_way_bytes_max.max(under_way_bytes);
        let is_over = newest.is_some_and(|newest| newest > self.round.last_sent_before)
            && now.duration_since(self.round.began) >= ROUND_MIN;
        if is_over {
            self.end_round(now);
        }
    }

    fn end_round(&mut self, now: Instant) {
        let round = std::mem::replace(&mut self.round, Round::begin(now, self.last_sent));
        // What was drained arrived more slowly than the path could carry.
        let is_starved = round.is_starved(self.window) || self.phase == Phase::Drain;
        self.rates.note(round.bytes_per_second(now), is_starved);
        self.adapt_queue(&round);
        self.adapt_gain(&round);
        self.phase = self.next_phase(now, &round);
        self.window = self.wanted().clamp(self.window_min(), WINDOW_BYTES_MAX);
    }

    /// Down at once, up by a hundredth a round.
    fn adapt_queue(&mut self, round: &Round) {
        let queue =
            if round.overflows() { self.queue * 3 / 4 } else { self.queue + QUEUE_MAX / 100 };
        self.queue = queue.clamp(QUEUE_MIN, QUEUE_MAX);
    }

    fn adapt_gain(&mut self, round: &Round) {
        let is_in_use = round.under_way_bytes_max >= self.window / 100 * IN_USE_PERCENT;
        let gain = match self.phase {
            Phase::Steady if is_in_use => self.gain_percent - GAIN_STEP_PERCENT,
            Phase::Steady => self.gain_percent + GAIN_STEP_PERCENT,
            Phase::Startup { .. } | Phase::Drain => self.gain_percent,
        };
        self.gain_percent = gain.clamp(*GAIN_PERCENT.start(), *GAIN_PERCENT.end());
    }

    fn next_phase(&mut self, now: Instant, round: &Round) -> Phase {
        match self.phase {
            Phase::Startup { best_bytes_per_second, flat_rounds } => {
                let rate = self.rates.best();
                if rate > best_bytes_per_second + best_bytes_per_second / 4 {
                    return Phase::Startup { best_bytes_per_second: rate, flat_rounds: 0 };
                }
                let flat_rounds = flat_rounds + u32::from(!round.is_starved(self.window));
                if flat_rounds < FLAT_ROUNDS && !round.overflows() {
                    return Phase::Startup { best_bytes_per_second, flat_rounds };
                }
                self.drained_at = now;
                Phase::Drain
            }
            Phase::Drain => Phase::Steady,
            Phase::Steady if now.duration_since(self.drained_at) >= ROUND_TRIP_LIFE => {
                self.drained_at = now;
                Phase::Drain
            }
            Phase::Steady => Phase::Steady,
        }
    }

    fn wanted(&self) -> u64 {
        let (rate, round_trip) = (self.rates.best(), self.round_trip.get().unwrap_or_default());
        let held = bytes_in(rate, round_trip);
        match self.phase {
            Phase::Startup { .. } => {
                (held * 5 / 2 + bytes_in(rate, self.queue)).max(FIRST_WINDOW_BYTES)
            }
            Phase::Steady => held * self.gain_percent / 100 + bytes_in(rate, self.queue),
            Phase::Drain => held * 3 / 4,
        }
    }

    fn window_min(&self) -> u64 {
        self.packet_bytes * PACKETS_MIN
    }

    fn mtu(&self) -> u16 {
        u16::try_from(self.packet_bytes).unwrap_or(u16::MAX)
    }
}

fn bytes_in(bytes_per_second: u64, time: Duration) -> u64 {
    let bytes = u128::from(bytes_per_second) * time.as_micros() / 1_000_000;
    u64::try_from(bytes).unwrap_or(u64::MAX).min(WINDOW_BYTES_MAX)
}

impl Controller for RateControl {
    fn on_sent(&mut self, _: Instant, _: u64, last_packet_number: u64) {
        self.sent(last_packet_number);
    }

    fn on_ack(&mut self, now: Instant, sent: Instant, bytes: u64, _: bool, _: &RttEstimator) {
        self.arrived(now, sent, bytes);
    }

    fn on_end_acks(
        &mut self,
        now: Instant,
        in_flight: u64,
        _: bool,
        largest_packet_num_acked: Option<u64>,
    ) {
        self.told(now, largest_packet_num_acked, in_flight);
    }

    fn on_congestion_event(
        &mut self,
        now: Instant,
        _: Instant,
        is_persistent: bool,
        lost_bytes: u64,
    ) {
        self.lost(lost_bytes);
        if is_persistent {
            self.forget(now);
        }
    }

    fn on_mtu_update(&mut self, new_mtu: u16) {
        self.packet_bytes = u64::from(new_mtu);
        self.window = self.window.max(self.window_min());
    }

    fn window(&self) -> u64 {
        self.window
    }

    fn clone_box(&self) -> Box<dyn Controller> {
        Box::new(self.clone())
    }

    fn initial_window(&self) -> u64 {
        FIRST_WINDOW_BYTES
    }

    fn into_any(self: Box<Self>) -> Box<dyn Any> {
        self
    }
}

/// Makes one for each path.
#[derive(Debug, Clone, Copy, Default)]
pub struct RateControlFactory;

impl ControllerFactory for RateControlFactory {
    fn build(self: Arc<Self>, now: Instant, current_mtu: u16) -> Box<dyn Controller> {
        Box::new(RateControl::new(now, current_mtu))
    }
}

#[cfg(test)]
mod tests;
