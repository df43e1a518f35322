//! The wire form of a batch, version 1.
//!
//! | offset | bytes | field, little-endian |
//! |---|---|---|
//! | 0 | 1 | version, 1 |
//! | 1 | 1 | payload kind: 0 raw, 1 one or more zstd frames |
//! | 2 | 2 | RAM block: index in the list that the session agreed on |
//! | 4 | 4 | epoch |
//! | 8 | 8 | sequence |
//! | 16 | 1 | number of zero pages |
//! | 17 | 1 | number of data pages; both together at most [`BATCH_PAGES_MAX`] |
//! | 18 | 2 | bytes of index lists |
//! | 20 | 4 | bytes of payload |
//! | 24 | | indexes of the zero pages, then of the data pages |
//! | | | payload: the data pages, 4096 bytes each, in the order of their indexes |
//!
//! An index list is a sequence of runs, each two varints (LEB128, no superfluous bytes): the signed
//! distance (zigzag) of the run's first index from the index after the previous run, then the number
//! of further indexes that follow one by one. A run of neighbours costs 2 to 6 bytes whatever its
//! length, so an empty guest of 1 TiB is about 60 MB of batches, headers included.
//!
//! A batch ends with its payload: it is framed by whoever carries it. It stands alone, so lanes may
//! be reordered against each other and a batch may be sent again on another connection.

use super::{BATCH_PAGES_MAX, PAGE_BYTES};

/// The only version there is.
pub const BATCH_VERSION: u8 = 1;
/// Bytes before the index lists.
pub const BATCH_HEADER_BYTES: usize = 24;
/// A run of one index is the worst case: 5 bytes of distance and 1 of length.
pub const INDEX_LIST_BYTES_MAX: usize = 6 * BATCH_PAGES_MAX;
/// The longest batch: compression that does not pay is not used.
pub const BATCH_BYTES_MAX: usize =
    BATCH_HEADER_BYTES + INDEX_LIST_BYTES_MAX + BATCH_PAGES_MAX * PAGE_BYTES;

/// How the payload is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PayloadKind {
    /// As it is.
    Raw,
    /// As one zstd frame.
    Zstd,
}

impl PayloadKind {
    pub(super) fn from_wire(kind: u8) -> Option<Self> {
        match kind {
            0 => Some(Self::Raw),
            1 => Some(Self::Zstd),
            _ => None,
        }
    }

    pub(super) fn to_wire(self) -> u8 {
        match self {
            Self::Raw => 0,
            Self::Zstd => 1,
        }
    }
}

/// To which memory, and when, the pages of a batch belong.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct BatchHeader {
    /// RAM block: index in the list that the session agreed on.
    pub block: u16,
    /// Round of the migration; a page of a later epoch replaces one of an earlier.
    pub epoch: u32,
    /// Number of the batch on its lane, for acknowledgement.
    pub sequence: u64,
}

/// Which pages are in a batch; the bytes of the data pages are kept elsewhere, in the same order.
/// No page should be named twice. Applied in order: zero pages first, then data pages.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BatchPages {
    zero: [u32; BATCH_PAGES_MAX],
    data: [u32; BATCH_PAGES_MAX],
    zero_count: usize,
    data_count: usize,
}

impl Default for BatchPages {
    fn default() -> Self {
        Self::new()
    }
}

impl BatchPages {
    /// No pages.
    pub const fn new() -> Self {
        Self {
            zero: [0; BATCH_PAGES_MAX],
            data: [0; BATCH_PAGES_MAX],
            zero_count: 0,
            data_count: 0,
        }
    }

    /// Forgets all pages.
    pub fn clear(&mut self) {
        self.zero_count = 0;
        self.data_count = 0;
    }

    /// Adds a zero page; false if there are [`BATCH_PAGES_MAX`] already.
    #[must_use]
    pub fn push_zero(&mut self, page_index: u32) -> bool {
        let fits = !self.is_full();
        if fits {
            self.zero[self.zero_count] = page_index;
            self.zero_count += 1;
        }
        fits
    }

    /// Adds a page with data; false if there are [`BATCH_PAGES_MAX`] already.
    #[must_use]
    pub fn push_data(&mut self, page_index: u32) -> bool {
        let fits = !self.is_full();
        if fits {
            self.data[self.data_count] = page_index;
            self.data_count += 1;
        }
        fits
    }

    /// Indexes of the zero pages.
    pub fn zero(&self) -> &[u32] {
        &self.zero[..self.zero_count]
    }

    /// Indexes of the pages with data.
    pub fn data(&self) -> &[u32] {
        &self.data[..self.data_count]
    }

    /// Number of pages of both kinds.
    pub fn len(&self) -> usize {
        self.zero_count + self.data_count
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Whether no page can be added.
    pub fn is_full(&self) -> bool {
        self.len() >= BATCH_PAGES_MAX
    }
}

/// The bytes are not a batch.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum BatchError {
    /// Shorter than the header, or than the header says.
    #[error("page batch of {found_bytes} bytes, its header asks for {expected_bytes}")]
    Length {
        /// How long it is.
        found_bytes: usize,
        /// How long it should be.
        expected_bytes: usize,
    },
    /// A version that is not [`BATCH_VERSION`].
    #[error("page batch version {version}, not {BATCH_VERSION}")]
    Version {
        /// The version.
        version: u8,
    },
    /// A payload kind of the future.
    #[error("page batch with payload kind {kind}")]
    PayloadKind {
        /// The kind.
        kind: u8,
    },
    /// More than [`BATCH_PAGES_MAX`] pages.
    #[error("page batch of {zero} zero and {data} data pages, {BATCH_PAGES_MAX} are allowed")]
    PageCount {
        /// Zero pages.
        zero: u8,
        /// Data pages.
        data: u8,
    },
    /// The index lists do not have the announced number of indexes, or a varint is malformed.
    #[error("malformed page index list")]
    IndexList,
    /// A RAM block that the session does not know.
    #[error("page batch for the unknown RAM block {block}")]
    UnknownBlock {
        /// Its index.
        block: u16,
    },
    /// A page behind the end of its block.
    #[error("page {page_index} is outside of RAM block {block} with {block_pages} pages")]
    PageOutsideBlock {
        /// Index of the block.
        block: u16,
        /// Index of the page.
        page_index: u32,
        /// Pages of the block.
        block_pages: u64,
    },
    /// The payload is not 4096 bytes for each data page, before or after decompression.
    #[error("payload of a page batch is not exactly {expected_bytes} bytes")]
    Payload {
        /// 4096 for each data page.
        expected_bytes: usize,
    },
    /// No memory for a decompressor.
    #[error("zstd decompressor")]
    Decompressor,
}
