//! A simulated host's link: it finds the leader, keeps a session with it, does what it is told, and sends what it metered.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use anyhow::{Context, Result, bail};
use bytes::Bytes;
use novacron_protocol::effect::{AgentMessage, CoordinatorMessage, Effect, Hello, Report};
use novacron_protocol::ids::{Incarnation, NodeName, VmId};
use novacron_protocol::limits::USAGE_RECORDS_PER_BATCH_MAX;
use novacron_protocol::metric::{Metric, ResourceKind};
use novacron_protocol::node::{Accelerator, NodeCapacity, NodeFacts};
use novacron_protocol::sample::{
    MachineSamples, Sample, SampleMessage, TICK_S, Tick, TickPart, parts,
};
use novacron_protocol::time::Timestamp;
use novacron_protocol::usage::{RecordOutcome, UsageRecord};
use novacron_protocol::version::MINOR_RANGE;
use novacron_protocol::vm::Labels;
use novacron_protocol::wire::codec::{self, Message};
use novacron_transport::{
    Connection, Credentials, Endpoint, ExpectedPeer, FramedRecv, FramedSend, LinkSettings, Role,
};
use quinn::{RecvStream, SendStream};
use tokio::time::{Instant, MissedTickBehavior, interval_at, sleep, timeout};

use super::care::Care;
use super::shared::{Counts, Present, Shared};
use super::tape::{Span, Tape};

/// From one heartbeat to the next, as the bar has it.
const HEARTBEAT: Duration = Duration::from_secs(5);
/// For a hello to be answered; it is committed before.
const HELLO_TIMEOUT: Duration = Duration::from_secs(20);
/// Before the next coordinator is tried.
const AGAIN: Duration = Duration::from_millis(250);
/// Buffers of a host's socket: thousands of hosts share this machine.
const SOCKET_BUFFER_BYTES: usize = 256 * 1024;

/// One host.
#[derive(Debug)]
pub struct Agent {
    node: NodeName,
    credentials: Credentials,
    shared: Arc<Shared>,
    care: Care,
    metered: Option<Metered>,
}

/// A span that is being sent.
#[derive(Debug)]
struct Metered {
    order: u64,
    tape: Tape,
    /// Under way; sent again in the next session.
    batch: Vec<UsageRecord>,
}

/// An open link.
struct Link {
    // Open as long as its streams are.
    _connection: Connection,
    /// What is measured goes on a stream of its own.
    samples: FramedSend<SendStream>,
    _answers: FramedRecv<RecvStream>,
    send: FramedSend<SendStream>,
    receive: FramedRecv<RecvStream>,
    next_report: u64,
    next_usage: u64,
}

/// Why a host leaves a coordinator.
enum Ending {
    /// It does not lead; who does, if that was said.
    Elsewhere(Option<SocketAddr>),
    /// A coordinator said why it takes no such host: no reason to try again.
    Refused(String),
}

impl Agent {
    /// A host that has no machines yet.
    pub fn new(node: NodeName, credentials: Credentials, shared: Arc<Shared>) -> Self {
        Self { node, credentials, shared, care: Care::default(), metered: None }
    }

    /// Runs until it is dropped, or refused. Its heartbeats begin after `phase`, so that hosts do not beat together.
    pub async fn run(mut self, phase: Duration) {
        if let Err(error) = self.follow_leaders(phase).await {
            self.shared.note_trouble(format!("{}: {error:#}", self.node));
        }
    }

    async fn follow_leaders(&mut self, phase: Duration) -> Result<()> {
        let settings =
            LinkSettings { socket_buffer_bytes: SOCKET_BUFFER_BYTES, ..LinkSettings::control() };
        let any = SocketAddr::from(([127, 0, 0, 1], 0));
        let endpoint = Endpoint::client(any, &self.credentials, settings)?;
        let (mut turn, mut hint) = (0, None);
        loop {
            let doors = &self.shared.doors;
            let address = hint.take().unwrap_or(doors[turn % doors.len()]);
            turn += 1;
            match self.visit(&endpoint, address, phase).await {
                Ok(Ending::Elsewhere(leader)) => hint = leader,
                Ok(Ending::Refused(reason)) => bail!("refused: {reason}"),
                // A link that is lost is made again.
                Err(_) => {}
            }
            if hint.is_none() {
                sleep(AGAIN).await;
            }
        }
    }

