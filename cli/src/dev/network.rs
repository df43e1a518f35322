//! The commands that make, change and remove a cluster's network. Pure: lists of `ip` and `tc` invocations.
//!
//! The switch has a namespace of its own, so that a firewall of the machine's root namespace (which may see
//! bridged packets) never meets traffic between hosts.
//!
//! A cut between two hosts is a permanent neighbour entry that gives the peer *our own* hardware address: the
//! frame leaves through the shaped link, and the switch drops it because it came from where it would go. The
//! packet is lost in silence, as on a broken line; a blackhole route would fail the send instead, and QUIC
//! stacks take that as a fault of the local socket.

use std::path::{Path, PathBuf};

use super::cluster::{Cluster, Host, Isolation};
use super::rate::Rate;

/// A program and its arguments.
pub type Argv = Vec<String>;

/// The interface of every host in its namespace.
const INTERFACE: &str = "eth0";
/// Bits of a cluster's subnet.
const PREFIX_BITS: u8 = 26;

fn argv(line: &str) -> Argv {
    line.split_whitespace().map(str::to_owned).collect()
}

/// The namespace of a host.
pub fn namespace(cluster: &Cluster, host: &Host) -> String {
    format!("{}-{}", cluster.tag, host.name)
}

fn switch_namespace(cluster: &Cluster) -> String {
    format!("{}-switch", cluster.tag)
}

/// The name of a host's port at the switch.
fn port(host: &Host) -> String {
    format!("p{}", host.address.octets()[3])
}

/// A hardware address that is the host's own: locally administered, ending in its address.
fn hardware_address(host: &Host) -> String {
    let [a, b, c, d] = host.address.octets();
    format!("02:00:{a:02x}:{b:02x}:{c:02x}:{d:02x}")
}

/// Makes the root namespace's leg, which claims the subnet, and the switch.
pub fn create_switch(cluster: &Cluster) -> Vec<Argv> {
    let (tag, switch) = (&cluster.tag, switch_namespace(cluster));
    [
        format!("ip netns add {switch}"),
        format!("ip link add {tag} type veth peer name root netns {switch}"),
        format!("ip addr add {}/{PREFIX_BITS} dev {tag}", cluster.root_address()),
        format!("ip -n {switch} link add br0 type bridge"),
        format!("ip -n {switch} link set br0 up"),
        format!("ip -n {switch} link set root master br0 up"),
        format!("ip link set {tag} up"),
    ]
    .iter()
    .map(|line| argv(line))
    .collect()
}

/// Makes the hosts' namespaces, links and their rates.
pub fn create_hosts(cluster: &Cluster) -> Vec<Argv> {
    cluster.hosts.iter().flat_map(|host| create_host(cluster, host)).collect()
}

fn create_host(cluster: &Cluster, host: &Host) -> Vec<Argv> {
    let (namespace, switch) = (namespace(cluster, host), switch_namespace(cluster));
    let (port, hardware) = (port(host), hardware_address(host));
    let mut commands: Vec<Argv> = [
        format!("ip netns add {namespace}"),
        format!(
            "ip link add {INTERFACE} netns {namespace} address {hardware} type veth peer name {port} netns {switch}"
        ),
        format!("ip -n {switch} link set {port} master br0 up"),
        format!("ip -n {namespace} link set lo up"),
        format!("ip -n {namespace} addr add {}/{PREFIX_BITS} dev {INTERFACE}", host.address),
        format!("ip -n {namespace} link set {INTERFACE} up"),
    ]
    .iter()
    .map(|line| argv(line))
    .collect();
    if let Isolation::Namespaces { link: Some(rate) } = cluster.isolation {
        commands.extend(shape(cluster, host, rate));
    }
    commands
}

/// Gives a host's link a rate, in both directions.
pub fn shape(cluster: &Cluster, host: &Host, rate: Rate) -> Vec<Argv> {
    let ends =
        [(namespace(cluster, host), INTERFACE.to_owned()), (switch_namespace(cluster), port(host))];
    ends.iter()
        .map(|(namespace, interface)| {
            argv(&format!(
                "tc -n {namespace} qdisc replace dev {interface} root tbf rate {rate} burst {} limit {}",
                rate.burst_bytes(),
                rate.queue_bytes()
            ))
        })
        .collect()
}

/// Cuts two hosts off from each other, and from nobody else.
pub fn cut(cluster: &Cluster, one: &Host, other: &Host) -> Vec<Argv> {
    [(one, other), (other, one)]
        .iter()
        .map(|(from, to)| {
            argv(&format!(
                "ip -n {} neigh replace {} lladdr {} dev {INTERFACE} nud permanent",
                namespace(cluster, from),
                to.address,
                hardware_address(from)
            ))
        })
        .collect()
}

/// Joins two hosts again. They learn each other's address anew.
pub fn join(cluster: &Cluster, one: &Host, other: &Host) -> Vec<Argv> {
    [(one, other), (other, one)]
        .iter()
        .map(|(from, to)| {
            argv(&format!(
                "ip -n {} neigh flush to {} dev {INTERFACE} nud permanent",
                namespace(cluster, from),
                to.address
            ))
        })
        .collect()
}

/// The command that runs a program in a host's namespace.
pub fn enter(cluster: &Cluster, host: &Host) -> Argv {
    match cluster.isolation {
        Isolation::Namespaces { .. } => {
            argv(&format!("ip netns exec {}", namespace(cluster, host)))
        }
        Isolation::Loopback => Argv::new(),
    }
}

