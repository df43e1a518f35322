//! `novacron-benches goodput`: how much of a link a connection between two agents fills, and how old the bytes are when
//! they arrive. The same connection as a migration's, without anything else that could be the limit.

use std::fs::File;
use std::net::SocketAddr;
use std::os::fd::AsFd;
use std::process::ExitCode;
use std::thread;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use anyhow::{Context, Result, ensure};
use bytes::Bytes;
use novacron_protocol::ids::ClusterId;
use novacron_protocol::time::Timestamp;
use novacron_transport::authority::Grant;
use novacron_transport::settings::Congestion;
use novacron_transport::{
    CloseCode, ClusterAuthority, Connection, Credentials, Endpoint, ExpectedPeer, LinkSettings,
    Role,
};
use rustix::thread::{LinkNameSpaceType, move_into_link_name_space};
use tokio::runtime;
use tokio::task::JoinSet;

use crate::args::Goodput;
use crate::network::{Host, Network};

const PORT: u16 = 7410;
/// As a migration has lanes.
const STREAMS: usize = 2;
/// As large as batches of pages become.
const FRAME_BYTES: usize = 128 * 1024;
/// More than any path here holds.
const RECEIVE_WINDOW_BYTES: u32 = 64 << 20;
/// What is left out at the beginning: windows grow.
const WARM_UP: Duration = Duration::from_secs(1);

/// Measures and prints.
pub fn run(args: &Goodput) -> Result<ExitCode> {
    ensure!(
        rustix::process::geteuid().is_root(),
        "this needs root: the hosts are network namespaces"
    );
    println!("{}, {} s each, connections at once: {}", args.link, args.seconds, args.connections);
    println!(
        "| controller | send window KiB | Mbit/s | age of the bytes, ms: median | 95 % | round trip ms |"
    );
    println!("|---|---|---|---|---|---|");
    for congestion in [Congestion::Cubic, Congestion::Bbr] {
        for settings in settings(args, congestion) {
            let network = Network::create(&args.link, None)?;
            let found = measure(&network, args, &settings)?;
            println!("| {congestion} | {} | {found} |", settings.send_window_bytes / 1024);
        }
    }
    Ok(ExitCode::SUCCESS)
}

/// As agents have them, or with each of the windows asked for; the receiver's is never what limits.
fn settings(args: &Goodput, congestion: Congestion) -> Vec<LinkSettings> {
    let agents = LinkSettings { congestion, ..LinkSettings::migration() };
    let with = |kib: &u32| LinkSettings {
        send_window_bytes: kib * 1024,
        stream_receive_window_bytes: RECEIVE_WINDOW_BYTES,
        connection_receive_window_bytes: RECEIVE_WINDOW_BYTES,
        ..agents.clone()
    };
    if args.windows.is_empty() { vec![agents] } else { args.windows.iter().map(with).collect() }
}

/// Between two threads, each on its host.
fn measure(network: &Network, args: &Goodput, settings: &LinkSettings) -> Result<Found> {
    let count = args.connections;
    let authority = authority()?;
    let (source, target) = (member(&authority, "node-01")?, member(&authority, "node-02")?);
    let address = SocketAddr::from((Host::Target.address(), PORT));
    let namespace = |host| network.namespace(host);
    let (bound, is_bound) = std::sync::mpsc::channel();
    let time = Duration::from_secs(args.seconds);
    thread::scope(|scope| {
        let receiver = {
            let (settings, namespace) = (settings.clone(), namespace(Host::Target));
            scope.spawn(move || {
                on(&namespace, async {
                    let (endpoint, acceptor) =
                        Endpoint::bind(address, &target, &[Role::Agent], settings)?;
                    bound.send(())?;
                    receive(endpoint, acceptor, count).await
                })
            })
        };
        let namespace = namespace(Host::Source);
        let sender = scope.spawn(move || {
            is_bound.recv()?;
            on(&namespace, send_all(address, source, settings.clone(), count, time))
        });
        let round_trip = sender.join().ok().context("the sender failed")??;
        let arrivals = receiver.join().ok().context("the receiver failed")??;
        Found::of(arrivals, round_trip)
    })
}

/// Runs on a host: a thread can be on another one than its process.
fn on<T>(namespace: &str, work: impl Future<Output = Result<T>>) -> Result<T> {
    let host = File::open(format!("/run/netns/{namespace}")).context("the host's namespace")?;
    move_into_link_name_space(host.as_fd(), Some(LinkNameSpaceType::Network))?;
    runtime::Builder::new_current_thread().enable_all().build()?.block_on(work)
}

/// Over so many connections; the longest of their round trips.
async fn send_all(
    address: SocketAddr,
    source: Credentials,
    settings: LinkSettings,
    count: u8,
    time: Duration,
) -> Result<Duration> {
    let mut senders = JoinSet::new();
    for _ in 0..count {
        senders.spawn(send(address, source.clone(), settings.clone(), time));
    }
    let round_trips: Result<Vec<_>> = senders.join_all().await.into_iter().collect();
    round_trips?.into_iter().max().context("there was no connection")
}

