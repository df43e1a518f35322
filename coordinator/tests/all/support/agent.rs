//! An agent that speaks the protocol over real links and does what the test says.

use std::net::SocketAddr;

use bytes::Bytes;
use novacron_protocol::effect::{
    AgentMessage, CoordinatorMessage, Effect, EffectOutcome, Hello, MachineReport, Report,
    StreamRequest,
};
use novacron_protocol::ids::Incarnation;
use novacron_protocol::node::{Accelerator, NodeCapacity, NodeFacts};
use novacron_protocol::sample::{SampleAnswer, SampleMessage, Tick, TickPart};
use novacron_protocol::usage::UsageRecord;
use novacron_protocol::version::MINOR_RANGE;
use novacron_protocol::vm::Labels;
use novacron_protocol::wire::codec::{self, Message};
use novacron_transport::{
    Connection, Credentials, Endpoint, ExpectedPeer, FramedRecv, FramedSend, LinkSettings, Role,
};
use quinn::{RecvStream, SendStream};
use tokio::time::{Instant, timeout};

use super::DEADLINE;

pub fn facts() -> NodeFacts {
    NodeFacts {
        capacity: NodeCapacity { memory_bytes: 64 << 30, cpus: 16, disk_bytes: 1 << 40 },
        labels: Labels::new(),
        migration_address: "127.0.0.1:7410".to_owned(),
        agent_version: "0.0.0-test".to_owned(),
        qemu_version: "10.0.2".to_owned(),
        accelerator: Accelerator::Tcg,
        accelerator_reason: "a test".to_owned(),
        has_swtpm: false,
    }
}

/// A connected agent.
pub struct Agent {
    pub connection: Connection,
    endpoint: Endpoint,
    send: FramedSend<SendStream>,
    receive: FramedRecv<RecvStream>,
    next_sequence: u64,
}

/// Where an agent tells what it measured.
pub struct SampleStream {
    send: FramedSend<SendStream>,
    // Open as long as the other direction.
    _receive: FramedRecv<RecvStream>,
    /// What the coordinator has already.
    pub behind: Tick,
}

impl SampleStream {
    pub async fn say(&mut self, part: TickPart) {
        let bytes = codec::encode(&SampleMessage::Part(part)).unwrap();
        self.send.send(Bytes::from(bytes)).await.unwrap();
    }
}

/// What a coordinator said to a hello.
pub enum Greeting {
    Welcome(Box<Agent>),
    NotLeader(Option<String>),
    Refused(String),
    Gone,
}

impl Agent {
    /// Says hello to one coordinator.
    pub async fn greet(
        address: SocketAddr,
        credentials: &Credentials,
        node: &str,
        machines: Vec<MachineReport>,
    ) -> Greeting {
        Self::greet_from(Incarnation(0), address, credentials, node, machines).await
    }

    /// The same, of an agent that has met coordinators of a life of the cluster.
    pub async fn greet_from(
        incarnation: Incarnation,
        address: SocketAddr,
        credentials: &Credentials,
        node: &str,
        machines: Vec<MachineReport>,
    ) -> Greeting {
        let any = "127.0.0.1:0".parse().unwrap();
        let endpoint = Endpoint::client(any, credentials, LinkSettings::control()).unwrap();
        let expected = ExpectedPeer::any(Role::Coordinator);
        let Ok(connection) = endpoint.connect(address, &expected).await else {
            return Greeting::Gone;
        };
        let Ok((mut send, mut receive)) =
            connection.open_frames(CoordinatorMessage::BYTES_MAX + 2).await
        else {
            return Greeting::Gone;
        };
        let node = node.parse().unwrap();
        let hello = Hello { versions: MINOR_RANGE, node, incarnation, facts: facts(), machines };
        let bytes = codec::encode(&AgentMessage::Hello(hello)).unwrap();
        if send.send(Bytes::from(bytes)).await.is_err() {
            return Greeting::Gone;
        }
        match receive.receive().await {
            Ok(Some(frame)) => match codec::decode(&frame).unwrap() {
                CoordinatorMessage::Welcome { .. } => Greeting::Welcome(Box::new(Self {
                    connection,
                    endpoint,
                    send,
                    receive,
                    next_sequence: 1,
                })),
                CoordinatorMessage::NotLeader { leader } => Greeting::NotLeader(leader),
                CoordinatorMessage::Refused { reason } => Greeting::Refused(reason),
                other => panic!("{other:?}"),
            },
            _ => Greeting::Gone,
        }
    }

