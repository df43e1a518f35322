//! What is known of every page of a RAM block: at the source what was sent, at the target what was
//! applied.
//!
//! 24 bytes a page, 0.6 % of the memory, and 16 bytes for each 2 MiB region. Both ends begin with
//! zeros everywhere, and each counts a change exactly when it sends or applies it; so when all is
//! sent and applied the digests are equal, or something was lost, damaged or applied in the wrong
//! order. They are sums, kept up page by page, and cost nothing to compare.
//!
//! Lanes overtake each other. That is why a page carries an epoch: whatever comes late is
//! [`Admission::Superseded`] or [`Application::Superseded`]. **The decision and the copy it allows
//! must be one critical section**, else two lanes decide in one order and copy in the other.

use super::{BATCH_PAGES_MAX, ContentHash};

/// Pages of a region: 2 MiB.
pub const REGION_PAGES: usize = 512;

const _: () = assert!(REGION_PAGES.is_multiple_of(BATCH_PAGES_MAX));

/// What the source does with a page.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Admission {
    /// Send it.
    Send,
    /// The target has or will have the same content: skip it.
    SameContent,
    /// A later epoch's content is already sent: skip it.
    Superseded,
}

/// What the target does with a page.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Application {
    /// Copy it into the guest's memory.
    Apply,
    /// A later epoch's content is already there: skip it.
    Superseded,
}

/// Whether a page at the target is what a difference was made for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum BaseState {
    /// It is.
    Ready,
    /// The content that the difference is from is still on its way, by another lane.
    Awaited,
    /// A later epoch's content is already there: the difference is of no use any more.
    Superseded,
}

/// The page does not exist.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("page {page_index} of a RAM block with {pages} pages")]
pub struct PageOutsideTable {
    /// Index of the page.
    pub page_index: u32,
    /// Pages of the block.
    pub pages: usize,
}

/// See the module.
#[derive(Debug, Clone)]
pub struct PageTable {
    content: Vec<u128>,
    /// The newest epoch of which something was seen.
    epoch: Vec<u32>,
    /// The epoch in which the content was sent or applied; never after `epoch`.
    content_epoch: Vec<u32>,
    regions: Vec<u128>,
}

impl PageTable {
    /// A table of so many zero pages of epoch 0. The caller has checked the number against its
    /// limits; memory is touched page by page as the guest's is.
    pub fn new(pages: u32) -> Self {
        let pages = pages as usize;
        Self {
            content: vec![0; pages],
            epoch: vec![0; pages],
            content_epoch: vec![0; pages],
            regions: vec![0; pages.div_ceil(REGION_PAGES)],
        }
    }

    /// Number of pages.
    pub fn pages(&self) -> usize {
        self.content.len()
    }

    /// Source: what to do with a page of this content that belongs to this epoch. On
    /// [`Admission::Send`] it counts as sent.
    #[inline]
    pub fn admit(
        &mut self,
        page_index: u32,
        epoch: u32,
        hash: ContentHash,
    ) -> Result<Admission, PageOutsideTable> {
        let at = self.position(page_index)?;
        if epoch < self.epoch[at] {
            return Ok(Admission::Superseded);
        }
        self.epoch[at] = epoch;
        if hash.0 == self.content[at] {
            return Ok(Admission::SameContent);
        }
        self.content_epoch[at] = epoch;
        self.replace(at, page_index, hash);
        Ok(Admission::Send)
    }

    /// Target: what to do with a page that was received. On [`Application::Apply`] it counts as
    /// applied; receiving the same page twice is normal.
    #[inline]
    pub fn applied(
        &mut self,
        page_index: u32,
        epoch: u32,
        hash: ContentHash,
    ) -> Result<Application, PageOutsideTable> {
        let at = self.position(page_index)?;
        if epoch < self.epoch[at] {
            return Ok(Application::Superseded);
        }
        self.epoch[at] = epoch;
        self.content_epoch[at] = epoch;
        self.replace(at, page_index, hash);
        Ok(Application::Apply)
    }

