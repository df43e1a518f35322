//! The link: a coordinator that speaks the real protocol over the real transport, an agent, real machines.

use std::net::{Ipv4Addr, SocketAddr};
use std::time::Duration;

use crate::common::{GREETING, Host, PATIENCE, read_until, spec, vm};
use bytes::Bytes;
use novacron_agent::clock;
use novacron_agent::link::{self, Inbox, Life, SessionContext};
use novacron_agent::migrate::{MigrationSettings, Migrations};
use novacron_agent::sampling::Previous;
use novacron_agent::sampling::Sampler;
use novacron_agent::vm::{MachineOrder, Order};
use novacron_protocol::effect::{
    Action, AgentMessage, CoordinatorMessage, Effect, EffectOutcome, Hello, ObservedState, Report,
    StreamRequest, StreamResponse,
};
use novacron_protocol::ids::{ClusterId, EffectId, Generation, Incarnation, RequestId};
use novacron_protocol::limits::CONTROL_MESSAGE_BYTES_MAX;
use novacron_protocol::node::{Accelerator, NodeCapacity, NodeFacts};
use novacron_protocol::sample::{SampleAnswer, SampleMessage, Tick};
use novacron_protocol::time::Timestamp;
use novacron_protocol::usage::{Meter, RecordOutcome, Seconds, UsageRecord};
use novacron_protocol::vm::Labels;
use novacron_protocol::wire::codec;
use novacron_transport::authority::Grant;
use novacron_transport::connection::FramedStream;
use novacron_transport::{
    Acceptor, ClusterAuthority, Connection, Credentials, Endpoint, LinkSettings, Role,
};
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

const FRAME_BYTES_MAX: usize = CONTROL_MESSAGE_BYTES_MAX + 2;

/// A cluster whose members are played by the test.
struct Cluster {
    authority: ClusterAuthority,
}

impl Cluster {
    fn new() -> Self {
        let authority =
            ClusterAuthority::create(ClusterId(Uuid::from_u128(1)), clock::now()).unwrap();
        Self { authority }
    }

    fn credentials(&self, role: Role, name: &str) -> Credentials {
        let grant = Grant::new(role, name.parse().unwrap(), clock::now());
        self.authority.issue(&grant).unwrap()
    }

    fn coordinator(&self, name: &str) -> Coordinator {
        let credentials = self.credentials(Role::Coordinator, name);
        let any = SocketAddr::from((Ipv4Addr::LOCALHOST, 0));
        let bound = Endpoint::bind(any, &credentials, &[Role::Agent], LinkSettings::control());
        let (endpoint, acceptor) = bound.unwrap();
        Coordinator { endpoint, acceptor, incarnation: Incarnation(1), minor: 0 }
    }
}

struct Coordinator {
    endpoint: Endpoint,
    acceptor: Acceptor,
    incarnation: Incarnation,
    minor: u16,
}

/// A session, seen from the coordinator.
struct Session {
    connection: Connection,
    stream: FramedStream,
    hello: Hello,
}

impl Coordinator {
    fn address(&self) -> String {
        self.endpoint.local_address().unwrap().to_string()
    }

    async fn accept(&mut self) -> Session {
        let connection = timeout(PATIENCE, self.acceptor.accept()).await.unwrap().unwrap();
        let mut stream = connection.accept_frames(FRAME_BYTES_MAX).await.unwrap();
        match hear(&mut stream).await {
            AgentMessage::Hello(hello) => Session { connection, stream, hello },
            other => panic!("{other:?} before hello"),
        }
    }

    async fn welcome(&mut self) -> Session {
        let mut session = self.accept().await;
        let welcome = CoordinatorMessage::Welcome {
            cluster: ClusterId(Uuid::from_u128(1)),
            incarnation: self.incarnation,
            minor: self.minor,
            coordinators: vec![self.address()],
        };
        session.say(&welcome).await;
        session
    }
}

async fn hear(stream: &mut FramedStream) -> AgentMessage {
    let frame = timeout(PATIENCE, stream.1.receive()).await.unwrap().unwrap().unwrap();
    codec::decode(&frame).unwrap()
}

/// Where an agent tells what it measured, seen from the coordinator.
struct SampleStream(FramedStream);

