//! Processes that outlive the agent.
//!
//! QEMU gets a session of its own (`setsid`), so no terminal's Ctrl-C and no hang-up reaches it; under systemd the
//! unit says `KillMode=process`, so stopping the agent's unit does not end its cgroup's other processes.
//!
//! A process is found again by its command line: the only one with the machine's pid file among its arguments.
//! That needs no trust in a number in a file, hence survives reuse of pids, a reboot, and an agent that dies
//! between the fork and QEMU's writing of that file. A pidfd then stands for the process itself.

use std::ffi::OsStr;
use std::fmt;
use std::fs::{self, OpenOptions};
use std::io::{self, Read, Seek, SeekFrom};
use std::os::fd::OwnedFd;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;
use std::process::{ExitStatus, Stdio};
use std::time::{Duration, SystemTime};

use rustix::process::{Pid, PidfdFlags, Signal, pidfd_open, pidfd_send_signal};
use tokio::io::unix::AsyncFd;
use tokio::process::Command;
use tokio::sync::watch::{self, error::RecvError};

use crate::sys;

/// A running process.
#[derive(Debug)]
pub struct Process {
    pid: Pid,
    handle: AsyncFd<OwnedFd>,
    /// How it ended, once it has; only of one that this process has started: its parent alone is told.
    status: Option<watch::Receiver<Option<ExitStatus>>>,
}

/// How a process ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Ending {
    /// With this status, or by this signal.
    Known(ExitStatus),
    /// Nobody knows: an earlier run of the agent started it.
    Unknown,
}

impl Ending {
    /// Whether it may have ended as it should: by itself and without a complaint.
    pub fn may_be_orderly(self) -> bool {
        match self {
            Self::Known(status) => status.success(),
            Self::Unknown => true,
        }
    }
}

impl fmt::Display for Ending {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Known(status) => status.fmt(formatter),
            Self::Unknown => {
                formatter.write_str("how is not known, since the agent was restarted meanwhile")
            }
        }
    }
}

impl Process {
    /// Starts `program` in a session of its own, its words going to the end of `log`.
    ///
    /// # Errors
    /// What the system says; a program that cannot be executed shows in the log only.
    pub fn spawn(program: &Path, arguments: &[String], log: &Path) -> io::Result<Self> {
        let log = OpenOptions::new().append(true).create(true).mode(0o600).open(log)?;
        let mut child = Command::new("setsid")
            .arg(program)
            .args(arguments)
            .stdin(Stdio::null())
            .stdout(log.try_clone()?)
            .stderr(log)
            .current_dir("/")
            .spawn()?;
        let pid = child.id().and_then(|id| Pid::from_raw(id.cast_signed()));
        let pid = pid.ok_or_else(|| io::Error::other("the process has no pid"))?;
        // Before anybody waits for the child, so the pid is still its own.
        let process = Self::open(pid)?;
        let (ended, status) = watch::channel(None);
        // While this agent lives it is the parent and has to take the exit status; init does that afterwards.
        tokio::spawn(async move { ended.send_replace(child.wait().await.ok()) });
        Ok(Self { status: Some(status), ..process })
    }

    /// The process that has `argument` among its arguments, if one is alive.
    ///
    /// # Errors
    /// What the system says.
    pub fn find(argument: &OsStr) -> io::Result<Option<Self>> {
        for entry in fs::read_dir("/proc")?.flatten() {
            let pid = entry.file_name().to_str().and_then(|name| name.parse().ok());
            let Some(pid) = pid.and_then(Pid::from_raw) else { continue };
            if !has_argument(pid, argument) {
                continue;
            }
            let Ok(process) = Self::open(pid) else { continue };
            // The pid may have changed its owner before the pidfd was opened, not after.
            if has_argument(pid, argument) {
                return Ok(Some(process));
            }
        }
        Ok(None)
    }

    fn open(pid: Pid) -> io::Result<Self> {
        let handle = sys::watch(pidfd_open(pid, PidfdFlags::empty())?)?;
        Ok(Self { pid, handle, status: None })
    }

    /// Its pid, for people.
    pub fn pid(&self) -> i32 {
        self.pid.as_raw_nonzero().get()
    }

    /// Returns once the process has ended. Cancel-safe.
    pub async fn ended(&self) {
        // A pidfd is readable from the end of its process on; an error would mean that it is no pidfd.
        if let Err(error) = self.handle.readable().await {
            tracing::error!(pid = self.pid(), %error, "a process cannot be watched");
        }
    }

    /// How it ended: of one that has. Returns soon after [`Self::ended`] does. Cancel-safe.
    pub async fn ending(&self) -> Ending {
        let Some(mut status) = self.status.clone() else { return Ending::Unknown };
        let known = status.wait_for(Option::is_some).await;
        let known = known.map(|known| *known).unwrap_or_else(|RecvError { .. }| None);
        known.map_or(Ending::Unknown, Ending::Known)
    }

    /// Ends it at once.
    pub fn kill(&self) {
        match pidfd_send_signal(self.handle.get_ref(), Signal::KILL) {
            Ok(()) | Err(rustix::io::Errno::SRCH) => (),
            Err(error) => tracing::error!(pid = self.pid(), %error, "a process cannot be killed"),
        }
    }

