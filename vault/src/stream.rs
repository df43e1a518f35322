//! Encrypted streams of any length.
//!
//! After the head come chunks: `length: u32` with its highest bit set on the last one, ciphertext,
//! tag. All chunks but the last hold [`CHUNK_BYTES`]. The nonce counts them and the length word is
//! authenticated, so a chunk that is missing, repeated, moved or made the last one is noticed, and a
//! reader gives out no byte that was not checked.

use std::io::{self, Read, Write};

use super::{DataKey, HEAD_BYTES, Head, Salt, TAG_BYTES, Vault, VaultError};

const MAGIC: [u8; 8] = *b"novaflow";

/// Bytes in a chunk: what a reader holds at once.
pub const CHUNK_BYTES: usize = 64 * 1024;

/// In the length word of the last chunk.
const LAST: u32 = 1 << 31;

/// Encrypts what is written to it. Without [`EncryptedWriter::finish`] the stream is cut off.
pub struct EncryptedWriter<W: Write> {
    inner: W,
    key: DataKey,
    head: [u8; HEAD_BYTES],
    buffer: Vec<u8>,
    chunks: u64,
}

impl<W: Write> EncryptedWriter<W> {
    /// Begins a stream for `context`, which has to be given again to read it.
    ///
    /// # Errors
    /// What `inner` says.
    pub fn new(
        mut inner: W,
        vault: &Vault,
        salt: Salt,
        context: &[u8],
    ) -> io::Result<EncryptedWriter<W>> {
        let head = Head { magic: MAGIC, key: vault.newest(), salt };
        let key = vault.keys[0].data_key(vault.purpose, &head, context).map_err(invalid)?;
        let head = head.encode();
        inner.write_all(&head)?;
        Ok(EncryptedWriter { inner, key, head, buffer: Vec::with_capacity(CHUNK_BYTES), chunks: 0 })
    }

    /// Writes the end of the stream.
    ///
    /// # Errors
    /// What the writer inside says.
    pub fn finish(mut self) -> io::Result<W> {
        self.write_chunk(LAST)?;
        self.inner.flush()?;
        Ok(self.inner)
    }

    fn write_chunk(&mut self, flag: u32) -> io::Result<()> {
        let length = self.buffer.len() as u32 | flag;
        let authenticated = authenticated(&self.head, length);
        self.key.seal(self.chunks, &authenticated, &mut self.buffer).map_err(invalid)?;
        self.chunks += 1;
        self.inner.write_all(&length.to_le_bytes())?;
        self.inner.write_all(&self.buffer)?;
        self.buffer.clear();
        Ok(())
    }
}

impl<W: Write> Write for EncryptedWriter<W> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        // A full chunk waits until it is known not to be the last.
        if self.buffer.len() == CHUNK_BYTES && !bytes.is_empty() {
            self.write_chunk(0)?;
        }
        let taken = bytes.len().min(CHUNK_BYTES - self.buffer.len());
        self.buffer.extend_from_slice(&bytes[..taken]);
        Ok(taken)
    }

    /// Chunks have one size: what is not a whole one stays here.
    fn flush(&mut self) -> io::Result<()> {
        self.inner.flush()
    }
}

/// Reads an encrypted stream. Errors are [`io::Error`]s with a [`VaultError`] inside, or those of the
/// reader inside.
pub struct EncryptedReader<R: Read> {
    inner: R,
    key: DataKey,
    head: [u8; HEAD_BYTES],
    buffer: Vec<u8>,
    /// What of the buffer was given out.
    given: usize,
    chunks: u64,
    offset: u64,
    is_last: bool,
}

impl<R: Read> EncryptedReader<R> {
    /// Reads the beginning of a stream.
    ///
    /// # Errors
    /// [`VaultError::NotSealed`], [`VaultError::OtherKey`] and others inside an [`io::Error`].
    pub fn new(mut inner: R, vault: &Vault, context: &[u8]) -> io::Result<EncryptedReader<R>> {
        let mut bytes = Vec::with_capacity(HEAD_BYTES);
        (&mut inner).take(HEAD_BYTES as u64).read_to_end(&mut bytes)?;
        let (head, _) = Head::decode(&bytes, MAGIC).map_err(invalid)?;
        let key = vault.find(head.key).map_err(invalid)?;
        let key = key.data_key(vault.purpose, &head, context).map_err(invalid)?;
        Ok(EncryptedReader {
            inner,
            key,
            head: head.encode(),
            buffer: Vec::new(),
            given: 0,
            chunks: 0,
            offset: HEAD_BYTES as u64,
            is_last: false,
        })
    }

    fn read_chunk(&mut self) -> io::Result<()> {
        let mut length = [0; 4];
        self.read_exact(&mut length)?;
        let word = u32::from_le_bytes(length);
        let length = (word & !LAST) as usize;
        let is_last = word & LAST != 0;
        let changed = VaultError::Changed { offset: self.offset };
        if length > CHUNK_BYTES || (length < CHUNK_BYTES && !is_last) {
            return Err(invalid(changed));
        }
        let mut content = vec![0; length + TAG_BYTES];
        self.read_exact(&mut content)?;
        let authenticated = authenticated(&self.head, word);
        self.key.open(self.chunks, &authenticated, &mut content).ok_or_else(|| invalid(changed))?;
        if is_last && self.inner.read(&mut [0])? != 0 {
            return Err(invalid(VaultError::TooLong));
        }
        self.offset += (4 + length + TAG_BYTES) as u64;
        self.chunks += 1;
        (self.buffer, self.given, self.is_last) = (content, 0, is_last);
        Ok(())
    }

    fn read_exact(&mut self, buffer: &mut [u8]) -> io::Result<()> {
        self.inner.read_exact(buffer).map_err(|error| match error.kind() {
            io::ErrorKind::UnexpectedEof => invalid(VaultError::CutOff),
            _ => error,
        })
    }
}

impl<R: Read> Read for EncryptedReader<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        while self.given == self.buffer.len() {
            if self.is_last || buffer.is_empty() {
                return Ok(0);
            }
            self.read_chunk()?;
        }
        let rest = &self.buffer[self.given..];
        let taken = rest.len().min(buffer.len());
        buffer[..taken].copy_from_slice(&rest[..taken]);
        self.given += taken;
        Ok(taken)
    }
}

impl VaultError {
    /// What was wrong with the encrypted bytes, if that is what the error says.
    pub fn inside(error: &io::Error) -> Option<&VaultError> {
        error.get_ref()?.downcast_ref()
    }
}

fn authenticated(head: &[u8; HEAD_BYTES], length: u32) -> [u8; HEAD_BYTES + 4] {
    let mut bytes = [0; HEAD_BYTES + 4];
    bytes[..HEAD_BYTES].copy_from_slice(head);
    bytes[HEAD_BYTES..].copy_from_slice(&length.to_le_bytes());
    bytes
}

fn invalid(error: VaultError) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, error)
}
