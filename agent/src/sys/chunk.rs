//! Two mebibytes of memory of our own, in one huge page where the system has one.
//!
//! What is remembered of a guest is written once, page after page. With ordinary pages the kernel would have to be
//! entered, and a page to be cleared, for each of them: a seventh of all work at a migration's target.
//!
//! **Why this is sound.** The mapping is private, anonymous (so all zero), owned by one value and as long as its slice;
//! it is unmapped when the value is dropped, and slices borrow the value.

#![allow(unsafe_code)]

use std::io;
use std::ops::{Deref, DerefMut};
use std::ptr::NonNull;

use rustix::mm::{Advice, MapFlags, ProtFlags};

use super::PAGE_BYTES;

/// Pages of a chunk.
pub const CHUNK_PAGES: usize = 512;
/// Bytes of a chunk, and its alignment: x86's huge page.
pub const CHUNK_BYTES: usize = CHUNK_PAGES * PAGE_BYTES;

/// See the module.
#[derive(Debug)]
pub struct Chunk {
    /// Start of the mapping, which is twice as long as a chunk so that one is aligned in it.
    mapping: NonNull<u8>,
    /// Start of the chunk: aligned, inside the mapping.
    pages: NonNull<[u8; PAGE_BYTES]>,
}

// SAFETY: the mapping belongs to the process, and to this value alone.
unsafe impl Send for Chunk {}
// SAFETY: it is written only through `&mut`.
unsafe impl Sync for Chunk {}

impl Chunk {
    /// A chunk of zero pages.
    ///
    /// # Errors
    /// If the system gives no address space.
    pub fn new() -> io::Result<Self> {
        let protection = ProtFlags::READ | ProtFlags::WRITE;
        let flags = MapFlags::PRIVATE | MapFlags::NORESERVE;
        // SAFETY: a new mapping at an address of the kernel's choice touches no existing memory.
        let address = unsafe {
            rustix::mm::mmap_anonymous(std::ptr::null_mut(), 2 * CHUNK_BYTES, protection, flags)
        }?;
        let mapping = NonNull::new(address.cast::<u8>());
        let mapping = mapping.ok_or_else(|| io::Error::other("mapped at address zero"))?;
        let skip = mapping.as_ptr().align_offset(CHUNK_BYTES).min(CHUNK_BYTES);
        // SAFETY: at most one chunk into a mapping of two.
        let pages = unsafe { mapping.add(skip) }.cast();
        let chunk = Self { mapping, pages };
        // SAFETY: the range lies inside the mapping. Without a huge page ordinary ones do.
        let _ = unsafe {
            rustix::mm::madvise(pages.as_ptr().cast(), CHUNK_BYTES, Advice::LinuxHugepage)
        };
        Ok(chunk)
    }
}

impl Deref for Chunk {
    type Target = [[u8; PAGE_BYTES]];

    fn deref(&self) -> &Self::Target {
        // SAFETY: `CHUNK_PAGES` pages inside a mapping that lives as long as `self`; every byte is initialised.
        unsafe { std::slice::from_raw_parts(self.pages.as_ptr(), CHUNK_PAGES) }
    }
}

impl DerefMut for Chunk {
    fn deref_mut(&mut self) -> &mut Self::Target {
        // SAFETY: as above, and `&mut self` makes it the only reference.
        unsafe { std::slice::from_raw_parts_mut(self.pages.as_ptr(), CHUNK_PAGES) }
    }
}

impl Drop for Chunk {
    fn drop(&mut self) {
        // SAFETY: exactly the mapping made in `new`; no reference into it outlives `self`.
        let unmapped = unsafe { rustix::mm::munmap(self.mapping.as_ptr().cast(), 2 * CHUNK_BYTES) };
        if let Err(errno) = unmapped {
            tracing::error!(%errno, "memory cannot be unmapped");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_chunk_is_aligned_zero_and_ones_own() {
        let mut one = Chunk::new().unwrap();
        let other = Chunk::new().unwrap();
        assert_eq!(one.as_ptr() as usize % CHUNK_BYTES, 0);
        assert_eq!(
            (one.len(), one[0], one[CHUNK_PAGES - 1]),
            (CHUNK_PAGES, [0; PAGE_BYTES], [0; PAGE_BYTES])
        );
        one[CHUNK_PAGES - 1] = [7; PAGE_BYTES];
        assert_eq!(one[CHUNK_PAGES - 1], [7; PAGE_BYTES]);
        assert_eq!(other[CHUNK_PAGES - 1], [0; PAGE_BYTES]);
    }
}
