//! What happened, and what happens: a list, or a stream that goes on.
//!
//! | module | holds |
//! |---|---|
//! | [`position`] | where an event stands, and whether a stream can go on from there |
//! | [`filter`] | which events are shown |
//! | [`form`] | lines of JSON, and Server-Sent Events |
//! | [`feed`] | what a stream of them shows |

mod feed;
mod filter;
pub(super) mod form;
mod position;

use axum::body::Body;
use axum::response::Response;
use http::{HeaderMap, HeaderName, HeaderValue, StatusCode, header};
use novacron_protocol::access::Permission;
use novacron_protocol::api::{Code, Event, EventPage, Page, Problem};
use novacron_protocol::ids::{MigrationId, NodeName, ProjectName, Revision};
use schemars::JsonSchema;
use schemars::r#gen::SchemaGenerator;
use schemars::schema::Schema;
use serde::Deserialize;

use self::feed::Events as EventSource;
use self::filter::{Filter, is_seen, kinds};
use self::form::{Form, LINES, SERVER_SENT};
use self::position::{Position, after, check};
use super::answer::{Answer, HasPlace, Header, json_response, with_media_type};
use super::body::NoBody;
use super::feed::{Feed, Reader};
use super::lists::{ListQuery, Window};
use super::parameters::Nothing;
use super::route::{Call, HeaderParameter, Route, get};
use super::vms;
use crate::auth::{Sight, Where};
use crate::state::Fleet;
use crate::state::event::{EVENTS_MAX, EventRow};

/// Where a reader says the last `id` that it got.
const LAST_EVENT_ID: &str = "last-event-id";

/// Where an answer says the oldest revision from which a stream can go on.
const OLDEST_REVISION: HeaderName = HeaderName::from_static("x-oldest-revision");

pub(super) fn routes() -> Vec<Route> {
    vec![
        get("/api/v1/events", "listEvents", "List what happened, or follow what happens")
            .needs(Permission::EventRead, Where::Somewhere)
            .refuses(&[
                Code::NotFound,
                Code::RevisionAhead,
                Code::RevisionGone,
                Code::RevisionUndone,
                Code::TooManyWatchers,
            ])
            .takes(&[HeaderParameter {
                name: "Last-Event-ID",
                meaning: "Only events behind this one: the last `id` of a stream. It counts more than `from_revision`.",
            }])
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
    /// Go on with what happens from then on, one event a line, an empty line after ten seconds of silence. Whoever accepts
    /// `text/event-stream` gets Server-Sent Events instead, and need not say this.
    #[serde(default)]
    follow: bool,
    /// Only events of this kind, such as `vm.state`, or of this family of kinds, such as `migration.*`. May be repeated:
    /// one of them has to fit.
    #[serde(default)]
    kind: Vec<String>,
    /// Only events about this machine, by name or id.
    #[serde(default)]
    vm: Option<String>,
    /// Only events about this node, or about a machine on it.
    #[serde(default)]
    node: Option<NodeName>,
    /// Only events about this project, or about its machines.
    #[serde(default)]
    project: Option<ProjectName>,
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
    Page(EventPage),
    Stream { form: Form, oldest: Revision, body: Body },
}

impl Answer for Events {
    const STATUS: StatusCode = StatusCode::OK;
    const MEANING: &'static str = "A page of events; with `follow` one event a line, or Server-Sent Events for those who accept them.";
    const HEADERS: &'static [Header] = &[Header {
        name: "X-Oldest-Revision",
        meaning: "The oldest revision from which a stream can go on; the newest 100,000 events are kept.",
    }];

    fn describe(generator: &mut SchemaGenerator) -> Vec<(&'static str, Schema)> {
        vec![
            ("application/json", generator.subschema_for::<EventPage>()),
            (LINES, generator.subschema_for::<Event>()),
            (SERVER_SENT, generator.subschema_for::<Event>()),
        ]
    }

    fn into_response(self) -> Response {
        let (oldest, mut response) = match self {
            Self::Page(page) => {
                (page.oldest_revision, json_response(StatusCode::OK, "application/json", &page))
            }
            Self::Stream { form, oldest, body } => {
                let mut response = with_media_type(form.media_type(), Response::new(body));
                response.extensions_mut().insert(HasPlace);
                (oldest, response)
            }
        };
        let headers = response.headers_mut();
        headers.insert(OLDEST_REVISION, HeaderValue::from(oldest.0));
        headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
        response
    }
}

async fn events(call: Call<Nothing, EventsQuery, NoBody>) -> Result<Events, Problem> {
    let query = call.query.clone();
    let form = Form::wanted(&call.headers).or(query.follow.then_some(Form::Lines));
    let list = ListQuery { limit: query.limit, cursor: query.cursor.clone(), page: query.page };
    let mut window = list.window(Position::parse)?;
    let asked = last_event_id(&call.headers)?.or(window.after);
    window.after = asked.or_else(|| Position::before(Revision(query.from_revision?)));
    let kinds = kinds(&query.kind)?;
    let looked = call.read(|fleet, sight| {
        let vm = query.vm.map(|text| vms::find(fleet, sight, &text).map(|vm| vm.id)).transpose()?;
        let EventsQuery { migration, node, project, .. } = query;
        check(fleet, window.after)?;
        let filter = Filter { vm, migration, node, project, kinds };
        Ok::<_, Problem>((filter, fleet.oldest_event_revision()))
    });
    let (filter, oldest) = looked.await??;
    let Some(form) = form else {
        return page(&call, list.is_scan(), window, &filter).await.map(Events::Page);
    };
    let (grant, last) = (call.grant()?.clone(), window.after);
    let reader = Reader { api: call.api, grant, form };
    let body = Feed { reader, source: EventSource { filter, last } }.open()?;
    Ok(Events::Stream { form, oldest, body })
}

async fn page(
    call: &Call<Nothing, EventsQuery, NoBody>,
    is_scan: bool,
    window: Window<Position>,
    filter: &Filter,
) -> Result<EventPage, Problem> {
    let mut page = window.gather();
    let mut oldest = Revision(0);
    let look = |fleet: &Fleet, sight: &Sight<'_>| {
        let begin = page.after().copied();
        check(fleet, begin)?;
        oldest = fleet.oldest_event_revision();
        let is_shown = |event: &EventRow| is_seen(sight, event) && filter.lets_through(event);
        let show = |event: &EventRow| is_shown(event).then(|| event.shown());
        let key = |event: &&EventRow| Position::of(event);
        Ok::<_, Problem>(page.look(fleet.revision(), after(fleet, begin), key, show))
    };
    call.survey(is_scan, look).await?;
    let Page { items, next_cursor, revision } = page.into_page(|last| last.to_text())?;
    let (revision, events_max) = (Revision(revision), EVENTS_MAX as u64);
    Ok(EventPage { items, next_cursor, revision, oldest_revision: oldest, events_max })
}

/// Behind which event a reader wants to go on.
fn last_event_id(headers: &HeaderMap) -> Result<Option<Position>, Problem> {
    let Some(id) = headers.get(LAST_EVENT_ID) else { return Ok(None) };
    let position = id.to_str().ok().and_then(|text| Position::parse(text.trim()));
    position.map(Some).ok_or_else(|| {
        let detail = "Last-Event-ID: not an `id` of this stream; leave it out to begin with the oldest event";
        Problem::new(Code::CursorUnknown, detail).about("Last-Event-ID")
    })
}
