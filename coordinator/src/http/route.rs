//! A route: method and path, what goes in and what comes out, and the function that does it.
//!
//! Router and description are made from the same [`Route`] values. What goes in and out is not written down
//! beside the handler but taken from its types, so the description cannot say anything else than what is done.

use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use axum::Extension;
use axum::extract::rejection::RawPathParamsRejection;
use axum::extract::{RawPathParams, Request, State};
use axum::response::Response;
use axum::routing::{MethodFilter, MethodRouter, on};
use http::{Method, StatusCode};
use novacron_protocol::api::{Code, Problem};
use novacron_protocol::ids::RequestId;
use schemars::r#gen::SchemaGenerator;
use schemars::schema::Schema;

use super::Api;
use super::answer::{Answer, problem_response};
use super::body::{BodyShape, RequestBody, collect};
use super::parameters::{Parameter, Parameters, Reader, parameters};
use super::trace::Operation;
use crate::auth::{Authorized, Caller, authorize};

/// Until a handler has an answer or the beginning of one. Longer than any proposal or read is waited for.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(25);

/// Who may call a route.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Access {
    /// Anybody who can connect.
    Anybody,
    /// Operators.
    Operators,
}

/// A request as a handler gets it: parsed, and its caller known.
pub struct Call<P, Q, B> {
    /// What the API is made of.
    pub api: Arc<Api>,
    /// Who calls.
    pub caller: Caller,
    /// The request's name.
    pub request: RequestId,
    /// Parameters in the path.
    pub path: P,
    /// Parameters in the query.
    pub query: Q,
    /// The body.
    pub body: B,
}

impl<P, Q, B> Call<P, Q, B> {
    /// A value that the caller asks for, if it may.
    pub(super) fn authorize<T>(&self, value: T) -> Result<Authorized<T>, Problem> {
        Ok(authorize(&self.caller, value)?)
    }
}

/// One route.
pub struct Route {
    /// Method.
    pub method: Method,
    /// Path with `{names}`.
    pub path: &'static str,
    /// Its name in the description, unique.
    pub operation: &'static str,
    /// What it does, in one line.
    pub summary: &'static str,
    /// Who may call it.
    pub access: Access,
    /// Codes of the problems that it answers with, apart from those that any route may answer with.
    pub refusals: &'static [Code],
    /// What goes in and out.
    pub(super) describe: fn(&mut SchemaGenerator) -> Shape,
    pub(super) handler: MethodRouter<Arc<Api>>,
}

/// What goes into a route and comes out.
pub(super) struct Shape {
    pub(super) path: Vec<Parameter>,
    pub(super) query: Vec<Parameter>,
    pub(super) body: Option<BodyShape>,
    pub(super) status: StatusCode,
    pub(super) meaning: &'static str,
    pub(super) content: Vec<(&'static str, Schema)>,
}

/// A route without its handler.
pub(super) struct Draft {
    method: Method,
    filter: MethodFilter,
    path: &'static str,
    operation: &'static str,
    summary: &'static str,
    access: Access,
    refusals: &'static [Code],
}

pub(super) fn get(path: &'static str, operation: &'static str, summary: &'static str) -> Draft {
    Draft::new(Method::GET, MethodFilter::GET, path, operation, summary)
}

pub(super) fn post(path: &'static str, operation: &'static str, summary: &'static str) -> Draft {
    Draft::new(Method::POST, MethodFilter::POST, path, operation, summary)
}

pub(super) fn delete(path: &'static str, operation: &'static str, summary: &'static str) -> Draft {
    Draft::new(Method::DELETE, MethodFilter::DELETE, path, operation, summary)
}

impl Draft {
    fn new(
        method: Method,
        filter: MethodFilter,
        path: &'static str,
        operation: &'static str,
        summary: &'static str,
    ) -> Self {
        Self { method, filter, path, operation, summary, access: Access::Operators, refusals: &[] }
    }

    pub(super) fn for_anybody(self) -> Self {
        Self { access: Access::Anybody, ..self }
    }

    pub(super) fn refuses(self, refusals: &'static [Code]) -> Self {
        Self { refusals, ..self }
    }