    /// The epoch in which a page's content was sent (source) or applied (target): what a difference is from. Both
    /// ends agree on it, since at the source it does not change when a page is skipped.
    #[inline]
    pub fn content_epoch(&self, page_index: u32) -> Result<u32, PageOutsideTable> {
        self.position(page_index).map(|at| self.content_epoch[at])
    }

    /// Target: whether a difference of this epoch, from the content of `base_epoch`, can be applied to a page.
    #[inline]
    pub fn base_state(
        &self,
        page_index: u32,
        epoch: u32,
        base_epoch: u32,
    ) -> Result<BaseState, PageOutsideTable> {
        let at = self.position(page_index)?;
        let is_superseded = self.epoch[at] > epoch || self.content_epoch[at] > base_epoch;
        Ok(match self.content_epoch[at] == base_epoch {
            _ if is_superseded => BaseState::Superseded,
            true => BaseState::Ready,
            false => BaseState::Awaited,
        })
    }

    /// Forgets of which epochs the contents are, not the contents: another migration begins with them.
    pub fn begin_epochs(&mut self) {
        self.epoch.fill(0);
        self.content_epoch.fill(0);
    }

    /// A page has had this content since before the first epoch. Whether nothing was known of it before.
    pub fn begin_page(
        &mut self,
        page_index: u32,
        hash: ContentHash,
    ) -> Result<bool, PageOutsideTable> {
        let at = self.position(page_index)?;
        let is_unknown = self.content[at] == 0 && self.epoch[at] == 0;
        if is_unknown {
            self.replace(at, page_index, hash);
        }
        Ok(is_unknown)
    }

    /// The contents of all pages, in order.
    pub(super) fn contents(&self) -> &[u128] {
        &self.content
    }

    /// The content that a page has.
    pub fn content(&self, page_index: u32) -> Option<ContentHash> {
        self.content.get(page_index as usize).copied().map(ContentHash)
    }

    /// Digest of each region of [`REGION_PAGES`], in order.
    pub fn regions(&self) -> &[u128] {
        &self.regions
    }

    /// Digest of all pages.
    pub fn total(&self) -> u128 {
        self.regions.iter().fold(0, |sum, region| sum.wrapping_add(*region))
    }

    /// Indexes of the regions whose digest is not the peer's; a region that only one side has
    /// differs.
    pub fn differing_regions(&self, peer: &[u128]) -> impl Iterator<Item = usize> {
        let count = self.regions.len().max(peer.len());
        (0..count).filter(move |at| self.regions.get(*at) != peer.get(*at))
    }

    /// The regions' digests computed anew; equal to [`Self::regions`] always.
    pub fn recomputed_regions(&self) -> Vec<u128> {
        let mut regions = vec![0_u128; self.regions.len()];
        for (page_index, content) in (0..=u32::MAX).zip(&self.content) {
            let region = &mut regions[page_index as usize / REGION_PAGES];
            *region = region.wrapping_add(contribution(page_index, *content));
        }
        regions
    }

    fn position(&self, page_index: u32) -> Result<usize, PageOutsideTable> {
        let at = page_index as usize;
        if at < self.content.len() {
            Ok(at)
        } else {
            Err(PageOutsideTable { page_index, pages: self.content.len() })
        }
    }

    fn replace(&mut self, at: usize, page_index: u32, hash: ContentHash) {
        let previous = std::mem::replace(&mut self.content[at], hash.0);
        let region = &mut self.regions[at / REGION_PAGES];
        *region = region
            .wrapping_sub(contribution(page_index, previous))
            .wrapping_add(contribution(page_index, hash.0));
    }
}