/// The command that lists the processes of a host's namespace, one number a line.
pub fn list_processes(cluster: &Cluster, host: &Host) -> Option<Argv> {
    match cluster.isolation {
        Isolation::Namespaces { .. } => {
            Some(argv(&format!("ip netns pids {}", namespace(cluster, host))))
        }
        Isolation::Loopback => None,
    }
}

/// Removes all of it. Each command fails if its thing is already gone; that is no fault.
pub fn remove(cluster: &Cluster) -> Vec<Argv> {
    let Isolation::Namespaces { .. } = cluster.isolation else { return Vec::new() };
    let hosts = cluster.hosts.iter().map(|host| namespace(cluster, host));
    let namespaces = hosts.chain([switch_namespace(cluster)]);
    let leg = argv(&format!("ip link del {}", cluster.tag));
    [leg].into_iter().chain(namespaces.map(|name| argv(&format!("ip netns del {name}")))).collect()
}

/// The interface with which this machine is in the cluster's network, where it is while it exists.
pub fn root_leg(cluster: &Cluster) -> PathBuf {
    Path::new("/sys/class/net").join(&cluster.tag)
}

/// The subnets whose addresses are in `ip -o -4 addr show`.
pub fn subnets_taken(listing: &str) -> std::collections::BTreeSet<u16> {
    let addresses = listing
        .lines()
        .filter_map(|line| line.split_whitespace().skip_while(|word| *word != "inet").nth(1));
    addresses
        .filter_map(|address| address.split('/').next()?.parse::<std::net::Ipv4Addr>().ok())
        .filter_map(|address| match address.octets() {
            [10, 213, high, low] => Some(u16::from_be_bytes([high, low]) / 64),
            _ => None,
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::super::cluster::tests::cluster;
    use super::*;

    fn lines(commands: &[Argv]) -> Vec<String> {
        commands.iter().map(|command| command.join(" ")).collect()
    }

    fn shaped() -> Cluster {
        cluster(Isolation::Namespaces { link: "1gbit".parse().ok() })
    }

    #[test]
    fn a_host_has_a_namespace_a_leg_and_a_rate_both_ways() {
        let cluster = shaped();
        let tag = &cluster.tag;
        let commands = lines(&create_host(&cluster, cluster.host("node-01").unwrap()));
        assert_eq!(
            commands,
            [
                format!("ip netns add {tag}-node-01"),
                format!(
                    "ip link add eth0 netns {tag}-node-01 address 02:00:0a:d5:ff:c5 type veth peer name p197 netns {tag}-switch"
                ),
                format!("ip -n {tag}-switch link set p197 master br0 up"),
                format!("ip -n {tag}-node-01 link set lo up"),
                format!("ip -n {tag}-node-01 addr add 10.213.255.197/26 dev eth0"),
                format!("ip -n {tag}-node-01 link set eth0 up"),
                format!(
                    "tc -n {tag}-node-01 qdisc replace dev eth0 root tbf rate 1gbit burst 250000 limit 1500000"
                ),
                format!(
                    "tc -n {tag}-switch qdisc replace dev p197 root tbf rate 1gbit burst 250000 limit 1500000"
                ),
            ]
        );
    }

    #[test]
    fn a_cut_touches_two_hosts_and_each_others_address_only() {
        let cluster = shaped();
        let tag = &cluster.tag;
        let (one, other) = (cluster.host("node-01").unwrap(), cluster.host("node-02").unwrap());
        assert_eq!(
            lines(&cut(&cluster, one, other)),
            [
                format!(
                    "ip -n {tag}-node-01 neigh replace 10.213.255.198 lladdr 02:00:0a:d5:ff:c5 dev eth0 nud permanent"
                ),
                format!(
                    "ip -n {tag}-node-02 neigh replace 10.213.255.197 lladdr 02:00:0a:d5:ff:c6 dev eth0 nud permanent"
                ),
            ]
        );
        assert_eq!(
            lines(&join(&cluster, one, other))[0],
            format!("ip -n {tag}-node-01 neigh flush to 10.213.255.198 dev eth0 nud permanent")
        );
    }

    #[test]
    fn whatever_is_made_is_removed() {
        let cluster = shaped();
        let created = lines(&[create_switch(&cluster), create_hosts(&cluster)].concat());
        let removed = lines(&remove(&cluster));
        for namespace in created.iter().filter_map(|line| line.strip_prefix("ip netns add ")) {
            assert!(removed.contains(&format!("ip netns del {namespace}")), "{namespace}");
        }
        assert!(removed.contains(&format!("ip link del {}", cluster.tag)));
    }

    #[test]
    fn without_root_there_is_nothing_to_make_or_enter() {
        let cluster = cluster(Isolation::Loopback);
        assert!(remove(&cluster).is_empty());
        assert!(enter(&cluster, &cluster.hosts[0]).is_empty());
    }

    #[test]
    fn subnets_of_other_clusters_are_seen() {
        let listing = "1: lo    inet 127.0.0.1/8 scope host lo\n\
                       7: nova01234567    inet 10.213.1.65/26 scope global nova01234567\n";
        assert_eq!(subnets_taken(listing).into_iter().collect::<Vec<_>>(), [5]);
    }
}
