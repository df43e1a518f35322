//! The main channel, items to bytes.
//!
//! [`MainWriter`] remembers only what the format makes stateful: the block of the last page, because
//! a page of the same block carries CONTINUE instead of the name. Written in the order in which
//! QEMU wrote them, the same items give the same bytes.

use super::block::BlockName;
use super::item::Command;
use super::parser::{MAGIC, RAM_SECTION, RAM_VERSION, VERSION, flag, mark};
use crate::pages::{PAGE_BYTES, Page};

/// See the module. Every method appends to `output`.
#[derive(Debug, Clone, Default)]
pub struct MainWriter {
    last_block: Option<u16>,
}

impl MainWriter {
    /// A writer at the first byte of a stream.
    pub fn new() -> Self {
        Self::default()
    }

    /// Magic and version.
    pub fn header(&self, output: &mut Vec<u8>) {
        output.extend_from_slice(&MAGIC.to_be_bytes());
        output.extend_from_slice(&VERSION.to_be_bytes());
    }

    /// The configuration section without subsections.
    pub fn configuration(&self, machine: &str, output: &mut Vec<u8>) {
        output.push(mark::CONFIGURATION);
        output.extend_from_slice(&(machine.len() as u32).to_be_bytes());
        output.extend_from_slice(machine.as_bytes());
    }

    /// A command. `data` has the length that the command asks for.
    pub fn command(&self, command: Command, data: &[u8], output: &mut Vec<u8>) {
        output.push(mark::COMMAND);
        output.extend_from_slice(&command.id().to_be_bytes());
        output.extend_from_slice(&(data.len() as u16).to_be_bytes());
        output.extend_from_slice(data);
    }

    /// START of the `ram` section.
    pub fn ram_start(&self, section: u32, output: &mut Vec<u8>) {
        output.push(mark::START);
        output.extend_from_slice(&section.to_be_bytes());
        output.push(RAM_SECTION.len() as u8);
        output.extend_from_slice(RAM_SECTION.as_bytes());
        output.extend_from_slice(&0_u32.to_be_bytes());
        output.extend_from_slice(&RAM_VERSION.to_be_bytes());
    }

    /// PART of the `ram` section.
    pub fn ram_part(&self, section: u32, output: &mut Vec<u8>) {
        output.push(mark::PART);
        output.extend_from_slice(&section.to_be_bytes());
    }

    /// END of the `ram` section.
    pub fn ram_end(&self, section: u32, output: &mut Vec<u8>) {
        output.push(mark::END);
        output.extend_from_slice(&section.to_be_bytes());
    }

    /// The head of the block list: the sum of all lengths, a multiple of the page size.
    pub fn ram_total(&self, bytes: u64, output: &mut Vec<u8>) {
        output.extend_from_slice(&(bytes | flag::MEM_SIZE).to_be_bytes());
    }

    /// An entry of the block list.
    pub fn ram_block(&self, name: &BlockName, length_bytes: u64, output: &mut Vec<u8>) {
        push_name(name, output);
        output.extend_from_slice(&length_bytes.to_be_bytes());
    }

    /// A page of the block that has the id `block` in the list and this name.
    pub fn page(
        &mut self,
        block: u16,
        name: &BlockName,
        page_index: u32,
        page: Page<'_>,
        output: &mut Vec<u8>,
    ) {
        let same_block = self.last_block.replace(block) == Some(block);
        let kind = match page {
            Page::Zero => flag::ZERO,
            Page::Data(_) => flag::PAGE,
        };
        let continued = if same_block { flag::CONTINUE } else { 0 };
        let page_offset = u64::from(page_index) * PAGE_BYTES as u64;
        let word = page_offset | kind | continued;
        output.extend_from_slice(&word.to_be_bytes());
        if !same_block {
            push_name(name, output);
        }
        match page {
            Page::Zero => output.push(0),
            Page::Data(bytes) => output.extend_from_slice(bytes),
        }
    }

    /// The barrier between epochs.
    pub fn multifd_flush(&self, output: &mut Vec<u8>) {
        output.extend_from_slice(&flag::MULTIFD_FLUSH.to_be_bytes());
    }

    /// End of the body of a `ram` section.
    pub fn ram_end_of_section(&self, output: &mut Vec<u8>) {
        output.extend_from_slice(&flag::EOS.to_be_bytes());
    }

    /// The footer of a section.
    pub fn footer(&self, section: u32, output: &mut Vec<u8>) {
        output.push(mark::FOOTER);
        output.extend_from_slice(&section.to_be_bytes());
    }
}

fn push_name(name: &BlockName, output: &mut Vec<u8>) {
    let name = name.as_str().as_bytes();
    output.push(name.len() as u8);
    output.extend_from_slice(name);
}
