//! What a target keeps of what it has said, for the case that the link is lost: the agent is real, its QEMU too, and the
//! source is played by the test.

use crate::common::agent::{Agent, endpoint};
use crate::common::{PATIENCE, spec, vm};
use bytes::Bytes;
use novacron_agent::migrate::MigrationSettings;
use novacron_agent::vm::TargetRole;
use novacron_protocol::effect::EffectOutcome;
use novacron_protocol::ids::{ClusterId, Generation, MigrationId, VmId};
use novacron_protocol::migration::MigrationMode;
use novacron_protocol::session::handover::{TargetRecord, Verdict};
use novacron_protocol::session::message::{
    CONTROL_BYTES_MAX, DiskOffer, MemoryOffer, Offer, SourceMessage, StreamHeader, TargetMessage,
};
use novacron_protocol::time::Timestamp;
use novacron_protocol::version::MINOR_RANGE;
use novacron_protocol::wire::codec;
use novacron_transport::{
    ClusterAuthority, Connection, Endpoint, ExpectedPeer, FramedRecv, FramedSend, Role,
};
use quinn::{RecvStream, SendStream};
use uuid::Uuid;

const SOURCE: &str = "node-01";
const MIGRATION: MigrationId = MigrationId(Uuid::from_u128(1));

/// A target that expects a stopped machine, and whoever plays the source.
struct Stage {
    target: Agent,
    endpoint: Endpoint,
    vm: VmId,
}

impl Stage {
    async fn new() -> Self {
        let now = Timestamp::from_unix_ms(1_790_000_000_000);
        let authority = ClusterAuthority::create(ClusterId(Uuid::from_u128(9)), now).unwrap();
        let target = Agent::start(&authority, "node-02", MigrationSettings::default()).await;
        let (endpoint, _) = endpoint(&authority, SOURCE);
        let vm = vm(1);
        let role = TargetRole {
            migration: MIGRATION,
            source: SOURCE.parse().unwrap(),
            mode: MigrationMode::Cold,
            decision: TargetRecord::Waiting,
        };
        let expected = target.migrations.expect(vm, Generation(2), spec(), role).await;
        assert_eq!(expected, EffectOutcome::Done);
        Self { target, endpoint, vm }
    }

    async fn connect(&self) -> Link {
        let expected = ExpectedPeer::named(Role::Agent, self.target.name.clone().into());
        let connection = self.endpoint.connect(self.target.address, &expected).await.unwrap();
        let (send, receive) = connection.open_frames(CONTROL_BYTES_MAX + 2).await.unwrap();
        Link { connection, send, receive }
    }

    /// The target has taken the offer and is prepared: the link, and the messages that it has said.
    async fn prepared(&self) -> (Link, u64) {
        let mut link = self.connect().await;
        link.say(SourceMessage::Offer(self.offer())).await;
        let (mut heard, mut pieces) = (0, 0);
        loop {
            let message = link.hear().await;
            heard += 1;
            match message {
                TargetMessage::Holds { .. } => pieces += 1,
                TargetMessage::Prepared => break,
                TargetMessage::Taken { .. } => {}
                other => panic!("{other:?}"),
            }
        }
        assert!(pieces > 0, "a disk that begins as an image is told");
        (link, heard)
    }

    fn offer(&self) -> Offer {
        let disk = &spec().disks[0];
        Offer {
            versions: MINOR_RANGE,
            migration: MIGRATION,
            vm: self.vm,
            generation: Generation(2),
            mode: MigrationMode::Cold,
            machine_type: "q35".to_owned(),
            qemu_version: String::new(),
            cpu_model: "max".to_owned(),
            memory: MemoryOffer::None,
            hash_seed: 5,
            base: None,
            source_run: 6,
            disks: vec![DiskOffer { size_bytes: disk.size_bytes, format: disk.format }],
            files: Vec::new(),
            start: false,
        }
    }

    /// Goes on over another link, as one that has heard so many messages; with the target's answer.
    async fn resume(&self, heard: u64) -> (Link, TargetMessage) {
        let mut link = self.connect().await;
        let resume = SourceMessage::Resume { vm: self.vm, migration: MIGRATION, heard };
        link.say(resume).await;
        let answer = link.hear().await;
        (link, answer)
    }

