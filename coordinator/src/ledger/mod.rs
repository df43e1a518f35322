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
//! | [`series`] | quantities and money over time |
//! | [`rating`] | from quantities to money: pure arithmetic |
//! | [`allocation`] | a whole in parts by tag: pure arithmetic |
//! | [`invoice`] [`csv`] | a month's lines |
//! | `month` | what the present month costs so far |
//! | [`verify`] | whether entries, sums, hashes and accounts agree |

pub mod allocation;
pub mod csv;
#[cfg(test)]
mod day;
pub mod invoice;
mod month;
pub mod pages;
pub mod period;
pub mod rating;
pub mod series;
pub mod usage;
pub mod verify;

use std::sync::Arc;

use novacron_protocol::api::{Code, Problem};
use novacron_protocol::wire::codec::CodecError;
use tokio::sync::Semaphore;

use self::month::SealedSums;
use crate::history::{History, HistoryError};
use crate::state::Fleet;
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

/// Readers at once; the others wait. Each takes a thread and some 100 MB, and none of them is in a hurry.
const READERS_MAX: usize = 2;

/// The ledger as this member has it. Cheap to clone. Its methods read files and compute: [`Ledger::run`] has them do it
/// where that holds nobody up.
#[derive(Clone)]
pub struct Ledger {
    history: History,
    view: View,
    readers: Arc<Semaphore>,
    sealed_sums: SealedSums,
}

impl Ledger {
    /// The ledger of a member.
    pub fn new(history: History, view: View) -> Self {
        let readers = Arc::new(Semaphore::new(READERS_MAX));
        Self { history, view, readers, sealed_sums: SealedSums::default() }
    }

    /// The fleet's part of the ledger, as of one revision: nobody waits while it is read.
    fn frozen(&self) -> Fleet {
        self.view.local(Fleet::frozen_ledger)
    }

    /// Reads on a thread for such work.
    ///
    /// # Errors
    /// What `read` answers; [`HistoryError::Task`] if it does not come to an end.
    pub async fn run<T, E>(
        &self,
        read: impl FnOnce(&Self) -> Result<T, E> + Send + 'static,
    ) -> Result<T, E>
    where
        T: Send + 'static,
        E: From<LedgerError> + Send + 'static,
    {
        // Closed by nobody.
        let place = Arc::clone(&self.readers).acquire_owned().await.ok();
        let ledger = self.clone();
        let work = move || {
            let read = read(&ledger);
            drop(place);
            read
        };
        let done = tokio::task::spawn_blocking(work).await;
        done.unwrap_or_else(|error| Err(LedgerError::from(HistoryError::from(error)).into()))
    }
}
