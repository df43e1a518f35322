//! Hosts as the coordinators know them: an agent that opens sessions with whoever leads, does effects, reports, and sends
//! what it measured until it is told that the ledger has it. The rules are the agent's (each effect once, only for the
//! generation that is held, usage kept until it is acknowledged); guests and the hand-over between two hosts are one
//! step here, because they have tests of their own.

use std::collections::{BTreeMap, VecDeque};

use novacron_coordinator::state::node::SessionId;
use novacron_protocol::effect::{
    Action, Effect, EffectOutcome, Handover, MachineReport, MigrationEnd, ObservedState, Report,
    SourceResult,
};
use novacron_protocol::ids::{EffectId, Generation, MigrationId, NodeName, VmId};
use novacron_protocol::migration::{DowntimeParts, MemoryPath, MigrationAccount, MigrationPhase};
use novacron_protocol::usage::{HOUR_S, Meter, RecordOutcome, UsageRecord};

use crate::client::Ask;
use crate::dice::Dice;
use crate::network::{Content, Packet, Place};
use crate::planted::Planted;

/// How long a host waits for an answer.
const PATIENCE_MS: u64 = 6_000;

/// From one turn to the next.
const TURN_MS: u64 = 400;

/// Records in one message.
const RECORDS_MAX: usize = 50;

/// Reports in one message.
const REPORTS_MAX: usize = 20;

/// Of a thousand effects, how many come once more.
const LATE_PERMILLE: u64 = 100;

/// And how much later at most.
const LATE_MS_MAX: u64 = 20_000;

/// What a host asks a member that leads.
#[derive(Debug, Clone)]
pub enum HostAsk {
    /// A session.
    Hello {
        /// Which host.
        node: NodeName,
        /// What it has.
        machines: Vec<MachineReport>,
    },
    /// To take what it has to say, and what there is to do.
    Turn(Turn),
}

/// What a host says in a session.
#[derive(Debug, Clone)]
pub struct Turn {
    /// Which host.
    pub node: NodeName,
    /// In which session.
    pub session: SessionId,
    /// The number of the first report.
    pub first_sequence: u64,
    /// What it has to say.
    pub reports: Vec<Report>,
    /// What it measured.
    pub usage: Vec<UsageRecord>,
}

/// What a host is told.
#[derive(Debug, Clone)]
pub enum HostTold {
    /// The session is open.
    Welcome(SessionId),
    /// Its turn was taken.
    Turn {
        /// The last report that is committed.
        sequence: u64,
        /// What became of its records, if that is known.
        outcomes: Option<Vec<RecordOutcome>>,
        /// What to do.
        effects: Vec<Effect>,
    },
    /// Not here, or not now.
    Elsewhere,
}

/// A machine on a host.
#[derive(Debug, Clone, Copy)]
struct Copy {
    generation: Generation,
    is_running: bool,
    /// Up to which second its running is in the journal.
    metered_s: u64,
}

/// A machine that is on its way to another host.
#[derive(Debug, Clone)]
pub struct Sending {
    effect: EffectId,
    vm: VmId,
    target: NodeName,
    target_generation: Generation,
    done_at_ms: u64,
}

/// A host.
#[derive(Debug)]
pub struct Host {
    number: usize,
    name: NodeName,
    /// Machines on which there are members, as far as anybody knows.
    members: Vec<u64>,
    dice: Dice,
    is_fenced: bool,
    copies: BTreeMap<VmId, Copy>,
    expected: BTreeMap<MigrationId, (VmId, Generation)>,
    sending: BTreeMap<MigrationId, Sending>,
    answered: BTreeMap<EffectId, EffectOutcome>,
    /// Effects that come once more, and when.
    late: Vec<(u64, Effect)>,
    /// How often it did something.
    pub acts: u64,
    reports: VecDeque<Report>,
    session: Option<SessionId>,
    /// The number of the first report that waits.
    sequence: u64,
    journal: VecDeque<UsageRecord>,
    member: u64,
    call: u64,
    /// Records and reports of the call that waits for an answer.
    asked: usize,
    said: usize,
    again_at_ms: u64,
    next_at_ms: u64,
    /// Whether it measures.
    meters: bool,
    /// Seconds of running guests that the ledger has acknowledged.
    pub acknowledged_s: u128,
}

