//! Raft's log and vote over the write-ahead log of `novacron-storage`.
//!
//! Whatever writes returns after the disk has it: a vote before it is given, entries before they count, a
//! truncation before newer entries. The disk is waited for where [`DiskWork`] says.

use std::fmt::Debug;
use std::ops::{Bound, RangeBounds, RangeInclusive};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use bytes::Bytes;
use novacron_protocol::wire::codec::{self, CodecError, Message};
use novacron_storage::log::{Log, LogError};
use openraft::storage::{LogFlushed, RaftLogStorage};
use openraft::{
    AnyError, Entry, LogId, LogState, OptionalSend, RaftLogReader, StorageError, StorageIOError,
    Vote,
};

use super::disk_work::DiskWork;
use super::reach::{NotWritten, SnapshotReach};
use super::record::{EntryRecord, LogIdRecord, VoteRecord};
use super::types::TypeConfig;

/// Bytes of entries in one answer of a reader, so that one call to a follower stays within a message, and is over before
/// openraft gives it up: after a heartbeat, in which 100 Mbit/s carry as much.
pub const ENTRIES_BYTES_MAX: usize = 1 << 20;

/// The most that is appended on a thread of the reactor.
const BYTES_IN_PLACE_MAX: usize = 64 << 10;

/// Why the log failed.
#[derive(Debug, thiserror::Error)]
pub(super) enum StoreError {
    #[error(transparent)]
    Log(#[from] LogError),
    #[error("entry {index} of the log cannot be read")]
    Entry {
        index: u64,
        #[source]
        source: CodecError,
    },
    #[error("the log holds a record that cannot be read or written")]
    Record(#[from] CodecError),
    #[error("the task that uses the disk ended")]
    Task(#[from] tokio::task::JoinError),
    #[error(transparent)]
    NotWritten(#[from] NotWritten),
}

/// The durable log. Clones share it.
#[derive(Debug, Clone)]
pub struct LogStore {
    log: Arc<Mutex<Log>>,
    work: DiskWork,
    reach: Option<SnapshotReach>,
}

impl LogStore {
    /// Over an open log.
    pub fn new(log: Log, work: DiskWork) -> Self {
        Self { log: Arc::new(Mutex::new(log)), work, reach: None }
    }

    /// Purges only what snapshots hold.
    pub fn behind(self, reach: SnapshotReach) -> Self {
        Self { reach: Some(reach), ..self }
    }

    /// The last entry that is in the log, or was purged from it.
    ///
    /// # Errors
    /// The log cannot be read.
    pub async fn last_log_id(&self) -> Result<Option<LogId<u64>>, StorageError<u64>> {
        Ok(self.with(|log| log_state(log)).await.map_err(failed_read)?.last_log_id)
    }

    /// Uses what the log has in memory, here and now, unless it is being written to.
    fn at_hand<T>(&self, look: impl FnOnce(&mut Log) -> T) -> Option<T> {
        self.log.try_lock().ok().map(|mut log| look(&mut log))
    }

    /// The entries of a range. The newest, which followers ask for, are in memory: fetching them takes no other thread.
    async fn entries(
        &self,
        range: RangeInclusive<u64>,
        bytes_max: usize,
    ) -> Result<Vec<Entry<TypeConfig>>, StorageError<u64>> {
        let look = |log: &mut Log| log.entries_at_hand(range.clone(), bytes_max);
        let read = match self.at_hand(look).flatten() {
            Some(entries) => read_entries(&entries),
            None => self.with(move |log| read_entries(&log.entries(range, bytes_max)?)).await,
        };
        read.map_err(failed_read)
    }

    /// Appends without another thread, if that is likely to be brief.
    fn append_here(&self, batch: &Batch) -> Option<Result<(), StoreError>> {
        if batch.bytes > BYTES_IN_PLACE_MAX {
            return None;
        }
        self.work.here(|| self.at_hand(|log| batch.append(log)))
    }

    async fn append_elsewhere(&self, batch: Batch) -> Result<(), StoreError> {
        let log = Arc::clone(&self.log);
        self.work.run_timed(move || batch.append(&mut lock(&log))).await?
    }

    /// Uses the log where it may wait for the disk.
    async fn with<T: Send + 'static>(
        &self,
        work: impl FnOnce(&mut Log) -> Result<T, StoreError> + Send + 'static,
    ) -> Result<T, StoreError> {
        let log = Arc::clone(&self.log);
        self.work.run(move || work(&mut lock(&log))).await?
    }
}

fn lock(log: &Mutex<Log>) -> MutexGuard<'_, Log> {
    log.lock().unwrap_or_else(PoisonError::into_inner)
}

fn read_entry(index: u64, bytes: &[u8]) -> Result<Entry<TypeConfig>, StoreError> {
    let record = codec::decode::<EntryRecord>(bytes);
    record.map(|record| record.0).map_err(|source| StoreError::Entry { index, source })
}

fn encoded<M: Message>(record: &M) -> Result<Bytes, StoreError> {
    Ok(Bytes::from(codec::encode(record)?))
}

fn failed_write(error: StoreError) -> StorageError<u64> {
    StorageIOError::write_logs(AnyError::new(&error)).into()
}

fn failed_read(error: StoreError) -> StorageError<u64> {
    StorageIOError::read_logs(AnyError::new(&error)).into()
}

impl RaftLogReader<TypeConfig> for LogStore {
    async fn try_get_log_entries<RB: RangeBounds<u64> + Clone + Debug + OptionalSend>(
        &mut self,
        range: RB,
    ) -> Result<Vec<Entry<TypeConfig>>, StorageError<u64>> {
        let Some(range) = inclusive(&range) else { return Ok(Vec::new()) };
        self.entries(range, usize::MAX).await
    }

    async fn limited_get_log_entries(
        &mut self,
        start: u64,
        end: u64,
    ) -> Result<Vec<Entry<TypeConfig>>, StorageError<u64>> {
        let Some(range) = inclusive(&(start..end)) else { return Ok(Vec::new()) };
        self.entries(range, ENTRIES_BYTES_MAX).await
    }
}

fn read_entries(entries: &[(u64, Bytes)]) -> Result<Vec<Entry<TypeConfig>>, StoreError> {
    entries.iter().map(|(index, bytes)| read_entry(*index, bytes)).collect()
}

fn inclusive(range: &impl RangeBounds<u64>) -> Option<RangeInclusive<u64>> {
    let start = match range.start_bound() {
        Bound::Included(start) => *start,
        Bound::Excluded(before) => before.checked_add(1)?,
        Bound::Unbounded => 0,
    };
    let end = match range.end_bound() {
        Bound::Included(end) => *end,
        Bound::Excluded(after) => after.checked_sub(1)?,
        Bound::Unbounded => u64::MAX,
    };
    (start <= end).then_some(start..=end)
}

impl RaftLogStorage<TypeConfig> for LogStore {
    type LogReader = Self;

    async fn get_log_state(&mut self) -> Result<LogState<TypeConfig>, StorageError<u64>> {
        self.with(|log| log_state(log)).await.map_err(failed_read)
    }

    async fn get_log_reader(&mut self) -> Self {
        self.clone()
    }

    async fn save_vote(&mut self, vote: &Vote<u64>) -> Result<(), StorageError<u64>> {
        let record = VoteRecord(*vote);
        let saved = self.with(move |log| Ok(log.set_vote(encoded(&record)?)?)).await;
        saved.map_err(|error| StorageIOError::write_vote(AnyError::new(&error)).into())
    }

    async fn read_vote(&mut self) -> Result<Option<Vote<u64>>, StorageError<u64>> {
        let read = self.with(|log| {
            let vote = log.vote().map(|bytes| codec::decode::<VoteRecord>(bytes)).transpose()?;
            Ok(vote.map(|vote| vote.0))
        });
        read.await.map_err(|error| StorageIOError::read_vote(AnyError::new(&error)).into())
    }

    async fn save_committed(
        &mut self,
        committed: Option<LogId<u64>>,
    ) -> Result<(), StorageError<u64>> {
        let record = LogIdRecord(committed);
        let save = move |log: &mut Log| Ok(log.set_committed(encoded(&record)?)?);
        // Noted in memory, and written with what is written next.
        let saved = match self.at_hand(save.clone()) {
            Some(saved) => saved,
            None => self.with(save).await,
        };
        saved.map_err(failed_write)
    }

    async fn read_committed(&mut self) -> Result<Option<LogId<u64>>, StorageError<u64>> {
        let read =
            self.with(|log| Ok(log.committed().map(|bytes| log_id(bytes)).transpose()?.flatten()));
        read.await.map_err(failed_read)
    }

    async fn append<I>(
        &mut self,
        entries: I,
        callback: LogFlushed<TypeConfig>,
    ) -> Result<(), StorageError<u64>>
    where
        I: IntoIterator<Item = Entry<TypeConfig>> + OptionalSend,
        I::IntoIter: OptionalSend,
    {
        let batch = Batch::new(entries).map_err(failed_write)?;
        let appended = match self.append_here(&batch) {
            Some(appended) => appended,
            None => self.append_elsewhere(batch).await,
        };
        // Entries that cannot be written are this node's end: openraft takes it out of service.
        appended.map_err(failed_write)?;
        callback.log_io_completed(Ok(()));
        Ok(())
    }

    async fn truncate(&mut self, log_id: LogId<u64>) -> Result<(), StorageError<u64>> {
        let truncated = self.with(move |log| Ok(log.truncate(log_id.index)?)).await;
        truncated.map_err(failed_write)
    }

    async fn purge(&mut self, log_id: LogId<u64>) -> Result<(), StorageError<u64>> {
        if let Some(reach) = &self.reach {
            let reached = reach.reaches(log_id.index).await;
            reached.map_err(|error| failed_write(error.into()))?;
        }
        let record = LogIdRecord(Some(log_id));
        let purged = self.with(move |log| Ok(log.purge(log_id.index, encoded(&record)?)?)).await;
        purged.map_err(failed_write)
    }
}

/// Entries as they stand in the log.
struct Batch {
    entries: Vec<(u64, Bytes)>,
    bytes: usize,
}

impl Batch {
    fn new(entries: impl IntoIterator<Item = Entry<TypeConfig>>) -> Result<Self, StoreError> {
        let written = |entry: Entry<TypeConfig>| {
            let index = entry.log_id.index;
            Ok((index, encoded(&EntryRecord(entry))?))
        };
        let entries = entries.into_iter().map(written).collect::<Result<Vec<_>, StoreError>>()?;
        let bytes = entries.iter().map(|(_, bytes)| bytes.len()).sum();
        Ok(Self { entries, bytes })
    }

    /// Entries up to a purge are in the state already and have no place in the log any more; openraft's own suite
    /// appends such entries.
    fn append(&self, log: &mut Log) -> Result<(), StoreError> {
        let purged = log.purged().map(|purged| purged.index);
        let is_unwanted =
            |(index, _): &&(u64, Bytes)| purged.is_some_and(|purged| *index <= purged);
        let unwanted = self.entries.iter().take_while(is_unwanted).count();
        let wanted = &self.entries[unwanted..];
        let Some((first, _)) = wanted.first() else { return Ok(()) };
        Ok(log.append(*first, wanted.iter().map(|(_, bytes)| bytes.clone()))?)
    }
}

fn log_id(bytes: &[u8]) -> Result<Option<LogId<u64>>, StoreError> {
    Ok(codec::decode::<LogIdRecord>(bytes)?.0)
}

fn log_state(log: &Log) -> Result<LogState<TypeConfig>, StoreError> {
    let purged = log.purged().map(|purged| log_id(&purged.description)).transpose()?.flatten();
    let last = match log.last_index() {
        Some(index) => log.entry(index)?.map(|bytes| read_entry(index, &bytes)).transpose()?,
        None => None,
    };
    let last_log_id = last.map(|entry| entry.log_id).or(purged);
    Ok(LogState { last_purged_log_id: purged, last_log_id })
}
