//! A guest's memory, mapped beside the QEMU that runs it.
//!
//! The target of a migration puts pages where they belong instead of feeding them to QEMU's single
//! loader thread. QEMU maps the same file, so these bytes may change under our feet at any moment.
//!
//! **Why this is sound.** No reference into the mapping is ever made except to `AtomicU64`, which
//! allows change from elsewhere, and pages are copied word by word with relaxed atomic loads and
//! stores. So any number of our threads may read and write any page at once without a data race;
//! what they may see is a torn *page*, which the protocol excludes by its epochs, never undefined
//! behaviour. A relaxed 8-byte access is a plain `mov`; a page is 512 of them.

#![allow(unsafe_code)]

use std::fs::{File, OpenOptions};
use std::io;
use std::num::NonZero;
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::ptr::NonNull;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};

use rustix::fs::FallocateFlags;
use rustix::io::Errno;
use rustix::mm::{Advice, MapFlags, ProtFlags};

/// Bytes of a guest page on x86.
pub const PAGE_BYTES: usize = 4096;

const WORD_BYTES: usize = 8;

/// The piece of memory that one thread reserves at a time: a few milliseconds of work.
const RESERVE_BYTES: usize = 16 << 20;

/// Threads that reserve memory: beyond a few, the kernel's own locks are what they wait for.
const RESERVE_THREADS_MAX: usize = 4;

/// Why guest memory cannot be mapped or reached.
#[derive(Debug, thiserror::Error)]
pub enum GuestMemoryError {
    /// The length is not a whole, positive number of pages, or does not fit the address space.
    #[error("guest memory of {len_bytes} bytes is not a whole number of {PAGE_BYTES}-byte pages")]
    BadLength {
        /// What was asked for.
        len_bytes: u64,
    },
    /// The file cannot be made, sized or mapped.
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
    /// Start of the mapping; page aligned, `len_bytes` long, valid until drop.
    base: NonNull<u8>,
    len_bytes: usize,
    file: File,
    path: PathBuf,
}

// SAFETY: the mapping belongs to the process, not to a thread, and is accessed only through atomics.
unsafe impl Send for GuestMemory {}
// SAFETY: as above; every method takes `&self` and touches the mapping through atomics only.
unsafe impl Sync for GuestMemory {}

impl GuestMemory {
    /// Makes the file (which must not exist), sparse and so all zero, readable by its owner only,
    /// and maps it.
    ///
    /// # Errors
    /// [`GuestMemoryError`] if the length is no whole number of pages or the system refuses.
    pub fn create(path: &Path, len_bytes: u64) -> Result<Self, GuestMemoryError> {
        let unusable =
            |what| move |source| GuestMemoryError::Unusable { what, path: path.to_owned(), source };
        let len = checked_length(len_bytes)?;
        let file = OpenOptions::new()
            .read(true)
            .write(true)
            .create_new(true)
            .mode(0o600)
            .open(path)
            .map_err(unusable("create"))?;
        file.set_len(len_bytes).map_err(unusable("size"))?;
        let base = map_shared(&file, len).map_err(unusable("map"))?;
        Ok(Self { base, len_bytes: len, file, path: path.to_owned() })
    }

    /// Maps a file that an earlier process of this agent made; whatever is in there stays.
    ///
    /// # Errors
    /// [`GuestMemoryError`] if there is none, or it has another length.
    pub fn open(path: &Path, len_bytes: u64) -> Result<Self, GuestMemoryError> {
        let unusable =
            |what| move |source| GuestMemoryError::Unusable { what, path: path.to_owned(), source };
        let len = checked_length(len_bytes)?;
        let file =
            OpenOptions::new().read(true).write(true).open(path).map_err(unusable("open"))?;
        let found_bytes = file.metadata().map_err(unusable("look at"))?.len();
        if found_bytes != len_bytes {
            return Err(GuestMemoryError::BadLength { len_bytes: found_bytes });
        }
        let base = map_shared(&file, len).map_err(unusable("map"))?;
        Ok(Self { base, len_bytes: len, file, path: path.to_owned() })
    }

