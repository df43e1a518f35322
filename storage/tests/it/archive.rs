//! Archived files: whole or not there, never another content, whatever happens in between.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;

use novacron_storage::archive::{Archive, ArchiveError, ContentHash, inspect};
use novacron_storage::disk::{Disk, Failure, RealDisk, SimulatedDisk};
use novacron_storage::{Damage, Damaged};
use proptest::prelude::*;

use crate::seeds::{for_each_seed, value_of};

const FILE: &str = "archive/window-1.archive";

fn open(disk: &SimulatedDisk) -> Result<Archive, ArchiveError> {
    Archive::open(Arc::new(disk.clone()), "archive")
}

fn all(archive: &Archive, name: &str) -> Vec<u8> {
    let mut bytes = Vec::new();
    loop {
        let part = archive.read_part(name, bytes.len() as u64, 7).unwrap().unwrap();
        if part.is_empty() {
            return bytes;
        }
        bytes.extend(part);
    }
}

fn damage_of<T: std::fmt::Debug>(result: Result<T, ArchiveError>) -> Damaged {
    match result {
        Err(ArchiveError::Damaged(damaged)) => damaged,
        other => panic!("{other:?} is no damage"),
    }
}

#[test]
fn contents_are_put_found_again_and_removed() {
    let directory = tempfile::tempdir().unwrap();
    let disk: Arc<dyn Disk> = Arc::new(RealDisk::open(directory.path()).unwrap());
    let archive = Archive::open(Arc::clone(&disk), "some/archive").unwrap();
    assert!(!archive.contains("window-1").unwrap());
    let content = b"seven numbers ".repeat(1000);
    let hash = archive.put("window-1", &content).unwrap();
    assert_eq!(hash, ContentHash::of(&content));
    archive.put("window-2", b"").unwrap();
    assert!(archive.contains("window-1").unwrap());
    assert!(archive.size_bytes("window-1").unwrap().unwrap() < 300, "it is compressed");

    let archive = Archive::open(disk, "some/archive").unwrap();
    assert_eq!(archive.names().unwrap(), ["window-1", "window-2"]);
    assert_eq!(archive.get("window-1", &hash).unwrap().unwrap(), content);
    assert_eq!(archive.get("window-2", &ContentHash::of(b"")).unwrap().unwrap(), b"");
    assert_eq!(archive.get("window-3", &hash).unwrap(), None);
    archive.remove("window-1").unwrap();
    archive.remove("window-1").unwrap();
    assert_eq!(archive.names().unwrap(), ["window-2"]);
    assert_eq!(archive.size_bytes("window-1").unwrap(), None);
    assert_eq!(archive.read_part("window-1", 0, 10).unwrap(), None);
}

#[test]
fn a_file_that_somebody_removed_is_noticed_when_it_is_read() {
    let directory = tempfile::tempdir().unwrap();
    let disk: Arc<dyn Disk> = Arc::new(RealDisk::open(directory.path()).unwrap());
    let archive = Archive::open(disk, "archive").unwrap();
    let hash = ContentHash::of(b"first");
    for name in ["window-1", "window-2"] {
        archive.put(name, b"first").unwrap();
    }
    let gone = |name: &str| {
        assert_eq!(archive.names().unwrap(), ["window-1", "window-2"]);
        let file = directory.path().join("archive").join(format!("{name}.archive"));
        std::fs::remove_file(file).unwrap();
    };
    gone("window-1");
    assert_eq!(archive.get("window-1", &hash).unwrap(), None);
    assert_eq!(archive.names().unwrap(), ["window-2"]);
    archive.put("window-1", b"first").unwrap();
    // Another member asks for it.
    gone("window-2");
    assert_eq!(archive.read_part("window-2", 0, 10).unwrap(), None);
    assert_eq!(archive.names().unwrap(), ["window-1"]);
}

