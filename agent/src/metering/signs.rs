//! Until when a guest lived that ended while no agent ran: as its files tell.
//!
//! A QEMU that ends in an orderly way removes its sockets and its pid file, so the directory of its run has changed then.
//! One that is killed has changed its disks and its console's log last when its guest wrote. Nothing else writes there
//! while no agent runs.

use std::fs;
use std::path::Path;
use std::time::UNIX_EPOCH;

use crate::vm::MachineDirectories;

/// When something of the machine changed last, in milliseconds of the wall clock since 1970; 0 if nothing can be seen.
pub fn newest_ms(directories: &MachineDirectories) -> u64 {
    let within = |directory: &Path| fs::read_dir(directory).into_iter().flatten().flatten();
    let files = within(&directories.durable).chain(within(&directories.run));
    let changed = files.map(|file| changed_ms(&file.path()));
    changed.chain([changed_ms(&directories.run)]).max().unwrap_or(0)
}

fn changed_ms(path: &Path) -> u64 {
    let changed = fs::metadata(path).and_then(|metadata| metadata.modified()).ok();
    let since = changed.and_then(|changed| changed.duration_since(UNIX_EPOCH).ok());
    since.map_or(0, |since| u64::try_from(since.as_millis()).unwrap_or(u64::MAX))
}

#[cfg(test)]
mod tests {
    use std::time::{Duration, SystemTime};

    use super::*;

    #[test]
    fn the_newest_change_of_disks_log_and_run_counts() {
        let root = tempfile::tempdir().unwrap();
        let path = |name: &str| root.path().join(name);
        let directories =
            MachineDirectories { durable: path("vm"), run: path("run"), memory: path("memory") };
        assert_eq!(newest_ms(&directories), 0);
        let (disk, log) = (path("vm").join("disk0.raw"), path("run").join("qemu.log"));
        fs::create_dir(path("vm")).unwrap();
        fs::create_dir(path("run")).unwrap();
        let at = |path: &Path, seconds| {
            let moment = SystemTime::UNIX_EPOCH + Duration::from_secs(seconds);
            fs::File::open(path).unwrap().set_modified(moment).unwrap();
        };
        for (file, seconds) in [(&disk, 50), (&log, 40)] {
            fs::write(file, b"x").unwrap();
            at(file, seconds);
        }
        at(&path("run"), 30);
        assert_eq!(newest_ms(&directories), 50_000);
        at(&path("run"), 60);
        assert_eq!(newest_ms(&directories), 60_000);
    }
}
