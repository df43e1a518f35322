//! What each fuzz target does: it must not panic, and what a decoder accepts must hold together.
//!
//! Plain functions that know no fuzzer. The tests of `novacron-protocol` include this file and run
//! them on damaged golden inputs.

use novacron_protocol::backup::{BackupEncoder, BackupReader, Part};
use novacron_protocol::disk::{BLOCK_BYTES, BlockTable, DiskContent, RecordDecoder, RecordEncoder};
use novacron_protocol::effect::{AgentMessage, CoordinatorMessage, StreamRequest, StreamResponse};
use novacron_protocol::pages::{
    BATCH_PAGES_MAX, BatchDecoder, BatchEncoder, Compression, PAGE_BYTES, Page, PageForm, PageTable,
};
use novacron_protocol::qemu::item::Item;
use novacron_protocol::qemu::multifd::{ChannelInit, PACKET_PAYLOAD_BYTES_MAX, PacketHeader};
use novacron_protocol::qemu::return_path::ReturnPathParser;
use novacron_protocol::qemu::{BlockName, MainParser, MainRewriter, Progress, StreamLimits};
use novacron_protocol::sample::{SampleAnswer, SampleMessage};
use novacron_protocol::session::main_stream::MainFrame;
use novacron_protocol::session::message::{SourceMessage, StreamHeader, TargetMessage};
use novacron_protocol::session::tunnel::{PIECE_BYTES_MAX, TunnelDecoder};
use novacron_protocol::wire::codec::{self, Message};

/// Small, so that limits are met.
const LIMITS: StreamLimits = StreamLimits { ram_bytes_max: 64 << 20, blocks_max: 16 };

/// The parser in one piece and in two, and the rewriter.
pub fn main_stream(input: &[u8]) {
    let whole = parse(input, input.len());
    let cut = input.first().map_or(0, |byte| usize::from(*byte) * 7).min(input.len());
    assert_eq!(whole, parse(input, cut), "the cut at {cut} makes a difference");
    rewrite(input);
}

/// Number of items other than opaque ones, whether an error ended it, and what was consumed.
fn parse(input: &[u8], cut: usize) -> (usize, bool, u64) {
    let mut parser = MainParser::new(LIMITS);
    let (mut items, mut at) = (0, 0);
    for end in [cut, input.len()] {
        loop {
            match parser.next(&input[at..end]) {
                Ok(Some(parsed)) => {
                    assert_eq!(parsed.offset, at as u64);
                    assert!(!parsed.raw.is_empty());
                    at += parsed.raw.len();
                    items += usize::from(parsed.item != Item::Opaque);
                }
                Ok(None) => break,
                Err(error) => {
                    assert_eq!(error.offset, at as u64);
                    return (items, true, at as u64);
                }
            }
        }
    }
    assert!(parser.blocks().len() <= usize::from(LIMITS.blocks_max));
    assert!(parser.blocks().total_bytes() <= LIMITS.ram_bytes_max);
    (items, false, parser.offset())
}

/// Whatever is put out before an error must itself parse.
fn rewrite(input: &[u8]) {
    let Ok(shared) = BlockName::new("pc.ram") else { return };
    let mut rewriter = MainRewriter::new(LIMITS, [shared]);
    let (mut rest, mut output, mut whole) = (input, Vec::new(), Vec::new());
    loop {
        match rewriter.advance(&mut output) {
            Ok(Progress::NeedInput) if rest.is_empty() => break,
            Ok(Progress::NeedInput) => {
                let space = rewriter.space();
                assert!(!space.is_empty());
                let count = space.len().min(rest.len());
                space[..count].copy_from_slice(&rest[..count]);
                rewriter.filled(count);
                rest = &rest[count..];
            }
            Ok(Progress::Drain) => whole.append(&mut output),
            Ok(Progress::Flush { .. }) => {
                // Whether there is such a block or not.
                let _ = rewriter.inject(1, 0, Page::Zero, &mut output);
            }
            Ok(_) => {}
            Err(_) => break,
        }
    }
    whole.append(&mut output);
    let (_, refused, _) = parse(&whole, whole.len());
    assert!(!refused, "the rewritten stream is malformed");
}

