//! A development cluster, for as long as this lives.

use std::collections::BTreeSet;
use std::ffi::OsString;
use std::fs;
use std::net::Ipv4Addr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, Result};
use serde::Deserialize;

use super::cli::Cli;
use crate::network::{Emulator, End, LinkArgs, Wire};

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
    emulator: Option<Emulator>,
}

/// What is of interest in the record that `novacron dev up` leaves in its directory.
#[derive(Debug, Deserialize)]
struct Record {
    tag: String,
    hosts: Vec<HostRecord>,
}

#[derive(Debug, Deserialize)]
struct HostRecord {
    name: String,
    address: Ipv4Addr,
}

impl Record {
    fn end(&self, host: &str) -> Result<End> {
        let found = self.hosts.iter().find(|record| record.name == host);
        let address = found.with_context(|| format!("the cluster has no {host}"))?.address;
        Ok(End { namespace: self.namespace(host), address })
    }

    fn namespace(&self, host: &str) -> String {
        format!("{}-{host}", self.tag)
    }
}

impl<'a> Cluster<'a> {
    /// Brings up one coordinator and two nodes.
    pub fn up(cli: Cli<'a>, link: &LinkArgs, keep_logs: bool) -> Result<Self> {
        // From here on something may be up, even if bringing it up fails half way.
        let mut cluster = Self { cli, is_up: true, keep_logs, emulator: None };
        let (dir, rate) = (cluster.dir(), link.link.to_string());
        let size = ["--coordinators", "1", "--nodes", "2", "--link", &rate, "--accel", "tcg"];
        let words = ["dev", "up", "--dir", &dir].into_iter().chain(size);
        cluster.cli.run(&words.collect::<Vec<_>>(), "", UP_PATIENCE)?;
        let record = cluster.record()?;
        cluster.emulator = link.join(&[record.end(SOURCE)?, record.end(TARGET)?])?;
        Ok(cluster)
    }

    /// The program, set up for this cluster.
    pub fn cli(&self) -> &Cli<'a> {
        &self.cli
    }

    /// Where bytes between the two nodes are counted.
    pub fn wire(&self) -> Result<Wire> {
        let record = self.record()?;
        let wire = Wire::between(&record.namespace(SOURCE), &record.namespace(TARGET));
        Ok(wire.with_line(self.emulator.as_ref()))
    }

    /// The processes of both agents.
    pub fn agents(&self) -> Result<Vec<u32>> {
        [SOURCE, TARGET].into_iter().map(|node| self.agent(node)).collect()
    }

    /// The agent's process: `novacron dev` keeps its number and when it started.
    fn agent(&self, node: &str) -> Result<u32> {
        let path = self.cli.directory().join(node).join("pid");
        let text =
            fs::read_to_string(&path).with_context(|| format!("cannot read {}", path.display()))?;
        let number = text.split(' ').next().and_then(|number| number.parse().ok());
        number.with_context(|| format!("{} is not as expected", path.display()))
    }

    /// Where the console of each machine that there is will be logged, wherever it goes. While one arrives, its directory
    /// has another name.
    pub fn consoles(&self) -> Result<Vec<Vec<PathBuf>>> {
        let places = [SOURCE, TARGET].map(|node| self.cli.directory().join(node).join("data/vms"));
        let mut names = BTreeSet::new();
        for place in &places {
            for entry in
                fs::read_dir(place).with_context(|| format!("cannot read {}", place.display()))?
            {
                names.insert(entry?.path().with_extension("").file_name().map(OsString::from));
            }
        }
        let console = |place: &Path, name: &OsString| {
            let machine = place.join(name);
            [machine.with_extension("new"), machine].map(|directory| directory.join("console.log"))
        };
        let consoles =
            |name: OsString| places.iter().flat_map(|place| console(place, &name)).collect();
        Ok(names.into_iter().flatten().map(consoles).collect())
    }

    fn record(&self) -> Result<Record> {
        let path = self.cli.directory().join("dev.json");
        let text =
            fs::read_to_string(&path).with_context(|| format!("cannot read {}", path.display()))?;
        serde_json::from_str(&text).context("the cluster's record")
    }

    /// Takes it down; its data and logs may stay.
    pub fn down(mut self, keep_data: bool) -> Result<()> {
        self.take_down(keep_data)
    }

    fn take_down(&mut self, keep_data: bool) -> Result<()> {
        self.is_up = false;
        self.emulator = None;
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
