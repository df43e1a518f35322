//! What is in a guest's memory that an earlier attempt has filled in part: every page is hashed as it is, whatever was
//! thought of it.

use std::sync::Arc;

use novacron_protocol::pages::{BEGINNING_PAGES_MAX, ContentHash, PageHasher, PageTable};
use tokio::sync::oneshot;
use tokio_util::sync::{CancellationToken, DropGuard};

use super::held_pages::TouchedPages;
use super::incoming::IncomingError;
use crate::sys::GuestMemory;

/// A look at all of a guest's memory. Those pages for which there is no room in what the source is told are made zero, so
/// nobody else may write to the memory meanwhile. Dropping it ends it, soon.
#[derive(Debug)]
pub struct PagesSearch {
    stop: DropGuard,
    ended: oneshot::Receiver<()>,
}

impl PagesSearch {
    /// With what looks, a second for some 4 GiB: not for the reactor. It fails with [`IncomingError`] if there are too
    /// many pages, the memory cannot be used, or it was ended.
    pub fn begin(
        memory: Arc<GuestMemory>,
        hash_seed: u64,
    ) -> (Self, impl FnOnce() -> Result<PageTable, IncomingError> + Send + 'static) {
        let stop = CancellationToken::new();
        let (end, ended) = oneshot::channel();
        let search = Self { stop: stop.clone().drop_guard(), ended };
        let look = move || {
            let found = find_pages(&memory, hash_seed, &stop);
            drop((memory, end));
            found
        };
        (search, look)
    }

    /// Once this returns, nothing of it writes to the guest's memory any more, whether it was ever run or not.
    pub async fn end(self) {
        drop(self.stop);
        // Nothing is ever sent: the sender goes with what looks.
        let _ = self.ended.await;
    }
}

fn find_pages(
    memory: &GuestMemory,
    hash_seed: u64,
    stop: &CancellationToken,
) -> Result<PageTable, IncomingError> {
    let pages = memory.pages();
    let pages = u32::try_from(pages).map_err(|_| IncomingError::TooManyPages(pages))?;
    let hasher = PageHasher::new(hash_seed);
    let (mut table, mut held) = (PageTable::new(pages), 0);
    let mut touched = TouchedPages::default();
    for page_index in 0..pages {
        if stop.is_cancelled() {
            return Err(IncomingError::Over);
        }
        let hash = touched.look(memory, page_index, &hasher)?;
        if hash == ContentHash::ZERO_PAGE {
            continue;
        }
        if held == BEGINNING_PAGES_MAX {
            memory.zero_page(page_index.into())?;
            continue;
        }
        held += 1;
        // Each page once, of the table's own number.
        let _ = table.begin_page(page_index, hash);
    }
    Ok(table)
}

#[cfg(test)]
mod tests {
    use novacron_protocol::pages::PAGE_BYTES;

    use super::*;

    fn memory(directory: &tempfile::TempDir, len_bytes: u64) -> Arc<GuestMemory> {
        let memory = GuestMemory::create(&directory.path().join("memory"), len_bytes);
        Arc::new(memory.unwrap())
    }

    fn look(memory: &Arc<GuestMemory>) -> PageTable {
        let (_search, look) = PagesSearch::begin(Arc::clone(memory), 5);
        look().unwrap()
    }

    #[test]
    fn what_is_found_is_what_is_there() {
        let directory = tempfile::tempdir().unwrap();
        let memory = memory(&directory, 1 << 20);
        memory.write_page(3, &[7; PAGE_BYTES]).unwrap();
        let hasher = PageHasher::new(5);
        let found = look(&memory);
        assert_eq!(found.content(3), Some(hasher.hash_bytes(&[7; PAGE_BYTES])));
        assert_eq!(found.content(4), Some(ContentHash::ZERO_PAGE));

        let reopened = Arc::new(GuestMemory::open(memory.path(), 1 << 20).unwrap());
        assert!(reopened.has_name());
        assert_eq!(look(&reopened).regions(), found.regions());
        std::fs::remove_file(memory.path()).unwrap();
        assert!(!reopened.has_name());
    }

    #[tokio::test]
    async fn a_search_that_has_ended_leaves_the_memory_alone() {
        let directory = tempfile::tempdir().unwrap();
        let memory = memory(&directory, 256 << 20);
        let (search, look) = PagesSearch::begin(Arc::clone(&memory), 5);
        // Kept apart, as a set of tasks that is dropped does not end what runs on a thread.
        let looking = tokio::task::spawn_blocking(look);
        search.end().await;
        assert_eq!(Arc::strong_count(&memory), 1);
        // It may have come to its end before it heard.
        assert!(matches!(looking.await.unwrap(), Ok(_) | Err(IncomingError::Over)));
    }

    #[tokio::test]
    async fn a_search_that_is_dropped_finds_nothing() {
        let directory = tempfile::tempdir().unwrap();
        let memory = memory(&directory, 1 << 20);
        let (search, look) = PagesSearch::begin(Arc::clone(&memory), 5);
        drop(search);
        assert!(matches!(look(), Err(IncomingError::Over)));
        let (search, look) = PagesSearch::begin(memory, 5);
        drop(look);
        search.end().await;
    }
}
