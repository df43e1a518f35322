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
//! Integers are little-endian. A file is written under a temporary name, synced, renamed, and its
//! directory is synced; so under its own name it is there whole or not at all.

use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use bytes::Bytes;

use crate::damage::{Damage, Damaged};
use crate::disk::{Disk, DiskError, DiskFile};

pub(crate) const HEAD_BYTES: usize = 32;
const VERSION: u32 = 1;
const TEMPORARY_SUFFIX: &str = ".temporary";

/// Read at once while a file is checked; its size only bounds memory.
const CHUNK_BYTES: u64 = 1024 * 1024;

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
}

/// A directory of sealed files of one kind.
#[derive(Debug)]
pub(crate) struct SealedDirectory {
    disk: Arc<dyn Disk>,
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
        Ok(SealedDirectory { disk, directory, kind, is_unsettled: Mutex::new(false) })
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
        if let Err(error) = self.write_temporary(&temporary, label, data) {
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
        let Some(file) = self.open_raw(name)? else { return Ok(None) };
        SealedFile::check(file, self.kind, self.full_path(name)).map(Some)
    }

    /// Opens a file and checks nothing of it.
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

    fn write_temporary(&self, path: &Path, label: &[u8], data: &[u8]) -> Result<(), DiskError> {
        ignore_missing(self.disk.remove(path))?;
        let mut file = self.disk.create(path)?;
        let mut start = encode_head(self.kind, label, data).to_vec();
        start.extend_from_slice(label);
        file.append(&start)?;
        file.append(data)?;
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

/// An open file that was whole when it was opened.
#[derive(Debug)]
pub(crate) struct SealedFile {
    file: Box<dyn DiskFile>,
    label: Bytes,
    data_bytes: u64,
}

impl SealedFile {
    pub(crate) fn label(&self) -> &Bytes {
        &self.label
    }

    pub(crate) fn data_bytes(&self) -> u64 {
        self.data_bytes
    }

    /// Fills `buffer` with the data from `offset` on.
    pub(crate) fn read_data_at(&self, offset: u64, buffer: &mut [u8]) -> Result<(), DiskError> {
        let data_at = (HEAD_BYTES + self.label.len()) as u64;
        self.file.read_at(data_at.saturating_add(offset), buffer)
    }

    pub(crate) fn read_data(&self) -> Result<Vec<u8>, DiskError> {
        let mut data = vec![0; usize::try_from(self.data_bytes).unwrap_or(usize::MAX)];
        self.read_data_at(0, &mut data)?;
        Ok(data)
    }

    fn check(
        file: Box<dyn DiskFile>,
        kind: Kind,
        path: PathBuf,
    ) -> Result<SealedFile, SealedError> {
        let damaged = |offset, damage| Damaged { file: path.clone(), offset, damage };
        let length_bytes = file.len()?;
        let mut head = [0; HEAD_BYTES];
        if length_bytes < HEAD_BYTES as u64 {
            return Err(damaged(length_bytes, Damage::Short).into());
        }
        file.read_at(0, &mut head)?;
        let head = Head::decode(&head, kind).map_err(|damage| damaged(0, damage))?;
        match head.file_bytes() {
            expected if expected > length_bytes => {
                return Err(damaged(length_bytes, Damage::Short).into());
            }
            expected if expected < length_bytes => {
                return Err(damaged(expected, Damage::Long).into());
            }
            expected if content_checksum(&*file, expected)? != head.content_checksum => {
                return Err(damaged(HEAD_BYTES as u64, Damage::ContentChecksum).into());
            }
            _ => {}
        }
        let mut label = vec![0; head.label_bytes];
        file.read_at(HEAD_BYTES as u64, &mut label)?;
        Ok(SealedFile { file, label: label.into(), data_bytes: head.data_bytes })
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

/// Checks the bytes of a whole file; where they are damaged, and how, if they are.
pub(crate) fn parse(bytes: &[u8], kind: Kind) -> Result<Parts<'_>, (u64, Damage)> {
    let length_bytes = bytes.len() as u64;
    let short = || (length_bytes, Damage::Short);
    let (head, content) = bytes.split_first_chunk::<HEAD_BYTES>().ok_or_else(short)?;
    let head = Head::decode(head, kind).map_err(|damage| (0, damage))?;
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
}

impl Head {
    fn decode(bytes: &[u8; HEAD_BYTES], kind: Kind) -> Result<Head, Damage> {
        let number = |at| u32::from_le_bytes(std::array::from_fn(|byte| bytes[at + byte]));
        if bytes[..8] != kind.magic {
            return Err(Damage::WrongMagic);
        }
        // Before the checksum: another version may compute it otherwise.
        if number(8) != VERSION {
            return Err(Damage::UnknownVersion { found: number(8), supported: VERSION });
        }
        let label_bytes = number(16) as usize;
        if number(12) != head_checksum(bytes) || label_bytes > LABEL_BYTES_MAX {
            return Err(Damage::HeadChecksum);
        }
        let data_bytes = u64::from(number(24)) | u64::from(number(28)) << 32;
        Ok(Head { label_bytes, data_bytes, content_checksum: number(20) })
    }

    fn file_bytes(&self) -> u64 {
        ((HEAD_BYTES + self.label_bytes) as u64).saturating_add(self.data_bytes)
    }
}

/// The label is at most [`LABEL_BYTES_MAX`], which the stores check.
fn encode_head(kind: Kind, label: &[u8], data: &[u8]) -> [u8; HEAD_BYTES] {
    let content = crc32c::crc32c_append(crc32c::crc32c(label), data);
    let mut bytes = [0; HEAD_BYTES];
    bytes[..8].copy_from_slice(&kind.magic);
    bytes[8..12].copy_from_slice(&VERSION.to_le_bytes());
    bytes[16..20].copy_from_slice(&(label.len() as u32).to_le_bytes());
    bytes[20..24].copy_from_slice(&content.to_le_bytes());
    bytes[24..].copy_from_slice(&(data.len() as u64).to_le_bytes());
    let checksum = head_checksum(&bytes);
    bytes[12..16].copy_from_slice(&checksum.to_le_bytes());
    bytes
}

fn head_checksum(head: &[u8; HEAD_BYTES]) -> u32 {
    crc32c::crc32c_append(crc32c::crc32c(&head[..12]), &head[16..])
}
