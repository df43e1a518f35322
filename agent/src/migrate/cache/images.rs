//! Machines' memory as it was when they were handed over, kept for when they move again.
//!
//! Both ends of a migration that completed hold the same image of it: the source has every page as it was last sent,
//! the target as it was last applied, and the digests were equal. So if the machine moves back, the image is where both
//! tables and shadows begin.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use novacron_protocol::ids::{MigrationId, VmId};
use novacron_protocol::pages::{ContentHash, PageTable};

use super::budget::{CacheBudget, Lease};
use super::shadow::Shadow;

/// Images that an agent keeps at most, whatever their size.
const IMAGES_MAX: usize = 256;

/// Bytes of a page table for each page: its hash, its epoch and its part of a region's digest.
const TABLE_BYTES_PER_PAGE: u64 = 24;

/// Which moment of which machine an image is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ImageOrigin {
    /// The machine.
    pub vm: VmId,
    /// The migration at whose end both ends had it.
    pub migration: MigrationId,
}

/// A machine's memory at the end of a migration.
#[derive(Debug)]
pub struct Image {
    /// Which it is.
    pub origin: ImageOrigin,
    /// Seed of the hashes in the table.
    pub hash_seed: u64,
    /// Content hash of every page.
    pub table: PageTable,
    /// The pages, as far as there was room.
    pub shadow: Shadow,
}

impl Image {
    /// Whether every page is there. Half an image is none: what is missing would have to be sent whole anyway, and
    /// nobody would know.
    pub fn is_complete(&self) -> bool {
        (0..=u32::MAX).take(self.table.pages()).all(|page_index| {
            self.table.content(page_index) == Some(ContentHash::ZERO_PAGE)
                || self.shadow.get(page_index).is_some()
        })
    }
}

/// The images of an agent, the oldest first out; clones share them.
#[derive(Debug, Clone)]
pub struct Images {
    budget: CacheBudget,
    kept: Arc<Mutex<VecDeque<Kept>>>,
}

#[derive(Debug)]
struct Kept {
    image: Image,
    _table: Lease,
}

impl Images {
    /// None, within a budget of so many bytes for them and for all shadows of migrations under way.
    pub fn new(budget_bytes: u64) -> Self {
        Self { budget: CacheBudget::new(budget_bytes), kept: Arc::default() }
    }

    /// The budget, of which shadows take their room.
    pub fn budget(&self) -> &CacheBudget {
        &self.budget
    }

    /// Keeps an image in place of an older one of the same machine. An image without room is dropped.
    pub fn keep(&self, mut image: Image) {
        self.forget(image.origin.vm);
        // Epochs are those of the migration that ended; both ends of the next one begin at 0.
        image.table.begin_epochs();
        let table_bytes = image.table.pages() as u64 * TABLE_BYTES_PER_PAGE;
        if table_bytes > self.budget.limit_bytes() {
            return;
        }
        self.make_room(table_bytes);
        let mut lease = self.budget.lease();
        if lease.grow(table_bytes) {
            let mut kept = self.lock();
            while kept.len() >= IMAGES_MAX {
                kept.pop_front();
            }
            kept.push_back(Kept { image, _table: lease });
        }
    }

    /// The image of a machine, which is out of the store then: whoever takes it changes it.
    pub fn take(&self, vm: VmId) -> Option<Image> {
        let mut kept = self.lock();
        let at = kept.iter().position(|kept| kept.image.origin.vm == vm)?;
        kept.remove(at).map(|kept| kept.image)
    }

    /// Takes the image of this machine if it is of this moment.
    pub fn take_if(&self, origin: ImageOrigin) -> Option<Image> {
        self.take(origin.vm).filter(|image| image.origin == origin)
    }

    /// Forgets what is known of a machine.
    pub fn forget(&self, vm: VmId) {
        drop(self.take(vm));
    }

    /// Forgets the oldest images until so many bytes are free, or none is left: a migration under way is worth more
    /// than one that may come.
    pub fn make_room(&self, bytes: u64) {
        let is_short =
            || self.budget.limit_bytes().saturating_sub(self.budget.used_bytes()) < bytes;
        while is_short() && self.lock().pop_front().is_some() {}
    }

    /// Images that are kept.
    pub fn len(&self) -> usize {
        self.lock().len()
    }

    /// Whether none is kept.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    fn lock(&self) -> MutexGuard<'_, VecDeque<Kept>> {
        self.kept.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use novacron_protocol::pages::PAGE_BYTES;
    use uuid::Uuid;

    use super::*;

    const MIB: u64 = 1 << 20;

    fn origin(vm: u128, migration: u128) -> ImageOrigin {
        ImageOrigin {
            vm: VmId(Uuid::from_u128(vm)),
            migration: MigrationId(Uuid::from_u128(migration)),
        }
    }

    fn image(images: &Images, origin: ImageOrigin) -> Image {
        let mut shadow = Shadow::new(512, images.budget());
        shadow.put(3, &[7; PAGE_BYTES]);
        Image { origin, hash_seed: 1, table: PageTable::new(512), shadow }
    }

    #[test]
    fn an_image_is_taken_once_and_only_for_its_moment() {
        let images = Images::new(64 * MIB);
        images.keep(image(&images, origin(1, 1)));
        images.keep(image(&images, origin(2, 9)));
        assert!(images.take_if(origin(1, 1)).is_some());
        assert!(images.take_if(origin(1, 1)).is_none());
        assert!(images.take_if(origin(2, 8)).is_none(), "of another moment");
        assert!(images.is_empty(), "and of no use any more");
        assert_eq!(images.budget().used_bytes(), 0);
    }

    #[test]
    fn a_newer_image_takes_the_place_of_an_older() {
        let images = Images::new(64 * MIB);
        images.keep(image(&images, origin(1, 1)));
        images.keep(image(&images, origin(1, 2)));
        assert_eq!(images.len(), 1);
        assert!(images.take_if(origin(1, 2)).is_some());
    }

    #[test]
    fn the_oldest_go_when_room_is_needed() {
        let images = Images::new(7 * MIB);
        for vm in 1..=3 {
            images.keep(image(&images, origin(vm, vm)));
        }
        assert_eq!(images.len(), 3);
        images.make_room(2 * MIB);
        assert_eq!(images.len(), 2);
        assert!(images.take(origin(1, 1).vm).is_none());
        assert!(images.take(origin(3, 3).vm).is_some());
    }
}
