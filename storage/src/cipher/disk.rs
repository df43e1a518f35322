//! A disk whose files are encrypted by whoever writes them.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::Cipher;
use crate::disk::{Disk, DiskError, DiskFile};

/// A disk, and the keys of what is on it. The stores over it ask for the keys; the bytes of files pass as they are.
#[derive(Debug, Clone)]
pub struct EncryptedDisk {
    disk: Arc<dyn Disk>,
    cipher: Arc<dyn Cipher>,
}

impl EncryptedDisk {
    /// `disk`, with the keys of `cipher`.
    pub fn new(disk: Arc<dyn Disk>, cipher: Arc<dyn Cipher>) -> EncryptedDisk {
        EncryptedDisk { disk, cipher }
    }
}

impl Disk for EncryptedDisk {
    fn cipher(&self) -> Option<Arc<dyn Cipher>> {
        Some(Arc::clone(&self.cipher))
    }

    fn create_directory(&self, path: &Path) -> Result<(), DiskError> {
        self.disk.create_directory(path)
    }

    fn list(&self, directory: &Path) -> Result<Vec<String>, DiskError> {
        self.disk.list(directory)
    }

    fn create(&self, path: &Path) -> Result<Box<dyn DiskFile>, DiskError> {
        self.disk.create(path)
    }

    fn open(&self, path: &Path) -> Result<Box<dyn DiskFile>, DiskError> {
        self.disk.open(path)
    }

    fn rename(&self, from: &Path, to: &Path) -> Result<(), DiskError> {
        self.disk.rename(from, to)
    }

    fn remove(&self, path: &Path) -> Result<(), DiskError> {
        self.disk.remove(path)
    }

    fn sync_directory(&self, path: &Path) -> Result<(), DiskError> {
        self.disk.sync_directory(path)
    }

    fn full_path(&self, path: &Path) -> PathBuf {
        self.disk.full_path(path)
    }
}
