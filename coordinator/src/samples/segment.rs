//! One file of points: a stretch of time at one level, of everything that was measured then. Pure.
//!
//! ```text
//! offset  bytes
//!      0      8  magic
//!      8      2  version of the format (1)
//!     10      1  level: 0 ticks, 1 minutes, 2 quarters
//!     11      1  zero
//!     12      4  number of entries
//!     16      8  the second with which it begins
//!     24      4  where the index begins
//!     28      4  points of a series
//!     32      8  xxh3 of what stands before
//!     40      …  entries
//!             …  index: 257 numbers of entries whose hash begins with a smaller byte, and for each entry, by hash:
//!                8 bytes hash of its key, 4 its place, 4 its length
//! ```
//!
//! An entry is the key (a length, then the resource's text), the number of its series, for each of them metric, device,
//! whether it is one point for all or one for each, and the points; at its end 8 bytes xxh3. Integers are little-endian.
//! One entry is found with four small reads, however many there are. Each is checked when it is read: one that is damaged
//! is as if it were not there.

#[cfg(test)]
use std::collections::BTreeMap;

use novacron_protocol::metric::Metric;
use novacron_storage::disk::{DiskError, DiskFile};
use xxhash_rust::xxh3::xxh3_64;

use super::level::Level;
use super::rollup::Rollup;
use super::short::Short;
use super::table::Resource;
use super::track::{Points, SeriesKey};

const MAGIC: [u8; 8] = *b"novasmp\n";
const VERSION: u16 = 1;
const HEAD_BYTES: usize = 40;
const FANOUT: usize = 257;
const FANOUT_BYTES: usize = FANOUT * 4;
const PLACE_BYTES: usize = 16;
const HASH_BYTES: usize = 8;

/// Bytes of one entry: 128 series of 15 points of three numbers are 12 KiB.
const ENTRY_BYTES_MAX: usize = 64 * 1024;

