//! A guest that is slowed down while it moves.
//!
//! For a part of every 50 ms its QEMU is stopped (`SIGSTOP`), under whatever accelerator; what is sent comes in bursts
//! then, which the streams take. A process of its own does that, [`run`]: whatever becomes of the agent, QEMU goes on when
//! the pipe between the two is closed. If that process is gone, the agent makes QEMU go on, and so does an agent that finds
//! it when it starts.

use std::fs::File;
use std::io::{self, Write};
use std::os::fd::{AsFd, OwnedFd};
use std::path::Path;
use std::process::Stdio;
use std::time::Duration;

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::process::{Pid, PidfdFlags, Signal, pidfd_open, pidfd_send_signal};
use tokio::process::Command;

use super::directories::MachineDirectories;
use super::process::Process;

/// Short enough that the guest's clocks and peers do not mind a part of it.
const PERIOD: Duration = Duration::from_millis(50);

/// This program, also if its file has been replaced since it was started.
const THIS_PROGRAM: &str = "/proc/self/exe";

/// The guest loses a part of its time for as long as this lives.
#[derive(Debug)]
pub struct Throttle {
    words: File,
    percent: u8,
}

impl Throttle {
    /// Of the machine that runs in these directories. It has all of its time at first.
    ///
    /// # Errors
    /// It does not run, or what the system says.
    pub fn of(directories: &MachineDirectories) -> io::Result<Self> {
        let process = Process::find(directories.pid().as_os_str())?;
        let process = process.ok_or_else(|| io::Error::other("its QEMU is not there"))?;
        Self::begin(Path::new(THIS_PROGRAM), process)
    }

    /// Of a process, by `novacron-agent` at `program`. Must be called within a tokio runtime.
    ///
    /// # Errors
    /// What the system says.
    pub fn begin(program: &Path, process: Process) -> io::Result<Self> {
        let mut child = Command::new(program)
            .arg("throttle")
            .arg(format!("--pid={}", process.pid()))
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .process_group(0)
            .spawn()?;
        let words = child.stdin.take().ok_or_else(|| io::Error::other("it has no pipe"))?;
        let words = File::from(words.into_owned_fd()?);
        tokio::spawn(async move {
            let ended = child.wait().await;
            tracing::debug!(?ended, pid = process.pid(), "the guest has all of its time again");
            process.go_on();
        });
        Ok(Self { words, percent: 0 })
    }

    /// It loses so many percent of its time from now on, at most 99.
    ///
    /// # Errors
    /// What slows it down is gone, and it has all of its time.
    pub fn set(&mut self, percent: u8) -> io::Result<()> {
        if percent == self.percent {
            return Ok(());
        }
        self.percent = percent;
        tracing::info!(percent, "the guest is slowed down");
        self.words.write_all(&[percent.min(99)])
    }
}

/// What the process of its own does: takes percents from standard input, a byte each, and stops and continues the process
/// `pid`, until standard input or that process ends.
///
/// # Errors
/// There is no such process, or what the system says; the process goes on all the same.
pub fn run(pid: i32) -> io::Result<()> {
    let pid = Pid::from_raw(pid).ok_or(io::ErrorKind::InvalidInput)?;
    let process = pidfd_open(pid, PidfdFlags::empty())?;
    let cycled = cycle(&process, &io::stdin());
    let continued = signal(&process, Signal::CONT);
    cycled.and(continued)
}

fn cycle(process: &OwnedFd, words: &impl AsFd) -> io::Result<()> {
    let mut percent = 0;
    while hear(words, (percent > 0).then(|| part(100 - percent)), &mut percent)? {
        if percent > 0 {
            signal(process, Signal::STOP)?;
            let is_told = hear(words, Some(part(percent)), &mut percent);
            signal(process, Signal::CONT)?;
            if !is_told? {
                break;
            }
        }
    }
    Ok(())
}

fn part(percent: u8) -> Duration {
    PERIOD * u32::from(percent) / 100
}

/// Waits for as long as there is no word, for ever if there is no limit. False when there will be none any more.
fn hear(words: &impl AsFd, limit: Option<Duration>, percent: &mut u8) -> io::Result<bool> {
    let limit = limit.map(Timespec::try_from).transpose().map_err(io::Error::other)?;
    let mut ready = [PollFd::new(words, PollFlags::IN)];
    if rustix::io::retry_on_intr(|| poll(&mut ready, limit.as_ref()))? == 0 {
        return Ok(true);
    }
    let mut room = [0; 64];
    let count = rustix::io::retry_on_intr(|| rustix::io::read(words, &mut room))?;
    // Only the last counts.
    let Some(last) = room[..count].last() else { return Ok(false) };
    *percent = (*last).min(99);
    Ok(true)
}

fn signal(process: &OwnedFd, signal: Signal) -> io::Result<()> {
    Ok(pidfd_send_signal(process, signal)?)
}
