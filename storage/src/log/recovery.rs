//! Opens a log: reads every segment in order, cuts a torn end, refuses everything else.

use std::collections::VecDeque;
use std::path::PathBuf;
use std::sync::Arc;

use super::cache::Cache;
use super::error::LogError;
use super::scan::{Batch, Flaw, Scan};
use super::segment::{self, Segment};
use super::state::State;
use super::{Log, LogOptions};
use crate::damage::{Damage, Damaged};
use crate::disk::{Disk, DiskError};

const FIRST_SEGMENT: u64 = 1;
const FIRST_BATCH: u64 = 1;

pub(super) fn open(
    disk: Arc<dyn Disk>,
    directory: PathBuf,
    options: LogOptions,
) -> Result<Log, LogError> {
    disk.create_directory(&directory)?;
    // What a process that died left unsynced may be visible now and gone after a power cut.
    disk.sync_directory(&directory)?;
    let mut recovery = Recovery::new(disk, directory);
    let numbers = recovery.segment_numbers()?;
    for number in &numbers {
        recovery.read_segment(*number, Some(number) == numbers.last())?;
    }
    recovery.into_log(options)
}

#[derive(Debug)]
struct Recovery {
    disk: Arc<dyn Disk>,
    directory: PathBuf,
    segments: VecDeque<Segment>,
    state: State,
    /// `None` before the first head was read.
    next_batch: Option<u64>,
}

/// How far a segment is good.
#[derive(Debug)]
struct Progress {
    head_bytes: usize,
    /// From the last whole batch (from the head, if that is the first one) …
    last_batch_at: usize,
    /// … to its end.
    whole_bytes: usize,
    flaw: Option<Flaw>,
}

impl Recovery {
    fn new(disk: Arc<dyn Disk>, directory: PathBuf) -> Recovery {
        let (segments, state) = (VecDeque::new(), State::default());
        Recovery { disk, directory, segments, state, next_batch: None }
    }

    /// The numbers of the segments, which must have no gap.
    fn segment_numbers(&self) -> Result<Vec<u64>, LogError> {
        let names = self.disk.list(&self.directory)?;
        let mut numbers: Vec<u64> =
            names.iter().filter_map(|name| segment::number_of(name)).collect();
        numbers.sort_unstable();
        match numbers.windows(2).find(|pair| pair[1] - pair[0] != 1) {
            Some(pair) => Err(self.damaged(pair[0] + 1, 0, Damage::Missing).into()),
            None => Ok(numbers),
        }
    }

    fn read_segment(&mut self, number: u64, is_last: bool) -> Result<(), LogError> {
        let mut segment = Segment::open(&*self.disk, &self.directory, number)?;
        let scan = Scan::new(number, segment.read_whole()?);
        let scan = match scan.head() {
            Ok(head) => {
                segment.unlock(&*self.disk, &head)?;
                scan.with_key(segment.key().cloned())
            }
            // Told below.
            Err(_) => scan,
        };
        let progress = self.replay(&scan).map_err(|flaw| self.refused(number, flaw))?;
        let whole_bytes = progress.whole_bytes as u64;
        if let Some(flaw) = progress.flaw {
            // Without a next batch not even the head could be read: any batch is a later one.
            let batch = self.next_batch.unwrap_or(FIRST_BATCH - 1);
            if !is_last || !scan.is_torn(&flaw, batch) {
                return Err(self.refused(number, flaw));
            }
            self.report_torn(number, whole_bytes, &scan);
            if progress.whole_bytes <= progress.head_bytes {
                return self.remove_torn(number, flaw);
            }
            segment.cut(whole_bytes)?;
        }
        if is_last {
            let last_batch = progress.last_batch_at..progress.whole_bytes;
            segment.settle(last_batch.start as u64, scan.bytes(last_batch))?;
        }
        self.segments.push_back(segment);
        Ok(())
    }

