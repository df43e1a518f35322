//! What metering keeps on the disk, in this order: records first, then what the meters remember, then they may be sent.
//!
//! So whatever the meters remember as decided is in the journal or acknowledged, and what was sent is remembered: after a
//! crash no second is metered a second time in another record.

use std::collections::BTreeMap;
use std::sync::Arc;

use novacron_protocol::time::Timestamp;
use novacron_protocol::usage::{RecordOutcome, UsageRecord};
use novacron_protocol::wire::codec::{self, CodecError, Message};
use novacron_storage::disk::{Disk, DiskError};
use novacron_storage::record::{RECORD_BYTES_MAX, RecordError, RecordStore};
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use super::journal::{Batch, JOURNAL_BYTES_MAX, Journal, JournalError};
use super::meters::{Meters, SeriesRecord};
use super::refused;
use super::time::Reading;

const DIRECTORY: &str = "usage/meters";
const NAME: &str = "meters";

/// Why usage cannot be kept.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// The journal.
    #[error(transparent)]
    Journal(#[from] JournalError),
    /// What the meters remember.
    #[error("what the meters remember cannot be read or written")]
    Record(#[from] RecordError),
    /// What that should mean.
    #[error("what the meters remember is not what this agent writes")]
    Content(#[from] CodecError),
    /// The file of what was refused.
    #[error("the file of refused usage cannot be written")]
    Refused(#[source] DiskError),
    /// The agent is ending.
    #[error("the agent is ending")]
    Ending,
}

/// What the meters remember across the agent's death, and the last moment at which it was so.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Mark {
    /// The run of the host, if it says.
    pub boot: Option<Uuid>,
    /// When.
    pub at: Reading,
    /// Every series.
    pub series: Vec<SeriesRecord>,
}

impl Message for Mark {
    const VERSION: u16 = 1;
    // A series is 70 bytes; `SERIES_MAX` of them are 1,003,520.
    const BYTES_MAX: usize = RECORD_BYTES_MAX;
    const NAME: &'static str = "meters' mark";
}

/// All of it.
#[derive(Debug)]
pub struct Store {
    disk: Arc<dyn Disk>,
    journal: Journal,
    marks: RecordStore,
    /// The last entry that may be sent.
    marked: u64,
}

impl Store {
    /// Opens what an earlier run of the agent left. Says what the meters know now, and what was used by guests that cannot
    /// have outlived the host; nothing may be sent before [`Self::keep`] was called with that.
    ///
    /// # Errors
    /// [`StoreError`].
    pub fn open(
        disk: Arc<dyn Disk>,
        boot: Option<Uuid>,
        now: Reading,
    ) -> Result<(Self, Meters, Vec<UsageRecord>), StoreError> {
        let marks = RecordStore::open(Arc::clone(&disk), DIRECTORY)?;
        let mark: Option<Mark> = match marks.get(NAME)? {
            Some(bytes) => Some(codec::decode(&bytes)?),
            None => None,
        };
        let mut metered = BTreeMap::new();
        let journal = Journal::open(Arc::clone(&disk), JOURNAL_BYTES_MAX, |record| {
            let until_s: &mut u64 = metered.entry((record.vm, record.meter)).or_default();
            *until_s = record.end_s.max(*until_s);
        })?;
        let never = Mark { boot, at: now, series: Vec::new() };
        let Mark { boot: then, at, series } = mark.unwrap_or(never);
        let is_same_boot = then.is_some() && then == boot;
        let (meters, used) = Meters::recover(series, &metered, at, now, is_same_boot);
        Ok((Self { disk, journal, marks, marked: 0 }, meters, used))
    }

    /// Keeps records, and that the meters know them: durable on return.
    ///
    /// # Errors
    /// [`StoreError`]: the same records and a mark that is no older are to be kept once more.
    pub fn keep(&mut self, records: &[UsageRecord], mark: &Mark) -> Result<(), StoreError> {
        self.journal.append(records)?;
        self.marks.put(NAME, &codec::encode(mark)?)?;
        self.marked = self.journal.last()?;
        Ok(())
    }

    /// What is to be sent next, if anything may be.
    ///
    /// # Errors
    /// [`StoreError`].
    pub fn oldest(&mut self) -> Result<Option<Batch>, StoreError> {
        Ok(self.journal.oldest(self.marked)?)
    }

    /// A batch is over: keeps what it leaves to be sent and what was refused of it, then forgets it.
    ///
    /// # Errors
    /// [`StoreError`]: the batch is sent again, and answered in the same way.
    pub fn finish(
        &mut self,
        batch: &Batch,
        rest: &[UsageRecord],
        refused: &[(UsageRecord, RecordOutcome)],
        at: Timestamp,
    ) -> Result<(), StoreError> {
        if !refused.is_empty() {
            refused::keep(&self.disk, at, refused).map_err(StoreError::Refused)?;
        }
        let is_all_marked = self.journal.last()? == self.marked;
        self.journal.replace(batch.sequence, rest)?;
        if is_all_marked {
            // A rest was metered long ago: it needs no mark.
            self.marked = self.journal.last()?;
        }
        Ok(())
    }

    /// Bytes that wait to be acknowledged.
    pub fn waiting_bytes(&self) -> u64 {
        self.journal.bytes()
    }

    /// Records that wait to be acknowledged.
    pub fn waiting_records(&self) -> u64 {
        self.journal.records()
    }
}

#[cfg(test)]
mod tests;
