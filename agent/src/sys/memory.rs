//! A guest's memory: a file beside the QEMU that runs it.
//!
//! The target of a migration puts pages where they belong instead of feeding them to QEMU's single loader thread. QEMU maps
//! the same file, so these bytes may change at any moment, and what is read may be a torn *page*, which the protocol
//! excludes by its epochs.
//!
//! It is written and read, not mapped: a mapping costs an entry of the page table for each page that is touched, be it
//! only to see that it is zero, and no unsafe code is needed. For 512 MiB of which a fifth is not zero, taking the memory
//! and filling it took 0.28 s of a processor with a mapping and 0.11 s without; for all of it, 0.35 and 0.19 s.

use std::fs::{File, OpenOptions};
use std::io;
use std::ops::Range;
use std::os::unix::fs::{FileExt, MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use rustix::fs::{FallocateFlags, SeekFrom};
use rustix::io::Errno;

/// Bytes of a guest page on x86.
pub const PAGE_BYTES: usize = 4096;

/// Why guest memory cannot be had or reached.
#[derive(Debug, thiserror::Error)]
pub enum GuestMemoryError {
    /// The length is not a whole, positive number of pages, or does not fit the address space.
    #[error("guest memory of {len_bytes} bytes is not a whole number of {PAGE_BYTES}-byte pages")]
    BadLength {
        /// What was asked for.
        len_bytes: u64,
    },
    /// The file cannot be made, sized, written or read.
    #[error("cannot {what} guest memory {path}")]
    Unusable {
        /// What was tried.
        what: &'static str,
        /// The file.
        path: PathBuf,
        /// The cause.
        #[source]
        source: io::Error,
    },
    /// There is not as much memory.
    #[error(
        "{path} cannot have {len_bytes} bytes of memory ({source}); free some, or give its file system more with \
         `mount -o remount,size=…`"
    )]
    Exhausted {
        /// The file.
        path: PathBuf,
        /// Bytes needed.
        len_bytes: u64,
        /// The cause; in the text, because it is what the operator of another node sees.
        source: io::Error,
    },
    /// A page beyond the end.
    #[error("page {page} is beyond the guest's {pages} pages")]
    OutOfRange {
        /// The page.
        page: u64,
        /// Pages that there are.
        pages: u64,
    },
}

/// The memory of one guest, shared with its QEMU (`memory-backend-file,share=on`).
#[derive(Debug)]
pub struct GuestMemory {
    len_bytes: u64,
    file: File,
    path: PathBuf,
}

impl GuestMemory {
    /// Makes the file (which must not exist), sparse and so all zero, readable by its owner only.
    ///
    /// # Errors
    /// [`GuestMemoryError`] if the length is no whole number of pages or the system refuses.
    pub fn create(path: &Path, len_bytes: u64) -> Result<Self, GuestMemoryError> {
        let unusable =
            |what| move |source| GuestMemoryError::Unusable { what, path: path.to_owned(), source };
        check_length(len_bytes)?;
        let file = OpenOptions::new()
            .read(true)
            .write(true)
            .create_new(true)
            .mode(0o600)
            .open(path)
            .map_err(unusable("create"))?;
        file.set_len(len_bytes).map_err(unusable("size"))?;
        Ok(Self { len_bytes, file, path: path.to_owned() })
    }

    /// Opens a file that an earlier process of this agent made; whatever is in there stays.
    ///
    /// # Errors
    /// [`GuestMemoryError`] if there is none, or it has another length.
    pub fn open(path: &Path, len_bytes: u64) -> Result<Self, GuestMemoryError> {
        let unusable =
            |what| move |source| GuestMemoryError::Unusable { what, path: path.to_owned(), source };
        check_length(len_bytes)?;
        let file =
            OpenOptions::new().read(true).write(true).open(path).map_err(unusable("open"))?;
        let found_bytes = file.metadata().map_err(unusable("look at"))?.len();
        if found_bytes != len_bytes {
            return Err(GuestMemoryError::BadLength { len_bytes: found_bytes });
        }
        Ok(Self { len_bytes, file, path: path.to_owned() })
    }

    /// Whether the file's name still means this memory: a process that opens it shares it.
    pub fn has_name(&self) -> bool {
        let id = |metadata: std::fs::Metadata| (metadata.dev(), metadata.ino());
        let named = std::fs::metadata(&self.path).map(id);
        named.is_ok_and(|named| self.file.metadata().is_ok_and(|ours| id(ours) == named))
    }

    /// Takes all of the memory from the system now. Without this a page that finds none when it is first touched
    /// ends the process that touches it, be it the agent or, long after the migration, the guest's QEMU; with it,
    /// a host without the memory says so before a byte is moved.
    ///
    /// Takes some 0.2 s per GiB: not for the reactor. The kernel takes pages that are reserved twice for touched ones.
    ///
    /// # Errors
    /// [`GuestMemoryError::Exhausted`].
    pub fn reserve(&self) -> Result<(), GuestMemoryError> {
        let take = || rustix::fs::fallocate(&self.file, FallocateFlags::empty(), 0, self.len_bytes);
        rustix::io::retry_on_intr(take).map_err(|errno| self.exhausted(errno))
    }

