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
//! On a disk with a cipher the head has a key as well (see `cipher`), which is for this number of a segment; the payloads
//! of all records are encrypted with it. The number of what is encrypted is its offset, and a power cut may take back what
//! stood at an offset: so only the opening of the log that made an encrypted segment writes records to it, and the next
//! one begins a segment, with a new salt. Writing the last batch again writes the same bytes.
//!
//! Integers are little-endian. The first batch carries the vote, committed and purge that stood
//! when the segment was made (there is none if nothing stood). Head and carried batch are written
//! and synced at once, before the file gets its durable name and before anything else is written.
//! So with a torn head or first batch nothing is lost that was acknowledged.

use std::path::{Path, PathBuf};

use std::sync::Arc;

use bytes::Bytes;

use super::error::LogError;
use super::record::{HEADER_BYTES, Header, Place, Record};
use super::state::Position;
use crate::cipher::{self, FileKey, KeyHead, Locked};
use crate::damage::{Damage, Damaged};
use crate::disk::{Disk, DiskError, DiskFile, Operation};

const HEAD_BYTES: usize = cipher::PLAIN_HEAD_BYTES;

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
fn head(number: u64, first_batch: u64, key: Option<&KeyHead>) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(cipher::HEAD_BYTES);
    let version = if key.is_some() { cipher::ENCRYPTED_VERSION } else { VERSION };
    bytes.extend_from_slice(&MAGIC);
    bytes.extend_from_slice(&version.to_le_bytes());
    bytes.extend_from_slice(&[0; 4]);
    bytes.extend_from_slice(&number.to_le_bytes());
    bytes.extend_from_slice(&first_batch.to_le_bytes());
    bytes.extend(key.iter().flat_map(|key| key.encode()));
    let checksum = cipher::head_checksum(&bytes);
    bytes[12..16].copy_from_slice(&checksum.to_le_bytes());
    bytes
}

/// What the head of a segment says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Head {
    pub(super) first_batch: u64,
    key: Option<KeyHead>,
}

impl Head {
    pub(super) fn length_bytes(&self) -> usize {
        if self.key.is_some() { cipher::HEAD_BYTES } else { HEAD_BYTES }
    }

    /// The head at the beginning of segment `number`.
    pub(super) fn decode(bytes: &[u8], number: u64) -> Result<Head, Damage> {
        let head: &[u8; HEAD_BYTES] = bytes.first_chunk().ok_or(Damage::Short)?;
        let [_, _, _, _, _, _, _, _, v0, v1, v2, v3, c0, c1, c2, c3, numbers @ ..] = *head;
        if head[..8] != MAGIC {
            return Err(Damage::WrongMagic);
        }
        // Before the checksum: another version may compute it otherwise.
        let (checksum, key) = match u32::from_le_bytes([v0, v1, v2, v3]) {
            VERSION => (cipher::head_checksum(head), None),
            cipher::ENCRYPTED_VERSION => {
                let whole = bytes.first_chunk().ok_or(Damage::Short)?;
                (cipher::head_checksum(whole), Some(KeyHead::decode(whole)))
            }
            found => return Err(Damage::UnknownVersion { found, supported: VERSION }),
        };
        if u32::from_le_bytes([c0, c1, c2, c3]) != checksum {
            return Err(Damage::HeadChecksum);
        }
        let [found, first_batch] = two_numbers(numbers);
        if found != number {
            return Err(Damage::Misplaced(format!("segment {found}")));
        }
        Ok(Head { first_batch, key })
    }
}

/// What the key of a segment is for.
fn context(number: u64) -> Vec<u8> {
    [&MAGIC[..], &number.to_le_bytes()].concat()
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
    key: Option<Arc<dyn FileKey>>,
    /// Whether this opening of the log made it.
    is_new: bool,
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
        let failed = |source| DiskError {
            operation: Operation::Create,
            path: disk.full_path(&path),
            source,
        };
        let begun = disk.cipher().map(|cipher| cipher::begin(&*cipher, &context(number)));
        let (key_head, key) = begun.transpose().map_err(failed)?.unzip();
        let file = disk.create(&path)?;
        let mut segment = Segment { number, path, file, length_bytes: 0, key, is_new: true };
        let mut bytes = head(number, first_batch, key_head.as_ref());
        segment.encode_batch(first_batch, carried, &mut bytes)?;
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
        Ok(Segment { number, path, file, length_bytes, key: None, is_new: false })
    }

    /// Takes the key that the head asks for, from now on.
    pub(super) fn unlock(&mut self, disk: &dyn Disk, head: &Head) -> Result<(), Locked> {
        let key = cipher::resume(disk.cipher().as_ref(), head.key.as_ref(), &context(self.number));
        self.key = key.map_err(|problem| Locked { file: disk.full_path(&self.path), problem })?;
        Ok(())
    }

    pub(super) fn key(&self) -> Option<&Arc<dyn FileKey>> {
        self.key.as_ref()
    }

    /// Whether records may be added: see the module.
    pub(super) fn takes_records(&self) -> bool {
        self.is_new || self.key.is_none()
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
        let positions = self.encode_batch(batch, records, &mut bytes)?;
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
        entry_from(bytes.into(), index, place, self.key.as_deref()).map_err(|damage| {
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
    fn encode_batch(
        &self,
        batch: u64,
        records: &[Record],
        out: &mut Vec<u8>,
    ) -> Result<Vec<Position>, DiskError> {
        let failed =
            |source| DiskError { operation: Operation::Append, path: self.path.clone(), source };
        let mut positions = Vec::with_capacity(records.len());
        for (at, record) in records.iter().enumerate() {
            let start = out.len();
            let offset = self.length_bytes + start as u64;
            let (place, ends_batch) =
                (Place { segment: self.number, offset }, at + 1 == records.len());
            record.encode(place, (batch, ends_batch), self.key.as_deref(), out).map_err(failed)?;
            positions.push(Position {
                segment: self.number,
                offset: offset as u32,
                length: (out.len() - start) as u32,
            });
        }
        Ok(positions)
    }
}

fn entry_from(
    bytes: Bytes,
    index: u64,
    place: Place,
    key: Option<&dyn FileKey>,
) -> Result<Bytes, Damage> {
    let head: &[u8; HEADER_BYTES] = bytes.first_chunk().ok_or(Damage::Short)?;
    let header = Header::decode(head, place)?;
    match Record::decode(&header, place, bytes.slice(HEADER_BYTES..), key)? {
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
        let good = head(3, 9, None);
        assert_eq!(Head::decode(&good, 3), Ok(Head { first_batch: 9, key: None }));
        assert_eq!(Head::decode(&good[..31], 3), Err(Damage::Short));
        assert!(matches!(Head::decode(&good, 4), Err(Damage::Misplaced(_))));
        let spoiled = |at: usize| {
            let mut bytes = good.clone();
            bytes[at] ^= 1;
            Head::decode(&bytes, 3)
        };
        assert_eq!(spoiled(0), Err(Damage::WrongMagic));
        assert_eq!(spoiled(9), Err(Damage::UnknownVersion { found: 257, supported: 1 }));
        assert_eq!(spoiled(12), Err(Damage::HeadChecksum));
        assert_eq!(spoiled(30), Err(Damage::HeadChecksum));
    }
}
