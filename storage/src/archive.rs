//! Files that never change: written once under a name, and known by the hash of their content.
//!
//! Each is a sealed file (see `sealed`) with the magic `novaarch`. Its label says what it holds, its
//! data is the content as one zstd frame:
//!
//! ```text
//! label   bytes
//!      0     32  SHA-256 of the content
//!     32      8  length of the content, little-endian
//!     40      …  name
//! ```
//!
//! Whoever keeps names and hashes elsewhere can have a file from anybody: [`Archive::read_part`]
//! sends it as it is on disk, but for encryption, which is each disk's own, and
//! [`Archive::put_physical`] takes it only if it is what the hash says. A damaged file holds nothing, so putting it again mends it.

use std::collections::BTreeSet;
use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use sha2::{Digest, Sha256};

use crate::cipher::Locked;
use crate::damage::{Damage, Damaged};
use crate::disk::{Disk, DiskError};
use crate::sealed::{self, Kind, SealedDirectory, SealedError};

/// The most bytes of a name: with the suffixes it stays below the 255 bytes of a file name.
pub const NAME_BYTES_MAX: usize = 200;

/// The most bytes of one content; all of it is held in memory while it is written or read. An hour
/// of 20,000 machines with four records a minute of 50 bytes is 240 MB.
pub const CONTENT_BYTES_MAX: usize = 256 << 20;

const KIND: Kind = Kind { magic: *b"novaarch", suffix: ".archive" };

/// Where sealed tables of numbers get most of what zstd can give, at some 300 MB/s.
const COMPRESSION_LEVEL: i32 = 3;

/// Hash and length before the name in a label.
const DESCRIPTION_BYTES: usize = 40;

/// SHA-256 of a content.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ContentHash(pub [u8; 32]);

impl ContentHash {
    /// The hash of a content.
    pub fn of(content: &[u8]) -> ContentHash {
        ContentHash(Sha256::digest(content).into())
    }
}

impl fmt::Display for ContentHash {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|byte| write!(formatter, "{byte:02x}"))
    }
}

impl fmt::Debug for ContentHash {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, formatter)
    }
}

/// Why a file was refused.
#[derive(Debug, thiserror::Error)]
pub enum ArchiveError {
    /// The disk failed. A file that was being written may be there, but then it is whole.
    #[error("the disk failed")]
    Disk(#[from] DiskError),
    /// The file on disk, or the bytes of one that came from elsewhere, are not what was written.
    #[error("the archived file cannot be trusted")]
    Damaged(#[from] Damaged),
    /// It needs another key, or is not encrypted where everything is.
    #[error(transparent)]
    Locked(#[from] Locked),
    /// The name could not be that of a file everywhere.
    #[error(
        "{name:?} is no name of an archived file: 1 to {NAME_BYTES_MAX} letters, digits, '-', '_', \
         '.', not beginning with '.'"
    )]
    InvalidName {
        /// The name of the call.
        name: String,
    },
    /// The content is too large.
    #[error("{bytes} bytes are too many for an archived file ({CONTENT_BYTES_MAX} at most)")]
    TooLarge {
        /// How many they are.
        bytes: usize,
    },
    /// The name stands for another content, now and for ever.
    #[error("{name:?} holds the content {found}, not {wanted}")]
    OtherContent {
        /// The name.
        name: String,
        /// What it holds, or what the bytes from elsewhere hold.
        found: ContentHash,
        /// What was asked for.
        wanted: ContentHash,
    },
    /// The content cannot be compressed.
    #[error("cannot compress {name:?}")]
    Compress {
        /// The name.
        name: String,
        /// What zstd said.
        #[source]
        source: std::io::Error,
    },
}

impl ArchiveError {
    /// Whether a file is there and is of no use to anybody. Not what a newer program wrote: that is whole for those who
    /// understand it.
    pub fn is_rot(&self) -> bool {
        match self {
            ArchiveError::Damaged(damaged) => is_mendable(&damaged.damage),
            ArchiveError::OtherContent { .. } => true,
            _ => false,
        }
    }
}

impl From<SealedError> for ArchiveError {
    fn from(error: SealedError) -> ArchiveError {
        match error {
            SealedError::Disk(error) => ArchiveError::Disk(error),
            SealedError::Damaged(damaged) => ArchiveError::Damaged(damaged),
            SealedError::Locked(locked) => ArchiveError::Locked(locked),
        }
    }
}

/// Archived files in one directory. Calls may come from several threads; changes happen one at a
/// time.
#[derive(Debug)]
pub struct Archive {
    files: SealedDirectory,
    /// The names that are there; read when they are asked for, and unknown after a failed change.
    names: Mutex<Option<BTreeSet<String>>>,
    /// One change at a time.
    changing: Mutex<()>,
}

impl Archive {
    /// Opens the files in `directory` of `disk`, making it if needed. What was written by half is
    /// removed. The directory is this archive's alone.
    pub fn open(
        disk: Arc<dyn Disk>,
        directory: impl Into<PathBuf>,
    ) -> Result<Archive, ArchiveError> {
        let files = SealedDirectory::open(disk, directory.into(), KIND)?;
        Ok(Archive { files, names: Mutex::new(None), changing: Mutex::new(()) })
    }

