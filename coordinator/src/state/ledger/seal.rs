//! Sealing: a window's entries leave the tables; its header stays for ever, chained to the one before.

use novacron_protocol::time::Timestamp;
use novacron_protocol::wire::codec::{self, CodecError, Message};
use serde::{Deserialize, Serialize};

use super::batch::{BatchKey, EntryBatch};
use super::content::{self, FileKind, FileRecord, WindowPart};
use super::hash::ContentHash;
use super::hour::Hour;
use super::sums::{MeterSums, Summary, Summing, of_meter};
use crate::state::fleet::{Applying, Fleet};
use crate::state::reply::{Accepted, Refusal, Reply};
use crate::state::table::{Only, ROW_BYTES_MAX};

/// Headers that are kept: eleven years of hours, some 400 bytes each: 40 MB. The oldest go first; the chain hash in
/// the first that is left vouches for those before it.
pub const WINDOWS_MAX: usize = 100_000;

/// Windows that one command seals: bounds how long applying it takes.
pub const WINDOWS_PER_SEAL_MAX: usize = 4;

/// A sealed window.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct WindowHeader {
    /// The window.
    pub window: Hour,
    /// The number of its first entry. Numbers of other windows may lie between its first and last: entries of two
    /// hours come at the same time.
    pub first_index: u64,
    /// The number of its last entry.
    pub last_index: u64,
    /// How many entries it has.
    pub entries: u64,
    /// What was posted of each meter.
    pub sums: MeterSums,
    /// Its entries in the archive.
    pub parts: Vec<FileRecord>,
    /// Its summary in the archive.
    pub summaries: Vec<FileRecord>,
    /// When it was sealed.
    pub sealed_at: Timestamp,
    /// The chain hash of the window before.
    pub previous: ContentHash,
    /// The hash of all of the above.
    pub chain: ContentHash,
}

impl Message for WindowHeader {
    const VERSION: u16 = 1;
    const BYTES_MAX: usize = ROW_BYTES_MAX;
    const NAME: &'static str = "header of a sealed window";
}

impl WindowHeader {
    /// What its chain hash has to be.
    ///
    /// ```text
    /// text "novacron ledger window 1", previous chain hash, then little-endian: window, first, last, entries (u64),
    /// for each meter used and taken back (u128), number of parts and of summaries (u32), hash and bytes (u64) of each of
    /// them, sealed at (u64, milliseconds since 1970)
    /// ```
    pub fn chain_hash(&self) -> ContentHash {
        let mut bytes = b"novacron ledger window 1".to_vec();
        bytes.extend_from_slice(&self.previous.0);
        for number in [self.window.0, self.first_index, self.last_index, self.entries] {
            bytes.extend_from_slice(&number.to_le_bytes());
        }
        for sum in &self.sums {
            bytes.extend_from_slice(&sum.used.to_le_bytes());
            bytes.extend_from_slice(&sum.taken_back.to_le_bytes());
        }
        for files in [&self.parts, &self.summaries] {
            bytes.extend_from_slice(&(files.len() as u32).to_le_bytes());
        }
        for file in self.parts.iter().chain(&self.summaries) {
            bytes.extend_from_slice(&file.hash.0);
            bytes.extend_from_slice(&file.bytes.to_le_bytes());
        }
        bytes.extend_from_slice(&self.sealed_at.unix_ms.to_le_bytes());
        ContentHash::of(&bytes)
    }

    /// Its files in the archive: entries in order, then the summary.
    pub fn files(&self) -> impl Iterator<Item = (FileKind, FileRecord)> {
        let parts = self.parts.iter().zip(0..);
        let parts = parts.map(|(file, number)| (FileKind::Entries(number), *file));
        let summaries = self.summaries.iter().zip(0..);
        parts.chain(summaries.map(|(file, number)| (FileKind::Summary(number), *file)))
    }
}

impl Fleet {
    /// The last window that the leader should have sealed by now, if there is one.
    pub fn window_due(&self, now: Timestamp) -> Option<Hour> {
        let book = self.book();
        let last_closed = Hour(Hour::first_open_at(now).0.checked_sub(1)?);
        let is_begun = book.sealed_before > Hour::default();
        if !is_begun || last_closed < book.sealed_before {
            return None;
        }
        let mut open = self.open_windows().take_while(|window| *window <= last_closed);
        Some(open.nth(WINDOWS_PER_SEAL_MAX - 1).unwrap_or(last_closed))
    }

    /// Seals every window up to one, if their time is over.
    pub(in crate::state) fn seal_windows(&mut self, now: &Applying, through: Hour) -> Reply {
        let sealed_before = self.book().sealed_before;
        if through < sealed_before {
            return Ok(Accepted::Nothing);
        }
        if sealed_before == Hour::default() || !through.is_closed_at(now.at) {
            return Err(Refusal::Conflict(format!("window {through} is open")));
        }
        let windows: Vec<Hour> =
            self.open_windows().take_while(|window| *window <= through).collect();
        if windows.len() > WINDOWS_PER_SEAL_MAX {
            return Err(Refusal::Conflict(format!("{} windows at once", windows.len())));
        }
        for window in windows {
            self.seal_window(now, window).map_err(|error| Refusal::Conflict(error.to_string()))?;
        }
        let mut book = self.book();
        book.sealed_before = through.next();
        self.ledger_book.insert(Only, book);
        self.forget_covered(now.at.unix_ms / 1000);
        self.forget_subjects(now.at);
        Ok(Accepted::Nothing)
    }

