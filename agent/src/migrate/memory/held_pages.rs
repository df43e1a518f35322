//! What the target holds of the guest's memory: which content of which epoch each page has, and the contents as they
//! arrived, for when the guest moves again.

use std::ops::Range;

use novacron_protocol::pages::{
    Application, BaseState, ContentHash, PAGE_BYTES, Page, PageHasher, PageOutsideTable, PageTable,
    Patch,
};

use super::incoming::Beginning;
use crate::migrate::cache::{Images, Shadow};
use crate::sys::{GuestMemory, GuestMemoryError};

/// See the module. What it says of a page and what is in the guest's memory change together.
#[derive(Debug)]
pub(super) struct HeldPages {
    table: PageTable,
    shadow: Shadow,
    is_begun: bool,
    is_over: bool,
}

/// Why a page cannot be applied.
#[derive(Debug, thiserror::Error)]
pub(super) enum ApplyError {
    #[error(transparent)]
    Page(#[from] PageOutsideTable),
    #[error("guest memory cannot be written")]
    Memory(#[from] GuestMemoryError),
    #[error("QEMU wrote to page {page_index} of the guest's memory while it started")]
    Overwritten { page_index: u32 },
    #[error("what this host remembers of the guest's memory is damaged (page {page_index})")]
    Damaged { page_index: u32 },
    #[error("the migration is over")]
    Over,
}

/// What became of a difference.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Patched {
    /// It is applied, or of no use any more.
    Done,
    /// What it was made for is not here yet.
    Awaited,
}

impl HeldPages {
    /// Of so many pages of guest memory, which are as `beginning` says; those of an image get there by
    /// [`Self::sweep`], unless something else arrives for them before.
    pub(super) fn begin(pages: u32, beginning: Beginning, images: &Images) -> Self {
        let empty_shadow = || {
            images.make_room(u64::from(pages) * PAGE_BYTES as u64);
            Shadow::new(pages as usize, images.budget())
        };
        let (table, shadow) = match beginning {
            Beginning::Image(base) if base.table.pages() == pages as usize => {
                (base.table, base.shadow)
            }
            Beginning::Found(table) if table.pages() == pages as usize => (table, empty_shadow()),
            _ => (PageTable::new(pages), empty_shadow()),
        };
        Self { table, shadow, is_begun: true, is_over: false }
    }

    /// For memory that is not seen page by page.
    pub(super) fn unseen() -> Self {
        Self { is_begun: true, ..Self::nothing() }
    }

    /// Before it has begun.
    pub(super) fn nothing() -> Self {
        let (table, shadow) = (PageTable::new(0), Shadow::nothing());
        Self { table, shadow, is_begun: false, is_over: false }
    }

    /// Whether pages can be applied, or never will be.
    pub(super) fn is_begun(&self) -> bool {
        self.is_begun || self.is_over
    }

    /// Makes some pages of guest memory what they are known to be, in which this was found a moment ago: what an image
    /// holds was not put there yet, and QEMU may have written to others.
    pub(super) fn sweep(
        &self,
        memory: &GuestMemory,
        found: impl Iterator<Item = (u32, ContentHash)>,
        hasher: &PageHasher,
    ) -> Result<(), ApplyError> {
        if self.is_over {
            return Err(ApplyError::Over);
        }
        for (page_index, found) in found {
            let known = self.table.content(page_index).ok_or(ApplyError::Over)?;
            if found != known {
                self.put_right(memory, page_index, known, hasher)?;
            }
        }
        Ok(())
    }

    /// It may have been found before something arrived for it: what counts is what is there now.
    fn put_right(
        &self,
        memory: &GuestMemory,
        page_index: u32,
        known: ContentHash,
        hasher: &PageHasher,
    ) -> Result<(), ApplyError> {
        let page = page_index.into();
        if known == ContentHash::ZERO_PAGE {
            return Ok(memory.zero_page(page)?);
        }
        let mut content = [0; PAGE_BYTES];
        memory.read_page(page, &mut content)?;
        if hasher.hash_bytes(&content) == known {
            return Ok(());
        }
        let remembered = self.shadow.get(page_index);
        let remembered = remembered.ok_or(ApplyError::Overwritten { page_index })?;
        // It may be months old. At the end the digests would differ, which says less.
        if hasher.hash_bytes(remembered) != known {
            return Err(ApplyError::Damaged { page_index });
        }
        Ok(memory.write_page(page, remembered)?)
    }

    /// What a page holds, wherever that is known: guest memory may have to be put right yet.
    fn content(
        &self,
        memory: &GuestMemory,
        page_index: u32,
    ) -> Result<[u8; PAGE_BYTES], GuestMemoryError> {
        if let Some(remembered) = self.shadow.get(page_index) {
            return Ok(*remembered);
        }
        let mut content = [0; PAGE_BYTES];
        if self.table.content(page_index) != Some(ContentHash::ZERO_PAGE) {
            memory.read_page(page_index.into(), &mut content)?;
        }
        Ok(content)
    }

