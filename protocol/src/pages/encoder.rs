//! Pages to batch.

use super::batch::{
    self, BATCH_HEADER_BYTES, BATCH_VERSION, BatchHeader, BodyKind, FORMS_IN_ORDER, FormCounts,
    LISTS_BYTES_MAX,
};
use super::content::BatchContent;
use super::{BATCH_PAGES_MAX, PAGE_BYTES, distinct, index_list, varint};

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

/// A batch cannot be written.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum EncodeError {
    /// zstd refused, which it does only when it gets no memory.
    #[error("zstd compressor")]
    Compressor(#[source] std::io::Error),
    /// A page is named twice: in which order it would be applied is not the order in which it was pushed.
    #[error("page {page_index} is in one batch twice")]
    PageTwice {
        /// Index of the page.
        page_index: u32,
    },
    /// The pages cannot be kept under the numbers from this on.
    #[error("no numbers are left from {keep_from} on")]
    KeepNumbers {
        /// The first number.
        keep_from: u64,
    },
}

/// Below this a body is not worth a frame of its own. Patches alone are: those of a guest that counts in 50 MB/s of its
/// memory become a fifth shorter for 0.3 µs a page.
const COMPRESSED_BYTES_MIN: usize = 256;

/// Writes batches; one for each thread, it owns a zstd context and scratch of about 2 MiB.
pub struct BatchEncoder {
    compressor: zstd::bulk::Compressor<'static>,
    compression: Compression,
    /// Room for the patches of a batch, while there is no batch.
    patches: Vec<u8>,
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
    /// [`EncodeError::Compressor`].
    pub fn new(compression: Compression) -> Result<Self, EncodeError> {
        let compressor = zstd::bulk::Compressor::new(zstd_level(compression))
            .map_err(EncodeError::Compressor)?;
        let body = Vec::with_capacity(BATCH_PAGES_MAX * PAGE_BYTES);
        let frame = Vec::with_capacity(zstd::zstd_safe::compress_bound(body.capacity()));
        Ok(Self { compressor, compression, patches: Vec::new(), body, frame })
    }

    /// Compresses like this from the next batch on.
    ///
    /// # Errors
    /// [`EncodeError::Compressor`].
    pub fn set_compression(&mut self, compression: Compression) -> Result<(), EncodeError> {
        if self.compression == compression {
            return Ok(());
        }
        self.compression = compression;
        self.compressor
            .set_compression_level(zstd_level(compression))
            .map_err(EncodeError::Compressor)
    }

    /// A batch without pages, for [`Self::encode`]. Without compression every page that is sent whole is raw.
    pub fn begin<'a>(&mut self, header: BatchHeader) -> BatchContent<'a> {
        let packs = self.compression != Compression::Off;
        BatchContent::new(header, packs, std::mem::take(&mut self.patches))
    }

    /// Appends one batch to `output`; on an error nothing. Without pages the batch only carries its header.
    ///
    /// # Errors
    /// [`EncodeError`].
    pub fn encode(
        &mut self,
        content: BatchContent<'_>,
        output: &mut Vec<u8>,
    ) -> Result<EncodedBatch, EncodeError> {
        check(&content)?;
        let body_bytes = content.patches().len() + content.packed().len() * PAGE_BYTES;
        let frame = self.compress(&content, body_bytes)?;
        let body_bytes_written = frame.map_or(body_bytes, <[u8]>::len);
        let start = output.len();
        output.reserve(
            BATCH_HEADER_BYTES
                + LISTS_BYTES_MAX
                + body_bytes_written
                + content.raw().len() * PAGE_BYTES,
        );
        let kind = if frame.is_some() { BodyKind::Zstd } else { BodyKind::Plain };
        put_head(kind, &content, body_bytes_written, output);
        match frame {
            Some(frame) => output.extend_from_slice(frame),
            None => put_body(&content, output),
        }
        content.raw().iter().for_each(|page| output.extend_from_slice(*page));
        let (bytes, forms) = (output.len() - start, content.counts());
        self.patches = content.into_room();
        Ok(EncodedBatch { bytes, forms, body_bytes, body_bytes_written })
    }

    /// The body as a frame if that pays: at least 3 % less than the body, else the target's time for decompressing is
    /// better saved.
    fn compress(
        &mut self,
        content: &BatchContent<'_>,
        body_bytes: usize,
    ) -> Result<Option<&[u8]>, EncodeError> {
        if self.compression == Compression::Off || body_bytes < COMPRESSED_BYTES_MIN {
            return Ok(None);
        }
        self.body.clear();
        put_body(content, &mut self.body);
        // Each page is at most PAGE_BYTES of body, so there is room for the worst frame.
        self.frame.clear();
        self.compressor
            .compress_to_buffer(&self.body, &mut self.frame)
            .map_err(EncodeError::Compressor)?;
        let pays = self.frame.len() < body_bytes - body_bytes / 32;
        Ok(pays.then_some(&self.frame))
    }
}

/// What a decoder would refuse is not written.
fn check(content: &BatchContent<'_>) -> Result<(), EncodeError> {
    let kept = content.packed().len() + content.raw().len();
    if let Some(keep_from) = content.header.keep_from
        && !batch::keep_numbers_fit(keep_from, kept)
    {
        return Err(EncodeError::KeepNumbers { keep_from });
    }
    let indexes = FORMS_IN_ORDER.into_iter().flat_map(|form| content.indexes(form));
    match distinct::named_twice(indexes.copied()) {
        Some(page_index) => Err(EncodeError::PageTwice { page_index }),
        None => Ok(()),
    }
}

fn put_body(content: &BatchContent<'_>, output: &mut Vec<u8>) {
    output.extend_from_slice(content.patches());
    content.packed().iter().for_each(|page| output.extend_from_slice(*page));
}

/// zstd's level, also where it is not used.
pub(crate) fn zstd_level(compression: Compression) -> i32 {
    match compression {
        Compression::Off => 1,
        Compression::Zstd { level } => level.clamp(-50, 19),
    }
}

/// Writes everything before the body.
fn put_head(kind: BodyKind, content: &BatchContent<'_>, body_bytes: usize, output: &mut Vec<u8>) {
    let header = content.header;
    output.push(BATCH_VERSION);
    output.push(kind.to_wire());
    output.extend_from_slice(&header.block.to_le_bytes());
    output.extend_from_slice(&header.epoch.to_le_bytes());
    output.extend_from_slice(&header.sequence.to_le_bytes());
    output.extend_from_slice(&content.counts().0);
    output.extend_from_slice(&[0; 3]);
    // Checked: there is a number after the first.
    let keep_from = header.keep_from.map_or(0, |first| first + 1);
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
        // Not after the batch's, or it would not have been placed.
        varint::put(u64::from(epoch - base_epoch), output);
        varint::put(patch_bytes.into(), output);
    }
}