    fn exhausted(&self, errno: Errno) -> GuestMemoryError {
        let (path, len_bytes) = (self.path.clone(), self.len_bytes);
        GuestMemoryError::Exhausted { path, len_bytes, source: errno.into() }
    }

    /// Bytes of the memory.
    pub fn len_bytes(&self) -> u64 {
        self.len_bytes
    }

    /// Pages of the memory.
    pub fn pages(&self) -> u64 {
        self.len_bytes / PAGE_BYTES as u64
    }

    /// The file, as long as it has a name: see [`Self::has_name`].
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Puts the content of one page.
    ///
    /// # Errors
    /// [`GuestMemoryError::OutOfRange`], or the system's refusal.
    pub fn write_page(
        &self,
        page: u64,
        content: &[u8; PAGE_BYTES],
    ) -> Result<(), GuestMemoryError> {
        let offset = self.offset(page)?;
        let written = self.file.write_all_at(content, offset);
        written.map_err(|source| self.unusable("write to", source))
    }

    /// Makes one page zero. A page that is zero already is not written, so one that nobody has touched stays so.
    ///
    /// # Errors
    /// [`GuestMemoryError::OutOfRange`], or the system's refusal.
    pub fn zero_page(&self, page: u64) -> Result<(), GuestMemoryError> {
        let mut content = [0; PAGE_BYTES];
        self.read_page(page, &mut content)?;
        if content == [0; PAGE_BYTES] {
            return Ok(());
        }
        self.write_page(page, &[0; PAGE_BYTES])
    }

    /// Copies one page into `content`.
    ///
    /// # Errors
    /// [`GuestMemoryError::OutOfRange`], or the system's refusal.
    pub fn read_page(
        &self,
        page: u64,
        content: &mut [u8; PAGE_BYTES],
    ) -> Result<(), GuestMemoryError> {
        let offset = self.offset(page)?;
        let read = self.file.read_exact_at(content, offset);
        read.map_err(|source| self.unusable("read", source))
    }

    /// The first run of pages at or after `page` that somebody has touched, reserved or not: all others are zero. A page may
    /// be among them that is zero too.
    ///
    /// # Errors
    /// The system's refusal.
    pub fn touched_pages(&self, page: u64) -> Result<Option<Range<u64>>, GuestMemoryError> {
        let seek = |position| rustix::fs::seek(&self.file, position);
        let refused = |errno: Errno| self.unusable("look through", errno.into());
        let first = match seek(SeekFrom::Data(page.saturating_mul(PAGE_BYTES as u64))) {
            Ok(first) => first,
            // Nothing more, up to the end.
            Err(Errno::NXIO) => return Ok(None),
            Err(errno) => return Err(refused(errno)),
        };
        let end = seek(SeekFrom::Hole(first)).map_err(refused)?;
        Ok(Some(first / PAGE_BYTES as u64..end.div_ceil(PAGE_BYTES as u64)))
    }

    /// Makes a run of pages zero and gives their memory back to the system.
    ///
    /// # Errors
    /// [`GuestMemoryError::OutOfRange`] if the run ends beyond the memory, or the system's refusal.
    pub fn punch_holes(&self, first_page: u64, pages: u64) -> Result<(), GuestMemoryError> {
        let end = first_page.checked_add(pages).filter(|&end| end <= self.pages());
        if end.is_none() {
            return Err(self.out_of_range(first_page.saturating_add(pages)));
        }
        let flags = FallocateFlags::PUNCH_HOLE | FallocateFlags::KEEP_SIZE;
        let (offset, len) = (first_page * PAGE_BYTES as u64, pages * PAGE_BYTES as u64);
        rustix::fs::fallocate(&self.file, flags, offset, len)
            .map_err(|errno| self.unusable("punch holes into", errno.into()))
    }

    fn offset(&self, page: u64) -> Result<u64, GuestMemoryError> {
        if page >= self.pages() {
            return Err(self.out_of_range(page));
        }
        Ok(page * PAGE_BYTES as u64)
    }

    fn out_of_range(&self, page: u64) -> GuestMemoryError {
        GuestMemoryError::OutOfRange { page, pages: self.pages() }
    }

    fn unusable(&self, what: &'static str, source: io::Error) -> GuestMemoryError {
        GuestMemoryError::Unusable { what, path: self.path.clone(), source }
    }
}

