//! What every program says of its own process, under the names that Prometheus' own clients use.

use std::fmt;
use std::fs;

use prometheus_client::collector::Collector;
use prometheus_client::encoding::DescriptorEncoder;

use crate::moment::{Moment, whole};

/// Ticks in a second of everything in `/proc`: part of Linux's interface to programs, whatever the kernel's own are.
const TICKS_PER_SECOND: f64 = 100.0;

/// Places of numbers in `/proc/self/stat`, counted from behind the name of the program, which may hold anything.
const USER_TICKS: usize = 11;
const SYSTEM_TICKS: usize = 12;
const START_TICKS: usize = 19;

/// This process, looked at whenever somebody asks. What `/proc` does not say is left out.
#[derive(Debug)]
pub struct Process;

impl Collector for Process {
    fn encode(&self, encoder: DescriptorEncoder<'_>) -> fmt::Result {
        let mut moment = Moment::new(encoder);
        times(&mut moment)?;
        memory(&mut moment)?;
        if let Ok(files) = fs::read_dir("/proc/self/fd") {
            // One of them is the directory that is being read.
            let count = whole(files.count()) - 1;
            moment.gauge("process_open_fds", "File descriptors of this process", count)?;
        }
        Ok(())
    }
}

fn times(moment: &mut Moment<'_>) -> fmt::Result {
    let Some(stat) = Stat::read() else { return Ok(()) };
    if let Some(seconds) = stat.processor_seconds() {
        let help = "Processor time of this process, user and system";
        moment.counter("process_cpu_seconds", help, seconds)?;
    }
    if let Some(seconds) = stat.started_at() {
        let help = "When this process was started, in seconds since 1970";
        moment.gauge("process_start_time_seconds", help, seconds)?;
    }
    Ok(())
}

fn memory(moment: &mut Moment<'_>) -> fmt::Result {
    let Ok(status) = fs::read_to_string("/proc/self/status") else { return Ok(()) };
    let number = |name| number_of(&status, name);
    if let Some(kibibytes) = number("VmRSS:") {
        let help = "Memory that this process has in use, guests' memory that it maps included";
        moment.gauge("process_resident_memory_bytes", help, kibibytes * 1024)?;
    }
    if let Some(kibibytes) = number("RssAnon:") {
        let help = "Memory in use that is this process's own: no files, no guests' memory";
        moment.gauge("novacron_process_private_memory_bytes", help, kibibytes * 1024)?;
    }
    if let Some(threads) = number("Threads:") {
        moment.gauge("process_threads", "Threads of this process", threads)?;
    }
    Ok(())
}

/// `/proc/self/stat`, as far as it is numbers.
struct Stat(String);

impl Stat {
    fn read() -> Option<Self> {
        let text = fs::read_to_string("/proc/self/stat").ok()?;
        let (_, numbers) = text.rsplit_once(')')?;
        Some(Self(numbers.to_owned()))
    }

    /// Seconds since 1970.
    fn started_at(&self) -> Option<f64> {
        let system = fs::read_to_string("/proc/stat").ok()?;
        let boot = system.lines().find_map(|line| line.strip_prefix("btime "))?;
        Some(boot.trim().parse::<f64>().ok()? + self.ticks(START_TICKS)? / TICKS_PER_SECOND)
    }

    fn processor_seconds(&self) -> Option<f64> {
        Some((self.ticks(USER_TICKS)? + self.ticks(SYSTEM_TICKS)?) / TICKS_PER_SECOND)
    }

    fn ticks(&self, place: usize) -> Option<f64> {
        self.0.split_whitespace().nth(place)?.parse().ok()
    }
}

/// A number of `/proc/self/status`.
fn number_of(status: &str, name: &str) -> Option<i64> {
    let line = status.lines().find_map(|line| line.strip_prefix(name))?;
    line.split_whitespace().next()?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use prometheus_client::registry::Registry;

    #[test]
    fn it_finds_itself_in_proc() {
        let mut registry = Registry::default();
        registry.register_collector(Box::new(Process));
        let text = crate::pages::text(&registry).unwrap();
        let value = |name: &str| {
            let sample = text.lines().find_map(|line| line.strip_prefix(&format!("{name} ")));
            sample.unwrap_or_else(|| panic!("{name} in {text}")).parse::<f64>().unwrap()
        };
        let (resident, private) = (
            value("process_resident_memory_bytes"),
            value("novacron_process_private_memory_bytes"),
        );
        assert!(private > 0.0 && resident > private, "{text}");
        assert!(value("process_cpu_seconds_total") >= 0.0);
        assert!(value("process_threads") >= 1.0);
        assert!(value("process_open_fds") >= 3.0);
        let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap();
        let age = now.as_secs_f64() - value("process_start_time_seconds");
        assert!((-2.0..600.0).contains(&age), "started {age} s ago");
        assert_eq!(crate::lint::problems(&text), Vec::<String>::new());
    }
}
