//! What goes wrong, and when it is over.

use std::collections::{BTreeMap, BTreeSet};
use std::io::ErrorKind;

use novacron_storage::disk::Failure;

use crate::dice::Dice;
use crate::fit::RESERVE_BYTES;
use crate::member::Member;
use crate::network::Network;
use crate::scenario::{FaultKind, Scenario};

/// Ways from a member to another.
type Ways = BTreeSet<(u64, u64)>;

/// The longest that a member's clock is off: answers are kept for a day, and they have to outlive a jump.
const JUMP_MS_MAX: u64 = 6 * 3_600_000;

/// What happens later.
enum Later {
    Fault,
    Start(usize),
    Mend(Ways),
    Resume(usize),
    DiskAsUsual(usize),
    DiskHasRoom(usize),
    ClockIsRight(usize),
}

/// The faults of a run.
pub struct Faults {
    dice: Dice,
    kinds: Vec<FaultKind>,
    pause_ms_max: u64,
    is_watched: bool,
    is_quiet: bool,
    /// Whom most faults of a quiet world hit.
    favourite: u64,
    agenda: BTreeMap<(u64, u64), Later>,
    planned: u64,
    /// How often each kind happened.
    pub counts: BTreeMap<FaultKind, u64>,
}

impl Faults {
    /// The first is soon.
    pub fn new(scenario: &Scenario, dice: Dice) -> Self {
        let (kinds, pause_ms_max) = (scenario.faults.clone(), scenario.fault_ms_max);
        let (agenda, counts) = (BTreeMap::new(), BTreeMap::new());
        let (is_watched, is_quiet) = (scenario.is_watched, scenario.is_quiet);
        let mut dice = dice;
        let favourite = if is_quiet { dice.between(0, scenario.members - 1) } else { 0 };
        let mut faults = Self {
            dice,
            kinds,
            pause_ms_max,
            is_watched,
            is_quiet,
            favourite,
            agenda,
            planned: 0,
            counts,
        };
        // Before this there is hardly a leader.
        faults.plan(3_000, Later::Fault);
        faults
    }

    fn plan(&mut self, at_ms: u64, later: Later) {
        self.planned += 1;
        self.agenda.insert((at_ms, self.planned), later);
    }

    /// A member that has ended is started again in a while.
    pub fn plan_start(&mut self, now_ms: u64, member: usize) {
        let at_ms = now_ms + self.dice.between(100, 5_000);
        self.plan(at_ms, Later::Start(member));
    }

    /// Does what is due, and tells what it was.
    pub fn step(
        &mut self,
        now_ms: u64,
        members: &mut [Member],
        network: &mut Network,
    ) -> std::io::Result<Vec<String>> {
        let mut told = Vec::new();
        while let Some(entry) = self.agenda.first_entry().filter(|first| first.key().0 <= now_ms) {
            match entry.remove() {
                Later::Fault => {
                    told.extend(self.strike(now_ms, members, network));
                    let at_ms = now_ms + self.dice.between(50, self.pause_ms_max);
                    self.plan(at_ms, Later::Fault);
                }
                Later::Start(at) => {
                    told.push(format!("start m{}", at + 1));
                    members[at].start(now_ms)?;
                }
                Later::Mend(ways) => {
                    told.push(format!("mend {ways:?}"));
                    network.mend(&ways);
                }
                Later::Resume(at) => {
                    told.push(format!("resume m{}", at + 1));
                    members[at].resume(now_ms);
                }
                Later::DiskAsUsual(at) => members[at].set_disk_ms(None),
                Later::DiskHasRoom(at) => {
                    members[at].disk().set_capacity_bytes(None);
                    told.push(format!("m{} has room", at + 1));
                }
                Later::ClockIsRight(at) => members[at].set_clock(0),
            }
        }
        Ok(told)
    }

    fn strike(
        &mut self,
        now_ms: u64,
        members: &mut [Member],
        network: &mut Network,
    ) -> Option<String> {
        let kind = *self.dice.pick(&self.kinds.clone())?;
        let at = self.victim(members.len() as u64);
        let what = match kind {
            FaultKind::Partition => Some(self.partition(now_ms, members.len() as u64, network)),
            FaultKind::Blackout => Some(self.blackout(now_ms, members)),
            FaultKind::BitRot => rot(at, members),
            // Where clocks are compared, a majority that is wrong is right.
            FaultKind::ClockJump if self.is_watched && !is_minority_off(at, members) => None,
            _ => self.strike_one(now_ms, kind, at, &mut members[at]),
        }?;
        *self.counts.entry(kind).or_default() += 1;
        Some(format!("{kind:?} m{}: {what}", at + 1))
    }

