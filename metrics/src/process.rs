//! What every program says of its own process, under the names that Prometheus' own clients use.

use std::fs;

use crate::{Counter, IntGauge, MetricError, Metrics};

/// The process. [`Process::look`] before each answer.
#[derive(Debug)]
pub struct Process {
    processor_seconds: Counter,
    resident_bytes: IntGauge,
    open_files: IntGauge,
    threads: IntGauge,
}

/// Ticks in a second of everything in `/proc`: part of Linux's interface to programs, whatever the kernel's own are.
const TICKS_PER_SECOND: f64 = 100.0;

/// Places of numbers in `/proc/self/stat`, counted from behind the name of the program, which may hold anything.
const USER_TICKS: usize = 11;
const SYSTEM_TICKS: usize = 12;
const START_TICKS: usize = 19;

impl Process {
    /// Metrics of this process.
    ///
    /// # Errors
    /// [`MetricError`].
    pub fn new(metrics: &Metrics) -> Result<Self, MetricError> {
        let started = metrics.gauge_of_fractions(
            "process_start_time_seconds",
            "When this process was started, in seconds since 1970.",
        )?;
        started.set(started_at().unwrap_or_default());
        Ok(Self {
            processor_seconds: metrics.counter_of_fractions(
                "process_cpu_seconds_total",
                "Processor time of this process, user and system.",
            )?,
            resident_bytes: metrics.gauge(
                "process_resident_memory_bytes",
                "Memory that this process has in use, guests' memory that it maps included.",
            )?,
            open_files: metrics.gauge("process_open_fds", "File descriptors of this process.")?,
            threads: metrics.gauge("process_threads", "Threads of this process.")?,
        })
    }

    /// Brings the numbers up to date. Where `/proc` says nothing they stay.
    pub fn look(&self) {
        if let Some(used) = processor_seconds() {
            self.processor_seconds.inc_by((used - self.processor_seconds.get()).max(0.0));
        }
        if let Some(kibibytes) = status("VmRSS:") {
            self.resident_bytes.set(kibibytes * 1024);
        }
        if let Some(threads) = status("Threads:") {
            self.threads.set(threads);
        }
        if let Ok(files) = fs::read_dir("/proc/self/fd") {
            // One of them is the directory that is being read.
            self.open_files.set(i64::try_from(files.count()).unwrap_or(i64::MAX) - 1);
        }
    }
}

/// Seconds since 1970.
fn started_at() -> Option<f64> {
    let system = fs::read_to_string("/proc/stat").ok()?;
    let boot = system.lines().find_map(|line| line.strip_prefix("btime "))?;
    Some(boot.trim().parse::<f64>().ok()? + ticks(START_TICKS)? / TICKS_PER_SECOND)
}

fn processor_seconds() -> Option<f64> {
    Some((ticks(USER_TICKS)? + ticks(SYSTEM_TICKS)?) / TICKS_PER_SECOND)
}

fn ticks(place: usize) -> Option<f64> {
    let text = fs::read_to_string("/proc/self/stat").ok()?;
    let (_, numbers) = text.rsplit_once(')')?;
    numbers.split_whitespace().nth(place)?.parse().ok()
}

/// A number of `/proc/self/status`.
fn status(name: &str) -> Option<i64> {
    let text = fs::read_to_string("/proc/self/status").ok()?;
    let line = text.lines().find_map(|line| line.strip_prefix(name))?;
    line.split_whitespace().next()?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_finds_itself_in_proc() {
        let metrics = Metrics::default();
        let process = Process::new(&metrics).unwrap();
        process.look();
        assert!(process.resident_bytes.get() > 100_000, "{}", process.resident_bytes.get());
        assert!(process.threads.get() >= 1);
        assert!(process.open_files.get() >= 3);
        let started = started_at().unwrap();
        let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap();
        let age = now.as_secs_f64() - started;
        assert!((-2.0..600.0).contains(&age), "started {age} s ago");
        assert_eq!(crate::lint::problems(&metrics.text()), Vec::<String>::new());
    }
}
