//! Batch to pages.

use super::batch::{BATCH_HEADER_BYTES, BATCH_VERSION, BatchError, BatchHeader, PayloadKind};
use super::{BATCH_PAGES_MAX, PAGE_BYTES, Page, index_list};

/// Reads batches; one for each thread, it owns a zstd context and room for one payload.
pub struct BatchDecoder {
    decompressor: zstd::bulk::Decompressor<'static>,
    payload: Box<[u8]>,
    indexes: [u32; BATCH_PAGES_MAX],
}

impl std::fmt::Debug for BatchDecoder {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.debug_struct("BatchDecoder").finish_non_exhaustive()
    }
}

/// A checked batch.
#[derive(Debug, Clone, Copy)]
pub struct PageBatch<'a> {
    /// To which memory it belongs.
    pub header: BatchHeader,
    zero: &'a [u32],
    data: &'a [u32],
    payload: &'a [[u8; PAGE_BYTES]],
}

impl<'a> PageBatch<'a> {
    /// Indexes of the zero pages.
    pub fn zero(&self) -> &'a [u32] {
        self.zero
    }

    /// Indexes of the pages with data.
    pub fn data(&self) -> &'a [u32] {
        self.data
    }

    /// All pages, in the order in which they are to be applied. Every index is inside its block.
    pub fn pages(&self) -> impl Iterator<Item = (u32, Page<'a>)> + use<'a> {
        let zero = self.zero.iter().map(|index| (*index, Page::Zero));
        let data = self.data.iter().zip(self.payload);
        zero.chain(data.map(|(index, bytes)| (*index, Page::Data(bytes))))
    }
}

impl BatchDecoder {
    /// A decoder.
    pub fn new() -> Result<Self, BatchError> {
        let decompressor = zstd::bulk::Decompressor::new().map_err(|_| BatchError::Decompressor)?;
        let payload = vec![0; BATCH_PAGES_MAX * PAGE_BYTES].into_boxed_slice();
        Ok(Self { decompressor, payload, indexes: [0; BATCH_PAGES_MAX] })
    }

    /// Reads the one batch that `bytes` is, from its first to its last byte. `block_pages` says how
    /// many pages a RAM block has, or that there is no such block.
    pub fn decode<'a>(
        &'a mut self,
        bytes: &'a [u8],
        block_pages: impl FnOnce(u16) -> Option<u64>,
    ) -> Result<PageBatch<'a>, BatchError> {
        let envelope = Envelope::parse(bytes)?;
        let block = envelope.header.block;
        let block_pages = block_pages(block).ok_or(BatchError::UnknownBlock { block })?;

        let count = envelope.zero_count + envelope.data_count;
        let indexes = &mut self.indexes[..count];
        read_indexes(&envelope, indexes)?;
        if let Some(page_index) =
            indexes.iter().copied().find(|index| u64::from(*index) >= block_pages)
        {
            return Err(BatchError::PageOutsideBlock { block, page_index, block_pages });
        }
        let (zero, data) = indexes.split_at(envelope.zero_count);

        let room = &mut self.payload[..envelope.data_count * PAGE_BYTES];
        let payload = read_payload(&envelope, &mut self.decompressor, room)?;
        let (payload, _) = payload.as_chunks();
        Ok(PageBatch { header: envelope.header, zero, data, payload })
    }
}

/// The parts of a batch, lengths checked, contents not.
struct Envelope<'a> {
    header: BatchHeader,
    kind: PayloadKind,
    zero_count: usize,
    data_count: usize,
    lists: &'a [u8],
    payload: &'a [u8],
}

impl<'a> Envelope<'a> {
    fn parse(bytes: &'a [u8]) -> Result<Self, BatchError> {
        let too_short =
            BatchError::Length { found_bytes: bytes.len(), expected_bytes: BATCH_HEADER_BYTES };
        let (head, rest) = bytes.split_first_chunk::<BATCH_HEADER_BYTES>().ok_or(too_short)?;
        let &[
            version,
            kind,
            b0,
            b1,
            e0,
            e1,
            e2,
            e3,
            s0,
            s1,
            s2,
            s3,
            s4,
            s5,
            s6,
            s7,
            zero,
            data,
            l0,
            l1,
            p0,
            p1,
            p2,
            p3,
        ] = head;
        if version != BATCH_VERSION {
            return Err(BatchError::Version { version });
        }
        let kind = PayloadKind::from_wire(kind).ok_or(BatchError::PayloadKind { kind })?;
        if usize::from(zero) + usize::from(data) > BATCH_PAGES_MAX {
            return Err(BatchError::PageCount { zero, data });
        }
        let list_bytes = usize::from(u16::from_le_bytes([l0, l1]));
        let payload_bytes = u32::from_le_bytes([p0, p1, p2, p3]) as usize;
        if rest.len() != list_bytes + payload_bytes {
            let expected_bytes = BATCH_HEADER_BYTES + list_bytes + payload_bytes;
            return Err(BatchError::Length { found_bytes: bytes.len(), expected_bytes });
        }
        let (lists, payload) = rest.split_at(list_bytes);
        let header = BatchHeader {
            block: u16::from_le_bytes([b0, b1]),
            epoch: u32::from_le_bytes([e0, e1, e2, e3]),
            sequence: u64::from_le_bytes([s0, s1, s2, s3, s4, s5, s6, s7]),
        };
        let (zero_count, data_count) = (usize::from(zero), usize::from(data));
        Ok(Self { header, kind, zero_count, data_count, lists, payload })
    }
}

fn read_indexes(envelope: &Envelope<'_>, indexes: &mut [u32]) -> Result<(), BatchError> {
    let (zero, data) = indexes.split_at_mut(envelope.zero_count);
    let rest = index_list::decode(envelope.lists, zero)?;
    let rest = index_list::decode(rest, data)?;
    if rest.is_empty() { Ok(()) } else { Err(BatchError::IndexList) }
}

/// `room` is exactly as long as the payload must be, so a frame that wants more cannot have it.
fn read_payload<'a>(
    envelope: &Envelope<'a>,
    decompressor: &mut zstd::bulk::Decompressor<'static>,
    room: &'a mut [u8],
) -> Result<&'a [u8], BatchError> {
    let expected_bytes = room.len();
    let payload: &'a [u8] = match envelope.kind {
        PayloadKind::Raw => envelope.payload,
        PayloadKind::Zstd => {
            let written = decompressor
                .decompress_to_buffer(envelope.payload, room)
                .map_err(|_| BatchError::Payload { expected_bytes })?;
            &room[..written.min(expected_bytes)]
        }
    };
    if payload.len() == expected_bytes {
        Ok(payload)
    } else {
        Err(BatchError::Payload { expected_bytes })
    }
}