impl Host {
    /// One of the hosts that talk to `members` coordinators.
    pub fn new(number: usize, members: u64, mut dice: Dice, planted: Planted) -> Self {
        let member = dice.between(1, members);
        Self {
            number,
            name: name(number),
            members: (1..=members).collect(),
            dice,
            is_fenced: planted != Planted::GenerationUnchecked,
            copies: BTreeMap::new(),
            expected: BTreeMap::new(),
            sending: BTreeMap::new(),
            answered: BTreeMap::new(),
            late: Vec::new(),
            acts: 0,
            reports: VecDeque::new(),
            session: None,
            sequence: 1,
            journal: VecDeque::new(),
            member,
            call: 0,
            asked: 0,
            said: 0,
            again_at_ms: 0,
            next_at_ms: 0,
            meters: true,
            acknowledged_s: 0,
        }
    }

    /// Members are on these machines from now on.
    pub fn set_members(&mut self, members: &[u64]) {
        self.members = members.to_vec();
    }

    /// The machines whose guests run here.
    pub fn running(&self) -> impl Iterator<Item = VmId> {
        self.copies.iter().filter(|(_, copy)| copy.is_running).map(|(vm, _)| *vm)
    }

    /// The same, with this host and the generations that it has.
    pub fn holdings(&self) -> impl Iterator<Item = (VmId, NodeName, Generation)> {
        let running = self.copies.iter().filter(|(_, copy)| copy.is_running);
        running.map(|(vm, copy)| (*vm, self.name.clone(), copy.generation))
    }

    /// Whether the coordinators have heard all that it has to say.
    pub fn is_heard(&self) -> bool {
        self.session.is_some() && self.reports.is_empty() && self.journal.is_empty()
    }

    /// It measures nothing any more.
    pub fn stop_metering(&mut self) {
        self.meters = false;
    }

    /// What it sends now. `now_s` is its wall clock.
    pub fn step(&mut self, now_ms: u64, now_s: u64) -> Option<Packet> {
        while let Some(at) = self.late.iter().position(|(at_ms, _)| *at_ms <= now_ms) {
            let (_, effect) = self.late.swap_remove(at);
            self.act(now_ms, now_s, effect);
        }
        if now_ms < self.next_at_ms || now_ms < self.again_at_ms {
            return None;
        }
        if self.again_at_ms > 0 {
            self.move_on();
        }
        let ask = match self.session {
            None => HostAsk::Hello { node: self.name.clone(), machines: self.inventory() },
            Some(session) => HostAsk::Turn(self.turn(session, now_s)),
        };
        self.call += 1;
        self.again_at_ms = now_ms + PATIENCE_MS;
        let content = Content::Ask(self.call, Ask::Host(ask));
        Some(Packet { from: Place::Host(self.number), to: Place::Member(self.member), content })
    }

    /// Another member, and a session of its own with it.
    fn move_on(&mut self) {
        self.session = None;
        self.asked = 0;
        self.member = self.dice.pick(&self.members).copied().unwrap_or(1);
    }

    fn inventory(&self) -> Vec<MachineReport> {
        self.copies.iter().map(|(vm, copy)| report(*vm, copy)).collect()
    }

    fn turn(&mut self, session: SessionId, now_s: u64) -> Turn {
        self.measure(now_s);
        let usage: Vec<_> = self.journal.iter().take(RECORDS_MAX).copied().collect();
        self.asked = usage.len();
        self.said = self.reports.len().min(REPORTS_MAX);
        Turn {
            node: self.name.clone(),
            session,
            first_sequence: self.sequence,
            reports: self.reports.iter().take(REPORTS_MAX).cloned().collect(),
            usage,
        }
    }

