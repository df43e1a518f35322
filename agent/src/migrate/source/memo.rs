//! What a source remembers beside its decision: the account so far, so that a migration whose source was restarted in
//! the middle of the hand-over still has its record.

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
}

impl Message for Memo {
    const VERSION: u16 = 2;
    const BYTES_MAX: usize = 2048;
    const NAME: &'static str = "migration memo";
}

impl Memo {
    /// Of a migration that was accounted for until this moment, or else to its end.
    pub(super) fn new(account: MigrationAccount, open_since_us: Option<u64>) -> Self {
        Self { account, open_since_us }
    }

    /// The bytes to remember.
    pub(super) fn write(&self) -> Vec<u8> {
        // All numbers: it always fits, and a memo that is missing costs only figures.
        codec::encode(self).unwrap_or_default()
    }

    /// What an earlier run remembered; all zero if there is nothing.
    pub(super) fn read(bytes: &[u8]) -> Self {
        codec::decode(bytes).unwrap_or_else(|_| Self::new(empty(), None))
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

fn empty() -> MigrationAccount {
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
        let memo = Memo::new(account, Some(4));
        assert_eq!(Memo::read(&memo.write()), memo);
        assert_eq!(Memo::read(b"?"), Memo::new(empty(), None));
    }

    /// If this fails, the layout has changed: raise the version.
    #[test]
    fn golden_memo() {
        let account = crate::migrate::account_of_distinct_numbers();
        let bytes = Memo::new(account, Some(26)).write();
        assert_eq!(
            (Memo::VERSION, bytes.len(), xxh3_64(&bytes)),
            (2, 212, 7_901_398_125_304_757_093)
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
        Memo::new(account, Some(7_000_000))
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