    /// Follows the whole batches of a segment up to its end or first flaw. Fails on what no power
    /// cut explains: whole records that cannot follow what stands before them.
    fn replay(&mut self, scan: &Scan) -> Result<Progress, Flaw> {
        let mut progress = Progress { head_bytes: 0, last_batch_at: 0, whole_bytes: 0, flaw: None };
        let head = match scan.head() {
            Ok(head) => head,
            Err(flaw) => return Ok(Progress { flaw: Some(flaw), ..progress }),
        };
        let (first_batch, head_bytes) = (head.first_batch, head.length_bytes());
        let mut next_batch = *self.next_batch.get_or_insert(first_batch);
        if first_batch != next_batch {
            let what = format!("batch {first_batch}, due is {next_batch}");
            return Err(Flaw { span: 0..head_bytes, damage: Damage::OutOfOrder(what) });
        }
        (progress.head_bytes, progress.whole_bytes) = (head_bytes, head_bytes);
        loop {
            match scan.batch_at(progress.whole_bytes, next_batch) {
                Ok(Some(batch)) => {
                    self.apply(&batch)?;
                    let is_first = batch.span.start == head_bytes;
                    progress.last_batch_at = if is_first { 0 } else { batch.span.start };
                    progress.whole_bytes = batch.span.end;
                }
                Ok(None) => return Ok(progress),
                Err(flaw) => return Ok(Progress { flaw: Some(flaw), ..progress }),
            }
            next_batch += 1;
            self.next_batch = Some(next_batch);
        }
    }

    fn apply(&mut self, batch: &Batch) -> Result<(), Flaw> {
        for (record, position) in &batch.records {
            let start = position.offset as usize;
            let span = start..start + position.length as usize;
            self.state.apply(record, *position).map_err(|damage| Flaw { span, damage })?;
        }
        Ok(())
    }

    /// A last segment without one whole batch held nothing that was acknowledged, but only if
    /// there is one before it, or never was one.
    fn remove_torn(&mut self, number: u64, flaw: Flaw) -> Result<(), LogError> {
        if self.segments.is_empty() && number != FIRST_SEGMENT {
            return Err(self.refused(number, flaw));
        }
        self.disk.remove(&segment::path(&self.directory, number))?;
        self.disk.sync_directory(&self.directory)?;
        Ok(())
    }

    fn into_log(mut self, options: LogOptions) -> Result<Log, LogError> {
        match self.segments.front().map(Segment::number) {
            Some(oldest) => self
                .state
                .check_no_hole(oldest)
                .map_err(|damage| self.damaged(oldest, 0, damage))?,
            None => {
                let segment = self.create_first()?;
                self.segments.push_back(segment);
                self.next_batch = Some(FIRST_BATCH);
            }
        }
        let mut log = Log {
            disk: self.disk,
            directory: self.directory,
            options,
            segments: self.segments,
            state: self.state,
            cache: Cache::new(options.cache_bytes_max),
            unwritten_committed: None,
            next_batch: self.next_batch.unwrap_or(FIRST_BATCH),
            failure: None,
        };
        log.remove_purged_segments()?;
        Ok(log)
    }

    fn create_first(&self) -> Result<Segment, DiskError> {
        Segment::create(&*self.disk, &self.directory, FIRST_SEGMENT, FIRST_BATCH, &[])
    }

    fn refused(&self, number: u64, flaw: Flaw) -> LogError {
        self.damaged(number, flaw.span.start as u64, flaw.damage).into()
    }

    fn damaged(&self, number: u64, offset: u64, damage: Damage) -> Damaged {
        let file = self.disk.full_path(&segment::path(&self.directory, number));
        Damaged { file, offset, damage }
    }

    fn report_torn(&self, number: u64, whole_bytes: u64, scan: &Scan) {
        let file = self.disk.full_path(&segment::path(&self.directory, number));
        let torn_bytes = scan.length_bytes() as u64 - whole_bytes;
        tracing::info!(
            file = %file.display(), offset = whole_bytes, torn_bytes,
            "cutting a write that a crash interrupted; it was never acknowledged",
        );
    }
}
