//! Blocks of a disk between two agents: records on the wire, what was sent, what was applied.
//!
//! What is here knows neither NBD nor sockets, and never decides when something is sent.
//!
//! | module | what |
//! |---|---|
//! | [`record`] | the wire form of a run of blocks |
//! | [`encoder`], [`decoder`] | a run to a record and back; `decode(encode(run)) == run` |
//! | [`content`] | what both ends know of a disk, and what of a write is worth sending |
//! | [`beginning`] | what the target's disk holds before anything is sent |
//! | [`table`] | per block: its content hash; over all of them: a digest |
//! | [`hash`] | the content hash of a block |
//!
//! # The path of a write
//!
//! ```text
//! source   write of QEMU's mirror → DiskContent::write → runs that changed → RecordEncoder → stream
//! target   stream → RecordDecoder → DiskContent::apply → write to the target's disk
//! both     DiskContent::digest: equal, or the source keeps the guest
//! ```
//!
//! Both ends begin with what the target's disk holds: zeros in a new file, else an image or what an earlier visit left
//! behind, of which the target tells the hashes. So blocks that were never written travel not at all, nor does what the
//! target has already, and one that is written again as it was is not sent twice.
//!
//! Unlike pages, blocks of a disk travel on one stream in the order of the writes: there are no
//! epochs, and nothing can overtake.

pub mod beginning;
pub mod content;
pub mod decoder;
pub mod encoder;
pub mod hash;
pub mod record;
pub mod table;

pub use beginning::{BEGINNING_BLOCKS_MAX, BeginningError};
pub use content::DiskContent;
pub use decoder::RecordDecoder;
pub use encoder::{RecordEncodeError, RecordEncoder};
pub use hash::{BlockHash, BlockHasher};
pub use record::{RECORD_BYTES_MAX, Record, RecordError, RunContent};
pub use table::{Admission, BlockTable, InvalidDiskSize, OutsideDisk};

use crate::limits::DISK_BLOCK_BYTES;

/// [`DISK_BLOCK_BYTES`] as a length in memory.
pub const BLOCK_BYTES: usize = DISK_BLOCK_BYTES as usize;
