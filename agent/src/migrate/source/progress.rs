//! What a source says of its progress, and its account at the end.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use novacron_protocol::migration::{
    MemoryPath, MigrationAccount, MigrationMode, MigrationPhase, MigrationProgress,
};

use super::memo::sent_in_all;
use super::{Run, Step};
use crate::disk::{DiskCounters, DiskProgress};
use crate::host::ProcessorLoad;
use crate::migrate::account::Mark;
use crate::migrate::memory::{MemoryTotals, OutgoingForm};
use crate::qmp::RamCounters;

/// Over how long the rate on the wire is taken.
const RATE_WINDOW: Duration = Duration::from_secs(2);

/// What was said and measured of a migration, for its progress.
#[derive(Debug, Default)]
pub(super) struct Meter {
    wire: Rate,
    content: Rate,
    dirty_bytes_per_second: Option<u64>,
    memory_left_bytes: Option<u64>,
    disks_left_bytes: Option<u64>,
    load: ProcessorLoad,
    target_load_permille: Option<u16>,
}

/// Samples of a counter, for its rate.
#[derive(Debug, Default)]
struct Rate {
    samples: VecDeque<(Instant, u64)>,
}

/// What QEMU says is still to be sent.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Remaining {
    /// Of memory, and how many bytes of it the guest writes per second, once that was measured.
    Memory {
        /// Bytes left.
        left_bytes: u64,
        /// Bytes written per second.
        dirty_bytes_per_second: Option<u64>,
    },
    /// Of what is allocated of the disks.
    Disks(u64),
}

impl Meter {
    /// How busy the target's host is, or that nobody knows.
    pub(super) fn target_load(&mut self, permille: Option<u16>) {
        self.target_load_permille = permille;
    }

    /// QEMU's newest estimate.
    pub(super) fn remaining(&mut self, estimate: Remaining) {
        match estimate {
            Remaining::Memory { left_bytes, dirty_bytes_per_second } => {
                self.memory_left_bytes = Some(left_bytes);
                self.dirty_bytes_per_second = dirty_bytes_per_second;
            }
            Remaining::Disks(bytes) => self.disks_left_bytes = Some(bytes),
        }
    }

    /// What is left in this phase and those that follow; `whole` is what it is taken for until QEMU has said it.
    fn bytes_left(&self, phase: MigrationPhase, whole: Whole) -> u64 {
        let memory = self.memory_left_bytes.unwrap_or(whole.memory_bytes);
        let disks = self.disks_left_bytes.unwrap_or(whole.disks_bytes);
        match phase {
            MigrationPhase::DataSync => memory,
            // Nothing is left of either once the guest stands still, or next to nothing.
            later if later > MigrationPhase::DataSync => 0,
            _ => memory.saturating_add(disks),
        }
    }
}

impl Rate {
    /// Bytes per second over the window that ends with this sample.
    fn bytes_per_second(&mut self, now: Instant, bytes: u64) -> u64 {
        self.samples.push_back((now, bytes));
        while self.samples.len() > 2 && now.duration_since(self.samples[1].0) >= RATE_WINDOW {
            self.samples.pop_front();
        }
        let (since, before) = self.samples[0];
        per_second(bytes.saturating_sub(before), now.duration_since(since))
    }
}

/// The rate of what took so long; of what took no time, as if it had been a microsecond.
pub(super) fn per_second(bytes: u64, took: Duration) -> u64 {
    let rate = u128::from(bytes) * 1_000_000 / took.as_micros().max(1);
    u64::try_from(rate).unwrap_or(u64::MAX)
}

/// QEMU measures how fast the guest writes between two looks at its dirty pages; before the second there is nothing.
fn remaining_memory(memory: &RamCounters) -> Remaining {
    let rate = memory.dirty_pages_rate.saturating_mul(memory.page_size);
    Remaining::Memory {
        left_bytes: memory.remaining,
        dirty_bytes_per_second: (memory.dirty_sync_count > 1).then_some(rate),
    }
}

/// All there is to be sent.
#[derive(Debug, Clone, Copy)]
struct Whole {
    memory_bytes: u64,
    disks_bytes: u64,
}

impl Run {
    /// Tells how far it is, asks QEMU what remains, and keeps the console log from piling up.
    pub(super) async fn tick(&mut self) {
        if self.session.is_finished() || self.outcome.is_some() {
            return;
        }
        let progress = self.progress();
        self.count();
        self.count_standing(&progress);
        self.context.reporter.progress(self.migration(), progress);
        if self.account.reached(Mark::Stopped) {
            return;
        }
        if let Some(log) = &mut self.log
            && let Err(error) = log.send_new()
        {
            let reason = crate::reason::reason(&error);
            return self.fail(reason);
        }
        self.remember_now_and_then();
        self.ask_what_remains();
    }

