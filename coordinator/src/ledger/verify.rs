//! Whether the ledger is what it says: each window's entries are readable and give its sums, its files and the window
//! before are what its hashes say, no second counts twice, corrections take back what there was, and the accounts are
//! what all entries come to.
//!
//! A long ledger is checked in parts: each answers where the next begins. What connects windows (the chain) is checked
//! across parts; what needs all entries at once (accounts by owner, seconds that count twice) within a part.

use std::collections::BTreeMap;

use novacron_protocol::api::LedgerVerdict;
use novacron_protocol::ids::VmId;
use novacron_protocol::usage::{Meter, Seconds};

use super::{Ledger, LedgerError};
use crate::state::Fleet;
use crate::state::ledger::batch::{BatchKey, EntryBatch};
use crate::state::ledger::content::{FileKind, WindowPart};
use crate::state::ledger::correct::Original;
use crate::state::ledger::coverage::Runs;
use crate::state::ledger::entry::{Correction, EntryId, What};
use crate::state::ledger::hash::ContentHash;
use crate::state::ledger::hour::Hour;
use crate::state::ledger::invariants::{Recount, Tallies};
use crate::state::ledger::seal::{Totals, WINDOWS_MAX, WindowHeader};
use crate::state::ledger::sums::{Summary, Summing};

/// Entries of one part, but for its last window: a second or two of work.
const ENTRIES_PER_PART: u64 = 2_000_000;

/// Windows of one part: files that are read.
const WINDOWS_PER_PART: usize = 500;

/// What somebody knows of the ledger from before.
pub type Known = (Hour, ContentHash);

/// What the fleet holds of the ledger beside sealed windows, all as of one revision.
struct Rest {
    batches: Vec<(BatchKey, EntryBatch)>,
    tallies: Tallies,
}

/// The windows of a part, and what follows them.
struct Part {
    /// Where it begins.
    from: Hour,
    /// Whether it begins with the first window.
    is_first: bool,
    /// What the window before it is; nothing if that is not known any more.
    previous: Option<ContentHash>,
    headers: Vec<WindowHeader>,
    /// Nothing if more windows follow.
    rest: Option<Rest>,
}

/// What is wrong, and where.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Fault {
    at: String,
    what: String,
}

impl Ledger {
    /// Checks a part of the ledger, from a window on.
    ///
    /// # Errors
    /// [`LedgerError`] if a window is not at hand; what is wrong is in the verdict.
    pub fn verify(&self, from: Hour, known: Option<Known>) -> Result<LedgerVerdict, LedgerError> {
        let part = Part::of(&self.frozen(), from);
        let mut check = Check { known, ..Check::default() };
        let fault = self.check_part(&part, &mut check)?.err();
        let next = match part.rest {
            Some(_) => None,
            None => part.headers.last().map(|header| header.window.next()),
        };
        Ok(check.verdict(next.filter(|_| fault.is_none()), fault))
    }

    fn check_part(&self, part: &Part, check: &mut Check) -> Result<Result<(), Fault>, LedgerError> {
        let mut previous = part.previous;
        for header in &part.headers {
            let checked = check.window(header, previous, &self.files(header)?);
            if checked.is_err() {
                return Ok(checked);
            }
            previous = Some(header.chain);
        }
        let checked = check.known_is_here(part).and_then(|()| {
            part.rest.as_ref().map_or(Ok(()), |rest| check.rest(rest, part, previous))
        });
        if checked.is_err() {
            return Ok(checked);
        }
        for correction in std::mem::take(&mut check.corrections) {
            let found = self.sealed_entry(correction.original)?;
            let agreed = agrees(&correction, found.as_ref());
            if agreed.is_err() {
                return Ok(agreed);
            }
        }
        Ok(Ok(()))
    }

    fn files(&self, header: &WindowHeader) -> Result<Files, LedgerError> {
        let mut files = Files::default();
        for (kind, _) in header.files() {
            match kind {
                FileKind::Entries(_) => files.parts.push(self.file(header.window, kind)?),
                FileKind::Summary(_) => files.summaries.push(self.file(header.window, kind)?),
            }
        }
        Ok(files)
    }
}

/// What of a window was read.
#[derive(Default)]
struct Files {
    parts: Vec<WindowPart>,
    summaries: Vec<Summary>,
}

impl Part {
    fn of(fleet: &Fleet, from: Hour) -> Self {
        let mut entries = 0;
        let all = fleet.sealed_windows().filter(|header| header.window >= from);
        let headers: Vec<WindowHeader> = all
            .take(WINDOWS_PER_PART)
            .take_while(|header| {
                let is_first = entries == 0;
                entries += header.entries;
                is_first || entries <= ENTRIES_PER_PART
            })
            .cloned()
            .collect();
        let last = fleet.sealed_windows().next_back().map(|header| header.window);
        let is_end = last
            .is_none_or(|last| headers.last().map_or(last < from, |header| header.window >= last));
        let before = fleet.sealed_windows().rev().find(|header| header.window < from);
        let is_complete = fleet.sealed_windows().count() < WINDOWS_MAX;
        Self {
            from,
            is_first: before.is_none(),
            previous: match before {
                Some(header) => Some(header.chain),
                None => is_complete.then(ContentHash::default),
            },
            headers,
            rest: is_end.then(|| Rest::of(fleet)),
        }
    }
}

