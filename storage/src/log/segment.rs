//! One file of the log.
//!
//! ```text
//! offset  bytes
//!      0      8  "novalog\n"
//!      8      4  version of the segment format (1)
//!     12      4  crc32c of the head without this field
//!     16      8  number of the segment, as in its name
//!     24      8  number of its first batch
//!     32      …  records
//! ```
//!
//! Integers are little-endian. The first batch carries the vote, committed and purge that stood
//! when the segment was made (there is none if nothing stood). Head and carried batch are written
//! and synced at once, before the file gets its durable name and before anything else is written.
//! So with a torn head or first batch nothing is lost that was acknowledged.

use std::path::{Path, PathBuf};

use bytes::Bytes;

use super::error::LogError;
use super::record::{HEADER_BYTES, Header, Place, Record};
use super::state::Position;
use crate::damage::{Damage, Damaged};
use crate::disk::{Disk, DiskError, DiskFile};

pub(super) const HEAD_BYTES: usize = 32;

const MAGIC: [u8; 8] = *b"novalog\n";
const VERSION: u32 = 1;
const NAME_SUFFIX: &str = ".log";

/// Twenty digits hold every `u64`, so that names sort as numbers do.
pub(super) fn path(directory: &Path, number: u64) -> PathBuf {
    directory.join(format!("{number:020}{NAME_SUFFIX}"))
}

/// The number in the name of a segment; `None` for files that are not segments.
pub(super) fn number_of(name: &str) -> Option<u64> {
    let digits = name.strip_suffix(NAME_SUFFIX)?;
    let is_number = digits.len() == 20 && digits.bytes().all(|digit| digit.is_ascii_digit());
    if is_number { digits.parse().ok() } else { None }
}

/// Encodes the head of a segment.
pub(super) fn head(number: u64, first_batch: u64) -> [u8; HEAD_BYTES] {
    let mut bytes = [0; HEAD_BYTES];
    bytes[..8].copy_from_slice(&MAGIC);
    bytes[8..12].copy_from_slice(&VERSION.to_le_bytes());
    bytes[16..24].copy_from_slice(&number.to_le_bytes());
    bytes[24..].copy_from_slice(&first_batch.to_le_bytes());
    let checksum = head_checksum(&bytes);
    bytes[12..16].copy_from_slice(&checksum.to_le_bytes());
    bytes
}

/// The number of the first batch, from the head of segment `number`.
pub(super) fn first_batch(bytes: &[u8], number: u64) -> Result<u64, Damage> {
    let head: &[u8; HEAD_BYTES] = bytes.first_chunk().ok_or(Damage::Short)?;
    let [_, _, _, _, _, _, _, _, v0, v1, v2, v3, c0, c1, c2, c3, numbers @ ..] = *head;
    if head[..8] != MAGIC {
        return Err(Damage::WrongMagic);
    }
    // Before the checksum: another version may compute it otherwise.
    let version = u32::from_le_bytes([v0, v1, v2, v3]);
    if version != VERSION {
        return Err(Damage::UnknownVersion { found: version, supported: VERSION });
    }
    if u32::from_le_bytes([c0, c1, c2, c3]) != head_checksum(head) {
        return Err(Damage::HeadChecksum);
    }
    let [found, first_batch] = two_numbers(numbers);
    if found != number {
        return Err(Damage::Misplaced(format!("segment {found}")));
    }
    Ok(first_batch)
}

fn head_checksum(head: &[u8; HEAD_BYTES]) -> u32 {
    crc32c::crc32c_append(crc32c::crc32c(&head[..12]), &head[16..])
}

fn two_numbers(bytes: [u8; 16]) -> [u64; 2] {
    let both = u128::from_le_bytes(bytes);
    [both as u64, (both >> 64) as u64]
}

/// An open segment whose content is known to be good up to `length_bytes`, where it ends.
#[derive(Debug)]
pub(super) struct Segment {
    number: u64,
    path: PathBuf,
    file: Box<dyn DiskFile>,
    length_bytes: u64,
}

impl Segment {
    /// Makes a segment and all of it durable, its name included.
    pub(super) fn create(
        disk: &dyn Disk,
        directory: &Path,
        number: u64,
        first_batch: u64,
        carried: &[Record],
    ) -> Result<Segment, DiskError> {
        let path = path(directory, number);
        let file = disk.create(&path)?;
        let mut segment = Segment { number, path, file, length_bytes: 0 };
        let mut bytes = head(number, first_batch).to_vec();
        segment.encode_batch(first_batch, carried, &mut bytes);
        segment.append(&bytes)?;
        disk.sync_directory(directory)?;
        Ok(segment)
    }

