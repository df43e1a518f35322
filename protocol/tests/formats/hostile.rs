//! Input that is wrong in a particular way: a typed error, no panic, no memory.

use super::bodies::Random;
use novacron_protocol::pages::batch::{BATCH_HEADER_BYTES, BatchError};
use novacron_protocol::pages::{BatchDecoder, BatchEncoder, BatchHeader, Compression, PAGE_BYTES};
use novacron_protocol::qemu::item::ITEM_BYTES_MAX;
use novacron_protocol::qemu::multifd::{
    CHANNEL_INIT_BYTES, MultifdError, PACKET_HEADER_BYTES, PacketHeader,
};
use novacron_protocol::qemu::return_path::ReturnPathParser;
use novacron_protocol::qemu::{MainParser, StreamErrorKind, StreamLimits};

use super::golden_files::{multifd, plain};
use super::stream::limits;

/// Parses all of it and returns the error's offset and kind.
fn stream_error(stream: &[u8], limits: StreamLimits) -> (u64, StreamErrorKind) {
    let mut parser = MainParser::new(limits);
    let mut rest = stream;
    loop {
        match parser.next(rest) {
            Ok(Some(parsed)) => rest = &rest[parsed.raw.len()..],
            Ok(None) => panic!("no error; {} bytes are left", rest.len()),
            Err(error) => {
                assert_eq!(error.offset, (stream.len() - rest.len()) as u64);
                return (error.offset, error.kind);
            }
        }
    }
}

/// Offset of the word that begins the block list, in both golden streams.
fn ram_total_at(stream: &[u8]) -> usize {
    let section = b"\x03ram\0\0\0\0\0\0\0\x04";
    stream.windows(section.len()).position(|bytes| bytes == section).unwrap() + section.len()
}

#[test]
fn headers() {
    let stream = plain().main;
    let mut magic = stream.clone();
    magic[0] = b'q';
    assert_eq!(stream_error(&magic, limits()), (0, StreamErrorKind::Magic { magic: 0x7145_564d }));
    let mut version = stream.clone();
    version[7] = 4;
    assert_eq!(stream_error(&version, limits()).1, StreamErrorKind::Version { version: 4 });
    let mut machine = stream;
    machine[9] = 1;
    assert_eq!(stream_error(&machine, limits()), (8, StreamErrorKind::Configuration));
}

#[test]
fn too_much_memory_is_refused_before_any_is_used() {
    let stream = plain().main;
    let small = StreamLimits { ram_bytes_max: 16 << 20, blocks_max: 256 };
    let at = ram_total_at(&stream) as u64;
    let refused = StreamErrorKind::TooMuchRam { what: "bytes in total" };
    assert_eq!(stream_error(&stream, small), (at, refused));
    let few = StreamLimits { ram_bytes_max: 1 << 30, blocks_max: 2 };
    let refused = StreamErrorKind::TooMuchRam { what: "number of blocks" };
    assert_eq!(stream_error(&stream, few).1, refused);
}

/// A RAM section whose records are these, after a block list of one block `a` of two pages.
fn records(records: &[&[u8]]) -> Vec<u8> {
    let stream = plain().main;
    let mut bytes = stream[..ram_total_at(&stream)].to_vec();
    bytes.extend_from_slice(&0x2004_u64.to_be_bytes());
    bytes.extend_from_slice(b"\x01a");
    bytes.extend_from_slice(&0x2000_u64.to_be_bytes());
    for record in records {
        bytes.extend_from_slice(record);
    }
    bytes
}

