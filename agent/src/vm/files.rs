//! Kernels and initial RAM disks, by content.
//!
//! They are copied when a machine is made, so that the machine does not change when somebody replaces the
//! file, and so that a migration's target can be sent exactly what the source uses.

use std::collections::BTreeSet;
use std::fs::{self, File, OpenOptions};
use std::io::{self, Read, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use novacron_protocol::session::message::FILE_BYTES_MAX;
use serde::{Deserialize, Serialize};
use tokio::sync::{OwnedRwLockReadGuard, OwnedRwLockWriteGuard, RwLock};

/// BLAKE3 of a file's content: its name in the store.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct FileHash(pub [u8; 32]);

impl std::fmt::Display for FileHash {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        self.0.iter().try_for_each(|byte| write!(formatter, "{byte:02x}"))
    }
}

/// Why a file cannot be taken in.
#[derive(Debug, thiserror::Error)]
pub enum FileError {
    /// The file that a specification names cannot be read.
    #[error("{field}: {path} cannot be read on this node: {source}")]
    Unreadable {
        /// `kernel` or `initrd`.
        field: &'static str,
        /// The path.
        path: PathBuf,
        /// The cause; in the text, because it is all that the operator sees.
        source: io::Error,
    },
    /// It is too long, or no file.
    #[error("{field}: {path} is not a file of 1 byte to {FILE_BYTES_MAX} bytes")]
    NotAFile {
        /// `kernel` or `initrd`.
        field: &'static str,
        /// The path.
        path: PathBuf,
    },
    /// The content is not what was announced.
    #[error("a file that should be {expected} is {found}")]
    WrongContent {
        /// What was announced.
        expected: FileHash,
        /// What came.
        found: FileHash,
    },
    /// The store itself.
    #[error("the store of files at {path} failed")]
    Store {
        /// The file or directory.
        path: PathBuf,
        /// The cause.
        #[source]
        source: io::Error,
    },
}

/// The store; clones share it. Its calls read and write files: not for the reactor.
#[derive(Debug, Clone)]
pub struct FileStore {
    directory: PathBuf,
    /// Held shared from the moment a file is taken in until a record names it, and alone to remove files.
    lock: Arc<RwLock<()>>,
}

const COPY_BYTES: usize = 256 * 1024;

impl FileStore {
    /// The store in `directory`, which is made with its first file.
    pub fn new(directory: PathBuf) -> Self {
        Self { directory, lock: Arc::default() }
    }

    /// Keeps every file until the guard is dropped.
    pub async fn hold(&self) -> OwnedRwLockReadGuard<()> {
        Arc::clone(&self.lock).read_owned().await
    }

    /// The right to remove files, unless somebody holds them.
    pub fn try_lock_all(&self) -> Option<OwnedRwLockWriteGuard<()>> {
        Arc::clone(&self.lock).try_write_owned().ok()
    }

    /// Where the content of this hash is, or would be.
    pub fn path(&self, hash: FileHash) -> PathBuf {
        self.directory.join(hash.to_string())
    }

    /// Whether the content is here.
    pub fn has(&self, hash: FileHash) -> bool {
        self.path(hash).is_file()
    }

    /// Bytes of a file of the store.
    ///
    /// # Errors
    /// [`FileError::Store`] if it is not here.
    pub fn length_bytes(&self, hash: FileHash) -> Result<u64, FileError> {
        let path = self.path(hash);
        let metadata = fs::metadata(&path).map_err(|source| FileError::Store { path, source })?;
        Ok(metadata.len())
    }

    /// Takes a copy of the file at `path`, which the specification's `field` names.
    ///
    /// # Errors
    /// [`FileError`].
    pub fn import(&self, field: &'static str, path: &Path) -> Result<FileHash, FileError> {
        let unreadable = |source| FileError::Unreadable { field, path: path.to_owned(), source };
        let mut file = File::open(path).map_err(unreadable)?;
        let metadata = file.metadata().map_err(unreadable)?;
        if !metadata.is_file() || !(1..=FILE_BYTES_MAX).contains(&metadata.len()) {
            return Err(FileError::NotAFile { field, path: path.to_owned() });
        }
        self.receive(&mut file)
    }

    /// Takes the content that `reader` gives and checks that it is `expected`.
    ///
    /// # Errors
    /// [`FileError`]; nothing stays behind.
    pub fn receive_expected(
        &self,
        reader: &mut dyn Read,
        expected: FileHash,
    ) -> Result<(), FileError> {
        let found = self.receive(reader)?;
        if found == expected {
            return Ok(());
        }
        // A content that nobody announced is of no use to anybody; a failure to remove it wastes only space.
        let _ = fs::remove_file(self.path(found));
        Err(FileError::WrongContent { expected, found })
    }

