//! The pages of one machine as the other end has them.
//!
//! Pages lie in chunks of [`CHUNK_BYTES`], taken from the budget one by one as they are needed; a list says where each
//! page is. Zero pages take no room. When the budget is used up, further pages are simply not remembered.

use novacron_protocol::pages::PAGE_BYTES;

use super::budget::{CacheBudget, Lease};
use crate::sys::{CHUNK_BYTES, CHUNK_PAGES, Chunk};

/// Bytes of the list for each page.
const SLOT_BYTES: u64 = size_of::<u32>() as u64;
/// The slot of a page that is not remembered. There are never as many slots: a guest has at most 2^32 pages.
const NOWHERE: u32 = u32::MAX;

type Page = [u8; PAGE_BYTES];

/// See the module.
pub struct Shadow {
    slots: Vec<u32>,
    chunks: Vec<Chunk>,
    free: Vec<u32>,
    used: u32,
    lease: Lease,
}

impl std::fmt::Debug for Shadow {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter
            .debug_struct("Shadow")
            .field("pages", &self.slots.len())
            .field("bytes", &self.lease.bytes())
            .finish_non_exhaustive()
    }
}

impl Shadow {
    /// Of a machine with so many pages, none of them remembered. Without room for the list nothing ever will be.
    pub fn new(pages: usize, budget: &CacheBudget) -> Self {
        let mut lease = budget.lease();
        let has_room = lease.grow(pages as u64 * SLOT_BYTES);
        let slots = if has_room { vec![NOWHERE; pages] } else { Vec::new() };
        Self { slots, chunks: Vec::new(), free: Vec::new(), used: 0, lease }
    }

    /// Of a machine without pages.
    pub fn nothing() -> Self {
        Self::new(0, &CacheBudget::new(0))
    }

    /// Bytes of the budget that it takes.
    pub fn bytes(&self) -> u64 {
        self.lease.bytes()
    }

    /// What a page holds, if it is remembered.
    pub fn get(&self, page_index: u32) -> Option<&Page> {
        let slot = *self.slots.get(page_index as usize)?;
        self.chunks
            .get(slot as usize / CHUNK_PAGES)
            .map(|chunk| &chunk[slot as usize % CHUNK_PAGES])
    }

    /// Remembers what a page holds from now on. Without room for it, it is forgotten.
    pub fn put(&mut self, page_index: u32, content: &Page) {
        let at = page_index as usize;
        let Some(&known) = self.slots.get(at) else { return };
        let slot = if known == NOWHERE { self.new_slot() } else { Some(known) };
        let Some(slot) = slot else { return };
        self.slots[at] = slot;
        self.chunks[slot as usize / CHUNK_PAGES][slot as usize % CHUNK_PAGES] = *content;
    }

    /// Forgets a page, or remembers that it is zero, which is the same.
    pub fn clear(&mut self, page_index: u32) {
        let Some(known) = self.slots.get_mut(page_index as usize) else { return };
        let slot = std::mem::replace(known, NOWHERE);
        if slot != NOWHERE {
            self.free.push(slot);
        }
    }

    fn new_slot(&mut self) -> Option<u32> {
        if let Some(slot) = self.free.pop() {
            return Some(slot);
        }
        if self.used as usize == self.chunks.len() * CHUNK_PAGES {
            if !self.lease.grow(CHUNK_BYTES as u64) {
                return None;
            }
            self.chunks.push(Chunk::new().ok()?);
        }
        self.used += 1;
        Some(self.used - 1)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn page(byte: u8) -> Page {
        [byte; PAGE_BYTES]
    }

    #[test]
    fn pages_are_as_they_were_put_last() {
        let mut shadow = Shadow::new(2000, &CacheBudget::new(1 << 30));
        for round in [1, 2] {
            for index in 0..2000 {
                shadow.put(index, &page((index % 251) as u8 ^ round));
            }
        }
        for index in 0..2000 {
            assert_eq!(shadow.get(index), Some(&page((index % 251) as u8 ^ 2)), "{index}");
        }
        shadow.clear(7);
        assert_eq!(shadow.get(7), None);
        assert_eq!(shadow.get(2000), None, "there is no such page");
    }

    #[test]
    fn a_cleared_page_makes_room_for_another() {
        let budget = CacheBudget::new(4000 * SLOT_BYTES + CHUNK_BYTES as u64);
        let mut shadow = Shadow::new(4000, &budget);
        for index in 0..CHUNK_PAGES as u32 + 1 {
            shadow.put(index, &page(1));
        }
        assert_eq!(shadow.get(CHUNK_PAGES as u32), None, "the budget is used up");
        shadow.clear(3);
        shadow.put(CHUNK_PAGES as u32, &page(9));
        assert_eq!(shadow.get(CHUNK_PAGES as u32), Some(&page(9)));
        assert_eq!(shadow.get(2), Some(&page(1)));
        assert_eq!(budget.used_bytes(), shadow.bytes());
        drop(shadow);
        assert_eq!(budget.used_bytes(), 0);
    }

    #[test]
    fn a_budget_without_room_for_the_list_remembers_nothing() {
        let mut shadow = Shadow::new(1000, &CacheBudget::new(100));
        shadow.put(1, &page(1));
        assert_eq!(shadow.get(1), None);
        shadow.clear(1);
    }
}
