//! Quotas and revocation on real members: what is decided where commands are applied holds whoever asks where.

use std::sync::Arc;

use crate::support::{TestCluster, by, by_operator, request, spec};
use novacron_coordinator::app::App;
use novacron_coordinator::auth::Presented;
use novacron_coordinator::propose::{Intent, NewApiKey, ProposeError};
use novacron_coordinator::state::binding::Right;
use novacron_coordinator::state::principal::AccessOrder;
use novacron_coordinator::state::project::ProjectOrder;
use novacron_coordinator::state::{Accepted, Refusal};
use novacron_protocol::access::{AccessRole, BindingEffect, Scope};
use novacron_protocol::api::PrincipalKind;
use novacron_protocol::ids::ProjectName;
use novacron_protocol::project::{Quota, Quotas};
use novacron_protocol::region::Residency;
use novacron_protocol::vm::{Labels, VmSpec};
use novacron_transport::api_key::ApiKeySecret;

async fn ask(app: &App, intent: Intent) -> Accepted {
    app.proposer.submit(request(), by_operator(intent)).await.unwrap()
}

async fn make_project(app: &App, name: &str, quotas: Quotas) -> ProjectName {
    let project: ProjectName = name.parse().unwrap();
    let order = ProjectOrder::Create {
        project: project.clone(),
        display_name: String::new(),
        quotas,
        labels: Labels::new(),
        residency: Residency::default(),
    };
    ask(app, Intent::Projects(order)).await;
    project
}

fn creation(project: &ProjectName, name: String) -> Intent {
    let spec = VmSpec { project: project.clone(), ..spec(&name) };
    Intent::CreateVm { spec, network: None, node: None, start: false }
}

/// Of clients that ask all members at once, exactly as many get a machine as the quota has room for.
#[tokio::test(flavor = "multi_thread")]
async fn no_more_is_admitted_than_the_quota_whoever_asks_where() {
    const ROOM: usize = 7;
    const CLIENTS: usize = 60;
    let cluster = TestCluster::start(3).await;
    let quotas = Quotas { vms: Some(ROOM as u64), ..Quotas::default() };
    let project = make_project(cluster.any(), "web", quotas).await;
    let members: Vec<App> = cluster.running.values().map(|one| one.app().clone()).collect();
    let start = Arc::new(tokio::sync::Barrier::new(CLIENTS));
    let clients: Vec<_> = (0..CLIENTS)
        .map(|number| {
            let (app, start) = (members[number % members.len()].clone(), Arc::clone(&start));
            let intent = by_operator(creation(&project, format!("vm-{number}")));
            tokio::spawn(async move {
                start.wait().await;
                app.proposer.submit(request(), intent).await
            })
        })
        .collect();
    let (mut admitted, mut refused) = (0, 0);
    for client in clients {
        match client.await.unwrap() {
            Ok(_) => admitted += 1,
            Err(ProposeError::Refused(Refusal::OverQuota { quota, limit, used, .. })) => {
                assert_eq!((quota, limit, used), (Quota::Vms, ROOM as u64, ROOM as u64));
                refused += 1;
            }
            Err(other) => panic!("{other:?}"),
        }
    }
    assert_eq!((admitted, refused), (ROOM, CLIENTS - ROOM));
    for app in &members {
        let used = app.view.read(|fleet| fleet.project_usage(&project)).await.unwrap();
        assert_eq!(used.vms, ROOM as u64);
    }
    cluster.shutdown().await;
}

/// What a client was let in for before its key was revoked is not done after the revocation was acknowledged, on any
/// member, while it writes on all of them.
#[tokio::test(flavor = "multi_thread")]
async fn a_revoked_key_writes_no_more_once_that_is_acknowledged() {
    const WRITES: usize = 40;
    let cluster = TestCluster::start(3).await;
    let project = make_project(cluster.any(), "web", Quotas::default()).await;
    let secret = service_key(cluster.any(), &project).await;
    let members: Vec<App> = cluster.running.values().map(|one| one.app().clone()).collect();
    // Each member has let it in.
    let mut writes = Vec::new();
    for number in 0..WRITES {
        let app = members[number % members.len()].clone();
        app.view.read(|_| ()).await.unwrap();
        let presented = Presented::Key(secret.clone());
        let intent = creation(&project, format!("vm-{number}"));
        let intent = app.view.local(|fleet| by(fleet, &presented, intent));
        writes.push((app, intent));
    }
    let (before, after) = {
        let later = writes.split_off(WRITES / 2);
        (writes, later)
    };
    // The first half runs against the revocation, and may go either way.
    let racing: Vec<_> = before
        .into_iter()
        .map(|(app, intent)| {
            tokio::spawn(async move { app.proposer.submit(request(), intent).await })
        })
        .collect();
    ask(cluster.any(), Intent::Access(AccessOrder::RevokeKey { key: secret.id() })).await;
    for (app, intent) in after {
        let refused = app.proposer.submit(request(), intent).await.unwrap_err();
        assert!(matches!(refused, ProposeError::Refused(Refusal::NotKnown(_))), "{refused:?}");
    }
    let mut done = 0;
    for write in racing {
        match write.await.unwrap() {
            Ok(_) => done += 1,
            Err(error) => {
                assert!(matches!(error, ProposeError::Refused(Refusal::NotKnown(_))), "{error:?}");
            }
        }
    }
    let used = cluster.any().view.read(|fleet| fleet.project_usage(&project)).await.unwrap();
    assert_eq!(used.vms, done, "what was acknowledged was done, and nothing else");
    cluster.shutdown().await;
}

/// The key of a new service account that is operator on a project.
async fn service_key(app: &App, project: &ProjectName) -> ApiKeySecret {
    let (name, kind) = ("robot".parse().unwrap(), PrincipalKind::Service);
    let order = AccessOrder::CreatePrincipal { name, kind, display_name: String::new() };
    ask(app, Intent::Access(order)).await;
    let principal: novacron_transport::SubjectName = "robot".parse().unwrap();
    let bind = Intent::Bind {
        principal: principal.clone(),
        right: Right::Role(AccessRole::Operator),
        scope: Scope::Project(project.clone()),
        effect: BindingEffect::Allow,
    };
    ask(app, bind).await;
    let new = NewApiKey { principal, name: "a test".to_owned(), ttl_seconds: None };
    app.proposer.create_api_key(request(), by_operator(new)).await.unwrap()
}
