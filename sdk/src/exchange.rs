//! One request, sent until a coordinator answers it.
//!
//! Coordinators are tried in turn, beginning with the one that answered last. A request is sent again if it
//! cannot have had an effect, or if sending it twice has the effect of sending it once: reads, and writes, which
//! carry the same `Idempotency-Key` in every attempt and are answered from the replicated state. While every
//! coordinator is down or without a quorum, rounds are repeated with growing pauses until the patience ends.

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use http::request::Builder;
use http::{HeaderValue, Method, Response, StatusCode, Uri, header};
use novacron_protocol::api::{Code, Problem};
use novacron_protocol::ids::RequestId;
use serde::de::DeserializeOwned;
use ureq::unversioned::resolver::DefaultResolver;
use ureq::unversioned::transport::{Connector, TcpConnector};
use ureq::{Agent, AsSendBody, Body, BodyReader};

use crate::config::Config;
use crate::connector::{self, ClusterConnector};
use crate::credentials::Credentials;
use crate::error::{ConfigError, Error};
use crate::patience::{Hope, Patience};
use crate::query::Path;

/// To find the address of a name; to connect if a request does not say.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);
/// Until the answer begins. A coordinator gives up a proposal after less and says so.
const RESPONSE_TIMEOUT: Duration = Duration::from_secs(30);
/// Between two reads of a body: three heartbeats of an event stream.
const READ_TIMEOUT: Duration = Duration::from_secs(30);
/// Where a coordinator says how old what it shows can be.
const STALE_MS: &str = "x-stale-ms";
/// Bytes of a JSON answer: a page of 1,000 machines with 64 KiB each.
const ANSWER_BYTES_MAX: u64 = 64 << 20;

/// Told that a call takes long because no coordinator answers, and for how long it will go on trying.
pub type Notice = fn(Duration);

/// What to send.
pub(crate) struct Request {
    pub method: Method,
    pub path: Path,
    pub content: Content,
    pub repeat: Repeat,
}

/// The body of a request.
pub(crate) enum Content {
    None,
    Json(Vec<u8>),
    Bytes(Vec<u8>),
}

/// Whether a request may be sent again after it may have arrived.
pub(crate) enum Repeat {
    /// A read.
    Harmless,
    /// A write that the coordinators know again by its key.
    Keyed(RequestId),
    /// No: it might happen twice.
    Never,
}

/// The coordinators, and how to reach them.
#[derive(Debug)]
pub(crate) struct Exchange {
    agent: Agent,
    endpoints: Vec<String>,
    preferred: AtomicUsize,
    patience: Duration,
    bearer: Option<HeaderValue>,
    notice: Option<Notice>,
}

/// Why a round gave no result.
struct Failed {
    error: Error,
    /// Whether another round may help.
    hope: Hope,
    /// Nobody else would answer otherwise.
    is_final: bool,
    /// An attempt may have done it: a coordinator said so, or gave no answer.
    doubt: Option<Box<Problem>>,
}

impl Failed {
    fn finally(error: Error, doubt: Option<Box<Problem>>) -> Self {
        Self { error, hope: Hope::None, is_final: true, doubt }
    }

    /// What to tell the caller when there is no other round. That a later attempt did nothing says nothing of an earlier
    /// one whose outcome is not known.
    fn end(self, earlier: Option<Box<Problem>>) -> Error {
        let is_settled = self.is_final && knows_outcome(&self.error);
        let doubt = self.doubt.or(earlier).filter(|_| !is_settled);
        doubt.map_or(self.error, Error::Problem)
    }
}

/// Whether a last word is one about the write itself, from the replicated state, which knows whether it was done before. Who may
/// not ask (any more), and what the program or configuration of one coordinator refuses, is refused without a look at that.
fn knows_outcome(error: &Error) -> bool {
    error.problem().is_some_and(|problem| {
        !matches!(
            problem.code,
            Code::NotAuthenticated
                | Code::NotAllowed
                | Code::InvalidRequest
                | Code::Disabled
                | Code::Internal
        )
    })
}

/// Why an attempt gave no result.
enum Failure {
    /// Nobody else would answer otherwise.
    Final(Error),
    /// A coordinator answered that it cannot at the moment.
    NotNow(Problem),
    /// No answer; whether the same endpoint may answer in a moment, and whether it may have done what was asked for.
    NoAnswer { reason: String, hope: Hope, may_be_done: bool },
}

impl Exchange {
    pub(crate) fn new(config: &Config, notice: Option<Notice>) -> Result<Self, ConfigError> {
        let endpoints = config
            .endpoints
            .iter()
            .map(|endpoint| checked_endpoint(endpoint))
            .collect::<Result<_, _>>()?;
        let credentials = Credentials::of(config)?;
        let bearer = credentials.bearer.clone();
        let connector =
            ClusterConnector::new(credentials).map_err(|error| ConfigError::Credentials {
                directory: config.credentials.clone(),
                problem: error.to_string(),
            })?;
        Ok(Self {
            agent: agent(connector),
            endpoints,
            preferred: AtomicUsize::new(0),
            patience: config.patience,
            bearer,
            notice,
        })
    }

