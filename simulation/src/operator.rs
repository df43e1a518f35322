//! Who makes a cluster of the first member, and then adds, removes and replaces members, one after the other: asks until
//! each is done.

use std::collections::BTreeSet;

use novacron_protocol::ids::{MemberId, RequestId};

use crate::client::{Ask, Told, request};
use crate::dice::Dice;
use crate::member::Member;
use crate::network::{Content, Packet, Place};
use crate::oracle::Oracle;
use crate::scenario::Scenario;
use crate::wire::address;

/// How long it waits for an answer: longer than a member tries.
const PATIENCE_MS: u64 = 12_000;

/// How long it waits before it asks again after an answer that says nothing.
const AGAIN_MS: u64 = 200;

/// Until it looks again whether there is something to do.
const IDLE_MS: u64 = 500;

/// The longest between two changes.
const PAUSE_MS_MAX: u64 = 10_000;

/// With fewer voters, none is taken away.
const VOTERS_MIN: usize = 3;

/// Of a thousand members that were let in, how many are taken away again if they do not vote soon.
const UNWELCOME_PERMILLE: u64 = 300;

/// And how soon.
const WELCOME_MS_MAX: u64 = 4_000;

/// What an operator orders, through any member.
#[derive(Debug, Clone)]
pub enum Order {
    /// To give the coordinator of a machine an id.
    Admit {
        /// The request, the same however often it is sent.
        request: RequestId,
        /// Where it is.
        machine: u64,
    },
    /// To take a member out.
    Remove {
        /// The request, the same however often it is sent.
        request: RequestId,
        /// Whom.
        member: u64,
    },
}

/// What it is at.
#[derive(Debug, Clone)]
enum Task {
    Nothing,
    /// A member shall come to a machine.
    Admit {
        machine: usize,
        request: RequestId,
    },
    /// It is there, and shall vote.
    Join {
        machine: usize,
        unwelcome_at_ms: Option<u64>,
    },
    /// A member shall leave.
    Remove {
        member: u64,
        request: RequestId,
    },
}

/// The operator.
#[derive(Debug)]
pub struct Operator {
    dice: Dice,
    /// Members that the cluster shall have before anything else is done to it.
    wanted: u64,
    joined: u64,
    task: Task,
    /// Ids that it was given, which are never given again.
    given: BTreeSet<u64>,
    calls: u64,
    /// The first call about the present task.
    first_call: u64,
    next_at_ms: u64,
    rests: bool,
    /// Whether members compare clocks with others: so one that has left hears of it, whatever it takes itself to be.
    is_watched: bool,
    /// Changes that were made.
    pub changes: u64,
}

impl Operator {
    /// Of a scenario in which members come and go.
    pub fn new(scenario: &Scenario, dice: Dice) -> Self {
        Self {
            dice,
            wanted: scenario.members,
            joined: 1,
            task: Task::Nothing,
            given: BTreeSet::from([1]),
            calls: 0,
            first_call: 1,
            next_at_ms: 0,
            rests: false,
            is_watched: scenario.is_watched,
            changes: 0,
        }
    }

    /// Whether it waits for nothing.
    pub fn is_content(&self) -> bool {
        matches!(self.task, Task::Nothing) && self.joined >= self.wanted
    }

    /// It begins nothing more.
    pub fn rest(&mut self) {
        self.rests = true;
    }

    /// What it does, and sends, now.
    pub fn step(&mut self, now_ms: u64, members: &mut [Member], oracle: &Oracle) -> Option<Packet> {
        if let Task::Join { machine, unwelcome_at_ms } = self.task {
            let member = members[machine].id();
            if oracle.membership().voters.contains(&member) {
                self.joined += 1;
                self.end(now_ms);
            } else if unwelcome_at_ms.is_some_and(|at_ms| at_ms <= now_ms) && !self.rests {
                self.remove(now_ms, member);
            }
        }
        if now_ms < self.next_at_ms {
            return None;
        }
        // Nobody can be reached before there is a cluster.
        let is_founded = oracle.look(|fleet| fleet.cluster().is_some());
        if matches!(self.task, Task::Nothing) && is_founded {
            self.begin(now_ms, members, oracle);
        }
        self.ask(now_ms, members)
    }

