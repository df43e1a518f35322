//! Which seconds of a machine's meters are in the ledger: what makes counting twice impossible.
//!
//! Of entries in open windows each interval is known with its level ([`OpenIntervals`], an index over the batches).
//! Of sealed ones only the seconds are ([`Covered`], merged into runs, kept for as long as records may come late).

use std::collections::BTreeMap;

use novacron_protocol::ids::{Generation, VmId};
use novacron_protocol::limits::{COVERED_MAX, USAGE_AGE_S_MAX};
use novacron_protocol::usage::{HOUR_S, Meter, RecordOutcome, Seconds, UsageRecord};
use novacron_protocol::wire::codec::Message;
use serde::{Deserialize, Serialize};

use super::entry::What;
use super::hour::Hour;
use crate::state::fleet::Fleet;
use crate::state::table::ROW_BYTES_MAX;

/// Meters that count seconds.
const METERS: [Meter; 3] = [Meter::VmSeconds, Meter::DiskByteSeconds, Meter::SnapshotSeconds];

/// The place of a meter that counts seconds; the others are posted by number of a migration.
fn place(meter: Meter) -> Option<usize> {
    METERS.iter().position(|known| *known == meter)
}

/// Seconds that are apart and in order.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Runs(Vec<Seconds>);

impl Runs {
    /// Adds seconds; those that touch others become one run.
    pub fn insert(&mut self, added: Seconds) {
        let from = self.0.partition_point(|run| run.end_s < added.start_s);
        let until = self.0.partition_point(|run| run.start_s <= added.end_s);
        let merged = self.0[from..until].iter().fold(added, |merged, run| Seconds {
            start_s: merged.start_s.min(run.start_s),
            end_s: merged.end_s.max(run.end_s),
        });
        self.0.splice(from..until, [merged]);
    }

    /// The parts of `wanted` that are in here.
    pub fn within(&self, wanted: Seconds) -> impl Iterator<Item = Seconds> {
        let from = self.0.partition_point(|run| run.end_s <= wanted.start_s);
        self.0[from..].iter().map_while(move |run| part(*run, wanted))
    }

    /// Forgets runs that ended before a second.
    fn forget_before(&mut self, second: u64) {
        self.0.retain(|run| run.end_s > second);
    }

    /// The runs in order.
    pub fn iter(&self) -> impl Iterator<Item = &Seconds> {
        self.0.iter()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

/// What of `run` is in `wanted`; nothing if it begins after it.
fn part(run: Seconds, wanted: Seconds) -> Option<Seconds> {
    let (start_s, end_s) = (run.start_s.max(wanted.start_s), run.end_s.min(wanted.end_s));
    (start_s < end_s).then_some(Seconds { start_s, end_s })
}

/// Seconds of one machine that are in sealed windows.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Covered {
    runs: [Runs; METERS.len()],
}

impl Message for Covered {
    const VERSION: u16 = 1;
    const BYTES_MAX: usize = ROW_BYTES_MAX;
    const NAME: &'static str = "row of covered seconds";
}

/// An interval of an open window. 32 bytes: of these there are the most.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Interval {
    start_s: u64,
    level: u64,
    generation: Generation,
    /// The window that holds it, which is a later one than its own if it came late.
    window: Window,
    /// At most an hour.
    seconds: u16,
}

/// Hours since 1970 in half the space: enough for 490,000 years.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Window(u32);

impl From<Hour> for Window {
    fn from(hour: Hour) -> Self {
        Self(u32::try_from(hour.0).unwrap_or(u32::MAX))
    }
}

/// The intervals of one machine in open windows, by meter, apart and in order.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(in crate::state) struct OpenIntervals {
    intervals: [Vec<Interval>; METERS.len()],
}

/// The intervals of all machines.
pub(in crate::state) type OpenCoverage = BTreeMap<VmId, OpenIntervals>;

/// How a record stands to what is there.
enum Judged {
    /// None of its seconds is there.
    New,
    /// The same record is.
    Same,
    /// Some of its seconds are.
    Overlaps(Vec<Seconds>),
}

