//! A lane of the source: one multifd channel of QEMU becomes one stream of page batches.

use std::io::{self, Read};
use std::os::unix::net::UnixStream;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use bytes::Bytes;
use novacron_protocol::pages::{
    BATCH_PAGES_MAX, BatchContent, BatchEncoder, BatchHeader, ContentHash, EncodeError, Form,
    PAGE_BYTES, PageHasher, PageOutsideTable,
};
use novacron_protocol::qemu::BlockList;
use novacron_protocol::qemu::multifd::{
    CHANNEL_INIT_BYTES, ChannelInit, MultifdError, PACKET_HEADER_BYTES, PacketHeader,
};

use super::counters::PacketCount;
use super::meeting::{Over, TooManyForeignPages};
use super::outgoing::OutgoingShared;
use super::pace::LaneClock;
use super::sent_pages::{FIRST_ROUND, Offered};
use super::sharing::{PageAside, Sharing};
use crate::migrate::relay::{Outlet, OutletError};

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
    #[error("the migration is over")]
    Over,
}

impl From<Over> for LaneError {
    fn from(_: Over) -> Self {
        Self::Over
    }
}

impl From<OutletError> for LaneError {
    fn from(_: OutletError) -> Self {
        Self::Over
    }
}

/// One lane; run on a thread of its own.
pub(super) struct LaneOut {
    pub lane: usize,
    pub socket: UnixStream,
    pub stream: Outlet,
    pub shared: Arc<OutgoingShared>,
    /// Batches put on the stream; read by the main thread at the barrier.
    pub batches: Arc<AtomicU64>,
    pub encoder: BatchEncoder,
    pub hasher: PageHasher,
    /// What the target has of other machines, if it keeps anything.
    pub sharing: Option<Sharing>,
}

/// A packet of QEMU, read whole into buffers that are reused.
struct Received {
    header: Box<[u8; PACKET_HEADER_BYTES]>,
    payload: Vec<u8>,
}

type Pages<'a> = &'a [[u8; PAGE_BYTES]];

impl Received {
    fn new() -> Self {
        Self {
            header: Box::new([0; PACKET_HEADER_BYTES]),
            payload: vec![0; BATCH_PAGES_MAX * PAGE_BYTES],
        }
    }

    /// The packet and its pages; `None` when QEMU has closed the channel, which it may between two packets.
    fn read(
        &mut self,
        socket: &mut UnixStream,
    ) -> Result<Option<(PacketHeader<'_>, Pages<'_>)>, LaneError> {
        let (first, rest) = self.header.split_at_mut(1);
        if socket.read(first).map_err(LaneError::Socket)? == 0 {
            return Ok(None);
        }
        socket.read_exact(rest).map_err(LaneError::Socket)?;
        let packet = PacketHeader::parse(&self.header)?;
        let payload = &mut self.payload[..packet.payload_bytes()];
        socket.read_exact(payload).map_err(LaneError::Socket)?;
        let (pages, _) = payload.as_chunks();
        Ok(Some((packet, pages)))
    }
}

impl LaneOut {
    /// Until QEMU closes the channel.
    pub(super) fn run(mut self) -> Result<(), LaneError> {
        let mut init = [0; CHANNEL_INIT_BYTES];
        self.socket.read_exact(&mut init).map_err(LaneError::Socket)?;
        ChannelInit::parse(&init)?;
        let mut received = Received::new();
        let mut clock = LaneClock::start();
        let mut blocks = None;
        let mut epoch = 0;
        while let Some((packet, pages)) = received.read(&mut self.socket)? {
            clock.idle();
            if packet.normal_pages() + packet.zero_pages() > 0 {
                let blocks = match &mut blocks {
                    Some(blocks) => blocks,
                    none => none.insert(self.shared.meeting.blocks()?),
                };
                self.handle_pages((&packet, pages), epoch, blocks, &mut clock)?;
            }
            if packet.sync {
                self.settle_all(&mut clock)?;
                epoch += 1;
                self.shared.meeting.lane_reached(self.lane, epoch);
            }
            clock.worked();
            self.encoder.set_compression(self.shared.pace.compression(&mut clock))?;
        }
        self.settle_all(&mut clock)?;
        self.stream.finish();
        Ok(())
    }

