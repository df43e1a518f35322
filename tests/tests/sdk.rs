//! The client against a real coordinator: every method that needs no agent.
#![allow(clippy::unwrap_used, missing_docs)]

use std::net::TcpListener;
use std::path::Path;
use std::time::Duration;

use novacron_coordinator::clock::Clock;
use novacron_coordinator::config::Config as CoordinatorConfig;
use novacron_coordinator::coordinator::Coordinator;
use novacron_coordinator::founding;
use novacron_protocol::ids::{MemberId, MigrationId, Revision};
use novacron_sdk::api::{Code, EventKind, TokenCreate, VmCreate, VmStop};
use novacron_sdk::{Client, Config, Error, EventFilter, VmFilter};

/// A running coordinator and a client of it, whose first endpoint is one where nobody listens.
async fn start(directory: &Path) -> (Coordinator, Client) {
    let free = || TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let api = free();
    let text = format!(
        "name = \"coordinator-1\"\ndata_directory = {:?}\npeer_listen = \"{}\"\napi_listen = \"{api}\"\n\
         [timing]\nheartbeat_ms = 20\nelection_ms_min = 60\n",
        directory.join("data"),
        free(),
    );
    let config = CoordinatorConfig::parse(&text, directory).unwrap();
    let operator = directory.join("operator");
    founding::init(&config, Some(&operator), Clock::system()).await.unwrap();
    let coordinator = Coordinator::start(&config, Clock::system()).await.unwrap();
    let endpoints = vec![format!("https://{}", free()), format!("https://{api}")];
    (coordinator, Client::new(&Config::new(endpoints, operator)).unwrap())
}

fn code<T: std::fmt::Debug>(result: Result<T, Error>) -> Code {
    result.unwrap_err().problem().unwrap().code
}

#[tokio::test(flavor = "multi_thread")]
async fn the_client_does_what_the_api_can() {
    let directory = tempfile::tempdir().unwrap();
    let (coordinator, client) = start(directory.path()).await;
    tokio::task::spawn_blocking(move || journey(&client)).await.unwrap();
    coordinator.shutdown().await;
}

fn journey(client: &Client) {
    let cluster = client.cluster().unwrap();
    assert_eq!(cluster.members.len(), 1);
    assert_eq!(code(client.member_remove(MemberId(9))), Code::NotFound);
    assert!(client.nodes().unwrap().is_empty());
    assert_eq!(code(client.node("node-01")), Code::NotFound);

    // Without a node a machine waits, which is as far as it gets here.
    let create = VmCreate { name: "web-01".into(), disk: Some(1 << 30), ..VmCreate::default() };
    let created = client.vm_create(&create).unwrap();
    assert!(created.reason.contains("no node"), "{}", created.reason);
    assert_eq!(code(client.vm_create(&create)), Code::NameTaken);
    assert_eq!(client.vm("web-01").unwrap().id, created.id);
    assert_eq!(client.vms(&VmFilter::default()).unwrap(), [created.clone()]);
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
    assert!(events.iter().any(|event| event.kind == EventKind::VmCreated));
    let watch = client.watch_events(EventFilter::default(), Revision(0));
    let watched: Vec<_> = watch.take(events.len()).map(Result::unwrap).collect();
    assert_eq!(watched, events);

    client.vm_delete("web-01").unwrap();
    let about = EventFilter { vm: Some(created.id.to_string()), migration: None };
    let mut watch = client.watch_events(about, created.revision);
    assert!(watch.any(|event| event.unwrap().kind == EventKind::VmDeleted));
    assert_eq!(code(client.vm("web-01")), Code::NotFound);

    let create = TokenCreate { role: "agent".into(), name: None, ttl_seconds: None };
    assert!(!client.token_create(&create).unwrap().coordinators.is_empty());
    assert_eq!(client.openapi().unwrap()["openapi"], "3.0.3");
}
