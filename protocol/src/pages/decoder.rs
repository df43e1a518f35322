//! Batch to pages.

use super::batch::{
    BATCH_HEADER_BYTES, BATCH_VERSION, BatchError, BatchHeader, BodyKind, FORMS, Form, FormCounts,
    keep_numbers_fit,
};
use super::patch::Patch;
use super::{BATCH_PAGES_MAX, PAGE_BYTES, distinct, index_list, varint};

/// Bytes of a body at most: a patch is shorter than a page.
const BODY_BYTES_MAX: usize = BATCH_PAGES_MAX * PAGE_BYTES;

/// Reads batches; one for each thread, it owns a zstd context and room for one body.
pub struct BatchDecoder {
    decompressor: zstd::bulk::Decompressor<'static>,
    body: Box<[u8]>,
    lists: Lists,
}

impl std::fmt::Debug for BatchDecoder {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.debug_struct("BatchDecoder").finish_non_exhaustive()
    }
}

/// What the lists of a batch say.
#[derive(Debug)]
struct Lists {
    indexes: [u32; BATCH_PAGES_MAX],
    slots: [u64; BATCH_PAGES_MAX],
    bases: [u32; BATCH_PAGES_MAX],
    patch_ends: [usize; BATCH_PAGES_MAX],
}

/// One page of a batch, in the form in which it came.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PageForm<'a> {
    /// All bytes are zero.
    Zero,
    /// It is here already.
    Known {
        /// Under this number.
        slot: u64,
    },
    /// What changed.
    Differing {
        /// Since this epoch.
        base_epoch: u32,
        /// The change.
        patch: Patch<'a>,
    },
    /// The bytes.
    Whole {
        /// They are kept under this number, if they are.
        keep_as: Option<u64>,
        /// The bytes.
        content: &'a [u8; PAGE_BYTES],
    },
}

/// A checked batch.
#[derive(Debug, Clone, Copy)]
pub struct PageBatch<'a> {
    /// To which memory it belongs.
    pub header: BatchHeader,
    counts: FormCounts,
    lists: &'a Lists,
    body: &'a [u8],
    raw: &'a [[u8; PAGE_BYTES]],
}

impl<'a> PageBatch<'a> {
    /// How many pages of each form there are.
    pub fn counts(&self) -> FormCounts {
        self.counts
    }

    /// All pages, in the order in which they are to be applied. Every index is inside its block.
    pub fn pages(&self) -> impl Iterator<Item = (u32, PageForm<'a>)> + use<'a> {
        let batch = *self;
        let forms = batch.zero().chain(batch.known()).chain(batch.differing()).chain(batch.whole());
        self.lists.indexes.iter().copied().zip(forms)
    }

    fn zero(self) -> impl Iterator<Item = PageForm<'a>> {
        (0..self.counts.of(Form::Zero)).map(|_| PageForm::Zero)
    }

    fn known(self) -> impl Iterator<Item = PageForm<'a>> {
        let slots = &self.lists.slots[..self.counts.of(Form::Known)];
        slots.iter().map(|slot| PageForm::Known { slot: *slot })
    }

    fn differing(self) -> impl Iterator<Item = PageForm<'a>> {
        let count = self.counts.of(Form::Differing);
        let ends = self.lists.patch_ends[..count].iter();
        let begins = [0].into_iter().chain(ends.clone().copied());
        let patches = begins.zip(ends).map(move |(begin, end)| &self.body[begin..*end]);
        let bases = self.lists.bases[..count].iter();
        bases.zip(patches).map(|(base, runs)| PageForm::Differing {
            base_epoch: *base,
            patch: Patch::checked(runs),
        })
    }

    fn whole(self) -> impl Iterator<Item = PageForm<'a>> {
        let patches_end = patches_end(self.lists, self.counts);
        let (packed, _) = self.body[patches_end..].as_chunks::<PAGE_BYTES>();
        let pages = packed.iter().chain(self.raw);
        let keep_from = self.header.keep_from;
        (0..).zip(pages).map(move |(at, content)| {
            let keep_as = keep_from.and_then(|first| first.checked_add(at));
            PageForm::Whole { keep_as, content }
        })
    }
}

