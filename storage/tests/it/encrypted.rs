//! Encrypted stores: nothing readable, nothing moved, nothing changed, and no start with another key.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use novacron_storage::archive::{Archive, ArchiveError, ContentHash};
use novacron_storage::cipher::{EncryptedFiles, FileKind, LockProblem, Locked, require_keys};
use novacron_storage::disk::{Disk, SimulatedDisk};
use novacron_storage::log::{Log, LogError, LogOptions};
use novacron_storage::record::{RecordError, RecordStore};
use novacron_storage::snapshot::{SnapshotError, SnapshotStore};
use novacron_storage::{Damage, Damaged};

use crate::cipher::{TestCipher, key_id};

const NEEDLE: &[u8] = b"xyzzy-plugh-2f1b-plover";
const SMALL: LogOptions = LogOptions { segment_bytes_max: 400, cache_bytes_max: 0 };
const OWN: EncryptedFiles = EncryptedFiles { magic: *b"novatest" };
const CHUNK_BYTES: usize = 64 * 1024;

/// All that is opened, on one disk.
struct Stores {
    log: Log,
    records: RecordStore,
    snapshots: SnapshotStore,
    archive: Archive,
}

fn open(disk: &Arc<dyn Disk>) -> Stores {
    Stores {
        log: Log::open(Arc::clone(disk), "log", SMALL).unwrap(),
        records: RecordStore::open(Arc::clone(disk), "records").unwrap(),
        snapshots: SnapshotStore::open(Arc::clone(disk), "snapshots").unwrap(),
        archive: Archive::open(Arc::clone(disk), "archive").unwrap(),
    }
}

/// Something of everything, each with the needle in it.
fn write(disk: &Arc<dyn Disk>) {
    let mut stores = open(disk);
    stores.log.set_vote(NEEDLE).unwrap();
    for index in 1..=6 {
        stores.log.append(index, [NEEDLE.repeat(3).into()]).unwrap();
    }
    stores.log.set_committed(NEEDLE).unwrap();
    stores.log.purge(1, NEEDLE).unwrap();
    stores.records.put("one", NEEDLE).unwrap();
    stores.records.put("two", NEEDLE).unwrap();
    stores.snapshots.write(NEEDLE, NEEDLE).unwrap();
    stores.snapshots.write(NEEDLE, NEEDLE).unwrap();
    // Too short to be compressed.
    stores.archive.put("a", NEEDLE).unwrap();
    stores.archive.put("b", NEEDLE).unwrap();
    disk.create_directory(Path::new("own")).unwrap();
    OWN.write(&**disk, Path::new("own/new"), Path::new("own/x.own"), &own_content()).unwrap();
    disk.rename(Path::new("own/new"), Path::new("own/x.own")).unwrap();
}

fn assert_written(disk: &Arc<dyn Disk>) {
    let stores = open(disk);
    assert_eq!(stores.log.vote().unwrap(), NEEDLE);
    assert_eq!(stores.log.committed().unwrap(), NEEDLE);
    assert_eq!(stores.log.purged().unwrap().description, NEEDLE);
    for index in 2..=6 {
        assert_eq!(stores.log.entry(index).unwrap().unwrap(), NEEDLE.repeat(3));
    }
    assert_eq!(stores.records.get("one").unwrap().unwrap(), NEEDLE);
    assert_eq!(stores.records.get("two").unwrap().unwrap(), NEEDLE);
    let snapshot = stores.snapshots.latest().unwrap().unwrap();
    assert_eq!((&snapshot.meta()[..], &snapshot.data().unwrap()[..]), (NEEDLE, NEEDLE));
    let hash = ContentHash::of(NEEDLE);
    assert_eq!(stores.archive.get("a", &hash).unwrap().unwrap(), NEEDLE);
    let own = OWN.open(&**disk, Path::new("own/x.own")).unwrap();
    let mut content = vec![0; own.len().unwrap() as usize];
    own.read_at(0, &mut content).unwrap();
    assert_eq!(content, own_content());
}