    /// Whether the file's name still means this memory: a process that opens it shares it.
    pub fn has_name(&self) -> bool {
        let id = |metadata: std::fs::Metadata| (metadata.dev(), metadata.ino());
        let named = std::fs::metadata(&self.path).map(id);
        named.is_ok_and(|named| self.file.metadata().is_ok_and(|ours| id(ours) == named))
    }

    /// Takes all of the memory from the system now. Without this a page that finds none when it is first touched
    /// ends the process that touches it, be it the agent or, long after the migration, the guest's QEMU; with it,
    /// a host without the memory says so before a byte is moved. It also makes the pages' later arrival faster.
    ///
    /// Takes about a second per GiB and processor: not for the reactor.
    ///
    /// # Errors
    /// [`GuestMemoryError::Exhausted`].
    pub fn reserve(&self) -> Result<(), GuestMemoryError> {
        let next_offset = AtomicUsize::new(0);
        let threads = std::thread::available_parallelism().map_or(1, NonZero::get);
        let populate = || -> rustix::io::Result<()> {
            loop {
                let offset = next_offset.fetch_add(RESERVE_BYTES, Ordering::Relaxed);
                if offset >= self.len_bytes {
                    return Ok(());
                }
                self.populate(offset, RESERVE_BYTES.min(self.len_bytes - offset))?;
            }
        };
        let populated = std::thread::scope(|scope| {
            let others: Vec<_> =
                (1..threads.min(RESERVE_THREADS_MAX)).map(|_| scope.spawn(populate)).collect();
            let mine = populate();
            let joined = others.into_iter().map(|other| other.join().unwrap_or(Err(Errno::INTR)));
            joined.fold(mine, Result::and)
        });
        match populated {
            Ok(()) => Ok(()),
            // A kernel before 5.14.
            Err(Errno::INVAL) => {
                let flags = FallocateFlags::empty();
                rustix::fs::fallocate(&self.file, flags, 0, self.len_bytes())
                    .map_err(|errno| self.exhausted(errno))
            }
            Err(errno) => Err(self.exhausted(errno)),
        }
    }

    /// Makes the kernel fill a part of the mapping as if it were written to, without changing it.
    fn populate(&self, offset: usize, len_bytes: usize) -> rustix::io::Result<()> {
        // SAFETY: the part lies inside the mapping; populating neither changes its content nor unmaps anything.
        unsafe {
            let start = self.base.as_ptr().add(offset);
            rustix::mm::madvise(start.cast(), len_bytes, Advice::LinuxPopulateWrite)
        }
    }

    fn exhausted(&self, errno: Errno) -> GuestMemoryError {
        let (path, len_bytes) = (self.path.clone(), self.len_bytes());
        // What the kernel says when a page cannot be had is EFAULT, which explains nothing.
        let source = match errno {
            Errno::FAULT => Errno::NOSPC.into(),
            errno => errno.into(),
        };
        GuestMemoryError::Exhausted { path, len_bytes, source }
    }

    /// Removes the file's name. Both mappings stay; the memory is freed when the last of the two
    /// processes is gone, so nothing can be left behind after this.
    ///
    /// # Errors
    /// [`GuestMemoryError::Unusable`] if the name cannot be removed.
    pub fn unlink(&self) -> Result<(), GuestMemoryError> {
        std::fs::remove_file(&self.path).map_err(|source| self.unusable("unlink", source))
    }

    /// Bytes of the memory.
    pub fn len_bytes(&self) -> u64 {
        self.len_bytes as u64
    }

    /// Pages of the memory.
    pub fn pages(&self) -> u64 {
        (self.len_bytes / PAGE_BYTES) as u64
    }

