//! What the source knows of the guest's memory at the target: which content of which page was sent, and the content
//! itself as far as it is remembered.

use novacron_protocol::pages::{
    Admission, BatchContent, ContentHash, PAGE_BYTES, PageOutsideTable, PageTable,
};

use crate::migrate::cache::Shadow;

/// Epoch of the first round over the memory: every page comes in it, most of them never again.
pub(super) const FIRST_ROUND: u32 = 1;

/// See the module. Whoever has it admits pages: what it says of a page and what it remembers of it change together.
#[derive(Debug)]
pub(super) struct SentPages {
    table: PageTable,
    shadow: Shadow,
    /// Whether pages of the first round are remembered: if there is not room for all of them, room is better kept for
    /// those that come again.
    remembers_first_round: bool,
}

/// What becomes of a page.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Offered {
    /// Nothing: the target has it, or something newer.
    Skipped,
    /// It is in the batch.
    Placed,
    /// Its content has to be sent.
    Whole,
}

impl SentPages {
    /// Beginning with what the target has; `bytes_free` is the room for what is to be remembered.
    pub(super) fn new(table: PageTable, shadow: Shadow, bytes_free: u64) -> Self {
        let needed = (table.pages() * PAGE_BYTES) as u64;
        Self { table, shadow, remembers_first_round: needed <= bytes_free }
    }

    pub(super) fn table(&self) -> &PageTable {
        &self.table
    }

    /// All of it, when everything is sent; nothing is left here.
    pub(super) fn take(&mut self) -> (PageTable, Shadow) {
        let empty = (PageTable::new(0), Shadow::nothing());
        (std::mem::replace(&mut self.table, empty.0), std::mem::replace(&mut self.shadow, empty.1))
    }

    /// A page of zeros.
    pub(super) fn zero(
        &mut self,
        page_index: u32,
        epoch: u32,
        batch: &mut BatchContent<'_>,
    ) -> Result<Offered, PageOutsideTable> {
        if self.table.admit(page_index, epoch, ContentHash::ZERO_PAGE)? != Admission::Send {
            return Ok(Offered::Skipped);
        }
        self.shadow.clear(page_index);
        // A packet has at most as many pages as a batch has room for.
        let _ = batch.push_zero(page_index);
        Ok(Offered::Placed)
    }

    /// A page with content, of which `hash` is the hash. It is in the batch if a difference describes it.
    pub(super) fn page(
        &mut self,
        (page_index, epoch): (u32, u32),
        hash: ContentHash,
        content: &[u8; PAGE_BYTES],
        batch: &mut BatchContent<'_>,
    ) -> Result<Offered, PageOutsideTable> {
        let base_epoch = self.table.content_epoch(page_index)?;
        if self.table.admit(page_index, epoch, hash)? != Admission::Send {
            return Ok(Offered::Skipped);
        }
        let is_placed = self
            .shadow
            .get(page_index)
            .is_some_and(|base| batch.push_differing(page_index, base_epoch, base, content));
        if self.remembers_first_round || epoch > FIRST_ROUND {
            self.shadow.put(page_index, content);
        } else {
            // What is remembered is what was sent last, or nothing.
            self.shadow.clear(page_index);
        }
        Ok(if is_placed { Offered::Placed } else { Offered::Whole })
    }
}
