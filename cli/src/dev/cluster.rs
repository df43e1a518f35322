//! What a development cluster is: its hosts, their names and their addresses. A value; nothing here touches the machine.
//!
//! ```text
//!   root namespace ── novaTAG ──┐                        addresses: root leg .1, hosts from .2
//!   (CLI, tests)                │                        of one /26 for each cluster
//!                            [switch]  bridge in a namespace of its own
//!                  ┌────────────┼────────────┐
//!            coordinator-1 … node-01 … node-02           one namespace each, eth0, link rate both ways
//! ```
//!
//! Everything a cluster makes outside its directory carries its tag, which comes from the directory's path: so
//! clusters in different directories never meet, and a cluster can only ever remove what is its own.

use std::net::Ipv4Addr;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use super::rate::Rate;

/// Port of members and agents (QUIC).
pub const PEER_PORT: u16 = 7400;
/// Port of the API.
pub const API_PORT: u16 = 7443;
/// Port of metrics.
pub const METRICS_PORT: u16 = 7480;
/// Port of migrations between agents.
pub const MIGRATION_PORT: u16 = 7410;
/// Most nodes: a /26 has 62 addresses, one is the root leg's, five the coordinators'.
pub const NODES_MAX: u8 = 50;
/// Bytes of the directory's path: an agent puts sockets into its own directory below it, and Linux bounds their paths.
pub const DIR_BYTES_MAX: usize = 36;
/// Subnets of 64 addresses in `x.213.0.0/16`.
pub const SUBNETS: u16 = 1024;
/// The format of `dev.json`.
const VERSION: u32 = 1;

/// A cluster on this machine, as `dev.json` keeps it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Cluster {
    /// The format of this record.
    pub version: u32,
    /// The directory that holds it.
    pub dir: PathBuf,
    /// What names of namespaces, links and shared memory begin with.
    pub tag: String,
    /// How its hosts are apart.
    pub isolation: Isolation,
    /// Which /26 of `x.213.0.0/16` is its own.
    pub subnet: u16,
    /// What accelerates its guests: `auto`, `kvm` or `tcg`.
    pub accel: String,
    /// Its hosts, coordinators first.
    pub hosts: Vec<Host>,
}

/// How the hosts of a cluster are kept apart.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Isolation {
    /// A network namespace for each, joined by shaped links. Needs root.
    Namespaces {
        /// Rate of every host's link in both directions; none leaves it as fast as the machine.
        link: Option<Rate>,
    },
    /// An address of 127.0.0.0/8 for each; nothing is shaped and nothing can be cut.
    Loopback,
}

/// One host.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Host {
    /// Name; also the name of its directory and of its certificate.
    pub name: String,
    /// What it is.
    pub role: Role,
    /// Its address.
    pub address: Ipv4Addr,
}

/// What a host is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Role {
    /// A member of the coordinator cluster.
    Coordinator,
    /// A hypervisor host with an agent.
    Node,
}

/// What a cluster shall be.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Wish {
    /// Coordinators: 1, 3 or 5.
    pub coordinators: u8,
    /// Nodes.
    pub nodes: u8,
    /// How hosts are kept apart.
    pub isolation: Isolation,
    /// What accelerates guests.
    pub accel: String,
}

impl Wish {
    /// Whatever could be asked for.
    pub fn largest(is_root: bool) -> Self {
        let isolation =
            if is_root { Isolation::Namespaces { link: None } } else { Isolation::Loopback };
        Self { coordinators: 5, nodes: NODES_MAX, isolation, accel: "auto".to_owned() }
    }
}

impl Cluster {
    /// The cluster that a wish comes to in a directory (absolute, as [`tag`] depends on it) and a subnet.
    pub fn plan(dir: &Path, subnet: u16, wish: &Wish) -> Self {
        let coordinators =
            (1..=wish.coordinators).map(|n| (format!("coordinator-{n}"), Role::Coordinator));
        let nodes = (1..=wish.nodes).map(|n| (format!("node-{n:02}"), Role::Node));
        let hosts = coordinators
            .chain(nodes)
            .zip(2..)
            .map(|((name, role), number)| Host {
                name,
                role,
                address: address(wish.isolation, subnet, number),
            })
            .collect();
        Self {
            version: VERSION,
            dir: dir.to_owned(),
            tag: tag(dir),
            isolation: wish.isolation,
            subnet,
            accel: wish.accel.clone(),
            hosts,
        }
    }

    /// Whether this build understands the record.
    pub fn is_understood(&self) -> bool {
        self.version == VERSION
    }

    /// The host of that name.
    pub fn host(&self, name: &str) -> Option<&Host> {
        self.hosts.iter().find(|host| host.name == name)
    }

    /// Hosts of a role, in order.
    pub fn hosts_of(&self, role: Role) -> impl Iterator<Item = &Host> {
        self.hosts.iter().filter(move |host| host.role == role)
    }

