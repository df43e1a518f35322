//! A run: members, clients, network and faults, led through time together.
//!
//! Each process has a runtime with a clock of its own. The world leads all of them from one moment to the next, a
//! quantum at a time; what is sent within a quantum arrives after it, because nothing travels faster. So the order in
//! which members are led does not matter to them, and everything runs on one thread.

#[cfg(test)]
mod calm;
mod end;
#[cfg(test)]
mod lonely;
#[cfg(test)]
mod slow_disks;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::sync::atomic::Ordering;

use novacron_coordinator::state::Fleet;
use novacron_coordinator::state::member::MemberRecord;
use novacron_protocol::ids::MemberId;

use crate::client::{Ask, Client, Told};
use crate::dice::Dice;
use crate::faults::Faults;
use crate::fit::Judge;
use crate::host::{self, Host, HostTold};
use crate::member::{BEGINNING, End, Member, WorldTime};
use crate::network::{Content, Network, Packet, Place};
use crate::operator::Operator;
use crate::oracle::{Oracle, Tally};
use crate::panics;
use crate::process::Face;
use crate::scenario::{FaultKind, Scenario};
use crate::trace::Trace;

/// Time from one step of the world to the next, and the shortest time that a packet travels.
pub const QUANTUM_MS: u64 = 2;

/// How often it is looked at whether members are fit: their disks' files are counted.
const JUDGED_EVERY_MS: u64 = 100;

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
    /// Changes of members that the operator made.
    pub changes: u64,
    /// Time that passed in the world.
    pub world_ms: u64,
}

struct World {
    now_ms: u64,
    time: WorldTime,
    /// How much later it is than time has passed in the world: hours went by from one moment to the next.
    skipped_ms: u64,
    hours_pass_at_ms: Option<u64>,
    /// Whether hours pass in this world.
    has_hours: bool,
    dice: Dice,
    members: Vec<Member>,
    /// Who changes members, where they change.
    operator: Option<Operator>,
    /// Machines on which there are members, as clients and hosts know them.
    known: Vec<u64>,
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
        let members = (1..=scenario.machines()).map(member).collect();
        let mut client = |number| Client::new(number, scenario, dice.split());
        let clients = (0..scenario.clients).map(&mut client).collect();
        let mut host = |number| Host::new(number, scenario.members, dice.split(), scenario.planted);
        let hosts = (0..scenario.hosts).map(&mut host).collect();
        let (now_ms, trace) = (0, Trace::new(is_printed));
        let judge = Judge::new(scenario.machines() as usize, scenario.is_quiet);
        let mut beside = Dice::new(scenario.seed.wrapping_add(2 << 32));
        let operator = scenario.changes_members.then(|| Operator::new(scenario, beside.split()));
        Self {
            now_ms,
            time,
            skipped_ms: 0,
            hours_pass_at_ms: scenario.hours_pass_at_ms,
            has_hours: scenario.hours_pass_at_ms.is_some(),
            dice: beside,
            members,
            operator,
            known: (1..=scenario.members).collect(),
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
        if self.hours_pass_at_ms.is_some_and(|at_ms| at_ms <= self.now_ms) {
            self.hours_pass_at_ms = None;
            let hours = self.dice.between(1, 3);
            self.let_hours_pass(hours);
        }
        self.time.store(self.now_ms + self.skipped_ms, Ordering::Relaxed);
        let told = self.faults.step(self.now_ms, &mut self.members, &mut self.network)?;
        // What lasts for a moment only, such as room on a disk, is seen by the judge, too: members may have seen it.
        let is_judged = self.now_ms.is_multiple_of(JUDGED_EVERY_MS) || !told.is_empty();
        for told in told {
            self.trace.note(self.now_ms, format_args!("{told}"));
        }
        self.deliver()?;
        self.operate();
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

    fn deliver(&mut self) -> std::io::Result<()> {
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
                (Place::Operator, Content::Told(call, told)) => {
                    self.trace.note(self.now_ms, format_args!("{told:?}"));
                    if let Some(operator) = &mut self.operator {
                        operator.hear(self.now_ms, call, &told, &mut self.members, &self.oracle)?;
                    }
                }
                (Place::Client(_) | Place::Host(_) | Place::Operator, _) => {}
            }
        }
        Ok(())
    }

    /// The operator does something; clients and hosts hear where members are.
    fn operate(&mut self) {
        let Some(operator) = &mut self.operator else { return };
        if let Some(packet) = operator.step(self.now_ms, &mut self.members, &self.oracle) {
            self.network.send(self.now_ms, packet);
        }
        let there = self.members.iter().filter(|member| member.is_there());
        let known: Vec<u64> = there.map(Member::machine).collect();
        if known != self.known {
            self.trace.note(self.now_ms, format_args!("members on {known:?}"));
            self.clients.iter_mut().for_each(|client| client.set_members(&known));
            self.hosts.iter_mut().for_each(|host| host.set_members(&known));
            self.known = known;
        }
    }

    /// Everybody's wall clock goes on by so much; nobody lives through it.
    fn let_hours_pass(&mut self, hours: u64) {
        self.skipped_ms += hours * 3_600_000;
        self.trace.note(self.now_ms, format_args!("{hours} hours pass"));
    }

    /// The wall clock of whoever has a right one.
    fn now_s(&self) -> u64 {
        (BEGINNING + self.now_ms + self.skipped_ms) / 1000
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
                    Ask::Write(_) | Ask::Read(_) | Ask::Operate(_) => Told::Unknown,
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
        self.failures += u64::from(!matches!(end, End::Expelled(_)));
        match end {
            End::Damaged => {}
            End::Expelled(reason) => self.check_expelled(at, &reason),
            End::NotStarted(reason) if reason.contains("damaged") => {
                let text = format!("m{} takes its sound disk for damaged: {reason}", at + 1);
                self.oracle.object(text);
            }
            End::NoPower | End::Fatal(_) | End::NotStarted(_) => {
                self.faults.plan_start(now_ms, at);
            }
        }
    }

    /// Who is told that it does not belong to the cluster any more has left it.
    fn check_expelled(&self, at: usize, reason: &str) {
        let id = MemberId(self.members[at].id());
        let has_left = |fleet: &Fleet| fleet.member(id).is_some_and(MemberRecord::has_left);
        if !self.oracle.look(has_left) {
            self.oracle.object(format!("member {id} was told: {reason}; and it has not left"));
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
            changes: self.operator.map_or(0, |operator| operator.changes),
            world_ms: self.now_ms,
        }
    }
}
