//! Disks of machines that left, for when they come back.
//!
//! Such a disk is no copy of a machine. Nothing ever runs from it: a machine that arrives may begin with the file, is
//! told apart from it block by block, and runs only after a migration that has verified all of it. So it does not matter
//! how old the content is, whether all of it was written, or what became of it since; whether the file can be written at
//! all is looked at when it is taken (see `arrival`).
//!
//! One directory per machine. They go, the oldest first, when there are too many bytes of them or the file system is
//! nearly full, and after [`AGE_MAX`].

use std::fs::{self, DirBuilder};
use std::io;
use std::os::unix::fs::{DirBuilderExt, MetadataExt};
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use novacron_protocol::ids::VmId;
use novacron_protocol::vm::DiskFormat;

use super::directories::disk_file;
use super::record::Disk;

/// What is older is of little use, and belongs to a machine that may be gone.
const AGE_MAX: Duration = Duration::from_secs(7 * 24 * 3600);

/// The part of the file system that is left free for those that have machines.
const FREE_PART_MIN: u64 = 10;

/// The disks of machines that left. Its calls read and write directories: not for the reactor.
#[derive(Debug, Clone)]
pub struct FormerDisks {
    directory: PathBuf,
    budget_bytes: u64,
}

/// The disks of one machine.
#[derive(Debug)]
struct Former {
    path: PathBuf,
    bytes: u64,
    kept_at: SystemTime,
}

impl FormerDisks {
    /// In `directory`, at most so many bytes of the host's disk; with 0 nothing is kept.
    pub fn new(directory: PathBuf, budget_bytes: u64) -> Self {
        Self { directory, budget_bytes }
    }

    /// Takes the disks out of the directory `from` of a machine that is not there any more. They stay where they are if
    /// there is no room for them.
    ///
    /// # Errors
    /// What the file system says; some may be taken then.
    pub fn keep(&self, vm: VmId, from: &Path, disks: &[Disk]) -> io::Result<()> {
        self.forget(vm)?;
        let files = (0..).zip(disks).map(|(index, disk)| disk_file(from, index, disk.format));
        let files: Vec<PathBuf> = files.filter(|file| file.is_file()).collect();
        let bytes = files.iter().map(|file| allocated_bytes(file)).sum();
        if files.is_empty() || bytes > self.budget_bytes {
            return Ok(());
        }
        self.make_room(bytes)?;
        let kept = self.of(vm);
        DirBuilder::new().recursive(true).mode(0o700).create(&kept)?;
        for file in files {
            if let Some(name) = file.file_name() {
                fs::rename(&file, kept.join(name))?;
            }
        }
        Ok(())
    }

    /// Moves a disk that was kept to `to`; whether there was one.
    ///
    /// # Errors
    /// What the file system says.
    pub fn take(&self, vm: VmId, index: usize, format: DiskFormat, to: &Path) -> io::Result<bool> {
        match fs::rename(disk_file(&self.of(vm), index, format), to) {
            Ok(()) => Ok(true),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(false),
            Err(error) => Err(error),
        }
    }

    /// Removes what was kept of a machine.
    ///
    /// # Errors
    /// What the file system says.
    pub fn forget(&self, vm: VmId) -> io::Result<()> {
        remove(&self.of(vm))
    }

    /// Removes the oldest until there is room for so many bytes more, and what is too old anyway.
    ///
    /// # Errors
    /// What the file system says.
    pub fn make_room(&self, bytes: u64) -> io::Result<()> {
        let mut kept = self.list();
        kept.sort_by_key(|former| std::cmp::Reverse(former.kept_at));
        while let Some(oldest) = kept.last() {
            let used_bytes: u64 = kept.iter().map(|former| former.bytes).sum();
            let is_old = oldest.kept_at.elapsed().is_ok_and(|age| age > AGE_MAX);
            let is_full = used_bytes.saturating_add(bytes) > self.budget_bytes;
            if !is_old && !is_full && !self.is_nearly_full()? {
                break;
            }
            remove(&oldest.path)?;
            kept.pop();
        }
        Ok(())
    }

