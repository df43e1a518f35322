//! The listener: TLS 1.3, HTTP/1.1 and HTTP/2, everything bounded.
//!
//! A client may connect without a certificate, because `/healthz` answers anybody; what it may have is decided
//! for each request from the identity that the handshake proved.

use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::body::Body;
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use hyper_util::server::conn::auto::Builder;
use novacron_transport::tls::peer_identity;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Semaphore;
use tokio::time::{sleep, timeout};
use tokio_rustls::TlsAcceptor;
use tokio_rustls::server::TlsStream;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tower::ServiceExt;

use super::connection::{Asked, Connection};
use super::held::PIECE_BYTES;
use super::stall::Impatient;
use super::trace::HEAD_BYTES_MAX;
use crate::admission::Visit;
use crate::app::App;
use crate::auth::{Caller, Shown};

/// Requests at once on one HTTP/2 connection.
const STREAMS_MAX: u32 = 128;
/// Bytes of a request's head that are read at all. Above half of that it is refused with a problem, above this by the
/// server without one.
const HEAD_BYTES_READ_MAX: usize = 2 * HEAD_BYTES_MAX;
/// Bytes of bodies on one HTTP/2 connection that nobody has taken yet, of one request and of all.
const STREAM_WINDOW_BYTES: u32 = 128 << 10;
const CONNECTION_WINDOW_BYTES: u32 = 256 << 10;
/// For a handshake.
const HANDSHAKE_TIMEOUT: Duration = Duration::from_secs(10);
/// Between two signs of life that are asked of a quiet HTTP/2 client, and for its answer.
const PING_INTERVAL: Duration = Duration::from_secs(30);
const PING_TIMEOUT: Duration = Duration::from_secs(10);
/// For requests under way when the coordinator shuts down.
const GRACE: Duration = Duration::from_secs(5);
/// After the system refused a connection, for instance because there are no file descriptors left.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// Serves until `shutdown`, then lets requests under way end, and returns when every connection is closed.
pub(super) async fn serve(
    listener: TcpListener,
    tls: Arc<rustls::ServerConfig>,
    router: Router,
    app: App,
    shutdown: CancellationToken,
) {
    let App { admission, requests, watchers, .. } = app;
    // Of visits there are as many as there are places: one that has to go for another is a moment later gone.
    let patience = watchers.limits().slow_reader_after;
    let most = usize::try_from(admission.limits().connections).unwrap_or(usize::MAX);
    let places = Arc::new(Semaphore::new(most.min(Semaphore::MAX_PERMITS)));
    let connections = TaskTracker::new();
    let acceptor = TlsAcceptor::from(tls);
    let head_timeout = admission.limits().head_timeout();
    let shuts = shutdown.clone();
    let server = Server { acceptor, router, head_timeout, patience, shutdown: shuts };
    let server = Arc::new(server);
    loop {
        let accepted = tokio::select! {
            biased;
            () = shutdown.cancelled() => break,
            accepted = listener.accept() => accepted,
        };
        match accepted {
            Ok((socket, peer)) => match admission.connection(peer.ip()) {
                Ok(visit) => {
                    let place = tokio::select! {
                        biased;
                        () = shutdown.cancelled() => break,
                        place = Arc::clone(&places).acquire_owned() => place,
                    };
                    let server = Arc::clone(&server);
                    connections.spawn(async move {
                        server.connection(socket, visit).await;
                        drop(place);
                    });
                }
                Err(refusal) => {
                    requests.connection_refused();
                    tracing::debug!(%peer, %refusal, "closed an API connection");
                }
            },
            Err(error) => {
                tracing::warn!(%error, "cannot accept an API connection");
                sleep(ACCEPT_PAUSE).await;
            }
        }
    }
    connections.close();
    connections.wait().await;
}

struct Server {
    acceptor: TlsAcceptor,
    router: Router,
    head_timeout: Duration,
    /// For how long the other end of a connection may take nothing.
    patience: Duration,
    shutdown: CancellationToken,
}

