//! The page channels: how one greets, and the header of each packet.
//!
//! A channel is 64 bytes of greeting and then packets: [`PACKET_HEADER_BYTES`] of header, always in
//! full, and [`PacketHeader::payload_bytes`] of pages, in the order of their offsets. A packet with
//! the SYNC flag ends an epoch of its channel. Integers are big-endian.
//!
//! Compressed packets are refused: QEMU's compression is a stream across packets of a channel, and
//! the agent compresses better and once. So is device state (VFIO).

use super::block::{BlockName, check_name};
use crate::pages::{BATCH_PAGES_MAX, PAGE_BYTES};

/// Bytes of the greeting.
pub const CHANNEL_INIT_BYTES: usize = 64;
/// Bytes of a packet's header, with room for the offsets of 512 KiB of pages.
pub const PACKET_HEADER_BYTES: usize = OFFSETS_AT + 8 * PACKET_PAGES_MAX;
/// Pages in a packet: 512 KiB of them.
pub const PACKET_PAGES_MAX: usize = 128;
/// Bytes of pages after a header.
pub const PACKET_PAYLOAD_BYTES_MAX: usize = PACKET_PAGES_MAX * PAGE_BYTES;

const _: () = assert!(PACKET_PAGES_MAX == BATCH_PAGES_MAX);
const _: () = assert!(PACKET_HEADER_BYTES == 1344);

const MAGIC: u32 = 0x1122_3344;
const VERSION: u32 = 1;
const FLAG_SYNC: u32 = 1;
const NAME_AT: usize = 64;
const NAME_FIELD_BYTES: usize = 256;
const OFFSETS_AT: usize = NAME_AT + NAME_FIELD_BYTES;

/// Which kind of channel QEMU opened, by its first four bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ChannelKind {
    /// The main channel.
    Main,
    /// A page channel.
    Multifd,
}

impl ChannelKind {
    /// `None` if it is neither.
    pub fn of(first: [u8; 4]) -> Option<Self> {
        match u32::from_be_bytes(first) {
            super::parser::MAGIC => Some(Self::Main),
            MAGIC => Some(Self::Multifd),
            _ => None,
        }
    }
}

/// What is wrong with a greeting or a header.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum MultifdError {
    /// Not a multifd channel.
    #[error("not a multifd channel: magic {magic:#010x}")]
    Magic {
        /// What is there instead.
        magic: u32,
    },
    /// Not version 1.
    #[error("multifd version {version}, not {VERSION}")]
    Version {
        /// What is there instead.
        version: u32,
    },
    /// Compression, device state, or a flag of the future.
    #[error("unsupported multifd packet flags {flags:#x}")]
    Flags {
        /// All flags.
        flags: u32,
    },
    /// More pages than were allocated for, or more than [`PACKET_PAGES_MAX`].
    #[error("multifd packet of {normal} normal and {zero} zero pages in room for {allocated}")]
    PageCount {
        /// Pages with payload.
        normal: u32,
        /// Zero pages.
        zero: u32,
        /// Room for them.
        allocated: u32,
    },
    /// The payload is not 4096 bytes a page.
    #[error("multifd packet of {normal} pages announces {payload_bytes} bytes of payload")]
    PayloadLength {
        /// Pages with payload.
        normal: u32,
        /// Announced length.
        payload_bytes: u32,
    },
    /// Pages without a well-formed block name.
    #[error("malformed RAM block name in a multifd packet")]
    BlockName,
    /// An offset that is not a multiple of a page, or does not fit 32 bits of page index.
    #[error("page offset {offset:#x} in a multifd packet")]
    Offset {
        /// Byte offset.
        offset: u64,
    },
}

/// The greeting of a channel.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ChannelInit {
    /// UUID of the VM; zero if it has none.
    pub uuid: [u8; 16],
    /// Number of the channel, from 0.
    pub id: u8,
}

