//! A client that can do what no well-behaved client does: HTTP/1.1 by hand over TLS.

pub mod frames;

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::sync::Arc;

use novacron_transport::{Credentials, tls};
use rustls::pki_types::ServerName;
use rustls::{ClientConfig, RootCertStore};
use serde_json::Value;
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::{TcpSocket, TcpStream};
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

/// A connection's bytes, buffered.
pub type Stream = BufReader<TlsStream<TcpStream>>;

/// One client.
#[derive(Clone)]
pub struct Https {
    address: SocketAddr,
    source: IpAddr,
    config: Arc<ClientConfig>,
    name: ServerName<'static>,
}

/// An answer.
#[derive(Debug)]
pub struct Answer {
    pub status: u16,
    pub head: String,
    pub body: String,
}

impl Answer {
    pub fn json(&self) -> Value {
        serde_json::from_str(&self.body).unwrap_or_else(|error| panic!("{error}: {self:?}"))
    }

    /// Status, code and field of a problem, after checks that every problem must pass.
    pub fn problem(&self) -> (u16, String, Option<String>) {
        let problem = self.json();
        assert_eq!(self.header("content-type"), Some("application/problem+json"), "{self:?}");
        assert_eq!(problem["status"], self.status, "{self:?}");
        assert_eq!(problem["request_id"].as_str(), self.header("x-request-id"), "{self:?}");
        assert!(!problem["detail"].as_str().unwrap().is_empty(), "{self:?}");
        let field = problem.get("field").map(|field| field.as_str().unwrap().to_owned());
        (self.status, problem["code"].as_str().unwrap().to_owned(), field)
    }

    pub fn header(&self, name: &str) -> Option<&str> {
        let lines = self.head.lines().filter_map(|line| line.split_once(": "));
        lines.into_iter().find(|(key, _)| key.eq_ignore_ascii_case(name)).map(|(_, value)| value)
    }
}

impl Https {
    /// A client that shows a certificate.
    pub fn with(address: SocketAddr, credentials: &Credentials) -> Self {
        Self::new(address, credentials, tls::link_client(credentials).unwrap())
    }

    /// A client that trusts the same authority and shows nothing.
    pub fn anonymous(address: SocketAddr, credentials: &Credentials) -> Self {
        let mut roots = RootCertStore::empty();
        roots.add(credentials.anchors()[0].clone()).unwrap();
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let builder = ClientConfig::builder_with_provider(provider);
        let builder = builder.with_protocol_versions(&[&rustls::version::TLS13]).unwrap();
        let config = builder.with_root_certificates(roots).with_no_client_auth();
        Self::new(address, credentials, config)
    }

    fn new(address: SocketAddr, credentials: &Credentials, mut config: ClientConfig) -> Self {
        config.alpn_protocols = vec![b"http/1.1".to_vec()];
        let name = format!("{}.novacron.internal", credentials.identity().cluster);
        let source = Ipv4Addr::LOCALHOST.into();
        Self { address, source, config: Arc::new(config), name: name.try_into().unwrap() }
    }

    /// The same client at another loopback address.
    pub fn at(self, source: [u8; 4]) -> Self {
        Self { source: source.into(), ..self }
    }

    /// The same client, that agrees on a protocol in the handshake.
    pub fn speaking(mut self, protocol: &str) -> Self {
        Arc::make_mut(&mut self.config).alpn_protocols = vec![protocol.into()];
        self
    }

    /// A connection before its handshake.
    pub async fn dial(&self) -> std::io::Result<TcpStream> {
        let socket = TcpSocket::new_v4()?;
        socket.bind((self.source, 0).into())?;
        socket.connect(self.address).await
    }

    /// A connection, unless the other end does not want one.
    pub async fn try_connect(&self) -> std::io::Result<Stream> {
        let connector = TlsConnector::from(Arc::clone(&self.config));
        Ok(BufReader::new(connector.connect(self.name.clone(), self.dial().await?).await?))
    }

    pub async fn connect(&self) -> Stream {
        self.try_connect().await.unwrap()
    }

    pub async fn get(&self, path: &str) -> Answer {
        self.send("GET", path, &[], b"").await
    }

