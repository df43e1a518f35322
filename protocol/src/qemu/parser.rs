//! The main channel, bytes to items.
//!
//! [`MainParser`] owns no bytes: it is shown what has not been consumed yet and answers with the
//! next item borrowed from it, or that it needs more. So the caller may cut the stream into chunks
//! as it likes, and the parser's memory is the block list, which [`StreamLimits`] bounds.
//!
//! ```text
//! Header ─► Configuration ─► Subsections ─► Items ─► RamRecords ─► Footer ─┐
//!                │                │         ▲  │      ▲    │               │
//!                └────────────────┴─────────┤  │      └ BlockList          │
//!                                           └──┼───────────────────────────┘
//!                                              └─► Opaque, for ever
//! ```
//!
//! Device state has no length on the wire, so nothing behind it can be found again: from the first
//! FULL section, unknown section, command or subsection on, everything is [`Item::Opaque`]. Inside
//! the `ram` section there is no such way out, and what is not understood is an error.

use super::block::{BlockList, BlockName, RamBlock, StreamLimits, check_name};
use super::item::{Command, Item, Parsed, SectionPhase};
use crate::pages::{PAGE_BYTES, Page};

pub(super) const MAGIC: u32 = 0x5145_564d;
pub(super) const VERSION: u32 = 3;
pub(super) const RAM_SECTION: &str = "ram";
pub(super) const RAM_VERSION: u32 = 4;

/// Types of what stands at the top level of the stream.
pub(super) mod mark {
    pub const START: u8 = 0x01;
    pub const PART: u8 = 0x02;
    pub const END: u8 = 0x03;
    pub const SUBSECTION: u8 = 0x05;
    pub const CONFIGURATION: u8 = 0x07;
    pub const COMMAND: u8 = 0x08;
    pub const FOOTER: u8 = 0x7e;
}

/// Low bits of the word that begins each record of the `ram` section.
pub(super) mod flag {
    pub const ALL: u64 = 0xfff;
    pub const ZERO: u64 = 0x002;
    pub const MEM_SIZE: u64 = 0x004;
    pub const PAGE: u64 = 0x008;
    pub const EOS: u64 = 0x010;
    pub const CONTINUE: u64 = 0x020;
    pub const MULTIFD_FLUSH: u64 = 0x200;
}

/// The longest machine type, and the longest subsection name, that is accepted.
const NAME_BYTES_MAX: usize = 255;
/// QEMU has about 20 capabilities.
const CAPABILITIES_MAX: u32 = 256;

/// The stream is not what it should be.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("main migration stream, item at byte {offset}")]
pub struct StreamError {
    /// Offset of the item's first byte.
    pub offset: u64,
    /// What is wrong with it.
    #[source]
    pub kind: StreamErrorKind,
}

/// What is wrong with an item.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum StreamErrorKind {
    /// The first bytes are not `QEVM`.
    #[error("not a migration stream: magic {magic:#010x}")]
    Magic {
        /// What is there instead.
        magic: u32,
    },
    /// Not version 3.
    #[error("migration stream version {version}, not {VERSION}")]
    Version {
        /// What is there instead.
        version: u32,
    },
    /// The machine type or a capability list is out of bounds.
    #[error("malformed configuration section")]
    Configuration,
    /// A PART, END or footer names another section, or a section begins out of order.
    #[error("section {section} is out of order here")]
    SectionOrder {
        /// The section id found.
        section: u32,
    },
    /// No 0x7e where a footer must be.
    #[error("section footer expected, found {found:#04x}")]
    FooterMissing {
        /// The byte found.
        found: u8,
    },
    /// XBZRLE, RDMA hooks, flags of the future, or flags that exclude each other.
    #[error("unsupported RAM record {word:#018x}")]
    RamRecord {
        /// The record's first word.
        word: u64,
    },
    /// A zero page that is filled with something else.
    #[error("zero page filled with {fill:#04x}")]
    ZeroFill {
        /// The fill byte.
        fill: u8,
    },
    /// Not 1 to 255 printable ASCII characters.
    #[error("malformed RAM block name")]
    BlockName,
    /// A page of a block that was not announced, or CONTINUE before any page.
    #[error("page of a RAM block that was not announced")]
    UnknownBlock,
    /// A page behind the end of its block.
    #[error("page at {page_offset:#x} is outside of RAM block {block}")]
    PageOutsideBlock {
        /// The block.
        block: BlockName,
        /// Byte offset of the page.
        page_offset: u64,
    },
    /// The block list comes twice, its sum does not fit, or a length is not a multiple of a page.
    #[error("malformed RAM block list")]
    BlockList,
    /// More RAM or more blocks than [`StreamLimits`] allow.
    #[error("more RAM announced than allowed: {what}")]
    TooMuchRam {
        /// Which limit, in words.
        what: &'static str,
    },
}