impl ChannelInit {
    /// Reads a greeting.
    pub fn parse(bytes: &[u8; CHANNEL_INIT_BYTES]) -> Result<Self, MultifdError> {
        check_magic(bytes)?;
        let mut uuid = [0; 16];
        uuid.copy_from_slice(&bytes[8..24]);
        Ok(Self { uuid, id: bytes[24] })
    }

    /// Writes a greeting.
    pub fn encode(&self) -> [u8; CHANNEL_INIT_BYTES] {
        let mut bytes = [0; CHANNEL_INIT_BYTES];
        bytes[0..4].copy_from_slice(&MAGIC.to_be_bytes());
        bytes[4..8].copy_from_slice(&VERSION.to_be_bytes());
        bytes[8..24].copy_from_slice(&self.uuid);
        bytes[24] = self.id;
        bytes
    }
}

/// A checked view of a packet's header. Parsing copies and allocates nothing.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PacketHeader<'a> {
    /// Whether this packet ends an epoch of its channel. Its own pages still belong to the epoch.
    pub sync: bool,
    /// Number of the packet, counted across channels.
    pub packet_number: u64,
    block: &'a str,
    normal: &'a [[u8; 8]],
    zero: &'a [[u8; 8]],
}

impl<'a> PacketHeader<'a> {
    /// Checks and reads a header.
    pub fn parse(bytes: &'a [u8; PACKET_HEADER_BYTES]) -> Result<Self, MultifdError> {
        check_magic(bytes)?;
        let flags = be32(bytes, 8);
        if flags & !FLAG_SYNC != 0 {
            return Err(MultifdError::Flags { flags });
        }
        let (normal, zero) = page_counts(bytes)?;
        let (offsets, _) = bytes[OFFSETS_AT..].as_chunks();
        let header = Self {
            sync: flags & FLAG_SYNC != 0,
            packet_number: be64(bytes, 24),
            block: block_name(bytes, normal + zero)?,
            normal: &offsets[..normal],
            zero: &offsets[normal..normal + zero],
        };
        header.check_offsets()?;
        Ok(header)
    }

    /// Name of the RAM block that all pages of the packet belong to; empty if there are none.
    pub fn block(&self) -> &'a str {
        self.block
    }

    /// Number of pages whose bytes follow the header.
    pub fn normal_pages(&self) -> usize {
        self.normal.len()
    }

    /// Number of zero pages.
    pub fn zero_pages(&self) -> usize {
        self.zero.len()
    }

    /// How many bytes follow the header: [`PAGE_BYTES`] for each normal page.
    pub fn payload_bytes(&self) -> usize {
        self.normal.len() * PAGE_BYTES
    }

    /// Indexes of the pages whose bytes follow, in the order of the bytes.
    pub fn normal_indexes(&self) -> impl ExactSizeIterator<Item = u32> + use<'a> {
        self.normal.iter().map(page_index)
    }

    /// Indexes of the zero pages.
    pub fn zero_indexes(&self) -> impl ExactSizeIterator<Item = u32> + use<'a> {
        self.zero.iter().map(page_index)
    }

    /// Whether all pages are inside of a block with this many pages.
    pub fn is_within(&self, block_pages: u64) -> bool {
        self.normal
            .iter()
            .chain(self.zero)
            .all(|offset| u64::from(page_index(offset)) < block_pages)
    }

    fn check_offsets(&self) -> Result<(), MultifdError> {
        let bad =
            self.normal.iter().chain(self.zero).map(|offset| u64::from_be_bytes(*offset)).find(
                |offset| offset % PAGE_BYTES as u64 != 0 || offset / PAGE_BYTES as u64 > MAX_INDEX,
            );
        bad.map_or(Ok(()), |offset| Err(MultifdError::Offset { offset }))
    }
}

const MAX_INDEX: u64 = u32::MAX as u64;

/// `check_offsets` has seen that it fits.
fn page_index(offset: &[u8; 8]) -> u32 {
    (u64::from_be_bytes(*offset) / PAGE_BYTES as u64) as u32
}