    pub(super) fn table(&self) -> &PageTable {
        &self.table
    }

    pub(super) fn end(&mut self) {
        self.is_over = true;
    }

    /// All of it, when everything has arrived; nothing is left here.
    pub(super) fn take(&mut self) -> (PageTable, Shadow) {
        let empty = Self::nothing();
        (
            std::mem::replace(&mut self.table, empty.table),
            std::mem::replace(&mut self.shadow, empty.shadow),
        )
    }

    /// A page with all of its content.
    pub(super) fn apply(
        &mut self,
        memory: &GuestMemory,
        (page_index, epoch): (u32, u32),
        hash: ContentHash,
        page: Page<'_>,
    ) -> Result<(), ApplyError> {
        if self.is_over {
            return Err(ApplyError::Over);
        }
        // What QEMU writes while it starts is swept away.
        let was_zero = self.table.content(page_index) == Some(ContentHash::ZERO_PAGE);
        if self.table.applied(page_index, epoch, hash)? == Application::Superseded {
            return Ok(());
        }
        match page {
            Page::Zero if was_zero => {}
            Page::Zero => {
                self.shadow.clear(page_index);
                memory.zero_page(page_index.into())?;
            }
            Page::Data(content) => {
                self.shadow.put(page_index, content);
                memory.write_page(page_index.into(), content)?;
            }
        }
        Ok(())
    }

    /// A page by what changed since `base_epoch`.
    pub(super) fn patch(
        &mut self,
        memory: &GuestMemory,
        (page_index, epoch): (u32, u32),
        base_epoch: u32,
        patch: &Patch<'_>,
        hasher: &PageHasher,
    ) -> Result<Patched, ApplyError> {
        match self.table.base_state(page_index, epoch, base_epoch)? {
            BaseState::Superseded => return Ok(Patched::Done),
            BaseState::Awaited if self.is_over => return Err(ApplyError::Over),
            BaseState::Awaited => return Ok(Patched::Awaited),
            BaseState::Ready => {}
        }
        let mut content = self.content(memory, page_index)?;
        patch.apply(&mut content);
        let hash = hasher.hash_bytes(&content);
        self.apply(memory, (page_index, epoch), hash, Page::Data(&content))?;
        Ok(Patched::Done)
    }
}

/// Which pages somebody has touched, looked at from the first to the last: each run of them is looked for once, since the
/// kernel goes over every page to find the next.
#[derive(Debug, Default)]
pub(super) struct TouchedPages {
    run: Range<u64>,
}

impl TouchedPages {
    fn has(&mut self, memory: &GuestMemory, page: u64) -> Result<bool, GuestMemoryError> {
        if page >= self.run.end {
            self.run = memory.touched_pages(page)?.unwrap_or(u64::MAX..u64::MAX);
        }
        Ok(self.run.contains(&page))
    }

    /// What is in a page; in one that nobody has touched are zeros.
    pub(super) fn look(
        &mut self,
        memory: &GuestMemory,
        page_index: u32,
        hasher: &PageHasher,
    ) -> Result<ContentHash, GuestMemoryError> {
        if !self.has(memory, page_index.into())? {
            return Ok(ContentHash::ZERO_PAGE);
        }
        let mut content = [0; PAGE_BYTES];
        memory.read_page(page_index.into(), &mut content)?;
        Ok(hasher.hash_bytes(&content))
    }
}

#[cfg(test)]
mod tests {
    use novacron_protocol::ids::{MigrationId, VmId};
    use uuid::Uuid;

    use super::*;
    use crate::migrate::cache::{CacheBudget, Image, ImageOrigin};

    const PAGES: u32 = 6;
    const EPOCH: u32 = 1;
    const OURS: [u8; PAGE_BYTES] = [1; PAGE_BYTES];
    const THEIRS: [u8; PAGE_BYTES] = [2; PAGE_BYTES];

    /// Memory of which some pages have arrived, and whoever else writes to it.
    struct Memory {
        _directory: tempfile::TempDir,
        memory: GuestMemory,
        held: HeldPages,
        hasher: PageHasher,
    }

    impl Memory {
        fn new(budget_bytes: u64) -> Self {
            Self::beginning(Beginning::Zeros, budget_bytes)
        }

        /// Page 1 of the image is ours, and page 2 should be.
        fn with_image(page_2: &[u8; PAGE_BYTES]) -> Self {
            let hasher = PageHasher::new(7);
            let mut table = PageTable::new(PAGES);
            let mut shadow = Shadow::new(PAGES as usize, &CacheBudget::new(64 << 20));
            for (page_index, content) in [(1, &OURS), (2, page_2)] {
                table.begin_page(page_index, hasher.hash_bytes(&OURS)).unwrap();
                shadow.put(page_index, content);
            }
            let origin = ImageOrigin {
                vm: VmId(Uuid::from_u128(1)),
                migration: MigrationId(Uuid::from_u128(2)),
            };
            let image = Image { origin, hash_seed: 7, table, shadow };
            Self::beginning(Beginning::Image(image), 64 << 20)
        }

