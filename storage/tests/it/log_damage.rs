//! What a power cut explains is cut; everything else is refused with file and offset.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use bytes::Bytes;
use novacron_storage::disk::{Disk, SimulatedDisk};
use novacron_storage::log::{Log, LogError, LogOptions};
use novacron_storage::{Damage, Damaged};
use proptest::prelude::*;

use crate::model::Model;

const SMALL: LogOptions = LogOptions { segment_bytes_max: 300, cache_bytes_max: 0 };

/// Three segments of about 300 bytes, so that no record spans sectors.
fn written() -> SimulatedDisk {
    let disk = SimulatedDisk::new(0);
    let mut log = open(&disk).unwrap();
    log.set_vote("vote").unwrap();
    for index in 0..9 {
        log.append(index, [entry(index), entry(index)].into_iter().take(1)).unwrap();
    }
    log.set_vote("last").unwrap();
    drop(log);
    assert_eq!(segments(&disk).len(), 3);
    disk
}

fn entry(index: u64) -> Bytes {
    vec![index as u8 + 1; 40].into()
}

fn open(disk: &SimulatedDisk) -> Result<Log, LogError> {
    Log::open(Arc::new(disk.clone()), "log", SMALL)
}

fn segments(disk: &SimulatedDisk) -> Vec<PathBuf> {
    let names = disk.list("log".as_ref()).unwrap();
    names.iter().map(|name| Path::new("log").join(name)).collect()
}

fn length(disk: &SimulatedDisk, path: &Path) -> u64 {
    disk.open(path).unwrap().len().unwrap()
}

fn damage(disk: &SimulatedDisk) -> Damaged {
    match open(disk) {
        Err(LogError::Damaged(damaged)) => damaged,
        other => panic!("not refused as damaged: {other:?}"),
    }
}

#[test]
fn a_flipped_bit_anywhere_is_refused_with_file_and_offset() {
    let disk = written();
    for path in segments(&disk) {
        for offset in 0..length(&disk, &path) {
            disk.flip_bit(&path, offset, offset as u8);
            let damaged = damage(&disk);
            assert_eq!(damaged.file, path);
            let distance = offset - damaged.offset;
            assert!(distance < 32 + 40, "byte {offset} is reported at {}", damaged.offset);
            disk.flip_bit(&path, offset, offset as u8);
        }
    }
    open(&disk).unwrap();
}

#[test]
fn the_refusal_reads_as_a_sentence_with_file_and_offset() {
    let disk = written();
    disk.flip_bit(&segments(&disk)[1], 40, 0);
    assert_eq!(
        damage(&disk).to_string(),
        "log/00000000000000000002.log is damaged at offset 32: the head does not match its checksum"
    );
}

#[test]
fn a_tail_torn_at_any_byte_is_cut_to_whole_batches() {
    let whole = Model::of(&open(&written()).unwrap());
    for length_bytes in 0.. {
        let disk = written();
        let path = segments(&disk).pop().unwrap();
        if length_bytes >= length(&disk, &path) {
            break;
        }
        disk.open(&path).unwrap().truncate(length_bytes).unwrap();
        let log = open(&disk).unwrap();
        let model = Model::of(&log);
        assert!(whole.entries.iter().take(model.entries.len()).eq(&model.entries));
        let again = Model::of(&open(&disk).unwrap());
        assert_eq!(model, again, "opening twice is opening once");
    }
}

#[test]
fn a_short_segment_before_the_last_is_refused() {
    let disk = written();
    let path = segments(&disk).remove(1);
    let length_bytes = length(&disk, &path);
    disk.open(&path).unwrap().truncate(length_bytes - 1).unwrap();
    let damaged = damage(&disk);
    assert_eq!((damaged.file, damaged.damage), (path, Damage::Short));
}

#[test]
fn lost_batches_before_the_last_segment_are_refused() {
    let disk = written();
    let paths = segments(&disk);
    disk.open(&paths[1]).unwrap().truncate(68).unwrap();
    let damaged = damage(&disk);
    assert_eq!(damaged.file, paths[2]);
    assert!(matches!(damaged.damage, Damage::OutOfOrder(_)), "{damaged}");
}

#[test]
fn a_missing_segment_is_refused() {
    let disk = written();
    let paths = segments(&disk);
    disk.remove(&paths[1]).unwrap();
    let damaged = damage(&disk);
    assert_eq!((damaged.file.clone(), damaged.damage), (paths[1].clone(), Damage::Missing));
    disk.remove(&paths[0]).unwrap();
    assert!(matches!(damage(&disk).damage, Damage::OutOfOrder(_)), "nothing was purged");
}

#[test]
fn an_unknown_version_is_refused_by_number() {
    let disk = written();
    let path = segments(&disk).remove(0);
    disk.flip_bit(&path, 8, 1);
    let damaged = damage(&disk);
    assert_eq!(damaged.damage, Damage::UnknownVersion { found: 3, supported: 1 });
}

#[test]
fn rot_after_opening_is_noticed_when_the_entry_is_read() {
    let disk = written();
    let log = open(&disk).unwrap();
    disk.flip_bit(&segments(&disk)[0], 32 + 36 + 32 + 5, 0);
    let Err(LogError::Damaged(damaged)) = log.entry(0) else { panic!("served rotten bytes") };
    assert_eq!((damaged.offset, damaged.damage), (68, Damage::ContentChecksum));
    assert_eq!(log.entry(1).unwrap(), Some(entry(1)));
}

#[test]
fn other_files_in_the_directory_are_left_alone() {
    let disk = written();
    disk.create("log/notes.txt".as_ref()).unwrap();
    open(&disk).unwrap();
    disk.open("log/notes.txt".as_ref()).unwrap();
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..Default::default() })]

    #[test]
    fn any_bytes_are_opened_or_refused(
        tail in proptest::collection::vec(any::<u8>(), 0..600),
        keep in 0u64..400,
    ) {
        let disk = written();
        let path = segments(&disk).pop().unwrap();
        let mut file = disk.open(&path).unwrap();
        let length_bytes = file.len().unwrap();
        file.truncate(keep.min(length_bytes)).unwrap();
        file.append(&tail).unwrap();
        let _ = open(&disk);
    }
}
