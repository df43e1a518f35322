//! Processes that this program started earlier: known by number *and* start time, so that a number which the
//! kernel has given to somebody else is never taken for ours.

use std::fs;
use std::path::Path;
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::process::{Pid, PidfdFlags, Signal, pidfd_open, pidfd_send_signal};

/// A process, for as long as the machine is up.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Process {
    /// Its number.
    pub pid: u32,
    /// When it started, in clock ticks since the machine did.
    start_ticks: u64,
}

impl Process {
    /// The live process with that number.
    pub fn of(pid: u32) -> Option<Self> {
        let (state, process) = Self::look(pid)?;
        (!matches!(state, 'Z' | 'X') || has_threads_left(pid)).then_some(process)
    }

    /// The process of a child that nobody has waited for, even if it has ended already.
    pub fn of_child(child: &std::process::Child) -> Option<Self> {
        Self::look(child.id()).map(|(_, process)| process)
    }

    fn look(pid: u32) -> Option<(char, Self)> {
        let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
        let (state, start_ticks) = parse_stat(&stat)?;
        Some((state, Self { pid, start_ticks }))
    }

    /// The process that a pid file names, if it still lives.
    pub fn from_file(path: &Path) -> Option<Self> {
        let text = fs::read_to_string(path).ok()?;
        let (pid, start_ticks) = text.trim().split_once(' ')?;
        let process = Self { pid: pid.parse().ok()?, start_ticks: start_ticks.parse().ok()? };
        process.is_alive().then_some(process)
    }

    /// Writes the pid file: number and start time.
    ///
    /// # Errors
    /// The file cannot be written.
    pub fn write_file(&self, path: &Path) -> std::io::Result<()> {
        fs::write(path, format!("{} {}\n", self.pid, self.start_ticks))
    }

    /// Whether it lives; a process that ended and was not collected yet does not.
    pub fn is_alive(&self) -> bool {
        Self::of(self.pid) == Some(*self)
    }

    /// Its command line, one text for each argument.
    pub fn arguments(&self) -> Vec<String> {
        let bytes = fs::read(format!("/proc/{}/cmdline", self.pid)).unwrap_or_default();
        let texts = bytes.split(|&byte| byte == 0).filter(|text| !text.is_empty());
        texts.map(|text| String::from_utf8_lossy(text).into_owned()).collect()
    }

    /// Sends a signal, if it still lives.
    pub fn signal(&self, signal: Signal) {
        if let Some(handle) = self.handle() {
            // Fails only for a process that has ended in the meantime.
            let _ = pidfd_send_signal(&handle, signal);
        }
    }

    /// Waits until it has ended; whether it has, before the deadline.
    pub fn await_end(&self, deadline: Instant) -> bool {
        let Some(handle) = self.handle() else { return true };
        while self.is_alive() {
            let left = deadline.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return false;
            }
            let mut ended = [PollFd::new(&handle, PollFlags::IN)];
            // An interrupted wait is a shorter one: the loop asks again.
            let _ = poll(&mut ended, Some(&timespec(left.min(Duration::from_millis(500)))));
        }
        true
    }

    /// A handle that means this process and no later one: the check comes after the handle was taken.
    fn handle(&self) -> Option<rustix::fd::OwnedFd> {
        let pid = Pid::from_raw(i32::try_from(self.pid).ok()?)?;
        let handle = pidfd_open(pid, PidfdFlags::empty()).ok()?;
        self.is_alive().then_some(handle)
    }
}

/// Whether threads of a process whose first has ended are still on their way out. One that waits for the disk takes
/// its time, and until the last is gone the process holds its files and their locks.
fn has_threads_left(pid: u32) -> bool {
    fs::read_dir(format!("/proc/{pid}/task")).is_ok_and(|threads| threads.count() > 1)
}

/// Asks processes to end, gives them `grace` together, and kills what is left.
pub fn stop_all(processes: &[Process], grace: Duration) {
    for process in processes {
        process.signal(Signal::TERM);
        process.signal(Signal::CONT);
    }
    let deadline = Instant::now() + grace;
    let stubborn: Vec<_> =
        processes.iter().filter(|process| !process.await_end(deadline)).collect();
    stubborn.iter().for_each(|process| process.signal(Signal::KILL));
    let deadline = Instant::now() + grace;
    for process in stubborn {
        process.await_end(deadline);
    }
}

/// Every live process of the machine.
pub fn all() -> Vec<Process> {
    let entries = fs::read_dir("/proc").into_iter().flatten().flatten();
    entries
        .filter_map(|entry| entry.file_name().to_str()?.parse().ok())
        .filter_map(Process::of)
        .collect()
}

fn timespec(duration: Duration) -> Timespec {
    Timespec { tv_sec: duration.as_secs() as i64, tv_nsec: i64::from(duration.subsec_nanos()) }
}

/// State and start time, fields 3 and 22 of `/proc/PID/stat`. The second field is the program's name, which may hold
/// anything, so fields are counted from its last parenthesis.
fn parse_stat(stat: &str) -> Option<(char, u64)> {
    let (_, after_name) = stat.rsplit_once(')')?;
    let mut fields = after_name.split_whitespace();
    let state = fields.next()?.chars().next()?;
    Some((state, fields.nth(18)?.parse().ok()?))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::process::Command;

    #[test]
    fn a_name_with_spaces_and_parentheses_confuses_nothing() {
        let stat = "7 (a) b (c) S 1 7 7 0 -1 4194560 1 0 0 0 0 0 0 0 20 0 1 0 4242 0 0";
        assert_eq!(parse_stat(stat), Some(('S', 4242)));
        assert_eq!(parse_stat("garbage"), None);
    }

    #[test]
    fn a_child_that_has_ended_is_known_and_does_not_live() {
        let mut child = Command::new("true").spawn().unwrap();
        let process = Process::of_child(&child).unwrap();
        process.await_end(Instant::now() + Duration::from_secs(10));
        assert_eq!(Process::of_child(&child), Some(process));
        assert!(!process.is_alive());
        child.wait().unwrap();
    }

    #[test]
    fn another_start_time_is_another_process() {
        let own = Process::of(std::process::id()).unwrap();
        assert!(own.is_alive());
        let earlier = Process { start_ticks: own.start_ticks - 1, ..own };
        assert!(!earlier.is_alive());
        assert!(earlier.handle().is_none());
    }

    #[test]
    fn a_process_is_found_by_its_file_and_stopped() {
        let mut child = Command::new("sleep").arg("600").spawn().unwrap();
        let process = Process::of(child.id()).unwrap();
        let file = std::env::temp_dir().join(format!("novacron-test-{}", child.id()));
        process.write_file(&file).unwrap();
        assert_eq!(Process::from_file(&file), Some(process));
        process.signal(Signal::STOP);
        stop_all(&[process], Duration::from_secs(10));
        assert_eq!(Process::from_file(&file), None);
        child.wait().unwrap();
        fs::remove_file(file).unwrap();
    }
}