impl Server {
    async fn connection(&self, socket: TcpStream, visit: Arc<Visit>) {
        let peer = socket.peer_addr().ok();
        if let Err(error) = socket.set_nodelay(true) {
            tracing::debug!(?peer, %error, "cannot set TCP_NODELAY");
        }
        let handshake = tokio::select! {
            biased;
            () = self.shutdown.cancelled() => return,
            () = visit.has_to_leave() => return,
            handshake = timeout(HANDSHAKE_TIMEOUT, self.acceptor.accept(socket)) => handshake,
        };
        match handshake {
            Ok(Ok(stream)) => self.requests(stream, Connection::of(visit)).await,
            Ok(Err(error)) => tracing::debug!(?peer, %error, "TLS handshake refused"),
            Err(_) => tracing::debug!(?peer, "TLS handshake took too long"),
        }
    }

    async fn requests(&self, stream: TlsStream<TcpStream>, own: Connection) {
        let (socket, tls) = stream.get_ref();
        let address = socket.peer_addr().ok().map(|address| address.ip());
        let is_http2 = tls.alpn_protocol() == Some(b"h2");
        let caller = Caller::from_handshake(peer_identity(tls.peer_certificates()), address);
        if let Shown::Member(identity) = &caller.shown {
            own.visit.is_of(identity.role, &identity.name);
        }
        let service = service_fn(|request: http::Request<Incoming>| {
            let asking = Visit::asks(&own.visit);
            let mut request = request.map(Body::new);
            request.extensions_mut().insert(caller.clone());
            request.extensions_mut().insert(own.clone());
            let answered = self.router.clone().oneshot(request);
            async move { answered.await.map(|answer| answer.map(|body| Asked::body(body, asking))) }
        });
        let builder = builder(self.head_timeout, is_http2);
        let stream = Impatient::new(stream, self.patience);
        let connection = builder.serve_connection(TokioIo::new(stream), service);
        tokio::pin!(connection);
        let served = async {
            tokio::select! {
                biased;
                () = self.shutdown.cancelled() => {}
                ended = connection.as_mut() => return ended,
                // The protocols themselves would wait for ever for who asks nothing.
                () = own.visit.idles(self.head_timeout) => {}
            }
            connection.as_mut().graceful_shutdown();
            tokio::select! {
                biased;
                ended = connection.as_mut() => ended,
                () = self.grace(&own.visit) => Ok(()),
            }
        };
        tokio::select! {
            biased;
            ended = served => {
                if let Err(error) = ended {
                    tracing::debug!(%error, "API connection broke off");
                }
            }
            () = own.visit.has_to_leave() => {
                tracing::debug!(?address, "closed a connection of nobody");
            }
            () = own.unread.stalls(self.patience) => {
                tracing::debug!(?address, "a client does not read what it asked for");
            }
        }
    }

    /// How long a connection that is told to end may go on: as long as something is under way that came in that moment, and
    /// if this member stops, for a while.
    async fn grace(&self, visit: &Visit) {
        let stops = async {
            self.shutdown.cancelled().await;
            sleep(GRACE).await;
        };
        let idles = async {
            sleep(GRACE).await;
            visit.idles(GRACE).await;
        };
        tokio::select! {
            () = stops => {}
            () = idles => {}
        }
    }
}

/// The handshake agreed on the protocol; nothing is guessed from the first bytes.
fn builder(head_timeout: Duration, is_http2: bool) -> Builder<TokioExecutor> {
    let builder = Builder::new(TokioExecutor::new());
    let mut builder = if is_http2 { builder.http2_only() } else { builder.http1_only() };
    builder
        .http1()
        .timer(TokioTimer::new())
        .header_read_timeout(head_timeout)
        .max_buf_size(HEAD_BYTES_READ_MAX)
        .http2()
        .timer(TokioTimer::new())
        .max_concurrent_streams(STREAMS_MAX)
        .max_send_buf_size(PIECE_BYTES)
        .initial_stream_window_size(STREAM_WINDOW_BYTES)
        .initial_connection_window_size(CONNECTION_WINDOW_BYTES)
        .max_header_list_size(u32::try_from(HEAD_BYTES_READ_MAX).unwrap_or(u32::MAX))
        .keep_alive_interval(PING_INTERVAL)
        .keep_alive_timeout(PING_TIMEOUT);
    builder
}
