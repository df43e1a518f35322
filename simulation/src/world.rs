//! A run: members, clients, network and faults, led through time together.
//!
//! Each process has a runtime with a clock of its own. The world leads all of them from one moment to the next, a
//! quantum at a time; what is sent within a quantum arrives after it, because nothing travels faster. So the order in
//! which members are led does not matter to them, and everything runs on one thread.

#[cfg(test)]
mod lonely;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::sync::atomic::Ordering;

use novacron_coordinator::state::ledger::account::Owner;
use novacron_protocol::ids::{EffectId, Generation, NodeName, VmId};
use novacron_protocol::usage::Meter;
use novacron_protocol::vm::VmState;

use crate::client::{Ask, Client, Told};
use crate::dice::Dice;
use crate::faults::Faults;
use crate::fit::Judge;
use crate::host::{self, Host, HostTold};
use crate::member::{BEGINNING, End, Member, WorldTime};
use crate::network::{Content, Network, Packet, Place};
use crate::oracle::{Oracle, Tally};
use crate::panics;
use crate::process::Face;
use crate::scenario::{FaultKind, Scenario, Weather};
use crate::trace::Trace;

/// Time from one step of the world to the next, and the shortest time that a packet travels.
pub const QUANTUM_MS: u64 = 2;

/// How long the cluster may take to be whole again once nothing goes wrong any more: openraft's longest backoff, some
/// elections, a snapshot for everybody, and the patience of a client.
const RECOVERY_MS: u64 = 90_000;

/// How often it is looked at whether members are fit: their disks' files are counted.
const JUDGED_EVERY_MS: u64 = 100;

/// Requests of each client that have to be answered after the faults.
const ANSWERS_AFTER: u64 = 3;

/// How a run went.
#[derive(Debug, Clone)]
pub struct Outcome {
    /// What was not as it must be.
    pub violation: Option<String>,
    /// The same for the same run.
    pub trace: u64,
    /// Events of the trace.
    pub events: u64,
    /// What was done.
    pub tally: Tally,
    /// What went wrong, and how often.
    pub faults: BTreeMap<FaultKind, u64>,
    /// Processes that ended because of their disk.
    pub failures: u64,
    /// Time that passed in the world.
    pub world_ms: u64,
}

struct World {
    now_ms: u64,
    time: WorldTime,
    members: Vec<Member>,
    clients: Vec<Client>,
    hosts: Vec<Host>,
    /// What hosts had done when it was looked at last.
    acts: u64,
    network: Network,
    faults: Faults,
    oracle: Oracle,
    trace: Trace,
    failures: u64,
    is_watched: bool,
    judge: Judge,
}

/// Runs a scenario to its end, or to what is not as it must be.
///
/// # Errors
/// The system gives no runtime.
pub fn run(scenario: &Scenario, is_printed: bool) -> std::io::Result<Outcome> {
    let mut world = World::new(scenario, is_printed);
    world.trace.note(0, format_args!("{scenario:?}"));
    for member in &mut world.members {
        member.start(0)?;
    }
    while world.now_ms < scenario.safety_ms && world.step()? {}
    world.recover()?;
    Ok(world.outcome())
}

impl World {
    fn new(scenario: &Scenario, is_printed: bool) -> Self {
        // The scenario itself was drawn from the seed; the rest is drawn beside it.
        let mut dice = Dice::new(scenario.seed.wrapping_add(1 << 32));
        let time = WorldTime::default();
        // Commands have the time of members that are watched.
        let oracle = match scenario.is_watched {
            true => Oracle::of_time(Arc::clone(&time)),
            false => Oracle::default(),
        };
        let network = Network::new(dice.split(), scenario.weather);
        let faults = Faults::new(scenario, dice.split());
        let member =
            |id| Member::new(id, scenario, &time, &oracle, Dice::new(scenario.seed ^ id << 40));
        let members = (1..=scenario.members).map(member).collect();
        let mut client = |number| Client::new(number, scenario, dice.split());
        let clients = (0..scenario.clients).map(&mut client).collect();
        let mut host = |number| Host::new(number, scenario.members, dice.split(), scenario.planted);
        let hosts = (0..scenario.hosts).map(&mut host).collect();
        let (now_ms, trace) = (0, Trace::new(is_printed));
        let judge = Judge::new(scenario.members as usize, scenario.is_quiet);
        Self {
            now_ms,
            time,
            members,
            clients,
            hosts,
            acts: 0,
            network,
            faults,
            oracle,
            trace,
            failures: 0,
            is_watched: scenario.is_watched,
            judge,
        }
    }

