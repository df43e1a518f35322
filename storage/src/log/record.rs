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
//! In an encrypted segment (see `segment`) the payload is ciphertext and its tag. Its number is the offset of the record;
//! authenticated are the bytes from 8 to 32 as well. So a record is taken for none at another place, of another kind or
//! with another index, whoever made the checksums. What stands in the head is readable: kinds, lengths and indexes.
//!
//! Integers are little-endian. The head has a checksum of its own so that a damaged length is told
//! from a record that was not written to its end, and so that a later record can be recognised
//! after a damaged one. The place is part of it so that a record which a drive wrote or read
//! elsewhere, or one that stands inside a payload, is not taken for one.

use std::io;

use bytes::Bytes;

use super::error::LogError;
use crate::cipher::{FileKey, TAG_BYTES};
use crate::damage::Damage;

pub(super) const HEADER_BYTES: usize = 32;

/// The most bytes of one entry, vote, committed position or purge description: 64 MiB, what a
/// segment holds by default. Larger things belong into snapshots; with one batch (8 MiB) on top a
/// segment stays below 256 MiB, and offsets within 32 bits.
pub const RECORD_BYTES_MAX: usize = 64 * 1024 * 1024;

/// The same, encrypted.
const PAYLOAD_BYTES_MAX: usize = RECORD_BYTES_MAX + TAG_BYTES;

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

    /// Appends the record to `out`, encrypted if there is a key; its payload has passed [`check_size`].
    pub(super) fn encode(
        &self,
        place: Place,
        (batch, ends_batch): (u64, bool),
        key: Option<&dyn FileKey>,
        out: &mut Vec<u8>,
    ) -> io::Result<()> {
        let payload = self.payload();
        let mut header = Header {
            payload_checksum: 0,
            payload_bytes: payload.len() + key.map_or(0, |_| TAG_BYTES),
            kind: self.kind(),
            ends_batch,
            batch,
            index: self.index(),
        };
        let start = out.len();
        out.extend_from_slice(&[0; HEADER_BYTES]);
        out.extend_from_slice(payload);
        let payload_at = start + HEADER_BYTES;
        if let Some(key) = key {
            let tag = key.seal(place.offset, &header.authenticated(), &mut out[payload_at..])?;
            out.extend_from_slice(&tag);
        }
        header.payload_checksum = crc32c::crc32c(&out[payload_at..]);
        out[start..payload_at].copy_from_slice(&header.encode(place));
        Ok(())
    }

    /// The record that `header` announces at a place. Payloads other than entries are copied,
    /// because they outlive the buffer they were read into.
    pub(super) fn decode(
        header: &Header,
        place: Place,
        payload: Bytes,
        key: Option<&dyn FileKey>,
    ) -> Result<Record, Damage> {
        if crc32c::crc32c(&payload) != header.payload_checksum {
            return Err(Damage::ContentChecksum);
        }
        let payload = match key {
            Some(key) => decrypt(header, place, &payload, key).ok_or(Damage::Encrypted)?,
            None => payload,
        };
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

fn decrypt(header: &Header, place: Place, payload: &[u8], key: &dyn FileKey) -> Option<Bytes> {
    let content_bytes = payload.len().checked_sub(TAG_BYTES)?;
    let mut content = payload.to_vec();
    key.open(place.offset, &header.authenticated(), &mut content)?;
    content.truncate(content_bytes);
    Some(content.into())
}

impl Header {
    /// What is authenticated with an encrypted payload: all but the checksums.
    fn authenticated(&self) -> [u8; HEADER_BYTES - 8] {
        let mut bytes = [0; HEADER_BYTES];
        self.put(&mut bytes);
        std::array::from_fn(|at| bytes[at + 8])
    }

    fn put(&self, bytes: &mut [u8; HEADER_BYTES]) {
        // Sizes are checked against a limit far below 4 GiB before they come here.
        bytes[8..12].copy_from_slice(&(self.payload_bytes as u32).to_le_bytes());
        bytes[12] = VERSION;
        bytes[13] = self.kind as u8;
        bytes[14] = u8::from(self.ends_batch);
        bytes[16..24].copy_from_slice(&self.batch.to_le_bytes());
        bytes[24..32].copy_from_slice(&self.index.to_le_bytes());
    }

    fn encode(&self, place: Place) -> [u8; HEADER_BYTES] {
        let mut bytes = [0; HEADER_BYTES];
        bytes[4..8].copy_from_slice(&self.payload_checksum.to_le_bytes());
        self.put(&mut bytes);
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
        let (Some(kind), 0..=1, 0, 0..=PAYLOAD_BYTES_MAX) =
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
        record.encode(PLACE, (42, true), None, &mut bytes).unwrap();
        bytes
    }

    fn decoded(bytes: &[u8], place: Place) -> Result<Record, Damage> {
        let (head, payload) = bytes.split_first_chunk().unwrap();
        let header = Header::decode(head, place)?;
        assert_eq!(
            (header.batch, header.ends_batch, header.payload_bytes),
            (42, true, payload.len())
        );
        Record::decode(&header, place, Bytes::copy_from_slice(payload), None)
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
