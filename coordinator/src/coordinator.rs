//! A running coordinator: everything put together, and taken apart in order.

use std::net::SocketAddr;
use std::sync::Arc;

use crate::raft::words::{ConfigError, Fatal};
use novacron_metrics::certificate::Certificate;
use novacron_metrics::{Endpoint as MetricsEndpoint, Pages};
use novacron_protocol::ids::{ClusterId, Incarnation, MemberId};
use novacron_transport::endpoint::EndpointError;
use novacron_transport::enrolment::EnrolmentServer;
use novacron_transport::tls::{self, TlsError};
use novacron_transport::{
    Acceptor, CloseCode, ClusterAuthority, Connection, Credentials, Endpoint, LinkSettings, Role,
};
use tokio::net::TcpListener;
use tokio::time::Duration;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::admission::Admission;
use crate::agents::samples::SampleInlet;
use crate::agents::{AgentServer, Consoles, Sessions};
use crate::alerts::watch::AlertWatch;
use crate::app::App;
use crate::audit::AuditLog;
use crate::backup::Backups;
use crate::clock::Clock;
use crate::cluster::Cluster;
use crate::config::Config;
use crate::directory::{DataDirectory, DirectoryError};
use crate::enrolment::{Tokens, WELCOME};
use crate::fitness::Fitness;
use crate::fitness::watch::Watch;
use crate::history::{History, fetch, renewal};
use crate::http;
use crate::leadership::{Duties, Leadership};
use crate::ledger::Ledger;
use crate::metrics::{
    self, ApplyMetrics, Consensus, Costs, EnrolmentNumbers, FleetNumbers, LeaderlessMetrics,
    ProjectNumbers, RequestMetrics, SampleNumbers,
};
use crate::newcomer::Newcomer;
use crate::peers::desk::Desk;
use crate::peers::keepers::Keepers;
use crate::peers::server::PeerServer;
use crate::peers::{LeaderLink, PeerLinks};
use crate::propose::Proposer;
use crate::raft::backlog::{Backlog, take_snapshots};
use crate::raft::log_store::LogStore;
use crate::raft::machine::Closer;
use crate::raft::network::Network;
use crate::raft::timing::Timing;
use crate::raft::{DiskWork, Haste, Heard, Raft, elections};
use crate::readiness::Readiness;
use crate::refusals::Refusals;
use crate::samples::Samples;
use crate::samples::keeper::Keeper;
use crate::samples::passing::{Outbound, Passing, passing};
use crate::secrets::keyring::Keyring;
use crate::secrets::{Secrets, custody};
use crate::state::Fleet;
use crate::state::formats::OtherFormats;
use crate::status::{self, OwnStatus};
use crate::view::{FleetCell, View, Watchers};
use crate::vital::Vital;

