//! Links between members, over real sockets: who gets in, who does not, and what a broken frame costs.
#![allow(clippy::unwrap_used, reason = "helpers of tests are outside their functions")]

mod support;

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use novacron_protocol::time::Timestamp;
use novacron_transport::authority::Grant;
use novacron_transport::connection::Closed;
use novacron_transport::endpoint::{ConnectError, EndpointError};
use novacron_transport::identity::IdentityError;
use novacron_transport::{
    CloseCode, Credentials, Endpoint, ExpectedPeer, FrameError, LinkSettings, Role, tls,
};
use quinn::crypto::rustls::QuicClientConfig;
use rustls::RootCertStore;
use support::*;

fn refused_by_peer(closed: &Closed) -> CloseCode {
    match closed {
        Closed::ByPeer { code, .. } => *code,
        other => panic!("not closed by the peer: {other:?}"),
    }
}

#[tokio::test]
async fn both_ends_know_each_other_and_exchange_frames() {
    let pair = soon(pair()).await;
    assert_eq!(pair.at_client.peer().to_string(), "coordinator c1");
    assert_eq!(pair.at_server.peer().to_string(), "agent node-01");
    assert!(pair.at_server.require_role(&[Role::Agent]).is_ok());
    assert!(pair.at_server.require_role(&[Role::Operator, Role::Coordinator]).is_err());

    let serve = async {
        let (mut send, mut receive) = pair.at_server.accept_frames(64).await.unwrap();
        let request = receive.receive().await.unwrap().unwrap();
        send.send(request).await.unwrap();
        send.finish().await.unwrap();
        assert!(receive.receive().await.unwrap().is_none());
    };
    let ask = async {
        let (mut send, mut receive) = pair.at_client.open_frames(64).await.unwrap();
        send.send(Bytes::from_static(b"ping")).await.unwrap();
        send.finish().await.unwrap();
        assert_eq!(receive.receive().await.unwrap().unwrap(), "ping");
        assert!(receive.receive().await.unwrap().is_none());
    };
    soon(async { tokio::join!(serve, ask) }).await;
    assert_eq!(pair.server.counters().connections_opened.get(), 1);
}

#[tokio::test]
async fn a_certificate_of_another_authority_is_refused_by_the_server() {
    let authority = authority();
    let (server, _acceptor, address) =
        listen(&issue(&authority, Role::Coordinator, "c1"), &[Role::Agent]);
    let client = dialler(&forge(&authority, Role::Agent, "node-01"));
    // TLS 1.3: the client is done before the server has judged its certificate.
    let closed = match soon(client.connect(address, &coordinator())).await {
        Ok(connection) => soon(connection.closed()).await,
        Err(ConnectError::Handshake { source, .. }) => source,
        Err(other) => panic!("{other:?}"),
    };
    assert!(matches!(closed, Closed::Transport(_)), "{closed:?}");
    until(|| server.counters().handshakes_failed.get() == 1).await;
    assert_eq!(server.counters().connections_opened.get(), 0);
}

#[tokio::test]
async fn a_server_of_another_authority_is_refused_by_the_client() {
    let authority = authority();
    let (_server, _acceptor, address) =
        listen(&forge(&authority, Role::Coordinator, "c1"), &[Role::Agent]);
    let client = dialler(&issue(&authority, Role::Agent, "node-01"));
    let error = soon(client.connect(address, &coordinator())).await.unwrap_err();
    assert!(
        matches!(error, ConnectError::Handshake { source: Closed::Transport(_), .. }),
        "{error:?}"
    );
}

#[tokio::test]
async fn an_expired_certificate_is_refused() {
    let authority = authority();
    let (server, _acceptor, address) =
        listen(&issue(&authority, Role::Coordinator, "c1"), &[Role::Agent]);
    let long_ago = Timestamp::from_unix_ms(now().unix_ms - 86_400_000);
    let mut grant = Grant::new(Role::Agent, name("node-01"), long_ago);
    grant.validity_seconds = 60;
    let client = dialler(&authority.issue(&grant).unwrap());
    if let Ok(connection) = soon(client.connect(address, &coordinator())).await {
        assert!(matches!(soon(connection.closed()).await, Closed::Transport(_)));
    }
    until(|| server.counters().handshakes_failed.get() == 1).await;
}

