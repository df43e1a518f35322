//! The formats are promises: files written by the first version open for ever.
//!
//! A test that fails here asks for a new format version beside the old one, not for new bytes. To
//! add the files of a new version, set `NOVACRON_WRITE_GOLDEN` to a directory.

use std::path::Path;
use std::sync::Arc;

use novacron_storage::archive::{Archive, ContentHash};
use novacron_storage::disk::{Disk, SimulatedDisk};
use novacron_storage::log::{Log, LogOptions};
use novacron_storage::record::RecordStore;
use novacron_storage::snapshot::SnapshotStore;

use crate::cipher::TestCipher;

const LOG: &str = "log/00000000000000000001.log";
const RECORD: &str = "records/name.record";
const ARCHIVED: &str = "archive/name.archive";
const SNAPSHOT: &str = "snapshots/00000000000000000001.snapshot";

const GOLDEN_ARCHIVED: &[u8] = include_bytes!("golden/version-1.archive");
const GOLDEN_LOG: &[u8] = include_bytes!("golden/version-1.log");
const GOLDEN_ENCRYPTED_LOG: &[u8] = include_bytes!("golden/version-2.log");
const GOLDEN_ENCRYPTED_SNAPSHOT: &[u8] = include_bytes!("golden/version-2.snapshot");
const GOLDEN_RECORD: &[u8] = include_bytes!("golden/version-1.record");
const GOLDEN_SNAPSHOT: &[u8] = include_bytes!("golden/version-1.snapshot");

fn shared(disk: &SimulatedDisk) -> Arc<dyn Disk> {
    Arc::new(disk.clone())
}

fn open_log(disk: &SimulatedDisk) -> Log {
    Log::open(shared(disk), "log", LogOptions::default()).unwrap()
}

/// A disk with one golden file.
fn disk_with(path: &str, bytes: &[u8]) -> SimulatedDisk {
    let disk = SimulatedDisk::new(0);
    disk.create_directory(Path::new(path).parent().unwrap()).unwrap();
    disk.create(path.as_ref()).unwrap().append(bytes).unwrap();
    disk
}

fn assert_golden(disk: &SimulatedDisk, path: &str, golden: &[u8]) {
    assert_golden_version(disk, "version-1", path, golden);
}

fn assert_golden_version(disk: &SimulatedDisk, version: &str, path: &str, golden: &[u8]) {
    let file = disk.open(path.as_ref()).unwrap();
    let mut bytes = vec![0; file.len().unwrap() as usize];
    file.read_at(0, &mut bytes).unwrap();
    if let Some(directory) = std::env::var_os("NOVACRON_WRITE_GOLDEN") {
        let name = Path::new(version).with_extension(Path::new(path).extension().unwrap());
        std::fs::write(Path::new(&directory).join(name), &bytes).unwrap();
    }
    assert!(bytes == golden, "the format of {path} changed");
}

#[test]
fn a_log_is_written_as_ever() {
    let disk = SimulatedDisk::new(0);
    let mut log = open_log(&disk);
    log.set_vote("a vote").unwrap();
    log.append(1, ["first".into(), "second".into(), "third".into()]).unwrap();
    log.set_committed("a position").unwrap();
    log.truncate(3).unwrap();
    log.purge(1, "a purge").unwrap();
    assert_golden(&disk, LOG, GOLDEN_LOG);
}

#[test]
fn an_old_log_is_read() {
    let log = open_log(&disk_with(LOG, GOLDEN_LOG));
    assert_eq!(log.vote().unwrap(), "a vote");
    assert_eq!(log.committed().unwrap(), "a position");
    assert_eq!(log.purged().unwrap().index, 1);
    assert_eq!(log.purged().unwrap().description, "a purge");
    assert_eq!(log.entries(0..=9, 100).unwrap(), [(2, "second".into())]);
}

#[test]
fn a_record_is_written_as_ever_and_an_old_one_is_read() {
    let disk = SimulatedDisk::new(0);
    RecordStore::open(shared(&disk), "records").unwrap().put("name", b"content").unwrap();
    assert_golden(&disk, RECORD, GOLDEN_RECORD);
    let old = disk_with(RECORD, GOLDEN_RECORD);
    let store = RecordStore::open(shared(&old), "records").unwrap();
    assert_eq!(store.get("name").unwrap().unwrap(), "content");
}

#[test]
fn a_snapshot_is_written_as_ever_and_an_old_one_is_read() {
    let disk = SimulatedDisk::new(0);
    SnapshotStore::open(shared(&disk), "snapshots").unwrap().write(b"meta", b"data").unwrap();
    assert_golden(&disk, SNAPSHOT, GOLDEN_SNAPSHOT);
    let old = disk_with(SNAPSHOT, GOLDEN_SNAPSHOT);
    let snapshot = SnapshotStore::open(shared(&old), "snapshots").unwrap().latest().unwrap();
    let snapshot = snapshot.unwrap();
    assert_eq!(snapshot.meta(), "meta");
    assert_eq!(snapshot.data().unwrap(), b"data");
}

#[test]
fn a_file_is_archived_as_ever_and_an_old_one_is_read() {
    let disk = SimulatedDisk::new(0);
    Archive::open(shared(&disk), "archive").unwrap().put("name", b"content").unwrap();
    assert_golden(&disk, ARCHIVED, GOLDEN_ARCHIVED);
    let old = disk_with(ARCHIVED, GOLDEN_ARCHIVED);
    let archive = Archive::open(shared(&old), "archive").unwrap();
    assert_eq!(archive.get("name", &ContentHash::of(b"content")).unwrap().unwrap(), b"content");
}

/// The layout is the stores' promise, whatever the cipher does.
#[test]
fn a_log_and_a_snapshot_are_encrypted_as_ever_and_old_ones_are_read() {
    let disk = SimulatedDisk::new(0);
    let encrypted = TestCipher::new(&[1]).disk(&disk);
    let mut log = Log::open(Arc::clone(&encrypted), "log", LogOptions::default()).unwrap();
    log.set_vote("a vote").unwrap();
    log.append(1, ["first".into(), "second".into()]).unwrap();
    assert_golden_version(&disk, "version-2", LOG, GOLDEN_ENCRYPTED_LOG);
    SnapshotStore::open(encrypted, "snapshots").unwrap().write(b"meta", b"data").unwrap();
    assert_golden_version(&disk, "version-2", SNAPSHOT, GOLDEN_ENCRYPTED_SNAPSHOT);

    let old = TestCipher::new(&[1]).disk(&disk_with(LOG, GOLDEN_ENCRYPTED_LOG));
    let log = Log::open(old, "log", LogOptions::default()).unwrap();
    assert_eq!(log.entries(0..=9, 100).unwrap(), [(1, "first".into()), (2, "second".into())]);
    let old = TestCipher::new(&[1]).disk(&disk_with(SNAPSHOT, GOLDEN_ENCRYPTED_SNAPSHOT));
    let snapshot = SnapshotStore::open(old, "snapshots").unwrap().latest().unwrap().unwrap();
    assert_eq!((&snapshot.meta()[..], &snapshot.data().unwrap()[..]), (&b"meta"[..], &b"data"[..]));
}
