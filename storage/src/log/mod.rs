//! The write-ahead log of a replicated log.
//!
//! One ordered stream of records (entries, vote, committed, truncate, purge) in numbered segment
//! files. Because everything goes through one stream, the order of calls is the order on disk, and
//! no vote can become durable before an entry that was written first.
//!
//! **Batches.** What one call writes is a batch: all of it is there after a crash, or none of it.
//! A batch is written only after the one before it was synced. So a damaged batch that any later
//! batch follows was whole once: the log refuses to open and names file and offset. A damaged
//! batch at the very end is cut if a power cut explains it (the file is short, or a sector of it
//! was never written) and refused otherwise. What cannot be told apart: rot in the last batch that
//! looks like a sector of zeros, and a file that lost exactly its last batches.
//!
//! **Segments.** A segment opens with the vote, committed and purge as they stood, so the older
//! ones can be removed as soon as all their entries are purged; it is made with its head synced
//! before anything else goes into it. The format is in `record` and `segment`.
//!
//! **Encryption.** On a disk with a [cipher](crate::cipher) the payload of each record is encrypted, in
//! a segment that belongs to one opening of the log.
//!
//! **Failure.** After a failed write nobody knows what the disk has, so the log takes no more
//! writes until it is opened anew. Opening writes the last batch again in place and syncs before
//! it shows anything: what a reader sees has become durable, even if the process died between a
//! write and its sync, or the kernel dropped pages that it could not write.
//!
//! **Bounds.** A record is at most [`RECORD_BYTES_MAX`]; a segment exceeds
//! [`LogOptions::segment_bytes_max`] by at most one batch; memory is 16 bytes for each entry that
//! is not purged, the cache of the newest entries, and one segment while opening.

mod cache;
mod error;
mod record;
mod recovery;
mod scan;
mod segment;
mod state;

use std::collections::VecDeque;
use std::ops::RangeInclusive;
use std::path::PathBuf;
use std::sync::Arc;

use bytes::Bytes;

use self::cache::Cache;
use self::record::Record;
use self::segment::Segment;
use self::state::{Position, State};
use crate::disk::{Disk, DiskError};

pub use self::error::LogError;
pub use self::record::RECORD_BYTES_MAX;
pub use self::state::Purged;

/// Entries of one call beyond this go into a further batch, so that the buffer of a write stays at
/// this plus one record.
const BATCH_BYTES_MAX: usize = 8 * 1024 * 1024;

/// What a log may use.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct LogOptions {
    /// A segment this long takes no further batch. Opening reads one segment at a time into
    /// memory, and purged entries leave the disk by whole segments.
    pub segment_bytes_max: u64,
    /// Newest entries kept in memory, so that what followers usually ask for is not read back.
    pub cache_bytes_max: usize,
}

impl Default for LogOptions {
    /// 64 MiB segments, 16 MiB of cache.
    fn default() -> LogOptions {
        LogOptions { segment_bytes_max: 64 * 1024 * 1024, cache_bytes_max: 16 * 1024 * 1024 }
    }
}

/// A durable log. Every method that writes returns after the disk has it, except
/// [`Log::set_committed`].
#[derive(Debug)]
pub struct Log {
    disk: Arc<dyn Disk>,
    directory: PathBuf,
    options: LogOptions,
    /// Oldest first, numbered without gaps; the last one is written to. Never empty.
    segments: VecDeque<Segment>,
    /// What the records on disk amount to.
    state: State,
    cache: Cache,
    /// A newer committed than `state` has, waiting for the next write.
    unwritten_committed: Option<Bytes>,
    next_batch: u64,
    failure: Option<Arc<DiskError>>,
}

impl Log {
    /// Opens the log in `directory` of `disk`, making it if needed. Reads and checks all of it.
    pub fn open(
        disk: Arc<dyn Disk>,
        directory: impl Into<PathBuf>,
        options: LogOptions,
    ) -> Result<Log, LogError> {
        recovery::open(disk, directory.into(), options)
    }

    /// The last vote written.
    pub fn vote(&self) -> Option<&Bytes> {
        self.state.vote()
    }

    /// The committed position set last; after a crash possibly an older one.
    pub fn committed(&self) -> Option<&Bytes> {
        self.unwritten_committed.as_ref().or(self.state.committed())
    }

