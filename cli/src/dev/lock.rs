//! The lock between several `up`s on one machine, which guards the choice of a subnet.
//!
//! It is a file outside every cluster's directory. Who removes it holds it; who has waited for one that was removed
//! meanwhile takes the new one. So no two hold it at once.

use std::fs::{self, File};
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::Path;

/// Where it is, for everybody.
pub const PATH: &str = "/run/novacron-dev.lock";

/// Waits for the lock and holds it for as long as the file is open.
///
/// # Errors
/// The file cannot be made or locked.
pub fn hold(path: &Path) -> io::Result<File> {
    loop {
        let file = File::create(path)?;
        file.lock()?;
        if is_at(&file, path) {
            return Ok(file);
        }
    }
}

/// Removes the file unless somebody holds it; it may be gone already.
pub fn remove_unused(path: &Path) {
    let Ok(file) = File::options().write(true).open(path) else { return };
    if file.try_lock().is_ok() && is_at(&file, path) {
        // What cannot be removed is empty and in nobody's way.
        let _ = fs::remove_file(path);
    }
}

/// Whether the path still means this file.
fn is_at(file: &File, path: &Path) -> bool {
    let identity = |found: io::Result<fs::Metadata>| found.map(|found| (found.dev(), found.ino()));
    matches!((identity(file.metadata()), identity(fs::metadata(path))), (Ok(one), Ok(other)) if one == other)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::thread;

    #[test]
    fn a_lock_that_is_held_stays_and_one_that_is_not_goes() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("lock");
        let held = hold(&path).unwrap();
        remove_unused(&path);
        assert!(path.exists());
        drop(held);
        remove_unused(&path);
        remove_unused(&path);
        assert!(!path.exists());
    }

    #[test]
    fn who_waited_for_a_lock_that_was_removed_holds_the_new_one() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("lock");
        let held = hold(&path).unwrap();
        let waiting = thread::spawn({
            let path = path.clone();
            move || hold(&path).unwrap()
        });
        fs::remove_file(&path).unwrap();
        drop(held);
        let new = waiting.join().unwrap();
        assert!(is_at(&new, &path));
        assert!(hold_now(&path).is_none(), "two hold it");
    }

    fn hold_now(path: &Path) -> Option<File> {
        let file = File::create(path).ok()?;
        file.try_lock().is_ok().then_some(file)
    }
}
