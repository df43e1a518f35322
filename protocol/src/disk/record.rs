//! The wire form of a run of blocks, version 1.
//!
//! | offset | bytes | field, little-endian |
//! |---|---|---|
//! | 0 | 1 | version, 1 |
//! | 1 | 1 | kind: 0 zeros, 1 raw, 2 one or more zstd frames |
//! | 2 | 2 | reserved, 0 |
//! | 4 | 4 | bytes of the disk that the record is about |
//! | 8 | 8 | where on the disk they begin |
//! | 16 | | payload: the bytes, in the way of the kind; nothing for zeros |
//!
//! Offset and length are multiples of 64 KiB, the length is not 0, at most
//! [`DATA_RECORD_BYTES_MAX`] with data and [`ZERO_RECORD_BYTES_MAX`] without.
//!
//! A record ends with its payload: it is framed by whoever carries it. Records of a disk are applied
//! in the order of their stream, a later one over an earlier.

use crate::limits::DISK_BLOCK_BYTES;

/// The only version there is.
pub const RECORD_VERSION: u8 = 1;
/// Bytes before the payload.
pub const RECORD_HEADER_BYTES: usize = 16;
/// Bytes of the disk in a record with data: large enough for zstd, and one write at the target.
pub const DATA_RECORD_BYTES_MAX: usize = 1 << 20;
/// Bytes of the disk in a record of zeros: the largest multiple of 64 KiB in 32 bits.
pub const ZERO_RECORD_BYTES_MAX: u32 = u32::MAX - (DISK_BLOCK_BYTES as u32 - 1);
/// The longest record: compression that does not pay is not used.
pub const RECORD_BYTES_MAX: usize = RECORD_HEADER_BYTES + DATA_RECORD_BYTES_MAX;

/// A run of neighbouring blocks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Record<'a> {
    /// Where on the disk it begins, in bytes.
    pub offset: u64,
    /// What is there.
    pub content: RunContent<'a>,
}

/// What a run holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RunContent<'a> {
    /// So many zero bytes.
    Zero(u32),
    /// These bytes.
    Data(&'a [u8]),
}

impl Record<'_> {
    /// Bytes of the disk that it is about.
    pub fn disk_bytes(&self) -> u64 {
        match self.content {
            RunContent::Zero(bytes) => u64::from(bytes),
            RunContent::Data(bytes) => bytes.len() as u64,
        }
    }

    /// Whether it is a run of whole blocks of which a record can speak.
    pub fn check(&self) -> Result<(), RecordError> {
        let (bytes, bytes_max) = match self.content {
            RunContent::Zero(bytes) => (u64::from(bytes), u64::from(ZERO_RECORD_BYTES_MAX)),
            RunContent::Data(bytes) => (bytes.len() as u64, DATA_RECORD_BYTES_MAX as u64),
        };
        check_extent(self.offset, bytes, bytes_max)
    }
}

/// How the payload is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum RecordKind {
    Zero,
    Raw,
    Zstd,
}

impl RecordKind {
    pub(super) fn from_wire(kind: u8) -> Option<Self> {
        match kind {
            0 => Some(Self::Zero),
            1 => Some(Self::Raw),
            2 => Some(Self::Zstd),
            _ => None,
        }
    }

    pub(super) fn to_wire(self) -> u8 {
        match self {
            Self::Zero => 0,
            Self::Raw => 1,
            Self::Zstd => 2,
        }
    }
}

pub(super) fn check_extent(offset: u64, bytes: u64, bytes_max: u64) -> Result<(), RecordError> {
    let whole = offset.is_multiple_of(DISK_BLOCK_BYTES) && bytes.is_multiple_of(DISK_BLOCK_BYTES);
    if whole && (1..=bytes_max).contains(&bytes) {
        Ok(())
    } else {
        Err(RecordError::Extent { offset, bytes })
    }
}

/// The bytes are not a record of this disk.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum RecordError {
    /// Shorter than the header.
    #[error("disk record of {bytes} bytes, shorter than its header")]
    Length {
        /// How long it is.
        bytes: usize,
    },
    /// A version that is not [`RECORD_VERSION`].
    #[error("disk record version {version}, not {RECORD_VERSION}")]
    Version {
        /// The version.
        version: u8,
    },
    /// A kind of the future.
    #[error("disk record of kind {kind}")]
    Kind {
        /// The kind.
        kind: u8,
    },
    /// Reserved bytes that are not zero.
    #[error("disk record with reserved bytes in use")]
    Reserved,
    /// Not whole blocks, none, or too many.
    #[error("disk record of {bytes} bytes at {offset}, which no record may have")]
    Extent {
        /// Where it begins.
        offset: u64,
        /// Bytes of the disk.
        bytes: u64,
    },
    /// Behind the end of the disk.
    #[error(
        "disk record of {bytes} bytes at {offset} is outside of the disk of {disk_bytes} bytes"
    )]
    OutsideDisk {
        /// Where it begins.
        offset: u64,
        /// Bytes of the disk that it is about.
        bytes: u64,
        /// Bytes of the disk.
        disk_bytes: u64,
    },
    /// The payload is not what the header announces, before or after decompression.
    #[error("payload of a disk record is not exactly {expected_bytes} bytes")]
    Payload {
        /// Bytes announced.
        expected_bytes: usize,
    },
    /// No memory for a decompressor.
    #[error("zstd decompressor")]
    Decompressor,
}
