//! What a source remembers beside its decision: the account so far, so that a migration whose source was restarted, before
//! the hand-over or in the middle of it, still has its whole record.

use std::time::Duration;

use novacron_protocol::migration::{DowntimeParts, MemoryPath, MigrationAccount};
use novacron_protocol::wire::codec::{self, Message};
use serde::{Deserialize, Serialize};

/// An account and how far it goes.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Memo {
    account: MigrationAccount,
    /// The end of what the account covers, in microseconds since the host was started, while the machine is not known to
    /// run at the target: what comes after it is downtime, too.
    open_since_us: Option<u64>,
    /// When the migration began here, in microseconds since the host was started.
    begun_us: u64,
}

impl Message for Memo {
    const VERSION: u16 = 3;
    const BYTES_MAX: usize = 2048;
    const NAME: &'static str = "migration memo";
}

impl Memo {
    /// Of a migration that was accounted for until this moment, or else to its end.
    pub(super) fn new(
        account: MigrationAccount,
        open_since_us: Option<u64>,
        begun_us: u64,
    ) -> Self {
        Self { account, open_since_us, begun_us }
    }

    /// The bytes to remember.
    pub(super) fn write(&self) -> Vec<u8> {
        // All numbers: it always fits, and a memo that is missing costs only figures.
        codec::encode(self).unwrap_or_default()
    }

    /// What an earlier run remembered; all zero if there is nothing.
    pub(super) fn read(bytes: &[u8]) -> Self {
        Self::of_earlier_run(bytes).unwrap_or_else(|| Self::new(empty(), None, 0))
    }

    /// What an earlier run remembered, if there was one.
    pub(super) fn of_earlier_run(bytes: &[u8]) -> Option<Self> {
        codec::decode(bytes).ok()
    }

    /// How long ago the migration began. If the host was started again since, what is known of that.
    pub(super) fn elapsed(&self, now_us: u64) -> Duration {
        let known = Duration::from_millis(self.account.total_ms);
        now_us.checked_sub(self.begun_us).map_or(known, Duration::from_micros)
    }

    pub(super) fn account(&self) -> &MigrationAccount {
        &self.account
    }

    /// At this moment it was heard that the machine runs at the target. Only the first time counts. Since when is not
    /// known, so the downtime is overstated rather than understated, unless the host was started again meanwhile.
    pub(super) fn runs(&mut self, now_us: u64) {
        let Some(open_since_us) = self.open_since_us.take() else { return };
        let more_us = now_us.checked_sub(open_since_us).unwrap_or(now_us);
        let account = &mut self.account;
        account.total_ms = account.total_ms.saturating_add(more_us / 1000);
        account.memory_ms = account.memory_ms.saturating_add(more_us / 1000);
        // A stopped machine has no guest that could stand still.
        if account.downtime_parts.total_us() > 0 {
            let resume_us = &mut account.downtime_parts.resume_us;
            *resume_us = resume_us.saturating_add(more_us);
        }
    }
}

/// What a run of the agent has sent, and before it what earlier runs had; times and the outcome are the newest run's. What
/// the target had before anything was sent is what the first found: a later one finds what was sent as well.
pub(super) fn sent_in_all(earlier: &MigrationAccount, now: MigrationAccount) -> MigrationAccount {
    let had_disks = earlier.bytes_disk.saturating_add(earlier.bytes_disk_held) > 0;
    MigrationAccount {
        rounds: now.rounds.saturating_add(earlier.rounds),
        bytes_guest: now.bytes_guest.saturating_add(earlier.bytes_guest),
        bytes_wire: now.bytes_wire.saturating_add(earlier.bytes_wire),
        bytes_wire_memory: now.bytes_wire_memory.saturating_add(earlier.bytes_wire_memory),
        bytes_wire_disks: now.bytes_wire_disks.saturating_add(earlier.bytes_wire_disks),
        bytes_wire_files: now.bytes_wire_files.saturating_add(earlier.bytes_wire_files),
        bytes_link: now.bytes_link.saturating_add(earlier.bytes_link),
        bytes_disk: now.bytes_disk.saturating_add(earlier.bytes_disk),
        bytes_disk_held: if had_disks { earlier.bytes_disk_held } else { now.bytes_disk_held },
        pages_zero: now.pages_zero.saturating_add(earlier.pages_zero),
        pages_same: now.pages_same.saturating_add(earlier.pages_same),
        pages_known: now.pages_known.saturating_add(earlier.pages_known),
        pages_differing: now.pages_differing.saturating_add(earlier.pages_differing),
        pages_packed: now.pages_packed.saturating_add(earlier.pages_packed),
        pages_raw: now.pages_raw.saturating_add(earlier.pages_raw),
        ..now
    }
}

