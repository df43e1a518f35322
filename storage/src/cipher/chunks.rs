//! Encrypted content of any length that is written once and read anywhere.
//!
//! Chunks of 64 KiB with a tag each; the last one holds what is left, which is nothing only if there is nothing at all.
//! The number of a chunk is its place, doubled, and one more for the last: so none can be moved, left out or made the
//! last, and how much there is follows from the length of the file. The head of the file is authenticated with each.

use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use super::{FileKey, TAG_BYTES};
use crate::damage::Damage;
use crate::disk::{DiskError, DiskFile, Operation};

const CHUNK_BYTES: usize = 64 * 1024;
const SEALED_CHUNK_BYTES: usize = CHUNK_BYTES + TAG_BYTES;

/// Given to the disk at once.
const WRITE_BYTES: usize = 16 * SEALED_CHUNK_BYTES;

fn number(chunk: u64, is_last: bool) -> u64 {
    chunk << 1 | u64::from(is_last)
}

/// Appends `parts`, one after the other, as encrypted chunks.
pub(crate) fn write_chunks(
    file: &mut dyn DiskFile,
    path: &Path,
    key: &dyn FileKey,
    head: &[u8],
    parts: &[&[u8]],
) -> Result<(), DiskError> {
    let mut writer = Writer { file, path, key, head, chunk: Vec::new(), out: Vec::new(), count: 0 };
    parts.iter().try_for_each(|part| writer.write(part))?;
    writer.write_chunk(true)?;
    writer.flush()
}

struct Writer<'a> {
    file: &'a mut dyn DiskFile,
    path: &'a Path,
    key: &'a dyn FileKey,
    head: &'a [u8],
    /// What is not encrypted yet. A full chunk waits until it is known not to be the last.
    chunk: Vec<u8>,
    out: Vec<u8>,
    count: u64,
}

impl Writer<'_> {
    fn write(&mut self, mut bytes: &[u8]) -> Result<(), DiskError> {
        while !bytes.is_empty() {
            if self.chunk.len() == CHUNK_BYTES {
                self.write_chunk(false)?;
            }
            let taken = bytes.len().min(CHUNK_BYTES - self.chunk.len());
            self.chunk.extend_from_slice(&bytes[..taken]);
            bytes = &bytes[taken..];
        }
        Ok(())
    }

    fn write_chunk(&mut self, is_last: bool) -> Result<(), DiskError> {
        let failed =
            |source| DiskError { operation: Operation::Append, path: self.path.to_owned(), source };
        let number = number(self.count, is_last);
        let tag = self.key.seal(number, self.head, &mut self.chunk).map_err(failed)?;
        self.count += 1;
        self.out.append(&mut self.chunk);
        self.out.extend_from_slice(&tag);
        if self.out.len() >= WRITE_BYTES { self.flush() } else { Ok(()) }
    }

    fn flush(&mut self) -> Result<(), DiskError> {
        let written = self.file.append(&self.out);
        self.out.clear();
        written
    }
}

/// Why encrypted content cannot be read.
#[derive(Debug)]
pub(crate) enum ReadError {
    Disk(DiskError),
    /// A chunk is not what was written.
    Changed {
        file: PathBuf,
        offset: u64,
    },
}

impl From<DiskError> for ReadError {
    fn from(error: DiskError) -> ReadError {
        ReadError::Disk(error)
    }
}

/// A file whose content is encrypted chunks, read as if it were not.
pub(crate) struct ChunkedFile {
    file: Box<dyn DiskFile>,
    path: PathBuf,
    key: Arc<dyn FileKey>,
    head: Vec<u8>,
    chunks: u64,
    content_bytes: u64,
    /// The chunk that was decrypted last: who reads small pieces reads them one behind the other.
    last: Mutex<Option<(u64, Vec<u8>)>>,
}

impl fmt::Debug for ChunkedFile {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_struct("ChunkedFile").field("path", &self.path).finish_non_exhaustive()
    }
}

impl ChunkedFile {
    /// Chunks behind `head`, of a file that an operator would open as `path`. Checks none of them.
    pub(crate) fn new(
        file: Box<dyn DiskFile>,
        path: PathBuf,
        key: Arc<dyn FileKey>,
        head: Vec<u8>,
    ) -> Result<Result<ChunkedFile, Damage>, DiskError> {
        let sealed_bytes = file.len()?.saturating_sub(head.len() as u64);
        let chunks = sealed_bytes.div_ceil(SEALED_CHUNK_BYTES as u64).max(1);
        let before_last_bytes = (chunks - 1) * SEALED_CHUNK_BYTES as u64;
        // Nothing at all is one chunk of nothing; otherwise there is something in the last one.
        let least_bytes = TAG_BYTES as u64 + u64::from(chunks > 1);
        if sealed_bytes - before_last_bytes < least_bytes {
            return Ok(Err(Damage::Short));
        }
        let content_bytes = sealed_bytes - chunks * TAG_BYTES as u64;
        let last = Mutex::new(None);
        Ok(Ok(ChunkedFile { file, path, key, head, chunks, content_bytes, last }))
    }