    /// A source that claims to have heard less than it has shown is told so.
    async fn assert_forgotten(&self, said: u64) {
        let (_, answer) = self.resume(0).await;
        let reason =
            format!("the other agent says that it has heard 0 messages, and has acted on {said}");
        assert_eq!(answer, TargetMessage::Failed { reason });
    }
}

/// A connection to the target, and its control stream.
struct Link {
    connection: Connection,
    send: FramedSend<SendStream>,
    receive: FramedRecv<RecvStream>,
}

impl Link {
    async fn say(&mut self, message: SourceMessage) {
        self.send.send(Bytes::from(codec::encode(&message).unwrap())).await.unwrap();
    }

    /// The next message but those that say how busy the target's host is.
    async fn hear(&mut self) -> TargetMessage {
        loop {
            match self.hear_any().await {
                TargetMessage::HostLoad { .. } => {}
                message => return message,
            }
        }
    }

    async fn hear_any(&mut self) -> TargetMessage {
        let frame = tokio::time::timeout(PATIENCE, self.receive.receive()).await;
        let frame = frame.expect("an answer in time").unwrap().expect("a message");
        codec::decode(&frame).unwrap()
    }

    /// Sends a piece of the console's log, and returns when the target has written it.
    async fn send_log(&mut self) {
        let stream = self.connection.open_uni().await.unwrap();
        let mut stream = FramedSend::new(stream, 64);
        let header = codec::encode(&StreamHeader::ConsoleLog).unwrap();
        stream.send(Bytes::from(header)).await.unwrap();
        stream.send(Bytes::from_static(b"a line")).await.unwrap();
        let processed = |pieces| TargetMessage::Processed(vec![(StreamHeader::ConsoleLog, pieces)]);
        // It may say so between the stream's beginning and its first piece, too.
        let mut said = self.hear().await;
        while said == processed(0) {
            said = self.hear().await;
        }
        assert_eq!(said, processed(1));
    }

    async fn ask(&mut self, vm: VmId) {
        self.say(SourceMessage::Ask { vm, migration: MIGRATION }).await;
        assert_eq!(self.hear().await, WAITING);
    }
}

const WAITING: TargetMessage = TargetMessage::Verdict(Verdict::Waiting);

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_target_keeps_what_it_said_until_it_is_heard() {
    let stage = Stage::new().await;
    let (_, said) = stage.prepared().await;
    // The link is lost before the source has shown anything.
    for heard in [0, said - 1] {
        let (mut link, answer) = stage.resume(heard).await;
        assert!(matches!(answer, TargetMessage::Resumed { .. }), "{answer:?}");
        let mut again = Vec::new();
        for _ in heard..said {
            again.push(link.hear().await);
        }
        assert_eq!(again.last(), Some(&TargetMessage::Prepared));
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_target_forgets_what_it_said_when_the_disks_are_in_step() {
    let stage = Stage::new().await;
    let (mut link, said) = stage.prepared().await;
    link.say(SourceMessage::DisksSynchronised).await;
    // It answers in order: when it does, it has heard the word before.
    link.ask(stage.vm).await;
    drop(link);
    stage.assert_forgotten(said).await;
    // What it said after that is said again to one that counts right.
    let (mut link, answer) = stage.resume(said).await;
    assert!(matches!(answer, TargetMessage::Resumed { .. }), "{answer:?}");
    assert_eq!(link.hear().await, WAITING);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_target_forgets_what_it_said_when_the_first_stream_begins_that_waits_for_it() {
    let stage = Stage::new().await;
    let (mut link, said) = stage.prepared().await;
    link.send_log().await;
    drop(link);
    stage.assert_forgotten(said).await;
    let (_, answer) = stage.resume(said).await;
    let streams = vec![(StreamHeader::ConsoleLog, 1)];
    assert!(matches!(answer, TargetMessage::Resumed { streams: taken, .. } if taken == streams));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_target_says_how_busy_its_host_is_without_that_being_counted() {
    let stage = Stage::new().await;
    let (mut link, said) = stage.prepared().await;
    for _ in 0..2 {
        match link.hear_any().await {
            TargetMessage::HostLoad { processors_permille } => assert!(processors_permille <= 1000),
            other => panic!("{other:?}"),
        }
    }
    let (_, answer) = stage.resume(said).await;
    assert!(matches!(answer, TargetMessage::Resumed { .. }), "{answer:?}");
}
