//! Enrolment over real sockets, with the tokens of a cluster kept in memory.
#![allow(clippy::unwrap_used, reason = "helpers of tests are outside their functions")]

mod support;

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex};

use bytes::Bytes;
use novacron_protocol::time::Timestamp;
use novacron_protocol::wire::codec;
use novacron_transport::authority::Fingerprint;
use novacron_transport::counters::Counters;
use novacron_transport::endpoint::ConnectError;
use novacron_transport::enrolment::{
    EnrolDecider, EnrolError, EnrolResponse, Enrolled, EnrolmentServer, Redemption, Refusal,
    RefusalCode, enrol,
};
use novacron_transport::token::{JoinToken, RANDOM_BYTES, TokenId, TokenRecord};
use novacron_transport::{ClusterAuthority, Credentials, FramedRecv, FramedSend, Role, tls};
use quinn::crypto::rustls::QuicClientConfig;
use support::*;
use tokio::sync::oneshot;
use tokio::task::JoinHandle;

/// The coordinator's part: what the replicated state does with tokens.
#[derive(Default)]
struct Tokens(Mutex<BTreeMap<TokenId, TokenRecord>>);

impl EnrolDecider for Tokens {
    fn now(&self) -> Timestamp {
        now()
    }

    fn contacts(&self) -> Vec<String> {
        vec!["c1:7400".to_owned()]
    }

    async fn token(&self, id: TokenId) -> Result<Option<TokenRecord>, Refusal> {
        Ok(self.0.lock().unwrap().get(&id).cloned())
    }

    async fn redeem(&self, redemption: Redemption) -> Result<(), Refusal> {
        let mut tokens = self.0.lock().unwrap();
        let record = tokens.get_mut(&redemption.token).unwrap();
        assert!(!record.used, "transport refuses a used token before it redeems");
        record.used = true;
        Ok(())
    }
}

struct Cluster {
    authority: Arc<ClusterAuthority>,
    tokens: Arc<Tokens>,
    address: SocketAddr,
    counters: Arc<Counters>,
    stop: oneshot::Sender<()>,
    server: JoinHandle<()>,
}

impl Cluster {
    fn start() -> Self {
        Self::start_as(Role::Coordinator)
    }

    fn start_as(role: Role) -> Self {
        let authority = Arc::new(authority());
        let tokens = Arc::<Tokens>::default();
        let credentials = issue(&authority, role, "c1");
        let server = EnrolmentServer::bind(LOOPBACK, &credentials, Arc::clone(&authority)).unwrap();
        let (address, counters) = (server.local_address().unwrap(), server.counters());
        let (stop, stopped) = oneshot::channel();
        let stopped = async { drop(stopped.await) };
        let server = tokio::spawn(server.serve(Arc::clone(&tokens), stopped));
        Self { authority, tokens, address, counters, stop, server }
    }

    /// A token for agents of any name, filed with the cluster after `change`.
    fn token(&self, change: impl FnOnce(&mut TokenRecord)) -> JoinToken {
        let random: [u8; RANDOM_BYTES] = std::array::from_fn(|_| rand::random());
        let token = JoinToken::generate(&random, self.authority.fingerprint());
        let mut record = TokenRecord {
            role: Role::Agent,
            name: None,
            expires_at: now().plus_ms(60_000),
            secret_hash: token.secret_hash(),
            used: false,
        };
        change(&mut record);
        self.tokens.0.lock().unwrap().insert(token.id(), record);
        token
    }

    async fn enrol_agent(&self, token: &JoinToken) -> Result<Enrolled, EnrolError> {
        soon(enrol(self.address, token, Role::Agent, &name("node-01"), &[])).await
    }

    async fn refusal(&self, token: &JoinToken) -> RefusalCode {
        match self.enrol_agent(token).await.unwrap_err() {
            EnrolError::Refused(refusal) => refusal.code,
            other => panic!("{other:?}"),
        }
    }

    async fn stop(self) {
        drop(self.stop);
        soon(self.server).await.unwrap();
    }
}

#[tokio::test]
async fn a_token_gives_credentials_once() {
    let cluster = Cluster::start();
    let token = cluster.token(|_| {});
    let enrolled = cluster.enrol_agent(&token).await.unwrap();
    assert_eq!(enrolled.credentials.identity().to_string(), "agent node-01");
    assert!(enrolled.authority.is_none());

    let coordinator_credentials = issue(&cluster.authority, Role::Coordinator, "c1");
    let (_server, mut acceptor, address) = listen(&coordinator_credentials, &[Role::Agent]);
    let client = dialler(&enrolled.credentials);
    let (_at_agent, at_coordinator) = soon(meet(&client, address, &mut acceptor)).await;
    assert_eq!(at_coordinator.peer(), enrolled.credentials.identity());

    assert_eq!(cluster.refusal(&token).await, RefusalCode::TokenUsed);
    assert_eq!(cluster.counters.enrolments_granted.get(), 1);
    assert_eq!(cluster.counters.enrolments_refused(RefusalCode::TokenUsed), 1);
    cluster.stop().await;
}

#[tokio::test]
async fn a_token_that_does_not_fit_is_refused_and_not_spent() {
    let cluster = Cluster::start();
    let unknown = JoinToken::generate(&[1; RANDOM_BYTES], cluster.authority.fingerprint());
    assert_eq!(cluster.refusal(&unknown).await, RefusalCode::TokenInvalid);
    let expired = cluster.token(|record| record.expires_at = now());
    assert_eq!(cluster.refusal(&expired).await, RefusalCode::TokenExpired);
    let of_operator = cluster.token(|record| record.role = Role::Operator);
    assert_eq!(cluster.refusal(&of_operator).await, RefusalCode::ClaimRefused);
    let named = cluster.token(|record| record.name = Some(name("node-02")));
    assert_eq!(cluster.refusal(&named).await, RefusalCode::ClaimRefused);
    assert!(cluster.tokens.0.lock().unwrap().values().all(|record| !record.used));
}