    /// One quantum. Answers whether all is as it must be.
    fn step(&mut self) -> std::io::Result<bool> {
        self.now_ms += QUANTUM_MS;
        self.time.store(self.now_ms, Ordering::Relaxed);
        let told = self.faults.step(self.now_ms, &mut self.members, &mut self.network)?;
        // What lasts for a moment only, such as room on a disk, is seen by the judge, too: members may have seen it.
        let is_judged = self.now_ms.is_multiple_of(JUDGED_EVERY_MS) || !told.is_empty();
        for told in told {
            self.trace.note(self.now_ms, format_args!("{told}"));
        }
        self.deliver();
        self.ask();
        for at in 0..self.members.len() {
            self.live(at);
        }
        if self.is_watched && is_judged {
            self.judge();
        }
        if let Some(panic) = panics::first() {
            self.oracle.object(panic);
        }
        Ok(self.oracle.violation().is_none())
    }

    fn judge(&mut self) {
        let members: Vec<_> = self.members.iter().map(Member::sight).collect();
        let judged = self.judge.look(self.now_ms, &members, self.oracle.tally().written);
        judged.unwrap_or_else(|violation| self.oracle.object(violation));
    }

    fn deliver(&mut self) {
        for packet in self.network.due(self.now_ms) {
            let (word, bytes) = packet.content.word();
            let (from, to) = (packet.from, packet.to);
            self.trace.note(self.now_ms, format_args!("{from} → {to}: {word} {bytes}"));
            match (packet.to, packet.content) {
                (Place::Client(number), Content::Told(call, told)) => {
                    self.trace.note(self.now_ms, format_args!("{told:?}"));
                    self.clients[number].hear(self.now_ms, call, &told, &self.oracle);
                }
                (Place::Member(id), content) => {
                    if let Content::Ask(_, ask) = &content {
                        self.trace.note(self.now_ms, format_args!("{ask:?}"));
                    }
                    self.arrive(id, Packet { from, to, content });
                }
                (Place::Host(number), Content::Told(call, Told::Host(told))) => {
                    self.trace.note(self.now_ms, format_args!("{told:?}"));
                    let (now_ms, now_s) = (self.now_ms, self.now_s());
                    let heard = self.hosts[number].hear(now_ms, now_s, call, told);
                    heard.unwrap_or_else(|violation| self.oracle.object(violation));
                }
                (Place::Client(_) | Place::Host(_), _) => {}
            }
        }
    }

    /// The wall clock of whoever has a right one.
    fn now_s(&self) -> u64 {
        (BEGINNING + self.now_ms) / 1000
    }

    /// No guest runs twice.
    fn check_owners(&self) {
        let mut owned = BTreeSet::new();
        for vm in self.hosts.iter().flat_map(Host::running) {
            if !owned.insert(vm) {
                self.oracle.object(format!("machine {vm} runs on two hosts"));
            }
        }
    }

    /// A client or a host sees that nobody listens; another member does not.
    fn arrive(&mut self, id: u64, packet: Packet) {
        let member = &self.members[id as usize - 1];
        match packet.content {
            Content::Ask(call, ask) if !member.is_up() => {
                let (from, to) = (packet.to, packet.from);
                let told = match ask {
                    Ask::Host(_) => Told::Host(HostTold::Elsewhere),
                    Ask::Write(_) | Ask::Read(_) => Told::Unknown,
                };
                let content = Content::Told(call, told);
                self.network.send(self.now_ms, Packet { from, to, content });
            }
            _ => member.deliver(packet),
        }
    }