    /// The file; it has no name any more after [`Self::unlink`].
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Puts the content of one page.
    ///
    /// # Errors
    /// [`GuestMemoryError::OutOfRange`].
    pub fn write_page(
        &self,
        page: u64,
        content: &[u8; PAGE_BYTES],
    ) -> Result<(), GuestMemoryError> {
        let (source, _) = content.as_chunks::<WORD_BYTES>();
        for (word, bytes) in self.words(page)?.iter().zip(source) {
            word.store(u64::from_ne_bytes(*bytes), Ordering::Relaxed);
        }
        Ok(())
    }

    /// Makes one page zero. A page that is zero already is not written, so a sparse page stays sparse
    /// (reading a hole of a shared mapping allocates on tmpfs; use [`Self::punch_holes`] to free).
    ///
    /// # Errors
    /// [`GuestMemoryError::OutOfRange`].
    pub fn zero_page(&self, page: u64) -> Result<(), GuestMemoryError> {
        let words = self.words(page)?;
        if words.iter().any(|word| word.load(Ordering::Relaxed) != 0) {
            words.iter().for_each(|word| word.store(0, Ordering::Relaxed));
        }
        Ok(())
    }

    /// Copies one page into `content`.
    ///
    /// # Errors
    /// [`GuestMemoryError::OutOfRange`].
    pub fn read_page(
        &self,
        page: u64,
        content: &mut [u8; PAGE_BYTES],
    ) -> Result<(), GuestMemoryError> {
        let (target, _) = content.as_chunks_mut::<WORD_BYTES>();
        for (word, bytes) in self.words(page)?.iter().zip(target) {
            *bytes = word.load(Ordering::Relaxed).to_ne_bytes();
        }
        Ok(())
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

    /// The words of one page.
    fn words(&self, page: u64) -> Result<&[AtomicU64], GuestMemoryError> {
        if page >= self.pages() {
            return Err(self.out_of_range(page));
        }
        let offset = page as usize * PAGE_BYTES;
        // SAFETY: the page lies inside the mapping (checked above), which lives as long as `self`; it is
        // page aligned, hence aligned for AtomicU64; every bit pattern is a valid AtomicU64; others may
        // change it, which AtomicU64 allows.
        let words = unsafe {
            std::slice::from_raw_parts(
                self.base.as_ptr().add(offset).cast::<AtomicU64>(),
                PAGE_BYTES / WORD_BYTES,
            )
        };
        Ok(words)
    }

    fn out_of_range(&self, page: u64) -> GuestMemoryError {
        GuestMemoryError::OutOfRange { page, pages: self.pages() }
    }

    fn unusable(&self, what: &'static str, source: io::Error) -> GuestMemoryError {
        GuestMemoryError::Unusable { what, path: self.path.clone(), source }
    }
}

impl Drop for GuestMemory {
    fn drop(&mut self) {
        // SAFETY: exactly the mapping made in `create` or `open`; no reference into it outlives `self`.
        let unmapped = unsafe { rustix::mm::munmap(self.base.as_ptr().cast(), self.len_bytes) };
        if let Err(errno) = unmapped {
            tracing::error!(%errno, path = %self.path.display(), "guest memory cannot be unmapped");
        }
    }
}

fn checked_length(len_bytes: u64) -> Result<usize, GuestMemoryError> {
    usize::try_from(len_bytes)
        .ok()
        .filter(|&len| len > 0 && len.is_multiple_of(PAGE_BYTES) && isize::try_from(len).is_ok())
        .ok_or(GuestMemoryError::BadLength { len_bytes })
}

fn map_shared(file: &File, len: usize) -> io::Result<NonNull<u8>> {
    let protection = ProtFlags::READ | ProtFlags::WRITE;
    // SAFETY: a new mapping at an address of the kernel's choice touches no existing memory. If somebody cuts
    // the file, an access raises SIGBUS: the process ends, memory safety does not.
    let address = unsafe {
        rustix::mm::mmap(std::ptr::null_mut(), len, protection, MapFlags::SHARED, file, 0)
    }?;
    NonNull::new(address.cast::<u8>()).ok_or_else(|| io::Error::other("mapped at address zero"))
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
        memory.unlink().unwrap();
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