#[tokio::test]
async fn the_right_id_with_the_wrong_secret_is_refused() {
    let cluster = Cluster::start();
    let text = cluster.token(|_| {}).to_text();
    let mut parts: Vec<String> = text.split('.').map(str::to_owned).collect();
    parts[2] = "00".repeat(32);
    let wrong: JoinToken = parts.join(".").parse().unwrap();
    assert_eq!(cluster.refusal(&wrong).await, RefusalCode::TokenInvalid);
}

#[tokio::test]
async fn a_cluster_that_the_token_does_not_pin_gets_no_proof() {
    let cluster = Cluster::start();
    let text = cluster.token(|_| {}).to_text();
    let pinned = cluster.authority.fingerprint().to_string();
    let other = text.replace(&pinned, &Fingerprint([9; 32]).to_string()).parse().unwrap();
    let error = cluster.enrol_agent(&other).await.unwrap_err();
    assert!(matches!(error, EnrolError::Connect(ConnectError::Handshake { .. })), "{error:?}");
}

#[tokio::test]
async fn an_agent_that_plays_the_coordinator_gets_no_proof() {
    let cluster = Cluster::start_as(Role::Agent);
    let token = cluster.token(|_| {});
    let error = cluster.enrol_agent(&token).await.unwrap_err();
    assert!(matches!(error, EnrolError::Connect(ConnectError::WrongPeer { .. })), "{error:?}");
    assert!(!cluster.tokens.0.lock().unwrap()[&token.id()].used);
}

fn names_of(credentials: &Credentials) -> String {
    let (_, parsed) = x509_parser::parse_x509_certificate(&credentials.chain()[0]).unwrap();
    format!("{:?}", parsed.subject_alternative_name().unwrap().unwrap().value)
}

#[tokio::test]
async fn a_coordinator_gets_its_hosts_and_the_authority() {
    let cluster = Cluster::start();
    let token = cluster.token(|record| record.role = Role::Coordinator);
    let hosts = ["c2.example".to_owned()];
    let enrolled =
        soon(enrol(cluster.address, &token, Role::Coordinator, &name("c2"), &hosts)).await.unwrap();
    assert!(names_of(&enrolled.credentials).contains("c2.example"));
    let authority = enrolled.authority.unwrap();
    assert_eq!(authority.fingerprint(), cluster.authority.fingerprint());
}

#[tokio::test]
async fn an_agent_gets_no_host_names() {
    let cluster = Cluster::start();
    let token = cluster.token(|_| {});
    let hosts = ["api.example".to_owned()];
    let enrolled =
        soon(enrol(cluster.address, &token, Role::Agent, &name("node-01"), &hosts)).await.unwrap();
    assert!(!names_of(&enrolled.credentials).contains("api.example"));
}

#[tokio::test]
async fn a_request_that_cannot_be_signed_costs_no_token() {
    let cluster = Cluster::start();
    let token = cluster.token(|record| record.role = Role::Coordinator);
    let hosts = ["not a host".to_owned()];
    let error = soon(enrol(cluster.address, &token, Role::Coordinator, &name("c2"), &hosts))
        .await
        .unwrap_err();
    let EnrolError::Refused(refusal) = error else { panic!("{error:?}") };
    assert_eq!(refusal.code, RefusalCode::RequestInvalid);
    assert_eq!(refusal.message, "`not a host` is neither a host name nor an address");
    assert!(!cluster.tokens.0.lock().unwrap()[&token.id()].used);
}

/// A connection of an applicant that does not follow the protocol.
async fn raw(cluster: &Cluster) -> (quinn::Endpoint, quinn::Connection) {
    let config = tls::enrolment_client(cluster.authority.fingerprint()).unwrap();
    let config = Arc::new(QuicClientConfig::try_from(config).unwrap());
    let mut client = quinn::Endpoint::client(LOOPBACK).unwrap();
    client.set_default_client_config(quinn::ClientConfig::new(config));
    let quic = soon(client.connect(cluster.address, "any.name").unwrap()).await.unwrap();
    (client, quic)
}

#[tokio::test]
async fn malformed_requests_are_refused_and_counted() {
    let cluster = Cluster::start();
    let (_client, quic) = raw(&cluster).await;
    let (mut send, _receive) = quic.open_bi().await.unwrap();
    send.write_all(&u32::MAX.to_le_bytes()).await.unwrap();
    let closed = soon(quic.closed()).await;
    assert!(matches!(closed, quinn::ConnectionError::ApplicationClosed(_)), "{closed:?}");
    assert_eq!(cluster.counters.violations.get(), 1);

    let (_client, quic) = raw(&cluster).await;
    let (send, receive) = quic.open_bi().await.unwrap();
    FramedSend::new(send, 64).send(Bytes::from_static(b"not a request")).await.unwrap();
    let answer = soon(FramedRecv::new(receive, 1024).receive()).await.unwrap().unwrap();
    let EnrolResponse::Refused(refusal) = codec::decode(&answer).unwrap() else { panic!() };
    assert_eq!(refusal.code, RefusalCode::RequestInvalid);
    assert_eq!(cluster.counters.enrolments_refused(RefusalCode::RequestInvalid), 1);
}
