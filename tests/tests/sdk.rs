//! The client against a real coordinator: every method that needs no agent.
#![allow(clippy::unwrap_used, missing_docs)]

use std::net::{SocketAddr, TcpListener};
use std::path::Path;
use std::time::Duration;

use novacron_coordinator::clock::Clock;
use novacron_coordinator::config::Config as CoordinatorConfig;
use novacron_coordinator::coordinator::Coordinator;
use novacron_coordinator::founding::{self, Invitation};
use novacron_protocol::access::{AccessRole, BindingEffect};
use novacron_protocol::ids::{MemberId, MigrationId, Revision};
use novacron_protocol::project::Quotas;
use novacron_sdk::api::{
    ApiKeyCreate, AuditActor, BindingCreate, ClusterView, Code, EventActor, EventKind,
    PrincipalCreate, PrincipalKind, ProjectCreate, TokenCreate, VmCreate, VmStop,
};
use novacron_sdk::{AuditFilter, Client, Config, Error, EventFilter, VmFilter};
use tempfile::TempDir;

fn free_address() -> SocketAddr {
    TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap()
}

/// A coordinator's configuration with a quick pace.
fn config(directory: &Path, number: usize) -> CoordinatorConfig {
    let text = format!(
        "name = \"coordinator-{number}\"\ndata_directory = {:?}\npeer_listen = \"{}\"\napi_listen = \"{}\"\n\
         metrics_listen = \"off\"\n[timing]\nheartbeat_ms = 100\nelection_ms_min = 1000\n",
        directory.join(format!("data-{number}")),
        free_address(),
        free_address(),
    );
    CoordinatorConfig::parse(&text, directory).unwrap()
}

/// Coordinators of one cluster, and where their APIs are.
struct Cluster {
    directory: TempDir,
    members: Vec<Coordinator>,
    endpoints: Vec<String>,
}

impl Cluster {
    async fn found() -> Self {
        let directory = tempfile::tempdir().unwrap();
        let config = config(directory.path(), 1);
        let operator = directory.path().join("operator");
        founding::init(&config, Some(&operator), Clock::system()).await.unwrap();
        let mut cluster = Self { directory, members: Vec::new(), endpoints: Vec::new() };
        cluster.serve(&config).await;
        cluster
    }

    async fn serve(&mut self, config: &CoordinatorConfig) {
        self.members.push(Coordinator::start(config, Clock::system()).await.unwrap());
        self.endpoints.push(format!("https://{}", config.api_listen));
    }

    /// One more coordinator, let in by a token from the API. Returns when it votes.
    async fn grow(&mut self) {
        let client = self.client(&self.endpoints);
        let create =
            TokenCreate { role: "coordinator".into(), name: None, access: None, ttl_seconds: None };
        let made = blocking(move || client.token_create(&create).unwrap()).await;
        let invitation = Invitation {
            token: made.token.parse().unwrap(),
            coordinator: made.coordinators[0].clone(),
        };
        let config = config(self.directory.path(), self.members.len() + 1);
        founding::join(&config, Some(&invitation), Clock::system()).await.unwrap();
        self.serve(&config).await;
        let (client, voters) = (self.client(&self.endpoints[..1]), self.members.len());
        blocking(move || {
            let votes = |cluster: &ClusterView| {
                cluster.members.iter().filter(|member| member.role.votes()).count()
            };
            while votes(&client.cluster().unwrap()) < voters {
                std::thread::yield_now();
            }
        })
        .await;
    }

    /// An operator's client.
    fn client(&self, endpoints: &[String]) -> Client {
        let operator = self.directory.path().join("operator");
        Client::new(&Config::new(endpoints.to_vec(), operator)).unwrap()
    }
}

/// Runs what blocks off the reactor.
async fn blocking<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> T {
    tokio::task::spawn_blocking(work).await.unwrap()
}

fn machine(name: &str) -> VmCreate {
    VmCreate { name: name.into(), disk: Some(1 << 30), ..VmCreate::default() }
}

fn code<T: std::fmt::Debug>(result: Result<T, Error>) -> Code {
    result.unwrap_err().problem().unwrap().code
}

