//! The wire form of a batch, version 2: up to [`BATCH_PAGES_MAX`] pages of one RAM block, each in its cheapest form.
//!
//! | offset | bytes | field, little-endian |
//! |---|---|---|
//! | 0 | 1 | version, 2 |
//! | 1 | 1 | how the body is written: 0 as it is, 1 one or more zstd frames |
//! | 2 | 2 | RAM block: index in the list that the session agreed on |
//! | 4 | 4 | epoch |
//! | 8 | 8 | sequence |
//! | 16 | 5 | numbers of zero, known, differing, packed and raw pages; together at most [`BATCH_PAGES_MAX`] |
//! | 21 | 3 | reserved, 0 |
//! | 24 | 8 | the first number under which the target keeps the packed and raw pages, plus 1; 0: it keeps none |
//! | 32 | 4 | bytes of the lists |
//! | 36 | 4 | bytes of the body as it is written |
//! | 40 | | the lists |
//! | | | the body: all patches, then the packed pages |
//! | | | the raw pages |
//!
//! The lists are, in this order: the indexes of the zero, known, differing, packed and raw pages; for each known page
//! the signed distance (zigzag) of its number from the number after that of the known page before; for each differing
//! page how many epochs before this one its base was sent, and how many bytes its patch has. All numbers are varints
//! (LEB128, no superfluous bytes).
//!
//! An index list is a sequence of runs, each two varints: the signed distance (zigzag) of the run's first index from
//! the index after the previous run, then the number of further indexes that follow one by one. A run of neighbours
//! costs 2 to 6 bytes whatever its length, so an empty guest of 1 TiB is about 90 MB of batches, headers included.
//!
//! Each page is named once: a batch has its pages by form, so of two contents of one page it could not say which came
//! last. A batch ends with its raw pages: it is framed by whoever carries it. It stands alone, so lanes may be reordered
//! against each other and a batch may be sent again on another connection. Only a differing page depends on another
//! batch: on the one with its base, which the target may have to wait for.

use super::{BATCH_PAGES_MAX, PAGE_BYTES};

/// The only version there is.
pub const BATCH_VERSION: u8 = 2;
/// Bytes before the lists.
pub const BATCH_HEADER_BYTES: usize = 40;
/// A run of one index is the worst case: 5 bytes of distance and 1 of length.
pub const INDEX_LIST_BYTES_MAX: usize = 6 * BATCH_PAGES_MAX;
/// Indexes, and at most a number (10 bytes), or an epoch and a length (5 + 2), for each page.
pub const LISTS_BYTES_MAX: usize = INDEX_LIST_BYTES_MAX + 10 * BATCH_PAGES_MAX;
/// The longest batch: compression that does not pay is not used, and a patch is shorter than a page.
pub const BATCH_BYTES_MAX: usize =
    BATCH_HEADER_BYTES + LISTS_BYTES_MAX + BATCH_PAGES_MAX * PAGE_BYTES;

/// How the body is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum BodyKind {
    /// As it is.
    Plain,
    /// As one zstd frame.
    Zstd,
}

impl BodyKind {
    pub(super) fn from_wire(kind: u8) -> Option<Self> {
        match kind {
            0 => Some(Self::Plain),
            1 => Some(Self::Zstd),
            _ => None,
        }
    }

    pub(super) fn to_wire(self) -> u8 {
        match self {
            Self::Plain => 0,
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
    /// The target keeps the packed and raw pages under this number and those that follow, in the order in which the
    /// batch has them.
    pub keep_from: Option<u64>,
}

/// The forms of pages, in the order in which a batch has them.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Form {
    /// All bytes are zero.
    Zero,
    /// The target has the content already, under a number.
    Known,
    /// What changed since the page was sent last.
    Differing,
    /// The content, compressed together with that of others.
    Packed,
    /// The content as it is.
    Raw,
}

/// Number of forms.
pub const FORMS: usize = 5;

pub(super) const FORMS_IN_ORDER: [Form; FORMS] =
    [Form::Zero, Form::Known, Form::Differing, Form::Packed, Form::Raw];

/// Whether so many pages can be kept under the numbers from this on. The last number of all is none: the header has
/// the first plus 1.
pub(super) fn keep_numbers_fit(keep_from: u64, pages: usize) -> bool {
    keep_from.checked_add(pages as u64).is_some() && keep_from < u64::MAX
}

/// How many pages a batch has of each form.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct FormCounts(pub(super) [u8; FORMS]);

impl FormCounts {
    /// Pages of this form.
    pub fn of(&self, form: Form) -> usize {
        usize::from(self.0[form as usize])
    }

    /// Pages of all forms.
    pub fn total(&self) -> usize {
        self.0.iter().map(|count| usize::from(*count)).sum()
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
    /// Reserved bytes that are not zero.
    #[error("page batch with reserved bytes in use")]
    Reserved,
    /// A kind of body of the future.
    #[error("page batch with a body of kind {kind}")]
    BodyKind {
        /// The kind.
        kind: u8,
    },
    /// More than [`BATCH_PAGES_MAX`] pages.
    #[error("page batch of {pages} pages, {BATCH_PAGES_MAX} are allowed")]
    PageCount {
        /// Pages of all forms.
        pages: usize,
    },
    /// A page that is named twice.
    #[error("page {page_index} is in one page batch twice")]
    PageTwice {
        /// Index of the page.
        page_index: u32,
    },
    /// The pages to keep would have numbers beyond the last.
    #[error("page batch keeps its pages under numbers that do not exist")]
    KeepNumbers,
    /// The lists do not have the announced number of items, or a varint is malformed.
    #[error("malformed page index list")]
    IndexList,
    /// A patch with runs outside of its page, or patches that do not have the announced lengths.
    #[error("malformed patch of a page")]
    Patch,
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
    /// The body is not as long as its patches and pages, before or after decompression.
    #[error("body of a page batch is not exactly {expected_bytes} bytes")]
    Body {
        /// The patches and 4096 for each packed page.
        expected_bytes: usize,
    },
    /// No memory for a decompressor.
    #[error("zstd decompressor")]
    Decompressor,
}
