//! Files that are written whole, replaced atomically, and checked when read.
//!
//! ```text
//! offset  bytes
//!      0      8  magic, one for each kind of file
//!      8      4  version of the format (1)
//!     12      4  crc32c of the head without this field
//!     16      4  length of the label
//!     20      4  crc32c of label and data
//!     24      8  length of the data
//!     32      …  label, data
//! ```
//!
//! On a disk with a cipher the head goes on with a key (see `cipher`), the checksum of label and data is 0 in it, since it
//! would tell something of them, and encrypted chunks follow: that checksum, label, data. The key is for the kind of file
//! and its name.
//!
//! Integers are little-endian. A file is written under a temporary name, synced, renamed, and its
//! directory is synced; so under its own name it is there whole or not at all.

use std::cmp::Ordering;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use bytes::Bytes;

use crate::cipher::{self, ChunkedFile, Cipher, FileKey, KeyHead, KeyId, Locked, ReadError};
use crate::damage::{Damage, Damaged};
use crate::disk::{Disk, DiskError, DiskFile, Operation};

pub(crate) const HEAD_BYTES: usize = cipher::PLAIN_HEAD_BYTES;
const VERSION: u32 = 1;
const TEMPORARY_SUFFIX: &str = ".temporary";

/// Read at once while a file is checked; its size only bounds memory.
const CHUNK_BYTES: u64 = 1024 * 1024;

/// Before label and data where they are encrypted: their checksum.
const CHECKSUM_BYTES: usize = 4;

/// Labels are names and small descriptions.
pub(crate) const LABEL_BYTES_MAX: usize = 1024 * 1024;

/// One kind of sealed file.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Kind {
    pub(crate) magic: [u8; 8],
    /// Ends the names of the files, with its dot.
    pub(crate) suffix: &'static str,
}