fn patches_end(lists: &Lists, counts: FormCounts) -> usize {
    counts.of(Form::Differing).checked_sub(1).map_or(0, |last| lists.patch_ends[last])
}

impl BatchDecoder {
    /// A decoder.
    ///
    /// # Errors
    /// [`BatchError::Decompressor`].
    pub fn new() -> Result<Self, BatchError> {
        let decompressor = zstd::bulk::Decompressor::new().map_err(|_| BatchError::Decompressor)?;
        let body = vec![0; BODY_BYTES_MAX].into_boxed_slice();
        let lists = Lists {
            indexes: [0; BATCH_PAGES_MAX],
            slots: [0; BATCH_PAGES_MAX],
            bases: [0; BATCH_PAGES_MAX],
            patch_ends: [0; BATCH_PAGES_MAX],
        };
        Ok(Self { decompressor, body, lists })
    }

    /// Reads the one batch that `bytes` is, from its first to its last byte. `block_pages` says how many pages a RAM
    /// block has, or that there is no such block.
    ///
    /// # Errors
    /// [`BatchError`].
    pub fn decode<'a>(
        &'a mut self,
        bytes: &'a [u8],
        block_pages: impl FnOnce(u16) -> Option<u64>,
    ) -> Result<PageBatch<'a>, BatchError> {
        let envelope = Envelope::parse(bytes)?;
        let block = envelope.header.block;
        let block_pages = block_pages(block).ok_or(BatchError::UnknownBlock { block })?;
        self.lists.read(&envelope)?;
        let indexes = self.lists.indexes[..envelope.counts.total()].iter().copied();
        if let Some(page_index) = indexes.clone().find(|index| u64::from(*index) >= block_pages) {
            return Err(BatchError::PageOutsideBlock { block, page_index, block_pages });
        }
        if let Some(page_index) = distinct::named_twice(indexes) {
            return Err(BatchError::PageTwice { page_index });
        }
        let patches_end = patches_end(&self.lists, envelope.counts);
        let body_bytes = patches_end + envelope.counts.of(Form::Packed) * PAGE_BYTES;
        let refusal = BatchError::Body { expected_bytes: body_bytes };
        let room = self.body.get_mut(..body_bytes).ok_or(refusal)?;
        let body = read_body(&envelope, &mut self.decompressor, room)?;
        check_patches(&self.lists, envelope.counts, body)?;
        let (raw, _) = envelope.raw.as_chunks();
        let (header, counts) = (envelope.header, envelope.counts);
        Ok(PageBatch { header, counts, lists: &self.lists, body, raw })
    }
}

/// The parts of a batch, lengths checked, contents not.
struct Envelope<'a> {
    header: BatchHeader,
    kind: BodyKind,
    counts: FormCounts,
    lists: &'a [u8],
    body: &'a [u8],
    raw: &'a [u8],
}

impl<'a> Envelope<'a> {
    fn parse(bytes: &'a [u8]) -> Result<Self, BatchError> {
        let found_bytes = bytes.len();
        let too_short = BatchError::Length { found_bytes, expected_bytes: BATCH_HEADER_BYTES };
        let (head, rest) = bytes.split_first_chunk::<BATCH_HEADER_BYTES>().ok_or(too_short)?;
        let mut fields = Fields(head);
        let [version, kind] = fields.take();
        if version != BATCH_VERSION {
            return Err(BatchError::Version { version });
        }
        let kind = BodyKind::from_wire(kind).ok_or(BatchError::BodyKind { kind })?;
        let block = u16::from_le_bytes(fields.take());
        let epoch = u32::from_le_bytes(fields.take());
        let sequence = u64::from_le_bytes(fields.take());
        let counts = FormCounts(fields.take::<FORMS>());
        if counts.total() > BATCH_PAGES_MAX {
            return Err(BatchError::PageCount { pages: counts.total() });
        }
        if fields.take::<3>() != [0; 3] {
            return Err(BatchError::Reserved);
        }
        let keep_from = u64::from_le_bytes(fields.take()).checked_sub(1);
        let kept = counts.of(Form::Packed) + counts.of(Form::Raw);
        if keep_from.is_some_and(|first| !keep_numbers_fit(first, kept)) {
            return Err(BatchError::KeepNumbers);
        }
        let lists_bytes = u32::from_le_bytes(fields.take()) as usize;
        let body_bytes = u32::from_le_bytes(fields.take()) as usize;
        let raw_bytes = counts.of(Form::Raw) * PAGE_BYTES;
        if rest.len() != lists_bytes + body_bytes + raw_bytes {
            let expected_bytes = BATCH_HEADER_BYTES + lists_bytes + body_bytes + raw_bytes;
            return Err(BatchError::Length { found_bytes, expected_bytes });
        }
        let (lists, rest) = rest.split_at(lists_bytes);
        let (body, raw) = rest.split_at(body_bytes);
        let header = BatchHeader { block, epoch, sequence, keep_from };
        Ok(Self { header, kind, counts, lists, body, raw })
    }
}