    fn ask_what_remains(&mut self) {
        match (self.session.phase(), self.qmp(), self.disks.clone()) {
            (MigrationPhase::DiskSync, _, Some(disks)) => {
                self.steps.spawn(async move {
                    let left =
                        |jobs: DiskProgress| jobs.total_bytes.saturating_sub(jobs.done_bytes);
                    Step::Remaining(disks.progress().await.ok().map(left).map(Remaining::Disks))
                });
            }
            (MigrationPhase::DataSync, Some(qmp), _) => {
                self.steps.spawn(async move {
                    let memory = qmp.migration().await.ok().and_then(|info| info.ram);
                    Step::Remaining(memory.as_ref().map(remaining_memory))
                });
            }
            _ => {}
        }
    }

    fn progress(&mut self) -> MigrationProgress {
        let (memory, disks) = (self.memory_totals(), self.disk_counters());
        let carried = &self.carried;
        let bytes_wire =
            memory.bytes_wire + disks.bytes_wire + self.file_bytes + carried.bytes_wire;
        let bytes_guest = memory.bytes_guest + carried.bytes_guest;
        let bytes_disk = disks.bytes_disk + carried.bytes_disk;
        let rounds = memory.rounds + self.warm.rounds() + carried.rounds;
        let memory_bytes = match self.mode {
            MigrationMode::Cold | MigrationMode::Warm => 0,
            MigrationMode::Live => self.facts.spec.memory_bytes,
        };
        let whole = Whole { memory_bytes, disks_bytes: disks.bytes_total };
        let bytes_remaining = self.progress.bytes_left(self.session.phase(), whole);
        let done = bytes_guest + bytes_disk;
        let now = Instant::now();
        MigrationProgress {
            phase: self.session.phase(),
            rounds,
            bytes_guest,
            bytes_wire,
            bytes_disk,
            bytes_remaining,
            bytes_total: done + bytes_remaining,
            wire_bits_per_second: self
                .progress
                .wire
                .bytes_per_second(now, bytes_wire)
                .saturating_mul(8),
            content_bytes_per_second: self.progress.content.bytes_per_second(now, done),
            dirty_bytes_per_second: self.progress.dirty_bytes_per_second,
            source_load_permille: self.progress.load.permille(),
            target_load_permille: self.progress.target_load_permille,
            elapsed_ms: u64::try_from(self.account.elapsed().as_millis()).unwrap_or(u64::MAX),
        }
    }

    /// The account as far as it goes; what an earlier run of the agent remembered, if this one only ends it.
    pub(super) fn closed_account(&self) -> MigrationAccount {
        if let Some(remembered) = &self.remembered {
            return remembered.account().clone();
        }
        let (memory, disks) = (self.memory_totals(), self.disk_counters());
        let milliseconds = |time: Duration| u64::try_from(time.as_millis()).unwrap_or(u64::MAX);
        let of_this_run = MigrationAccount {
            total_ms: milliseconds(self.account.total()),
            prepare_ms: milliseconds(self.account.prepare()),
            memory_ms: milliseconds(self.account.memory()),
            downtime_parts: self.account.downtime(),
            rounds: memory.rounds + self.warm.rounds(),
            bytes_guest: memory.bytes_guest,
            bytes_wire: memory.bytes_wire + disks.bytes_wire + self.file_bytes,
            bytes_wire_memory: memory.bytes_wire,
            bytes_wire_disks: disks.bytes_wire,
            bytes_wire_files: self.file_bytes,
            bytes_link: self.tally.link_sent_bytes(),
            bytes_disk: disks.bytes_disk,
            bytes_disk_held: disks.bytes_held,
            bytes_disk_final: self
                .bytes_disk_at_stop
                .map_or(0, |before| disks.bytes_disk.saturating_sub(before)),
            pages_zero: memory.pages_zero,
            pages_same: memory.pages_same,
            pages_known: memory.pages_known,
            pages_differing: memory.pages_differing,
            pages_packed: memory.pages_packed,
            pages_raw: memory.pages_raw,
            // A source gets as far as the release only over equal digests.
            verified: self.account.reached(Mark::Verified),
            path: match (self.mode, &self.form) {
                (MigrationMode::Cold | MigrationMode::Warm, _) => MemoryPath::None,
                (MigrationMode::Live, OutgoingForm::Pages(_)) => MemoryPath::Pages,
                (MigrationMode::Live, OutgoingForm::Tunnel) => MemoryPath::Tunnel,
            },
        };
        sent_in_all(&self.carried, of_this_run)
    }

