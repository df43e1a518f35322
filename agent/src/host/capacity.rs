//! What this host has and may lend.

use std::fs;
use std::num::NonZero;
use std::os::unix::fs::MetadataExt;
use std::path::Path;

use novacron_protocol::node::NodeCapacity;

use crate::config::Config;

/// The share of memory that the host keeps for itself: one eighth, at least 512 MiB, for the system, the agent and
/// what each QEMU needs beside its guest's memory.
const HOST_MEMORY_BYTES_MIN: u64 = 512 << 20;

/// The capacity that the configuration says, or that the host has.
pub fn capacity(config: &Config) -> NodeCapacity {
    let machines = config.directories().machines();
    NodeCapacity {
        memory_bytes: config.memory.or_auto(lendable_memory_bytes),
        cpus: u32::try_from(config.cpus.or_auto(processors)).unwrap_or(u32::MAX),
        disk_bytes: config.disk.or_auto(|| disk_bytes(&config.data_directory, &machines)),
    }
}

fn lendable_memory_bytes() -> u64 {
    let total = fs::read_to_string("/proc/meminfo").ok().as_deref().and_then(total_memory_bytes);
    let total = total.unwrap_or_default();
    total.saturating_sub((total / 8).max(HOST_MEMORY_BYTES_MIN))
}

fn total_memory_bytes(meminfo: &str) -> Option<u64> {
    let line = meminfo.lines().find_map(|line| line.strip_prefix("MemTotal:"))?;
    let kibibytes: u64 = line.trim().strip_suffix("kB")?.trim().parse().ok()?;
    Some(kibibytes * 1024)
}

fn processors() -> u64 {
    std::thread::available_parallelism().map_or(1, NonZero::get) as u64
}

/// What is free on the data directory's file system and what machines already use of it.
fn disk_bytes(data: &Path, machines: &Path) -> u64 {
    // Before the first start the directory is not there yet; its parent is on the same file system as a rule.
    let there = data.ancestors().find(|path| path.is_dir());
    let free = there.and_then(|path| rustix::fs::statvfs(path).ok());
    let free_bytes = free.map_or(0, |free| free.f_bavail.saturating_mul(free.f_frsize));
    free_bytes.saturating_add(used_bytes(machines))
}

fn used_bytes(machines: &Path) -> u64 {
    let machines = fs::read_dir(machines).into_iter().flatten().flatten();
    let files =
        machines.flat_map(|machine| fs::read_dir(machine.path()).into_iter().flatten().flatten());
    const SECTOR_BYTES: u64 = 512;
    files.filter_map(|file| file.metadata().ok()).map(|file| file.blocks() * SECTOR_BYTES).sum()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn total_memory_is_read_from_the_kernel() {
        let meminfo = "MemTotal:       16316412 kB\nMemFree:  1 kB\n";
        assert_eq!(total_memory_bytes(meminfo), Some(16_316_412 * 1024));
        assert_eq!(total_memory_bytes("MemFree: 1 kB\n"), None);
        assert!(lendable_memory_bytes() > 0);
    }

    #[test]
    fn a_directory_that_is_not_there_yet_has_its_parents_space() {
        let directory = tempfile::tempdir().unwrap();
        let data = directory.path().join("not/yet");
        assert!(disk_bytes(&data, &data.join("vms")) > 0);
    }
}