        fn beginning(beginning: Beginning, budget_bytes: u64) -> Self {
            let directory = tempfile::tempdir().unwrap();
            let len_bytes = u64::from(PAGES) * PAGE_BYTES as u64;
            let memory = GuestMemory::create(&directory.path().join("ram"), len_bytes).unwrap();
            let images = Images::new(budget_bytes);
            let held = HeldPages::begin(PAGES, beginning, &images);
            Self { _directory: directory, memory, held, hasher: PageHasher::new(7) }
        }

        fn arrives(&mut self, page_index: u32) {
            let hash = self.hasher.hash_bytes(&OURS);
            let page = (page_index, EPOCH);
            self.held.apply(&self.memory, page, hash, Page::Data(&OURS)).unwrap();
        }

        /// Its first byte is 9 from now on.
        fn changes(&mut self, page_index: u32) {
            let patch = Patch::parse(&[0, 0, 9]).unwrap();
            let page = (page_index, EPOCH);
            let patched = self.held.patch(&self.memory, page, 0, &patch, &self.hasher).unwrap();
            assert_eq!(patched, Patched::Done);
        }

        fn look(&self) -> Vec<ContentHash> {
            let mut touched = TouchedPages::default();
            let look = |page_index| touched.look(&self.memory, page_index, &self.hasher).unwrap();
            (0..PAGES).map(look).collect()
        }

        fn sweep(&self, found: Vec<ContentHash>) -> Result<(), ApplyError> {
            self.held.sweep(&self.memory, (0..).zip(found), &self.hasher)
        }

        /// The first byte of each page.
        fn bytes(&self) -> Vec<u8> {
            let mut content = [0; PAGE_BYTES];
            let mut read = |page_index: u32| {
                self.memory.read_page(page_index.into(), &mut content).unwrap();
                content[0]
            };
            (0..PAGES).map(&mut read).collect()
        }
    }

    #[test]
    fn what_somebody_else_has_written_is_put_right() {
        let mut memory = Memory::new(64 << 20);
        [0, 2].into_iter().for_each(|page_index| memory.arrives(page_index));
        [2, 3].into_iter().for_each(|page| memory.memory.write_page(page, &THEIRS).unwrap());
        assert_eq!(memory.bytes(), [1, 0, 2, 2, 0, 0]);
        memory.sweep(memory.look()).unwrap();
        assert_eq!(memory.bytes(), [1, 0, 1, 0, 0, 0]);
    }

    #[test]
    fn what_arrives_between_looking_and_comparing_stays() {
        let mut memory = Memory::new(64 << 20);
        memory.memory.write_page(4, &THEIRS).unwrap();
        let found = memory.look();
        [1, 4].into_iter().for_each(|page_index| memory.arrives(page_index));
        memory.sweep(found).unwrap();
        assert_eq!(memory.bytes(), [0, 1, 0, 0, 1, 0]);
    }

    #[test]
    fn what_is_overwritten_and_not_remembered_ends_the_migration() {
        let mut memory = Memory::new(0);
        memory.arrives(5);
        memory.memory.write_page(5, &THEIRS).unwrap();
        let swept = memory.sweep(memory.look());
        assert!(matches!(swept, Err(ApplyError::Overwritten { page_index: 5 })), "{swept:?}");
    }

    #[test]
    fn an_image_gets_there_as_far_as_nothing_else_has_arrived() {
        let mut memory = Memory::with_image(&OURS);
        memory.changes(1);
        assert_eq!(memory.bytes(), [0, 9, 0, 0, 0, 0]);
        memory.sweep(memory.look()).unwrap();
        assert_eq!(memory.bytes(), [0, 9, 1, 0, 0, 0]);
        memory.changes(2);
        memory.changes(3);
        assert_eq!(memory.bytes(), [0, 9, 9, 9, 0, 0]);
    }

    #[test]
    fn what_changes_a_page_that_somebody_else_has_written_is_applied_to_what_is_known() {
        let mut memory = Memory::new(64 << 20);
        [1, 2].into_iter().for_each(|page| memory.memory.write_page(page, &THEIRS).unwrap());
        memory.changes(1);
        let mut content = [0; PAGE_BYTES];
        memory.memory.read_page(1, &mut content).unwrap();
        assert_eq!((content[0], content[1]), (9, 0));
    }

    #[test]
    fn a_damaged_image_ends_the_migration() {
        let memory = Memory::with_image(&THEIRS);
        let swept = memory.sweep(memory.look());
        assert!(matches!(swept, Err(ApplyError::Damaged { page_index: 2 })), "{swept:?}");
    }
}
