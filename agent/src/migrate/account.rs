//! Where the time of a migration goes, as its source sees it: pure.
//!
//! ```text
//! begun ── prepare ──► memory asked for ── rounds ──► stopped ─┬─ disk drain ─ memory drain ─ target load ─ verify
//!                                                              └─ ─ release ─ resume ──► runs at the target
//! ```
//!
//! Every part of the downtime begins where the one before it ended, so that they add up to the whole. The last mark
//! is the arrival of the target's message that the guest runs, so the downtime is never understated: half a round trip
//! is counted too much.

use std::time::{Duration, Instant};

use novacron_protocol::migration::DowntimeParts;

/// Marks in the order in which they are reached.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Mark {
    /// QEMU was asked to send memory.
    MemoryAsked,
    /// The guest stopped.
    Stopped,
    /// The last disk block was sent.
    DisksDrained,
    /// The last page was sent.
    MemoryDrained,
    /// The target has everything loaded, and said so.
    TargetLoaded,
    /// Digests were equal and QEMU completed.
    Verified,
    /// The release is durable.
    Released,
    /// The target runs the guest, and said so.
    Running,
}

const MARKS: usize = Mark::Running as usize + 1;

/// The account of one migration.
#[derive(Debug, Clone)]
pub struct Account {
    begun: Instant,
    marks: [Option<Instant>; MARKS],
}

impl Account {
    /// A migration that begins now.
    pub fn begin(now: Instant) -> Self {
        Self { begun: now, marks: [None; MARKS] }
    }

    /// A migration that began so long ago.
    pub fn begin_before(elapsed: Duration) -> Self {
        let now = Instant::now();
        Self::begin(now.checked_sub(elapsed).unwrap_or(now))
    }

    /// A mark is reached. Only the first time counts.
    pub fn reach(&mut self, mark: Mark, now: Instant) {
        self.marks[mark as usize].get_or_insert(now);
    }

    /// Whether a mark was reached.
    pub fn reached(&self, mark: Mark) -> bool {
        self.marks[mark as usize].is_some()
    }

    /// The guest is taken back: what was said of its standing still no longer holds.
    pub fn resume(&mut self) {
        self.marks[Mark::Stopped as usize..].fill(None);
    }

    /// The moment of a mark; one that was skipped coincides with the one before it.
    fn at(&self, mark: Mark) -> Instant {
        let earlier = self.marks[..=mark as usize].iter().rev().flatten();
        earlier.copied().next().unwrap_or(self.begun)
    }

    fn between(&self, from: Mark, to: Mark) -> Duration {
        self.at(to).saturating_duration_since(self.at(from))
    }

    /// From the beginning until now.
    pub fn elapsed(&self) -> Duration {
        self.begun.elapsed()
    }

    /// Since the newest mark.
    pub fn since_newest_mark(&self) -> Duration {
        self.at(Mark::Running).elapsed()
    }

    /// From the beginning to the end.
    pub fn total(&self) -> Duration {
        self.at(Mark::Running).saturating_duration_since(self.begun)
    }

    /// From the beginning until memory was asked for.
    pub fn prepare(&self) -> Duration {
        self.at(Mark::MemoryAsked).saturating_duration_since(self.begun)
    }

    /// From there to the end.
    pub fn memory(&self) -> Duration {
        self.between(Mark::MemoryAsked, Mark::Running)
    }

    /// The downtime, part by part. All zero if the guest was never stopped.
    pub fn downtime(&self) -> DowntimeParts {
        if !self.reached(Mark::Stopped) {
            return DowntimeParts::default();
        }
        let part = |from, to| u64::try_from(self.between(from, to).as_micros()).unwrap_or(u64::MAX);
        DowntimeParts {
            disk_drain_us: part(Mark::Stopped, Mark::DisksDrained),
            memory_drain_us: part(Mark::DisksDrained, Mark::MemoryDrained),
            target_load_us: part(Mark::MemoryDrained, Mark::TargetLoaded),
            verify_us: part(Mark::TargetLoaded, Mark::Verified),
            release_us: part(Mark::Verified, Mark::Released),
            resume_us: part(Mark::Released, Mark::Running),
        }
    }
}

/// An account in which every number is another.
#[cfg(test)]
pub(crate) fn account_of_distinct_numbers() -> novacron_protocol::migration::MigrationAccount {
    novacron_protocol::migration::MigrationAccount {
        total_ms: 1,
        prepare_ms: 2,
        memory_ms: 3,
        downtime_parts: DowntimeParts {
            disk_drain_us: 4,
            memory_drain_us: 5,
            target_load_us: 6,
            verify_us: 7,
            release_us: 8,
            resume_us: 9,
        },
        rounds: 10,
        bytes_guest: 11,
        bytes_wire: 12,
        bytes_wire_memory: 13,
        bytes_wire_disks: 14,
        bytes_wire_files: 15,
        bytes_link: 16,
        bytes_disk: 17,
        bytes_disk_held: 18,
        bytes_disk_final: 19,
        pages_zero: 20,
        pages_same: 21,
        pages_known: 22,
        pages_differing: 23,
        pages_packed: 24,
        pages_raw: 25,
        verified: true,
        path: novacron_protocol::migration::MemoryPath::Tunnel,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_parts_add_up_even_if_marks_are_skipped() {
        let begun = Instant::now();
        let after = |milliseconds| begun + Duration::from_millis(milliseconds);
        let mut account = Account::begin(begun);
        account.reach(Mark::MemoryAsked, after(100));
        account.reach(Mark::Stopped, after(1000));
        account.reach(Mark::MemoryDrained, after(1030));
        account.reach(Mark::TargetLoaded, after(1050));
        account.reach(Mark::Verified, after(1051));
        account.reach(Mark::Released, after(1053));
        account.reach(Mark::Running, after(1060));
        account.reach(Mark::Running, after(9999));
        let parts = account.downtime();
        assert_eq!(parts.disk_drain_us, 0);
        assert_eq!(parts.memory_drain_us, 30_000);
        assert_eq!(parts.total_us(), 60_000);
        assert_eq!(account.total(), Duration::from_millis(1060));
        assert_eq!(account.prepare() + account.memory(), account.total());
    }

    #[test]
    fn a_guest_that_was_never_stopped_had_no_downtime() {
        let mut account = Account::begin(Instant::now());
        account.reach(Mark::Stopped, Instant::now());
        account.resume();
        account.reach(Mark::Released, Instant::now());
        assert_eq!(account.downtime(), DowntimeParts::default());
    }
}
