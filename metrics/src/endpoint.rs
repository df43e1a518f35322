//! The listener: HTTP/1.1 without TLS, one answer a connection, for a scraper on the same host or behind a proxy.

use std::convert::Infallible;
use std::fmt;
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use http::{HeaderValue, Method, Request, Response, StatusCode, header};
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use serde::de::Error as _;
use serde::{Deserialize, Deserializer};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Semaphore;
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

/// Scrapers that are answered at once; others wait. A fleet has two or three.
const CONNECTIONS_MAX: usize = 8;

/// How long a connection may take, from the first byte to the last: Prometheus itself gives up after ten seconds.
const CONNECTION_TIMEOUT: Duration = Duration::from_secs(10);

/// Bytes of a request's head.
const HEAD_BYTES_MAX: usize = 16 * 1024;

/// How long to wait when no connection can be taken, for instance because there are no file descriptors left.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

const CONTENT_TYPE: &str = "text/plain; version=0.0.4; charset=utf-8";

/// Where the metrics are to be read: an address, or `off`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Listen(pub Option<SocketAddr>);

impl Default for Listen {
    /// This host only, since there is no TLS and nobody is asked for a name.
    fn default() -> Self {
        Self(Some(SocketAddr::from(([127, 0, 0, 1], 7480))))
    }
}

impl<'de> Deserialize<'de> for Listen {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        if text == "off" {
            return Ok(Self(None));
        }
        let parsed = text.parse().map(|address| Self(Some(address)));
        parsed
            .map_err(|_| D::Error::custom("an address such as 127.0.0.1:7480 is needed, or `off`"))
    }
}

/// What there is to read.
pub trait Pages: fmt::Debug + Send + Sync + 'static {
    /// The text at this path, as it is now; `None` where there is nothing.
    fn page(&self, path: &str) -> Option<String>;
}

/// A listener that is bound.
#[derive(Debug)]
pub struct Endpoint {
    listener: TcpListener,
}

impl Endpoint {
    /// Listens.
    ///
    /// # Errors
    /// The address cannot be listened at.
    pub async fn bind(address: SocketAddr) -> io::Result<Self> {
        Ok(Self { listener: TcpListener::bind(address).await? })
    }

    /// Where it listens: the port that was found if 0 was asked for.
    ///
    /// # Errors
    /// The system does not say.
    pub fn address(&self) -> io::Result<SocketAddr> {
        self.listener.local_addr()
    }

    /// Listens and serves in a task of `tasks`, or does not: a program that does its work without being watched is
    /// better than none, so an address that cannot be had is said and lived with.
    pub async fn start(
        listen: Listen,
        pages: Arc<dyn Pages>,
        tasks: &TaskTracker,
        shutdown: CancellationToken,
    ) {
        let Listen(Some(address)) = listen else { return };
        match Self::bind(address).await {
            Ok(endpoint) => {
                let address = endpoint.address().unwrap_or(address);
                tracing::info!(%address, "metrics can be read");
                tasks.spawn(endpoint.serve(pages, shutdown));
            }
            Err(error) => {
                tracing::error!(%address, %error, "nobody can read the metrics: metrics_listen");
            }
        }
    }

    /// Answers until `shutdown`; what is being answered then is broken off.
    pub async fn serve(self, pages: Arc<dyn Pages>, shutdown: CancellationToken) {
        let connections = TaskTracker::new();
        let places = Arc::new(Semaphore::new(CONNECTIONS_MAX));
        loop {
            let Ok(place) = Arc::clone(&places).acquire_owned().await else { break };
            let accepted = tokio::select! {
                biased;
                () = shutdown.cancelled() => break,
                accepted = self.listener.accept() => accepted,
            };
            let Ok((socket, _)) = accepted else {
                tokio::time::sleep(ACCEPT_PAUSE).await;
                continue;
            };
            let answered = answer(socket, Arc::clone(&pages));
            let shutdown = shutdown.clone();
            connections.spawn(async move {
                tokio::select! {
                    biased;
                    () = shutdown.cancelled() => (),
                    _ = timeout(CONNECTION_TIMEOUT, answered) => (),
                }
                drop(place);
            });
        }
        connections.close();
        connections.wait().await;
    }
}

