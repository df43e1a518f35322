//! Recorded streams of a real QEMU.

use novacron_protocol::pages::{PAGE_BYTES, Page};
use novacron_protocol::qemu::BlockName;
use novacron_protocol::qemu::item::{Command, Item};
use novacron_protocol::qemu::multifd::{
    CHANNEL_INIT_BYTES, ChannelInit, ChannelKind, PACKET_HEADER_BYTES, PacketHeader, PacketPlan,
};
use novacron_protocol::qemu::return_path::{ReturnMessage, ReturnPathParser};
use proptest::prelude::*;

use super::golden_files::{multifd, plain};
use super::stream::{parse_chunked, rewritten};

/// The recorded VM's.
const UUID: [u8; 16] = *b"nova\x63\x72\x6f\x6e\x2d\x67\x6f\x6c\x64\x65\x6e\x21";

#[test]
fn what_was_parsed_is_written_byte_for_byte() {
    for stream in [multifd().main, plain().main] {
        assert!(rewritten(&stream, &[65_536]) == stream);
        assert!(rewritten(&stream, &[4097, 1, 8, 30_000]) == stream);
    }
}

#[test]
fn one_byte_at_a_time() {
    let stream = multifd().main;
    assert!(rewritten(&stream, &[1]) == stream);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(16))]
    #[test]
    fn any_chunking(chunk_lengths in prop::collection::vec(1_usize..9000, 1..50)) {
        let stream = multifd().main;
        prop_assert!(rewritten(&stream, &chunk_lengths) == stream);
    }
}

#[test]
fn the_plain_stream_is_what_qemu_says_it_is() {
    let golden = plain();
    let (mut normal, mut zero, mut opaque_bytes, mut order) = (0, 0, 0, Vec::new());
    let parser = parse_chunked(&golden.main, &[100_000], |_, raw, item| match item {
        Item::RamPage { page: Page::Data(_), .. } => normal += 1,
        Item::RamPage { page: Page::Zero, .. } => zero += 1,
        Item::Opaque => opaque_bytes += raw.len(),
        Item::Configuration { machine } => assert_eq!(machine, "pc-q35-10.0"),
        Item::Command { command, .. } => order.push(command),
        _ => {}
    })
    .unwrap();
    assert_eq!((normal, zero), (golden.normal_pages, golden.zero_pages));
    assert!(parser.is_opaque() && opaque_bytes > 10_000);
    assert_eq!(order, [Command::OpenReturnPath, Command::Ping, Command::SwitchoverStart]);
    let names: Vec<_> = parser.blocks().iter().map(|(_, block)| block.name.as_str()).collect();
    assert_eq!(names[..2], ["pc.ram", "/rom@etc/acpi/tables"]);
    assert_eq!(parser.blocks().get(0).unwrap().length_bytes, 16 << 20);
}

#[test]
fn the_channels_are_what_qemu_says_they_are() {
    let golden = multifd();
    let (mut normal, mut zero) = (0, 0);
    for (id, channel) in (0..).zip(&golden.channels) {
        assert_eq!(ChannelKind::of(*channel.first_chunk().unwrap()), Some(ChannelKind::Multifd));
        let (greeting, mut rest) = channel.split_first_chunk::<CHANNEL_INIT_BYTES>().unwrap();
        assert_eq!(ChannelInit::parse(greeting), Ok(ChannelInit { uuid: UUID, id }));
        while let Some((header, payload)) = rest.split_first_chunk::<PACKET_HEADER_BYTES>() {
            let header = PacketHeader::parse(header).unwrap();
            normal += header.normal_pages() as u64;
            zero += header.zero_pages() as u64;
            rest = &payload[header.payload_bytes()..];
        }
        assert!(rest.is_empty());
    }
    assert_eq!((normal, zero), (golden.normal_pages, golden.zero_pages));
}

#[test]
fn packet_headers_are_written_as_qemu_writes_them() {
    for channel in multifd().channels {
        let mut rest = &channel[CHANNEL_INIT_BYTES..];
        while let Some((bytes, payload)) = rest.split_first_chunk::<PACKET_HEADER_BYTES>() {
            let header = PacketHeader::parse(bytes).unwrap();
            let normal: Vec<u32> = header.normal_indexes().collect();
            let zero: Vec<u32> = header.zero_indexes().collect();
            let name = BlockName::new(if header.block().is_empty() { "-" } else { header.block() });
            let plan = PacketPlan {
                sync: header.sync,
                packet_number: header.packet_number,
                block: &name.unwrap(),
                normal: &normal,
                zero: &zero,
            };
            let written = plan.encode().unwrap();
            assert_eq!(PacketHeader::parse(&written), Ok(header));
            assert_eq!(&written[..], &bytes[..], "packet {}", header.packet_number);
            rest = &payload[header.payload_bytes()..];
        }
    }
    let greeting = ChannelInit { uuid: UUID, id: 1 }.encode();
    assert!(multifd().channels[1].starts_with(&greeting));
}

#[test]
fn the_return_path_says_ready_pong_and_shut() {
    let expected = [
        ReturnMessage::SwitchoverAck,
        ReturnMessage::Pong { value: 1 },
        ReturnMessage::Shut { status: 0 },
    ];
    let recorded = multifd().return_path;
    for chunk_length in 1..=recorded.len() {
        let mut parser = ReturnPathParser::new();
        let mut messages = Vec::new();
        for mut chunk in recorded.chunks(chunk_length) {
            while let Some(message) = parser.next(&mut chunk).unwrap() {
                messages.push(message);
            }
            assert!(chunk.is_empty());
        }
        assert_eq!(messages, expected);
        assert!(parser.is_at_boundary());
    }
    let mut written = Vec::new();
    for message in expected {
        message.encode(&mut written);
    }
    assert_eq!(written, recorded);
}

#[test]
fn memory_of_the_plain_stream_is_the_targets_memory() {
    let golden = plain();
    let mut memory = vec![0; 16 << 20];
    parse_chunked(&golden.main, &[60_000], |_, _, item| {
        if let Item::RamPage { block: 0, page_index, page } = item {
            put(&mut memory, page_index, page);
        }
    })
    .unwrap();
    assert_eq!(super::golden_files::fnv1a(&memory), golden.memory_fnv);
}

/// Copies a page into a model of memory.
pub fn put(memory: &mut [u8], page_index: u32, page: Page<'_>) {
    let at = page_index as usize * PAGE_BYTES;
    let room = &mut memory[at..at + PAGE_BYTES];
    match page {
        Page::Zero => room.fill(0),
        Page::Data(bytes) => room.copy_from_slice(bytes),
    }
}