/// Of a format of its own, with its version where all have it.
fn own_content() -> Vec<u8> {
    [b"novaown\n\x01\0", NEEDLE].concat()
}

fn kinds() -> [FileKind<'static>; 5] {
    [
        ("log", ".log"),
        ("records", ".record"),
        ("snapshots", ".snapshot"),
        ("archive", ".archive"),
        ("own", ".own"),
    ]
    .map(|(directory, suffix)| FileKind { directory: Path::new(directory), suffix })
}

fn paths(disk: &SimulatedDisk) -> Vec<PathBuf> {
    let names = |kind: FileKind<'static>| {
        let names = disk.list(kind.directory).unwrap();
        names.into_iter().map(move |name| kind.directory.join(name))
    };
    kinds().into_iter().flat_map(names).collect()
}

fn bytes_of(disk: &SimulatedDisk, path: &Path) -> Vec<u8> {
    let file = disk.open(path).unwrap();
    let mut bytes = vec![0; file.len().unwrap() as usize];
    file.read_at(0, &mut bytes).unwrap();
    bytes
}

fn whole(disk: &SimulatedDisk) -> Vec<(PathBuf, Vec<u8>)> {
    paths(disk).into_iter().map(|path| (path.clone(), bytes_of(disk, &path))).collect()
}

fn holds(bytes: &[u8], part: &[u8]) -> bool {
    bytes.windows(part.len()).any(|window| window == part)
}

#[test]
fn nothing_can_be_read_on_the_disk_and_equal_contents_differ() {
    let plain = SimulatedDisk::new(0);
    write(&(Arc::new(plain.clone()) as Arc<dyn Disk>));
    for (path, bytes) in whole(&plain) {
        assert!(holds(&bytes, NEEDLE), "{} holds it when it is not encrypted", path.display());
    }
    let disk = SimulatedDisk::new(0);
    let cipher = TestCipher::new(&[1]);
    write(&cipher.disk(&disk));
    let mut parts = std::collections::BTreeSet::new();
    for (path, bytes) in whole(&disk) {
        assert!(!holds(&bytes, &NEEDLE[..8]), "{}", path.display());
        // What follows the heads; in the log there are heads of records between.
        let mut is_new = |part: &[u8]| parts.insert(part.to_vec()) || path.starts_with("log");
        assert!(bytes[72..].chunks_exact(8).all(&mut is_new), "{}", path.display());
    }
    assert_written(&cipher.disk(&disk));
}

#[test]
fn other_keys_and_none_open_nothing_and_change_nothing() {
    let disk = SimulatedDisk::new(0);
    let cipher = TestCipher::new(&[1]);
    write(&cipher.disk(&disk));
    let before = whole(&disk);
    let plain: Arc<dyn Disk> = Arc::new(disk.clone());
    let other = LockProblem::OtherKey { needed: key_id(1), given: vec![key_id(2), key_id(3)] };
    for (disk, problem) in [
        (&plain, LockProblem::NoKey { needed: key_id(1) }),
        (&cipher.turned(&[2, 3]).disk(&disk), other),
    ] {
        let file = PathBuf::from("log/00000000000000000001.log");
        let locked = Locked { file: file.clone(), problem: problem.clone() };
        assert_eq!(require_keys(&**disk, &kinds()).unwrap(), Err(locked));
        let Err(LogError::Locked(locked)) = Log::open(Arc::clone(disk), "log", SMALL) else {
            panic!("opened")
        };
        assert_eq!(locked, Locked { file, problem: problem.clone() });
        let records = RecordStore::open(Arc::clone(disk), "records").unwrap();
        let Err(RecordError::Locked(locked)) = records.get("one") else { panic!("read") };
        assert_eq!(locked.problem, problem);
        let snapshots = SnapshotStore::open(Arc::clone(disk), "snapshots").unwrap();
        let Err(SnapshotError::Locked(locked)) = snapshots.latest() else { panic!("read") };
        assert_eq!(locked.problem, problem);
        let archive = Archive::open(Arc::clone(disk), "archive").unwrap();
        let hash = ContentHash::of(NEEDLE);
        let Err(ArchiveError::Locked(locked)) = archive.get("a", &hash) else { panic!("read") };
        assert_eq!(locked.problem, problem);
        assert!(matches!(archive.put("a", NEEDLE), Err(ArchiveError::Locked(_))), "it is there");
    }
    assert!(OWN.open(&*cipher.turned(&[2]).disk(&disk), Path::new("own/x.own")).is_err());
    assert_eq!(whole(&disk), before);
    assert_eq!(
        Locked { file: "log/1".into(), problem: LockProblem::NoKey { needed: key_id(1) } }
            .to_string(),
        "log/1 is encrypted with key 0101010101010101, and no key is given"
    );
}

