//! The listener: HTTP/1.1 without TLS, one answer a connection, for a scraper on the same host or behind a proxy.
//!
//! Whoever can connect is answered, so what a stranger can do is bounded: connections at once, the bytes of a request's
//! head, the time of each. A request has no body that would be read.

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
use prometheus_client::encoding::prometheus_text::CONTENT_TYPE;
use serde::de::Error as _;
use serde::{Deserialize, Deserializer};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::pages::{METRICS_PATH, Pages};

/// Scrapers that are answered at once; others wait in the listener's backlog. A fleet has two or three. With a text of
/// 64 KiB and a head each, this is less than 1.5 MiB.
const CONNECTIONS_MAX: usize = 16;

/// How long the head of a request may take: it is one packet.
const HEAD_TIMEOUT: Duration = Duration::from_secs(2);

/// How long a connection may take, from the first byte to the last. Prometheus gives up after ten seconds: one that
/// finds every place taken by clients that do nothing gets one in time.
const CONNECTION_TIMEOUT: Duration = Duration::from_secs(5);

/// Bytes of a request's head.
const HEAD_BYTES_MAX: usize = 16 * 1024;

/// How long to wait when no connection can be taken, for instance because there are no file descriptors left.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

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

    /// Listens and serves in a task of `tasks`, and says where; or does neither: a program that does its work without being watched is
    /// better than none, so an address that cannot be had is said and lived with.
    pub async fn start(
        listen: Listen,
        pages: Pages,
        tasks: &TaskTracker,
        shutdown: CancellationToken,
    ) -> Option<SocketAddr> {
        let address = listen.0?;
        match Self::bind(address).await {
            Ok(endpoint) => {
                let address = endpoint.address().unwrap_or(address);
                tracing::info!(%address, "metrics can be read");
                tasks.spawn(endpoint.serve(pages, shutdown));
                Some(address)
            }
            Err(error) => {
                tracing::error!(%address, %error, "nobody can read the metrics: metrics_listen");
                None
            }
        }
    }

    /// Answers until `shutdown`; what is being answered then is broken off.
    pub async fn serve(self, pages: Pages, shutdown: CancellationToken) {
        let (pages, places) = (Arc::new(pages), Arc::new(Semaphore::new(CONNECTIONS_MAX)));
        let connections = TaskTracker::new();
        loop {
            let accepted = tokio::select! {
                biased;
                () = shutdown.cancelled() => break,
                accepted = self.accept(&places) => accepted,
            };
            match accepted {
                Ok((socket, place)) => {
                    let answered = answer(socket, Arc::clone(&pages), place);
                    let shutdown = shutdown.clone();
                    connections.spawn(async move { shutdown.run_until_cancelled(answered).await });
                }
                Err(error) => {
                    tracing::debug!(%error, "a reader of the metrics cannot be let in");
                    tokio::time::sleep(ACCEPT_PAUSE).await;
                }
            }
        }
        connections.close();
        connections.wait().await;
    }

    /// The next connection, once there is a place for it. Cancel-safe: nothing is lost between the two waits.
    async fn accept(
        &self,
        places: &Arc<Semaphore>,
    ) -> io::Result<(TcpStream, OwnedSemaphorePermit)> {
        let place = Arc::clone(places).acquire_owned().await.map_err(io::Error::other)?;
        let (socket, _) = self.listener.accept().await?;
        Ok((socket, place))
    }
}

/// Answers one request, within its time, and gives the place back.
async fn answer(socket: TcpStream, pages: Arc<Pages>, _place: OwnedSemaphorePermit) {
    let service = service_fn(move |request| {
        let response = respond(&request, &pages);
        async move { Ok::<_, Infallible>(response) }
    });
    let mut builder = http1::Builder::new();
    builder
        .timer(TokioTimer::new())
        .header_read_timeout(HEAD_TIMEOUT)
        .keep_alive(false)
        .max_buf_size(HEAD_BYTES_MAX);
    let connection = builder.serve_connection(TokioIo::new(socket), service);
    match timeout(CONNECTION_TIMEOUT, connection).await {
        Ok(Ok(())) => {}
        Ok(Err(error)) => tracing::debug!(%error, "a reader of the metrics broke off"),
        Err(_) => tracing::debug!("a reader of the metrics took too long"),
    }
}

