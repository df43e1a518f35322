//! The line, measured from both of its ends. Needs root for namespaces; without it there is nothing to measure.

use std::fs::File;
use std::net::{Ipv4Addr, UdpSocket};
use std::os::fd::AsFd;
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use rustix::net::sockopt;
use rustix::process::geteuid;
use rustix::thread::{LinkNameSpaceType, move_into_link_name_space};

use super::*;
use crate::execute::{argv, execute_all, execute_each};
use crate::network::line::tests::line;

const PORT: u16 = 7410;
/// Of every test packet, IP and UDP headers and the frame's included.
const PACKET_BYTES: usize = 1228 + 14;
/// For the buffers of sockets: all that a test sends.
const BUFFER_BYTES: usize = 64 << 20;
/// Nothing comes any more after this long.
const SILENCE: Duration = Duration::from_secs(1);

/// Two hosts and the line between them.
struct Hosts {
    emulator: Emulator,
    ends: [End; 2],
}

impl Hosts {
    fn joined_by(line: Line, test: &str) -> Option<Self> {
        if !geteuid().is_root() {
            eprintln!("not measured: namespaces need root");
            return None;
        }
        let ends = [1, 2].map(|last| End {
            namespace: format!("novaline-{test}-{last}-{}", std::process::id()),
            address: Ipv4Addr::new(192, 0, 2, last),
        });
        for End { namespace, address } in &ends {
            let lines = [
                format!("ip netns add {namespace}"),
                format!("ip -n {namespace} link set lo up"),
                format!("ip -n {namespace} addr add {address}/32 dev lo"),
            ];
            execute_all(&lines.map(|line| argv(&line))).unwrap();
        }
        Some(Self { emulator: Emulator::between(line, &ends).unwrap(), ends })
    }

    /// Does something on a host: a thread can be on another one than its process.
    fn on<T: Send + 'static>(
        &self,
        at: usize,
        work: impl FnOnce(UdpSocket) -> T + Send + 'static,
    ) -> JoinHandle<T> {
        let (End { namespace, address }, peer) = (self.ends[at].clone(), self.ends[1 - at].address);
        // Bound before this returns: what the other end sends then is received.
        let (bound, is_bound) = std::sync::mpsc::channel();
        let thread = thread::spawn(move || {
            let host = File::open(format!("/run/netns/{namespace}")).unwrap();
            move_into_link_name_space(host.as_fd(), Some(LinkNameSpaceType::Network)).unwrap();
            let socket = UdpSocket::bind((address, PORT)).unwrap();
            sockopt::set_socket_recv_buffer_size_force(&socket, BUFFER_BYTES).unwrap();
            sockopt::set_socket_send_buffer_size_force(&socket, BUFFER_BYTES).unwrap();
            socket.set_read_timeout(Some(SILENCE)).unwrap();
            socket.connect((peer, PORT)).unwrap();
            bound.send(()).unwrap();
            work(socket)
        });
        is_bound.recv().unwrap();
        thread
    }
}

impl Drop for Hosts {
    fn drop(&mut self) {
        execute_each(
            &self.ends.clone().map(|end| argv(&format!("ip netns del {}", end.namespace))),
        );
    }
}

/// Sends so many packets as fast as the line takes them.
fn flood(socket: &UdpSocket, packets: usize) {
    for _ in 0..packets {
        socket.send(&[0; 1200]).unwrap();
    }
}

/// When each packet came, until there is silence.
fn arrivals(socket: &UdpSocket) -> Vec<Instant> {
    let mut packet = [0; 1500];
    std::iter::from_fn(|| socket.recv(&mut packet).ok().map(|_| Instant::now())).collect()
}

#[test]
fn the_rate_is_right_within_a_twentieth() {
    const PACKETS: usize = 8000;
    let Some(hosts) = Hosts::joined_by(line("100mbit", "5ms", "0%", 1 << 30), "rate") else {
        return;
    };
    let receiver = hosts.on(1, |socket| arrivals(&socket));
    hosts.on(0, |socket| flood(&socket, PACKETS)).join().unwrap();
    let arrivals = receiver.join().unwrap();
    assert_eq!(arrivals.len(), PACKETS);
    let took = arrivals[PACKETS - 1] - arrivals[0];
    let megabits_per_second = ((PACKETS - 1) * PACKET_BYTES * 8) as f64 / took.as_secs_f64() / 1e6;
    assert!((95.0..105.0).contains(&megabits_per_second), "{megabits_per_second} Mbit/s");
    let counts = hosts.emulator.counter().counts().unwrap();
    assert_eq!(counts[0].packets as usize, PACKETS);
    assert_eq!(counts[0].bytes as usize, PACKETS * PACKET_BYTES);
}

#[test]
fn the_round_trip_is_right_within_two_milliseconds() {
    const PINGS: usize = 31;
    let Some(hosts) = Hosts::joined_by(line("100mbit", "20ms", "0%", 500_000), "delay") else {
        return;
    };
    let echo = hosts.on(1, |socket| {
        let mut packet = [0; 1500];
        for _ in 0..PINGS {
            let bytes = socket.recv(&mut packet).unwrap();
            socket.send(&packet[..bytes]).unwrap();
        }
    });
    let pinger = hosts.on(0, |socket| {
        let round_trip = || {
            let sent = Instant::now();
            socket.send(&[0; 64]).unwrap();
            socket.recv(&mut [0; 64]).unwrap();
            sent.elapsed().as_secs_f64() * 1000.0
        };
        let mut all: Vec<_> = (0..PINGS).map(|_| round_trip()).collect();
        all.sort_by(f64::total_cmp);
        all
    });
    let milliseconds = pinger.join().unwrap();
    echo.join().unwrap();
    // Never sooner; and the one in the middle knows nothing of what else the machine had to do.
    assert!(milliseconds[0] >= 40.0, "{milliseconds:?}");
    assert!(milliseconds[PINGS / 2] < 42.0, "{milliseconds:?}");
}

#[test]
fn as_many_are_lost_as_was_said_and_the_rest_arrives() {
    const PACKETS: usize = 10_000;
    let Some(hosts) = Hosts::joined_by(line("1gbit", "5ms", "5%", 1 << 30), "loss") else { return };
    let receiver = hosts.on(1, |socket| arrivals(&socket).len());
    hosts.on(0, |socket| flood(&socket, PACKETS)).join().unwrap();
    let arrived = receiver.join().unwrap();
    let counts = hosts.emulator.counter().counts().unwrap()[0];
    assert_eq!((counts.packets as usize, counts.dropped_packets), (PACKETS, 0));
    assert_eq!(arrived, PACKETS - counts.lost_packets as usize);
    // 500 are expected with a deviation of 22: four of these.
    assert!((413..=587).contains(&counts.lost_packets), "{counts:?}");
}

#[test]
fn a_full_queue_drops_and_says_so() {
    const PACKETS: usize = 2000;
    let Some(hosts) = Hosts::joined_by(line("10mbit", "5ms", "0%", 500_000), "queue") else {
        return;
    };
    let receiver = hosts.on(1, |socket| arrivals(&socket).len());
    hosts.on(0, |socket| flood(&socket, PACKETS)).join().unwrap();
    let arrived = receiver.join().unwrap();
    let counts = hosts.emulator.counter().counts().unwrap()[0];
    assert_eq!(counts.packets as usize + counts.dropped_packets as usize, PACKETS);
    assert_eq!(arrived, counts.packets as usize);
    assert!(counts.dropped_packets > 1000, "{counts:?}");
}
