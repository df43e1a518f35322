//! Clusters of real coordinators in this process: real QUIC on loopback, real storage in temporary
//! directories, and agents that speak the protocol and do what the test says.
pub mod agent;
pub mod spec;
pub mod wait;

pub use spec::spec;

use std::collections::BTreeMap;
use std::net::{Ipv4Addr, SocketAddr, TcpListener, UdpSocket};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use futures_util::future::join_all;
use novacron_coordinator::app::App;
use novacron_coordinator::auth::{Authorized, Grant, Presented};
use novacron_coordinator::clock::{Clock, new_request};
use novacron_coordinator::config::Config;
use novacron_coordinator::coordinator::{Coordinator, StartError};
use novacron_coordinator::directory::MemberIdentity;
use novacron_coordinator::founding::{self, Invitation};
use novacron_coordinator::propose::{Intent, ProposeError};
use novacron_coordinator::state::formats::Formats;
use novacron_coordinator::state::member::MemberFacts;
use novacron_coordinator::state::{Accepted, Body, Command, Fleet};
use novacron_protocol::api::{SettingsChange, TokenCreate};
use novacron_protocol::ids::{ClusterId, RequestId, Revision, VmId};
use novacron_transport::{Credentials, Role, SubjectName};
use novacron_vault::VaultKey;
use tempfile::TempDir;
use tokio::time::timeout;

pub use wait::until;

/// Everything that is waited for happens within this, on a machine that does much else.
pub const DEADLINE: Duration = Duration::from_secs(40);

/// Ports that the system gives to nobody by itself (`ip_local_port_range` begins at 32768): a coordinator that is started
/// again would find its port taken by somebody's connection.
const PORTS: std::ops::Range<u32> = 16_384..32_768;

/// A loopback address that nobody in this process was given before, and whose port was free for TCP and UDP a moment ago.
pub fn free_address() -> SocketAddr {
    static NEXT: AtomicU32 = AtomicU32::new(0);
    // Programs at the same time begin at different places.
    let first = std::process::id().wrapping_mul(509);
    loop {
        let number = first.wrapping_add(NEXT.fetch_add(1, Ordering::Relaxed));
        let port = PORTS.start + number % (PORTS.end - PORTS.start);
        let address = SocketAddr::from((Ipv4Addr::LOCALHOST, port as u16));
        if UdpSocket::bind(address).is_ok() && TcpListener::bind(address).is_ok() {
            return address;
        }
    }
}

/// The files of a member's archive, sorted, without those that are being written.
pub fn archived(config: &Config) -> Vec<PathBuf> {
    let files = std::fs::read_dir(config.data_directory.join("archive")).unwrap();
    let files = files.map(|file| file.unwrap().path());
    let mut files: Vec<_> =
        files.filter(|file| file.extension().is_none_or(|end| end != "temporary")).collect();
    files.sort();
    files
}

pub fn config(name: &str, directory: &Path) -> Config {
    config_with(name, directory, "")
}

/// The same, with more of a configuration.
pub fn config_with(name: &str, directory: &Path, more: &str) -> Config {
    let text = format!(
        r#"
        name = "{name}"
        data_directory = "{}"
        peer_listen = "{}"
        api_listen = "{}"
        metrics_listen = "127.0.0.1:0"
        [timing]
        heartbeat_ms = 100
        election_ms_min = 1000
        entries_per_snapshot = 40
        [agents]
        suspect_after_ms = 1500
        down_after_ms = 4000
        [watch]
        cut_off_after_ms = 2000
        {more}
        "#,
        directory.join(name).display(),
        free_address(),
        free_address(),
    );
    Config::parse(&text, Path::new("test.toml")).unwrap()
}

/// A new file with a key.
pub fn key_file(directory: &Path, key: &VaultKey) -> PathBuf {
    let path = directory.join(format!("key-{}", key.id()));
    key.save_new(&path).unwrap();
    path
}

pub fn request() -> RequestId {
    new_request(Clock::system().now())
}

