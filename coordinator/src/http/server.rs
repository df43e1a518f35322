//! The listener: TLS 1.3, HTTP/1.1 and HTTP/2, everything bounded.
//!
//! A client may connect without a certificate, because `/healthz` answers anybody; what it may have is decided
//! for each request from the identity that the handshake proved.

use std::io;
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
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::timeout;
use tokio_rustls::TlsAcceptor;
use tokio_rustls::server::TlsStream;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tower::ServiceExt;

use super::stall::Impatient;
use crate::auth::Caller;

/// Connections at once: with 64 KiB of buffers each at most 128 MiB. Further ones wait in the listener's backlog.
const CONNECTIONS_MAX: usize = 2048;
/// Requests at once on one HTTP/2 connection.
const STREAMS_MAX: u32 = 128;
/// Bytes of a request's head.
const HEAD_BYTES_MAX: usize = 32 * 1024;
/// For a handshake.
const HANDSHAKE_TIMEOUT: Duration = Duration::from_secs(10);
/// For the head of a request, and between two requests on one connection.
const HEAD_TIMEOUT: Duration = Duration::from_secs(60);
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
    patience: Duration,
    shutdown: CancellationToken,
) {
    let places = Arc::new(Semaphore::new(CONNECTIONS_MAX));
    let connections = TaskTracker::new();
    let (acceptor, shuts) = (TlsAcceptor::from(tls), shutdown.clone());
    let server = Server { acceptor, router, patience, shutdown: shuts };
    let server = Arc::new(server);
    loop {
        let accepted = tokio::select! {
            biased;
            () = shutdown.cancelled() => break,
            accepted = accept(&listener, &places) => accepted,
        };
        match accepted {
            Ok((socket, place)) => {
                let server = Arc::clone(&server);
                connections.spawn(async move {
                    server.connection(socket).await;
                    drop(place);
                });
            }
            Err(error) => {
                tracing::warn!(%error, "cannot accept an API connection");
                tokio::time::sleep(ACCEPT_PAUSE).await;
            }
        }
    }
    connections.close();
    connections.wait().await;
}

/// The next connection, once there is a place for it. Cancel-safe: nothing is lost between the two waits.
async fn accept(
    listener: &TcpListener,
    places: &Arc<Semaphore>,
) -> io::Result<(TcpStream, OwnedSemaphorePermit)> {
    let place = Arc::clone(places).acquire_owned().await.map_err(io::Error::other)?;
    let (socket, _) = listener.accept().await?;
    Ok((socket, place))
}

struct Server {
    acceptor: TlsAcceptor,
    router: Router,
    /// For how long the other end of a connection may take nothing.
    patience: Duration,
    shutdown: CancellationToken,
}

impl Server {
    async fn connection(&self, socket: TcpStream) {
        let peer = socket.peer_addr().ok();
        if let Err(error) = socket.set_nodelay(true) {
            tracing::debug!(?peer, %error, "cannot set TCP_NODELAY");
        }
        let handshake = tokio::select! {
            biased;
            () = self.shutdown.cancelled() => return,
            handshake = timeout(HANDSHAKE_TIMEOUT, self.acceptor.accept(socket)) => handshake,
        };
        match handshake {
            Ok(Ok(stream)) => self.requests(stream).await,
            Ok(Err(error)) => tracing::debug!(?peer, %error, "TLS handshake refused"),
            Err(_) => tracing::debug!(?peer, "TLS handshake took too long"),
        }
    }

    async fn requests(&self, stream: TlsStream<TcpStream>) {
        let (socket, tls) = stream.get_ref();
        let address = socket.peer_addr().ok().map(|address| address.ip());
        let caller = Caller::from_handshake(peer_identity(tls.peer_certificates()), address);
        let service = service_fn(|request: http::Request<Incoming>| {
            let mut request = request.map(Body::new);
            request.extensions_mut().insert(caller.clone());
            self.router.clone().oneshot(request)
        });
        let builder = builder();
        let connection =
            builder.serve_connection(TokioIo::new(Impatient::new(stream, self.patience)), service);
        tokio::pin!(connection);
        let ended = tokio::select! {
            biased;
            () = self.shutdown.cancelled() => None,
            ended = connection.as_mut() => Some(ended),
        };
        let ended = match ended {
            Some(ended) => ended,
            None => {
                connection.as_mut().graceful_shutdown();
                timeout(GRACE, connection).await.unwrap_or(Ok(()))
            }
        };
        if let Err(error) = ended {
            tracing::debug!(%error, "API connection broke off");
        }
    }
}

fn builder() -> Builder<TokioExecutor> {
    let mut builder = Builder::new(TokioExecutor::new());
    builder
        .http1()
        .timer(TokioTimer::new())
        .header_read_timeout(HEAD_TIMEOUT)
        .max_buf_size(HEAD_BYTES_MAX)
        .http2()
        .timer(TokioTimer::new())
        .max_concurrent_streams(STREAMS_MAX)
        .max_header_list_size(u32::try_from(HEAD_BYTES_MAX).unwrap_or(u32::MAX))
        .keep_alive_interval(PING_INTERVAL)
        .keep_alive_timeout(PING_TIMEOUT);
    builder
}