    /// Sends a request and reads the JSON that answers it.
    pub(crate) fn json<T: DeserializeOwned>(&self, request: &Request) -> Result<T, Error> {
        let (endpoint, body) = self.send(request, &read_all)?;
        serde_json::from_slice(&body)
            .map_err(|error| Error::Answer { endpoint, detail: error.to_string() })
    }

    /// The same, with how old what is shown can be, if the coordinator knows that.
    pub(crate) fn json_with_age<T: DeserializeOwned>(
        &self,
        request: &Request,
    ) -> Result<(T, Option<Duration>), Error> {
        let read = |response: Response<Body>| {
            let age = response.headers().get(STALE_MS).and_then(|value| value.to_str().ok());
            let age = age.and_then(|text| text.parse().ok()).map(Duration::from_millis);
            Ok((read_all(response)?, age))
        };
        let (endpoint, (body, age)) = self.send(request, &read)?;
        let value = serde_json::from_slice(&body);
        let value = value.map_err(|error| Error::Answer { endpoint, detail: error.to_string() })?;
        Ok((value, age))
    }

    /// Sends a request whose answer says nothing more than that it was done.
    pub(crate) fn done(&self, request: &Request) -> Result<(), Error> {
        self.send(request, &read_all).map(drop)
    }

    /// Sends a request that is answered by a stream.
    pub(crate) fn stream(&self, request: &Request) -> Result<BodyReader<'static>, Error> {
        let open = |response: Response<Body>| {
            Ok(response.into_body().into_with_config().limit(u64::MAX).reader())
        };
        self.send(request, &open).map(|(_, reader)| reader)
    }

    fn send<T>(
        &self,
        request: &Request,
        read: &dyn Fn(Response<Body>) -> Result<T, ureq::Error>,
    ) -> Result<(String, T), Error> {
        let mut patience = Patience::new(self.patience, Instant::now());
        let mut doubt = None;
        loop {
            let failed = match self.round(request, read, &mut patience) {
                Ok(answer) => return Ok(answer),
                Err(failed) => failed,
            };
            match patience.pause(failed.hope, Instant::now()) {
                Some(pause) => std::thread::sleep(pause),
                None => return Err(failed.end(doubt)),
            }
            doubt = failed.doubt.or(doubt);
        }
    }

    /// Tries every endpoint once.
    fn round<T>(
        &self,
        request: &Request,
        read: &dyn Fn(Response<Body>) -> Result<T, ureq::Error>,
        patience: &mut Patience,
    ) -> Result<(String, T), Failed> {
        let first = self.preferred.load(Ordering::Relaxed);
        let mut attempts = Vec::new();
        let mut hope_of_all = Hope::None;
        let (mut not_now, mut doubt) = (None, None);
        for offset in 0..self.endpoints.len() {
            let index = (first + offset) % self.endpoints.len();
            let endpoint = &self.endpoints[index];
            let connect = patience.connect(self.endpoints.len(), Instant::now());
            match self.attempt(endpoint, request, connect, read) {
                Ok(result) => {
                    self.preferred.store(index, Ordering::Relaxed);
                    return Ok((endpoint.clone(), result));
                }
                Err(Failure::Final(error)) => return Err(Failed::finally(error, doubt)),
                Err(Failure::NotNow(problem)) => {
                    let place = match problem.code {
                        Code::OutcomeUnknown => &mut doubt,
                        _ => &mut not_now,
                    };
                    *place = Some(Box::new(problem));
                    hope_of_all = Hope::Soon;
                }
                Err(Failure::NoAnswer { reason, hope, may_be_done }) => {
                    let attempt = format!("{endpoint}: {reason}");
                    if may_be_done && doubt.is_none() {
                        doubt = Some(Box::new(unanswered(&attempt)));
                    }
                    attempts.push(attempt);
                    hope_of_all = hope_of_all.or(hope);
                }
            }
            self.tell(patience, hope_of_all);
        }
        let error = not_now.map_or(Error::Unreachable { attempts }, Error::Problem);
        Err(Failed { error, hope: hope_of_all, is_final: false, doubt })
    }

    fn tell(&self, patience: &mut Patience, hope: Hope) {
        if let Some(notice) = self.notice
            && let Some(left) = patience.news(hope, Instant::now())
        {
            notice(left);
        }
    }

    fn attempt<T>(
        &self,
        endpoint: &str,
        request: &Request,
        connect: Duration,
        read: &dyn Fn(Response<Body>) -> Result<T, ureq::Error>,
    ) -> Result<T, Failure> {
        let failed = |error| failure_of(error, endpoint, &request.repeat, connector::has_left());
        let head = request.head(endpoint, self.bearer.as_ref());
        connector::begin_request();
        let response = request.run(head, &self.agent, connect).map_err(failed)?;
        if response.status().is_success() {
            return read(response).map_err(failed);
        }
        let status = response.status();
        let body = read_all(response).map_err(failed)?;
        Err(refusal(endpoint, status, &body, &request.repeat))
    }
}

