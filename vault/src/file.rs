//! A key in a file of its own: one line of text that only its owner reads.

use std::fs::{File, OpenOptions};
use std::io::{self, Read, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use crate::key::{KeyError, VaultKey};

/// Bytes of a file with a key: more is none.
const FILE_BYTES_MAX: u64 = 4096;

/// Only the owner reads it.
const FILE_MODE: u32 = 0o600;

/// Why a key cannot be read from a file, or written into one.
#[derive(Debug, thiserror::Error)]
pub enum KeyFileError {
    /// The file cannot be read.
    #[error("cannot read the key in {}", path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// What the system said.
        #[source]
        source: io::Error,
    },
    /// The file cannot be made. One that exists is never replaced: its key may be the only one.
    #[error("cannot make {}", path.display())]
    Make {
        /// The file.
        path: PathBuf,
        /// What the system said.
        #[source]
        source: io::Error,
    },
    /// The file holds something else.
    #[error("{} holds no key", path.display())]
    NoKey {
        /// The file.
        path: PathBuf,
        /// Why not.
        #[source]
        source: KeyError,
    },
    /// A line of a file of keys holds something else.
    #[error("line {line} of {} is no key", path.display())]
    Line {
        /// The file.
        path: PathBuf,
        /// Which line, from 1.
        line: usize,
        /// Why not.
        #[source]
        source: KeyError,
    },
}

impl VaultKey {
    /// The key in a file.
    pub fn load(path: &Path) -> Result<VaultKey, KeyFileError> {
        let text = read(path)?;
        text.parse().map_err(|source| KeyFileError::NoKey { path: path.to_owned(), source })
    }

    /// The keys in a file, one in each line: at least one, at most [`KEYS_MAX`](crate::KEYS_MAX). Empty lines are none.
    pub fn load_all(path: &Path) -> Result<Vec<VaultKey>, KeyFileError> {
        let text = read(path)?;
        let lines = (1..).zip(text.lines()).filter(|(_, line)| !line.trim().is_empty());
        let keys: Vec<VaultKey> = lines
            .map(|(line, key)| {
                let path = path.to_owned();
                key.parse().map_err(|source| KeyFileError::Line { path, line, source })
            })
            .collect::<Result<_, _>>()?;
        match keys.is_empty() {
            true => Err(KeyFileError::NoKey { path: path.to_owned(), source: KeyError::Prefix }),
            false => Ok(keys),
        }
    }

    /// Writes the key into a new file (0600); durable on return, but for the name of the file.
    pub fn save_new(&self, path: &Path) -> Result<(), KeyFileError> {
        let failed = |source| KeyFileError::Make { path: path.to_owned(), source };
        let mut options = OpenOptions::new();
        let made = options.write(true).create_new(true).mode(FILE_MODE).open(path);
        let mut file = made.map_err(failed)?;
        let written = file.write_all(format!("{}\n", self.to_text()).as_bytes());
        written.and_then(|()| file.sync_all()).map_err(failed)
    }
}

fn read(path: &Path) -> Result<String, KeyFileError> {
    let failed = |source| KeyFileError::Read { path: path.to_owned(), source };
    let mut text = String::new();
    let file = File::open(path).map_err(failed)?;
    file.take(FILE_BYTES_MAX).read_to_string(&mut text).map_err(failed)?;
    Ok(text)
}
