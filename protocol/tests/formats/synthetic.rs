//! Streams made up at random, within the grammar: what the golden ones do not happen to contain.

use std::collections::BTreeMap;

use novacron_protocol::pages::{PAGE_BYTES, Page};
use novacron_protocol::qemu::item::{Command, Item};
use novacron_protocol::qemu::{BlockName, MainRewriter, MainWriter, Progress};
use proptest::prelude::*;

use super::stream::{limits, parse_chunked, rewritten};

/// Pages of each block.
const PAGES: u32 = 40;

/// What a `ram` section holds.
#[derive(Debug, Clone, Copy)]
enum Record {
    Zero { block: u16, page_index: u32 },
    Filled { block: u16, page_index: u32, byte: u8 },
    Flush,
}

/// A migration: number of blocks, records of each section, device state.
#[derive(Debug, Clone)]
struct Plan {
    blocks: u16,
    sections: Vec<Vec<Record>>,
    devices: Vec<u8>,
}

fn record(blocks: u16) -> impl Strategy<Value = Record> {
    let at = (0..blocks, 0..PAGES);
    prop_oneof![
        3 => at.clone().prop_map(|(block, page_index)| Record::Zero { block, page_index }),
        5 => (at, 1_u8..).prop_map(|((block, page_index), byte)| {
            Record::Filled { block, page_index, byte }
        }),
        1 => Just(Record::Flush),
    ]
}

fn plan() -> impl Strategy<Value = Plan> {
    (1_u16..5).prop_flat_map(|blocks| {
        let section = prop::collection::vec(record(blocks), 0..12);
        let sections = prop::collection::vec(section, 1..6);
        let devices = prop::collection::vec(any::<u8>(), 1..300);
        (Just(blocks), sections, devices).prop_map(|(blocks, sections, devices)| {
            // The first byte says FULL; what follows may look like anything.
            let devices = [&[4_u8][..], &devices].concat();
            Plan { blocks, sections, devices }
        })
    })
}

fn name(block: u16) -> BlockName {
    BlockName::new(&format!("block-{block}")).unwrap()
}

impl Plan {
    fn stream(&self) -> Vec<u8> {
        let (mut writer, mut stream) = (MainWriter::new(), Vec::new());
        writer.header(&mut stream);
        writer.configuration("pc-q35-10.0", &mut stream);
        writer.command(Command::OpenReturnPath, &[], &mut stream);
        writer.command(Command::Ping, &[0, 0, 0, 1], &mut stream);
        writer.ram_start(2, &mut stream);
        let length_bytes = u64::from(PAGES) * PAGE_BYTES as u64;
        writer.ram_total(length_bytes * u64::from(self.blocks), &mut stream);
        for block in 0..self.blocks {
            writer.ram_block(&name(block), length_bytes, &mut stream);
        }
        writer.ram_end_of_section(&mut stream);
        writer.footer(2, &mut stream);
        for (at, records) in self.sections.iter().enumerate() {
            if at + 1 < self.sections.len() {
                writer.ram_part(2, &mut stream);
            } else {
                writer.command(Command::SwitchoverStart, &[], &mut stream);
                writer.ram_end(2, &mut stream);
            }
            for record in records {
                write_record(&mut writer, *record, &mut stream);
            }
            writer.ram_end_of_section(&mut stream);
            writer.footer(2, &mut stream);
        }
        stream.extend_from_slice(&self.devices);
        stream
    }

    fn records(&self) -> impl Iterator<Item = Record> {
        self.sections.iter().flatten().copied()
    }

    /// First byte of each page written, in the end.
    fn memory(&self) -> BTreeMap<(u16, u32), u8> {
        let written = self.records().filter_map(|record| match record {
            Record::Zero { block, page_index } => Some(((block, page_index), 0)),
            Record::Filled { block, page_index, byte } => Some(((block, page_index), byte)),
            Record::Flush => None,
        });
        written.collect()
    }
}