impl Request {
    /// A read.
    pub(crate) fn get(path: Path) -> Self {
        Self { method: Method::GET, path, content: Content::None, repeat: Repeat::Harmless }
    }

    /// A write with a new key.
    pub(crate) fn write(method: Method, path: Path, content: Content) -> Self {
        let key = uuid::Builder::from_random_bytes(rand::random()).into_uuid();
        Self { method, path, content, repeat: Repeat::Keyed(RequestId(key)) }
    }

    fn head(&self, endpoint: &str, bearer: Option<&HeaderValue>) -> Builder {
        let mut builder = http::Request::builder()
            .method(self.method.clone())
            .uri(format!("{endpoint}{}", self.path.as_str()));
        if let Some(bearer) = bearer {
            builder = builder.header(header::AUTHORIZATION, bearer.clone());
        }
        if let Repeat::Keyed(key) = &self.repeat {
            builder = builder.header("idempotency-key", key.to_string());
        }
        builder
    }

    fn run(
        &self,
        builder: Builder,
        agent: &Agent,
        connect: Duration,
    ) -> Result<Response<Body>, ureq::Error> {
        let (media_type, bytes) = match &self.content {
            Content::None => return run_within(agent, builder.body(())?, connect),
            Content::Json(bytes) => ("application/json", bytes),
            Content::Bytes(bytes) => ("application/octet-stream", bytes),
        };
        let builder = builder.header(header::CONTENT_TYPE, media_type);
        run_within(agent, builder.body(bytes.as_slice())?, connect)
    }
}

fn run_within(
    agent: &Agent,
    request: http::Request<impl AsSendBody>,
    connect: Duration,
) -> Result<Response<Body>, ureq::Error> {
    agent.run(agent.configure_request(request).timeout_connect(Some(connect)).build())
}

impl Content {
    /// A value as JSON.
    pub(crate) fn json(value: &impl serde::Serialize) -> Self {
        // The API's types have string keys only and no fallible serialiser, so this cannot fail; an empty body
        // would be refused by the coordinator with a clear problem.
        Self::Json(serde_json::to_vec(value).unwrap_or_default())
    }
}

fn agent(connector: ClusterConnector) -> Agent {
    let config = Agent::config_builder()
        .http_status_as_error(false)
        .https_only(true)
        .max_redirects(0)
        .max_redirects_will_error(false)
        .proxy(None)
        .user_agent(concat!("novacron-sdk/", env!("CARGO_PKG_VERSION")))
        .timeout_resolve(Some(CONNECT_TIMEOUT))
        .timeout_connect(Some(CONNECT_TIMEOUT))
        .timeout_send_body(Some(RESPONSE_TIMEOUT))
        .timeout_recv_response(Some(RESPONSE_TIMEOUT))
        .timeout_per_read(Some(READ_TIMEOUT))
        .build();
    let chain = ().chain(TcpConnector::default()).chain(connector);
    Agent::with_parts(config, chain, DefaultResolver::default())
}

/// An endpoint without its trailing slash, if it is an `https` URL of a host and nothing more.
fn checked_endpoint(text: &str) -> Result<String, ConfigError> {
    let invalid = |problem: &str| ConfigError::Endpoint {
        endpoint: text.to_owned(),
        problem: problem.to_owned(),
    };
    let uri: Uri = text.parse().map_err(|_| invalid("not a URL"))?;
    if uri.scheme_str() != Some("https") {
        return Err(invalid("only https is spoken"));
    }
    if uri.authority().is_none() || !matches!(uri.path(), "" | "/") || uri.query().is_some() {
        return Err(invalid("it must name a host and nothing after it"));
    }
    Ok(text.trim_end_matches('/').to_owned())
}

fn read_all(response: Response<Body>) -> Result<Vec<u8>, ureq::Error> {
    response.into_body().into_with_config().limit(ANSWER_BYTES_MAX).read_to_vec()
}

