//! The cluster of a demo: up for as long as this value lives, and gone on every way out.

use std::fs;
use std::os::unix::fs::DirBuilderExt;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};

use super::cli::{CONFIG_VARIABLE, Cli};
use super::interruption::Interruption;
use crate::{process, workspace};

/// A running cluster in a directory of its own.
#[derive(Debug)]
pub struct Cluster<'a> {
    directory: PathBuf,
    cli: Cli<'a>,
    is_up: bool,
}

impl<'a> Cluster<'a> {
    /// Brings up three coordinators and two nodes.
    pub fn up(programs: &Path, interruption: &'a Interruption) -> Result<Self> {
        let directory = make_directory()?;
        let config = directory.join("novacron.yaml");
        // From here on something may be up, even if bringing it up fails half way.
        let cluster =
            Self { cli: Cli::new(programs, config, interruption), directory, is_up: true };
        let dir = cluster.directory.to_string_lossy().into_owned();
        let size = ["--coordinators", "3", "--nodes", "2", "--link", "1gbit"];
        let arguments: Vec<&str> = ["dev", "up", "--dir", &dir].into_iter().chain(size).collect();
        cluster.cli.run(&arguments)?;
        Ok(cluster)
    }

    /// The program, set up for this cluster.
    pub fn cli(&self) -> &Cli<'a> {
        &self.cli
    }

    /// Leaves it up, and says how to use it.
    pub fn keep(mut self, vm: &str) {
        self.is_up = false;
        let program = self.cli.command(&[]).get_program().to_string_lossy().into_owned();
        let directory = self.directory.display();
        println!("\nThe cluster stays up. To use it:");
        println!("  export {CONFIG_VARIABLE}={directory}/novacron.yaml");
        println!("  {program} vm list");
        println!("  {program} vm migrate {vm} --target node-02 --live --watch");
        println!("To take it down:");
        println!("  {program} dev down --dir {directory} --purge");
    }

    /// Copies the logs of all its programs and guests to where they survive it.
    pub fn save_logs(&self, destination: &Path) -> Result<()> {
        for log in workspace::files_under(&self.directory)? {
            if is_log(&log)
                && let Ok(relative) = log.strip_prefix(&self.directory)
            {
                let copy = destination.join(relative);
                fs::create_dir_all(copy.parent().unwrap_or(destination))?;
                fs::copy(&log, &copy).with_context(|| format!("cannot copy {}", log.display()))?;
            }
        }
        Ok(())
    }

    /// Takes it down.
    pub fn down(mut self) -> Result<()> {
        self.take_down()
    }

    fn take_down(&mut self) -> Result<()> {
        self.is_up = false;
        let directory = self.directory.to_string_lossy().into_owned();
        let mut command = self.cli.command(&["dev", "down", "--dir", &directory, "--purge"]);
        // In a group of its own, a second Ctrl-C does not reach it.
        process::run(command.process_group(0))
    }
}

impl Drop for Cluster<'_> {
    fn drop(&mut self) {
        if self.is_up
            && let Err(error) = self.take_down()
        {
            eprintln!("error: taking the cluster down: {error:#}");
        }
    }
}

/// Programs write to `log`, guests' consoles to `console.log`.
fn is_log(path: &Path) -> bool {
    path.file_name().is_some_and(|name| name == "log")
        || path.extension().is_some_and(|extension| extension == "log")
}

/// A new directory that only we can enter. Its path is short, since paths of sockets must be.
fn make_directory() -> Result<PathBuf> {
    let directory = std::env::temp_dir().join(format!("novacron-demo-{}", std::process::id()));
    fs::DirBuilder::new()
        .mode(0o700)
        .create(&directory)
        .with_context(|| format!("cannot make {}", directory.display()))?;
    Ok(directory)
}
