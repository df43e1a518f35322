//! Memory that the machine has at hand from the order on.
//!
//! These measurements are often made in a virtual machine whose host takes free memory back (free page reporting of
//! virtio-balloon, every two seconds and in pieces of 2 MiB). Memory that is needed again comes back fault by fault: huge
//! pages that had been taken back were written at 0.3 to 0.7 GB/s here, those that had just been freed at 7 to 8. So what a
//! contender paid for new memory hung on what had run on the machine a minute before, and on which part of two seconds it
//! was ordered in. Hosts of virtual machines have their memory.

use std::fs;
use std::thread;
use std::time::Duration;

use anyhow::{Context, Result};
use memmap2::{Advice, MmapMut};

use crate::workload::Workload;

/// Bytes at hand for each byte of the guest: its memory at the target, and what either end remembers of it.
const TIMES: u64 = 3;
const PAGE_BYTES: usize = 4096;
/// What is let go at once: what is not needed soon is taken back.
const PIECE_BYTES: usize = 8 << 20;
/// Between two pieces: 0.8 GB/s, more than anybody needs.
const INTERVAL: Duration = Duration::from_millis(10);

/// Memory that is held until the order.
#[derive(Debug)]
pub struct Reservoir {
    pieces: Vec<MmapMut>,
}

impl Reservoir {
    /// Has the host give memory for `guests` such guests, but at most half of what is available: writes to all of it.
    pub fn fill(workload: &Workload, guests: u32) -> Result<Self> {
        let asked = workload.memory_bytes().saturating_mul(TIMES).saturating_mul(u64::from(guests));
        let meminfo = fs::read_to_string("/proc/meminfo").context("cannot read /proc/meminfo")?;
        let available = available_bytes(&meminfo).context("/proc/meminfo is not as expected")?;
        let pieces = usize::try_from(asked.min(available / 2))? / PIECE_BYTES;
        Ok(Self { pieces: (0..pieces).map(|_| piece()).collect::<Result<_>>()? })
    }

    /// The order is given: lets the memory go, piece by piece, beside what happens.
    pub fn flow(self) -> Result<()> {
        let flow = move || {
            for piece in self.pieces {
                drop(piece);
                thread::sleep(INTERVAL);
            }
        };
        let begun = thread::Builder::new().name("reservoir".into()).spawn(flow);
        begun.map(drop).context("cannot let memory go")
    }
}

fn piece() -> Result<MmapMut> {
    let mut piece = MmapMut::map_anon(PIECE_BYTES).context("cannot map memory")?;
    // Ordinary pages are of other memory than the huge ones that agents ask for.
    piece.advise(Advice::HugePage).context("cannot have huge pages")?;
    piece.iter_mut().step_by(PAGE_BYTES).for_each(|byte| *byte = 1);
    Ok(piece)
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
