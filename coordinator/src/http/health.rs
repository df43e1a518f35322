//! What needs no certificate: whether this member lives, whether it can be asked, and the API's description.

use std::sync::LazyLock;

use axum::body::Body;
use axum::response::Response;
use http::StatusCode;
use novacron_protocol::api::{Code, Problem};
use schemars::JsonSchema;
use schemars::r#gen::SchemaGenerator;
use schemars::schema::Schema;
use serde::Serialize;
use serde_json::{Map, Value};

use super::answer::{Answer, Found, with_media_type};
use super::body::NoBody;
use super::openapi::openapi_document;
use super::parameters::Nothing;
use super::route::{Call, Route, get};

const JSON: &str = "application/json";

pub(super) fn routes() -> Vec<Route> {
    vec![
        get("/healthz", "isAlive", "Whether this coordinator lives").for_anybody().to(is_alive),
        get("/readyz", "isReady", "Whether this coordinator can answer: whether there is a quorum")
            .for_anybody()
            .refuses(&[Code::Unavailable])
            .to(is_ready),
        get("/api/v1/openapi.json", "getOpenapi", "This description").for_anybody().to(description),
    ]
}

/// How this member stands.
#[derive(Debug, Serialize, JsonSchema)]
struct Health {
    /// `ok`.
    status: &'static str,
}

/// A JSON object whose form another specification says.
#[derive(Debug, Serialize, JsonSchema)]
#[serde(transparent)]
struct Description(Map<String, Value>);

/// The description as text.
struct Text(&'static str);

impl Answer for Text {
    const STATUS: StatusCode = StatusCode::OK;
    const MEANING: &'static str = "As it stands.";

    fn describe(generator: &mut SchemaGenerator) -> Vec<(&'static str, Schema)> {
        vec![(JSON, generator.subschema_for::<Description>())]
    }

    fn into_response(self) -> Response {
        with_media_type(JSON, Response::new(Body::from(self.0)))
    }
}

async fn is_alive(_: Call<Nothing, Nothing, NoBody>) -> Result<Found<Health>, Problem> {
    Ok(Found(Health { status: "ok" }))
}

async fn is_ready(call: Call<Nothing, Nothing, NoBody>) -> Result<Found<Health>, Problem> {
    call.api.ready().await?;
    Ok(Found(Health { status: "ok" }))
}

async fn description(_: Call<Nothing, Nothing, NoBody>) -> Result<Text, Problem> {
    // Made and written once: anybody may ask for it, and all who do not read it share it.
    static DOCUMENT: LazyLock<String> = LazyLock::new(|| openapi_document().to_string());
    Ok(Text(&DOCUMENT))
}