    /// What ran since the last time goes into the journal, an hour's part at most in one record.
    fn measure(&mut self, now_s: u64) {
        if !self.meters {
            return;
        }
        for (vm, copy) in self.copies.iter_mut().filter(|(_, copy)| copy.is_running) {
            let (generation, meter, level) = (copy.generation, Meter::VmSeconds, 1);
            while copy.metered_s < now_s {
                let start_s = copy.metered_s;
                let end_s = now_s.min((start_s / HOUR_S + 1) * HOUR_S);
                let record = UsageRecord { vm: *vm, generation, meter, start_s, end_s, level };
                self.journal.push_back(record);
                copy.metered_s = end_s;
            }
        }
    }

    /// It is told something. Effects count also when they come late, because an agent cannot know; but for those that
    /// make a machine, to which there is nothing to compare a generation with: links keep their order, so none of them
    /// comes after the order to remove what it made.
    pub fn hear(
        &mut self,
        now_ms: u64,
        now_s: u64,
        call: u64,
        told: HostTold,
    ) -> Result<(), String> {
        let is_awaited = call == self.call && self.again_at_ms > 0;
        if is_awaited {
            self.again_at_ms = 0;
            self.next_at_ms = now_ms + self.dice.between(1, TURN_MS);
        }
        match told {
            HostTold::Welcome(session) if is_awaited => {
                self.session = Some(session);
                self.sequence = 1;
            }
            HostTold::Elsewhere if is_awaited => self.move_on(),
            HostTold::Turn { sequence, outcomes, effects } => {
                if is_awaited {
                    self.note_committed(sequence);
                    self.note_usage(outcomes)?;
                }
                let is_made = |effect: &Effect| matches!(effect.action, Action::Create { .. });
                for effect in effects.into_iter().filter(|effect| is_awaited || !is_made(effect)) {
                    if !is_made(&effect) && self.dice.happens(LATE_PERMILLE) {
                        let at_ms = now_ms + self.dice.between(1, LATE_MS_MAX);
                        self.late.push((at_ms, effect.clone()));
                    }
                    self.act(now_ms, now_s, effect);
                }
            }
            HostTold::Welcome(_) | HostTold::Elsewhere => {}
        }
        Ok(())
    }

    /// Reports that are not committed although they were sent are those of a session that is over.
    fn note_committed(&mut self, sequence: u64) {
        let committed = (sequence + 1).saturating_sub(self.sequence) as usize;
        if committed == 0 && self.said > 0 {
            self.session = None;
        }
        self.reports.drain(..committed.min(self.reports.len()));
        self.sequence = self.sequence.max(sequence + 1);
    }

    fn note_usage(&mut self, outcomes: Option<Vec<RecordOutcome>>) -> Result<(), String> {
        let Some(outcomes) = outcomes else { return Ok(()) };
        if outcomes.len() != self.asked {
            return Err(format!("{} outcomes for {} records", outcomes.len(), self.asked));
        }
        for outcome in outcomes {
            let Some(record) = self.journal.pop_front() else { continue };
            match outcome {
                outcome if outcome.is_held() => self.acknowledged_s += record.quantity(),
                // Its clock is right, and the fleet's may be late by a jump: later.
                RecordOutcome::Ahead { .. } => self.journal.push_back(record),
                other => return Err(format!("{}: {record:?} is {other:?}", self.name)),
            }
        }
        Ok(())
    }

    fn act(&mut self, now_ms: u64, now_s: u64, effect: Effect) {
        self.acts += 1;
        if let Some(outcome) = self.answered.get(&effect.id).filter(|_| self.is_fenced) {
            self.answer(effect.id, outcome.clone());
            return;
        }
        if self.sending.values().any(|sending| sending.effect == effect.id) {
            return;
        }
        if let Some(outcome) = self.outcome(now_ms, now_s, &effect) {
            self.answered.insert(effect.id, outcome.clone());
            self.answer(effect.id, outcome);
            if let Some(copy) = self.copies.get(&effect.vm) {
                self.reports.push_back(Report::Machine(report(effect.vm, copy)));
            }
        }
    }

    fn answer(&mut self, effect: EffectId, outcome: EffectOutcome) {
        let report = Report::EffectDone { effect, outcome };
        if !self.reports.contains(&report) {
            self.reports.push_back(report);
        }
    }

