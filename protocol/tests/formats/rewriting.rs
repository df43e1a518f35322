//! The whole path of the source agent and the target agent, in memory, on recorded streams.

use std::collections::BTreeMap;

use novacron_protocol::pages::{
    Admission, Application, BATCH_PAGES_MAX, BatchDecoder, BatchEncoder, BatchHeader, Compression,
    PAGE_BYTES, Page, PageForm, PageHasher, PageTable,
};
use novacron_protocol::qemu::item::Item;
use novacron_protocol::qemu::multifd::{CHANNEL_INIT_BYTES, PACKET_HEADER_BYTES, PacketHeader};
use novacron_protocol::qemu::{BlockList, BlockName, MainRewriter, Progress, RewriteError};

use super::golden::put;
use super::golden_files::{Golden, fnv1a, multifd, plain};
use super::stream::{limits, parse_chunked};

type PageKey = (u16, u32);

/// A target agent: memory, table, decoder.
struct Target {
    memory: Vec<u8>,
    table: PageTable,
    hasher: PageHasher,
    decoder: BatchDecoder,
}

impl Target {
    fn new(pages: u32) -> Self {
        Self {
            memory: vec![0; pages as usize * PAGE_BYTES],
            table: PageTable::new(pages),
            hasher: PageHasher::new(5),
            decoder: BatchDecoder::new().unwrap(),
        }
    }

    fn receive(&mut self, bytes: &[u8]) {
        let pages = self.table.pages() as u64;
        let batch = self.decoder.decode(bytes, |block| (block == 0).then_some(pages)).unwrap();
        for (page_index, form) in batch.pages() {
            let page = match form {
                PageForm::Zero => Page::Zero,
                PageForm::Whole { content, .. } => Page::Data(content),
                other => panic!("{other:?} was not sent"),
            };
            let hash = self.hasher.hash(page);
            let application = self.table.applied(page_index, batch.header.epoch, hash).unwrap();
            if application == Application::Apply {
                put(&mut self.memory, page_index, page);
            }
        }
    }
}

/// A source agent's page pipeline.
struct Pipeline {
    table: PageTable,
    hasher: PageHasher,
    encoder: BatchEncoder,
    pages: Vec<(u32, Option<Box<[u8; PAGE_BYTES]>>)>,
    /// Batches, to be delivered in another order.
    sent: Vec<Vec<u8>>,
    skipped: u64,
}

impl Pipeline {
    fn new(pages: u32) -> Self {
        Self {
            table: PageTable::new(pages),
            hasher: PageHasher::new(5),
            encoder: BatchEncoder::new(Compression::Zstd { level: 1 }).unwrap(),
            pages: Vec::new(),
            sent: Vec::new(),
            skipped: 0,
        }
    }

    fn page(&mut self, epoch: u32, page_index: u32, page: Page<'_>) {
        let hash = self.hasher.hash(page);
        if self.table.admit(page_index, epoch, hash).unwrap() != Admission::Send {
            self.skipped += 1;
            return;
        }
        let content = match page {
            Page::Zero => None,
            Page::Data(bytes) => Some(Box::new(*bytes)),
        };
        // Without channels there are no epochs either: a page comes again while its batch is open.
        if self.pages.iter().any(|(named, _)| *named == page_index) {
            self.send(epoch);
        }
        self.pages.push((page_index, content));
        if self.pages.len() == BATCH_PAGES_MAX {
            self.send(epoch);
        }
    }

    fn send(&mut self, epoch: u32) {
        let sequence = self.sent.len() as u64;
        let header = BatchHeader { block: 0, epoch, sequence, keep_from: None };
        let mut content = self.encoder.begin(header);
        for (page_index, page) in &self.pages {
            assert!(match page {
                None => content.push_zero(*page_index),
                Some(page) => content.push_whole(*page_index, page),
            });
        }
        let mut batch = Vec::new();
        self.encoder.encode(content, &mut batch).unwrap();
        self.sent.push(batch);
        self.pages.clear();
    }
}

/// One channel, read up to its next SYNC.
struct Channel<'a> {
    rest: &'a [u8],
}

