//! A process of a member: a runtime with a clock of its own, and in it all of a coordinator but sockets, HTTP, agents
//! and sled. Dropped, it is as dead as after a `kill -9`; left alone, it stands still.

use std::fmt::Display;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use novacron_coordinator::agents::{Consoles, Sessions};
use novacron_coordinator::at_rest::StorageCipher;
use novacron_coordinator::clock::{Clock, new_request};
use novacron_coordinator::fitness::Fitness;
use novacron_coordinator::fitness::watch::{Free, Watch};
use novacron_coordinator::history::{History, fetch};
use novacron_coordinator::joint;
use novacron_coordinator::ledger::Ledger;
use novacron_coordinator::metrics::LeaderlessMetrics;
use novacron_coordinator::newcomer::Newcomer;
use novacron_coordinator::outbox::reconcile;
use novacron_coordinator::peers::desk::Desk;
use novacron_coordinator::peers::keepers::Keepers;
use novacron_coordinator::peers::server::PeerServer;
use novacron_coordinator::peers::{LeaderLink, PeerLinks};
use novacron_coordinator::propose::Proposer;
use novacron_coordinator::raft::log_store::LogStore;
use novacron_coordinator::raft::machine::Machine;
use novacron_coordinator::raft::network::Network;
use novacron_coordinator::raft::timing::Timing;
use novacron_coordinator::raft::words::RaftMetrics;
use novacron_coordinator::raft::{DiskWork, Haste, Heard, MemberNode, Raft, elections};
use novacron_coordinator::state::formats::Formats;
use novacron_coordinator::state::incarnation::FIRST;
use novacron_coordinator::state::member::MemberFacts;
use novacron_coordinator::state::{Body, Command};
use novacron_coordinator::view::{FleetCell, View};
use novacron_protocol::ids::{ClusterId, MemberId};
use novacron_storage::cipher::{EncryptedDisk, SALT_BYTES};
use novacron_storage::disk::{Disk, SimulatedDisk};
use novacron_storage::log::{Log, LogOptions};
use tokio::runtime::{Builder, Runtime};
use tokio::sync::{mpsc, watch};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

use crate::dice::Dice;
use crate::disk::{Life, ProcessDisk};
use crate::fit::RESERVE_BYTES;
use crate::front::Front;
use crate::network::{Content, Packet, Place};
use crate::oracle::Oracle;
use crate::planted::Planted;
use crate::wire::{Departure, Link, Wire, address};
use crate::witness::Witness;

/// Packets that wait for a process: what comes beyond is lost. Nothing waits longer than a quantum.
const INBOX_MAX: usize = 10_000;

/// What a process is made of.
#[derive(Clone)]
pub struct Environment {
    /// Its member.
    pub member: u64,
    /// The number of the machine that it is on.
    pub machine: u64,
    /// All members that a cluster begins with.
    pub members: u64,
    /// Whether the first makes the cluster alone, and the others join it.
    pub changes_members: bool,
    /// Where others were when it was admitted.
    pub contacts: Vec<String>,
    /// Which process of the member it is.
    pub life: u64,
    /// The member's disk.
    pub disk: SimulatedDisk,
    /// How long the disk takes at most, in milliseconds; faults change it.
    pub disk_ms_max: Arc<std::sync::atomic::AtomicU64>,
    /// How the log divides itself.
    pub log: LogOptions,
    /// The pace.
    pub timing: Timing,
    /// The wall clock.
    pub clock: Clock,
    /// Who looks on.
    pub oracle: Oracle,
    /// The bug.
    pub planted: Planted,
    /// Whether the member watches its disk and its clock.
    pub is_watched: bool,
    /// Whether the member encrypts what it writes.
    pub is_encrypted: bool,
    /// Chance.
    pub dice: Dice,
}

/// What the world sees of a process.
#[derive(Clone, Default)]
pub enum Face {
    /// It opens its disk.
    #[default]
    Starting,
    /// It serves.
    Serving {
        /// What consensus says.
        metrics: watch::Receiver<RaftMetrics<u64, MemberNode>>,
        /// Its fleet.
        cell: FleetCell,
        /// How it takes itself to be.
        fitness: Fitness,
        /// Its ledger; shared, since a face is looked at every quantum.
        ledger: Arc<Ledger>,
    },
    /// Others said that it does not belong to the cluster any more.
    Expelled {
        /// What they said.
        reason: String,
    },
    /// It did not come up: why, and whether it says that its disk is damaged.
    Failed {
        /// For a person.
        reason: String,
        /// Whether something on the disk is not what was written.
        is_damaged: bool,
    },
}

