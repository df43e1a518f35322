//! What is in a guest's memory that an earlier attempt has filled in part: every page is hashed as it is, whatever was
//! thought of it.

use novacron_protocol::pages::{
    BEGINNING_PAGES_MAX, ContentHash, PAGE_BYTES, PageHasher, PageTable,
};

use super::incoming::IncomingError;
use crate::sys::GuestMemory;

/// The contents of all pages. Those for which there is no room in what the source is told are made zero. Nobody else may
/// write to the memory meanwhile.
///
/// Reads all of it, a second for some 4 GiB: not for the reactor.
///
/// # Errors
/// [`IncomingError`] if there are too many pages or the memory cannot be used.
pub fn find_pages(memory: &GuestMemory, hash_seed: u64) -> Result<PageTable, IncomingError> {
    let pages = memory.pages();
    let pages = u32::try_from(pages).map_err(|_| IncomingError::TooManyPages(pages))?;
    let hasher = PageHasher::new(hash_seed);
    let (mut table, mut held) = (PageTable::new(pages), 0);
    let mut content = [0; PAGE_BYTES];
    for page_index in 0..pages {
        memory.read_page(page_index.into(), &mut content)?;
        let hash = hasher.hash_bytes(&content);
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
    use super::*;

    #[test]
    fn what_is_found_is_what_is_there() {
        let directory = tempfile::tempdir().unwrap();
        let memory = GuestMemory::create(&directory.path().join("memory"), 1 << 20).unwrap();
        memory.write_page(3, &[7; PAGE_BYTES]).unwrap();
        let hasher = PageHasher::new(5);
        let found = find_pages(&memory, 5).unwrap();
        assert_eq!(found.content(3), Some(hasher.hash_bytes(&[7; PAGE_BYTES])));
        assert_eq!(found.content(4), Some(ContentHash::ZERO_PAGE));

        let reopened = GuestMemory::open(memory.path(), 1 << 20).unwrap();
        assert!(reopened.has_name());
        assert_eq!(find_pages(&reopened, 5).unwrap().regions(), found.regions());
        memory.unlink().unwrap();
        assert!(!reopened.has_name());
    }
}
