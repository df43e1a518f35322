//! What the kernel says of the host.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use novacron_protocol::metric::Metric;
use novacron_protocol::sample::Sample;
use tokio::task::{JoinHandle, spawn_blocking};
use tokio::time::timeout;

use super::process::{TICK_MS, kibibytes};
use super::rates::Count;
use crate::host::processor_times;

/// What was read of the host.
#[derive(Debug, Default)]
pub(super) struct HostReading {
    /// As it stands.
    pub(super) values: Vec<Sample>,
    /// What is counted.
    pub(super) counts: Vec<Count>,
}

impl HostReading {
    fn gauge(&mut self, metric: Metric, value: Option<u64>) {
        let sample = |value| Sample { metric: metric.number(), device: 0, value };
        self.values.extend(value.map(sample));
    }

    fn count(&mut self, metric: Metric, total: Option<u64>) {
        self.counts.extend(total.map(|total| Count { metric, device: 0, total }));
    }
}

/// How long storage may take to say how much room it has.
const ROOM_DEADLINE: Duration = Duration::from_secs(2);

/// Bytes that are taken of a file system, and all.
type Room = (u64, u64);

/// Asks storage how much room there is. Storage that hangs holds one thread, and nobody else.
#[derive(Debug, Default)]
pub(super) struct RoomQuestion {
    /// What is not answered yet.
    asked: Option<JoinHandle<Option<Room>>>,
}

impl RoomQuestion {
    /// Of the file system that a path is on; none if that is not known in time.
    pub(super) async fn ask(&mut self, path: &Path) -> Option<Room> {
        let path = path.to_owned();
        self.ask_by(move || room(&path), ROOM_DEADLINE).await
    }

    async fn ask_by(
        &mut self,
        read: impl FnOnce() -> Option<Room> + Send + 'static,
        deadline: Duration,
    ) -> Option<Room> {
        let asked = self.asked.get_or_insert_with(|| spawn_blocking(read));
        let answer = timeout(deadline, asked).await.ok()?;
        self.asked = None;
        answer.ok().flatten()
    }
}

/// Reads the host, of whose machines `running` run and whose storage said how much `room` it has. What is not known is left
/// out.
pub(super) fn read(room: Option<Room>, running: usize) -> HostReading {
    let mut reading = HostReading::default();
    let times = processor_times();
    reading.count(Metric::ProcessorUsed, times.map(|times| times.busy_ticks * TICK_MS));
    reading.gauge(Metric::Processors, times.map(|times| times.processors * 1000));
    let text = |path| fs::read_to_string(path).unwrap_or_default();
    reading.gauge(Metric::Load, load_milli(&text("/proc/loadavg")));
    let memory = memory(&text("/proc/meminfo"));
    reading.gauge(Metric::MemoryUsed, memory.map(|(used, _)| used));
    reading.gauge(Metric::MemoryTotal, memory.map(|(_, total)| total));
    reading.gauge(Metric::DiskUsed, room.map(|(used, _)| used));
    reading.gauge(Metric::DiskTotal, room.map(|(_, total)| total));
    let network = network(&text("/proc/net/dev"), is_device);
    reading.count(Metric::NetworkReceived, network.map(|(received, _)| received));
    reading.count(Metric::NetworkSent, network.map(|(_, sent)| sent));
    reading.gauge(Metric::MachinesRunning, Some(running as u64));
    reading
}

/// The mean of the last minute, in thousandths.
fn load_milli(text: &str) -> Option<u64> {
    let (whole, hundredths) = text.split_ascii_whitespace().next()?.split_once('.')?;
    Some(whole.parse::<u64>().ok()? * 1000 + hundredths.parse::<u64>().ok()? * 10)
}

/// Bytes that cannot be given to a program, and all.
fn memory(text: &str) -> Option<(u64, u64)> {
    let (total, available) = (kibibytes(text, "MemTotal:")?, kibibytes(text, "MemAvailable:")?);
    Some((total.saturating_sub(available) * 1024, total * 1024))
}

