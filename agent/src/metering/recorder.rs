//! Metering as the rest of the agent knows it: told what is held, it keeps what was used and hands it to sessions.
//!
//! One task writes to the disk; drivers never wait for it. While the disk fails, what becomes known is kept in memory and
//! tried again; nothing is cut meanwhile, so it is only what starts and stops: metering stops no guest.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use novacron_protocol::ids::VmId;
use novacron_protocol::usage::{HOUR_S, RecordOutcome, UsageRecord};
use novacron_storage::disk::Disk;
use tokio::sync::Notify;
use tokio::time::{Instant, MissedTickBehavior, interval, timeout};
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

use super::journal::Batch;
use super::meters::{Held, Meters};
use super::rest::{Verdict, judge};
use super::store::{Mark, Store, StoreError};
use super::time::Reading;
use crate::clock::{self, Clocks};
use crate::reason::reason;

/// How often the meters' mark is written. Of a guest that ends while no agent runs, no more than this and the time since its
/// last sign of life is not metered.
pub const MARK_INTERVAL: Duration = Duration::from_secs(30);

/// How long a change waits for others, and for the migration that it may be a part of: nothing is written while a guest
/// stands still.
const GATHER_INTERVAL: Duration = Duration::from_millis(100);

/// How often the agent notes that it lives …
const ALIVE_INTERVAL: Duration = Duration::from_secs(1);
/// … so that it notices that it stood still for so long. Guests that ended meanwhile, unseen, are metered until then.
const STALL_MS_MIN: u64 = 5_000;

/// How long after that the ends that it missed are still heard of.
const STALL_HEARD_INTERVAL: Duration = Duration::from_secs(5);

/// What runs is told every five minutes of UTC …
const CUT_S: u64 = 300;
/// … and every hour while this many bytes wait (an hour of 550 machines): then a coordinator has been away for long.
const NEAR_BYTES_MAX: u64 = 4 << 20;

/// Records in memory while the disk fails: 6 MB. Only starts and stops become records then.
const WAITING_MAX: usize = 100_000;

/// How long a batch waits that the coordinators or the disk did not take.
const RETRY_INTERVAL: Duration = Duration::from_secs(20);

/// An answer to something that was not sent.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("usage was answered that was not sent")]
pub struct NotSent;

/// Takes what is held from everywhere in the agent; clones share it.
#[derive(Debug, Clone)]
pub struct Recorder {
    shared: Arc<Shared>,
}

#[derive(Debug)]
struct Shared {
    clocks: Clocks,
    state: Mutex<State>,
    /// Locked on threads that may wait for the disk, never on the reactor.
    store: Mutex<Store>,
    boot: Option<Uuid>,
    /// Something is to be kept.
    changed: Notify,
    /// What is about to be told is to be kept at once.
    hastened: Notify,
    /// Something may be sent.
    sendable: Notify,
}

#[derive(Debug, Default)]
struct State {
    meters: Meters,
    /// Not durable yet.
    waiting: Vec<UsageRecord>,
    /// Something is being written.
    is_keeping: bool,
    is_failing: bool,
    /// Sent in this session and not answered.
    in_flight: Option<Batch>,
    not_before: Option<Instant>,
    /// When the agent was seen to live last; from [`Recorder::settle`] on.
    alive: Option<Reading>,
    stall: Option<Stall>,
    numbers: UsageNumbers,
}

/// The agent stood still, and may not have heard yet of everything that ended meanwhile.
#[derive(Debug, Clone, Copy)]
struct Stall {
    /// The last moment at which it lived.
    since: Reading,
    heard_until: Instant,
}

/// How metering stands.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct UsageNumbers {
    /// Records that no coordinator has acknowledged.
    pub waiting: u64,
    /// Their bytes on the disk.
    pub waiting_bytes: u64,
    /// Records that the ledger refused, since the agent was started.
    pub refused: u64,
    /// Records that were lost because the disk failed for too long, since the agent was started.
    pub lost: u64,
    /// Machines whose guest is metered.
    pub running: u64,
    /// What is held has changed, and that is not durable yet.
    pub is_behind: bool,
}

impl Recorder {
    /// A recorder that goes on with what an earlier run of the agent left.
    ///
    /// # Errors
    /// [`StoreError`]: what waits is money, so it is not guessed at.
    pub async fn open(disk: Arc<dyn Disk>, clocks: Clocks) -> Result<Self, StoreError> {
        let (boot, now) = (clock::boot(), clocks.read());
        let opened = tokio::task::spawn_blocking(move || Store::open(disk, boot, now));
        let (store, meters, used) = opened.await.map_err(|_| StoreError::Ending)??;
        let state = State { meters, waiting: used, ..State::default() };
        let (state, store) = (Mutex::new(state), Mutex::new(store));
        let (changed, hastened, sendable) = (Notify::new(), Notify::new(), Notify::new());
        let shared = Shared { clocks, state, store, boot, changed, hastened, sendable };
        Ok(Self { shared: Arc::new(shared) })
    }