#[tokio::test]
async fn a_role_that_is_not_welcome_is_told_so_and_counted() {
    let authority = authority();
    let (server, _acceptor, address) =
        listen(&issue(&authority, Role::Coordinator, "c1"), &[Role::Agent, Role::Coordinator]);
    for (refusals, role) in [(1, Role::Operator), (2, Role::Partner)] {
        let client = dialler(&issue(&authority, role, "x"));
        let connection = soon(client.connect(address, &coordinator())).await.unwrap();
        let closed = soon(connection.closed()).await;
        assert_eq!(refused_by_peer(&closed), CloseCode::IdentityRefused);
        assert!(closed.to_string().contains("may not do this"), "{closed}");
        until(|| server.counters().identities_refused.get() == refusals).await;
    }
    assert_eq!(server.counters().connections_opened.get(), 0);
}

#[tokio::test]
async fn the_dialler_gets_whom_it_expects_or_an_error() {
    let authority = authority();
    let (_server, mut acceptor, address) =
        listen(&issue(&authority, Role::Agent, "node-02"), &[Role::Agent]);
    let client = dialler(&issue(&authority, Role::Agent, "node-01"));
    let expected = [coordinator(), ExpectedPeer::named(Role::Agent, name("node-03"))];
    for expected in expected {
        let error = soon(client.connect(address, &expected)).await.unwrap_err();
        let ConnectError::WrongPeer { source: IdentityError::Unexpected { found, .. }, .. } = error
        else {
            panic!("{error:?}")
        };
        assert_eq!(found.to_string(), "agent node-02");
        // The server admitted the dialler, which then hung up with the reason.
        let closed = soon(soon(acceptor.accept()).await.unwrap().closed()).await;
        assert_eq!(refused_by_peer(&closed), CloseCode::IdentityRefused);
    }
    let expected = ExpectedPeer::named(Role::Agent, name("node-02"));
    assert!(soon(client.connect(address, &expected)).await.is_ok());
    assert_eq!(client.counters().identities_refused.get(), 2);
}

/// A client that trusts `trust`'s cluster and shows no certificate.
fn anonymous(trust: &Credentials, alpn: &[u8]) -> quinn::Endpoint {
    let mut roots = RootCertStore::empty();
    roots.add(trust.anchors()[0].clone()).unwrap();
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let mut config = rustls::ClientConfig::builder_with_provider(provider)
        .with_protocol_versions(&[&rustls::version::TLS13])
        .unwrap()
        .with_root_certificates(roots)
        .with_no_client_auth();
    config.alpn_protocols = vec![alpn.to_vec()];
    let config = Arc::new(QuicClientConfig::try_from(config).unwrap());
    let mut endpoint = quinn::Endpoint::client(LOOPBACK).unwrap();
    endpoint.set_default_client_config(quinn::ClientConfig::new(config));
    endpoint
}

#[tokio::test]
async fn a_client_without_certificate_or_with_another_protocol_is_refused_in_the_handshake() {
    let credentials = issue(&authority(), Role::Coordinator, "c1");
    let (server, _acceptor, address) = listen(&credentials, &Role::ALL);
    let server_name = format!("{}.novacron.internal", credentials.identity().cluster);
    for (failures, alpn) in [(1, tls::LINK_ALPN), (2, tls::ENROLMENT_ALPN), (3, b"h3")] {
        let client = anonymous(&credentials, alpn);
        let error = match soon(client.connect(address, &server_name).unwrap()).await {
            Ok(quic) => soon(quic.closed()).await,
            Err(error) => error,
        };
        assert!(matches!(error, quinn::ConnectionError::ConnectionClosed(_)), "{error:?}");
        until(|| server.counters().handshakes_failed.get() == failures).await;
    }
    assert_eq!(server.counters().connections_opened.get(), 0);
}

