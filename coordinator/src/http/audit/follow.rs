//! Records as what a stream shows: strictly behind the last one that was looked at, from the archive as long as the reader
//! is so far behind, then from this member's replica.

use std::time::Duration;

use novacron_protocol::access::Scope;
use novacron_protocol::api::{Code, Problem};
use novacron_protocol::audit::{ChainHash, Known};
use tokio::task::yield_now;
use tokio::time::sleep;

use crate::audit::{AuditError, AuditFilter, Next, Part, entry, next};
use crate::history::HistoryError;
use crate::http::feed::{BATCH_BYTES, BATCH_THINGS, Reader, Source};
use crate::http::outlet::Ending;
use crate::http::route::Call;
use crate::state::Fleet;
use crate::state::audit::AuditNumber;

/// Bytes of a batch out of the archive, a sixteenth of a text there, which is read anew for each batch: what is at hand
/// for a reader that is far behind is bounded. Lines that are not shown do not count, so that whoever is shown little reads
/// each text once.
const ARCHIVED_BATCH_BYTES: usize = 256 << 10;

/// Bytes of lines looked at in one go.
const LOOK_BYTES: usize = 256 << 10;

/// Before a reader asks again for a place among those that dig, when all were taken for long.
const PLACE_PAUSE: Duration = Duration::from_secs(1);

/// Where a reader is: behind a record, of which it may know the hash.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Place {
    number: u64,
    hash: Option<ChainHash>,
}

impl Place {
    /// Where a stream begins: where its reader is, if it can go on from there, or before the first record that is kept.
    pub(super) async fn begin<P, Q, B>(
        reader: Option<Self>,
        call: &Call<P, Q, B>,
    ) -> Result<Self, Problem> {
        if let Some(place) = reader {
            return place.check(call).await.map(|()| place);
        }
        let first = call.read(|fleet, _| oldest(fleet)).await?;
        Ok(Self { number: first.saturating_sub(1), hash: None })
    }

    /// `57`, or `57:hash`.
    pub(super) fn parse(text: &str) -> Option<Self> {
        if let Ok(number) = text.parse() {
            return Some(Self { number, hash: None });
        }
        let Known { number, hash } = text.parse().ok()?;
        Some(Self { number, hash: Some(hash) })
    }

    fn to_text(self) -> String {
        match self.hash {
            Some(hash) => format!("{}:{hash}", self.number),
            None => self.number.to_string(),
        }
    }

    /// Refuses to go on from a place where it cannot be known that nothing is missing.
    async fn check<P, Q, B>(self, call: &Call<P, Q, B>) -> Result<(), Problem> {
        let Self { number, hash } = self;
        let look = |fleet: &Fleet| (fleet.audit_head(), next(fleet, number, 0, 0));
        let (head, what) = call.read(|fleet, _| look(fleet)).await?;
        if number > head.number.0 {
            let text = format!(
                "after: the log has come to record {}: if it had {number} once, a restore from a backup undid that",
                head.number.0
            );
            return Err(refused(Code::RevisionAhead, text));
        }
        if matches!(what, Next::Forgotten) {
            return Err(forgotten());
        }
        let Some(hash) = hash.filter(|_| number > 0) else { return Ok(()) };
        let _place = call.dig().await?;
        let found = call.api.audit().hash_of(number).await.map_err(problem)?;
        match found {
            Some(found) if found != hash => Err(undone(number)),
            // It may have left what is kept, and what comes next has not.
            Some(_) | None => Ok(()),
        }
    }
}

/// Number of the first record that is kept.
fn oldest(fleet: &Fleet) -> u64 {
    let archived = fleet.audit_segments().next().map(|(_, first)| first.0);
    let kept = || fleet.audit_from(AuditNumber(1)).next().map(|(number, _)| number.0);
    archived.or_else(kept).unwrap_or(1)
}

fn refused(code: Code, text: String) -> Problem {
    Problem::new(code, text).about("after")
}

fn forgotten() -> Problem {
    let text = "after: the records behind it are not kept any more. Export the log, and follow from its last record";
    refused(Code::RevisionGone, text.to_owned())
}