async fn answer(socket: TcpStream, pages: Arc<dyn Pages>) {
    let service = service_fn(move |request| {
        let response = respond(&request, pages.as_ref());
        async move { Ok::<_, Infallible>(response) }
    });
    let mut connection = http1::Builder::new();
    let connection =
        connection.timer(TokioTimer::new()).keep_alive(false).max_buf_size(HEAD_BYTES_MAX);
    if let Err(error) = connection.serve_connection(TokioIo::new(socket), service).await {
        tracing::debug!(%error, "a reader of the metrics broke off");
    }
}

fn respond(request: &Request<Incoming>, pages: &dyn Pages) -> Response<String> {
    if !matches!(*request.method(), Method::GET | Method::HEAD) {
        return plain(StatusCode::METHOD_NOT_ALLOWED, "only GET is possible here\n".to_owned());
    }
    match pages.page(request.uri().path()) {
        Some(text) => plain(StatusCode::OK, text),
        None => plain(StatusCode::NOT_FOUND, "there is /metrics\n".to_owned()),
    }
}

fn plain(status: StatusCode, text: String) -> Response<String> {
    let mut response = Response::new(text);
    *response.status_mut() = status;
    response.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static(CONTENT_TYPE));
    response
}

#[cfg(test)]
mod tests {
    use super::*;
    use tokio::io::{AsyncReadExt, AsyncWriteExt};

    #[derive(Debug)]
    struct One;

    impl Pages for One {
        fn page(&self, path: &str) -> Option<String> {
            (path == "/metrics").then(|| "up 1\n".to_owned())
        }
    }

    #[test]
    fn an_address_or_off_says_where() {
        let parse = |text: &str| {
            use serde::de::IntoDeserializer as _;
            let text: serde::de::value::StrDeserializer<'_, serde::de::value::Error> =
                text.into_deserializer();
            Listen::deserialize(text)
        };
        assert_eq!(parse("off").unwrap(), Listen(None));
        assert_eq!(parse("127.0.0.1:7480").unwrap(), Listen::default());
        assert!(parse("7480").is_err());
    }

    async fn ask(address: SocketAddr, head: &str) -> String {
        let mut socket = TcpStream::connect(address).await.unwrap();
        socket.write_all(format!("{head}\r\nHost: x\r\n\r\n").as_bytes()).await.unwrap();
        let mut answer = String::new();
        socket.read_to_string(&mut answer).await.unwrap();
        answer
    }

    #[tokio::test]
    async fn the_page_is_served_and_nothing_else() {
        let endpoint = Endpoint::bind(SocketAddr::from(([127, 0, 0, 1], 0))).await.unwrap();
        let address = endpoint.address().unwrap();
        let shutdown = CancellationToken::new();
        let serving = tokio::spawn(endpoint.serve(Arc::new(One), shutdown.clone()));
        let answer = ask(address, "GET /metrics HTTP/1.1").await;
        assert!(answer.starts_with("HTTP/1.1 200"), "{answer}");
        assert!(answer.contains(CONTENT_TYPE) && answer.ends_with("up 1\n"), "{answer}");
        assert!(ask(address, "GET / HTTP/1.1").await.starts_with("HTTP/1.1 404"));
        assert!(ask(address, "POST /metrics HTTP/1.1").await.starts_with("HTTP/1.1 405"));
        assert!(ask(address, "nonsense").await.starts_with("HTTP/1.1 400"));
        // One that says nothing holds nobody up, not even the end.
        let _silent = TcpStream::connect(address).await.unwrap();
        shutdown.cancel();
        serving.await.unwrap();
    }
}