#[test]
fn records_that_qemu_does_not_write() {
    let zero = |at: u64| [&(at | 2).to_be_bytes()[..], b"\x01a\0"].concat();
    let kind = |record: &[u8]| stream_error(&records(&[record]), limits()).1;
    assert_eq!(kind(&0x22_u64.to_be_bytes()), StreamErrorKind::UnknownBlock);
    assert_eq!(kind(&[0, 0, 0, 0, 0, 0, 0, 2, 1, b'b']), StreamErrorKind::UnknownBlock);
    assert_eq!(kind(&[0, 0, 0, 0, 0, 0, 0, 2, 0]), StreamErrorKind::BlockName);
    assert_eq!(kind(&[0, 0, 0, 0, 0, 0, 0, 2, 1, b'a', 9]), StreamErrorKind::ZeroFill { fill: 9 });
    assert!(matches!(kind(&zero(0x2000)), StreamErrorKind::PageOutsideBlock { .. }));
    assert!(matches!(kind(&zero(!0xfff)), StreamErrorKind::PageOutsideBlock { .. }));
    assert_eq!(kind(&0x2004_u64.to_be_bytes()), StreamErrorKind::BlockList);
    for word in [0_u64, 0x1, 0xa, 0x40, 0x80, 0x100, 0x220, 0x1010, 0x1200, 0x400] {
        assert_eq!(kind(&word.to_be_bytes()), StreamErrorKind::RamRecord { word });
    }
    let end = &0x10_u64.to_be_bytes()[..];
    let found = |record: &[u8]| stream_error(&records(&[end, record]), limits()).1;
    assert_eq!(found(&[8]), StreamErrorKind::FooterMissing { found: 8 });
    let wrong = [0x7e, 0, 0, 0, 99];
    assert_eq!(found(&wrong), StreamErrorKind::SectionOrder { section: 99 });
}

#[test]
fn block_lists_that_do_not_add_up() {
    let stream = plain().main;
    let list = |bytes: &[u8]| {
        let stream = [&stream[..ram_total_at(&stream)], bytes].concat();
        stream_error(&stream, limits()).1
    };
    let block =
        |name: &[u8], length: u64| [&[name.len() as u8][..], name, &length.to_be_bytes()].concat();
    let total = |bytes: u64| (bytes | 4).to_be_bytes().to_vec();
    assert_eq!(list(&[total(0x1000), block(b"a", 0x2000)].concat()), StreamErrorKind::BlockList);
    assert_eq!(list(&[total(0x1000), block(b"a", 0)].concat()), StreamErrorKind::BlockList);
    assert_eq!(list(&[total(0x1000), block(b"a", 0x800)].concat()), StreamErrorKind::BlockList);
    let twice = [total(0x2000), block(b"a", 0x1000), block(b"a", 0x1000)].concat();
    assert_eq!(list(&twice), StreamErrorKind::BlockList);
    assert_eq!(list(&[total(0x1000), block(b"\xff", 0x1000)].concat()), StreamErrorKind::BlockName);
    assert_eq!(list(&total(0)), StreamErrorKind::BlockList);
}

#[test]
fn the_parser_never_waits_for_more_than_an_item() {
    for golden in [multifd().main, plain().main] {
        let mut parser = MainParser::new(limits());
        let mut rest = &golden[..];
        while !rest.is_empty() {
            let window = &rest[..rest.len().min(ITEM_BYTES_MAX)];
            let parsed = parser.next(window).unwrap().expect("a whole item is in the window");
            rest = &rest[parsed.raw.len()..];
        }
    }
}

fn packet(change: impl FnOnce(&mut [u8; PACKET_HEADER_BYTES])) -> MultifdError {
    let mut bytes: [u8; PACKET_HEADER_BYTES] =
        *multifd().channels[0][CHANNEL_INIT_BYTES..].first_chunk().unwrap();
    change(&mut bytes);
    PacketHeader::parse(&bytes).unwrap_err()
}

