//! A cluster of real programs on this machine, up for as long as its value lives.

use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use anyhow::{Context, Result, bail, ensure};
use novacron_sdk::{Client, Config, Overrides};
use serde_json::Value;
use tempfile::TempDir;

/// The variable that names the directory of the programs; `cargo xtask test` sets it.
const PROGRAMS_VARIABLE: &str = "NOVACRON_BIN_DIR";

/// A cluster made by `novacron dev up`.
#[derive(Debug)]
pub struct DevCluster {
    programs: PathBuf,
    directory: TempDir,
}

impl DevCluster {
    /// Brings one up; guests are translated, since KVM hangs on some machines that offer it.
    ///
    /// # Errors
    /// What `novacron` said.
    pub fn up(coordinators: u8, nodes: u8) -> Result<Self> {
        let cluster = Self { programs: programs()?, directory: tempfile::tempdir()? };
        let (coordinators, nodes) = (coordinators.to_string(), nodes.to_string());
        let size = ["--coordinators", &coordinators, "--nodes", &nodes, "--accel", "tcg"];
        cluster.dev(&[&["up"][..], &size].concat())?;
        Ok(cluster)
    }

    /// Where it is.
    pub fn directory(&self) -> &Path {
        self.directory.path()
    }

    /// Runs `novacron dev` on this cluster and gives what it prints.
    ///
    /// # Errors
    /// What it said, if it failed.
    pub fn dev(&self, arguments: &[&str]) -> Result<String> {
        self.dev_with(arguments, &[])
    }

    /// The same, with variables in the environment of what it starts.
    ///
    /// # Errors
    /// What it said, if it failed.
    pub fn dev_with(&self, arguments: &[&str], variables: &[(&str, &str)]) -> Result<String> {
        let directory = self.directory().to_str().context("the directory's path is not text")?;
        let arguments = [&["dev"], arguments, &["--dir", directory]].concat();
        let mut command = self.command(&arguments);
        command.envs(variables.iter().copied());
        said(&arguments, &command.output().context("cannot run novacron")?)
    }

    /// Runs `novacron` as a client of this cluster and gives what it prints.
    ///
    /// # Errors
    /// What it said, if it failed.
    pub fn run(&self, arguments: &[&str]) -> Result<String> {
        said(arguments, &self.output(arguments)?)
    }

    /// The same, for results in JSON.
    ///
    /// # Errors
    /// What it said, if it failed or did not print JSON.
    pub fn json(&self, arguments: &[&str]) -> Result<Value> {
        let text = self.run(&[arguments, &["-o", "json"]].concat())?;
        serde_json::from_str(&text).with_context(|| format!("not JSON: {text}"))
    }

    /// `novacron dev status`.
    ///
    /// # Errors
    /// What it said, if it failed.
    pub fn status(&self) -> Result<Value> {
        serde_json::from_str(&self.dev(&["status", "-o", "json"])?)
            .context("the status is not JSON")
    }

    /// Runs `novacron` to its end, however that is.
    ///
    /// # Errors
    /// It cannot be run.
    pub fn output(&self, arguments: &[&str]) -> Result<Output> {
        self.command(arguments).output().context("cannot run novacron")
    }

    fn command(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(self.programs.join("novacron"));
        command.args(arguments).env(PROGRAMS_VARIABLE, &self.programs);
        command.env("NOVACRON_CONFIG", self.config());
        command
    }

    /// Where one of the programs is.
    pub fn program(&self, name: &str) -> PathBuf {
        self.programs.join(name)
    }

    /// A client of the whole cluster.
    ///
    /// # Errors
    /// Its configuration cannot be used.
    pub fn client(&self) -> Result<Client> {
        let config =
            Config::load(&Overrides { file: Some(self.config()), ..Overrides::default() })?;
        Ok(Client::new(&config)?)
    }

    fn config(&self) -> PathBuf {
        self.directory().join("novacron.yaml")
    }
}

impl Drop for DevCluster {
    fn drop(&mut self) {
        if std::thread::panicking() {
            self.print_logs();
        }
        if let Err(error) = self.dev(&["down", "--purge"]) {
            eprintln!("taking the cluster down: {error:#}");
        }
    }
}

impl DevCluster {
    /// Prints the ends of the logs of all its programs, for whoever reads a failed test.
    pub fn print_logs(&self) {
        for entry in std::fs::read_dir(self.directory()).into_iter().flatten().flatten() {
            let Ok(log) = std::fs::read_to_string(entry.path().join("log")) else { continue };
            let lines: Vec<_> = log.lines().collect();
            let tail = &lines[lines.len().saturating_sub(40)..];
            eprintln!("--- {}\n{}", entry.file_name().display(), tail.join("\n"));
        }
    }
}

/// What `novacron` printed, if it did not fail.
fn said(arguments: &[&str], output: &Output) -> Result<String> {
    if !output.status.success() {
        let said = String::from_utf8_lossy(&output.stderr);
        bail!("`novacron {}` failed ({}):\n{said}", arguments.join(" "), output.status);
    }
    Ok(String::from_utf8_lossy(&output.stdout).into_owned())
}

/// The directory of the programs: the variable's, or that of this build's profile.
///
/// # Errors
/// They are not built.
pub fn programs() -> Result<PathBuf> {
    if let Some(directory) = std::env::var_os(PROGRAMS_VARIABLE) {
        return Ok(PathBuf::from(directory));
    }
    // A test is `PROFILE/deps/NAME`.
    let own = std::env::current_exe()?;
    let profile = own.ancestors().nth(2).context("this test is in no build directory")?;
    let built = ["novacron", "novacron-agent", "novacron-coordinator"];
    let is_built = built.iter().all(|name| profile.join(name).is_file());
    ensure!(is_built, "build the programs first (`cargo build`), or set {PROGRAMS_VARIABLE}");
    Ok(profile.to_owned())
}
