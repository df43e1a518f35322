//! Who changed what.

use axum::body::Body;
use axum::response::Response;
use bytes::Bytes;
use futures_util::stream;
use http::StatusCode;
use novacron_protocol::access::Permission;
use novacron_protocol::api::{AuditEntry, AuditVerdict, Code, Page, Problem};
use novacron_protocol::audit::Known;
use schemars::JsonSchema;
use schemars::r#gen::SchemaGenerator;
use schemars::schema::Schema;
use serde::Deserialize;

use super::answer::{Answer, Found, with_media_type};
use super::body::NoBody;
use super::lists::ListQuery;
use super::parameters::Nothing;
use super::route::{Call, Route, get};
use crate::audit::{AuditError, AuditFilter, AuditLog, Part};
use crate::auth::Where;
use crate::history::HistoryError;

const TEXT: &str = "text/plain; charset=utf-8";

pub(super) fn routes() -> Vec<Route> {
    vec![
        get("/api/v1/audit", "listAudit", "List who changed what, newest first")
            .needs(Permission::AuditRead, Where::Fleet)
            .to(list),
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
}

/// What the caller knows of the log.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct VerifyQuery {
    /// A record that the log had once, as `number:hash`: it must be there and be the same.
    #[serde(default)]
    known: Option<String>,
}

async fn list(call: Call<Nothing, AuditQuery, NoBody>) -> Result<Found<Page<AuditEntry>>, Problem> {
    let AuditQuery { actor, action, object, limit, cursor } = call.query.clone();
    let window = ListQuery { limit, cursor, page: None }.window(|text| text.parse().ok())?;
    let filter = AuditFilter { actor, action, object };
    let revision = call.read(|fleet, _| fleet.revision()).await?;
    let _place = call.dig().await?;
    let page = call.api.audit().page(&filter, window.after, window.limit).await;
    let page = page.map_err(|error| match error {
        AuditError::History(error) => error.to_problem(),
        AuditError::Fault(fault) => Problem::new(Code::Internal, fault.to_string()),
    })?;
    let next_cursor = page.before.map(|number| number.to_string());
    Ok(Found(Page { items: page.entries, next_cursor, revision: revision.0 }))
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
