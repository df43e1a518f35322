//! The audit log, as it is written.
//!
//! The stream resumes by itself when a connection breaks or its coordinator goes away: it asks the next one for what is
//! behind the last record that was seen, and names its hash, so that nothing is repeated or left out and another log is not
//! taken for the same.

use std::io::BufReader;
use std::time::Duration;

use novacron_protocol::api::AuditEntry;
use ureq::BodyReader;

use crate::client::{AuditFilter, Client};
use crate::error::Error;
use crate::exchange::Request;
use crate::lines::{parse, read_line};

/// Bytes of one record as JSON: rows before and after, of at most 1 MiB each as the coordinator stores them.
const RECORD_BYTES_MAX: u64 = 16 << 20;
/// Before a stream is opened again that ended without a line.
const REOPEN_PAUSE: Duration = Duration::from_millis(500);

impl Client {
    /// The records behind one (`number`, or `number:hash`) that pass the filter, oldest first, those that are there and
    /// then each as it is written; from the first that is kept without one.
    pub fn watch_audit(&self, filter: AuditFilter, after: Option<String>) -> AuditWatch {
        let client = self.clone();
        AuditWatch { client, filter, after, lines: None, is_barren: false, has_ended: false }
    }
}

/// An endless iterator over records; it blocks until the next one. After an error it ends: `revision_gone` if what comes
/// next is not kept any more, `revision_undone` or `revision_ahead` if a restore undid what was seen.
pub struct AuditWatch {
    client: Client,
    filter: AuditFilter,
    /// The last record that was seen.
    after: Option<String>,
    lines: Option<BufReader<BodyReader<'static>>>,
    /// Whether the stream that was open last ended without a line.
    is_barren: bool,
    has_ended: bool,
}

impl AuditWatch {
    /// The record behind which a new watch would go on.
    pub fn resume_after(&self) -> Option<&str> {
        self.after.as_deref()
    }

    fn next_record(&mut self) -> Result<AuditEntry, Error> {
        loop {
            let mut lines = match self.lines.take() {
                Some(lines) => lines,
                None => self.open()?,
            };
            // A stream that breaks off is opened again; how long that is tried is the exchange's business.
            let Ok(Some(line)) = read_line(&mut lines, RECORD_BYTES_MAX) else { continue };
            self.is_barren = false;
            self.lines = Some(lines);
            if line.is_empty() {
                continue;
            }
            let record: AuditEntry = parse(&line, "the stream of the audit log")?;
            self.after = Some(format!("{}:{}", record.number, record.hash));
            return Ok(record);
        }
    }

    fn open(&mut self) -> Result<BufReader<BodyReader<'static>>, Error> {
        if std::mem::replace(&mut self.is_barren, true) {
            std::thread::sleep(REOPEN_PAUSE);
        }
        let path = self.filter.path().query("follow", true);
        let path = path.query_if("after", self.after.as_deref());
        self.client.exchange.stream(&Request::get(path)).map(BufReader::new)
    }
}

impl Iterator for AuditWatch {
    type Item = Result<AuditEntry, Error>;

    fn next(&mut self) -> Option<Result<AuditEntry, Error>> {
        if self.has_ended {
            return None;
        }
        let next = self.next_record();
        self.has_ended = next.is_err();
        Some(next)
    }
}
