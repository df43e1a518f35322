//! One coordinator, founded and started in this process, with its own data directory.

use std::net::SocketAddr;
use std::path::Path;

use novacron_coordinator::app::App;
use novacron_coordinator::clock::{Clock, new_request};
use novacron_coordinator::config::Config;
use novacron_coordinator::coordinator::Coordinator;
use novacron_coordinator::founding;
use novacron_coordinator::state::command::{OpenSession, SessionReports};
use novacron_coordinator::state::node::SessionId;
use novacron_coordinator::state::{Body, Command};
use novacron_protocol::effect::{EffectOutcome, Report};
use novacron_protocol::ids::NodeName;
use novacron_protocol::node::{Accelerator, NodeCapacity, NodeFacts};
use novacron_protocol::vm::Labels;
use novacron_transport::authority::Grant;
use novacron_transport::{ClusterAuthority, Credentials, Role};
use tempfile::TempDir;
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use crate::https::Https;
use crate::support::{free_address, log_as_asked};

/// A running coordinator.
pub struct Member {
    coordinator: Coordinator,
    authority: ClusterAuthority,
    address: SocketAddr,
    peer_address: SocketAddr,
    _directory: TempDir,
}

impl Member {
    /// Founds a cluster of one and starts it.
    pub async fn start() -> Self {
        Self::start_with(Clock::system()).await
    }

    /// The same, by another clock.
    pub async fn start_with(clock: Clock) -> Self {
        Self::start_configured(clock, "").await
    }

    /// The same, with more of a configuration.
    pub async fn start_configured(clock: Clock, more: &str) -> Self {
        log_as_asked();
        let directory = tempfile::tempdir().unwrap();
        let address = free_address();
        let config = config(directory.path(), address, more);
        founding::init(&config, None, Clock::system()).await.unwrap();
        let authority = ClusterAuthority::load(&config.data_directory.join("authority")).unwrap();
        let coordinator = Coordinator::start(&config, clock).await.unwrap();
        let peer_address = config.peer_listen;
        Self { coordinator, authority, address, peer_address, _directory: directory }
    }

    /// Stops it and waits until everything has ended.
    pub async fn stop(self) {
        self.coordinator.shutdown().await;
    }

    pub fn app(&self) -> &App {
        self.coordinator.app()
    }

    pub fn metrics_address(&self) -> SocketAddr {
        self.coordinator.metrics_address().unwrap()
    }

    pub fn peer_address(&self) -> SocketAddr {
        self.peer_address
    }

    pub fn api_address(&self) -> SocketAddr {
        self.address
    }

    /// A client with a certificate of a role; an operator's is that of the first one, who may do everything.
    pub fn client(&self, role: Role) -> Https {
        self.client_named(role, "admin")
    }

    /// A client with a certificate of a role and a name.
    pub fn client_named(&self, role: Role, name: &str) -> Https {
        Https::with(self.address, &self.credentials(role, name))
    }

    /// Credentials of a role and a name.
    pub fn credentials(&self, role: Role, name: &str) -> Credentials {
        issue_to(&self.authority, role, name)
    }

    /// The page of its metrics.
    pub async fn metrics(&self) -> String {
        let mut stream = tokio::net::TcpStream::connect(self.metrics_address()).await.unwrap();
        let request = b"GET /metrics HTTP/1.0\r\nhost: novacron\r\n\r\n";
        stream.write_all(request).await.unwrap();
        let mut page = String::new();
        stream.read_to_string(&mut page).await.unwrap();
        page
    }

    /// A client that shows no certificate.
    pub fn anonymous(&self) -> Https {
        Https::anonymous(self.address, &issue(&self.authority, Role::Operator))
    }

    /// An operator of another cluster that says it is this one.
    pub fn stranger(&self) -> Https {
        let now = Clock::system().now();
        let other = ClusterAuthority::create(self.authority.cluster(), now).unwrap();
        let theirs = issue(&other, Role::Operator);
        let (chain, key) = (theirs.chain_pem(), theirs.key_pem());
        let mixed = Credentials::from_pem(self.authority.bundle_pem(), chain, key).unwrap();
        Https::with(self.address, &mixed)
    }

    /// What an agent's first hello does to the fleet.
    pub async fn join_node(&self, name: &str, memory_bytes: u64) {
        let facts = NodeFacts {
            capacity: NodeCapacity { memory_bytes, cpus: 8, disk_bytes: 1 << 40 },
            labels: Labels::new(),
            migration_address: "127.0.0.1:7410".into(),
            agent_version: "0.1.0".into(),
            qemu_version: "10.0.2".into(),
            accelerator: Accelerator::Tcg,
            accelerator_reason: "a test".into(),
            has_swtpm: false,
        };
        let node = name.parse().unwrap();
        let open = OpenSession { node, session: SessionId(1), facts, machines: Vec::new() };
        let at = Clock::system().now();
        let command = Command::of_cluster(new_request(at), at, Body::OpenSession(open));
        self.app().proposer.propose(command).await.unwrap();
    }

    /// What an agent's report does that has done everything it was told.
    pub async fn settle(&self, name: &str) {
        let node: NodeName = name.parse().unwrap();
        let reports = self.app().view.local(|fleet| {
            let row = fleet.node(&node).unwrap();
            let own = fleet.outbox_after(Default::default()).filter(|row| row.node == node);
            let done = |effect| Report::EffectDone { effect, outcome: EffectOutcome::Done };
            SessionReports {
                node: node.clone(),
                session: row.session,
                first_sequence: row.sequence + 1,
                reports: own.map(|row| done(row.effect.id)).collect(),
            }
        });
        let at = Clock::system().now();
        let command = Command::of_cluster(new_request(at), at, Body::Reports(vec![reports]));
        self.app().proposer.propose(command).await.unwrap();
    }
}

fn issue(authority: &ClusterAuthority, role: Role) -> Credentials {
    issue_to(authority, role, "admin")
}

fn issue_to(authority: &ClusterAuthority, role: Role, name: &str) -> Credentials {
    let grant = Grant::new(role, name.parse().unwrap(), Clock::system().now());
    authority.issue(&grant).unwrap()
}

/// A quick pace, and nodes that nobody misses although no agent speaks for them.
fn config(directory: &Path, api_listen: SocketAddr, more: &str) -> Config {
    let text = format!(
        "name = \"coordinator-1\"\n\
         data_directory = {:?}\n\
         peer_listen = \"{}\"\n\
         api_listen = \"{api_listen}\"\n\
         metrics_listen = \"127.0.0.1:0\"\n\
         [timing]\n\
         heartbeat_ms = 20\n\
         election_ms_min = 120\n\
         [agents]\n\
         suspect_after_ms = 600000\n\
         down_after_ms = 900000\n\
         {more}\n",
        directory.join("data"),
        free_address(),
    );
    Config::parse(&text, directory).unwrap()
}