    /// Chooses what to do next.
    fn begin(&mut self, now_ms: u64, members: &mut [Member], oracle: &Oracle) {
        let places = |is_there: bool| -> Vec<usize> {
            let found = members.iter().enumerate().filter(|(_, one)| one.is_there() == is_there);
            found.map(|(at, _)| at).collect()
        };
        let (free, taken) = (places(false), places(true));
        let membership = oracle.membership();
        let is_settled = !membership.is_joint && membership.learners.is_empty();
        let can_lose = is_settled && membership.voters.len() >= VOTERS_MIN;
        if self.joined < self.wanted {
            return self.admit(now_ms, &free);
        }
        if self.rests {
            return;
        }
        self.next_at_ms = now_ms + IDLE_MS;
        let leaves = self.dice.pick(&taken).copied().filter(|_| can_lose);
        match (self.dice.between(0, 2), leaves) {
            (0, _) | (_, None) => self.admit(now_ms, &free),
            (1, Some(at)) => self.remove(now_ms, members[at].id()),
            (_, Some(at)) => {
                // What it had is gone; another one comes in its place, or elsewhere, under an id of its own.
                members[at].vacate();
                self.joined -= 1;
                self.remove(now_ms, members[at].id());
            }
        }
    }

    fn admit(&mut self, now_ms: u64, free: &[usize]) {
        if let Some(machine) = self.dice.pick(free).copied() {
            let request = request(&mut self.dice);
            self.set(now_ms, Task::Admit { machine, request });
        }
    }

    fn remove(&mut self, now_ms: u64, member: u64) {
        let request = request(&mut self.dice);
        self.set(now_ms, Task::Remove { member, request });
    }

    fn set(&mut self, now_ms: u64, task: Task) {
        (self.task, self.first_call, self.next_at_ms) = (task, self.calls + 1, now_ms);
    }

    fn end(&mut self, now_ms: u64) {
        self.changes += 1;
        let is_begun = self.joined >= self.wanted;
        let pause_ms = if is_begun { self.dice.between(100, PAUSE_MS_MAX) } else { 0 };
        self.set(now_ms + pause_ms, Task::Nothing);
    }

    fn ask(&mut self, now_ms: u64, members: &[Member]) -> Option<Packet> {
        let order = match self.task {
            Task::Nothing | Task::Join { .. } => return None,
            Task::Admit { machine, request } => {
                Order::Admit { request, machine: members[machine].machine() }
            }
            Task::Remove { member, request } => Order::Remove { request, member },
        };
        let there: Vec<u64> =
            members.iter().filter(|one| one.is_there()).map(Member::machine).collect();
        self.calls += 1;
        self.next_at_ms = now_ms + PATIENCE_MS;
        let content = Content::Ask(self.calls, Ask::Operate(order));
        let to = Place::Member(self.dice.pick(&there).copied()?);
        Some(Packet { from: Place::Operator, to, content })
    }

    /// It is told something.
    ///
    /// # Errors
    /// No runtime can be made for a member that was let in.
    pub fn hear(
        &mut self,
        now_ms: u64,
        call: u64,
        told: &Told,
        members: &mut [Member],
        oracle: &Oracle,
    ) -> std::io::Result<()> {
        if call < self.first_call {
            return Ok(());
        }
        match (&self.task, told) {
            (Task::Admit { machine, .. }, Told::Admitted(id)) => {
                let machine = *machine;
                if !self.given.insert(*id) {
                    oracle.object(format!("a new member was given the id {id}, which was used"));
                }
                let there = members.iter().filter(|one| one.is_there());
                let contacts = there.map(|one| address(one.machine())).collect();
                members[machine].settle(*id, contacts);
                members[machine].start(now_ms)?;
                let is_unwelcome = self.dice.happens(UNWELCOME_PERMILLE);
                let soon = now_ms + self.dice.between(0, WELCOME_MS_MAX);
                let unwelcome_at_ms = is_unwelcome.then_some(soon);
                self.set(now_ms, Task::Join { machine, unwelcome_at_ms });
            }
            (Task::Remove { member, .. }, Told::Left) => {
                let member = *member;
                let has_left = |id| {
                    oracle.look(|fleet| fleet.member(id).is_some_and(|member| member.has_left()))
                };
                if !has_left(MemberId(member)) {
                    oracle.object(format!("member {member} was said to have left, and has not"));
                }
                self.leave(now_ms, member, members);
            }
            (Task::Admit { .. } | Task::Remove { .. }, Told::Unknown | Told::Declined) => {
                if call == self.calls {
                    self.next_at_ms = now_ms + AGAIN_MS;
                }
            }
            (Task::Nothing | Task::Join { .. }, _) => {}
            (_, told) => oracle.object(format!("{told:?} is no answer to what was ordered")),
        }
        Ok(())
    }

    /// Whoever has left is ended, or left alone until it finds out, if it can.
    fn leave(&mut self, now_ms: u64, member: u64, members: &mut [Member]) {
        let one = members.iter_mut().find(|one| one.is_there() && one.id() == member);
        let is_ended = self.dice.happens(500) || !self.is_watched;
        if let Some(one) = one.filter(|_| is_ended) {
            one.vacate();
        }
        self.end(now_ms);
    }
}