#[test]
fn a_name_stands_for_one_content_for_ever() {
    let disk = SimulatedDisk::new(0);
    let archive = open(&disk).unwrap();
    let hash = archive.put("window-1", b"first").unwrap();
    let before = disk.operations();
    archive.put("window-1", b"first").unwrap();
    let read_only = disk.operations() - before;
    assert!(read_only <= 8, "putting the same again writes nothing: {read_only} operations");
    let other = archive.put("window-1", b"second").unwrap_err();
    let ArchiveError::OtherContent { found, wanted, .. } = &other else { panic!("{other}") };
    assert_eq!((*found, *wanted), (hash, ContentHash::of(b"second")));
    assert!(matches!(
        archive.get("window-1", &ContentHash::of(b"second")),
        Err(ArchiveError::OtherContent { .. })
    ));
    assert_eq!(archive.get("window-1", &hash).unwrap().unwrap(), b"first");
    assert!(matches!(archive.put("../up", b""), Err(ArchiveError::InvalidName { .. })));
}

#[test]
fn a_file_travels_in_parts_and_is_checked_before_it_counts() {
    let here = open(&SimulatedDisk::new(0)).unwrap();
    let there = open(&SimulatedDisk::new(1)).unwrap();
    let content = (0..200u8).collect::<Vec<u8>>();
    let hash = here.put("window-1", &content).unwrap();
    let bytes = all(&here, "window-1");
    assert_eq!(here.get_physical("window-1").unwrap().unwrap(), bytes);
    assert_eq!(here.get_physical("window-2").unwrap(), None);
    assert_eq!(inspect(&bytes).unwrap(), ("window-1".to_owned(), hash, content.clone()));

    let damaged = damage_of(there.put_physical("window-2", &bytes, &hash));
    assert!(matches!(damaged.damage, Damage::Misplaced(_)), "{damaged}");
    let other = ContentHash::of(b"other");
    let refused = there.put_physical("window-1", &bytes, &other);
    assert!(matches!(refused, Err(ArchiveError::OtherContent { .. })));
    for bit in 0..bytes.len() * 8 {
        let mut flipped = bytes.clone();
        flipped[bit / 8] ^= 1 << (bit % 8);
        damage_of(there.put_physical("window-1", &flipped, &hash));
        damage_of(there.put_physical("window-1", &bytes[..bit / 8], &hash));
    }
    assert_eq!(there.names().unwrap(), [""; 0], "nothing of it counts");
    there.put_physical("window-1", &bytes, &hash).unwrap();
    there.put_physical("window-1", &bytes, &hash).unwrap();
    assert_eq!(there.get("window-1", &hash).unwrap().unwrap(), content);
}

#[test]
fn damage_is_refused_and_mended_by_putting_again() {
    let disk = SimulatedDisk::new(0);
    let archive = open(&disk).unwrap();
    let hash = archive.put("window-1", b"a content that is long enough to be damaged").unwrap();
    let bytes = all(&archive, "window-1");
    for offset in 0..bytes.len() as u64 {
        disk.flip_bit(Path::new(FILE), offset, 5);
        let damaged = damage_of(archive.get("window-1", &hash));
        assert_eq!(damage_of(archive.get_physical("window-1")), damaged);
        assert_eq!(damaged.file, Path::new(FILE));
        assert!(archive.contains("window-1").unwrap());
        let is_other_version = matches!(damaged.damage, Damage::UnknownVersion { .. });
        let mended = archive.put_physical("window-1", &bytes, &hash);
        assert_eq!(mended.is_err(), is_other_version, "what is newer is not written over");
        if is_other_version {
            disk.flip_bit(Path::new(FILE), offset, 5);
        }
        archive.get("window-1", &hash).unwrap().unwrap();
    }
    disk.open(Path::new(FILE)).unwrap().append(b"more").unwrap();
    assert_eq!(damage_of(archive.get("window-1", &hash)).damage, Damage::Long);
    disk.open(Path::new(FILE)).unwrap().truncate(50).unwrap();
    assert_eq!(damage_of(archive.get("window-1", &hash)).damage, Damage::Short);
    archive.put("window-1", b"a content that is long enough to be damaged").unwrap();
    archive.get("window-1", &hash).unwrap().unwrap();
}