#[tokio::test(flavor = "multi_thread")]
async fn the_client_does_what_the_api_can() {
    let mut cluster = Cluster::found().await;
    // The first endpoint is one where nobody listens.
    let endpoints = [format!("https://{}", free_address()), cluster.endpoints[0].clone()];
    let client = cluster.client(&endpoints);
    blocking(move || journey(&client)).await;
    cluster.members.remove(0).shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_client_goes_on_when_the_leader_goes() {
    let mut cluster = Cluster::found().await;
    cluster.grow().await;
    cluster.grow().await;
    // Whoever is asked, the leader decides.
    for (number, endpoint) in cluster.endpoints.iter().enumerate() {
        let client = cluster.client(std::slice::from_ref(endpoint));
        blocking(move || client.vm_create(&machine(&format!("web-{number}"))).unwrap()).await;
    }
    let client = cluster.client(&cluster.endpoints);
    let mut watch = client.watch_events(EventFilter::default(), Revision(0));
    let mut created = move |count: usize| {
        watch
            .by_ref()
            .map(Result::unwrap)
            .filter(|event| event.kind == EventKind::VmCreated)
            .take(count)
            .count()
    };
    let mut created_so_far = blocking(move || (created(3), created)).await;
    assert_eq!(created_so_far.0, 3);

    let leader = client_leader(&client).await;
    cluster.members.remove(leader).shutdown().await;
    let survivor = client.clone();
    let names = blocking(move || {
        survivor.vm_create(&machine("web-3")).unwrap();
        let vms = survivor.vms(&VmFilter::default()).unwrap();
        vms.into_iter().map(|vm| vm.name.to_string()).collect::<Vec<_>>()
    });
    assert_eq!(names.await, ["web-0", "web-1", "web-2", "web-3"]);
    assert_eq!(blocking(move || created_so_far.1(1)).await, 1);
    for member in cluster.members {
        member.shutdown().await;
    }
}

/// Which member leads; ids are given in the order of joining, from 1.
async fn client_leader(client: &Client) -> usize {
    let client = client.clone();
    let view = blocking(move || client.cluster().unwrap()).await;
    usize::try_from(view.leader.unwrap().0).unwrap() - 1
}

/// A program that has nothing but a key and the authority's certificate.
#[tokio::test(flavor = "multi_thread")]
async fn a_program_does_with_its_key_what_its_principal_may() {
    let mut cluster = Cluster::found().await;
    let (admin, endpoints) = (cluster.client(&cluster.endpoints), cluster.endpoints.clone());
    let operator = cluster.directory.path().join("operator");
    let program = cluster.directory.path().join("program");
    std::fs::create_dir(&program).unwrap();
    std::fs::copy(operator.join("ca.pem"), program.join("ca.pem")).unwrap();
    blocking(move || {
        assert_eq!(admin.whoami().unwrap().name, "admin");
        let quotas = Quotas { vms: Some(1), ..Quotas::default() };
        let project = ProjectCreate { name: "web".into(), quotas, ..ProjectCreate::default() };
        admin.project_create(&project).unwrap();
        let kind = PrincipalKind::Service;
        let create = PrincipalCreate { name: "ci".into(), kind, display_name: String::new() };
        admin.principal_create(&create).unwrap();
        let made = BindingCreate {
            principal: "ci".into(),
            role: Some(AccessRole::Operator),
            permission: None,
            project: Some("web".into()),
            effect: BindingEffect::Allow,
        };
        let binding = admin.bind(&made).unwrap();
        assert_eq!(admin.bindings(Some("ci")).unwrap(), std::slice::from_ref(&binding));
        let key = ApiKeyCreate { principal: "ci".into(), name: "a test".into(), ttl_seconds: None };
        let key = admin.api_key_create(&key).unwrap();
        let file = program.join("key");
        std::fs::write(&file, format!("{}\n", key.key)).unwrap();

        let config = Config { api_key_file: Some(file), ..Config::new(endpoints, program) };
        let client = Client::new(&config).unwrap();
        let whoami = client.whoami().unwrap();
        assert_eq!((whoami.name.as_str(), whoami.api_key), ("ci", Some(key.view.id)));
        let in_web = |name| VmCreate { project: Some("web".into()), ..machine(name) };
        assert_eq!(client.vm_create(&in_web("one")).unwrap().project.as_str(), "web");
        assert_eq!(code(client.vm_create(&in_web("two"))), Code::QuotaExceeded);
        assert_eq!(code(client.vm_create(&machine("two"))), Code::NotAllowed);
        assert_eq!(code(client.nodes()), Code::NotAllowed);
        assert_eq!(client.project("web").unwrap().usage.vms, 1);
        admin.unbind(binding.id).unwrap();
        assert_eq!(code(client.vms(&VmFilter::default())), Code::NotAllowed);
        admin.api_key_revoke(key.view.id).unwrap();
        assert_eq!(code(client.whoami()), Code::NotAuthenticated);
        admin.principal_delete("ci").unwrap();
        assert_eq!(admin.principals().unwrap().len(), 1);
    })
    .await;
    cluster.members.remove(0).shutdown().await;
}

fn journey(client: &Client) {
    let cluster = client.cluster().unwrap();
    assert_eq!(cluster.members.len(), 1);
    assert_eq!(code(client.member_remove(MemberId(9))), Code::NotFound);
    assert!(client.nodes().unwrap().is_empty());
    assert_eq!(code(client.node("node-01")), Code::NotFound);

    // Without a node a machine waits, which is as far as it gets here.
    let create = machine("web-01");
    let created = client.vm_create(&create).unwrap();
    assert!(created.reason.contains("no node"), "{}", created.reason);
    assert_eq!(code(client.vm_create(&create)), Code::NameTaken);
    assert_eq!(client.vm("web-01").unwrap().id, created.id);
    assert_eq!(client.vms(&VmFilter::default()).unwrap(), std::slice::from_ref(&created));
    assert_eq!(code(client.vm_start("web-01")), Code::Conflict);
    assert_eq!(code(client.vm_stop("web-01", &VmStop { force: true })), Code::Conflict);
    assert_eq!(code(client.console("web-01", 0, false).map(drop)), Code::Conflict);
    assert_eq!(code(client.console_input("web-01", b"ls\n")), Code::Conflict);
    let late = client.vm_wait("web-01", Duration::ZERO, |_| false).unwrap_err();
    assert!(matches!(&late, Error::TimedOut { what, .. } if what.contains("pending")), "{late}");

    assert!(client.migrations().unwrap().is_empty());
    assert_eq!(code(client.migration(MigrationId(created.id.0))), Code::NotFound);
    assert_eq!(code(client.migration_cancel(MigrationId(created.id.0))), Code::NotFound);

    let events = client.events(&EventFilter::default(), Revision(0)).unwrap();
    let made = events.iter().find(|event| event.kind == EventKind::VmCreated).unwrap();
    let EventActor::Certificate { name } = &made.actor else { panic!("{made:?}") };
    let mut audit =
        client.watch_audit(AuditFilter::default(), made.audit.map(|n| (n - 1).to_string()));
    let record = audit.next().unwrap().unwrap();
    assert_eq!((record.action.as_str(), Some(record.number)), ("vm.create", made.audit));
    assert!(matches!(&record.actor, AuditActor::Certificate { name: same, .. } if same == name));
    let place = audit.resume_after().map(str::to_owned);
    client.annotate("web-01", "owner", "alice").unwrap();
    let vm = AuditFilter { action: Some("vm".into()), ..AuditFilter::default() };
    let next =
        client.watch_audit(vm, place).find(|next| next.as_ref().unwrap().action == "vm.annotate");
    assert!(next.unwrap().unwrap().number > record.number);
    let watch = client.watch_events(EventFilter::default(), Revision(0));
    let watched: Vec<_> = watch.take(events.len()).map(Result::unwrap).collect();
    assert_eq!(watched, events);

    client.vm_delete("web-01").unwrap();
    let about = EventFilter { vm: Some(created.id.to_string()), ..EventFilter::default() };
    let mut watch = client.watch_events(about, created.revision);
    assert!(watch.any(|event| event.unwrap().kind == EventKind::VmDeleted));
    assert_eq!(code(client.vm("web-01")), Code::NotFound);

    let create = TokenCreate { role: "agent".into(), name: None, access: None, ttl_seconds: None };
    assert!(!client.token_create(&create).unwrap().coordinators.is_empty());
    assert_eq!(client.openapi().unwrap()["openapi"], "3.0.3");
}
