//! What a source remembers beside its decision: the account so far, so that a migration whose source was restarted in
//! the middle of the hand-over still has its record.

use novacron_protocol::migration::{DowntimeParts, MemoryPath, MigrationAccount};
use novacron_protocol::wire::codec::{self, Message};
use serde::{Deserialize, Serialize};

#[derive(Debug, Serialize, Deserialize)]
struct Memo(MigrationAccount);

impl Message for Memo {
    const VERSION: u16 = 1;
    const BYTES_MAX: usize = 2048;
    const NAME: &'static str = "migration memo";
}

/// The bytes to remember.
pub(super) fn write(account: &MigrationAccount) -> Vec<u8> {
    // All numbers: it always fits, and a memo that is missing costs only figures.
    codec::encode(&Memo(account.clone())).unwrap_or_default()
}

/// The account that an earlier run remembered; all zero if there is none.
pub(super) fn read(bytes: &[u8]) -> MigrationAccount {
    codec::decode::<Memo>(bytes).map_or_else(|_| empty(), |memo| memo.0)
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
    use super::*;

    #[test]
    fn what_is_written_is_read_and_anything_else_is_empty() {
        let account = MigrationAccount { total_ms: 17, verified: true, ..empty() };
        assert_eq!(read(&write(&account)), account);
        assert_eq!(read(b"?"), empty());
    }
}
