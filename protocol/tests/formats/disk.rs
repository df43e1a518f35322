//! Disk records against themselves, and both ends of a disk against a model.

use novacron_protocol::disk::record::{
    DATA_RECORD_BYTES_MAX, RECORD_BYTES_MAX, RECORD_HEADER_BYTES, ZERO_RECORD_BYTES_MAX,
};
use novacron_protocol::disk::{
    BLOCK_BYTES, DiskContent, Record, RecordDecoder, RecordEncoder, RecordError, RunContent,
};
use novacron_protocol::pages::Compression;
use proptest::prelude::*;

use super::bodies::Random;

const DISK_BLOCKS: usize = 40;
const DISK_BYTES: usize = DISK_BLOCKS * BLOCK_BYTES;

/// A block's content by a recipe.
#[derive(Debug, Clone, Copy)]
enum Block {
    Zero,
    Filled(u8),
    Noise(u64),
}

impl Block {
    fn put(self, block: &mut [u8]) {
        match self {
            Self::Zero => block.fill(0),
            Self::Filled(byte) => block.fill(byte),
            Self::Noise(seed) => Random::new(seed).fill(block),
        }
    }
}

fn content_of(blocks: &[Block]) -> Vec<u8> {
    let mut data = vec![0; blocks.len() * BLOCK_BYTES];
    for (block, bytes) in blocks.iter().zip(data.chunks_mut(BLOCK_BYTES)) {
        block.put(bytes);
    }
    data
}

/// What a mirror does.
#[derive(Debug, Clone)]
enum Request {
    Write(usize, Vec<Block>),
    Zero(usize, usize),
}

impl Request {
    /// Where it begins, and its bytes.
    fn extent(&self) -> (usize, usize) {
        let (first, count) = match self {
            Self::Write(first, blocks) => (first, blocks.len()),
            Self::Zero(first, count) => (first, *count),
        };
        (first * BLOCK_BYTES, count * BLOCK_BYTES)
    }

    fn perform(&self, disk: &mut [u8]) {
        let (at, length) = self.extent();
        match self {
            Self::Write(_, blocks) => disk[at..at + length].copy_from_slice(&content_of(blocks)),
            Self::Zero(..) => disk[at..at + length].fill(0),
        }
    }
}

fn blocks(count_max: usize) -> impl Strategy<Value = Vec<Block>> {
    // Few contents, so that a block is often written again as it was.
    let block = prop_oneof![
        Just(Block::Zero),
        (0_u8..3).prop_map(Block::Filled),
        (0_u64..3).prop_map(Block::Noise),
    ];
    prop::collection::vec(block, 1..=count_max)
}

fn request() -> impl Strategy<Value = Request> {
    prop_oneof![
        3 => (0..DISK_BLOCKS - 20, blocks(20)).prop_map(|(first, blocks)| Request::Write(first, blocks)),
        1 => (0..DISK_BLOCKS, 1..DISK_BLOCKS)
            .prop_map(|(first, count)| Request::Zero(first, count.min(DISK_BLOCKS - first))),
    ]
}

fn compression() -> impl Strategy<Value = Compression> {
    prop_oneof![Just(Compression::Off), (-5_i32..4).prop_map(|level| Compression::Zstd { level })]
}

/// The target: a disk, and what is known of it.
struct Target {
    decoder: RecordDecoder,
    content: DiskContent,
    disk: Vec<u8>,
}

impl Target {
    fn new() -> Self {
        let content = DiskContent::new(DISK_BYTES as u64, 5).unwrap();
        Self { decoder: RecordDecoder::new().unwrap(), content, disk: vec![0; DISK_BYTES] }
    }

    fn receive(&mut self, bytes: &[u8]) {
        let record = self.decoder.decode(bytes, DISK_BYTES as u64).unwrap();
        self.content.apply(&record).unwrap();
        let at = record.offset as usize;
        match record.content {
            RunContent::Zero(bytes) => self.disk[at..at + bytes as usize].fill(0),
            RunContent::Data(data) => self.disk[at..at + data.len()].copy_from_slice(data),
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(30))]