#[test]
fn what_is_not_encrypted_is_refused_where_everything_has_to_be() {
    let disk = SimulatedDisk::new(0);
    write(&(Arc::new(disk.clone()) as Arc<dyn Disk>));
    let before = whole(&disk);
    let encrypted = TestCipher::new(&[1]).disk(&disk);
    for kind in kinds() {
        let Err(locked) = require_keys(&*encrypted, &[kind]).unwrap() else { panic!("{kind:?}") };
        assert_eq!(locked.problem, LockProblem::NotEncrypted);
    }
    assert!(matches!(
        Log::open(Arc::clone(&encrypted), "log", SMALL),
        Err(LogError::Locked(Locked { problem: LockProblem::NotEncrypted, .. }))
    ));
    let snapshots = SnapshotStore::open(Arc::clone(&encrypted), "snapshots").unwrap();
    assert!(matches!(snapshots.latest(), Err(SnapshotError::Locked(_))));
    assert!(OWN.open(&*encrypted, Path::new("own/x.own")).is_err());
    assert_eq!(whole(&disk), before);
    assert_eq!(require_keys(&disk, &kinds()).unwrap(), Ok(()));
}

#[test]
fn keys_can_be_turned() {
    let disk = SimulatedDisk::new(0);
    let cipher = TestCipher::new(&[1]);
    write(&cipher.disk(&disk));
    let turned = cipher.turned(&[2, 1]);
    assert_eq!(require_keys(&*turned.disk(&disk), &kinds()).unwrap(), Ok(()));
    assert_written(&turned.disk(&disk));
    let mut stores = open(&turned.disk(&disk));
    stores.log.append(7, ["seven".into()]).unwrap();
    stores.records.put("one", b"new").unwrap();
    // What is written now needs the new one.
    let old = cipher.disk(&disk);
    let records = RecordStore::open(Arc::clone(&old), "records").unwrap();
    assert!(matches!(records.get("one"), Err(RecordError::Locked(_))));
    assert_eq!(records.get("two").unwrap().unwrap(), NEEDLE);
    let Err(locked) = require_keys(&*old, &kinds()).unwrap() else { panic!("not needed") };
    let problem = LockProblem::OtherKey { needed: key_id(2), given: vec![key_id(1)] };
    assert_eq!(locked.problem, problem);

    // What is never written anew by itself can be, and needs only the new one then.
    stores.records.renew().unwrap();
    assert!(stores.archive.renew("a").unwrap());
    assert!(!stores.archive.renew("a").unwrap(), "it was done");
    assert!(!stores.archive.renew("c").unwrap(), "there is none");
    let new = cipher.turned(&[2]).disk(&disk);
    let records = RecordStore::open(Arc::clone(&new), "records").unwrap();
    assert_eq!(records.get("two").unwrap().unwrap(), NEEDLE);
    let archive = Archive::open(new, "archive").unwrap();
    let hash = ContentHash::of(NEEDLE);
    assert_eq!(archive.get("a", &hash).unwrap().unwrap(), NEEDLE);
    assert!(matches!(archive.get("b", &hash), Err(ArchiveError::Locked(_))));
}

