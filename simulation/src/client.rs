//! A client: it wishes one thing after the other, and asks until it is told what came of it.
//!
//! A write keeps its request id however often it is sent, as the SDK does; a read that was not answered is another
//! read.

use novacron_coordinator::state::ledger::batch::Posting;
use novacron_coordinator::state::ledger::correct::Original;
use novacron_coordinator::state::ledger::entry::EntryId;
use novacron_coordinator::state::{Accepted, Fleet, Refusal};
use novacron_protocol::ids::{NodeName, RequestId, VmId, VmName};
use novacron_protocol::usage::Meter;
use uuid::Uuid;

use crate::dice::Dice;
use crate::host::{self, HostAsk, HostTold};
use crate::network::{Content, Packet, Place};
use crate::operator::Order;
use crate::oracle::Oracle;
use crate::scenario::Scenario;

/// How long a client waits for an answer: longer than a member tries.
const PATIENCE_MS: u64 = 12_000;

/// How long it waits before it asks again after an answer that says nothing.
const AGAIN_MS: u64 = 100;

/// Of a thousand requests, how many are sent to two members at once.
const TWICE_PERMILLE: u64 = 50;

/// Of a thousand wishes, how many are corrections, where there are any.
const CORRECTIONS_PERMILLE: u64 = 80;

/// Machines that a client makes: with six clients, rows enough for snapshots of several pieces.
const MACHINES_MAX: usize = 60;

/// What a client wants changed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Wish {
    /// A machine of this name.
    Create(VmName),
    /// This machine removed.
    Destroy(VmId),
    /// So many migrations of a node at once.
    Limit(u32),
    /// This machine started.
    Start(VmId),
    /// This machine stopped.
    Stop(VmId),
    /// This machine on another node.
    Migrate(VmId, NodeName),
    /// So many seconds in the place of those of an entry.
    Correct(EntryId, u128),
}

/// A request for a change.
#[derive(Debug, Clone)]
pub struct Write {
    /// Its id.
    pub request: RequestId,
    /// What it wants.
    pub wish: Wish,
    /// Whether it was sent before.
    pub is_again: bool,
}

/// What a client asks a member.
#[derive(Debug, Clone)]
pub enum Ask {
    /// To change something.
    Write(Write),
    /// What there is of a name.
    Read(VmName),
    /// What hosts ask.
    Host(HostAsk),
    /// What operators order.
    Operate(Order),
}

/// What a client is told.
#[derive(Debug, Clone)]
pub enum Told {
    /// It was done.
    Done(Accepted),
    /// It cannot be done.
    Refused(Refusal),
    /// To a read.
    Seen(Seen),
    /// To a host.
    Host(HostTold),
    /// To an operator: the id of a member that may join.
    Admitted(u64),
    /// To an operator: the member has left.
    Left,
    /// It was not begun.
    Declined,
    /// No quorum, or nobody knows.
    Unknown,
}

/// What a read found.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Seen {
    /// Of which revision.
    pub revision: u64,
    /// The machine of the name.
    pub vm: Option<VmId>,
    /// The setting.
    pub limit: u32,
}

/// What a client waits for.
#[derive(Debug)]
struct Operation {
    ask: Ask,
    /// What was known when it began.
    floor: u64,
    /// The number of its last call; writes take the answer to any call.
    call: u64,
    first_call: u64,
    again_at_ms: u64,
    /// How often it was sent.
    copies: u64,
}

/// A client.
#[derive(Debug)]
pub struct Client {
    number: usize,
    clients: usize,
    hosts: usize,
    /// Machines on which there are members, as far as anybody knows.
    members: Vec<u64>,
    corrects_usage: bool,
    dice: Dice,
    pause_ms_max: u64,
    /// Whether the network delivers things twice: then nobody knows what became of the other one.
    is_doubled: bool,
    next_at_ms: u64,
    calls: u64,
    names: usize,
    machines: Vec<VmId>,
    operation: Option<Operation>,
    done: u64,
    rests: bool,
}