fn page_counts(bytes: &[u8; PACKET_HEADER_BYTES]) -> Result<(usize, usize), MultifdError> {
    let (allocated, normal, zero) = (be32(bytes, 12), be32(bytes, 16), be32(bytes, 32));
    let fits = allocated as usize <= PACKET_PAGES_MAX
        && normal.checked_add(zero).is_some_and(|pages| pages <= allocated);
    if !fits {
        return Err(MultifdError::PageCount { normal, zero, allocated });
    }
    let payload_bytes = be32(bytes, 20);
    if payload_bytes as usize != normal as usize * PAGE_BYTES {
        return Err(MultifdError::PayloadLength { normal, payload_bytes });
    }
    Ok((normal as usize, zero as usize))
}

/// SYNC packets without pages may carry any name or none.
fn block_name(bytes: &[u8; PACKET_HEADER_BYTES], pages: usize) -> Result<&str, MultifdError> {
    if pages == 0 {
        return Ok("");
    }
    let field = &bytes[NAME_AT..OFFSETS_AT];
    let end = field.iter().position(|byte| *byte == 0).ok_or(MultifdError::BlockName)?;
    check_name(&field[..end]).map_err(|_| MultifdError::BlockName)
}

fn check_magic(bytes: &[u8]) -> Result<(), MultifdError> {
    let (magic, version) = (be32(bytes, 0), be32(bytes, 4));
    if magic != MAGIC {
        return Err(MultifdError::Magic { magic });
    }
    if version != VERSION {
        return Err(MultifdError::Version { version });
    }
    Ok(())
}

/// A packet's header from its parts: what tests and the synthetic guest send.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PacketPlan<'a> {
    /// Whether the packet ends an epoch.
    pub sync: bool,
    /// Number of the packet.
    pub packet_number: u64,
    /// RAM block of the pages.
    pub block: &'a BlockName,
    /// Pages whose bytes follow; with the zero pages at most [`PACKET_PAGES_MAX`].
    pub normal: &'a [u32],
    /// Zero pages.
    pub zero: &'a [u32],
}

impl PacketPlan<'_> {
    /// The header's bytes; refuses more than [`PACKET_PAGES_MAX`] pages.
    pub fn encode(&self) -> Result<[u8; PACKET_HEADER_BYTES], MultifdError> {
        let (normal, zero) = (self.normal.len() as u32, self.zero.len() as u32);
        if self.normal.len() + self.zero.len() > PACKET_PAGES_MAX {
            let allocated = PACKET_PAGES_MAX as u32;
            return Err(MultifdError::PageCount { normal, zero, allocated });
        }
        let pages = normal + zero;
        let mut bytes = [0; PACKET_HEADER_BYTES];
        let mut put = |at: usize, value: u32| {
            bytes[at..at + 4].copy_from_slice(&value.to_be_bytes());
        };
        put(0, MAGIC);
        put(4, VERSION);
        put(8, if self.sync { FLAG_SYNC } else { 0 });
        put(12, if pages > 0 { PACKET_PAGES_MAX as u32 } else { 0 });
        put(16, normal);
        put(20, normal * PAGE_BYTES as u32);
        put(32, zero);
        bytes[24..32].copy_from_slice(&self.packet_number.to_be_bytes());
        if pages > 0 {
            let name = self.block.as_str().as_bytes();
            bytes[NAME_AT..NAME_AT + name.len()].copy_from_slice(name);
        }
        let offsets = bytes[OFFSETS_AT..].chunks_exact_mut(8);
        for (offset, page) in offsets.zip(self.normal.iter().chain(self.zero)) {
            offset.copy_from_slice(&(u64::from(*page) * PAGE_BYTES as u64).to_be_bytes());
        }
        Ok(bytes)
    }
}

fn be32(bytes: &[u8], at: usize) -> u32 {
    bytes[at..].first_chunk().map_or(0, |bytes| u32::from_be_bytes(*bytes))
}

fn be64(bytes: &[u8], at: usize) -> u64 {
    bytes[at..].first_chunk().map_or(0, |bytes| u64::from_be_bytes(*bytes))
}
