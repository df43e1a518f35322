//! The main channel of the source: QEMU's stream without the pages that travel by the lanes.

use std::io::{self, Read};
use std::os::unix::net::UnixStream;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use bytes::Bytes;
use novacron_protocol::pages::{
    BatchEncoder, BatchHeader, EncodeError, PAGE_BYTES, Page, PageHasher, PageOutsideTable,
};
use novacron_protocol::qemu::{BlockName, MainRewriter, Progress, RewriteError, StreamLimits};
use novacron_protocol::session::main_stream::MainFrame;

use super::counters::PacketCount;
use super::meeting::Over;
use super::outgoing::{OutgoingEvent, OutgoingShared};
use super::sent_pages::Offered;
use crate::migrate::relay::{Outlet, OutletError};

/// Why the main channel cannot go on.
#[derive(Debug, thiserror::Error)]
pub(super) enum MainError {
    #[error("QEMU's main migration channel failed")]
    Socket(#[source] io::Error),
    #[error("QEMU's migration stream is not understood")]
    Rewrite(#[from] RewriteError),
    #[error("the guest has {0} pages of memory; at most 2^32 can be moved")]
    TooManyPages(u64),
    #[error(transparent)]
    Page(#[from] PageOutsideTable),
    #[error("cannot encode pages")]
    Encode(#[from] EncodeError),
    #[error("the migration is over")]
    Over,
}

impl From<Over> for MainError {
    fn from(_: Over) -> Self {
        Self::Over
    }
}

impl From<OutletError> for MainError {
    fn from(_: OutletError) -> Self {
        Self::Over
    }
}

/// The main channel; run on a thread of its own.
pub(super) struct MainOut {
    pub socket: UnixStream,
    pub stream: Outlet,
    /// A lane of its own for pages of guest memory that QEMU puts into the main channel.
    pub page_lane: Outlet,
    pub limits: StreamLimits,
    pub shared: Arc<OutgoingShared>,
    /// Batches put on each lane of the channels.
    pub lane_batches: Vec<Arc<AtomicU64>>,
    /// For the pages that QEMU puts into the main channel.
    pub encoder: BatchEncoder,
    pub hasher: PageHasher,
}

/// What the rewriter found, without a borrow of it.
enum Found {
    NeedInput,
    Drain,
    Blocks,
    Page { page_index: u32, epoch: u32, content: Option<Box<[u8; PAGE_BYTES]>> },
    Flush(u32),
    SwitchoverStart,
    RamComplete,
}

impl From<Progress<'_>> for Found {
    fn from(progress: Progress<'_>) -> Self {
        match progress {
            Progress::NeedInput => Self::NeedInput,
            Progress::Drain => Self::Drain,
            Progress::Blocks(_) => Self::Blocks,
            Progress::SharedPage { page_index, epoch, page, .. } => {
                let content = match page {
                    Page::Zero => None,
                    Page::Data(bytes) => Some(Box::new(*bytes)),
                };
                Self::Page { page_index, epoch, content }
            }
            Progress::Flush { epoch } => Self::Flush(epoch),
            Progress::SwitchoverStart => Self::SwitchoverStart,
            Progress::RamComplete => Self::RamComplete,
        }
    }
}

impl MainOut {
    /// Until QEMU closes the channel.
    pub(super) fn run(mut self) -> Result<(), MainError> {
        let shared_block = BlockName::new(super::SHARED_BLOCK).ok();
        let mut rewriter = MainRewriter::new(self.limits, shared_block);
        let mut output = Vec::new();
        let mut page_batches = 0;
        loop {
            match Found::from(rewriter.advance(&mut output)?) {
                Found::NeedInput => {
                    self.drain(&mut output)?;
                    let count = self.socket.read(rewriter.space()).map_err(MainError::Socket)?;
                    if count == 0 {
                        break;
                    }
                    rewriter.filled(count);
                }
                Found::Drain => self.drain(&mut output)?,
                Found::Blocks => self.announce(&rewriter)?,
                Found::Page { page_index, epoch, content } => {
                    let block = super::SHARED_BLOCK_INDEX;
                    let header =
                        BatchHeader { block, epoch, sequence: page_batches, keep_from: None };
                    page_batches += u64::from(self.send_page(header, page_index, content)?);
                }
                Found::Flush(epoch) => self.flush(epoch, &mut rewriter, &mut output)?,
                Found::SwitchoverStart => self.shared.say(OutgoingEvent::SwitchoverBegun),
                Found::RamComplete => self.complete(page_batches, &mut output)?,
            }
        }
        rewriter.finish()?;
        self.stream.finish();
        Ok(())
    }

    fn drain(&mut self, output: &mut Vec<u8>) -> Result<(), MainError> {
        if !output.is_empty() {
            self.send(&MainFrame::Bytes(output))?;
            output.clear();
        }
        Ok(())
    }

    fn send(&mut self, frame: &MainFrame<'_>) -> Result<(), MainError> {
        let frame = frame.encode();
        self.shared.counters.count_wire(frame.len());
        self.stream.send(Bytes::from(frame))?;
        Ok(())
    }

    fn announce(&self, rewriter: &MainRewriter) -> Result<(), MainError> {
        let blocks = rewriter.blocks();
        let memory = blocks.index_of(super::SHARED_BLOCK).and_then(|index| blocks.get(index));
        let pages = memory.map_or(0, |block| block.pages());
        let pages = u32::try_from(pages).map_err(|_| MainError::TooManyPages(pages))?;
        self.shared.begin_pages(pages);
        self.shared.meeting.announce_blocks(blocks);
        Ok(())
    }

    /// A page of guest memory on the main channel: QEMU puts zero pages there if told not to look for them in the
    /// channels. Rare, so it is a batch of its own. Returns whether it was sent.
    fn send_page(
        &mut self,
        header: BatchHeader,
        page_index: u32,
        content: Option<Box<[u8; PAGE_BYTES]>>,
    ) -> Result<bool, MainError> {
        let mut batch_content = self.encoder.begin(header);
        let mut sent = self.shared.sent_pages()?;
        let offered = match content.as_deref() {
            None => sent.zero(page_index, header.epoch, &mut batch_content)?,
            Some(page) => {
                let hash = self.hasher.hash_bytes(page);
                sent.page((page_index, header.epoch), hash, page, &mut batch_content)?
            }
        };
        drop(sent);
        let zero = u64::from(content.is_none());
        let same = u64::from(offered == Offered::Skipped && content.is_some());
        self.shared.counters.count_packet(PacketCount { zero, same, total: 1 });
        if let (Offered::Whole, Some(page)) = (offered, content.as_deref()) {
            let _ = batch_content.push_whole(page_index, page);
        }
        if batch_content.is_empty() {
            return Ok(false);
        }
        let mut batch = Vec::new();
        let encoded = self.encoder.encode(batch_content, &mut batch)?;
        self.shared.counters.count_batch(&encoded);
        self.page_lane.send(Bytes::from(batch))?;
        Ok(true)
    }

    fn flush(
        &mut self,
        epoch: u32,
        rewriter: &mut MainRewriter,
        output: &mut Vec<u8>,
    ) -> Result<(), MainError> {
        for ((block, page_index), (_, content)) in self.shared.meeting.flush(epoch)? {
            let page = content.as_deref().map_or(Page::Zero, Page::Data);
            rewriter.inject(block, page_index, page, output)?;
            if output.len() >= novacron_protocol::qemu::rewriter::OUTPUT_BYTES_SOFT {
                self.drain(output)?;
            }
        }
        // The flush of the setup ends epoch 0, before the first round.
        self.shared.counters.begin_round(epoch + 1);
        self.shared.mention(OutgoingEvent::RoundEnded);
        Ok(())
    }

    /// All memory is on the lanes: every lane has met the last flush, so its count is final.
    fn complete(&mut self, page_batches: u64, output: &mut Vec<u8>) -> Result<(), MainError> {
        self.page_lane.finish();
        self.drain(output)?;
        let counts = self.lane_batches.iter().map(|batches| batches.load(Ordering::Acquire));
        let lane_batches = counts.chain([page_batches]).collect();
        self.send(&MainFrame::Barrier { lane_batches })?;
        let digest = self.shared.digest()?;
        self.shared.say(OutgoingEvent::MemorySent(digest));
        Ok(())
    }
}
