//! What happened, and what happens: a list, or a stream that goes on.
//!
//! The stream is a line of JSON for each event, in order. It is fed from this member's own replica: first what has
//! been applied, then each further command as it is applied. The position is looked at before the waiting begins,
//! so nothing is missed, and events are taken strictly after the last one that was sent, so nothing is repeated.

use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use axum::body::Body;
use axum::response::Response;
use bytes::Bytes;
use futures_util::stream;
use http::StatusCode;
use novacron_protocol::access::{Permission, Scope};
use novacron_protocol::api::{Code, Event, Page, Problem};
use novacron_protocol::ids::{MigrationId, Revision, VmId};
use schemars::JsonSchema;
use schemars::r#gen::SchemaGenerator;
use schemars::schema::Schema;
use serde::Deserialize;
use tokio::sync::watch;

use super::answer::{Answer, json_response, with_media_type};
use super::body::NoBody;
use super::lists::ListQuery;
use super::parameters::Nothing;
use super::route::{Call, Route, get};
use super::{Api, vms};
use crate::auth::{Grant, Sight, Where};
use crate::state::Fleet;
use crate::state::event::EVENTS_MAX;

const NDJSON: &str = "application/x-ndjson";

/// An empty line after this much silence tells both ends that the other is still there.
const HEARTBEAT: Duration = Duration::from_secs(10);

/// Events written at once: with about 300 bytes each 75 KiB, so a slow reader holds no more than that.
const BATCH_EVENTS: usize = 256;

pub(super) fn routes() -> Vec<Route> {
    vec![
        get("/api/v1/events", "listEvents", "List what happened, or follow what happens")
            .needs(Permission::EventRead, Where::Somewhere)
            .refuses(&[Code::NotFound])
            .to(events),
    ]
}

/// Which events.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct EventsQuery {
    /// Only events of this revision and later ones. After a list that was read at revision r, give r + 1.
    #[serde(default)]
    from_revision: Option<u64>,
    /// Go on with what happens from then on, one event a line, an empty line after ten seconds of silence.
    #[serde(default)]
    follow: bool,
    /// Only events about this machine, by name or id.
    #[serde(default)]
    vm: Option<String>,
    /// Only events about this migration.
    #[serde(default)]
    migration: Option<MigrationId>,
    /// Items of a page, 1 to 1,000; 100 unless said.
    #[serde(default)]
    limit: Option<u32>,
    /// `next_cursor` of the page before.
    #[serde(default)]
    cursor: Option<String>,
    /// Number of the page, from 1; instead of a cursor.
    #[serde(default)]
    page: Option<u32>,
}

/// A page of events, or a stream of them.
enum Events {
    Page(Page<Event>),
    Stream(Body),
}

impl Answer for Events {
    const STATUS: StatusCode = StatusCode::OK;
    const MEANING: &'static str = "A page of events, or with `follow` one event a line.";

    fn describe(generator: &mut SchemaGenerator) -> Vec<(&'static str, Schema)> {
        vec![
            ("application/json", generator.subschema_for::<Page<Event>>()),
            (NDJSON, generator.subschema_for::<Event>()),
        ]
    }

    fn into_response(self) -> Response {
        match self {
            Self::Page(page) => json_response(StatusCode::OK, "application/json", &page),
            Self::Stream(body) => with_media_type(NDJSON, Response::new(body)),
        }
    }
}

/// Where an event stands: its revision, and its number there.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
struct Position {
    revision: Revision,
    sequence: u32,
}

impl Position {
    fn of(event: &Event) -> Self {
        Self { revision: event.revision, sequence: event.sequence }
    }

    /// Before the first event of a revision.
    fn before(revision: Revision) -> Option<Self> {
        let revision = Revision(revision.0.checked_sub(1)?);
        Some(Self { revision, sequence: u32::MAX })
    }

    fn parse(cursor: &str) -> Option<Self> {
        let (revision, sequence) = cursor.split_once('.')?;
        Some(Self { revision: Revision(revision.parse().ok()?), sequence: sequence.parse().ok()? })
    }

    fn to_cursor(self) -> String {
        format!("{}.{}", self.revision, self.sequence)
    }
}

/// Which events to show.
#[derive(Debug, Clone, Default)]
struct Filter {
    vm: Option<VmId>,
    migration: Option<MigrationId>,
}

impl Filter {
    fn lets_through(&self, event: &Event) -> bool {
        self.vm.is_none_or(|vm| event.vm == Some(vm))
            && self.migration.is_none_or(|migration| event.migration == Some(migration))
    }
}

