//! Agents that connect, are told what to do, and report, over real links.
#![allow(clippy::unwrap_used, reason = "a test")]

mod support;

use novacron_protocol::effect::{Action, AgentMessage, CoordinatorMessage, EffectOutcome, Report};
use novacron_protocol::effect::{StreamRequest, StreamResponse};
use novacron_protocol::node::NodeState;
use novacron_protocol::vm::VmState;
use novacron_protocol::wire::codec;
use support::agent::{Agent, Greeting};
use support::*;
use tokio::io::{AsyncReadExt, AsyncWriteExt};

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