impl SampleStream {
    async fn accept(session: &Session, behind: Tick) -> Self {
        let frames = session.connection.accept_frames(FRAME_BYTES_MAX);
        let mut stream = Self(timeout(PATIENCE, frames).await.unwrap().unwrap());
        assert_eq!(stream.hear().await, SampleMessage::Begin);
        let answer = codec::encode(&SampleAnswer::From { behind }).unwrap();
        stream.0.0.send(Bytes::from(answer)).await.unwrap();
        stream
    }

    async fn hear(&mut self) -> SampleMessage {
        let frame = timeout(PATIENCE, self.0.1.receive()).await.unwrap().unwrap().unwrap();
        codec::decode(&frame).unwrap()
    }

    async fn tick(&mut self) -> Tick {
        match self.hear().await {
            SampleMessage::Part(part) => part.tick,
            other => panic!("{other:?}"),
        }
    }
}

impl Session {
    async fn say(&mut self, message: &CoordinatorMessage) {
        let bytes = Bytes::from(codec::encode(message).unwrap());
        self.stream.0.send(bytes).await.unwrap();
    }

    async fn order(&mut self, effect: &Effect) {
        self.say(&CoordinatorMessage::Effects(vec![effect.clone()])).await;
    }

    /// Reads reports until one is wanted. Gives it and its number.
    async fn report(&mut self, wanted: impl Fn(&Report) -> bool) -> (u64, Report) {
        loop {
            let AgentMessage::Reports { first_sequence, reports } = hear(&mut self.stream).await
            else {
                continue;
            };
            for (sequence, report) in (first_sequence..).zip(reports) {
                if wanted(&report) {
                    return (sequence, report);
                }
            }
        }
    }

    async fn usage(&mut self) -> (u64, Vec<UsageRecord>) {
        loop {
            if let AgentMessage::Usage { sequence, records } = hear(&mut self.stream).await {
                return (sequence, records);
            }
        }
    }

    async fn answer_usage(&mut self, sequence: u64, outcomes: Vec<RecordOutcome>) {
        self.say(&CoordinatorMessage::UsageCommitted { sequence, outcomes }).await;
    }

    async fn outcome(&mut self, of: EffectId) -> (u64, EffectOutcome) {
        let is_it =
            |report: &Report| matches!(report, Report::EffectDone { effect, .. } if *effect == of);
        match self.report(is_it).await {
            (sequence, Report::EffectDone { outcome, .. }) => (sequence, outcome),
            (_, other) => panic!("{other:?}"),
        }
    }
}

/// An agent on a host, linked to coordinators.
struct Agent {
    host: Host,
    inbox: Inbox,
    sampler: Sampler,
    linking: tokio::task::JoinHandle<()>,
    shutdown: CancellationToken,
}

impl Agent {
    fn start(host: Host, cluster: &Cluster, coordinators: Vec<String>) -> Self {
        let credentials = cluster.credentials(Role::Agent, "node-01");
        let any = SocketAddr::from((Ipv4Addr::LOCALHOST, 0));
        let endpoint = Endpoint::client(any, &credentials, LinkSettings::migration()).unwrap();
        let (machines, reporter) = (host.machines.clone(), host.reporter.clone());
        let settings = MigrationSettings::default();
        let migrations = Migrations::new(machines.clone(), reporter.clone(), endpoint, settings);
        let inbox = Inbox::new(machines.clone(), migrations, reporter.clone());
        let (records, recorder) = (host.records.clone(), host.recording.recorder.clone());
        let (shutdown, orders) = (CancellationToken::new(), inbox.clone());
        let told = shutdown.clone();
        let directory = host.directory.path().to_owned();
        let sampler = Sampler::new(machines.clone(), directory);
        let measured = sampler.clone();
        let linking = tokio::spawn(async move {
            let context = SessionContext {
                node: "node-01".parse().unwrap(),
                life: Life::load(records).await.unwrap(),
                facts: facts(),
                machines,
                reporter,
                recorder,
                sampler: measured,
                inbox: orders,
            };
            link::run(context, credentials, &coordinators, told).await;
        });
        Self { host, inbox, sampler, linking, shutdown }
    }

    /// The agent ends; its host stays.
    async fn end(self) -> Host {
        self.shutdown.cancel();
        self.linking.await.unwrap();
        self.host.machines.shut_down().await;
        self.inbox.finished().await;
        self.host
    }
}

