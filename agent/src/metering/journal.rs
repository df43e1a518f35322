//! What was used and is not acknowledged yet: durable, in order, bounded.
//!
//! One entry of the log holds the records that became known at one moment; its index is its number. A batch that is sent
//! is one entry or several in a row, and is known by the number of the last.

use std::ops::RangeInclusive;
use std::sync::Arc;

use bytes::Bytes;
use novacron_protocol::limits::USAGE_RECORDS_PER_BATCH_MAX;
use novacron_protocol::usage::UsageRecord;
use novacron_protocol::wire::codec::{self, CodecError, Message};
use novacron_storage::disk::Disk;
use novacron_storage::log::{Log, LogError, LogOptions};
use serde::{Deserialize, Serialize};

/// Bytes of records that may wait. As many machines as a node may have, guest and disks of each metered hour by hour for
/// the 35 days for which the ledger takes them, are 4,096 · 2 · 24 · 35 · 60 = 413 MB; the rest is for starts and stops.
pub const JOURNAL_BYTES_MAX: u64 = 512 << 20;

/// Segments are removed as wholes, and read as wholes when the journal is opened.
const OPTIONS: LogOptions = LogOptions { segment_bytes_max: 4 << 20, cache_bytes_max: 1 << 20 };

const DIRECTORY: &str = "usage/journal";

/// Bytes read at once when the journal is opened.
const READ_BYTES_MAX: usize = 1 << 20;

/// Why records cannot be kept or read.
#[derive(Debug, thiserror::Error)]
pub enum JournalError {
    /// The disk, or what is on it.
    #[error("the journal of usage cannot be read or written")]
    Log(#[from] LogError),
    /// An entry is not what this agent writes.
    #[error("entry {index} of the journal of usage is not what this agent writes")]
    Content {
        /// The entry.
        index: u64,
        /// The cause.
        #[source]
        source: CodecError,
    },
    /// There is no room.
    #[error("the journal of usage is full: {bytes} bytes wait for a coordinator")]
    Full {
        /// Bytes that wait.
        bytes: u64,
    },
}

#[derive(Debug, Serialize, Deserialize)]
struct Entry(Vec<UsageRecord>);

impl Message for Entry {
    const VERSION: u16 = 1;
    // A record is 60 bytes; before them their number.
    const BYTES_MAX: usize = USAGE_RECORDS_PER_BATCH_MAX * 60 + 8;
    const NAME: &'static str = "usage journal entry";
}

/// Records to send together.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Batch {
    /// Number of the last entry that is in it.
    pub sequence: u64,
    /// At least one, at most [`USAGE_RECORDS_PER_BATCH_MAX`].
    pub records: Vec<UsageRecord>,
}

/// The journal.
#[derive(Debug)]
pub struct Journal {
    disk: Arc<dyn Disk>,
    /// `None` after a failure: it is opened anew before it is used.
    log: Option<Log>,
    bytes_max: u64,
    bytes: u64,
    records: u64,
}

impl Journal {
    /// Opens the journal, which takes records up to `bytes_max`, making it if needed, and shows every record in it.
    ///
    /// # Errors
    /// [`JournalError`]: one that is damaged is not guessed at.
    pub fn open(
        disk: Arc<dyn Disk>,
        bytes_max: u64,
        mut show: impl FnMut(&UsageRecord),
    ) -> Result<Self, JournalError> {
        let mut journal = Self { disk, log: None, bytes_max, bytes: 0, records: 0 };
        journal.take_stock(&mut show)?;
        Ok(journal)
    }

    /// Number of the last entry, sent or not; 0 if there never was one.
    ///
    /// # Errors
    /// [`JournalError`].
    pub fn last(&mut self) -> Result<u64, JournalError> {
        Ok(self.log()?.last_index().unwrap_or(0))
    }

    /// Bytes that wait.
    pub fn bytes(&self) -> u64 {
        self.bytes
    }

