//! A member's disk as one of its processes sees it. The disk outlives the process; whatever the process still has
//! open is of no use once it is dead.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use novacron_storage::disk::{Disk, DiskError, DiskFile, Operation, SimulatedDisk};

use crate::planted::Planted;

/// Whether a process lives. Clones are of the same process.
#[derive(Debug, Clone, Default)]
pub struct Life(Arc<AtomicBool>);

impl Life {
    /// The process is no more.
    pub fn end(&self) {
        self.0.store(true, Ordering::Relaxed);
    }

    fn check(&self, operation: Operation, path: &Path) -> Result<(), DiskError> {
        if !self.0.load(Ordering::Relaxed) {
            return Ok(());
        }
        let source = io::Error::other("the process is dead");
        Err(DiskError { operation, path: path.to_owned(), source })
    }
}

/// The disk, for one process.
#[derive(Debug, Clone)]
pub struct ProcessDisk {
    disk: SimulatedDisk,
    life: Life,
    planted: Planted,
}

impl ProcessDisk {
    /// `disk` for the process of `life`.
    pub fn new(disk: SimulatedDisk, life: Life, planted: Planted) -> Self {
        Self { disk, life, planted }
    }

    fn opened(&self, path: &Path, file: Box<dyn DiskFile>) -> Box<dyn DiskFile> {
        let (path, life, planted) = (path.to_owned(), self.life.clone(), self.planted);
        Box::new(ProcessFile { path, file, life, planted })
    }
}

impl Disk for ProcessDisk {
    fn create_directory(&self, path: &Path) -> Result<(), DiskError> {
        self.life.check(Operation::CreateDirectory, path)?;
        self.disk.create_directory(path)
    }

    fn list(&self, directory: &Path) -> Result<Vec<String>, DiskError> {
        self.life.check(Operation::List, directory)?;
        self.disk.list(directory)
    }

    fn create(&self, path: &Path) -> Result<Box<dyn DiskFile>, DiskError> {
        self.life.check(Operation::Create, path)?;
        Ok(self.opened(path, self.disk.create(path)?))
    }

    fn open(&self, path: &Path) -> Result<Box<dyn DiskFile>, DiskError> {
        self.life.check(Operation::Open, path)?;
        Ok(self.opened(path, self.disk.open(path)?))
    }

    fn rename(&self, from: &Path, to: &Path) -> Result<(), DiskError> {
        self.life.check(Operation::Rename, from)?;
        self.disk.rename(from, to)
    }

    fn remove(&self, path: &Path) -> Result<(), DiskError> {
        self.life.check(Operation::Remove, path)?;
        self.disk.remove(path)
    }

    fn sync_directory(&self, path: &Path) -> Result<(), DiskError> {
        self.life.check(Operation::SyncDirectory, path)?;
        self.disk.sync_directory(path)
    }

    fn full_path(&self, path: &Path) -> PathBuf {
        self.disk.full_path(path)
    }
}

#[derive(Debug)]
struct ProcessFile {
    path: PathBuf,
    file: Box<dyn DiskFile>,
    life: Life,
    planted: Planted,
}

impl ProcessFile {
    /// Whether it is a window of the ledger.
    fn is_sealed_window(&self) -> bool {
        let name = self.path.file_name().and_then(|name| name.to_str());
        name.is_some_and(|name| name.contains("ledger-"))
    }
}

impl DiskFile for ProcessFile {
    fn len(&self) -> Result<u64, DiskError> {
        self.life.check(Operation::Read, &self.path)?;
        self.file.len()
    }

    fn read_at(&self, offset: u64, buffer: &mut [u8]) -> Result<(), DiskError> {
        self.life.check(Operation::Read, &self.path)?;
        self.file.read_at(offset, buffer)
    }

    fn append(&mut self, bytes: &[u8]) -> Result<(), DiskError> {
        self.life.check(Operation::Append, &self.path)?;
        match (self.planted, bytes.split_last()) {
            (Planted::SealedShort, Some((_, short))) if self.is_sealed_window() => {
                self.file.append(short)
            }
            _ => self.file.append(bytes),
        }
    }

    fn overwrite(&mut self, offset: u64, bytes: &[u8]) -> Result<(), DiskError> {
        self.life.check(Operation::Overwrite, &self.path)?;
        self.file.overwrite(offset, bytes)
    }

    fn truncate(&mut self, length_bytes: u64) -> Result<(), DiskError> {
        self.life.check(Operation::Truncate, &self.path)?;
        self.file.truncate(length_bytes)
    }

    fn sync_data(&mut self) -> Result<(), DiskError> {
        self.life.check(Operation::Sync, &self.path)?;
        if self.planted == Planted::AckBeforeSync { Ok(()) } else { self.file.sync_data() }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_dead_process_reaches_nothing() {
        let disk = SimulatedDisk::new(1);
        let life = Life::default();
        let own = ProcessDisk::new(disk.clone(), life.clone(), Planted::Nothing);
        let mut file = own.create(Path::new("a")).unwrap();
        file.append(b"x").unwrap();
        life.end();
        assert!(file.append(b"y").is_err());
        assert!(own.open(Path::new("a")).is_err());
        assert_eq!(disk.open(Path::new("a")).unwrap().len().unwrap(), 1);
    }
}