fn check_length(len_bytes: u64) -> Result<(), GuestMemoryError> {
    // The kernel counts the bytes of a file with a sign.
    let is_good = len_bytes > 0
        && len_bytes.is_multiple_of(PAGE_BYTES as u64)
        && i64::try_from(len_bytes).is_ok();
    is_good.then_some(()).ok_or(GuestMemoryError::BadLength { len_bytes })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn memory(directory: &tempfile::TempDir, pages: u64) -> GuestMemory {
        GuestMemory::create(&directory.path().join("ram"), pages * PAGE_BYTES as u64).unwrap()
    }

    #[test]
    fn pages_land_in_the_file_and_come_back() {
        let directory = tempfile::tempdir().unwrap();
        let memory = memory(&directory, 3);
        let content: [u8; PAGE_BYTES] = std::array::from_fn(|index| (index * 7) as u8);
        memory.write_page(1, &content).unwrap();
        let file = std::fs::read(memory.path()).unwrap();
        assert_eq!(file[PAGE_BYTES..2 * PAGE_BYTES], content);
        assert!(file[..PAGE_BYTES].iter().all(|&byte| byte == 0));

        let mut read = [0; PAGE_BYTES];
        memory.read_page(1, &mut read).unwrap();
        assert_eq!(read, content);
        memory.zero_page(1).unwrap();
        memory.read_page(1, &mut read).unwrap();
        assert_eq!(read, [0; PAGE_BYTES]);
    }

    #[test]
    fn what_another_mapping_writes_is_seen() {
        use std::os::unix::fs::FileExt;
        let directory = tempfile::tempdir().unwrap();
        let memory = memory(&directory, 2);
        let other = OpenOptions::new().write(true).open(memory.path()).unwrap();
        std::fs::remove_file(memory.path()).unwrap();
        other.write_all_at(&[5; PAGE_BYTES], PAGE_BYTES as u64).unwrap();
        let mut read = [0; PAGE_BYTES];
        memory.read_page(1, &mut read).unwrap();
        assert_eq!(read, [5; PAGE_BYTES]);
        memory.punch_holes(0, 2).unwrap();
        memory.read_page(1, &mut read).unwrap();
        assert_eq!(read, [0; PAGE_BYTES]);
    }

    #[test]
    fn reserved_memory_is_allocated_and_unchanged() {
        use std::os::unix::fs::MetadataExt;
        let directory = tempfile::tempdir_in("/dev/shm").unwrap();
        let memory = memory(&directory, 5000);
        memory.write_page(4999, &[7; PAGE_BYTES]).unwrap();
        memory.reserve().unwrap();
        let allocated = std::fs::metadata(memory.path()).unwrap().blocks() * 512;
        assert_eq!(allocated, memory.len_bytes());
        let mut read = [0; PAGE_BYTES];
        memory.read_page(4999, &mut read).unwrap();
        assert_eq!(read, [7; PAGE_BYTES]);
    }

    #[test]
    fn what_nobody_has_touched_is_told_apart_reserved_or_not() {
        let directory = tempfile::tempdir_in("/dev/shm").unwrap();
        let memory = memory(&directory, 5000);
        memory.zero_page(17).unwrap();
        assert_eq!(memory.touched_pages(0).unwrap(), None);
        memory.reserve().unwrap();
        assert_eq!(memory.touched_pages(0).unwrap(), None);
        for page in [3, 4, 4999] {
            memory.write_page(page, &[7; PAGE_BYTES]).unwrap();
        }
        assert_eq!(memory.touched_pages(0).unwrap(), Some(3..5));
        assert_eq!(memory.touched_pages(4).unwrap(), Some(4..5));
        assert_eq!(memory.touched_pages(5).unwrap(), Some(4999..5000));
        assert_eq!(memory.touched_pages(5000).unwrap(), None);
        assert_eq!(memory.touched_pages(u64::MAX).unwrap(), None);
    }

    #[test]
    fn bounds_are_refused() {
        let directory = tempfile::tempdir().unwrap();
        let memory = memory(&directory, 2);
        let page = [0; PAGE_BYTES];
        assert!(matches!(
            memory.write_page(2, &page),
            Err(GuestMemoryError::OutOfRange { page: 2, pages: 2 })
        ));
        assert!(memory.zero_page(u64::MAX).is_err());
        assert!(memory.punch_holes(1, 2).is_err());
        assert!(memory.punch_holes(u64::MAX, 2).is_err());
        for bad in [0, 1, 4095, 4097, u64::MAX - 4095] {
            let other = directory.path().join("other");
            assert!(matches!(
                GuestMemory::create(&other, bad),
                Err(GuestMemoryError::BadLength { .. })
            ));
        }
        assert!(matches!(
            GuestMemory::create(memory.path(), 4096),
            Err(GuestMemoryError::Unusable { what: "create", .. })
        ));
    }

    #[test]
    fn many_threads_may_write_at_once() {
        let directory = tempfile::tempdir().unwrap();
        let memory = memory(&directory, 64);
        std::thread::scope(|scope| {
            for thread in 0..4_u64 {
                let memory = &memory;
                scope.spawn(move || {
                    for page in (thread..64).step_by(4) {
                        memory.write_page(page, &[page as u8 + 1; PAGE_BYTES]).unwrap();
                    }
                });
            }
        });
        let mut read = [0; PAGE_BYTES];
        for page in 0..64 {
            memory.read_page(page, &mut read).unwrap();
            assert_eq!(read, [page as u8 + 1; PAGE_BYTES]);
        }
    }
}