    fn handle_pages(
        &mut self,
        (packet, pages): (&PacketHeader<'_>, Pages<'_>),
        epoch: u32,
        blocks: &BlockList,
        clock: &mut LaneClock,
    ) -> Result<(), LaneError> {
        let block = blocks
            .index_of(packet.block())
            .ok_or_else(|| LaneError::UnknownBlock(packet.block().to_owned()))?;
        if packet.block() == super::SHARED_BLOCK {
            return self.send_shared((packet, pages), epoch, clock);
        }
        for (page_index, page) in packet.normal_indexes().zip(pages) {
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
        (packet, pages): (&PacketHeader<'_>, Pages<'_>),
        epoch: u32,
        clock: &mut LaneClock,
    ) -> Result<(), LaneError> {
        let mut hashes = [ContentHash::ZERO_PAGE; BATCH_PAGES_MAX];
        for (hash, page) in hashes.iter_mut().zip(pages) {
            *hash = self.hasher.hash_bytes(page);
        }
        let mut content = self.begin(epoch);
        self.offer((packet, pages), &hashes, epoch, &mut content)?;
        self.send(content, clock)?;
        self.settle_ready(clock)
    }

    fn begin<'a>(&mut self, epoch: u32) -> BatchContent<'a> {
        let sequence = self.batches.load(Ordering::Relaxed);
        let block = super::SHARED_BLOCK_INDEX;
        self.encoder.begin(BatchHeader { block, epoch, sequence, keep_from: None })
    }

    /// Sends a batch that was begun last, if there is anything in it.
    fn send(
        &mut self,
        mut content: BatchContent<'_>,
        clock: &mut LaneClock,
    ) -> Result<(), LaneError> {
        if content.is_empty() {
            return Ok(());
        }
        let kept = self.sharing.as_mut().and_then(|sharing| sharing.keep(&mut content));
        let mut batch = Vec::new();
        let encoded = self.encoder.encode(content, &mut batch)?;
        self.shared.counters.count_batch(&encoded);
        clock.worked();
        let sequence = self.batches.load(Ordering::Relaxed);
        // Entered before it is sent, so that nobody else begins to send the same while this waits for the link.
        if let (Some(sharing), Some(kept)) = (&self.sharing, &kept) {
            sharing.sent(kept, sequence);
        }
        self.stream.wait_for_target();
        // Compressing harder would make a target that is behind no faster.
        clock.idle();
        let pages = encoded.forms.total() - encoded.forms.of(Form::Zero);
        self.stream.send_pages(Bytes::from(batch), pages)?;
        clock.waited();
        self.batches.store(sequence + 1, Ordering::Release);
        Ok(())
    }

    /// Sends what was put aside and is confirmed by now.
    fn settle_ready(&mut self, clock: &mut LaneClock) -> Result<(), LaneError> {
        clock.worked();
        while let Some(pages) = self.sharing.as_mut().and_then(Sharing::take_ready) {
            self.send_aside(&pages, clock)?;
        }
        Ok(())
    }

    /// Sends all that was put aside: the round ends, and nothing of it may come behind that.
    fn settle_all(&mut self, clock: &mut LaneClock) -> Result<(), LaneError> {
        let Some(deadline) = self.sharing.as_ref().map(Sharing::round_patience) else {
            return Ok(());
        };
        clock.worked();
        while let Some(pages) =
            self.sharing.as_mut().and_then(|sharing| sharing.take_first(deadline))
        {
            self.send_aside(&pages, clock)?;
        }
        Ok(())
    }

    fn send_aside(&mut self, pages: &[PageAside], clock: &mut LaneClock) -> Result<(), LaneError> {
        // It may have been waited for the target.
        clock.waited();
        let mut content = self.begin(FIRST_ROUND);
        if let Some(sharing) = &mut self.sharing {
            pages.iter().for_each(|page| sharing.place_again(page, &mut content));
        }
        self.send(content, clock)
    }

    /// Fills `content` with what is to be sent of a packet.
    fn offer<'a>(
        &mut self,
        (packet, pages): (&PacketHeader<'_>, Pages<'a>),
        hashes: &[ContentHash; BATCH_PAGES_MAX],
        epoch: u32,
        content: &mut BatchContent<'a>,
    ) -> Result<(), LaneError> {
        let mut whole = [0_u8; BATCH_PAGES_MAX];
        let mut whole_count = 0;
        let mut same = 0;
        let mut sent = self.shared.sent_pages()?;
        for page_index in packet.zero_indexes() {
            sent.zero(page_index, epoch, content)?;
        }
        for (at, page_index) in packet.normal_indexes().enumerate() {
            let page = (page_index, epoch);
            match sent.page(page, hashes[at], &pages[at], content)? {
                Offered::Skipped => same += 1,
                Offered::Placed => {}
                Offered::Whole => {
                    // At most BATCH_PAGES_MAX = 128.
                    whole[whole_count] = at as u8;
                    whole_count += 1;
                }
            }
        }
        drop(sent);
        let count = PacketCount {
            zero: packet.zero_pages() as u64,
            total: (packet.zero_pages() + packet.normal_pages()) as u64,
            same,
        };
        self.shared.counters.count_packet(count);
        let mut indexes = packet.normal_indexes().enumerate();
        for at in whole[..whole_count].iter().map(|at| usize::from(*at)) {
            let Some((_, page_index)) = indexes.find(|(position, _)| *position == at) else {
                break;
            };
            self.push_whole((page_index, epoch), hashes[at], &pages[at], content);
        }
        Ok(())
    }

    /// A page that no difference describes: by its place in a file that both ends have, by what the target has of other
    /// machines, or with its content. What a guest writes while it moves is its own, and not asked for elsewhere.
    fn push_whole<'a>(
        &mut self,
        (page_index, epoch): (u32, u32),
        hash: ContentHash,
        page: &'a [u8; PAGE_BYTES],
        content: &mut BatchContent<'a>,
    ) {
        // A packet has at most as many pages as a batch has room for.
        let _ = match (self.shared.boot.find(hash, page), &mut self.sharing) {
            (Some(slot), _) => content.push_known(page_index, slot),
            (None, Some(sharing)) if epoch == FIRST_ROUND => {
                sharing.place(page_index, page, content);
                true
            }
            (None, _) => content.push_whole(page_index, page),
        };
    }
}
