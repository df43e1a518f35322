//! A route: method and path, what goes in and what comes out, and the function that does it.
//!
//! Router and description are made from the same [`Route`] values. What goes in and out is not written down
//! beside the handler but taken from its types, so the description cannot say anything else than what is done.

use std::future::Future;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use axum::Extension;
use axum::extract::rejection::RawPathParamsRejection;
use axum::extract::{RawPathParams, Request, State};
use axum::response::Response;
use axum::routing::{MethodFilter, MethodRouter, on};
use http::{HeaderMap, Method, StatusCode, header};
use novacron_protocol::access::{Permission, Scope};
use novacron_protocol::api::{Code, Problem};
use novacron_protocol::ids::RequestId;
use novacron_protocol::time::Timestamp;
use novacron_transport::{Role, SubjectName};
use schemars::r#gen::SchemaGenerator;
use schemars::schema::Schema;

use super::Api;
use super::answer::{Answer, Header, problem_response};
use super::body::{BodyShape, RequestBody, collect};
use super::connection::Connection;
use super::held::{Holding, held, held_anyway};
use super::parameters::{Parameter, Parameters, Reader, parameters};
use super::stale::{self, Consistency, Stale};
use super::trace::Operation;
use super::{alerts, batches, migrations, projects, vms};
use crate::admission::RequestPlace;
use crate::auth::{Access, Caller, Grant, NotAllowed, Presented, Where};
use crate::metrics::SecurityRefusal;
use crate::state::Fleet;
use crate::switches::Part;

pub(super) use super::call::{Call, Freshness};

/// Until a handler has an answer or the beginning of one. Longer than any proposal or read is waited for.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(25);

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
    /// What there is to say beyond that; mostly nothing.
    pub about: &'static str,
    /// Who may call it.
    pub access: Access,
    /// Codes of the problems that it answers with, apart from those that any route may answer with.
    pub refusals: &'static [Code],
    /// Headers that it reads, beside those that every route does.
    pub(super) headers: &'static [HeaderParameter],
    /// Whether whoever asks may have it from any member as that has it.
    pub(super) may_be_stale: bool,
    /// What it belongs to, if that can be turned off.
    pub(super) part: Option<Part>,
    /// What goes in and out.
    pub(super) describe: fn(&mut SchemaGenerator) -> Shape,
    pub(super) handler: MethodRouter<Arc<Api>>,
}

/// A header that a route reads.
#[derive(Debug, Clone, Copy)]
pub(super) struct HeaderParameter {
    pub(super) name: &'static str,
    pub(super) meaning: &'static str,
}

/// What goes into a route and comes out.
pub(super) struct Shape {
    pub(super) path: Vec<Parameter>,
    pub(super) query: Vec<Parameter>,
    pub(super) body: Option<BodyShape>,
    pub(super) status: StatusCode,
    pub(super) meaning: &'static str,
    pub(super) headers: Vec<Header>,
    pub(super) content: Vec<(&'static str, Schema)>,
}

/// A route that does not say yet who may call it. Nothing but that can be done with it, so no route can leave it out.
pub(super) struct Unguarded {
    method: Method,
    filter: MethodFilter,
    path: &'static str,
    operation: &'static str,
    summary: &'static str,
}

/// A route without its handler.
pub(super) struct Draft {
    route: Unguarded,
    about: &'static str,
    access: Access,
    refusals: &'static [Code],
    headers: &'static [HeaderParameter],
    may_be_stale: bool,
    part: Option<Part>,
}

pub(super) fn get(path: &'static str, operation: &'static str, summary: &'static str) -> Unguarded {
    Unguarded { method: Method::GET, filter: MethodFilter::GET, path, operation, summary }
}

pub(super) fn post(
    path: &'static str,
    operation: &'static str,
    summary: &'static str,
) -> Unguarded {
    Unguarded { method: Method::POST, filter: MethodFilter::POST, path, operation, summary }
}

pub(super) fn put(path: &'static str, operation: &'static str, summary: &'static str) -> Unguarded {
    Unguarded { method: Method::PUT, filter: MethodFilter::PUT, path, operation, summary }
}

pub(super) fn delete(
    path: &'static str,
    operation: &'static str,
    summary: &'static str,
) -> Unguarded {
    Unguarded { method: Method::DELETE, filter: MethodFilter::DELETE, path, operation, summary }
}

impl Unguarded {
    /// For those who have a permission there.
    pub(super) fn needs(self, permission: Permission, place: Where) -> Draft {
        self.draft(Access::Needs(permission, place))
    }

