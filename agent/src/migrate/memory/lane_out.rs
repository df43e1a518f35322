//! A lane of the source: one multifd channel of QEMU becomes one stream of page batches.

use std::io::{self, Read};
use std::os::unix::net::UnixStream;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use bytes::Bytes;
use novacron_protocol::pages::{
    Admission, BATCH_PAGES_MAX, BatchEncoder, BatchHeader, BatchPages, Compression, ContentHash,
    EncodeError, PAGE_BYTES, PageHasher, PageOutsideTable,
};
use novacron_protocol::qemu::BlockList;
use novacron_protocol::qemu::multifd::{
    CHANNEL_INIT_BYTES, ChannelInit, MultifdError, PACKET_HEADER_BYTES, PacketHeader,
};
use novacron_transport::{FrameError, FramedSend};
use quinn::SendStream;
use tokio::runtime::Handle;

use super::counters::PacketCount;
use super::meeting::{Over, TooManyForeignPages};
use super::outgoing::OutgoingShared;

/// Why a lane cannot go on.
#[derive(Debug, thiserror::Error)]
pub(super) enum LaneError {
    #[error("QEMU's migration channel failed")]
    Socket(#[source] io::Error),
    #[error("QEMU's migration channel is not understood")]
    Packet(#[from] MultifdError),
    #[error("QEMU sent a page of RAM block `{0}`, which it has not announced")]
    UnknownBlock(String),
    #[error(transparent)]
    Page(#[from] PageOutsideTable),
    #[error(transparent)]
    Foreign(#[from] TooManyForeignPages),
    #[error("cannot encode pages")]
    Encode(#[from] EncodeError),
    #[error("the lane to the target failed")]
    Send(#[from] FrameError),
    #[error("the migration is over")]
    Over,
}

impl From<Over> for LaneError {
    fn from(_: Over) -> Self {
        Self::Over
    }
}

/// One lane; run on a thread of its own.
pub(super) struct LaneOut {
    pub lane: usize,
    pub socket: UnixStream,
    pub stream: FramedSend<SendStream>,
    pub runtime: Handle,
    pub compression: Compression,
    pub shared: Arc<OutgoingShared>,
    /// Batches put on the stream; read by the main thread at the barrier.
    pub batches: Arc<AtomicU64>,
}

/// What a lane reuses from packet to packet.
struct Workspace {
    header: Box<[u8; PACKET_HEADER_BYTES]>,
    payload: Vec<u8>,
    hashes: [ContentHash; BATCH_PAGES_MAX],
    pages: BatchPages,
    encoder: BatchEncoder,
    hasher: PageHasher,
}

impl LaneOut {
    /// Until QEMU closes the channel.
    pub(super) fn run(mut self) -> Result<(), LaneError> {
        let mut init = [0; CHANNEL_INIT_BYTES];
        self.socket.read_exact(&mut init).map_err(LaneError::Socket)?;
        ChannelInit::parse(&init)?;
        let mut work = Workspace {
            header: Box::new([0; PACKET_HEADER_BYTES]),
            payload: vec![0; BATCH_PAGES_MAX * PAGE_BYTES],
            hashes: [ContentHash::ZERO_PAGE; BATCH_PAGES_MAX],
            pages: BatchPages::new(),
            encoder: BatchEncoder::new(self.compression)?,
            hasher: PageHasher::new(self.shared.hash_seed),
        };
        let mut blocks = None;
        let mut epoch = 0;
        while self.read_header(&mut work)? {
            let header = *work.header;
            let packet = PacketHeader::parse(&header)?;
            let payload = &mut work.payload[..packet.payload_bytes()];
            self.socket.read_exact(payload).map_err(LaneError::Socket)?;
            if packet.normal_pages() + packet.zero_pages() > 0 {
                let blocks = match &mut blocks {
                    Some(blocks) => blocks,
                    none => none.insert(self.shared.meeting.blocks()?),
                };
                self.handle_pages(&packet, epoch, blocks, &mut work)?;
            }
            if packet.sync {
                epoch += 1;
                self.shared.meeting.lane_reached(self.lane, epoch);
            }
        }
        self.runtime.block_on(self.stream.finish())?;
        Ok(())
    }

    /// Whether there is another packet: a channel may end between two.
    fn read_header(&mut self, work: &mut Workspace) -> Result<bool, LaneError> {
        let (first, rest) = work.header.split_at_mut(1);
        match self.socket.read(first).map_err(LaneError::Socket)? {
            0 => Ok(false),
            _ => self.socket.read_exact(rest).map(|()| true).map_err(LaneError::Socket),
        }
    }

    fn handle_pages(
        &mut self,
        packet: &PacketHeader<'_>,
        epoch: u32,
        blocks: &BlockList,
        work: &mut Workspace,
    ) -> Result<(), LaneError> {
        let block = blocks
            .index_of(packet.block())
            .ok_or_else(|| LaneError::UnknownBlock(packet.block().to_owned()))?;
        if packet.block() == super::SHARED_BLOCK {
            return self.send_shared(packet, epoch, work);
        }
        let (payload, _) = work.payload[..packet.payload_bytes()].as_chunks::<PAGE_BYTES>();
        for (page_index, page) in packet.normal_indexes().zip(payload) {
            let page = Some(Box::new(*page));
            self.shared.meeting.keep_foreign((block, page_index), epoch, page)?;
        }
        for page_index in packet.zero_indexes() {
            self.shared.meeting.keep_foreign((block, page_index), epoch, None)?;
        }
        Ok(())
    }

    fn send_shared(
        &mut self,
        packet: &PacketHeader<'_>,
        epoch: u32,
        work: &mut Workspace,
    ) -> Result<(), LaneError> {
        let (payload, _) = work.payload[..packet.payload_bytes()].as_chunks::<PAGE_BYTES>();
        for (hash, page) in work.hashes.iter_mut().zip(payload) {
            *hash = work.hasher.hash_bytes(page);
        }
        let kept_bytes = self.admit(packet, epoch, work)?;
        if work.pages.is_empty() {
            return Ok(());
        }
        let sequence = self.batches.load(Ordering::Relaxed);
        let header = BatchHeader { block: super::SHARED_BLOCK_INDEX, epoch, sequence };
        let mut batch = Vec::with_capacity(kept_bytes / 2 + 1024);
        work.encoder.encode(header, &work.pages, &work.payload[..kept_bytes], &mut batch)?;
        self.shared.counters.count_wire(batch.len());
        self.runtime.block_on(self.stream.send(Bytes::from(batch)))?;
        self.batches.store(sequence + 1, Ordering::Release);
        Ok(())
    }

    /// Fills `work.pages` with what is to be sent and moves its bytes together at the front of the payload; returns
    /// how many bytes that are.
    fn admit(
        &self,
        packet: &PacketHeader<'_>,
        epoch: u32,
        work: &mut Workspace,
    ) -> Result<usize, LaneError> {
        work.pages.clear();
        let mut count = PacketCount::default();
        let mut kept = 0;
        let mut table = self.shared.table()?;
        for page_index in packet.zero_indexes() {
            count.zero += 1;
            if table.admit(page_index, epoch, ContentHash::ZERO_PAGE)? == Admission::Send {
                // A packet has at most as many pages as a batch has room for.
                let _ = work.pages.push_zero(page_index);
            }
        }
        for (at, page_index) in packet.normal_indexes().enumerate() {
            if table.admit(page_index, epoch, work.hashes[at])? != Admission::Send {
                count.same += 1;
                continue;
            }
            let _ = work.pages.push_data(page_index);
            if kept != at {
                let from = at * PAGE_BYTES;
                work.payload.copy_within(from..from + PAGE_BYTES, kept * PAGE_BYTES);
            }
            kept += 1;
        }
        drop(table);
        count.sent = kept as u64;
        count.total = (packet.zero_pages() + packet.normal_pages()) as u64;
        self.shared.counters.count_packet(count);
        Ok(kept * PAGE_BYTES)
    }
}
