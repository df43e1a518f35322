//! One record on disk.
//!
//! ```text
//! offset  bytes
//!      0      4  crc32c of the place (segment number, offset in the file) and the 28 bytes below
//!      4      4  crc32c of the payload
//!      8      4  length of the payload
//!     12      1  version of the record format (1)
//!     13      1  kind
//!     14      1  1 if the record is the last of its batch, else 0
//!     15      1  0
//!     16      8  number of the batch
//!     24      8  index (0 for kinds without one)
//!     32      …  payload
//! ```
//!
//! Integers are little-endian. The head has a checksum of its own so that a damaged length is told
//! from a record that was not written to its end, and so that a later record can be recognised
//! after a damaged one. The place is part of it so that a record which a drive wrote or read
//! elsewhere, or one that stands inside a payload, is not taken for one.

use bytes::Bytes;

use super::error::LogError;
use crate::damage::Damage;

pub(super) const HEADER_BYTES: usize = 32;

/// The most bytes of one entry, vote, committed position or purge description: 64 MiB, what a
/// segment holds by default. Larger things belong into snapshots; with one batch (8 MiB) on top a
/// segment stays below 256 MiB, and offsets within 32 bits.
pub const RECORD_BYTES_MAX: usize = 64 * 1024 * 1024;

const VERSION: u8 = 1;

#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Record {
    Entry { index: u64, bytes: Bytes },
    Vote(Bytes),
    Committed(Bytes),
    Truncate { from: u64 },
    Purge { up_to: u64, description: Bytes },
}

/// The numbers of the kinds are the format: never reuse one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    Entry = 1,
    Vote = 2,
    Committed = 3,
    Truncate = 4,
    Purge = 5,
}

/// Where a record stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Place {
    pub(super) segment: u64,
    pub(super) offset: u64,
}

/// What the head of a record says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Header {
    payload_checksum: u32,
    pub(super) payload_bytes: usize,
    pub(super) kind: Kind,
    pub(super) ends_batch: bool,
    pub(super) batch: u64,
    pub(super) index: u64,
}

pub(super) fn check_size(bytes: usize) -> Result<(), LogError> {
    if bytes <= RECORD_BYTES_MAX { Ok(()) } else { Err(LogError::TooLarge { bytes }) }
}

impl Record {
    pub(super) fn payload(&self) -> &[u8] {
        match self {
            Record::Entry { bytes, .. } | Record::Vote(bytes) | Record::Committed(bytes) => bytes,
            Record::Truncate { .. } => &[],
            Record::Purge { description, .. } => description,
        }
    }

    /// Appends the record to `out`; its payload has passed [`check_size`].
    pub(super) fn encode(&self, place: Place, batch: u64, ends_batch: bool, out: &mut Vec<u8>) {
        let payload = self.payload();
        let header = Header {
            payload_checksum: crc32c::crc32c(payload),
            payload_bytes: payload.len(),
            kind: self.kind(),
            ends_batch,
            batch,
            index: self.index(),
        };
        out.extend_from_slice(&header.encode(place));
        out.extend_from_slice(payload);
    }

    /// The record that `header` announces. Payloads other than entries are copied, because they
    /// outlive the buffer they were read into.
    pub(super) fn decode(header: &Header, payload: Bytes) -> Result<Record, Damage> {
        if crc32c::crc32c(&payload) != header.payload_checksum {
            return Err(Damage::ContentChecksum);
        }
        let kept = || Bytes::copy_from_slice(&payload);
        Ok(match header.kind {
            Kind::Entry => Record::Entry { index: header.index, bytes: payload },
            Kind::Vote => Record::Vote(kept()),
            Kind::Committed => Record::Committed(kept()),
            Kind::Truncate => Record::Truncate { from: header.index },
            Kind::Purge => Record::Purge { up_to: header.index, description: kept() },
        })
    }

    fn kind(&self) -> Kind {
        match self {
            Record::Entry { .. } => Kind::Entry,
            Record::Vote(_) => Kind::Vote,
            Record::Committed(_) => Kind::Committed,
            Record::Truncate { .. } => Kind::Truncate,
            Record::Purge { .. } => Kind::Purge,
        }
    }

    fn index(&self) -> u64 {
        match self {
            Record::Entry { index, .. } => *index,
            Record::Vote(_) | Record::Committed(_) => 0,
            Record::Truncate { from } => *from,
            Record::Purge { up_to, .. } => *up_to,
        }
    }
}