    /// Writes a content under a name; durable on return. Doing it again changes nothing; another
    /// content under the same name is [`ArchiveError::OtherContent`].
    pub fn put(&self, name: &str, content: &[u8]) -> Result<ContentHash, ArchiveError> {
        check_name(name)?;
        if content.len() > CONTENT_BYTES_MAX {
            return Err(ArchiveError::TooLarge { bytes: content.len() });
        }
        let hash = ContentHash::of(content);
        let _alone = self.changing.lock();
        if self.is_whole(name, &hash)? {
            return Ok(hash);
        }
        let failed = |source| ArchiveError::Compress { name: name.to_owned(), source };
        let data = zstd::bulk::compress(content, COMPRESSION_LEVEL).map_err(failed)?;
        let label = Label { hash, content_bytes: content.len(), name };
        self.write(name, &label.encode(), &data)?;
        Ok(hash)
    }

    /// Writes a file as [`Archive::read_part`] of another archive gave it; durable on return. It is
    /// taken only if all of it is whole and holds what `wanted` says under this name.
    pub fn put_physical(
        &self,
        name: &str,
        bytes: &[u8],
        wanted: &ContentHash,
    ) -> Result<(), ArchiveError> {
        check_name(name)?;
        let file = self.files.full_path(name);
        let damaged = |(offset, damage)| Damaged { file: file.clone(), offset, damage };
        let parts = sealed::parse(bytes, KIND).map_err(damaged)?;
        check_content(name, parts.label, parts.data, wanted, &file)?;
        let _alone = self.changing.lock();
        if self.is_whole(name, wanted)? {
            return Ok(());
        }
        self.write(name, parts.label, parts.data)
    }

    /// The content of a name, if there is one, checked whole against its hash.
    pub fn get(&self, name: &str, wanted: &ContentHash) -> Result<Option<Vec<u8>>, ArchiveError> {
        check_name(name)?;
        let Some(file) = self.files.open_file(name)? else { return Ok(self.absent(name)) };
        let path = self.files.full_path(name);
        check_content(name, file.label(), &file.read_data()?, wanted, &path).map(Some)
    }

    /// A file as it is on disk without encryption, checked whole: what [`Archive::put_physical`] of another archive
    /// takes. `None` if there is no file of this name.
    pub fn get_physical(&self, name: &str) -> Result<Option<Vec<u8>>, ArchiveError> {
        let Some(bytes) = self.read_part(name, 0, usize::MAX)? else { return Ok(None) };
        let damaged = |(offset, damage)| {
            let file = self.files.full_path(name);
            ArchiveError::from(Damaged { file, offset, damage })
        };
        let (found, ..) = inspect(&bytes).map_err(damaged)?;
        if found != name {
            let damage = Damage::Misplaced(format!("archived file {found:?}"));
            return Err(damaged((sealed::HEAD_BYTES as u64, damage)));
        }
        Ok(Some(bytes))
    }