    /// Nothing is changed if it cannot be encoded, which the limits of batches and of open entries rule out.
    fn seal_window(&mut self, now: &Applying, window: Hour) -> Result<(), CodecError> {
        let parts = content::parts(window, self.batches_of(window));
        let summaries = self.summary_of(window, &parts);
        let contents = encode_all(&parts)?;
        let summary_contents = encode_all(&summaries)?;
        let entries = self.archive_all(window, FileKind::Entries, contents);
        let summaries = self.archive_all(window, FileKind::Summary, summary_contents);
        let header = self.header(now, window, &parts, entries, summaries);
        for (key, _) in parts.iter().flat_map(WindowPart::batches) {
            self.ledger_batches.remove(&key);
        }
        self.seal_seconds(window);
        let mut book = self.book();
        book.chain = header.chain;
        book.open_entries = book.open_entries.saturating_sub(header.entries);
        self.ledger_book.insert(Only, book);
        self.ledger_windows.insert(window, header);
        if self.ledger_windows.len() > WINDOWS_MAX
            && let Some((_, oldest)) = self.ledger_windows.pop_first()
        {
            for (kind, _) in oldest.files() {
                self.forget_archive(&content::file_name(oldest.window, kind));
            }
        }
        Ok(())
    }

    fn archive_all(
        &mut self,
        window: Hour,
        kind: impl Fn(u32) -> FileKind,
        contents: Vec<Vec<u8>>,
    ) -> Vec<FileRecord> {
        let numbered = contents.into_iter().zip(0..);
        let archived = numbered.map(|(content, number)| {
            let bytes = content.len() as u64;
            let name = content::file_name(window, kind(number));
            FileRecord { hash: ContentHash(self.archive(name, content)), bytes }
        });
        archived.collect()
    }

    fn batches_of(&self, window: Hour) -> Vec<(u64, EntryBatch)> {
        self.open_batches(window).map(|(key, batch)| (key.first_index, batch.clone())).collect()
    }

    fn summary_of(&self, window: Hour, parts: &[WindowPart]) -> Vec<Summary> {
        let mut summing = Summing::default();
        parts.iter().flat_map(WindowPart::batches).for_each(|(key, batch)| summing.add(key, batch));
        summing.finish(window, self)
    }

    fn header(
        &self,
        now: &Applying,
        window: Hour,
        parts: &[WindowPart],
        entries: Vec<FileRecord>,
        summaries: Vec<FileRecord>,
    ) -> WindowHeader {
        let totals = Totals::of(parts.iter().flat_map(WindowPart::batches));
        let mut header = WindowHeader {
            window,
            first_index: totals.first_index,
            last_index: totals.last_index,
            entries: totals.entries,
            sums: totals.sums,
            parts: entries,
            summaries,
            sealed_at: now.at,
            previous: self.book().chain,
            chain: ContentHash::default(),
        };
        header.chain = header.chain_hash();
        header
    }

    /// The sealed windows, in order.
    pub fn sealed_windows(&self) -> impl DoubleEndedIterator<Item = &WindowHeader> {
        self.ledger_windows.values()
    }

    /// The sealed windows behind one, in order.
    pub fn sealed_windows_after(&self, after: Option<Hour>) -> impl Iterator<Item = &WindowHeader> {
        use std::ops::Bound::{Excluded, Unbounded};
        let begin = after.map_or(Unbounded, Excluded);
        self.ledger_windows.range((begin, Unbounded)).map(|(_, header)| header)
    }

    /// A sealed window.
    pub fn sealed_window(&self, window: Hour) -> Option<&WindowHeader> {
        self.ledger_windows.get(&window)
    }
}

fn encode_all<M: Message>(values: &[M]) -> Result<Vec<Vec<u8>>, CodecError> {
    values.iter().map(codec::encode).collect()
}

/// What batches of a window come to.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Totals {
    /// The lowest number.
    pub first_index: u64,
    /// The highest number.
    pub last_index: u64,
    /// How many entries.
    pub entries: u64,
    /// What was posted of each meter.
    pub sums: MeterSums,
}

impl Totals {
    /// Adds up batches, in order.
    pub fn of<'a>(batches: impl Iterator<Item = (BatchKey, &'a EntryBatch)>) -> Self {
        let mut totals = Self::default();
        for posting in batches.flat_map(|(key, batch)| batch.postings(key)).flatten() {
            if totals.entries == 0 {
                totals.first_index = posting.index;
            }
            totals.last_index = posting.index;
            totals.entries += 1;
            of_meter(&mut totals.sums, posting.entry.meter).add(&posting);
        }
        totals
    }
}
