//! The log does what a few maps do, however it is rotated, cached and reopened.

use std::sync::Arc;

use novacron_storage::disk::{Disk, RealDisk, SimulatedDisk};
use novacron_storage::log::{Log, LogError, LogOptions, RECORD_BYTES_MAX};
use proptest::collection::vec;
use proptest::prelude::*;

use crate::cipher::TestCipher;
use crate::model::{Model, Step, step};

/// Small enough that a few steps fill several segments and overflow the cache.
const SMALL: LogOptions = LogOptions { segment_bytes_max: 900, cache_bytes_max: 400 };

fn open(disk: &Arc<dyn Disk>) -> Log {
    Log::open(Arc::clone(disk), "log", SMALL).unwrap()
}

fn assert_same(log: &Log, model: &Model) {
    assert_eq!(Model::of(log), model.shown());
    assert_eq!(log.first_index(), model.entries.keys().next().copied());
    assert_eq!(log.last_index(), model.last_index());
    for (index, bytes) in &model.entries {
        assert_eq!(log.entry(*index).unwrap().as_ref(), Some(bytes));
    }
}

/// Follows the steps on a log and a model; `true` reopens before the step.
fn follow(disk: Arc<dyn Disk>, steps: &[(bool, Step)]) {
    let (mut log, mut model) = (open(&disk), Model::default());
    for (stamp, (reopen, step)) in (1..).zip(steps) {
        if *reopen {
            drop(log);
            log = open(&disk);
            model = model.reopened();
        }
        let call = step.resolve(&model, stamp);
        call.on_log(&mut log).unwrap();
        call.on_model(&mut model);
        assert_same(&log, &model);
    }
}

fn steps() -> impl Strategy<Value = Vec<(bool, Step)>> {
    vec((prop::bool::weighted(0.15), step()), 1..60)
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 150, failure_persistence: None, ..Default::default() })]

    #[test]
    fn a_log_is_its_model(steps in steps()) {
        follow(Arc::new(SimulatedDisk::new(0)), &steps);
    }

    #[test]
    fn an_encrypted_log_is_its_model(steps in steps()) {
        follow(TestCipher::new(&[1]).disk(&SimulatedDisk::new(0)), &steps);
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 3, failure_persistence: None, ..Default::default() })]

    #[test]
    fn a_log_on_a_real_disk_is_its_model(steps in steps()) {
        let directory = tempfile::tempdir().unwrap();
        follow(Arc::new(RealDisk::open(directory.path()).unwrap()), &steps);
    }
}

#[test]
fn purging_removes_whole_segments_and_keeps_what_they_told() {
    let disk = SimulatedDisk::new(0);
    let shared: Arc<dyn Disk> = Arc::new(disk.clone());
    let mut log = open(&shared);
    log.set_vote("vote").unwrap();
    log.set_committed("committed").unwrap();
    for index in 0..50 {
        log.append(index, [vec![7; 100].into()]).unwrap();
    }
    let names = || disk.list("log".as_ref()).unwrap();
    assert!(names().len() > 5);
    log.purge(48, "the purge").unwrap();
    assert_eq!(names().len(), 1);
    let model = Model::of(&log);
    drop(log);
    let log = open(&shared);
    assert_eq!(Model::of(&log), model);
    assert_eq!(log.vote().unwrap(), "vote");
    assert_eq!(log.committed().unwrap(), "committed");
    assert_eq!(log.purged().unwrap().description, "the purge");
}

#[test]
fn an_append_of_many_entries_is_synced_once() {
    let disk = SimulatedDisk::new(0);
    let mut log = Log::open(Arc::new(disk.clone()), "log", LogOptions::default()).unwrap();
    let before = disk.operations();
    log.append(0, vec!["entry".into(); 1000]).unwrap();
    assert_eq!(disk.operations() - before, 2, "one append, one sync");
}

#[test]
fn reads_stop_at_the_bytes_asked_for_but_give_at_least_one() {
    let mut log = open(&(Arc::new(SimulatedDisk::new(0)) as Arc<dyn Disk>));
    log.append(5, vec![vec![1; 100].into(); 10]).unwrap();
    let indexes = |range, bytes_max| -> Vec<u64> {
        log.entries(range, bytes_max).unwrap().into_iter().map(|(index, _)| index).collect()
    };
    assert_eq!(indexes(0..=u64::MAX, 1), [5]);
    assert_eq!(indexes(6..=u64::MAX, 250), [6, 7]);
    assert_eq!(indexes(13..=20, 1000), [13, 14]);
    assert_eq!(indexes(15..=20, 1000), [] as [u64; 0]);
}

#[test]
fn calls_that_would_leave_a_hole_change_nothing() {
    let mut log = open(&(Arc::new(SimulatedDisk::new(0)) as Arc<dyn Disk>));
    log.append(3, ["three".into(), "four".into()]).unwrap();
    assert!(matches!(
        log.append(6, ["six".into()]),
        Err(LogError::NotNext { expected: 5, found: 6 })
    ));
    assert!(matches!(log.append(4, ["four".into()]), Err(LogError::NotNext { expected: 5, .. })));
    assert!(matches!(log.purge(1, "one"), Err(LogError::NotNext { expected: 2, found: 1 })));
    log.purge(3, "three").unwrap();
    assert!(matches!(log.truncate(3), Err(LogError::Purged { index: 3, purged: 3 })));
    let too_large = vec![0; RECORD_BYTES_MAX + 1];
    let entries = ["five".into(), too_large.into()];
    assert!(matches!(log.append(5, entries), Err(LogError::TooLarge { .. })));
    assert_eq!((log.first_index(), log.last_index()), (Some(4), Some(4)));
    log.append(5, ["five".into()]).unwrap();
}
