//! Reading the ledger: what was used, what it costs, and whether it can be trusted.
//!
//! Everything here is computed from entries and rate cards, again for each reader; nothing is kept. Open windows are
//! read from the fleet, sealed ones from this member's archive, whose files are checked against the hashes that the
//! cluster agreed on. While one of them is missing or damaged, reading says so and the others are asked for it.
//!
//! | module | holds |
//! |---|---|
//! | [`period`] | months, days and hours as windows |
//! | [`pages`] | the summaries and entries of windows, open and sealed |
//! | [`usage`] | quantities, grouped |
//! | [`rating`] | from quantities to money: pure arithmetic |
//! | [`allocation`] | a whole in parts by tag: pure arithmetic |
//! | [`invoice`] [`csv`] | a month's lines |
//! | [`verify`] | whether entries, sums, hashes and accounts agree |

pub mod allocation;
pub mod csv;
pub mod invoice;
pub mod pages;
pub mod period;
pub mod rating;
pub mod usage;
pub mod verify;

use novacron_protocol::api::{Code, Problem};
use novacron_protocol::wire::codec::CodecError;

use crate::history::{History, HistoryError};
use crate::view::View;

/// Why the ledger cannot be read.
#[derive(Debug, thiserror::Error)]
pub enum LedgerError {
    /// A part of it is not at hand.
    #[error(transparent)]
    History(#[from] HistoryError),
    /// A file is what was archived, and yet this build cannot read it.
    #[error("a file of the ledger cannot be read by this build")]
    Unreadable(#[from] CodecError),
    /// A sum of money is beyond what an invoice can say.
    #[error("a sum of money is out of range")]
    OutOfRange,
}

impl LedgerError {
    /// The whole answer of the API.
    pub fn to_problem(&self) -> Problem {
        match self {
            Self::History(error) => error.to_problem(),
            Self::Unreadable(_) | Self::OutOfRange => {
                Problem::new(Code::Internal, self.to_string())
            }
        }
    }
}

/// The ledger as this member has it. Cheap to clone.
#[derive(Clone)]
pub struct Ledger {
    history: History,
    view: View,
}

impl Ledger {
    pub(crate) fn new(history: History, view: View) -> Self {
        Self { history, view }
    }
}
