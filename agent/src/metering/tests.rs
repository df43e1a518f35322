//! Meters against a host that knows what was used, second by second.

use std::collections::{BTreeMap, BTreeSet};

use novacron_protocol::ids::{Generation, VmId};
use novacron_protocol::usage::{Meter, UsageRecord};
use proptest::collection::vec;
use proptest::prelude::*;
use uuid::Uuid;

use super::meters::{Held, Meters, SeriesRecord};
use super::series::AHEAD_S_MAX;
use super::time::Reading;

const DISK_BYTES: u64 = 10 << 30;
const BEGIN_MS: u64 = 1_767_225_600_000 + 3_595_250;
const CUT_S: u64 = 300;

fn vm() -> VmId {
    VmId(Uuid::from_u128(1))
}

/// What happens on a host.
#[derive(Debug, Clone)]
enum Step {
    Pass {
        ms: u64,
    },
    Start,
    Stop,
    /// The agent makes durable what it knows.
    Mark,
    Cut,
    /// The wall clock is set, by whole seconds: where seconds begin is the wall clock's to say.
    Set {
        by_s: i64,
    },
    /// The agent is dead for a while; the guest may end meanwhile, and its files may show until when it lived.
    Restart {
        away_ms: u64,
        ends_after_ms: Option<u64>,
        shows: bool,
    },
}

fn step(sets_clock: bool) -> impl Strategy<Value = Step> {
    let by_s = prop_oneof![Just(3600i64), Just(-3600), -90i64..90];
    prop_oneof![
        5 => (1u64..20_000).prop_map(|ms| Step::Pass { ms }),
        2 => (1u64..1_500).prop_map(|ms| Step::Pass { ms }),
        1 => (60_000u64..9_000_000).prop_map(|ms| Step::Pass { ms }),
        3 => Just(Step::Start),
        3 => Just(Step::Stop),
        1 => Just(Step::Mark),
        2 => Just(Step::Cut),
        if sets_clock { 2 } else { 0 } => by_s.prop_map(|by_s| Step::Set { by_s }),
        1 => (1u64..100_000, proptest::option::of(0u64..100_000), any::<bool>()).prop_map(
            |(away_ms, ends_after_ms, shows)| Step::Restart { away_ms, ends_after_ms, shows },
        ),
    ]
}

/// A host with one machine whose agent may die.
struct Host {
    now: Reading,
    meters: Meters,
    /// What would be found after a crash, and when it was written.
    durable: (Vec<SeriesRecord>, Reading),
    used: Vec<UsageRecord>,
    runs: bool,
    /// When the guest ran, in milliseconds of the monotonic clock; the last may be open.
    truth: Vec<(u64, Option<u64>)>,
    /// Milliseconds that may be missing, because nobody saw the guest's end.
    unseen_ms: u64,
    unseen: u64,
    set_by_s: i64,
}

impl Host {
    fn new() -> Self {
        let now = Reading { wall_ms: BEGIN_MS, monotonic_ms: 77_250 };
        let mut host = Self {
            now,
            meters: Meters::default(),
            durable: (Vec::new(), now),
            used: Vec::new(),
            runs: false,
            truth: Vec::new(),
            unseen_ms: 0,
            unseen: 0,
            set_by_s: 0,
        };
        host.hold();
        host
    }

    fn hold(&mut self) {
        let held = Held {
            generation: Generation(1),
            runs: self.runs,
            disk_bytes: DISK_BYTES,
            snapshots: 0,
        };
        let (used, _) = self.meters.hold(self.now, vm(), Some(&held));
        self.keep(used);
    }

    /// What was used is durable together with what is remembered.
    fn keep(&mut self, used: Vec<UsageRecord>) {
        self.used.extend(used);
        self.durable = (self.meters.remembered(), self.now);
    }

    fn pass(&mut self, ms: u64) {
        self.now.wall_ms += ms;
        self.now.monotonic_ms += ms;
    }

    fn begins(&mut self, runs: bool) {
        if runs == self.runs {
            return;
        }
        self.runs = runs;
        match self.truth.last_mut() {
            Some((_, end @ None)) => *end = Some(self.now.monotonic_ms),
            _ => self.truth.push((self.now.monotonic_ms, None)),
        }
    }

