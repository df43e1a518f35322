//! Running `novacron` as a person would, and showing what was typed.

use std::io::Read;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

use anyhow::{Context, Result, bail};

use super::interruption::Interruption;
use crate::process;

/// The variable that tells `novacron` where its cluster is.
pub const CONFIG_VARIABLE: &str = "NOVACRON_CONFIG";

/// The program and the cluster it talks to.
#[derive(Debug)]
pub struct Cli<'a> {
    programs: PathBuf,
    config: PathBuf,
    interruption: &'a Interruption,
}

impl<'a> Cli<'a> {
    /// The program in that directory, with that configuration.
    pub fn new(programs: &Path, config: PathBuf, interruption: &'a Interruption) -> Self {
        Self { programs: programs.to_path_buf(), config, interruption }
    }

    /// Runs it in view of the person.
    pub fn run(&self, arguments: &[&str]) -> Result<()> {
        show(arguments);
        self.spawn(arguments, Stdio::inherit()).map(drop)
    }

    /// Runs it in view and returns what it prints; notices and progress stay in view.
    pub fn capture_shown(&self, arguments: &[&str]) -> Result<String> {
        show(arguments);
        self.capture(arguments)
    }

    /// Runs it silently and returns what it prints.
    pub fn capture(&self, arguments: &[&str]) -> Result<String> {
        let bytes = self.spawn(arguments, Stdio::piped())?;
        // A guest's console may hold anything.
        Ok(String::from_utf8_lossy(&bytes).into_owned())
    }

    /// Waits, unless interrupted.
    pub fn pause(&self, time: Duration) -> Result<()> {
        self.interruption.pause(time)
    }

    /// The command, for those who run it in another way.
    pub fn command(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(self.programs.join("novacron"));
        command.args(arguments).env(CONFIG_VARIABLE, &self.config);
        command
    }

    fn spawn(&self, arguments: &[&str], stdout: Stdio) -> Result<Vec<u8>> {
        let mut command = self.command(arguments);
        let name = process::line(&command);
        let mut child = command
            .stdin(Stdio::null())
            .stdout(stdout)
            .spawn()
            .with_context(|| format!("cannot run `{name}`"))?;
        let (read, status) = self.interruption.guard(&mut child, |child| {
            let mut output = Vec::new();
            let read = child.stdout.take().map_or(Ok(0), |mut pipe| pipe.read_to_end(&mut output));
            (read.map(|_| output), child.wait())
        })?;
        let status = status.with_context(|| format!("cannot wait for `{name}`"))?;
        if !status.success() {
            bail!("`{name}` failed ({status})");
        }
        read.with_context(|| format!("cannot read what `{name}` prints"))
    }
}

fn show(arguments: &[&str]) {
    let words: Vec<String> = arguments.iter().map(|word| process::quote(word)).collect();
    println!("$ novacron {}", words.join(" "));
}