    #[test]
    fn what_was_encoded_is_decoded(
        compression in compression(),
        first in 0_u64..1 << 30,
        blocks in blocks(16),
        zero_blocks in 1..=ZERO_RECORD_BYTES_MAX / BLOCK_BYTES as u32,
    ) {
        let data = content_of(&blocks);
        let mut encoder = RecordEncoder::new(compression).unwrap();
        let mut decoder = RecordDecoder::new().unwrap();
        let zero = RunContent::Zero(zero_blocks * BLOCK_BYTES as u32);
        for content in [RunContent::Data(&data), zero] {
            let record = Record { offset: first * BLOCK_BYTES as u64, content };
            let mut bytes = Vec::new();
            encoder.encode(&record, &mut bytes).unwrap();
            prop_assert!(bytes.len() <= RECORD_BYTES_MAX);
            prop_assert!(decoder.decode(&bytes, u64::MAX).unwrap() == record);
            let end = record.offset + record.disk_bytes();
            prop_assert!(decoder.decode(&bytes, end).is_ok());
            let refusal = decoder.decode(&bytes, end - 1);
            let is_outside = matches!(refusal, Err(RecordError::OutsideDisk { .. }));
            prop_assert!(is_outside);
        }
    }

    #[test]
    fn both_ends_agree_after_any_sequence(
        compression in compression(),
        requests in prop::collection::vec(request(), 0..20),
    ) {
        let mut encoder = RecordEncoder::new(compression).unwrap();
        let mut source = DiskContent::new(DISK_BYTES as u64, 5).unwrap();
        let (mut target, mut model) = (Target::new(), vec![0; DISK_BYTES]);
        for request in requests {
            let (first, data) = match &request {
                Request::Write(first, blocks) => (*first, content_of(blocks)),
                Request::Zero(first, count) => (*first, vec![0; count * BLOCK_BYTES]),
            };
            let at = first * BLOCK_BYTES;
            model[at..at + data.len()].copy_from_slice(&data);
            let records = match &request {
                Request::Write(..) => source.write(at as u64, &data),
                Request::Zero(..) => source.zero(at as u64, data.len() as u64),
            };
            for record in records.unwrap() {
                let mut bytes = Vec::new();
                encoder.encode(&record, &mut bytes).unwrap();
                target.receive(&bytes);
            }
            prop_assert_eq!(source.digest(), target.content.digest());
        }
        prop_assert!(target.disk == model);
    }

    /// As above, for a target that holds something, and a mirror that zeroes first and copies then.
    #[test]
    fn a_disk_that_begins_with_anything_ends_as_the_source(
        held in prop::collection::vec(request(), 0..6),
        disk in prop::collection::vec(request(), 0..6),
        zeroes_first in any::<bool>(),
        later in prop::collection::vec(request(), 0..10),
    ) {
        let mut encoder = RecordEncoder::new(Compression::Off).unwrap();
        let mut source = DiskContent::new(DISK_BYTES as u64, 5).unwrap();
        let (mut target, mut model) = (Target::new(), vec![0; DISK_BYTES]);
        held.iter().for_each(|request| request.perform(&mut target.disk));
        let held = Record { offset: 0, content: RunContent::Data(&target.disk) };
        target.content.apply(&held).unwrap();
        target.content.pieces().for_each(|piece| source.begin_with(&piece).unwrap());
        disk.iter().for_each(|request| request.perform(&mut model));

        let mut send = |records: Vec<Record<'_>>, target: &mut Target| {
            for record in records {
                let mut bytes = Vec::new();
                encoder.encode(&record, &mut bytes).unwrap();
                target.receive(&bytes);
            }
        };
        if zeroes_first {
            send(source.zero(0, DISK_BYTES as u64).unwrap(), &mut target);
        }
        for (at, block) in model.chunks(BLOCK_BYTES).enumerate() {
            let is_allocated = block.iter().any(|byte| *byte != 0);
            if is_allocated {
                send(source.write((at * BLOCK_BYTES) as u64, block).unwrap(), &mut target);
            }
        }
        send(source.settle(), &mut target);
        prop_assert!(target.disk == model);
        for request in later {
            request.perform(&mut model);
            let (at, length) = request.extent();
            let records = match &request {
                Request::Write(..) => source.write(at as u64, &model[at..at + length]),
                Request::Zero(..) => source.zero(at as u64, length as u64),
            };
            send(records.unwrap(), &mut target);
        }
        prop_assert!(target.disk == model);
        prop_assert_eq!(source.digest(), target.content.digest());
    }

    #[test]
    fn hostile_bytes_give_a_record_or_a_refusal(
        kind in 0_u8..4,
        length in any::<u32>(),
        offset in any::<u64>(),
        aligned in any::<bool>(),
        payload in prop::collection::vec(any::<u8>(), 0..64),
    ) {
        let mask = if aligned { !(BLOCK_BYTES as u64 - 1) } else { u64::MAX };
        let mut bytes = vec![1, kind, 0, 0];
        bytes.extend_from_slice(&(length & mask as u32).to_le_bytes());
        bytes.extend_from_slice(&(offset & mask).to_le_bytes());
        bytes.extend_from_slice(&payload);
        let mut decoder = RecordDecoder::new().unwrap();
        if let Ok(record) = decoder.decode(&bytes, 1 << 50) {
            prop_assert!(record.check().is_ok());
            prop_assert!(record.offset + record.disk_bytes() <= 1 << 50);
        }
        for cut in 0..RECORD_HEADER_BYTES {
            prop_assert_eq!(
                decoder.decode(&bytes[..cut], 1 << 50),
                Err(RecordError::Length { bytes: cut })
            );
        }
    }
}

