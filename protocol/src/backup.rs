//! A backup of a cluster, as a coordinator gives it out and as a restore takes it in.
//!
//! ```text
//! magic `novaback` · version u32 · parts, each: kind u8 · name length u16 · name · length u64 · content
//! ```
//!
//! Integers are little-endian. The first part is the [`BackupHead`] as JSON, the last one the BLAKE3 hash of all
//! bytes before it: a backup without it is cut off. The bytes hold the keys of the cluster, so they are on disk only
//! inside an encrypted stream; that is the business of whoever writes them.

use std::io::{self, Read};

use serde::{Deserialize, Serialize};

use crate::ids::{ClusterId, Revision};
use crate::time::Timestamp;

/// What an encrypted backup is sealed for: nothing else opens as one.
pub const BACKUP_PURPOSE: &str = "novacron backup";

/// Bytes of one part: the state of 100,000 machines at 16 KiB each. An archived file is at most 256 MiB and a little.
pub const PART_BYTES_MAX: u64 = 2 << 30;

/// Bytes of the name of a part: that of an archived file.
pub const PART_NAME_BYTES_MAX: usize = 255;

const MAGIC: [u8; 8] = *b"novaback";
const VERSION: u32 = 1;

/// What a part holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PartKind {
    /// [`BackupHead`] as JSON.
    Head = 1,
    /// The certificate of the cluster's authority as PEM.
    AuthorityCertificate = 2,
    /// The private key of the cluster's authority as PEM.
    AuthorityKey = 3,
    /// The keys with which the cluster encrypts secrets, one text a line, the newest first.
    SecretKeys = 4,
    /// The replicated state as a snapshot.
    State = 5,
    /// A file of the archive as it is on disk; its name is the part's.
    Archived = 6,
    /// BLAKE3 of everything before this part.
    End = 7,
}

impl PartKind {
    const ALL: [Self; 7] = [
        Self::Head,
        Self::AuthorityCertificate,
        Self::AuthorityKey,
        Self::SecretKeys,
        Self::State,
        Self::Archived,
        Self::End,
    ];

    fn parse(number: u8) -> Option<Self> {
        Self::ALL.into_iter().find(|kind| *kind as u8 == number)
    }
}

/// What a backup is of.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct BackupHead {
    /// The cluster.
    pub cluster: ClusterId,
    /// The state has everything up to this revision and nothing after it.
    pub revision: Revision,
    /// The fleet's clock there.
    pub at: Timestamp,
    /// Hash of the state, 32 hexadecimal digits.
    pub state_hash: String,
    /// Machines that are not deleted.
    pub machines: u64,
    /// Files of the archive.
    pub archived_files: u64,
    /// Version of the program that made it.
    pub version: String,
}

/// Why bytes are not a whole backup.
#[derive(Debug, thiserror::Error)]
pub enum BackupError {
    /// They could not be read.
    #[error("the backup cannot be read")]
    Read(#[source] io::Error),
    /// They do not begin as a backup does.
    #[error("this is not a backup of a cluster")]
    NotABackup,
    /// Another program wrote them.
    #[error("the backup has format version {found}; this program reads version {VERSION}")]
    UnknownVersion {
        /// The version in the bytes.
        found: u32,
    },
    /// They end before the end.
    #[error("the backup is cut off")]
    CutOff,
    /// They go on after the end.
    #[error("the backup goes on after its end")]
    TooLong,
    /// A part cannot be.
    #[error("part {number} of the backup is malformed")]
    Malformed {
        /// The part, from 1.
        number: u64,
    },
    /// Something is not as it was when it was made.
    #[error("the backup is not as it was written: its hash differs")]
    OtherHash,
}

/// Writes a backup: gives the bytes that go between the contents of parts, and follows the contents.
#[derive(Debug)]
pub struct BackupEncoder {
    hasher: blake3::Hasher,
}

impl BackupEncoder {
    /// A backup, and its first bytes.
    pub fn begin() -> (Self, Vec<u8>) {
        let mut encoder = Self { hasher: blake3::Hasher::new() };
        let first = [&MAGIC[..], &VERSION.to_le_bytes()].concat();
        encoder.content(&first);
        (encoder, first)
    }

    /// The bytes before a part's content. `name` is at most [`PART_NAME_BYTES_MAX`] bytes long.
    pub fn part(&mut self, kind: PartKind, name: &str, length_bytes: u64) -> Vec<u8> {
        let head = part_head(kind, name, length_bytes);
        self.content(&head);
        head
    }

    /// What of a part's content was written.
    pub fn content(&mut self, bytes: &[u8]) {
        self.hasher.update(bytes);
    }

    /// The last bytes.
    pub fn end(self) -> Vec<u8> {
        let hash = self.hasher.finalize();
        [part_head(PartKind::End, "", 32), hash.as_bytes().to_vec()].concat()
    }
}

fn part_head(kind: PartKind, name: &str, length_bytes: u64) -> Vec<u8> {
    let name_bytes = (name.len() as u16).to_le_bytes();
    [&[kind as u8][..], &name_bytes, name.as_bytes(), &length_bytes.to_le_bytes()].concat()
}

/// A part of a backup.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Part {
    /// What it holds.
    pub kind: PartKind,
    /// Its name; empty but for archived files.
    pub name: String,
    /// Its content.
    pub content: Vec<u8>,
}

/// Reads a backup part by part. One part at a time is held in memory.
#[derive(Debug)]
pub struct BackupReader<R> {
    inner: R,
    hasher: blake3::Hasher,
    parts: u64,
    is_over: bool,
}