fn room(path: &Path) -> Option<Room> {
    let found = rustix::fs::statvfs(path).ok()?;
    let bytes = |blocks: u64| blocks.saturating_mul(found.f_frsize);
    Some((bytes(found.f_blocks.saturating_sub(found.f_bavail)), bytes(found.f_blocks)))
}

/// Bytes that came in and went out over network devices of the host; where there are none (in a container), over all that
/// are neither the host's own loop nor machines'. None if there are no such either.
fn network(text: &str, is_device: impl Fn(&str) -> bool) -> Option<(u64, u64)> {
    let lines = text.lines().filter_map(|line| {
        let (name, numbers) = line.split_once(':')?;
        let numbers: Vec<u64> =
            numbers.split_ascii_whitespace().map_while(|n| n.parse().ok()).collect();
        Some((name.trim(), *numbers.first()?, *numbers.get(8)?))
    });
    let all: Vec<_> = lines.collect();
    let sum = |counts: &dyn Fn(&str) -> bool| {
        let counted = all.iter().filter(|(name, ..)| counts(name));
        counted
            .map(|(_, received, sent)| (*received, *sent))
            .reduce(|sum, one| (sum.0 + one.0, sum.1 + one.1))
    };
    sum(&is_device).or_else(|| sum(&|name| name != "lo" && !name.starts_with("nova")))
}

/// Whether a network device has a device of the host behind it.
fn is_device(name: &str) -> bool {
    PathBuf::from(format!("/sys/class/net/{name}/device")).exists()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_kernels_texts_are_read() {
        assert_eq!(load_milli("1.25 0.50 0.10 2/345 6789\n"), Some(1_250));
        assert_eq!(load_milli(""), None);
        let text = "MemTotal:  1000 kB\nMemFree:  10 kB\nMemAvailable:  400 kB\n";
        assert_eq!(memory(text), Some((600 * 1024, 1_000 * 1024)));
        assert_eq!(memory("MemTotal:  1000 kB\n"), None);
    }

    #[test]
    fn only_the_hosts_own_devices_are_counted() {
        let text = "Inter-|   Receive  |  Transmit\n face |bytes packets errs drop fifo frame compressed multicast|bytes\n\
            lo: 5 1 0 0 0 0 0 0 5 1\n  eth0: 100 1 0 0 0 0 0 0 7 1\n eth1:200 1 0 0 0 0 0 0 8 1\nnova01: 9 1 0 0 0 0 0 0 9 1\n";
        assert_eq!(network(text, |name| name == "eth0"), Some((100, 7)));
        assert_eq!(network(text, |_| false), Some((300, 15)));
        assert_eq!(network("lo: 5 1 0 0 0 0 0 0 5 1\n", |_| false), None);
    }

    #[tokio::test]
    async fn storage_that_hangs_is_asked_once() {
        let mut question = RoomQuestion::default();
        let (answers, hangs) = std::sync::mpsc::channel();
        let hanging = move || hangs.recv().ok();
        let at_once = Duration::from_millis(1);
        assert_eq!(question.ask_by(hanging, at_once).await, None);
        let again = || unreachable!("it was asked");
        assert_eq!(question.ask_by(again, at_once).await, None);
        answers.send((1, 2)).unwrap();
        let again = || unreachable!("it was asked");
        assert_eq!(question.ask_by(again, Duration::from_secs(60)).await, Some((1, 2)));
        assert_eq!(question.ask_by(|| Some((3, 4)), Duration::from_secs(60)).await, Some((3, 4)));
    }

    #[test]
    fn this_host_is_read() {
        let reading = read(room(Path::new("/")), 3);
        let value = |metric: Metric| {
            let found = reading.values.iter().find(|sample| sample.metric == metric.number());
            found.unwrap_or_else(|| panic!("no {metric:?}")).value
        };
        assert!(value(Metric::MemoryUsed) < value(Metric::MemoryTotal));
        assert!(value(Metric::DiskUsed) <= value(Metric::DiskTotal));
        assert!(value(Metric::Processors) >= 1_000);
        assert_eq!(value(Metric::MachinesRunning), 3);
        assert!(reading.counts.iter().any(|count| count.metric == Metric::ProcessorUsed));
    }
}
