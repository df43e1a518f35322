//! Whole files of whoever has a format of its own: as they are where nothing is encrypted, encrypted where all is.

use std::path::Path;

use super::{
    ChunkedFile, ENCRYPTED_VERSION, HEAD_BYTES, KeyHead, begin, head_checksum, key_in, resume,
    write_chunks,
};
use crate::disk::{Disk, DiskError, DiskFile, Operation};

/// Files of one kind. Where they are not encrypted they begin with eight bytes of their own and version 1 of their
/// format, as two bytes, so that [`require_keys`](super::require_keys) knows them.
#[derive(Debug, Clone, Copy)]
pub struct EncryptedFiles {
    /// How they begin when they are encrypted.
    pub magic: [u8; 8],
}

impl EncryptedFiles {
    /// Writes the content of a new file at `path`, which will be called `name`. Not durable before a sync.
    ///
    /// # Errors
    /// [`DiskError`].
    pub fn write(
        &self,
        disk: &dyn Disk,
        path: &Path,
        name: &Path,
        content: &[u8],
    ) -> Result<Box<dyn DiskFile>, DiskError> {
        let mut file = disk.create(path)?;
        let Some(cipher) = disk.cipher() else {
            file.append(content)?;
            return Ok(file);
        };
        let failed =
            |source| DiskError { operation: Operation::Create, path: disk.full_path(path), source };
        let (key_head, key) = begin(&*cipher, &self.context(name)).map_err(failed)?;
        let head = self.head(&key_head);
        file.append(&head)?;
        write_chunks(&mut *file, &disk.full_path(path), &*key, &head, &[content])?;
        Ok(file)
    }

    /// Opens a file for reading.
    ///
    /// # Errors
    /// [`DiskError`]; what is not encrypted where it should be, or with a key that is not here, or changed, is invalid
    /// data.
    pub fn open(&self, disk: &dyn Disk, name: &Path) -> Result<Box<dyn DiskFile>, DiskError> {
        let file = disk.open(name)?;
        let invalid = |reason: String| DiskError {
            operation: Operation::Open,
            path: disk.full_path(name),
            source: std::io::Error::new(std::io::ErrorKind::InvalidData, reason),
        };
        let found = self.found(&*file)?;
        let key_head = found.as_ref().map(KeyHead::decode);
        let key = resume(disk.cipher().as_ref(), key_head.as_ref(), &self.context(name))
            .map_err(|problem| invalid(format!("it {problem}")))?;
        let (Some(head), Some(key)) = (found, key) else { return Ok(file) };
        let opened = ChunkedFile::new(file, disk.full_path(name), key, head.to_vec())?;
        Ok(Box::new(opened.map_err(|damage| invalid(damage.to_string()))?))
    }

    fn found(&self, file: &dyn DiskFile) -> Result<Option<[u8; HEAD_BYTES]>, DiskError> {
        let mut head = [0; HEAD_BYTES];
        if file.len()? < HEAD_BYTES as u64 {
            return Ok(None);
        }
        file.read_at(0, &mut head)?;
        let is_one = head[..8] == self.magic && key_in(&head).is_some();
        Ok(is_one.then_some(head))
    }

    fn head(&self, key: &KeyHead) -> [u8; HEAD_BYTES] {
        let mut head = [0; HEAD_BYTES];
        head[..8].copy_from_slice(&self.magic);
        head[8..12].copy_from_slice(&ENCRYPTED_VERSION.to_le_bytes());
        head[32..].copy_from_slice(&key.encode());
        let checksum = head_checksum(&head);
        head[12..16].copy_from_slice(&checksum.to_le_bytes());
        head
    }

    fn context(&self, name: &Path) -> Vec<u8> {
        [&self.magic[..], name.as_os_str().as_encoded_bytes()].concat()
    }
}