impl Header {
    fn encode(&self, place: Place) -> [u8; HEADER_BYTES] {
        let mut bytes = [0; HEADER_BYTES];
        bytes[4..8].copy_from_slice(&self.payload_checksum.to_le_bytes());
        // Sizes are checked against a limit far below 4 GiB before they come here.
        bytes[8..12].copy_from_slice(&(self.payload_bytes as u32).to_le_bytes());
        bytes[12] = VERSION;
        bytes[13] = self.kind as u8;
        bytes[14] = u8::from(self.ends_batch);
        bytes[16..24].copy_from_slice(&self.batch.to_le_bytes());
        bytes[24..32].copy_from_slice(&self.index.to_le_bytes());
        let checksum = header_checksum(place, &bytes);
        bytes[..4].copy_from_slice(&checksum.to_le_bytes());
        bytes
    }

    pub(super) fn decode(bytes: &[u8; HEADER_BYTES], place: Place) -> Result<Header, Damage> {
        if u32_at(bytes, 0) != header_checksum(place, bytes) {
            return Err(Damage::HeadChecksum);
        }
        if bytes[12] != VERSION {
            return Err(Damage::UnknownVersion {
                found: bytes[12].into(),
                supported: VERSION.into(),
            });
        }
        let payload_bytes = u32_at(bytes, 8) as usize;
        let (Some(kind), 0..=1, 0, 0..=RECORD_BYTES_MAX) =
            (Kind::from_number(bytes[13]), bytes[14], bytes[15], payload_bytes)
        else {
            return Err(Damage::OutOfOrder("a head that no program writes".to_owned()));
        };
        Ok(Header {
            payload_checksum: u32_at(bytes, 4),
            payload_bytes,
            kind,
            ends_batch: bytes[14] == 1,
            batch: u64_at(bytes, 16),
            index: u64_at(bytes, 24),
        })
    }
}

impl Kind {
    fn from_number(number: u8) -> Option<Kind> {
        [Kind::Entry, Kind::Vote, Kind::Committed, Kind::Truncate, Kind::Purge]
            .into_iter()
            .find(|kind| *kind as u8 == number)
    }
}

fn header_checksum(place: Place, header: &[u8; HEADER_BYTES]) -> u32 {
    let checksum = crc32c::crc32c(&place.segment.to_le_bytes());
    let checksum = crc32c::crc32c_append(checksum, &place.offset.to_le_bytes());
    crc32c::crc32c_append(checksum, &header[4..])
}

fn u32_at(bytes: &[u8; HEADER_BYTES], at: usize) -> u32 {
    u32::from_le_bytes([bytes[at], bytes[at + 1], bytes[at + 2], bytes[at + 3]])
}

fn u64_at(bytes: &[u8; HEADER_BYTES], at: usize) -> u64 {
    u64::from(u32_at(bytes, at)) | u64::from(u32_at(bytes, at + 4)) << 32
}

#[cfg(test)]
mod tests {
    use super::*;

    const PLACE: Place = Place { segment: 7, offset: 4096 };

    fn encoded(record: &Record) -> Vec<u8> {
        let mut bytes = Vec::new();
        record.encode(PLACE, 42, true, &mut bytes);
        bytes
    }

    fn decoded(bytes: &[u8], place: Place) -> Result<Record, Damage> {
        let (head, payload) = bytes.split_first_chunk().unwrap();
        let header = Header::decode(head, place)?;
        assert_eq!(
            (header.batch, header.ends_batch, header.payload_bytes),
            (42, true, payload.len())
        );
        Record::decode(&header, Bytes::copy_from_slice(payload))
    }

    #[test]
    fn every_kind_comes_back() {
        for record in [
            Record::Entry { index: u64::MAX, bytes: "entry".into() },
            Record::Entry { index: 0, bytes: Bytes::new() },
            Record::Vote("vote".into()),
            Record::Committed("committed".into()),
            Record::Truncate { from: 9 },
            Record::Purge { up_to: 8, description: "purged".into() },
        ] {
            assert_eq!(decoded(&encoded(&record), PLACE), Ok(record));
        }
    }

    #[test]
    fn every_flipped_bit_is_noticed() {
        let whole = encoded(&Record::Entry { index: 3, bytes: "some bytes".into() });
        for bit in 0..whole.len() * 8 {
            let mut bytes = whole.clone();
            bytes[bit / 8] ^= 1 << (bit % 8);
            assert!(decoded(&bytes, PLACE).is_err(), "bit {bit}");
        }
    }

    #[test]
    fn a_record_in_another_place_is_noticed() {
        let bytes = encoded(&Record::Vote("vote".into()));
        for place in [Place { segment: 8, ..PLACE }, Place { offset: 0, ..PLACE }] {
            assert_eq!(decoded(&bytes, place), Err(Damage::HeadChecksum));
        }
    }
}
