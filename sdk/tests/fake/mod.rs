//! A cluster's authority and coordinators that answer what a test tells them, over real TLS.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpListener;
use std::path::Path;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, channel};

use novacron_sdk::{Client, Config, ConfigError};
use rcgen::{
    BasicConstraints, CertificateParams, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair,
    SanType,
};
use rustls::{RootCertStore, ServerConfig, ServerConnection, StreamOwned};
use rustls_pki_types::PrivateKeyDer;

/// The cluster of all tests.
pub const CLUSTER: &str = "7f3c1a52-5e4e-4b8f-9d0a-0d3b9f1c2e11";

/// A cluster's authority.
pub struct Authority {
    issuer: Issuer<'static, KeyPair>,
    certificate: rcgen::Certificate,
}

/// A certificate with its key.
pub struct Member {
    certificate: rcgen::Certificate,
    key: KeyPair,
}

/// A request as a fake coordinator saw it.
#[derive(Debug)]
pub struct Seen {
    /// Method and path with query.
    pub target: String,
    /// The key, if there was one.
    pub key: Option<String>,
    /// What it said of who asks.
    pub authorization: Option<String>,
    /// Whether the connection showed a certificate.
    pub has_certificate: bool,
    /// The body.
    pub body: Vec<u8>,
}

impl Authority {
    pub fn new() -> Self {
        let key = KeyPair::generate().unwrap();
        let mut parameters = CertificateParams::default();
        parameters.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
        parameters.distinguished_name = rcgen::DistinguishedName::new();
        parameters.distinguished_name.push(DnType::CommonName, format!("NovaCron {CLUSTER}"));
        let certificate = parameters.self_signed(&key).unwrap();
        Self { issuer: Issuer::new(parameters, key), certificate }
    }

    pub fn issue(&self, role: &str) -> Member {
        let key = KeyPair::generate().unwrap();
        let server_name = format!("{CLUSTER}.novacron.internal");
        let mut parameters = CertificateParams::new(vec![server_name]).unwrap();
        let identity = format!("novacron://{CLUSTER}/{role}/one");
        parameters.subject_alt_names.push(SanType::URI(identity.try_into().unwrap()));
        parameters.extended_key_usages =
            vec![ExtendedKeyUsagePurpose::ServerAuth, ExtendedKeyUsagePurpose::ClientAuth];
        Member { certificate: parameters.signed_by(&key, &self.issuer).unwrap(), key }
    }

    /// A client with an operator's credentials, and little patience.
    pub fn client(&self, directory: &Path, endpoints: &[&str]) -> Client {
        let member = self.issue("operator");
        let write = |name: &str, text: String| std::fs::write(directory.join(name), text).unwrap();
        write("ca.pem", self.certificate.pem());
        write("cert.pem", member.certificate.pem());
        write("key.pem", member.key.serialize_pem());
        let endpoints = endpoints.iter().map(|endpoint| (*endpoint).to_owned()).collect();
        let mut config = Config::new(endpoints, directory);
        config.patience = std::time::Duration::ZERO;
        Client::new(&config).unwrap()
    }

    /// A client with an API key, and of credentials only the authority.
    pub fn client_with_key(
        &self,
        directory: &Path,
        key: &str,
        endpoint: &str,
    ) -> Result<Client, ConfigError> {
        std::fs::write(directory.join("ca.pem"), self.certificate.pem()).unwrap();
        let file = directory.join("api-key");
        std::fs::write(&file, key).unwrap();
        let mut config = Config::new(vec![endpoint.to_owned()], directory);
        config.patience = std::time::Duration::ZERO;
        config.api_key_file = Some(file);
        Client::new(&config)
    }

    /// A coordinator (or what a `role` makes of it) that gives each connection's one request the next answer
    /// and then closes. Returns its URL and what it saw.
    pub fn serve(&self, role: &str, answers: Vec<String>) -> (String, Receiver<Seen>) {
        let config = self.server_config(&self.issue(role));
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let url = format!("https://{}", listener.local_addr().unwrap());
        let (sender, seen) = channel();
        std::thread::spawn(move || {
            for answer in answers {
                let (socket, _) = listener.accept().unwrap();
                let connection = ServerConnection::new(Arc::clone(&config)).unwrap();
                let mut stream = StreamOwned::new(connection, socket);
                let Some(mut request) = read_request(&mut stream) else { continue };
                request.has_certificate = stream.conn.peer_certificates().is_some();
                let _ = sender.send(request);
                stream.write_all(answer.as_bytes()).unwrap();
                stream.conn.send_close_notify();
                let _ = stream.flush();
            }
        });
        (url, seen)
    }

    fn server_config(&self, member: &Member) -> Arc<ServerConfig> {
        let mut roots = RootCertStore::empty();
        roots.add(self.certificate.der().clone()).unwrap();
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let verifier = rustls::server::WebPkiClientVerifier::builder_with_provider(
            Arc::new(roots),
            Arc::clone(&provider),
        );
        let config = ServerConfig::builder_with_provider(provider)
            .with_protocol_versions(&[&rustls::version::TLS13])
            .unwrap()
            .with_client_cert_verifier(verifier.allow_unauthenticated().build().unwrap());
        let key = PrivateKeyDer::try_from(member.key.serialize_der()).unwrap();
        Arc::new(config.with_single_cert(vec![member.certificate.der().clone()], key).unwrap())
    }
}

/// A URL where nobody listens.
pub fn nobody() -> String {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    format!("https://{}", listener.local_addr().unwrap())
}

/// A whole answer.
pub fn answer(status: &str, body: &str) -> String {
    let length = body.len();
    format!("HTTP/1.1 {status}\r\ncontent-length: {length}\r\nconnection: close\r\n\r\n{body}")
}

/// An answer whose end is the end of the connection.
pub fn stream(body: &str) -> String {
    format!("HTTP/1.1 200 OK\r\nconnection: close\r\n\r\n{body}")
}

fn read_request(stream: &mut impl Read) -> Option<Seen> {
    let mut reader = BufReader::new(stream);
    let mut line = String::new();
    reader.read_line(&mut line).ok().filter(|bytes| *bytes > 0)?;
    let target = line.trim_end().trim_end_matches(" HTTP/1.1").to_owned();
    let (mut key, mut authorization, mut length) = (None, None, 0);
    loop {
        line.clear();
        reader.read_line(&mut line).ok()?;
        match line.trim_end().split_once(": ") {
            Some(("idempotency-key", value)) => key = Some(value.to_owned()),
            Some(("authorization", value)) => authorization = Some(value.to_owned()),
            Some(("content-length", value)) => length = value.parse().unwrap(),
            Some(_) => {}
            None => break,
        }
    }
    let mut body = vec![0; length];
    reader.read_exact(&mut body).ok()?;
    Some(Seen { target, key, authorization, has_certificate: false, body })
}
