//! Snapshots: whole or not there, the newest two kept.

use std::path::PathBuf;
use std::sync::Arc;

use novacron_storage::Damage;
use novacron_storage::disk::{Disk, Failure, SimulatedDisk};
use novacron_storage::snapshot::{SnapshotError, SnapshotStore};
use proptest::prelude::*;

use crate::seeds::{for_each_seed, value_of};

fn open(disk: &SimulatedDisk) -> Result<SnapshotStore, SnapshotError> {
    SnapshotStore::open(Arc::new(disk.clone()), "snapshots")
}

/// Description and data.
type Latest = Option<(Vec<u8>, Vec<u8>)>;

fn latest(store: &SnapshotStore) -> Result<Latest, SnapshotError> {
    let Some(snapshot) = store.latest()? else { return Ok(None) };
    Ok(Some((snapshot.meta().to_vec(), snapshot.data()?)))
}

fn files(disk: &SimulatedDisk) -> Vec<PathBuf> {
    let names = disk.list("snapshots".as_ref()).unwrap();
    names.iter().map(|name| PathBuf::from("snapshots").join(name)).collect()
}

#[test]
fn the_newest_two_are_kept_over_reopening() {
    let disk = SimulatedDisk::new(0);
    let store = open(&disk).unwrap();
    assert!(store.latest().unwrap().is_none());
    for count in 1..=3u8 {
        store.write(&[count], &vec![count; 10_000]).unwrap();
    }
    let store = open(&disk).unwrap();
    let id = store.write(b"four", b"4444").unwrap();
    assert_eq!(store.ids().unwrap().len(), 2);
    let latest = store.latest().unwrap().unwrap();
    assert_eq!((latest.id(), latest.data_bytes()), (id, 4));
    let older = store.read(store.ids().unwrap()[0]).unwrap().unwrap();
    assert_eq!(older.meta(), [3].as_slice());
    let mut part = [0; 5];
    older.read_at(9_995, &mut part).unwrap();
    assert_eq!(part, [3; 5]);
    assert!(older.read_at(9_996, &mut part).is_err());
}

#[test]
fn an_open_snapshot_outlives_its_removal() {
    let store = open(&SimulatedDisk::new(0)).unwrap();
    store.write(b"1", b"first").unwrap();
    let first = store.latest().unwrap().unwrap();
    store.write(b"2", b"second").unwrap();
    store.write(b"3", b"third").unwrap();
    assert!(store.read(first.id()).unwrap().is_none());
    assert_eq!(first.data().unwrap(), b"first");
}

#[test]
fn a_damaged_newest_snapshot_is_refused_and_the_older_one_is_still_there() {
    let disk = SimulatedDisk::new(0);
    let store = open(&disk).unwrap();
    store.write(b"1", b"first").unwrap();
    store.write(b"2", b"second").unwrap();
    let newest = files(&disk).pop().unwrap();
    for offset in 0..disk.open(&newest).unwrap().len().unwrap() {
        disk.flip_bit(&newest, offset, 3);
        let Err(SnapshotError::Damaged(damaged)) = open(&disk).unwrap().latest() else {
            panic!("byte {offset} is not missed")
        };
        assert_eq!(damaged.file, newest);
        disk.flip_bit(&newest, offset, 3);
    }
    disk.open(&newest).unwrap().append(b"more").unwrap();
    let Err(SnapshotError::Damaged(damaged)) = store.latest() else { panic!("more is no matter") };
    assert_eq!(damaged.damage, Damage::Long);
    for length_bytes in (0..39).rev() {
        disk.open(&newest).unwrap().truncate(length_bytes).unwrap();
        let Err(SnapshotError::Damaged(damaged)) = store.latest() else { panic!("less is enough") };
        assert_eq!((damaged.offset, damaged.damage), (length_bytes, Damage::Short));
    }
    let oldest = store.ids().unwrap()[0];
    assert_eq!(store.read(oldest).unwrap().unwrap().data().unwrap(), b"first");
}

#[test]
fn a_full_disk_keeps_the_old_snapshot_and_its_own_space() {
    let disk = SimulatedDisk::new(0);
    let store = open(&disk).unwrap();
    store.write(b"1", &[1; 1000]).unwrap();
    disk.set_capacity_bytes(Some(2000));
    let Err(SnapshotError::Disk(error)) = store.write(b"2", &[2; 1000]) else { panic!("it fit") };
    assert!(error.is_full());
    assert_eq!(files(&disk).len(), 1, "what was written by half is gone");
    assert_eq!(latest(&store).unwrap(), Some((b"1".to_vec(), vec![1; 1000])));
    store.write(b"3", &[3; 100]).unwrap();
}

#[test]
fn the_latest_acknowledged_snapshot_survives() {
    let lives = proptest::collection::vec(
        (
            prop_oneof![Just(Failure::PowerCut), Just(Failure::Error(std::io::ErrorKind::Other))],
            1u64..40,
        ),
        1..8,
    );
    for_each_seed(300, |seed| {
        let disk = SimulatedDisk::new(seed);
        let mut stamp = 0u8;
        let mut possible = vec![None];
        for (failure, after) in value_of(&lives, seed) {
            disk.fail_at(disk.operations() + after, failure);
            let _ = live(&disk, &mut stamp, &mut possible);
            disk.clear_failures();
            disk.restart();
        }
        disk.cut_power();
        disk.restart();
        let store = open(&disk).unwrap();
        assert!(possible.contains(&latest(&store).unwrap()));
        store.write(b"last", b"snapshot").unwrap();
        assert!(files(&disk).len() <= 2, "the next one cleans up after all that failed");
    });
}

/// Writes a few snapshots, or until the disk fails. `possible` is what the latest may be then.
fn live(
    disk: &SimulatedDisk,
    stamp: &mut u8,
    possible: &mut Vec<Latest>,
) -> Result<(), SnapshotError> {
    let store = open(disk)?;
    for _ in 0..6 {
        let found = latest(&store)?;
        assert!(possible.contains(&found), "{found:?} is none of {possible:?}");
        *stamp = stamp.wrapping_add(1);
        let next = (vec![*stamp; 20], vec![*stamp; 1500]);
        *possible = vec![found, Some(next.clone())];
        store.write(&next.0, &next.1)?;
        *possible = vec![Some(next)];
    }
    Ok(())
}