/// Why a coordinator cannot be started.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// Its data cannot be used.
    #[error(transparent)]
    Directory(#[from] DirectoryError),
    /// Its data was written by a program that understands more, or is too old.
    #[error(transparent)]
    Formats(#[from] OtherFormats),
    /// Its pace cannot be used.
    #[error("the pace of the cluster cannot be used")]
    Timing(#[from] Box<ConfigError>),
    /// A socket of links or enrolment cannot be made.
    #[error("cannot open the sockets of links")]
    Endpoint(#[from] EndpointError),
    /// The API's socket cannot be made.
    #[error("cannot listen on {address} for the API")]
    Listen {
        /// The address.
        address: SocketAddr,
        /// What the system said.
        #[source]
        source: std::io::Error,
    },
    /// The API's certificate cannot be used.
    #[error("cannot set the API's TLS up")]
    Tls(#[from] TlsError),
    /// Consensus could not be started.
    #[error("cannot start consensus")]
    Raft(#[source] Box<Fatal<u64>>),
    /// The certificate is another's.
    #[error("the certificate is of `{certified}`, the configuration of `{configured}`")]
    OtherName {
        /// In the certificate.
        certified: String,
        /// In the configuration.
        configured: String,
    },
}

/// Consensus over a data directory, reachable over links.
pub(crate) struct Core {
    pub(crate) raft: Raft,
    pub(crate) cell: FleetCell,
    pub(crate) closer: Closer,
    pub(crate) leader: LeaderLink,
    pub(crate) applying: ApplyMetrics,
    pub(crate) history: History,
    pub(crate) backlog: Backlog,
    pub(crate) keyring: Keyring,
    pub(crate) samples: Samples,
    heard: Heard,
    leaderless: LeaderlessMetrics,
}

impl Core {
    pub(crate) async fn start(
        config: &Config,
        directory: &DataDirectory,
        (member, incarnation): (MemberId, Incarnation),
        endpoint: Endpoint,
        clock: Clock,
    ) -> Result<Self, StartError> {
        let fitness = Fitness::default();
        let links = PeerLinks::new(member, incarnation, endpoint).speaking(config.formats());
        let links = links.watched(fitness.clone());
        let work = DiskWork::on_threads();
        let machine = directory.open_machine()?;
        let log = LogStore::new(directory.open_log()?, work.clone()).behind(machine.reach());
        let (cell, closer, applying) = (machine.cell(), machine.closer(), machine.metrics());
        config.formats().check(cell.look(Fleet::formats))?;
        let history = History::new(machine.outgoing(), cell.clone(), work);
        let backlog = machine.backlog();
        let keyring = directory.open_keyring(config.secret_key_file.as_deref())?;
        let samples = directory.open_samples()?;
        let pace = config.timing().config()?;
        let held =
            log.last_log_id().await.map_err(|error| StartError::Raft(Box::new(error.into())))?;
        let (haste, heard) = (Haste::default(), Heard::new(config.timing()));
        let network = Network::new(links.clone(), haste.clone(), heard.clone());
        let raft = Raft::new(member.0, pace, network, log, machine).await;
        let raft = raft.map_err(|fatal| StartError::Raft(Box::new(fatal)))?;
        let keepers = Keepers::new(history.clone(), raft.clone(), links.clone());
        let desk = Desk::new((raft.clone(), haste), cell.clone(), clock, held)
            .watched(fitness)
            .kept_by(keepers);
        let leader = LeaderLink::new(raft.clone(), desk, links);
        let leaderless = LeaderlessMetrics::default();
        Ok(Self {
            raft,
            cell,
            closer,
            leader,
            applying,
            history,
            backlog,
            keyring,
            samples,
            heard,
            leaderless,
        })
    }

    /// Calls elections while nobody is heard that leads, until `stop`: without it a cluster that has lost its leader, or
    /// has just been started, gets none.
    pub(crate) fn elections(
        &self,
        timing: Timing,
        stop: CancellationToken,
    ) -> impl Future<Output = ()> + Send + use<> {
        let (raft, heard, leader) = (self.raft.clone(), self.heard.clone(), self.leader.clone());
        elections::call(raft, timing, heard, leader, self.leaderless.clone(), stop)
    }

    /// Ends consensus, then makes the tables durable.
    pub(crate) async fn stop(self) {
        if let Err(error) = self.raft.shutdown().await {
            tracing::error!(%error, "consensus did not end well");
        }
        let closer = self.closer.clone();
        let closed = tokio::task::spawn_blocking(move || closer.close()).await;
        if let Ok(Err(error)) = closed {
            let error = &error as &dyn std::error::Error;
            tracing::warn!(error, "the tables could not be closed; the next start makes them anew");
        }
    }
}

/// A running coordinator.
pub struct Coordinator {
    app: App,
    core: Core,
    endpoint: Endpoint,
    tasks: Vital,
    stop: CancellationToken,
    metrics_address: Option<SocketAddr>,
    // Last: the directory stays locked until everything else is gone.
    _directory: DataDirectory,
}

impl Coordinator {
    /// Starts the member whose data directory `config` names.
    ///
    /// # Errors
    /// [`StartError`].
    pub async fn start(config: &Config, clock: Clock) -> Result<Self, StartError> {
        let directory = DataDirectory::open_configured(config)?;
        let identity = directory.identity()?;
        let (credentials, authority) = (directory.credentials()?, Arc::new(directory.authority()?));
        check_name(config, &credentials)?;
        let enrolment =
            EnrolmentServer::bind(config.api_listen, &credentials, Arc::clone(&authority))?;
        let (api, api_tls) = (listen(config).await?, tls::https_server(&credentials)?);
        let (endpoint, acceptor) =
            Endpoint::bind(config.peer_listen, &credentials, &WELCOME, link_settings())?;
        let own = (identity.member, identity.incarnation);
        let core = Core::start(config, &directory, own, endpoint.clone(), clock.clone()).await?;
        let stop = CancellationToken::new();
        let tasks = Vital::new(stop.clone());
        let elections = core.elections(config.timing(), stop.clone());
        let (parts, passing) = Parts::new(&core, config, identity.cluster, authority, clock);

        tasks.spawn(parts.clone().accept(acceptor, tasks.tracker().clone(), stop.clone()));
        tasks.spawn(parts.leadership.clone().follow(parts.duties(config), stop.clone()));
        tasks.spawn(elections);
        tasks.spawn(parts.watch(config).run(stop.clone()));
        tasks.spawn(parts.newcomer(identity.contacts).enter(stop.clone()));
        tasks.spawn(watch_raft(core.raft.clone(), stop.clone()));
        tasks.spawn(take_snapshots(core.raft.clone(), core.backlog.clone(), stop.clone()));
        tasks.spawn(parts.app.view.clone().keep_current(stop.clone()));
        tasks.spawn(watch_membership(core.leader.clone(), stop.clone()));
        tasks.spawn(fetch::run(core.history.clone(), core.leader.clone(), stop.clone()));
        let fitness = core.leader.desk().fitness().clone();
        tasks.spawn(renewal::run(core.history.clone(), fitness, stop.clone()));
        tasks.spawn(parts.clone().keep_keys(stop.clone()));
        let enrolments = EnrolmentNumbers(enrolment.counters());
        let certificate = Certificate { expires_at_s: credentials.expires_at_s() };
        tasks.spawn(enrolment.serve(Arc::new(parts.tokens()), stop.clone().cancelled_owned()));
        let (refusals, proposer) = (parts.app.refusals.clone(), parts.app.proposer.clone());
        tasks.spawn(refusals.run(proposer, stop.clone()));
        let (ledger, clock) = (parts.app.ledger.clone(), parts.clock.clone());
        tasks.spawn(parts.costs.clone().run(ledger, clock, stop.clone()));
        tasks.spawn(passing.run(stop.clone()));
        if parts.app.switches.samples {
            tasks.spawn(parts.keeper().run(stop.clone()));
        }
        tasks.spawn(http::serve(api, api_tls, parts.app.clone(), stop.clone()));
        let metrics_address = MetricsEndpoint::start(
            config.metrics_listen,
            parts.metrics(&core, enrolments, certificate),
            tasks.tracker(),
            stop.clone(),
        )
        .await;
        tracing::info!(member = %identity.member, cluster = %identity.cluster, "coordinator started");
        Ok(Self {
            app: parts.app,
            core,
            endpoint,
            tasks,
            stop,
            metrics_address,
            _directory: directory,
        })
    }

    /// The doors of this coordinator.
    pub fn app(&self) -> &App {
        &self.app
    }

    /// Whether it is fit to lead and to store.
    pub fn fitness(&self) -> &Fitness {
        self.core.leader.desk().fitness()
    }

    /// Where its metrics are read, if they are.
    pub fn metrics_address(&self) -> Option<SocketAddr> {
        self.metrics_address
    }

    /// Ready when this coordinator has to stop, by itself or because somebody asked.
    pub async fn stopping(&self) {
        self.stop.cancelled().await;
    }

    /// Whether consensus goes on, and all that belongs to it; if not, the coordinator is of no use until it is started anew.
    pub fn is_healthy(&self) -> bool {
        !self.tasks.has_failed() && self.core.raft.metrics().borrow().running_state.is_ok()
    }

    /// What other members say if this one does not belong to the cluster any more.
    pub fn why_removed(&self) -> Option<String> {
        self.core.leader.links().why_expelled().map(|declined| declined.to_string())
    }

    /// Stops in order: no new work, work under way, consensus, links, tables, the directory.
    pub async fn shutdown(self) {
        self.stop.cancel();
        self.tasks.wait().await;
        self.core.stop().await;
        self.endpoint.close(CloseCode::Done, "the coordinator stops");
        self.endpoint.wait_idle().await;
        tracing::info!("coordinator stopped");
    }
}

/// A coordinator that died does not say so; its agents and fellows find out when nothing came for a while. QUIC
/// takes the shorter of both ends' times, so what is set here holds for agents, too: five seconds, with a sign of
/// life every second, instead of ten. A link that is cut too early is made again at once.
fn link_settings() -> LinkSettings {
    LinkSettings {
        idle_timeout: Duration::from_secs(5),
        keep_alive: Duration::from_secs(1),
        ..LinkSettings::control()
    }
}

async fn listen(config: &Config) -> Result<TcpListener, StartError> {
    let address = config.api_listen;
    TcpListener::bind(address).await.map_err(|source| StartError::Listen { address, source })
}

fn check_name(config: &Config, credentials: &Credentials) -> Result<(), StartError> {
    let certified = &credentials.identity().name;
    if *certified == config.name {
        return Ok(());
    }
    let (certified, configured) = (certified.to_string(), config.name.to_string());
    Err(StartError::OtherName { certified, configured })
}

/// What the tasks of a coordinator share.
#[derive(Clone)]
struct Parts {
    app: App,
    sessions: Sessions,
    leadership: Leadership,
    leader: LeaderLink,
    raft: Raft,
    cell: FleetCell,
    history: History,
    keyring: Keyring,
    status: OwnStatus,
    clock: Clock,
    costs: Costs,
    outbound: Outbound,
    heard: Heard,
}

impl Parts {
    fn new(
        core: &Core,
        config: &Config,
        cluster: ClusterId,
        authority: Arc<ClusterAuthority>,
        clock: Clock,
    ) -> (Self, Passing) {
        let (raft, cell, leader) = (core.raft.clone(), core.cell.clone(), core.leader.clone());
        let sessions = Sessions::default();
        let view = View::new(cell.clone(), raft.clone(), leader.clone());
        let proposer = Proposer::new(leader.clone(), view.clone(), clock.clone());
        let consoles = Consoles::new(sessions.clone(), view.clone(), leader.clone());
        let fingerprint = authority.fingerprint();
        let history = core.history.clone();
        let keyring = core.keyring.clone();
        let status = OwnStatus::new(raft.clone(), history.clone(), cell.clone())
            .on_disk(config.data_directory.clone(), keyring.clone())
            .speaking(config.formats())
            .watched(leader.desk().fitness().clone(), clock.clone());
        let (leads, proposes, own) = (leader.clone(), proposer.clone(), status.clone());
        let cluster = Cluster::new(cluster, fingerprint, leads, proposes, view.clone(), own);
        let secrets = Secrets::new(proposer.clone(), view.clone(), keyring.clone());
        let readiness = Readiness::new(view.clone());
        let requests = RequestMetrics::default();
        let audit = AuditLog::new(history.clone(), view.clone());
        let ledger = Ledger::new(history.clone(), view.clone());
        let backups = {
            let (proposer, view) = (proposer.clone(), view.clone());
            Backups::new(proposer, view, authority, history.clone(), keyring.clone())
        };
        let watchers = Watchers::new(config.watch_limits());
        let admission = Admission::new(config.limits.clone());
        let app = App {
            proposer,
            view,
            audit,
            ledger,
            consoles,
            cluster,
            secrets,
            samples: core.samples.clone(),
            backups,
            readiness,
            watchers,
            switches: config.switches(),
            admission,
            refusals: Refusals::default(),
            requests,
        };
        let leadership = Leadership::new();
        let costs = Costs::default();
        let (outbound, passing) = passing(&core.samples, leader.clone(), app.view.clone());
        let parts = Self {
            app,
            sessions,
            leadership,
            leader,
            raft,
            cell,
            history,
            keyring,
            status,
            clock,
            costs,
            outbound,
            heard: core.heard.clone(),
        };
        (parts, passing)
    }

    fn keeper(&self) -> Keeper {
        let (samples, view) = (self.app.samples.clone(), self.app.view.clone());
        let (clock, fitness) = (self.clock.clone(), self.leader.desk().fitness().clone());
        Keeper { samples, view, clock, fitness }
    }

    fn duties(&self, config: &Config) -> Duties {
        Duties {
            raft: self.raft.clone(),
            leader: self.leader.clone(),
            view: self.app.view.clone(),
            sessions: self.sessions.clone(),
            clock: self.clock.clone(),
            patience: config.patience(),
            keyring: self.keyring.clone(),
            alerts: config.alerts.enabled.then(|| AlertWatch {
                view: self.app.view.clone(),
                desk: self.leader.desk().clone(),
                clock: self.clock.clone(),
                cluster: self.app.cluster.clone(),
                ledger: self.app.ledger.clone(),
                patience: config.alert_patience(),
                backup_overdue_ms: config.backup_overdue_ms(),
            }),
        }
    }

    fn metrics(
        &self,
        core: &Core,
        enrolments: EnrolmentNumbers,
        certificate: Certificate,
    ) -> Pages {
        let (raft, desk) = (self.raft.clone(), self.leader.desk().clone());
        let (cell, sessions) = (self.cell.clone(), self.sessions.clone());
        let projects = ProjectNumbers { cell: cell.clone(), costs: self.costs.clone() };
        let (clock, are_alerts_on) = (self.clock.clone(), self.app.switches.alerts);
        let fleet = FleetNumbers { cell, sessions, clock, are_alerts_on };
        let consensus = Consensus {
            raft,
            desk,
            applying: core.applying.clone(),
            clock: self.clock.clone(),
            heard: core.heard.clone(),
            leaderless: core.leaderless.clone(),
        };
        let samples = self.kept_samples().map(SampleNumbers);
        let requests = &self.app.requests;
        metrics::pages(requests, consensus, fleet, projects, samples, enrolments, certificate)
    }

    /// `None` where history is turned off.
    fn kept_samples(&self) -> Option<Samples> {
        self.app.switches.samples.then(|| self.app.samples.clone())
    }

    fn newcomer(&self, contacts: Vec<String>) -> Newcomer {
        let (raft, leader) = (self.raft.clone(), self.leader.clone());
        let (cell, history) = (self.cell.clone(), self.history.clone());
        Newcomer { raft, leader, cell, history, contacts }
    }

    fn tokens(&self) -> Tokens {
        Tokens {
            proposer: self.app.proposer.clone(),
            view: self.app.view.clone(),
            cluster: self.app.cluster.clone(),
        }
    }

    fn agent_server(&self) -> AgentServer {
        AgentServer {
            cluster: self.app.cluster.id(),
            sessions: self.sessions.clone(),
            leadership: self.leadership.clone(),
            leader: self.leader.clone(),
            view: self.app.view.clone(),
            clock: self.clock.clone(),
            samples: SampleInlet {
                samples: self.kept_samples(),
                outbound: self.outbound.clone(),
                view: self.app.view.clone(),
                clock: self.clock.clone(),
            },
            switches: self.app.switches,
        }
    }

    fn peer_server(&self) -> PeerServer {
        let consoles = self.app.consoles.clone();
        let history = self.history.clone();
        let server = PeerServer::new(
            self.raft.clone(),
            self.leader.clone(),
            consoles,
            history,
            self.cell.clone(),
        )
        .heard_by(self.heard.clone())
        .with_status(self.status.clone())
        .with_keyring(self.keyring.clone());
        match self.kept_samples() {
            Some(samples) => server.with_samples(samples, self.clock.clone()),
            None => server,
        }
    }

    fn watch(&self, config: &Config) -> Watch {
        let directory = config.data_directory.clone();
        Watch {
            fitness: self.leader.desk().fitness().clone(),
            raft: self.raft.clone(),
            leader: self.leader.clone(),
            clock: self.clock.clone(),
            free: Arc::new(move || status::room(&directory).map(|(_, free)| free)),
            work: DiskWork::on_threads(),
            reserve_bytes: config.disk_reserve_bytes,
        }
    }

    async fn keep_keys(self, stop: CancellationToken) {
        custody::run(self.keyring, self.app.view, self.leader, stop).await;
    }

    /// Gives each connection to the server of its role.
    async fn accept(self, mut acceptor: Acceptor, tasks: TaskTracker, stop: CancellationToken) {
        loop {
            let connection = tokio::select! {
                biased;
                () = stop.cancelled() => break,
                connection = acceptor.accept() => connection,
            };
            let Some(connection) = connection else { break };
            self.dispatch(connection, &tasks, &stop);
        }
        acceptor.stop().await;
    }

    fn dispatch(&self, connection: Connection, tasks: &TaskTracker, stop: &CancellationToken) {
        match connection.peer().role {
            Role::Coordinator => {
                drop(tasks.spawn(self.peer_server().serve(connection, stop.clone())));
            }
            Role::Agent => drop(tasks.spawn(self.agent_server().serve(connection, stop.clone()))),
            Role::Operator | Role::Partner => {
                connection
                    .close(CloseCode::IdentityRefused, "links are for coordinators and agents");
            }
        }
    }
}

/// A member that was removed, or that the cluster was restored without, is of no use: the coordinator stops, and says
/// why. Its calls tell it: others do not answer them any more.
async fn watch_membership(leader: LeaderLink, stop: CancellationToken) {
    let reason = tokio::select! {
        biased;
        () = stop.cancelled() => return,
        reason = leader.links().expelled() => reason,
    };
    tracing::error!(%reason, "this coordinator does not belong to the cluster any more: it stops");
    stop.cancel();
}

/// Consensus that has failed cannot be mended from inside: the coordinator stops, and says why.
async fn watch_raft(raft: Raft, stop: CancellationToken) {
    // News of these is rare, and there is none after consensus has ended; the others change with each entry.
    let mut metrics = raft.server_metrics();
    let ended = async { while metrics.changed().await.is_ok() {} };
    tokio::select! {
        biased;
        () = stop.cancelled() => return,
        () = ended => {}
    }
    if let Err(fatal) = &raft.metrics().borrow().running_state {
        let error = fatal as &dyn std::error::Error;
        tracing::error!(error, "consensus has failed: this coordinator stops");
    }
    stop.cancel();
}