async fn events(call: Call<Nothing, EventsQuery, NoBody>) -> Result<Events, Problem> {
    let EventsQuery { from_revision, follow, vm, migration, limit, cursor, page } =
        call.query.clone();
    let window = ListQuery { limit, cursor, page }.window(Position::parse)?;
    let begin = window.after.or_else(|| Position::before(Revision(from_revision?)));
    let (filter, first) = call
        .read(move |fleet, sight| {
            let vm = vm.map(|text| vms::find(fleet, sight, &text).map(|vm| vm.id)).transpose()?;
            let filter = Filter { vm, migration };
            check_kept(fleet, begin)?;
            let seen = after(fleet, begin).filter(|event| is_seen(sight, event));
            let events = seen.filter(|event| filter.lets_through(event)).cloned();
            let page =
                window.page(events, |event| Position::of(event).to_cursor(), fleet.revision());
            Ok::<_, Problem>((filter, page))
        })
        .await??;
    if !follow {
        return Ok(Events::Page(first));
    }
    let (grant, api) = (call.grant()?.clone(), call.api);
    let feed = Feed { changes: api.changes(), api, grant, filter, last: begin };
    Ok(Events::Stream(Body::from_stream(stream::unfold(Some(feed), Feed::next))))
}

/// What is about no project is about the fleet.
fn is_seen(sight: &Sight<'_>, event: &Event) -> bool {
    match &event.project {
        Some(project) => sight.may(project),
        None => sight.reach().covers(&Scope::Fleet),
    }
}

fn after(fleet: &Fleet, last: Option<Position>) -> impl Iterator<Item = &Event> {
    let last = last.unwrap_or(Position { revision: Revision(0), sequence: 0 });
    fleet.events_after(last.revision, Some(last.sequence))
}

/// Refuses to go on at a place whose events may be forgotten: a stream must not have a gap that nobody sees.
fn check_kept(fleet: &Fleet, last: Option<Position>) -> Result<(), Problem> {
    let (Some(last), Some(oldest)) = (last, fleet.events_begin()) else { return Ok(()) };
    // Counting is slow, but only a place before the oldest event asks for it.
    if last.revision.next() >= oldest || after(fleet, None).count() < EVENTS_MAX {
        return Ok(());
    }
    let detail = format!(
        "from_revision: events before revision {oldest} are forgotten; read the lists and follow from there"
    );
    Err(Problem::new(Code::InvalidRequest, detail).about("from_revision"))
}

/// A stream of events under way.
struct Feed {
    api: Arc<Api>,
    changes: watch::Receiver<u64>,
    grant: Grant,
    filter: Filter,
    /// The last event that was looked at.
    last: Option<Position>,
}

impl Feed {
    /// The next lines. Ends when the coordinator shuts down; the client goes on at another one.
    async fn next(feed: Option<Self>) -> Option<(Result<Bytes, Infallible>, Option<Self>)> {
        let mut feed = feed?;
        loop {
            // Marked as seen before it is looked at: whatever comes after this wakes the wait below.
            feed.changes.borrow_and_update();
            match feed.take_batch() {
                Ok(Batch { lines, .. }) if !lines.is_empty() => {
                    return Some((Ok(lines.into()), Some(feed)));
                }
                Ok(Batch { is_last: false, .. }) => continue,
                Ok(Batch { is_last: true, .. }) => {}
                Err(problem) => return Some((Ok(json_line(&problem).into()), None)),
            }
            tokio::select! {
                biased;
                () = feed.api.stopping() => return None,
                changed = feed.changes.changed() => changed.ok()?,
                () = tokio::time::sleep(HEARTBEAT) => {
                    return Some((Ok(Bytes::from_static(b"\n")), Some(feed)));
                }
            }
        }
    }

    /// Looks at the next events and writes those that the filter lets through. Who may not see events any more gets no
    /// further ones.
    fn take_batch(&mut self) -> Result<Batch, Problem> {
        let (filter, last, now) = (&self.filter, self.last, self.api.now());
        let (batch, last) = self.api.glance(|fleet| {
            let sight = self.grant.sight(fleet, now)?;
            check_kept(fleet, last)?;
            let (mut lines, mut looked_at, mut last) = (Vec::new(), 0, last);
            for event in after(fleet, last).take(BATCH_EVENTS) {
                if is_seen(&sight, event) && filter.lets_through(event) {
                    lines.extend(json_line(event));
                }
                last = Some(Position::of(event));
                looked_at += 1;
            }
            Ok::<_, Problem>((Batch { lines, is_last: looked_at < BATCH_EVENTS }, last))
        })?;
        self.last = last;
        Ok(batch)
    }
}

/// Events as lines.
struct Batch {
    lines: Vec<u8>,
    /// Whether nothing has happened behind them yet.
    is_last: bool,
}

fn json_line(value: &impl serde::Serialize) -> Vec<u8> {
    let mut line = serde_json::to_vec(value).unwrap_or_default();
    line.push(b'\n');
    line
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_cursor_comes_back() {
        let position = Position { revision: Revision(7), sequence: 2 };
        assert_eq!(Position::parse(&position.to_cursor()), Some(position));
        assert_eq!(Position::parse("7"), None);
        assert_eq!(Position::parse("7.x"), None);
    }

    #[test]
    fn from_a_revision_is_behind_the_one_before() {
        let before = Position::before(Revision(7)).unwrap();
        let at = |revision, sequence| Position { revision: Revision(revision), sequence };
        assert!(at(6, 9) < before && before < at(7, 0));
        assert_eq!(Position::before(Revision(0)), None);
    }
}
