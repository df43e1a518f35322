//! How much a disk would forget now, in a file for whoever kills its process.

use std::fs::File;
use std::os::unix::fs::FileExt;
use std::path::PathBuf;
use std::sync::{Mutex, PoisonError};

/// The count, and where it is written.
#[derive(Debug, Default)]
pub(super) struct Unsynced {
    count: Mutex<Count>,
    /// Nothing, if nobody asked.
    file: Option<File>,
}

#[derive(Debug, Default)]
struct Count {
    bytes: u64,
    names: usize,
}

impl Unsynced {
    /// Nothing is; and so it says in the file, if there is one. A test that cannot read it fails by that.
    pub(super) fn new(path: Option<PathBuf>) -> Unsynced {
        let file = path.and_then(|path| File::create(path).ok());
        let unsynced = Unsynced { file, ..Unsynced::default() };
        unsynced.set_names(0);
        unsynced
    }

    /// A file had so many bytes that are not synced, and has so many now.
    pub(super) fn change_bytes(&self, before: u64, after: u64) {
        self.change(|count| count.bytes = (count.bytes + after).saturating_sub(before));
    }

    /// So many names are not as the disk has them.
    pub(super) fn set_names(&self, names: usize) {
        self.change(|count| count.names = names);
    }

    fn change(&self, change: impl FnOnce(&mut Count)) {
        let mut count = self.count.lock().unwrap_or_else(PoisonError::into_inner);
        change(&mut count);
        if let Some(file) = &self.file {
            // Always as long, so that it is never by half what it was before.
            let text = format!("{:>20} {:>20}\n", count.bytes, count.names);
            let _ = file.write_all_at(text.as_bytes(), 0);
        }
    }
}
