//! What processes have taken of the processors and of memory, as Linux counts it (`proc_pid_stat(5)`,
//! `proc_pid_status(5)`).

use std::fs;
use std::ops::Sub;

use anyhow::{Context, Result};

/// Units of time in /proc on Linux, whatever the kernel's own tick is (`USER_HZ`).
const TICKS_PER_SECOND: f64 = 100.0;

/// Whose time counts: processes, and threads of theirs whose time does not.
#[derive(Debug, Clone, Default)]
pub struct Processors {
    /// All of their threads, those that have ended too.
    pub processes: Vec<u32>,
    /// Process and thread: what runs the guest would do so without a migration.
    pub except: Vec<(u32, u32)>,
}

/// Processor time in seconds, of all processors together.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Spent(pub f64);

impl Sub for Spent {
    type Output = Self;

    fn sub(self, earlier: Self) -> Self {
        Self((self.0 - earlier.0).max(0.0))
    }
}

impl Processors {
    /// What was taken so far.
    pub fn spent(&self) -> Result<Spent> {
        let all = self.processes.iter().map(|process| seconds(&format!("/proc/{process}/stat")));
        let except = self
            .except
            .iter()
            .map(|(process, thread)| seconds(&format!("/proc/{process}/task/{thread}/stat")));
        let (all, except): (f64, f64) = (all.sum::<Result<f64>>()?, except.sum::<Result<f64>>()?);
        Ok(Spent(all - except))
    }
}

fn seconds(path: &str) -> Result<f64> {
    let stat = fs::read_to_string(path).with_context(|| format!("cannot read {path}"))?;
    parse_seconds(&stat).with_context(|| format!("{path} is not as expected"))
}

/// Fields 14 and 15: in the program and in the kernel. The second field is a name, which may hold anything.
fn parse_seconds(stat: &str) -> Option<f64> {
    let (_, after_name) = stat.rsplit_once(')')?;
    let mut fields = after_name.split_whitespace().skip(11);
    let mut ticks = || fields.next()?.parse::<u64>().ok();
    Some((ticks()? + ticks()?) as f64 / TICKS_PER_SECOND)
}

/// Memory of a process that it shares with nobody: a guest's memory that it has mapped is the guest's.
pub fn private_bytes(process: u32) -> Option<u64> {
    let status = fs::read_to_string(format!("/proc/{process}/status")).ok()?;
    parse_private(&status)
}

/// The most memory that a process has had resident, since it began.
pub fn resident_bytes_max(process: u32) -> Option<u64> {
    let status = fs::read_to_string(format!("/proc/{process}/status")).ok()?;
    parse_line(&status, "VmHWM:")
}

fn parse_private(status: &str) -> Option<u64> {
    parse_line(status, "RssAnon:")
}

fn parse_line(status: &str, name: &str) -> Option<u64> {
    let line = status.lines().find_map(|line| line.strip_prefix(name))?;
    Some(line.trim().strip_suffix(" kB")?.parse::<u64>().ok()? * 1024)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn time_in_program_and_kernel_counts() {
        let stat = "7 (a) b (c) S 1 7 7 0 -1 4194560 1 0 0 0 150 50 9 9 20 0 1 0 4242 0 0";
        assert_eq!(parse_seconds(stat), Some(2.0));
        assert_eq!(parse_seconds("garbage"), None);
        let status = "Name:\tx\nVmHWM:\t    4096 kB\nRssAnon:\t    2048 kB\n";
        assert_eq!(parse_private(status), Some(2 << 20));
        assert_eq!(parse_line(status, "VmHWM:"), Some(4 << 20));
    }

    #[test]
    fn a_thread_can_be_left_out() {
        let own = std::process::id();
        let all = Processors { processes: vec![own], except: Vec::new() };
        let but_first = Processors { except: vec![(own, own)], ..all.clone() };
        assert!(but_first.spent().unwrap().0 <= all.spent().unwrap().0);
        assert!(Processors { processes: vec![u32::MAX], ..all }.spent().is_err());
    }
}
