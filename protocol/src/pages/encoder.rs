//! Pages to batch.

use super::batch::{BATCH_BYTES_MAX, BATCH_VERSION, BatchHeader, BatchPages, PayloadKind};
use super::{PAGE_BYTES, compressible, index_list};

/// How hard to compress.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Compression {
    /// Not at all: the link is faster than zstd.
    Off,
    /// zstd at this level: negative is faster, 1 is the usual choice; clamped to −50..=19.
    Zstd {
        /// The level.
        level: i32,
    },
}

/// What [`BatchEncoder::encode`] wrote.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct EncodedBatch {
    /// Bytes appended to the output.
    pub bytes: usize,
    /// Bytes of memory they stand for, zero pages included.
    pub memory_bytes: usize,
    /// How the payload was written.
    pub payload: PayloadKind,
}

/// A batch cannot be written.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum EncodeError {
    /// The caller's payload is not 4096 bytes for each data page.
    #[error("payload of {payload_bytes} bytes for {data_pages} pages")]
    Payload {
        /// Its length.
        payload_bytes: usize,
        /// Number of data pages.
        data_pages: usize,
    },
    /// zstd refused; it does so only when it gets no memory.
    #[error("zstd compressor")]
    Compressor(#[source] std::io::Error),
}

/// Writes batches; one for each thread, it owns a zstd context of about 1 MiB.
pub struct BatchEncoder {
    compressor: zstd::bulk::Compressor<'static>,
    compression: Compression,
    scratch: Vec<u8>,
}

impl std::fmt::Debug for BatchEncoder {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter
            .debug_struct("BatchEncoder")
            .field("compression", &self.compression)
            .finish_non_exhaustive()
    }
}

impl BatchEncoder {
    /// An encoder that compresses like this.
    pub fn new(compression: Compression) -> Result<Self, EncodeError> {
        let compressor = zstd::bulk::Compressor::new(zstd_level(compression))
            .map_err(EncodeError::Compressor)?;
        let scratch = Vec::with_capacity(zstd::zstd_safe::compress_bound(BATCH_BYTES_MAX));
        Ok(Self { compressor, compression, scratch })
    }

    /// Compresses like this from the next batch on.
    pub fn set_compression(&mut self, compression: Compression) -> Result<(), EncodeError> {
        self.compression = compression;
        self.compressor
            .set_compression_level(zstd_level(compression))
            .map_err(EncodeError::Compressor)
    }

    /// Appends one batch to `output`. `payload` is the bytes of `pages.data()`, in that order and
    /// nothing else; it is borrowed as it was received, so a caller that skips pages moves the kept
    /// ones together first. Without pages the batch only carries its header.
    pub fn encode(
        &mut self,
        header: BatchHeader,
        pages: &BatchPages,
        payload: &[u8],
        output: &mut Vec<u8>,
    ) -> Result<EncodedBatch, EncodeError> {
        let data_pages = pages.data().len();
        if payload.len() != data_pages * PAGE_BYTES {
            return Err(EncodeError::Payload { payload_bytes: payload.len(), data_pages });
        }
        let kind = self.compress(payload)?;
        let written = match kind {
            PayloadKind::Raw => payload,
            PayloadKind::Zstd => &self.scratch,
        };
        let start = output.len();
        put_header(header, kind, pages, written.len() as u32, output);
        output.extend_from_slice(written);
        let memory_bytes = pages.len() * PAGE_BYTES;
        Ok(EncodedBatch { bytes: output.len() - start, memory_bytes, payload: kind })
    }

    /// Fills the scratch buffer if that pays: at least 3 % less than raw, else the target's time
    /// for decompressing is better saved.
    fn compress(&mut self, payload: &[u8]) -> Result<PayloadKind, EncodeError> {
        let off = self.compression == Compression::Off;
        if off || payload.is_empty() || !compressible::worth_trying(payload) {
            return Ok(PayloadKind::Raw);
        }
        let compressed_bytes = self
            .compressor
            .compress_to_buffer(payload, &mut self.scratch)
            .map_err(EncodeError::Compressor)?;
        let pays = compressed_bytes < payload.len() - payload.len() / 32;
        Ok(if pays { PayloadKind::Zstd } else { PayloadKind::Raw })
    }
}

fn zstd_level(compression: Compression) -> i32 {
    match compression {
        Compression::Off => 1,
        Compression::Zstd { level } => level.clamp(-50, 19),
    }
}

/// Writes everything before the payload.
fn put_header(
    header: BatchHeader,
    kind: PayloadKind,
    pages: &BatchPages,
    payload_bytes: u32,
    output: &mut Vec<u8>,
) {
    output.push(BATCH_VERSION);
    output.push(kind.to_wire());
    output.extend_from_slice(&header.block.to_le_bytes());
    output.extend_from_slice(&header.epoch.to_le_bytes());
    output.extend_from_slice(&header.sequence.to_le_bytes());
    // Both are at most BATCH_PAGES_MAX = 128.
    output.push(pages.zero().len() as u8);
    output.push(pages.data().len() as u8);
    let lengths_at = output.len();
    output.extend_from_slice(&[0; 6]);
    let lists_at = output.len();
    index_list::encode(pages.zero(), output);
    index_list::encode(pages.data(), output);
    let list_bytes = (output.len() - lists_at) as u16;
    output[lengths_at..lengths_at + 2].copy_from_slice(&list_bytes.to_le_bytes());
    output[lengths_at + 2..lists_at].copy_from_slice(&payload_bytes.to_le_bytes());
}
