//! The disk that forgets, against a model: while it is open it shows all that was done, and after its
//! end only what was synced.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use novacron_storage::disk::{Disk, DiskError, RealDisk, UNSYNCED, VolatileDisk};
use novacron_storage::record::RecordStore;
use proptest::prelude::*;

use crate::seeds::{for_each_seed, value_of};

/// One step on a file or on the directory; numbers say which file, and how much.
#[derive(Debug, Clone)]
enum Step {
    Create(u8),
    Append(u8, Vec<u8>),
    Overwrite(u8, usize, Vec<u8>),
    Truncate(u8, usize),
    Rename(u8, u8),
    Remove(u8),
    Sync(u8),
    SyncDirectory,
    Kill,
}

fn step() -> impl Strategy<Value = Step> {
    let file = || 0u8..4;
    let bytes = || proptest::collection::vec(any::<u8>(), 0..60);
    prop_oneof![
        3 => file().prop_map(Step::Create),
        6 => (file(), bytes()).prop_map(|(file, bytes)| Step::Append(file, bytes)),
        3 => (file(), 0usize..80, bytes()).prop_map(|(f, at, bytes)| Step::Overwrite(f, at, bytes)),
        3 => (file(), 0usize..120).prop_map(|(file, length)| Step::Truncate(file, length)),
        2 => (file(), file()).prop_map(|(from, to)| Step::Rename(from, to)),
        1 => file().prop_map(Step::Remove),
        4 => file().prop_map(Step::Sync),
        3 => Just(Step::SyncDirectory),
        1 => Just(Step::Kill),
    ]
}

#[derive(Debug, Clone, Default)]
struct Content {
    seen: Vec<u8>,
    kept: Vec<u8>,
}

/// Files by a number, and two sets of names for them.
#[derive(Debug, Default)]
struct Model {
    files: Vec<Content>,
    seen: BTreeMap<u8, usize>,
    kept: BTreeMap<u8, usize>,
}

impl Model {
    fn content(&mut self, file: u8) -> Option<&mut Content> {
        let id = *self.seen.get(&file)?;
        self.files.get_mut(id)
    }

    /// Whether the step is possible; does it, if it is.
    fn perform(&mut self, step: &Step) -> bool {
        let did = match step {
            Step::Create(file) if self.seen.contains_key(file) => None,
            Step::Create(file) => {
                self.files.push(Content::default());
                self.seen.insert(*file, self.files.len() - 1);
                Some(())
            }
            Step::Append(file, bytes) => {
                self.content(*file).map(|content| content.seen.extend_from_slice(bytes))
            }
            Step::Overwrite(file, at, bytes) => self.content(*file).and_then(|content| {
                let place = content.seen.get_mut(*at..*at + bytes.len())?;
                place.copy_from_slice(bytes);
                Some(())
            }),
            Step::Truncate(file, length) => {
                let content = self.content(*file).filter(|content| content.seen.len() >= *length);
                content.map(|content| content.seen.truncate(*length))
            }
            Step::Rename(from, to) => self.seen.get(from).copied().map(|id| {
                self.seen.remove(from);
                self.seen.insert(*to, id);
            }),
            Step::Remove(file) => self.seen.remove(file).map(drop),
            Step::Sync(file) => self.content(*file).map(|content| {
                content.kept = content.seen.clone();
            }),
            Step::SyncDirectory => {
                self.kept = self.seen.clone();
                Some(())
            }
            Step::Kill => {
                self.seen = self.kept.clone();
                self.files.iter_mut().for_each(|content| content.seen = content.kept.clone());
                Some(())
            }
        };
        did.is_some()
    }

    fn shown(&self) -> BTreeMap<String, Vec<u8>> {
        let content = |id: &usize| self.files[*id].seen.clone();
        self.seen.iter().map(|(file, id)| (file.to_string(), content(id))).collect()
    }
}

fn path(file: u8) -> PathBuf {
    Path::new("d").join(file.to_string())
}

fn perform(disk: &dyn Disk, step: &Step) -> Result<(), DiskError> {
    match step {
        Step::Create(file) => disk.create(&path(*file)).map(drop),
        Step::Append(file, bytes) => disk.open(&path(*file))?.append(bytes),
        Step::Overwrite(file, at, bytes) => disk.open(&path(*file))?.overwrite(*at as u64, bytes),
        Step::Truncate(file, length) => disk.open(&path(*file))?.truncate(*length as u64),
        Step::Rename(from, to) => disk.rename(&path(*from), &path(*to)),
        Step::Remove(file) => disk.remove(&path(*file)),
        Step::Sync(file) => disk.open(&path(*file))?.sync_data(),
        Step::SyncDirectory => disk.sync_directory(Path::new("d")),
        Step::Kill => Ok(()),
    }
}

fn shown(disk: &dyn Disk) -> BTreeMap<String, Vec<u8>> {
    let read = |name: &String| {
        let file = disk.open(&Path::new("d").join(name)).unwrap();
        let mut bytes = vec![0; file.len().unwrap() as usize];
        file.read_at(0, &mut bytes).unwrap();
        bytes
    };
    let names = disk.list(Path::new("d")).unwrap();
    names.into_iter().map(|name| (name.clone(), read(&name))).collect()
}