/// Why there is no item.
enum Stop {
    Incomplete,
    Invalid(StreamErrorKind),
}

impl From<StreamErrorKind> for Stop {
    fn from(kind: StreamErrorKind) -> Self {
        Self::Invalid(kind)
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    Header,
    Configuration,
    Subsections,
    Items,
    RamRecords,
    BlockList { remaining_bytes: u64 },
    Footer,
    Opaque,
}

/// How far the `ram` section has come.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Ram {
    NotStarted,
    Open { section: u32, phase: SectionPhase },
    Ended,
}

/// See the module.
#[derive(Debug, Clone)]
pub struct MainParser {
    limits: StreamLimits,
    state: State,
    ram: Ram,
    blocks: BlockList,
    /// QEMU's CONTINUE refers to the previous page of the whole stream, not of the section.
    last_block: Option<u16>,
    offset: u64,
}

impl MainParser {
    /// A parser at the first byte of a stream.
    pub fn new(limits: StreamLimits) -> Self {
        Self {
            limits,
            state: State::Header,
            ram: Ram::NotStarted,
            blocks: BlockList::new(),
            last_block: None,
            offset: 0,
        }
    }

    /// The RAM blocks announced so far.
    pub fn blocks(&self) -> &BlockList {
        &self.blocks
    }

    /// Offset of the next item's first byte.
    pub fn offset(&self) -> u64 {
        self.offset
    }

    /// Whether only [`Item::Opaque`] can follow. A stream that ends before is truncated.
    pub fn is_opaque(&self) -> bool {
        self.state == State::Opaque
    }

