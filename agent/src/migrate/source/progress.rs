//! What a source says of its progress, and its account at the end.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use novacron_protocol::migration::{
    MemoryPath, MigrationAccount, MigrationMode, MigrationPhase, MigrationProgress,
};

use super::{Run, Step};
use crate::disk::DiskCounters;
use crate::migrate::account::Mark;
use crate::migrate::memory::{MemoryTotals, OutgoingForm};

/// Over how long the rate on the wire is taken.
const RATE_WINDOW: Duration = Duration::from_secs(2);

/// Samples of a counter, for its rate.
#[derive(Debug, Default)]
pub(super) struct Meter {
    samples: VecDeque<(Instant, u64)>,
    remaining_bytes: u64,
}

impl Meter {
    /// QEMU's newest estimate of the memory still to be sent.
    pub(super) fn remaining(&mut self, bytes: u64) {
        self.remaining_bytes = bytes;
    }

    /// Bits per second over the window that ends with this sample.
    fn rate_bits_per_second(&mut self, now: Instant, bytes: u64) -> u64 {
        self.samples.push_back((now, bytes));
        while self.samples.len() > 2 && now.duration_since(self.samples[1].0) >= RATE_WINDOW {
            self.samples.pop_front();
        }
        let (since, before) = self.samples[0];
        let elapsed_us = now.duration_since(since).as_micros().max(1);
        let bits = u128::from(bytes.saturating_sub(before)) * 8 * 1_000_000 / elapsed_us;
        u64::try_from(bits).unwrap_or(u64::MAX)
    }
}

impl Run {
    /// Tells how far it is, asks QEMU what remains, and keeps the console log from piling up.
    pub(super) async fn tick(&mut self) {
        if self.session.is_finished() || self.control.is_none() {
            return;
        }
        let progress = self.progress();
        self.context.reporter.progress(self.migration(), progress);
        if self.account.reached(Mark::Stopped) {
            return;
        }
        if let Some(log) = &mut self.log
            && let Err(error) = log.send_new().await
        {
            let reason = crate::reason::reason(&error);
            return self.fail(reason);
        }
        if self.session.phase() == MigrationPhase::DataSync
            && let Some(qmp) = self.qmp()
        {
            self.steps.spawn(async move {
                let remaining = qmp.migration().await.ok().and_then(|info| info.ram);
                Step::Remaining(remaining.map_or(0, |ram| ram.remaining))
            });
        }
    }

    fn progress(&mut self) -> MigrationProgress {
        let (memory, disks) = (self.memory_totals(), self.disk_counters());
        let bytes_wire = memory.bytes_wire + disks.bytes_wire + self.file_bytes;
        let memory_left = match (&self.outgoing, self.mode) {
            (_, MigrationMode::Cold) => 0,
            (Some(_), MigrationMode::Live) => self.progress.remaining_bytes,
            (None, MigrationMode::Live) => self.facts.spec.memory_bytes,
        };
        let bytes_remaining = memory_left + disks.bytes_total.saturating_sub(disks.bytes_disk);
        let done = memory.bytes_guest + disks.bytes_disk;
        MigrationProgress {
            phase: self.session.phase(),
            rounds: memory.rounds,
            bytes_guest: memory.bytes_guest,
            bytes_wire,
            bytes_disk: disks.bytes_disk,
            bytes_remaining,
            bytes_total: done + bytes_remaining,
            wire_bits_per_second: self.progress.rate_bits_per_second(Instant::now(), bytes_wire),
            elapsed_ms: u64::try_from(self.account.elapsed().as_millis()).unwrap_or(u64::MAX),
        }
    }

    /// The account as far as it goes; what an earlier run of the agent remembered, if this one only ends it.
    pub(super) fn closed_account(&self) -> MigrationAccount {
        if let Some(remembered) = &self.remembered {
            return remembered.clone();
        }
        let (memory, disks) = (self.memory_totals(), self.disk_counters());
        let milliseconds = |time: Duration| u64::try_from(time.as_millis()).unwrap_or(u64::MAX);
        MigrationAccount {
            total_ms: milliseconds(self.account.total()),
            prepare_ms: milliseconds(self.account.prepare()),
            memory_ms: milliseconds(self.account.memory()),
            downtime_parts: self.account.downtime(),
            rounds: memory.rounds,
            bytes_guest: memory.bytes_guest,
            bytes_wire: memory.bytes_wire + disks.bytes_wire + self.file_bytes,
            bytes_wire_memory: memory.bytes_wire,
            bytes_disk: disks.bytes_disk,
            pages_zero: memory.pages_zero,
            pages_same: memory.pages_same,
            pages_sent: memory.pages_sent,
            // A source gets as far as the release only over equal digests.
            verified: self.account.reached(Mark::Verified),
            path: match (self.mode, &self.form) {
                (MigrationMode::Cold, _) => MemoryPath::None,
                (MigrationMode::Live, OutgoingForm::Pages(_)) => MemoryPath::Pages,
                (MigrationMode::Live, OutgoingForm::Tunnel) => MemoryPath::Tunnel,
            },
        }
    }

    fn memory_totals(&self) -> MemoryTotals {
        self.outgoing.as_ref().map(|outgoing| outgoing.counters().totals()).unwrap_or_default()
    }

    fn disk_counters(&self) -> DiskTotals {
        self.disks.as_ref().map_or_else(DiskTotals::default, |disks| {
            let counters: &DiskCounters = &disks.counters();
            DiskTotals {
                bytes_disk: counters.bytes_disk(),
                bytes_wire: counters.bytes_wire(),
                bytes_total: counters.bytes_total(),
            }
        })
    }
}

/// The disks' counters at one moment.
#[derive(Debug, Default)]
struct DiskTotals {
    bytes_disk: u64,
    bytes_wire: u64,
    bytes_total: u64,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_rate_is_that_of_the_last_seconds() {
        let begun = Instant::now();
        let mut meter = Meter::default();
        assert_eq!(meter.rate_bits_per_second(begun, 0), 0);
        let after = |seconds| begun + Duration::from_secs(seconds);
        assert_eq!(meter.rate_bits_per_second(after(1), 1000), 8000);
        for second in 2..10 {
            meter.rate_bits_per_second(after(second), 1000 + (second - 1) * 500);
        }
        assert_eq!(meter.rate_bits_per_second(after(10), 5500), 4000);
    }
}