#[test]
fn packets_that_lie() {
    // Whatever the first packet is, give it one normal page of block `a`.
    let valid = |bytes: &mut [u8; PACKET_HEADER_BYTES]| {
        bytes[8..].fill(0);
        bytes[12..16].copy_from_slice(&128_u32.to_be_bytes());
        bytes[16..20].copy_from_slice(&1_u32.to_be_bytes());
        bytes[20..24].copy_from_slice(&4096_u32.to_be_bytes());
        bytes[64] = b'a';
    };
    let refused = |at: usize, value: u32| {
        packet(|bytes| {
            valid(bytes);
            bytes[at..at + 4].copy_from_slice(&value.to_be_bytes());
        })
    };
    assert!(matches!(refused(0, 1), MultifdError::Magic { magic: 1 }));
    assert!(matches!(refused(4, 2), MultifdError::Version { version: 2 }));
    for flags in [2, 4, 8, 16, 32, 64, 128, 1 << 31, 3] {
        assert_eq!(refused(8, flags), MultifdError::Flags { flags });
    }
    assert!(matches!(refused(12, 129), MultifdError::PageCount { .. }));
    assert!(matches!(refused(12, 0), MultifdError::PageCount { .. }));
    assert!(matches!(refused(16, u32::MAX), MultifdError::PageCount { .. }));
    assert!(matches!(refused(32, u32::MAX), MultifdError::PageCount { .. }));
    assert!(matches!(refused(32, 128), MultifdError::PageCount { .. }));
    assert!(matches!(refused(20, 4095), MultifdError::PayloadLength { .. }));
    assert!(matches!(refused(16, 2), MultifdError::PayloadLength { .. }));
    assert_eq!(refused(64, 0), MultifdError::BlockName);
    assert_eq!(refused(324, 1), MultifdError::Offset { offset: 1 });
    assert!(matches!(refused(320, 0x0001_0000), MultifdError::Offset { .. }));
    let unterminated = packet(|bytes| {
        valid(bytes);
        bytes[64..320].fill(b'a');
    });
    assert_eq!(unterminated, MultifdError::BlockName);
}

#[test]
fn return_path_messages_of_postcopy_are_refused() {
    for (kind, length) in [(0, 0), (1, 3), (2, 5), (3, 13), (4, 12), (5, 8), (6, 4), (7, 1), (8, 0)]
    {
        let mut bytes = vec![0, 2, 0, 4, 0, 0, 0, 9, 0, kind, 0, length];
        bytes.resize(600, 0);
        let mut chunk = &bytes[..];
        let mut parser = ReturnPathParser::new();
        assert!(parser.next(&mut chunk).unwrap().is_some());
        let error = parser.next(&mut chunk).unwrap_err();
        assert_eq!((error.offset, error.kind), (8, u16::from(kind)));
        assert!(parser.next(&mut chunk).is_err(), "an error stays");
    }
}

/// A valid batch: two zero pages, one known, one that differs in two bytes, three that compress, one that does not.
fn batch() -> Vec<u8> {
    let (words, mut noise) = ([5; PAGE_BYTES], [0; PAGE_BYTES]);
    Random::new(7).fill(&mut noise);
    let mut base = noise;
    base[100] ^= 1;
    base[4000] ^= 1;
    let header = BatchHeader { block: 1, epoch: 2, sequence: 3, keep_from: Some(5) };
    let mut encoder = BatchEncoder::new(Compression::Zstd { level: 1 }).unwrap();
    let mut batch = encoder.begin(header);
    assert!(batch.push_zero(3) && batch.push_zero(9) && batch.push_known(2, 77));
    assert!(batch.push_differing(4, 1, &base, &noise));
    assert!([0, 1, 7].into_iter().all(|index| batch.push_whole(index, &words)));
    assert!(batch.push_whole(8, &noise));
    let mut bytes = Vec::new();
    encoder.encode(batch, &mut bytes).unwrap();
    bytes
}

/// Bytes of its patch (two runs of one byte) and of its packed pages.
const BODY_BYTES: usize = 3 + 4 + 3 * PAGE_BYTES;

fn decode_error(bytes: &[u8]) -> BatchError {
    let mut decoder = BatchDecoder::new().unwrap();
    decoder.decode(bytes, |block| (block == 1).then_some(10)).map(|batch| batch.header).unwrap_err()
}

