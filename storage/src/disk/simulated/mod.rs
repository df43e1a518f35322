//! A disk in memory that fails as real ones do, the same way for the same seed.
//!
//! What it does to those who trust too much:
//!
//! - **Power cut** at any operation: bytes that were not synced are lost, torn at any byte, or
//!   reach the platter sector by sector with holes of zeros; creations, renamings and removals
//!   that were not synced happen or do not, each on its own.
//! - **Errors** at the Nth operation: an append writes a part, and what a failed sync did not write
//!   stays readable but is never written, whatever later syncs say (as Linux marks the pages that
//!   it could not write as clean).
//! - **Full**: an append writes what fits.
//! - **Bit rot**: one bit of one file, on demand.
//!
//! Not simulated: reordering between two syncs that both returned, and drives that lie about them.

mod contents;
mod names;

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use self::contents::Contents;
use self::names::{NameChange, Names};
use super::dice::Dice;
use super::{Disk, DiskError, DiskFile, Operation, is_inside};

/// What goes wrong at an operation.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Failure {
    /// The operation fails with this error; the disk goes on.
    Error(io::ErrorKind),
    /// The power goes off during the operation; see [`SimulatedDisk::restart`].
    PowerCut,
}

/// A seeded disk in memory; clones are the same disk.
#[derive(Debug, Clone)]
pub struct SimulatedDisk {
    state: Arc<Mutex<State>>,
}

impl SimulatedDisk {
    /// An empty disk with power on.
    pub fn new(seed: u64) -> SimulatedDisk {
        SimulatedDisk { state: Arc::new(Mutex::new(State::new(seed))) }
    }

    /// How many operations have been asked for so far, failed ones included.
    pub fn operations(&self) -> u64 {
        self.state().operations
    }

    /// Lets the operation with this number (the first is 1) go wrong.
    pub fn fail_at(&self, operation: u64, failure: Failure) {
        self.state().failures.insert(operation, failure);
    }

    /// Takes back all failures that have not happened yet.
    pub fn clear_failures(&self) {
        self.state().failures.clear();
    }

    /// Limits the bytes that fit on the disk; `None` is no limit.
    pub fn set_capacity_bytes(&self, capacity_bytes: Option<u64>) {
        self.state().capacity_bytes = capacity_bytes;
    }

    /// Bytes that are left of the capacity; without one, as many as a number can say.
    pub fn free_bytes(&self) -> u64 {
        let state = self.state();
        let used_bytes = state.used_bytes();
        state.capacity_bytes.map_or(u64::MAX, |capacity| capacity.saturating_sub(used_bytes))
    }

    /// Bytes of all files that have a name.
    pub fn used_bytes(&self) -> u64 {
        self.state().used_bytes()
    }

    /// Cuts the power now. Every operation fails until [`SimulatedDisk::restart`].
    pub fn cut_power(&self) {
        self.state().cut_power();
    }

    /// Whether there is power.
    pub fn has_power(&self) -> bool {
        self.state().has_power
    }

    /// Gives power again. Files opened before the cut stay unusable, as their process is dead.
    pub fn restart(&self) {
        self.state().has_power = true;
    }

    /// Flips one bit (0 to 7) of a byte, on the platter and in every cache. Returns whether there
    /// was such a byte.
    pub fn flip_bit(&self, path: &Path, offset: u64, bit: u8) -> bool {
        let mut state = self.state();
        let Some(contents) = state.names.find(path).and_then(|id| state.files.get_mut(&id)) else {
            return false;
        };
        contents.flip_bit(offset, bit)
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn perform<T>(
        &self,
        operation: Operation,
        path: &Path,
        act: impl FnOnce(&mut State, Effort) -> io::Result<T>,
    ) -> Result<T, DiskError> {
        let outcome = if is_inside(path) {
            self.state().perform(act)
        } else {
            Err(io::ErrorKind::InvalidInput.into())
        };
        outcome.map_err(|source| DiskError { operation, path: path.to_owned(), source })
    }

    fn opened(&self, path: &Path, (id, boot): (FileId, u64)) -> Box<dyn DiskFile> {
        Box::new(SimulatedFile { disk: self.clone(), path: path.to_owned(), id, boot })
    }
}

impl Disk for SimulatedDisk {
    fn create_directory(&self, path: &Path) -> Result<(), DiskError> {
        self.perform(Operation::CreateDirectory, path, |state, effort| {
            if effort == Effort::Whole {
                state.directories.extend(path.ancestors().map(Path::to_owned));
            }
            Ok(())
        })
    }

