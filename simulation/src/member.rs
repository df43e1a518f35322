//! A member over its lives: its disk stays, its processes come and go.

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, AtomicU64, Ordering};
use std::time::Duration;

use novacron_coordinator::clock::Clock;
use novacron_coordinator::raft::timing::Timing;
use novacron_protocol::time::Timestamp;
use novacron_storage::disk::{Disk, Failure, SimulatedDisk};
use novacron_storage::log::LogOptions;

use crate::dice::Dice;
use crate::fit::Sight;
use crate::network::Packet;
use crate::oracle::Oracle;
use crate::process::{Environment, Face, Process};
use crate::scenario::Scenario;
use crate::wire::Departure;

/// When the world begins: some day of 2026.
pub const BEGINNING: u64 = 1_790_000_000_000;

/// The world's time, as everybody's clock sees it.
pub type WorldTime = Arc<AtomicU64>;

/// How a process ended, or did not begin.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum End {
    /// The power of its disk failed.
    NoPower,
    /// Consensus could not go on, and with it the coordinator.
    Fatal(String),
    /// It could not be started.
    NotStarted(String),
    /// Its disk says that it is damaged, and it is.
    Damaged,
    /// Others said that it does not belong to the cluster any more.
    Expelled(String),
}

/// A member, or a machine on which there is none at the moment.
pub struct Member {
    environment: Environment,
    offset_ms: Arc<AtomicI64>,
    disk_ms_usual: u64,
    dice: Dice,
    state: State,
    is_rotten: bool,
}

enum State {
    Up {
        process: Process,
        born_ms: u64,
        is_paused: bool,
    },
    Down,
    /// There is no member here.
    Absent,
    /// Its disk is damaged; only an operator could replace it.
    Lost,
}

impl Member {
    /// The member of a machine, which has not been started yet; where members come and go, there is one on the first only.
    pub fn new(
        machine: u64,
        scenario: &Scenario,
        time: &WorldTime,
        oracle: &Oracle,
        mut dice: Dice,
    ) -> Self {
        let offset_ms = Arc::<AtomicI64>::default();
        let (time, offset) = (Arc::clone(time), Arc::clone(&offset_ms));
        let clock = Clock::from_fn(move || {
            let now = BEGINNING + time.load(Ordering::Relaxed);
            Timestamp::from_unix_ms(now.saturating_add_signed(offset.load(Ordering::Relaxed)))
        });
        let environment = Environment {
            member: machine,
            machine,
            members: scenario.members,
            changes_members: scenario.changes_members,
            contacts: Vec::new(),
            life: 0,
            disk: SimulatedDisk::new(dice.roll()),
            disk_ms_max: Arc::new(AtomicU64::new(scenario.disk_ms_max)),
            log: LogOptions {
                segment_bytes_max: scenario.segment_bytes_max,
                cache_bytes_max: scenario.segment_bytes_max as usize,
            },
            timing: Timing {
                entries_per_snapshot: scenario.entries_per_snapshot,
                ..Timing::default()
            },
            clock,
            oracle: oracle.clone(),
            planted: scenario.planted,
            is_watched: scenario.is_watched,
            is_encrypted: scenario.is_encrypted,
            dice: dice.split(),
        };
        let is_there = !scenario.changes_members || machine == 1;
        Self {
            environment,
            offset_ms,
            disk_ms_usual: scenario.disk_ms_max,
            dice,
            state: if is_there { State::Down } else { State::Absent },
            is_rotten: false,
        }
    }

    /// Its id.
    pub fn id(&self) -> u64 {
        self.environment.member
    }

    /// The number of its machine.
    pub fn machine(&self) -> u64 {
        self.environment.machine
    }

    /// Another member begins here, on an empty disk, and knows where others are.
    pub fn settle(&mut self, id: u64, contacts: Vec<String>) {
        let disk = SimulatedDisk::new(self.dice.roll());
        let environment = self.environment.clone();
        self.environment = Environment { member: id, disk, contacts, ..environment };
        self.state = State::Down;
    }

    /// Its process ends, and nobody will ever read its disk again.
    pub fn vacate(&mut self) {
        self.state = State::Absent;
    }

    /// Whether there is a member here.
    pub fn is_there(&self) -> bool {
        !matches!(self.state, State::Absent)
    }

    /// Its disk.
    pub fn disk(&self) -> &SimulatedDisk {
        &self.environment.disk
    }

    /// Whether a process runs, or stands still.
    pub fn is_up(&self) -> bool {
        matches!(self.state, State::Up { .. })
    }

    /// Whether only an operator could bring it back, or nobody.
    pub fn is_lost(&self) -> bool {
        matches!(self.state, State::Lost | State::Absent)
    }

    /// Whether its disk was tampered with.
    pub fn is_rotten(&self) -> bool {
        self.is_rotten
    }

    /// Starts a process, unless one runs.
    ///
    /// # Errors
    /// No runtime can be made.
    pub fn start(&mut self, now_ms: u64) -> std::io::Result<()> {
        if !matches!(self.state, State::Down) {
            return Ok(());
        }
        self.environment.disk.restart();
        self.environment.life += 1;
        let environment = Environment { dice: self.dice.split(), ..self.environment.clone() };
        let process = Process::start(environment)?;
        self.state = State::Up { process, born_ms: now_ms, is_paused: false };
        Ok(())
    }

    /// Its process ends.
    pub fn kill(&mut self) {
        if self.is_up() {
            self.state = State::Down;
        }
    }

