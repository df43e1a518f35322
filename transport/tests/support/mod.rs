//! A cluster in memory and endpoints on loopback.
#![allow(dead_code, reason = "each test program uses its part")]

use std::future::Future;
use std::net::{Ipv4Addr, SocketAddr};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use novacron_protocol::ids::ClusterId;
use novacron_protocol::time::Timestamp;
use novacron_transport::authority::Grant;
use novacron_transport::{
    Acceptor, ClusterAuthority, Connection, Credentials, Endpoint, ExpectedPeer, LinkSettings,
    Role, SubjectName,
};

pub const LOOPBACK: SocketAddr = SocketAddr::new(std::net::IpAddr::V4(Ipv4Addr::LOCALHOST), 0);

pub fn now() -> Timestamp {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap();
    Timestamp::from_unix_ms(since.as_millis() as u64)
}

pub fn authority() -> ClusterAuthority {
    ClusterAuthority::create(ClusterId(uuid::Uuid::from_u128(1)), now()).unwrap()
}

pub fn name(text: &str) -> SubjectName {
    text.parse().unwrap()
}

pub fn issue(authority: &ClusterAuthority, role: Role, subject: &str) -> Credentials {
    authority.issue(&Grant::new(role, name(subject), now())).unwrap()
}

/// Credentials that trust `real` and are signed by another authority that claims the same cluster.
pub fn forge(real: &ClusterAuthority, role: Role, subject: &str) -> Credentials {
    let forged = issue(&authority(), role, subject);
    Credentials::from_pem(real.bundle_pem(), forged.chain_pem(), forged.key_pem()).unwrap()
}

pub fn listen(credentials: &Credentials, welcome: &[Role]) -> (Endpoint, Acceptor, SocketAddr) {
    let (endpoint, acceptor) =
        Endpoint::bind(LOOPBACK, credentials, welcome, LinkSettings::control()).unwrap();
    let address = endpoint.local_address().unwrap();
    (endpoint, acceptor, address)
}

pub fn dialler(credentials: &Credentials) -> Endpoint {
    Endpoint::client(LOOPBACK, credentials, LinkSettings::control()).unwrap()
}

pub fn coordinator() -> ExpectedPeer {
    ExpectedPeer::any(Role::Coordinator)
}

/// A coordinator that welcomes agents, an agent, and the connection between them, seen from both ends.
pub struct Pair {
    pub server: Endpoint,
    pub client: Endpoint,
    pub acceptor: Acceptor,
    pub at_server: Connection,
    pub at_client: Connection,
}

pub async fn pair() -> Pair {
    let authority = authority();
    let credentials = issue(&authority, Role::Coordinator, "c1");
    let (server, mut acceptor, address) = listen(&credentials, &[Role::Agent]);
    let client = dialler(&issue(&authority, Role::Agent, "node-01"));
    let (at_client, at_server) = meet(&client, address, &mut acceptor).await;
    Pair { server, client, acceptor, at_server, at_client }
}

/// A client that dials a coordinator which admits it.
pub async fn meet(
    client: &Endpoint,
    address: SocketAddr,
    acceptor: &mut Acceptor,
) -> (Connection, Connection) {
    let expected = coordinator();
    let (at_client, at_server) =
        tokio::join!(client.connect(address, &expected), acceptor.accept());
    (at_client.unwrap(), at_server.unwrap())
}

/// Nothing here takes a second; whatever hangs fails the test instead of stopping it.
pub async fn soon<F: Future>(future: F) -> F::Output {
    tokio::time::timeout(Duration::from_secs(10), future).await.expect("still waiting after 10 s")
}

pub async fn until(condition: impl Fn() -> bool) {
    soon(async {
        while !condition() {
            tokio::task::yield_now().await;
        }
    })
    .await;
}