    pub(super) fn open(
        disk: &dyn Disk,
        directory: &Path,
        number: u64,
    ) -> Result<Segment, DiskError> {
        let path = path(directory, number);
        let file = disk.open(&path)?;
        let length_bytes = file.len()?;
        Ok(Segment { number, path, file, length_bytes })
    }

    pub(super) fn number(&self) -> u64 {
        self.number
    }

    pub(super) fn length_bytes(&self) -> u64 {
        self.length_bytes
    }

    pub(super) fn read_whole(&self) -> Result<Bytes, DiskError> {
        crate::disk::read_whole(&*self.file).map(Bytes::from)
    }

    /// Writes records as one batch and syncs them.
    pub(super) fn append_batch(
        &mut self,
        batch: u64,
        records: &[Record],
    ) -> Result<Vec<Position>, DiskError> {
        let mut bytes = Vec::new();
        let positions = self.encode_batch(batch, records, &mut bytes);
        self.append(&bytes)?;
        Ok(positions)
    }

    /// Cuts what a power cut tore; durable once the rest is settled.
    pub(super) fn cut(&mut self, length_bytes: u64) -> Result<(), DiskError> {
        self.file.truncate(length_bytes)?;
        self.length_bytes = length_bytes;
        Ok(())
    }

    /// Writes `bytes` again where they were read, and syncs them; see the head of `log`.
    pub(super) fn settle(&mut self, offset: u64, bytes: &[u8]) -> Result<(), DiskError> {
        self.file.overwrite(offset, bytes)?;
        self.file.sync_data()
    }

    /// Reads one entry back, and checks that it is still what was written.
    pub(super) fn read_entry(
        &self,
        disk: &dyn Disk,
        index: u64,
        position: Position,
    ) -> Result<Bytes, LogError> {
        let place = Place { segment: self.number, offset: position.offset.into() };
        let mut bytes = vec![0; position.length as usize];
        self.file.read_at(place.offset, &mut bytes)?;
        entry_from(bytes.into(), index, place).map_err(|damage| {
            Damaged { file: disk.full_path(&self.path), offset: place.offset, damage }.into()
        })
    }

    fn append(&mut self, bytes: &[u8]) -> Result<(), DiskError> {
        self.file.append(bytes)?;
        self.file.sync_data()?;
        self.length_bytes += bytes.len() as u64;
        Ok(())
    }

    /// Encodes records as they will stand at the end of the file, after what `out` holds already.
    fn encode_batch(&self, batch: u64, records: &[Record], out: &mut Vec<u8>) -> Vec<Position> {
        let mut positions = Vec::with_capacity(records.len());
        for (at, record) in records.iter().enumerate() {
            let start = out.len();
            let offset = self.length_bytes + start as u64;
            let ends_batch = at + 1 == records.len();
            record.encode(Place { segment: self.number, offset }, batch, ends_batch, out);
            positions.push(Position {
                segment: self.number,
                offset: offset as u32,
                length: (out.len() - start) as u32,
            });
        }
        positions
    }
}

fn entry_from(bytes: Bytes, index: u64, place: Place) -> Result<Bytes, Damage> {
    let head: &[u8; HEADER_BYTES] = bytes.first_chunk().ok_or(Damage::Short)?;
    let header = Header::decode(head, place)?;
    match Record::decode(&header, bytes.slice(HEADER_BYTES..))? {
        Record::Entry { index: found, bytes } if found == index => Ok(bytes),
        _ => Err(Damage::Misplaced(format!("a record other than entry {index}"))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_numbers_and_nothing_else_is() {
        let name = path(Path::new(""), 7);
        assert_eq!(number_of(name.to_str().unwrap()), Some(7));
        for other in ["7.log", "00000000000000000007", "+0000000000000000007.log", "x.log"] {
            assert_eq!(number_of(other), None, "{other}");
        }
    }

    #[test]
    fn a_head_says_what_is_wrong_with_it() {
        let good = head(3, 9);
        assert_eq!(first_batch(&good, 3), Ok(9));
        assert_eq!(first_batch(&good[..31], 3), Err(Damage::Short));
        assert!(matches!(first_batch(&good, 4), Err(Damage::Misplaced(_))));
        let spoiled = |at: usize| {
            let mut bytes = good;
            bytes[at] ^= 1;
            first_batch(&bytes, 3)
        };
        assert_eq!(spoiled(0), Err(Damage::WrongMagic));
        assert_eq!(spoiled(9), Err(Damage::UnknownVersion { found: 257, supported: 1 }));
        assert_eq!(spoiled(12), Err(Damage::HeadChecksum));
        assert_eq!(spoiled(30), Err(Damage::HeadChecksum));
    }
}