/// A greeting or a packet header, by length.
pub fn multifd(input: &[u8]) {
    if let Some(greeting) = input.first_chunk()
        && let Ok(greeting) = ChannelInit::parse(greeting)
    {
        assert_eq!(ChannelInit::parse(&greeting.encode()), Ok(greeting));
    }
    if let Some(header) = input.first_chunk()
        && let Ok(header) = PacketHeader::parse(header)
    {
        assert!(header.normal_pages() + header.zero_pages() <= BATCH_PAGES_MAX);
        assert!(header.payload_bytes() <= PACKET_PAYLOAD_BYTES_MAX);
        assert_eq!(header.normal_indexes().count(), header.normal_pages());
        let highest = header.normal_indexes().chain(header.zero_indexes()).max();
        assert_eq!(header.is_within(0), highest.is_none());
        assert!(header.is_within(1 << 32));
    }
}

/// What is accepted is written back as it was.
pub fn return_path(input: &[u8]) {
    let mut parser = ReturnPathParser::new();
    let (mut chunk, mut written) = (input, Vec::new());
    loop {
        match parser.next(&mut chunk) {
            Ok(Some(message)) => message.encode(&mut written),
            Ok(None) => break,
            Err(error) => {
                assert_eq!(error.offset, written.len() as u64);
                break;
            }
        }
    }
    assert!(input.starts_with(&written));
}

/// What is accepted is inside its bounds, and what of it does not depend on another batch survives encoding and decoding.
pub fn page_batch(input: &[u8]) {
    const BLOCK_PAGES: u64 = 1000;
    let block_pages = |block: u16| (block < 4).then_some(BLOCK_PAGES);
    let (Ok(mut decoder), Ok(mut again)) = (BatchDecoder::new(), BatchDecoder::new()) else {
        return;
    };
    let Ok(batch) = decoder.decode(input, block_pages) else { return };

    let Ok(mut encoder) = BatchEncoder::new(Compression::Zstd { level: -5 }) else { return };
    let mut content = encoder.begin(batch.header);
    let mut expected = Vec::new();
    for (index, form) in batch.pages() {
        assert!(u64::from(index) < BLOCK_PAGES);
        let pushed = match form {
            PageForm::Zero => content.push_zero(index),
            PageForm::Known { slot } => content.push_known(index, slot),
            PageForm::Whole { content: page, .. } => content.push_whole(index, page),
            PageForm::Differing { base_epoch, patch } => {
                assert!(base_epoch <= batch.header.epoch);
                patch.apply(&mut [0; PAGE_BYTES]);
                continue;
            }
        };
        assert!(pushed);
        expected.push((index, known_or_content(form)));
    }
    assert!(batch.counts().total() <= BATCH_PAGES_MAX);

    let mut encoded = Vec::new();
    assert!(encoder.encode(content, &mut encoded).is_ok());
    let Ok(decoded) = again.decode(&encoded, block_pages) else { unreachable!("it was just made") };
    assert_eq!(decoded.header, batch.header);
    let mut found: Vec<_> =
        decoded.pages().map(|(index, form)| (index, known_or_content(form))).collect();
    // Pages that compress come before those that do not.
    expected.sort_unstable();
    found.sort_unstable();
    assert_eq!(found, expected);
}

fn known_or_content(form: PageForm<'_>) -> (u64, &[u8]) {
    match form {
        PageForm::Known { slot } => (slot, &[]),
        PageForm::Whole { content, .. } => (0, content),
        PageForm::Zero | PageForm::Differing { .. } => (0, &[]),
    }
}

/// Control messages of every type: what is accepted is written and read again as the same.
pub fn messages(input: &[u8]) {
    message::<AgentMessage>(input);
    message::<CoordinatorMessage>(input);
    message::<SampleMessage>(input);
    message::<SampleAnswer>(input);
    message::<StreamRequest>(input);
    message::<StreamResponse>(input);
    message::<SourceMessage>(input);
    message::<TargetMessage>(input);
    message::<StreamHeader>(input);
}

fn message<M: Message + PartialEq>(input: &[u8]) {
    let Ok(message) = codec::decode::<M>(input) else { return };
    let encoded = codec::encode(&message);
    assert!(
        encoded.is_ok_and(|bytes| codec::decode::<M>(&bytes).is_ok_and(|same| same == message))
    );
}

