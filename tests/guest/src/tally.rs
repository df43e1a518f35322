//! What has been checked and found so far, counted by every thread, printed by one.

use std::sync::atomic::{AtomicU64, Ordering};

use crate::report;

/// Counters that only grow.
#[derive(Debug, Default)]
pub struct Tally {
    memory_checked_pages: AtomicU64,
    disk_checked_blocks: AtomicU64,
    disk_written_blocks: AtomicU64,
    faults: AtomicU64,
}

/// The counters at one moment.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Counts {
    /// Pages of the working set that were compared with the shadow.
    pub memory_checked_pages: u64,
    /// Blocks that were read back from the disk and compared.
    pub disk_checked_blocks: u64,
    /// Blocks that were written to the disk.
    pub disk_written_blocks: u64,
    /// Differences found in memory and on disk.
    pub faults: u64,
}

impl Tally {
    /// Counts compared pages.
    pub fn memory_checked(&self, pages: u64) {
        self.memory_checked_pages.fetch_add(pages, Ordering::Relaxed);
    }

    /// Counts one compared block.
    pub fn disk_checked(&self) {
        self.disk_checked_blocks.fetch_add(1, Ordering::Relaxed);
    }

    /// Counts one written block.
    pub fn disk_written(&self) {
        self.disk_written_blocks.fetch_add(1, Ordering::Relaxed);
    }

    /// Counts a difference and says it.
    pub fn fault(&self, what: std::fmt::Arguments<'_>) {
        self.faults.fetch_add(1, Ordering::Relaxed);
        report::line(format_args!("FAULT {what}"));
    }

    /// All counters.
    pub fn counts(&self) -> Counts {
        Counts {
            memory_checked_pages: self.memory_checked_pages.load(Ordering::Relaxed),
            disk_checked_blocks: self.disk_checked_blocks.load(Ordering::Relaxed),
            disk_written_blocks: self.disk_written_blocks.load(Ordering::Relaxed),
            faults: self.faults.load(Ordering::Relaxed),
        }
    }
}
