//! Pages of guest memory that are pages of a file: QEMU has put kernel and initial RAM disk there, and both ends of a
//! migration have these files. So such a page need not be sent; its place in the file is enough.
//!
//! Both ends number the pages in the same way: by the order of the files in the offer, then by the order of the pages.
//! A page of a kernel begins where the loader begins to copy it, behind the boot sectors (the x86 boot protocol: the
//! byte at 0x1f1 counts them less one); everything else begins at the file's first byte. A last page that is not whole
//! is filled up with zeros.

use std::collections::HashMap;
use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

use novacron_protocol::pages::{ContentHash, PAGE_BYTES, PageHasher};
use novacron_protocol::session::message::{FILE_BYTES_MAX, FileRole};

/// Set in every number of a file's page: other numbers are others' business.
const MARK: u64 = 1 << 63;
/// Bits of a page's number within its file: 2^32 pages are far more than [`FILE_BYTES_MAX`].
const PAGE_BITS: u32 = 32;

const _: () = assert!(FILE_BYTES_MAX / (PAGE_BYTES as u64) < 1 << PAGE_BITS);

/// Where the boot protocol says how many boot sectors there are.
const SETUP_SECTORS_AT: u64 = 0x1f1;
const SECTOR_BYTES: u64 = 512;
/// What the protocol takes for 0.
const SETUP_SECTORS_DEFAULT: u64 = 4;

/// A file that both ends have.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BootFile {
    /// What it is to the machine.
    pub role: FileRole,
    /// Where it is on this host.
    pub path: PathBuf,
}

/// The pages of some files, read when they are asked for.
#[derive(Debug, Default)]
pub struct BootPages {
    files: Vec<Pages>,
}

#[derive(Debug)]
struct Pages {
    file: File,
    begin: u64,
    end: u64,
}

impl BootPages {
    /// The pages of these files, in the order of the offer. Blocks for a moment.
    ///
    /// # Errors
    /// If a file cannot be read.
    pub fn open(files: &[BootFile]) -> io::Result<Self> {
        let open = |file: &BootFile| Pages::open(&file.path, file.role);
        Ok(Self { files: files.iter().map(open).collect::<io::Result<_>>()? })
    }

    /// The page of this number; `None` if there is no such page.
    ///
    /// # Errors
    /// If the file cannot be read.
    pub fn read(&self, slot: u64) -> io::Result<Option<[u8; PAGE_BYTES]>> {
        if slot & MARK == 0 {
            return Ok(None);
        }
        let (file, page) = ((slot & !MARK) >> PAGE_BITS, slot & ((1 << PAGE_BITS) - 1));
        let file = usize::try_from(file).ok().and_then(|file| self.files.get(file));
        file.map_or(Ok(None), |file| file.read(page))
    }
}

impl Pages {
    fn open(path: &Path, role: FileRole) -> io::Result<Self> {
        let file = File::open(path)?;
        let end = file.metadata()?.len();
        let begin = match role {
            FileRole::Kernel => setup_bytes(&file)?.min(end),
            FileRole::Initrd => 0,
        };
        Ok(Self { file, begin, end })
    }

    fn pages(&self) -> u64 {
        (self.end - self.begin).div_ceil(PAGE_BYTES as u64)
    }

    fn read(&self, page: u64) -> io::Result<Option<[u8; PAGE_BYTES]>> {
        if page >= self.pages() {
            return Ok(None);
        }
        let offset = self.begin + page * PAGE_BYTES as u64;
        // At most a page, which fits.
        let length = (self.end - offset).min(PAGE_BYTES as u64) as usize;
        let mut content = [0; PAGE_BYTES];
        self.file.read_exact_at(&mut content[..length], offset)?;
        Ok(Some(content))
    }
}

/// Bytes before the part of a kernel that is copied to memory as it is.
fn setup_bytes(kernel: &File) -> io::Result<u64> {
    let mut sectors = [0];
    // A file that is too short is no kernel, and has no boot sectors.
    if kernel.read_at(&mut sectors, SETUP_SECTORS_AT)? == 0 {
        return Ok(0);
    }
    let sectors = match u64::from(sectors[0]) {
        0 => SETUP_SECTORS_DEFAULT,
        sectors => sectors,
    };
    Ok((sectors + 1) * SECTOR_BYTES)
}

