//! For tests only: a real disk that forgets what was not synced when its process is killed.
//!
//! A killed process loses nothing that it wrote: the operating system has it. So a test of real
//! processes that shall also be a test of power cuts needs a disk that keeps in the process what a
//! power cut could take: bytes until their file is synced, creations, renamings and removals until
//! their directory is. Below the root there is only what survives; `.volatile/` holds the files
//! whose names do not exist yet, and is emptied when the disk is opened.
//!
//! It forgets all of it, always. What a power cut may leave by half, the simulated disk tries.
//!
//! A directory of faults, if one is given, is looked at at each operation: while it holds a file
//! `full`, nothing can be created or appended; `sync_delay_ms` holds how long each sync takes
//! longer; while it holds `keeps`, the disk keeps nothing in the process, as others do. The disk
//! itself writes [`UNSYNCED`] into it: what would be forgotten now.

mod contents;
mod unsynced;

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use self::contents::Contents;
use self::unsynced::Unsynced;
use super::{Disk, DiskError, DiskFile, Operation, RealDisk};

/// The file in the directory of faults that says how many bytes and names are not synced, and would be forgotten: two
/// numbers. What is being synced is not among them any more, so that at least as much is lost with the process.
pub const UNSYNCED: &str = "unsynced";

/// Holds files whose names are not durable yet.
const POOL: &str = ".volatile";

/// Files that are kept open although nobody has them open.
const IDLE_FILES_MAX: usize = 64;

/// A mistake in a test shall not hang it.
const SYNC_DELAY_MS_MAX: u64 = 60_000;

/// A disk that forgets. For tests only.
#[derive(Debug, Clone)]
pub struct VolatileDisk {
    shared: Arc<Shared>,
}

#[derive(Debug)]
struct Shared {
    real: RealDisk,
    faults: Option<PathBuf>,
    unsynced: Unsynced,
    names: Mutex<Names>,
}

type SharedContents = Arc<Mutex<Contents>>;

/// What programs see of names, where it differs from the disk or somebody has the file open.
#[derive(Debug, Default)]
struct Names {
    seen: BTreeMap<PathBuf, Seen>,
    /// Done since the last sync of their directory, in order.
    unsynced: VecDeque<NameChange>,
    pool_last: u64,
}

#[derive(Debug, Clone)]
enum Seen {
    File(SharedContents),
    Gone,
}

#[derive(Debug, Clone)]
enum NameChange {
    Link { path: PathBuf, pooled: PathBuf },
    Rename { from: PathBuf, to: PathBuf },
    Unlink { path: PathBuf },
}

impl NameChange {
    fn directory(&self) -> Option<&Path> {
        match self {
            NameChange::Link { path, .. } | NameChange::Unlink { path } => path.parent(),
            NameChange::Rename { to, .. } => to.parent(),
        }
    }

    fn perform(&self, real: &RealDisk) -> Result<(), DiskError> {
        match self {
            NameChange::Link { path, pooled } => real.rename(pooled, path),
            NameChange::Rename { from, to } => real.rename(from, to),
            NameChange::Unlink { path } => real.remove(path),
        }
    }
}

impl VolatileDisk {
    /// Locks the directory as [`RealDisk::open`] does. `faults` is a directory outside of it.
    pub fn open(
        root: impl Into<PathBuf>,
        faults: Option<PathBuf>,
    ) -> Result<VolatileDisk, DiskError> {
        let real = RealDisk::open(root)?;
        let pool = Path::new(POOL);
        real.create_directory(pool)?;
        for forgotten in real.list(pool)? {
            real.remove(&pool.join(forgotten))?;
        }
        let unsynced = Unsynced::new(faults.as_deref().map(|faults| faults.join(UNSYNCED)));
        let shared = Shared { real, faults, unsynced, names: Mutex::default() };
        Ok(VolatileDisk { shared: Arc::new(shared) })
    }

    fn opened(&self, path: &Path, contents: SharedContents) -> Box<dyn DiskFile> {
        let shared = Arc::clone(&self.shared);
        Box::new(VolatileFile { shared, path: path.to_owned(), contents })
    }
}

impl Shared {
    fn names(&self) -> MutexGuard<'_, Names> {
        self.names.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn fail(&self, operation: Operation, path: &Path, kind: io::ErrorKind) -> DiskError {
        DiskError { operation, path: self.real.full_path(path), source: kind.into() }
    }

    fn require_room(&self, operation: Operation, path: &Path) -> Result<(), DiskError> {
        let is_full = self.faults.as_ref().is_some_and(|faults| faults.join("full").exists());
        if !is_full {
            return Ok(());
        }
        Err(self.fail(operation, path, io::ErrorKind::StorageFull))
    }