    /// The route with the function that does it.
    pub(super) fn to<P, Q, B, A, F, Fut>(self, handle: F) -> Route
    where
        P: Parameters,
        Q: Parameters,
        B: RequestBody,
        A: Answer,
        F: Fn(Call<P, Q, B>) -> Fut + Clone + Send + Sync + 'static,
        Fut: Future<Output = Result<A, Problem>> + Send + 'static,
    {
        let entry = Arc::new(Entry {
            operation: self.operation,
            access: self.access,
            path: Reader::of::<P>(),
            query: Reader::of::<Q>(),
        });
        let run = move |State(api), Extension(caller), Extension(request), path, http| {
            let (entry, handle) = (Arc::clone(&entry), handle.clone());
            async move {
                let caller = Calling { api, caller, request };
                answer(&entry, caller, path, http, handle).await
            }
        };
        Route {
            method: self.method,
            path: self.path,
            operation: self.operation,
            summary: self.summary,
            access: self.access,
            refusals: self.refusals,
            describe: shape::<P, Q, B, A>,
            handler: on(self.filter, run),
        }
    }
}

fn shape<P: Parameters, Q: Parameters, B: RequestBody, A: Answer>(
    generator: &mut SchemaGenerator,
) -> Shape {
    Shape {
        path: parameters::<P>(generator),
        query: parameters::<Q>(generator),
        body: B::describe(generator),
        status: A::STATUS,
        meaning: A::MEANING,
        content: A::describe(generator),
    }
}

/// The texts in the place of `{names}`, unless they are no UTF-8.
type PathTexts = Result<RawPathParams, RawPathParamsRejection>;

/// What a route checks and reads before its handler runs.
struct Entry {
    operation: &'static str,
    access: Access,
    path: Reader,
    query: Reader,
}

/// Who calls what, before anything of the request is read.
struct Calling {
    api: Arc<Api>,
    caller: Caller,
    request: RequestId,
}

impl Entry {
    /// Reads a request. Who the caller is comes first: strangers learn nothing about what would be right.
    async fn open<P: Parameters, Q: Parameters, B: RequestBody>(
        &self,
        calling: Calling,
        path: PathTexts,
        http: Request,
    ) -> Result<Call<P, Q, B>, Problem> {
        if self.access == Access::Operators {
            authorize(&calling.caller, ())?;
        }
        let path = path.map_err(|error| Problem::new(Code::InvalidRequest, error.body_text()))?;
        let pairs = path.iter().map(|(name, text)| (name.to_owned(), text.to_owned()));
        let path = self.path.read(pairs)?;
        let query = self.query.read(query_pairs(http.uri().query().unwrap_or_default()))?;
        let (head, body) = http.into_parts();
        let bytes = collect(&head.headers, body).await?;
        let body = B::read(&bytes, &head.headers)?;
        let Calling { api, caller, request } = calling;
        Ok(Call { api, caller, request, path, query, body })
    }
}

async fn answer<P, Q, B, A, F, Fut>(
    entry: &Entry,
    calling: Calling,
    path: PathTexts,
    http: Request,
    handle: F,
) -> Response
where
    P: Parameters,
    Q: Parameters,
    B: RequestBody,
    A: Answer,
    F: Fn(Call<P, Q, B>) -> Fut,
    Fut: Future<Output = Result<A, Problem>>,
{
    let (id, is_read) = (calling.request, http.method().is_safe());
    let answer = async { handle(entry.open(calling, path, http).await?).await };
    let answer = tokio::time::timeout(ANSWER_TIMEOUT, answer).await;
    let mut response = match answer.unwrap_or_else(|_| Err(too_late(is_read))) {
        Ok(answer) => answer.into_response(),
        Err(problem) => problem_response(&Problem { request_id: Some(id), ..problem }),
    };
    response.extensions_mut().insert(Operation(entry.operation));
    response
}

fn too_late(is_read: bool) -> Problem {
    let seconds = ANSWER_TIMEOUT.as_secs();
    match is_read {
        true => Problem::new(Code::Unavailable, format!("no answer within {seconds} s")),
        false => Problem::new(
            Code::OutcomeUnknown,
            format!(
                "no answer within {seconds} s; repeat the request with the same Idempotency-Key"
            ),
        ),
    }
}

fn query_pairs(query: &str) -> impl Iterator<Item = (String, String)> + '_ {
    form_urlencoded::parse(query.as_bytes())
        .map(|(name, text)| (name.into_owned(), text.into_owned()))
}
