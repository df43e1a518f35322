//! Agents that connect, are told what to do, and report, over real links.

use std::net::SocketAddr;

use crate::support::agent::{Agent, Greeting};
use crate::support::*;
use bytes::Bytes;
use novacron_coordinator::clock::Clock;
use novacron_coordinator::peers::Call;
use novacron_coordinator::peers::message::{PeerRequest, PeerResponse};
use novacron_coordinator::propose::Intent;
use novacron_coordinator::state::formats::Formats;
use novacron_coordinator::state::member::MemberFacts;
use novacron_coordinator::state::principal::AccessOrder;
use novacron_coordinator::state::{Accepted, Body, Command, Fleet, Origin};
use novacron_protocol::api::{Code, SettingsChange};
use novacron_protocol::effect::{
    Action, AgentMessage, CoordinatorMessage, EffectOutcome, Handover, MachineReport, MigrationEnd,
    ObservedState, Report, SourceResult, StreamRequest, StreamResponse,
};
use novacron_protocol::ids::{EffectId, Generation, MemberId, MigrationId, VmId};
use novacron_protocol::migration::{
    DowntimeParts, MemoryPath, MigrationAccount, MigrationMode, MigrationOptions, MigrationPhase,
    MigrationStatus,
};
use novacron_protocol::node::NodeState;
use novacron_protocol::usage::{HOUR_S, Meter, RecordOutcome, UsageRecord};
use novacron_protocol::vm::VmState;
use novacron_protocol::wire::codec;
use novacron_transport::{Credentials, Endpoint, ExpectedPeer, LinkSettings, Role};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::time::timeout;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn effects_reach_the_agent_and_its_reports_the_fleet() {
    let cluster = TestCluster::start(1).await;
    let credentials = cluster.agent_credentials("node-01").await;
    let mut agent =
        Agent::connect(&cluster.peer_addresses(), &credentials, "node-01", vec![]).await;
    let vm = create(cluster.any(), "web").await.unwrap();
    let create = agent.effects().await.remove(0);
    assert!(matches!(create.action, Action::Create { .. }));
    assert_eq!(create.vm, vm);
    agent.done(&create).await;
    let start = agent.effects().await.remove(0);
    assert_eq!(start.action, Action::Start);
    agent.done(&start).await;
    let state = cluster.any().view.read(|fleet| fleet.vm(vm).unwrap().state()).await;
    assert_eq!(state, Ok(VmState::Running));
    agent.close().await;
    cluster.shutdown().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_report_that_is_sent_twice_counts_once() {
    let cluster = TestCluster::start(1).await;
    let credentials = cluster.agent_credentials("node-01").await;
    let mut agent =
        Agent::connect(&cluster.peer_addresses(), &credentials, "node-01", vec![]).await;
    let vm = create(cluster.any(), "web").await.unwrap();
    let effect = agent.effects().await.remove(0);
    let done = Report::EffectDone { effect: effect.id, outcome: EffectOutcome::Done };
    agent.report(vec![done.clone()]).await;
    let revision = cluster.any().view.local(|fleet| fleet.vm(vm).unwrap().revision);
    let repeated = AgentMessage::Reports { first_sequence: 1, reports: vec![done] };
    agent.say(&repeated).await;
    let committed = loop {
        if let Some(CoordinatorMessage::Committed { sequence }) = agent.hear().await {
            break sequence;
        }
    };
    assert_eq!(committed, 1);
    assert_eq!(cluster.any().view.local(|fleet| fleet.vm(vm).unwrap().revision), revision);
    agent.close().await;
    cluster.shutdown().await;
}

/// The hour before this one.
fn last_hour_s() -> u64 {
    let now_s = Clock::system().now().unix_ms / 1000;
    now_s - now_s % HOUR_S - HOUR_S
}

fn usage(vm: VmId, start_s: u64, end_s: u64) -> UsageRecord {
    let generation = Generation(1);
    UsageRecord { vm, generation, meter: Meter::VmSeconds, start_s, end_s, level: 1 }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn usage_is_in_the_ledger_once_whichever_coordinator_answered_or_not() {
    let mut cluster = TestCluster::start(3).await;
    let credentials = cluster.agent_credentials("node-01").await;
    let addresses = cluster.peer_addresses();
    let mut agent = Agent::connect(&addresses, &credentials, "node-01", vec![]).await;
    let vm = create(cluster.any(), "web").await.unwrap();
    let hour_s = last_hour_s();
    let usage = |start_s, end_s| usage(vm, hour_s + start_s, hour_s + end_s);
    let records = vec![usage(0, 300), usage(300, 400)];
    // The answer is not waited for: the leader may die before or after the commit.
    agent.say(&AgentMessage::Usage { sequence: 1, records: records.clone() }).await;
    let leader = cluster.leader().await;
    cluster.stop(&leader).await;
    drop(agent);

    let mut agent = Agent::connect(&addresses, &credentials, "node-01", vec![]).await;
    let CoordinatorMessage::UsageCommitted { outcomes, .. } = agent.usage(records).await else {
        panic!("declined");
    };
    assert!(outcomes.iter().all(RecordOutcome::is_held), "{outcomes:?}");
    let overlapping = vec![usage(0, 300), usage(350, 450), usage(400, 401)];
    let CoordinatorMessage::UsageCommitted { outcomes, .. } = agent.usage(overlapping).await else {
        panic!("declined");
    };
    assert_eq!(outcomes[0], RecordOutcome::Exists);
    let covered = vec![usage(350, 400).seconds()];
    assert_eq!(outcomes[1], RecordOutcome::Conflict { covered });
    assert!(outcomes[2].is_held());
    let entries = cluster.any().view.read(|fleet| fleet.book().last_index).await;
    assert_eq!(entries, Ok(3));
    agent.close().await;
    cluster.shutdown().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn usage_that_is_no_batch_ends_the_link() {
    let cluster = TestCluster::start(1).await;
    let credentials = cluster.agent_credentials("node-01").await;
    for records in [0, 1_001] {
        let mut agent =
            Agent::connect(&cluster.peer_addresses(), &credentials, "node-01", vec![]).await;
        let record = usage(VmId(uuid::Uuid::nil()), 0, 1);
        agent.say(&AgentMessage::Usage { sequence: 1, records: vec![record; records] }).await;
        while agent.hear().await.is_some() {}
    }
    cluster.shutdown().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_new_leader_sends_open_effects_again() {
    let mut cluster = TestCluster::start(3).await;
    let credentials = cluster.agent_credentials("node-01").await;
    let addresses = cluster.peer_addresses();
    let mut agent = Agent::connect(&addresses, &credentials, "node-01", vec![]).await;
    let vm = create(cluster.any(), "web").await.unwrap();
    let first = agent.effects().await.remove(0);
    let leader = cluster.leader().await;
    cluster.stop(&leader).await;
    while agent.hear().await.is_some() {}
    let mut agent = Agent::connect(&addresses, &credentials, "node-01", vec![]).await;
    let again = agent.effects().await.remove(0);
    assert_eq!(again, first, "the same effect, deadline and all");
    agent.done(&again).await;
    let start = agent.effects().await.remove(0);
    assert_eq!((start.vm, &start.action), (vm, &Action::Start));
    agent.close().await;
    cluster.shutdown().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn followers_name_the_leader_and_strangers_are_refused() {
    let cluster = TestCluster::start(3).await;
    let credentials = cluster.agent_credentials("node-01").await;
    let leader = cluster.leader().await;
    let follower = cluster.followers().await.remove(0);
    let at = |name: &str| cluster.configs[name].peer_listen;
    let answer = Agent::greet(at(&follower), &credentials, "node-01", vec![]).await;
    let Greeting::NotLeader(named) = answer else { panic!("not sent on") };
    assert_eq!(named, Some(at(&leader).to_string()));
    let answer = Agent::greet(at(&leader), &credentials, "node-02", vec![]).await;
    let Greeting::Refused(reason) = answer else { panic!("not refused") };
    assert!(reason.contains("certificate is of node `node-01`"), "{reason}");
    cluster.shutdown().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_silent_node_becomes_suspect_then_down_and_comes_back() {
    let cluster = TestCluster::start(1).await;
    let credentials = cluster.agent_credentials("node-01").await;
    let addresses = cluster.peer_addresses();
    let agent = Agent::connect(&addresses, &credentials, "node-01", vec![]).await;
    let state = |wanted: NodeState| {
        let view = cluster.any().view.clone();
        async move {
            until("the node's state changes", async || {
                let name = "node-01".parse().unwrap();
                let state = view.local(|fleet| fleet.node(&name).unwrap().state);
                (state == wanted).then_some(())
            })
            .await;
        }
    };
    state(NodeState::Ready).await;
    state(NodeState::Suspect).await;
    agent.close().await;
    state(NodeState::Down).await;
    let agent = Agent::connect(&addresses, &credentials, "node-01", vec![]).await;
    state(NodeState::Ready).await;
    agent.close().await;
    cluster.shutdown().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn heartbeats_are_not_in_the_log() {
    let cluster = TestCluster::start(1).await;
    let credentials = cluster.agent_credentials("node-01").await;
    let mut agent =
        Agent::connect(&cluster.peer_addresses(), &credentials, "node-01", vec![]).await;
    let nothing = || {
        let effect = EffectId(u64::MAX);
        vec![Report::EffectDone { effect, outcome: EffectOutcome::Done }]
    };
    agent.report(nothing()).await;
    let applied = || *cluster.any().view.applied().borrow();
    let before = applied();
    for _ in 0..200 {
        agent.say(&AgentMessage::Heartbeat).await;
    }
    // An answer to what came after them says that they have been heard.
    agent.report(nothing()).await;
    assert_eq!(applied(), before + 1, "the report is an entry, and the heartbeats are none");
    agent.close().await;
    cluster.shutdown().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_host_that_returns_says_what_it_has() {
    let cluster = TestCluster::start(1).await;
    let credentials = cluster.agent_credentials("node-01").await;
    let addresses = cluster.peer_addresses();
    let mut agent = Agent::connect(&addresses, &credentials, "node-01", vec![]).await;
    let vm = running_on(&cluster, &mut agent, "node-01").await;
    let lost = running(&cluster, &mut agent, "lost").await;
    agent.close().await;
    let view = cluster.any().view.clone();
    let state = |vm: VmId| view.local(|fleet| fleet.vm(vm).unwrap().state());
    until("its machines are out of sight", async || {
        (state(vm) == VmState::Unknown && state(lost) == VmState::Unknown).then_some(())
    })
    .await;
    let held = MachineReport {
        vm,
        generation: Generation(1),
        state: ObservedState::Paused,
        reason: String::new(),
    };
    let agent = Agent::connect(&addresses, &credentials, "node-01", vec![held]).await;
    assert_eq!((state(vm), state(lost)), (VmState::Paused, VmState::Failed));
    agent.close().await;
    cluster.shutdown().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_newer_session_takes_the_place_of_the_older() {
    let cluster = TestCluster::start(1).await;
    let credentials = cluster.agent_credentials("node-01").await;
    let addresses = cluster.peer_addresses();
    let mut old = Agent::connect(&addresses, &credentials, "node-01", vec![]).await;
    let mut new = Agent::connect(&addresses, &credentials, "node-01", vec![]).await;
    while old.hear().await.is_some() {}
    create(cluster.any(), "web").await.unwrap();
    assert_eq!(new.effects().await.len(), 1);
    new.close().await;
    cluster.shutdown().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_console_opens_through_any_member() {
    let cluster = TestCluster::start(3).await;
    let credentials = cluster.agent_credentials("node-01").await;
    let mut agent =
        Agent::connect(&cluster.peer_addresses(), &credentials, "node-01", vec![]).await;
    let vm = create(cluster.any(), "web").await.unwrap();
    let effect = agent.effects().await.remove(0);
    agent.done(&effect).await;
    for name in ["c1", "c2", "c3"] {
        let app = cluster.app(name);
        app.view.read(|_| ()).await.unwrap();
        let (opened, asked) =
            tokio::join!(app.consoles.open(vm, 7, true), agent_side(&agent, StreamResponse::Open));
        let (request, mut send, mut receive) = asked;
        assert_eq!(request, StreamRequest::Console { vm, from_offset: 7, follow: true });
        let mut console = opened.unwrap();
        send.write_all(b"login: ").await.unwrap();
        let mut prompt = [0; 7];
        console.receive.read_exact(&mut prompt).await.unwrap();
        assert_eq!(&prompt, b"login: ", "through {name}");
        console.send.write_all(b"root").await.unwrap();
        let mut typed = [0; 4];
        receive.read_exact(&mut typed).await.unwrap();
        assert_eq!(&typed, b"root", "through {name}");
        send.shutdown().await.unwrap();
        let mut rest = Vec::new();
        AsyncReadExt::read_to_end(&mut console.receive, &mut rest).await.unwrap();
        assert!(rest.is_empty(), "the console ends with the guest's side");
    }
    let refused = StreamResponse::Refused { reason: "no such log".to_owned() };
    let (opened, _) =
        tokio::join!(cluster.any().consoles.open(vm, 0, false), agent_side(&agent, refused));
    assert_eq!(opened.unwrap_err().to_string(), "no such log");
    agent.close().await;
    for name in ["c1", "c2", "c3"] {
        let away = cluster.app(name).consoles.open(vm, 0, false).await.unwrap_err();
        assert_eq!(away.to_string(), "node node-01 is not reachable now", "through {name}");
        assert_eq!(away.to_problem().code, Code::NodeUnreachable, "through {name}");
    }
    cluster.shutdown().await;
}

/// Takes a console's request and answers it.
async fn agent_side(
    agent: &Agent,
    response: StreamResponse,
) -> (StreamRequest, quinn::SendStream, quinn::RecvStream) {
    let (request, mut send, receive) = agent.console().await;
    send.send(codec::encode(&response).unwrap().into()).await.unwrap();
    (request, send.into_inner(), receive.into_inner().0)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_migration_survives_the_death_of_the_leader() {
    let mut cluster = TestCluster::start(3).await;
    let addresses = cluster.peer_addresses();
    let source_credentials = cluster.agent_credentials("node-01").await;
    let target_credentials = cluster.agent_credentials("node-02").await;
    let mut source = Agent::connect(&addresses, &source_credentials, "node-01", vec![]).await;
    let vm = running_on(&cluster, &mut source, "node-01").await;
    let mut target = Agent::connect(&addresses, &target_credentials, "node-02", vec![]).await;
    let migration = migrate(&cluster, vm, "node-02").await;
    let expect = target.effects().await.remove(0);
    target.done(&expect).await;
    let send = source.effects().await.remove(0);
    assert!(matches!(send.action, Action::SendMigration { .. }));

    // The leader dies; the agents go on by themselves, and tell the next one.
    let leader = cluster.leader().await;
    cluster.stop(&leader).await;
    let machine = |generation, state| MachineReport {
        vm,
        generation: Generation(generation),
        state,
        reason: String::new(),
    };
    let held = vec![machine(2, ObservedState::Running)];
    let mut target = Agent::connect(&addresses, &target_credentials, "node-02", held).await;
    let handover = Handover { migration, vm, generation: Generation(2) };
    target.report(vec![Report::HandedOver(handover)]).await;
    let mut source = Agent::connect(&addresses, &source_credentials, "node-01", vec![]).await;
    let end = MigrationEnd {
        target: "node-02".parse().unwrap(),
        phase: MigrationPhase::Cleanup,
        result: SourceResult::Completed(account()),
    };
    let ended = Report::MigrationEnded { migration, end };
    source.report(vec![ended.clone()]).await;
    source.report(vec![ended]).await;

    let moved = (VmState::Running, "node-02".to_owned(), Generation(2), MigrationStatus::Completed);
    until("the machine runs at the target", async || {
        // An agent that says nothing for long makes its machines unknown.
        target.say(&AgentMessage::Heartbeat).await;
        let seen = cluster.any().view.read(|fleet| {
            let row = fleet.vm(vm).unwrap();
            let status = fleet.migration(migration).unwrap().status();
            (row.state(), row.node.clone().unwrap().to_string(), row.generation, status)
        });
        (seen.await == Ok(moved.clone())).then_some(())
    })
    .await;
    source.close().await;
    target.close().await;
    cluster.shutdown().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_leader_without_a_quorum_lets_its_agents_go() {
    let mut cluster = TestCluster::start(3).await;
    let credentials = cluster.agent_credentials("node-01").await;
    let addresses = cluster.peer_addresses();
    let mut agent = Agent::connect(&addresses, &credentials, "node-01", vec![]).await;
    let leader = cluster.leader().await;
    for follower in cluster.followers().await {
        cluster.stop(&follower).await;
    }
    // It still thinks that it leads: nobody can tell it otherwise.
    let told = loop {
        match agent.hear().await {
            Some(CoordinatorMessage::NotLeader { leader }) => break leader,
            Some(_) => {}
            None => panic!("the link ended without a word"),
        }
    };
    assert_eq!(told, None);
    let address = cluster.configs[&leader].peer_listen;
    let again = Agent::greet(address, &credentials, "node-01", vec![]).await;
    assert!(matches!(again, Greeting::NotLeader(None)), "nor does it take new ones");
    cluster.shutdown().await;
}

/// A machine that its agent has made and started.
async fn running_on(cluster: &TestCluster, agent: &mut Agent, node: &str) -> VmId {
    let vm = running(cluster, agent, "web").await;
    let on = cluster.any().view.read(|fleet| fleet.vm(vm).unwrap().node.clone()).await.unwrap();
    assert_eq!(on.unwrap().as_str(), node);
    vm
}

async fn running(cluster: &TestCluster, agent: &mut Agent, name: &str) -> VmId {
    let vm = create(cluster.any(), name).await.unwrap();
    for _ in 0..2 {
        let effect = agent.effects().await.remove(0);
        agent.done(&effect).await;
    }
    vm
}

async fn migrate(cluster: &TestCluster, vm: VmId, target: &str) -> MigrationId {
    let target = target.parse().unwrap();
    let (mode, options) = (MigrationMode::Live, MigrationOptions::default());
    let intent = Intent::MigrateVm { vm, target, mode, options };
    let submitted = cluster.any().proposer.submit(request(), by_operator(intent)).await;
    match submitted.unwrap() {
        Accepted::Migration(migration) => migration,
        other => panic!("{other:?}"),
    }
}

fn account() -> MigrationAccount {
    MigrationAccount {
        total_ms: 1000,
        prepare_ms: 100,
        memory_ms: 900,
        downtime_parts: DowntimeParts::default(),
        rounds: 2,
        bytes_guest: 4000,
        bytes_wire: 1000,
        bytes_wire_memory: 900,
        bytes_wire_disks: 60,
        bytes_wire_files: 40,
        bytes_link: 1100,
        bytes_disk: 0,
        bytes_disk_held: 0,
        bytes_disk_final: 0,
        pages_zero: 1,
        pages_same: 2,
        pages_known: 4,
        pages_differing: 1,
        pages_packed: 1,
        pages_raw: 1,
        verified: true,
        path: MemoryPath::Pages,
    }
}

/// What each call of members is when somebody with an agent's certificate makes it: nothing.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_agents_certificate_is_good_for_an_agents_calls_only() {
    let cluster = TestCluster::start(1).await;
    let credentials = cluster.agent_credentials("node-01").await;
    let address = cluster.peer_addresses()[0];
    let change = SettingsChange { migrations_per_node: Some(9) };
    let at = Clock::system().now();
    let facts = MemberFacts {
        name: "intruder".into(),
        peer_address: "127.0.0.1:1".into(),
        api_address: "127.0.0.1:2".into(),
        formats: Formats::default(),
    };
    let (first, vm) = (MemberId(1), VmId(request().0));
    let change = Command::of_cluster(request(), at, Body::ChangeSettings(change));
    let calls = [
        Call::Propose(Box::new(change)),
        Call::ReadIndex,
        Call::Admit { request: request(), facts },
        Call::Enter { member: first, settled: 0 },
        Call::Remove { request: request(), origin: Origin::Cluster, member: first },
        Call::Console { vm, from_offset: 0, follow: true },
    ];
    let state = || cluster.any().view.local(|fleet| (fleet.settings(), fleet.members().count()));
    let before = state();
    let incarnation = cluster.any().view.local(Fleet::incarnation);
    for call in calls {
        for from in [0, 1].map(MemberId) {
            let formats = Formats::default();
            let request = PeerRequest { from, incarnation, formats, to: first, call: call.clone() };
            let answer = said_to(address, &credentials, &request).await;
            let answer = answer.and_then(|frame| codec::decode::<PeerResponse>(&frame).ok());
            assert!(answer.is_none(), "{call:?} as member {from}: {answer:?}");
        }
    }
    cluster.any().view.read(|_| ()).await.unwrap();
    assert_eq!(state(), before);
    // It speaks for its own node only, and whoever is no agent does not speak as one.
    let other = Agent::greet(address, &credentials, "node-02", vec![]).await;
    assert!(matches!(other, Greeting::Refused(_)));
    let operator = cluster.operator_credentials("alice").await;
    assert!(matches!(Agent::greet(address, &operator, "alice", vec![]).await, Greeting::Gone));
    cluster.shutdown().await;
}

/// What a coordinator answers to the first message on a new link.
async fn said_to(
    address: SocketAddr,
    credentials: &Credentials,
    request: &PeerRequest,
) -> Option<Bytes> {
    let any = "127.0.0.1:0".parse().unwrap();
    let endpoint = Endpoint::client(any, credentials, LinkSettings::control()).unwrap();
    let expected = ExpectedPeer::any(Role::Coordinator);
    let connection = endpoint.connect(address, &expected).await.unwrap();
    let (mut send, mut receive) = connection.open_frames(1 << 20).await.unwrap();
    send.send(codec::encode(request).unwrap().into()).await.ok()?;
    timeout(DEADLINE, receive.receive()).await.expect("neither answered nor refused").ok()?
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_console_ends_when_its_reader_may_not_read_it_any_more() {
    let cluster = TestCluster::start(1).await;
    let credentials = cluster.agent_credentials("node-01").await;
    let mut agent =
        Agent::connect(&cluster.peer_addresses(), &credentials, "node-01", vec![]).await;
    create(cluster.any(), "web").await.unwrap();
    let effect = agent.effects().await.remove(0);
    agent.done(&effect).await;
    let alice = cluster.operator_credentials("alice").await;
    let client = crate::https::Https::with(cluster.configs["c1"].api_listen, &alice);
    let (mut console, asked) = tokio::join!(
        client.follow("/api/v1/vms/web/console?follow=true"),
        agent_side(&agent, StreamResponse::Open)
    );
    let (_, mut send, _receive) = asked;
    send.write_all(b"login: ").await.unwrap();
    let mut prompt = [0; 7];
    console.read_exact(&mut prompt).await.unwrap();
    assert_eq!(&prompt, b"login: ");
    let order = AccessOrder::DeletePrincipal { name: "alice".parse().unwrap() };
    let delete = by_operator(Intent::Access(order));
    cluster.any().proposer.submit(request(), delete).await.unwrap();
    let mut rest = Vec::new();
    let ended = timeout(DEADLINE, console.read_to_end(&mut rest)).await;
    assert!(ended.is_ok() && rest.is_empty(), "{rest:?}");
    agent.close().await;
    cluster.shutdown().await;
}
