//! What is measured, as it comes.
//!
//! The stream resumes by itself when a connection breaks or its coordinator goes away: it asks the next one for what came
//! behind the last answer.

use std::io::BufReader;
use std::time::Duration;

use novacron_protocol::api::MetricHistory;
use ureq::BodyReader;

use crate::client::{Client, MetricQuery};
use crate::error::Error;
use crate::exchange::Request;
use crate::lines::{parse, read_line};
use crate::query::Path;

/// Bytes of one answer as JSON: 20,000 points of 130 bytes.
const ANSWER_BYTES_MAX: u64 = 4 << 20;
/// Before a stream is opened again that ended without a line.
const REOPEN_PAUSE: Duration = Duration::from_millis(500);

impl Client {
    /// What is measured of something, after each interval; from the query's `from` on, or from now.
    pub fn watch_metrics(&self, query: MetricQuery) -> MetricWatch {
        let query = MetricQuery { to: None, ..query };
        MetricWatch { client: self.clone(), query, lines: None, is_barren: false, has_ended: false }
    }
}

/// An endless iterator over what is measured; it blocks until the next answer. After an error it ends.
pub struct MetricWatch {
    client: Client,
    /// Its `from` goes along with what was seen.
    query: MetricQuery,
    lines: Option<BufReader<BodyReader<'static>>>,
    /// Whether the stream that was open last ended without a line.
    is_barren: bool,
    has_ended: bool,
}

impl MetricWatch {
    fn next_answer(&mut self) -> Result<MetricHistory, Error> {
        loop {
            let mut lines = match self.lines.take() {
                Some(lines) => lines,
                None => self.open()?,
            };
            // A stream that breaks off is opened again; how long that is tried is the exchange's business.
            let Ok(Some(line)) = read_line(&mut lines, ANSWER_BYTES_MAX) else { continue };
            self.is_barren = false;
            self.lines = Some(lines);
            if line.is_empty() {
                continue;
            }
            let answer: MetricHistory = parse(&line, "the stream of metrics")?;
            self.query.from = Some(answer.to);
            return Ok(answer);
        }
    }

    fn open(&mut self) -> Result<BufReader<BodyReader<'static>>, Error> {
        if std::mem::replace(&mut self.is_barren, true) {
            std::thread::sleep(REOPEN_PAUSE);
        }
        let path = self.query.path(Path::new("metrics").segment("stream"));
        self.client.exchange.stream(&Request::get(path)).map(BufReader::new)
    }
}

impl Iterator for MetricWatch {
    type Item = Result<MetricHistory, Error>;

    fn next(&mut self) -> Option<Result<MetricHistory, Error>> {
        if self.has_ended {
            return None;
        }
        let next = self.next_answer();
        self.has_ended = next.is_err();
        Some(next)
    }
}
