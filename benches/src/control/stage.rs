//! A fleet to measure: three coordinators, simulated hosts, and machines on them.

use std::fmt;
use std::sync::Arc;

use anyhow::{Result, ensure};
use novacron_protocol::ids::VmId;
use tempfile::TempDir;

use super::cluster::Cluster;
use super::coordinators::{Coordinators, Layout};
use super::hosts::{Hosts, MACHINES_PER_HOST_MAX};
use super::machines;
use super::past::Past;
use super::setting::Setting;

/// How large a fleet is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Size {
    /// Simulated hosts.
    pub hosts: usize,
    /// Machines, dealt to the hosts in turn.
    pub machines: usize,
}

/// See the module. Everything ends and is removed when this is dropped, in the order of its fields.
#[derive(Debug)]
pub struct Stage {
    /// The hosts.
    pub hosts: Hosts,
    /// The coordinators.
    pub cluster: Cluster,
    /// Where they are.
    pub layout: Layout,
    /// The machines in the order of their numbers.
    pub machines: Vec<VmId>,
    _directory: TempDir,
}

impl Stage {
    /// Founds a cluster, connects hosts and makes machines; returns when all of them are at rest.
    pub fn set(setting: &Setting, size: Size) -> Result<Self> {
        size.check()?;
        let directory = setting.directory()?;
        let layout = Layout::create(setting.programs(), directory.path())?;
        layout.init()?;
        let mut cluster = layout.cluster(Arc::<Coordinators>::default())?;
        layout.start(&mut cluster)?;
        let hosts = Hosts::start(&layout.authority()?, layout.links(), size.hosts)?;
        let mut stage =
            Self { hosts, cluster, layout, machines: Vec::new(), _directory: directory };
        stage.fill(setting, size)?;
        Ok(stage)
    }

    /// The same, with a ledger that has entries of the past: see [`Past`]. The coordinators run when this returns.
    pub fn with_past(setting: &Setting, size: Size, past: &Past) -> Result<Self> {
        size.check()?;
        let directory = setting.directory()?;
        let layout = Layout::create(setting.programs(), directory.path())?;
        let past_coordinator = past.found(&layout)?;
        let mut cluster = layout.cluster(Arc::<Coordinators>::default())?;
        cluster.set_run_elsewhere(0, true);
        let hosts = Hosts::start(&layout.authority()?, layout.links(), size.hosts)?;
        let mut stage =
            Self { hosts, cluster, layout, machines: Vec::new(), _directory: directory };
        stage.fill(setting, size)?;
        past_coordinator.live_through(past, &mut stage.hosts, setting.interruption())?;
        stage.cluster.set_run_elsewhere(0, false);
        stage.layout.start(&mut stage.cluster)?;
        stage.hosts.await_connected(setting.interruption())?;
        Ok(stage)
    }

    fn fill(&mut self, setting: &Setting, size: Size) -> Result<()> {
        self.hosts.await_connected(setting.interruption())?;
        println!("{} hosts are connected", size.hosts);
        self.machines = machines::make(&self.cluster, 0..size.machines, size.hosts)?;
        println!("{} machines are made", size.machines);
        machines::await_settled(&self.cluster, setting.interruption())?;
        self.check()
    }

    /// An error if a coordinator has ended or something happened to a host that must not.
    pub fn check(&mut self) -> Result<()> {
        self.hosts.check()?;
        self.cluster.check()
    }
}

impl fmt::Display for Size {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{} hosts, {} machines", self.hosts, self.machines)
    }
}

impl Size {
    /// An error if the hosts have no room for the machines.
    pub fn check(&self) -> Result<()> {
        let Self { hosts, machines } = *self;
        ensure!(hosts > 0 && machines > 0, "a fleet has hosts and machines");
        let most = hosts * MACHINES_PER_HOST_MAX;
        ensure!(
            machines <= most,
            "{hosts} hosts have room for {most} machines, not for {machines}"
        );
        Ok(())
    }
}