/// A process.
pub struct Process {
    runtime: Runtime,
    started: Instant,
    /// How far its clock has been led.
    lived: Duration,
    wire: Arc<Wire>,
    inbox: mpsc::Sender<Packet>,
    face: Arc<Mutex<Face>>,
    life: Life,
}

impl Process {
    /// Starts.
    ///
    /// # Errors
    /// No runtime can be made.
    pub fn start(environment: Environment) -> std::io::Result<Self> {
        let runtime = Builder::new_current_thread().enable_time().start_paused(true).build()?;
        let (inbox, packets) = mpsc::channel(INBOX_MAX);
        let (face, life) = (Arc::<Mutex<Face>>::default(), Life::default());
        let guard = runtime.enter();
        let wire = Arc::new(Wire::new(environment.machine, environment.life));
        let started = Instant::now();
        drop(guard);
        let run = run(environment, life.clone(), Arc::clone(&wire), packets, Arc::clone(&face));
        runtime.spawn(run);
        Ok(Self { runtime, started, lived: Duration::ZERO, wire, inbox, face, life })
    }

    /// Lets it live on until it has lived for so long.
    pub fn live_until(&mut self, lived: Duration) {
        self.lived = lived;
        let then = self.started + lived;
        self.runtime.block_on(async move { tokio::time::sleep_until(then).await });
    }

    /// It stood still, and finds that it is later.
    pub fn wake_after(&mut self, gap: Duration) {
        self.lived += gap;
        self.runtime.block_on(async move { tokio::time::advance(gap).await });
    }

    /// How far its clock has been led.
    pub fn lived(&self) -> Duration {
        self.lived
    }

    /// Something arrives.
    pub fn deliver(&self, packet: Packet) {
        // Full is lost, and nobody there is lost too.
        let _ = self.inbox.try_send(packet);
    }

    /// What it sent since this was asked last.
    pub fn take_sent(&self) -> Vec<Departure> {
        self.wire.take_sent()
    }

    /// Whether it takes itself to be fit.
    pub fn is_fit(&self, clock: &Clock) -> bool {
        let Face::Serving { fitness, .. } = self.face() else { return false };
        // By its own time.
        let _inside = self.runtime.enter();
        let can_store = fitness.check_storing();
        fitness.check(clock.now()).and(can_store).is_ok()
    }

    /// What is seen of it.
    pub fn face(&self) -> Face {
        lock(&self.face).clone()
    }
}

impl Drop for Process {
    /// Whatever its tasks do while they are dropped, the disk does not hear it any more.
    fn drop(&mut self) {
        self.life.end();
    }
}

fn lock(face: &Mutex<Face>) -> MutexGuard<'_, Face> {
    face.lock().unwrap_or_else(PoisonError::into_inner)
}

/// All of a process's life.
async fn run(
    environment: Environment,
    life: Life,
    wire: Arc<Wire>,
    packets: mpsc::Receiver<Packet>,
    face: Arc<Mutex<Face>>,
) {
    match Member::open(environment, life, wire).await {
        Ok(member) => {
            let (metrics, cell) = (member.raft.metrics(), member.cell.clone());
            let fitness = member.watch.fitness.clone();
            let ledger = Arc::new(member.ledger.clone());
            *lock(&face) = Face::Serving { metrics, cell, fitness, ledger };
            let links = member.links.clone();
            tokio::select! {
                biased;
                reason = links.expelled() => *lock(&face) = Face::Expelled { reason: reason.to_string() },
                () = member.serve(packets) => {}
            }
        }
        Err(NotOpened { reason, is_damaged }) => *lock(&face) = Face::Failed { reason, is_damaged },
    }
}

struct NotOpened {
    reason: String,
    is_damaged: bool,
}

impl NotOpened {
    /// What rots while a process begins may be found by whoever reads it next.
    fn because(reason: impl Display) -> Self {
        let reason = reason.to_string();
        Self { is_damaged: reason.contains("damaged"), reason }
    }
}

/// An error with all its causes.
fn whole(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        text = format!("{text}: {error}");
        cause = error.source();
    }
    text
}

/// The inside of a process.
#[derive(Clone)]
struct Member {
    own: u64,
    members: u64,
    changes_members: bool,
    contacts: Vec<String>,
    raft: Raft,
    cell: FleetCell,
    leader: LeaderLink,
    links: PeerLinks,
    view: View,
    desk: Desk,
    server: PeerServer,
    front: Front,
    history: History,
    ledger: Ledger,
    wire: Arc<Wire>,
    clock: Clock,
    timing: Timing,
    heard: Heard,
    watch: Watch,
    is_watched: bool,
}