#[test]
fn a_flipped_bit_anywhere_is_noticed() {
    let disk = SimulatedDisk::new(0);
    let cipher = TestCipher::new(&[1]);
    write(&cipher.disk(&disk));
    let encrypted = cipher.disk(&disk);
    for path in paths(&disk) {
        for offset in 0..disk.open(&path).unwrap().len().unwrap() {
            disk.flip_bit(&path, offset, offset as u8 % 8);
            assert!(!is_readable(&encrypted, &path), "{} at {offset}", path.display());
            disk.flip_bit(&path, offset, offset as u8 % 8);
        }
        assert!(is_readable(&encrypted, &path), "{}", path.display());
    }
}

fn is_readable(disk: &Arc<dyn Disk>, path: &Path) -> bool {
    let stem = path.file_stem().unwrap().to_str().unwrap();
    let archive = || Archive::open(Arc::clone(disk), "archive").unwrap();
    match path.parent().unwrap().to_str().unwrap() {
        "log" => match Log::open(Arc::clone(disk), "log", SMALL) {
            Ok(_) => true,
            Err(LogError::Damaged(_)) => false,
            Err(error) => panic!("{error}"),
        },
        "records" => RecordStore::open(Arc::clone(disk), "records").unwrap().get(stem).is_ok(),
        "snapshots" => {
            let store = SnapshotStore::open(Arc::clone(disk), "snapshots").unwrap();
            store.ids().unwrap().iter().all(|id| store.read(*id).is_ok())
        }
        "archive" => archive().get(stem, &ContentHash::of(NEEDLE)).is_ok(),
        _ => OWN.open(&**disk, path).is_ok_and(|file| {
            let mut content = vec![0; own_content().len()];
            file.read_at(0, &mut content).is_ok() && content == own_content()
        }),
    }
}

/// Puts bytes into the place of a file.
fn replace(disk: &SimulatedDisk, path: &str, bytes: &[u8]) {
    disk.remove(Path::new(path)).unwrap();
    disk.create(Path::new(path)).unwrap().append(bytes).unwrap();
}

#[test]
fn a_file_in_the_place_of_another_is_refused() {
    let disk = SimulatedDisk::new(0);
    let cipher = TestCipher::new(&[1]);
    write(&cipher.disk(&disk));
    for (from, to) in [
        ("records/one.record", "records/two.record"),
        ("archive/a.archive", "archive/b.archive"),
        ("snapshots/00000000000000000001.snapshot", "snapshots/00000000000000000002.snapshot"),
    ] {
        replace(&disk, to, &bytes_of(&disk, Path::new(from)));
    }
    let stores = open(&cipher.disk(&disk));
    let moved = |damaged: Damaged| assert_eq!(damaged.damage, Damage::Encrypted, "{damaged}");
    match stores.records.get("two") {
        Err(RecordError::Damaged(damaged)) => moved(damaged),
        other => panic!("{other:?}"),
    }
    match stores.archive.get("b", &ContentHash::of(NEEDLE)) {
        Err(ArchiveError::Damaged(damaged)) => moved(damaged),
        other => panic!("{other:?}"),
    }
    match stores.snapshots.latest() {
        Err(SnapshotError::Damaged(damaged)) => moved(damaged),
        other => panic!("{other:?}"),
    }
}