    fn take(&mut self, step: &Step) {
        match *step {
            Step::Pass { ms } => self.pass(ms),
            Step::Start => {
                self.begins(true);
                self.hold();
            }
            Step::Stop => {
                self.begins(false);
                self.hold();
            }
            Step::Mark => self.keep(Vec::new()),
            Step::Cut => {
                let used = self.meters.cut(self.now, CUT_S);
                self.keep(used);
            }
            Step::Set { by_s } => self.set(by_s),
            Step::Restart { away_ms, ends_after_ms, shows } => {
                self.restart(away_ms, ends_after_ms.filter(|ms| *ms < away_ms), shows);
            }
        }
    }

    /// Within what puts itself right.
    fn set(&mut self, by_s: i64) {
        if (self.set_by_s + by_s).unsigned_abs() <= AHEAD_S_MAX / 2 {
            self.set_by_s += by_s;
            self.now.wall_ms = self.now.wall_ms.saturating_add_signed(by_s * 1000);
        }
    }

    fn restart(&mut self, away_ms: u64, ends_after_ms: Option<u64>, shows: bool) {
        let ended = ends_after_ms.filter(|_| self.runs).map(|ms| {
            self.pass(ms);
            self.begins(false);
            (self.now, ms)
        });
        let died = ended.map_or(0, |(_, ms)| ms);
        self.pass(away_ms - died);
        let (remembered, mark) = self.durable.clone();
        let (meters, used) = Meters::recover(remembered, &BTreeMap::new(), mark, self.now, true);
        self.meters = meters;
        self.used.extend(used);
        if let Some((end, _)) = ended {
            if shows {
                self.meters.sign(self.now, vm(), end.wall_ms);
            }
            self.unseen += 1;
            self.unseen_ms += end.monotonic_ms - mark.monotonic_ms;
        }
        self.hold();
        let used = self.meters.settle(self.now);
        self.keep(used);
    }

    fn end(&mut self) {
        self.begins(false);
        let (used, _) = self.meters.hold(self.now, vm(), None);
        self.keep(used);
    }

    /// Seconds that the guest started while it ran, in a clock that was never set.
    fn true_seconds(&self) -> BTreeSet<u64> {
        let ran = self.truth.iter().filter_map(|&(start_ms, end_ms)| Some((start_ms, end_ms?)));
        ran.flat_map(|(start_ms, end_ms)| start_ms / 1000..end_ms.div_ceil(1000)).collect()
    }

    fn check_records(&self) {
        for meter in [Meter::VmSeconds, Meter::DiskByteSeconds] {
            let mut of_meter: Vec<_> =
                self.used.iter().filter(|record| record.meter == meter).collect();
            of_meter.sort_by_key(|record| record.start_s);
            for record in &of_meter {
                assert_eq!(record.check(), Ok(()), "{record:?}");
            }
            for pair in of_meter.windows(2) {
                assert!(pair[0].end_s <= pair[1].start_s, "{pair:?} overlap");
            }
        }
    }

    fn seconds(&self, meter: Meter) -> u64 {
        let of_meter = self.used.iter().filter(|record| record.meter == meter);
        of_meter.map(|record| record.end_s - record.start_s).sum()
    }
}

fn run(steps: &[Step]) -> Host {
    let mut host = Host::new();
    steps.iter().for_each(|step| host.take(step));
    host.end();
    host.check_records();
    host
}

