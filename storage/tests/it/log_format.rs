//! The format is a promise: a log written by the first version opens for ever.

use std::path::Path;
use std::sync::Arc;

use novacron_storage::disk::{Disk, SimulatedDisk};
use novacron_storage::log::{Log, LogOptions};

const GOLDEN: &[u8] = include_bytes!("golden/log-version-1.log");
const PATH: &str = "log/00000000000000000001.log";

fn open(disk: &SimulatedDisk) -> Log {
    Log::open(Arc::new(disk.clone()), "log", LogOptions::default()).unwrap()
}

/// One record of each kind, and a batch of two.
fn write(log: &mut Log) {
    log.set_vote("a vote").unwrap();
    log.append(1, ["first".into(), "second".into(), "third".into()]).unwrap();
    log.set_committed("a position").unwrap();
    log.truncate(3).unwrap();
    log.purge(1, "a purge").unwrap();
}

#[test]
fn this_program_writes_the_golden_bytes() {
    let disk = SimulatedDisk::new(0);
    write(&mut open(&disk));
    let file = disk.open(PATH.as_ref()).unwrap();
    let mut bytes = vec![0; file.len().unwrap() as usize];
    file.read_at(0, &mut bytes).unwrap();
    if let Some(path) = std::env::var_os("NOVACRON_WRITE_GOLDEN") {
        std::fs::write(Path::new(&path), &bytes).unwrap();
    }
    assert!(bytes == GOLDEN, "the format changed: raise its version and keep reading the old one");
}

#[test]
fn this_program_reads_the_golden_bytes() {
    let disk = SimulatedDisk::new(0);
    disk.create_directory("log".as_ref()).unwrap();
    disk.create(PATH.as_ref()).unwrap().append(GOLDEN).unwrap();
    let log = open(&disk);
    assert_eq!(log.vote().unwrap(), "a vote");
    assert_eq!(log.committed().unwrap(), "a position");
    assert_eq!(log.purged().unwrap().index, 1);
    assert_eq!(log.purged().unwrap().description, "a purge");
    assert_eq!(log.entries(0..=9, 100).unwrap(), [(2, "second".into())]);
}
