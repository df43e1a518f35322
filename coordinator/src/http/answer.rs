//! Answers: what a handler returns says which status and schema the API's description shows.

use axum::body::Body;
use axum::response::Response;
use http::{HeaderValue, StatusCode, header};
use novacron_protocol::api::{PROBLEM_MEDIA_TYPE, Problem};
use schemars::JsonSchema;
use schemars::r#gen::SchemaGenerator;
use schemars::schema::Schema;
use serde::Serialize;

use super::body::binary_schema;

const JSON: &str = "application/json";
const OCTETS: &str = "application/octet-stream";

/// What a handler answers when it could do what was asked.
pub trait Answer: Send + 'static {
    /// The status.
    const STATUS: StatusCode;
    /// The status in a sentence.
    const MEANING: &'static str;

    /// Headers that it has beside those of every answer.
    const HEADERS: &'static [Header] = &[];

    /// Media types with their schemas.
    fn describe(generator: &mut SchemaGenerator) -> Vec<(&'static str, Schema)>;

    /// The answer on the wire.
    fn into_response(self) -> Response;
}

/// An extension of answers that have places of their own, and take none among the requests of their principal.
#[derive(Debug, Clone, Copy)]
pub(super) struct HasPlace;

/// A header of an answer.
#[derive(Debug, Clone, Copy)]
pub struct Header {
    /// Its name.
    pub name: &'static str,
    /// What it says.
    pub meaning: &'static str,
}

macro_rules! json_answer {
    ($(#[$doc:meta])* $name:ident, $status:ident, $meaning:literal) => {
        $(#[$doc])*
        #[derive(Debug)]
        pub struct $name<T>(pub T);

        impl<T: Serialize + JsonSchema + Send + 'static> Answer for $name<T> {
            const STATUS: StatusCode = StatusCode::$status;
            const MEANING: &'static str = $meaning;

            fn describe(generator: &mut SchemaGenerator) -> Vec<(&'static str, Schema)> {
                vec![(JSON, generator.subschema_for::<T>())]
            }

            fn into_response(self) -> Response {
                json_response(StatusCode::$status, JSON, &self.0)
            }
        }
    };
}

json_answer! {
    /// 200: here it is.
    Found, OK, "As it stands."
}
json_answer! {
    /// 201: accepted into the fleet.
    Created, CREATED, "Accepted into the fleet; its state says how far it is."
}
json_answer! {
    /// 202: will be done.
    Accepted, ACCEPTED, "Accepted; its state says how far it is."
}

/// 204: done.
#[derive(Debug)]
pub struct Done;

impl Answer for Done {
    const STATUS: StatusCode = StatusCode::NO_CONTENT;
    const MEANING: &'static str = "Done.";

    fn describe(_: &mut SchemaGenerator) -> Vec<(&'static str, Schema)> {
        Vec::new()
    }

    fn into_response(self) -> Response {
        with_status(StatusCode::NO_CONTENT, Response::new(Body::empty()))
    }
}

/// 200: bytes as they come.
#[derive(Debug)]
pub struct OctetStream(pub Body);

impl Answer for OctetStream {
    const STATUS: StatusCode = StatusCode::OK;
    const MEANING: &'static str = "The bytes as they come.";

    fn describe(_: &mut SchemaGenerator) -> Vec<(&'static str, Schema)> {
        vec![(OCTETS, binary_schema())]
    }

    fn into_response(self) -> Response {
        with_media_type(OCTETS, Response::new(self.0))
    }
}

/// A value as JSON of some media type.
pub(super) fn json_response(
    status: StatusCode,
    media_type: &'static str,
    value: &impl Serialize,
) -> Response {
    match serde_json::to_vec(value) {
        Ok(bytes) => with_status(status, with_media_type(media_type, Response::new(bytes.into()))),
        Err(error) => {
            tracing::error!(%error, "an answer cannot be written as JSON");
            with_status(StatusCode::INTERNAL_SERVER_ERROR, Response::new(Body::empty()))
        }
    }
}

/// A problem document.
pub(super) fn problem_response(problem: &Problem) -> Response {
    let status = StatusCode::from_u16(problem.status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
    let mut response = json_response(status, PROBLEM_MEDIA_TYPE, problem);
    if status == StatusCode::UNAUTHORIZED {
        // RFC 9110 wants it said what would be taken.
        let challenge = HeaderValue::from_static("Bearer");
        response.headers_mut().insert(header::WWW_AUTHENTICATE, challenge);
    }
    if let Some(seconds) = problem.retry_after_seconds {
        response.headers_mut().insert(header::RETRY_AFTER, HeaderValue::from(seconds));
    }
    response
}

pub(super) fn with_media_type(media_type: &'static str, mut response: Response) -> Response {
    response.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static(media_type));
    response
}

fn with_status(status: StatusCode, mut response: Response) -> Response {
    *response.status_mut() = status;
    response
}
