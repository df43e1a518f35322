//! Why the log refuses.

use std::sync::Arc;

use super::record::RECORD_BYTES_MAX;
use crate::cipher::Locked;
use crate::damage::{Damage, Damaged};
use crate::disk::DiskError;

/// Why the log refused a call.
#[derive(Debug, thiserror::Error)]
pub enum LogError {
    /// What is on disk is not what was written. Nothing was changed; the node's data has to be
    /// restored, or the node replaced.
    #[error("the log cannot be trusted")]
    Damaged(#[from] Damaged),
    /// It needs another key, or is not encrypted where everything is. Nothing was changed.
    #[error(transparent)]
    Locked(#[from] Locked),
    /// The disk failed while opening or reading. Trying again is safe.
    #[error("the disk failed")]
    Disk(#[from] DiskError),
    /// A write failed, now or earlier; whether the disk has it is unknown. The log must be opened
    /// anew before it takes another one.
    #[error("a write failed, and the log takes no more until it is opened anew")]
    Failed {
        /// The failure that came first.
        #[source]
        first: Arc<DiskError>,
    },
    /// The call would leave a hole, or write an index twice.
    #[error("index {found} cannot come next: {expected} is due")]
    NotNext {
        /// The only index that would do.
        expected: u64,
        /// The index of the call.
        found: u64,
    },
    /// The call concerns an entry that was purged.
    #[error("index {index} is purged (all up to {purged} are)")]
    Purged {
        /// The index of the call.
        index: u64,
        /// The last purged one.
        purged: u64,
    },
    /// The bytes are too many for one record.
    #[error("{bytes} bytes are too many for one record ({RECORD_BYTES_MAX} at most)")]
    TooLarge {
        /// How many they are.
        bytes: usize,
    },
    /// A record was written that the state does not take: a mistake in this crate, kept as an error
    /// so that it stops one call and not the process.
    #[error("the log wrote what it cannot follow")]
    Refused(#[source] Damage),
    /// An entry is said to be in a segment that is not open: a mistake in this crate, as above.
    #[error("segment {number} is not open")]
    NoSuchSegment {
        /// The number of the segment.
        number: u64,
    },
}
