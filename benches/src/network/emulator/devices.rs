//! The two ends of an emulated line: a TUN device in each host's namespace, and the way to the other host over it.
//! Everybody else is reached as before.

use std::net::Ipv4Addr;
use std::sync::atomic::{AtomicU32, Ordering};

use anyhow::{Context, Result};
use tappers::{Interface, Tun};

use crate::execute::{Argv, argv, execute_all};

/// The interface of the line in a host's namespace.
const INTERFACE: &str = "wan0";
/// Ethernet's, as the other links have.
pub const MTU_BYTES: usize = 1500;
/// Packets that the kernel keeps until they are read here: what a window of 15 MB sends at once. What the line's
/// queue cannot hold shall be dropped there, where it is counted.
const KERNEL_QUEUE_PACKETS: u32 = 10_000;

/// A host that a line is to end at.
#[derive(Debug, Clone)]
pub struct End {
    /// The host's namespace.
    pub namespace: String,
    /// The host's address there.
    pub address: Ipv4Addr,
}

/// Makes both devices and the ways over them. They go away when they are dropped.
pub fn create(ends: &[End; 2]) -> Result<[Tun; 2]> {
    let [one, other] = ends;
    Ok([device(one, other)?, device(other, one)?])
}

/// A device is made here and then moved: what is read from it and written to it is that namespace's from then on.
fn device(end: &End, peer: &End) -> Result<Tun> {
    let name = free_name();
    let make = || -> std::io::Result<Tun> {
        let mut device = Tun::new_named(Interface::new(&name)?)?;
        device.set_nonblocking(true)?;
        Ok(device)
    };
    let device = make().context("cannot make a TUN device")?;
    execute_all(&attach(&name, end, peer))?;
    Ok(device)
}

/// Interfaces have names of at most 15 letters; numbers of processes have at most 7 digits.
fn free_name() -> String {
    static MADE: AtomicU32 = AtomicU32::new(0);
    format!("nvl{}x{}", std::process::id(), MADE.fetch_add(1, Ordering::Relaxed) % 1000)
}

fn attach(device: &str, end: &End, peer: &End) -> Vec<Argv> {
    let End { namespace, address } = end;
    let lines = [
        format!("ip link set {device} netns {namespace} name {INTERFACE}"),
        // It carries nothing of its own accord.
        format!("ip -n {namespace} link set {INTERFACE} addrgenmode none"),
        format!(
            "ip -n {namespace} link set {INTERFACE} mtu {MTU_BYTES} txqueuelen {KERNEL_QUEUE_PACKETS} up"
        ),
        format!("ip -n {namespace} route add {}/32 dev {INTERFACE} src {address}", peer.address),
    ];
    lines.iter().map(|line| argv(line)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_other_host_is_reached_over_the_line() {
        let end = |namespace: &str, last| End {
            namespace: namespace.to_owned(),
            address: Ipv4Addr::new(192, 0, 2, last),
        };
        let commands = attach("nvl7x0", &end("one", 1), &end("two", 2));
        let routes: Vec<_> = commands
            .iter()
            .map(|command| command.join(" "))
            .filter(|line| line.contains(" route "))
            .collect();
        assert_eq!(routes, ["ip -n one route add 192.0.2.2/32 dev wan0 src 192.0.2.1"]);
        assert!(free_name().len() <= 15);
    }
}