/// What the first operator asks for. It is let in by a fleet that was just founded; that in which it is applied
/// decides again.
pub fn by_operator<T>(value: T) -> Authorized<T> {
    let (at, operator) = (Clock::system().now(), "admin".parse::<SubjectName>().unwrap());
    let facts = MemberFacts {
        name: "c1".into(),
        peer_address: "".into(),
        api_address: "".into(),
        formats: Formats::default(),
    };
    let cluster = ClusterId(request().0);
    let body = Body::FoundCluster { cluster, member: facts, operator: operator.clone() };
    let mut fleet = Fleet::default();
    fleet.apply(Revision(1), &Command::of_cluster(request(), at, body)).unwrap();
    by(&fleet, &Presented::Operator(operator), value)
}

/// What somebody asks for whom a fleet lets in.
pub fn by<T>(fleet: &Fleet, presented: &Presented, value: T) -> Authorized<T> {
    let grant = Grant::of(fleet, presented, None, None, Clock::system().now());
    grant.unwrap().authorize(value)
}

/// Logs what `RUST_LOG` asks for, with what a test says.
pub fn log_as_asked() {
    let _ = tracing_subscriber::fmt()
        .with_env_filter(tracing_subscriber::EnvFilter::from_default_env())
        .with_test_writer()
        .try_init();
}

/// Coordinators by name; those that run.
pub struct TestCluster {
    pub directory: TempDir,
    pub configs: BTreeMap<String, Config>,
    pub running: BTreeMap<String, Coordinator>,
    /// What members that are made from now on encrypt their files with.
    pub storage_key_file: Option<PathBuf>,
    clock: Clock,
    more: &'static str,
}

impl TestCluster {
    /// A cluster of so many members, all of them voters.
    pub async fn start(members: usize) -> Self {
        Self::start_with(members, Clock::system()).await
    }

    /// The same, by another clock.
    pub async fn start_with(members: usize, clock: Clock) -> Self {
        Self::start_configured(members, clock, "").await
    }

    /// The same, with more of a configuration.
    pub async fn start_configured(members: usize, clock: Clock, more: &'static str) -> Self {
        let mut cluster = Self::found(clock, more, None).await;
        for number in 2..=members {
            cluster.add(&format!("c{number}")).await;
        }
        cluster
    }

    /// A cluster of one member that encrypts its files with a key.
    pub async fn start_encrypted(key: &VaultKey) -> Self {
        Self::found(Clock::system(), "", Some(key)).await
    }

    async fn found(clock: Clock, more: &'static str, key: Option<&VaultKey>) -> Self {
        log_as_asked();
        let directory = tempfile::tempdir().unwrap();
        let storage_key_file = key.map(|key| key_file(directory.path(), key));
        let (configs, running) = (BTreeMap::new(), BTreeMap::new());
        let mut cluster = Self { directory, configs, running, storage_key_file, clock, more };
        let first = cluster.new_config("c1");
        founding::init(&first, None, Clock::system()).await.unwrap();
        cluster.configs.insert("c1".to_owned(), first);
        cluster.run("c1").await;
        // What a cluster does once, by itself, is done before a test begins.
        let app = cluster.app("c1");
        until("the cluster has a key for secrets", async || {
            app.view.local(Fleet::secret_keys).sealing
        })
        .await;
        cluster
    }

    fn new_config(&self, name: &str) -> Config {
        let config = config_with(name, self.directory.path(), self.more);
        Config { storage_key_file: self.storage_key_file.clone(), ..config }
    }

    pub async fn add(&mut self, name: &str) {
        self.join(name).await;
        self.run(name).await;
        self.until_votes(name).await;
    }

    /// Gives a member its id and its data, and does not start it.
    pub async fn join(&mut self, name: &str) -> MemberIdentity {
        let config = self.new_config(name);
        let create = TokenCreate {
            role: "coordinator".into(),
            name: Some(name.into()),
            access: None,
            ttl_seconds: None,
        };
        let made = self.any().cluster.create_token(request(), by_operator(create)).await.unwrap();
        let invitation = Invitation {
            token: made.token.parse().unwrap(),
            coordinator: made.coordinators[0].clone(),
        };
        let joined = founding::join(&config, Some(&invitation), Clock::system()).await;
        self.configs.insert(name.to_owned(), config);
        joined.unwrap()
    }