    fn list(&self, directory: &Path) -> Result<Vec<String>, DiskError> {
        self.perform(Operation::List, directory, |state, _| {
            state.require_directory(directory)?;
            Ok(state.names.list(directory))
        })
    }

    fn create(&self, path: &Path) -> Result<Box<dyn DiskFile>, DiskError> {
        let opened = self.perform(Operation::Create, path, |state, effort| {
            state.require_directory(path.parent().unwrap_or(Path::new("")))?;
            if state.names.find(path).is_some() {
                return Err(io::ErrorKind::AlreadyExists.into());
            }
            let id = state.new_file();
            state.change_name(effort, NameChange::Link { path: path.to_owned(), id });
            Ok((id, state.boot))
        })?;
        Ok(self.opened(path, opened))
    }

    fn open(&self, path: &Path) -> Result<Box<dyn DiskFile>, DiskError> {
        let opened = self.perform(Operation::Open, path, |state, _| {
            let id = state.names.find(path).ok_or(io::ErrorKind::NotFound)?;
            Ok((id, state.boot))
        })?;
        Ok(self.opened(path, opened))
    }

    fn rename(&self, from: &Path, to: &Path) -> Result<(), DiskError> {
        self.perform(Operation::Rename, from, |state, effort| {
            let id = state.names.find(from).ok_or(io::ErrorKind::NotFound)?;
            if from.parent() != to.parent() {
                return Err(io::ErrorKind::CrossesDevices.into());
            }
            let (from, to) = (from.to_owned(), to.to_owned());
            state.change_name(effort, NameChange::Rename { from, to, id });
            Ok(())
        })
    }

    fn remove(&self, path: &Path) -> Result<(), DiskError> {
        self.perform(Operation::Remove, path, |state, effort| {
            state.names.find(path).ok_or(io::ErrorKind::NotFound)?;
            state.change_name(effort, NameChange::Unlink { path: path.to_owned() });
            Ok(())
        })
    }

    fn sync_directory(&self, path: &Path) -> Result<(), DiskError> {
        self.perform(Operation::SyncDirectory, path, |state, effort| {
            state.require_directory(path)?;
            if effort == Effort::Whole {
                state.names.sync(path);
            }
            Ok(())
        })
    }

    fn full_path(&self, path: &Path) -> PathBuf {
        path.to_owned()
    }
}

#[derive(Debug)]
struct SimulatedFile {
    disk: SimulatedDisk,
    path: PathBuf,
    id: FileId,
    boot: u64,
}

impl SimulatedFile {
    fn perform<T>(
        &self,
        operation: Operation,
        act: impl FnOnce(&mut State, Effort) -> io::Result<T>,
    ) -> Result<T, DiskError> {
        self.disk.perform(operation, &self.path, |state, effort| {
            if state.boot != self.boot {
                return Err(io::Error::other("the file was opened before the power cut"));
            }
            act(state, effort)
        })
    }
}

impl DiskFile for SimulatedFile {
    fn len(&self) -> Result<u64, DiskError> {
        self.perform(Operation::Read, |state, _| Ok(state.file(self.id)?.len()))
    }

    fn read_at(&self, offset: u64, buffer: &mut [u8]) -> Result<(), DiskError> {
        self.perform(Operation::Read, |state, _| state.file(self.id)?.read_at(offset, buffer))
    }

    fn append(&mut self, bytes: &[u8]) -> Result<(), DiskError> {
        self.perform(Operation::Append, |state, effort| state.append(self.id, bytes, effort))
    }

    fn overwrite(&mut self, offset: u64, bytes: &[u8]) -> Result<(), DiskError> {
        self.perform(Operation::Overwrite, |state, effort| {
            state.overwrite(self.id, offset, bytes, effort)
        })
    }

    fn truncate(&mut self, length_bytes: u64) -> Result<(), DiskError> {
        self.perform(Operation::Truncate, |state, effort| match effort {
            Effort::Whole => state.file(self.id)?.truncate(length_bytes),
            Effort::Failing => Ok(()),
        })
    }

