//! Reading the main channel in chunks, and writing it again.

use novacron_protocol::qemu::item::Item;
use novacron_protocol::qemu::{
    BlockName, InputBuffer, MainParser, MainWriter, StreamError, StreamLimits,
};

/// The guest of the golden streams has 16 MiB.
pub fn limits() -> StreamLimits {
    StreamLimits::for_guest_memory(16 << 20)
}

/// Parses `stream`, arriving in chunks of these lengths (again and again), and shows each item.
pub fn parse_chunked(
    stream: &[u8],
    chunk_lengths: &[usize],
    mut show: impl FnMut(&MainParser, &[u8], Item<'_>),
) -> Result<MainParser, StreamError> {
    let mut parser = MainParser::new(limits());
    let mut input = InputBuffer::new();
    let mut rest = stream;
    for length in chunk_lengths.iter().cycle() {
        if rest.is_empty() {
            break;
        }
        let chunk = &rest[..rest.len().min(*length)];
        rest = &rest[input.append(chunk)..];
        while let Some(parsed) = parser.next(input.unread())? {
            show(&parser, parsed.raw, parsed.item);
            let length = parsed.raw.len();
            input.consume(length);
        }
    }
    Ok(parser)
}

/// Writes an item with the writer, from its meaning alone as far as the writer goes.
pub fn write_item(
    writer: &mut MainWriter,
    parser: &MainParser,
    raw: &[u8],
    item: Item<'_>,
    output: &mut Vec<u8>,
) {
    match item {
        Item::Header => writer.header(output),
        Item::Configuration { machine } => writer.configuration(machine, output),
        Item::Command { command, data } => writer.command(command, data, output),
        Item::RamStart { section } => writer.ram_start(section, output),
        Item::RamPart { section } => writer.ram_part(section, output),
        Item::RamEnd { section } => writer.ram_end(section, output),
        Item::RamTotal { bytes } => writer.ram_total(bytes, output),
        Item::RamBlock { name, length_bytes, .. } => {
            writer.ram_block(&BlockName::new(name).unwrap(), length_bytes, output);
        }
        Item::RamPage { block, page_index, page } => {
            let name = parser.blocks().get(block).unwrap().name.clone();
            writer.page(block, &name, page_index, page, output);
        }
        Item::MultifdFlush => writer.multifd_flush(output),
        Item::RamEndOfSection => writer.ram_end_of_section(output),
        Item::SectionFooter { section, .. } => writer.footer(section, output),
        Item::ConfigurationSubsection { .. } | Item::Opaque => output.extend_from_slice(raw),
    }
}

/// Parses and writes again.
pub fn rewritten(stream: &[u8], chunk_lengths: &[usize]) -> Vec<u8> {
    let (mut writer, mut output, mut raws) = (MainWriter::new(), Vec::new(), Vec::new());
    parse_chunked(stream, chunk_lengths, |parser, raw, item| {
        write_item(&mut writer, parser, raw, item, &mut output);
        raws.extend_from_slice(raw);
    })
    .unwrap();
    assert!(raws == stream, "the items' bytes are not the stream");
    output
}
