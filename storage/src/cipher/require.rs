//! Whether all files can be read with the keys that there are, before any of them is touched.

use std::path::Path;
use std::sync::Arc;

use super::{Cipher, HEAD_BYTES, KeyId, LockProblem, Locked, key_in};
use crate::disk::{Disk, DiskError};

/// What files that are not encrypted say at offset 8, whatever they are: the version of their format. Heads with a key
/// say 2 there, and no single bit makes one of the other.
const PLAIN_VERSION: [u8; 2] = [1, 0];

/// Files of one kind in one directory.
#[derive(Debug, Clone, Copy)]
pub struct FileKind<'a> {
    /// Where they are.
    pub directory: &'a Path,
    /// How their names end.
    pub suffix: &'a str,
}

/// Says which file cannot be read with the keys of the disk, if there is one: it needs another key, or is not encrypted
/// where everything has to be. Reads the heads only, and changes nothing; what is damaged is left to those who read it.
///
/// # Errors
/// [`DiskError`].
pub fn require_keys(
    disk: &dyn Disk,
    kinds: &[FileKind<'_>],
) -> Result<Result<(), Locked>, DiskError> {
    let cipher = disk.cipher();
    for kind in kinds {
        let names = match disk.list(kind.directory) {
            Err(error) if error.is_not_found() => continue,
            names => names?,
        };
        for name in names.iter().filter(|name| name.ends_with(kind.suffix)) {
            let path = kind.directory.join(name);
            if let Some(problem) = problem_of(disk, &path, cipher.as_ref())? {
                return Ok(Err(Locked { file: disk.full_path(&path), problem }));
            }
        }
    }
    Ok(Ok(()))
}

fn problem_of(
    disk: &dyn Disk,
    path: &Path,
    cipher: Option<&Arc<dyn Cipher>>,
) -> Result<Option<LockProblem>, DiskError> {
    let file = disk.open(path)?;
    let length_bytes = file.len()?.min(HEAD_BYTES as u64) as usize;
    let mut head = [0; HEAD_BYTES];
    file.read_at(0, &mut head[..length_bytes])?;
    Ok(match (key_in(&head), cipher) {
        (Some(needed), None) => Some(LockProblem::NoKey { needed }),
        (Some(needed), Some(cipher)) => other_key(needed, cipher.keys()),
        (None, Some(_)) if head[8..10] == PLAIN_VERSION => Some(LockProblem::NotEncrypted),
        (None, _) => None,
    })
}

fn other_key(needed: KeyId, given: Vec<KeyId>) -> Option<LockProblem> {
    (!given.contains(&needed)).then_some(LockProblem::OtherKey { needed, given })
}
