//! The state machine of a member, with the oracle looking on.

use std::io::Cursor;

use novacron_coordinator::raft::machine::Machine;
use novacron_coordinator::raft::{MemberNode, TypeConfig};
use novacron_coordinator::state::Reply;
use openraft::storage::RaftStateMachine;
use openraft::{
    Entry, LogId, OptionalSend, Snapshot, SnapshotMeta, StorageError, StoredMembership,
};

use crate::oracle::{COMPARED_EVERY, Oracle};
use crate::planted::Planted;

/// The machine of one process.
pub struct Witness {
    machine: Machine,
    member: u64,
    oracle: Oracle,
    /// The index that has to come next, once it is known.
    next: Option<u64>,
    /// Whether the first entry of this process is applied twice.
    doubles: bool,
}

impl Witness {
    /// Of a process of a member that starts.
    pub fn new(machine: Machine, member: u64, oracle: Oracle, planted: Planted) -> Self {
        let doubles = planted == Planted::DoubleApply;
        Self { machine, member, oracle, next: None, doubles }
    }

    fn see(&mut self, entry: &Entry<TypeConfig>) {
        let index = entry.log_id.index;
        if self.next.is_some_and(|next| next != index) {
            let (member, next) = (self.member, self.next);
            self.oracle.object(format!("member {member} applies {index}, not {next:?}"));
        }
        self.next = Some(index + 1);
        self.oracle.applies(self.member, entry);
    }

    /// Applies entries up to one at which states are compared.
    async fn apply_some(
        &mut self,
        entries: Vec<Entry<TypeConfig>>,
    ) -> Result<Vec<Vec<Reply>>, StorageError<u64>> {
        entries.iter().for_each(|entry| self.see(entry));
        let last = entries.last().map_or(1, |entry| entry.log_id.index);
        let replies = self.machine.apply(entries).await?;
        if last.is_multiple_of(COMPARED_EVERY) {
            self.compare(last);
        }
        Ok(replies)
    }

    fn compare(&self, index: u64) {
        match self.machine.cell().look(|fleet| fleet.state_hash()) {
            Ok(hash) => self.oracle.has_state(self.member, index, hash),
            Err(error) => self.oracle.object(error.to_string()),
        }
    }
}

impl RaftStateMachine<TypeConfig> for Witness {
    type SnapshotBuilder = <Machine as RaftStateMachine<TypeConfig>>::SnapshotBuilder;

    async fn applied_state(
        &mut self,
    ) -> Result<(Option<LogId<u64>>, StoredMembership<u64, MemberNode>), StorageError<u64>> {
        let state = self.machine.applied_state().await?;
        self.next = Some(state.0.map_or(0, |applied| applied.index + 1));
        Ok(state)
    }

    async fn apply<I>(&mut self, entries: I) -> Result<Vec<Vec<Reply>>, StorageError<u64>>
    where
        I: IntoIterator<Item = Entry<TypeConfig>> + OptionalSend,
        I::IntoIter: OptionalSend,
    {
        let (mut replies, mut some) = (Vec::new(), Vec::new());
        let entries: Vec<_> = entries.into_iter().collect();
        for entry in entries {
            if std::mem::take(&mut self.doubles) && self.next.is_some_and(|next| next > 0) {
                self.apply_some(vec![entry.clone()]).await?;
            }
            let is_compared = entry.log_id.index.is_multiple_of(COMPARED_EVERY);
            some.push(entry);
            if is_compared {
                replies.extend(self.apply_some(std::mem::take(&mut some)).await?);
            }
        }
        if !some.is_empty() {
            replies.extend(self.apply_some(some).await?);
        }
        Ok(replies)
    }

    async fn get_snapshot_builder(&mut self) -> Self::SnapshotBuilder {
        self.machine.get_snapshot_builder().await
    }

    async fn begin_receiving_snapshot(
        &mut self,
    ) -> Result<Box<Cursor<Vec<u8>>>, StorageError<u64>> {
        self.machine.begin_receiving_snapshot().await
    }

    async fn install_snapshot(
        &mut self,
        meta: &SnapshotMeta<u64, MemberNode>,
        snapshot: Box<Cursor<Vec<u8>>>,
    ) -> Result<(), StorageError<u64>> {
        self.machine.install_snapshot(meta, snapshot).await?;
        let last = meta.last_log_id.map(|last| last.index);
        self.next = Some(last.map_or(0, |last| last + 1));
        if let Some(last) = last.filter(|last| last.is_multiple_of(COMPARED_EVERY)) {
            self.compare(last);
        }
        Ok(())
    }

    async fn get_current_snapshot(
        &mut self,
    ) -> Result<Option<Snapshot<TypeConfig>>, StorageError<u64>> {
        self.machine.get_current_snapshot().await
    }
}
