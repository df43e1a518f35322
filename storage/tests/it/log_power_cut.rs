//! Whatever the disk does, what was acknowledged is there, and nothing that was never written.

use std::sync::Arc;

use novacron_storage::disk::{Disk, Failure, SimulatedDisk};
use novacron_storage::log::{Log, LogError, LogOptions};
use proptest::collection::vec;
use proptest::prelude::*;

use crate::cipher::TestCipher;
use crate::model::{Model, Step, step};
use crate::seeds::{for_each_seed, value_of};

const SMALL: LogOptions = LogOptions { segment_bytes_max: 2000, cache_bytes_max: 400 };

/// One life of a process: what goes wrong, after how many operations of the disk, and what the
/// process does until then.
type Life = (Failure, u64, Vec<Step>);

fn lives() -> impl Strategy<Value = Vec<Life>> {
    let failure = prop_oneof![
        3 => Just(Failure::PowerCut),
        1 => Just(Failure::Error(std::io::ErrorKind::Other)),
    ];
    vec((failure, 1u64..90, vec(step(), 1..25)), 2..8)
}

/// A log over several lives, with what it may be when it is opened next.
struct Survivor {
    disk: SimulatedDisk,
    /// What the log is encrypted with, if it is. It refuses to use a number twice, over all lives.
    cipher: Option<TestCipher>,
    /// What was acknowledged, and that with the write that was under way: never both parts of it.
    possible: Vec<Model>,
    stamp: u64,
}

impl Survivor {
    fn new(seed: u64, cipher: Option<TestCipher>) -> Survivor {
        let disk = SimulatedDisk::new(seed);
        Survivor { disk, cipher, possible: vec![Model::default()], stamp: 0 }
    }

    fn live(&mut self, (failure, after, steps): &Life) {
        self.disk.fail_at(self.disk.operations() + after, *failure);
        if let Ok((log, model)) = self.open() {
            self.run(log, model, steps);
        }
        self.disk.clear_failures();
        self.disk.restart();
    }

    fn open(&mut self) -> Result<(Log, Model), LogError> {
        let disk: Arc<dyn Disk> = match &self.cipher {
            Some(cipher) => cipher.disk(&self.disk),
            None => Arc::new(self.disk.clone()),
        };
        let log = Log::open(disk, "log", SMALL);
        if let Err(LogError::Damaged(damaged)) = &log {
            panic!("a failure of the disk was taken for damage: {damaged}");
        }
        let log = log?;
        let model = Model::read(&log)?;
        assert!(self.possible.contains(&model), "{model:?} is none of {:?}", self.possible);
        self.possible = vec![model.clone()];
        Ok((log, model))
    }

    fn run(&mut self, mut log: Log, mut model: Model, steps: &[Step]) {
        for step in steps {
            self.stamp += 1;
            let call = step.resolve(&model, self.stamp);
            let before = model.clone();
            call.on_model(&mut model);
            if call.on_log(&mut log).is_err() {
                self.possible = vec![before.reopened(), model.reopened()];
                assert!(matches!(log.set_vote("late"), Err(LogError::Failed { .. })));
                return;
            }
            self.possible = vec![model.reopened()];
        }
        // The process dies without a word, in time before the failure.
    }
}

#[test]
fn the_acknowledged_survives_and_nothing_is_invented() {
    survive(400, || None);
}

#[test]
fn the_acknowledged_survives_encrypted() {
    survive(200, || Some(TestCipher::new(&[1])));
}

fn survive(seeds: u64, cipher: impl Fn() -> Option<TestCipher>) {
    for_each_seed(seeds, |seed| {
        let mut survivor = Survivor::new(seed, cipher());
        for life in value_of(&lives(), seed) {
            survivor.live(&life);
        }
        survivor.disk.cut_power();
        survivor.disk.restart();
        survivor.open().unwrap();
    });
}

#[test]
fn a_full_disk_stops_the_log_until_it_is_opened_with_room() {
    let disk = SimulatedDisk::new(0);
    disk.set_capacity_bytes(Some(3000));
    let open = || Log::open(Arc::new(disk.clone()), "log", SMALL).unwrap();
    let mut log = open();
    let full = (0..).find_map(|index| log.append(index, [vec![1; 150].into()]).err()).unwrap();
    let LogError::Failed { first } = full else { panic!("{full}") };
    assert!(first.is_full());
    assert!(matches!(log.set_vote("late"), Err(LogError::Failed { .. })));
    let acknowledged = Model::of(&log);

    drop(log);
    let mut log = open();
    assert_eq!(Model::of(&log), acknowledged);
    assert!(log.append(log.last_index().unwrap() + 1, [vec![1; 150].into()]).is_err());

    disk.set_capacity_bytes(None);
    let mut log = open();
    assert_eq!(Model::of(&log), acknowledged);
    log.append(log.last_index().unwrap() + 1, [vec![1; 150].into()]).unwrap();
}