    /// For everybody whom the fleet knows.
    pub(super) fn for_principals(self) -> Draft {
        self.draft(Access::Principals)
    }

    /// For anybody who can connect.
    pub(super) fn for_anybody(self) -> Draft {
        self.draft(Access::Anybody)
    }

    fn draft(self, access: Access) -> Draft {
        Draft {
            route: self,
            about: "",
            access,
            refusals: &[],
            headers: &[],
            may_be_stale: false,
            part: None,
        }
    }
}

impl Draft {
    /// What the description says beyond the summary.
    pub(super) fn about(self, about: &'static str) -> Self {
        Self { about, ..self }
    }

    pub(super) fn refuses(self, refusals: &'static [Code]) -> Self {
        Self { refusals, ..self }
    }

    /// Its handler looks at headers.
    pub(super) fn takes(self, headers: &'static [HeaderParameter]) -> Self {
        Self { headers, ..self }
    }

    /// Whoever asks may have it as the member has it that answers. Its handler reads through [`Call::read`] only.
    pub(super) fn may_be_stale(self) -> Self {
        Self { may_be_stale: true, ..self }
    }

    /// It answers only where this is not turned off.
    pub(super) fn part_of(self, part: Part) -> Self {
        Self { part: Some(part), ..self }
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
        let route = self.route;
        let entry = Arc::new(Entry {
            operation: route.operation,
            access: self.access,
            may_be_stale: self.may_be_stale,
            part: self.part,
            path: Reader::of::<P>(),
            query: Reader::of::<Q>(),
        });
        let run = move |State(api),
                        Extension(caller),
                        Extension(connection),
                        Extension(request),
                        path,
                        http| {
            let (entry, handle) = (Arc::clone(&entry), handle.clone());
            async move {
                let caller = Calling { api, caller, connection, request };
                answer(&entry, caller, path, http, handle).await
            }
        };
        Route {
            method: route.method,
            path: route.path,
            operation: route.operation,
            summary: route.summary,
            about: self.about,
            access: self.access,
            refusals: self.refusals,
            headers: self.headers,
            may_be_stale: self.may_be_stale,
            part: self.part,
            describe: shape::<P, Q, B, A>,
            handler: on(route.filter, run),
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
        headers: A::HEADERS.to_vec(),
        content: A::describe(generator),
    }
}

/// The texts in the place of `{names}`, unless they are no UTF-8.
type PathTexts = Result<RawPathParams, RawPathParamsRejection>;

/// What a route checks and reads before its handler runs.
struct Entry {
    operation: &'static str,
    access: Access,
    may_be_stale: bool,
    part: Option<Part>,
    path: Reader,
    query: Reader,
}

/// Who calls what, before anything of the request is read.
struct Calling {
    api: Arc<Api>,
    caller: Caller,
    connection: Connection,
    request: RequestId,
}

/// A request that was opened.
type Opened<P, Q, B> = (Call<P, Q, B>, Option<Stale>);

/// A request's place among those of its principal, from when it is known until the answer is gone.
struct Standing {
    place: RequestPlace,
    asker: SubjectName,
}

impl Calling {
    /// Who asks, and its place among those that are served. Whoever is nobody, as far as this member knows, uses up what
    /// its address has before the member catches up: that asks a quorum.
    async fn enter(&self, presented: &Presented) -> Result<RequestPlace, Problem> {
        let (admission, now) = (&self.api.app.admission, self.api.now());
        let identify = |fleet: &Fleet| Grant::identify(fleet, presented, now);
        let principal = match self.api.glance(identify) {
            Ok(known) => known,
            Err(_) => {
                self.stranger()?;
                self.api.read(identify).await??
            }
        };
        self.connection.visit.is_of(Role::Operator, &principal);
        Ok(admission.request(&principal)?)
    }

