//! Where the lanes' time goes, and how hard they compress because of it.

use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use novacron_protocol::pages::Compression;
use rustix::time::{ClockId, clock_gettime};

use super::level::{LevelControl, Look};

/// Between two looks at how the lanes fare: some dozens of batches at 1 Gbit/s.
const LOOK_INTERVAL: Duration = Duration::from_millis(50);

/// What all lanes of a source share.
#[derive(Debug)]
pub(crate) struct Pace {
    state: Mutex<State>,
}

#[derive(Debug)]
struct State {
    control: LevelControl,
    look: Look,
    looked_at: Instant,
}

/// Where the time of one lane's thread goes.
#[derive(Debug)]
pub(crate) struct LaneClock {
    at: Instant,
    told_at: Instant,
    told_processor: Duration,
    waited: Duration,
    idle: Duration,
}

impl Pace {
    pub(crate) fn new(control: LevelControl) -> Self {
        let state = State { control, look: Look::default(), looked_at: Instant::now() };
        Self { state: Mutex::new(state) }
    }

    /// How to compress at first.
    pub(crate) fn first_compression(&self) -> Compression {
        self.state.lock().unwrap_or_else(PoisonError::into_inner).control.compression()
    }

    /// How to compress now, after what the lane has to tell since it asked last. Cheap enough for every packet.
    pub(crate) fn compression(&self, clock: &mut LaneClock) -> Compression {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        if clock.told_at.elapsed() >= LOOK_INTERVAL / 2 {
            state.look.add(&clock.tell());
        }
        let passed = state.looked_at.elapsed();
        if passed >= LOOK_INTERVAL {
            let look = std::mem::take(&mut state.look);
            state.control.look(Look { passed_us: micros(passed), ..look });
            state.looked_at = Instant::now();
        }
        state.control.compression()
    }
}

impl LaneClock {
    pub(crate) fn start() -> Self {
        let now = Instant::now();
        Self {
            at: now,
            told_at: now,
            told_processor: processor_time(),
            waited: Duration::ZERO,
            idle: Duration::ZERO,
        }
    }

    /// The time since the last mark was work.
    pub(crate) fn worked(&mut self) {
        self.at = Instant::now();
    }

    /// It was waiting for room on the link.
    pub(crate) fn waited(&mut self) {
        let lap = self.lap();
        self.waited += lap;
    }

    /// It was waiting for QEMU.
    pub(crate) fn idle(&mut self) {
        let lap = self.lap();
        self.idle += lap;
    }

    fn lap(&mut self) -> Duration {
        let now = Instant::now();
        now.duration_since(std::mem::replace(&mut self.at, now))
    }

    fn tell(&mut self) -> Look {
        let processor = processor_time();
        let look = Look {
            passed_us: 0,
            lanes_us: micros(self.told_at.elapsed()),
            waited_us: micros(std::mem::take(&mut self.waited)),
            idle_us: micros(std::mem::take(&mut self.idle)),
            processor_us: micros(processor.saturating_sub(self.told_processor)),
        };
        self.told_at = Instant::now();
        self.told_processor = processor;
        look
    }
}

/// Processor time of this thread so far.
fn processor_time() -> Duration {
    let time = clock_gettime(ClockId::ThreadCPUTime);
    let (seconds, nanos) = (u64::try_from(time.tv_sec), u32::try_from(time.tv_nsec));
    Duration::new(seconds.unwrap_or(0), nanos.unwrap_or(0))
}

fn micros(time: Duration) -> u64 {
    u64::try_from(time.as_micros()).unwrap_or(u64::MAX)
}