#[test]
fn a_frame_that_unpacks_to_more_or_less_than_it_says_is_refused() {
    let data = vec![7; 2 * BLOCK_BYTES];
    let mut encoder = RecordEncoder::new(Compression::Zstd { level: 1 }).unwrap();
    let mut decoder = RecordDecoder::new().unwrap();
    let mut bytes = Vec::new();
    let content = RunContent::Data(&data);
    encoder.encode(&Record { offset: 0, content }, &mut bytes).unwrap();
    assert!(bytes.len() < 1000, "two equal blocks are {} bytes", bytes.len());
    for blocks in [1, 3] {
        let claimed = blocks * BLOCK_BYTES;
        bytes[4..8].copy_from_slice(&(claimed as u32).to_le_bytes());
        let refusal = RecordError::Payload { expected_bytes: claimed };
        assert_eq!(decoder.decode(&bytes, DISK_BYTES as u64), Err(refusal));
    }
}

#[test]
fn noise_goes_raw_and_no_longer_than_allowed() {
    let mut data = vec![0; DATA_RECORD_BYTES_MAX + BLOCK_BYTES];
    Random::new(3).fill(&mut data);
    let mut encoder = RecordEncoder::new(Compression::Zstd { level: 1 }).unwrap();
    let mut bytes = Vec::new();
    let longest = RunContent::Data(&data[..DATA_RECORD_BYTES_MAX]);
    encoder.encode(&Record { offset: 0, content: longest }, &mut bytes).unwrap();
    assert_eq!(bytes.len(), RECORD_BYTES_MAX);
    let content = RunContent::Data(&data);
    assert!(encoder.encode(&Record { offset: 0, content }, &mut bytes).is_err());
}

#[test]
fn golden_bytes() {
    let (mut zero, mut raw) = (Vec::new(), Vec::new());
    let mut encoder = RecordEncoder::new(Compression::Off).unwrap();
    let offset = 5 * BLOCK_BYTES as u64;
    let content = RunContent::Zero(3 * BLOCK_BYTES as u32);
    encoder.encode(&Record { offset, content }, &mut zero).unwrap();
    assert_eq!(zero, [1, 0, 0, 0, 0, 0, 3, 0, 0, 0, 5, 0, 0, 0, 0, 0]);
    let content = RunContent::Data(&[9; BLOCK_BYTES]);
    encoder.encode(&Record { offset, content }, &mut raw).unwrap();
    assert_eq!(raw[..16], [1, 1, 0, 0, 0, 0, 1, 0, 0, 0, 5, 0, 0, 0, 0, 0]);
    assert_eq!(raw[16..], [9; BLOCK_BYTES]);
}