/// What a page adds to its region's digest: a bijective mix of its content for each index, so that
/// contents that change places are seen; nothing for a zero page.
pub(crate) fn contribution(page_index: u32, content: u128) -> u128 {
    const MULTIPLIER: u128 = 0x9e37_79b9_7f4a_7c15_f39c_c060_5ced_c835;
    if content == 0 {
        return 0;
    }
    let mixed = (content ^ (u128::from(page_index) + 1)).wrapping_mul(MULTIPLIER);
    (mixed ^ (mixed >> 64)).wrapping_mul(MULTIPLIER)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn a_page_never_sent_is_a_zero_page() {
        let mut table = PageTable::new(3);
        assert_eq!(table.admit(1, 0, ContentHash::ZERO_PAGE), Ok(Admission::SameContent));
        assert_eq!(table.total(), 0);
        assert!(table.admit(3, 0, ContentHash::ZERO_PAGE).is_err());
    }

    #[test]
    fn a_late_page_is_superseded() {
        let mut table = PageTable::new(1);
        assert_eq!(table.admit(0, 2, ContentHash(7)), Ok(Admission::Send));
        assert_eq!(table.admit(0, 1, ContentHash(8)), Ok(Admission::Superseded));
        assert_eq!(table.admit(0, 3, ContentHash(7)), Ok(Admission::SameContent));
        assert_eq!(table.admit(0, 2, ContentHash(9)), Ok(Admission::Superseded));
        assert_eq!(table.content(0), Some(ContentHash(7)));
    }

    #[test]
    fn exchanged_contents_differ() {
        let mut one = PageTable::new(2);
        let mut other = PageTable::new(2);
        for (table, contents) in [(&mut one, [5, 6]), (&mut other, [6, 5])] {
            for (page, content) in (0..).zip(contents) {
                table.admit(page, 0, ContentHash(content)).unwrap();
            }
        }
        assert_ne!(one.total(), other.total());
        assert_eq!(one.differing_regions(other.regions()).collect::<Vec<_>>(), [0]);
    }

    #[test]
    fn names_the_region_that_differs() {
        let pages = 3 * REGION_PAGES as u32 + 1;
        let mut one = PageTable::new(pages);
        let other = one.clone();
        one.admit(REGION_PAGES as u32, 0, ContentHash(1)).unwrap();
        one.admit(pages - 1, 0, ContentHash(1)).unwrap();
        assert_eq!(one.differing_regions(other.regions()).collect::<Vec<_>>(), [1, 3]);
        assert_eq!(other.differing_regions(&[0; 3]).collect::<Vec<_>>(), [3]);
    }

    /// Page, epoch, content.
    type Arrival = (u32, u32, u128);

    /// Pages as the source's channels read them, then another order for the target's lanes.
    fn arrivals() -> impl Strategy<Value = (Vec<Arrival>, Vec<Arrival>)> {
        let page = (0_u32..1100, 0_u32..4, 0_u128..3);
        prop::collection::vec(page, 0..200).prop_flat_map(|mut pages| {
            // One content for a page in an epoch.
            pages.sort();
            pages.dedup_by_key(|(page, epoch, _)| (*page, *epoch));
            let read = Just(pages).prop_shuffle();
            read.prop_flat_map(|read| {
                let mut source = PageTable::new(1100);
                let sent: Vec<_> = read
                    .iter()
                    .copied()
                    .filter(|(page, epoch, content)| {
                        source.admit(*page, *epoch, ContentHash(*content)) == Ok(Admission::Send)
                    })
                    .collect();
                (Just(read), Just(sent).prop_shuffle())
            })
        })
    }

    proptest! {
        #[test]
        fn both_ends_agree_in_any_order((read, sent) in arrivals()) {
            let mut source = PageTable::new(1100);
            for (page, epoch, content) in read {
                source.admit(page, epoch, ContentHash(content)).unwrap();
            }
            let mut target = PageTable::new(1100);
            for (page, epoch, content) in sent {
                target.applied(page, epoch, ContentHash(content)).unwrap();
            }
            prop_assert_eq!(source.regions(), target.regions());
            prop_assert_eq!(source.recomputed_regions(), source.regions());
            prop_assert_eq!(target.recomputed_regions(), target.regions());
        }
    }
}
