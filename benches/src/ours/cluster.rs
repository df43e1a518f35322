//! A development cluster, for as long as this lives.

use std::fs;
use std::time::Duration;

use anyhow::{Context, Result};
use serde::Deserialize;

use super::cli::Cli;
use crate::network::{Rate, Wire};

/// The node where the guest starts.
pub const SOURCE: &str = "node-01";
/// The node where it goes.
pub const TARGET: &str = "node-02";

const UP_PATIENCE: Duration = Duration::from_secs(180);

/// See the module.
#[derive(Debug)]
pub struct Cluster<'a> {
    cli: Cli<'a>,
    is_up: bool,
    keep_logs: bool,
}

/// What is of interest in the record that `novacron dev up` leaves in its directory.
#[derive(Debug, Deserialize)]
struct Record {
    tag: String,
}

impl<'a> Cluster<'a> {
    /// Brings up one coordinator and two nodes.
    pub fn up(cli: Cli<'a>, link: Rate, keep_logs: bool) -> Result<Self> {
        // From here on something may be up, even if bringing it up fails half way.
        let cluster = Self { cli, is_up: true, keep_logs };
        let (dir, link) = (cluster.dir(), link.to_string());
        let size = ["--coordinators", "1", "--nodes", "2", "--link", &link, "--accel", "tcg"];
        let words = ["dev", "up", "--dir", &dir].into_iter().chain(size);
        cluster.cli.run(&words.collect::<Vec<_>>(), "", UP_PATIENCE)?;
        Ok(cluster)
    }

    /// The program, set up for this cluster.
    pub fn cli(&self) -> &Cli<'a> {
        &self.cli
    }

    /// Where bytes between the two nodes are counted.
    pub fn wire(&self) -> Result<Wire> {
        let path = self.cli.directory().join("dev.json");
        let text =
            fs::read_to_string(&path).with_context(|| format!("cannot read {}", path.display()))?;
        let Record { tag } = serde_json::from_str(&text).context("the cluster's record")?;
        Ok(Wire::between(&format!("{tag}-{SOURCE}"), &format!("{tag}-{TARGET}")))
    }

    /// Takes it down; its data and logs may stay.
    pub fn down(mut self, keep_data: bool) -> Result<()> {
        self.take_down(keep_data)
    }

    fn take_down(&mut self, keep_data: bool) -> Result<()> {
        self.is_up = false;
        let dir = self.dir();
        let purge = (!keep_data).then_some("--purge");
        let words = ["dev", "down", "--dir", &dir].into_iter().chain(purge);
        self.cli.run_anyway(&words.collect::<Vec<_>>()).map(drop)
    }

    fn dir(&self) -> String {
        self.cli.directory().to_string_lossy().into_owned()
    }
}

impl Drop for Cluster<'_> {
    fn drop(&mut self) {
        if self.is_up
            && let Err(error) = self.take_down(self.keep_logs)
        {
            eprintln!("error: taking the cluster down: {error:#}");
        }
    }
}
