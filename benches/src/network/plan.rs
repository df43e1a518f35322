//! The commands that make and remove the network. Pure.

use std::net::Ipv4Addr;

use super::emulator::End;
use super::rate::Rate;
use crate::execute::{Argv, argv};

/// The interface of every host in its namespace.
pub const INTERFACE: &str = "eth0";

/// One of the two hosts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Host {
    /// Where the guest starts.
    Source,
    /// Where it goes.
    Target,
}

impl Host {
    /// Both.
    pub const ALL: [Self; 2] = [Self::Source, Self::Target];

    /// Its name.
    pub fn name(self) -> &'static str {
        match self {
            Self::Source => "source",
            Self::Target => "target",
        }
    }

    /// Its address, of a range that is for examples: nobody outside these namespaces can have it.
    pub fn address(self) -> Ipv4Addr {
        match self {
            Self::Source => Ipv4Addr::new(192, 0, 2, 1),
            Self::Target => Ipv4Addr::new(192, 0, 2, 2),
        }
    }

    fn port(self) -> &'static str {
        match self {
            Self::Source => "p1",
            Self::Target => "p2",
        }
    }
}

/// What the network shall be.
#[derive(Debug, Clone)]
pub struct Plan {
    tag: String,
    link: Rate,
}

impl Plan {
    /// A network whose names begin with this process's number.
    pub fn new(process: u32, link: Rate) -> Self {
        Self { tag: format!("novabench{process}"), link }
    }

    /// The namespace of a host.
    pub fn namespace(&self, host: Host) -> String {
        format!("{}-{}", self.tag, host.name())
    }

    /// A host, as something that a line can end at.
    pub fn end(&self, host: Host) -> End {
        End { namespace: self.namespace(host), address: host.address() }
    }

    /// The command that runs a program on a host.
    pub fn enter(&self, host: Host) -> Argv {
        argv(&format!("ip netns exec {}", self.namespace(host)))
    }

    /// Makes it.
    pub fn create(&self) -> Vec<Argv> {
        let switch = self.switch();
        let mut lines = vec![
            format!("ip netns add {switch}"),
            format!("ip -n {switch} link add br0 type bridge"),
            format!("ip -n {switch} link set br0 up"),
        ];
        lines.extend(Host::ALL.into_iter().flat_map(|host| self.create_host(host)));
        lines.iter().map(|line| argv(line)).collect()
    }

    /// Removes it. Each command fails if its thing is already gone; that is no fault.
    pub fn remove(&self) -> Vec<Argv> {
        let hosts = Host::ALL.map(|host| self.namespace(host));
        let all = hosts.into_iter().chain([self.switch()]);
        all.map(|name| argv(&format!("ip netns del {name}"))).collect()
    }

    fn switch(&self) -> String {
        format!("{}-switch", self.tag)
    }

    fn create_host(&self, host: Host) -> Vec<String> {
        let (namespace, switch) = (self.namespace(host), self.switch());
        let (port, address) = (host.port(), host.address());
        vec![
            format!("ip netns add {namespace}"),
            format!(
                "ip link add {INTERFACE} netns {namespace} type veth peer name {port} netns {switch}"
            ),
            format!("ip -n {switch} link set {port} master br0 up"),
            format!("ip -n {namespace} link set lo up"),
            format!("ip -n {namespace} addr add {address}/24 dev {INTERFACE}"),
            format!("ip -n {namespace} link set {INTERFACE} up"),
            self.shape(&namespace, INTERFACE),
            self.shape(&switch, port),
        ]
    }

    fn shape(&self, namespace: &str, interface: &str) -> String {
        format!(
            "tc -n {namespace} qdisc replace dev {interface} root tbf rate {} burst {} limit {}",
            self.link,
            self.link.burst_bytes(),
            self.link.queue_bytes()
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn plan() -> Plan {
        Plan::new(7, "1gbit".parse().unwrap())
    }

    fn lines(commands: &[Argv]) -> Vec<String> {
        commands.iter().map(|command| command.join(" ")).collect()
    }

    #[test]
    fn both_ends_of_both_links_are_shaped() {
        let shaped: Vec<_> =
            lines(&plan().create()).into_iter().filter(|line| line.starts_with("tc ")).collect();
        let line = |place: &str| {
            format!("tc -n novabench7-{place} root tbf rate 1gbit burst 250000 limit 1500000")
        };
        assert_eq!(
            shaped,
            [
                "source qdisc replace dev eth0",
                "switch qdisc replace dev p1",
                "target qdisc replace dev eth0",
                "switch qdisc replace dev p2"
            ]
            .map(line)
        );
    }

    #[test]
    fn whatever_is_made_is_removed() {
        let removed = lines(&plan().remove());
        for line in lines(&plan().create()) {
            if let Some(namespace) = line.strip_prefix("ip netns add ") {
                assert!(removed.contains(&format!("ip netns del {namespace}")), "{namespace}");
            }
        }
        assert_eq!(plan().enter(Host::Target).join(" "), "ip netns exec novabench7-target");
    }
}