#[test]
fn a_full_disk_keeps_what_is_there_and_its_own_space() {
    let disk = SimulatedDisk::new(0);
    let archive = open(&disk).unwrap();
    archive.put("window-1", b"first").unwrap();
    disk.set_capacity_bytes(Some(300));
    let noise: Vec<u8> =
        (0..1000u32).map(|at| (at.wrapping_mul(2_654_435_761) >> 24) as u8).collect();
    let Err(ArchiveError::Disk(error)) = archive.put("window-2", &noise) else { panic!("it fit") };
    assert!(error.is_full());
    assert_eq!(disk.list("archive".as_ref()).unwrap().len(), 1, "what was written by half is gone");
    assert_eq!(archive.names().unwrap(), ["window-1"]);
    archive.put("window-3", b"third").unwrap();
    assert_eq!(archive.names().unwrap(), ["window-1", "window-3"]);
}

#[test]
fn opening_reads_no_content() {
    let disk = SimulatedDisk::new(0);
    let archive = open(&disk).unwrap();
    for number in 0..100 {
        archive.put(&format!("window-{number}"), b"content").unwrap();
    }
    let before = disk.operations();
    let archive = open(&disk).unwrap();
    assert!(archive.contains("window-50").unwrap());
    assert!(!archive.contains("window-100").unwrap());
    assert!(disk.operations() - before < 10, "as many operations for any number of files");
}

/// What the archive may hold of each name: a content, or nothing.
type Files = BTreeMap<String, Vec<u8>>;

#[test]
fn acknowledged_files_survive() {
    let failure =
        prop_oneof![Just(Failure::PowerCut), Just(Failure::Error(std::io::ErrorKind::Other))];
    let change = (0u8..3, any::<bool>());
    let failures = proptest::collection::vec((failure, 1u64..60), 1..4);
    let life = (failures, proptest::collection::vec(change, 1..12));
    let lives = proptest::collection::vec(life, 1..8);
    for_each_seed(300, |seed| {
        let disk = SimulatedDisk::new(seed);
        let mut possible = vec![Files::new()];
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
        let files = read(&open(&disk).unwrap()).unwrap();
        assert!(possible.contains(&files), "{files:?} is none of {possible:?}");
    });
}

/// The one content of each name.
fn content_of(name: &str) -> Vec<u8> {
    name.as_bytes().repeat(100)
}

fn read(archive: &Archive) -> Result<Files, ArchiveError> {
    let mut files = Files::new();
    for name in archive.names()? {
        assert!(archive.contains(&name)?);
        let content = archive.get(&name, &ContentHash::of(&content_of(&name)))?;
        files.insert(name, content.expect("a listed file is there"));
    }
    Ok(files)
}

/// Puts and removes files; goes on after an error, as a process may, while the power is on.
fn live(
    disk: &SimulatedDisk,
    changes: &[(u8, bool)],
    possible: &mut Vec<Files>,
) -> Result<(), ArchiveError> {
    let archive = open(disk)?;
    for (number, is_put) in changes {
        let found = match read(&archive) {
            Err(_) if disk.has_power() => continue,
            found => found?,
        };
        assert!(possible.contains(&found), "{found:?} is none of {possible:?}");
        let name = format!("window-{number}");
        let mut next = found.clone();
        let result = if *is_put {
            next.insert(name.clone(), content_of(&name));
            *possible = vec![found, next.clone()];
            archive.put(&name, &content_of(&name)).map(drop)
        } else {
            next.remove(&name);
            *possible = vec![found, next.clone()];
            archive.remove(&name)
        };
        if result.is_ok() {
            *possible = vec![next];
        }
    }
    Ok(())
}