proptest! {
    /// As long as somebody sees every end, each started second is metered once, in its place, whatever cuts and
    /// restarts there are.
    #[test]
    fn every_started_second_is_metered_once(steps in vec(step(false), 1..60)) {
        let host = run(&steps);
        let shift_s = BEGIN_MS / 1000 - 77;
        let metered: BTreeSet<u64> = host
            .used
            .iter()
            .filter(|record| record.meter == Meter::VmSeconds)
            .flat_map(|record| record.start_s..record.end_s)
            .map(|second_s| second_s - shift_s)
            .collect();
        let used = host.true_seconds();
        prop_assert!(metered.is_subset(&used), "{:?} never ran", metered.difference(&used));
        let missing_s = (used.len() - metered.len()) as u64;
        prop_assert!(missing_s * 1000 <= host.unseen_ms + 1000 * host.unseen);
        let all_s = host.now.monotonic_ms.div_ceil(1000) - 77;
        prop_assert_eq!(host.seconds(Meter::DiskByteSeconds), all_s);
    }

    /// A clock that is set bills no time that did not pass and loses none that did.
    #[test]
    fn a_clock_that_is_set_changes_places_not_sums(steps in vec(step(true), 1..60)) {
        let host = run(&steps);
        let used_s = host.true_seconds().len() as u64;
        let metered_s = host.seconds(Meter::VmSeconds);
        prop_assert!(metered_s <= used_s, "{metered_s} of {used_s} s");
        let missing_ms = host.unseen_ms + 1000 * host.unseen;
        prop_assert!(used_s * 1000 <= metered_s * 1000 + missing_ms, "{metered_s} of {used_s} s");
    }
}

fn reading(second_ms: u64) -> Reading {
    Reading { wall_ms: BEGIN_MS - BEGIN_MS % 3_600_000 + second_ms, monotonic_ms: second_ms }
}

fn held(runs: bool) -> Held {
    Held { generation: Generation(1), runs, disk_bytes: 0, snapshots: 0 }
}

fn spans(records: &[UsageRecord]) -> Vec<(u64, u64)> {
    let hour_s = BEGIN_MS / 3_600_000 * 3600;
    records.iter().map(|record| (record.start_s - hour_s, record.end_s - hour_s)).collect()
}

/// Starts and stops a guest at these milliseconds, with the wall clock set in between.
fn spans_of(moments: &[(u64, i64, bool)]) -> Vec<(u64, u64)> {
    let mut meters = Meters::default();
    let mut used = Vec::new();
    for &(ms, set_s, runs) in moments {
        let mut now = reading(ms);
        now.wall_ms = now.wall_ms.saturating_add_signed(set_s * 1000);
        used.extend(meters.hold(now, vm(), Some(&held(runs))).0);
    }
    spans(&used)
}

#[test]
fn started_seconds_count_and_are_shared() {
    assert_eq!(spans_of(&[(10_900, 0, true), (11_100, 0, false)]), [(10, 12)]);
    let twice = [(10_100, 0, true), (10_200, 0, false), (10_300, 0, true), (10_400, 0, false)];
    assert_eq!(spans_of(&twice), [(10, 11)]);
    let again = [(10_100, 0, true), (10_200, 0, false), (10_900, 0, true), (11_001, 0, false)];
    assert_eq!(spans_of(&again), [(10, 11), (11, 12)]);
}

#[test]
fn an_hour_ends_a_record() {
    assert_eq!(
        spans_of(&[(3_599_000, 0, true), (7_200_500, 0, false)]),
        [(3599, 3600), (3600, 7200), (7200, 7201)]
    );
}

#[test]
fn an_hour_forth_while_it_runs_is_not_billed() {
    let moments = [(10_000, 0, true), (20_000, 3600, true), (30_000, 3600, false)];
    assert_eq!(spans_of(&moments), [(10, 20), (3620, 3630)]);
}

#[test]
fn an_hour_back_while_it_runs_goes_on_where_it_was() {
    let moments = [
        (10_000, 0, true),
        (20_000, -3600, true),
        (30_000, -3600, false),
        (40_000, -3600, true),
        (50_000, -3600, false),
        (60_000, 0, true),
        (70_000, 0, false),
    ];
    let back = spans_of(&moments.map(|(ms, set_s, runs)| (ms, set_s + 3600, runs)));
    assert_eq!(back, [(3610, 3630), (3640, 3650), (3660, 3670)]);
}

#[test]
fn a_clock_that_was_days_ahead_is_left_there() {
    let moments = [(10_000, 864_000, true), (20_000, 0, true), (30_000, 0, false)];
    assert_eq!(spans_of(&moments), [(864_010, 864_020), (20, 30)]);
}

