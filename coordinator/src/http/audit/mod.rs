//! Who changed what: a list, or a stream that goes on ([`follow`]).

mod follow;

use axum::body::Body;
use axum::response::Response;
use bytes::Bytes;
use futures_util::stream;
use http::{HeaderMap, HeaderValue, StatusCode, header};
use novacron_protocol::access::Permission;
use novacron_protocol::api::{AuditEntry, AuditVerdict, Code, Page, Problem};
use novacron_protocol::audit::Known;
use schemars::JsonSchema;
use schemars::r#gen::SchemaGenerator;
use schemars::schema::Schema;
use serde::Deserialize;

use self::follow::Place;
use super::answer::{Answer, Found, HasPlace, json_response, with_media_type};
use super::body::NoBody;
use super::events::form::{Form, LINES, SERVER_SENT};
use super::feed::{Feed, Reader};
use super::lists::ListQuery;
use super::parameters::Nothing;
use super::route::{Call, HeaderParameter, Route, get};
use crate::audit::{AuditFilter, AuditLog, Part};
use crate::auth::Where;
use crate::history::HistoryError;

const TEXT: &str = "text/plain; charset=utf-8";

pub(super) fn routes() -> Vec<Route> {
    vec![
        get("/api/v1/audit", "listAudit", "List who changed what, newest first, or follow it")
            .needs(Permission::AuditRead, Where::Fleet)
            .refuses(&[
                Code::CursorUnknown,
                Code::RevisionAhead,
                Code::RevisionGone,
                Code::RevisionUndone,
                Code::TooManyWatchers,
            ])
            .takes(&[HeaderParameter {
                name: "Last-Event-ID",
                meaning: "Only records behind this one: the last `id` of a stream. It counts more than `after`.",
            }])
            .to(records),
        get("/api/v1/audit/export", "exportAudit", "Read the whole audit log as text")
            .needs(Permission::AuditRead, Where::Fleet)
            .to(export),
        get("/api/v1/audit/verify", "verifyAudit", "Check the whole audit log")
            .needs(Permission::AuditRead, Where::Fleet)
            .to(verify),
    ]
}

/// Which records.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct AuditQuery {
    /// Only what this one did: a name, or `cluster`.
    #[serde(default)]
    actor: Option<String>,
    /// Only this action (`vm.create`), or all of a noun (`vm`).
    #[serde(default)]
    action: Option<String>,
    /// Only what was done to the object with this id.
    #[serde(default)]
    object: Option<String>,
    /// Items of a page, 1 to 1,000; 100 unless said. A page may have fewer and still not be the last.
    #[serde(default)]
    limit: Option<u32>,
    /// `next_cursor` of the page before.
    #[serde(default)]
    cursor: Option<String>,
    /// Go on with what is done from then on, oldest first, one record a line, an empty line after ten seconds of silence.
    /// Whoever accepts `text/event-stream` gets Server-Sent Events instead, and need not say this.
    #[serde(default)]
    follow: bool,
    /// Of a stream: only records behind this one, as `number`, or as `number:hash` so that the same log is gone on with.
    /// From the first one that is kept unless said.
    #[serde(default)]
    after: Option<String>,
}

/// What the caller knows of the log.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct VerifyQuery {
    /// A record that the log had once, as `number:hash`: it must be there and be the same.
    #[serde(default)]
    known: Option<String>,
}

/// A page of records, or a stream of them.
enum Records {
    Page(Page<AuditEntry>),
    Stream { form: Form, body: Body },
}

impl Answer for Records {
    const STATUS: StatusCode = StatusCode::OK;
    const MEANING: &'static str = "A page of records; with `follow` one record a line, or Server-Sent Events for those who accept them.";

    fn describe(generator: &mut SchemaGenerator) -> Vec<(&'static str, Schema)> {
        vec![
            ("application/json", generator.subschema_for::<Page<AuditEntry>>()),
            (LINES, generator.subschema_for::<AuditEntry>()),
            (SERVER_SENT, generator.subschema_for::<AuditEntry>()),
        ]
    }

    fn into_response(self) -> Response {
        let mut response = match self {
            Self::Page(page) => json_response(StatusCode::OK, "application/json", &page),
            Self::Stream { form, body } => {
                let mut response = with_media_type(form.media_type(), Response::new(body));
                response.extensions_mut().insert(HasPlace);
                response
            }
        };
        response.headers_mut().insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
        response
    }
}

