//! Files of samples on this member's disk: written whole under another name, renamed, and removed when their time is over.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use novacron_storage::cipher::EncryptedFiles;
use novacron_storage::disk::{Disk, DiskError};

use super::level::Level;
use super::segment::{Segment, SegmentError};

/// The directory of all of them in a data directory.
const DIRECTORY: &str = "samples";
const SUFFIX: &str = ".samples";
const ENCRYPTED: EncryptedFiles = EncryptedFiles { magic: *b"novasmpe" };

/// Where files are, and how they are called.
pub(crate) fn directories() -> [(PathBuf, &'static str); Level::ALL.len()] {
    Level::ALL.map(|level| (directory(level), SUFFIX))
}
const TEMPORARY: &str = "unfinished";

/// The files of one member. One task writes; many read.
#[derive(Debug)]
pub struct Files {
    disk: Arc<dyn Disk>,
    /// The files that there are, by the second with which they begin.
    begins: Mutex<BTreeSet<(Level, u64)>>,
}

impl Files {
    /// Opens or makes the directories, and removes what was not finished.
    ///
    /// # Errors
    /// [`DiskError`].
    pub fn open(disk: Arc<dyn Disk>) -> Result<Self, DiskError> {
        let mut begins = BTreeSet::new();
        for level in Level::ALL {
            let directory = directory(level);
            disk.create_directory(&directory)?;
            for name in disk.list(&directory)? {
                match begin_of(&name) {
                    Some(begin_s) => drop(begins.insert((level, begin_s))),
                    None if name == TEMPORARY => disk.remove(&directory.join(name))?,
                    None => {}
                }
            }
        }
        Ok(Self { disk, begins: Mutex::new(begins) })
    }

    fn begins(&self) -> MutexGuard<'_, BTreeSet<(Level, u64)>> {
        self.begins.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The files of a level that have something from within a stretch of seconds, in order.
    pub fn within(&self, level: Level, from_s: u64, to_s: u64) -> Vec<u64> {
        let first = (level, (from_s + 1).saturating_sub(level.file_s()));
        self.begins().range(first..(level, to_s)).map(|(_, begin_s)| *begin_s).collect()
    }

    /// The second up to which a level was written.
    pub fn end_s(&self, level: Level) -> Option<u64> {
        let last = self.begins().range((level, 0)..=(level, u64::MAX)).next_back().copied();
        last.map(|(_, begin_s)| begin_s + level.file_s())
    }

    /// Writes a file, or replaces one; durable on return.
    ///
    /// # Errors
    /// [`DiskError`]; the old file is there or the new one, whole.
    pub fn write(&self, level: Level, begin_s: u64, bytes: &[u8]) -> Result<(), DiskError> {
        let directory = directory(level);
        let unfinished = directory.join(TEMPORARY);
        match self.disk.remove(&unfinished) {
            Err(error) if !error.is_not_found() => return Err(error),
            _ => {}
        }
        let path = path(level, begin_s);
        let mut file = ENCRYPTED.write(&*self.disk, &unfinished, &path, bytes)?;
        file.sync_data()?;
        drop(file);
        self.disk.rename(&unfinished, &path)?;
        self.disk.sync_directory(&directory)?;
        self.begins().insert((level, begin_s));
        Ok(())
    }

    /// A file; none if there is no such.
    ///
    /// # Errors
    /// [`SegmentError`].
    pub fn read(&self, level: Level, begin_s: u64) -> Result<Option<Segment>, SegmentError> {
        match ENCRYPTED.open(&*self.disk, &path(level, begin_s)) {
            Ok(file) => Segment::open(file).map(Some),
            // It was removed a moment ago.
            Err(error) if error.is_not_found() => Ok(None),
            Err(error) => Err(error.into()),
        }
    }

    /// Removes what is older than is remembered. Whether that is durable does not matter: it is tried again.
    ///
    /// # Errors
    /// [`DiskError`]; the others are tried next time.
    pub fn retire(&self, now_s: u64) -> Result<(), DiskError> {
        let mut failed = None;
        for level in Level::ALL {
            // One file more than is remembered: requests begin a little earlier.
            let before_s = now_s.saturating_sub(level.remembered_s() + 2 * level.file_s());
            let old: Vec<_> =
                self.begins().range((level, 0)..(level, before_s)).map(|(_, at)| *at).collect();
            for begin_s in old {
                match self.disk.remove(&path(level, begin_s)) {
                    Err(error) if !error.is_not_found() => failed = failed.or(Some(error)),
                    _ => drop(self.begins().remove(&(level, begin_s))),
                }
            }
        }
        failed.map_or(Ok(()), Err)
    }
}

fn directory(level: Level) -> PathBuf {
    Path::new(DIRECTORY).join(level.word())
}

fn path(level: Level, begin_s: u64) -> PathBuf {
    directory(level).join(format!("{begin_s:012}{SUFFIX}"))
}

fn begin_of(name: &str) -> Option<u64> {
    name.strip_suffix(SUFFIX)?.parse().ok()
}

#[cfg(test)]
mod tests {
    use novacron_protocol::metric::Metric;
    use novacron_storage::disk::{Failure, SimulatedDisk};

    use super::super::rollup::Rollup;
    use super::super::segment::SegmentWriter;
    use super::super::table::Resource;
    use super::super::track::SeriesKey;
    use super::*;

    fn node() -> Resource {
        Resource::Node("a".parse().unwrap())
    }

    fn content(begin_s: u64, value: u64) -> Vec<u8> {
        let mut writer = SegmentWriter::new(Level::Quarters, begin_s);
        let key = SeriesKey { metric: Metric::Load, device: 0 };
        writer.add(&node(), [(key, vec![Some(Rollup::of_one(value))])]).unwrap();
        writer.finish().unwrap()
    }

    fn value(files: &Files, begin_s: u64) -> Option<u64> {
        let segment = files.read(Level::Quarters, begin_s).unwrap()?;
        let points = segment.find(&node()).unwrap();
        Some(points[0].1[0].unwrap().average)
    }

    #[test]
    fn files_are_found_by_time_and_removed_when_it_is_over() {
        let disk = SimulatedDisk::new(1);
        let files = Files::open(Arc::new(disk.clone())).unwrap();
        assert_eq!(files.end_s(Level::Quarters), None);
        for number in 0..4 {
            files.write(Level::Quarters, number * 900, &content(number * 900, number)).unwrap();
        }
        for files in [&files, &Files::open(Arc::new(disk)).unwrap()] {
            assert_eq!(files.end_s(Level::Quarters), Some(3_600));
            assert_eq!(files.end_s(Level::Minutes), None);
            assert_eq!(files.within(Level::Quarters, 899, 1_800), [0, 900]);
            assert_eq!(files.within(Level::Quarters, 900, 1_801), [900, 1_800]);
            assert_eq!((value(files, 900), value(files, 901)), (Some(1), None));
        }
        files.retire(30 * 24 * 3_600 + 4 * 900).unwrap();
        assert_eq!(files.within(Level::Quarters, 0, 9_000), [1_800, 2_700]);
        assert_eq!((value(&files, 900), value(&files, 1_800)), (None, Some(2)));
    }

    /// Whenever the power fails while a file is replaced, the old one or the new one is there, whole.
    #[test]
    fn a_power_cut_leaves_whole_files() {
        let mut cuts = 0;
        for seed in 0..40 {
            let disk = SimulatedDisk::new(seed);
            let files = Files::open(Arc::new(disk.clone())).unwrap();
            files.write(Level::Quarters, 900, &content(900, 1)).unwrap();
            disk.fail_at(disk.operations() + 1 + seed % 8, Failure::PowerCut);
            let written = files.write(Level::Quarters, 900, &content(900, 2));
            cuts += usize::from(written.is_err());
            disk.clear_failures();
            disk.cut_power();
            disk.restart();
            let files = Files::open(Arc::new(disk.clone())).unwrap();
            let found = value(&files, 900);
            let expected = if written.is_ok() { &[Some(2)][..] } else { &[Some(1), Some(2)] };
            assert!(expected.contains(&found), "seed {seed}: {found:?}");
            files.write(Level::Quarters, 900, &content(900, 3)).unwrap();
            assert_eq!(value(&files, 900), Some(3));
        }
        assert!(cuts > 20, "{cuts}");
    }
}