    fn ask(&mut self) {
        for client in &mut self.clients {
            for packet in client.step(self.now_ms, &self.oracle) {
                self.network.send(self.now_ms, packet);
            }
        }
        let (now_ms, now_s) = (self.now_ms, self.now_s());
        host::hand_over(&mut self.hosts, now_ms, now_s);
        for host in &mut self.hosts {
            if let Some(packet) = host.step(now_ms, now_s) {
                self.network.send(now_ms, packet);
            }
        }
        let acts = self.hosts.iter().map(|host| host.acts).sum();
        if std::mem::replace(&mut self.acts, acts) != acts {
            self.check_owners();
        }
    }

    /// A member lives for a quantum; how it then is, is looked at.
    fn live(&mut self, at: usize) {
        let now_ms = self.now_ms;
        for (at_ms, packet) in self.members[at].live_until(now_ms) {
            self.network.send(at_ms, packet);
        }
        if let Some(Face::Serving { metrics, .. }) = self.members[at].face() {
            let metrics = metrics.borrow();
            if metrics.current_leader == Some(metrics.id) && metrics.state.is_leader() {
                self.oracle.leads(metrics.current_term, metrics.id);
            }
        }
        let Some(end) = self.members[at].ended() else { return };
        self.trace.note(now_ms, format_args!("m{} ended: {end:?}", at + 1));
        self.failures += 1;
        match end {
            End::Damaged => {}
            End::NotStarted(reason) if reason.contains("damaged") => {
                let text = format!("m{} takes its sound disk for damaged: {reason}", at + 1);
                self.oracle.object(text);
            }
            End::NoPower | End::Fatal(_) | End::NotStarted(_) => {
                self.faults.plan_start(now_ms, at);
            }
        }
    }

    /// Nothing goes wrong any more: everybody has to come to the same state, and to serve.
    fn recover(&mut self) -> std::io::Result<()> {
        if self.oracle.violation().is_some() {
            return Ok(());
        }
        self.trace.note(self.now_ms, format_args!("calm"));
        self.faults.end(&mut self.members, &mut self.network);
        self.network.set_weather(Weather::FAIR);
        for member in &mut self.members {
            member.resume(self.now_ms);
            member.start(self.now_ms)?;
        }
        let before: Vec<u64> = self.clients.iter().map(Client::done).collect();
        let are_served = |world: &Self| {
            let pairs = world.clients.iter().zip(&before);
            pairs.into_iter().all(|(client, before)| client.done() >= before + ANSWERS_AFTER)
        };
        self.wait_for("clients are not served", are_served)?;
        for client in &mut self.clients {
            client.rest();
        }
        let is_quiet = |world: &Self| world.clients.iter().all(Client::is_content);
        self.wait_for("clients are not answered", is_quiet)?;
        self.wait_for("what was ordered is not done", Self::is_done)?;
        for host in &mut self.hosts {
            host.stop_metering();
        }
        let are_heard = |world: &Self| world.hosts.iter().all(Host::is_heard);
        self.wait_for("hosts are not heard", are_heard)?;
        let are_fit = |world: &Self| {
            world.members.iter().filter(|member| !member.is_lost()).all(Member::is_fit)
        };
        self.wait_for("members are not fit", are_fit)?;
        // The last of all: the cluster does something by itself now and then, and until all have that they differ.
        self.wait_for("members do not come to one state", Self::is_whole)?;
        self.compare();
        Ok(())
    }

