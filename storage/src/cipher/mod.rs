//! Encryption of what lies on a disk. How is the business of whoever gives a [`Cipher`]; what is encrypted, with which
//! number, and what is authenticated with it is decided here.
//!
//! Each file has a key of its own: the cipher's key, a salt that was drawn when the file was made, and what the file is
//! and how it is called. So no file can be put in another's place, and equal contents look different. Files say in their
//! heads which key they need:
//!
//! ```text
//! offset  bytes
//!      0      8  magic
//!      8      4  version of the format (2: as version 1, and encrypted)
//!     12      4  crc32c of the head without this field
//!     16     16  as in version 1
//!     32      8  id of the key
//!     40     32  salt
//!     72      …  what is encrypted
//! ```
//!
//! Within a file, numbers keep its parts in their places: the offset of a record of the log, the number of a chunk (see
//! `chunks`). No number is used twice for one key with different bytes. Files other than the log are written once, from
//! their start to their end. A segment of the log takes records only from the opening that made it: what a crash cut off
//! is not written over with the same key.
//!
//! **All or nothing.** On a disk with a cipher nothing is read that is not encrypted, and on one without a cipher
//! nothing that is; [`require_keys`] says so before anything is touched.

mod chunks;
mod disk;
mod file;
mod require;

use std::fmt;
use std::io;
use std::path::PathBuf;
use std::sync::Arc;

pub(crate) use chunks::{ChunkedFile, ReadError, write_chunks};
pub use disk::EncryptedDisk;
pub use file::EncryptedFiles;
pub use require::{FileKind, require_keys};

/// Bytes that tell whether something was changed.
pub const TAG_BYTES: usize = 16;

/// Bytes of a salt.
pub const SALT_BYTES: usize = 32;

/// Bytes of a head before the key.
pub(crate) const PLAIN_HEAD_BYTES: usize = 32;

/// Bytes of a head with a key.
pub(crate) const HEAD_BYTES: usize = PLAIN_HEAD_BYTES + KEY_BYTES;

/// Id and salt.
const KEY_BYTES: usize = 8 + SALT_BYTES;

/// What heads with a key say in the place of version 1.
pub(crate) const ENCRYPTED_VERSION: u32 = 2;

/// Names a key.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct KeyId(pub [u8; 8]);

impl fmt::Display for KeyId {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|byte| write!(formatter, "{byte:02x}"))
    }
}

impl fmt::Debug for KeyId {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, formatter)
    }
}

/// Gives the keys of files.
pub trait Cipher: fmt::Debug + Send + Sync {
    /// The keys that files can be made of: the first for new files, all of them for what is there. Never none.
    fn keys(&self) -> Vec<KeyId>;

    /// A salt that was never there before.
    ///
    /// # Errors
    /// There is no randomness.
    fn draw_salt(&self) -> io::Result<[u8; SALT_BYTES]>;

    /// The key of a file; `None` if `key` is not here.
    fn file_key(
        &self,
        key: KeyId,
        salt: &[u8; SALT_BYTES],
        context: &[u8],
    ) -> Option<Arc<dyn FileKey>>;
}

/// The key of one file. Each number is for one content only.
pub trait FileKey: fmt::Debug + Send + Sync {
    /// Encrypts in place; returns the tag. `authenticated` has to be given again.
    ///
    /// # Errors
    /// More than can be encrypted at once.
    fn seal(
        &self,
        number: u64,
        authenticated: &[u8],
        content: &mut [u8],
    ) -> io::Result<[u8; TAG_BYTES]>;

    /// Decrypts in place what ends with its tag; `None`, and rubbish in `content`, if anything is not as it was sealed.
    fn open(&self, number: u64, authenticated: &[u8], content: &mut [u8]) -> Option<()>;
}

/// A file that cannot be read with the keys that there are.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{} {problem}", file.display())]
pub struct Locked {
    /// The file, as an operator would open it.
    pub file: PathBuf,
    /// Why not.
    pub problem: LockProblem,
}

/// Why a file cannot be read with the keys that there are.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum LockProblem {
    /// It is encrypted, and nothing else here is.
    #[error("is encrypted with key {needed}, and no key is given")]
    NoKey {
        /// The key that is needed.
        needed: KeyId,
    },
    /// It is encrypted with a key that is not here.
    #[error("is encrypted with key {needed}, which is not given (given: {})", list(given))]
    OtherKey {
        /// The key that is needed.
        needed: KeyId,
        /// The keys that are here.
        given: Vec<KeyId>,
    },
    /// It is not encrypted, and everything else here is.
    #[error("is not encrypted, and a key is given")]
    NotEncrypted,
}

fn list(keys: &[KeyId]) -> String {
    keys.iter().map(KeyId::to_string).collect::<Vec<_>>().join(", ")
}

/// What the head of a file says about its key.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct KeyHead {
    pub(crate) key: KeyId,
    salt: [u8; SALT_BYTES],
}

impl KeyHead {
    pub(crate) fn encode(&self) -> [u8; KEY_BYTES] {
        let mut bytes = [0; KEY_BYTES];
        bytes[..8].copy_from_slice(&self.key.0);
        bytes[8..].copy_from_slice(&self.salt);
        bytes
    }

    /// From a whole head.
    pub(crate) fn decode(head: &[u8; HEAD_BYTES]) -> KeyHead {
        let key = KeyId(std::array::from_fn(|at| head[PLAIN_HEAD_BYTES + at]));
        KeyHead { key, salt: std::array::from_fn(|at| head[PLAIN_HEAD_BYTES + 8 + at]) }
    }
}

/// The key of a new file.
pub(crate) fn begin(
    cipher: &dyn Cipher,
    context: &[u8],
) -> io::Result<(KeyHead, Arc<dyn FileKey>)> {
    let none = || io::Error::other("there is no key to encrypt with");
    let key = *cipher.keys().first().ok_or_else(none)?;
    let head = KeyHead { key, salt: cipher.draw_salt()? };
    let file_key = cipher.file_key(key, &head.salt, context).ok_or_else(none)?;
    Ok((head, file_key))
}

/// The key of a file that is there: none for a file without a head for one, where nothing is encrypted.
pub(crate) fn resume(
    cipher: Option<&Arc<dyn Cipher>>,
    head: Option<&KeyHead>,
    context: &[u8],
) -> Result<Option<Arc<dyn FileKey>>, LockProblem> {
    match (cipher, head) {
        (None, None) => Ok(None),
        (None, Some(head)) => Err(LockProblem::NoKey { needed: head.key }),
        (Some(_), None) => Err(LockProblem::NotEncrypted),
        (Some(cipher), Some(head)) => match cipher.file_key(head.key, &head.salt, context) {
            Some(key) => Ok(Some(key)),
            None => Err(LockProblem::OtherKey { needed: head.key, given: cipher.keys() }),
        },
    }
}

/// The checksum of a head with or without a key, but for the field in which it stands.
pub(crate) fn head_checksum(head: &[u8]) -> u32 {
    crc32c::crc32c_append(crc32c::crc32c(&head[..12]), &head[16..])
}

/// The key that the head of a file names, if it is one with a key and as it was written.
fn key_in(head: &[u8; HEAD_BYTES]) -> Option<KeyId> {
    let number = |at: usize| u32::from_le_bytes([0, 1, 2, 3].map(|byte| head[at + byte]));
    let is_encrypted = number(8) == ENCRYPTED_VERSION && number(12) == head_checksum(head);
    is_encrypted.then(|| KeyHead::decode(head).key)
}
