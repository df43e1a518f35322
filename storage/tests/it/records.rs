//! Records: each is the old one or the new one, whatever happens in between.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;

use novacron_storage::Damage;
use novacron_storage::disk::{Disk, Failure, RealDisk, SimulatedDisk};
use novacron_storage::record::{RECORD_BYTES_MAX, RecordError, RecordStore};
use proptest::prelude::*;

use crate::seeds::{for_each_seed, value_of};

fn open(disk: &SimulatedDisk) -> Result<RecordStore, RecordError> {
    RecordStore::open(Arc::new(disk.clone()), "records")
}

#[test]
fn records_are_put_replaced_listed_and_removed() {
    let directory = tempfile::tempdir().unwrap();
    let disk = Arc::new(RealDisk::open(directory.path()).unwrap());
    let store = RecordStore::open(disk.clone(), "some/records").unwrap();
    store.put("web-01", b"first").unwrap();
    store.put("web-01", b"second").unwrap();
    store.put("db.temporary", b"").unwrap();
    let store = RecordStore::open(disk, "some/records").unwrap();
    assert_eq!(store.list().unwrap(), ["db.temporary", "web-01"]);
    assert_eq!(store.get("web-01").unwrap().unwrap(), "second");
    assert_eq!(store.get("db.temporary").unwrap().unwrap(), "");
    store.remove("web-01").unwrap();
    store.remove("web-01").unwrap();
    assert_eq!(store.get("web-01").unwrap(), None);
    assert_eq!(store.list().unwrap(), ["db.temporary"]);
}

#[test]
fn a_directory_belongs_to_one_process_and_its_files_to_its_user() {
    use std::os::unix::fs::PermissionsExt;

    let directory = tempfile::tempdir().unwrap();
    let root = directory.path().join("data");
    let disk = Arc::new(RealDisk::open(&root).unwrap());
    assert!(RealDisk::open(&root).unwrap_err().is_in_use());
    let store = RecordStore::open(disk.clone(), "records").unwrap();
    store.put("one", b"1").unwrap();
    let mode = |path: &str| root.join(path).metadata().unwrap().permissions().mode() & 0o777;
    assert_eq!((mode(""), mode("records")), (0o700, 0o700));
    assert_eq!(mode("records/one.record"), 0o600);
    assert!(disk.open("../outside".as_ref()).is_err());
    drop((store, disk));
    RealDisk::open(&root).unwrap();
}

#[test]
fn bad_names_and_sizes_are_refused() {
    let store = open(&SimulatedDisk::new(0)).unwrap();
    assert!(matches!(store.put("../up", b""), Err(RecordError::InvalidName { .. })));
    assert!(matches!(store.get(""), Err(RecordError::InvalidName { .. })));
    let large = vec![0; RECORD_BYTES_MAX + 1];
    assert!(matches!(store.put("large", &large), Err(RecordError::TooLarge { .. })));
    store.put("large", &large[1..]).unwrap();
}

#[test]
fn a_record_that_was_renamed_or_changed_is_refused() {
    let disk = SimulatedDisk::new(0);
    let store = open(&disk).unwrap();
    store.put("one", b"1").unwrap();
    disk.flip_bit(Path::new("records/one.record"), 35, 0);
    let Err(RecordError::Damaged(damaged)) = store.get("one") else { panic!("served") };
    assert_eq!(damaged.damage, Damage::ContentChecksum);
    store.put("one", b"1").unwrap();
    disk.rename("records/one.record".as_ref(), "records/two.record".as_ref()).unwrap();
    let Err(RecordError::Damaged(damaged)) = store.get("two") else { panic!("served") };
    assert!(matches!(damaged.damage, Damage::Misplaced(_)));
}

type Records = BTreeMap<String, Vec<u8>>;

fn read(store: &RecordStore) -> Result<Records, RecordError> {
    let mut records = Records::new();
    for name in store.list()? {
        let bytes = store.get(&name)?.expect("a listed record is there");
        records.insert(name, bytes.to_vec());
    }
    Ok(records)
}

#[test]
fn acknowledged_records_survive() {
    let failure =
        prop_oneof![Just(Failure::PowerCut), Just(Failure::Error(std::io::ErrorKind::Other))];
    let change = (0u8..3, proptest::option::of(any::<u8>()));
    let failures = proptest::collection::vec((failure, 1u64..60), 1..4);
    let life = (failures, proptest::collection::vec(change, 1..12));
    let lives = proptest::collection::vec(life, 1..8);
    for_each_seed(300, |seed| {
        let disk = SimulatedDisk::new(seed);
        let mut possible = vec![Records::new()];
        for (failures, changes) in value_of(&lives, seed) {
            for (failure, after) in failures {
                disk.fail_at(disk.operations() + after, failure);
            }
            let _ = live(&disk, &changes, &mut possible);
            disk.clear_failures();
            disk.restart();
        }
        disk.cut_power();
        disk.restart();
        let records = read(&open(&disk).unwrap()).unwrap();
        assert!(possible.contains(&records), "{records:?} is none of {possible:?}");
    });
}

/// Puts and removes records; goes on after an error, as a process may, while the power is on.
fn live(
    disk: &SimulatedDisk,
    changes: &[(u8, Option<u8>)],
    possible: &mut Vec<Records>,
) -> Result<(), RecordError> {
    let store = open(disk)?;
    for (number, value) in changes {
        let found = match read(&store) {
            Err(_) if disk.has_power() => continue,
            found => found?,
        };
        assert!(possible.contains(&found), "{found:?} is none of {possible:?}");
        *possible = vec![found.clone()];
        let name = format!("record-{number}");
        let mut next = found.clone();
        let result = match value {
            Some(value) => {
                next.insert(name.clone(), vec![*value; 700]);
                *possible = vec![found, next.clone()];
                store.put(&name, &[*value; 700])
            }
            None => {
                next.remove(&name);
                *possible = vec![found, next.clone()];
                store.remove(&name)
            }
        };
        if result.is_ok() {
            *possible = vec![next];
        }
    }
    Ok(())
}
