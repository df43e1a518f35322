//! All meters of this host: pure. Told what the agent has in its care, they say what was used.
//!
//! A machine's guest is metered while it runs: from its start to the end of its process, a shutdown included, not while it
//! stands still (paused by QEMU because a disk of the host failed it, or in doubt after a hand-over). Its disks are metered
//! while they are this agent's, as large as specified, also while the guest is stopped. A machine that is handed over is
//! metered up to its release here and from its acceptance there.
//!
//! After a restart of the agent every machine that was metered is in doubt until its driver says how it stands: a guest
//! that still runs has run all the time, because only an agent starts one. Of a guest that is gone nobody knows when it
//! ended; it is metered up to the last sign of life that is certain, which is the last mark, or what [`Meters::sign`] was
//! told of its files.

use std::collections::BTreeMap;

use novacron_protocol::ids::{Generation, VmId};
use novacron_protocol::limits::MACHINES_PER_NODE_MAX;
use novacron_protocol::usage::{Meter, UsageRecord};
use serde::{Deserialize, Serialize};

use super::series::{AHEAD_S_MAX, Interval, Level, Series};
use super::time::Reading;

/// Meters that are read here; the others are the coordinators'.
const METERS: [Meter; 3] = [Meter::VmSeconds, Meter::DiskByteSeconds, Meter::SnapshotSeconds];

/// Series that are not metered now and are remembered so that what begins anew does not overlap. More are forgotten, the
/// oldest first: an overlap would be refused by the ledger.
const CLOSED_MAX: usize = MACHINES_PER_NODE_MAX / 2;

/// Series that can be: every meter of every machine, and those that are closed.
pub const SERIES_MAX: usize = METERS.len() * MACHINES_PER_NODE_MAX + CLOSED_MAX;

/// What this agent has of a machine.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Held {
    /// The generation that it holds.
    pub generation: Generation,
    /// Whether the guest runs.
    pub runs: bool,
    /// Bytes of its disks, as specified.
    pub disk_bytes: u64,
    /// Its snapshots that are whole.
    pub snapshots: u64,
}

impl Held {
    fn level(&self, meter: Meter) -> Option<Level> {
        let level = match meter {
            Meter::VmSeconds => u64::from(self.runs),
            Meter::DiskByteSeconds => self.disk_bytes,
            Meter::SnapshotSeconds => self.snapshots,
            Meter::BytesMoved | Meter::Migrations => 0,
        };
        (level > 0).then_some(Level { generation: self.generation, level })
    }
}

/// One series, as it is remembered.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SeriesRecord {
    vm: VmId,
    meter: Meter,
    series: Series,
}

/// The meters.
#[derive(Debug, Default)]
pub struct Meters {
    series: BTreeMap<(VmId, Meter), Series>,
    /// Machines of which nobody has said yet how they stand, and when they were certain to be as remembered.
    in_doubt: BTreeMap<VmId, Reading>,
}

impl Meters {
    /// Meters as an earlier run of the agent remembered them at `mark`, in this run of the host or an earlier one, and with
    /// what it had metered since. Says what was used by guests that cannot have outlived the host.
    pub fn recover(
        remembered: Vec<SeriesRecord>,
        metered: &BTreeMap<(VmId, Meter), u64>,
        mark: Reading,
        now: Reading,
        is_same_boot: bool,
    ) -> (Self, Vec<UsageRecord>) {
        let known = remembered.into_iter().map(|record| ((record.vm, record.meter), record.series));
        let mut meters = Self { series: known.collect(), ..Self::default() };
        for (&key, &until_s) in metered {
            meters.series.entry(key).or_default().decided(now, until_s);
        }
        let used = if is_same_boot { Vec::new() } else { meters.outlive(mark, now) };
        let certain = if is_same_boot { mark } else { now };
        let open = meters.series.iter().filter(|(_, series)| series.is_open());
        meters.in_doubt = open.map(|(&(vm, _), _)| (vm, certain)).collect();
        (meters, used)
    }

    /// The host was started anew since `mark`: its guests ended with it, its disks are there.
    fn outlive(&mut self, mark: Reading, now: Reading) -> Vec<UsageRecord> {
        let mut used = Vec::new();
        for (&(vm, meter), series) in &mut self.series {
            let done = match meter {
                Meter::VmSeconds => series.end(mark),
                _ => series.carry_over(mark, now),
            };
            used.extend(records(vm, meter, done));
        }
        used
    }

