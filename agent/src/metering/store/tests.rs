//! Whatever the disk does: what was kept reaches the ledger, nothing is sent in two forms, and nothing that was not used.

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::sync::Arc;

use novacron_protocol::ids::{Generation, VmId};
use novacron_protocol::limits::USAGE_RECORDS_PER_BATCH_MAX;
use novacron_protocol::time::Timestamp;
use novacron_protocol::usage::{Meter, RecordOutcome, UsageRecord};
use novacron_storage::disk::{Disk, Failure, SimulatedDisk};
use proptest::collection::vec;
use proptest::prelude::*;
use uuid::Uuid;

use super::*;
use crate::metering::meters::{Held, SERIES_MAX};

const BEGIN: Reading = Reading { wall_ms: 1_767_225_600_400, monotonic_ms: 5_400 };

fn boot() -> Option<Uuid> {
    Some(Uuid::from_u128(7))
}

fn vm() -> VmId {
    VmId(Uuid::from_u128(1))
}

#[derive(Debug, Clone)]
enum Step {
    Pass { ms: u64 },
    Start,
    Stop,
    Cut,
    Send { is_answered: bool },
}

/// One life of the agent: what goes wrong with the disk after how many operations, what the agent does, and whether the
/// guest ends once it is dead.
#[derive(Debug, Clone)]
struct Life {
    failure: Failure,
    after: u64,
    steps: Vec<Step>,
    guest_ends: bool,
    host_ends: bool,
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        3 => (1u64..400_000).prop_map(|ms| Step::Pass { ms }),
        2 => Just(Step::Start),
        2 => Just(Step::Stop),
        3 => Just(Step::Cut),
        3 => any::<bool>().prop_map(|is_answered| Step::Send { is_answered }),
    ]
}

fn life() -> impl Strategy<Value = Life> {
    let failure = prop_oneof![
        2 => Just(Failure::PowerCut),
        1 => Just(Failure::Error(io::ErrorKind::Other)),
    ];
    let ends = (any::<bool>(), any::<bool>());
    (failure, 1u64..120, vec(step(), 1..25), ends).prop_map(|(failure, after, steps, ends)| {
        let (guest_ends, host_ends) = ends;
        Life { failure, after, steps, guest_ends, host_ends }
    })
}

/// A ledger that takes everything once.
#[derive(Debug, Default)]
struct Ledger {
    records: BTreeMap<u128, UsageRecord>,
    seconds: BTreeSet<u64>,
}

impl Ledger {
    fn post(&mut self, record: &UsageRecord) {
        assert_eq!(record.check(), Ok(()));
        if let Some(known) = self.records.insert(record.id(), *record) {
            assert_eq!(known, *record, "sent twice, in two forms");
            return;
        }
        for second_s in record.start_s..record.end_s {
            assert!(self.seconds.insert(second_s), "second {second_s} is sent twice: {record:?}");
        }
    }
}

struct Agent {
    store: Store,
    meters: Meters,
    waiting: Vec<UsageRecord>,
}

struct World {
    disk: SimulatedDisk,
    boot: u128,
    now: Reading,
    runs: bool,
    used: BTreeSet<u64>,
    since: Reading,
    /// When the agent saw the guest start that runs, and whether that is durable.
    seen_since: Reading,
    is_durable: bool,
    /// Seconds that a durable mark covers.
    marked: BTreeSet<u64>,
    kept: Vec<UsageRecord>,
    ledger: Ledger,
}

impl World {
    fn new(seed: u64) -> Self {
        Self {
            disk: SimulatedDisk::new(seed),
            boot: 7,
            now: BEGIN,
            runs: false,
            used: BTreeSet::new(),
            since: BEGIN,
            seen_since: BEGIN,
            is_durable: false,
            marked: BTreeSet::new(),
            kept: Vec::new(),
            ledger: Ledger::default(),
        }
    }

    fn set(&mut self, runs: bool) {
        if self.runs && !runs {
            self.used.extend(self.since.wall_s()..self.now.wall_ms.div_ceil(1000));
        }
        if !self.runs {
            self.since = self.now;
        }
        self.runs = runs;
    }

    fn boot(&self) -> Option<Uuid> {
        Some(Uuid::from_u128(self.boot))
    }

    fn held(&self) -> Held {
        Held { generation: Generation(1), runs: self.runs, disk_bytes: 0, snapshots: 0 }
    }

    fn begin(&mut self) -> Result<Agent, StoreError> {
        let disk: Arc<dyn Disk> = Arc::new(self.disk.clone());
        let (store, meters, waiting) = Store::open(disk, self.boot(), self.now)?;
        let mut agent = Agent { store, meters, waiting };
        if !self.is_durable {
            self.seen_since = self.now;
        }
        agent.waiting.extend(agent.meters.hold(self.now, vm(), Some(&self.held())).0);
        agent.waiting.extend(agent.meters.settle(self.now));
        self.keep(&mut agent)?;
        Ok(agent)
    }

