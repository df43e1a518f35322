//! The request id: in the span of everything that is done for a request, in the answer, and in the replicated
//! state, where it makes a repeated write harmless.

use std::borrow::Cow;
use std::sync::Arc;
use std::time::Instant;

use axum::extract::{Request, State};
use axum::middleware::Next;
use axum::response::Response;
use http::{HeaderMap, HeaderValue};
use novacron_protocol::api::{Code, Problem};
use novacron_protocol::ids::RequestId;
use tracing::Instrument;

use super::Api;
use super::answer::problem_response;
use super::leftover::Leftover;
use crate::auth::Caller;

/// The header with which a client names its request.
pub const IDEMPOTENCY_KEY: &str = "idempotency-key";
/// The header in which every answer says which request it answers.
pub const REQUEST_ID: &str = "x-request-id";

/// Bytes of a request's path, query, and names and values of its header fields.
pub(super) const HEAD_BYTES_MAX: usize = 32 * 1024;
/// Characters of a path and of a method that logs and answers repeat. The longest path of a route has some 60, without names.
pub(super) const PATH_SHOWN: usize = 256;
pub(super) const METHOD_SHOWN: usize = 16;

/// Header fields of a request.
const HEAD_FIELDS_MAX: usize = 64;

/// Which operation of the table gave an answer; an extension of the answer.
#[derive(Debug, Clone, Copy)]
pub(super) struct Operation(pub(super) &'static str);

/// Names each request, runs it in a span of that name and says the name in the answer.
pub(super) async fn trace(
    State(api): State<Arc<Api>>,
    mut request: Request,
    next: Next,
) -> Response {
    let began = Instant::now();
    let (id, refusal) = match named(request.headers()) {
        Ok(id) => (id, None),
        Err(problem) => (drawn(), Some(problem)),
    };
    let refusal = refusal.or_else(|| check_head(&request).err());
    let refusal = refusal.map(|refusal| of_stranger(&api, &request).err().unwrap_or(refusal));
    let (is_read, method) =
        (request.method().is_safe(), shown(request.method().as_str(), METHOD_SHOWN));
    let path = shown(request.uri().path(), PATH_SHOWN);
    let span = tracing::info_span!("request", request = %id, %method, %path);
    request.extensions_mut().insert(id);
    let (leftover, request) = Leftover::of(request);
    let answer = async move {
        match refusal {
            Some(problem) => {
                drop(request);
                problem_response(&Problem { request_id: Some(id), ..problem })
            }
            None => next.run(request).await,
        }
    };
    let mut response = answer.instrument(span.clone()).await;
    leftover.drain().await;
    if let Ok(value) = HeaderValue::from_str(&id.to_string()) {
        response.headers_mut().insert(REQUEST_ID, value);
    }
    let operation = response.extensions().get::<Operation>().map(|operation| operation.0);
    api.answered(operation, response.status(), began.elapsed());
    span.in_scope(|| log(is_read || operation.is_none(), &response, began));
    response
}

/// Refuses heads that are larger than any that means something. What is much larger does not come so far.
fn check_head(request: &Request) -> Result<(), Problem> {
    let (headers, path) = (request.headers(), request.uri().path_and_query());
    let field =
        |(name, value): (&http::HeaderName, &HeaderValue)| name.as_str().len() + value.len();
    let bytes =
        headers.iter().map(field).sum::<usize>() + path.map_or(0, |text| text.as_str().len());
    if bytes <= HEAD_BYTES_MAX && headers.len() <= HEAD_FIELDS_MAX {
        return Ok(());
    }
    let text = format!(
        "the head has {bytes} bytes in {} fields; at most {HEAD_BYTES_MAX} in {HEAD_FIELDS_MAX}",
        headers.len()
    );
    Err(Problem::new(Code::HeadTooLarge, text))
}

/// Reads are many and change nothing, and what there is not is asked for by anybody; a write is part of the record.
fn log(is_minor: bool, response: &Response, began: Instant) {
    let (status, elapsed_ms) = (response.status().as_u16(), began.elapsed().as_millis());
    match is_minor {
        true => tracing::debug!(status, elapsed_ms, "answered"),
        false => tracing::info!(status, elapsed_ms, "answered"),
    }
}

/// A request that no route answers proves no identity: it uses up what its address has.
pub(super) fn of_stranger(api: &Api, request: &Request) -> Result<(), Problem> {
    let address = request.extensions().get::<Caller>().and_then(|caller| caller.address);
    Ok(api.app.admission.stranger(address)?)
}

/// A text of a client as logs and answers repeat it: cut, and how long it was.
pub(super) fn shown(text: &str, chars_max: usize) -> Cow<'_, str> {
    match text.char_indices().nth(chars_max) {
        None => Cow::Borrowed(text),
        Some((end, _)) => Cow::Owned(format!("{}… ({} bytes)", &text[..end], text.len())),
    }
}

/// The name that the client gave the request, or a new one.
fn named(headers: &HeaderMap) -> Result<RequestId, Problem> {
    let Some(key) = headers.get(IDEMPOTENCY_KEY) else { return Ok(drawn()) };
    let parsed = key.to_str().ok().and_then(|text| text.parse().ok());
    parsed.ok_or_else(|| {
        let detail = "Idempotency-Key: a UUID is needed, new for each request and the same when it is repeated";
        Problem::new(Code::InvalidRequest, detail).about("Idempotency-Key")
    })
}

fn drawn() -> RequestId {
    RequestId(uuid::Builder::from_random_bytes(rand::random()).into_uuid())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_client_sends_is_repeated_cut_and_with_its_length() {
        assert_eq!(shown("/api/v1/vms", PATH_SHOWN), "/api/v1/vms");
        assert_eq!(shown(&"é".repeat(5), 4), "éééé… (10 bytes)");
        assert!(shown(&"x".repeat(HEAD_BYTES_MAX), PATH_SHOWN).len() < 300);
    }

    #[test]
    fn a_key_is_a_uuid() {
        let mut headers = HeaderMap::new();
        assert_ne!(named(&headers).unwrap(), named(&headers).unwrap());
        let key = "7f3c1a52-5e4e-4b8f-9d0a-0d3b9f1c2e11";
        headers.insert(IDEMPOTENCY_KEY, key.parse().unwrap());
        assert_eq!(named(&headers).unwrap().to_string(), key);
        headers.insert(IDEMPOTENCY_KEY, "again".parse().unwrap());
        assert_eq!(named(&headers).unwrap_err().field.as_deref(), Some("Idempotency-Key"));
    }
}