    pub(crate) fn content_bytes(&self) -> u64 {
        self.content_bytes
    }

    /// Reads all of it, to see whether it is what was written.
    pub(crate) fn check(&self) -> Result<(), ReadError> {
        (0..self.chunks).try_for_each(|chunk| self.chunk(chunk).map(drop))
    }

    /// Fills `buffer` with the content from `offset` on.
    pub(crate) fn read(&self, offset: u64, buffer: &mut [u8]) -> Result<(), ReadError> {
        let end = offset.saturating_add(buffer.len() as u64);
        if end > self.content_bytes {
            let source = std::io::ErrorKind::UnexpectedEof.into();
            return Err(self.failed(source).into());
        }
        let mut filled = 0;
        let mut last = self.last.lock().unwrap_or_else(PoisonError::into_inner);
        while filled < buffer.len() {
            let at = offset + filled as u64;
            let number = at / CHUNK_BYTES as u64;
            let (_, chunk) = match last.take() {
                Some(same) if same.0 == number => last.insert(same),
                _ => last.insert((number, self.chunk(number)?)),
            };
            let rest = &chunk[(at % CHUNK_BYTES as u64) as usize..];
            let taken = rest.len().min(buffer.len() - filled);
            buffer[filled..filled + taken].copy_from_slice(&rest[..taken]);
            filled += taken;
        }
        Ok(())
    }

    fn chunk(&self, chunk: u64) -> Result<Vec<u8>, ReadError> {
        let is_last = chunk + 1 == self.chunks;
        let content_bytes = match is_last {
            true => (self.content_bytes - chunk * CHUNK_BYTES as u64) as usize,
            false => CHUNK_BYTES,
        };
        let offset = self.head.len() as u64 + chunk * SEALED_CHUNK_BYTES as u64;
        let mut bytes = vec![0; content_bytes + TAG_BYTES];
        self.file.read_at(offset, &mut bytes)?;
        let opened = self.key.open(number(chunk, is_last), &self.head, &mut bytes);
        opened.ok_or_else(|| ReadError::Changed { file: self.path.clone(), offset })?;
        bytes.truncate(content_bytes);
        Ok(bytes)
    }

    /// The same for those who were told that it is whole, or do not care where it is not.
    pub(crate) fn read_or_fail(&self, offset: u64, buffer: &mut [u8]) -> Result<(), DiskError> {
        self.read(offset, buffer).map_err(|error| match error {
            ReadError::Disk(error) => error,
            ReadError::Changed { .. } => self.failed(std::io::Error::new(
                std::io::ErrorKind::InvalidData,
                Damage::Encrypted.to_string(),
            )),
        })
    }

    fn failed(&self, source: std::io::Error) -> DiskError {
        DiskError { operation: Operation::Read, path: self.path.clone(), source }
    }
}

/// Only for reading: nothing else is ever done to such a file.
impl DiskFile for ChunkedFile {
    fn len(&self) -> Result<u64, DiskError> {
        Ok(self.content_bytes)
    }

    fn read_at(&self, offset: u64, buffer: &mut [u8]) -> Result<(), DiskError> {
        self.read_or_fail(offset, buffer)
    }

    fn append(&mut self, _bytes: &[u8]) -> Result<(), DiskError> {
        self.refuse(Operation::Append)
    }

    fn overwrite(&mut self, _offset: u64, _bytes: &[u8]) -> Result<(), DiskError> {
        self.refuse(Operation::Overwrite)
    }

    fn truncate(&mut self, _length_bytes: u64) -> Result<(), DiskError> {
        self.refuse(Operation::Truncate)
    }

    fn sync_data(&mut self) -> Result<(), DiskError> {
        self.refuse(Operation::Sync)
    }
}

impl ChunkedFile {
    fn refuse(&self, operation: Operation) -> Result<(), DiskError> {
        let source = std::io::ErrorKind::ReadOnlyFilesystem.into();
        Err(DiskError { operation, path: self.path.clone(), source })
    }
}
