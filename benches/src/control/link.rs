//! A client's connection: HTTP/2 over mutual TLS, the same for both sides, gRPC being HTTP/2 with trailers.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, Result};
use bytes::{Bytes, BytesMut};
use h2::client::SendRequest;
use http::{HeaderMap, Method, Request, Uri};
use rustls::ClientConfig;
use rustls::pki_types::ServerName;
use tokio::net::TcpStream;
use tokio::time::timeout;
use tokio_rustls::TlsConnector;

/// For the handshakes of TCP, TLS and HTTP/2. All ends are on this machine.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);
/// Bytes that may come before they are read: a page of a list is some 100 KiB.
const WINDOW_BYTES: u32 = 4 << 20;

/// Where a member is asked, and who asks.
#[derive(Debug, Clone)]
pub struct Door {
    /// Its address.
    pub address: SocketAddr,
    /// The client's certificate, and whom it trusts.
    pub tls: Arc<ClientConfig>,
    /// The name that the member's certificate must have.
    pub name: ServerName<'static>,
}

/// What is asked.
#[derive(Debug, Clone)]
pub struct Ask {
    /// Method.
    pub method: Method,
    /// Path with query.
    pub path: String,
    /// What the side needs beside it.
    pub headers: HeaderMap,
    /// Body.
    pub body: Bytes,
}

/// What was answered.
#[derive(Debug)]
pub struct Answer {
    /// The status of HTTP.
    pub status: u16,
    /// Body.
    pub body: Bytes,
    /// What followed the body, or headers if nothing did.
    pub trailers: HeaderMap,
}

/// An open connection; clones share it.
#[derive(Debug, Clone)]
pub struct Link {
    requests: SendRequest<Bytes>,
    authority: String,
}

impl Door {
    /// Connects. Has to be called within a runtime, which drives the connection until it ends.
    pub async fn open(&self) -> Result<Link> {
        let opened = timeout(CONNECT_TIMEOUT, self.handshakes()).await;
        opened
            .context("it took too long")
            .and_then(|opened| opened)
            .with_context(|| format!("cannot connect to {}", self.address))
    }

    async fn handshakes(&self) -> Result<Link> {
        let socket = TcpStream::connect(self.address).await?;
        socket.set_nodelay(true)?;
        let connector = TlsConnector::from(Arc::clone(&self.tls));
        let stream = connector.connect(self.name.clone(), socket).await?;
        let mut builder = h2::client::Builder::new();
        builder.initial_window_size(WINDOW_BYTES).initial_connection_window_size(WINDOW_BYTES);
        let (requests, connection) = builder.handshake(stream).await?;
        // Why a connection ended is told to whoever asks over it.
        tokio::spawn(async move { drop(connection.await) });
        Ok(Link { requests, authority: self.address.to_string() })
    }
}

impl Link {
    /// Asks, and waits for the whole answer.
    pub async fn exchange(&self, ask: Ask) -> Result<Answer> {
        let mut requests = self.requests.clone().ready().await?;
        let is_empty = ask.body.is_empty();
        let body = ask.body.clone();
        let (response, mut stream) = requests.send_request(self.request(ask)?, is_empty)?;
        if !is_empty {
            stream.send_data(body, true)?;
        }
        let (head, mut stream) = response.await?.into_parts();
        let mut body = BytesMut::new();
        while let Some(chunk) = stream.data().await {
            let chunk = chunk?;
            stream.flow_control().release_capacity(chunk.len())?;
            body.extend_from_slice(&chunk);
        }
        let trailers = stream.trailers().await?.unwrap_or(head.headers);
        Ok(Answer { status: head.status.as_u16(), body: body.freeze(), trailers })
    }

    fn request(&self, ask: Ask) -> Result<Request<()>> {
        let uri = Uri::builder()
            .scheme("https")
            .authority(self.authority.as_str())
            .path_and_query(ask.path)
            .build()?;
        let mut request = Request::builder().method(ask.method).uri(uri).body(())?;
        *request.headers_mut() = ask.headers;
        Ok(request)
    }
}
