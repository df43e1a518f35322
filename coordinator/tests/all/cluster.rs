//! Members that found, join, lead, die and come back.

use std::net::Ipv4Addr;

use crate::https::Https;
use crate::support::*;
use novacron_coordinator::clock::Clock;
use novacron_coordinator::config::TestDiskConfig;
use novacron_coordinator::coordinator::Coordinator;
use novacron_coordinator::directory::{DataDirectory, MemberIdentity};
use novacron_coordinator::founding;
use novacron_coordinator::peers::{Call, PeerLinks};
use novacron_coordinator::propose::ProposeError;
use novacron_coordinator::raft::MemberNode;
use novacron_coordinator::view::ReadError;
use novacron_protocol::api::MemberRole;
use novacron_protocol::ids::MemberId;
use novacron_transport::{Endpoint, LinkSettings};
use serde_json::Value;
use tokio::time::timeout;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_dead_leader_is_replaced_and_nothing_acknowledged_is_lost() {
    let mut cluster = TestCluster::start(3).await;
    let mut names = Vec::new();
    for number in 0..5 {
        let name = format!("before-{number}");
        // Any member takes writes.
        let app = cluster.app(["c1", "c2", "c3"][number % 3]);
        create(app, &name).await.unwrap();
        names.push(name);
    }
    let leader = cluster.leader().await;
    cluster.stop(&leader).await;
    let survivors: Vec<String> = cluster.running.keys().cloned().collect();
    create(cluster.app(&survivors[0]), "after").await.unwrap();
    names.push("after".to_owned());
    for survivor in &survivors {
        let seen = cluster
            .app(survivor)
            .view
            .read(|fleet| names.iter().filter(|name| fleet.find_vm(name).is_some()).count());
        assert_eq!(seen.await.unwrap(), names.len(), "{survivor} reads what was acknowledged");
    }

    cluster.run(&leader).await;
    let back = cluster.app(&leader);
    let seen = back.view.read(|fleet| fleet.find_vm("after").is_some()).await;
    assert_eq!(seen, Ok(true), "the old leader catches up");
    let hashes = hashes(&cluster).await;
    assert!(hashes.windows(2).all(|pair| pair[0] == pair[1]), "all members have the same state");
    cluster.shutdown().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn one_that_has_entered_and_never_came_to_vote_leaves_nothing_behind_when_it_is_removed() {
    let mut cluster = TestCluster::start(1).await;
    let MemberIdentity { member, incarnation, .. } = cluster.join("c2").await;
    let seen = cluster.app("c1").cluster.view().await.unwrap().members;
    let seen: Vec<_> = seen.iter().map(|one| (one.id, one.role)).collect();
    assert_eq!(seen, [(MemberId(1), MemberRole::Leader), (member, MemberRole::Outside)]);
    // It asks to take part, and is gone before it has caught up.
    let credentials = {
        let directory = DataDirectory::open(&cluster.configs["c2"]).unwrap();
        directory.credentials().unwrap()
    };
    let any = (Ipv4Addr::LOCALHOST, 0).into();
    let endpoint = Endpoint::client(any, &credentials, LinkSettings::control()).unwrap();
    let links = PeerLinks::new(member, incarnation, endpoint);
    let node = MemberNode::at(cluster.configs["c1"].peer_advertise.clone());
    let entering = tokio::spawn(async move {
        drop(links.call(MemberId(0), &node, Call::Enter { member, settled: 0 }).await);
    });
    let app = cluster.app("c1");
    let members = async || app.cluster.view().await.unwrap().members;
    until("it is there and does not vote", async || {
        let members = members().await;
        let newcomer = members.iter().find(|one| one.id == member)?;
        (newcomer.role == MemberRole::Learner).then_some(())
    })
    .await;
    entering.abort();
    app.cluster.remove(request(), by_operator(member)).await.unwrap();
    let left: Vec<_> = members().await.into_iter().map(|one| one.id).collect();
    assert_eq!(left, [MemberId(1)]);
    assert!(app.view.local(|fleet| fleet.member(member).unwrap().has_left()));
    create(app, "after").await.unwrap();
    cluster.shutdown().await;
}

/// State hashes of all members once they have applied as much as any of them.
async fn hashes(cluster: &TestCluster) -> Vec<u128> {
    let revision = cluster.any().view.read(|fleet| fleet.revision()).await.unwrap();
    let mut hashes = Vec::new();
    for coordinator in cluster.running.values() {
        let view = &coordinator.app().view;
        view.read(|_| ()).await.unwrap();
        let hash = view.local(|fleet| (fleet.revision(), fleet.state_hash().unwrap()));
        assert_eq!(hash.0, revision);
        hashes.push(hash.1);
    }
    hashes
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_minority_neither_writes_nor_reads_and_is_not_ready() {
    let mut cluster = TestCluster::start(3).await;
    create(cluster.any(), "web").await.unwrap();
    let operator = cluster.operator_credentials("anna").await;
    let client = Https::with(cluster.configs["c1"].api_listen, &operator);
    cluster.stop("c2").await;
    cluster.stop("c3").await;
    let alone = cluster.app("c1");
    let refused = create(alone, "other").await.unwrap_err();
    assert!(
        matches!(refused, ProposeError::Unavailable | ProposeError::OutcomeUnknown),
        "{refused}"
    );
    assert_eq!(alone.view.read(|_| ()).await, Err(ReadError::Unavailable));
    assert!(alone.readiness.check().await.is_err());
    // It says whom it reaches.
    let answer = client.get("/api/v1/cluster/status").await;
    assert_eq!(answer.status, 200, "{answer:?}");
    let status = answer.json();
    assert_eq!(status["leader"], Value::Null);
    let members = status["members"].as_array().unwrap().iter();
    let reached = members.map(|one| (one["name"].as_str().unwrap(), one["reachable"] == true));
    assert_eq!(reached.collect::<Vec<_>>(), [("c1", true), ("c2", false), ("c3", false)]);
    assert!(
        alone.view.local(|fleet| fleet.find_vm("web").is_some()),
        "it still knows what it knew"
    );

    cluster.run("c2").await;
    cluster.leader().await;
    create(cluster.app("c2"), "third").await.unwrap();
    cluster.shutdown().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_request_is_done_once_whatever_member_it_reaches() {
    let cluster = TestCluster::start(3).await;
    let request = request();
    let mut answers = Vec::new();
    for name in ["c1", "c2", "c3"] {
        answers.push(create_as(cluster.app(name), request, "web").await.unwrap());
    }
    assert!(answers.windows(2).all(|pair| pair[0] == pair[1]));
    let other = create_as(cluster.app("c1"), request, "other").await.unwrap_err();
    assert_eq!(other.code(), novacron_protocol::api::Code::IdempotencyConflict);
    cluster.shutdown().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_member_starts_again_from_its_disk() {
    let mut cluster = TestCluster::start(1).await;
    let vm = create(cluster.any(), "web").await.unwrap();
    let before = cluster.any().view.local(|fleet| fleet.state_hash().unwrap());
    cluster.stop("c1").await;
    cluster.run("c1").await;
    let read = cluster.any().view.read(|fleet| fleet.vm(vm).is_some()).await;
    assert_eq!(read, Ok(true));
    assert_eq!(cluster.any().view.local(|fleet| fleet.state_hash().unwrap()), before);

    // Without its tables, as after a crash, it comes from the log.
    cluster.stop("c1").await;
    std::fs::remove_dir_all(cluster.configs["c1"].data_directory.join("tables")).unwrap();
    cluster.run("c1").await;
    assert_eq!(cluster.any().view.read(|fleet| fleet.state_hash().unwrap()).await, Ok(before));
    cluster.shutdown().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_damaged_log_is_refused_with_file_and_offset() {
    let mut cluster = TestCluster::start(1).await;
    for number in 0..20 {
        create(cluster.any(), &format!("vm-{number}")).await.unwrap();
    }
    cluster.stop("c1").await;
    let config = cluster.configs["c1"].clone();
    let log = config.data_directory.join("log");
    let segment = std::fs::read_dir(&log).unwrap().map(|file| file.unwrap().path()).min().unwrap();
    let mut bytes = std::fs::read(&segment).unwrap();
    let middle = bytes.len() / 2;
    bytes[middle] ^= 0x40;
    std::fs::write(&segment, bytes).unwrap();
    let error = Coordinator::start(&config, Clock::system()).await.err().unwrap();
    let text = format!("{:#}", anyhow::Error::from(error));
    assert!(text.contains(segment.to_str().unwrap()), "{text}");
    assert!(text.contains("is damaged at offset "), "{text}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_member_leaves_and_its_id_is_not_used_again() {
    let mut cluster = TestCluster::start(3).await;
    let leaving = cluster.followers().await.remove(0);
    let app = cluster.any();
    let view = app.cluster.view().await.unwrap();
    let id = view.members.iter().find(|member| member.name == leaving).unwrap().id;
    let first = request();
    app.cluster.remove(first, by_operator(id)).await.unwrap();
    app.cluster.remove(first, by_operator(id)).await.expect("whoever heard no answer asks again");
    let gone = app.cluster.remove(request(), by_operator(id)).await.unwrap_err();
    assert_eq!(gone.code(), novacron_protocol::api::Code::MemberIdUsed);
    let unknown = app.cluster.remove(request(), by_operator(MemberId(99))).await.unwrap_err();
    assert_eq!(unknown.code(), novacron_protocol::api::Code::NotFound);
    cluster.stop(&leaving).await;
    let left = cluster.any().cluster.view().await.unwrap();
    assert_eq!(left.members.len(), 2);
    // With the data of the member that left it is nobody; it is told so, and ends.
    let ghost = Coordinator::start(&cluster.configs[&leaving], Clock::system()).await.unwrap();
    timeout(DEADLINE, ghost.stopping()).await.expect("it learns that it was removed");
    ghost.shutdown().await;

    std::fs::remove_dir_all(&cluster.configs[&leaving].data_directory).unwrap();
    cluster.add(&leaving).await;
    let view = cluster.any().cluster.view().await.unwrap();
    let back = view.members.iter().find(|member| member.name == leaving).unwrap();
    assert_eq!(back.id, MemberId(4));
    assert!(back.role.votes());
    cluster.shutdown().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn founding_twice_or_serving_nothing_is_refused() {
    let mut cluster = TestCluster::start(1).await;
    cluster.stop("c1").await;
    let config = cluster.configs["c1"].clone();
    let error = founding::init(&config, None, Clock::system()).await.unwrap_err();
    assert!(error.to_string().contains("holds member 1 of cluster"), "{error}");
    let empty = crate::support::config("c9", cluster.directory.path());
    let error = Coordinator::start(&empty, Clock::system()).await.err().unwrap();
    assert!(error.to_string().contains("run `init` or `join` first"), "{error}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_disk_that_loses_data_is_for_tests_that_say_so() {
    let mut cluster = TestCluster::start(1).await;
    cluster.stop("c1").await;
    let mut config = cluster.configs["c1"].clone();
    config.test_disk = Some(TestDiskConfig { faults_directory: None });
    let error = Coordinator::start(&config, Clock::system()).await.err().unwrap();
    assert!(error.to_string().contains("Take it out of the configuration"), "{error}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_member_that_is_far_behind_gets_a_snapshot() {
    let mut cluster = TestCluster::start(1).await;
    // More than the entries of two snapshots: what a newcomer needs is purged from the log.
    for number in 0..150 {
        create(cluster.any(), &format!("vm-{number}")).await.unwrap();
    }
    let log = cluster.configs["c1"].data_directory.join("snapshots");
    assert!(std::fs::read_dir(log).unwrap().count() > 0, "there is a snapshot");
    cluster.add("c2").await;
    cluster.add("c3").await;
    let hashes = hashes(&cluster).await;
    assert!(hashes.windows(2).all(|pair| pair[0] == pair[1]), "all members have the same state");

    // It has what came with the snapshot also after a restart.
    cluster.stop("c2").await;
    std::fs::remove_dir_all(cluster.configs["c2"].data_directory.join("tables")).unwrap();
    cluster.run("c2").await;
    let machines = cluster.app("c2").view.read(|fleet| fleet.vms().count()).await;
    assert_eq!(machines, Ok(150));
    cluster.shutdown().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_leader_itself_can_be_removed() {
    let mut cluster = TestCluster::start(3).await;
    create(cluster.any(), "web").await.unwrap();
    let leader = cluster.leader().await;
    let follower = cluster.followers().await.remove(0);
    let app = cluster.app(&follower);
    let view = app.cluster.view().await.unwrap();
    let id = view.members.iter().find(|member| member.name == leader).unwrap().id;
    app.cluster.remove(request(), by_operator(id)).await.unwrap();
    let left = app.cluster.view().await.unwrap();
    assert!(left.members.iter().all(|member| member.name != leader), "{left:?}");
    cluster.stop(&leader).await;
    create(cluster.app(&follower), "after").await.unwrap();
    cluster.shutdown().await;
}