    pub(super) fn memory_totals(&self) -> MemoryTotals {
        let now = self.outgoing.as_ref().map(|outgoing| outgoing.counters().totals());
        self.earlier.memory.plus(now.unwrap_or_default())
    }

    pub(super) fn disk_counters(&self) -> DiskTotals {
        let Some(disks) = &self.disks else { return self.earlier.disks };
        let counters: &DiskCounters = &disks.counters();
        self.earlier.disks.plus(DiskTotals {
            bytes_disk: counters.bytes_disk(),
            bytes_wire: counters.bytes_wire(),
            bytes_total: counters.bytes_total(),
            bytes_held: counters.bytes_held(),
        })
    }
}

/// The disks' counters at one moment.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct DiskTotals {
    pub(super) bytes_disk: u64,
    pub(super) bytes_wire: u64,
    bytes_total: u64,
    pub(super) bytes_held: u64,
}

impl DiskTotals {
    /// What earlier attempts have sent, and then this one. What the target had before anything was sent is what the first
    /// attempt that came as far as the disks found: a later one finds what was sent as well.
    fn plus(self, attempt: Self) -> Self {
        let is_first = self.bytes_total == 0;
        Self {
            bytes_disk: self.bytes_disk + attempt.bytes_disk,
            bytes_wire: self.bytes_wire + attempt.bytes_wire,
            bytes_total: attempt.bytes_total,
            bytes_held: if is_first { attempt.bytes_held } else { self.bytes_held },
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_is_taken_for_done_before_qemu_has_said_so() {
        use MigrationPhase::{DataSync, DiskSync, Prepare, Switchover};
        let whole = Whole { memory_bytes: 100, disks_bytes: 1000 };
        let mut meter = Meter::default();
        assert_eq!(meter.bytes_left(Prepare, whole), 1100);
        meter.remaining(Remaining::Disks(30));
        assert_eq!(meter.bytes_left(DiskSync, whole), 130);
        assert_eq!(meter.bytes_left(DataSync, whole), 100);
        let counters = RamCounters { remaining: 7, ..RamCounters::default() };
        meter.remaining(remaining_memory(&counters));
        assert_eq!(meter.dirty_bytes_per_second, None, "nothing was measured yet");
        assert_eq!(meter.bytes_left(DataSync, whole), 7);
        assert_eq!(meter.bytes_left(Switchover, whole), 0);
    }

    #[test]
    fn what_an_earlier_attempt_has_sent_is_not_what_the_target_had_before() {
        let attempt = |bytes_wire, bytes_held| DiskTotals {
            bytes_disk: 2 * bytes_wire,
            bytes_wire,
            bytes_total: 1000,
            bytes_held,
        };
        let totals = DiskTotals::default().plus(attempt(100, 50)).plus(attempt(30, 250));
        assert_eq!((totals.bytes_disk, totals.bytes_wire), (260, 130));
        assert_eq!(totals.bytes_held, 50);
        assert_eq!(totals.plus(DiskTotals::default().plus(attempt(0, 280))).bytes_held, 50);
        let first_without_disks = DiskTotals::default().plus(DiskTotals::default());
        assert_eq!(first_without_disks.plus(attempt(1, 70)).bytes_held, 70);
    }

    #[test]
    fn the_rate_at_which_the_guest_writes_is_in_bytes() {
        let counters = RamCounters {
            dirty_pages_rate: 10,
            page_size: 4096,
            dirty_sync_count: 2,
            ..RamCounters::default()
        };
        let mut meter = Meter::default();
        meter.remaining(remaining_memory(&counters));
        assert_eq!(meter.dirty_bytes_per_second, Some(40_960));
    }

    #[test]
    fn the_rate_is_that_of_the_last_seconds() {
        let begun = Instant::now();
        let mut rate = Rate::default();
        assert_eq!(rate.bytes_per_second(begun, 0), 0);
        let after = |seconds| begun + Duration::from_secs(seconds);
        assert_eq!(rate.bytes_per_second(after(1), 1000), 1000);
        for second in 2..10 {
            rate.bytes_per_second(after(second), 1000 + (second - 1) * 500);
        }
        assert_eq!(rate.bytes_per_second(after(10), 5500), 500);
    }
}