    /// Does what is to be done; `None` if the outcome comes later.
    fn outcome(&mut self, now_ms: u64, now_s: u64, effect: &Effect) -> Option<EffectOutcome> {
        let held = self.copies.get(&effect.vm).map(|copy| copy.generation);
        let stale = EffectOutcome::Stale { held };
        let is_current = held == Some(effect.generation) || !self.is_fenced;
        let copy =
            |is_running| Copy { generation: effect.generation, is_running, metered_s: now_s };
        Some(match &effect.action {
            Action::Create { .. } if held.is_none() || held == Some(effect.generation) => {
                self.copies.entry(effect.vm).or_insert(copy(false));
                EffectOutcome::Done
            }
            Action::Start if is_current => {
                self.set_running(effect.vm, now_s, copy(true));
                EffectOutcome::Done
            }
            Action::Stop { .. } if is_current => {
                self.measure(now_s);
                if let Some(copy) = self.copies.get_mut(&effect.vm) {
                    copy.is_running = false;
                }
                EffectOutcome::Done
            }
            Action::Destroy if is_current => {
                self.measure(now_s);
                self.copies.remove(&effect.vm);
                EffectOutcome::Done
            }
            Action::ExpectMigration { migration, .. } if held.is_none() => {
                self.expected.insert(*migration, (effect.vm, effect.generation));
                EffectOutcome::Done
            }
            Action::SendMigration { migration, target, target_generation, .. } if is_current => {
                let done_at_ms = now_ms + self.dice.between(10, 1_500);
                let sending = Sending {
                    effect: effect.id,
                    vm: effect.vm,
                    target: target.clone(),
                    target_generation: *target_generation,
                    done_at_ms,
                };
                self.sending.insert(*migration, sending);
                return None;
            }
            Action::CancelMigration { migration } => {
                if let Some(sending) = self.sending.remove(migration) {
                    self.end(*migration, sending, SourceResult::Cancelled);
                }
                EffectOutcome::Done
            }
            Action::AbandonMigration { migration } => {
                self.expected.remove(migration);
                EffectOutcome::Done
            }
            // Disks are not simulated.
            Action::TakeSnapshot { .. }
            | Action::RestoreSnapshot { .. }
            | Action::DeleteSnapshot { .. }
                if is_current =>
            {
                EffectOutcome::Done
            }
            _ => stale,
        })
    }

    fn set_running(&mut self, vm: VmId, now_s: u64, new: Copy) {
        let copy = self.copies.entry(vm).or_insert(new);
        if !copy.is_running {
            copy.is_running = true;
            // The second in which it was stopped is counted already.
            copy.metered_s = copy.metered_s.max(now_s);
        }
    }

    fn end(&mut self, migration: MigrationId, sending: Sending, result: SourceResult) {
        let end = MigrationEnd { target: sending.target, phase: MigrationPhase::DataSync, result };
        self.reports.push_back(Report::MigrationEnded { migration, end });
        self.answered.insert(sending.effect, EffectOutcome::Done);
        self.answer(sending.effect, EffectOutcome::Done);
    }
}

/// Migrations whose time has come: the target has the machine from one moment to the next, or the source keeps it.
pub fn hand_over(hosts: &mut [Host], now_ms: u64, now_s: u64) {
    for source in 0..hosts.len() {
        let due: Vec<MigrationId> = hosts[source]
            .sending
            .iter()
            .filter(|(_, sending)| sending.done_at_ms <= now_ms)
            .map(|(migration, _)| *migration)
            .collect();
        for migration in due {
            if let Some(sending) = hosts[source].sending.remove(&migration) {
                move_machine(hosts, source, migration, sending, now_s);
            }
        }
    }
}