async fn records(call: Call<Nothing, AuditQuery, NoBody>) -> Result<Records, Problem> {
    let query = call.query.clone();
    let form = Form::wanted(&call.headers).or(query.follow.then_some(Form::Lines));
    let AuditQuery { actor, action, object, limit, cursor, after, .. } = query;
    let filter = AuditFilter { actor, action, object };
    let behind = match last_event_id(&call.headers)? {
        Some(place) => Some(place),
        None => after.as_deref().map(parse_place).transpose()?,
    };
    match form {
        None if behind.is_some() => {
            let detail = "after: for streams; say `follow` too. Pages go by `cursor`";
            Err(Problem::new(Code::InvalidRequest, detail).about("after"))
        }
        None => list(&call, &filter, limit, cursor).await.map(Records::Page),
        Some(form) => {
            let last = Place::begin(behind, &call).await?;
            let (grant, source) = (call.grant()?.clone(), follow::Records { filter, last });
            let body = Feed { reader: Reader { api: call.api, grant, form }, source }.open()?;
            Ok(Records::Stream { form, body })
        }
    }
}

fn parse_place(text: &str) -> Result<Place, Problem> {
    let wrong = "after: write `number`, or `number:hash` as records have them";
    Place::parse(text).ok_or_else(|| Problem::new(Code::InvalidRequest, wrong).about("after"))
}

/// Behind which record a reader wants to go on.
fn last_event_id(headers: &HeaderMap) -> Result<Option<Place>, Problem> {
    let Some(id) = headers.get("last-event-id") else { return Ok(None) };
    let place = id.to_str().ok().and_then(|text| Place::parse(text.trim()));
    place.map(Some).ok_or_else(|| {
        let detail = "Last-Event-ID: not an `id` of this stream; leave it out to begin with the oldest record";
        Problem::new(Code::CursorUnknown, detail).about("Last-Event-ID")
    })
}

async fn list(
    call: &Call<Nothing, AuditQuery, NoBody>,
    filter: &AuditFilter,
    limit: Option<u32>,
    cursor: Option<String>,
) -> Result<Page<AuditEntry>, Problem> {
    let window = ListQuery { limit, cursor, page: None }.window(|text| text.parse().ok())?;
    let revision = call.read(|fleet, _| fleet.revision()).await?;
    let _place = call.dig().await?;
    let page = call.api.audit().page(filter, window.after, window.limit).await;
    let page = page.map_err(follow::problem)?;
    let next_cursor = page.before.map(|number| number.to_string());
    Ok(Page { items: page.entries, next_cursor, revision: revision.0 })
}

async fn verify(call: Call<Nothing, VerifyQuery, NoBody>) -> Result<Found<AuditVerdict>, Problem> {
    let known = call.query.known.as_deref().map(parse_known).transpose()?;
    call.read(|_, _| ()).await?;
    let _place = call.dig().await?;
    let verdict = call.api.audit().verify(known).await;
    verdict.map(Found).map_err(|error| error.to_problem())
}

fn parse_known(text: &str) -> Result<Known, Problem> {
    let wrong = "known: write `number:hash`, as a check of the log answers them";
    text.parse().map_err(|_| Problem::new(Code::InvalidRequest, wrong).about("known"))
}

/// The log as text: a line for each record, `hash record`.
struct Text(Body);

impl Answer for Text {
    const STATUS: StatusCode = StatusCode::OK;
    const MEANING: &'static str =
        "A line for each record: its hash, a space, the record as it was written.";

    fn describe(generator: &mut SchemaGenerator) -> Vec<(&'static str, Schema)> {
        vec![("text/plain", generator.subschema_for::<String>())]
    }

    fn into_response(self) -> Response {
        with_media_type(TEXT, Response::new(self.0))
    }
}

async fn export(call: Call<Nothing, Nothing, NoBody>) -> Result<Text, Problem> {
    call.read(|_, _| ()).await?;
    let audit = call.api.audit().clone();
    let texts = Texts { parts: audit.parts().into_iter(), audit };
    Ok(Text(Body::from_stream(stream::try_unfold(texts, Texts::next))))
}

/// The parts of the log that are still to be sent.
struct Texts {
    audit: AuditLog,
    parts: std::vec::IntoIter<Part>,
}

impl Texts {
    /// An error breaks the stream off, so that nobody takes a part for the whole.
    async fn next(mut self) -> Result<Option<(Bytes, Self)>, HistoryError> {
        let Some(part) = self.parts.next() else { return Ok(None) };
        let text = self.audit.text(part).await?;
        Ok(Some((Bytes::from(text), self)))
    }
}