    /// Records that wait.
    pub fn records(&self) -> u64 {
        self.records
    }

    /// Keeps records; durable on return, all or none of them.
    ///
    /// # Errors
    /// [`JournalError`]. They may be there all the same after a failure of the disk; kept once more they are there twice,
    /// which the ledger sees.
    pub fn append(&mut self, records: &[UsageRecord]) -> Result<(), JournalError> {
        if self.bytes >= self.bytes_max && !records.is_empty() {
            return Err(JournalError::Full { bytes: self.bytes });
        }
        self.push(records)
    }

    /// Forgets the entries up to and with `sequence`, and keeps what of them is to be sent anew: also if the journal is
    /// full, or it would stay so for ever.
    ///
    /// # Errors
    /// [`JournalError`]; both may be there, then.
    pub fn replace(&mut self, sequence: u64, rest: &[UsageRecord]) -> Result<(), JournalError> {
        self.push(rest)?;
        self.forget(sequence)
    }

    fn push(&mut self, records: &[UsageRecord]) -> Result<(), JournalError> {
        if records.is_empty() {
            return Ok(());
        }
        let next = self.last()? + 1;
        let chunks = records.chunks(USAGE_RECORDS_PER_BATCH_MAX);
        let entries: Vec<Bytes> = (next..).zip(chunks).map(encode).collect::<Result<_, _>>()?;
        let bytes: u64 = entries.iter().map(|entry| entry.len() as u64).sum();
        self.write(|log| log.append(next, entries))?;
        self.bytes += bytes;
        self.records += records.len() as u64;
        Ok(())
    }

    /// The oldest records, none of them of an entry after `last`.
    ///
    /// # Errors
    /// [`JournalError`].
    pub fn oldest(&mut self, last: u64) -> Result<Option<Batch>, JournalError> {
        let Some(first) = self.log()?.first_index() else { return Ok(None) };
        let mut batch = Batch { sequence: 0, records: Vec::new() };
        for index in first..=last {
            let Some(bytes) = self.log()?.entry(index)? else { break };
            let Entry(records) = decode(index, &bytes)?;
            if batch.records.len() + records.len() > USAGE_RECORDS_PER_BATCH_MAX {
                break;
            }
            batch.records.extend(records);
            batch.sequence = index;
        }
        Ok((batch.sequence > 0).then_some(batch))
    }

    fn forget(&mut self, sequence: u64) -> Result<(), JournalError> {
        let Some(first) = self.log()?.first_index() else { return Ok(()) };
        let (mut bytes, mut records) = (0, 0);
        self.each(first..=sequence, &mut |entry, length| {
            bytes += length;
            records += entry.len() as u64;
        })?;
        self.write(|log| log.purge(sequence, Bytes::new()))?;
        self.bytes = self.bytes.saturating_sub(bytes);
        self.records = self.records.saturating_sub(records);
        Ok(())
    }

    fn log(&mut self) -> Result<&mut Log, JournalError> {
        if self.log.is_none() {
            self.take_stock(&mut |_| ())?;
        }
        // It is there now; the error is that of a log that is not.
        self.log.as_mut().ok_or(JournalError::Log(LogError::NoSuchSegment { number: 0 }))
    }

    /// A log that failed takes no more.
    fn write(
        &mut self,
        act: impl FnOnce(&mut Log) -> Result<(), LogError>,
    ) -> Result<(), JournalError> {
        let written = act(self.log()?);
        if written.is_err() {
            self.log = None;
        }
        Ok(written?)
    }

    fn take_stock(&mut self, show: &mut dyn FnMut(&UsageRecord)) -> Result<(), JournalError> {
        self.log = Some(Log::open(Arc::clone(&self.disk), DIRECTORY, OPTIONS)?);
        let (mut bytes, mut records) = (0, 0);
        self.each(0..=u64::MAX, &mut |entry, length| {
            bytes += length;
            records += entry.len() as u64;
            entry.iter().for_each(&mut *show);
        })?;
        (self.bytes, self.records) = (bytes, records);
        Ok(())
    }

