//! The fuzz bodies on damaged golden inputs: what CI does without the nightly compiler.

use novacron_protocol::backup::{BackupEncoder, PartKind};
use novacron_protocol::disk::{BLOCK_BYTES, DiskContent, Record, RecordEncoder, RunContent};
use novacron_protocol::effect::{AgentMessage, CoordinatorMessage, StreamResponse};
use novacron_protocol::ids::{Generation, Incarnation};
use novacron_protocol::pages::batch::BATCH_HEADER_BYTES;
use novacron_protocol::pages::{
    BatchEncoder, BatchHeader, Compression, PAGE_BYTES, PageHasher, PageTable,
};
use novacron_protocol::qemu::multifd::{CHANNEL_INIT_BYTES, PACKET_HEADER_BYTES};
use novacron_protocol::sample::{
    MachineSamples, Sample, SampleAnswer, SampleMessage, Tick, TickPart,
};
use novacron_protocol::session::main_stream::MainFrame;
use novacron_protocol::session::message::{
    Digests, MemoryDigest, Sent, SourceMessage, StreamHeader, TargetMessage,
};
use novacron_protocol::session::tunnel::TunnelEncoder;
use novacron_protocol::usage::{Meter, RecordOutcome, Seconds, UsageRecord};
use novacron_protocol::vm::InvalidField;
use novacron_protocol::wire::codec;

use super::bodies::{self, Random};
use super::golden_files::{multifd, plain};

/// Runs `body` on the seed input and on `count` damaged copies; a failure prints the copy's number.
fn damage(name: &str, seed_input: &[u8], count: u64, body: fn(&[u8])) {
    body(seed_input);
    for number in 0..count {
        let mut random = Random::new(number);
        let mut input = seed_input.to_vec();
        for _ in 0..=random.below(8) {
            damage_once(&mut random, &mut input);
        }
        let outcome = std::panic::catch_unwind(|| body(&input));
        assert!(outcome.is_ok(), "{name}: damaged copy {number} fails");
    }
}

fn damage_once(random: &mut Random, input: &mut Vec<u8>) {
    let at = random.below(input.len() as u64 + 1) as usize;
    let value = random.below(256) as u8;
    match random.below(5) {
        0 => input.truncate(at),
        1 => input.insert(at, value),
        2 if at < input.len() => drop(input.remove(at)),
        3 if at < input.len() => input[at] ^= 1 << random.below(8),
        _ if at < input.len() => input[at] = value,
        _ => input.push(value),
    }
}

#[test]
fn main_stream() {
    let multifd = multifd().main;
    damage("start of the multifd main stream", &multifd[..1500], 3000, bodies::main_stream);
    damage("multifd main stream", &multifd, 100, bodies::main_stream);
    let plain = plain().main;
    damage("start of the plain main stream", &plain[..20_000], 300, bodies::main_stream);
}

#[test]
fn multifd_header() {
    let channel = &multifd().channels[0];
    damage("greeting", &channel[..CHANNEL_INIT_BYTES], 1000, bodies::multifd);
    let header = &channel[CHANNEL_INIT_BYTES..CHANNEL_INIT_BYTES + PACKET_HEADER_BYTES];
    damage("packet header", header, 3000, bodies::multifd);
}

#[test]
fn return_path() {
    damage("return path", &multifd().return_path, 3000, bodies::return_path);
}

#[test]
fn page_batch() {
    let (words, mut noise) = ([3; PAGE_BYTES], [0; PAGE_BYTES]);
    Random::new(1).fill(&mut noise);
    let mut base = noise;
    base[1000] ^= 0xff;
    for compression in [Compression::Off, Compression::Zstd { level: 1 }] {
        let header = BatchHeader { block: 0, epoch: 1, sequence: 2, keep_from: None };
        let mut encoder = BatchEncoder::new(compression).unwrap();
        let mut content = encoder.begin(header);
        for index in [0, 1, 2, 60, 50, 9] {
            assert!(content.push_whole(index, &words) && content.push_zero(index + 100));
            assert!(content.push_known(index + 200, u64::from(index)));
            assert!(content.push_differing(index + 300, 0, &base, &noise));
        }
        assert!(content.push_whole(500, &noise));
        let mut batch = Vec::new();
        encoder.encode(content, &mut batch).unwrap();
        damage("page batch", &batch, 1500, bodies::page_batch);
        // Most of the damage above hits the pages; the header and the lists deserve as much.
        let head_bytes = BATCH_HEADER_BYTES + 80;
        for number in 0..3000 {
            let mut random = Random::new(number);
            let mut input = batch.clone();
            for _ in 0..=random.below(2) {
                input[random.below(head_bytes as u64) as usize] = random.below(256) as u8;
            }
            let outcome = std::panic::catch_unwind(|| bodies::page_batch(&input));
            assert!(outcome.is_ok(), "page batch: damaged head {number} fails");
        }
    }
}