#[tokio::test]
async fn a_frame_that_breaks_the_rules_costs_the_connection() {
    let broken: [(&[u8], bool); 2] = [(&u32::MAX.to_le_bytes(), false), (b"\x05\0\0\0ab", true)];
    for (bytes, finish) in broken {
        let pair = soon(pair()).await;
        let (mut send, _receive) = pair.at_client.open_bi().await.unwrap();
        send.write_all(bytes).await.unwrap();
        if finish {
            send.finish().unwrap();
        }
        let (_send, mut receive) = soon(pair.at_server.accept_frames(64)).await.unwrap();
        let error = soon(receive.receive()).await.unwrap_err();
        assert!(matches!(error, FrameError::TooLong { .. } | FrameError::CutOff { bytes: 6 }));
        let closed = soon(pair.at_client.closed()).await;
        assert_eq!(refused_by_peer(&closed), CloseCode::BadFrame);
        assert_eq!(pair.server.counters().violations.get(), 1);
        assert_eq!(pair.at_server.close_reason(), Some(Closed::Here));
    }
}

#[tokio::test]
async fn a_frame_over_the_limit_is_not_sent() {
    let pair = soon(pair()).await;
    let (mut send, _receive) = pair.at_client.open_frames(4).await.unwrap();
    let long = Bytes::from_static(b"12345");
    for error in
        [send.send(long.clone()).await.unwrap_err(), send.send_uncopied(long).await.unwrap_err()]
    {
        assert!(matches!(error, FrameError::TooLong { bytes: 5, limit: 4 }));
    }
    assert!(pair.at_client.close_reason().is_none());
}

#[tokio::test]
async fn frames_that_are_not_copied_arrive_among_those_that_are() {
    const FRAME_BYTES: usize = 3 << 20;
    let pair = soon(pair()).await;
    let frame = |byte| Bytes::from(vec![byte; FRAME_BYTES]);
    let serve = async {
        let (_send, mut receive) = pair.at_server.accept_frames(FRAME_BYTES).await.unwrap();
        for byte in 0..4 {
            assert!(receive.receive().await.unwrap() == Some(frame(byte)), "frame {byte}");
        }
    };
    let ask = async {
        let (mut send, receive) = pair.at_client.open_frames(FRAME_BYTES).await.unwrap();
        for byte in [0, 2] {
            send.send(frame(byte)).await.unwrap();
            send.send_uncopied(frame(byte + 1)).await.unwrap();
        }
        (send, receive)
    };
    soon(async { tokio::join!(serve, ask) }).await;
}

#[tokio::test]
async fn a_message_without_meaning_costs_the_connection() {
    let pair = soon(pair()).await;
    pair.at_server.refuse_message("no such message");
    let closed = soon(pair.at_client.closed()).await;
    assert_eq!(refused_by_peer(&closed), CloseCode::BadMessage);
    assert_eq!(pair.server.counters().violations.get(), 1);
}

#[tokio::test]
async fn handshakes_over_the_bound_are_refused_and_counted() {
    let authority = authority();
    let settings = LinkSettings { handshakes_max: 0, ..LinkSettings::control() };
    let credentials = issue(&authority, Role::Coordinator, "c1");
    let (server, _acceptor) =
        Endpoint::bind(LOOPBACK, &credentials, &[Role::Agent], settings).unwrap();
    let client = dialler(&issue(&authority, Role::Agent, "node-01"));
    let address = server.local_address().unwrap();
    let error = soon(client.connect(address, &coordinator())).await.unwrap_err();
    assert!(matches!(error, ConnectError::Handshake { .. }), "{error:?}");
    assert_eq!(server.counters().handshakes_refused.get(), 1);
}

#[tokio::test]
async fn a_full_backlog_refuses_instead_of_growing() {
    let authority = authority();
    let settings = LinkSettings { accept_backlog_max: 1, ..LinkSettings::control() };
    let credentials = issue(&authority, Role::Coordinator, "c1");
    let (server, mut acceptor) =
        Endpoint::bind(LOOPBACK, &credentials, &[Role::Agent], settings).unwrap();
    let client = dialler(&issue(&authority, Role::Agent, "node-01"));
    let address = server.local_address().unwrap();
    let first = soon(client.connect(address, &coordinator())).await.unwrap();
    assert!(soon(client.connect(address, &coordinator())).await.is_err());
    assert!(soon(acceptor.accept()).await.is_some());
    assert!(soon(client.connect(address, &coordinator())).await.is_ok());
    drop(first);
}

