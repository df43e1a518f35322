//! RAM blocks: the named, sized pieces of guest memory that a stream announces before its pages.

use std::fmt;

use crate::pages::PAGE_BYTES;

/// QEMU writes the length of a block name in one byte.
pub const BLOCK_NAME_BYTES_MAX: usize = 255;

/// What a stream may ask of us.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct StreamLimits {
    /// Sum of the lengths of all RAM blocks, guest memory and firmware together.
    pub ram_bytes_max: u64,
    /// Number of RAM blocks.
    pub blocks_max: u16,
}

impl StreamLimits {
    /// Limits for a guest with this much memory: video memory, firmware, option ROMs and device
    /// buffers come on top of it (a q35 with a VGA has about 20 MiB of them), hence 1 GiB more.
    pub fn for_guest_memory(memory_bytes: u64) -> Self {
        Self { ram_bytes_max: memory_bytes.saturating_add(1 << 30), blocks_max: 256 }
    }
}

/// Name of a RAM block (`pc.ram`, `/rom@etc/acpi/tables`): 1 to 255 printable ASCII bytes.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct BlockName(Box<str>);

/// Not a RAM block name.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("a RAM block name is 1 to {BLOCK_NAME_BYTES_MAX} printable ASCII characters")]
pub struct BlockNameError;

impl BlockName {
    /// Checks and copies a name.
    pub fn new(name: &str) -> Result<Self, BlockNameError> {
        check_name(name.as_bytes()).map(|name| Self(name.into()))
    }

    /// The name.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for BlockName {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(&self.0)
    }
}

impl fmt::Debug for BlockName {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(&self.0, formatter)
    }
}

/// The bytes as a name, if they may be one. Does not allocate.
pub(crate) fn check_name(bytes: &[u8]) -> Result<&str, BlockNameError> {
    let printable = bytes.iter().all(|byte| matches!(byte, b' '..=b'~'));
    if bytes.is_empty() || bytes.len() > BLOCK_NAME_BYTES_MAX || !printable {
        return Err(BlockNameError);
    }
    std::str::from_utf8(bytes).map_err(|_| BlockNameError)
}

/// One RAM block.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RamBlock {
    /// Its name, unique in the list.
    pub name: BlockName,
    /// Its used length; a multiple of [`PAGE_BYTES`], never 0.
    pub length_bytes: u64,
}

impl RamBlock {
    /// Number of pages.
    pub fn pages(&self) -> u64 {
        self.length_bytes / PAGE_BYTES as u64
    }
}

/// All RAM blocks of a stream, in the order announced. A block's index in it is its id.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct BlockList(Vec<RamBlock>);

impl BlockList {
    /// An empty list.
    pub const fn new() -> Self {
        Self(Vec::new())
    }

    /// Adds a block; the caller has checked its own limits. False if the name is taken, the length
    /// is no positive multiple of the page size, or ids would run out.
    pub fn push(&mut self, block: RamBlock) -> bool {
        let fits = self.0.len() < usize::from(u16::MAX)
            && block.length_bytes > 0
            && block.length_bytes.is_multiple_of(PAGE_BYTES as u64)
            && self.index_of(block.name.as_str()).is_none();
        if fits {
            self.0.push(block);
        }
        fits
    }

    /// The id of the block with this name.
    pub fn index_of(&self, name: &str) -> Option<u16> {
        let index = self.0.iter().position(|block| block.name.as_str() == name)?;
        u16::try_from(index).ok()
    }

    /// The block with this id.
    pub fn get(&self, index: u16) -> Option<&RamBlock> {
        self.0.get(usize::from(index))
    }

    /// Number of blocks.
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// Whether no block was announced yet.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Sum of all lengths.
    pub fn total_bytes(&self) -> u64 {
        self.0.iter().map(|block| block.length_bytes).sum()
    }

    /// Blocks with their ids.
    pub fn iter(&self) -> impl Iterator<Item = (u16, &RamBlock)> {
        (0..=u16::MAX).zip(&self.0)
    }
}
