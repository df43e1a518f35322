//! How a cluster stands: its processes on this machine, and what its coordinators say.

use std::net::Ipv4Addr;
use std::path::PathBuf;
use std::time::Duration;

use novacron_sdk::{Client, Config};
use serde::Serialize;

use super::cluster::{Cluster, Host, Role};
use super::programs::{isolation_text, process_of};
use crate::output::{Fields, Show, table, word};

/// For how long the coordinators may take to answer.
const PATIENCE: Duration = Duration::from_secs(3);

/// A cluster and its hosts.
#[derive(Debug, Serialize)]
pub struct Status {
    dir: PathBuf,
    /// The client configuration.
    config: PathBuf,
    /// How hosts are kept apart.
    network: String,
    endpoints: Vec<String>,
    /// The coordinator that leads, as far as the coordinators answer.
    leader: Option<String>,
    hosts: Vec<HostStatus>,
}

#[derive(Debug, Serialize)]
struct HostStatus {
    name: String,
    role: Role,
    address: Ipv4Addr,
    pid: Option<u32>,
    alive: bool,
    /// What the coordinators say of it: `leader`, `voter`, `learner`, `outside`; `ready`, `suspect`, `down`.
    state: Option<String>,
}

/// What the coordinators say.
#[derive(Default)]
struct Fleet {
    leader: Option<String>,
    states: Vec<(String, String)>,
}

/// How a cluster stands.
pub fn of(cluster: &Cluster) -> Status {
    let runs = cluster.hosts_of(Role::Coordinator).any(|host| process_of(cluster, host).is_some());
    let fleet = if runs { ask(cluster).unwrap_or_default() } else { Fleet::default() };
    Status {
        dir: cluster.dir.clone(),
        config: cluster.client_config(),
        network: isolation_text(cluster.isolation),
        endpoints: cluster.endpoints(),
        hosts: cluster.hosts.iter().map(|host| host_status(cluster, host, &fleet)).collect(),
        leader: fleet.leader,
    }
}

fn host_status(cluster: &Cluster, host: &Host, fleet: &Fleet) -> HostStatus {
    let pid = process_of(cluster, host).map(|process| process.pid);
    let said = fleet.states.iter().find(|(name, _)| *name == host.name);
    HostStatus {
        name: host.name.clone(),
        role: host.role,
        address: host.address,
        pid,
        alive: pid.is_some(),
        state: said.map(|(_, state)| state.clone()),
    }
}

/// Asks the coordinators; none if they do not answer.
fn ask(cluster: &Cluster) -> Option<Fleet> {
    let mut config = Config::new(cluster.endpoints(), cluster.operator_dir());
    config.patience = PATIENCE;
    let client = Client::new(&config).ok()?;
    let view = client.cluster().ok()?;
    let nodes = client.nodes().unwrap_or_default();
    let leader = view.members.iter().find(|member| Some(member.id) == view.leader);
    let leader = leader.map(|member| member.name.clone());
    let members = view.members.iter().map(|member| (member.name.clone(), word(&member.role)));
    let nodes = nodes.iter().map(|node| (node.name.to_string(), word(&node.state)));
    Some(Fleet { leader, states: members.chain(nodes).collect() })
}

impl Show for Status {
    fn fields(&self) -> Fields {
        let header = ["HOST", "ADDRESS", "PROGRAM", "PID", "STATE"];
        let rows = self.hosts.iter().map(|host| {
            vec![
                host.name.clone(),
                host.address.to_string(),
                host.role.program().to_owned(),
                host.pid.map_or_else(|| "-".to_owned(), |pid| pid.to_string()),
                host.state
                    .clone()
                    .unwrap_or_else(|| if host.alive { "runs" } else { "stopped" }.to_owned()),
            ]
        });
        vec![
            ("directory", self.dir.display().to_string()),
            ("network", self.network.clone()),
            ("leader", self.leader.clone().unwrap_or_else(|| "-".to_owned())),
            ("hosts", table(&header, rows).trim_end().to_owned()),
        ]
    }
}