impl Member {
    async fn open(
        environment: Environment,
        life: Life,
        wire: Arc<Wire>,
    ) -> Result<Self, NotOpened> {
        let Environment { member, members, oracle, planted, clock, timing, .. } =
            environment.clone();
        let disk: Arc<dyn Disk> =
            Arc::new(ProcessDisk::new(environment.disk.clone(), life, planted));
        let disk = if environment.is_encrypted { encrypted(disk, &environment)? } else { disk };
        let work = disk_work(&environment);
        let log = Log::open(Arc::clone(&disk), "log", environment.log)
            .map_err(|error| NotOpened::because(whole(&error)))?;
        let machine = Machine::open_without_tables(disk, work.clone())
            .map_err(|error| NotOpened::because(whole(&error)))?;
        let (cell, reach) = (machine.cell(), machine.reach());
        let history = History::new(machine.outgoing(), cell.clone(), work.clone());
        let machine = Witness::new(machine, member, oracle, planted);
        let fitness = Fitness::default();
        let links = PeerLinks::carried(MemberId(member), FIRST, Arc::new(Link(Arc::clone(&wire))));
        let links = links.watched(fitness.clone());
        let (haste, heard) = (Haste::default(), Heard::new(timing));
        let network = Network::new(links.clone(), haste.clone(), heard.clone());
        let config = timing.config().map_err(NotOpened::because)?;
        let log = LogStore::new(log, work.clone()).behind(reach);
        let held = log.last_log_id().await.map_err(NotOpened::because)?;
        let raft = Raft::new(member, config, network, log, machine).await;
        let raft = raft.map_err(NotOpened::because)?;
        let keepers = Keepers::new(history.clone(), raft.clone(), links.clone());
        let desk = Desk::new((raft.clone(), haste), cell.clone(), clock.clone(), held);
        let desk = desk.kept_by(keepers);
        let desk = match planted {
            Planted::ClockBelieved => desk,
            _ => desk.watched(fitness.clone()),
        };
        let leader = LeaderLink::new(raft.clone(), desk.clone(), links.clone());
        let view = View::new(cell.clone(), raft.clone(), leader.clone());
        let ledger = Ledger::new(history.clone(), view.clone());
        let consoles = Consoles::new(Sessions::default(), view.clone(), leader.clone());
        let server =
            PeerServer::new(raft.clone(), leader.clone(), consoles, history.clone(), cell.clone())
                .heard_by(heard.clone());
        let proposer = Proposer::new(leader.clone(), view.clone(), clock.clone());
        let ways = (leader.clone(), ledger.clone());
        let front =
            Front::new(proposer, (view.clone(), desk.clone()), ways, clock.clone(), planted);
        let disk = environment.disk.clone();
        let free: Free = match planted {
            Planted::ReserveIgnored => Arc::new(|| Some(u64::MAX)),
            _ => Arc::new(move || Some(disk.free_bytes())),
        };
        let watch = Watch {
            fitness,
            raft: raft.clone(),
            leader: leader.clone(),
            clock: clock.clone(),
            free,
            work,
            reserve_bytes: RESERVE_BYTES,
        };
        Ok(Self {
            own: member,
            members,
            changes_members: environment.changes_members,
            contacts: environment.contacts,
            raft,
            cell,
            leader,
            links,
            view,
            desk,
            server,
            front,
            history,
            ledger,
            wire,
            clock,
            timing,
            heard,
            watch,
            is_watched: environment.is_watched,
        })
    }

    async fn serve(self, mut packets: mpsc::Receiver<Packet>) {
        let never = CancellationToken::new();
        let (raft, heard, leader) = (self.raft.clone(), self.heard.clone(), self.leader.clone());
        tokio::spawn(elections::call(
            raft,
            self.timing,
            heard,
            leader,
            LeaderlessMetrics::default(),
            never.clone(),
        ));
        if self.is_watched {
            tokio::spawn(self.watch.clone().run(never.clone()));
        }
        tokio::spawn(self.clone().duties());
        tokio::spawn(fetch::run(self.history.clone(), self.leader.clone(), never.clone()));
        if self.own == 1 {
            tokio::spawn(self.clone().found());
        } else if self.changes_members {
            let (raft, leader) = (self.raft.clone(), self.leader.clone());
            let (cell, contacts) = (self.cell.clone(), self.contacts.clone());
            let history = self.history.clone();
            tokio::spawn(Newcomer { raft, leader, cell, history, contacts }.enter(never));
        }
        while let Some(packet) = packets.recv().await {
            tokio::spawn(self.clone().handle(packet));
        }
    }