async fn send(
    address: SocketAddr,
    source: Credentials,
    settings: LinkSettings,
    time: Duration,
) -> Result<Duration> {
    let any = SocketAddr::from(([0, 0, 0, 0], 0));
    let endpoint = Endpoint::client(any, &source, settings)?;
    let connection = endpoint.connect(address, &ExpectedPeer::any(Role::Agent)).await?;
    let mut senders = JoinSet::new();
    for _ in 0..STREAMS {
        senders.spawn(fill(connection.clone()));
    }
    tokio::time::sleep(time).await;
    senders.shutdown().await;
    let round_trip = connection.round_trip();
    connection.close(CloseCode::Done, "enough");
    endpoint.wait_idle().await;
    Ok(round_trip)
}

/// Writes frames that say when they were made.
async fn fill(connection: Connection) -> Result<()> {
    let stream = connection.open_uni().await?;
    let mut stream = novacron_transport::FramedSend::new(stream, FRAME_BYTES);
    loop {
        let mut frame = vec![0; FRAME_BYTES];
        frame[..8].copy_from_slice(&now_us().to_le_bytes());
        stream.send(Bytes::from(frame)).await?;
    }
}

/// When a frame came, how old it was then, in microseconds.
type Arrival = (Instant, u64);

async fn receive(
    endpoint: Endpoint,
    mut acceptor: novacron_transport::Acceptor,
    count: u8,
) -> Result<Vec<Arrival>> {
    let mut connections = JoinSet::new();
    for _ in 0..count {
        let connection = acceptor.accept().await.context("nobody came")?;
        connections.spawn(read_all(connection));
    }
    let arrivals = connections.join_all().await.concat();
    endpoint.close(CloseCode::Done, "enough");
    Ok(arrivals)
}

async fn read_all(connection: Connection) -> Vec<Arrival> {
    let mut streams = JoinSet::new();
    while let Ok(stream) = connection.accept_uni().await {
        streams.spawn(read(connection.framed(stream, FRAME_BYTES)));
    }
    streams.join_all().await.concat()
}

async fn read(
    mut stream: novacron_transport::FramedRecv<novacron_transport::connection::RecvStream>,
) -> Vec<Arrival> {
    let mut arrivals = Vec::new();
    // It ends with its connection.
    while let Ok(Some(frame)) = stream.receive().await {
        let made_us = frame.first_chunk().copied().map_or(0, u64::from_le_bytes);
        arrivals.push((Instant::now(), now_us().saturating_sub(made_us)));
    }
    arrivals
}

/// What was found.
struct Found {
    megabits_per_second: f64,
    age_ms: [f64; 2],
    round_trip: Duration,
}

impl Found {
    fn of(mut arrivals: Vec<Arrival>, round_trip: Duration) -> Result<Self> {
        let first = arrivals.iter().map(|(at, _)| *at).min().context("nothing came")?;
        arrivals.retain(|(at, _)| at.duration_since(first) >= WARM_UP);
        arrivals.sort();
        let (Some(first), Some(last)) = (arrivals.first(), arrivals.last()) else {
            anyhow::bail!("too little came");
        };
        let took = last.0.duration_since(first.0).as_secs_f64();
        let bits = ((arrivals.len() - 1) * FRAME_BYTES * 8) as f64;
        let mut ages: Vec<_> = arrivals.iter().map(|(_, age_us)| *age_us).collect();
        ages.sort_unstable();
        let age_ms = [50, 95].map(|percent| ages[(ages.len() - 1) * percent / 100] as f64 / 1000.0);
        Ok(Self { megabits_per_second: bits / took / 1e6, age_ms, round_trip })
    }
}

impl std::fmt::Display for Found {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Self { megabits_per_second, age_ms: [median, most], round_trip } = self;
        let round_trip_ms = round_trip.as_secs_f64() * 1000.0;
        write!(f, "{megabits_per_second:.1} | {median:.0} | {most:.0} | {round_trip_ms:.1}")
    }
}

fn authority() -> Result<ClusterAuthority> {
    // Any identity: the cluster is as old as this measurement.
    let number = (u128::from(now_us()) << 32) | u128::from(std::process::id());
    Ok(ClusterAuthority::create(ClusterId(uuid::Uuid::from_u128(number)), now())?)
}

fn member(authority: &ClusterAuthority, name: &str) -> Result<Credentials> {
    Ok(authority.issue(&Grant::new(Role::Agent, name.parse()?, now()))?)
}

fn now() -> Timestamp {
    Timestamp::from_unix_ms(now_us() / 1000)
}

fn now_us() -> u64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since.as_micros()).unwrap_or(u64::MAX)
}
