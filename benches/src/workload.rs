//! What the guest is and does: the same for everybody.

use std::fmt;
use std::time::Duration;

use clap::Args;
use serde::Serialize;

/// Time between two lines of the guest's counter.
const TICK_MS: u64 = 100;
const MIB: u64 = 1 << 20;

/// The guest and what it does.
#[derive(Debug, Clone, Args)]
pub struct WorkloadArgs {
    /// Memory of the guest in MiB.
    #[arg(long, value_name = "MIB", default_value_t = 512, value_parser = clap::value_parser!(u64).range(128..=65536))]
    pub memory: u64,
    /// Memory in MiB that it writes all the time; every other page of it does not compress.
    #[arg(long, value_name = "MIB", default_value_t = 256, value_parser = clap::value_parser!(u64).range(0..=65536))]
    pub working_set: u64,
    /// MiB per second of pages in which 8 bytes change.
    #[arg(long, value_name = "MIB_PER_S", default_value_t = 50, value_parser = clap::value_parser!(u64).range(0..=10000))]
    pub rate: u64,
    /// MiB per second of pages that are overwritten whole with random bytes.
    #[arg(long, value_name = "MIB_PER_S", default_value_t = 0, value_parser = clap::value_parser!(u64).range(0..=10000))]
    pub full_rate: u64,
    /// A disk of so many MiB.
    #[arg(long, value_name = "MIB", value_parser = clap::value_parser!(u64).range(1..=1 << 20))]
    pub disk: Option<u64>,
    /// MiB of the disk that the guest writes before it begins, and again and again from then on; every other 64 KiB of
    /// it do not compress.
    #[arg(long, value_name = "MIB", requires = "disk", default_value_t = 1024, value_parser = clap::value_parser!(u64).range(1..=1 << 20))]
    pub disk_used: u64,
    /// MiB per second that it writes to the disk.
    #[arg(long, value_name = "MIB_PER_S", requires = "disk", default_value_t = 5, value_parser = clap::value_parser!(u64).range(1..=10000))]
    pub disk_rate: u64,
}

/// The guest's disk.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub struct Disk {
    mib: u64,
    used_mib: u64,
    mib_per_s: u64,
}

impl Disk {
    /// Its size.
    pub fn bytes(&self) -> u64 {
        self.mib * MIB
    }
}

/// See the module.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Workload {
    memory_mib: u64,
    working_set_mib: u64,
    small_mib_per_s: u64,
    full_mib_per_s: u64,
    #[serde(skip_serializing_if = "Option::is_none")]
    disk: Option<Disk>,
    #[serde(skip)]
    warm_up: Duration,
}

impl Workload {
    /// A workload that runs for `warm_up` before its guest is moved.
    pub fn new(args: &WorkloadArgs, warm_up: Duration) -> Self {
        Self {
            memory_mib: args.memory,
            working_set_mib: args.working_set,
            small_mib_per_s: args.rate,
            full_mib_per_s: args.full_rate,
            disk: args.disk.map(|mib| Disk {
                mib,
                used_mib: args.disk_used.min(mib),
                mib_per_s: args.disk_rate,
            }),
            warm_up,
        }
    }

    /// Bytes of the guest's memory.
    pub fn memory_bytes(&self) -> u64 {
        self.memory_mib * MIB
    }

    /// For how long the guest works before it is moved.
    pub fn warm_up(&self) -> Duration {
        self.warm_up
    }

    /// The guest's disk, if it has one.
    pub fn disk(&self) -> Option<Disk> {
        self.disk
    }

    /// The guest's parameters on its kernel command line.
    pub fn append(&self) -> String {
        let disk = self.disk.map_or_else(
            || "novacron.disk_rate=0".to_owned(),
            |Disk { used_mib, mib_per_s, .. }| {
                format!("novacron.disk_rate={mib_per_s} novacron.disk_region_mib={used_mib} novacron.disk_fill=1")
            },
        );
        format!(
            "novacron.memory_mib={} novacron.memory_rate={} novacron.full_rate={} {disk} novacron.tick_ms={TICK_MS}",
            self.working_set_mib, self.small_mib_per_s, self.full_mib_per_s
        )
    }
}

impl fmt::Display for Workload {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} MiB guest, {} MiB working set", self.memory_mib, self.working_set_mib)?;
        if let Some(Disk { mib, used_mib, mib_per_s }) = self.disk {
            write!(f, ", {mib} MiB disk, {used_mib} MiB of it used, written at {mib_per_s} MB/s")?;
        }
        match (self.small_mib_per_s, self.full_mib_per_s) {
            (0, 0) if self.disk.is_some() => Ok(()),
            (0, 0) => f.write_str(", idle"),
            (small, 0) => write!(f, ", {small} MB/s of small updates"),
            (0, full) => write!(f, ", {full} MB/s of whole random pages"),
            (small, full) => {
                write!(f, ", {small} MB/s of small updates and {full} MB/s of whole random pages")
            }
        }
    }
}

#[cfg(test)]
pub mod tests {
    use super::*;

    fn nothing() -> WorkloadArgs {
        WorkloadArgs {
            memory: 512,
            working_set: 0,
            rate: 0,
            full_rate: 0,
            disk: None,
            disk_used: 1024,
            disk_rate: 5,
        }
    }

    /// The one that issue 2's bar is about.
    pub fn workload() -> Workload {
        let args = WorkloadArgs { working_set: 256, rate: 50, ..nothing() };
        Workload::new(&args, Duration::from_secs(5))
    }

    #[test]
    fn the_guest_is_told_and_the_reader_too() {
        assert_eq!(
            workload().append(),
            "novacron.memory_mib=256 novacron.memory_rate=50 novacron.full_rate=0 novacron.disk_rate=0 novacron.tick_ms=100"
        );
        assert_eq!(
            workload().to_string(),
            "512 MiB guest, 256 MiB working set, 50 MB/s of small updates"
        );
        assert_eq!(workload().memory_bytes(), 536_870_912);
    }

    #[test]
    fn nothing_to_do_is_idle() {
        let idle = Workload::new(&nothing(), Duration::ZERO);
        assert_eq!(idle.to_string(), "512 MiB guest, 0 MiB working set, idle");
    }

    #[test]
    fn a_disk_is_filled_and_written() {
        let args = WorkloadArgs { disk: Some(4096), ..nothing() };
        let workload = Workload::new(&args, Duration::ZERO);
        assert_eq!(workload.disk().unwrap().bytes(), 4 << 30);
        assert!(
            workload.append().contains(
                "novacron.disk_rate=5 novacron.disk_region_mib=1024 novacron.disk_fill=1"
            )
        );
        assert_eq!(
            workload.to_string(),
            "512 MiB guest, 0 MiB working set, 4096 MiB disk, 1024 MiB of it used, written at 5 MB/s"
        );
    }
}