    /// A request that proves no identity.
    fn stranger(&self) -> Result<(), Problem> {
        Ok(self.api.app.admission.stranger(self.caller.address)?)
    }

    /// Has the fleet judge the caller, as this member knows it. Before it is refused the member catches up: it may have
    /// been made a principal a moment ago, elsewhere.
    async fn judge<T>(
        &self,
        judge: impl Fn(&Fleet, Timestamp) -> Result<T, Problem>,
    ) -> Result<T, Problem> {
        let now = self.api.now();
        self.api.foresee(|fleet| judge(fleet, now)).await
    }
}

impl Entry {
    /// Lets the caller in, if the route's permission is its own somewhere.
    async fn admit(
        &self,
        calling: &Calling,
        head: &HeaderMap,
    ) -> Result<Option<(Grant, RequestPlace)>, Problem> {
        let permission = match self.access {
            Access::Anybody => return calling.stranger().map(|()| None),
            Access::Principals => None,
            Access::Needs(permission, _) => Some(permission),
        };
        let presented = match Presented::by(&calling.caller, head.get(header::AUTHORIZATION)) {
            Ok(presented) => presented,
            Err(refusal) => return Err(calling.stranger().err().unwrap_or(refusal.into())),
        };
        let place = calling.enter(&presented).await?;
        let address = calling.caller.address;
        let judged =
            calling.judge(|fleet, now| Ok(Grant::of(fleet, &presented, address, permission, now)?));
        Ok(Some((judged.await?, place)))
    }

    /// Refuses who may not in the place that the path names. What is not there is left to the handler.
    async fn locate(
        &self,
        calling: &Calling,
        grant: Option<&Grant>,
        texts: &[(String, String)],
    ) -> Result<(), Problem> {
        let (Some(grant), Access::Needs(_, place)) = (grant, self.access) else { return Ok(()) };
        let text = |name: &str| {
            let found = texts.iter().find(|(given, _)| given == name);
            found.map(|(_, text)| text.as_str()).unwrap_or_default()
        };
        let judged = calling.judge(|fleet, now| {
            let sight = grant.sight(fleet, now)?;
            match place {
                Where::Somewhere => Ok(()),
                Where::Fleet => Ok(sight.check(Scope::Fleet)?),
                Where::Machine => vms::check(fleet, &sight, text("vm")),
                Where::Migration => migrations::check(fleet, &sight, text("migration")),
                Where::Batch => batches::check(fleet, &sight, text("batch")),
                Where::Project => projects::check(&sight, text("project")),
                Where::Alert => alerts::check(fleet, &sight, text("alert")),
            }
        });
        judged.await
    }