/// Fields of the header, one after the other.
struct Fields<'a>(&'a [u8]);

impl Fields<'_> {
    /// The header is as long as all of its fields.
    fn take<const BYTES: usize>(&mut self) -> [u8; BYTES] {
        let Some((field, rest)) = self.0.split_first_chunk() else { return [0; BYTES] };
        self.0 = rest;
        *field
    }
}

impl Lists {
    fn read(&mut self, envelope: &Envelope<'_>) -> Result<(), BatchError> {
        let mut rest = envelope.lists;
        let mut begin = 0;
        for count in envelope.counts.0 {
            let end = begin + usize::from(count);
            rest = index_list::decode(rest, &mut self.indexes[begin..end])?;
            begin = end;
        }
        self.read_slots(&mut rest, envelope.counts)?;
        self.read_patch_heads(&mut rest, envelope)?;
        if rest.is_empty() { Ok(()) } else { Err(BatchError::IndexList) }
    }

    fn read_slots(&mut self, rest: &mut &[u8], counts: FormCounts) -> Result<(), BatchError> {
        let mut expected = 0_u64;
        for slot in &mut self.slots[..counts.of(Form::Known)] {
            let distance = varint::take(rest).ok_or(BatchError::IndexList)?;
            *slot = expected.wrapping_add(varint::unzigzag(distance) as u64);
            expected = slot.wrapping_add(1);
        }
        Ok(())
    }

    fn read_patch_heads(
        &mut self,
        rest: &mut &[u8],
        envelope: &Envelope<'_>,
    ) -> Result<(), BatchError> {
        let mut end = 0;
        for at in 0..envelope.counts.of(Form::Differing) {
            let distance = varint::take(rest).ok_or(BatchError::IndexList)?;
            let distance = u32::try_from(distance).map_err(|_| BatchError::IndexList)?;
            let base = envelope.header.epoch.checked_sub(distance);
            self.bases[at] = base.ok_or(BatchError::IndexList)?;
            let patch_bytes = varint::take(rest).ok_or(BatchError::IndexList)?;
            if patch_bytes >= PAGE_BYTES as u64 {
                return Err(BatchError::Patch);
            }
            end += patch_bytes as usize;
            self.patch_ends[at] = end;
        }
        Ok(())
    }
}

fn check_patches(lists: &Lists, counts: FormCounts, body: &[u8]) -> Result<(), BatchError> {
    let mut begin = 0;
    for end in &lists.patch_ends[..counts.of(Form::Differing)] {
        body.get(begin..*end).and_then(Patch::parse).ok_or(BatchError::Patch)?;
        begin = *end;
    }
    Ok(())
}

/// `room` is exactly as long as the body must be, so a frame that wants more cannot have it.
fn read_body<'a>(
    envelope: &Envelope<'a>,
    decompressor: &mut zstd::bulk::Decompressor<'static>,
    room: &'a mut [u8],
) -> Result<&'a [u8], BatchError> {
    let expected_bytes = room.len();
    let body: &'a [u8] = match envelope.kind {
        BodyKind::Plain => envelope.body,
        BodyKind::Zstd => {
            let written = decompressor
                .decompress_to_buffer(envelope.body, room)
                .map_err(|_| BatchError::Body { expected_bytes })?;
            &room[..written.min(expected_bytes)]
        }
    };
    if body.len() == expected_bytes { Ok(body) } else { Err(BatchError::Body { expected_bytes }) }
}
