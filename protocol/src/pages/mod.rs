//! Pages of guest memory between two agents: batches on the wire, what was sent, what was applied.
//!
//! What is here knows neither QEMU's formats nor sockets, and never decides when something is sent.
//!
//! | module | what |
//! |---|---|
//! | [`batch`] | the wire form of up to [`BATCH_PAGES_MAX`] pages of one RAM block |
//! | [`content`] | the pages of a batch, each in its cheapest form, before they are written |
//! | [`encoder`], [`decoder`] | that to a batch and back; `decode(encode(pages)) == pages` |
//! | [`patch`] | what changed between two contents of a page |
//! | [`compressible`] | whether compressing a page is worth trying |
//! | [`beginning`] | what the target holds of an earlier attempt, for the source's table |
//! | [`hash`] | the content hash of a page |
//! | [`table`] | per page: which content, of which epoch; per region: a digest of it all |
//!
//! # The path of a packet
//!
//! ```text
//! source   BatchEncoder::begin → BatchContent
//!          for each page: hash → PageTable::admit → skip, or BatchContent::push_… in its cheapest form
//!          BatchContent → BatchEncoder::encode → one lane
//! target   lane → BatchDecoder::decode → for each page: its content → hash → PageTable::applied → copy or skip
//! both     PageTable::total, PageTable::regions: equal, or the source keeps the guest
//! ```
//!
//! A page that is described by what changed needs its base: the target has to wait until
//! [`PageTable::base_state`] says that it is there. That cannot block for ever, because a base is always admitted, and so
//! put on its lane, before what is described by it.
//!
//! Nothing in the inner loops allocates: pages stay where they were received, the encoder and
//! decoder own their contexts and buffers, one pair for each thread.

pub mod batch;
pub mod beginning;
pub mod compressible;
pub mod content;
pub mod decoder;
pub mod encoder;
pub mod hash;
pub mod patch;
pub mod table;

mod distinct;
mod index_list;
pub mod varint;

pub use batch::{BatchError, BatchHeader, Form, FormCounts};
pub use beginning::{BEGINNING_PAGES_MAX, BeginningError};
pub use content::BatchContent;
pub use decoder::{BatchDecoder, PageBatch, PageForm};
pub use encoder::{BatchEncoder, Compression, EncodeError, EncodedBatch};
pub use hash::{ContentHash, PageHasher};
pub use patch::Patch;
pub use table::{Admission, Application, BaseState, PageOutsideTable, PageTable, REGION_PAGES};

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