impl<R: Read> BackupReader<R> {
    /// Reads the first bytes.
    ///
    /// # Errors
    /// [`BackupError`].
    pub fn new(inner: R) -> Result<Self, BackupError> {
        let mut reader = Self { inner, hasher: blake3::Hasher::new(), parts: 0, is_over: false };
        let first: [u8; 12] = reader.array()?;
        if first[..8] != MAGIC {
            return Err(BackupError::NotABackup);
        }
        let found = u32::from_le_bytes(std::array::from_fn(|at| first[8 + at]));
        if found != VERSION {
            return Err(BackupError::UnknownVersion { found });
        }
        Ok(reader)
    }

    /// What it reads from.
    pub fn into_inner(self) -> R {
        self.inner
    }

    /// The next part; none after the last, if everything was as it was written.
    ///
    /// # Errors
    /// [`BackupError`].
    pub fn next_part(&mut self) -> Result<Option<Part>, BackupError> {
        if self.is_over {
            return Ok(None);
        }
        self.parts += 1;
        let so_far = self.hasher.finalize();
        let (kind, name, length_bytes) = self.part_head()?;
        let content = self.take(length_bytes)?;
        if kind != PartKind::End {
            return Ok(Some(Part { kind, name, content }));
        }
        self.check_end(&content, so_far)?;
        Ok(None)
    }

    fn part_head(&mut self) -> Result<(PartKind, String, u64), BackupError> {
        let number = self.parts;
        let malformed = || BackupError::Malformed { number };
        let [kind] = self.array()?;
        let kind = PartKind::parse(kind).ok_or_else(malformed)?;
        let name_bytes = u16::from_le_bytes(self.array()?);
        let is_first = number == 1;
        if is_first != (kind == PartKind::Head) || usize::from(name_bytes) > PART_NAME_BYTES_MAX {
            return Err(malformed());
        }
        let name = String::from_utf8(self.take(name_bytes.into())?).map_err(|_| malformed())?;
        let length_bytes = u64::from_le_bytes(self.array()?);
        if length_bytes > PART_BYTES_MAX {
            return Err(malformed());
        }
        Ok((kind, name, length_bytes))
    }

    fn check_end(&mut self, content: &[u8], so_far: blake3::Hash) -> Result<(), BackupError> {
        if content != so_far.as_bytes() {
            return Err(BackupError::OtherHash);
        }
        self.is_over = true;
        match self.inner.read(&mut [0]) {
            Ok(0) => Ok(()),
            Ok(_) => Err(BackupError::TooLong),
            Err(error) => Err(BackupError::Read(error)),
        }
    }

    fn array<const N: usize>(&mut self) -> Result<[u8; N], BackupError> {
        let mut bytes = [0; N];
        bytes.copy_from_slice(&self.take(N as u64)?);
        Ok(bytes)
    }

    /// Exactly so many bytes. Memory grows with what comes, not with what was announced.
    fn take(&mut self, length_bytes: u64) -> Result<Vec<u8>, BackupError> {
        let mut bytes = Vec::new();
        let read = (&mut self.inner).take(length_bytes).read_to_end(&mut bytes);
        if read.map_err(BackupError::Read)? as u64 != length_bytes {
            return Err(BackupError::CutOff);
        }
        self.hasher.update(&bytes);
        Ok(bytes)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn backup() -> Vec<u8> {
        let (mut encoder, mut bytes) = BackupEncoder::begin();
        for (kind, name, content) in parts() {
            bytes.extend(encoder.part(kind, name, content.len() as u64));
            encoder.content(content);
            bytes.extend(content);
        }
        bytes.extend(encoder.end());
        bytes
    }

    fn parts() -> [(PartKind, &'static str, &'static [u8]); 3] {
        [
            (PartKind::Head, "", b"{}"),
            (PartKind::State, "", b""),
            (PartKind::Archived, "window-1", b"content"),
        ]
    }

    fn read(bytes: &[u8]) -> Result<Vec<Part>, BackupError> {
        let mut reader = BackupReader::new(bytes)?;
        let mut parts = Vec::new();
        while let Some(part) = reader.next_part()? {
            parts.push(part);
        }
        assert!(matches!(reader.next_part(), Ok(None)));
        Ok(parts)
    }

    #[test]
    fn golden_backup() {
        let expected = [
            &b"novaback\x01\0\0\0"[..],
            b"\x01\0\0\x02\0\0\0\0\0\0\0{}",
            b"\x05\0\0\0\0\0\0\0\0\0\0",
            b"\x06\x08\0window-1\x07\0\0\0\0\0\0\0content",
        ]
        .concat();
        let end = [b"\x07\0\0\x20\0\0\0\0\0\0\0", &blake3::hash(&expected).as_bytes()[..]].concat();
        assert_eq!(backup(), [expected, end].concat());
        let found = read(&backup()).unwrap();
        let found: Vec<_> =
            found.iter().map(|part| (part.kind, part.name.as_str(), &part.content[..])).collect();
        assert_eq!(found, parts());
    }

    #[test]
    fn what_is_cut_changed_or_added_is_noticed() {
        let bytes = backup();
        for length in 0..bytes.len() {
            assert!(matches!(read(&bytes[..length]), Err(BackupError::CutOff)), "{length}");
        }
        for bit in 0..bytes.len() * 8 {
            let mut flipped = bytes.clone();
            flipped[bit / 8] ^= 1 << (bit % 8);
            assert!(read(&flipped).is_err(), "bit {bit}");
        }
        assert!(matches!(read(&[&bytes[..], b"x"].concat()), Err(BackupError::TooLong)));
        assert!(matches!(read(b"something else"), Err(BackupError::NotABackup)));
        let headless = [&bytes[..12], &bytes[12 + 13..]].concat();
        assert!(matches!(read(&headless), Err(BackupError::Malformed { number: 1 })));
    }
}
