//! Processes that end with the value that holds them.

use std::fs::{self, File};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use rustix::process::{Pid, Signal, kill_process};

use crate::execute::Argv;
use crate::interruption::Interruption;

/// How much of a log is quoted.
const QUOTED_BYTES: usize = 2000;

/// A process in a group of its own, so that Ctrl-C reaches it only through us. Killed when dropped.
#[derive(Debug)]
pub struct Process {
    name: String,
    child: Child,
    output: PathBuf,
}

impl Process {
    /// Starts a program, its output and errors in the file `output`.
    pub fn start(name: &str, argv: &Argv, output: PathBuf) -> Result<Self> {
        let [program, arguments @ ..] = argv.as_slice() else { bail!("{name}: nothing to run") };
        let log =
            File::create(&output).with_context(|| format!("cannot write {}", output.display()))?;
        let child = Command::new(program)
            .args(arguments)
            .stdin(Stdio::null())
            .stdout(log.try_clone().context("cannot share a log")?)
            .stderr(log)
            .process_group(0)
            .spawn()
            .with_context(|| format!("cannot run {program}"))?;
        Ok(Self { name: name.to_owned(), child, output })
    }

    /// Its number.
    pub fn number(&self) -> u32 {
        self.child.id()
    }

    /// Asks it to end, and waits until it has.
    pub fn end(&mut self, patience: Duration, interruption: &Interruption) -> Result<()> {
        let number = Pid::from_child(&self.child);
        kill_process(number, Signal::TERM).with_context(|| format!("cannot end {}", self.name))?;
        let status = wait_for(&mut self.child, patience, interruption)?;
        ensure!(status.success(), "{} ended badly: {}", self.name, tail(&self.output));
        Ok(())
    }

    /// An error if it has ended, with what it said.
    pub fn check(&mut self) -> Result<()> {
        match self.child.try_wait().with_context(|| format!("cannot watch {}", self.name))? {
            None => Ok(()),
            Some(status) => bail!("{} has ended ({status}): {}", self.name, tail(&self.output)),
        }
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        // It may have ended by itself, which is as good; waiting takes it off the process table.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// The end of a log, for an error.
pub fn tail(path: &Path) -> String {
    let bytes = fs::read(path).unwrap_or_default();
    let start = bytes.len().saturating_sub(QUOTED_BYTES);
    String::from_utf8_lossy(&bytes[start..]).trim().to_owned()
}

/// Waits for a program to end by itself; it is killed when that takes too long, or on an interruption.
pub fn wait_for(
    child: &mut Child,
    patience: Duration,
    interruption: &Interruption,
) -> Result<ExitStatus> {
    let every = Duration::from_millis(50);
    let waited = interruption.wait("the program's end", patience, every, || Ok(child.try_wait()?));
    waited.inspect_err(|_| {
        // See Process::drop.
        let _ = child.kill();
        let _ = child.wait();
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_process_that_has_ended_is_quoted() {
        let directory = tempfile::tempdir().unwrap();
        let argv = ["sh", "-c", "echo no such machine >&2; exit 3"].map(str::to_owned).to_vec();
        let mut process = Process::start("qemu", &argv, directory.path().join("log")).unwrap();
        process.child.wait().unwrap();
        let error = process.check().unwrap_err().to_string();
        assert!(error.contains("exit status: 3") && error.contains("no such machine"), "{error}");
    }

    #[test]
    fn a_process_that_is_asked_to_end_does() {
        let directory = tempfile::tempdir().unwrap();
        let line = "trap 'exit 0' TERM; echo ready; while :; do sleep 0.01; done";
        let argv = ["sh", "-c", line].map(str::to_owned).to_vec();
        let log = directory.path().join("log");
        let mut process = Process::start("sh", &argv, log.clone()).unwrap();
        let (minute, interruption) = (Duration::from_secs(60), Interruption::default());
        let every = Duration::from_millis(5);
        let said = || Ok((tail(&log) == "ready").then_some(()));
        interruption.wait("the trap", minute, every, said).unwrap();
        process.end(minute, &interruption).unwrap();
        assert!(process.check().is_err());
    }

    #[test]
    fn a_process_ends_with_its_value() {
        let directory = tempfile::tempdir().unwrap();
        let argv = ["sleep", "600"].map(str::to_owned).to_vec();
        let mut process = Process::start("sleep", &argv, directory.path().join("log")).unwrap();
        assert!(process.check().is_ok());
        let pid = process.child.id();
        drop(process);
        assert!(!Path::new(&format!("/proc/{pid}")).exists());
    }
}