    pub async fn post(&self, path: &str, body: &str) -> Answer {
        self.send("POST", path, &[("content-type", "application/json")], body.as_bytes()).await
    }

    pub async fn put(&self, path: &str, body: &str) -> Answer {
        self.send("PUT", path, &[("content-type", "application/json")], body.as_bytes()).await
    }

    /// Sends one request and reads the whole answer.
    pub async fn send(
        &self,
        method: &str,
        path: &str,
        headers: &[(&str, &str)],
        body: &[u8],
    ) -> Answer {
        parse(&exchange(self.connect().await, method, path, headers, body).await)
    }

    /// The same where nobody may be there, or go away in between: then there is no answer.
    pub async fn attempt(
        &self,
        method: &str,
        path: &str,
        headers: &[(&str, &str)],
        body: &[u8],
    ) -> Option<Answer> {
        let socket = TcpStream::connect(self.address).await.ok()?;
        let connector = TlsConnector::from(Arc::clone(&self.config));
        let stream = connector.connect(self.name.clone(), socket).await.ok()?;
        let answer = exchange(BufReader::new(stream), method, path, headers, body).await;
        answer.windows(4).any(|window| window == b"\r\n\r\n").then(|| parse(&answer))
    }

    /// Opens a stream and reads its head.
    pub async fn follow(&self, path: &str) -> Stream {
        self.follow_with(path, &[]).await
    }

    /// The same with headers.
    pub async fn follow_with(&self, path: &str, headers: &[(&str, &str)]) -> Stream {
        let mut stream = self.connect().await;
        let headers = headers.iter().map(|(name, value)| format!("{name}: {value}\r\n"));
        let headers: String = headers.collect();
        let request = format!("GET {path} HTTP/1.0\r\nhost: novacron\r\n{headers}\r\n");
        stream.write_all(request.as_bytes()).await.unwrap();
        stream.flush().await.unwrap();
        let mut head = Vec::new();
        while !head.ends_with(b"\r\n\r\n") {
            head.push(stream.read_u8().await.unwrap());
        }
        assert!(head.starts_with(b"HTTP/1.0 200"), "{}", String::from_utf8_lossy(&head));
        stream
    }
}

/// Sends a request on a connection and reads until its end.
async fn exchange(
    mut stream: Stream,
    method: &str,
    path: &str,
    headers: &[(&str, &str)],
    body: &[u8],
) -> Vec<u8> {
    let length = body.len();
    let mut head = format!("{method} {path} HTTP/1.1\r\nhost: novacron\r\nconnection: close\r\n");
    head += &format!("content-length: {length}\r\n");
    for (name, value) in headers {
        head += &format!("{name}: {value}\r\n");
    }
    // A server that refuses the head may close before it has read the body.
    let _ = stream.write_all(format!("{head}\r\n").as_bytes()).await;
    let _ = stream.write_all(body).await;
    let _ = stream.flush().await;
    let mut answer = Vec::new();
    let _ = stream.read_to_end(&mut answer).await;
    answer
}

fn parse(answer: &[u8]) -> Answer {
    let text = String::from_utf8_lossy(answer).into_owned();
    let (head, body) = text.split_once("\r\n\r\n").unwrap_or_else(|| panic!("no answer: {text}"));
    let status = head.split(' ').nth(1).and_then(|status| status.parse().ok());
    Answer { status: status.unwrap(), head: head.to_owned(), body: body.to_owned() }
}

/// The status of an answer whose length is said.
pub async fn read_answer(stream: &mut Stream) -> u16 {
    let (mut status, mut length) = (0, 0);
    loop {
        let mut line = String::new();
        stream.read_line(&mut line).await.unwrap();
        if let Some(rest) = line.strip_prefix("HTTP/1.1 ") {
            status = rest[..3].parse().unwrap();
        }
        if let Some(rest) = line.strip_prefix("content-length: ") {
            length = rest.trim().parse().unwrap();
        }
        if line == "\r\n" {
            break;
        }
    }
    let mut body = vec![0; length];
    stream.read_exact(&mut body).await.unwrap();
    status
}