impl Rest {
    fn of(fleet: &Fleet) -> Self {
        let windows: Vec<Hour> = fleet.open_windows().collect();
        let open = windows.iter().flat_map(|window| fleet.open_batches(*window));
        let batches = open.map(|(key, batch)| (key, batch.clone())).collect();
        Self { batches, tallies: Tallies::of(fleet) }
    }
}

/// What was checked so far.
#[derive(Default)]
struct Check {
    windows: u64,
    entries: u64,
    last: Option<Known>,
    known: Option<Known>,
    recount: Recount,
    seconds: BTreeMap<(VmId, Meter), Runs>,
    corrections: Vec<Correction>,
}

impl Check {
    fn window(
        &mut self,
        header: &WindowHeader,
        previous: Option<ContentHash>,
        files: &Files,
    ) -> Result<(), Fault> {
        let fault = |what: &str| Fault { at: place(header.window), what: what.to_owned() };
        if header.chain != header.chain_hash() {
            return Err(fault("its header is not what its hash says"));
        }
        if previous.is_some_and(|previous| previous != header.previous) {
            return Err(fault("it does not follow the window before"));
        }
        if let Some((window, chain)) = self.known
            && window == header.window
            && chain != header.chain
        {
            return Err(fault("it is not the window that was known"));
        }
        let mut summing = Summing::default();
        for (key, batch) in files.parts.iter().flat_map(WindowPart::batches) {
            self.batch(key, batch)?;
            summing.add(key, batch);
        }
        let totals = Totals::of(files.parts.iter().flat_map(WindowPart::batches));
        if totals.sums != header.sums || totals.entries != header.entries {
            return Err(fault("its entries do not give its sums"));
        }
        if (totals.first_index, totals.last_index) != (header.first_index, header.last_index) {
            return Err(fault("its entries have other numbers than it says"));
        }
        if !summing.is_summed_up_by(&files.summaries) {
            return Err(fault("its summary is not that of its entries"));
        }
        self.windows += 1;
        self.last = Some((header.window, header.chain));
        Ok(())
    }

    fn batch(&mut self, key: BatchKey, batch: &EntryBatch) -> Result<(), Fault> {
        for posting in batch.postings(key) {
            let posting = posting.map_err(|malformed| Fault {
                at: entry_place(key.window, malformed.index),
                what: "it is malformed".to_owned(),
            })?;
            self.entries += 1;
            match posting.entry.what {
                What::Interval { start_s, end_s, .. } => {
                    let runs = self.seconds.entry((posting.vm, posting.entry.meter)).or_default();
                    let seconds = Seconds { start_s, end_s };
                    if runs.within(seconds).next().is_some() {
                        let at = entry_place(key.window, posting.index);
                        return Err(Fault { at, what: "its seconds count twice".to_owned() });
                    }
                    runs.insert(seconds);
                }
                What::Reversal(correction) => self.corrections.push(correction),
                What::Migration { .. } | What::Replacement(_) => {}
            }
        }
        self.recount.add(key, batch);
        Ok(())
    }

    /// Whether the known window, if it belongs into this part, was among those that were checked.
    fn known_is_here(&self, part: &Part) -> Result<(), Fault> {
        let Some((window, _)) = self.known else { return Ok(()) };
        let is_behind = part.headers.last().is_none_or(|last| last.window < window);
        let is_of_this = part.from <= window && (part.rest.is_some() || !is_behind);
        let is_there = part.headers.iter().any(|header| header.window == window);
        if !is_of_this || is_there {
            return Ok(());
        }
        let what = "a window that was known is missing".to_owned();
        Err(Fault { at: place(window), what })
    }

    fn rest(
        &mut self,
        rest: &Rest,
        part: &Part,
        previous: Option<ContentHash>,
    ) -> Result<(), Fault> {
        let fault = |what: String| Fault { at: "accounts".to_owned(), what };
        for (key, batch) in &rest.batches {
            self.batch(*key, batch)?;
        }
        if previous.unwrap_or_default() != rest.tallies.chain() {
            return Err(Fault {
                at: "end".to_owned(),
                what: "the last window is not the one that the ledger ends with".to_owned(),
            });
        }
        rest.tallies.check().map_err(fault)?;
        if part.is_first && rest.tallies.is_complete() {
            if self.entries != rest.tallies.entries() {
                let (found, all) = (self.entries, rest.tallies.entries());
                return Err(fault(format!("{found} entries, and {all} were numbered")));
            }
            if let Some(account) = rest.tallies.difference(&self.recount) {
                return Err(fault(format!("{account:?} is not what its entries come to")));
            }
        }
        Ok(())
    }