    /// Lets it go on, if it was stopped.
    pub fn go_on(&self) {
        match pidfd_send_signal(self.handle.get_ref(), Signal::CONT) {
            Ok(()) | Err(rustix::io::Errno::SRCH) => (),
            Err(error) => tracing::error!(pid = self.pid(), %error, "a process cannot go on"),
        }
    }

    /// Ends it at once and waits until it is gone.
    pub async fn kill_and_wait(&self) {
        self.kill();
        self.ended().await;
    }
}

fn has_argument(pid: Pid, argument: &OsStr) -> bool {
    // Gone, or not ours to read: not the one.
    let command_line =
        fs::read(format!("/proc/{}/cmdline", pid.as_raw_nonzero())).unwrap_or_default();
    command_line.split(|&byte| byte == 0).any(|word| word == argument.as_bytes())
}

/// What was written longer ago than this is not about the end: a process that crashes says nothing, and may have complained
/// of something else long before. Longer than any process takes from its last word to its end.
const LAST_WORDS_AGE_MAX: Duration = Duration::from_secs(10);

/// The last lines of a log, short enough for a reason.
pub fn log_tail(path: &Path) -> String {
    let tail = read_tail(path).unwrap_or_default();
    String::from_utf8_lossy(&tail).trim().to_owned()
}

/// The last line of the log of a process that has just ended, if it was written at its end; else empty.
pub fn last_words(path: &Path) -> String {
    let written_at = fs::metadata(path).and_then(|metadata| metadata.modified());
    // A clock that was set back meanwhile proves nothing.
    let is_old = |at: SystemTime| at.elapsed().is_ok_and(|age| age > LAST_WORDS_AGE_MAX);
    if written_at.is_ok_and(is_old) {
        return String::new();
    }
    log_tail(path).lines().last().unwrap_or_default().to_owned()
}

fn read_tail(path: &Path) -> io::Result<Vec<u8>> {
    const TAIL_BYTES: u64 = 600;
    let mut log = fs::File::open(path)?;
    let length = log.metadata()?.len();
    log.seek(SeekFrom::Start(length.saturating_sub(TAIL_BYTES)))?;
    let mut tail = Vec::new();
    log.take(TAIL_BYTES).read_to_end(&mut tail)?;
    Ok(tail)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// While a process executes the next program (`setsid`, then `tail`) it has no arguments for a moment.
    async fn until_found(argument: &OsStr) -> Process {
        let found = async {
            loop {
                match Process::find(argument).unwrap() {
                    Some(process) => return process,
                    None => tokio::task::yield_now().await,
                }
            }
        };
        let patience = Duration::from_secs(20);
        tokio::time::timeout(patience, found).await.expect("the process is never found")
    }

    #[tokio::test]
    async fn a_process_is_found_by_its_argument_until_it_ends() {
        let directory = tempfile::tempdir().unwrap();
        let log = directory.path().join("log");
        let mark = log.display().to_string();
        // It ends with this test, in case nobody ends it.
        let test = format!("--pid={}", std::process::id());
        let arguments = ["--follow".to_owned(), test, mark.clone()];
        assert!(Process::find(OsStr::new(&mark)).unwrap().is_none());
        let spawned = Process::spawn(Path::new("tail"), &arguments, &log).unwrap();
        let found = until_found(OsStr::new(&mark)).await;
        assert_eq!(found.pid(), spawned.pid());
        found.kill_and_wait().await;
        spawned.ended().await;
        assert_eq!(spawned.ending().await.to_string(), "signal: 9 (SIGKILL)");
        assert!(!spawned.ending().await.may_be_orderly());
        assert_eq!(found.ending().await, Ending::Unknown);
        assert!(Process::find(OsStr::new(&mark)).unwrap().is_none());
    }

    #[tokio::test]
    async fn a_missing_program_says_so_in_the_log() {
        let directory = tempfile::tempdir().unwrap();
        let log = directory.path().join("log");
        let process = Process::spawn(Path::new("/nowhere/qemu"), &[], &log).unwrap();
        process.ended().await;
        assert!(log_tail(&log).contains("/nowhere/qemu"), "{}", log_tail(&log));
    }

    #[tokio::test]
    async fn the_last_words_are_those_of_the_end() {
        let directory = tempfile::tempdir().unwrap();
        let log = directory.path().join("log");
        let arguments = ["-c".to_owned(), "echo first; echo second >&2; exit 3".to_owned()];
        let process = Process::spawn(Path::new("/bin/sh"), &arguments, &log).unwrap();
        process.ended().await;
        assert_eq!(process.ending().await.to_string(), "exit status: 3");
        assert_eq!(log_tail(&log), "first\nsecond");
        assert_eq!(last_words(&log), "second");
        let long_ago = SystemTime::now() - 2 * LAST_WORDS_AGE_MAX;
        fs::File::open(&log).unwrap().set_modified(long_ago).unwrap();
        assert_eq!(last_words(&log), "");
        assert_eq!(last_words(Path::new("/nowhere/log")), "");
    }
}
