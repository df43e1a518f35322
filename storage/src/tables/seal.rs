//! Says whether the files of a database are those that were closed.
//!
//! While a database is open there is no seal. Closing syncs every file of it and writes the seal, a
//! checksum over their names, lengths and bytes. Files without a seal, or with another checksum,
//! are not trusted: a database that recovers from what it finds may silently recover an older or
//! mixed state.

use std::fs::{self, File};
use std::io::{self, Read};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::TablesError;
use crate::damage::{Damage, Damaged};
use crate::disk::{DiskError, Operation, RealDisk};
use crate::sealed::{Kind, SealedDirectory};

const KIND: Kind = Kind { magic: *b"novaseal", suffix: ".seal" };
const NAME: &str = "tables";
const DATABASE_NAME: &str = "sled";
/// The file of the database that sled locks while it is open.
const LOCKED_NAME: &str = "db";
const CHUNK_BYTES: usize = 1024 * 1024;

/// The directory of the tables, locked for this process, and the seal in it.
#[derive(Debug)]
pub(super) struct Seal {
    directory: PathBuf,
    files: SealedDirectory,
}

impl Seal {
    pub(super) fn open(directory: PathBuf) -> Result<Seal, DiskError> {
        let disk = RealDisk::open(&directory)?;
        let files = SealedDirectory::open(Arc::new(disk), PathBuf::new(), KIND)?;
        Ok(Seal { directory, files })
    }

    pub(super) fn database_path(&self) -> PathBuf {
        self.directory.join(DATABASE_NAME)
    }

    /// Returns if there is no database, or one that is as it was closed; then the seal is gone, and
    /// durably so, before anything can change.
    pub(super) fn check_and_break(&self) -> Result<(), TablesError> {
        let database = self.database_path();
        if database.exists() {
            let Some(seal) = self.files.open_file(NAME)? else {
                return Err(TablesError::NotClosed { directory: self.directory.clone() });
            };
            if seal.read_data()? != self.checksum(Operation::Read)?.to_le_bytes() {
                let damage = Damage::ContentChecksum;
                return Err(Damaged { file: database, offset: 0, damage }.into());
            }
        }
        Ok(self.files.remove(NAME)?)
    }

    /// Waits until nothing in this process has the database any more, syncs it and seals it.
    pub(super) fn close(&self) -> Result<(), DiskError> {
        let _released = self.wait_for_release()?;
        let checksum = self.checksum(Operation::Sync)?;
        self.files.write(NAME, &[], &checksum.to_le_bytes())
    }

    /// sled's threads may hold its file, and with it the lock on it, for a moment after the last
    /// handle is dropped. Opened again in that moment, the database would be refused as in use.
    fn wait_for_release(&self) -> Result<File, DiskError> {
        let path = self.database_path().join(LOCKED_NAME);
        File::open(&path)
            .and_then(|file| file.lock().map(|()| file))
            .map_err(failed(Operation::Lock, &path))
    }

    /// Removes the database and its seal, the seal first.
    pub(super) fn remove_database(&self) -> Result<(), DiskError> {
        self.files.remove(NAME)?;
        let database = self.database_path();
        fs::remove_dir_all(&database).map_err(failed(Operation::Remove, &database))
    }

    /// The checksum over all files; with [`Operation::Sync`] each one is synced first.
    fn checksum(&self, operation: Operation) -> Result<u32, DiskError> {
        let mut checksum = 0;
        walk(&self.database_path(), &mut |path| {
            let added = add(checksum, &self.directory, path, operation == Operation::Sync);
            checksum = added.map_err(failed(operation, path))?;
            Ok(())
        })?;
        Ok(checksum)
    }
}

/// Calls `visit` for a directory and everything below it, in the order of names.
fn walk(
    path: &Path,
    visit: &mut impl FnMut(&Path) -> Result<(), DiskError>,
) -> Result<(), DiskError> {
    visit(path)?;
    if !path.is_dir() {
        return Ok(());
    }
    let entries: io::Result<Vec<_>> =
        fs::read_dir(path).and_then(|entries| entries.map(|entry| Ok(entry?.path())).collect());
    let mut entries = entries.map_err(failed(Operation::List, path))?;
    entries.sort_unstable();
    entries.iter().try_for_each(|entry| walk(entry, visit))
}

/// Adds a file (name, length, bytes) or directory (name) to a checksum.
fn add(checksum: u32, root: &Path, path: &Path, sync: bool) -> io::Result<u32> {
    let mut file = File::open(path)?;
    if sync {
        file.sync_all()?;
    }
    let name = path.strip_prefix(root).unwrap_or(path);
    let mut checksum = crc32c::crc32c_append(checksum, name.as_os_str().as_encoded_bytes());
    let metadata = file.metadata()?;
    if metadata.is_dir() {
        return Ok(checksum);
    }
    checksum = crc32c::crc32c_append(checksum, &metadata.len().to_le_bytes());
    let mut chunk = vec![0; CHUNK_BYTES];
    loop {
        match file.read(&mut chunk)? {
            0 => return Ok(checksum),
            read => checksum = crc32c::crc32c_append(checksum, &chunk[..read]),
        }
    }
}

fn failed(operation: Operation, path: &Path) -> impl FnOnce(io::Error) -> DiskError {
    let path = path.to_owned();
    move |source| DiskError { operation, path, source }
}

#[cfg(test)]
mod tests {
    use std::thread;

    use super::*;

    #[test]
    fn closing_waits_until_nothing_has_the_database() {
        let directory = tempfile::tempdir().unwrap();
        let seal = Seal::open(directory.path().to_owned()).unwrap();
        fs::create_dir(seal.database_path()).unwrap();
        let database = File::create(seal.database_path().join(LOCKED_NAME)).unwrap();
        database.lock().unwrap();
        thread::scope(|scope| {
            let closing = scope.spawn(|| seal.close());
            while !closing.is_finished() && !waits_for_a_lock() {
                thread::yield_now();
            }
            assert!(!closing.is_finished(), "closed while something had the database");
            drop(database);
            closing.join().unwrap().unwrap();
        });
        seal.check_and_break().unwrap();
    }

    /// Whether a thread of this process waits for the lock of a file: proc_locks(5).
    fn waits_for_a_lock() -> bool {
        let process = format!(" {} ", std::process::id());
        let locks = fs::read_to_string("/proc/locks").unwrap();
        locks.lines().any(|line| line.contains("-> FLOCK") && line.contains(&process))
    }
}