impl Client {
    /// A client in a scenario.
    pub fn new(number: usize, scenario: &Scenario, dice: Dice) -> Self {
        Self {
            number,
            clients: scenario.clients,
            hosts: scenario.hosts,
            members: (1..=scenario.members).collect(),
            corrects_usage: scenario.corrects_usage,
            dice,
            pause_ms_max: scenario.pause_ms_max,
            is_doubled: scenario.weather.double_permille > 0,
            next_at_ms: 0,
            calls: 0,
            names: 0,
            machines: Vec::new(),
            operation: None,
            done: 0,
            rests: false,
        }
    }

    /// Members are on these machines from now on.
    pub fn set_members(&mut self, members: &[u64]) {
        self.members = members.to_vec();
    }

    /// Requests that it was told the outcome of.
    pub fn done(&self) -> u64 {
        self.done
    }

    /// Whether it waits for nothing.
    pub fn is_content(&self) -> bool {
        self.operation.is_none()
    }

    /// It wishes for nothing new any more.
    pub fn rest(&mut self) {
        self.rests = true;
    }

    /// What it sends now.
    pub fn step(&mut self, now_ms: u64, oracle: &Oracle) -> Vec<Packet> {
        match &mut self.operation {
            None if now_ms >= self.next_at_ms && !self.rests => {
                let ask = self.correction(oracle).unwrap_or_else(|| self.wish());
                self.begin(now_ms, ask, oracle)
            }
            Some(operation) if now_ms >= operation.again_at_ms => {
                let mut ask = operation.ask.clone();
                if let Ask::Write(write) = &mut ask {
                    write.is_again = true;
                    self.send(now_ms, ask)
                } else {
                    self.begin(now_ms, ask, oracle)
                }
            }
            _ => Vec::new(),
        }
    }

    fn begin(&mut self, now_ms: u64, ask: Ask, oracle: &Oracle) -> Vec<Packet> {
        let call = self.calls + 1;
        let floor = oracle.floor();
        let again_at_ms = now_ms;
        let (first_call, copies) = (call, 0);
        self.operation =
            Some(Operation { ask: ask.clone(), floor, call, first_call, again_at_ms, copies });
        self.send(now_ms, ask)
    }

    fn send(&mut self, now_ms: u64, ask: Ask) -> Vec<Packet> {
        let copies = if self.dice.happens(TWICE_PERMILLE) { 2 } else { 1 };
        let mut packets = Vec::new();
        for _ in 0..copies {
            self.calls += 1;
            let to = Place::Member(self.dice.pick(&self.members).copied().unwrap_or(1));
            let content = Content::Ask(self.calls, ask.clone());
            packets.push(Packet { from: Place::Client(self.number), to, content });
        }
        if let Some(operation) = &mut self.operation {
            operation.call = self.calls;
            operation.again_at_ms = now_ms + PATIENCE_MS;
            operation.copies += copies;
        }
        packets
    }

    fn wish(&mut self) -> Ask {
        let mut dice = self.dice.split();
        let wish = match dice.between(0, 13) {
            0..=2 if self.names < MACHINES_MAX => {
                self.names += 1;
                Wish::Create(name(self.number, self.names))
            }
            3 if !self.machines.is_empty() => {
                let at = dice.between(0, self.machines.len() as u64 - 1) as usize;
                Wish::Destroy(self.machines.swap_remove(at))
            }
            kind @ 4..=8 if !self.machines.is_empty() => self.change(kind, &mut dice),
            9 => Wish::Limit(dice.between(1, 64) as u32),
            _ => {
                let owner = dice.between(0, self.clients as u64 - 1) as usize;
                let number = dice.between(1, self.names.max(1) as u64) as usize;
                return Ask::Read(name(owner, number));
            }
        };
        write(wish, &mut dice)
    }

