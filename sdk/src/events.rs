//! What happens in the fleet, as it happens.
//!
//! The stream resumes by itself when a connection breaks or its coordinator goes away: it asks the next one for
//! events from the last revision that was seen and passes over those of that revision that were seen already. So
//! nothing is repeated and nothing is left out.

use std::io::BufReader;
use std::time::Duration;

use novacron_protocol::api::{Event, EventPage};
use novacron_protocol::ids::{MigrationId, Revision};
use ureq::BodyReader;

use crate::client::{Client, PageRequest};
use crate::error::Error;
use crate::exchange::Request;
use crate::lines::{parse, read_line};
use crate::query::Path;

/// Bytes of one event as JSON. Its texts are bounded by the coordinator to a fraction of this.
const EVENT_BYTES_MAX: u64 = 256 * 1024;
/// Before a stream is opened again that ended without a line.
const REOPEN_PAUSE: Duration = Duration::from_millis(500);

/// Which events.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct EventFilter {
    /// Only those about this machine, by name or id.
    pub vm: Option<String>,
    /// Only those about this migration.
    pub migration: Option<MigrationId>,
    /// Only those about this node, or about a machine on it.
    pub node: Option<String>,
    /// Only those about this project, or about its machines.
    pub project: Option<String>,
    /// Only those of one of these kinds, such as `vm.state`, or families, such as `migration.*`; of all if there is none.
    pub kinds: Vec<String>,
}

impl EventFilter {
    fn path(&self, from: Revision) -> Path {
        let path = Path::new("events")
            .query("from_revision", from)
            .query_if("vm", self.vm.as_deref())
            .query_if("migration", self.migration)
            .query_if("node", self.node.as_deref())
            .query_if("project", self.project.as_deref());
        self.kinds.iter().fold(path, |path, kind| path.query("kind", kind))
    }
}

/// Events.
impl Client {
    /// One page of the events of revision `from` and later that have happened so far.
    ///
    /// # Errors
    /// [`Error::Problem`]: `revision_gone` if some of them are forgotten, `revision_undone` if a restore undid that
    /// revision, `revision_ahead` if the cluster has not come to it. Read the lists then, and go on behind their revision.
    pub fn event_page(
        &self,
        filter: &EventFilter,
        from: Revision,
        page: &PageRequest,
    ) -> Result<EventPage, Error> {
        let path = filter.path(from);
        let path = path.query_if("limit", page.limit).query_if("cursor", page.cursor.as_deref());
        self.exchange.json(&Request::get(path))
    }

    /// All events of revision `from` and later that have happened so far and are remembered.
    ///
    /// # Errors
    /// [`Error`].
    pub fn events(&self, filter: &EventFilter, from: Revision) -> Result<Vec<Event>, Error> {
        self.all(&filter.path(from))
    }

    /// The events of revision `from` and later, those that have happened and then each as it happens. After
    /// reading a list at revision `r`, watch from `r + 1`.
    pub fn watch_events(&self, filter: EventFilter, from: Revision) -> EventWatch {
        EventWatch {
            client: self.clone(),
            filter,
            from,
            last: None,
            lines: None,
            barren: false,
            ended: false,
        }
    }
}

/// An endless iterator over events; it blocks until the next one. After an error it ends. `revision_gone` says that so much
/// happened since the last event that what is behind it may be forgotten.
pub struct EventWatch {
    client: Client,
    filter: EventFilter,
    from: Revision,
    last: Option<(Revision, u32)>,
    lines: Option<BufReader<BodyReader<'static>>>,
    /// Whether the stream that was open last ended without a line.
    barren: bool,
    ended: bool,
}

impl EventWatch {
    /// The revision from which a new watch would go on: events of it may be among those seen.
    pub fn resume_revision(&self) -> Revision {
        self.last.map_or(self.from, |(revision, _)| revision)
    }

    fn next_event(&mut self) -> Result<Event, Error> {
        loop {
            let mut lines = match self.lines.take() {
                Some(lines) => lines,
                None => self.open()?,
            };
            // A stream that breaks off is opened again; how long that is tried is the exchange's business.
            let Ok(Some(line)) = read_line(&mut lines, EVENT_BYTES_MAX) else { continue };
            self.barren = false;
            self.lines = Some(lines);
            if line.is_empty() {
                continue;
            }
            let event: Event = parse(&line, "the event stream")?;
            let place = (event.revision, event.sequence);
            if self.last.is_none_or(|last| place > last) {
                self.last = Some(place);
                return Ok(event);
            }
        }
    }

    fn open(&mut self) -> Result<BufReader<BodyReader<'static>>, Error> {
        if std::mem::replace(&mut self.barren, true) {
            std::thread::sleep(REOPEN_PAUSE);
        }
        let path = self.filter.path(self.resume_revision()).query("follow", true);
        self.client.exchange.stream(&Request::get(path)).map(BufReader::new)
    }
}

impl Iterator for EventWatch {
    type Item = Result<Event, Error>;

    fn next(&mut self) -> Option<Result<Event, Error>> {
        if self.ended {
            return None;
        }
        let next = self.next_event();
        self.ended = next.is_err();
        Some(next)
    }
}
