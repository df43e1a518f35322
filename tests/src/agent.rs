//! One agent of a cluster: stopped at a step, told to go on, killed, and what it has written to its log.

use std::fs::{self, File};
use std::io::{Read, Seek, SeekFrom};
use std::path::PathBuf;

use anyhow::{Context, Result, ensure};
use novacron_agent::hold::{self, Hold};

use crate::fleet::{Fleet, PATIENCE};
use crate::wait::until;

/// An agent.
#[derive(Debug, Clone, Copy)]
pub struct Agent<'a> {
    /// Where it lives.
    pub fleet: &'a Fleet,
    /// Its node.
    pub node: &'a str,
}

impl Agent<'_> {
    /// Kills it, in whatever state it is, and starts it again, to stand still at these steps.
    ///
    /// # Errors
    /// It does not run, or cannot be started.
    pub fn restart(&self, holds: &[Hold]) -> Result<()> {
        self.fleet.dev(&["kill", self.node, "--signal", "KILL"])?;
        let names: Vec<_> = holds.iter().map(Hold::to_string).collect();
        let start = ["start", self.node];
        if names.is_empty() {
            return self.fleet.dev(&start);
        }
        let value = names.join(",");
        self.fleet.note(&format!("{} shall stand still at {value}", self.node));
        self.fleet.dev_with(&start, &[(hold::VARIABLE, &value)])
    }

    /// Waits until it stands still.
    ///
    /// # Errors
    /// It does not come to such a step.
    pub fn wait_until_it_is_held(&self) -> Result<()> {
        until(&format!("{} stands still", self.node), PATIENCE, || {
            Ok((self.state()? == 'T').then_some(()))
        })?;
        self.fleet.note(&format!("{} stands still", self.node));
        Ok(())
    }

    /// Lets it go on.
    ///
    /// # Errors
    /// It does not run.
    pub fn go_on(&self) -> Result<()> {
        self.fleet.dev(&["kill", self.node, "--signal", "CONT"])
    }

    /// The state of its process: `T` is stopped.
    fn state(&self) -> Result<char> {
        let pid = fs::read_to_string(self.directory().join("pid"))?;
        let pid = pid.split_whitespace().next().context("an empty pid file")?;
        let stat = fs::read_to_string(format!("/proc/{pid}/stat"));
        let stat = stat.with_context(|| format!("the agent of {} is gone", self.node))?;
        let (_, after_name) = stat.rsplit_once(") ").context("no name in the process's line")?;
        after_name.chars().next().context("no state in the process's line")
    }

    /// Bytes of its log so far.
    ///
    /// # Errors
    /// There is none.
    pub fn log_bytes(&self) -> Result<u64> {
        Ok(fs::metadata(self.log())?.len())
    }

    /// Its log behind so many bytes.
    ///
    /// # Errors
    /// There is none.
    pub fn log_since(&self, bytes: u64) -> Result<String> {
        let mut log = File::open(self.log())?;
        ensure!(log.seek(SeekFrom::Start(bytes))? == bytes, "the log has shrunk");
        let mut rest = Vec::new();
        log.read_to_end(&mut rest)?;
        Ok(String::from_utf8_lossy(&rest).into_owned())
    }

    fn log(&self) -> PathBuf {
        self.directory().join("log")
    }

    fn directory(&self) -> PathBuf {
        self.fleet.cluster().directory().join(self.node)
    }
}