/// Why a sealed file could not be written or read.
#[derive(Debug, thiserror::Error)]
pub(crate) enum SealedError {
    #[error(transparent)]
    Disk(#[from] DiskError),
    #[error(transparent)]
    Damaged(#[from] Damaged),
    #[error(transparent)]
    Locked(#[from] Locked),
}

impl From<ReadError> for SealedError {
    fn from(error: ReadError) -> SealedError {
        match error {
            ReadError::Disk(error) => error.into(),
            ReadError::Changed { file, offset } => {
                Damaged { file, offset, damage: Damage::Encrypted }.into()
            }
        }
    }
}

/// A directory of sealed files of one kind.
#[derive(Debug)]
pub(crate) struct SealedDirectory {
    disk: Arc<dyn Disk>,
    cipher: Option<Arc<dyn Cipher>>,
    directory: PathBuf,
    kind: Kind,
    /// One change at a time; `true` while a name may have changed that is not known to be durable.
    is_unsettled: Mutex<bool>,
}

impl SealedDirectory {
    /// Makes the directory if needed and removes what was written by half.
    pub(crate) fn open(
        disk: Arc<dyn Disk>,
        directory: PathBuf,
        kind: Kind,
    ) -> Result<SealedDirectory, DiskError> {
        disk.create_directory(&directory)?;
        for name in disk.list(&directory)?.iter().filter(|name| name.ends_with(TEMPORARY_SUFFIX)) {
            disk.remove(&directory.join(name))?;
        }
        // A process that died may have left names that are visible but not durable.
        disk.sync_directory(&directory)?;
        let cipher = disk.cipher();
        Ok(SealedDirectory { disk, cipher, directory, kind, is_unsettled: Mutex::new(false) })
    }

    /// Names of the files without their suffix, sorted.
    pub(crate) fn names(&self) -> Result<Vec<String>, DiskError> {
        let _settled = self.settled()?;
        let files = self.disk.list(&self.directory)?;
        let names = files.iter().filter_map(|file| file.strip_suffix(self.kind.suffix));
        Ok(names.map(str::to_owned).collect())
    }

    /// Writes or replaces a file; durable on return. After an error the old one is there or the
    /// new one, whole.
    pub(crate) fn write(&self, name: &str, label: &[u8], data: &[u8]) -> Result<(), DiskError> {
        let mut is_unsettled = self.settled()?;
        let path = self.path(name);
        let mut temporary = path.clone().into_os_string();
        temporary.push(TEMPORARY_SUFFIX);
        let temporary = PathBuf::from(temporary);
        if let Err(error) = self.write_temporary(&temporary, name, label, data) {
            // Best effort: its space may be what is missing, and opening removes it in any case.
            let _ = self.disk.remove(&temporary);
            return Err(error);
        }
        *is_unsettled = true;
        self.disk.rename(&temporary, &path)?;
        self.disk.sync_directory(&self.directory)?;
        *is_unsettled = false;
        Ok(())
    }

    /// Removes a file, durably; one that is not there is no error.
    pub(crate) fn remove(&self, name: &str) -> Result<(), DiskError> {
        let mut is_unsettled = self.settled()?;
        *is_unsettled = true;
        ignore_missing(self.disk.remove(&self.path(name)))?;
        self.disk.sync_directory(&self.directory)?;
        *is_unsettled = false;
        Ok(())
    }

    /// Opens a file and checks all of it.
    pub(crate) fn open_file(&self, name: &str) -> Result<Option<SealedFile>, SealedError> {
        let Some(file) = self.open_unchecked(name)? else { return Ok(None) };
        file.check()?;
        Ok(Some(file))
    }

    /// Opens a file and checks nothing of it but its head and label.
    pub(crate) fn open_unchecked(&self, name: &str) -> Result<Option<SealedFile>, SealedError> {
        let Some(file) = self.open_raw(name)? else { return Ok(None) };
        let context = context(self.kind, name);
        let unlock = |key: Option<&KeyHead>| cipher::resume(self.cipher.as_ref(), key, &context);
        SealedFile::open(file, self.kind, self.full_path(name), unlock).map(Some)
    }

    /// Writes a file anew with the newest key, if another one encrypts it; whether that was so.
    pub(crate) fn renew(&self, name: &str) -> Result<bool, SealedError> {
        let Some(cipher) = &self.cipher else { return Ok(false) };
        let Some(file) = self.open_unchecked(name)? else { return Ok(false) };
        if file.key == cipher.keys().first().copied() {
            return Ok(false);
        }
        self.write(name, &file.label, &file.read_data()?)?;
        Ok(true)
    }

    /// Whether files are encrypted.
    pub(crate) fn is_encrypted(&self) -> bool {
        self.cipher.is_some()
    }

    /// Opens a file as it is on disk.
    pub(crate) fn open_raw(&self, name: &str) -> Result<Option<Box<dyn DiskFile>>, DiskError> {
        let _settled = self.settled()?;
        match self.disk.open(&self.path(name)) {
            Ok(file) => Ok(Some(file)),
            Err(error) if error.is_not_found() => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// What an operator would call the file of this name.
    pub(crate) fn full_path(&self, name: &str) -> PathBuf {
        self.disk.full_path(&self.path(name))
    }

    fn path(&self, name: &str) -> PathBuf {
        self.directory.join(format!("{name}{}", self.kind.suffix))
    }

    fn write_temporary(
        &self,
        path: &Path,
        name: &str,
        label: &[u8],
        data: &[u8],
    ) -> Result<(), DiskError> {
        ignore_missing(self.disk.remove(path))?;
        let mut file = self.disk.create(path)?;
        if let Some(cipher) = &self.cipher {
            return self.write_encrypted(&mut *file, &**cipher, name, (label, data));
        }
        let mut start = Head::of(label, data).encode(self.kind).to_vec();
        start.extend_from_slice(label);
        file.append(&start)?;
        file.append(data)?;
        file.sync_data()
    }

    fn write_encrypted(
        &self,
        file: &mut dyn DiskFile,
        cipher: &dyn Cipher,
        name: &str,
        (label, data): (&[u8], &[u8]),
    ) -> Result<(), DiskError> {
        let path = self.full_path(name);
        let failed =
            |source| DiskError { operation: Operation::Create, path: path.clone(), source };
        let (key_head, key) = cipher::begin(cipher, &context(self.kind, name)).map_err(failed)?;
        let head = Head::of(label, data);
        let checksum = head.content_checksum.to_le_bytes();
        let head = head.encode_encrypted(self.kind, &key_head);
        file.append(&head)?;
        cipher::write_chunks(file, &path, &*key, &head, &[&checksum, label, data])?;
        file.sync_data()
    }

    /// Nothing is shown or changed before the names that are visible are durable.
    fn settled(&self) -> Result<MutexGuard<'_, bool>, DiskError> {
        let mut is_unsettled = self.is_unsettled.lock().unwrap_or_else(PoisonError::into_inner);
        if *is_unsettled {
            self.disk.sync_directory(&self.directory)?;
            *is_unsettled = false;
        }
        Ok(is_unsettled)
    }
}

fn ignore_missing(result: Result<(), DiskError>) -> Result<(), DiskError> {
    match result {
        Err(error) if error.is_not_found() => Ok(()),
        result => result,
    }
}

/// What the key of a file is for.
fn context(kind: Kind, name: &str) -> Vec<u8> {
    [&kind.magic[..], name.as_bytes()].concat()
}

/// An open file.
#[derive(Debug)]
pub(crate) struct SealedFile {
    path: PathBuf,
    kind: Kind,
    key: Option<KeyId>,
    content: Content,
    label: Bytes,
    data_bytes: u64,
    checksum: u32,
}

/// Where label and data are.
#[derive(Debug)]
enum Content {
    Plain(Box<dyn DiskFile>),
    Encrypted(ChunkedFile),
}

impl Content {
    /// Fills `buffer` with label and data from `offset` on.
    fn read(&self, offset: u64, buffer: &mut [u8]) -> Result<(), ReadError> {
        match self {
            Content::Plain(file) => {
                Ok(file.read_at(offset.saturating_add(HEAD_BYTES as u64), buffer)?)
            }
            Content::Encrypted(file) => {
                file.read(offset.saturating_add(CHECKSUM_BYTES as u64), buffer)
            }
        }
    }
}

impl SealedFile {
    pub(crate) fn label(&self) -> &Bytes {
        &self.label
    }

    pub(crate) fn data_bytes(&self) -> u64 {
        self.data_bytes
    }

    /// Fills `buffer` with the data from `offset` on.
    pub(crate) fn read_data_at(&self, offset: u64, buffer: &mut [u8]) -> Result<(), SealedError> {
        let data_at = self.label.len() as u64;
        Ok(self.content.read(data_at.saturating_add(offset), buffer)?)
    }

    pub(crate) fn read_data(&self) -> Result<Vec<u8>, SealedError> {
        let mut data = vec![0; usize::try_from(self.data_bytes).unwrap_or(usize::MAX)];
        self.read_data_at(0, &mut data)?;
        Ok(data)
    }

    /// Bytes of the file if it were not encrypted.
    pub(crate) fn plain_bytes(&self) -> u64 {
        (HEAD_BYTES + self.label.len()) as u64 + self.data_bytes
    }

    /// Fills `buffer` with the file from `offset` on, as if it were not encrypted.
    pub(crate) fn read_plain_at(&self, offset: u64, buffer: &mut [u8]) -> Result<(), SealedError> {
        let head = self.head().encode(self.kind);
        let of_head = head.get(usize::try_from(offset).unwrap_or(usize::MAX)..).unwrap_or(&[]);
        let (first, rest) = buffer.split_at_mut(of_head.len().min(buffer.len()));
        first.copy_from_slice(&of_head[..first.len()]);
        let content_at = offset.saturating_sub(HEAD_BYTES as u64);
        if rest.is_empty() { Ok(()) } else { Ok(self.content.read(content_at, rest)?) }
    }

    fn head(&self) -> Head {
        let (label_bytes, data_bytes) = (self.label.len(), self.data_bytes);
        Head { label_bytes, data_bytes, content_checksum: self.checksum, key: None }
    }

    /// `unlock` gives the key that a head asks for.
    fn open(
        file: Box<dyn DiskFile>,
        kind: Kind,
        path: PathBuf,
        unlock: impl FnOnce(Option<&KeyHead>) -> Result<Option<Arc<dyn FileKey>>, cipher::LockProblem>,
    ) -> Result<SealedFile, SealedError> {
        let damaged = |offset, damage| Damaged { file: path.clone(), offset, damage };
        let length_bytes = file.len()?;
        let mut bytes = vec![0; length_bytes.min(cipher::HEAD_BYTES as u64) as usize];
        file.read_at(0, &mut bytes)?;
        let head = Head::decode(&bytes, kind).map_err(|damage| match damage {
            Damage::Short => damaged(length_bytes, damage),
            damage => damaged(0, damage),
        })?;
        let key =
            unlock(head.key.as_ref()).map_err(|problem| Locked { file: path.clone(), problem })?;
        let content = match key {
            None => Content::Plain(file),
            Some(key) => Content::Encrypted(
                ChunkedFile::new(file, path.clone(), key, bytes)?
                    .map_err(|damage| damaged(length_bytes, damage))?,
            ),
        };
        let (found, expected) = match &content {
            Content::Plain(_) => (length_bytes, head.file_bytes()),
            Content::Encrypted(file) => {
                let content_bytes = head.file_bytes() - (HEAD_BYTES - CHECKSUM_BYTES) as u64;
                (file.content_bytes(), content_bytes)
            }
        };
        match expected.cmp(&found) {
            Ordering::Greater => return Err(damaged(length_bytes, Damage::Short).into()),
            Ordering::Less => return Err(damaged(expected.min(length_bytes), Damage::Long).into()),
            Ordering::Equal => {}
        }
        let mut label = vec![0; head.label_bytes];
        content.read(0, &mut label)?;
        let checksum = match &content {
            Content::Plain(_) => head.content_checksum,
            Content::Encrypted(file) => {
                let mut checksum = [0; CHECKSUM_BYTES];
                file.read(0, &mut checksum)?;
                u32::from_le_bytes(checksum)
            }
        };
        let (label, data_bytes) = (label.into(), head.data_bytes);
        let key = head.key.map(|head| head.key);
        Ok(SealedFile { path, kind, key, content, label, data_bytes, checksum })
    }

    /// Whether all of it is what was written.
    fn check(&self) -> Result<(), SealedError> {
        match &self.content {
            Content::Encrypted(file) => Ok(file.check()?),
            Content::Plain(file)
                if content_checksum(&**file, self.plain_bytes())? != self.checksum =>
            {
                let (file, offset) = (self.path.clone(), HEAD_BYTES as u64);
                Err(Damaged { file, offset, damage: Damage::ContentChecksum }.into())
            }
            Content::Plain(_) => Ok(()),
        }
    }
}

fn content_checksum(file: &dyn DiskFile, end: u64) -> Result<u32, DiskError> {
    let mut checksum = 0;
    let mut at = HEAD_BYTES as u64;
    let mut chunk = Vec::new();
    while at < end {
        chunk.resize((end - at).min(CHUNK_BYTES) as usize, 0);
        file.read_at(at, &mut chunk)?;
        checksum = crc32c::crc32c_append(checksum, &chunk);
        at += chunk.len() as u64;
    }
    Ok(checksum)
}

/// A whole sealed file in memory that is whole.
#[derive(Debug)]
pub(crate) struct Parts<'a> {
    pub(crate) label: &'a [u8],
    pub(crate) data: &'a [u8],
}

/// Checks the bytes of a whole file that is not encrypted; where they are damaged, and how, if they are.
pub(crate) fn parse(bytes: &[u8], kind: Kind) -> Result<Parts<'_>, (u64, Damage)> {
    let length_bytes = bytes.len() as u64;
    let short = || (length_bytes, Damage::Short);
    let (_, content) = bytes.split_first_chunk::<HEAD_BYTES>().ok_or_else(short)?;
    let head = Head::decode(bytes, kind).map_err(|damage| (0, damage))?;
    if head.key.is_some() {
        let damage =
            Damage::UnknownVersion { found: cipher::ENCRYPTED_VERSION, supported: VERSION };
        return Err((0, damage));
    }
    if head.file_bytes() > length_bytes {
        return Err(short());
    }
    if head.file_bytes() < length_bytes {
        return Err((head.file_bytes(), Damage::Long));
    }
    if crc32c::crc32c(content) != head.content_checksum {
        return Err((HEAD_BYTES as u64, Damage::ContentChecksum));
    }
    let (label, data) = content.split_at_checked(head.label_bytes).ok_or_else(short)?;
    Ok(Parts { label, data })
}

/// Whether a name can be that of a file everywhere.
pub(crate) fn is_name(name: &str, bytes_max: usize) -> bool {
    let is_plain = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_' | b'.');
    (1..=bytes_max).contains(&name.len()) && name.bytes().all(is_plain) && !name.starts_with('.')
}

/// What the head of a sealed file says.
struct Head {
    label_bytes: usize,
    data_bytes: u64,
    content_checksum: u32,
    key: Option<KeyHead>,
}

impl Head {
    /// The label is at most [`LABEL_BYTES_MAX`], which the stores check.
    fn of(label: &[u8], data: &[u8]) -> Head {
        let content_checksum = crc32c::crc32c_append(crc32c::crc32c(label), data);
        let (label_bytes, data_bytes) = (label.len(), data.len() as u64);
        Head { label_bytes, data_bytes, content_checksum, key: None }
    }

    /// From the beginning of a file: as many bytes as a head may have, if there are so many.
    fn decode(bytes: &[u8], kind: Kind) -> Result<Head, Damage> {
        let plain: &[u8; HEAD_BYTES] = bytes.first_chunk().ok_or(Damage::Short)?;
        let number = |at| u32::from_le_bytes(std::array::from_fn(|byte| plain[at + byte]));
        if plain[..8] != kind.magic {
            return Err(Damage::WrongMagic);
        }
        // Before the checksum: another version may compute it otherwise.
        let (key, checksum) = match number(8) {
            VERSION => (None, cipher::head_checksum(plain)),
            cipher::ENCRYPTED_VERSION => {
                let whole = bytes.first_chunk().ok_or(Damage::Short)?;
                (Some(KeyHead::decode(whole)), cipher::head_checksum(whole))
            }
            found => return Err(Damage::UnknownVersion { found, supported: VERSION }),
        };
        let label_bytes = number(16) as usize;
        if number(12) != checksum || label_bytes > LABEL_BYTES_MAX {
            return Err(Damage::HeadChecksum);
        }
        let data_bytes = u64::from(number(24)) | u64::from(number(28)) << 32;
        Ok(Head { label_bytes, data_bytes, content_checksum: number(20), key })
    }

    /// Bytes of the file without encryption.
    fn file_bytes(&self) -> u64 {
        ((HEAD_BYTES + self.label_bytes) as u64).saturating_add(self.data_bytes)
    }

    fn encode(&self, kind: Kind) -> [u8; HEAD_BYTES] {
        let mut bytes = [0; HEAD_BYTES];
        bytes[..8].copy_from_slice(&kind.magic);
        bytes[8..12].copy_from_slice(&VERSION.to_le_bytes());
        bytes[16..20].copy_from_slice(&(self.label_bytes as u32).to_le_bytes());
        bytes[20..24].copy_from_slice(&self.content_checksum.to_le_bytes());
        bytes[24..].copy_from_slice(&self.data_bytes.to_le_bytes());
        let checksum = cipher::head_checksum(&bytes);
        bytes[12..16].copy_from_slice(&checksum.to_le_bytes());
        bytes
    }

    fn encode_encrypted(&self, kind: Kind, key: &KeyHead) -> [u8; cipher::HEAD_BYTES] {
        let plain = Head { content_checksum: 0, key: None, ..*self }.encode(kind);
        let mut bytes = [0; cipher::HEAD_BYTES];
        bytes[..HEAD_BYTES].copy_from_slice(&plain);
        bytes[8..12].copy_from_slice(&cipher::ENCRYPTED_VERSION.to_le_bytes());
        bytes[HEAD_BYTES..].copy_from_slice(&key.encode());
        let checksum = cipher::head_checksum(&bytes);
        bytes[12..16].copy_from_slice(&checksum.to_le_bytes());
        bytes
    }
}