/// The account of a migration that nothing is known of.
pub(super) fn empty() -> MigrationAccount {
    MigrationAccount {
        total_ms: 0,
        prepare_ms: 0,
        memory_ms: 0,
        downtime_parts: DowntimeParts::default(),
        rounds: 0,
        bytes_guest: 0,
        bytes_wire: 0,
        bytes_wire_memory: 0,
        bytes_wire_disks: 0,
        bytes_wire_files: 0,
        bytes_link: 0,
        bytes_disk: 0,
        bytes_disk_held: 0,
        bytes_disk_final: 0,
        pages_zero: 0,
        pages_same: 0,
        pages_known: 0,
        pages_differing: 0,
        pages_packed: 0,
        pages_raw: 0,
        verified: false,
        path: MemoryPath::None,
    }
}

#[cfg(test)]
mod tests {
    use xxhash_rust::xxh3::xxh3_64;

    use super::*;

    #[test]
    fn what_is_written_is_read_and_anything_else_is_empty() {
        let account = MigrationAccount { total_ms: 17, verified: true, ..empty() };
        let memo = Memo::new(account, Some(4), 5);
        assert_eq!(Memo::read(&memo.write()), memo);
        assert_eq!(Memo::read(b"?"), Memo::new(empty(), None, 0));
        assert_eq!(Memo::of_earlier_run(b""), None);
    }

    #[test]
    fn what_an_earlier_run_has_sent_counts_and_its_time_too() {
        let distinct = crate::migrate::account_of_distinct_numbers();
        let now = MigrationAccount { total_ms: 700, bytes_wire_files: 1, ..empty() };
        let whole = sent_in_all(&distinct, now);
        assert_eq!((whole.total_ms, whole.verified), (700, false));
        assert_eq!(whole.bytes_wire_files, distinct.bytes_wire_files + 1);
        assert_eq!(whole.bytes_disk_final, 0);
        let twice = sent_in_all(&distinct, distinct.clone());
        assert_eq!(twice.bytes_disk_held, distinct.bytes_disk_held);
        assert_eq!((twice.bytes_wire, twice.pages_raw), (24, 50));

        let memo = Memo::new(MigrationAccount { total_ms: 9, ..empty() }, None, 1_000_000);
        assert_eq!(memo.elapsed(21_000_000), Duration::from_secs(20));
        assert_eq!(memo.elapsed(500), Duration::from_millis(9), "the host was started again");
    }

    /// If this fails, the layout has changed: raise the version.
    #[test]
    fn golden_memo() {
        let account = crate::migrate::account_of_distinct_numbers();
        let bytes = Memo::new(account, Some(26), 27).write();
        assert_eq!(
            (Memo::VERSION, bytes.len(), xxh3_64(&bytes)),
            (3, 220, 1_062_995_451_063_917_973)
        );
    }

    /// Killed between the release and *go*, with 30 ms accounted for.
    fn killed(downtime_parts: DowntimeParts) -> Memo {
        let account = MigrationAccount {
            total_ms: 5000,
            prepare_ms: 1000,
            memory_ms: 4000,
            downtime_parts,
            ..empty()
        };
        Memo::new(account, Some(7_000_000), 2_000_000)
    }

    fn thirty_milliseconds() -> DowntimeParts {
        DowntimeParts { memory_drain_us: 20_000, verify_us: 10_000, ..DowntimeParts::default() }
    }

    #[test]
    fn a_guest_that_stood_still_while_there_was_no_agent_did_so_in_the_record() {
        let mut memo = killed(thirty_milliseconds());
        memo.runs(27_000_000);
        memo.runs(99_000_000);
        let account = memo.account();
        assert_eq!(account.downtime_parts.total_us(), 20_030_000);
        assert_eq!(account.total_ms, 25_000);
        assert_eq!(account.prepare_ms + account.memory_ms, account.total_ms);
        assert_eq!(Memo::read(&memo.write()).account(), account);
    }

    #[test]
    fn a_stopped_machine_stands_still_for_no_longer() {
        let mut memo = killed(DowntimeParts::default());
        memo.runs(27_000_000);
        assert_eq!(memo.account().downtime_parts, DowntimeParts::default());
        assert_eq!(memo.account().total_ms, 25_000);
    }

    #[test]
    fn after_the_host_was_started_again_what_is_known_counts() {
        let mut memo = killed(thirty_milliseconds());
        memo.runs(6_000_000);
        assert_eq!(memo.account().downtime_parts.total_us(), 6_030_000);
    }
}
