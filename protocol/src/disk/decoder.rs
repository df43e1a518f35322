//! Record to a run of blocks.

use super::record::{
    DATA_RECORD_BYTES_MAX, RECORD_HEADER_BYTES, RECORD_VERSION, Record, RecordError, RecordKind,
    RunContent, ZERO_RECORD_BYTES_MAX, check_extent,
};

/// Reads records; one for each thread, it owns a zstd context and room for one payload.
pub struct RecordDecoder {
    decompressor: zstd::bulk::Decompressor<'static>,
    payload: Box<[u8]>,
}

impl std::fmt::Debug for RecordDecoder {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.debug_struct("RecordDecoder").finish_non_exhaustive()
    }
}

impl RecordDecoder {
    /// A decoder.
    pub fn new() -> Result<Self, RecordError> {
        let decompressor =
            zstd::bulk::Decompressor::new().map_err(|_| RecordError::Decompressor)?;
        Ok(Self { decompressor, payload: vec![0; DATA_RECORD_BYTES_MAX].into_boxed_slice() })
    }

    /// Reads the one record that `bytes` is, from its first to its last byte, of a disk of
    /// `disk_bytes` bytes.
    pub fn decode<'a>(
        &'a mut self,
        bytes: &'a [u8],
        disk_bytes: u64,
    ) -> Result<Record<'a>, RecordError> {
        let envelope = Envelope::parse(bytes)?;
        let (offset, bytes) = (envelope.offset, envelope.disk_bytes);
        let end = offset.checked_add(u64::from(bytes));
        if end.is_none_or(|end| end > disk_bytes) {
            return Err(RecordError::OutsideDisk { offset, bytes: bytes.into(), disk_bytes });
        }
        let content = self.read_content(&envelope)?;
        Ok(Record { offset, content })
    }

    /// The room for decompression is exactly as long as the payload must be, so a frame that wants more cannot have it.
    fn read_content<'a>(
        &'a mut self,
        envelope: &Envelope<'a>,
    ) -> Result<RunContent<'a>, RecordError> {
        let (payload, expected_bytes) = (envelope.payload, envelope.disk_bytes as usize);
        let refusal = RecordError::Payload { expected_bytes };
        match envelope.kind {
            RecordKind::Zero if payload.is_empty() => Ok(RunContent::Zero(envelope.disk_bytes)),
            RecordKind::Raw if payload.len() == expected_bytes => Ok(RunContent::Data(payload)),
            RecordKind::Zstd => {
                let room = &mut self.payload[..expected_bytes];
                match self.decompressor.decompress_to_buffer(payload, room) {
                    Ok(written) if written == expected_bytes => Ok(RunContent::Data(room)),
                    _ => Err(refusal),
                }
            }
            RecordKind::Zero | RecordKind::Raw => Err(refusal),
        }
    }
}

/// The parts of a record: extent checked against what a record may have, payload not.
struct Envelope<'a> {
    kind: RecordKind,
    disk_bytes: u32,
    offset: u64,
    payload: &'a [u8],
}

impl<'a> Envelope<'a> {
    fn parse(bytes: &'a [u8]) -> Result<Self, RecordError> {
        let too_short = RecordError::Length { bytes: bytes.len() };
        let (head, payload) = bytes.split_first_chunk::<RECORD_HEADER_BYTES>().ok_or(too_short)?;
        let &[version, kind, r0, r1, l0, l1, l2, l3, o0, o1, o2, o3, o4, o5, o6, o7] = head;
        if version != RECORD_VERSION {
            return Err(RecordError::Version { version });
        }
        let kind = RecordKind::from_wire(kind).ok_or(RecordError::Kind { kind })?;
        if (r0, r1) != (0, 0) {
            return Err(RecordError::Reserved);
        }
        let disk_bytes = u32::from_le_bytes([l0, l1, l2, l3]);
        let offset = u64::from_le_bytes([o0, o1, o2, o3, o4, o5, o6, o7]);
        let bytes_max = match kind {
            RecordKind::Zero => ZERO_RECORD_BYTES_MAX,
            RecordKind::Raw | RecordKind::Zstd => DATA_RECORD_BYTES_MAX as u32,
        };
        check_extent(offset, disk_bytes.into(), bytes_max.into())?;
        Ok(Self { kind, disk_bytes, offset, payload })
    }
}
