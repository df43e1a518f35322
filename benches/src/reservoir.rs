//! Memory that the machine has at hand when the order is given.
//!
//! These measurements are often made in a virtual machine whose host takes free memory back (free page reporting of
//! virtio-balloon, two seconds after it was freed and in pieces of 2 MiB). Memory that is needed again comes back fault by
//! fault: huge pages that had been taken back were written at 0.3 to 0.7 GB/s here, those that had just been freed at 7 to
//! 8. So what a contender paid for new memory hung on what had run on the machine a minute before. Hosts of virtual
//! machines have their memory.

use std::fs;

use anyhow::{Context, Result};
use memmap2::{Advice, MmapMut};

use crate::workload::Workload;

/// Bytes at hand for each byte of the guest: its memory at the target, and what either end remembers of it.
const TIMES: u64 = 3;
const PAGE_BYTES: usize = 4096;

/// Memory that is held until it is dropped, at once before the order.
#[derive(Debug)]
pub struct Reservoir {
    _held: MmapMut,
}

impl Reservoir {
    /// Has the host give memory for `guests` such guests, but at most half of what is available: writes to all of it.
    pub fn fill(workload: &Workload, guests: u32) -> Result<Self> {
        let asked = workload.memory_bytes().saturating_mul(TIMES).saturating_mul(u64::from(guests));
        let meminfo = fs::read_to_string("/proc/meminfo").context("cannot read /proc/meminfo")?;
        let available = available_bytes(&meminfo).context("/proc/meminfo is not as expected")?;
        let bytes = usize::try_from(asked.min(available / 2))?;
        let mut held = MmapMut::map_anon(bytes).context("cannot map memory")?;
        // Ordinary pages are of other memory than the huge ones that agents ask for.
        held.advise(Advice::HugePage).context("cannot have huge pages")?;
        held.iter_mut().step_by(PAGE_BYTES).for_each(|byte| *byte = 1);
        Ok(Self { _held: held })
    }
}

fn available_bytes(meminfo: &str) -> Option<u64> {
    let line = meminfo.lines().find_map(|line| line.strip_prefix("MemAvailable:"))?;
    Some(line.trim().strip_suffix(" kB")?.parse::<u64>().ok()? * 1024)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_available_is_found() {
        let meminfo = "MemTotal:       24683612 kB\nMemAvailable:   23737512 kB\nBuffers: 1 kB\n";
        assert_eq!(available_bytes(meminfo), Some(23_737_512 * 1024));
        assert_eq!(available_bytes("MemTotal: 1 kB\n"), None);
    }
}
