//! What all runs of a scenario share: where programs and files are, for how long is measured, who is asked.

use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use tempfile::TempDir;

use super::cluster::Cluster;
use super::link::Door;
use super::sides::{SIDES, Side};
use super::stage::Size;
use super::{coordinators, etcd};
use crate::args::Control;
use crate::idle;
use crate::interruption::Interruption;

/// How long a run waits for the machine to be idle.
const IDLE_PATIENCE: Duration = Duration::from_secs(30);

/// See the module.
#[derive(Debug)]
pub struct Setting {
    /// How often each side is measured.
    pub runs: u32,
    /// For how long operations count in a run.
    pub measured: Duration,
    /// Numbers of clients.
    pub clients: Vec<usize>,
    /// Who takes part, in turn.
    pub sides: &'static [Side],
    /// Entries of a ledger, if they shall be others than a scenario has.
    pub entries: Option<u64>,
    hosts: Option<usize>,
    machines: Option<usize>,
    is_leader_only: bool,
    programs: PathBuf,
    files: PathBuf,
    interruption: Interruption,
}

impl Setting {
    /// As the command line says. Files are kept on the disk that this program is on: a file system in memory would
    /// sync nothing.
    pub fn new(args: &Control) -> Result<Self> {
        let own = std::env::current_exe()?;
        let own = own.parent().context("this program is nowhere")?;
        let programs = args.programs.clone().unwrap_or_else(|| own.to_owned());
        let program = programs.join(coordinators::PROGRAM);
        ensure!(program.is_file(), "{} is not there: build it", program.display());
        Ok(Self {
            runs: args.runs,
            measured: Duration::from_secs(args.seconds),
            clients: args.clients.iter().copied().map(usize::from).collect(),
            sides: if args.no_peers { &SIDES[1..] } else { &SIDES },
            entries: args.entries,
            hosts: args.hosts.map(usize::from),
            machines: args.vms.map(|vms| vms as usize),
            is_leader_only: args.leader_only,
            programs,
            files: own.to_owned(),
            interruption: Interruption::listen()?,
        })
    }

    /// Waits a while for the machine to be idle; says how idle it was.
    pub fn await_idle(&self) -> Result<f64> {
        idle::wait(IDLE_PATIENCE, &self.interruption)
    }

    /// Sleeps, unless a person has had enough.
    pub fn pause(&self, time: Duration) -> Result<()> {
        self.interruption.pause(time)
    }

    /// A new cluster, and the directory that goes with it.
    pub fn found(&self, side: Side) -> Result<(Cluster, TempDir)> {
        let directory = self.directory()?;
        Ok((self.found_in(side, directory.path())?, directory))
    }

    /// A new directory for the files of a cluster.
    pub fn directory(&self) -> Result<TempDir> {
        self.interruption.check()?;
        let directory =
            tempfile::Builder::new().prefix("novacron-control-").tempdir_in(&self.files);
        directory.context("cannot make a directory for a cluster")
    }

    /// Where NovaCron's programs are.
    pub fn programs(&self) -> &Path {
        &self.programs
    }

    /// Whether a person has had enough.
    pub fn interruption(&self) -> &Interruption {
        &self.interruption
    }

    /// The size of a fleet: what a scenario has, unless something else was asked for. There are not more hosts than
    /// machines.
    pub fn size_or(&self, hosts: usize, machines: usize) -> Size {
        let machines = self.machines.unwrap_or(machines);
        Size { hosts: self.hosts.unwrap_or(hosts).min(machines), machines }
    }

    fn found_in(&self, side: Side, directory: &Path) -> Result<Cluster> {
        match side {
            Side::Etcd => etcd::found(directory),
            Side::NovaCron => coordinators::found(&self.programs, directory),
        }
    }

    /// The members that clients are spread over.
    pub fn doors(&self, cluster: &Cluster) -> Result<Vec<Door>> {
        let doors = cluster.doors();
        if !self.is_leader_only {
            return Ok(doors);
        }
        Ok(vec![doors[cluster.leader()?].clone()])
    }
}
