//! What projects owe for a month, as JSON or CSV.

use axum::body::Body;
use axum::response::Response;
use bytes::Bytes;
use http::{HeaderMap, StatusCode, header};
use novacron_protocol::access::Permission;
use novacron_protocol::api::{Code, Invoice, Problem};
use novacron_protocol::ids::ProjectName;
use schemars::JsonSchema;
use schemars::r#gen::SchemaGenerator;
use schemars::schema::Schema;
use serde::Deserialize;

use super::answer::{Answer, json_response, with_media_type};
use super::body::{BodyShape, NoBody, RequestBody};
use super::route::{Call, Route, get};
use super::usage;
use crate::auth::Where;
use crate::ledger::allocation::check_keys;
use crate::ledger::csv;
use crate::ledger::invoice::{InvoiceError, InvoiceFilter};

const JSON: &str = "application/json";
const CSV: &str = "text/csv; charset=utf-8";

pub(super) fn routes() -> Vec<Route> {
    vec![
        get("/api/v1/invoices/{period}", "getInvoice", "Show what projects owe for a month")
            .needs(Permission::LedgerRead, Where::Somewhere)
            .about(usage::OWN_ADDITION)
            .to(show),
    ]
}

/// Which month.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct InvoicePath {
    /// The month (UTC), as `2026-11`.
    period: String,
}

/// Which lines, and how.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct InvoiceQuery {
    /// Only this project's.
    #[serde(default)]
    project: Option<ProjectName>,
    /// Split each line by the values of this label; may be given up to four times.
    #[serde(default)]
    allocate: Vec<String>,
    /// `json` or `csv`; as the header `Accept` says unless said.
    #[serde(default)]
    format: Option<Format>,
}

/// The form of an invoice.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
enum Format {
    /// For programs.
    Json,
    /// For spreadsheets.
    Csv,
}

/// No body, and the form that the client prefers.
struct Accepts(Format);

impl RequestBody for Accepts {
    fn describe(generator: &mut SchemaGenerator) -> Option<BodyShape> {
        NoBody::describe(generator)
    }

    fn read(bytes: &Bytes, headers: &HeaderMap) -> Result<Self, Problem> {
        NoBody::read(bytes, headers)?;
        let accepted = headers.get(header::ACCEPT).and_then(|value| value.to_str().ok());
        let first = accepted.unwrap_or_default().split([',', ';']).next().unwrap_or_default();
        let is_csv = first.trim().eq_ignore_ascii_case("text/csv");
        Ok(Self(if is_csv { Format::Csv } else { Format::Json }))
    }
}

/// An invoice in one of its forms.
enum Shown {
    Json(Box<Invoice>),
    Csv(String),
}

impl Answer for Shown {
    const STATUS: StatusCode = StatusCode::OK;
    const MEANING: &'static str = "As it stands; final if all windows of the month are sealed.";

    fn describe(generator: &mut SchemaGenerator) -> Vec<(&'static str, Schema)> {
        vec![
            (JSON, generator.subschema_for::<Invoice>()),
            ("text/csv", generator.subschema_for::<String>()),
        ]
    }

    fn into_response(self) -> Response {
        match self {
            Self::Json(invoice) => json_response(StatusCode::OK, JSON, &invoice),
            Self::Csv(text) => with_media_type(CSV, Response::new(Body::from(text))),
        }
    }
}

async fn show(call: Call<InvoicePath, InvoiceQuery, Accepts>) -> Result<Shown, Problem> {
    let InvoiceQuery { project, allocate, format } = call.query.clone();
    check_keys(&allocate).map_err(|error| {
        let text = format!("allocate: {error}");
        Problem::new(Code::InvalidRequest, text).about("allocate")
    })?;
    let within = call.read(|_, sight| usage::readable(sight, project.as_ref())).await??;
    let filter = InvoiceFilter { within: Some(within), project, allocate };
    let month = call.path.period.clone();
    let _place = call.dig().await?;
    let invoice = call.api.ledger().run(move |ledger| ledger.invoice(&month, &filter)).await;
    let invoice = invoice.map_err(|error| match error {
        InvoiceError::Period(error) => usage::invalid("period", &error),
        InvoiceError::Ledger(error) => error.to_problem(),
    })?;
    Ok(match format.unwrap_or(call.body.0) {
        Format::Json => Shown::Json(Box::new(invoice)),
        Format::Csv => Shown::Csv(csv::of(&invoice)),
    })
}