    fn wait_for(&mut self, otherwise: &str, is_so: impl Fn(&Self) -> bool) -> std::io::Result<()> {
        let deadline_ms = self.now_ms + RECOVERY_MS;
        while !is_so(self) {
            if !self.step()? {
                return Ok(());
            }
            if self.now_ms > deadline_ms {
                let state = self.members.iter().map(describe).collect::<Vec<_>>().join("; ");
                self.oracle.object(format!("{otherwise} after {RECOVERY_MS} ms of calm: {state}"));
            }
        }
        Ok(())
    }

    /// Whether nothing is under way any more.
    fn is_done(&self) -> bool {
        self.oracle.look(|fleet| {
            fleet.outbox_after(EffectId::default()).next().is_none()
                && fleet.open_migrations().next().is_none()
        })
    }

    /// What the fleet says of machines and the ledger of their use is what hosts know.
    fn compare_hosts(&self) {
        let on_hosts: BTreeSet<(VmId, NodeName, Generation)> =
            self.hosts.iter().flat_map(Host::holdings).collect();
        let in_fleet: BTreeSet<(VmId, NodeName, Generation)> = self.oracle.look(|fleet| {
            let running = fleet.vms().filter(|vm| vm.state() == VmState::Running);
            running.filter_map(|vm| Some((vm.id, vm.node.clone()?, vm.generation))).collect()
        });
        if let Some(odd) = on_hosts.symmetric_difference(&in_fleet).next() {
            self.oracle.object(format!("{odd:?} runs on a host or in the fleet, not in both"));
        }
        let metered_s: u128 = self.hosts.iter().map(|host| host.acknowledged_s).sum();
        let posted_s = self.oracle.look(|fleet| {
            let of_projects = fleet.accounts().filter(|(key, _)| {
                key.meter == Meter::VmSeconds && matches!(key.owner, Owner::Project(_))
            });
            of_projects.map(|(_, account)| account.debits - account.credits).sum::<u128>()
        });
        if posted_s != metered_s {
            let text = format!("the ledger has {posted_s} s of use, hosts measured {metered_s} s");
            self.oracle.object(text);
        }
    }

    /// Whether everybody who can has applied everything.
    fn is_whole(&self) -> bool {
        let last = self.oracle.last_index();
        self.members.iter().filter(|member| !member.is_lost()).all(|member| match member.face() {
            Some(Face::Serving { cell, .. }) => Some(*cell.applied().borrow()) == last,
            _ => false,
        })
    }

    fn compare(&self) {
        if self.oracle.violation().is_some() {
            return;
        }
        self.compare_hosts();
        let expected = self.oracle.state_hash();
        for member in &self.members {
            if let Some(Face::Serving { cell, .. }) = member.face()
                && cell.look(|fleet| fleet.state_hash().ok()) != expected
            {
                let (applied, last) = (*cell.applied().borrow(), self.oracle.last_index());
                let member = member.id();
                self.oracle
                    .object(format!("m{member} came to another state at {applied} of {last:?}"));
            }
        }
    }

    fn outcome(self) -> Outcome {
        Outcome {
            violation: self.oracle.violation(),
            trace: self.trace.hash(),
            events: self.trace.events(),
            tally: self.oracle.tally(),
            faults: self.faults.counts,
            failures: self.failures,
            world_ms: self.now_ms,
        }
    }
}

/// For a person: how a member is.
fn describe(member: &Member) -> String {
    let how = match member.face() {
        None if member.is_lost() => "lost".to_owned(),
        None => "down".to_owned(),
        Some(Face::Starting) => "starting".to_owned(),
        Some(Face::Failed { reason, .. }) => reason,
        Some(Face::Serving { metrics, cell, .. }) => {
            let (applied, metrics) = (*cell.applied().borrow(), metrics.borrow().clone());
            format!(
                "{:?} of term {}, leader {:?}, last {:?}, applied {applied}",
                metrics.state, metrics.current_term, metrics.current_leader, metrics.last_log_index
            )
        }
    };
    format!("m{}: {how}", member.id())
}
