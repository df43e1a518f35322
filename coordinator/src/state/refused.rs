//! Requests that members refused before they became commands: for the audit log, and for nothing else.
//!
//! Members gather them, so that a flood of refusals is a few records with counts.

use std::net::IpAddr;

use novacron_protocol::api::Code;
use novacron_protocol::time::Timestamp;
use serde::{Deserialize, Serialize};

use super::fleet::{Applying, Fleet};
use super::reply::{Accepted, Refusal, Reply};

/// Rows of one command: each becomes a record of some 400 bytes.
pub const REFUSED_ROWS_MAX: usize = 72;

/// Bytes of the texts of a row.
pub const REFUSED_TEXT_BYTES_MAX: usize = 128;

/// Requests that were refused for the same reason to the same one.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct RefusedRow {
    /// What was shown of who asks; nothing of it is proved unless the code says so.
    pub shown: String,
    /// Where from; nothing if from several places.
    pub address: Option<IpAddr>,
    /// What was asked for: the operation of the API.
    pub operation: String,
    /// Why it was refused.
    pub code: Code,
    /// How often.
    pub count: u64,
    /// When first.
    pub first_at: Timestamp,
    /// When last.
    pub last_at: Timestamp,
}

impl Fleet {
    /// Writes a record for each row.
    pub(super) fn note_refused(&mut self, now: &Applying, rows: &[RefusedRow]) -> Reply {
        let is_possible = |row: &RefusedRow| {
            row.shown.len().max(row.operation.len()) <= REFUSED_TEXT_BYTES_MAX
                && row.count > 0
                && row.first_at <= row.last_at
        };
        if rows.len() > REFUSED_ROWS_MAX || !rows.iter().all(is_possible) {
            let problem = format!("at most {REFUSED_ROWS_MAX} rows that each say something");
            return Err(Refusal::Invalid { field: "rows".to_owned(), problem });
        }
        rows.iter().for_each(|row| self.record_refused(now, row));
        Ok(Accepted::Nothing)
    }
}
