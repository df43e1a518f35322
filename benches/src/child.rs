//! Processes that end with the value that holds them.

use std::fs::{self, File};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::Duration;

use anyhow::{Context, Result, bail};

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