    /// Shows the entries of a range, with their length in bytes.
    fn each(
        &mut self,
        range: RangeInclusive<u64>,
        see: &mut dyn FnMut(&[UsageRecord], u64),
    ) -> Result<(), JournalError> {
        let log = self.log()?;
        let Some(mut next) = log.first_index().map(|first| first.max(*range.start())) else {
            return Ok(());
        };
        loop {
            let entries = log.entries(next..=*range.end(), READ_BYTES_MAX)?;
            let Some((last, _)) = entries.last() else { return Ok(()) };
            next = last + 1;
            for (index, bytes) in &entries {
                see(&decode(*index, bytes)?.0, bytes.len() as u64);
            }
        }
    }
}

fn encode((index, records): (u64, &[UsageRecord])) -> Result<Bytes, JournalError> {
    let encoded = codec::encode(&Entry(records.to_vec()));
    encoded.map(Bytes::from).map_err(|source| JournalError::Content { index, source })
}

fn decode(index: u64, bytes: &[u8]) -> Result<Entry, JournalError> {
    codec::decode(bytes).map_err(|source| JournalError::Content { index, source })
}

#[cfg(test)]
mod tests {
    use novacron_protocol::ids::{Generation, VmId};
    use novacron_protocol::usage::Meter;
    use novacron_storage::disk::SimulatedDisk;
    use uuid::Uuid;

    use super::*;

    /// If this fails, the layout has changed: raise the version.
    #[test]
    fn golden_entry() {
        let (vm, generation) = (VmId(Uuid::from_u128(0x0102)), Generation(3));
        let meter = Meter::DiskByteSeconds;
        let record = UsageRecord { vm, generation, meter, start_s: 4, end_s: 5, level: 6 };
        let expected = [
            &[1, 0][..],
            &[1, 0, 0, 0, 0, 0, 0, 0],
            &[16, 0, 0, 0, 0, 0, 0, 0],
            &[0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1, 2],
            &[3, 0, 0, 0, 0, 0, 0, 0],
            &[1, 0, 0, 0],
            &[4, 0, 0, 0, 0, 0, 0, 0],
            &[5, 0, 0, 0, 0, 0, 0, 0],
            &[6, 0, 0, 0, 0, 0, 0, 0],
        ];
        assert_eq!(encode((1, &[record])).unwrap(), expected.concat());
    }

    #[test]
    fn a_full_journal_takes_nothing_but_the_rest_of_what_it_has() {
        let (vm, generation) = (VmId(Uuid::nil()), Generation(1));
        let meter = Meter::VmSeconds;
        let record =
            |start_s| UsageRecord { vm, generation, meter, start_s, end_s: start_s + 1, level: 1 };
        let disk = Arc::new(SimulatedDisk::new(0));
        let mut journal = Journal::open(disk, 200, |_| ()).unwrap();
        let first: Vec<UsageRecord> = (0..4).map(record).collect();
        journal.append(&first).unwrap();
        assert!(matches!(journal.append(&[record(5)]), Err(JournalError::Full { .. })));
        let batch = journal.oldest(1).unwrap().unwrap();
        journal.replace(batch.sequence, &[record(8)]).unwrap();
        journal.append(&[record(5)]).unwrap();
        let kept: Vec<UsageRecord> = journal.oldest(9).unwrap().unwrap().records;
        assert_eq!(kept, [record(8), record(5)]);
    }

    #[test]
    fn a_full_batch_fits_an_entry() {
        let (vm, generation) = (VmId(Uuid::nil()), Generation(u64::MAX));
        let meter = Meter::DiskByteSeconds;
        let record =
            UsageRecord { vm, generation, meter, start_s: 0, end_s: u64::MAX, level: u64::MAX };
        assert!(encode((1, &[record; USAGE_RECORDS_PER_BATCH_MAX])).is_ok());
    }
}