    /// Some other quantity in the place of what hosts measured, where that is wished for at all.
    fn correction(&mut self, oracle: &Oracle) -> Option<Ask> {
        if !self.corrects_usage || !self.dice.happens(CORRECTIONS_PERMILLE) {
            return None;
        }
        let entry = oracle.look(|fleet| entry(fleet, &mut self.dice))?;
        let quantity = u128::from(self.dice.between(0, 100));
        Some(write(Wish::Correct(entry, quantity), &mut self.dice))
    }

    fn change(&self, kind: u64, dice: &mut Dice) -> Wish {
        let at = dice.between(0, self.machines.len() as u64 - 1) as usize;
        let vm = self.machines[at];
        match kind {
            4 => Wish::Start(vm),
            5 => Wish::Stop(vm),
            _ => Wish::Migrate(vm, host::name(dice.between(0, self.hosts as u64 - 1) as usize)),
        }
    }

    /// It is told something.
    pub fn hear(&mut self, now_ms: u64, call: u64, told: &Told, oracle: &Oracle) {
        let Some(operation) = &mut self.operation else { return };
        if call < operation.first_call {
            return;
        }
        match (&operation.ask, told) {
            // What was declined the only time that it was asked for did not happen, and is given up.
            (Ask::Write(write), Told::Declined) if operation.copies == 1 && !self.is_doubled => {
                oracle.declined_write(write.request);
                self.operation = None;
                self.next_at_ms = now_ms + AGAIN_MS;
                return;
            }
            (_, Told::Unknown | Told::Declined) => {
                if call == operation.call {
                    operation.again_at_ms = now_ms + AGAIN_MS;
                }
                return;
            }
            (Ask::Read(name), Told::Seen(seen)) => {
                oracle.answered_read(name, seen, operation.floor)
            }
            (Ask::Write(write), told) => {
                oracle.answered_write(write.request, told, operation.floor);
                if let (Wish::Create(_), Told::Done(Accepted::Vm(vm))) = (&write.wish, told) {
                    self.machines.push(*vm);
                }
            }
            (Ask::Read(_) | Ask::Host(_) | Ask::Operate(_), told) => {
                oracle.object(format!("{told:?} is no answer to what was asked"))
            }
        }
        self.operation = None;
        self.done += 1;
        self.next_at_ms = now_ms + self.dice.between(0, self.pause_ms_max);
    }
}

fn write(wish: Wish, dice: &mut Dice) -> Ask {
    Ask::Write(Write { request: request(dice), wish, is_again: false })
}

/// The id of a request.
pub fn request(dice: &mut Dice) -> RequestId {
    RequestId(Uuid::from_u128(u128::from(dice.roll()) << 64 | u128::from(dice.roll())))
}

/// An entry that is sealed, now and then, where there are any; else one of machines' seconds.
fn entry(fleet: &Fleet, dice: &mut Dice) -> Option<EntryId> {
    let sealed: Vec<_> = fleet.sealed_windows().collect();
    let is_of_old = dice.happens(400);
    if let Some(header) = dice.pick(&sealed).filter(|_| is_of_old) {
        let index = dice.between(header.first_index, header.last_index);
        return Some(EntryId { window: header.window, index });
    }
    let batches = fleet.open_windows().flat_map(|window| fleet.open_batches(window));
    let postings = batches.flat_map(|(key, batch)| {
        let of_seconds = batch.postings(key).flatten().filter(is_of_seconds);
        of_seconds.map(move |posting| EntryId { window: key.window, index: posting.index })
    });
    dice.pick(&postings.collect::<Vec<_>>()).copied()
}

fn is_of_seconds(posting: &Posting<'_>) -> bool {
    posting.entry.meter == Meter::VmSeconds && !Original::from(posting).is_reversal
}

/// The name of a client's machine.
fn name(client: usize, number: usize) -> VmName {
    format!("c{client}-{number}").parse().expect("letters, digits and a hyphen are a name")
}