fn move_machine(
    hosts: &mut [Host],
    source: usize,
    migration: MigrationId,
    sending: Sending,
    now_s: u64,
) {
    let (vm, generation) = (sending.vm, sending.target_generation);
    let target = hosts.iter().position(|host| host.name == sending.target);
    let target = target.filter(|at| hosts[*at].expected.get(&migration) == Some(&(vm, generation)));
    hosts[source].measure(now_s);
    let Some((target, copy)) = target.zip(hosts[source].copies.get(&vm).copied()) else {
        let result = SourceResult::Failed { reason: "the target takes nothing".to_owned() };
        return hosts[source].end(migration, sending, result);
    };
    hosts[source].copies.remove(&vm);
    hosts[source].end(migration, sending, SourceResult::Completed(account()));
    let host = &mut hosts[target];
    host.expected.remove(&migration);
    host.copies.insert(vm, Copy { generation, ..copy });
    host.reports.push_back(Report::HandedOver(Handover { migration, vm, generation }));
}

fn report(vm: VmId, copy: &Copy) -> MachineReport {
    let state = if copy.is_running { ObservedState::Running } else { ObservedState::Stopped };
    MachineReport { vm, generation: copy.generation, state, reason: String::new() }
}

/// What a migration took, as far as anybody here looks at it.
fn account() -> MigrationAccount {
    MigrationAccount {
        total_ms: 1000,
        prepare_ms: 100,
        memory_ms: 900,
        downtime_parts: DowntimeParts::default(),
        rounds: 2,
        bytes_guest: 4000,
        bytes_wire: 1000,
        bytes_wire_memory: 1000,
        bytes_wire_disks: 0,
        bytes_wire_files: 0,
        bytes_link: 1100,
        bytes_disk: 0,
        bytes_disk_held: 0,
        bytes_disk_final: 0,
        pages_zero: 0,
        pages_same: 0,
        pages_known: 0,
        pages_differing: 0,
        pages_packed: 0,
        pages_raw: 1,
        verified: true,
        path: MemoryPath::Pages,
    }
}

/// The name of a host.
pub fn name(number: usize) -> NodeName {
    format!("node-{number}").parse().expect("letters, digits and a hyphen are a name")
}

#[cfg(test)]
mod tests {
    use novacron_protocol::ids::RequestId;
    use novacron_protocol::time::Timestamp;
    use uuid::Uuid;

    use super::*;

    fn effect(id: u64, generation: u64, action: Action) -> Effect {
        Effect {
            id: EffectId(id),
            vm: VmId(Uuid::from_u128(1)),
            generation: Generation(generation),
            deadline: Timestamp::from_unix_ms(1),
            request: RequestId(Uuid::nil()),
            action,
        }
    }

    /// A host that holds a machine of generation 2.
    fn host(planted: Planted) -> Host {
        let mut host = Host::new(0, 3, Dice::new(1), planted);
        let copy = Copy { generation: Generation(2), is_running: false, metered_s: 0 };
        host.copies.insert(VmId(Uuid::from_u128(1)), copy);
        host
    }

    #[test]
    fn an_order_for_another_generation_changes_nothing() {
        let mut fenced = host(Planted::Nothing);
        fenced.act(0, 0, effect(1, 1, Action::Start));
        assert_eq!(fenced.running().count(), 0);
        fenced.act(0, 0, effect(2, 2, Action::Start));
        assert_eq!(fenced.running().count(), 1);
        let mut unfenced = host(Planted::GenerationUnchecked);
        unfenced.act(0, 0, effect(1, 1, Action::Start));
        assert_eq!(unfenced.running().count(), 1);
    }

    #[test]
    fn no_record_crosses_an_hour_and_no_second_is_measured_twice() {
        let mut host = host(Planted::Nothing);
        host.act(0, 2 * HOUR_S - 10, effect(1, 2, Action::Start));
        host.measure(2 * HOUR_S + 5);
        host.measure(2 * HOUR_S + 5);
        let measured: Vec<_> = host.journal.iter().map(|record| record.seconds()).collect();
        assert_eq!(measured.len(), 2);
        assert_eq!(measured[0].end_s, 2 * HOUR_S);
        assert_eq!(host.journal.iter().map(UsageRecord::quantity).sum::<u128>(), 15);
        assert!(host.journal.iter().all(|record| record.check().is_ok()));
    }
}
