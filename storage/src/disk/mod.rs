//! The only door to the disk.
//!
//! A [`Disk`] is a tree of files below one root; a [`DiskFile`] can be appended to, cut, synced and
//! read at an offset. That is all that the stores need, and it is little enough to be simulated
//! with everything a power cut may do ([`SimulatedDisk`]).
//!
//! **The order of durability.** Bytes are safe after [`DiskFile::sync_data`]; the name of a file
//! (its creation, renaming or removal) is safe after [`Disk::sync_directory`] on its directory.
//! Before that, a power cut may undo either one without the other.

mod dice;
mod error;
mod real;
mod simulated;
mod volatile;

use std::fmt::Debug;
use std::path::{Component, Path, PathBuf};
use std::sync::Arc;

use crate::cipher::Cipher;

pub use error::{DiskError, Operation};
pub use real::RealDisk;
pub use simulated::{Failure, SimulatedDisk};
pub use volatile::{UNSYNCED, VolatileDisk};

/// A tree of files. Paths are relative to its root and have no `.` or `..` parts.
pub trait Disk: Debug + Send + Sync {
    /// Makes a directory and its parents; durable on return. An existing one is left as it is.
    fn create_directory(&self, path: &Path) -> Result<(), DiskError>;

    /// Names of the files (not directories) in a directory, sorted.
    fn list(&self, directory: &Path) -> Result<Vec<String>, DiskError>;

    /// Makes an empty file that did not exist; its name is durable after `sync_directory`.
    fn create(&self, path: &Path) -> Result<Box<dyn DiskFile>, DiskError>;

    /// Opens an existing file for reading and appending.
    fn open(&self, path: &Path) -> Result<Box<dyn DiskFile>, DiskError>;

    /// Renames a file, replacing what stands at `to`; durable after `sync_directory`.
    fn rename(&self, from: &Path, to: &Path) -> Result<(), DiskError>;

    /// Removes a file; durable after `sync_directory`.
    fn remove(&self, path: &Path) -> Result<(), DiskError>;

    /// Makes every creation, renaming and removal in a directory durable.
    fn sync_directory(&self, path: &Path) -> Result<(), DiskError>;

    /// The path as an operator would open it, for messages.
    fn full_path(&self, path: &Path) -> PathBuf;

    /// The keys of what the stores keep here, if they encrypt it.
    fn cipher(&self) -> Option<Arc<dyn Cipher>> {
        None
    }
}

/// An open file.
pub trait DiskFile: Debug + Send + Sync {
    /// Length in bytes.
    fn len(&self) -> Result<u64, DiskError>;

    /// Whether the file holds no byte.
    fn is_empty(&self) -> Result<bool, DiskError> {
        Ok(self.len()? == 0)
    }

    /// Fills `buffer` from `offset`; a file that ends before is an error ([`DiskError::is_short`]).
    fn read_at(&self, offset: u64, buffer: &mut [u8]) -> Result<(), DiskError>;

    /// Writes at the end. After an error any part of `bytes` may have been written.
    fn append(&mut self, bytes: &[u8]) -> Result<(), DiskError>;

    /// Writes over bytes that exist. Only for writing again what is believed to stand there:
    /// a power cut may leave any sector old or new.
    fn overwrite(&mut self, offset: u64, bytes: &[u8]) -> Result<(), DiskError>;

    /// Cuts the file to `length_bytes`, which is at most its length.
    fn truncate(&mut self, length_bytes: u64) -> Result<(), DiskError>;

    /// Returns once content and length are on stable storage. After an error the file must be
    /// opened anew and read: the kernel may have dropped what it could not write.
    fn sync_data(&mut self) -> Result<(), DiskError>;
}

/// Reads a whole file from its start.
pub(crate) fn read_whole(file: &dyn DiskFile) -> Result<Vec<u8>, DiskError> {
    let length = usize::try_from(file.len()?).unwrap_or(usize::MAX);
    let mut bytes = vec![0; length];
    file.read_at(0, &mut bytes)?;
    Ok(bytes)
}

/// Whether a path stays below the root of a disk.
fn is_inside(path: &Path) -> bool {
    path.components().all(|part| matches!(part, Component::Normal(_)))
}
