//! What a seed decides about a run before it begins: how many members, how the weather is, which faults there are.

use crate::dice::Dice;
use crate::planted::Planted;

/// How the network treats packets.
#[derive(Debug, Clone, Copy)]
pub struct Weather {
    /// Of a thousand, how many are lost.
    pub loss_permille: u64,
    /// Of a thousand, how many arrive twice.
    pub double_permille: u64,
    /// The longest that a packet usually travels beyond the shortest time.
    pub latency_ms_max: u64,
    /// Of a thousand, how many travel for longer, which overtakes them.
    pub slow_permille: u64,
    /// The longest that one travels at all.
    pub slow_ms_max: u64,
}

impl Weather {
    /// Nothing is lost, doubled or overtaken by far.
    pub const FAIR: Self = Self {
        loss_permille: 0,
        double_permille: 0,
        latency_ms_max: 1,
        slow_permille: 0,
        slow_ms_max: 1,
    };

    fn drawn(dice: &mut Dice) -> Self {
        let latency_ms_max = dice.between(1, 8);
        let sometimes = |dice: &mut Dice, most| {
            let is_so = dice.happens(600);
            if is_so { dice.between(1, most) } else { 0 }
        };
        Self {
            loss_permille: sometimes(dice, 50),
            double_permille: sometimes(dice, 50),
            latency_ms_max,
            slow_permille: sometimes(dice, 80),
            slow_ms_max: latency_ms_max + dice.between(50, 3_000),
        }
    }
}

/// What can go wrong. Each run has some of these only, so that none hides behind another.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum FaultKind {
    /// A process ends; what it wrote stays.
    Kill,
    /// The power of a member fails: what was not synced is lost or torn.
    PowerCut,
    /// The power fails in the middle of some later operation of the disk.
    PowerCutLater,
    /// All members lose power at once.
    Blackout,
    /// An operation of the disk fails.
    DiskError,
    /// The disk is full for a while.
    DiskFull,
    /// The disk is slow for a while.
    SlowDisk,
    /// A bit on a disk is not what was written; a minority only.
    BitRot,
    /// Some members do not hear others for a while, in one or both directions.
    Partition,
    /// A process stands still for a while and goes on.
    Pause,
    /// The wall clock of a member jumps.
    ClockJump,
}

impl FaultKind {
    /// All of them.
    pub const ALL: [Self; 11] = [
        Self::Kill,
        Self::PowerCut,
        Self::PowerCutLater,
        Self::Blackout,
        Self::DiskError,
        Self::DiskFull,
        Self::SlowDisk,
        Self::BitRot,
        Self::Partition,
        Self::Pause,
        Self::ClockJump,
    ];
}

/// A run.
#[derive(Debug, Clone)]
pub struct Scenario {
    /// What decides everything.
    pub seed: u64,
    /// How long faults happen.
    pub safety_ms: u64,
    /// Coordinators: 3 or 5.
    pub members: u64,
    /// Clients.
    pub clients: usize,
    /// Hosts.
    pub hosts: usize,
    /// Entries from one snapshot to the next.
    pub entries_per_snapshot: u64,
    /// Bytes of a file of the log.
    pub segment_bytes_max: u64,
    /// The longest that a client waits between two wishes.
    pub pause_ms_max: u64,
    /// The network.
    pub weather: Weather,
    /// The longest that the disk takes.
    pub disk_ms_max: u64,
    /// What goes wrong.
    pub faults: Vec<FaultKind>,
    /// The longest between two faults.
    pub fault_ms_max: u64,
    /// The bug that this run has.
    pub planted: Planted,
    /// Whether members watch their disks and clocks, as real ones do; the other runs try what holds without that.
    pub is_watched: bool,
    /// Whether members encrypt what they write: every other seed does.
    pub is_encrypted: bool,
    /// Whether room and clocks are all that goes wrong.
    pub is_quiet: bool,
    /// Whether members come and go: one makes the cluster, the others join it, and an operator adds, removes and replaces.
    pub changes_members: bool,
    /// Whether clients correct what hosts measured.
    pub corrects_usage: bool,
    /// When hours pass from one moment to the next, where they do: then, and twice after the faults.
    pub hours_pass_at_ms: Option<u64>,
}

/// Machines for members beyond those that a cluster begins with, where members come and go.
const MACHINES_BEYOND: u64 = 2;

impl Scenario {
    /// The run of a seed.
    pub fn new(seed: u64, minutes: u64, planted: Planted) -> Self {
        let mut dice = Dice::new(seed);
        let mut faults = FaultKind::ALL.to_vec();
        faults.retain(|_| dice.happens(600));
        let scenario = Self {
            seed,
            safety_ms: minutes * 60_000,
            members: if dice.happens(750) { 3 } else { 5 },
            clients: dice.between(2, 6) as usize,
            hosts: dice.between(2, 3) as usize,
            entries_per_snapshot: dice.between(10, 200),
            segment_bytes_max: dice.between(2_000, 64_000),
            pause_ms_max: dice.between(50, 600),
            weather: Weather::drawn(&mut dice),
            disk_ms_max: dice.between(0, 12),
            faults,
            fault_ms_max: dice.between(1_000, 8_000),
            planted,
            is_watched: dice.happens(700),
            is_encrypted: seed % 2 == 1,
            is_quiet: false,
            changes_members: false,
            corrects_usage: false,
            hours_pass_at_ms: None,
        };
        let quiet = scenario.is_watched && dice.happens(250);
        let scenario = if quiet { scenario.quiet() } else { scenario };
        scenario.lively(Dice::new(seed.rotate_left(32)))
    }

    /// Machines that a member can be on.
    pub fn machines(&self) -> u64 {
        self.members + if self.changes_members { MACHINES_BEYOND } else { 0 }
    }

    /// The same, with some of what happens rarely in the life of a cluster. It is drawn beside all else: that stays as it
    /// was before there was any of this.
    fn lively(mut self, mut dice: Dice) -> Self {
        self.corrects_usage = dice.happens(400);
        self.hours_pass_at_ms = dice.happens(400).then(|| dice.between(5_000, self.safety_ms));
        self.changes_members = dice.happens(400) && !self.is_quiet;
        if self.changes_members {
            // What a minority is changes with the members: a machine that is wiped is all that is lost for good, one at a
            // time, and no majority can be of a wrong clock's opinion.
            let is_watched = self.is_watched;
            self.faults.retain(|kind| match kind {
                FaultKind::BitRot => false,
                FaultKind::ClockJump => !is_watched,
                _ => true,
            });
        }
        self
    }

    /// The same, and only room and clocks go wrong, for long: so it can be said what has to happen how soon.
    fn quiet(self) -> Self {
        let weather =
            Weather { loss_permille: 0, double_permille: 0, slow_permille: 0, ..self.weather };
        let faults = vec![FaultKind::DiskFull, FaultKind::ClockJump];
        Self { weather, faults, is_quiet: true, ..self }
    }
}