    /// What is to be remembered of them.
    pub fn remembered(&self) -> Vec<SeriesRecord> {
        let record = |(&(vm, meter), &series)| SeriesRecord { vm, meter, series };
        self.series.iter().map(record).collect()
    }

    /// From `now` on this agent has this of a machine, or nothing. Says what was used before and whether anything changed.
    pub fn hold(
        &mut self,
        now: Reading,
        vm: VmId,
        held: Option<&Held>,
    ) -> (Vec<UsageRecord>, bool) {
        let certain = self.in_doubt.remove(&vm);
        let mut used = Vec::new();
        let mut has_changed = false;
        for meter in METERS {
            let level = held.and_then(|held| held.level(meter));
            if level.is_none() && !self.is_open(vm, meter) {
                continue;
            }
            let series = self.series.entry((vm, meter)).or_default();
            let before = *series;
            // What ended while no agent looked ended no later than this.
            let end = if level.is_none() { certain.unwrap_or(now) } else { now };
            used.extend(records(vm, meter, series.set(end, level)));
            has_changed |= *series != before;
        }
        (used, has_changed)
    }

    /// The agent stood still from `certain` until now: guests may have ended meanwhile, and their drivers are about to say so.
    pub fn doubt(&mut self, certain: Reading) {
        for ((vm, meter), series) in &self.series {
            if *meter == Meter::VmSeconds && series.is_open() {
                self.in_doubt.entry(*vm).or_insert(certain);
            }
        }
    }

    /// Whoever did not end by now has not ended.
    pub fn trust(&mut self) {
        self.in_doubt.clear();
    }

    /// A machine in doubt showed a sign of life at this time of the wall clock, in this run of the host.
    pub fn sign(&mut self, now: Reading, vm: VmId, wall_ms: u64) {
        if let Some(certain) = self.in_doubt.get_mut(&vm) {
            *certain = certain.moved_to(wall_ms, now);
        }
    }

    /// Every machine that this agent has was told about: what is still in doubt is not here any more.
    pub fn settle(&mut self, now: Reading) -> Vec<UsageRecord> {
        let gone: Vec<VmId> = self.in_doubt.keys().copied().collect();
        gone.into_iter().flat_map(|vm| self.hold(now, vm, None).0).collect()
    }

    /// What was used up to the last full `period_s` of UTC, and is not in doubt. Forgets what need not be remembered.
    pub fn cut(&mut self, now: Reading, period_s: u64) -> Vec<UsageRecord> {
        let mut used = Vec::new();
        for (&(vm, meter), series) in &mut self.series {
            if !self.in_doubt.contains_key(&vm) {
                used.extend(records(vm, meter, series.cut(now, period_s)));
            }
        }
        self.forget(now);
        used
    }

    /// Machines whose guest is metered.
    pub fn running(&self) -> usize {
        let runs = |((_, meter), series): &(&(VmId, Meter), &Series)| {
            *meter == Meter::VmSeconds && series.is_open()
        };
        self.series.iter().filter(runs).count()
    }

    fn is_open(&self, vm: VmId, meter: Meter) -> bool {
        self.series.get(&(vm, meter)).is_some_and(Series::is_open)
    }

    fn forget(&mut self, now: Reading) {
        let is_old = |series: &Series| series.until_s() + AHEAD_S_MAX < now.wall_s();
        self.series.retain(|_, series| series.is_open() || !is_old(series));
        let closed = self.series.iter().filter(|(_, series)| !series.is_open());
        let mut closed: Vec<_> = closed.map(|(&key, series)| (series.until_s(), key)).collect();
        if closed.len() > CLOSED_MAX {
            closed.sort_unstable();
            for (_, key) in &closed[..closed.len() - CLOSED_MAX] {
                self.series.remove(key);
            }
        }
    }
}

fn records(vm: VmId, meter: Meter, done: Vec<Interval>) -> impl Iterator<Item = UsageRecord> {
    done.into_iter().map(move |interval| UsageRecord {
        vm,
        generation: interval.level.generation,
        meter,
        start_s: interval.start_s,
        end_s: interval.end_s,
        level: interval.level.level,
    })
}