    /// From now on this agent has this of a machine, or nothing.
    pub fn hold(&self, vm: VmId, held: Option<&Held>) {
        let mut state = self.state();
        let now = self.shared.clocks.read();
        state.live(now);
        let (used, has_changed) = state.meters.hold(now, vm, held);
        state.wait(used);
        state.numbers.is_behind |= has_changed;
        drop(state);
        if has_changed {
            self.shared.changed.notify_one();
        }
    }

    /// What is told next waits for nothing: a start that is reported should be durable by then.
    pub fn hasten(&self) {
        self.shared.hastened.notify_one();
    }

    /// A machine whose process is gone gave its last sign of life at this time of the wall clock. That counts if nobody saw
    /// it end.
    pub fn sign(&self, vm: VmId, wall_ms: u64) {
        let mut state = self.state();
        let now = self.shared.clocks.read();
        state.live(now);
        state.meters.sign(now, vm, wall_ms);
    }

    /// Every machine that this agent has was told about.
    pub fn settle(&self) {
        let mut state = self.state();
        let now = self.shared.clocks.read();
        let used = state.meters.settle(now);
        state.alive = Some(now);
        state.wait(used);
        drop(state);
        self.shared.changed.notify_one();
    }

    /// Makes durable what becomes known, until `stop`; then what is known by then. Once, for as long as the agent lives.
    pub async fn run(&self, stop: CancellationToken) {
        tokio::select! {
            biased;
            () = self.keep_on(&stop) => (),
            () = self.live() => (),
        }
        self.keep(1).await;
    }

    /// Ends between two writes.
    async fn keep_on(&self, stop: &CancellationToken) {
        let mut marks = interval(MARK_INTERVAL);
        marks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            tokio::select! {
                biased;
                () = stop.cancelled() => return,
                () = self.shared.changed.notified() => {
                    drop(timeout(GATHER_INTERVAL, self.gathered(stop)).await);
                }
                _ = marks.tick() => (),
            }
            let cut_s = self.state().cut_s();
            self.keep(cut_s).await;
            // Also what was put off.
            self.shared.sendable.notify_one();
        }
    }

    async fn gathered(&self, stop: &CancellationToken) {
        tokio::select! {
            biased;
            () = stop.cancelled() => (),
            () = self.shared.hastened.notified() => (),
        }
    }

    async fn live(&self) {
        let mut ticks = interval(ALIVE_INTERVAL);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            ticks.tick().await;
            self.state().live(self.shared.clocks.read());
        }
    }

    /// A new session with a coordinator: what was not acknowledged is sent again.
    pub fn begin_session(&self) {
        let mut state = self.state();
        (state.in_flight, state.not_before) = (None, None);
        drop(state);
        self.shared.sendable.notify_one();
    }

    /// Returns once there may be something to send. Cancel-safe.
    pub async fn changed(&self) {
        self.shared.sendable.notified().await;
    }

    /// What is to be sent now; one batch at a time.
    pub async fn next_batch(&self) -> Option<Batch> {
        if !self.state().may_send() {
            return None;
        }
        match self.on_store(Store::oldest).await {
            Ok(batch) => {
                self.state().in_flight.clone_from(&batch);
                batch
            }
            Err(error) => {
                tracing::error!(reason = reason(&error), "usage cannot be read");
                self.put_off();
                None
            }
        }
    }

    /// The coordinators answered the batch with this number.
    ///
    /// # Errors
    /// [`NotSent`]; nothing has changed.
    pub async fn answered(
        &self,
        sequence: u64,
        outcomes: Vec<RecordOutcome>,
    ) -> Result<(), NotSent> {
        let batch = self.state().sent(sequence)?;
        match judge(&batch.records, outcomes).ok_or(NotSent)? {
            Verdict::Wait => {
                tracing::warn!("usage waits: this host's clock is ahead of the fleet's");
                self.put_off();
            }
            Verdict::Over { rest, refused } => self.finish(batch, rest, refused).await,
        }
        Ok(())
    }

    /// The coordinators cannot take the batch with this number now.
    ///
    /// # Errors
    /// [`NotSent`]; nothing has changed.
    pub fn declined(&self, sequence: u64, reason: &str) -> Result<(), NotSent> {
        self.state().sent(sequence)?;
        tracing::warn!(reason, "usage waits: the coordinators cannot take it");
        self.put_off();
        Ok(())
    }

    /// How it stands.
    pub fn numbers(&self) -> UsageNumbers {
        let state = self.state();
        let running = state.meters.running() as u64;
        let waiting = state.numbers.waiting + state.waiting.len() as u64;
        let is_behind = state.numbers.is_behind || state.is_keeping || state.is_failing;
        UsageNumbers { running, waiting, is_behind, ..state.numbers }
    }

    async fn finish(
        &self,
        batch: Batch,
        rest: Vec<UsageRecord>,
        refused: Vec<(UsageRecord, RecordOutcome)>,
    ) {
        let (rests, refusals) = (rest.len(), refused.len() as u64);
        if rests > 0 {
            tracing::info!(records = rests, "some seconds of usage were known; the rest is sent");
        }
        if let Some((record, outcome)) = refused.first() {
            tracing::error!(
                records = refusals,
                ?record,
                ?outcome,
                "usage was refused for good; it is in usage/refused of the data directory"
            );
        }
        let at = clock::now();
        let done = self.on_store(move |store| store.finish(&batch, &rest, &refused, at)).await;
        if let Err(error) = done {
            tracing::error!(
                reason = reason(&error),
                "acknowledged usage cannot be forgotten; sent again"
            );
            return self.put_off();
        }
        let mut state = self.state();
        state.in_flight = None;
        state.numbers.refused += refusals;
        drop(state);
        self.shared.sendable.notify_one();
    }

    fn put_off(&self) {
        let mut state = self.state();
        state.in_flight = None;
        state.not_before = Some(Instant::now() + RETRY_INTERVAL);
    }

    /// Records first, then the mark.
    async fn keep(&self, cut_s: u64) {
        let (now, boot) = (self.shared.clocks.read(), self.shared.boot);
        let (records, mark) = self.state().begin_keeping(now, cut_s, boot);
        let count = records.len();
        let kept = self.on_store(move |store| store.keep(&records, &mark)).await;
        self.state().kept(count, kept);
    }

    async fn on_store<T: Send + 'static>(
        &self,
        act: impl FnOnce(&mut Store) -> Result<T, StoreError> + Send + 'static,
    ) -> Result<T, StoreError> {
        let shared = Arc::clone(&self.shared);
        let acting = tokio::task::spawn_blocking(move || {
            let mut store = shared.store.lock().unwrap_or_else(PoisonError::into_inner);
            let acted = act(&mut store);
            let mut state = shared.state();
            state.numbers.waiting = store.waiting_records();
            state.numbers.waiting_bytes = store.waiting_bytes();
            acted
        });
        acting.await.map_err(|_| StoreError::Ending)?
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.shared.state()
    }
}