/// Frames of the main stream between two agents: an accepted one is written back as it was.
pub fn main_frame(input: &[u8]) {
    if let Ok(frame) = MainFrame::decode(input) {
        assert_eq!(frame.encode(), input);
    }
}

/// A frame of the byte-exact tunnel.
pub fn tunnel_frame(input: &[u8]) {
    let Ok(mut decoder) = TunnelDecoder::new() else { return };
    if let Ok(piece) = decoder.decode(input) {
        assert!(piece.len() <= PIECE_BYTES_MAX);
    }
}

/// What is accepted survives encoding and decoding, and both ends can count it.
pub fn disk_record(input: &[u8]) {
    const DISK_BYTES: u64 = 64 * BLOCK_BYTES as u64;
    let (Ok(mut decoder), Ok(mut again)) = (RecordDecoder::new(), RecordDecoder::new()) else {
        return;
    };
    let Ok(record) = decoder.decode(input, DISK_BYTES) else { return };
    assert!(record.check().is_ok());
    assert!(record.offset + record.disk_bytes() <= DISK_BYTES);
    assert!(DiskContent::new(DISK_BYTES, 1).is_ok_and(|mut disk| disk.apply(&record).is_ok()));

    let mut encoded = Vec::new();
    let encoder = RecordEncoder::new(Compression::Zstd { level: -5 });
    let wrote = encoder.and_then(|mut encoder| encoder.encode(&record, &mut encoded));
    assert!(wrote.is_ok());
    assert!(again.decode(&encoded, DISK_BYTES).is_ok_and(|decoded| decoded == record));
}

/// A piece of what a disk holds: what is accepted is told again as the same.
pub fn disk_beginning(input: &[u8]) {
    const DISK_BYTES: u64 = 64 * BLOCK_BYTES as u64;
    let (Ok(mut table), Ok(mut again)) = (BlockTable::new(DISK_BYTES), BlockTable::new(DISK_BYTES))
    else {
        return;
    };
    if table.begin_with(input).is_ok() {
        let told = table.pieces().try_for_each(|piece| again.begin_with(&piece));
        assert!(told.is_ok() && again.digest() == table.digest());
        assert_eq!(table.digest(), table.recomputed_digest());
    }
}

/// A piece of what memory holds: what is accepted is told again as the same.
pub fn page_beginning(input: &[u8]) {
    const PAGES: u32 = 64;
    let (mut table, mut again) = (PageTable::new(PAGES), PageTable::new(PAGES));
    if table.begin_with(input).is_ok() {
        let told = table.pieces().try_for_each(|piece| again.begin_with(&piece));
        assert!(told.is_ok() && again.regions() == table.regions());
        assert_eq!(table.regions(), table.recomputed_regions());
    }
}

/// A backup: what is accepted is written as the same bytes.
pub fn backup(input: &[u8]) {
    let Ok(mut reader) = BackupReader::new(input) else { return };
    let (mut encoder, mut bytes) = BackupEncoder::begin();
    loop {
        match reader.next_part() {
            Ok(Some(Part { kind, name, content })) => {
                bytes.extend(encoder.part(kind, &name, content.len() as u64));
                encoder.content(&content);
                bytes.extend(content);
            }
            Ok(None) => break,
            Err(_) => return,
        }
    }
    bytes.extend(encoder.end());
    assert!(bytes == input);
}

/// A small generator for seeded tests (SplitMix64); no use for anything that must not be guessed.
#[derive(Debug)]
pub struct Random(u64);

impl Random {
    /// The same numbers for the same seed.
    pub fn new(seed: u64) -> Self {
        Self(seed)
    }

    /// A number from 0 to `bound` − 1; `bound` is not 0.
    pub fn below(&mut self, bound: u64) -> u64 {
        self.next() % bound
    }

    /// Fills a slice.
    pub fn fill(&mut self, bytes: &mut [u8]) {
        for chunk in bytes.chunks_mut(8) {
            chunk.copy_from_slice(&self.next().to_le_bytes()[..chunk.len()]);
        }
    }

    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }
}
