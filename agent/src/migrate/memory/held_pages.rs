//! What the target holds of the guest's memory: which content of which epoch each page has, and the contents as they
//! arrived, for when the guest moves again.

use std::ops::Range;

use novacron_protocol::pages::{
    Application, BaseState, ContentHash, PAGE_BYTES, Page, PageHasher, PageOutsideTable, PageTable,
    Patch,
};

use super::incoming::{Beginning, IncomingError};
use crate::migrate::cache::{Image, Images, Shadow};
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
    /// Guest memory is as `beginning` says; of an image that is to be put there, if it fits.
    pub(super) fn begin(
        memory: &GuestMemory,
        beginning: Beginning,
        images: &Images,
    ) -> Result<Self, IncomingError> {
        let pages = u32::try_from(memory.pages())
            .map_err(|_| IncomingError::TooManyPages(memory.pages()))?;
        let empty_shadow = || {
            images.make_room(u64::from(pages) * PAGE_BYTES as u64);
            Shadow::new(pages as usize, images.budget())
        };
        let (table, shadow) = match beginning {
            Beginning::Image(base) if base.table.pages() == pages as usize => {
                restore(memory, base)?
            }
            Beginning::Found(table) if table.pages() == pages as usize => (table, empty_shadow()),
            _ => (PageTable::new(pages), empty_shadow()),
        };
        Ok(Self { table, shadow, is_begun: true, is_over: false })
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

    /// Puts right what somebody else has written to some pages of guest memory, of which these are touched.
    pub(super) fn sweep(
        &mut self,
        memory: &GuestMemory,
        pages: Range<u32>,
        touched: &mut TouchedPages,
        hasher: &PageHasher,
    ) -> Result<(), ApplyError> {
        if self.is_over {
            return Err(ApplyError::Over);
        }
        for page_index in pages {
            let is_touched = touched.has(memory, page_index.into())?;
            self.compare(memory, page_index, is_touched, hasher)?;
        }
        Ok(())
    }

    fn compare(
        &self,
        memory: &GuestMemory,
        page_index: u32,
        is_touched: bool,
        hasher: &PageHasher,
    ) -> Result<(), ApplyError> {
        let Some(known) = self.table.content(page_index) else { return Err(ApplyError::Over) };
        let page = page_index.into();
        if known == ContentHash::ZERO_PAGE {
            if is_touched {
                memory.zero_page(page)?;
            }
            return Ok(());
        }
        let mut content = [0; PAGE_BYTES];
        memory.read_page(page, &mut content)?;
        if hasher.hash_bytes(&content) != known {
            let remembered = self.shadow.get(page_index);
            memory.write_page(page, remembered.ok_or(ApplyError::Overwritten { page_index })?)?;
        }
        Ok(())
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
        let mut content = [0; PAGE_BYTES];
        memory.read_page(page_index.into(), &mut content)?;
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
    pub(super) fn has(
        &mut self,
        memory: &GuestMemory,
        page: u64,
    ) -> Result<bool, GuestMemoryError> {
        if page >= self.run.end {
            self.run = memory.touched_pages(page)?.unwrap_or(u64::MAX..u64::MAX);
        }
        Ok(self.run.contains(&page))
    }
}

/// Writes an image into guest memory, which is all zero. A page that is not what the image's table says would be found
/// at the end only, when the digests differ; here it costs a hash.
fn restore(memory: &GuestMemory, base: Image) -> Result<(PageTable, Shadow), IncomingError> {
    let Image { table, shadow, hash_seed, .. } = base;
    let hasher = PageHasher::new(hash_seed);
    for page_index in (0..=u32::MAX).take(table.pages()) {
        let Some(content) = shadow.get(page_index) else { continue };
        if table.content(page_index) != Some(hasher.hash_bytes(content)) {
            return Err(IncomingError::DamagedImage { page_index });
        }
        memory.write_page(page_index.into(), content)?;
    }
    Ok((table, shadow))
}