#[test]
fn messages() {
    let memory = vec![MemoryDigest { block: "pc.ram".into(), pages: 9, regions: vec![[7; 16]; 3] }];
    let digests = Digests { memory, disks: vec![[5; 16]] };
    let welcome = CoordinatorMessage::Welcome {
        incarnation: Incarnation(1),
        cluster: "0190a5b2-7f4e-7000-8000-000000000001".parse().unwrap(),
        minor: 0,
        coordinators: vec!["10.0.0.1:7400".into(), "10.0.0.2:7400".into()],
    };
    let seeds = [
        codec::encode(&welcome).unwrap(),
        codec::encode(&AgentMessage::Reports { first_sequence: 1, reports: vec![] }).unwrap(),
        codec::encode(&usage()).unwrap(),
        codec::encode(&usage_answer()).unwrap(),
        codec::encode(&SampleMessage::Part(part())).unwrap(),
        codec::encode(&SampleAnswer::From { behind: Tick(7) }).unwrap(),
        codec::encode(&StreamResponse::Refused { reason: "no such machine".into() }).unwrap(),
        codec::encode(&SourceMessage::Sent(Sent { digests: digests.clone() })).unwrap(),
        codec::encode(&TargetMessage::Ready { digests, load_us: 3 }).unwrap(),
        codec::encode(&StreamHeader::File { hash: [9; 32] }).unwrap(),
    ];
    for seed in seeds {
        damage("message", &seed, 800, bodies::messages);
    }
}

fn part() -> TickPart {
    let values = vec![Sample { metric: 11, device: 1, value: 4_096 }; 2];
    let vm = "0190a5b2-7f4e-7000-8000-000000000002".parse().unwrap();
    let machines = vec![MachineSamples { vm, values: values.clone() }];
    TickPart { tick: Tick(180_000_000), machines, host: Some(values) }
}

fn usage() -> AgentMessage {
    let record = UsageRecord {
        vm: "0190a5b2-7f4e-7000-8000-000000000002".parse().unwrap(),
        generation: Generation(2),
        meter: Meter::DiskByteSeconds,
        start_s: 1_767_225_600,
        end_s: 1_767_225_900,
        level: 10 << 30,
    };
    AgentMessage::Usage { sequence: 7, records: vec![record; 3] }
}

fn usage_answer() -> CoordinatorMessage {
    let field = |field: &str| InvalidField { field: field.into(), problem: "no".into() };
    let outcomes = vec![
        RecordOutcome::Created { window_s: 3600 },
        RecordOutcome::Conflict { covered: vec![Seconds { start_s: 1, end_s: 2 }; 2] },
        RecordOutcome::Invalid { problems: vec![field("meter"), field("level")] },
        RecordOutcome::UnknownVm,
    ];
    CoordinatorMessage::UsageCommitted { sequence: 7, outcomes }
}

#[test]
fn frames_between_agents() {
    let barrier = MainFrame::Barrier { lane_batches: vec![1, 2, 300] }.encode();
    damage("main frame", &barrier, 1000, bodies::main_frame);
    let tunnelled = TunnelEncoder::new().unwrap().encode(&[3; 5000]).unwrap();
    damage("tunnel frame", &tunnelled, 1000, bodies::tunnel_frame);
}

#[test]
fn disk_record() {
    let mut data = vec![0; 2 * BLOCK_BYTES];
    Random::new(1).fill(&mut data[..BLOCK_BYTES]);
    let offset = 3 * BLOCK_BYTES as u64;
    for content in [RunContent::Data(&data), RunContent::Zero(2 * BLOCK_BYTES as u32)] {
        for compression in [Compression::Off, Compression::Zstd { level: 1 }] {
            let mut record = Vec::new();
            let mut encoder = RecordEncoder::new(compression).unwrap();
            encoder.encode(&Record { offset, content }, &mut record).unwrap();
            damage("disk record", &record, 300, bodies::disk_record);
            // Most of the damage above hits the payload; the header deserves as much.
            let mut random = Random::new(7);
            for _ in 0..1000 {
                let mut input = record.clone();
                input[random.below(16) as usize] = random.below(256) as u8;
                bodies::disk_record(&input);
            }
        }
    }
}

#[test]
fn page_beginning() {
    let (mut table, hasher) = (PageTable::new(64), PageHasher::new(1));
    for page in [0, 1, 2, 9, 40, 41, 63] {
        let hash = hasher.hash_bytes(&[page + 1; PAGE_BYTES]);
        table.begin_page(page.into(), hash).unwrap();
    }
    for piece in table.pieces() {
        damage("page beginning", &piece, 3000, bodies::page_beginning);
    }
}

#[test]
fn disk_beginning() {
    let mut disk = DiskContent::new(64 * BLOCK_BYTES as u64, 1).unwrap();
    for block in [0, 1, 2, 9, 40, 41, 63] {
        let content = RunContent::Data(&[block; BLOCK_BYTES]);
        let offset = u64::from(block) * BLOCK_BYTES as u64;
        let held = if block == 0 { RunContent::Data(&[99; BLOCK_BYTES]) } else { content };
        disk.apply(&Record { offset, content: held }).unwrap();
    }
    for piece in disk.pieces() {
        damage("disk beginning", &piece, 3000, bodies::disk_beginning);
    }
}

#[test]
fn backup() {
    let (mut encoder, mut bytes) = BackupEncoder::begin();
    for (kind, content) in [(PartKind::Head, "{}"), (PartKind::State, "rows")] {
        bytes.extend(encoder.part(kind, "", content.len() as u64));
        encoder.content(content.as_bytes());
        bytes.extend(content.as_bytes());
    }
    bytes.extend(encoder.end());
    damage("backup", &bytes, 3000, bodies::backup);
}