#[test]
fn another_size_begins_with_the_next_second() {
    let mut meters = Meters::default();
    let size = |disk_bytes| Held { disk_bytes, ..held(false) };
    meters.hold(reading(10_000), vm(), Some(&size(1)));
    let (used, _) = meters.hold(reading(12_500), vm(), Some(&size(2)));
    assert_eq!((spans(&used), used[0].level), (vec![(10, 13)], 1));
    let (used, _) = meters.hold(reading(12_600), vm(), None);
    assert_eq!(spans(&used), []);
    meters.hold(reading(12_700), vm(), Some(&size(2)));
    let (used, _) = meters.hold(reading(13_500), vm(), None);
    assert_eq!((spans(&used), used[0].level), (vec![(13, 14)], 2));
}

/// What a host that was started anew finds of a guest and a disk.
fn after_boot(down_ms: u64) -> (Vec<UsageRecord>, Vec<UsageRecord>) {
    let mut meters = Meters::default();
    let both = Held { disk_bytes: 7, ..held(true) };
    meters.hold(reading(10_000), vm(), Some(&both));
    let mark = reading(15_400);
    let now = Reading { monotonic_ms: 500, ..reading(15_400 + down_ms) };
    let (mut meters, used) =
        Meters::recover(meters.remembered(), &BTreeMap::new(), mark, now, false);
    meters.sign(now, vm(), now.wall_ms);
    let later = Reading { wall_ms: now.wall_ms + 1000, monotonic_ms: 1500 };
    (used, meters.hold(later, vm(), None).0)
}

#[test]
fn a_host_that_went_down_took_its_guests_with_it_and_kept_its_disks() {
    let (guest, disk) = after_boot(100_000);
    assert_eq!(spans(&guest), [(10, 16)]);
    assert_eq!(spans(&disk), [(10, 116)]);
    let absurd_ms = 400 * 24 * 3_600_000;
    let (both, nothing) = after_boot(absurd_ms);
    assert_eq!(spans(&both), [(10, 16), (10, 16)]);
    assert_eq!(nothing, []);
}

#[test]
fn what_is_gone_after_a_restart_was_used_until_the_mark() {
    let mut meters = Meters::default();
    meters.hold(reading(10_000), vm(), Some(&held(true)));
    let (mut meters, _) = Meters::recover(
        meters.remembered(),
        &BTreeMap::new(),
        reading(20_500),
        reading(90_000),
        true,
    );
    assert_eq!(meters.cut(reading(90_000), 1), []);
    assert_eq!(spans(&meters.settle(reading(90_000))), [(10, 21)]);
    assert_eq!(meters.settle(reading(90_000)), []);
}

#[test]
fn a_guest_that_ends_while_the_agent_stands_still_is_metered_until_then_or_its_last_sign() {
    for (signed_ms, end_s) in [(None, 21), (Some(30_000), 30)] {
        let mut meters = Meters::default();
        meters.hold(reading(10_000), vm(), Some(&held(true)));
        meters.doubt(reading(20_500));
        let now = reading(90_000);
        if let Some(signed_ms) = signed_ms {
            meters.sign(now, vm(), reading(signed_ms).wall_ms);
        }
        let (used, _) = meters.hold(now, vm(), Some(&held(false)));
        assert_eq!(spans(&used), [(10, end_s)]);
    }
    let mut meters = Meters::default();
    meters.hold(reading(10_000), vm(), Some(&held(true)));
    meters.doubt(reading(20_500));
    meters.trust();
    let (used, _) = meters.hold(reading(90_000), vm(), Some(&held(false)));
    assert_eq!(spans(&used), [(10, 90)]);
}

#[test]
fn closed_series_are_forgotten_once_no_clock_can_come_back_to_them() {
    let mut meters = Meters::default();
    meters.hold(reading(10_000), vm(), Some(&held(true)));
    meters.hold(reading(11_000), vm(), None);
    meters.cut(reading(11_000 + AHEAD_S_MAX * 1000), 300);
    assert_eq!(meters.remembered().len(), 1);
    meters.cut(reading(12_000 + AHEAD_S_MAX * 1000), 300);
    assert_eq!(meters.remembered(), []);
}