#[tokio::test]
async fn nobody_there_is_an_error_in_bounded_time() {
    let authority = authority();
    let settings =
        LinkSettings { handshake_timeout: Duration::from_millis(50), ..LinkSettings::control() };
    let credentials = issue(&authority, Role::Agent, "node-01");
    let client = Endpoint::client(LOOPBACK, &credentials, settings).unwrap();
    let silent = std::net::UdpSocket::bind(LOOPBACK).unwrap();
    let error = soon(client.connect(silent.local_addr().unwrap(), &coordinator())).await;
    assert!(matches!(error, Err(ConnectError::TimedOut { milliseconds: 50, .. })), "{error:?}");
}

#[tokio::test]
async fn closing_ends_everything() {
    let Pair { server, client, mut acceptor, at_client, at_server: _at_server } =
        soon(pair()).await;
    server.close(CloseCode::NotLeader, "c2 leads");
    assert!(soon(acceptor.accept()).await.is_none());
    let closed = soon(at_client.closed()).await;
    assert_eq!(refused_by_peer(&closed), CloseCode::NotLeader);
    soon(acceptor.stop()).await;
    soon(server.wait_idle()).await;
    client.close(CloseCode::Done, "");
    soon(client.wait_idle()).await;
}

#[tokio::test]
async fn a_stopped_acceptor_ignores_new_peers_and_keeps_old_ones() {
    let authority = authority();
    let (server, mut acceptor, address) =
        listen(&issue(&authority, Role::Coordinator, "c1"), &[Role::Agent]);
    let settings =
        LinkSettings { handshake_timeout: Duration::from_millis(500), ..LinkSettings::control() };
    let credentials = issue(&authority, Role::Agent, "node-01");
    let client = Endpoint::client(LOOPBACK, &credentials, settings).unwrap();
    let (connection, _accepted) = soon(meet(&client, address, &mut acceptor)).await;
    soon(acceptor.stop()).await;
    assert!(soon(client.connect(address, &coordinator())).await.is_err());
    assert!(connection.close_reason().is_none());
    drop(server);
}

#[tokio::test]
async fn an_operator_cannot_listen() {
    let credentials = issue(&authority(), Role::Operator, "alice");
    let error = Endpoint::bind(LOOPBACK, &credentials, &[Role::Agent], LinkSettings::control());
    assert!(matches!(error, Err(EndpointError::MayNotServe { .. })));
}

fn runtime() -> tokio::runtime::Runtime {
    tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap()
}

/// A killed process says nothing. Its successor does, as soon as something comes for a connection of the old one.
#[test]
fn a_peer_that_was_killed_and_started_again_is_noticed_at_once() {
    let authority = authority();
    let server = issue(&authority, Role::Coordinator, "c1");
    let (killed, survivor) = (runtime(), runtime());
    let (endpoint, mut acceptor, address) =
        killed.block_on(async { listen(&server, &[Role::Agent]) });
    let listening = killed.spawn(async move { acceptor.accept().await });
    let client = issue(&authority, Role::Agent, "node-01");
    let at_client = survivor
        .block_on(soon(async { dialler(&client).connect(address, &coordinator()).await.unwrap() }));
    let at_server = killed.block_on(soon(listening)).unwrap().unwrap();
    // In this order: nothing that could say goodbye is left when the connection ends.
    drop(killed);
    drop((at_server, endpoint));

    survivor.block_on(soon(async {
        let settings = LinkSettings::control();
        let _again = Endpoint::bind(address, &server, &[Role::Agent], settings).unwrap();
        // Sent until something is heard; what QUIC has sent by itself may be answered first.
        if let Ok((mut send, _)) = at_client.open_frames(64).await {
            let _sent = send.send(Bytes::from_static(b"hello")).await;
        }
        assert!(matches!(at_client.closed().await, Closed::Restarted));
    }));
}
