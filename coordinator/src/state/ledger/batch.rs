//! Entries that were posted together: one row, whatever their number.
//!
//! A row for each entry would cost more than the entry: fifty thousand of them come in a second, on every replica.

use std::collections::BTreeMap;

use bytes::Bytes;
use novacron_protocol::ids::{NodeName, ProjectName, Revision, VmId};
use novacron_protocol::limits::USAGE_RECORDS_PER_BATCH_MAX;
use novacron_protocol::time::Timestamp;
use novacron_protocol::usage::Meter;
use novacron_protocol::wire::codec::Message;
use serde::{Deserialize, Serialize};

use super::account::Direction;
use super::entry::{self, Entry, EntryId};
use super::hour::Hour;
use crate::state::fleet::{Applying, Fleet};
use crate::state::table::{Key, Only, ROW_BYTES_MAX};

/// Most bytes of one compact entry: a head, and at most six numbers of ten bytes.
pub(super) const ENTRY_BYTES_MAX: usize = 1 + 6 * 10;

/// Entries in windows that are not sealed. Each takes some 70 bytes of memory, its place in the coverage included:
/// 700 MB. 20,000 machines make 2.5 million in the three hours that a window can be open.
pub const OPEN_ENTRIES_MAX: u64 = 10_000_000;

/// Which batch.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct BatchKey {
    /// The window.
    pub window: Hour,
    /// The number of its first entry.
    pub first_index: u64,
}

impl Key for BatchKey {
    fn encode(&self) -> Vec<u8> {
        [self.window.0.to_be_bytes(), self.first_index.to_be_bytes()].concat()
    }

    fn decode(bytes: &[u8]) -> Option<Self> {
        let (window, first_index) = bytes.split_first_chunk::<8>()?;
        let first_index = u64::from_be_bytes(first_index.try_into().ok()?);
        Some(Self { window: Hour(u64::from_be_bytes(*window)), first_index })
    }
}

/// Entries of one window and one provider with consecutive numbers.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct EntryBatch {
    /// When they were posted.
    pub posted_at: Timestamp,
    /// The command that posted them.
    pub revision: Revision,
    /// The node that provided what was used.
    pub provider: NodeName,
    /// Why, and who says so, if these are corrections.
    pub note: Option<Note>,
    /// The projects that used.
    pub projects: Vec<ProjectName>,
    /// Whom the entries are about.
    pub parties: Vec<Party>,
    /// How many entries there are.
    pub count: u32,
    /// The entries, compact.
    entries: Bytes,
}

/// A machine, and the project that it used something for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Party {
    /// The machine.
    pub vm: VmId,
    /// Which of the batch's projects.
    pub project: u16,
}

/// Why an entry was corrected.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Note {
    /// Who asked for it.
    pub actor: String,
    /// Why.
    pub reason: String,
}

impl Message for EntryBatch {
    const VERSION: u16 = 1;
    const BYTES_MAX: usize = ROW_BYTES_MAX;
    const NAME: &'static str = "row of ledger entries";
}

// A batch of as many records as may be, each with a machine of its own, fits a row many times.
const _: () = assert!(USAGE_RECORDS_PER_BATCH_MAX * (ENTRY_BYTES_MAX + 128) < ROW_BYTES_MAX / 8);

/// An entry with all that its batch says of it.
#[derive(Debug, Clone, Copy)]
pub struct Posting<'a> {
    /// Its number.
    pub index: u64,
    /// The entry.
    pub entry: Entry,
    /// The machine.
    pub vm: VmId,
    /// The project that used.
    pub project: &'a ProjectName,
    /// Its batch.
    pub batch: &'a EntryBatch,
}

/// The compact form of entries is not one.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("entry {index} is malformed")]
pub struct MalformedEntry {
    /// The number of the entry that cannot be read.
    pub index: u64,
}