/// Which page of the files has which content.
#[derive(Debug, Default)]
pub struct BootIndex {
    pages: BootPages,
    slots: HashMap<ContentHash, u64>,
}

impl BootIndex {
    /// Of these pages, by their hashes. Reads all of them.
    ///
    /// # Errors
    /// If a file cannot be read.
    pub fn new(pages: BootPages, hasher: &PageHasher) -> io::Result<Self> {
        let mut slots = HashMap::new();
        for (number, file) in (0..).zip(&pages.files) {
            for page in 0..file.pages() {
                let Some(content) = file.read(page)? else { break };
                let hash = hasher.hash_bytes(&content);
                if hash != ContentHash::ZERO_PAGE {
                    slots.entry(hash).or_insert(MARK | number << PAGE_BITS | page);
                }
            }
        }
        Ok(Self { pages, slots })
    }

    /// The number of a page with exactly this content. The hash finds it, the bytes decide.
    pub fn find(&self, hash: ContentHash, content: &[u8; PAGE_BYTES]) -> Option<u64> {
        let slot = *self.slots.get(&hash)?;
        // A file that can no longer be read is not worth a migration: the page is sent.
        let known = self.pages.read(slot).ok().flatten()?;
        (known == *content).then_some(slot)
    }
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    /// A kernel with two boot sectors after the first and two and a half pages, and an initrd of one page.
    fn files(directory: &Path) -> Vec<BootFile> {
        let mut kernel = vec![0x55; 3 * 512];
        kernel[0x1f1] = 2;
        for byte in [1, 2] {
            kernel.extend([byte; PAGE_BYTES]);
        }
        kernel.extend([3; PAGE_BYTES / 2]);
        let paths = ["kernel", "initrd"].map(|name| directory.join(name));
        fs::write(&paths[0], kernel).unwrap();
        fs::write(&paths[1], [9; PAGE_BYTES]).unwrap();
        let [kernel, initrd] = paths;
        vec![
            BootFile { role: FileRole::Kernel, path: kernel },
            BootFile { role: FileRole::Initrd, path: initrd },
        ]
    }

    #[test]
    fn pages_are_found_by_content_and_read_by_number() {
        let directory = tempfile::tempdir().unwrap();
        let open = || BootPages::open(&files(directory.path())).unwrap();
        let (pages, hasher) = (open(), PageHasher::new(7));
        let index = BootIndex::new(open(), &hasher).unwrap();
        let mut half = [0; PAGE_BYTES];
        half[..PAGE_BYTES / 2].fill(3);
        for content in [[1; PAGE_BYTES], [2; PAGE_BYTES], half, [9; PAGE_BYTES]] {
            let slot = index.find(hasher.hash_bytes(&content), &content).unwrap();
            assert_eq!(pages.read(slot).unwrap(), Some(content));
        }
        let absent = [4; PAGE_BYTES];
        assert_eq!(index.find(hasher.hash_bytes(&absent), &absent), None);
    }

    #[test]
    fn a_hash_alone_convinces_nobody() {
        let directory = tempfile::tempdir().unwrap();
        let pages = BootPages::open(&files(directory.path())).unwrap();
        let hasher = PageHasher::new(7);
        let index = BootIndex::new(pages, &hasher).unwrap();
        let hash = hasher.hash_bytes(&[1; PAGE_BYTES]);
        assert_eq!(index.find(hash, &[5; PAGE_BYTES]), None);
    }

    #[test]
    fn numbers_of_pages_that_are_not_there_give_none() {
        let directory = tempfile::tempdir().unwrap();
        let pages = BootPages::open(&files(directory.path())).unwrap();
        for slot in [0, 1, MARK | 3, MARK | 2 << PAGE_BITS, u64::MAX, MARK | 1 << PAGE_BITS | 1] {
            assert_eq!(pages.read(slot).unwrap(), None, "{slot:#x}");
        }
    }

    #[test]
    fn a_short_kernel_has_no_boot_sectors() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("kernel");
        fs::write(&path, b"short").unwrap();
        let pages = BootPages::open(&[BootFile { role: FileRole::Kernel, path }]).unwrap();
        assert_eq!(&pages.read(MARK).unwrap().unwrap()[..6], b"short\0");
    }
}