fn facts() -> NodeFacts {
    NodeFacts {
        capacity: NodeCapacity::default(),
        labels: Labels::new(),
        migration_address: "127.0.0.1:7410".to_owned(),
        agent_version: "test".to_owned(),
        qemu_version: "10.0.2".to_owned(),
        accelerator: Accelerator::Tcg,
        accelerator_reason: "a test".to_owned(),
        has_swtpm: false,
    }
}

fn effect(id: u64, action: Action) -> Effect {
    Effect {
        id: EffectId(id),
        vm: vm(1),
        generation: Generation(1),
        deadline: clock::now().plus_ms(60_000),
        request: RequestId(Uuid::from_u128(u128::from(id))),
        action,
    }
}

#[tokio::test]
async fn effects_are_done_once_and_told_until_committed() {
    let cluster = Cluster::new();
    let mut coordinator = cluster.coordinator("coordinator-1");
    let agent = Agent::start(Host::new().await, &cluster, vec![coordinator.address()]);
    let mut session = coordinator.welcome().await;
    assert_eq!(session.hello.node.as_str(), "node-01");
    assert_eq!(session.hello.machines, []);

    // Both at once: they are begun in order. Each twice: each is done once, and answered.
    let create = effect(1, Action::Create { spec: spec() });
    let start = effect(2, Action::Start);
    let both = vec![create.clone(), start.clone(), create.clone(), start.clone()];
    session.say(&CoordinatorMessage::Effects(both)).await;
    assert_eq!(session.outcome(EffectId(1)).await.1, EffectOutcome::Done);
    let (sequence, outcome) = session.outcome(EffectId(2)).await;
    assert_eq!(outcome, EffectOutcome::Done);
    let pid = agent.host.pid(vm(1));

    // Not committed, so told again after the agent's restart, with what runs.
    session.say(&CoordinatorMessage::Committed { sequence: 0 }).await;
    assert!(sequence > 0);
    drop(session);
    let host = agent.end().await.restart().await;
    let agent = Agent::start(host, &cluster, vec![coordinator.address()]);
    let mut session = coordinator.welcome().await;
    assert_eq!(session.hello.machines.len(), 1);
    assert_eq!(session.hello.machines[0].state, ObservedState::Running);
    let (sequence, outcome) = session.outcome(EffectId(2)).await;
    assert_eq!(outcome, EffectOutcome::Done);
    session.order(&start).await;
    let (repeated, outcome) = session.outcome(EffectId(2)).await;
    assert_eq!(outcome, EffectOutcome::Done);
    assert!(repeated > sequence);
    assert_eq!(agent.host.pid(vm(1)), pid);

    session.say(&CoordinatorMessage::Committed { sequence: repeated }).await;
    session.order(&effect(3, Action::Destroy)).await;
    let (sequence, outcome) = session.outcome(EffectId(3)).await;
    assert_eq!(outcome, EffectOutcome::Done);
    session.say(&CoordinatorMessage::Committed { sequence }).await;
    assert_eq!(agent.host.remains(vm(1)), Vec::<std::path::PathBuf>::new());
}

#[tokio::test]
async fn an_effect_after_its_deadline_and_of_another_generation_changes_nothing() {
    let cluster = Cluster::new();
    let mut coordinator = cluster.coordinator("coordinator-1");
    let agent = Agent::start(Host::new().await, &cluster, vec![coordinator.address()]);
    let mut session = coordinator.welcome().await;
    let late = Effect {
        deadline: Timestamp::from_unix_ms(1),
        ..effect(1, Action::Create { spec: spec() })
    };
    session.order(&late).await;
    let (_, outcome) = session.outcome(EffectId(1)).await;
    assert!(matches!(outcome, EffectOutcome::Failed { reason } if reason.contains("deadline")));
    session.order(&effect(2, Action::Start)).await;
    let (_, outcome) = session.outcome(EffectId(2)).await;
    assert_eq!(outcome, EffectOutcome::Stale { held: None });
    assert_eq!(agent.host.machines.inventory(), []);
}

const CREATED: RecordOutcome = RecordOutcome::Created { window_s: 0 };