/// Why a file cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum SegmentError {
    /// The disk.
    #[error(transparent)]
    Disk(#[from] DiskError),
    /// It is not what was written.
    #[error("a file of samples is damaged: {0}")]
    Damaged(&'static str),
    /// It would be larger than the format can say.
    #[error("a file of samples would be larger than 4 GiB")]
    TooLarge,
}

/// A file in the making.
#[derive(Debug)]
pub struct SegmentWriter {
    level: Level,
    begin_s: u64,
    bytes: Vec<u8>,
    /// By hash of the key: where an entry is, and how long.
    places: Vec<(u64, u32, u32)>,
}

impl SegmentWriter {
    /// Of a level, from a second on.
    pub fn new(level: Level, begin_s: u64) -> Self {
        Self { level, begin_s, bytes: vec![0; HEAD_BYTES], places: Vec::new() }
    }

    /// Whether there is nothing in it.
    pub fn is_empty(&self) -> bool {
        self.places.is_empty()
    }

    /// Takes the points of a thing; series without any are left out.
    ///
    /// # Errors
    /// [`SegmentError::TooLarge`].
    pub fn add(
        &mut self,
        resource: &Resource,
        series: impl IntoIterator<Item = Points>,
    ) -> Result<(), SegmentError> {
        let is_there = |(_, points): &Points| points.iter().any(Option::is_some);
        let series: Vec<Points> = series.into_iter().filter(is_there).collect();
        if series.is_empty() {
            return Ok(());
        }
        let begin = self.bytes.len();
        let key = resource.to_text();
        self.bytes.push(u8::try_from(key.len()).map_err(|_| SegmentError::TooLarge)?);
        self.bytes.extend_from_slice(key.as_bytes());
        let count = u16::try_from(series.len()).map_err(|_| SegmentError::TooLarge)?;
        self.bytes.extend_from_slice(&count.to_le_bytes());
        for (key, points) in &series {
            self.put_series(*key, points);
        }
        let sum = xxh3_64(&self.bytes[begin..]);
        self.bytes.extend_from_slice(&sum.to_le_bytes());
        let length = u32::try_from(self.bytes.len() - begin).map_err(|_| SegmentError::TooLarge)?;
        let begin = u32::try_from(begin).map_err(|_| SegmentError::TooLarge)?;
        self.places.push((xxh3_64(key.as_bytes()), begin, length));
        Ok(())
    }

    fn put_series(&mut self, key: SeriesKey, points: &[Option<Rollup>]) {
        let is_steady = points.windows(2).all(|pair| pair[0] == pair[1]);
        self.bytes.extend_from_slice(&[key.metric.number(), key.device, u8::from(!is_steady)]);
        let points = if is_steady { &points[..1] } else { points };
        for point in points {
            for number in numbers(self.level, *point) {
                self.bytes.extend_from_slice(&number.0.to_le_bytes());
            }
        }
    }

    /// The whole file.
    ///
    /// # Errors
    /// [`SegmentError::TooLarge`].
    pub fn finish(mut self) -> Result<Vec<u8>, SegmentError> {
        self.places.sort_unstable();
        let index = u32::try_from(self.bytes.len()).map_err(|_| SegmentError::TooLarge)?;
        let count = u32::try_from(self.places.len()).map_err(|_| SegmentError::TooLarge)?;
        for first in 0..FANOUT as u64 {
            let below = self.places.partition_point(|(hash, ..)| hash >> 56 < first);
            self.bytes.extend_from_slice(&(below as u32).to_le_bytes());
        }
        for (hash, place, length) in &self.places {
            self.bytes.extend_from_slice(&hash.to_le_bytes());
            self.bytes.extend_from_slice(&place.to_le_bytes());
            self.bytes.extend_from_slice(&length.to_le_bytes());
        }
        let head = head(self.level, count, self.begin_s, index);
        self.bytes[..HEAD_BYTES].copy_from_slice(&head);
        Ok(self.bytes)
    }
}

fn head(level: Level, count: u32, begin_s: u64, index: u32) -> Vec<u8> {
    let mut head = MAGIC.to_vec();
    head.extend_from_slice(&VERSION.to_le_bytes());
    head.extend_from_slice(&[level as u8, 0]);
    head.extend_from_slice(&count.to_le_bytes());
    head.extend_from_slice(&begin_s.to_le_bytes());
    head.extend_from_slice(&index.to_le_bytes());
    head.extend_from_slice(&(level.points_per_file() as u32).to_le_bytes());
    let sum = xxh3_64(&head);
    head.extend_from_slice(&sum.to_le_bytes());
    head
}

fn numbers(level: Level, point: Option<Rollup>) -> impl Iterator<Item = Short> {
    let of = |number: fn(&Rollup) -> u64| Short::of_some(point.as_ref().map(number));
    let all = [of(|point| point.average), of(|point| point.minimum), of(|point| point.maximum)];
    all.into_iter().take(level.numbers_per_point())
}

/// A file that is there.
#[derive(Debug)]
pub struct Segment {
    file: Box<dyn DiskFile>,
    level: Level,
    begin_s: u64,
    count: usize,
    index: u64,
}

impl Segment {
    /// Opens a file.
    ///
    /// # Errors
    /// [`SegmentError`].
    pub fn open(file: Box<dyn DiskFile>) -> Result<Self, SegmentError> {
        let length = file.len()?;
        if length < HEAD_BYTES as u64 {
            return Err(SegmentError::Damaged("it ends within its head"));
        }
        let found: [u8; HEAD_BYTES] = read(&*file, 0)?;
        let number = |at: usize| u32::from_le_bytes([0, 1, 2, 3].map(|byte| found[at + byte]));
        let begin_s = u64::from_le_bytes([0, 1, 2, 3, 4, 5, 6, 7].map(|byte| found[16 + byte]));
        let level = *Level::ALL
            .get(usize::from(found[10]))
            .ok_or(SegmentError::Damaged("its level is unknown"))?;
        let (count, index) = (number(12), number(24));
        if found[..] != head(level, count, begin_s, index)[..] {
            return Err(SegmentError::Damaged("its head is not what was written"));
        }
        let (count, index) = (count as usize, u64::from(index));
        let expected = index + (FANOUT_BYTES + count * PLACE_BYTES) as u64;
        if length != expected {
            return Err(SegmentError::Damaged("its length is not what was written"));
        }
        Ok(Self { file, level, begin_s, count, index })
    }

    /// The second with which it begins.
    pub fn begin_s(&self) -> u64 {
        self.begin_s
    }

    /// The points of a thing; none if nothing was measured of it.
    ///
    /// # Errors
    /// [`SegmentError`].
    pub fn find(&self, resource: &Resource) -> Result<Vec<Points>, SegmentError> {
        let key = resource.to_text();
        let hash = xxh3_64(key.as_bytes());
        for (_, place, length) in self.places(hash)?.into_iter().filter(|place| place.0 == hash) {
            let (found, points) = self.entry(place, length)?;
            if found == key {
                return Ok(points);
            }
        }
        Ok(Vec::new())
    }

    /// Everything in it, one after the other. What is damaged is an error in its place.
    ///
    /// # Errors
    /// [`SegmentError`] if there is no telling what is in it.
    pub fn all(
        &self,
    ) -> Result<impl Iterator<Item = Result<(Resource, Vec<Points>), SegmentError>>, SegmentError>
    {
        let mut places = self.read_places(0..self.count)?;
        places.sort_unstable_by_key(|(_, place, _)| *place);
        let entry = |(_, place, length)| {
            let (key, points) = self.entry(place, length)?;
            let unknown = || SegmentError::Damaged("an entry is of nothing that can be");
            Ok((Resource::of_text(&key).ok_or_else(unknown)?, points))
        };
        Ok(places.into_iter().map(entry))
    }

    /// Where entries are whose hash begins with the same byte.
    fn places(&self, hash: u64) -> Result<Vec<(u64, u32, u32)>, SegmentError> {
        let first = (hash >> 56) as usize;
        let ends: [u8; 8] = read(&*self.file, self.index + 4 * first as u64)?;
        let end = |at: usize| u32::from_le_bytes([0, 1, 2, 3].map(|byte| ends[at + byte])) as usize;
        let (begin, end) = (end(0), end(4));
        if begin > end || end > self.count {
            return Err(SegmentError::Damaged("its index is not what was written"));
        }
        self.read_places(begin..end)
    }

    fn read_places(
        &self,
        range: std::ops::Range<usize>,
    ) -> Result<Vec<(u64, u32, u32)>, SegmentError> {
        let mut bytes = vec![0; range.len() * PLACE_BYTES];
        let begin = self.index + (FANOUT_BYTES + range.start * PLACE_BYTES) as u64;
        self.file.read_at(begin, &mut bytes)?;
        let place = |bytes: &[u8]| {
            let (hash, rest) = bytes.split_first_chunk::<8>()?;
            let (place, length) = rest.split_first_chunk::<4>()?;
            let length = length.first_chunk::<4>()?;
            let numbers = (u32::from_le_bytes(*place), u32::from_le_bytes(*length));
            Some((u64::from_le_bytes(*hash), numbers.0, numbers.1))
        };
        Ok(bytes.chunks_exact(PLACE_BYTES).filter_map(place).collect())
    }

    fn entry(&self, place: u32, length: u32) -> Result<(String, Vec<Points>), SegmentError> {
        let (place, length) = (u64::from(place), length as usize);
        let is_inside = place >= HEAD_BYTES as u64 && place + length as u64 <= self.index;
        if !is_inside || !(HASH_BYTES..=ENTRY_BYTES_MAX).contains(&length) {
            return Err(SegmentError::Damaged("its index is not what was written"));
        }
        let mut bytes = vec![0; length];
        self.file.read_at(place, &mut bytes)?;
        let (bytes, sum) = bytes.split_at(length - HASH_BYTES);
        if xxh3_64(bytes).to_le_bytes() != *sum {
            return Err(SegmentError::Damaged("an entry is not what was written"));
        }
        parse(self.level, bytes).ok_or(SegmentError::Damaged("an entry makes no sense"))
    }
}

fn read<const COUNT: usize>(file: &dyn DiskFile, at: u64) -> Result<[u8; COUNT], DiskError> {
    let mut bytes = [0; COUNT];
    file.read_at(at, &mut bytes)?;
    Ok(bytes)
}

/// An entry without its sum. Series of metrics that this program does not know are left out.
fn parse(level: Level, mut bytes: &[u8]) -> Option<(String, Vec<Points>)> {
    let key_bytes = usize::from(*bytes.split_off_first()?);
    let key = std::str::from_utf8(bytes.split_off(..key_bytes)?).ok()?.to_owned();
    let count = u16::from_le_bytes(*bytes.split_off(..2)?.first_chunk()?);
    let mut series = Vec::with_capacity(usize::from(count));
    for _ in 0..count {
        let [metric, device, form] = *bytes.split_off(..3)?.first_chunk()?;
        let points = level.points_per_file();
        let stored = if form == 0 { 1 } else { points };
        let body = bytes.split_off(..stored * level.numbers_per_point() * 2)?;
        let Some(metric) = Metric::of_number(metric) else { continue };
        let read: Vec<_> = body.chunks_exact(level.numbers_per_point() * 2).map(point).collect();
        let all = if form == 0 { vec![read[0]; points] } else { read };
        series.push((SeriesKey { metric, device }, all));
    }
    bytes.is_empty().then_some((key, series))
}

fn point(bytes: &[u8]) -> Option<Rollup> {
    let mut numbers = bytes
        .chunks_exact(2)
        .map(|number| Short(u16::from_le_bytes([number[0], number[1]])).value());
    let average = numbers.next()??;
    match (numbers.next(), numbers.next()) {
        (Some(minimum), Some(maximum)) => {
            Some(Rollup { average, minimum: minimum?, maximum: maximum? })
        }
        _ => Some(Rollup::of_one(average)),
    }
}

/// Entries by resource.
#[cfg(test)]
pub(super) type Entries = BTreeMap<Resource, Vec<Points>>;

#[cfg(test)]
mod tests;