    async fn visit(
        &mut self,
        endpoint: &Endpoint,
        address: SocketAddr,
        phase: Duration,
    ) -> Result<Ending> {
        let shared = Arc::clone(&self.shared);
        let entry = shared.entry.acquire().await?;
        let mut link = timeout(HELLO_TIMEOUT, self.open(endpoint, address)).await??;
        let greeted = timeout(HELLO_TIMEOUT, link.hear()).await??;
        drop(entry);
        match greeted {
            CoordinatorMessage::Welcome { .. } => {}
            other => return ending(other).context("no welcome"),
        }
        let _present = Present::new(&shared.counts);
        self.converse(&mut link, phase).await
    }

    async fn open(&self, endpoint: &Endpoint, address: SocketAddr) -> Result<Link> {
        let expected = ExpectedPeer::any(Role::Coordinator);
        let connection = endpoint.connect(address, &expected).await?;
        let (send, receive) = connection.open_frames(CoordinatorMessage::BYTES_MAX + 2).await?;
        let (samples, answers) = connection.open_frames(SampleMessage::BYTES_MAX + 2).await?;
        let mut link = Link {
            _connection: connection,
            samples,
            _answers: answers,
            send,
            receive,
            next_report: 1,
            next_usage: 1,
        };
        let hello = Hello {
            versions: MINOR_RANGE,
            node: self.node.clone(),
            incarnation: Incarnation(0),
            facts: facts(),
            machines: self.care.inventory(),
        };
        link.say(&AgentMessage::Hello(hello)).await?;
        Ok(link)
    }

    async fn converse(&mut self, link: &mut Link, phase: Duration) -> Result<Ending> {
        let mut beats = interval_at(Instant::now() + phase, HEARTBEAT);
        beats.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut ticks = interval_at(Instant::now() + phase, Duration::from_secs(TICK_S));
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        link.measure(SampleMessage::Begin).await?;
        let mut orders = self.shared.orders.clone();
        orders.mark_unchanged();
        self.send_again(link).await?;
        loop {
            let order = *orders.borrow_and_update();
            self.take_order(link, order).await?;
            // The receiver is cancel-safe: what has come of a frame is kept.
            tokio::select! {
                biased;
                message = link.hear() => {
                    if let Some(ending) = self.answer(link, message?).await? {
                        return Ok(ending);
                    }
                }
                changed = orders.changed() => changed?,
                _ = ticks.tick() => self.measure(link).await?,
                _ = beats.tick() => link.say(&AgentMessage::Heartbeat).await?,
            }
        }
    }

    async fn answer(
        &mut self,
        link: &mut Link,
        message: CoordinatorMessage,
    ) -> Result<Option<Ending>> {
        match message {
            CoordinatorMessage::Effects(effects) => self.carry_out(link, &effects).await?,
            CoordinatorMessage::Committed { .. } => {}
            CoordinatorMessage::UsageCommitted { outcomes, .. } => {
                self.note_usage(&outcomes)?;
                self.send_next(link).await?;
            }
            other => return ending(other).map(Some),
        }
        Ok(None)
    }

    async fn carry_out(&mut self, link: &mut Link, effects: &[Effect]) -> Result<()> {
        let mut reports = Vec::new();
        for effect in effects {
            let carried = self.care.carry_out(effect);
            Counts::add(&self.shared.counts.carried_out, usize::from(carried.is_new));
            reports.extend(carried.reports);
        }
        // Reports that are lost with a session are not kept: the effects come again, and a hello has all machines.
        link.report(reports).await
    }

    /// Begins a span that the scenario asks for, once.
    async fn take_order(&mut self, link: &mut Link, order: Option<(u64, Span)>) -> Result<()> {
        let Some((order, span)) = order else {
            self.metered = None;
            return Ok(());
        };
        if self.metered.as_ref().is_some_and(|metered| metered.order == order) {
            return Ok(());
        }
        let tape = Tape::new(self.care.machines(), span);
        self.metered = Some(Metered { order, tape, batch: Vec::new() });
        self.send_next(link).await
    }

    /// What a host measures, as if all of its machines ran: one disk and a card in a bridge each.
    async fn measure(&self, link: &mut Link) -> Result<()> {
        let tick = Tick::of(now()?);
        for part in measured(tick, self.care.machines().into_iter().map(|(vm, _)| vm)) {
            Counts::add(&self.shared.counts.sample_parts, 1);
            link.measure(SampleMessage::Part(part)).await?;
        }
        Ok(())
    }