    /// Up to where the log is purged.
    pub fn purged(&self) -> Option<&Purged> {
        self.state.purged()
    }

    /// Index of the first entry that is still here.
    pub fn first_index(&self) -> Option<u64> {
        self.state.first_index()
    }

    /// Index of the last entry that was ever appended and not truncated, purged or not.
    pub fn last_index(&self) -> Option<u64> {
        self.state.last_index()
    }

    /// Appends entries with the indexes `first_index`, `first_index + 1`, …
    ///
    /// The first must follow the last entry; a log that never held or purged one starts anywhere.
    /// All entries are synced once, unless they exceed 8 MiB together.
    pub fn append(
        &mut self,
        first_index: u64,
        entries: impl IntoIterator<Item = Bytes>,
    ) -> Result<(), LogError> {
        self.check_append(first_index)?;
        let entries = (first_index..=u64::MAX).zip(entries);
        let records: Vec<_> =
            entries.map(|(index, bytes)| Record::Entry { index, bytes }).collect();
        check_sizes(&records)?;
        for batch in batches(records) {
            self.write(batch)?;
        }
        Ok(())
    }

    /// Replaces the vote.
    pub fn set_vote(&mut self, vote: impl Into<Bytes>) -> Result<(), LogError> {
        self.write(vec![Record::Vote(vote.into())])
    }

    /// Notes the committed position. It is written with whatever is written next (or by
    /// [`Log::flush`]), because losing it costs only the time to learn it again, and a sync of its
    /// own would double the time of every write.
    pub fn set_committed(&mut self, committed: impl Into<Bytes>) -> Result<(), LogError> {
        self.require_healthy()?;
        let committed = committed.into();
        record::check_size(committed.len())?;
        self.unwritten_committed = Some(committed);
        Ok(())
    }

    /// Removes the entries from `from` on. Purged ones cannot be removed again.
    pub fn truncate(&mut self, from: u64) -> Result<(), LogError> {
        match self.state.purged() {
            Some(purged) if from <= purged.index => {
                Err(LogError::Purged { index: from, purged: purged.index })
            }
            _ => self.write(vec![Record::Truncate { from }]),
        }
    }

    /// Drops the entries up to and with `up_to`, which may lie beyond the last one; `description`
    /// is kept with it. Purging what is purged already does nothing.
    pub fn purge(&mut self, up_to: u64, description: impl Into<Bytes>) -> Result<(), LogError> {
        if self.state.purged().is_some_and(|purged| up_to <= purged.index) {
            return Ok(());
        }
        if let Some(first) = self.state.first_index()
            && up_to.saturating_add(1) < first
        {
            return Err(LogError::NotNext { expected: first - 1, found: up_to });
        }
        self.write(vec![Record::Purge { up_to, description: description.into() }])?;
        let removed = self.remove_purged_segments();
        removed.map_err(|error| self.fail(error))
    }

    /// Writes a committed position that still waits.
    pub fn flush(&mut self) -> Result<(), LogError> {
        if self.unwritten_committed.is_some() { self.write(Vec::new()) } else { Ok(()) }
    }

    /// One entry, if it is here.
    pub fn entry(&self, index: u64) -> Result<Option<Bytes>, LogError> {
        match self.state.position(index) {
            Some(position) => self.read(index, position).map(Some),
            None => Ok(None),
        }
    }

    /// The entries of a range that are here, in order, up to `bytes_max` together but at least one.
    pub fn entries(
        &self,
        range: RangeInclusive<u64>,
        bytes_max: usize,
    ) -> Result<Vec<(u64, Bytes)>, LogError> {
        let mut entries = Vec::new();
        let mut bytes = 0;
        for (index, position) in self.state.positions(range) {
            bytes += position.payload_bytes();
            if bytes > bytes_max && !entries.is_empty() {
                break;
            }
            entries.push((index, self.read(index, position)?));
        }
        Ok(entries)
    }

    /// As [`Log::entries`], but without a look at the disk: `None` if an entry is not in memory.
    pub fn entries_at_hand(
        &self,
        range: RangeInclusive<u64>,
        bytes_max: usize,
    ) -> Option<Vec<(u64, Bytes)>> {
        let mut entries = Vec::new();
        let mut bytes = 0;
        for (index, position) in self.state.positions(range) {
            bytes += position.payload_bytes();
            if bytes > bytes_max && !entries.is_empty() {
                break;
            }
            entries.push((index, self.cache.get(index)?));
        }
        Some(entries)
    }