    /// Whether what is written leaves the process at once.
    fn keeps(&self) -> bool {
        self.faults.as_ref().is_some_and(|faults| faults.join("keeps").exists())
    }

    /// After a change of names.
    fn note_names(&self, names: &mut Names) -> Result<(), DiskError> {
        let kept = if self.keeps() { self.perform(names, |_| true) } else { Ok(()) };
        self.unsynced.set_names(names.unsynced.len());
        kept
    }

    /// Does to the real names what was done to those of some directories.
    fn perform(
        &self,
        names: &mut Names,
        is_due: impl Fn(&NameChange) -> bool,
    ) -> Result<(), DiskError> {
        let (mut due, others): (VecDeque<_>, VecDeque<_>) =
            names.unsynced.drain(..).partition(|change| is_due(change));
        self.unsynced.set_names(others.len());
        let performed = loop {
            let Some(change) = due.front() else { break Ok(()) };
            if let Err(error) = change.perform(&self.real) {
                break Err(error);
            }
            due.pop_front();
        };
        names.unsynced = due.into_iter().chain(others).collect();
        performed
    }

    /// Waits as long as the test wants a sync to take.
    fn delay_sync(&self) {
        let file = self.faults.as_ref().map(|faults| faults.join("sync_delay_ms"));
        let text = file.and_then(|file| std::fs::read_to_string(file).ok());
        let milliseconds = text.and_then(|text| text.trim().parse().ok()).unwrap_or(0);
        std::thread::sleep(Duration::from_millis(SYNC_DELAY_MS_MAX.min(milliseconds)));
    }

    /// The file that programs see at `path`.
    fn find(&self, names: &mut Names, path: &Path) -> Result<SharedContents, DiskError> {
        match names.seen.get(path) {
            Some(Seen::File(contents)) => return Ok(Arc::clone(contents)),
            Some(Seen::Gone) => {
                return Err(self.fail(Operation::Open, path, io::ErrorKind::NotFound));
            }
            None => {}
        }
        let contents = Arc::new(Mutex::new(Contents::over(self.real.open(path)?)?));
        names.forget_idle_files();
        names.seen.insert(path.to_owned(), Seen::File(Arc::clone(&contents)));
        Ok(contents)
    }
}

impl Names {
    /// Files that nobody has open and that are as the disk has them can be opened anew.
    fn forget_idle_files(&mut self) {
        if self.seen.len() <= IDLE_FILES_MAX {
            return;
        }
        let unsynced = std::mem::take(&mut self.unsynced);
        let is_unsynced = |path: &PathBuf| {
            unsynced.iter().any(|change| match change {
                NameChange::Link { path: named, .. } | NameChange::Unlink { path: named } => {
                    named == path
                }
                NameChange::Rename { from, to } => from == path || to == path,
            })
        };
        self.seen.retain(|path, seen| match seen {
            Seen::Gone => true,
            Seen::File(contents) => {
                Arc::strong_count(contents) > 1 || is_unsynced(path) || !lock(contents).is_synced()
            }
        });
        self.unsynced = unsynced;
    }
}