impl OpenIntervals {
    fn judge(&self, place: usize, record: &UsageRecord) -> Judged {
        let intervals = &self.intervals[place];
        // Nearly every record goes on where the one before ended.
        if intervals.last().is_none_or(|last| last.end_s() <= record.start_s) {
            return Judged::New;
        }
        let wanted = record.seconds();
        let from = intervals.partition_point(|one| one.end_s() <= wanted.start_s);
        let found = intervals[from..].iter().map_while(|one| part(one.seconds(), wanted));
        let mut runs = Runs::default();
        found.for_each(|seconds| runs.insert(seconds));
        match intervals.get(from) {
            Some(one) if one.is(record) => Judged::Same,
            _ if runs.is_empty() => Judged::New,
            _ => Judged::Overlaps(runs.0),
        }
    }

    fn insert(&mut self, place: usize, interval: Interval) {
        let intervals = &mut self.intervals[place];
        let at = intervals.partition_point(|one| one.start_s < interval.start_s);
        intervals.insert(at, interval);
    }

    /// Takes out what a window holds, and adds it to what is covered. Answers whether there was anything.
    fn seal(&mut self, window: Window, covered: impl FnOnce() -> Covered) -> Option<Covered> {
        let is_in = |one: &Interval| one.window == window;
        if !self.intervals.iter().flatten().any(is_in) {
            return None;
        }
        let mut covered = covered();
        for (intervals, runs) in self.intervals.iter_mut().zip(&mut covered.runs) {
            intervals.iter().filter(|one| is_in(one)).for_each(|one| runs.insert(one.seconds()));
            intervals.retain(|one| !is_in(one));
            intervals.shrink_to_fit();
        }
        Some(covered)
    }

    fn is_empty(&self) -> bool {
        self.intervals.iter().all(Vec::is_empty)
    }
}

impl Interval {
    fn end_s(&self) -> u64 {
        self.start_s.saturating_add(u64::from(self.seconds))
    }

    fn seconds(&self) -> Seconds {
        Seconds { start_s: self.start_s, end_s: self.end_s() }
    }

    fn is(&self, record: &UsageRecord) -> bool {
        self.seconds() == record.seconds()
            && self.level == record.level
            && self.generation == record.generation
    }
}

impl Fleet {
    /// What the ledger has of a record's seconds; nothing if it may be posted. Of sealed seconds no more is known than
    /// that they are counted, so a record within them counts as the same.
    pub(super) fn held(&self, record: &UsageRecord) -> Option<RecordOutcome> {
        let place = place(record.meter)?;
        let open = self.index.ledger_open.get(&record.vm);
        let mut runs = Runs::default();
        match open.map_or(Judged::New, |open| open.judge(place, record)) {
            Judged::Same => return Some(RecordOutcome::Exists),
            Judged::Overlaps(found) => runs = Runs(found),
            Judged::New => {}
        }
        // What is sealed is of sealed hours: nearly no record has to be looked for there.
        let is_late = Hour::of_s(record.start_s) < self.book().sealed_before;
        if let Some(covered) = is_late.then(|| self.ledger_covered.get(&record.vm)).flatten() {
            for seconds in covered.runs[place].within(record.seconds()) {
                if seconds == record.seconds() {
                    return Some(RecordOutcome::Exists);
                }
                runs.insert(seconds);
            }
        }
        let covered: Vec<Seconds> = runs.0.into_iter().take(COVERED_MAX).collect();
        (!covered.is_empty()).then_some(RecordOutcome::Conflict { covered })
    }

    pub(super) fn cover(&mut self, window: Hour, record: &UsageRecord) {
        let what = What::Interval {
            generation: record.generation,
            start_s: record.start_s,
            end_s: record.end_s,
            level: record.level,
        };
        cover(&mut self.index.ledger_open, record.vm, record.meter, window, what);
    }

    /// Moves the seconds of a window from the open ones to the sealed ones.
    pub(super) fn seal_seconds(&mut self, window: Hour) {
        let (mut sealed, covered) = (Vec::new(), &self.ledger_covered);
        self.index.ledger_open.retain(|vm, open| {
            let known = || covered.get(vm).cloned().unwrap_or_default();
            sealed.extend(open.seal(window.into(), known).map(|covered| (*vm, covered)));
            !open.is_empty()
        });
        sealed.into_iter().for_each(|(vm, covered)| self.ledger_covered.insert(vm, covered));
    }