    /// The next item at the front of `input`, which starts at [`Self::offset`]; `None` when more
    /// input is needed. The caller consumes `raw.len()` bytes of every item it is given. No item
    /// needs more than [`super::item::ITEM_BYTES_MAX`] bytes of input.
    pub fn next<'a>(&mut self, input: &'a [u8]) -> Result<Option<Parsed<'a>>, StreamError> {
        let mut reader = Reader { bytes: input, at: 0 };
        let offset = self.offset;
        match self.item(&mut reader) {
            Ok(item) => {
                self.offset += reader.at as u64;
                Ok(Some(Parsed { offset, raw: &input[..reader.at], item }))
            }
            Err(Stop::Incomplete) => Ok(None),
            Err(Stop::Invalid(kind)) => Err(StreamError { offset, kind }),
        }
    }

    /// Changes `self` only when it returns an item.
    fn item<'a>(&mut self, reader: &mut Reader<'a>) -> Result<Item<'a>, Stop> {
        match self.state {
            State::Header => self.header(reader),
            State::Configuration => self.configuration(reader),
            State::Subsections => self.subsection(reader),
            State::Items => self.top_level(reader),
            State::RamRecords => self.ram_record(reader),
            State::BlockList { remaining_bytes } => self.listed_block(reader, remaining_bytes),
            State::Footer => self.footer(reader),
            State::Opaque => self.opaque(reader),
        }
    }

    fn header<'a>(&mut self, reader: &mut Reader<'a>) -> Result<Item<'a>, Stop> {
        let magic = reader.be32()?;
        if magic != MAGIC {
            return Err(StreamErrorKind::Magic { magic }.into());
        }
        let version = reader.be32()?;
        if version != VERSION {
            return Err(StreamErrorKind::Version { version }.into());
        }
        self.state = State::Configuration;
        Ok(Item::Header)
    }

    /// Absent for machine types that do not send it.
    fn configuration<'a>(&mut self, reader: &mut Reader<'a>) -> Result<Item<'a>, Stop> {
        if reader.peek()? != mark::CONFIGURATION {
            return self.top_level(reader);
        }
        reader.byte()?;
        let length = reader.be32()? as usize;
        if length > NAME_BYTES_MAX {
            return Err(StreamErrorKind::Configuration.into());
        }
        let machine =
            check_name(reader.take(length)?).map_err(|_| StreamErrorKind::Configuration)?;
        self.state = State::Subsections;
        Ok(Item::Configuration { machine })
    }

    fn subsection<'a>(&mut self, reader: &mut Reader<'a>) -> Result<Item<'a>, Stop> {
        if reader.peek()? != mark::SUBSECTION {
            return self.top_level(reader);
        }
        let Some(name) = parse_subsection(reader)? else {
            return self.opaque(reader);
        };
        Ok(Item::ConfigurationSubsection { name })
    }

    fn top_level<'a>(&mut self, reader: &mut Reader<'a>) -> Result<Item<'a>, Stop> {
        match reader.peek()? {
            mark::COMMAND => self.command(reader),
            mark::START => self.section_start(reader),
            mark::PART => self.section_again(reader, SectionPhase::Part),
            mark::END => self.section_again(reader, SectionPhase::End),
            _ => self.opaque(reader),
        }
    }

    fn command<'a>(&mut self, reader: &mut Reader<'a>) -> Result<Item<'a>, Stop> {
        reader.byte()?;
        let id = reader.be16()?;
        let length = usize::from(reader.be16()?);
        let Some(command) = Command::from_wire(id, length) else {
            return self.opaque(reader);
        };
        let data = reader.take(length)?;
        self.state = State::Items;
        Ok(Item::Command { command, data })
    }

    fn section_start<'a>(&mut self, reader: &mut Reader<'a>) -> Result<Item<'a>, Stop> {
        reader.byte()?;
        let section = reader.be32()?;
        let name_length = usize::from(reader.byte()?);
        let name = reader.take(name_length)?;
        let instance = reader.be32()?;
        let version = reader.be32()?;
        if name != RAM_SECTION.as_bytes() || instance != 0 || version != RAM_VERSION {
            return self.opaque(reader);
        }
        if self.ram != Ram::NotStarted {
            return Err(StreamErrorKind::SectionOrder { section }.into());
        }
        self.ram = Ram::Open { section, phase: SectionPhase::Start };
        self.state = State::RamRecords;
        Ok(Item::RamStart { section })
    }

    fn section_again<'a>(
        &mut self,
        reader: &mut Reader<'a>,
        phase: SectionPhase,
    ) -> Result<Item<'a>, Stop> {
        reader.byte()?;
        let section = reader.be32()?;
        if !matches!(self.ram, Ram::Open { section: open, .. } if open == section) {
            return Err(StreamErrorKind::SectionOrder { section }.into());
        }
        self.ram = Ram::Open { section, phase };
        self.state = State::RamRecords;
        Ok(match phase {
            SectionPhase::End => Item::RamEnd { section },
            _ => Item::RamPart { section },
        })
    }

    fn footer<'a>(&mut self, reader: &mut Reader<'a>) -> Result<Item<'a>, Stop> {
        let found = reader.byte()?;
        if found != mark::FOOTER {
            return Err(StreamErrorKind::FooterMissing { found }.into());
        }
        let section = reader.be32()?;
        let closes = match self.ram {
            Ram::Open { section: open, phase } if open == section => phase,
            _ => return Err(StreamErrorKind::SectionOrder { section }.into()),
        };
        if closes == SectionPhase::End {
            self.ram = Ram::Ended;
        }
        self.state = State::Items;
        Ok(Item::SectionFooter { section, closes })
    }

    fn ram_record<'a>(&mut self, reader: &mut Reader<'a>) -> Result<Item<'a>, Stop> {
        let word = reader.be64()?;
        let value = word & !flag::ALL;
        match word & flag::ALL & !flag::CONTINUE {
            flag::PAGE | flag::ZERO => self.page(reader, word),
            flag::MEM_SIZE if word & flag::CONTINUE == 0 => self.ram_total(value),
            flag::EOS if word == flag::EOS => {
                self.state = State::Footer;
                Ok(Item::RamEndOfSection)
            }
            flag::MULTIFD_FLUSH if word == flag::MULTIFD_FLUSH => Ok(Item::MultifdFlush),
            _ => Err(StreamErrorKind::RamRecord { word }.into()),
        }
    }

    fn page<'a>(&mut self, reader: &mut Reader<'a>, word: u64) -> Result<Item<'a>, Stop> {
        let block = if word & flag::CONTINUE != 0 {
            self.last_block.ok_or(StreamErrorKind::UnknownBlock)?
        } else {
            let length = usize::from(reader.byte()?);
            self.block_named(reader.take(length)?)?
        };
        let page_index = self.page_index(block, word & !flag::ALL)?;
        let page = if word & flag::ZERO != 0 {
            match reader.byte()? {
                0 => Page::Zero,
                fill => return Err(StreamErrorKind::ZeroFill { fill }.into()),
            }
        } else {
            Page::Data(reader.page()?)
        };
        self.last_block = Some(block);
        Ok(Item::RamPage { block, page_index, page })
    }

    fn block_named(&self, name: &[u8]) -> Result<u16, StreamErrorKind> {
        let name = check_name(name).map_err(|_| StreamErrorKind::BlockName)?;
        self.blocks.index_of(name).ok_or(StreamErrorKind::UnknownBlock)
    }

    fn page_index(&self, block: u16, page_offset: u64) -> Result<u32, StreamErrorKind> {
        let block = self.blocks.get(block).ok_or(StreamErrorKind::UnknownBlock)?;
        // `listed_block` let no block in whose last index exceeds 32 bits.
        match u32::try_from(page_offset / PAGE_BYTES as u64) {
            Ok(index) if page_offset < block.length_bytes => Ok(index),
            _ => Err(StreamErrorKind::PageOutsideBlock { block: block.name.clone(), page_offset }),
        }
    }

    fn ram_total<'a>(&mut self, bytes: u64) -> Result<Item<'a>, Stop> {
        if !self.blocks.is_empty() || bytes == 0 {
            return Err(StreamErrorKind::BlockList.into());
        }
        if bytes > self.limits.ram_bytes_max {
            return Err(StreamErrorKind::TooMuchRam { what: "bytes in total" }.into());
        }
        self.state = State::BlockList { remaining_bytes: bytes };
        Ok(Item::RamTotal { bytes })
    }

    fn listed_block<'a>(
        &mut self,
        reader: &mut Reader<'a>,
        remaining_bytes: u64,
    ) -> Result<Item<'a>, Stop> {
        let name_length = usize::from(reader.byte()?);
        let name = check_name(reader.take(name_length)?).map_err(|_| StreamErrorKind::BlockName)?;
        let length_bytes = reader.be64()?;
        let remaining_bytes =
            remaining_bytes.checked_sub(length_bytes).ok_or(StreamErrorKind::BlockList)?;
        let block = self.admit_block(name, length_bytes)?;
        self.state = match remaining_bytes {
            0 => State::RamRecords,
            _ => State::BlockList { remaining_bytes },
        };
        Ok(Item::RamBlock { block, name, length_bytes, remaining_bytes })
    }

    fn admit_block(&mut self, name: &str, length_bytes: u64) -> Result<u16, StreamErrorKind> {
        if self.blocks.len() >= usize::from(self.limits.blocks_max) {
            return Err(StreamErrorKind::TooMuchRam { what: "number of blocks" });
        }
        if length_bytes.div_ceil(PAGE_BYTES as u64) > u64::from(u32::MAX) {
            return Err(StreamErrorKind::TooMuchRam { what: "length of a block" });
        }
        let block = self.blocks.len() as u16;
        let name = BlockName::new(name).map_err(|_| StreamErrorKind::BlockName)?;
        if !self.blocks.push(RamBlock { name, length_bytes }) {
            return Err(StreamErrorKind::BlockList);
        }
        Ok(block)
    }

    /// Everything there is, once there is something.
    fn opaque<'a>(&mut self, reader: &mut Reader<'a>) -> Result<Item<'a>, Stop> {
        if reader.bytes.is_empty() {
            return Err(Stop::Incomplete);
        }
        reader.at = reader.bytes.len();
        self.state = State::Opaque;
        Ok(Item::Opaque)
    }
}