    fn read(&self, index: u64, position: Position) -> Result<Bytes, LogError> {
        if let Some(bytes) = self.cache.get(index) {
            return Ok(bytes);
        }
        let oldest = self.segments.front().map_or(0, |segment| segment.number());
        let segment = usize::try_from(position.segment - oldest)
            .ok()
            .and_then(|at| self.segments.get(at))
            .ok_or(LogError::NoSuchSegment { number: position.segment })?;
        segment.read_entry(&*self.disk, index, position)
    }

    fn check_append(&self, index: u64) -> Result<(), LogError> {
        match self.state.last_index().map(|last| last.saturating_add(1)) {
            Some(expected) if expected != index => {
                Err(LogError::NotNext { expected, found: index })
            }
            _ => Ok(()),
        }
    }

    /// Writes one batch, syncs it, and only then lets it count.
    fn write(&mut self, mut records: Vec<Record>) -> Result<(), LogError> {
        self.require_healthy()?;
        check_sizes(&records)?;
        records.extend(self.unwritten_committed.clone().map(Record::Committed));
        let positions = self.write_batch(&records).map_err(|error| self.fail(error))?;
        self.unwritten_committed = None;
        for (record, position) in records.into_iter().zip(positions) {
            self.state.apply(&record, position).map_err(LogError::Refused)?;
            self.cache.apply(record);
        }
        Ok(())
    }

    fn write_batch(&mut self, records: &[Record]) -> Result<Vec<Position>, DiskError> {
        let active = self.active();
        if active.length_bytes() >= self.options.segment_bytes_max || !active.takes_records() {
            self.rotate()?;
        }
        let batch = self.next_batch;
        let positions = self.active_mut().append_batch(batch, records)?;
        self.next_batch += 1;
        Ok(positions)
    }

    fn rotate(&mut self) -> Result<(), DiskError> {
        let number = self.active().number() + 1;
        let carried = self.state.carried();
        let segment =
            Segment::create(&*self.disk, &self.directory, number, self.next_batch, &carried)?;
        self.segments.push_back(segment);
        self.next_batch += u64::from(!carried.is_empty());
        Ok(())
    }

    /// One at a time, oldest first, each made durable: no power cut leaves a gap in the numbers.
    /// Not before the first purge, so that without one a missing segment is known to be lost.
    fn remove_purged_segments(&mut self) -> Result<(), DiskError> {
        if self.state.purged().is_none() {
            return Ok(());
        }
        while self.segments.len() > 1 {
            let oldest = self.segments[0].number();
            if self.state.oldest_segment().is_some_and(|needed| needed <= oldest) {
                break;
            }
            self.disk.remove(&segment::path(&self.directory, oldest))?;
            self.disk.sync_directory(&self.directory)?;
            self.segments.pop_front();
        }
        Ok(())
    }

    fn active(&self) -> &Segment {
        &self.segments[self.segments.len() - 1]
    }

    fn active_mut(&mut self) -> &mut Segment {
        let last = self.segments.len() - 1;
        &mut self.segments[last]
    }

    fn require_healthy(&self) -> Result<(), LogError> {
        match &self.failure {
            Some(first) => Err(LogError::Failed { first: Arc::clone(first) }),
            None => Ok(()),
        }
    }

    fn fail(&mut self, error: DiskError) -> LogError {
        let first = self.failure.get_or_insert(Arc::new(error));
        LogError::Failed { first: Arc::clone(first) }
    }
}

fn check_sizes(records: &[Record]) -> Result<(), LogError> {
    records.iter().try_for_each(|record| record::check_size(record.payload().len()))
}

/// Divides records so that no batch exceeds [`BATCH_BYTES_MAX`] by more than its last record.
fn batches(records: Vec<Record>) -> impl Iterator<Item = Vec<Record>> {
    let mut records = records.into_iter();
    std::iter::from_fn(move || {
        let mut bytes = 0;
        let mut batch = Vec::new();
        while bytes < BATCH_BYTES_MAX
            && let Some(record) = records.next()
        {
            bytes += record::HEADER_BYTES + record.payload().len();
            batch.push(record);
        }
        (!batch.is_empty()).then_some(batch)
    })
}
