//! Small named records, each replaced atomically: what a process must remember about one thing.

use std::path::PathBuf;
use std::sync::Arc;

use bytes::Bytes;

use crate::cipher::Locked;
use crate::damage::{Damage, Damaged};
use crate::disk::{Disk, DiskError};
use crate::sealed::{self, Kind, SealedDirectory, SealedError};

/// The most bytes of one record. A record is rewritten whole for each change and read whole into
/// memory; what is larger than 1 MiB belongs elsewhere.
pub const RECORD_BYTES_MAX: usize = 1024 * 1024;

/// The most bytes of a name: with the suffixes it stays below the 255 bytes of a file name.
pub const NAME_BYTES_MAX: usize = 200;

const KIND: Kind = Kind { magic: *b"novarec\n", suffix: ".record" };

/// Why a record was refused.
#[derive(Debug, thiserror::Error)]
pub enum RecordError {
    /// The disk failed. A record that was being changed is the old one or the new one, whole.
    #[error("the disk failed")]
    Disk(#[from] DiskError),
    /// The record on disk is not what was written.
    #[error("the record cannot be trusted")]
    Damaged(#[from] Damaged),
    /// It needs another key, or is not encrypted where everything is.
    #[error(transparent)]
    Locked(#[from] Locked),
    /// The name could not be that of a file everywhere.
    #[error(
        "{name:?} is no name of a record: 1 to {NAME_BYTES_MAX} letters, digits, '-', '_', '.', \
         not beginning with '.'"
    )]
    InvalidName {
        /// The name of the call.
        name: String,
    },
    /// The record is too large.
    #[error("{bytes} bytes are too many for a record ({RECORD_BYTES_MAX} at most)")]
    TooLarge {
        /// How many they are.
        bytes: usize,
    },
}

impl From<SealedError> for RecordError {
    fn from(error: SealedError) -> RecordError {
        match error {
            SealedError::Disk(error) => RecordError::Disk(error),
            SealedError::Damaged(damaged) => RecordError::Damaged(damaged),
            SealedError::Locked(locked) => RecordError::Locked(locked),
        }
    }
}

/// Records in one directory. Calls may come from several threads; changes happen one at a time.
#[derive(Debug)]
pub struct RecordStore {
    files: SealedDirectory,
}

impl RecordStore {
    /// Opens the records in `directory` of `disk`, making it if needed. The directory is this
    /// store's alone.
    pub fn open(
        disk: Arc<dyn Disk>,
        directory: impl Into<PathBuf>,
    ) -> Result<RecordStore, RecordError> {
        let files = SealedDirectory::open(disk, directory.into(), KIND)?;
        Ok(RecordStore { files })
    }

    /// Writes or replaces a record; durable on return.
    pub fn put(&self, name: &str, bytes: &[u8]) -> Result<(), RecordError> {
        check_name(name)?;
        if bytes.len() > RECORD_BYTES_MAX {
            return Err(RecordError::TooLarge { bytes: bytes.len() });
        }
        // The name goes into the file, so that one that was renamed by hand is noticed.
        Ok(self.files.write(name, name.as_bytes(), bytes)?)
    }

    /// A record, if there is one of this name.
    pub fn get(&self, name: &str) -> Result<Option<Bytes>, RecordError> {
        check_name(name)?;
        let Some(file) = self.files.open_file(name)? else { return Ok(None) };
        if *file.label() != name.as_bytes() {
            let found = String::from_utf8_lossy(file.label()).into_owned();
            let damage = Damage::Misplaced(format!("record {found:?}"));
            return Err(Damaged { file: self.files.full_path(name), offset: 0, damage }.into());
        }
        Ok(Some(file.read_data()?.into()))
    }

    /// Removes a record, durably; one that is not there is no error.
    pub fn remove(&self, name: &str) -> Result<(), RecordError> {
        check_name(name)?;
        Ok(self.files.remove(name)?)
    }

    /// Encrypts anew, with the newest key of the disk, what another one encrypts.
    pub fn renew(&self) -> Result<(), RecordError> {
        for name in self.files.names()? {
            self.files.renew(&name)?;
        }
        Ok(())
    }

    /// Names of all records, sorted.
    pub fn list(&self) -> Result<Vec<String>, RecordError> {
        Ok(self.files.names()?)
    }
}

fn check_name(name: &str) -> Result<(), RecordError> {
    if sealed::is_name(name, NAME_BYTES_MAX) {
        return Ok(());
    }
    Err(RecordError::InvalidName { name: name.to_owned() })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_those_of_files() {
        for name in ["a", "web-01", "0190.b_C", &"x".repeat(200)] {
            assert!(check_name(name).is_ok(), "{name}");
        }
        for name in ["", ".", "..", ".a", "a/b", "a b", "ä", "a\0", &"x".repeat(201)] {
            assert!(check_name(name).is_err(), "{name}");
        }
    }
}
