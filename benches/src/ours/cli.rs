//! Runs `novacron` as a person would.

use std::fs::File;
use std::io::Write;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use anyhow::{Context, Result, bail};

use crate::child::{tail, wait_for};
use crate::interruption::Interruption;

/// The program and where its cluster is.
#[derive(Debug)]
pub struct Cli<'a> {
    programs: PathBuf,
    directory: PathBuf,
    interruption: &'a Interruption,
}

impl<'a> Cli<'a> {
    /// The program in `programs`, for the cluster in `directory`.
    pub fn new(programs: &Path, directory: &Path, interruption: &'a Interruption) -> Self {
        Self { programs: programs.to_owned(), directory: directory.join("c"), interruption }
    }

    /// The directory of the cluster.
    pub fn directory(&self) -> &Path {
        &self.directory
    }

    /// Runs it, types `input`, and returns what it prints.
    pub fn run(&self, arguments: &[&str], input: &str, patience: Duration) -> Result<String> {
        self.finish(arguments, input, |child| wait_for(child, patience, self.interruption))
    }

    /// Runs it to its end whatever happens: for taking things down.
    pub fn run_anyway(&self, arguments: &[&str]) -> Result<String> {
        self.finish(arguments, "", |child| child.wait().context("cannot wait for novacron"))
    }

    fn finish(
        &self,
        arguments: &[&str],
        input: &str,
        wait: impl FnOnce(&mut Child) -> Result<std::process::ExitStatus>,
    ) -> Result<String> {
        let name = format!("novacron {}", arguments.join(" "));
        // Into files: nobody has to read them while it runs.
        let base = self.directory.parent().unwrap_or(&self.directory);
        let files = tempfile::tempdir_in(base).context("cannot make a directory")?;
        let (output, errors) = (files.path().join("out"), files.path().join("err"));
        let mut child = self.spawn(arguments, &output, &errors).with_context(|| name.clone())?;
        let typed = child.stdin.take().map_or(Ok(()), |mut pipe| pipe.write_all(input.as_bytes()));
        let status = wait(&mut child).with_context(|| name.clone())?;
        if !status.success() {
            bail!("`{name}` failed ({status}): {}", tail(&errors));
        }
        typed.with_context(|| format!("cannot type into `{name}`"))?;
        let bytes = std::fs::read(&output).context("cannot read what novacron printed")?;
        // A guest's console may hold anything.
        Ok(String::from_utf8_lossy(&bytes).into_owned())
    }

    fn spawn(&self, arguments: &[&str], output: &Path, errors: &Path) -> Result<Child> {
        let create = |path: &Path| {
            File::create(path).with_context(|| format!("cannot write {}", path.display()))
        };
        Command::new(self.programs.join("novacron"))
            .args(arguments)
            .env("NOVACRON_CONFIG", self.directory.join("novacron.yaml"))
            .env("NOVACRON_BIN_DIR", &self.programs)
            .stdin(Stdio::piped())
            .stdout(create(output)?)
            .stderr(create(errors)?)
            // Ctrl-C reaches it only through us.
            .process_group(0)
            .spawn()
            .with_context(|| format!("cannot run {}/novacron", self.programs.display()))
    }
}
