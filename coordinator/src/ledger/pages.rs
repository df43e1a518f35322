//! Windows, open and sealed, as readers want them.

use std::ops::Range;

use novacron_protocol::wire::codec::{self, Message};

use super::{Ledger, LedgerError};
use crate::state::Fleet;
use crate::state::ledger::batch::{BatchKey, EntryBatch};
use crate::state::ledger::content::{FileKind, WindowPart, file_name};
use crate::state::ledger::correct::Original;
use crate::state::ledger::entry::EntryId;
use crate::state::ledger::hour::Hour;
use crate::state::ledger::seal::WindowHeader;
use crate::state::ledger::sums::Summary;

/// Where a window is read.
enum Place<'a> {
    Sealed(&'a WindowHeader),
    Open(Hour),
}

impl Ledger {
    /// Gives the summaries of every window in a range to `take`, in order; one part of one window is held at a time,
    /// those that are open apart. Answers the chain hash of the last sealed one.
    ///
    /// # Errors
    /// [`LedgerError`] if a window is not at hand; what was taken then is not all.
    pub fn summaries(
        &self,
        fleet: &Fleet,
        windows: Range<Hour>,
        mut take: impl FnMut(Summary) -> Result<(), LedgerError>,
    ) -> Result<Option<WindowHeader>, LedgerError> {
        let mut last = None;
        for place in places(fleet, windows) {
            match place {
                Place::Open(window) => {
                    fleet.open_summary(window).into_iter().try_for_each(&mut take)?;
                }
                Place::Sealed(header) => {
                    let parts =
                        header.files().filter(|(kind, _)| matches!(kind, FileKind::Summary(_)));
                    for (kind, _) in parts {
                        take(self.file(header.window, kind)?)?;
                    }
                    last = Some(header.clone());
                }
            }
        }
        Ok(last)
    }

    /// A file of a sealed window.
    pub(super) fn file<M: Message>(&self, window: Hour, kind: FileKind) -> Result<M, LedgerError> {
        let content = self.history.read_here(&file_name(window, kind))?;
        Ok(codec::decode(&content)?)
    }

    /// Entries of a window behind a number, at most `limit`, as `show` makes them.
    ///
    /// # Errors
    /// [`LedgerError`] if the window is not at hand.
    pub fn entries<T>(
        &self,
        window: Hour,
        after: u64,
        limit: usize,
        show: impl Fn(EntryId, &Entry<'_>) -> T,
    ) -> Result<Vec<T>, LedgerError> {
        let mut shown = Vec::new();
        // Answers whether that is enough.
        let mut add = |key: BatchKey, batch: &EntryBatch| {
            let behind = batch.postings(key).flatten().filter(|posting| posting.index > after);
            for posting in behind.take(limit - shown.len()) {
                shown.push(show(EntryId { window, index: posting.index }, &posting));
            }
            shown.len() == limit
        };
        let fleet = self.frozen();
        match fleet.sealed_window(window) {
            None => {
                fleet.open_batches(window).any(|(key, batch)| add(key, batch));
            }
            Some(header) => {
                for number in 0..header.parts.len() as u32 {
                    let part: WindowPart = self.file(window, FileKind::Entries(number))?;
                    if part.batches().any(|(key, batch)| add(key, batch)) {
                        break;
                    }
                }
            }
        }
        Ok(shown)
    }

    /// A sealed entry that is to be corrected; nothing if there is none, or if it is not sealed.
    ///
    /// # Errors
    /// [`LedgerError`] if its window is not at hand.
    pub fn sealed_entry(&self, id: EntryId) -> Result<Option<Original>, LedgerError> {
        let header = self.view.local(|fleet| fleet.sealed_window(id.window).cloned());
        for number in 0..header.map_or(0, |header| header.parts.len()) as u32 {
            let part: WindowPart = self.file(id.window, FileKind::Entries(number))?;
            let mut postings =
                part.batches().flat_map(|(key, batch)| batch.postings(key)).flatten();
            if let Some(posting) = postings.find(|posting| posting.index == id.index) {
                return Ok(Some(Original::from(&posting)));
            }
        }
        Ok(None)
    }
}

/// An entry with all that its batch says of it.
pub type Entry<'a> = crate::state::ledger::batch::Posting<'a>;

/// Windows without entries are left out.
fn places(fleet: &Fleet, windows: Range<Hour>) -> impl Iterator<Item = Place<'_>> {
    let (from, to) = (windows.start, windows.end);
    let sealed = fleet.sealed_windows().filter(move |header| (from..to).contains(&header.window));
    let open = fleet.open_windows().filter(move |window| (from..to).contains(window));
    sealed.map(Place::Sealed).chain(open.map(Place::Open))
}