    pub async fn run(&mut self, name: &str) {
        let clock = self.clock.clone();
        let config = &self.configs[name];
        let coordinator = until("the socket of the one before is free", async || {
            match Coordinator::start(config, clock.clone()).await {
                Ok(coordinator) => Some(coordinator),
                // A task of it that dialled somebody may hold the socket for a moment after it has stopped.
                Err(StartError::Endpoint(_)) => None,
                Err(error) => panic!("{error}"),
            }
        })
        .await;
        self.running.insert(name.to_owned(), coordinator);
    }

    async fn until_votes(&self, name: &str) {
        let app = self.app(name);
        until("the new member votes", async || {
            let view = app.cluster.view().await.ok()?;
            let own = view.members.iter().find(|member| member.name == name)?;
            own.role.votes().then_some(())
        })
        .await;
    }

    pub fn app(&self, name: &str) -> &App {
        self.running[name].app()
    }

    pub fn any(&self) -> &App {
        self.running.values().next().unwrap().app()
    }

    /// The name of the member that leads.
    pub async fn leader(&self) -> String {
        until("somebody leads", async || {
            let leads = self.running.iter().find(|(_, one)| one.app().cluster.leads());
            let (name, one) = leads?;
            one.app().readiness.check().await.ok().map(|()| name.clone())
        })
        .await
    }

    /// The names of the members that run and do not lead.
    pub async fn followers(&self) -> Vec<String> {
        let leader = self.leader().await;
        self.running.keys().filter(|name| **name != leader).cloned().collect()
    }

    pub async fn stop(&mut self, name: &str) {
        let coordinator = self.running.remove(name).unwrap();
        timeout(DEADLINE, coordinator.shutdown()).await.expect("shutdown takes too long");
    }

    /// Credentials of an agent, from a token.
    pub async fn agent_credentials(&self, node: &str) -> Credentials {
        self.enrolled(Role::Agent, node).await
    }

    /// Credentials of a new operator, from a token.
    pub async fn operator_credentials(&self, name: &str) -> Credentials {
        self.enrolled(Role::Operator, name).await
    }

    async fn enrolled(&self, role: Role, name: &str) -> Credentials {
        let create = TokenCreate {
            role: role.to_string(),
            name: Some(name.into()),
            access: None,
            ttl_seconds: None,
        };
        let made = self.any().cluster.create_token(request(), by_operator(create)).await.unwrap();
        let address = made.coordinators[0].parse().unwrap();
        let token = made.token.parse().unwrap();
        let name = name.parse().unwrap();
        let enrolled =
            novacron_transport::enrolment::enrol(address, &token, role, &name, &[]).await;
        enrolled.unwrap().credentials
    }

    pub fn peer_addresses(&self) -> Vec<SocketAddr> {
        self.configs.values().map(|config| config.peer_listen).collect()
    }

    pub async fn shutdown(mut self) {
        for name in self.running.keys().cloned().collect::<Vec<_>>() {
            self.stop(&name).await;
        }
    }
}

/// Creates a machine through a member.
pub async fn create(app: &App, name: &str) -> Result<VmId, ProposeError> {
    create_as(app, request(), name).await
}

pub async fn create_as(app: &App, request: RequestId, name: &str) -> Result<VmId, ProposeError> {
    let intent = Intent::CreateVm { spec: spec(name), network: None, node: None, start: true };
    match app.proposer.submit(request, by_operator(intent)).await? {
        Accepted::Vm(vm) => Ok(vm),
        other => panic!("{other:?}"),
    }
}

/// So many changes, many at once.
pub async fn change_settings(app: &App, changes: usize) {
    for round in 0..changes.div_ceil(512) {
        let change = |number: usize| {
            let limit = 1 + u32::try_from((round + number) % 60).unwrap();
            let change = SettingsChange { migrations_per_node: Some(limit) };
            app.proposer.submit(request(), by_operator(Intent::ChangeSettings(change)))
        };
        for changed in join_all((0..512).map(change)).await {
            changed.unwrap();
        }
    }
}
