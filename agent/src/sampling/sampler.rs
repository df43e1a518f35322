//! The task that measures: every ten seconds of UTC, all machines and the host.

use std::collections::HashSet;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use futures_util::{StreamExt, stream};
use novacron_protocol::ids::VmId;
use novacron_protocol::sample::{MachineSamples, TICK_S, Tick, TickPart, parts};
use tokio::sync::watch;
use tokio::time::{Instant, sleep};
use tokio_util::sync::CancellationToken;

use super::host::RoomQuestion;
use super::machine::{MachineReading, read};
use super::rates::Rates;
use super::remembered::Remembered;
use super::{Measurable, host};
use crate::clock;
use crate::vm::Machines;

/// Machines that are asked at once.
const ASKED_MAX: usize = 16;

/// How long all machines together may take to answer: with many that hang, the tick is told with what is known.
const ALL_ASKED_WITHIN: Duration = Duration::from_secs(5);

/// What is measured: a machine, or the host.
type Thing = Option<VmId>;

/// What one measurement leaves for the next: counters, and a question that storage has not answered.
#[derive(Debug, Default)]
pub struct Previous {
    rates: Rates<Thing>,
    room: RoomQuestion,
}

/// Measures, and remembers it for sessions; clones share it.
#[derive(Debug, Clone)]
pub struct Sampler {
    shared: Arc<Shared>,
}

#[derive(Debug)]
struct Shared {
    machines: Machines,
    directory: PathBuf,
    began: Instant,
    remembered: Mutex<Remembered>,
    newest: watch::Sender<Tick>,
}

/// How it stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SampleNumbers {
    /// Ticks that were measured and not sent yet.
    pub waiting: u64,
    /// Ticks that were forgotten before they were sent.
    pub dropped: u64,
}

impl Sampler {
    /// Of machines that are below a directory, and of this host. Nothing was measured yet.
    pub fn new(machines: Machines, directory: PathBuf) -> Self {
        let (remembered, newest) = (Mutex::default(), watch::Sender::new(Tick(0)));
        let shared = Shared { machines, directory, began: Instant::now(), remembered, newest };
        Self { shared: Arc::new(shared) }
    }

    fn remembered(&self) -> MutexGuard<'_, Remembered> {
        self.shared.remembered.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Measures until `stop`.
    pub async fn run(self, stop: CancellationToken) {
        let mut previous = Previous::default();
        loop {
            tokio::select! {
                biased;
                () = stop.cancelled() => return,
                () = sleep(until_next_tick()) => {}
            }
            let tick = Tick::of(clock::now());
            if !self.remembered().wants(tick) {
                continue;
            }
            tokio::select! {
                biased;
                () = stop.cancelled() => return,
                () = self.measure(tick, &mut previous) => {}
            }
        }
    }

    /// Measures everything once. Rates begin with the second time.
    pub async fn measure(&self, tick: Tick, previous: &mut Previous) {
        let machines = self.shared.machines.measurable();
        let until = Instant::now() + ALL_ASKED_WITHIN;
        let asked = stream::iter(machines).map(async |machine: Measurable| {
            let reading = read(machine, until).await;
            reading.map(|reading| (self.shared.began.elapsed(), reading))
        });
        let read: Vec<_> =
            asked.buffer_unordered(ASKED_MAX).filter_map(std::future::ready).collect().await;
        let running = read.len();
        let Previous { rates, room } = previous;
        let mut there = HashSet::from([None]);
        let mut machines: Vec<_> = read
            .into_iter()
            .map(|(at, MachineReading { vm, life, mut values, counts })| {
                there.insert(Some(vm));
                values.extend(rates.take(Some(vm), life, at, counts));
                MachineSamples { vm, values }
            })
            .collect();
        machines.sort_unstable_by_key(|machine| machine.vm);
        let room = room.ask(&self.shared.directory).await;
        let host = host::read(room, running);
        let mut values = host.values;
        values.extend(rates.take(None, 0, self.shared.began.elapsed(), host.counts));
        rates.keep_only(|thing| there.contains(thing));
        self.remembered().put(tick, parts(tick, machines, values));
        self.shared.newest.send_replace(tick);
    }

    /// The first tick behind one that is remembered.
    pub fn behind(&self, last: Tick) -> Option<(Tick, Arc<Vec<TickPart>>)> {
        self.remembered().behind(last)
    }

    /// A tick was sent.
    pub fn sent(&self, tick: Tick) {
        self.remembered().sent(tick);
    }

    /// Changes when something was measured.
    pub fn newest(&self) -> watch::Receiver<Tick> {
        self.shared.newest.subscribe()
    }

    /// How it stands.
    pub fn numbers(&self) -> SampleNumbers {
        let remembered = self.remembered();
        SampleNumbers { waiting: remembered.waiting() as u64, dropped: remembered.dropped() }
    }
}

fn until_next_tick() -> Duration {
    let tick_ms = TICK_S * 1000;
    Duration::from_millis(tick_ms - clock::now().unix_ms % tick_ms)
}
