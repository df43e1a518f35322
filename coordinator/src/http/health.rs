//! What needs no certificate: whether this member lives, whether it can be asked, and the API's description.

use std::sync::LazyLock;

use novacron_protocol::api::{Code, Problem};
use schemars::JsonSchema;
use serde::Serialize;
use serde_json::{Map, Value};

use super::answer::Found;
use super::body::NoBody;
use super::openapi::openapi_document;
use super::parameters::Nothing;
use super::route::{Call, Route, get};

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
struct Description(&'static Map<String, Value>);

async fn is_alive(_: Call<Nothing, Nothing, NoBody>) -> Result<Found<Health>, Problem> {
    Ok(Found(Health { status: "ok" }))
}

async fn is_ready(call: Call<Nothing, Nothing, NoBody>) -> Result<Found<Health>, Problem> {
    call.api.ready().await?;
    Ok(Found(Health { status: "ok" }))
}

async fn description(_: Call<Nothing, Nothing, NoBody>) -> Result<Found<Description>, Problem> {
    // Made once: anybody may ask for it.
    static DOCUMENT: LazyLock<Value> = LazyLock::new(openapi_document);
    match &*DOCUMENT {
        Value::Object(document) => Ok(Found(Description(document))),
        other => Err(Problem::new(Code::Internal, format!("the description is {other}"))),
    }
}