    fn receive(&self, reader: &mut dyn Read) -> Result<FileHash, FileError> {
        fs::create_dir_all(&self.directory).map_err(|source| self.failed(source))?;
        let unfinished = self.directory.join(format!("{}.new", uuid_text()));
        let received = copy_hashed(reader, &unfinished)
            .and_then(|hash| {
                fs::rename(&unfinished, self.path(hash))?;
                File::open(&self.directory)?.sync_all()?;
                Ok(hash)
            })
            .map_err(|source| self.failed(source));
        if received.is_err() {
            // Swept at the next start if it cannot be removed now.
            let _ = fs::remove_file(&unfinished);
        }
        received
    }

    /// Removes everything that is not in `needed`.
    ///
    /// # Errors
    /// [`FileError::Store`].
    pub fn keep_only(&self, needed: &BTreeSet<FileHash>) -> Result<(), FileError> {
        let names: BTreeSet<String> = needed.iter().map(FileHash::to_string).collect();
        let entries = match fs::read_dir(&self.directory) {
            Ok(entries) => entries,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
            Err(source) => return Err(self.failed(source)),
        };
        for entry in entries {
            let entry = entry.map_err(|source| self.failed(source))?;
            if !names.contains(&*entry.file_name().to_string_lossy()) {
                fs::remove_file(entry.path()).map_err(|source| self.failed(source))?;
            }
        }
        Ok(())
    }

    fn failed(&self, source: io::Error) -> FileError {
        FileError::Store { path: self.directory.clone(), source }
    }
}

fn uuid_text() -> String {
    format!("{:032x}", rand::random::<u128>())
}

fn copy_hashed(reader: &mut dyn Read, to: &Path) -> io::Result<FileHash> {
    let mut file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(to)?;
    let mut hasher = blake3::Hasher::new();
    let mut buffer = vec![0; COPY_BYTES];
    let mut total_bytes = 0;
    loop {
        let read = reader.read(&mut buffer)?;
        if read == 0 {
            break;
        }
        total_bytes += read as u64;
        if total_bytes > FILE_BYTES_MAX {
            return Err(io::Error::other(format!("longer than {FILE_BYTES_MAX} bytes")));
        }
        hasher.update(&buffer[..read]);
        file.write_all(&buffer[..read])?;
    }
    file.sync_all()?;
    Ok(FileHash(*hasher.finalize().as_bytes()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn store() -> (tempfile::TempDir, FileStore) {
        let directory = tempfile::tempdir().unwrap();
        let store = FileStore::new(directory.path().join("files"));
        (directory, store)
    }

    #[test]
    fn a_file_is_kept_under_its_hash_until_nobody_needs_it() {
        let (directory, store) = store();
        let kernel = directory.path().join("vmlinuz");
        fs::write(&kernel, b"kernel").unwrap();
        let hash = store.import("kernel", &kernel).unwrap();
        assert_eq!(hash, FileHash(*blake3::hash(b"kernel").as_bytes()));
        assert_eq!(store.import("kernel", &kernel).unwrap(), hash);
        assert_eq!(fs::read(store.path(hash)).unwrap(), b"kernel");
        assert_eq!(store.length_bytes(hash).unwrap(), 6);
        store.keep_only(&BTreeSet::from([hash])).unwrap();
        assert!(store.has(hash));
        store.keep_only(&BTreeSet::new()).unwrap();
        assert!(!store.has(hash));
    }

    #[test]
    fn a_missing_file_is_named() {
        let (directory, store) = store();
        let missing = directory.path().join("nowhere");
        let text = store.import("initrd", &missing).unwrap_err().to_string();
        assert!(text.starts_with("initrd: ") && text.contains("nowhere"), "{text}");
        let text = store.import("kernel", directory.path()).unwrap_err().to_string();
        assert!(text.contains("is not a file"), "{text}");
    }

    #[test]
    fn content_that_was_not_announced_does_not_stay() {
        let (_directory, store) = store();
        let expected = FileHash([1; 32]);
        let refused = store.receive_expected(&mut &b"other"[..], expected);
        assert!(matches!(refused, Err(FileError::WrongContent { .. })));
        assert!(!store.has(FileHash(*blake3::hash(b"other").as_bytes())));
        let good = FileHash(*blake3::hash(b"good").as_bytes());
        store.receive_expected(&mut &b"good"[..], good).unwrap();
        assert!(store.has(good));
    }
}