    /// Whether there is a file of this name. Reads no file.
    pub fn contains(&self, name: &str) -> Result<bool, ArchiveError> {
        Ok(self.known()?.as_ref().is_some_and(|names| names.contains(name)))
    }

    /// The names of all files, sorted. Reads no file.
    pub fn names(&self) -> Result<Vec<String>, ArchiveError> {
        let names = self.known()?;
        Ok(names.iter().flatten().cloned().collect())
    }

    /// Removes a file, durably; one that is not there is no error.
    pub fn remove(&self, name: &str) -> Result<(), ArchiveError> {
        check_name(name)?;
        let _alone = self.changing.lock();
        let removed = self.files.remove(name);
        self.changed(removed, |names| names.remove(name))
    }

    /// Whether files are encrypted here.
    pub fn is_encrypted(&self) -> bool {
        self.files.is_encrypted()
    }

    /// Encrypts a file anew, with the newest key of the disk, if another one encrypts it; whether that was so.
    pub fn renew(&self, name: &str) -> Result<bool, ArchiveError> {
        check_name(name)?;
        let _alone = self.changing.lock();
        Ok(self.files.renew(name)?)
    }

    /// Bytes of a file on disk without encryption, if there is one of this name.
    pub fn size_bytes(&self, name: &str) -> Result<Option<u64>, ArchiveError> {
        check_name(name)?;
        if self.files.is_encrypted() {
            let file = self.files.open_unchecked(name)?;
            return Ok(file.map(|file| file.plain_bytes()));
        }
        match self.files.open_raw(name)? {
            Some(file) => Ok(Some(file.len()?)),
            None => Ok(None),
        }
    }

    /// A part of a file as it is on disk without encryption, unchecked: from `offset`, at most `bytes_max`, less at its
    /// end. `None` if there is no file of this name.
    pub fn read_part(
        &self,
        name: &str,
        offset: u64,
        bytes_max: usize,
    ) -> Result<Option<Vec<u8>>, ArchiveError> {
        check_name(name)?;
        let part = |length_bytes: u64| {
            let rest = usize::try_from(length_bytes.saturating_sub(offset)).unwrap_or(usize::MAX);
            vec![0; rest.min(bytes_max)]
        };
        if self.files.is_encrypted() {
            let Some(file) = self.files.open_unchecked(name)? else { return Ok(self.absent(name)) };
            let mut part = part(file.plain_bytes());
            file.read_plain_at(offset, &mut part)?;
            return Ok(Some(part));
        }
        let Some(file) = self.files.open_raw(name)? else { return Ok(self.absent(name)) };
        let mut part = part(file.len()?);
        file.read_at(offset, &mut part)?;
        Ok(Some(part))
    }

    /// Whether the file of this name is there, whole, with this content. One that is damaged is as
    /// good as not there, because whoever puts has the content.
    fn is_whole(&self, name: &str, wanted: &ContentHash) -> Result<bool, ArchiveError> {
        match self.get(name, wanted) {
            Ok(content) => Ok(content.is_some()),
            Err(ArchiveError::Damaged(damaged)) if is_mendable(&damaged.damage) => {
                tracing::warn!(%damaged, "an archived file is written anew");
                Ok(false)
            }
            Err(error) => Err(error),
        }
    }

    fn write(&self, name: &str, label: &[u8], data: &[u8]) -> Result<(), ArchiveError> {
        let written = self.files.write(name, label, data);
        self.changed(written, |names| names.insert(name.to_owned()))
    }

    /// Follows a change of the directory. After an error it may have happened or not.
    fn changed(
        &self,
        result: Result<(), DiskError>,
        change: impl FnOnce(&mut BTreeSet<String>) -> bool,
    ) -> Result<(), ArchiveError> {
        let mut names = self.lock();
        match &result {
            Ok(()) => drop(names.as_mut().map(change)),
            Err(_) => *names = None,
        }
        Ok(result?)
    }

