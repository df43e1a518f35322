//! Pages to batch.

use super::batch::{BATCH_VERSION, BatchHeader, BodyKind, FORMS, Form, FormCounts};
use super::content::BatchContent;
use super::{BATCH_PAGES_MAX, PAGE_BYTES, index_list, varint};

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
    /// Pages by form.
    pub forms: FormCounts,
    /// Bytes of patches and packed pages.
    pub body_bytes: usize,
    /// What became of them.
    pub body_bytes_written: usize,
}

/// A batch cannot be written: zstd refused, which it does only when it gets no memory.
#[derive(Debug, thiserror::Error)]
#[error("zstd compressor")]
pub struct EncodeError(#[source] std::io::Error);

/// Below this a body is not worth a frame of its own.
const COMPRESSED_BYTES_MIN: usize = 256;

/// Writes batches; one for each thread, it owns a zstd context and scratch of about 2 MiB.
pub struct BatchEncoder {
    compressor: zstd::bulk::Compressor<'static>,
    compression: Compression,
    body: Vec<u8>,
    frame: Vec<u8>,
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
    ///
    /// # Errors
    /// [`EncodeError`].
    pub fn new(compression: Compression) -> Result<Self, EncodeError> {
        let compressor =
            zstd::bulk::Compressor::new(zstd_level(compression)).map_err(EncodeError)?;
        let body = Vec::with_capacity(BATCH_PAGES_MAX * PAGE_BYTES);
        let frame = Vec::with_capacity(zstd::zstd_safe::compress_bound(body.capacity()));
        Ok(Self { compressor, compression, body, frame })
    }

    /// Compresses like this from the next batch on.
    ///
    /// # Errors
    /// [`EncodeError`].
    pub fn set_compression(&mut self, compression: Compression) -> Result<(), EncodeError> {
        if self.compression == compression {
            return Ok(());
        }
        self.compression = compression;
        self.compressor.set_compression_level(zstd_level(compression)).map_err(EncodeError)
    }

    /// Appends one batch to `output`. Without pages the batch only carries its header.
    ///
    /// # Errors
    /// [`EncodeError`].
    pub fn encode(
        &mut self,
        header: BatchHeader,
        content: &BatchContent<'_>,
        output: &mut Vec<u8>,
    ) -> Result<EncodedBatch, EncodeError> {
        self.body.clear();
        self.body.extend_from_slice(content.patches());
        content.packed().iter().for_each(|page| self.body.extend_from_slice(*page));
        let kind = self.compress()?;
        let written = match kind {
            BodyKind::Plain => &self.body,
            BodyKind::Zstd => &self.frame,
        };
        let start = output.len();
        output.reserve(written.len() + content.raw().len() * PAGE_BYTES + 1024);
        put_head(header, kind, content, written.len(), output);
        output.extend_from_slice(written);
        content.raw().iter().for_each(|page| output.extend_from_slice(*page));
        Ok(EncodedBatch {
            bytes: output.len() - start,
            forms: content.counts(),
            body_bytes: self.body.len(),
            body_bytes_written: written.len(),
        })
    }

    /// Fills the frame if that pays: at least 3 % less than the body, else the target's time for decompressing is
    /// better saved.
    fn compress(&mut self) -> Result<BodyKind, EncodeError> {
        if self.compression == Compression::Off || self.body.len() < COMPRESSED_BYTES_MIN {
            return Ok(BodyKind::Plain);
        }
        // Patches alone may be longer than the pages that the frame was made for.
        self.frame.clear();
        self.frame.reserve(zstd::zstd_safe::compress_bound(self.body.len()));
        let compressed_bytes =
            self.compressor.compress_to_buffer(&self.body, &mut self.frame).map_err(EncodeError)?;
        let pays = compressed_bytes < self.body.len() - self.body.len() / 32;
        Ok(if pays { BodyKind::Zstd } else { BodyKind::Plain })
    }
}

/// zstd's level, also where it is not used.
pub(crate) fn zstd_level(compression: Compression) -> i32 {
    match compression {
        Compression::Off => 1,
        Compression::Zstd { level } => level.clamp(-50, 19),
    }
}

/// Writes everything before the body.
fn put_head(
    header: BatchHeader,
    kind: BodyKind,
    content: &BatchContent<'_>,
    body_bytes: usize,
    output: &mut Vec<u8>,
) {
    output.push(BATCH_VERSION);
    output.push(kind.to_wire());
    output.extend_from_slice(&header.block.to_le_bytes());
    output.extend_from_slice(&header.epoch.to_le_bytes());
    output.extend_from_slice(&header.sequence.to_le_bytes());
    output.extend_from_slice(&content.counts().0);
    output.extend_from_slice(&[0; 3]);
    let keep_from = header.keep_from.map_or(0, |first| first.saturating_add(1));
    output.extend_from_slice(&keep_from.to_le_bytes());
    let lists_bytes_at = output.len();
    output.extend_from_slice(&[0; 4]);
    // At most BATCH_BYTES_MAX, as the lists are.
    output.extend_from_slice(&(body_bytes as u32).to_le_bytes());
    let lists_at = output.len();
    put_lists(header.epoch, content, output);
    let lists_bytes = (output.len() - lists_at) as u32;
    output[lists_bytes_at..lists_bytes_at + 4].copy_from_slice(&lists_bytes.to_le_bytes());
}

const FORMS_IN_ORDER: [Form; FORMS] =
    [Form::Zero, Form::Known, Form::Differing, Form::Packed, Form::Raw];

fn put_lists(epoch: u32, content: &BatchContent<'_>, output: &mut Vec<u8>) {
    for form in FORMS_IN_ORDER {
        index_list::encode(content.indexes(form), output);
    }
    let mut expected = 0_u64;
    for slot in content.slots() {
        varint::put(varint::zigzag(slot.wrapping_sub(expected) as i64), output);
        expected = slot.wrapping_add(1);
    }
    for (base_epoch, patch_bytes) in content.patch_heads() {
        varint::put(u64::from(epoch.saturating_sub(base_epoch)), output);
        varint::put(patch_bytes.into(), output);
    }
}