    /// In a quiet world mostly the same minority, so that the others can show that they go on.
    fn victim(&mut self, members: u64) -> usize {
        if self.is_quiet && self.dice.happens(850) {
            let beside = self.dice.between(0, (members - 1) / 2 - 1);
            return ((self.favourite + beside) % members) as usize;
        }
        self.dice.between(0, members - 1) as usize
    }

    /// Bytes that are left: mostly, where that is watched, as many as one needs who is short and knows it.
    fn room(&mut self) -> u64 {
        if self.is_watched && (self.is_quiet || self.dice.happens(700)) {
            return self.dice.between(RESERVE_BYTES / 2, RESERVE_BYTES - 1);
        }
        self.dice.between(0, 20_000)
    }

    fn duration_ms(&mut self) -> u64 {
        if self.is_quiet {
            self.dice.between(10_000, 50_000)
        } else {
            self.dice.between(500, 10_000)
        }
    }

    fn strike_one(
        &mut self,
        now_ms: u64,
        kind: FaultKind,
        at: usize,
        member: &mut Member,
    ) -> Option<String> {
        if !member.is_up() {
            return None;
        }
        match kind {
            FaultKind::Kill => {
                member.kill();
                self.plan_start(now_ms, at);
            }
            FaultKind::PowerCut => {
                member.cut_power();
                self.plan_start(now_ms, at);
            }
            FaultKind::PowerCutLater => member.fail_within(60, Failure::PowerCut),
            FaultKind::DiskError => member.fail_within(30, Failure::Error(ErrorKind::Other)),
            FaultKind::DiskFull => {
                let room = self.room();
                member.disk().set_capacity_bytes(Some(member.disk().used_bytes() + room));
                let end_ms = now_ms + self.duration_ms();
                self.plan(end_ms, Later::DiskHasRoom(at));
            }
            FaultKind::SlowDisk => {
                member.set_disk_ms(Some(self.dice.between(50, 800)));
                let end_ms = now_ms + self.dice.between(500, 10_000);
                self.plan(end_ms, Later::DiskAsUsual(at));
            }
            FaultKind::Pause => {
                member.pause();
                let end_ms = now_ms + self.dice.between(100, 15_000);
                self.plan(end_ms, Later::Resume(at));
            }
            FaultKind::ClockJump => {
                let jump_ms = self.dice.between(0, 2 * JUMP_MS_MAX) as i64 - JUMP_MS_MAX as i64;
                member.set_clock(jump_ms);
                if self.is_watched {
                    let end_ms = now_ms + self.duration_ms();
                    self.plan(end_ms, Later::ClockIsRight(at));
                }
            }
            FaultKind::Blackout | FaultKind::BitRot | FaultKind::Partition => return None,
        }
        Some(String::new())
    }

    fn partition(&mut self, now_ms: u64, members: u64, network: &mut Network) -> String {
        let one_way = self.dice.happens(400);
        let side: BTreeSet<u64> = (1..=members).filter(|_| self.dice.happens(400)).collect();
        let others: BTreeSet<u64> = (1..=members).filter(|id| !side.contains(id)).collect();
        let mut ways = Ways::new();
        for (from, to) in side.iter().flat_map(|from| others.iter().map(move |to| (*from, *to))) {
            ways.insert((from, to));
            if !one_way {
                ways.insert((to, from));
            }
        }
        network.cut(&ways);
        let end_ms = now_ms + self.dice.between(500, 20_000);
        let told = format!("{ways:?} until {end_ms}");
        self.plan(end_ms, Later::Mend(ways));
        told
    }

    fn blackout(&mut self, now_ms: u64, members: &mut [Member]) -> String {
        for (at, member) in members.iter_mut().enumerate().filter(|(_, member)| member.is_up()) {
            member.cut_power();
            self.plan_start(now_ms, at);
        }
        "all".to_owned()
    }

    /// The end of everything that was planned.
    pub fn end(&mut self, members: &mut [Member], network: &mut Network) {
        self.agenda.clear();
        network.mend_all();
        for member in members {
            member.disk().clear_failures();
            member.disk().set_capacity_bytes(None);
            member.set_disk_ms(None);
            member.set_clock(0);
        }
    }
}

/// Whether, with this member, the clocks of a minority only are wrong.
fn is_minority_off(at: usize, members: &[Member]) -> bool {
    let off = (0..).zip(members).filter(|(other, member)| *other != at && member.offset_ms() != 0);
    (off.count() + 1) * 2 < members.len()
}

/// Of a minority only, because of more nothing could be promised.
fn rot(at: usize, members: &mut [Member]) -> Option<String> {
    let rotten = members.iter().filter(|member| member.is_rotten()).count();
    if members[at].is_rotten() || (rotten + 1) * 2 >= members.len() {
        return None;
    }
    members[at].rot()
}