    fn keep(&mut self, agent: &mut Agent) -> Result<(), StoreError> {
        let series = agent.meters.remembered();
        let mark = Mark { boot: self.boot(), at: self.now, series };
        agent.store.keep(&agent.waiting, &mark)?;
        self.kept.append(&mut agent.waiting);
        if self.runs {
            self.marked.extend(self.seen_since.wall_s()..self.now.wall_s());
        }
        self.is_durable = self.runs;
        Ok(())
    }

    fn send(&mut self, agent: &mut Agent, is_answered: bool) -> Result<bool, StoreError> {
        let Some(batch) = agent.store.oldest()? else { return Ok(false) };
        assert!(batch.records.len() <= USAGE_RECORDS_PER_BATCH_MAX);
        batch.records.iter().for_each(|record| self.ledger.post(record));
        if is_answered {
            agent.store.finish(&batch, &[], &[], Timestamp::default())?;
        }
        Ok(is_answered)
    }

    fn take(&mut self, agent: &mut Agent, step: &Step) -> Result<(), StoreError> {
        match *step {
            Step::Pass { ms } => {
                self.now.wall_ms += ms;
                self.now.monotonic_ms += ms;
                return Ok(());
            }
            Step::Send { is_answered } => return self.send(agent, is_answered).map(drop),
            Step::Start => {
                if !self.runs {
                    (self.seen_since, self.is_durable) = (self.now, false);
                }
                self.set(true);
            }
            Step::Stop => self.set(false),
            Step::Cut => agent.waiting.extend(agent.meters.cut(self.now, 300)),
        }
        agent.waiting.extend(agent.meters.hold(self.now, vm(), Some(&self.held())).0);
        self.keep(agent)
    }

    fn live(&mut self, life: &Life) {
        self.disk.fail_at(self.disk.operations() + life.after, life.failure);
        if let Ok(mut agent) = self.begin() {
            for step in &life.steps {
                // What fails is tried again with the next step, as long as there is power.
                if self.take(&mut agent, step).is_err() && !self.disk.has_power() {
                    break;
                }
            }
        }
        self.disk.clear_failures();
        self.disk.restart();
        if life.guest_ends || life.host_ends {
            self.set(false);
            self.is_durable = false;
        }
        if life.host_ends {
            self.boot += 1;
            self.now.monotonic_ms = 1_000;
        }
        self.now.wall_ms += 1_234;
        self.now.monotonic_ms += 1_234;
    }

    /// At last the disk works, and a coordinator answers.
    fn end(&mut self) {
        self.disk.cut_power();
        self.disk.restart();
        let mut agent = self.begin().unwrap();
        self.take(&mut agent, &Step::Stop).unwrap();
        while self.send(&mut agent, true).unwrap() {}
        assert_eq!((agent.store.waiting_records(), agent.store.waiting_bytes()), (0, 0));
    }
}

proptest! {
    #[test]
    fn what_is_kept_is_told_once_whatever_the_disk_does(
        seed in any::<u64>(),
        lives in vec(life(), 1..6),
    ) {
        let mut world = World::new(seed);
        lives.iter().for_each(|life| world.live(life));
        world.end();
        for record in &world.kept {
            prop_assert_eq!(world.ledger.records.get(&record.id()), Some(record));
        }
        let lost: Vec<_> = world.marked.difference(&world.ledger.seconds).collect();
        prop_assert!(lost.is_empty(), "{:?} are not told", lost);
        let invented: Vec<_> = world.ledger.seconds.difference(&world.used).collect();
        prop_assert!(invented.is_empty(), "{:?} were not used", invented);
    }
}

fn record(number: u64) -> UsageRecord {
    let (vm, generation) = (VmId(Uuid::from_u128(u128::from(number))), Generation(1));
    UsageRecord { vm, generation, meter: Meter::VmSeconds, start_s: 10, end_s: 11, level: 1 }
}

fn open(disk: &SimulatedDisk) -> Store {
    Store::open(Arc::new(disk.clone()), boot(), BEGIN).unwrap().0
}

fn mark() -> Mark {
    Mark { boot: boot(), at: BEGIN, series: Vec::new() }
}