fn undone(number: u64) -> Problem {
    let text = format!(
        "after: record {number} is another one: a restore from a backup undid what you have read. Read the log anew"
    );
    refused(Code::RevisionUndone, text)
}

pub(super) fn problem(error: AuditError) -> Problem {
    match error {
        AuditError::History(error) => error.to_problem(),
        AuditError::Fault(fault) => Problem::new(Code::Internal, fault.to_string()),
    }
}

/// See the module.
pub(super) struct Records {
    pub(super) filter: AuditFilter,
    /// Everything up to here was looked at.
    pub(super) last: Place,
}

impl Source for Records {
    const WHAT: &'static str = "the audit log";

    async fn take(&mut self, reader: &Reader, text: &mut Vec<u8>) -> Result<bool, Ending> {
        match self.look(reader).map_err(Ending::Problem)? {
            Next::Lines { lines, is_last } => {
                lines.iter().try_for_each(|line| self.write(reader, line, text))?;
                Ok(is_last)
            }
            Next::Archived(part) => self.take_archived(reader, part, text).await.map(|()| false),
            Next::Forgotten => Err(Ending::Problem(forgotten())),
        }
    }

    fn place(&self) -> Option<String> {
        Some(self.last.to_text())
    }
}

impl Records {
    fn look(&self, reader: &Reader) -> Result<Next, Problem> {
        let (behind, now) = (self.last.number, reader.api.now());
        reader.api.glance(|fleet| {
            reader.grant.sight(fleet, now)?.check(Scope::Fleet)?;
            Ok::<_, Problem>(next(fleet, behind, BATCH_THINGS, BATCH_BYTES))
        })
    }

    async fn take_archived(
        &mut self,
        reader: &Reader,
        part: Part,
        text: &mut Vec<u8>,
    ) -> Result<(), Ending> {
        let admission = &reader.api.app.admission;
        let Ok(_place) = admission.dig(&reader.grant.asker().name).await else {
            sleep(PLACE_PAUSE).await;
            return Ok(());
        };
        let skipped = (self.last.number + 1).saturating_sub(part.first());
        let lines = reader.api.audit().text(part).await.map_err(|error| match error {
            // This member gets it from another one; the reader goes on meanwhile or later.
            HistoryError::Missing(_) => Ending::CutOff,
            error => Ending::Problem(error.to_problem()),
        })?;
        let skipped = usize::try_from(skipped).unwrap_or(usize::MAX);
        let mut looked_bytes = 0;
        for line in lines.split_terminator('\n').skip(skipped) {
            if text.len() >= ARCHIVED_BATCH_BYTES {
                break;
            }
            if looked_bytes >= LOOK_BYTES {
                looked_bytes = 0;
                yield_now().await;
            }
            looked_bytes += line.len();
            self.write(reader, line, text)?;
        }
        Ok(())
    }

    fn write(&mut self, reader: &Reader, line: &str, text: &mut Vec<u8>) -> Result<(), Ending> {
        let number = self.last.number + 1;
        let entry = entry(line).ok().filter(|entry| entry.number == number);
        let hash = entry.as_ref().and_then(|entry| entry.hash.parse().ok());
        let (Some(entry), Some(hash)) = (entry, hash) else {
            let detail = format!("record {number} of the audit log is not what was written");
            return Err(Ending::Problem(Problem::new(Code::Internal, detail)));
        };
        self.last = Place { number, hash: Some(hash) };
        if self.filter.lets_through(&entry) {
            reader.form.write_document(&self.last.to_text(), &entry, text);
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_place_comes_back() {
        let hash = ChainHash([7; 32]);
        for place in [Place { number: 7, hash: None }, Place { number: 7, hash: Some(hash) }] {
            assert_eq!(Place::parse(&place.to_text()), Some(place));
        }
        for wrong in ["", "x", "-1", "7:", "7:x", ":"] {
            assert_eq!(Place::parse(wrong), None, "{wrong}");
        }
    }
}