#[test]
fn it_shows_all_and_keeps_what_was_synced() {
    let steps = proptest::collection::vec(step(), 1..60);
    for_each_seed(300, |seed| {
        let directory = tempfile::tempdir().unwrap();
        let mut model = Model::default();
        let mut disk = VolatileDisk::open(directory.path(), None).unwrap();
        disk.create_directory(Path::new("d")).unwrap();
        for step in value_of(&steps, seed).into_iter().chain([Step::Kill]) {
            // On a real disk a name replaces itself by doing nothing; so it is here, in the model.
            let possible = model.perform(&step);
            if matches!(step, Step::Kill) {
                drop(disk);
                disk = VolatileDisk::open(directory.path(), None).unwrap();
            }
            assert_eq!(perform(&disk, &step).is_ok(), possible, "{step:?}");
            assert_eq!(shown(&disk), model.shown(), "after {step:?}");
        }
        drop(disk);
        assert_eq!(shown(&RealDisk::open(directory.path()).unwrap()), model.shown());
    });
}

/// Bytes and names that a disk says it would forget.
fn unsynced(faults: &Path) -> (u64, u64) {
    let text = std::fs::read_to_string(faults.join(UNSYNCED)).unwrap();
    let numbers: Vec<u64> = text.split_whitespace().map(|number| number.parse().unwrap()).collect();
    (numbers[0], numbers[1])
}

#[test]
fn it_says_how_much_it_would_forget() {
    let (root, faults) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let open = || VolatileDisk::open(root.path(), Some(faults.path().to_owned())).unwrap();
    let disk = open();
    assert_eq!(unsynced(faults.path()), (0, 0));
    let mut file = disk.create(Path::new("file")).unwrap();
    file.append(b"0123456789").unwrap();
    assert_eq!(unsynced(faults.path()), (10, 1));
    file.sync_data().unwrap();
    assert_eq!(unsynced(faults.path()), (0, 1));
    disk.sync_directory(Path::new("")).unwrap();
    assert_eq!(unsynced(faults.path()), (0, 0));
    file.overwrite(0, b"abc").unwrap();
    file.truncate(8).unwrap();
    file.append(b"xy").unwrap();
    assert_eq!(unsynced(faults.path()), (7, 0));
    drop((disk, file));
    let disk = open();
    assert_eq!(unsynced(faults.path()), (0, 0));
    let mut bytes = [0; 10];
    disk.open(Path::new("file")).unwrap().read_at(0, &mut bytes).unwrap();
    assert_eq!(&bytes, b"0123456789");
}

#[test]
fn it_forgets_nothing_while_it_shall_keep() {
    let (root, faults) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let open = || VolatileDisk::open(root.path(), Some(faults.path().to_owned())).unwrap();
    let disk = open();
    let mut file = disk.create(Path::new("before")).unwrap();
    file.append(b"early ").unwrap();
    std::fs::write(faults.path().join("keeps"), "").unwrap();
    file.append(b"late").unwrap();
    disk.rename(Path::new("before"), Path::new("after")).unwrap();
    assert_eq!(unsynced(faults.path()), (0, 0));
    drop((disk, file));
    let mut bytes = [0; 10];
    open().open(Path::new("after")).unwrap().read_at(0, &mut bytes).unwrap();
    assert_eq!(&bytes, b"early late");
}

#[test]
fn reading_parts_sees_what_lies_below_and_what_lies_over_it() {
    let directory = tempfile::tempdir().unwrap();
    let disk = VolatileDisk::open(directory.path(), None).unwrap();
    let mut file = disk.create(Path::new("file")).unwrap();
    file.append(b"0123456789").unwrap();
    file.sync_data().unwrap();
    file.append(b"abcdef").unwrap();
    file.overwrite(8, b"XYZW").unwrap();
    let other = disk.open(Path::new("file")).unwrap();
    for start in 0..16 {
        for end in start..=16 {
            let mut part = vec![0; end - start];
            other.read_at(start as u64, &mut part).unwrap();
            assert_eq!(part, &b"01234567XYZWcdef"[start..end]);
        }
    }
    assert!(other.read_at(10, &mut [0; 7]).unwrap_err().is_short());
    assert!(file.overwrite(14, b"xyz").is_err());
    assert!(file.truncate(17).is_err());
}

#[test]
fn faults_come_and_go() {
    let (root, faults) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let disk = VolatileDisk::open(root.path(), Some(faults.path().to_owned())).unwrap();
    let store = RecordStore::open(Arc::new(disk), "records").unwrap();
    store.put("one", b"1").unwrap();
    std::fs::write(faults.path().join("full"), "").unwrap();
    let refused = store.put("one", b"2").unwrap_err();
    assert!(matches!(&refused, novacron_storage::record::RecordError::Disk(e) if e.is_full()));
    assert_eq!(store.get("one").unwrap().unwrap(), "1");
    std::fs::remove_file(faults.path().join("full")).unwrap();
    std::fs::write(faults.path().join("sync_delay_ms"), "30\n").unwrap();
    let begun = Instant::now();
    store.put("one", b"2").unwrap();
    assert!(begun.elapsed() >= Duration::from_millis(60), "one sync of bytes, one of names");
}
