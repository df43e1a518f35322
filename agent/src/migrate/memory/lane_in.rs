//! A lane of the target: page batches become guest memory.

use std::io;
use std::sync::Arc;

use novacron_protocol::pages::{
    BATCH_PAGES_MAX, BatchDecoder, BatchError, ContentHash, PAGE_BYTES, Page, PageBatch, PageForm,
    PageHasher,
};
use tokio::runtime::Handle;

use super::held_pages::{ApplyError, Patched};
use super::incoming::IncomingShared;
use crate::migrate::library::ShelfError;
use crate::migrate::relay::{Inlet, InletError};

/// Why a lane cannot go on.
#[derive(Debug, thiserror::Error)]
pub(super) enum LaneError {
    #[error(transparent)]
    Inlet(#[from] InletError),
    #[error("a page batch of the source is not understood")]
    Batch(#[from] BatchError),
    #[error(transparent)]
    Apply(#[from] ApplyError),
    #[error("a file that the guest was booted from cannot be read")]
    BootFile(#[source] io::Error),
    #[error("the source refers to a page that is not here (number {0:#x})")]
    UnknownPage(u64),
    #[error("pages that machines share cannot be kept or found")]
    Shelf(#[from] ShelfError),
    #[error("the source would have pages kept, and there is no shelf")]
    NoShelf,
}

/// One lane; run on a thread of its own.
pub(super) struct LaneIn {
    pub lane: usize,
    pub stream: Inlet,
    pub runtime: Handle,
    pub shared: Arc<IncomingShared>,
}

/// The pages of a batch that are here under a number.
type KnownPages = Vec<[u8; PAGE_BYTES]>;

impl LaneIn {
    /// Until the source ends the lane.
    pub(super) fn run(mut self) -> Result<(), LaneError> {
        let mut decoder = BatchDecoder::new()?;
        let hasher = PageHasher::new(self.shared.hash_seed);
        let pages = self.shared.memory.pages();
        let mut known = KnownPages::new();
        while let Some(frame) = self.runtime.block_on(self.stream.receive())? {
            let block_pages = |block| (block == super::SHARED_BLOCK_INDEX).then_some(pages);
            let batch = decoder.decode(&frame, block_pages)?;
            self.apply(&batch, &hasher, &mut known)?;
            self.shared.batch_applied(self.lane);
        }
        Ok(())
    }

    /// What can be done for each page alone is done before others have to wait.
    fn apply(
        &self,
        batch: &PageBatch<'_>,
        hasher: &PageHasher,
        known: &mut KnownPages,
    ) -> Result<(), LaneError> {
        self.fetch_known(batch, known)?;
        self.keep(batch)?;
        let mut hashes = [ContentHash::ZERO_PAGE; BATCH_PAGES_MAX];
        let mut fetched = known.iter();
        for (hash, (_, form)) in hashes.iter_mut().zip(batch.pages()) {
            match form {
                PageForm::Whole { content, .. } => *hash = hasher.hash_bytes(content),
                PageForm::Known { .. } => {
                    *hash = fetched.next().map_or(*hash, |page| hasher.hash_bytes(page));
                }
                PageForm::Zero | PageForm::Differing { .. } => {}
            }
        }
        self.apply_all(batch, &hashes, hasher, known)
    }

    fn fetch_known(&self, batch: &PageBatch<'_>, known: &mut KnownPages) -> Result<(), LaneError> {
        known.clear();
        for (_, form) in batch.pages() {
            if let PageForm::Known { slot } = form {
                known.push(self.fetch(slot)?);
            }
        }
        Ok(())
    }

    fn fetch(&self, slot: u64) -> Result<[u8; PAGE_BYTES], LaneError> {
        if let Some(page) = self.shared.boot.read(slot).map_err(LaneError::BootFile)? {
            return Ok(page);
        }
        let shelf = self.shared.shelf.as_ref().ok_or(LaneError::UnknownPage(slot))?;
        Ok(shelf.get(slot)?)
    }

    /// Puts pages on the shelf for other machines: before the batch counts as processed, and also those that this
    /// machine has in a newer version already.
    fn keep(&self, batch: &PageBatch<'_>) -> Result<(), LaneError> {
        if batch.header.keep_from.is_none() {
            return Ok(());
        }
        let shelf = self.shared.shelf.as_ref().ok_or(LaneError::NoShelf)?;
        let kept = batch.pages().filter_map(|(_, form)| match form {
            PageForm::Whole { keep_as, content } => Some((keep_as?, content)),
            _ => None,
        });
        Ok(shelf.put(kept)?)
    }

    /// Decision and copy are one critical section: lanes overtake each other.
    fn apply_all(
        &self,
        batch: &PageBatch<'_>,
        hashes: &[ContentHash; BATCH_PAGES_MAX],
        hasher: &PageHasher,
        known: &[[u8; PAGE_BYTES]],
    ) -> Result<(), LaneError> {
        let memory = &*self.shared.memory;
        let mut fetched = known.iter();
        let mut held = self.shared.wait_begun();
        for (hash, (page_index, form)) in hashes.iter().zip(batch.pages()) {
            let page = (page_index, batch.header.epoch);
            match form {
                PageForm::Zero => held.apply(memory, page, *hash, Page::Zero)?,
                PageForm::Whole { content, .. } => {
                    held.apply(memory, page, *hash, Page::Data(content))?;
                }
                PageForm::Known { .. } => {
                    let content = fetched.next().map_or(Page::Zero, Page::Data);
                    held.apply(memory, page, *hash, content)?;
                }
                PageForm::Differing { base_epoch, patch } => {
                    while held.patch(memory, page, base_epoch, &patch, hasher)? == Patched::Awaited
                    {
                        held = self.shared.wait_for_pages(held);
                    }
                }
            }
        }
        Ok(())
    }
}