    async fn send_next(&mut self, link: &mut Link) -> Result<()> {
        let Some(metered) = &mut self.metered else { return Ok(()) };
        metered.batch = metered.tape.by_ref().take(USAGE_RECORDS_PER_BATCH_MAX).collect();
        if metered.batch.is_empty() {
            Counts::add(&self.shared.counts.spans, 1);
        }
        self.send_again(link).await
    }

    async fn send_again(&mut self, link: &mut Link) -> Result<()> {
        let batch = self.metered.as_ref().map(|metered| metered.batch.clone());
        match batch {
            Some(batch) if !batch.is_empty() => link.post(batch).await,
            _ => Ok(()),
        }
    }

    fn note_usage(&self, outcomes: &[RecordOutcome]) -> Result<()> {
        let counts = &self.shared.counts;
        let repeated = outcomes.iter().filter(|one| **one == RecordOutcome::Exists).count();
        if let Some(other) = outcomes.iter().find(|outcome| !outcome.is_held()) {
            self.shared.note_trouble(format!("{}: a record is {other:?}", self.node));
            bail!("a record is {other:?}");
        }
        Counts::add(&counts.records, outcomes.len());
        Counts::add(&counts.repeated, repeated);
        Ok(())
    }
}

impl Link {
    async fn hear(&mut self) -> Result<CoordinatorMessage> {
        let frame = self.receive.receive().await?.context("the link ended")?;
        Ok(codec::decode(&frame)?)
    }

    async fn say(&mut self, message: &AgentMessage) -> Result<()> {
        Ok(self.send.send(Bytes::from(codec::encode(message)?)).await?)
    }

    async fn measure(&mut self, message: SampleMessage) -> Result<()> {
        Ok(self.samples.send(Bytes::from(codec::encode(&message)?)).await?)
    }

    async fn report(&mut self, reports: Vec<Report>) -> Result<()> {
        let first_sequence = self.next_report;
        self.next_report += reports.len() as u64;
        self.say(&AgentMessage::Reports { first_sequence, reports }).await
    }

    async fn post(&mut self, records: Vec<UsageRecord>) -> Result<()> {
        let sequence = self.next_usage;
        self.next_usage += 1;
        self.say(&AgentMessage::Usage { sequence, records }).await
    }
}

fn now() -> Result<Timestamp> {
    let since_1970 = SystemTime::now().duration_since(UNIX_EPOCH)?;
    Ok(Timestamp::from_unix_ms(u64::try_from(since_1970.as_millis())?))
}

/// Values that change with every tick, of every metric that a machine and a host have.
fn measured(tick: Tick, machines: impl Iterator<Item = VmId>) -> Vec<TickPart> {
    let of = |kind, seed: u64| {
        let metrics = Metric::ALL.iter().filter(|metric| metric.is_of(kind));
        let value = |metric: &Metric| {
            let value = seed.wrapping_mul(u64::from(metric.number())) % 100_000_000;
            Sample { metric: metric.number(), device: 0, value }
        };
        metrics.map(value).collect::<Vec<_>>()
    };
    let at = u64::from(tick.0);
    let machines = machines.map(|vm| {
        let seed = at.wrapping_mul(vm.0.as_u64_pair().1 | 1);
        MachineSamples { vm, values: of(ResourceKind::Vm, seed) }
    });
    parts(tick, machines.collect(), of(ResourceKind::Node, at))
}

/// What a message says that ends a session.
fn ending(message: CoordinatorMessage) -> Result<Ending> {
    match message {
        CoordinatorMessage::NotLeader { leader } => {
            Ok(Ending::Elsewhere(leader.and_then(|leader| leader.parse().ok())))
        }
        CoordinatorMessage::Refused { reason } => Ok(Ending::Refused(reason)),
        CoordinatorMessage::UsageDeclined { reason, .. } => {
            Ok(Ending::Refused(format!("usage: {reason}")))
        }
        other => bail!("unexpected: {other:?}"),
    }
}

/// A host with room for 512 machines of 2 GiB and two processors, of which four times as many may be promised.
fn facts() -> NodeFacts {
    NodeFacts {
        capacity: NodeCapacity { memory_bytes: 1 << 40, cpus: 256, disk_bytes: 1 << 50 },
        labels: Labels::new(),
        migration_address: "127.0.0.1:7410".to_owned(),
        agent_version: "bench".to_owned(),
        qemu_version: "10.0.2".to_owned(),
        accelerator: Accelerator::Tcg,
        accelerator_reason: "no guest runs here".to_owned(),
        has_swtpm: false,
    }
}