/// Whoever can write to the disk can make checksums. With them right, neither a record at another place of the segment,
/// nor one with another index, nor a segment with another number is taken for what it is not.
#[test]
fn a_record_in_the_place_of_another_is_refused_with_any_checksum() {
    const SEGMENT: &str = "log/00000000000000000001.log";
    const FIRST: usize = 72;
    const RECORD: usize = 32 + 5 + 16;
    let cipher = TestCipher::new(&[1]);
    let spoiled = |spoil: &dyn Fn(&mut Vec<u8>)| {
        let disk = SimulatedDisk::new(0);
        let mut log = Log::open(cipher.disk(&disk), "log", LogOptions::default()).unwrap();
        log.append(1, ["first".into(), "other".into()]).unwrap();
        drop(log);
        let mut bytes = bytes_of(&disk, Path::new(SEGMENT));
        assert_eq!(bytes.len(), FIRST + 2 * RECORD);
        spoil(&mut bytes);
        replace(&disk, SEGMENT, &bytes);
        Log::open(cipher.disk(&disk), "log", LogOptions::default())
    };
    let sum = |bytes: &mut Vec<u8>, at: usize| {
        let place = [1u64.to_le_bytes(), (at as u64).to_le_bytes()].concat();
        let sum = crc32c::crc32c_append(crc32c::crc32c(&place), &bytes[at + 4..at + 32]);
        bytes[at..at + 4].copy_from_slice(&sum.to_le_bytes());
    };
    let refused = |opened: Result<Log, LogError>, at: usize| match opened {
        Err(LogError::Damaged(damaged)) => {
            assert_eq!((damaged.offset, damaged.damage), (at as u64, Damage::Encrypted));
        }
        other => panic!("{other:?}"),
    };
    spoiled(&|_| ()).unwrap();
    refused(
        spoiled(&|bytes| {
            // Payloads exchanged, with their checksums.
            let (first, second) = (FIRST, FIRST + RECORD);
            for at in (4..8).chain(32..RECORD) {
                bytes.swap(first + at, second + at);
            }
            sum(bytes, first);
            sum(bytes, second);
        }),
        FIRST,
    );
    refused(
        spoiled(&|bytes| {
            bytes[FIRST + 24] = 2;
            bytes[FIRST + RECORD + 24] = 3;
            sum(bytes, FIRST);
            sum(bytes, FIRST + RECORD);
        }),
        FIRST,
    );
}

#[test]
fn contents_of_any_length_come_back_whole_and_in_part() {
    let disk = SimulatedDisk::new(0);
    let cipher = TestCipher::new(&[1]);
    // Before the data are the checksum and the description.
    let border = CHUNK_BYTES - 4 - 4;
    for length in [0, 1, border - 1, border, border + 1, border + CHUNK_BYTES, 3 * CHUNK_BYTES] {
        let data: Vec<u8> = (0..length).map(|at| (at % 251) as u8).collect();
        let store = SnapshotStore::open(cipher.disk(&disk), "snapshots").unwrap();
        store.write(b"meta", &data).unwrap();
        let snapshot = store.latest().unwrap().unwrap();
        assert_eq!((&snapshot.meta()[..], snapshot.data_bytes()), (&b"meta"[..], length as u64));
        assert!(snapshot.data().unwrap() == data, "{length}");
        for at in [0, 7, border.saturating_sub(3), border, border + CHUNK_BYTES - 2] {
            let mut part = [0; 6];
            match data.get(at..at + 6) {
                Some(expected) => {
                    snapshot.read_at(at as u64, &mut part).unwrap();
                    assert_eq!(part, expected);
                }
                None => assert!(snapshot.read_at(at as u64, &mut part).is_err()),
            }
        }
    }
}

