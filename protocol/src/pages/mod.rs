//! Pages of guest memory between two agents: batches on the wire, what was sent, what was applied.
//!
//! What is here knows neither QEMU's formats nor sockets, and never decides when something is sent.
//!
//! | module | what |
//! |---|---|
//! | [`batch`] | the wire form of up to [`BATCH_PAGES_MAX`] pages of one RAM block |
//! | [`encoder`], [`decoder`] | pages to batch and back; `decode(encode(pages)) == pages` |
//! | [`compressible`] | whether compressing is worth trying |
//! | [`hash`] | the content hash of a page |
//! | [`table`] | per page: which content, of which epoch; per region: a digest of it all |
//!
//! # The path of a packet
//!
//! ```text
//! source   for each page: hash → PageTable::admit → keep (move it to the front) or skip
//!          BatchPages + the kept pages, contiguous → BatchEncoder::encode → one lane
//! target   lane → BatchDecoder::decode → for each page: hash → PageTable::applied → copy or skip
//! both     PageTable::total, PageTable::regions: equal, or the source keeps the guest
//! ```
//!
//! Nothing in the inner loops allocates: a payload stays where it was received, the encoder and
//! decoder own their contexts and buffers, one pair for each thread.

pub mod batch;
pub mod compressible;
pub mod decoder;
pub mod encoder;
pub mod hash;
pub mod table;

mod index_list;

pub use batch::{BatchError, BatchHeader, BatchPages};
pub use decoder::{BatchDecoder, PageBatch};
pub use encoder::{BatchEncoder, Compression, EncodeError, EncodedBatch};
pub use hash::{ContentHash, PageHasher};
pub use table::{Admission, Application, PageOutsideTable, PageTable, REGION_PAGES};

/// Bytes of a page. x86 has no other migration page size; bigger guest pages move as many of these.
pub const PAGE_BYTES: usize = 4096;

/// Pages in a batch: 512 KiB of them, as in a multifd packet. Large enough for zstd to find what
/// pages have in common, small enough that a lane holds little unsent memory.
pub const BATCH_PAGES_MAX: usize = 128;

/// One page of guest memory, wherever it came from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Page<'a> {
    /// All bytes are zero.
    Zero,
    /// The bytes.
    Data(&'a [u8; PAGE_BYTES]),
}
