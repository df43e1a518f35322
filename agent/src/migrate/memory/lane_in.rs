//! A lane of the target: page batches become guest memory.

use std::sync::Arc;

use novacron_protocol::pages::{
    Application, BATCH_PAGES_MAX, BatchDecoder, BatchError, ContentHash, Page, PageBatch,
    PageHasher, PageOutsideTable,
};
use novacron_transport::{FrameError, FramedRecv};
use quinn::RecvStream;
use tokio::runtime::Handle;

use super::incoming::IncomingShared;
use crate::sys::GuestMemoryError;

/// Why a lane cannot go on.
#[derive(Debug, thiserror::Error)]
pub(super) enum LaneError {
    #[error("a lane from the source failed")]
    Receive(#[from] FrameError),
    #[error("a page batch of the source is not understood")]
    Batch(#[from] BatchError),
    #[error(transparent)]
    Page(#[from] PageOutsideTable),
    #[error("guest memory cannot be written")]
    Memory(#[from] GuestMemoryError),
}

/// One lane; run on a thread of its own.
pub(super) struct LaneIn {
    pub lane: usize,
    pub stream: FramedRecv<RecvStream>,
    pub runtime: Handle,
    pub shared: Arc<IncomingShared>,
}

impl LaneIn {
    /// Until the source ends the lane.
    pub(super) fn run(mut self) -> Result<(), LaneError> {
        let mut decoder = BatchDecoder::new()?;
        let hasher = PageHasher::new(self.shared.hash_seed);
        let pages = self.shared.memory.pages();
        while let Some(frame) = self.runtime.block_on(self.stream.receive())? {
            let block_pages = |block| (block == super::SHARED_BLOCK_INDEX).then_some(pages);
            let batch = decoder.decode(&frame, block_pages)?;
            self.apply(&batch, &hasher)?;
            self.shared.batch_applied(self.lane);
        }
        Ok(())
    }

    fn apply(&self, batch: &PageBatch<'_>, hasher: &PageHasher) -> Result<(), LaneError> {
        let mut hashes = [ContentHash::ZERO_PAGE; 2 * BATCH_PAGES_MAX];
        for (hash, (_, page)) in hashes.iter_mut().zip(batch.pages()) {
            *hash = hasher.hash(page);
        }
        // Decision and copy are one critical section: lanes overtake each other.
        let mut table = self.shared.table();
        for (hash, (page_index, page)) in hashes.iter().zip(batch.pages()) {
            if table.applied(page_index, batch.header.epoch, *hash)? == Application::Superseded {
                continue;
            }
            match page {
                Page::Zero => self.shared.memory.zero_page(u64::from(page_index))?,
                Page::Data(bytes) => self.shared.memory.write_page(u64::from(page_index), bytes)?,
            }
        }
        Ok(())
    }
}