impl<'a> Channel<'a> {
    fn read_epoch(&mut self, blocks: &BlockList, mut page: impl FnMut(u16, u32, Page<'_>)) {
        loop {
            let (header, payload) = self.rest.split_first_chunk::<PACKET_HEADER_BYTES>().unwrap();
            let header = PacketHeader::parse(header).unwrap();
            let (payload, rest) = payload.split_at(header.payload_bytes());
            self.rest = rest;
            if let Some(block) = blocks.index_of(header.block()) {
                assert!(header.is_within(blocks.get(block).unwrap().pages()));
                let (bytes, _) = payload.as_chunks();
                for (index, bytes) in header.normal_indexes().zip(bytes) {
                    page(block, index, Page::Data(bytes));
                }
                for index in header.zero_indexes() {
                    page(block, index, Page::Zero);
                }
            }
            if header.sync {
                return;
            }
        }
    }
}

/// What came of rewriting a recorded migration.
struct Outcome {
    pipeline: Pipeline,
    output: Vec<u8>,
    /// Last content of each page outside of `pc.ram` that the channels carried.
    foreign: BTreeMap<PageKey, Option<Vec<u8>>>,
    epochs: u32,
    bytes_before_devices: usize,
}

fn pc_ram() -> BlockName {
    BlockName::new("pc.ram").unwrap()
}

fn rewrite(golden: &Golden, chunk_bytes: usize) -> Outcome {
    let mut rewriter = MainRewriter::new(limits(), [pc_ram()]);
    let mut channels: Vec<_> = golden
        .channels
        .iter()
        .map(|bytes| Channel { rest: &bytes[CHANNEL_INIT_BYTES..] })
        .collect();
    let mut outcome = Outcome {
        pipeline: Pipeline::new((16 << 20) / PAGE_BYTES as u32),
        output: Vec::new(),
        foreign: BTreeMap::new(),
        epochs: 0,
        bytes_before_devices: 0,
    };
    let mut output = Vec::new();
    let mut rest = &golden.main[..];
    let mut seen = Vec::new();
    loop {
        match rewriter.advance(&mut output).unwrap() {
            Progress::NeedInput if rest.is_empty() => break,
            Progress::NeedInput => {
                let space = rewriter.space();
                let count = space.len().min(chunk_bytes).min(rest.len());
                space[..count].copy_from_slice(&rest[..count]);
                rewriter.filled(count);
                rest = &rest[count..];
            }
            Progress::Drain => outcome.output.append(&mut output),
            Progress::Blocks(blocks) => {
                assert_eq!(blocks.index_of("pc.ram"), Some(0));
                seen.push("blocks");
            }
            Progress::SharedPage { block, page_index, epoch, page } => {
                assert_eq!(block, 0);
                outcome.pipeline.page(epoch, page_index, page);
            }
            Progress::Flush { epoch } => {
                let blocks = rewriter.blocks().clone();
                let mut foreign = Vec::new();
                for channel in &mut channels {
                    channel.read_epoch(&blocks, |block, page_index, page| match block {
                        0 => outcome.pipeline.page(epoch, page_index, page),
                        _ => {
                            let bytes = match page {
                                Page::Zero => None,
                                Page::Data(bytes) => Some(bytes.to_vec()),
                            };
                            foreign.push((block, page_index, bytes));
                        }
                    });
                }
                outcome.pipeline.send(epoch);
                for (block, page_index, bytes) in foreign {
                    let page = match &bytes {
                        None => Page::Zero,
                        Some(bytes) => Page::Data(bytes.first_chunk().unwrap()),
                    };
                    rewriter.inject(block, page_index, page, &mut output).unwrap();
                    outcome.foreign.insert((block, page_index), bytes);
                }
                assert_eq!(epoch, outcome.epochs);
                outcome.epochs += 1;
            }
            Progress::SwitchoverStart => seen.push("switchover"),
            Progress::RamComplete => {
                seen.push("complete");
                outcome.pipeline.send(outcome.epochs);
                outcome.bytes_before_devices = outcome.output.len() + output.len();
            }
        }
    }
    rewriter.finish().unwrap();
    assert_eq!(seen, ["blocks", "switchover", "complete"]);
    assert!(channels.iter().all(|channel| channel.rest.is_empty()), "pages after the last flush");
    outcome.output.append(&mut output);
    outcome
}

/// Delivers all batches in order.
fn deliver_on_one_lane(outcome: &Outcome) -> Target {
    let mut target = Target::new((16 << 20) / PAGE_BYTES as u32);
    for batch in &outcome.pipeline.sent {
        target.receive(batch);
    }
    target
}

/// Delivers all batches in an order that the lanes might have made, twice for some.
fn deliver_on_many_lanes(outcome: &Outcome) -> Target {
    let mut target = Target::new((16 << 20) / PAGE_BYTES as u32);
    let (even, odd): (Vec<_>, Vec<_>) =
        outcome.pipeline.sent.iter().enumerate().partition(|(at, _)| at % 2 == 0);
    for (_, batch) in odd.iter().rev().chain(&even).chain(&odd[..odd.len() / 3]) {
        target.receive(batch);
    }
    target
}

fn check_memory(golden: &Golden, outcome: &Outcome, target: &Target) {
    assert_eq!(target.table.regions(), outcome.pipeline.table.regions());
    assert_eq!(fnv1a(&target.memory), golden.memory_fnv);
}

/// What the target's QEMU is given.
fn check_output(golden: &Golden, outcome: &Outcome) {
    let mut pages = BTreeMap::new();
    let mut opaque = Vec::new();
    parse_chunked(&outcome.output, &[50_000], |_, raw, item| match item {
        Item::RamPage { block: 0, .. } => panic!("a page of pc.ram"),
        Item::RamPage { block, page_index, page } => {
            let bytes = match page {
                Page::Zero => None,
                Page::Data(bytes) => Some(bytes.to_vec()),
            };
            pages.insert((block, page_index), bytes);
        }
        Item::MultifdFlush => panic!("a flush"),
        Item::Opaque => opaque.extend_from_slice(raw),
        _ => {}
    })
    .unwrap();
    if !golden.channels.is_empty() {
        assert_eq!(pages, outcome.foreign);
    }
    assert!(pages.len() >= 32, "the firmware alone is 128 KiB");
    assert!(golden.main.ends_with(&opaque) && opaque.len() > 10_000);
    assert_eq!(outcome.output.len() - outcome.bytes_before_devices, opaque.len());
}

#[test]
fn multifd_becomes_batches_and_a_stream_without_them() {
    let golden = multifd();
    for chunk_bytes in [usize::MAX, 777] {
        let outcome = rewrite(&golden, chunk_bytes);
        assert!(outcome.epochs >= 5, "{} epochs", outcome.epochs);
        assert!(outcome.pipeline.skipped > 3000, "zero pages that were never anything else");
        check_memory(&golden, &outcome, &deliver_on_many_lanes(&outcome));
        check_output(&golden, &outcome);
    }
}

#[test]
fn pages_on_the_main_channel_become_batches_as_well() {
    let golden = plain();
    let outcome = rewrite(&golden, 65_536);
    assert_eq!(outcome.epochs, 0);
    // One epoch means one order.
    check_memory(&golden, &outcome, &deliver_on_one_lane(&outcome));
    check_output(&golden, &outcome);
}

#[test]
fn without_shared_blocks_nothing_changes() {
    let stream = plain().main;
    let mut rewriter = MainRewriter::new(limits(), []);
    let (mut output, mut whole) = (Vec::new(), Vec::new());
    let mut rest = &stream[..];
    loop {
        match rewriter.advance(&mut output).unwrap() {
            Progress::NeedInput if rest.is_empty() => break,
            Progress::NeedInput => {
                let space = rewriter.space();
                let count = space.len().min(rest.len());
                space[..count].copy_from_slice(&rest[..count]);
                rewriter.filled(count);
                rest = &rest[count..];
            }
            Progress::Drain => whole.append(&mut output),
            Progress::SharedPage { .. } => panic!("a shared page"),
            _ => {}
        }
    }
    whole.append(&mut output);
    assert!(whole == stream);
}

fn rewrite_until_error(stream: &[u8], shared: &str) -> RewriteError {
    let mut rewriter = MainRewriter::new(limits(), [BlockName::new(shared).unwrap()]);
    let mut output = Vec::new();
    let mut rest = stream;
    loop {
        match rewriter.advance(&mut output) {
            Ok(Progress::NeedInput) if rest.is_empty() => return rewriter.finish().unwrap_err(),
            Ok(Progress::NeedInput) => {
                let space = rewriter.space();
                let count = space.len().min(rest.len());
                space[..count].copy_from_slice(&rest[..count]);
                rewriter.filled(count);
                rest = &rest[count..];
            }
            Ok(Progress::Drain) => output.clear(),
            Ok(_) => {}
            Err(error) => return error,
        }
    }
}

#[test]
fn refuses_what_it_cannot_rewrite() {
    let golden = plain();
    let missing = rewrite_until_error(&golden.main, "pc.rum");
    assert!(matches!(missing, RewriteError::SharedBlockMissing { .. }), "{missing}");

    let truncated = rewrite_until_error(&golden.main[..golden.main.len() / 2], "pc.ram");
    assert!(matches!(truncated, RewriteError::Truncated { .. }), "{truncated}");

    let mut early_device = golden.main[..60].to_vec();
    let start = golden.main.windows(5).position(|bytes| bytes == b"\x03ram\0").unwrap() - 5;
    early_device.truncate(start.min(60));
    early_device.extend_from_slice(b"\x04\0\0\0\x01\x05timer");
    let opaque = rewrite_until_error(&early_device, "pc.ram");
    assert!(matches!(opaque, RewriteError::OpaqueBeforeRamComplete { .. }), "{opaque}");

    let mut postcopy = golden.main[..8].to_vec();
    postcopy.extend_from_slice(&[8, 0, 3, 0, 0]);
    let refused = rewrite_until_error(&postcopy, "pc.ram");
    assert_eq!(refused, RewriteError::Postcopy { offset: 8 });
}

#[test]
fn injects_only_foreign_pages_at_a_flush() {
    let golden = multifd();
    let mut rewriter = MainRewriter::new(limits(), [pc_ram()]);
    let mut output = Vec::new();
    assert_eq!(rewriter.inject(1, 0, Page::Zero, &mut output), Err(RewriteError::NotAtFlush));
    rewriter.space()[..2000].copy_from_slice(&golden.main[..2000]);
    rewriter.filled(2000);
    while !matches!(rewriter.advance(&mut output).unwrap(), Progress::Flush { epoch: 0 }) {}
    let inject = |rewriter: &mut MainRewriter, block, page| {
        rewriter.inject(block, page, Page::Zero, &mut Vec::new())
    };
    assert_eq!(inject(&mut rewriter, 1, 0), Ok(()));
    for (block, page_index) in [(0, 0), (1, 1 << 20), (99, 0)] {
        let refused = Err(RewriteError::NotForeign { block, page_index });
        assert_eq!(inject(&mut rewriter, block, page_index), refused);
    }
}
