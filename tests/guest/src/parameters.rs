//! What this boot is to do, from the kernel's command line.

use std::fmt;
use std::time::Duration;

use crate::memory::{PAGE_BYTES, Rates};

const MIB: u64 = 1 << 20;
/// What the kernel, the shell and this program itself need beside the working set.
const RESERVE_BYTES: u64 = 40 * MIB;

/// The parameters of one boot.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Parameters {
    /// Pages of the working set.
    pub memory_pages: usize,
    /// How fast it is written.
    pub memory_rates: Rates,
    /// How fast the disk is written; nought leaves it alone.
    pub disk_bytes_per_s: u64,
    /// How much of the disk is used, at most.
    pub disk_region_bytes: u64,
    /// Whether all of that is written before the work begins.
    pub is_disk_filled: bool,
    /// Time between two lines of the counter.
    pub tick: Duration,
}

/// Numbers as they stand on the command line, with their defaults.
#[derive(Debug)]
struct Raw {
    memory_mib: u64,
    memory_rate: u64,
    full_rate: u64,
    disk_rate: u64,
    disk_region_mib: u64,
    disk_fill: u64,
    tick_ms: u64,
}

impl Default for Raw {
    fn default() -> Self {
        Self {
            memory_mib: 64,
            memory_rate: 4,
            full_rate: 0,
            disk_rate: 1,
            disk_region_mib: 32,
            disk_fill: 0,
            tick_ms: 100,
        }
    }
}

impl Parameters {
    /// Reads `/proc/cmdline`, and `/proc/meminfo` for what memory there is.
    pub fn of_this_boot() -> Result<Self, String> {
        let read = |path| std::fs::read_to_string(path).map_err(|error| format!("{path}: {error}"));
        Self::parse(&read("/proc/cmdline")?, available_bytes(&read("/proc/meminfo")?))
    }

    fn parse(command_line: &str, available_bytes: u64) -> Result<Self, String> {
        let raw = Raw::parse(command_line)?;
        let room = available_bytes.saturating_sub(RESERVE_BYTES);
        let memory_bytes = raw.memory_mib.saturating_mul(MIB);
        if memory_bytes > room {
            return Err(format!("memory_mib={}: only {} MiB are free", raw.memory_mib, room / MIB));
        }
        let pages_per_s = |mib: u64| mib.saturating_mul(MIB / PAGE_BYTES as u64);
        Ok(Self {
            memory_pages: usize::try_from(memory_bytes).unwrap_or(usize::MAX) / PAGE_BYTES,
            memory_rates: Rates {
                small_pages_per_s: pages_per_s(raw.memory_rate),
                full_pages_per_s: pages_per_s(raw.full_rate),
            },
            disk_bytes_per_s: raw.disk_rate.saturating_mul(MIB),
            disk_region_bytes: raw.disk_region_mib.saturating_mul(MIB),
            is_disk_filled: raw.disk_fill > 0,
            tick: Duration::from_millis(raw.tick_ms.max(1)),
        })
    }
}

impl Raw {
    fn parse(command_line: &str) -> Result<Self, String> {
        let mut raw = Self::default();
        for word in command_line.split_whitespace() {
            let Some((name, value)) =
                word.strip_prefix("novacron.").and_then(|w| w.split_once('='))
            else {
                continue;
            };
            let field = match name {
                "memory_mib" => &mut raw.memory_mib,
                "memory_rate" => &mut raw.memory_rate,
                "full_rate" => &mut raw.full_rate,
                "disk_rate" => &mut raw.disk_rate,
                "disk_fill" => &mut raw.disk_fill,
                "disk_region_mib" => &mut raw.disk_region_mib,
                "tick_ms" => &mut raw.tick_ms,
                _ => return Err(format!("unknown parameter novacron.{name}")),
            };
            *field = value.parse().map_err(|_| format!("{word}: not a whole number"))?;
        }
        Ok(raw)
    }
}

impl fmt::Display for Parameters {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "memory_pages={} small_pages_per_s={} full_pages_per_s={} disk_bytes_per_s={} tick_ms={}",
            self.memory_pages,
            self.memory_rates.small_pages_per_s,
            self.memory_rates.full_pages_per_s,
            self.disk_bytes_per_s,
            self.tick.as_millis(),
        )
    }
}

fn available_bytes(meminfo: &str) -> u64 {
    let line = meminfo.lines().find_map(|line| line.strip_prefix("MemAvailable:"));
    let kib = line.and_then(|line| line.trim().strip_suffix("kB")?.trim().parse::<u64>().ok());
    kib.unwrap_or(0) * 1024
}

#[cfg(test)]
mod tests {
    use super::*;

    const PLENTY: u64 = 1 << 30;

    #[test]
    fn reads_its_own_words_only() {
        let line = "console=ttyS0 quiet novacron.memory_mib=256 novacron.memory_rate=50 novacron.tick_ms=20";
        let parameters = Parameters::parse(line, PLENTY).unwrap();
        assert_eq!(parameters.memory_pages, 65_536);
        assert_eq!(parameters.memory_rates.small_pages_per_s, 12_800);
        assert_eq!(parameters.tick, Duration::from_millis(20));
    }

    #[test]
    fn refuses_what_it_does_not_understand() {
        assert!(Parameters::parse("novacron.memroy_mib=1", PLENTY).is_err());
        assert!(Parameters::parse("novacron.memory_mib=x", PLENTY).is_err());
        assert!(Parameters::parse("novacron.memory_mib=2000", PLENTY).is_err());
    }

    #[test]
    fn reads_free_memory() {
        let text = "MemTotal:  506000 kB\nMemFree: 1 kB\nMemAvailable:     480000 kB\n";
        assert_eq!(available_bytes(text), 480_000 * 1024);
        assert_eq!(available_bytes(""), 0);
    }
}