#[test]
fn chunks_that_are_cut_moved_or_left_out_are_noticed() {
    const PATH: &str = "snapshots/00000000000000000001.snapshot";
    let disk = SimulatedDisk::new(0);
    let cipher = TestCipher::new(&[1]);
    let store = SnapshotStore::open(cipher.disk(&disk), "snapshots").unwrap();
    store.write(b"meta", &vec![7; 2 * CHUNK_BYTES + 100]).unwrap();
    let bytes = bytes_of(&disk, Path::new(PATH));
    let at = |chunk: usize| 72 + chunk * (CHUNK_BYTES + 16);
    let damage = |parts: &[&[u8]]| {
        replace(&disk, PATH, &parts.concat());
        match store.latest() {
            Err(SnapshotError::Damaged(damaged)) => damaged.damage,
            other => panic!("{other:?}"),
        }
    };
    for length in [at(0), at(0) + 15, at(1), at(1) + 16, at(2), bytes.len() - 1] {
        assert_eq!(damage(&[&bytes[..length]]), Damage::Short, "{length}");
    }
    assert_eq!(damage(&[&bytes, b"x"]), Damage::Long);
    let (first, second, last) = (&bytes[at(0)..at(1)], &bytes[at(1)..at(2)], &bytes[at(2)..]);
    assert_eq!(damage(&[&bytes[..72], second, first, last]), Damage::Encrypted);
    assert_eq!(damage(&[&bytes[..72], first, last]), Damage::Short);
}

#[test]
fn archives_exchange_files_whatever_they_are_encrypted_with() {
    let content = b"seven numbers ".repeat(10_000);
    let (one, two, three) = (SimulatedDisk::new(0), SimulatedDisk::new(0), SimulatedDisk::new(0));
    let plain: Arc<dyn Disk> = Arc::new(one.clone());
    let archives = [plain, TestCipher::new(&[1]).disk(&two), TestCipher::new(&[2]).disk(&three)]
        .map(|disk| Archive::open(disk, "archive").unwrap());
    let hash = archives[0].put("window", &content).unwrap();
    let mut from = &archives[0];
    for to in [&archives[1], &archives[2], &archives[0]] {
        let mut file = Vec::new();
        loop {
            let part = from.read_part("window", file.len() as u64, 7).unwrap().unwrap();
            if part.is_empty() {
                break;
            }
            file.extend(part);
        }
        assert_eq!(file, bytes_of(&one, Path::new("archive/window.archive")));
        assert_eq!(from.get_physical("window").unwrap().unwrap(), file);
        assert_eq!(from.size_bytes("window").unwrap(), Some(file.len() as u64));
        to.put_physical("window", &file, &hash).unwrap();
        assert_eq!(to.get("window", &hash).unwrap().unwrap(), content);
        from = to;
    }
    assert_eq!(archives[1].read_part("window", 1 << 30, 10).unwrap().unwrap(), b"");
    // What is damaged is mended by whoever has it.
    two.flip_bit(Path::new("archive/window.archive"), 100, 0);
    assert!(matches!(archives[1].get_physical("window"), Err(ArchiveError::Damaged(_))));
    archives[1].put("window", &content).unwrap();
    assert_eq!(archives[1].get("window", &hash).unwrap().unwrap(), content);
    // As it lies on an encrypted disk it is nothing to be taken.
    let sealed = bytes_of(&two, Path::new("archive/window.archive"));
    assert!(matches!(
        archives[0].put_physical("window", &sealed, &hash),
        Err(ArchiveError::Damaged(_))
    ));
}

#[test]
fn an_encrypted_log_goes_on_in_a_segment_of_its_own_after_each_opening_that_writes() {
    let disk = SimulatedDisk::new(0);
    let cipher = TestCipher::new(&[1]);
    let open = || Log::open(cipher.disk(&disk), "log", LogOptions::default()).unwrap();
    let segments = || disk.list(Path::new("log")).unwrap().len();
    open().append(1, ["one".into()]).unwrap();
    assert_eq!(segments(), 1);
    drop(open());
    assert_eq!(segments(), 1, "nothing was written");
    let mut log = open();
    log.append(2, ["two".into()]).unwrap();
    log.append(3, ["three".into()]).unwrap();
    assert_eq!(segments(), 2);
    let entries = open().entries(0..=9, 100).unwrap();
    assert_eq!(entries, [(1, "one".into()), (2, "two".into()), (3, "three".into())]);
}
