//! Walks the bytes of one segment, and tells a torn end from damage. Pure.

use std::ops::Range;

use std::sync::Arc;

use bytes::Bytes;

use super::record::{HEADER_BYTES, Header, Place, Record};
use super::segment::Head;
use super::state::Position;
use crate::cipher::{self, FileKey};
use crate::damage::Damage;

/// What a drive writes whole or not at all; larger units are multiples of it.
const SECTOR_BYTES: usize = 512;

/// One batch as it was read.
#[derive(Debug)]
pub(super) struct Batch {
    pub(super) records: Vec<(Record, Position)>,
    pub(super) span: Range<usize>,
}

/// Where the bytes stop being what was written.
#[derive(Debug)]
pub(super) struct Flaw {
    pub(super) span: Range<usize>,
    pub(super) damage: Damage,
}

/// The bytes of a segment.
#[derive(Debug)]
pub(super) struct Scan {
    number: u64,
    bytes: Bytes,
    key: Option<Arc<dyn FileKey>>,
}

impl Scan {
    pub(super) fn new(number: u64, bytes: Bytes) -> Scan {
        Scan { number, bytes, key: None }
    }

    /// The same, of an encrypted segment.
    pub(super) fn with_key(self, key: Option<Arc<dyn FileKey>>) -> Scan {
        Scan { key, ..self }
    }

    pub(super) fn bytes(&self, span: Range<usize>) -> &[u8] {
        &self.bytes[span]
    }

    pub(super) fn length_bytes(&self) -> usize {
        self.bytes.len()
    }

    /// The head of the segment.
    pub(super) fn head(&self) -> Result<Head, Flaw> {
        Head::decode(&self.bytes, self.number).map_err(|damage| {
            // The longer of both heads, where the version says so.
            let is_encrypted = self.bytes.get(8) == Some(&(cipher::ENCRYPTED_VERSION as u8));
            let head_bytes =
                if is_encrypted { cipher::HEAD_BYTES } else { cipher::PLAIN_HEAD_BYTES };
            Flaw { span: 0..head_bytes.min(self.bytes.len()), damage }
        })
    }

    /// The batch at `start`, which must have number `batch`; `None` at the end of the segment.
    pub(super) fn batch_at(&self, start: usize, batch: u64) -> Result<Option<Batch>, Flaw> {
        let mut records = Vec::new();
        let mut at = start;
        while at < self.bytes.len() {
            let (header, span) = self.header_at(at)?;
            if header.batch != batch {
                let what = format!("batch {}, due is {batch}", header.batch);
                return Err(Flaw { span, damage: Damage::OutOfOrder(what) });
            }
            records.push((self.record(&header, &span)?, self.position(&span)));
            at = span.end;
            if header.ends_batch {
                return Ok(Some(Batch { records, span: start..at }));
            }
        }
        match records.is_empty() {
            true => Ok(None),
            false => Err(Flaw { span: start..at, damage: Damage::Short }),
        }
    }

    /// Whether a power cut while batch `batch` was written explains the flaw: no later batch was
    /// written, and the flawed part ends too early or has a sector that was never written.
    pub(super) fn is_torn(&self, flaw: &Flaw, batch: u64) -> bool {
        let is_explained = match flaw.damage {
            Damage::Short => true,
            Damage::WrongMagic
            | Damage::UnknownVersion { .. }
            | Damage::HeadChecksum
            | Damage::ContentChecksum => self.has_unwritten_sector(&flaw.span),
            Damage::Long | Damage::Misplaced(_) | Damage::OutOfOrder(_) | Damage::Missing => false,
            // Whole, or its checksum would be wrong.
            Damage::Encrypted => false,
            // Of sealed files only; no record of a log is flawed so.
            Damage::ContentHash | Damage::Label => false,
        };
        is_explained && !self.has_later_batch(flaw.span.start, batch)
    }

    /// The head of the record at `at`, and the span of the whole record.
    fn header_at(&self, at: usize) -> Result<(Header, Range<usize>), Flaw> {
        let rest = &self.bytes[at..];
        let Some(head) = rest.first_chunk::<HEADER_BYTES>() else {
            return Err(Flaw { span: at..self.bytes.len(), damage: Damage::Short });
        };
        let header = Header::decode(head, self.place(at))
            .map_err(|damage| Flaw { span: at..at + HEADER_BYTES, damage })?;
        let end = at + HEADER_BYTES + header.payload_bytes;
        if end > self.bytes.len() {
            return Err(Flaw { span: at..self.bytes.len(), damage: Damage::Short });
        }
        Ok((header, at..end))
    }

    fn record(&self, header: &Header, span: &Range<usize>) -> Result<Record, Flaw> {
        let payload = self.bytes.slice(span.start + HEADER_BYTES..span.end);
        let place = self.place(span.start);
        let record = Record::decode(header, place, payload, self.key.as_deref());
        record.map_err(|damage| Flaw { span: span.clone(), damage })
    }

    fn position(&self, span: &Range<usize>) -> Position {
        Position {
            segment: self.number,
            offset: span.start as u32,
            length: (span.end - span.start) as u32,
        }
    }

    fn place(&self, at: usize) -> Place {
        Place { segment: self.number, offset: at as u64 }
    }

    /// Looks at every offset, because behind a damaged length nobody knows where records start.
    fn has_later_batch(&self, from: usize, batch: u64) -> bool {
        self.bytes[from..].windows(HEADER_BYTES).enumerate().any(|(distance, window)| {
            window
                .first_chunk()
                .and_then(|head| Header::decode(head, self.place(from + distance)).ok())
                .is_some_and(|header| header.batch > batch)
        })
    }

    /// Whether the part of `span` in some sector is all zeros, as a file reads where its length
    /// reached the disk and its bytes did not.
    fn has_unwritten_sector(&self, span: &Range<usize>) -> bool {
        let mut start = span.start;
        while start < span.end {
            let end = ((start / SECTOR_BYTES + 1) * SECTOR_BYTES).min(span.end);
            if self.bytes[start..end].iter().all(|byte| *byte == 0) {
                return true;
            }
            start = end;
        }
        false
    }
}