impl EntryBatch {
    /// The entries in order. Ends after the first that is malformed.
    pub fn postings(
        &self,
        key: BatchKey,
    ) -> impl Iterator<Item = Result<Posting<'_>, MalformedEntry>> {
        let (mut rest, mut next, mut left) = (&self.entries[..], key.first_index, self.count);
        std::iter::from_fn(move || {
            if left == 0 {
                // What is left over belongs to no entry.
                return (!std::mem::take(&mut rest).is_empty())
                    .then_some(Err(MalformedEntry { index: next }));
            }
            left -= 1;
            let index = next;
            next = next.saturating_add(1);
            let posting = entry::take(key.window, &mut rest)
                .and_then(|entry| self.posting(index, entry))
                .ok_or(MalformedEntry { index });
            if posting.is_err() {
                (left, rest) = (0, &[]);
            }
            Some(posting)
        })
    }

    fn posting(&self, index: u64, entry: Entry) -> Option<Posting<'_>> {
        let party = self.parties.get(usize::from(entry.party))?;
        let project = self.projects.get(usize::from(party.project))?;
        Some(Posting { index, entry, vm: party.vm, project, batch: self })
    }

    /// Bytes that it takes in a file of its window.
    pub(super) fn stored_bytes(&self) -> usize {
        self.entries.len() + self.parties.len() * 18 + 256
    }
}

/// Entries that are about to be posted into one window.
#[derive(Debug, Default)]
pub(super) struct Draft {
    projects: Vec<ProjectName>,
    parties: Vec<Party>,
    places: BTreeMap<Party, u16>,
    count: u32,
    sums: BTreeMap<(u16, Meter, Direction), u128>,
    entries: Vec<u8>,
}

impl Draft {
    /// The place of a machine and project; the last one is asked for again most of the time.
    pub(super) fn party(&mut self, vm: VmId, project: &ProjectName) -> u16 {
        let party = Party { vm, project: self.project(project) };
        if self.parties.last() == Some(&party) {
            return (self.parties.len() - 1) as u16;
        }
        // Not more than the records of a batch.
        let next = self.parties.len() as u16;
        let place = *self.places.entry(party).or_insert(next);
        if place == next {
            self.parties.push(party);
        }
        place
    }

    fn project(&mut self, project: &ProjectName) -> u16 {
        if let Some(place) = self.projects.iter().rposition(|known| known == project) {
            return place as u16;
        }
        self.projects.push(project.clone());
        (self.projects.len() - 1) as u16
    }

    pub(super) fn push(&mut self, window: Hour, entry: &Entry) {
        entry::put(window, entry, &mut self.entries);
        self.count += 1;
        if let Some(Party { project, .. }) = self.parties.get(usize::from(entry.party)) {
            let key = (*project, entry.meter, entry.direction());
            *self.sums.entry(key).or_default() += entry.quantity();
        }
    }
}

impl Fleet {
    /// Posts a draft: numbers, row, accounts, all of it in one command.
    pub(super) fn write_draft(
        &mut self,
        now: &Applying,
        window: Hour,
        provider: &NodeName,
        note: Option<Note>,
        draft: Draft,
    ) {
        if draft.count == 0 {
            return;
        }
        let mut book = self.book();
        let key = BatchKey { window, first_index: book.last_index + 1 };
        book.last_index += u64::from(draft.count);
        book.open_entries += u64::from(draft.count);
        self.ledger_book.insert(Only, book);
        for (&(project, meter, direction), &quantity) in &draft.sums {
            let project = &draft.projects[usize::from(project)];
            self.transfer(project, provider, meter, quantity, direction);
        }
        let batch = EntryBatch {
            posted_at: now.at,
            revision: now.revision,
            provider: provider.clone(),
            note,
            projects: draft.projects,
            parties: draft.parties,
            count: draft.count,
            entries: Bytes::from(draft.entries),
        };
        self.ledger_batches.insert(key, batch);
    }

    /// The batches of a window that is not sealed, in order.
    pub fn open_batches(&self, window: Hour) -> impl Iterator<Item = (BatchKey, &EntryBatch)> {
        let first = BatchKey { window, first_index: 0 };
        let last = BatchKey { window, first_index: u64::MAX };
        self.ledger_batches.range(first..=last).map(|(key, batch)| (*key, batch))
    }

    /// The windows that hold entries and are not sealed, in order.
    pub fn open_windows(&self) -> impl Iterator<Item = Hour> {
        let mut from = BatchKey { window: Hour(0), first_index: 0 };
        std::iter::from_fn(move || {
            let (key, _) = self.ledger_batches.range(from..).next()?;
            let window = key.window;
            from = BatchKey { window: window.next(), first_index: 0 };
            Some(window)
        })
    }

    /// An entry of a window that is not sealed.
    pub fn open_entry(&self, id: EntryId) -> Option<Posting<'_>> {
        let last = BatchKey { window: id.window, first_index: id.index };
        let first = BatchKey { window: id.window, first_index: 0 };
        let (key, batch) = self.ledger_batches.range(first..=last).next_back()?;
        batch.postings(*key).flatten().find(|posting| posting.index == id.index)
    }
}
