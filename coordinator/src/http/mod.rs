//! The API that operators use: HTTPS, JSON, one file for each resource.
//!
//! It parses requests, lets `auth` decide who may, makes intents for `propose` and reads through `view`. **Absent
//! here**: mutable state, Raft, the outbox, and any decision about the fleet.
//!
//! | module | holds |
//! |---|---|
//! | [`routes`] [`route`] | the table of routes; router and description are both made from it |
//! | [`openapi`] | the description |
//! | [`parameters`] [`body`] [`answer`] [`lists`] `search` `weigh` | what goes in and comes out |
//! | `stale` | reads that may be behind |
//! | `call` [`trace`] | what a handler gets; the id of a request |
//! | `server` `connection` `stall` | the listener; connections, and those whose other end takes nothing |
//! | `shape` | what of a body is not as its schema says |
//! | `held` `unread` `leftover` | answers on their way, and not read; bodies that nobody read |
//! | `vms` `annotations` `console` `migrations` `batches` `nodes` `events` `audit` | the resources |
//! | `usage` `invoices` `rates` `ledger` | what machines used, and what it costs |
//! | `metrics` | what was measured, over time |
//! | `feed` `outlet` | streams of what is applied; streams and readers that do not read |
//! | `overview` `alerts` | the fleet in one document; what somebody has to look at |
//! | `cluster` `backup` `tokens` `health` | the cluster itself |
//! | `projects` `principals` `whoami` | whose machines are whose, and who may do what |

mod alerts;
mod annotations;
pub mod answer;
mod api;
mod audit;
mod backup;
mod batches;
pub mod body;
mod call;
mod cluster;
mod connection;
mod console;
mod events;
mod feed;
mod health;
mod held;
mod invoices;
mod ledger;
mod leftover;
pub mod lists;
mod metrics;
mod migrations;
mod networks;
mod nodes;
pub mod openapi;
mod outlet;
mod overview;
pub mod parameters;
mod principals;
mod projects;
mod rates;
mod regions;
pub mod route;
pub mod routes;
mod search;
mod secrets;
mod server;
mod shape;
mod snapshots;
mod stale;
mod stall;
mod tokens;
pub mod trace;
mod unread;
mod usage;
mod vms;
mod weigh;
mod whoami;

use std::collections::BTreeMap;
use std::sync::Arc;

use axum::Router;
use axum::extract::{Request, State};
use axum::middleware::from_fn_with_state;
use axum::response::Response;
use axum::routing::MethodRouter;
use http::{HeaderValue, Method, StatusCode, header};
use novacron_protocol::api::{Code, Problem};
use novacron_protocol::ids::RequestId;
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;

use crate::app::App;
use crate::state::Accepted;

pub use api::Api;
pub use openapi::openapi_document;

/// Serves the API on a listener until `shutdown`; returns when every connection is closed.
pub async fn serve(
    listener: TcpListener,
    tls: rustls::ServerConfig,
    app: App,
    shutdown: CancellationToken,
) {
    let watchers = app.watchers.clone();
    let api = Arc::new(Api::new(app.clone(), shutdown.clone()));
    server::serve(listener, Arc::new(tls), router(api), app, shutdown).await;
    watchers.ended().await;
}

/// The router: every route of the table, and a problem for everything else.
fn router(api: Arc<Api>) -> Router {
    let mut paths = BTreeMap::<&'static str, (MethodRouter<Arc<Api>>, Vec<Method>)>::new();
    for route in routes::table() {
        let (handlers, methods) = paths.entry(route.path).or_default();
        *handlers = std::mem::take(handlers).merge(route.handler);
        methods.push(route.method);
    }
    let mut router = Router::new();
    for (path, (handlers, methods)) in paths {
        let refuse = move |State(api), http| no_such_method(api, methods.clone(), http);
        router = router.route(path, handlers.fallback(refuse));
    }
    router
        .fallback(no_such_path)
        .with_state(Arc::clone(&api))
        .layer(from_fn_with_state(api, trace::trace))
}

async fn no_such_path(State(api): State<Arc<Api>>, http: Request) -> Response {
    if let Err(problem) = trace::of_stranger(&api, &http) {
        return refusal(&http, problem);
    }
    let path = trace::shown(http.uri().path(), trace::PATH_SHOWN);
    let detail =
        format!("there is nothing at {path}; {}/openapi.json says what there is", routes::PREFIX);
    refusal(&http, Problem::new(Code::NotFound, detail))
}

async fn no_such_method(api: Arc<Api>, allowed: Vec<Method>, http: Request) -> Response {
    if let Err(problem) = trace::of_stranger(&api, &http) {
        return refusal(&http, problem);
    }
    let allowed = allowed.iter().map(Method::as_str).collect::<Vec<_>>().join(", ");
    let asked = trace::shown(http.method().as_str(), trace::METHOD_SHOWN);
    let detail = format!("{asked} is not possible here; possible: {allowed}");
    // RFC 9110 wants this status; to a client it is one more request that cannot be.
    let status = StatusCode::METHOD_NOT_ALLOWED.as_u16();
    let problem = Problem { status, ..Problem::new(Code::InvalidRequest, detail) };
    let mut response = refusal(&http, problem);
    if let Ok(allowed) = HeaderValue::from_str(&allowed) {
        response.headers_mut().insert(header::ALLOW, allowed);
    }
    response
}

fn refusal(http: &Request, problem: Problem) -> Response {
    let request_id = http.extensions().get::<RequestId>().copied();
    answer::problem_response(&Problem { request_id, ..problem })
}

/// The state answered a command with something that does not belong to it: a fault of this program.
fn unexpected(wanted: &str, applied: &Accepted) -> Problem {
    tracing::error!(?applied, "a command about {wanted} got another answer");
    Problem::new(
        Code::Internal,
        "the coordinator gave itself an answer that it does not understand",
    )
}