    fn is_nearly_full(&self) -> io::Result<bool> {
        let system = rustix::fs::statvfs(&self.directory)?;
        Ok(system.f_bavail < system.f_blocks / FREE_PART_MIN)
    }

    fn of(&self, vm: VmId) -> PathBuf {
        self.directory.join(vm.to_string())
    }

    fn list(&self) -> Vec<Former> {
        let entries = fs::read_dir(&self.directory).into_iter().flatten().flatten();
        entries.filter_map(|entry| former(entry.path())).collect()
    }
}

fn former(path: PathBuf) -> Option<Former> {
    let kept_at = fs::metadata(&path).and_then(|metadata| metadata.modified()).ok()?;
    let files = fs::read_dir(&path).into_iter().flatten().flatten();
    let bytes = files.map(|file| allocated_bytes(&file.path())).sum();
    Some(Former { path, bytes, kept_at })
}

/// Bytes that a file takes of the host's disk.
fn allocated_bytes(file: &Path) -> u64 {
    /// Whatever the file system's own blocks are.
    const STAT_BLOCK_BYTES: u64 = 512;
    fs::metadata(file).map_or(0, |metadata| metadata.blocks() * STAT_BLOCK_BYTES)
}

fn remove(path: &Path) -> io::Result<()> {
    match fs::remove_dir_all(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        removed => removed,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use uuid::Uuid;

    const DISK: Disk = Disk { size_bytes: 1 << 20, format: DiskFormat::Raw };
    const FILE_BYTES: usize = 1 << 20;

    fn vm(number: u128) -> VmId {
        VmId(Uuid::from_u128(number))
    }

    /// A machine's directory with one disk.
    fn machine(root: &Path, number: u128) -> PathBuf {
        let directory = root.join(format!("machine{number}"));
        fs::create_dir(&directory).unwrap();
        fs::write(directory.join("disk0.raw"), vec![number as u8; FILE_BYTES]).unwrap();
        directory
    }

    fn age(former: &FormerDisks, number: u128, by: Duration) {
        let directory = fs::File::open(former.of(vm(number))).unwrap();
        directory.set_modified(SystemTime::now() - by).unwrap();
    }

    #[test]
    fn a_disk_is_kept_until_it_is_taken() {
        let root = tempfile::tempdir().unwrap();
        let former = FormerDisks::new(root.path().join("former"), 10 << 20);
        let machine = machine(root.path(), 1);
        former.keep(vm(1), &machine, &[DISK]).unwrap();
        assert!(!machine.join("disk0.raw").exists());
        let to = root.path().join("there");
        assert!(!former.take(vm(2), 0, DiskFormat::Raw, &to).unwrap());
        assert!(!former.take(vm(1), 0, DiskFormat::Qcow2, &to).unwrap());
        assert!(former.take(vm(1), 0, DiskFormat::Raw, &to).unwrap());
        assert_eq!(fs::read(&to).unwrap(), vec![1; FILE_BYTES]);
        assert!(!former.take(vm(1), 0, DiskFormat::Raw, &to).unwrap());
    }

    #[test]
    fn the_oldest_go_first() {
        let root = tempfile::tempdir().unwrap();
        let former = FormerDisks::new(root.path().join("former"), (5 << 20) / 2);
        for (number, hours) in [(1, 3), (2, 9), (3, 0)] {
            former.keep(vm(number), &machine(root.path(), number), &[DISK]).unwrap();
            age(&former, number, Duration::from_secs(3600 * hours));
        }
        let is_kept = |number| former.of(vm(number)).exists();
        assert_eq!([1, 2, 3].map(is_kept), [true, false, true]);
        age(&former, 1, AGE_MAX + Duration::from_secs(1));
        former.make_room(0).unwrap();
        assert_eq!([1, 2, 3].map(is_kept), [false, false, true]);
    }

    #[test]
    fn what_does_not_fit_stays_where_it_is() {
        let root = tempfile::tempdir().unwrap();
        for budget_bytes in [0, 1 << 19] {
            let former = FormerDisks::new(root.path().join("former"), budget_bytes);
            let machine = machine(root.path(), u128::from(budget_bytes));
            former.keep(vm(1), &machine, &[DISK]).unwrap();
            assert!(machine.join("disk0.raw").exists());
        }
    }
}
