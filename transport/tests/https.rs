//! The API's TLS, in memory: records go from one rustls connection to the other.
#![allow(clippy::unwrap_used, reason = "helpers of tests are outside their functions")]

mod support;

use std::sync::Arc;

use novacron_transport::authority::Grant;
use novacron_transport::identity::IdentityError;
use novacron_transport::{ClusterAuthority, Credentials, Role, tls};
use rustls::{
    ClientConfig, ClientConnection, Error, HandshakeKind, PeerIncompatible, ProtocolVersion,
    RootCertStore, ServerConfig, ServerConnection,
};
use support::*;

struct Api {
    authority: ClusterAuthority,
    server: Arc<ServerConfig>,
}

fn api() -> Api {
    let authority = authority();
    let grant = Grant::new(Role::Coordinator, name("c1"), now());
    let grant = grant.with_hosts(vec!["localhost".to_owned(), "127.0.0.1".to_owned()]);
    let credentials = authority.issue(&grant).unwrap();
    let server = Arc::new(tls::https_server(&credentials).unwrap());
    Api { authority, server }
}

/// An HTTPS client as an SDK makes it: the CA file, the host of the URL, perhaps a client certificate.
fn client(authority: &ClusterAuthority, own: Option<&Credentials>) -> Arc<ClientConfig> {
    let trust = issue(authority, Role::Operator, "x");
    let mut roots = RootCertStore::empty();
    roots.add(trust.anchors()[0].clone()).unwrap();
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let builder = ClientConfig::builder_with_provider(provider)
        .with_protocol_versions(&[&rustls::version::TLS13])
        .unwrap()
        .with_root_certificates(roots);
    let mut config = match own {
        Some(own) => builder.with_client_auth_cert(own.chain().to_vec(), key(own)).unwrap(),
        None => builder.with_no_client_auth(),
    };
    config.alpn_protocols = vec![b"http/1.1".to_vec()];
    Arc::new(config)
}

fn key(credentials: &Credentials) -> rustls_pki_types::PrivateKeyDer<'static> {
    use rustls_pki_types::pem::PemObject;
    rustls_pki_types::PrivateKeyDer::from_pem_slice(credentials.key_pem().as_bytes()).unwrap()
}

fn shake_hands(
    server: &Arc<ServerConfig>,
    client: &Arc<ClientConfig>,
    host: &str,
) -> Result<(ServerConnection, ClientConnection), Error> {
    let mut server = ServerConnection::new(Arc::clone(server)).unwrap();
    let host = host.to_owned().try_into().unwrap();
    let mut client = ClientConnection::new(Arc::clone(client), host).unwrap();
    while server.is_handshaking() || client.is_handshaking() || client.wants_write() {
        let mut bytes = Vec::new();
        client.write_tls(&mut bytes).unwrap();
        server.read_tls(&mut bytes.as_slice()).unwrap();
        server.process_new_packets()?;
        bytes.clear();
        server.write_tls(&mut bytes).unwrap();
        client.read_tls(&mut bytes.as_slice()).unwrap();
        client.process_new_packets()?;
    }
    Ok((server, client))
}

#[test]
fn a_client_may_show_a_certificate_or_none() {
    let api = api();
    let operator = issue(&api.authority, Role::Operator, "alice");
    let (server, client_side) =
        shake_hands(&api.server, &client(&api.authority, Some(&operator)), "localhost").unwrap();
    assert_eq!(server.protocol_version(), Some(ProtocolVersion::TLSv1_3));
    assert_eq!(server.alpn_protocol(), Some(&b"http/1.1"[..]));
    assert_eq!(tls::peer_identity(server.peer_certificates()).as_ref(), Ok(operator.identity()));
    let shown = tls::peer_identity(client_side.peer_certificates()).unwrap();
    assert_eq!(shown.to_string(), "coordinator c1");

    let (server, _) = shake_hands(&api.server, &client(&api.authority, None), "127.0.0.1").unwrap();
    let identity = tls::peer_identity(server.peer_certificates());
    assert_eq!(identity, Err(IdentityError::NoCertificate));
}

#[test]
fn a_certificate_of_another_authority_is_refused() {
    let api = api();
    let forged = forge(&api.authority, Role::Operator, "alice");
    let outcome = shake_hands(&api.server, &client(&api.authority, Some(&forged)), "localhost");
    assert!(matches!(outcome, Err(Error::InvalidCertificate(_))), "{:?}", outcome.err());
}

#[test]
fn an_agent_cannot_pass_for_the_api() {
    let api = api();
    let agent = issue(&api.authority, Role::Agent, "localhost");
    let server = Arc::new(tls::https_server(&agent).unwrap());
    let outcome = shake_hands(&server, &client(&api.authority, None), "localhost");
    assert!(matches!(outcome, Err(Error::InvalidCertificate(_))), "{:?}", outcome.err());
}

#[test]
fn every_connection_shows_its_certificate_again() {
    let api = api();
    let operator = issue(&api.authority, Role::Operator, "alice");
    let client = client(&api.authority, Some(&operator));
    for _ in 0..2 {
        let (server, _) = shake_hands(&api.server, &client, "localhost").unwrap();
        assert_eq!(server.handshake_kind(), Some(HandshakeKind::Full));
        assert!(server.peer_certificates().is_some());
    }
}

/// A ClientHello of TLS 1.2, written by hand because this build cannot speak it: no `supported_versions`, so
/// `legacy_version` 0x0303 is all it offers.
fn client_hello_of_tls12() -> Vec<u8> {
    let extensions = [
        &[0x00, 0x0a, 0, 4, 0, 2, 0x00, 0x17][..], // supported_groups: secp256r1
        &[0x00, 0x0b, 0, 2, 1, 0],                 // ec_point_formats: uncompressed
        &[0x00, 0x0d, 0, 4, 0, 2, 0x04, 0x03],     // signature_algorithms: ecdsa_secp256r1_sha256
    ]
    .concat();
    let body = [
        &[0x03, 0x03][..],               // TLS 1.2
        &[7; 32],                        // random
        &[0],                            // no session
        &[0, 4, 0xc0, 0x2b, 0xc0, 0x2f], // ECDHE with AES-128-GCM
        &[1, 0],                         // no compression
        &[0, extensions.len() as u8],
        &extensions,
    ]
    .concat();
    let handshake = [&[1, 0, 0, body.len() as u8][..], &body].concat();
    [&[0x16, 0x03, 0x01, 0, handshake.len() as u8][..], &handshake].concat()
}

#[test]
fn tls_1_2_is_refused() {
    let mut server = ServerConnection::new(api().server).unwrap();
    server.read_tls(&mut client_hello_of_tls12().as_slice()).unwrap();
    let error = server.process_new_packets().unwrap_err();
    let expected = PeerIncompatible::SupportedVersionsExtensionRequired;
    assert_eq!(error, Error::PeerIncompatible(expected));
    let mut alert = Vec::new();
    server.write_tls(&mut alert).unwrap();
    let protocol_version = 70;
    assert_eq!(alert.last(), Some(&protocol_version));
}

#[test]
fn plain_http_is_refused() {
    let mut server = ServerConnection::new(api().server).unwrap();
    server.read_tls(&mut &b"GET /healthz HTTP/1.1\r\nhost: localhost\r\n\r\n"[..]).unwrap();
    let error = server.process_new_packets().unwrap_err();
    assert!(matches!(error, Error::InvalidMessage(_)), "{error:?}");
}