    /// Tries the coordinators in turn, and follows what they say, until one leads.
    pub async fn connect(
        addresses: &[SocketAddr],
        credentials: &Credentials,
        node: &str,
        machines: Vec<MachineReport>,
    ) -> Self {
        let deadline = Instant::now() + DEADLINE;
        let mut turn = 0;
        let mut hint: Option<SocketAddr> = None;
        loop {
            assert!(Instant::now() < deadline, "no coordinator takes the agent");
            let address = hint.take().unwrap_or(addresses[turn % addresses.len()]);
            turn += 1;
            match Self::greet(address, credentials, node, machines.clone()).await {
                Greeting::Welcome(agent) => return *agent,
                Greeting::NotLeader(leader) => hint = leader.and_then(|leader| leader.parse().ok()),
                Greeting::Refused(reason) => panic!("refused: {reason}"),
                Greeting::Gone => {}
            }
            if hint.is_none() {
                super::wait::pause().await;
            }
        }
    }

    pub async fn say(&mut self, message: &AgentMessage) {
        let bytes = codec::encode(message).unwrap();
        self.send.send(Bytes::from(bytes)).await.unwrap();
    }

    /// The next message; `None` if the link ended.
    pub async fn hear(&mut self) -> Option<CoordinatorMessage> {
        let frame = timeout(DEADLINE, self.receive.receive()).await.expect("silence").ok()??;
        Some(codec::decode(&frame).unwrap())
    }

    /// The next effects.
    pub async fn effects(&mut self) -> Vec<Effect> {
        loop {
            match self.hear().await {
                Some(CoordinatorMessage::Effects(effects)) => return effects,
                Some(_) => {}
                None => panic!("the link ended"),
            }
        }
    }

    /// Sends reports and waits until they are committed.
    pub async fn report(&mut self, reports: Vec<Report>) {
        let first_sequence = self.next_sequence;
        self.next_sequence += reports.len() as u64;
        let last = self.next_sequence - 1;
        self.say(&AgentMessage::Reports { first_sequence, reports }).await;
        loop {
            match self.hear().await {
                Some(CoordinatorMessage::Committed { sequence }) if sequence >= last => return,
                Some(_) => {}
                None => panic!("the link ended"),
            }
        }
    }

    /// Sends usage and waits for what became of it.
    pub async fn usage(&mut self, records: Vec<UsageRecord>) -> CoordinatorMessage {
        self.say(&AgentMessage::Usage { sequence: 1, records }).await;
        loop {
            match self.hear().await {
                Some(
                    answer @ (CoordinatorMessage::UsageCommitted { .. }
                    | CoordinatorMessage::UsageDeclined { .. }),
                ) => return answer,
                Some(_) => {}
                None => panic!("the link ended"),
            }
        }
    }

    /// The stream on which it tells what it measured.
    pub async fn sample_stream(&self) -> SampleStream {
        let frames = self.connection.open_frames(SampleMessage::BYTES_MAX + 2).await;
        let (mut send, mut receive) = frames.unwrap();
        let begin = codec::encode(&SampleMessage::Begin).unwrap();
        send.send(Bytes::from(begin)).await.unwrap();
        let answer = timeout(DEADLINE, receive.receive()).await.expect("silence").unwrap().unwrap();
        let SampleAnswer::From { behind } = codec::decode(&answer).unwrap();
        SampleStream { send, _receive: receive, behind }
    }

    /// Says that an effect is done.
    pub async fn done(&mut self, effect: &Effect) {
        let report = Report::EffectDone { effect: effect.id, outcome: EffectOutcome::Done };
        self.report(vec![report]).await;
    }

    /// The next console that a coordinator asks for.
    pub async fn console(&self) -> (StreamRequest, FramedSend<SendStream>, FramedRecv<RecvStream>) {
        let frames = self.connection.accept_frames(StreamRequest::BYTES_MAX + 2);
        let (send, mut receive) = timeout(DEADLINE, frames).await.expect("no console").unwrap();
        let frame = receive.receive().await.unwrap().unwrap();
        (codec::decode(&frame).unwrap(), send, receive)
    }

    pub async fn close(self) {
        self.endpoint.close(novacron_transport::CloseCode::Done, "");
        self.endpoint.wait_idle().await;
    }
}
