//! Requests that this member refuses, gathered until they are written to the audit log: by who, from where, what and
//! why, with a count.
//!
//! However many there are, a member writes at most [`REFUSED_ROWS_MAX`] records for each [`PERIOD`]: what finds no row is
//! counted with others of its code. What was gathered and not written when a member is killed is in its own log only.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use novacron_protocol::api::Code;
use novacron_protocol::limits::cut;
use novacron_protocol::time::Timestamp;
use tokio::sync::Notify;
use tokio::time::{sleep, timeout};
use tokio_util::sync::CancellationToken;

use crate::clock::new_request;
use crate::propose::{ProposeError, Proposer};
use crate::state::refused::{REFUSED_ROWS_MAX, REFUSED_TEXT_BYTES_MAX, RefusedRow};
use crate::state::{Body, Command};

/// From the first refusal after a silence until it is written, with all that came meanwhile.
const GATHERED_FOR: Duration = Duration::from_secs(2);

/// Between two writes.
pub const PERIOD: Duration = Duration::from_secs(10);

/// For what was gathered when the coordinator stops.
const FAREWELL: Duration = Duration::from_secs(2);

/// Rows by who, where and what. The rest are for all others, one for each code that a refusal can have.
const NAMED_MAX: usize = REFUSED_ROWS_MAX - 8;

/// What a row of all others says.
const OTHERS: &str = "(others)";

#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
struct Key {
    shown: String,
    address: Option<IpAddr>,
    operation: String,
    code: Code,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Tally {
    count: u64,
    first_at: Timestamp,
    last_at: Timestamp,
}

/// What was gathered.
#[derive(Debug, Default)]
struct Book {
    rows: BTreeMap<Key, Tally>,
}

impl Book {
    fn note(&mut self, key: Key, at: Timestamp) {
        let has_room = self.rows.len() < NAMED_MAX || self.rows.contains_key(&key);
        let key = if has_room { key } else { Key::of_others(key.code) };
        let new = Tally { count: 0, first_at: at, last_at: at };
        let tally = self.rows.entry(key).or_insert(new);
        tally.count = tally.count.saturating_add(1);
        tally.first_at = tally.first_at.min(at);
        tally.last_at = tally.last_at.max(at);
    }

    fn take(&mut self) -> Vec<RefusedRow> {
        let rows = std::mem::take(&mut self.rows).into_iter().take(REFUSED_ROWS_MAX);
        rows.map(|(key, tally)| row(key, tally)).collect()
    }
}

impl Key {
    fn of_others(code: Code) -> Self {
        Self { shown: OTHERS.to_owned(), address: None, operation: OTHERS.to_owned(), code }
    }
}

fn row(key: Key, tally: Tally) -> RefusedRow {
    let Key { shown, address, operation, code } = key;
    let Tally { count, first_at, last_at } = tally;
    RefusedRow { shown, address, operation, code, count, first_at, last_at }
}

/// The refusals of one member. Cheap to clone.
#[derive(Debug, Clone, Default)]
pub struct Refusals(Arc<Shared>);

#[derive(Debug, Default)]
struct Shared {
    book: Mutex<Book>,
    came: Notify,
}

impl Refusals {
    /// A request was refused.
    pub fn note(
        &self,
        shown: &str,
        address: Option<IpAddr>,
        operation: &str,
        code: Code,
        at: Timestamp,
    ) {
        let text = |text| cut(text, REFUSED_TEXT_BYTES_MAX).to_owned();
        let key = Key { shown: text(shown), address, operation: text(operation), code };
        self.book(|book| book.note(key, at));
        self.0.came.notify_one();
    }

    fn book<T>(&self, with: impl FnOnce(&mut Book) -> T) -> T {
        with(&mut self.0.book.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// Writes what is gathered, until the coordinator stops.
    pub async fn run(self, proposer: Proposer, stop: CancellationToken) {
        let mut open = None;
        loop {
            let written = async {
                if open.is_none() {
                    self.0.came.notified().await;
                    sleep(GATHERED_FOR).await;
                }
                self.write(&proposer, &mut open).await;
                sleep(PERIOD - GATHERED_FOR).await;
            };
            tokio::select! {
                biased;
                () = stop.cancelled() => break,
                () = written => {}
            }
        }
        let _ = timeout(FAREWELL, self.write(&proposer, &mut open)).await;
    }

    /// A command whose outcome is not known stays `open` and is proposed again: its request is applied once.
    async fn write(&self, proposer: &Proposer, open: &mut Option<Command>) {
        if open.is_none() {
            *open = self.command(proposer);
        }
        let Some(command) = open.clone() else { return };
        match proposer.propose(command).await {
            Ok(_) => *open = None,
            Err(ProposeError::Unavailable | ProposeError::OutcomeUnknown) => {}
            Err(error) => {
                tracing::error!(%error, "refused requests cannot be written to the audit log");
                *open = None;
            }
        }
    }

    fn command(&self, proposer: &Proposer) -> Option<Command> {
        let rows = self.book(Book::take);
        let at = proposer.clock().now();
        let is_any = !rows.is_empty();
        is_any.then(|| Command::of_cluster(new_request(at), at, Body::NoteRefusals { rows }))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key(number: u8, operation: &str, code: Code) -> Key {
        let address = Some(IpAddr::from([10, 0, 0, number]));
        Key { shown: "nobody".to_owned(), address, operation: operation.to_owned(), code }
    }

    #[test]
    fn the_same_refusal_is_one_row_with_a_count_and_its_times() {
        let mut book = Book::default();
        for at in [7, 5, 9] {
            book.note(key(1, "listVms", Code::NotAllowed), Timestamp::from_unix_ms(at));
        }
        book.note(key(1, "listVms", Code::RateLimited), Timestamp::from_unix_ms(6));
        let rows = book.take();
        assert_eq!(rows.iter().map(|row| row.count).collect::<Vec<_>>(), [3, 1]);
        assert_eq!((rows[0].first_at.unix_ms, rows[0].last_at.unix_ms), (5, 9));
        assert_eq!(book.take(), []);
    }

    #[test]
    fn a_flood_of_any_kind_makes_few_rows_whose_counts_sum_up() {
        let mut book = Book::default();
        let codes =
            [Code::NotAuthenticated, Code::NotAllowed, Code::RateLimited, Code::TooManyAtOnce];
        for number in 0..10_000_u32 {
            let (low, code) = (number.to_le_bytes()[0], codes[number as usize % 4]);
            book.note(key(low, &format!("operation{number}"), code), Timestamp::default());
        }
        let rows = book.take();
        assert_eq!(rows.len(), NAMED_MAX + 4);
        assert!(rows.len() <= REFUSED_ROWS_MAX);
        assert_eq!(rows.iter().map(|row| row.count).sum::<u64>(), 10_000);
    }
}