    fn sync_data(&mut self) -> Result<(), DiskError> {
        self.perform(Operation::Sync, |state, effort| {
            match effort {
                Effort::Whole => state.file(self.id)?.sync(),
                Effort::Failing => state.file(self.id)?.fail_sync(),
            }
            Ok(())
        })
    }
}

type FileId = u64;

/// How far an operation gets. A failing write writes a part, a failing sync loses what it should
/// have written, and everything else does nothing when it fails.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Effort {
    Whole,
    Failing,
}

#[derive(Debug)]
struct State {
    dice: Dice,
    operations: u64,
    failures: BTreeMap<u64, Failure>,
    has_power: bool,
    /// Counts the power cuts, to tell files opened before one from those opened after.
    boot: u64,
    capacity_bytes: Option<u64>,
    directories: BTreeSet<PathBuf>,
    names: Names,
    files: BTreeMap<FileId, Contents>,
    next_file: FileId,
}

impl State {
    fn new(seed: u64) -> State {
        State {
            dice: Dice::new(seed),
            operations: 0,
            failures: BTreeMap::new(),
            has_power: true,
            boot: 0,
            capacity_bytes: None,
            directories: BTreeSet::from([PathBuf::new()]),
            names: Names::default(),
            files: BTreeMap::new(),
            next_file: 0,
        }
    }

    fn perform<T>(
        &mut self,
        act: impl FnOnce(&mut State, Effort) -> io::Result<T>,
    ) -> io::Result<T> {
        self.operations += 1;
        if !self.has_power {
            return Err(no_power());
        }
        match self.failures.remove(&self.operations) {
            None => act(self, Effort::Whole),
            Some(Failure::Error(kind)) => {
                let _ = act(self, Effort::Failing);
                Err(kind.into())
            }
            Some(Failure::PowerCut) => {
                let effort = if self.dice.coin() { Effort::Whole } else { Effort::Failing };
                let _ = act(self, effort);
                self.cut_power();
                Err(no_power())
            }
        }
    }

    fn cut_power(&mut self) {
        self.has_power = false;
        self.boot += 1;
        self.names.survive_power_cut(&mut self.dice);
        let named = self.names.all();
        self.files.retain(|id, _| named.contains(id));
        for contents in self.files.values_mut() {
            contents.survive_power_cut(&mut self.dice);
        }
    }

    fn require_directory(&self, path: &Path) -> io::Result<()> {
        if self.directories.contains(path) { Ok(()) } else { Err(io::ErrorKind::NotFound.into()) }
    }

    fn change_name(&mut self, effort: Effort, change: NameChange) {
        if effort == Effort::Whole {
            self.names.apply(change);
        }
    }

    fn new_file(&mut self) -> FileId {
        self.next_file += 1;
        self.files.insert(self.next_file, Contents::default());
        self.next_file
    }

    fn file(&mut self, id: FileId) -> io::Result<&mut Contents> {
        self.files.get_mut(&id).ok_or_else(|| io::ErrorKind::NotFound.into())
    }

    fn append(&mut self, id: FileId, bytes: &[u8], effort: Effort) -> io::Result<()> {
        let free = self.free_bytes();
        let wanted = match effort {
            Effort::Whole => bytes.len(),
            Effort::Failing => self.dice.between(0, bytes.len()),
        };
        let written = wanted.min(free);
        self.file(id)?.append(&bytes[..written]);
        if written < wanted { Err(io::ErrorKind::StorageFull.into()) } else { Ok(()) }
    }

    fn overwrite(
        &mut self,
        id: FileId,
        offset: u64,
        bytes: &[u8],
        effort: Effort,
    ) -> io::Result<()> {
        let written = match effort {
            Effort::Whole => bytes.len(),
            Effort::Failing => self.dice.between(0, bytes.len()),
        };
        self.file(id)?.overwrite(offset, &bytes[..written])
    }

    fn free_bytes(&self) -> usize {
        let Some(capacity_bytes) = self.capacity_bytes else { return usize::MAX };
        usize::try_from(capacity_bytes.saturating_sub(self.used_bytes())).unwrap_or(usize::MAX)
    }

    fn used_bytes(&self) -> u64 {
        let named = self.names.all();
        named.iter().filter_map(|id| self.files.get(id)).map(Contents::len).sum()
    }
}

fn no_power() -> io::Error {
    io::Error::other("the power is off")
}
