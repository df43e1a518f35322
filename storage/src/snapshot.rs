//! Whole snapshots: each is one file, with its description inside it, and the newest two are kept.
//!
//! Description and data are one file with one checksum, so they can never be of two generations.
//! The second newest stays for those who are still reading it, and for a person who has to repair
//! a machine; nothing here falls back to it silently, because what lies between the two may be
//! purged from every log.

use std::fmt;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};

use bytes::Bytes;

use crate::cipher::Locked;
use crate::damage::Damaged;
use crate::disk::{Disk, DiskError};
use crate::sealed::{Kind, LABEL_BYTES_MAX, SealedDirectory, SealedError, SealedFile};

/// How many snapshots stay.
const KEPT: usize = 2;

const KIND: Kind = Kind { magic: *b"novasnap", suffix: ".snapshot" };

/// Counts the snapshots of a store: a later one has a higher number.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct SnapshotId(u64);

impl SnapshotId {
    /// Twenty digits hold every `u64`, so that names sort as numbers do.
    fn name(self) -> String {
        format!("{:020}", self.0)
    }

    fn from_name(name: &str) -> Option<SnapshotId> {
        let is_number = name.len() == 20 && name.bytes().all(|digit| digit.is_ascii_digit());
        if is_number { name.parse().ok().map(SnapshotId) } else { None }
    }
}

impl fmt::Display for SnapshotId {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(formatter)
    }
}

/// Why a snapshot was refused.
#[derive(Debug, thiserror::Error)]
pub enum SnapshotError {
    /// The disk failed. A snapshot that was being written may be there, but then it is whole.
    #[error("the disk failed")]
    Disk(#[from] DiskError),
    /// The snapshot on disk is not what was written.
    #[error("the snapshot cannot be trusted")]
    Damaged(#[from] Damaged),
    /// It needs another key, or is not encrypted where everything is.
    #[error(transparent)]
    Locked(#[from] Locked),
    /// The description is too large.
    #[error("{bytes} bytes are too many to describe a snapshot ({LABEL_BYTES_MAX} at most)")]
    MetaTooLarge {
        /// How many they are.
        bytes: usize,
    },
}

impl From<SealedError> for SnapshotError {
    fn from(error: SealedError) -> SnapshotError {
        match error {
            SealedError::Disk(error) => SnapshotError::Disk(error),
            SealedError::Damaged(damaged) => SnapshotError::Damaged(damaged),
            SealedError::Locked(locked) => SnapshotError::Locked(locked),
        }
    }
}

/// Snapshots in one directory. Calls may come from several threads.
#[derive(Debug)]
pub struct SnapshotStore {
    files: SealedDirectory,
    /// The next number; held while one is written, so that they become visible in order.
    next: Mutex<u64>,
}

impl SnapshotStore {
    /// Opens the snapshots in `directory` of `disk`, making it if needed. What was written by half
    /// is removed. The directory is this store's alone.
    pub fn open(
        disk: Arc<dyn Disk>,
        directory: impl Into<PathBuf>,
    ) -> Result<SnapshotStore, SnapshotError> {
        let files = SealedDirectory::open(disk, directory.into(), KIND)?;
        let store = SnapshotStore { files, next: Mutex::new(1) };
        if let Some(newest) = store.ids()?.last() {
            *store.next.lock().unwrap_or_else(PoisonError::into_inner) = newest.0.saturating_add(1);
        }
        Ok(store)
    }

    /// Writes a snapshot and its description (1 MiB at most); durable on return. Then it is the
    /// latest, and all but the newest two are removed.
    pub fn write(&self, meta: &[u8], data: &[u8]) -> Result<SnapshotId, SnapshotError> {
        if meta.len() > LABEL_BYTES_MAX {
            return Err(SnapshotError::MetaTooLarge { bytes: meta.len() });
        }
        let mut next = self.next.lock().unwrap_or_else(PoisonError::into_inner);
        let id = SnapshotId(*next);
        // Used up even by a failure: the file may be there all the same.
        *next = next.saturating_add(1);
        self.files.write(&id.name(), meta, data)?;
        if let Err(error) = self.remove_old() {
            tracing::warn!(error = %error, "old snapshots stay until the next one is written");
        }
        Ok(id)
    }

    /// The newest snapshot, checked whole.
    pub fn latest(&self) -> Result<Option<Snapshot>, SnapshotError> {
        match self.ids()?.last() {
            Some(newest) => self.read(*newest),
            None => Ok(None),
        }
    }

    /// One snapshot, checked whole; it stays readable while it is open, even when removed.
    pub fn read(&self, id: SnapshotId) -> Result<Option<Snapshot>, SnapshotError> {
        let file = self.files.open_file(&id.name())?;
        Ok(file.map(|file| Snapshot { id, file }))
    }

    /// The snapshots that are here, oldest first.
    pub fn ids(&self) -> Result<Vec<SnapshotId>, SnapshotError> {
        let names = self.files.names()?;
        Ok(names.iter().filter_map(|name| SnapshotId::from_name(name)).collect())
    }

    fn remove_old(&self) -> Result<(), SnapshotError> {
        let ids = self.ids()?;
        for id in &ids[..ids.len().saturating_sub(KEPT)] {
            self.files.remove(&id.name())?;
        }
        Ok(())
    }
}

/// An open snapshot that was whole when it was opened.
#[derive(Debug)]
pub struct Snapshot {
    id: SnapshotId,
    file: SealedFile,
}

impl Snapshot {
    /// Its number.
    pub fn id(&self) -> SnapshotId {
        self.id
    }

    /// Its description.
    pub fn meta(&self) -> &Bytes {
        self.file.label()
    }

    /// Length of its data, in bytes.
    pub fn data_bytes(&self) -> u64 {
        self.file.data_bytes()
    }

    /// Fills `buffer` with the data from `offset` on; data that ends before is an error.
    pub fn read_at(&self, offset: u64, buffer: &mut [u8]) -> Result<(), SnapshotError> {
        Ok(self.file.read_data_at(offset, buffer)?)
    }

    /// All its data.
    pub fn data(&self) -> Result<Vec<u8>, SnapshotError> {
        Ok(self.file.read_data()?)
    }
}
