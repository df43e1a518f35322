//! The pages of a batch before they are written: which, in which form, with which bytes.

use super::batch::{BatchHeader, FORMS, Form, FormCounts};
use super::patch;
use super::{BATCH_PAGES_MAX, PAGE_BYTES, compressible};

type Page = [u8; PAGE_BYTES];

static NO_PAGE: Page = [0; PAGE_BYTES];

/// A difference may take so many bytes of a page that does not compress: every byte of it is one less to send.
const PATCH_BYTES_MAX_RAW: usize = 3072;
/// The same of a page that compresses: of such pages of a running guest zstd leaves 44 %, and patches are compressed as
/// well. When this was 768, the one page in eighty that had changed by more cost a third of all bytes.
const PATCH_BYTES_MAX_PACKED: usize = 2048;

/// Pages of one batch; the contents are borrowed from wherever they were received. Each page may be named once.
///
/// [`super::BatchEncoder::begin`] makes it, and [`super::BatchEncoder::encode`] takes its memory back.
pub struct BatchContent<'a> {
    pub(super) header: BatchHeader,
    /// Whether pages that compress are told from those that do not.
    packs: bool,
    indexes: [[u32; BATCH_PAGES_MAX]; FORMS],
    counts: [usize; FORMS],
    slots: [u64; BATCH_PAGES_MAX],
    bases: [u32; BATCH_PAGES_MAX],
    patch_bytes: [u16; BATCH_PAGES_MAX],
    patches: Vec<u8>,
    packed: [&'a Page; BATCH_PAGES_MAX],
    raw: [&'a Page; BATCH_PAGES_MAX],
}

impl std::fmt::Debug for BatchContent<'_> {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.debug_struct("BatchContent").field("counts", &self.counts).finish_non_exhaustive()
    }
}

impl<'a> BatchContent<'a> {
    /// No pages. `patches` is empty: it is room that is used again.
    pub(super) fn new(header: BatchHeader, packs: bool, patches: Vec<u8>) -> Self {
        Self {
            header,
            packs,
            indexes: [[0; BATCH_PAGES_MAX]; FORMS],
            counts: [0; FORMS],
            slots: [0; BATCH_PAGES_MAX],
            bases: [0; BATCH_PAGES_MAX],
            patch_bytes: [0; BATCH_PAGES_MAX],
            patches,
            packed: [&NO_PAGE; BATCH_PAGES_MAX],
            raw: [&NO_PAGE; BATCH_PAGES_MAX],
        }
    }

    /// Number of pages of all forms.
    pub fn len(&self) -> usize {
        self.counts.iter().sum()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Whether no page can be added.
    pub fn is_full(&self) -> bool {
        self.len() >= BATCH_PAGES_MAX
    }

    /// Adds a page of zeros; false if there are [`BATCH_PAGES_MAX`] already.
    #[must_use]
    pub fn push_zero(&mut self, page_index: u32) -> bool {
        self.place(Form::Zero, page_index).is_some()
    }

    /// Adds a page that the target has under the number `slot`; false if there are [`BATCH_PAGES_MAX`] already.
    #[must_use]
    pub fn push_known(&mut self, page_index: u32, slot: u64) -> bool {
        let placed = self.place(Form::Known, page_index);
        if let Some(at) = placed {
            self.slots[at] = slot;
        }
        placed.is_some()
    }

    /// Adds a page by what changed since it was sent in `base_epoch`, when it was `base`; false, and it is not added, if
    /// that does not pay, if the epoch is after that of the batch, or if there are [`BATCH_PAGES_MAX`] already.
    #[must_use]
    pub fn push_differing(
        &mut self,
        page_index: u32,
        base_epoch: u32,
        base: &Page,
        content: &Page,
    ) -> bool {
        if self.is_full() || base_epoch > self.header.epoch {
            return false;
        }
        let begin = self.patches.len();
        if !patch::encode(base, content, PATCH_BYTES_MAX_RAW, &mut self.patches) {
            return false;
        }
        let patch_bytes = self.patches.len() - begin;
        let pays = patch_bytes <= PATCH_BYTES_MAX_PACKED || !self.would_pack(content);
        let placed = pays.then(|| self.place(Form::Differing, page_index)).flatten();
        match placed {
            Some(at) => {
                self.bases[at] = base_epoch;
                // At most PATCH_BYTES_MAX_RAW.
                self.patch_bytes[at] = patch_bytes as u16;
            }
            None => self.patches.truncate(begin),
        }
        placed.is_some()
    }

    /// Adds a page with its content; false if there are [`BATCH_PAGES_MAX`] already.
    #[must_use]
    pub fn push_whole(&mut self, page_index: u32, content: &'a Page) -> bool {
        let is_packed = self.would_pack(content);
        let form = if is_packed { Form::Packed } else { Form::Raw };
        let placed = self.place(form, page_index);
        if let Some(at) = placed {
            let pages = if is_packed { &mut self.packed } else { &mut self.raw };
            pages[at] = content;
        }
        placed.is_some()
    }

    /// Pages that are sent whole.
    pub fn whole_pages(&self) -> usize {
        self.counts[Form::Packed as usize] + self.counts[Form::Raw as usize]
    }

    /// The indexes of the pages that are sent whole, in the order in which they get their numbers.
    pub fn whole_indexes(&self) -> impl Iterator<Item = u32> {
        [Form::Packed, Form::Raw].into_iter().flat_map(|form| self.indexes(form)).copied()
    }

    /// Lets the target keep the pages that are sent whole under this number and those that follow.
    pub fn keep_from(&mut self, first: u64) {
        self.header.keep_from = Some(first);
    }

    /// How many there are of each form.
    pub fn counts(&self) -> FormCounts {
        // Each at most BATCH_PAGES_MAX = 128.
        FormCounts(self.counts.map(|count| count as u8))
    }

    fn would_pack(&self, content: &Page) -> bool {
        self.packs && compressible::worth_trying(content)
    }

    fn place(&mut self, form: Form, page_index: u32) -> Option<usize> {
        if self.is_full() {
            return None;
        }
        let at = self.counts[form as usize];
        self.indexes[form as usize][at] = page_index;
        self.counts[form as usize] += 1;
        Some(at)
    }

    pub(super) fn indexes(&self, form: Form) -> &[u32] {
        &self.indexes[form as usize][..self.counts[form as usize]]
    }

    pub(super) fn slots(&self) -> &[u64] {
        &self.slots[..self.counts[Form::Known as usize]]
    }

    /// Base epoch and bytes of each patch.
    pub(super) fn patch_heads(&self) -> impl Iterator<Item = (u32, u16)> {
        let count = self.counts[Form::Differing as usize];
        self.bases[..count].iter().copied().zip(self.patch_bytes[..count].iter().copied())
    }

    pub(super) fn patches(&self) -> &[u8] {
        &self.patches
    }

    /// The room for the next batch.
    pub(super) fn into_room(mut self) -> Vec<u8> {
        self.patches.clear();
        self.patches
    }

    pub(super) fn packed(&self) -> &[&'a Page] {
        &self.packed[..self.counts[Form::Packed as usize]]
    }

    pub(super) fn raw(&self) -> &[&'a Page] {
        &self.raw[..self.counts[Form::Raw as usize]]
    }
}