    /// Reads a request, and says in `standing` whose it is as soon as that is known. Who the caller is comes first:
    /// strangers learn nothing about what would be right.
    async fn open<P: Parameters, Q: Parameters, B: RequestBody>(
        &self,
        calling: Calling,
        path: PathTexts,
        http: Request,
        standing: &mut Option<Standing>,
    ) -> Result<Opened<P, Q, B>, Problem> {
        let (grant, place) = self.admit(&calling, http.headers()).await?.unzip();
        *standing = grant
            .as_ref()
            .zip(place)
            .map(|(grant, place)| Standing { place, asker: grant.asker().name.clone() });
        if let Some(part) = self.part {
            calling.api.app.switches.check(part)?;
        }
        let path = path.map_err(|error| Problem::new(Code::InvalidRequest, error.body_text()))?;
        let pairs = path.iter().map(|(name, text)| (name.to_owned(), text.to_owned()));
        let pairs: Vec<_> = pairs.collect();
        self.locate(&calling, grant.as_ref(), &pairs).await?;
        let path = self.path.read(pairs)?;
        let mut pairs: Vec<_> = query_pairs(http.uri().query().unwrap_or_default()).collect();
        let consistency = match self.may_be_stale {
            true => Consistency::take_from(&mut pairs)?,
            false => Consistency::Linearizable,
        };
        let query = self.query.read(pairs)?;
        let (head, body) = http.into_parts();
        let within = calling.api.app.admission.limits().body_timeout();
        let mut kept =
            grant.as_ref().map(|grant| calling.api.app.admission.body(&grant.asker().name));
        let bytes = collect(&head.headers, body, B::BYTES_MAX, within, kept.as_mut()).await?;
        let body = B::read(&bytes, &head.headers)?;
        let Calling { api, request, .. } = calling;
        let (stale, freshness) = match consistency {
            Consistency::Linearizable => (None, Freshness::default()),
            Consistency::Stale(bound) => {
                (Some(bound.check(&api.app.view)?), Freshness::not_needed())
            }
        };
        let headers = head.headers;
        Ok((Call { api, grant, request, path, query, body, headers, freshness }, stale))
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
    let (refused, unread) =
        (Refused::before(entry, &calling, &http), calling.connection.unread.clone());
    let admission = calling.api.app.admission.clone();
    let mut standing = None;
    let answer = async {
        let (call, stale) = entry.open(calling, path, http, &mut standing).await?;
        Ok(stale::marked(handle(call).await?.into_response(), stale))
    };
    let answer = tokio::time::timeout(ANSWER_TIMEOUT, answer).await;
    let answer = answer.unwrap_or_else(|_| Err(too_late(is_read)));
    let holding = standing
        .map(|Standing { place, asker }| Holding::of(place, admission.answer(&asker), !is_read));
    // A refusal names all that is wrong, and is as long: it keeps its place, too, until it is read.
    let refuse = |problem: Problem, holding: Option<Holding>| {
        refused.note(&problem);
        let response = problem_response(&Problem { request_id: Some(id), ..problem });
        held_anyway(response, holding, &unread)
    };
    let mut response = match answer {
        Ok(response) => held(response, holding, &unread)
            .unwrap_or_else(|too_much| refuse(too_much.into(), None)),
        Err(problem) => refuse(problem, holding),
    };
    response.extensions_mut().insert(Operation(entry.operation));
    response
}

/// Who asked for what, in case it is refused. Every refusal of the API passes here.
struct Refused {
    api: Arc<Api>,
    operation: &'static str,
    shown: Result<Presented, NotAllowed>,
    address: Option<IpAddr>,
}

impl Refused {
    fn before(entry: &Entry, calling: &Calling, http: &Request) -> Self {
        let shown = Presented::by(&calling.caller, http.headers().get(header::AUTHORIZATION));
        let (api, address) = (Arc::clone(&calling.api), calling.caller.address);
        Self { api, operation: entry.operation, shown, address }
    }

    fn note(&self, problem: &Problem) {
        self.api.count_refusal(problem.code, || self.why());
        if SecurityRefusal::of(problem.code).is_none() {
            return;
        }
        let who = match &self.shown {
            Ok(presented) => presented.to_string(),
            Err(NotAllowed::Role(role)) => format!("a certificate of role {role}"),
            Err(_) => "nobody".to_owned(),
        };
        let Self { operation, address, .. } = self;
        self.api.refused(operation, &who, *address, problem.code);
        let address = address.map(tracing::field::display);
        // Not a warning: anybody who can connect could fill the log with them.
        tracing::info!(operation, who, address, detail = problem.detail, "refused");
    }

    /// Why who asks is nobody, if it is. An answer has only a code, so it is asked again: of the fleet as this member has it,
    /// which has seen what the refusal was made of.
    fn why(&self) -> Option<NotAllowed> {
        let presented = match &self.shown {
            Ok(presented) => presented,
            Err(refusal) => return Some(refusal.clone()),
        };
        let now = self.api.now();
        self.api.glance(|fleet| Grant::identify(fleet, presented, now)).err()
    }
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