fn write_record(writer: &mut MainWriter, record: Record, stream: &mut Vec<u8>) {
    match record {
        Record::Zero { block, page_index } => {
            writer.page(block, &name(block), page_index, Page::Zero, stream);
        }
        Record::Filled { block, page_index, byte } => {
            let page = [byte; PAGE_BYTES];
            writer.page(block, &name(block), page_index, Page::Data(&page), stream);
        }
        Record::Flush => writer.multifd_flush(stream),
    }
}

fn first_byte(page: Page<'_>) -> u8 {
    match page {
        Page::Zero => 0,
        Page::Data(bytes) => {
            assert!(bytes.iter().all(|byte| *byte == bytes[0]));
            bytes[0]
        }
    }
}

/// What both QEMU and the page pipeline make of a rewritten stream.
struct Rewriting {
    memory: BTreeMap<(u16, u32), u8>,
    epochs: u32,
    devices: Vec<u8>,
}

/// Block 0 is shared, and at each flush a page of the last block is injected, if that is not 0.
fn rewrite(plan: &Plan, chunk_lengths: &[usize]) -> Rewriting {
    let mut rewriter = MainRewriter::new(limits(), [name(0)]);
    let stream = plan.stream();
    let (mut rest, mut output, mut whole) = (&stream[..], Vec::new(), Vec::new());
    let mut epochs = 0;
    let mut memory = BTreeMap::new();
    let mut lengths = chunk_lengths.iter().cycle();
    loop {
        match rewriter.advance(&mut output).unwrap() {
            Progress::NeedInput if rest.is_empty() => break,
            Progress::NeedInput => {
                let space = rewriter.space();
                let count = space.len().min(*lengths.next().unwrap()).min(rest.len());
                space[..count].copy_from_slice(&rest[..count]);
                rewriter.filled(count);
                rest = &rest[count..];
            }
            Progress::SharedPage { block, page_index, epoch, page } => {
                assert_eq!((block, epoch), (0, epochs));
                memory.insert((block, page_index), first_byte(page));
            }
            Progress::Flush { epoch } => {
                assert_eq!(epoch, epochs);
                epochs += 1;
                if plan.blocks > 1 {
                    let page = [0xee; PAGE_BYTES];
                    rewriter.inject(plan.blocks - 1, 3, Page::Data(&page), &mut output).unwrap();
                }
            }
            Progress::Drain => whole.append(&mut output),
            Progress::Blocks(_) | Progress::SwitchoverStart | Progress::RamComplete => {}
        }
    }
    rewriter.finish().unwrap();
    whole.append(&mut output);
    let mut devices = Vec::new();
    parse_chunked(&whole, &[5000], |_, raw, item| match item {
        Item::RamPage { block, page_index, page } => {
            assert_ne!(block, 0);
            memory.insert((block, page_index), first_byte(page));
        }
        Item::MultifdFlush => panic!("a flush is left"),
        Item::Opaque => devices.extend_from_slice(raw),
        _ => {}
    })
    .unwrap();
    Rewriting { memory, epochs, devices }
}

/// The plan with the injected pages written where its flushes are.
fn with_injected(plan: &Plan) -> Plan {
    let injected = Record::Filled { block: plan.blocks - 1, page_index: 3, byte: 0xee };
    let replaced = |record: &Record| match record {
        Record::Flush if plan.blocks > 1 => injected,
        other => *other,
    };
    let sections = plan.sections.iter().map(|records| records.iter().map(replaced).collect());
    Plan { sections: sections.collect(), ..plan.clone() }
}

fn chunk_lengths() -> impl Strategy<Value = Vec<usize>> {
    prop::collection::vec(1_usize..10_000, 1..20)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn written_parsed_and_written_again(plan in plan(), chunk_lengths in chunk_lengths()) {
        let stream = plan.stream();
        prop_assert!(rewritten(&stream, &chunk_lengths) == stream);
    }

    #[test]
    fn rewriting_keeps_the_memory(plan in plan(), chunk_lengths in chunk_lengths()) {
        let rewriting = rewrite(&plan, &chunk_lengths);
        prop_assert_eq!(rewriting.memory, with_injected(&plan).memory());
        let flushes = plan.records().filter(|record| matches!(record, Record::Flush)).count();
        prop_assert_eq!(rewriting.epochs as usize, flushes);
        prop_assert_eq!(rewriting.devices, plan.devices);
    }
}