    /// The address that the root namespace has in this cluster's network.
    pub fn root_address(&self) -> Ipv4Addr {
        address(self.isolation, self.subnet, 1)
    }

    /// Directory of a host: its configuration, log, pid file and data.
    pub fn host_dir(&self, host: &Host) -> PathBuf {
        self.dir.join(&host.name)
    }

    /// Where a node keeps the memory of its guests.
    pub fn memory_dir(&self, host: &Host) -> PathBuf {
        Path::new("/dev/shm").join(format!("{}-{}", self.tag, host.name))
    }

    /// Images that all nodes share.
    pub fn image_dir(&self) -> PathBuf {
        self.dir.join("images")
    }

    /// Credentials of the operator that `init` makes.
    pub fn operator_dir(&self) -> PathBuf {
        self.dir.join("operator")
    }

    /// Configuration of clients.
    pub fn client_config(&self) -> PathBuf {
        self.dir.join("novacron.yaml")
    }

    /// `https://HOST:PORT` of every coordinator.
    pub fn endpoints(&self) -> Vec<String> {
        self.hosts_of(Role::Coordinator)
            .map(|host| format!("https://{}:{API_PORT}", host.address))
            .collect()
    }

    /// `HOST:PORT` of every coordinator for members and agents.
    pub fn peer_addresses(&self) -> Vec<String> {
        self.hosts_of(Role::Coordinator)
            .map(|host| format!("{}:{PEER_PORT}", host.address))
            .collect()
    }
}

fn address(isolation: Isolation, subnet: u16, number: u16) -> Ipv4Addr {
    let network = match isolation {
        Isolation::Namespaces { .. } => 10,
        Isolation::Loopback => 127,
    };
    let [high, low] = (subnet * 64 + number).to_be_bytes();
    Ipv4Addr::new(network, 213, high, low)
}

/// The tag of the cluster in a directory: 12 characters, since an interface name has at most 15.
pub fn tag(dir: &Path) -> String {
    format!("nova{:08x}", fnv1a(dir.as_os_str().as_encoded_bytes()))
}

/// The subnet that a cluster tries first.
pub fn subnet_preferred(dir: &Path) -> u16 {
    (fnv1a(dir.as_os_str().as_encoded_bytes()) % u32::from(SUBNETS)) as u16
}

/// FNV-1a of 32 bits: unlike the standard hasher it is the same in every build.
fn fnv1a(bytes: &[u8]) -> u32 {
    bytes.iter().fold(0x811c_9dc5, |hash, &byte| (hash ^ u32::from(byte)).wrapping_mul(0x0100_0193))
}

#[cfg(test)]
pub mod tests {
    use super::*;

    /// A cluster to test with.
    pub fn cluster(isolation: Isolation) -> Cluster {
        let wish = Wish { coordinators: 3, nodes: 2, isolation, accel: "tcg".into() };
        Cluster::plan(Path::new("/tmp/one"), 1023, &wish)
    }

    #[test]
    fn hosts_have_names_and_addresses_of_their_own() {
        let cluster = cluster(Isolation::Namespaces { link: None });
        let seen: Vec<_> =
            cluster.hosts.iter().map(|host| format!("{} {}", host.name, host.address)).collect();
        assert_eq!(
            seen,
            [
                "coordinator-1 10.213.255.194",
                "coordinator-2 10.213.255.195",
                "coordinator-3 10.213.255.196",
                "node-01 10.213.255.197",
                "node-02 10.213.255.198",
            ]
        );
        assert_eq!(cluster.root_address(), Ipv4Addr::new(10, 213, 255, 193));
        assert_eq!(cluster.endpoints()[0], "https://10.213.255.194:7443");
    }

    #[test]
    fn without_root_the_hosts_are_addresses_of_the_loopback() {
        assert!(cluster(Isolation::Loopback).hosts.iter().all(|host| host.address.is_loopback()));
    }

    #[test]
    fn names_fit_into_an_interface_and_differ_between_directories() {
        let (one, two) = (tag(Path::new("/tmp/one")), tag(Path::new("/tmp/two")));
        assert_ne!(one, two);
        assert_eq!(one.len(), 12);
        assert!(subnet_preferred(Path::new("/tmp/one")) < SUBNETS);
    }

    #[test]
    fn the_record_comes_back_from_its_file() {
        let cluster = cluster(Isolation::Namespaces { link: "1gbit".parse().ok() });
        let text = serde_json::to_string(&cluster).unwrap();
        assert_eq!(serde_json::from_str::<Cluster>(&text).unwrap(), cluster);
    }

    #[test]
    fn the_largest_cluster_fits_into_its_subnet() {
        let cluster = Cluster::plan(Path::new("/tmp/one"), 0, &Wish::largest(true));
        assert_eq!(cluster.hosts.last().unwrap().address, Ipv4Addr::new(10, 213, 0, 56));
    }
}