/// The subsection's name, or `None` if its layout is not known.
fn parse_subsection<'a>(reader: &mut Reader<'a>) -> Result<Option<&'a str>, Stop> {
    reader.byte()?;
    let name_length = usize::from(reader.byte()?);
    let name = check_name(reader.take(name_length)?).map_err(|_| StreamErrorKind::Configuration)?;
    reader.be32()?;
    match name {
        "configuration/target-page-bits" => {
            reader.be32()?;
        }
        "configuration/uuid" => {
            reader.take(16)?;
        }
        "configuration/capabilities" => skip_capabilities(reader)?,
        _ => return Ok(None),
    }
    Ok(Some(name))
}

fn skip_capabilities(reader: &mut Reader<'_>) -> Result<(), Stop> {
    let count = reader.be32()?;
    if count > CAPABILITIES_MAX {
        return Err(StreamErrorKind::Configuration.into());
    }
    for _ in 0..count {
        let length = usize::from(reader.byte()?);
        reader.take(length)?;
    }
    Ok(())
}

/// Reads from the front; running out is [`Stop::Incomplete`].
struct Reader<'a> {
    bytes: &'a [u8],
    at: usize,
}

impl<'a> Reader<'a> {
    fn take(&mut self, count: usize) -> Result<&'a [u8], Stop> {
        let taken = self.bytes[self.at..].get(..count).ok_or(Stop::Incomplete)?;
        self.at += count;
        Ok(taken)
    }

    fn array<const N: usize>(&mut self) -> Result<&'a [u8; N], Stop> {
        let array = self.bytes[self.at..].first_chunk().ok_or(Stop::Incomplete)?;
        self.at += N;
        Ok(array)
    }

    fn peek(&self) -> Result<u8, Stop> {
        self.bytes.get(self.at).copied().ok_or(Stop::Incomplete)
    }

    fn byte(&mut self) -> Result<u8, Stop> {
        self.array::<1>().map(|[byte]| *byte)
    }

    fn be16(&mut self) -> Result<u16, Stop> {
        self.array().map(|bytes| u16::from_be_bytes(*bytes))
    }

    fn be32(&mut self) -> Result<u32, Stop> {
        self.array().map(|bytes| u32::from_be_bytes(*bytes))
    }

    fn be64(&mut self) -> Result<u64, Stop> {
        self.array().map(|bytes| u64::from_be_bytes(*bytes))
    }

    fn page(&mut self) -> Result<&'a [u8; PAGE_BYTES], Stop> {
        self.array()
    }
}