impl Shared {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    fn wait(&mut self, used: Vec<UsageRecord>) {
        let room = WAITING_MAX.saturating_sub(self.waiting.len());
        let lost = used.len().saturating_sub(room) as u64;
        if lost > 0 {
            tracing::error!(records = lost, "usage is lost: the disk has failed for too long");
            self.numbers.lost += lost;
        }
        self.waiting.extend(used.into_iter().take(room));
    }

    /// The agent lives; if it did not for a while, what it did not see is in doubt.
    fn live(&mut self, now: Reading) {
        let Some(before) = self.alive else { return };
        self.alive = Some(now);
        let stood_still_ms = now.monotonic_ms.saturating_sub(before.monotonic_ms);
        if stood_still_ms >= STALL_MS_MIN {
            tracing::warn!(stood_still_ms, "the agent stood still");
            self.meters.doubt(before);
            let since = self.stall.map_or(before, |stall| stall.since);
            let heard_until = Instant::now() + STALL_HEARD_INTERVAL;
            self.stall = Some(Stall { since, heard_until });
        } else if self.stall.is_some_and(|stall| stall.heard_until <= Instant::now()) {
            self.meters.trust();
            self.stall = None;
        }
    }

    /// How often what runs is told.
    fn cut_s(&self) -> u64 {
        if self.numbers.waiting_bytes > NEAR_BYTES_MAX { HOUR_S } else { CUT_S }
    }

    fn sent(&self, sequence: u64) -> Result<Batch, NotSent> {
        let batch = self.in_flight.as_ref().filter(|batch| batch.sequence == sequence);
        batch.cloned().ok_or(NotSent)
    }

    fn may_send(&self) -> bool {
        self.in_flight.is_none() && self.not_before.is_none_or(|moment| moment <= Instant::now())
    }

    /// What is to be written now.
    fn begin_keeping(
        &mut self,
        now: Reading,
        cut_s: u64,
        boot: Option<Uuid>,
    ) -> (Vec<UsageRecord>, Mark) {
        if !self.is_failing {
            let used = self.meters.cut(now, cut_s);
            self.wait(used);
        }
        (self.numbers.is_behind, self.is_keeping) = (false, true);
        // What is in doubt was certain then only.
        let at = self.stall.map_or(now, |stall| stall.since);
        (self.waiting.clone(), Mark { boot, at, series: self.meters.remembered() })
    }

    fn kept(&mut self, count: usize, kept: Result<(), StoreError>) {
        self.is_keeping = false;
        let was_failing = std::mem::replace(&mut self.is_failing, kept.is_err());
        match kept {
            Ok(()) => {
                self.waiting.drain(..count);
                if was_failing {
                    tracing::info!("usage is durable again");
                }
            }
            Err(error) if !was_failing => {
                tracing::error!(
                    reason = reason(&error),
                    "usage is kept in memory only, and tried again"
                );
            }
            Err(_) => (),
        }
    }
}

#[cfg(test)]
mod tests;