#[tokio::test]
async fn usage_is_sent_until_it_is_answered_and_the_rest_of_a_conflict_after_it() {
    let cluster = Cluster::new();
    let mut coordinator = cluster.coordinator("coordinator-1");
    let agent = Agent::start(Host::new().await, &cluster, vec![coordinator.address()]);
    let mut session = coordinator.welcome().await;
    agent.host.create_and_start(vm(1)).await;
    // So long that a record has two seconds, one that is covered and one that is not, also if one ends meanwhile.
    agent.host.pass(3_000);
    let destroy = MachineOrder::Existing(Order::Destroy);
    assert_eq!(agent.host.order(vm(1), destroy).await, EffectOutcome::Done);
    let (_, first) = session.usage().await;

    // Lost between sending and answering.
    session.connection.close(novacron_transport::CloseCode::Done, "test");
    drop(session);
    let mut session = coordinator.welcome().await;
    let (sequence, again) = session.usage().await;
    assert_eq!(again[..first.len()], first);
    let host = agent.end().await.restart().await;
    let agent = Agent::start(host, &cluster, vec![coordinator.address()]);
    let mut session = coordinator.welcome().await;
    let (same_sequence, records) = session.usage().await;
    assert_eq!(records[..again.len()], again);
    assert!(same_sequence >= sequence);

    let seconds_of_guest = |&index: &usize| {
        let UsageRecord { meter, start_s, end_s, .. } = records[index];
        if meter == Meter::VmSeconds { end_s - start_s } else { 0 }
    };
    let guest = (0..records.len()).max_by_key(seconds_of_guest).unwrap();
    let start_s = records[guest].start_s;
    let mut outcomes = vec![CREATED; records.len()];
    let covered = vec![Seconds { start_s, end_s: start_s + 1 }];
    outcomes[guest] = RecordOutcome::Conflict { covered };
    session.answer_usage(same_sequence, outcomes).await;
    let mut told = session.usage().await;
    let rest = UsageRecord { start_s: start_s + 1, ..records[guest] };
    while told.1 != [rest] {
        // The end of the disk may have come in a message of its own.
        session.answer_usage(told.0, vec![CREATED; told.1.len()]).await;
        told = session.usage().await;
    }
    session.answer_usage(told.0, vec![CREATED]).await;
    let recorder = agent.host.recording.recorder.clone();
    let acknowledged = async {
        while recorder.numbers().waiting > 0 {
            hear(&mut session.stream).await;
        }
    };
    timeout(PATIENCE, acknowledged).await.expect("everything is acknowledged");
}

#[tokio::test]
async fn an_answer_to_usage_that_was_not_sent_ends_the_session() {
    let cluster = Cluster::new();
    let mut coordinator = cluster.coordinator("coordinator-1");
    let _agent = Agent::start(Host::new().await, &cluster, vec![coordinator.address()]);
    let mut session = coordinator.welcome().await;
    session.answer_usage(7, vec![CREATED]).await;
    coordinator.welcome().await;
}

#[tokio::test]
async fn coordinators_of_an_earlier_life_are_not_obeyed() {
    let cluster = Cluster::new();
    let mut restored = cluster.coordinator("coordinator-1");
    restored.incarnation = Incarnation(7);
    let agent = Agent::start(Host::new().await, &cluster, vec![restored.address()]);
    let mut session = restored.welcome().await;
    assert_eq!(session.hello.incarnation, Incarnation(0));
    // That it follows is durable before it says anything else.
    hear(&mut session.stream).await;
    drop(session);

    let host = agent.end().await.restart().await;
    let mut before = cluster.coordinator("coordinator-2");
    let agent = Agent::start(host, &cluster, vec![before.address()]);
    let mut session = before.welcome().await;
    assert_eq!(session.hello.incarnation, Incarnation(7));
    // It does not know better, as an older program would not; the agent does.
    let ended = async { while let Ok(Some(_)) = session.stream.1.receive().await {} };
    timeout(PATIENCE, ended).await.expect("the agent leaves");
    agent.end().await;
}

#[tokio::test]
async fn the_agent_goes_where_the_leader_is() {
    let cluster = Cluster::new();
    let mut follower = cluster.coordinator("coordinator-1");
    let mut leader = cluster.coordinator("coordinator-2");
    let _agent = Agent::start(Host::new().await, &cluster, vec![follower.address()]);
    let mut turned_away = follower.accept().await;
    let not_leader = CoordinatorMessage::NotLeader { leader: Some(leader.address()) };
    turned_away.say(&not_leader).await;
    let mut session = leader.welcome().await;
    // The welcome was heard: what follows is a heartbeat. Then the leader is lost; its address has been learned.
    hear(&mut session.stream).await;
    session.connection.close(novacron_transport::CloseCode::Done, "test");
    drop(session);
    leader.welcome().await;
}