    /// Its power fails.
    pub fn cut_power(&mut self) {
        self.environment.disk.clear_failures();
        self.environment.disk.cut_power();
        self.kill();
    }

    /// Its process stands still.
    pub fn pause(&mut self) {
        if let State::Up { is_paused, .. } = &mut self.state {
            *is_paused = true;
        }
    }

    /// Its process goes on, and finds that it is later.
    pub fn resume(&mut self, now_ms: u64) {
        let State::Up { process, born_ms, is_paused } = &mut self.state else { return };
        if std::mem::take(is_paused) {
            let gap = Duration::from_millis(now_ms - *born_ms).saturating_sub(process.lived());
            process.wake_after(gap);
        }
    }

    /// Its wall clock is off by so much.
    pub fn set_clock(&self, offset_ms: i64) {
        self.offset_ms.store(offset_ms, Ordering::Relaxed);
    }

    /// By how much its wall clock is off.
    pub fn offset_ms(&self) -> i64 {
        self.offset_ms.load(Ordering::Relaxed)
    }

    /// Its disk takes so long at most; `None`: as usual.
    pub fn set_disk_ms(&self, disk_ms_max: Option<u64>) {
        let disk_ms_max = disk_ms_max.unwrap_or(self.disk_ms_usual);
        self.environment.disk_ms_max.store(disk_ms_max, Ordering::Relaxed);
    }

    /// One of the next operations of its disk goes wrong.
    pub fn fail_within(&mut self, operations: u64, failure: Failure) {
        let disk = &self.environment.disk;
        disk.fail_at(disk.operations() + self.dice.between(1, operations), failure);
    }

    /// Flips a bit of a file; answers which.
    pub fn rot(&mut self) -> Option<String> {
        let files = ["log", "snapshots"].into_iter().flat_map(|directory| {
            let names = self.environment.disk.list(Path::new(directory)).unwrap_or_default();
            names.into_iter().map(move |name| Path::new(directory).join(name))
        });
        let path = self.dice.pick(&files.collect::<Vec<_>>())?.clone();
        let length = self.environment.disk.open(&path).and_then(|file| file.len()).ok()?;
        let offset = self.dice.between(0, length.checked_sub(1)?);
        let bit = self.dice.between(0, 7) as u8;
        let is_done = self.environment.disk.flip_bit(&path, offset, bit);
        self.is_rotten |= is_done;
        is_done.then(|| format!("{} at {offset}", path.display()))
    }

    /// Something arrives. A process that stands still finds it later.
    pub fn deliver(&self, packet: Packet) {
        if let State::Up { process, .. } = &self.state {
            process.deliver(packet);
        }
    }

    /// Lives on until a moment, and answers what it sent and when.
    pub fn live_until(&mut self, now_ms: u64) -> Vec<(u64, Packet)> {
        let State::Up { process, born_ms, is_paused: false } = &mut self.state else {
            return Vec::new();
        };
        process.live_until(Duration::from_millis(now_ms - *born_ms));
        let at = |(after, packet): Departure| (*born_ms + after.as_millis() as u64, packet);
        process.take_sent().into_iter().map(at).collect()
    }

    /// How it is.
    pub fn sight(&self) -> Sight {
        let (free_bytes, offset_ms) = (self.disk().free_bytes(), self.offset_ms());
        let absent =
            Sight { is_up: false, free_bytes, offset_ms, last_index: 0, leads: false, term: 0 };
        let State::Up { process, is_paused: false, .. } = &self.state else { return absent };
        let Face::Serving { metrics, .. } = process.face() else { return absent };
        let metrics = metrics.borrow();
        let leads = metrics.current_leader == Some(metrics.id) && metrics.state.is_leader();
        let (last_index, term) = (metrics.last_log_index.unwrap_or(0), metrics.current_term);
        Sight { is_up: true, last_index, leads, term, ..absent }
    }

    /// Whether it takes itself to be fit.
    pub fn is_fit(&self) -> bool {
        match &self.state {
            State::Up { process, .. } => process.is_fit(&self.environment.clock),
            State::Down | State::Lost | State::Absent => false,
        }
    }

    /// What is seen of its process.
    pub fn face(&self) -> Option<Face> {
        match &self.state {
            State::Up { process, .. } => Some(process.face()),
            State::Down | State::Lost | State::Absent => None,
        }
    }

    /// Whether its process has come to an end by itself; then it is down.
    pub fn ended(&mut self) -> Option<End> {
        let end = self.find_end()?;
        self.state = match end {
            End::Damaged => State::Lost,
            End::Expelled(_) => State::Absent,
            End::NoPower | End::Fatal(_) | End::NotStarted(_) => State::Down,
        };
        Some(end)
    }

    fn find_end(&self) -> Option<End> {
        let face = self.face()?;
        if !self.environment.disk.has_power() {
            return Some(End::NoPower);
        }
        match face {
            Face::Failed { is_damaged: true, .. } if self.is_rotten => Some(End::Damaged),
            Face::Failed { reason, .. } => Some(End::NotStarted(reason)),
            Face::Expelled { reason } => Some(End::Expelled(reason)),
            Face::Serving { metrics, .. } => {
                if metrics.has_changed().is_err() {
                    return Some(End::Fatal("consensus is gone".to_owned()));
                }
                let failed = metrics.borrow().running_state.clone().err()?;
                Some(End::Fatal(failed.to_string()))
            }
            Face::Starting => None,
        }
    }
}