#[test]
fn a_full_disk_keeps_nothing_until_there_is_room() {
    let disk = SimulatedDisk::new(0);
    let mut store = open(&disk);
    store.keep(&[record(1)], &mark()).unwrap();
    disk.set_capacity_bytes(Some(400));
    let more: Vec<UsageRecord> = (2..50).map(record).collect();
    assert!(matches!(store.keep(&more, &mark()), Err(StoreError::Journal(JournalError::Log(_)))));
    assert!(store.keep(&more, &mark()).is_err());
    disk.set_capacity_bytes(None);
    store.keep(&more, &mark()).unwrap();
    assert_eq!(store.waiting_records(), 49);
    assert_eq!(store.oldest().unwrap().unwrap().records.len(), 49);
}

#[test]
fn batches_are_bounded_and_go_in_order() {
    let disk = SimulatedDisk::new(0);
    let mut store = open(&disk);
    let many: Vec<UsageRecord> = (0..2_500).map(record).collect();
    store.keep(&many[..10], &mark()).unwrap();
    store.keep(&many[10..], &mark()).unwrap();
    let mut told = Vec::new();
    while let Some(batch) = store.oldest().unwrap() {
        assert_eq!(store.oldest().unwrap().as_ref(), Some(&batch));
        told.extend(batch.records.clone());
        store.finish(&batch, &[], &[], Timestamp::default()).unwrap();
    }
    assert_eq!(told, many);
}

#[test]
fn what_the_meters_do_not_remember_yet_is_not_sent() {
    let disk = SimulatedDisk::new(0);
    let mut store = open(&disk);
    // The journal takes an append and a sync; then the mark fails.
    disk.fail_at(disk.operations() + 3, Failure::Error(io::ErrorKind::Other));
    assert!(matches!(store.keep(&[record(1)], &mark()), Err(StoreError::Record(_))));
    assert_eq!(store.waiting_records(), 1);
    assert_eq!(store.oldest().unwrap(), None);
    store.keep(&[], &mark()).unwrap();
    assert_eq!(store.oldest().unwrap().unwrap().records, [record(1)]);
}

#[test]
fn the_rest_of_a_conflict_is_sent_and_what_is_refused_is_in_a_file() {
    let root = tempfile::tempdir().unwrap();
    let disk: Arc<dyn Disk> =
        Arc::new(novacron_storage::disk::RealDisk::open(root.path()).unwrap());
    let (mut store, ..) = Store::open(disk, boot(), BEGIN).unwrap();
    store.keep(&[record(1), record(2)], &mark()).unwrap();
    let batch = store.oldest().unwrap().unwrap();
    let refused = [(record(2), RecordOutcome::UnknownVm)];
    for _ in 0..2 {
        store.finish(&batch, &[record(3)], &refused, Timestamp::from_unix_ms(1)).unwrap();
        assert_eq!(store.oldest().unwrap().unwrap().records, [record(3)]);
        let rest = store.oldest().unwrap().unwrap();
        store.finish(&rest, &[], &[], Timestamp::default()).unwrap();
    }
    let lines = std::fs::read_to_string(root.path().join("usage/refused")).unwrap();
    let expected = format!(
        "{{\"at\":\"1970-01-01T00:00:00.001Z\",\"id\":\"{:032x}\",\"record\":{},\"outcome\":\"unknown_vm\"}}\n",
        record(2).id(),
        serde_json::to_string(&record(2)).unwrap(),
    );
    assert_eq!(lines, expected.repeat(2));
}

/// As many series as there can be fit into a record.
#[test]
fn a_mark_of_a_full_host_can_be_written() {
    let disk = SimulatedDisk::new(0);
    let mut store = open(&disk);
    let mut meters = Meters::default();
    let held = Held { generation: Generation(1), runs: true, disk_bytes: 1, snapshots: 1 };
    for number in 0..SERIES_MAX.div_ceil(3) as u128 {
        meters.hold(BEGIN, VmId(Uuid::from_u128(number)), Some(&held));
    }
    let mark = Mark { series: meters.remembered(), ..mark() };
    assert!(mark.series.len() >= SERIES_MAX);
    store.keep(&[], &mark).unwrap();
}

/// If this fails, the layout has changed: raise the version.
#[test]
fn golden_mark() {
    let mut meters = Meters::default();
    let held = Held { generation: Generation(1), runs: true, disk_bytes: 5, snapshots: 0 };
    meters.hold(BEGIN, vm(), Some(&held));
    meters.hold(BEGIN, VmId(Uuid::from_u128(2)), Some(&Held { runs: false, ..held }));
    meters.hold(BEGIN, VmId(Uuid::from_u128(2)), None);
    let bytes = codec::encode(&Mark { series: meters.remembered(), ..mark() }).unwrap();
    assert_eq!(
        (Mark::VERSION, bytes.len(), xxhash_rust::xxh3::xxh3_64(&bytes)),
        (1, 245, 12_832_553_257_208_278_665)
    );
}