fn respond(request: &Request<Incoming>, pages: &Pages) -> Response<String> {
    if !matches!(*request.method(), Method::GET | Method::HEAD) {
        return plain(StatusCode::METHOD_NOT_ALLOWED, "only GET is possible here\n".to_owned());
    }
    match pages.text(request.uri().path()) {
        Some(Ok(text)) => plain(StatusCode::OK, text),
        Some(Err(fmt::Error)) => {
            tracing::error!("the metrics cannot be written down");
            plain(StatusCode::INTERNAL_SERVER_ERROR, "they cannot be written down\n".to_owned())
        }
        None => plain(StatusCode::NOT_FOUND, format!("there is {METRICS_PATH}\n")),
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
    use prometheus_client::metrics::gauge::ConstGauge;
    use prometheus_client::registry::Registry;
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    use tokio::task::JoinHandle;

    const PATIENCE: Duration = Duration::from_secs(30);

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

    struct Served {
        address: SocketAddr,
        shutdown: CancellationToken,
        serving: JoinHandle<()>,
    }

    impl Served {
        async fn new() -> Self {
            let mut registry = Registry::default();
            registry.register("up", "Whether it is", ConstGauge::new(1));
            let pages = Pages::default().with(METRICS_PATH, registry);
            let endpoint = Endpoint::bind(SocketAddr::from(([127, 0, 0, 1], 0))).await.unwrap();
            let address = endpoint.address().unwrap();
            let shutdown = CancellationToken::new();
            let serving = tokio::spawn(endpoint.serve(pages, shutdown.clone()));
            Self { address, shutdown, serving }
        }

        async fn connect(&self) -> TcpStream {
            TcpStream::connect(self.address).await.unwrap()
        }

        async fn ask(&self, head: &str) -> String {
            let mut socket = self.connect().await;
            socket.write_all(format!("{head}\r\nHost: x\r\n\r\n").as_bytes()).await.unwrap();
            hear(&mut socket).await
        }

        async fn end(self) {
            self.shutdown.cancel();
            timeout(PATIENCE, self.serving).await.unwrap().unwrap();
        }
    }

    /// All that is said until the other side closes, which it may do rudely.
    async fn hear(socket: &mut TcpStream) -> String {
        let mut answer = Vec::new();
        let _ = timeout(PATIENCE, socket.read_to_end(&mut answer)).await.unwrap();
        String::from_utf8(answer).unwrap()
    }

    #[tokio::test]
    async fn the_page_is_served_and_nothing_else() {
        let served = Served::new().await;
        let answer = served.ask("GET /metrics HTTP/1.1").await;
        assert!(answer.starts_with("HTTP/1.1 200"), "{answer}");
        assert!(answer.contains(CONTENT_TYPE) && answer.ends_with("up 1\n"), "{answer}");
        assert!(!served.ask("HEAD /metrics HTTP/1.1").await.contains("up 1"));
        assert!(served.ask("GET / HTTP/1.1").await.starts_with("HTTP/1.1 404"));
        assert!(served.ask("POST /metrics HTTP/1.1").await.starts_with("HTTP/1.1 405"));
        assert!(served.ask("nonsense").await.starts_with("HTTP/1.1 400"));
        // One that says nothing holds nobody up, not even the end.
        let _silent = served.connect().await;
        served.end().await;
    }

    #[tokio::test]
    async fn a_head_that_does_not_end_is_refused_when_it_is_too_long() {
        let served = Served::new().await;
        let mut socket = served.connect().await;
        let line = format!("X-Long: {}\r\n", "x".repeat(1000));
        socket.write_all(b"GET /metrics HTTP/1.1\r\n").await.unwrap();
        // It may close before it has read everything: then a write fails.
        while socket.write_all(line.as_bytes()).await.is_ok() {}
        assert!(served.ask("GET /metrics HTTP/1.1").await.starts_with("HTTP/1.1 200"));
        served.end().await;
    }

    #[tokio::test]
    async fn clients_that_do_nothing_are_sent_away_and_others_get_their_places() {
        let served = Served::new().await;
        let mut idle = Vec::new();
        for begun in 0..CONNECTIONS_MAX * 2 {
            let mut socket = served.connect().await;
            if begun % 2 == 0 {
                socket.write_all(b"GET /metrics HTTP/1.1\r\nX-Slow: ").await.unwrap();
            }
            idle.push(socket);
        }
        let answer = timeout(PATIENCE, served.ask("GET /metrics HTTP/1.1")).await.unwrap();
        assert!(answer.starts_with("HTTP/1.1 200"), "{answer}");
        for mut socket in idle {
            let said = hear(&mut socket).await;
            assert!(said.is_empty() || said.starts_with("HTTP/1.1 408"), "{said}");
        }
        served.end().await;
    }
}