    /// Forgets seconds that are too old for any record to come.
    pub(super) fn forget_covered(&mut self, now_s: u64) {
        let before_s = now_s.saturating_sub(USAGE_AGE_S_MAX + HOUR_S);
        let is_old = |covered: &Covered| {
            covered.runs.iter().flat_map(Runs::iter).any(|run| run.end_s <= before_s)
        };
        let old: Vec<VmId> = self
            .ledger_covered
            .iter()
            .filter(|(_, covered)| is_old(covered))
            .map(|(vm, _)| *vm)
            .collect();
        for vm in old {
            let mut covered = self.ledger_covered.get(&vm).cloned().unwrap_or_default();
            covered.runs.iter_mut().for_each(|runs| runs.forget_before(before_s));
            if covered.runs.iter().all(Runs::is_empty) {
                self.ledger_covered.remove(&vm);
            } else {
                self.ledger_covered.insert(vm, covered);
            }
        }
    }

    /// The intervals of open windows, from the batches.
    pub(in crate::state) fn build_open_coverage(&self) -> OpenCoverage {
        let mut open = OpenCoverage::new();
        for (key, batch) in self.ledger_batches.iter() {
            for posting in batch.postings(*key).flatten() {
                cover(&mut open, posting.vm, posting.entry.meter, key.window, posting.entry.what);
            }
        }
        open
    }

    /// Whether every second of a machine's meter is in one place only.
    ///
    /// # Errors
    /// The first machine of which that is not true.
    pub(super) fn check_coverage(&self) -> Result<(), String> {
        self.index.ledger_open.iter().try_for_each(|(vm, open)| {
            let sealed = self.ledger_covered.get(vm);
            let is_disjoint = METERS.iter().enumerate().all(|(place, _)| {
                let intervals = &open.intervals[place];
                let mut covered =
                    sealed.iter().flat_map(|sealed| sealed.runs[place].iter()).copied();
                let is_in_order =
                    intervals.windows(2).all(|pair| pair[0].end_s() <= pair[1].start_s);
                let overlaps = |run: Seconds| {
                    intervals.iter().any(|interval| part(interval.seconds(), run).is_some())
                };
                is_in_order && !covered.any(overlaps)
            });
            if is_disjoint { Ok(()) } else { Err(format!("seconds of machine {vm} count twice")) }
        })
    }
}

fn cover(open: &mut OpenCoverage, vm: VmId, meter: Meter, window: Hour, what: What) {
    if let (Some(place), What::Interval { generation, start_s, end_s, level }) =
        (place(meter), what)
    {
        let seconds = u16::try_from(end_s.saturating_sub(start_s)).unwrap_or(u16::MAX);
        let interval = Interval { start_s, level, generation, window: window.into(), seconds };
        open.entry(vm).or_default().insert(place, interval);
    }
}

/// The window that takes what was used in an hour: that hour's own, or the present one if it is sealed.
pub(super) fn window_for(used: Hour, sealed_before: Hour, present: Hour) -> Hour {
    if used >= sealed_before { used } else { present.max(sealed_before) }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;
    use proptest::prelude::*;

    fn seconds(start_s: u64, end_s: u64) -> Seconds {
        Seconds { start_s, end_s }
    }

    proptest! {
        #[test]
        fn runs_are_a_set_of_seconds(
            added in proptest::collection::vec((0..60u64, 1..12u64), 0..20),
            wanted in (0..60u64, 1..30u64),
        ) {
            let (mut runs, mut model) = (Runs::default(), BTreeSet::new());
            for (start_s, length) in added {
                runs.insert(seconds(start_s, start_s + length));
                model.extend(start_s..start_s + length);
            }
            let apart = runs.0.windows(2).all(|pair| pair[0].end_s < pair[1].start_s);
            prop_assert!(apart, "{runs:?}");
            let all: BTreeSet<u64> = runs.iter().flat_map(|run| run.start_s..run.end_s).collect();
            prop_assert_eq!(&all, &model);
            let wanted = seconds(wanted.0, wanted.0 + wanted.1);
            let found: BTreeSet<u64> =
                runs.within(wanted).flat_map(|run| run.start_s..run.end_s).collect();
            let expected = model.range(wanted.start_s..wanted.end_s).copied().collect();
            prop_assert_eq!(found, expected);
        }
    }
}