#[tokio::test]
async fn a_console_is_a_stream_of_plain_bytes_both_ways() {
    let cluster = Cluster::new();
    let mut coordinator = cluster.coordinator("coordinator-1");
    let agent = Agent::start(Host::new().await, &cluster, vec![coordinator.address()]);
    let session = coordinator.welcome().await;
    agent.host.create_and_start(vm(1)).await;

    let (mut output, mut input) = open_console(&session, vm(1)).await.unwrap();
    read_until(&mut input, GREETING).await;
    output.write_all(b"typed").await.unwrap();
    read_until(&mut input, "typed").await;
    let refused = open_console(&session, vm(2)).await.unwrap_err();
    assert!(refused.contains("is not on this node"), "{refused}");
}

async fn open_console(
    session: &Session,
    vm: novacron_protocol::ids::VmId,
) -> Result<(quinn::SendStream, quinn::RecvStream), String> {
    let (mut send, mut receive) = session.connection.open_frames(4096 + 2).await.unwrap();
    let request = StreamRequest::Console { vm, from_offset: 0, follow: true };
    send.send(Bytes::from(codec::encode(&request).unwrap())).await.unwrap();
    let answer = timeout(PATIENCE, receive.receive()).await.unwrap().unwrap().unwrap();
    match codec::decode(&answer).unwrap() {
        StreamResponse::Open => Ok((send.into_inner(), receive.into_inner().0)),
        StreamResponse::Refused { reason } => Err(reason),
    }
}

#[tokio::test]
async fn a_silent_agent_sends_heartbeats() {
    let cluster = Cluster::new();
    let mut coordinator = cluster.coordinator("coordinator-1");
    let _agent = Agent::start(Host::new().await, &cluster, vec![coordinator.address()]);
    let mut session = coordinator.welcome().await;
    let three = async {
        let mut heard = 0;
        while heard < 3 {
            heard += i32::from(hear(&mut session.stream).await == AgentMessage::Heartbeat);
        }
    };
    timeout(Duration::from_secs(10), three).await.expect("three heartbeats within ten seconds");
}

#[tokio::test]
async fn what_was_measured_is_told_behind_what_the_coordinator_has() {
    let cluster = Cluster::new();
    let mut coordinator = cluster.coordinator("c1");
    coordinator.minor = 1;
    let agent = Agent::start(Host::new().await, &cluster, vec![coordinator.address()]);
    let mut previous = Previous::default();
    for tick in 1..=3 {
        agent.sampler.measure(Tick(tick), &mut previous).await;
    }
    let session = coordinator.welcome().await;
    let mut stream = SampleStream::accept(&session, Tick(2)).await;
    assert_eq!(stream.tick().await, Tick(3));
    agent.sampler.measure(Tick(4), &mut previous).await;
    assert_eq!(stream.tick().await, Tick(4));
    // Another leader has less: it is told again.
    session.connection.close(novacron_transport::CloseCode::Done, "a test");
    let session = coordinator.welcome().await;
    let mut stream = SampleStream::accept(&session, Tick(1)).await;
    for tick in 2..=4 {
        assert_eq!(stream.tick().await, Tick(tick));
    }
    assert_eq!(agent.sampler.numbers().waiting, 0);
    drop(agent.end().await);
}

#[tokio::test]
async fn a_coordinator_that_is_older_than_samples_is_sent_none() {
    let cluster = Cluster::new();
    let mut coordinator = cluster.coordinator("c1");
    let agent = Agent::start(Host::new().await, &cluster, vec![coordinator.address()]);
    agent.sampler.measure(Tick(1), &mut Previous::default()).await;
    let mut session = coordinator.welcome().await;
    let connection = session.connection.clone();
    let beats = async {
        for _ in 0..2 {
            while hear(&mut session.stream).await != AgentMessage::Heartbeat {}
        }
    };
    tokio::select! {
        biased;
        _ = connection.accept_frames(FRAME_BYTES_MAX) => panic!("a stream of samples"),
        () = beats => {}
    }
    assert_eq!(agent.sampler.numbers().waiting, 1);
    drop(agent.end().await);
}