fn lock(contents: &SharedContents) -> MutexGuard<'_, Contents> {
    contents.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Disk for VolatileDisk {
    fn create_directory(&self, path: &Path) -> Result<(), DiskError> {
        self.shared.real.create_directory(path)
    }

    fn list(&self, directory: &Path) -> Result<Vec<String>, DiskError> {
        let names = self.shared.names();
        let mut found: BTreeSet<String> = self.shared.real.list(directory)?.into_iter().collect();
        let inside = names.seen.iter().filter(|(path, _)| path.parent() == Some(directory));
        for (path, seen) in inside {
            let Some(name) = path.file_name().and_then(|name| name.to_str()) else { continue };
            match seen {
                Seen::File(_) => drop(found.insert(name.to_owned())),
                Seen::Gone => drop(found.remove(name)),
            }
        }
        Ok(found.into_iter().collect())
    }

    fn create(&self, path: &Path) -> Result<Box<dyn DiskFile>, DiskError> {
        let shared = &self.shared;
        shared.require_room(Operation::Create, path)?;
        let mut names = shared.names();
        match shared.find(&mut names, path) {
            Err(error) if error.is_not_found() => {}
            Err(error) => return Err(error),
            Ok(_) => {
                return Err(shared.fail(Operation::Create, path, io::ErrorKind::AlreadyExists));
            }
        }
        // The directory must exist, as on any other disk.
        shared.real.list(path.parent().unwrap_or(Path::new("")))?;
        names.pool_last += 1;
        let pooled = Path::new(POOL).join(names.pool_last.to_string());
        let contents = Arc::new(Mutex::new(Contents::over(shared.real.create(&pooled)?)?));
        names.seen.insert(path.to_owned(), Seen::File(Arc::clone(&contents)));
        names.unsynced.push_back(NameChange::Link { path: path.to_owned(), pooled });
        shared.note_names(&mut names)?;
        Ok(self.opened(path, contents))
    }

    fn open(&self, path: &Path) -> Result<Box<dyn DiskFile>, DiskError> {
        let contents = self.shared.find(&mut self.shared.names(), path)?;
        Ok(self.opened(path, contents))
    }

    fn rename(&self, from: &Path, to: &Path) -> Result<(), DiskError> {
        let mut names = self.shared.names();
        if from.parent() != to.parent() {
            return Err(self.shared.fail(Operation::Rename, from, io::ErrorKind::CrossesDevices));
        }
        let contents = self.shared.find(&mut names, from)?;
        names.seen.insert(from.to_owned(), Seen::Gone);
        names.seen.insert(to.to_owned(), Seen::File(contents));
        let (from, to) = (from.to_owned(), to.to_owned());
        names.unsynced.push_back(NameChange::Rename { from, to });
        self.shared.note_names(&mut names)
    }

    fn remove(&self, path: &Path) -> Result<(), DiskError> {
        let mut names = self.shared.names();
        let contents = self.shared.find(&mut names, path)?;
        // Nobody misses what was written to it.
        self.shared.unsynced.change_bytes(lock(&contents).unsynced_bytes(), 0);
        names.seen.insert(path.to_owned(), Seen::Gone);
        names.unsynced.push_back(NameChange::Unlink { path: path.to_owned() });
        self.shared.note_names(&mut names)
    }

    fn sync_directory(&self, path: &Path) -> Result<(), DiskError> {
        self.shared.delay_sync();
        let mut names = self.shared.names();
        self.shared.perform(&mut names, |change| change.directory() == Some(path))?;
        names.seen.retain(|seen, is| seen.parent() != Some(path) || !matches!(is, Seen::Gone));
        self.shared.real.sync_directory(path)
    }

    fn full_path(&self, path: &Path) -> PathBuf {
        self.shared.real.full_path(path)
    }
}

#[derive(Debug)]
struct VolatileFile {
    shared: Arc<Shared>,
    path: PathBuf,
    contents: SharedContents,
}

impl VolatileFile {
    fn refuse(&self, operation: Operation) -> impl FnOnce(io::ErrorKind) -> DiskError {
        move |kind| self.shared.fail(operation, &self.path, kind)
    }

    /// Changes the contents, and keeps count of what is not synced.
    fn change<T>(&self, change: impl FnOnce(&mut Contents) -> T) -> Result<T, DiskError> {
        let mut contents = lock(&self.contents);
        let before = contents.unsynced_bytes();
        let changed = change(&mut contents);
        let kept = if self.shared.keeps() { contents.write_back() } else { Ok(()) };
        self.shared.unsynced.change_bytes(before, contents.unsynced_bytes());
        kept.map(|()| changed)
    }
}

impl DiskFile for VolatileFile {
    fn len(&self) -> Result<u64, DiskError> {
        Ok(lock(&self.contents).len())
    }

    fn read_at(&self, offset: u64, buffer: &mut [u8]) -> Result<(), DiskError> {
        let read = lock(&self.contents).read_at(offset, buffer)?;
        read.ok_or(io::ErrorKind::UnexpectedEof).map_err(self.refuse(Operation::Read))
    }

    fn append(&mut self, bytes: &[u8]) -> Result<(), DiskError> {
        self.shared.require_room(Operation::Append, &self.path)?;
        self.change(|contents| contents.append(bytes))
    }

    fn overwrite(&mut self, offset: u64, bytes: &[u8]) -> Result<(), DiskError> {
        let written = self.change(|contents| contents.overwrite(offset, bytes))?;
        written.ok_or(io::ErrorKind::InvalidInput).map_err(self.refuse(Operation::Overwrite))
    }

    fn truncate(&mut self, length_bytes: u64) -> Result<(), DiskError> {
        let cut = self.change(|contents| contents.truncate(length_bytes))?;
        cut.ok_or(io::ErrorKind::InvalidInput).map_err(self.refuse(Operation::Truncate))
    }

    fn sync_data(&mut self) -> Result<(), DiskError> {
        self.shared.delay_sync();
        let mut contents = lock(&self.contents);
        self.shared.unsynced.change_bytes(contents.unsynced_bytes(), 0);
        let synced = contents.sync();
        self.shared.unsynced.change_bytes(0, contents.unsynced_bytes());
        synced
    }
}
