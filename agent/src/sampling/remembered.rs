//! The ticks of the last minutes, for the coordinator that leads and for the one that leads next: pure, bounded.

use std::collections::VecDeque;
use std::sync::Arc;

use novacron_protocol::sample::{TICKS_REMEMBERED, Tick, TickPart};

/// Values that are remembered: 24 MB. Ten minutes of 1,800 machines with one disk; of more, fewer minutes.
const VALUES_MAX: usize = 1_000_000;

/// What was measured lately, in order.
#[derive(Debug, Default)]
pub struct Remembered {
    ticks: VecDeque<Moment>,
    values: usize,
    /// The newest tick that was sent.
    sent: Tick,
    dropped: u64,
}

#[derive(Debug)]
struct Moment {
    tick: Tick,
    parts: Arc<Vec<TickPart>>,
    values: usize,
}

impl Remembered {
    /// The newest tick.
    pub fn newest(&self) -> Tick {
        self.ticks.back().map_or(Tick(0), |moment| moment.tick)
    }

    /// Whether a tick is to be measured: once, and none that a clock that was set back shows again. If it was set back by
    /// more than is remembered, what was measured before is forgotten.
    pub fn wants(&mut self, tick: Tick) -> bool {
        let newest = self.newest();
        if tick > newest {
            return true;
        }
        let is_far = (newest.0 - tick.0) as usize > TICKS_REMEMBERED;
        if is_far {
            *self = Self { dropped: self.dropped, ..Self::default() };
        }
        is_far
    }

    /// Takes a tick that is wanted.
    pub fn put(&mut self, tick: Tick, parts: Vec<TickPart>) {
        let of_part = |part: &TickPart| {
            let machines = part.machines.iter().map(|machine| machine.values.len());
            machines.sum::<usize>() + part.host.as_ref().map_or(0, Vec::len)
        };
        let values = parts.iter().map(of_part).sum();
        self.values += values;
        self.ticks.push_back(Moment { tick, parts: Arc::new(parts), values });
        // The newest is kept, however large it is: it has limits of its own.
        while self.ticks.len() > TICKS_REMEMBERED
            || (self.values > VALUES_MAX && self.ticks.len() > 1)
        {
            let Some(oldest) = self.ticks.pop_front() else { break };
            self.values -= oldest.values;
            self.dropped += u64::from(oldest.tick > self.sent);
        }
    }

    /// The first tick behind one.
    pub fn behind(&self, last: Tick) -> Option<(Tick, Arc<Vec<TickPart>>)> {
        let moment = self.ticks.iter().find(|moment| moment.tick > last)?;
        Some((moment.tick, Arc::clone(&moment.parts)))
    }

    /// A tick was sent.
    pub fn sent(&mut self, tick: Tick) {
        self.sent = self.sent.max(tick);
    }

    /// Ticks that were forgotten before they were sent.
    pub fn dropped(&self) -> u64 {
        self.dropped
    }

    /// Ticks that were not sent yet.
    pub fn waiting(&self) -> usize {
        self.ticks.iter().filter(|moment| moment.tick > self.sent).count()
    }
}

#[cfg(test)]
mod tests {
    use novacron_protocol::sample::{Sample, parts};

    use super::*;

    fn put(remembered: &mut Remembered, tick: u32, values: usize) {
        assert!(remembered.wants(Tick(tick)));
        let sample = Sample { metric: 1, device: 0, value: 1 };
        let mut parts = parts(Tick(tick), Vec::new(), Vec::new());
        parts[0].host = Some(vec![sample; values]);
        remembered.put(Tick(tick), parts);
    }

    #[test]
    fn the_last_ten_minutes_are_there() {
        let mut remembered = Remembered::default();
        for tick in 100..200 {
            put(&mut remembered, tick, 10);
        }
        let behind = |last| remembered.behind(Tick(last)).map(|(tick, _)| tick.0);
        assert_eq!(
            (behind(0), behind(150), behind(198), behind(199)),
            (Some(140), Some(151), Some(199), None)
        );
        assert_eq!((remembered.dropped(), remembered.waiting()), (40, 60));
        remembered.sent(Tick(170));
        assert_eq!(remembered.waiting(), 29);
        put(&mut remembered, 200, 10);
        assert_eq!(remembered.dropped(), 40);
    }

    #[test]
    fn large_ticks_are_remembered_for_less_long() {
        let mut remembered = Remembered::default();
        for tick in 1..=5 {
            put(&mut remembered, tick, 400_000);
        }
        assert_eq!(remembered.behind(Tick(0)).map(|(tick, _)| tick.0), Some(4));
        put(&mut remembered, 6, VALUES_MAX + 1);
        assert_eq!(remembered.behind(Tick(0)).map(|(tick, _)| tick.0), Some(6));
    }

    #[test]
    fn a_clock_that_was_set_back_shows_no_tick_twice() {
        let mut remembered = Remembered::default();
        put(&mut remembered, 1_000, 1);
        assert!(!remembered.wants(Tick(1_000)) && !remembered.wants(Tick(940)));
        put(&mut remembered, 1_001, 1);
        put(&mut remembered, 940, 1);
        assert_eq!(remembered.behind(Tick(0)).map(|(tick, _)| tick.0), Some(940));
        assert_eq!(remembered.newest(), Tick(940));
    }
}