    /// Nothing, of a file that is not there. Somebody else may have removed it: who asks for the names next looks anew.
    fn absent<T>(&self, name: &str) -> Option<T> {
        let mut names = self.lock();
        if names.as_ref().is_some_and(|names| names.contains(name)) {
            *names = None;
        }
        None
    }

    fn lock(&self) -> MutexGuard<'_, Option<BTreeSet<String>>> {
        self.names.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn known(&self) -> Result<MutexGuard<'_, Option<BTreeSet<String>>>, ArchiveError> {
        let mut names = self.lock();
        if names.is_none() {
            *names = Some(self.files.names()?.into_iter().collect());
        }
        Ok(names)
    }
}

/// Not what a newer program wrote: that is whole for those who understand it.
fn is_mendable(damage: &Damage) -> bool {
    !matches!(damage, Damage::UnknownVersion { .. })
}

/// The content of a file under a name, if all of it agrees.
fn check_content(
    name: &str,
    label: &[u8],
    data: &[u8],
    wanted: &ContentHash,
    file: &Path,
) -> Result<Vec<u8>, ArchiveError> {
    let damaged = |offset, damage| Damaged { file: file.to_owned(), offset, damage };
    let data_at = (sealed::HEAD_BYTES + label.len()) as u64;
    let label_at = sealed::HEAD_BYTES as u64;
    let label = Label::decode(label).ok_or(damaged(label_at, Damage::Label))?;
    if label.name != name {
        let damage = Damage::Misplaced(format!("archived file {:?}", label.name));
        return Err(damaged(label_at, damage).into());
    }
    if label.hash != *wanted {
        let (name, found, wanted) = (name.to_owned(), label.hash, *wanted);
        return Err(ArchiveError::OtherContent { name, found, wanted });
    }
    let content = label.decompress(data).ok_or(damaged(data_at, Damage::ContentHash))?;
    Ok(content)
}

/// What a file says of its content.
struct Label<'a> {
    hash: ContentHash,
    content_bytes: usize,
    name: &'a str,
}

impl<'a> Label<'a> {
    fn encode(&self) -> Vec<u8> {
        let content_bytes = (self.content_bytes as u64).to_le_bytes();
        [&self.hash.0[..], &content_bytes, self.name.as_bytes()].concat()
    }

    fn decode(bytes: &'a [u8]) -> Option<Label<'a>> {
        let (description, name) = bytes.split_first_chunk::<DESCRIPTION_BYTES>()?;
        let (hash, content_bytes) = description.split_first_chunk::<32>()?;
        let content_bytes = u64::from_le_bytes(content_bytes.try_into().ok()?);
        let content_bytes = usize::try_from(content_bytes).ok()?;
        let is_possible = content_bytes <= CONTENT_BYTES_MAX;
        let name = std::str::from_utf8(name).ok()?;
        is_possible.then_some(Label { hash: ContentHash(*hash), content_bytes, name })
    }

    fn decompress(&self, data: &[u8]) -> Option<Vec<u8>> {
        let content = zstd::bulk::decompress(data, self.content_bytes).ok()?;
        (content.len() == self.content_bytes && ContentHash::of(&content) == self.hash)
            .then_some(content)
    }
}

fn check_name(name: &str) -> Result<(), ArchiveError> {
    if sealed::is_name(name, NAME_BYTES_MAX) {
        return Ok(());
    }
    Err(ArchiveError::InvalidName { name: name.to_owned() })
}

/// What the bytes of a whole file hold: name, hash, content. For those who look at files without an
/// archive, and for tests of the format.
///
/// # Errors
/// Where they are damaged, and how.
pub fn inspect(bytes: &[u8]) -> Result<(String, ContentHash, Vec<u8>), (u64, Damage)> {
    let parts = sealed::parse(bytes, KIND)?;
    let label_at = sealed::HEAD_BYTES as u64;
    let label = Label::decode(parts.label).ok_or((label_at, Damage::Label))?;
    let data_at = label_at + parts.label.len() as u64;
    let content = label.decompress(parts.data).ok_or((data_at, Damage::ContentHash))?;
    Ok((label.name.to_owned(), label.hash, content))
}