    fn verdict(&self, next: Option<Hour>, fault: Option<Fault>) -> LedgerVerdict {
        let last = self.last.map(|(window, chain)| format!("{}:{chain}", window.0));
        LedgerVerdict {
            intact: fault.is_none(),
            windows: self.windows,
            entries: self.entries,
            last,
            next_cursor: next.map(|next| next.0.to_string()),
            fault_at: fault.as_ref().map(|fault| fault.at.clone()),
            fault: fault.map(|fault| fault.what),
        }
    }
}

/// Whether a reversal takes back what its entry posted. One of an entry in an open window was made from the entry.
fn agrees(correction: &Correction, original: Option<&Original>) -> Result<(), Fault> {
    match original {
        Some(original)
            if original.quantity != correction.quantity || original.used != correction.used =>
        {
            let EntryId { window, index } = correction.original;
            let what = "a correction takes back something else than was posted".to_owned();
            Err(Fault { at: entry_place(window, index), what })
        }
        _ => Ok(()),
    }
}

fn place(window: Hour) -> String {
    format!("window {window}")
}

fn entry_place(window: Hour, index: u64) -> String {
    format!("window {window}, entry {index}")
}

#[cfg(test)]
mod tests {
    use novacron_protocol::ids::Generation;
    use novacron_protocol::usage::{HOUR_S, UsageRecord};
    use novacron_protocol::wire::codec;

    use super::*;
    use crate::state::Body;
    use crate::state::testing::{Scene, name};

    /// A window with two entries, sealed, and what is in its files.
    fn sealed() -> (WindowHeader, Files) {
        let mut scene = Scene::new();
        let window = Hour::of(scene.now);
        scene.join("node-01", 16);
        let vm = scene.create("web");
        for from in [0, 300] {
            scene.now = window.next().begin();
            let start_s = window.begin_s() + from;
            let (meter, generation, end_s) = (Meter::VmSeconds, Generation(1), start_s + 300);
            let records = vec![UsageRecord { vm, generation, meter, start_s, end_s, level: 1 }];
            scene.apply(Body::PostUsage { node: name("node-01"), records }).unwrap();
        }
        scene.now = window.begin().plus_ms(3 * HOUR_S * 1000);
        scene.apply(Body::SealWindows { through: window }).unwrap();
        let contents: Vec<_> =
            scene.fleet.drain_departures().into_iter().map(|departure| departure.content).collect();
        let parts = vec![codec::decode(&contents[0]).unwrap()];
        let summaries = vec![codec::decode(&contents[1]).unwrap()];
        let header = scene.fleet.sealed_windows().next().unwrap().clone();
        (header, Files { parts, summaries })
    }

    fn fault(
        header: &WindowHeader,
        previous: Option<ContentHash>,
        files: &Files,
    ) -> Option<String> {
        Check::default().window(header, previous, files).err().map(|fault| fault.what)
    }

    /// Whoever forges a header can make its hash right, too.
    fn forged(header: &WindowHeader, forge: impl FnOnce(&mut WindowHeader)) -> WindowHeader {
        let mut forged = header.clone();
        forge(&mut forged);
        forged.chain = forged.chain_hash();
        forged
    }

    #[test]
    fn what_was_changed_is_found() {
        let (header, files) = sealed();
        assert_eq!(fault(&header, Some(header.previous), &files), None);
        let mut changed = header.clone();
        changed.entries = 7;
        let found = |header: &WindowHeader| fault(header, Some(ContentHash::default()), &files);
        assert!(found(&changed).unwrap().contains("its header"));
        assert!(found(&forged(&header, |header| header.entries = 7)).unwrap().contains("sums"));
        let less = forged(&header, |header| header.sums[0].used -= 1);
        assert!(found(&less).unwrap().contains("sums"));
        let other = forged(&header, |header| header.last_index += 1);
        assert!(found(&other).unwrap().contains("numbers"));
        let previous = Some(ContentHash::of(b"another"));
        assert!(fault(&header, previous, &files).unwrap().contains("does not follow"));
    }

    #[test]
    fn seconds_that_count_twice_and_sums_that_are_not_theirs_are_found() {
        let (header, mut files) = sealed();
        files.summaries[0].uses[0].1 += 1;
        assert!(fault(&header, None, &files).unwrap().contains("summary"));
        let (header, mut files) = sealed();
        let again = files.parts[0].batches[0].clone();
        files.parts[0].batches.push(again);
        assert!(fault(&header, None, &files).unwrap().contains("count twice"));
    }
}
