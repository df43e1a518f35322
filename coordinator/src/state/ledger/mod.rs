//! The metering ledger: what machines used, as double entries that are never changed.
//!
//! ```text
//!  records ──► post ──► entries of an open window ──(2 h after its hour)──► seal ──► file in the archive
//!                 └──► accounts (project ◄─► node)                            └──► header, chained by hash
//! ```
//!
//! - Every second of a meter of a machine is posted once, whoever reports it and how often ([`coverage`]).
//! - An entry debits the project that used and credits the node that provided; corrections are entries, too
//!   ([`account`], [`correct`]).
//! - Entries are numbered without a gap, and belong to the window (a UTC hour) of their time; what comes when that
//!   window is sealed is posted into the present one and keeps the time of its use ([`post`]).
//! - Sealing takes a window's entries out of the tables and leaves a header with sums and hashes ([`seal`]); what was
//!   sealed is handed to whoever applies, to be kept before the tables are ([`content`]).
//! - Prices have a beginning and are never changed once begun ([`rate`]).
//!
//! Quantities are whole numbers of the meter's unit ([`Meter`]). Here is no money but prices: rating is reading.
//!
//! [`Meter`]: novacron_protocol::usage::Meter

pub mod account;
pub mod batch;
pub mod content;
pub mod correct;
pub mod coverage;
pub mod entry;
pub mod hash;
pub mod hour;
pub mod invariants;
pub mod post;
pub mod rate;
pub mod seal;
pub mod subject;
pub mod sums;
#[cfg(test)]
mod tests;

use novacron_protocol::wire::codec::Message;
use serde::{Deserialize, Serialize};

use self::hash::ContentHash;
use self::hour::Hour;
use super::fleet::Fleet;
use super::table::{Only, ROW_BYTES_MAX};

/// The ledger's own numbers.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Book {
    /// The number of the last entry; the first is 1.
    pub last_index: u64,
    /// Every window before this one is sealed; 0 as long as nothing was ever posted.
    pub sealed_before: Hour,
    /// The chain hash of the last sealed window.
    pub chain: ContentHash,
    /// Entries in windows that are not sealed.
    pub open_entries: u64,
}

impl Message for Book {
    const VERSION: u16 = 1;
    const BYTES_MAX: usize = ROW_BYTES_MAX;
    const NAME: &'static str = "ledger row";
}

impl Fleet {
    /// The ledger as it is now, and the machines that it is about: rows are shared, so that readers can take their time.
    pub fn frozen_ledger(&self) -> Self {
        Self {
            vms: self.vms.clone(),
            ledger_book: self.ledger_book.clone(),
            ledger_batches: self.ledger_batches.clone(),
            ledger_accounts: self.ledger_accounts.clone(),
            ledger_windows: self.ledger_windows.clone(),
            ledger_subjects: self.ledger_subjects.clone(),
            ledger_rates: self.ledger_rates.clone(),
            ledger_plans: self.ledger_plans.clone(),
            ..Self::default()
        }
    }

    /// The ledger's own numbers.
    pub fn book(&self) -> Book {
        self.ledger_book.get(&Only).copied().unwrap_or_default()
    }
}
