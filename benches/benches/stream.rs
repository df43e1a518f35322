//! Understanding QEMU's stream, in GB of it per second and core. `memcpy` of the same stream is beside it; a parser
//! that only borrows pages may be faster, since it does not touch their bytes.

use std::hint::black_box;
use std::time::Duration;

use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use novacron_benches::corpus;
use novacron_protocol::pages::{PAGE_BYTES, Page};
use novacron_protocol::qemu::block::{BlockName, StreamLimits};
use novacron_protocol::qemu::item::Item;
use novacron_protocol::qemu::multifd::{
    PACKET_HEADER_BYTES, PACKET_PAGES_MAX, PacketHeader, PacketPlan,
};
use novacron_protocol::qemu::parser::MainParser;
use novacron_protocol::qemu::writer::MainWriter;

const PAGES: u32 = 8192;
const RAM_SECTION: u32 = 2;

fn name() -> BlockName {
    BlockName::new("pc.ram").expect("a name")
}

/// The main channel of a plain migration: every page in one section.
fn main_channel() -> Vec<u8> {
    let memory = corpus::pages(PAGES as usize);
    let length_bytes = memory.len() as u64;
    let (mut writer, mut stream) = (MainWriter::new(), Vec::new());
    writer.header(&mut stream);
    writer.configuration("pc-q35-10.0", &mut stream);
    writer.ram_start(RAM_SECTION, &mut stream);
    writer.ram_total(length_bytes, &mut stream);
    writer.ram_block(&name(), length_bytes, &mut stream);
    writer.ram_end_of_section(&mut stream);
    writer.footer(RAM_SECTION, &mut stream);
    writer.ram_part(RAM_SECTION, &mut stream);
    for (index, bytes) in (0..).zip(memory.as_chunks::<PAGE_BYTES>().0) {
        writer.page(0, &name(), index, Page::Data(bytes), &mut stream);
    }
    writer.ram_end_of_section(&mut stream);
    writer.footer(RAM_SECTION, &mut stream);
    stream
}

/// A multifd channel: full packets, one after another.
fn multifd_channel() -> Vec<u8> {
    let memory = corpus::pages(PAGES as usize);
    let block = name();
    let mut stream = Vec::new();
    for (number, payload) in (0..).zip(memory.chunks(PACKET_PAGES_MAX * PAGE_BYTES)) {
        let first = number as u32 * PACKET_PAGES_MAX as u32;
        let normal: Vec<u32> = (first..first + (payload.len() / PAGE_BYTES) as u32).collect();
        let plan = PacketPlan {
            sync: false,
            packet_number: number,
            block: &block,
            normal: &normal,
            zero: &[],
        };
        stream.extend_from_slice(&plan.encode().expect("a packet"));
        stream.extend_from_slice(payload);
    }
    stream
}

fn parse_main(stream: &[u8]) -> usize {
    let mut parser = MainParser::new(StreamLimits::for_guest_memory(stream.len() as u64));
    let (mut rest, mut pages) = (stream, 0);
    while let Some(parsed) = parser.next(rest).expect("a stream") {
        pages += usize::from(matches!(parsed.item, Item::RamPage { .. }));
        rest = &rest[parsed.raw.len()..];
    }
    pages
}

fn parse_multifd(stream: &[u8]) -> u64 {
    let (mut rest, mut indexes) = (stream, 0);
    while let Some((header, after)) = rest.split_first_chunk::<PACKET_HEADER_BYTES>() {
        let packet = PacketHeader::parse(header).expect("a packet");
        indexes += packet.normal_indexes().map(u64::from).sum::<u64>();
        rest = &after[packet.payload_bytes()..];
    }
    indexes
}

fn stream(criterion: &mut Criterion) {
    let (main, multifd) = (main_channel(), multifd_channel());
    assert_eq!(parse_main(&main), PAGES as usize, "the parser must not stop before the end");
    let mut group = criterion.benchmark_group("stream");
    group.sample_size(20).measurement_time(Duration::from_secs(4));

    group.throughput(Throughput::BytesDecimal(main.len() as u64));
    let mut copy = main.clone();
    group.bench_function("memcpy", |bencher| {
        bencher.iter(|| copy.copy_from_slice(black_box(&main)));
    });
    group.bench_function("main channel", |bencher| bencher.iter(|| parse_main(black_box(&main))));

    group.throughput(Throughput::BytesDecimal(multifd.len() as u64));
    group.bench_function("multifd channel", |bencher| {
        bencher.iter(|| parse_multifd(black_box(&multifd)))
    });
    group.finish();
}

criterion_group!(benches, stream);
criterion_main!(benches);
