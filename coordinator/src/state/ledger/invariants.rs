//! What is always true of the ledger. Tests ask after every command; `ledger verify` asks a running cluster.

use std::collections::BTreeMap;

use novacron_protocol::limits::USAGE_RECORDS_PER_BATCH_MAX;
use novacron_protocol::usage::Meter;

use super::Book;
use super::account::{Account, AccountKey, Direction, Owner};
use super::batch::{BatchKey, EntryBatch, OPEN_ENTRIES_MAX};
use super::correct::CORRECTIONS_MAX;
use super::hash::ContentHash;
use super::seal::{Totals, WINDOWS_MAX};
use super::subject::SUBJECTS_MAX;
use super::sums::{MeterSum, MeterSums, of_meter};
use crate::state::fleet::Fleet;

impl Fleet {
    /// Checks every invariant of the ledger that needs no archive.
    ///
    /// # Errors
    /// The first that does not hold, for a person.
    pub fn check_ledger(&self) -> Result<(), String> {
        self.check_batches()?;
        self.check_windows()?;
        self.check_balance()?;
        self.check_coverage()?;
        let bounds = [
            (self.ledger_windows.len(), WINDOWS_MAX, "sealed windows"),
            (self.ledger_corrected.len(), CORRECTIONS_MAX, "corrections"),
            (self.ledger_subjects.len(), SUBJECTS_MAX, "machines that are gone"),
        ];
        bounds.into_iter().try_for_each(|(count, most, what)| {
            ensure(count <= most, || format!("{count} {what}, at most {most}"))
        })
    }

    fn check_batches(&self) -> Result<(), String> {
        let book = self.book();
        let mut open = 0;
        for (key, batch) in self.ledger_batches.iter() {
            let place = || format!("window {}, entry {}", key.window, key.first_index);
            let read: Result<Vec<_>, _> = batch.postings(*key).collect();
            let read = read.map_err(|error| format!("window {}: {error}", key.window))?;
            let count = batch.count as usize;
            let is_whole = read.len() == count
                && (1..=2 * USAGE_RECORDS_PER_BATCH_MAX).contains(&count)
                && read.last().is_some_and(|last| last.index <= book.last_index);
            ensure(is_whole, || format!("{}: not all of its entries", place()))?;
            ensure(key.window >= book.sealed_before, || format!("{}: is sealed", place()))?;
            open += u64::from(batch.count);
        }
        ensure(open == book.open_entries, || {
            format!("{open} entries are open, the book says {}", book.open_entries)
        })?;
        ensure(open <= OPEN_ENTRIES_MAX + USAGE_RECORDS_PER_BATCH_MAX as u64, || {
            format!("{open} entries are open")
        })
    }

    fn check_windows(&self) -> Result<(), String> {
        let book = self.book();
        let mut previous = None;
        for header in self.ledger_windows.values() {
            let window = header.window;
            ensure(header.chain == header.chain_hash(), || {
                format!("window {window}: its header is not what its hash says")
            })?;
            ensure(previous.is_none_or(|chain| chain == header.previous), || {
                format!("window {window}: does not follow the one before")
            })?;
            ensure(window < book.sealed_before, || format!("window {window}: sealed and open"))?;
            previous = Some(header.chain);
        }
        ensure(previous.is_none_or(|chain| chain == book.chain), || {
            "the last window is not the one that the book names".to_owned()
        })
    }

    /// All debits are all credits, and both are what the entries say.
    fn check_balance(&self) -> Result<(), String> {
        Tallies::of(self).check()
    }

    /// What was posted in all windows.
    fn posted(&self) -> MeterSums {
        let batches = self.ledger_batches.iter().map(|(key, batch)| (*key, batch));
        let mut sums = Totals::of(batches).sums;
        for header in self.ledger_windows.values() {
            for (sum, more) in sums.iter_mut().zip(&header.sums) {
                sum.merge(more);
            }
        }
        sums
    }
}

/// The ledger's sums at one revision.
#[derive(Debug)]
pub struct Tallies {
    book: Book,
    accounts: BTreeMap<AccountKey, Account>,
    posted: MeterSums,
    is_complete: bool,
}

impl Tallies {
    /// Those of a fleet.
    pub fn of(fleet: &Fleet) -> Self {
        Self {
            book: fleet.book(),
            accounts: fleet.accounts().map(|(key, account)| (key.clone(), *account)).collect(),
            posted: fleet.posted(),
            is_complete: fleet.ledger_windows.len() < WINDOWS_MAX,
        }
    }

    /// The chain hash of the last sealed window.
    pub fn chain(&self) -> ContentHash {
        self.book.chain
    }

    /// Entries that were ever posted.
    pub fn entries(&self) -> u64 {
        self.book.last_index
    }

    /// Whether every window that ever was is still there; the oldest go after years.
    pub fn is_complete(&self) -> bool {
        self.is_complete
    }

    /// Whether all debits are all credits, and both are what was posted.
    ///
    /// # Errors
    /// The first meter of which that is not true, for a person.
    pub fn check(&self) -> Result<(), String> {
        let mut posted = self.posted;
        for meter in Meter::ALL {
            let (mut debits, mut credits, mut projects) = (0u128, 0u128, MeterSum::default());
            for (key, account) in self.accounts.iter().filter(|(key, _)| key.meter == meter) {
                debits += account.debits;
                credits += account.credits;
                if matches!(key.owner, Owner::Project(_)) {
                    projects.used += account.debits;
                    projects.taken_back += account.credits;
                }
            }
            ensure(debits == credits, || format!("{meter}: {debits} debits, {credits} credits"))?;
            ensure(!self.is_complete || *of_meter(&mut posted, meter) == projects, || {
                format!("{meter}: the accounts are not what was posted")
            })?;
        }
        Ok(())
    }

    /// The first account that a recount has otherwise.
    pub fn difference(&self, recount: &Recount) -> Option<AccountKey> {
        let differs = |key: &&AccountKey| self.accounts.get(*key) != recount.0.get(*key);
        recount.0.keys().find(differs).or_else(|| self.accounts.keys().find(differs)).cloned()
    }
}

/// Accounts that entries make, from nothing.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Recount(BTreeMap<AccountKey, Account>);

impl Recount {
    /// Adds the entries of a batch.
    pub fn add(&mut self, key: BatchKey, batch: &EntryBatch) {
        for posting in batch.postings(key).flatten() {
            let (meter, quantity) = (posting.entry.meter, posting.entry.quantity());
            let project = Owner::Project(posting.project.clone());
            let node = Owner::Node(batch.provider.clone());
            let (debited, credited) = match posting.entry.direction() {
                Direction::Used => (project, node),
                Direction::TakenBack => (node, project),
            };
            self.0.entry(AccountKey { owner: debited, meter }).or_default().debits += quantity;
            self.0.entry(AccountKey { owner: credited, meter }).or_default().credits += quantity;
        }
    }
}

fn ensure(holds: bool, what: impl FnOnce() -> String) -> Result<(), String> {
    if holds { Ok(()) } else { Err(what()) }
}
