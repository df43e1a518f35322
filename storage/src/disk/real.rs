//! The disk of this machine.

use std::fs::{self, DirBuilder, File, OpenOptions, TryLockError};
use std::io;
use std::os::unix::fs::{DirBuilderExt, FileExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use super::{Disk, DiskError, DiskFile, Operation, is_inside};

/// Only the owner reads what the stores keep: it may hold keys and guests' data.
const FILE_MODE: u32 = 0o600;
const DIRECTORY_MODE: u32 = 0o700;

/// Held by the process that uses the directory; never listed.
const LOCK_FILE_NAME: &str = ".lock";

/// Files below one directory of this machine, which this process has for itself.
///
/// Two processes appending to one log would destroy it, so the directory is locked until the
/// disk is dropped. Share one `RealDisk` between the stores of a process; files that are open when
/// it is dropped stay usable but no longer protected.
#[derive(Debug)]
pub struct RealDisk {
    root: PathBuf,
    _lock: File,
}

impl RealDisk {
    /// Makes the directory if needed and locks it ([`DiskError::is_in_use`] if another has it).
    pub fn open(root: impl Into<PathBuf>) -> Result<RealDisk, DiskError> {
        let root = root.into();
        create_durably(&root).map_err(failed(Operation::CreateDirectory, &root))?;
        let lock = lock(&root).map_err(failed(Operation::Lock, &root))?;
        Ok(RealDisk { root, _lock: lock })
    }

    /// The directory below which everything stands.
    pub fn root(&self) -> &Path {
        &self.root
    }

    fn resolve(&self, operation: Operation, path: &Path) -> Result<PathBuf, DiskError> {
        if is_inside(path) {
            return Ok(self.root.join(path));
        }
        let source = io::Error::new(io::ErrorKind::InvalidInput, "the path leaves the directory");
        Err(DiskError { operation, path: path.to_owned(), source })
    }
}

impl Disk for RealDisk {
    fn create_directory(&self, path: &Path) -> Result<(), DiskError> {
        let full = self.resolve(Operation::CreateDirectory, path)?;
        create_durably(&full).map_err(failed(Operation::CreateDirectory, &full))
    }

    fn list(&self, directory: &Path) -> Result<Vec<String>, DiskError> {
        let full = self.resolve(Operation::List, directory)?;
        file_names(&full).map_err(failed(Operation::List, &full))
    }

    fn create(&self, path: &Path) -> Result<Box<dyn DiskFile>, DiskError> {
        let full = self.resolve(Operation::Create, path)?;
        let file = OpenOptions::new()
            .read(true)
            .write(true)
            .create_new(true)
            .mode(FILE_MODE)
            .open(&full)
            .map_err(failed(Operation::Create, &full))?;
        Ok(Box::new(RealFile { path: full, file, length_bytes: 0 }))
    }

    fn open(&self, path: &Path) -> Result<Box<dyn DiskFile>, DiskError> {
        let full = self.resolve(Operation::Open, path)?;
        let file = OpenOptions::new()
            .read(true)
            .write(true)
            .open(&full)
            .map_err(failed(Operation::Open, &full))?;
        let metadata = file.metadata().map_err(failed(Operation::Open, &full))?;
        Ok(Box::new(RealFile { path: full, file, length_bytes: metadata.len() }))
    }

    fn rename(&self, from: &Path, to: &Path) -> Result<(), DiskError> {
        let from = self.resolve(Operation::Rename, from)?;
        let to = self.resolve(Operation::Rename, to)?;
        fs::rename(&from, &to).map_err(failed(Operation::Rename, &from))
    }

    fn remove(&self, path: &Path) -> Result<(), DiskError> {
        let full = self.resolve(Operation::Remove, path)?;
        fs::remove_file(&full).map_err(failed(Operation::Remove, &full))
    }

    fn sync_directory(&self, path: &Path) -> Result<(), DiskError> {
        let full = self.resolve(Operation::SyncDirectory, path)?;
        sync_names(&full).map_err(failed(Operation::SyncDirectory, &full))
    }

    fn full_path(&self, path: &Path) -> PathBuf {
        self.root.join(path)
    }
}

/// Writes go to offsets, not through `O_APPEND`: with that flag Linux would append overwrites too.
#[derive(Debug)]
struct RealFile {
    path: PathBuf,
    file: File,
    length_bytes: u64,
}

impl DiskFile for RealFile {
    fn len(&self) -> Result<u64, DiskError> {
        Ok(self.length_bytes)
    }

    fn read_at(&self, offset: u64, buffer: &mut [u8]) -> Result<(), DiskError> {
        self.file.read_exact_at(buffer, offset).map_err(failed(Operation::Read, &self.path))
    }

    fn append(&mut self, bytes: &[u8]) -> Result<(), DiskError> {
        self.file
            .write_all_at(bytes, self.length_bytes)
            .map_err(failed(Operation::Append, &self.path))?;
        self.length_bytes += bytes.len() as u64;
        Ok(())
    }

    fn overwrite(&mut self, offset: u64, bytes: &[u8]) -> Result<(), DiskError> {
        let result = match offset.checked_add(bytes.len() as u64) {
            Some(end) if end <= self.length_bytes => self.file.write_all_at(bytes, offset),
            _ => Err(io::ErrorKind::InvalidInput.into()),
        };
        result.map_err(failed(Operation::Overwrite, &self.path))
    }

    fn truncate(&mut self, length_bytes: u64) -> Result<(), DiskError> {
        let result = if length_bytes <= self.length_bytes {
            self.file.set_len(length_bytes)
        } else {
            Err(io::ErrorKind::InvalidInput.into())
        };
        result.map_err(failed(Operation::Truncate, &self.path))?;
        self.length_bytes = length_bytes;
        Ok(())
    }

    fn sync_data(&mut self) -> Result<(), DiskError> {
        self.file.sync_data().map_err(failed(Operation::Sync, &self.path))
    }
}

fn failed(operation: Operation, path: &Path) -> impl FnOnce(io::Error) -> DiskError {
    let path = path.to_owned();
    move |source| DiskError { operation, path, source }
}

/// Makes a directory and its parents, and makes each new name durable in its parent.
fn create_durably(path: &Path) -> io::Result<()> {
    if path.is_dir() {
        return Ok(());
    }
    let parent = path.parent().filter(|parent| !parent.as_os_str().is_empty());
    if let Some(parent) = parent {
        create_durably(parent)?;
    }
    match DirBuilder::new().mode(DIRECTORY_MODE).create(path) {
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists && path.is_dir() => {}
        result => result?,
    }
    sync_names(parent.unwrap_or(Path::new(".")))
}

fn sync_names(directory: &Path) -> io::Result<()> {
    File::open(directory)?.sync_all()
}

fn lock(root: &Path) -> io::Result<File> {
    let file = OpenOptions::new()
        .write(true)
        .create(true)
        .truncate(false)
        .mode(FILE_MODE)
        .open(root.join(LOCK_FILE_NAME))?;
    match file.try_lock() {
        Ok(()) => Ok(file),
        Err(TryLockError::WouldBlock) => {
            Err(io::Error::new(io::ErrorKind::WouldBlock, "another process uses this directory"))
        }
        Err(TryLockError::Error(error)) => Err(error),
    }
}

fn file_names(directory: &Path) -> io::Result<Vec<String>> {
    let mut names = Vec::new();
    for entry in fs::read_dir(directory)? {
        let entry = entry?;
        // Names that are not text were not written by a store.
        if let (true, Ok(name)) = (entry.file_type()?.is_file(), entry.file_name().into_string())
            && name != LOCK_FILE_NAME
        {
            names.push(name);
        }
    }
    names.sort_unstable();
    Ok(names)
}