/// What an answer that is not a success means.
fn refusal(endpoint: &str, status: StatusCode, body: &[u8], repeat: &Repeat) -> Failure {
    let Ok(problem) = serde_json::from_slice::<Problem>(body) else {
        let detail = format!("status {status} without a problem document");
        return Failure::Final(Error::Answer { endpoint: endpoint.to_owned(), detail });
    };
    let may_repeat = !matches!(repeat, Repeat::Never);
    match problem.code {
        // None of these did anything, and another coordinator may be able to.
        Code::Unavailable
        | Code::TooStale
        | Code::RateLimited
        | Code::TooManyAtOnce
        | Code::RequestTimeout
        | Code::SecretKeyMissing
        | Code::StorageFull
        | Code::ClockOff => Failure::NotNow(problem),
        Code::OutcomeUnknown if may_repeat => Failure::NotNow(problem),
        _ => Failure::Final(problem.into()),
    }
}

/// What a broken exchange means, of which some may have left.
fn failure_of(error: ureq::Error, endpoint: &str, repeat: &Repeat, has_left: bool) -> Failure {
    let reason = reason(&error);
    if matches!(repeat, Repeat::Never) && has_left {
        let attempts = vec![format!("{endpoint}: {reason}")];
        return Failure::Final(Error::Unreachable { attempts });
    }
    // What TLS refuses now, and names that nobody knows, will be so in a moment too.
    let hope = match &error {
        ureq::Error::Io(error) => match error.kind() {
            io::ErrorKind::InvalidData | io::ErrorKind::Other => Hope::None,
            io::ErrorKind::ConnectionRefused => Hope::Refused,
            _ => Hope::Soon,
        },
        ureq::Error::HostNotFound | ureq::Error::Rustls(_) | ureq::Error::Tls(_) => Hope::None,
        _ => Hope::Soon,
    };
    let may_be_done = matches!(repeat, Repeat::Keyed(_)) && has_left;
    Failure::NoAnswer { reason, hope, may_be_done }
}

/// A write that left, and that nobody has answered.
fn unanswered(attempt: &str) -> Problem {
    let text = format!("it may have been done: it was sent, and no answer came ({attempt})");
    Problem::new(Code::OutcomeUnknown, text)
}

fn reason(error: &ureq::Error) -> String {
    match error {
        ureq::Error::Io(error) => error.to_string(),
        ureq::Error::Timeout(which) => format!("no answer in time ({which})"),
        other => other.to_string(),
    }
}

/// Where a client shares its connections.
pub(crate) type Shared = Arc<Exchange>;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_endpoint_is_a_host_and_nothing_more() {
        assert_eq!(checked_endpoint("https://a:7443/").unwrap(), "https://a:7443");
        for bad in ["a:7443", "http://a:7443", "https://a/api", "https://a?x", ""] {
            assert!(checked_endpoint(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn what_may_have_happened_is_not_sent_twice() {
        let reset = || ureq::Error::Io(io::ErrorKind::ConnectionReset.into());
        let failed = |repeat, has_left| failure_of(reset(), "a", &repeat, has_left);
        assert!(matches!(failed(Repeat::Never, true), Failure::Final(_)));
        assert!(matches!(failed(Repeat::Never, false), Failure::NoAnswer { .. }));
        assert!(matches!(failed(Repeat::Harmless, true), Failure::NoAnswer { .. }));
    }

    #[test]
    fn what_may_have_been_done_is_said_to_be_so_whatever_is_answered_later() {
        let problem = |code| Problem::new(code, "a test");
        let failed = |code, doubt: Option<Code>| Failed {
            error: problem(code).into(),
            hope: Hope::Soon,
            is_final: false,
            doubt: doubt.map(problem).map(Box::new),
        };
        let code = |error: Error| error.problem().unwrap().code;
        let doubt = || Some(Box::new(problem(Code::OutcomeUnknown)));
        let (now, never) = (Code::Unavailable, None);
        assert_eq!(code(failed(now, never).end(None)), Code::Unavailable);
        assert_eq!(code(failed(now, never).end(doubt())), Code::OutcomeUnknown);
        assert_eq!(code(failed(now, Some(Code::OutcomeUnknown)).end(None)), Code::OutcomeUnknown);
        let refused = |code| Failed::finally(problem(code).into(), None);
        assert_eq!(code(refused(Code::Conflict).end(doubt())), Code::Conflict, "it was not done");
        let revoked = refused(Code::NotAuthenticated);
        assert_eq!(code(revoked.end(doubt())), Code::OutcomeUnknown, "it may have revoked itself");
    }

    #[test]
    fn only_a_problem_document_is_a_refusal() {
        let problem = serde_json::to_vec(&Problem::new(Code::Unavailable, "no quorum")).unwrap();
        let status = StatusCode::SERVICE_UNAVAILABLE;
        let refused = |body: &[u8]| refusal("a", status, body, &Repeat::Harmless);
        assert!(matches!(refused(&problem), Failure::NotNow(_)));
        assert!(matches!(refused(b"<html>"), Failure::Final(Error::Answer { .. })));
    }
}
