//! What of a sealed window goes into the archive: its entries and its summary, in parts.
//!
//! The bytes are the same on every member, so their hashes stand in the window's header. They are never changed, and
//! every member that has them can give them to another that has not.

use novacron_protocol::wire::codec::Message;
use serde::{Deserialize, Serialize};

use super::batch::{BatchKey, EntryBatch};
use super::hash::ContentHash;
use super::hour::Hour;

/// Bytes of a part beyond which the next one is begun: what a reader holds at once.
pub const PART_BYTES: usize = 16 << 20;

/// Entries of a window, in order.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct WindowPart {
    /// The window.
    pub window: Hour,
    /// The batches, each with the number of its first entry.
    pub batches: Vec<(u64, EntryBatch)>,
}

impl Message for WindowPart {
    const VERSION: u16 = 1;
    const BYTES_MAX: usize = 4 * PART_BYTES;
    const NAME: &'static str = "part of a sealed window";
}

impl WindowPart {
    /// The batches with their keys.
    pub fn batches(&self) -> impl Iterator<Item = (BatchKey, &EntryBatch)> {
        let window = self.window;
        self.batches.iter().map(move |(first_index, batch)| {
            (BatchKey { window, first_index: *first_index }, batch)
        })
    }
}

/// A file of a sealed window, as the header knows it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct FileRecord {
    /// SHA-256 of its content.
    pub hash: ContentHash,
    /// Bytes of its content.
    pub bytes: u64,
}

/// Which file of a sealed window.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub enum FileKind {
    /// A part of its entries.
    Entries(u32),
    /// A part of its summary.
    Summary(u32),
}

/// The name of a file of a sealed window in the archive.
pub fn file_name(window: Hour, kind: FileKind) -> String {
    match kind {
        FileKind::Entries(number) => format!("ledger-{:010}-entries-{number:05}", window.0),
        FileKind::Summary(number) => format!("ledger-{:010}-summary-{number:05}", window.0),
    }
}

/// Cuts the batches of a window into parts.
pub(super) fn parts(window: Hour, batches: Vec<(u64, EntryBatch)>) -> Vec<WindowPart> {
    let mut parts = Vec::new();
    let (mut part, mut bytes) = (Vec::new(), 0);
    for (first_index, batch) in batches {
        let more = batch.stored_bytes();
        if bytes + more > PART_BYTES && !part.is_empty() {
            parts.push(WindowPart { window, batches: std::mem::take(&mut part) });
            bytes = 0;
        }
        bytes += more;
        part.push((first_index, batch));
    }
    if !part.is_empty() {
        parts.push(WindowPart { window, batches: part });
    }
    parts
}