#[test]
fn batches_that_are_cut_or_too_long() {
    let bytes = batch();
    for length in 0..bytes.len() {
        assert!(matches!(decode_error(&bytes[..length]), BatchError::Length { .. }));
    }
    let longer = [&bytes[..], b"x"].concat();
    assert!(matches!(decode_error(&longer), BatchError::Length { .. }));
}

#[test]
fn batches_that_lie() {
    let changed = |at: usize, value: u8| {
        let mut bytes = batch();
        assert_ne!(bytes[at], value);
        bytes[at] = value;
        decode_error(&bytes)
    };
    assert_eq!(changed(0, 1), BatchError::Version { version: 1 });
    assert_eq!(changed(1, 2), BatchError::BodyKind { kind: 2 });
    assert_eq!(changed(2, 0), BatchError::UnknownBlock { block: 0 });
    assert_eq!(changed(16, 126), BatchError::PageCount { pages: 132 });
    assert_eq!(changed(16, 3), BatchError::IndexList);
    assert_eq!(changed(17, 2), BatchError::IndexList);
    assert!(matches!(changed(20, 2), BatchError::Length { .. }));
    assert_eq!(changed(23, 1), BatchError::Reserved);
    assert!(matches!(changed(32, 200), BatchError::Length { .. }));
    assert!(matches!(changed(39, 255), BatchError::Length { .. }));
    // Page 3 becomes page 10 of 10.
    let outside = BatchError::PageOutsideBlock { block: 1, page_index: 10, block_pages: 10 };
    assert_eq!(changed(BATCH_HEADER_BYTES, 20), outside);
    // Page 9 becomes page 3 a second time: the distance of the second zero page.
    assert_eq!(changed(BATCH_HEADER_BYTES + 2, 1), BatchError::PageTwice { page_index: 3 });
    // Four pages are kept: the numbers run out with the third.
    let mut numbers = batch();
    numbers[24..32].copy_from_slice(&(u64::MAX - 2).to_le_bytes());
    assert_eq!(decode_error(&numbers), BatchError::KeepNumbers);
    // A zstd frame is no plain body.
    assert_eq!(changed(1, 0), BatchError::Body { expected_bytes: BODY_BYTES });
}

#[test]
fn patches_that_lie() {
    let lists_end = |bytes: &[u8]| {
        let lists = u32::from_le_bytes(*bytes[32..36].first_chunk().unwrap()) as usize;
        BATCH_HEADER_BYTES + lists
    };
    let changed = |back: usize, value: u8| {
        let mut bytes = batch();
        let at = lists_end(&bytes) - back;
        assert_ne!(bytes[at], value);
        bytes[at] = value;
        decode_error(&bytes)
    };
    // The last two bytes of the lists: epochs back to the base, bytes of the patch.
    assert_eq!(changed(2, 3), BatchError::IndexList, "before the first epoch");
    assert_eq!(changed(1, 6), BatchError::Body { expected_bytes: BODY_BYTES - 1 });
}

#[test]
fn a_decompression_bomb_is_no_body() {
    let bytes = batch();
    let body_bytes = u32::from_le_bytes(*bytes[36..40].first_chunk().unwrap()) as usize;
    let (head, raw) = bytes.split_at(bytes.len() - PAGE_BYTES);
    let head = &head[..head.len() - body_bytes];
    for bomb_bytes in [0, PAGE_BYTES, BODY_BYTES + 1, 1 << 26] {
        let bomb = zstd::bulk::compress(&vec![0; bomb_bytes], 1).unwrap();
        let mut bytes = [head, &bomb, raw].concat();
        bytes[36..40].copy_from_slice(&(bomb.len() as u32).to_le_bytes());
        assert_eq!(decode_error(&bytes), BatchError::Body { expected_bytes: BODY_BYTES });
    }
}