    /// What the leader does by itself, while this member leads.
    async fn duties(self) {
        let mut metrics = self.raft.metrics();
        let leads = |metrics: &RaftMetrics<u64, _>| metrics.current_leader == Some(metrics.id);
        while metrics.wait_for(leads).await.is_ok() {
            let (view, desk, clock) = (self.view.clone(), self.desk.clone(), self.clock.clone());
            let of_members = desk.clone();
            tokio::select! {
                biased;
                ended = metrics.wait_for(|metrics| !leads(metrics)) => {
                    // What a consensus that is gone said last is of no use.
                    if ended.is_err() {
                        return;
                    }
                }
                () = reconcile::run(view, desk, clock, CancellationToken::new()) => {}
                () = joint::end(self.raft.clone(), of_members, CancellationToken::new()) => {}
            }
        }
    }

    async fn handle(self, packet: Packet) {
        let from = packet.from;
        match packet.content {
            Content::Hello(call) => self.wire.send(from, Content::Welcome(call)),
            Content::Welcome(call) => self.wire.answered(call, bytes::Bytes::new()),
            Content::Response(call, bytes) => self.wire.answered(call, bytes),
            Content::Request(call, bytes) => {
                let Place::Member(sender) = from else { return };
                // What cannot be read ends the link: there is no answer.
                if let Ok(bytes) = self.server.respond(&address(sender), &bytes).await {
                    self.wire.send(from, Content::Response(call, bytes));
                }
            }
            Content::Ask(call, ask) => {
                let told = self.front.serve(ask).await;
                self.wire.send(from, Content::Told(call, told));
            }
            Content::Told(..) => {}
        }
    }

    /// Makes the cluster, unless it is made: all members vote from the beginning, or this one alone does.
    async fn found(self) {
        if !self.raft.is_initialized().await.unwrap_or(true) {
            let last = if self.changes_members { 1 } else { self.members };
            let members = (1..=last).map(|id| (id, MemberNode::from(facts_of(id))));
            let members: std::collections::BTreeMap<_, _> = members.collect();
            // Fails only with the disk, and then so does everything.
            let _ = self.raft.initialize(members).await;
        }
        let cluster = ClusterId(Uuid::from_u128(1));
        while self.cell.look(|fleet| fleet.cluster()).is_none() {
            let body = Body::FoundCluster {
                cluster,
                member: facts_of(1),
                operator: "root".parse().expect("a name"),
            };
            let now = self.clock.now();
            let command = Command::of_cluster(new_request(now), now, body);
            let call = novacron_coordinator::peers::Call::Propose(Box::new(command));
            if self.leader.call(call).await.is_err() {
                tokio::time::sleep(Duration::from_millis(500)).await;
            }
        }
    }
}

/// What the member of a machine says of itself.
pub fn facts_of(machine: u64) -> MemberFacts {
    let name = address(machine);
    let formats = Formats::default();
    MemberFacts { name: name.clone(), peer_address: name.clone(), api_address: name, formats }
}

/// The disk with a key of the member's own. A life of a process draws other salts than the one before.
fn encrypted(disk: Arc<dyn Disk>, environment: &Environment) -> Result<Arc<dyn Disk>, NotOpened> {
    let dice = Mutex::new(environment.dice.clone().split());
    let draw = move || {
        let mut dice = dice.lock().unwrap_or_else(PoisonError::into_inner);
        let mut salt = [0; SALT_BYTES];
        salt.chunks_exact_mut(8).for_each(|part| part.copy_from_slice(&dice.roll().to_le_bytes()));
        salt
    };
    let cipher = StorageCipher::drawing([environment.member as u8; 32], draw);
    let cipher = cipher.map_err(NotOpened::because)?;
    Ok(Arc::new(EncryptedDisk::new(disk, Arc::new(cipher))))
}

fn disk_work(environment: &Environment) -> DiskWork {
    let (most, dice) = (Arc::clone(&environment.disk_ms_max), Mutex::new(environment.dice.clone()));
    DiskWork::in_place(move || {
        let most = most.load(std::sync::atomic::Ordering::Relaxed);
        dice.lock().unwrap_or_else(PoisonError::into_inner).millis(0, most)
    })
}
