//! What the main channel is made of.

use crate::pages::Page;

/// No item is longer: a command's data is at most 65,535 bytes after 5 bytes of framing.
pub const ITEM_BYTES_MAX: usize = 65_535 + 5;

/// An item and where it was found.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Parsed<'a> {
    /// Offset of its first byte in the stream.
    pub offset: u64,
    /// Exactly its bytes: the concatenation of all `raw` is the stream.
    pub raw: &'a [u8],
    /// What they mean.
    pub item: Item<'a>,
}

/// One item of the main channel. Integers on the wire are big-endian.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Item<'a> {
    /// Magic and version: the first 8 bytes.
    Header,
    /// The configuration section: the machine type, by its full name (`pc-q35-10.0`).
    Configuration {
        /// Machine type.
        machine: &'a str,
    },
    /// A subsection of the configuration, among the three known ones.
    ConfigurationSubsection {
        /// Its name.
        name: &'a str,
    },
    /// A command; `command` is decided by id and length together.
    Command {
        /// Which.
        command: Command,
        /// Its data.
        data: &'a [u8],
    },
    /// START of the `ram` section.
    RamStart {
        /// Section id: PART, END and the footers repeat it.
        section: u32,
    },
    /// PART of the `ram` section.
    RamPart {
        /// Section id.
        section: u32,
    },
    /// END of the `ram` section: the last RAM of the stream follows.
    RamEnd {
        /// Section id.
        section: u32,
    },
    /// The block list begins; blocks of this many bytes in total follow.
    RamTotal {
        /// Sum of all block lengths.
        bytes: u64,
    },
    /// One entry of the block list.
    RamBlock {
        /// Its id: 0, 1, 2, …
        block: u16,
        /// Its name.
        name: &'a str,
        /// Its length, a multiple of the page size.
        length_bytes: u64,
        /// How many bytes of blocks are still to be listed; 0 ends the list.
        remaining_bytes: u64,
    },
    /// A page of RAM.
    RamPage {
        /// Which block.
        block: u16,
        /// Which page of it: byte offset / 4096, within the block.
        page_index: u32,
        /// What is in it.
        page: Page<'a>,
    },
    /// The barrier between epochs: all channels have written a SYNC packet.
    MultifdFlush,
    /// End of the body of a `ram` section.
    RamEndOfSection,
    /// The footer after [`Item::RamEndOfSection`].
    SectionFooter {
        /// Section id.
        section: u32,
        /// Which kind of section it closes.
        closes: SectionPhase,
    },
    /// Device state, or whatever else is not understood: everything from here on.
    Opaque,
}

/// Which of the sections of an iterable device.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SectionPhase {
    /// START: setup.
    Start,
    /// PART: one slice of an iteration.
    Part,
    /// END: the rest, with the guest stopped.
    End,
}

/// The commands that a stream may carry without becoming opaque.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Command {
    /// The source will listen to a return path.
    OpenReturnPath,
    /// To be answered by a PONG with the same value.
    Ping,
    /// Postcopy may follow.
    PostcopyAdvise,
    /// The guest of the source is stopped now.
    SwitchoverStart,
}

impl Command {
    /// The command with this id whose data may have this length.
    pub(super) fn from_wire(id: u16, data_bytes: usize) -> Option<Self> {
        match (id, data_bytes) {
            (1, 0) => Some(Self::OpenReturnPath),
            (2, 4) => Some(Self::Ping),
            (3, 0 | 16) => Some(Self::PostcopyAdvise),
            (11, 0) => Some(Self::SwitchoverStart),
            _ => None,
        }
    }

    /// Its id on the wire.
    pub(super) fn id(self) -> u16 {
        match self {
            Self::OpenReturnPath => 1,
            Self::Ping => 2,
            Self::PostcopyAdvise => 3,
            Self::SwitchoverStart => 11,
        }
    }
}
