//! The snapshots on disk, and what follows from the last of them: how far the log may go, and when the next one is due.

use std::sync::{Mutex, PoisonError};

use novacron_protocol::wire::codec;
use novacron_storage::snapshot::SnapshotStore;
use openraft::SnapshotMeta;

use super::backlog::Backlog;
use super::machine::MachineError;
use super::reach::SnapshotReach;
use super::record::SnapshotMetaRecord;
use super::types::MemberNode;

/// See the module.
#[derive(Debug)]
pub(super) struct Shelf {
    store: SnapshotStore,
    /// How far the latest reaches.
    pub(super) reach: SnapshotReach,
    /// What is behind it.
    pub(super) backlog: Backlog,
    /// Held while one is written.
    writing: Mutex<()>,
}

impl Shelf {
    /// Of snapshots of which the latest reaches `index`.
    pub(super) fn new(store: SnapshotStore, index: Option<u64>) -> Self {
        let (reach, backlog) = (SnapshotReach::new(index), Backlog::default());
        Self { store, reach, backlog, writing: Mutex::new(()) }
    }

    /// The snapshots, to be read.
    pub(super) fn store(&self) -> &SnapshotStore {
        &self.store
    }

    /// Writes a snapshot that holds what was applied up to a mark of the backlog. openraft builds one beside the
    /// installation of another: whichever is written last, the one that reaches farther stays the latest, since the log may
    /// be purged up to that.
    pub(super) fn put(
        &self,
        meta: SnapshotMeta<u64, MemberNode>,
        data: &[u8],
        mark: u64,
    ) -> Result<(), MachineError> {
        let _alone = self.writing.lock().unwrap_or_else(PoisonError::into_inner);
        let index = meta.last_log_id.map(|last| last.index);
        if self.reach.index() <= index {
            self.store.write(&codec::encode(&SnapshotMetaRecord(meta))?, data)?;
            self.reach.extend(index);
        }
        self.backlog.settle(mark, data.len());
        Ok(())
    }
}
