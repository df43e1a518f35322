//! Two QEMUs with disks, two agents' link between them, and somebody who writes.

use std::net::{Ipv4Addr, SocketAddr};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use novacron_agent::disk::nbd::NbdClient;
use novacron_agent::disk::{DiskEvent, DisksPlan, IncomingDisks, OutgoingDisks, Route};
use novacron_agent::migrate::relay::{Inlet, Inlets, Outlets};
use novacron_agent::qmp::{self, Qmp};
use novacron_agent::vm::Extents;
use novacron_protocol::disk::{DiskContent, RECORD_BYTES_MAX};
use novacron_protocol::ids::ClusterId;
use novacron_protocol::session::message::{DiskOffer, StreamHeader};
use novacron_protocol::time::Timestamp;
use novacron_protocol::vm::DiskFormat;
use novacron_protocol::wire::codec;
use novacron_transport::authority::Grant;
use novacron_transport::{
    Acceptor, CloseCode, ClusterAuthority, Connection, Credentials, Endpoint, ExpectedPeer,
    FramedRecv, LinkSettings, Role,
};
use quinn::RecvStream;
use serde_json::{Value, json};
use uuid::Uuid;

pub const MIB: u64 = 1 << 20;
pub const BLOCK_BYTES: u64 = 64 << 10;
pub const SEED: u64 = 7;
pub const PATIENCE: Duration = Duration::from_secs(60);

/// A QEMU that ends with the test.
pub struct Guest {
    pub process: Process,
    pub qmp: Qmp,
}

pub struct Process(pub Child);

impl Drop for Process {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

impl Guest {
    pub async fn quit(mut self) {
        self.qmp.quit().await.unwrap();
        self.process.0.wait().unwrap();
    }
}

pub async fn within<F: Future>(what: &str, future: F) -> F::Output {
    let outcome = tokio::time::timeout(PATIENCE, future).await;
    outcome.unwrap_or_else(|_| panic!("{what} takes more than {PATIENCE:?}"))
}

/// Disks of one end: a directory with `disk<i>` in them, and what QEMU is told of them.
pub struct Disks {
    pub directory: PathBuf,
    pub offers: Vec<DiskOffer>,
}

impl Disks {
    pub fn create(directory: PathBuf, offers: &[DiskOffer]) -> Self {
        std::fs::create_dir(&directory).unwrap();
        let disks = Self { directory, offers: offers.to_vec() };
        for (disk, offer) in offers.iter().enumerate() {
            let size = offer.size_bytes.to_string();
            run(Command::new("qemu-img")
                .args(["create", "-q", "-f", disks.format(disk)])
                .arg(disks.file(disk))
                .arg(size));
        }
        disks
    }

    pub fn format(&self, disk: usize) -> &'static str {
        match self.offers[disk].format {
            DiskFormat::Qcow2 => "qcow2",
            DiskFormat::Raw => "raw",
        }
    }

    pub fn file(&self, disk: usize) -> PathBuf {
        self.directory.join(format!("disk{disk}"))
    }

    pub async fn open_source(&self) -> Guest {
        self.open(&[], true).await
    }

    pub async fn open_target(&self) -> Guest {
        self.open(&["-incoming", "defer"], false).await
    }

    pub async fn open(&self, extra: &[&str], shared: bool) -> Guest {
        let socket = self.directory.join("qmp");
        let mut command = Command::new("qemu-system-x86_64");
        command
            .args(["-nodefaults", "-no-user-config", "-display", "none", "-accel", "tcg"])
            .args(["-machine", "q35", "-m", "64M", "-S"])
            .arg("-qmp")
            .arg(format!("unix:{},server=on,wait=off", socket.display()));
        for disk in 0..self.offers.len() {
            let file = json!({ "driver": "file", "filename": self.file(disk), "discard": "unmap" });
            let node = json!({
                "driver": self.format(disk), "node-name": format!("disk{disk}"), "file": file,
                "discard": "unmap", "detect-zeroes": "unmap",
            });
            // The source's disks are written by clients beside the device.
            let device = json!({
                "driver": "virtio-blk-pci", "drive": format!("disk{disk}"), "share-rw": shared,
            });
            command.args(["-blockdev", &node.to_string(), "-device", &device.to_string()]);
        }
        let process = command
            .args(extra)
            .stdin(Stdio::null())
            .spawn()
            .expect("qemu-system-x86_64 is needed: cargo xtask test installs it");
        let connect = async {
            loop {
                if let Ok(qmp) = qmp::connect(&socket, Duration::from_secs(5)).await {
                    return qmp;
                }
                tokio::task::yield_now().await;
            }
        };
        let process = Process(process);
        Guest { process, qmp: within("QEMU's start", connect).await }
    }
}

pub fn run(command: &mut Command) {
    let output = command.output().unwrap();
    let said = String::from_utf8_lossy(&output.stdout).into_owned()
        + &String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{command:?}: {said}");
}

pub fn assert_equal(source: &Disks, target: &Disks) {
    for disk in 0..source.offers.len() {
        run(Command::new("qemu-img")
            .args(["compare", "-f", source.format(disk), "-F", target.format(disk)])
            .args([source.file(disk), target.file(disk)]));
    }
}

/// Two agents' link.
pub struct Link {
    pub source: Endpoint,
    pub target: Endpoint,
    pub acceptor: Acceptor,
    pub to_target: Connection,
    pub to_source: Connection,
    pub outlets: Outlets,
    pub inlets: Inlets,
}

impl Link {
    /// Loses the connection and makes another, on which the streams go on.
    pub async fn break_and_mend(&mut self, streams: usize) {
        self.to_target.close(CloseCode::Done, "cut");
        self.outlets.detach();
        (self.to_target, self.to_source) =
            connect(&self.source, &self.target, &mut self.acceptor).await;
        let taken = self.inlets.next_connection();
        self.outlets.attach(self.to_target.clone(), &taken).await.unwrap();
        for _ in 0..streams {
            let (header, frames) = take_stream(&self.to_source).await;
            assert!(self.inlets.add(header, frames).unwrap().is_none(), "it is known");
        }
    }

    pub async fn take_disk(&mut self) -> (u16, Inlet) {
        take_disk(&self.to_source, &mut self.inlets).await
    }
}

/// The next disk stream of the source.
pub async fn take_disk(connection: &Connection, inlets: &mut Inlets) -> (u16, Inlet) {
    let (header, frames) = take_stream(connection).await;
    let StreamHeader::Disk { disk } = header else { panic!("unexpected {header:?}") };
    (disk, inlets.add(header, frames).unwrap().unwrap())
}

pub async fn connect(
    source: &Endpoint,
    target: &Endpoint,
    acceptor: &mut Acceptor,
) -> (Connection, Connection) {
    let address = target.local_address().unwrap();
    let expected = ExpectedPeer::any(Role::Agent);
    let (dialled, accepted) = tokio::join!(source.connect(address, &expected), acceptor.accept());
    (dialled.unwrap(), accepted.unwrap())
}

pub fn credentials(authority: &ClusterAuthority, name: &str) -> Credentials {
    let now = Timestamp::from_unix_ms(1_790_000_000_000);
    authority.issue(&Grant::new(Role::Agent, name.parse().unwrap(), now)).unwrap()
}

pub async fn connect_agents() -> Link {
    let now = Timestamp::from_unix_ms(1_790_000_000_000);
    let authority = ClusterAuthority::create(ClusterId(Uuid::from_u128(9)), now).unwrap();
    let loopback = SocketAddr::from((Ipv4Addr::LOCALHOST, 0));
    let settings = LinkSettings::migration();
    let target = credentials(&authority, "node-02");
    let (target, mut acceptor) =
        Endpoint::bind(loopback, &target, &[Role::Agent], settings.clone()).unwrap();
    let source = Endpoint::client(loopback, &credentials(&authority, "node-01"), settings).unwrap();
    let (to_target, to_source) = connect(&source, &target, &mut acceptor).await;
    let outlets = Outlets::begin(to_target.clone());
    let inlets = Inlets::default();
    Link { source, target, acceptor, to_target, to_source, outlets, inlets }
}

/// The next stream of the source.
pub async fn take_stream(connection: &Connection) -> (StreamHeader, FramedRecv<RecvStream>) {
    let stream = connection.accept_uni().await.unwrap();
    let mut frames = connection.framed(stream, RECORD_BYTES_MAX);
    let header = frames.receive().await.unwrap().unwrap();
    (codec::decode(&header).unwrap(), frames)
}

pub fn offers() -> Vec<DiskOffer> {
    vec![
        DiskOffer { size_bytes: 64 * MIB, format: DiskFormat::Qcow2 },
        DiskOffer { size_bytes: 20 * MIB, format: DiskFormat::Raw },
    ]
}

/// Numbers that look random and are the same in every run (SplitMix64).
pub struct Random(pub u64);

impl Random {
    pub fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mixed = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    pub fn bytes(&mut self, count: usize) -> Vec<u8> {
        (0..count.div_ceil(8)).flat_map(|_| self.next().to_le_bytes()).take(count).collect()
    }
}

/// A client of the source's own export of a disk, beside the guest.
pub type Writer = NbdClient<UnixStream>;

/// Exports the source's disks. Before the mirror starts, so that it sees the writes as it sees those of a device.
pub async fn writers(guest: &Guest, disks: &Disks) -> Vec<Writer> {
    let socket = disks.directory.join("w");
    guest.qmp.nbd_server_start(&socket).await.unwrap();
    let mut writers = Vec::new();
    for disk in 0..disks.offers.len() {
        let node = format!("disk{disk}");
        guest.qmp.block_export_add(&format!("writer{disk}"), &node).await.unwrap();
        let socket = socket.clone();
        let connected = tokio::task::spawn_blocking(move || Writer::connect(&socket, &node));
        writers.push(connected.await.unwrap().unwrap());
    }
    writers
}

/// Noise, text, zeros and holes.
pub fn fill(writer: &mut Writer, random: &mut Random) {
    let size = writer.size_bytes();
    writer.write(0, &random.bytes(9 * MIB as usize)).unwrap();
    writer.write(10 * MIB + 512, &b"to be or not to be ".repeat(50_000)).unwrap();
    writer.write(12 * MIB, &vec![0; 3 * MIB as usize]).unwrap();
    writer.write(size - 3 * BLOCK_BYTES, &random.bytes(3 * BLOCK_BYTES as usize)).unwrap();
    writer.write_zeroes(MIB, BLOCK_BYTES as u32).unwrap();
}

/// Small writes all over.
pub fn disturb(writer: &mut Writer, random: &mut Random) {
    for _ in 0..20 {
        let offset = random.next() % (writer.size_bytes() - MIB) / 512 * 512;
        match random.next() % 4 {
            0 => writer.write_zeroes(offset, 128 << 10).unwrap(),
            1 => writer.write(offset, &vec![0x55; 70_000 / 512 * 512]).unwrap(),
            _ => writer.write(offset, &random.bytes(4096)).unwrap(),
        }
    }
}

/// One disk that [`fill`] fits on.
pub fn one_offer() -> Vec<DiskOffer> {
    vec![DiskOffer { size_bytes: 16 * MIB, format: DiskFormat::Raw }]
}

pub async fn node_names(qmp: &Qmp) -> Vec<String> {
    #[derive(serde::Serialize)]
    struct Query {}
    impl qmp::Command for Query {
        const NAME: &'static str = "query-named-block-nodes";
        type Answer = Value;
    }
    let nodes = qmp.execute(&Query {}).await.unwrap();
    let nodes = nodes.as_array().unwrap().iter();
    nodes.map(|node| node["node-name"].as_str().unwrap().to_owned()).collect()
}

/// Nothing of a mirror is left.
pub async fn assert_clean(guest: &Guest, disks: &Disks) {
    assert_eq!(guest.qmp.block_jobs().await.unwrap(), []);
    let names = node_names(&guest.qmp).await;
    assert!(!names.iter().any(|name| name.starts_with("mirror")), "{names:?}");
    assert!(!disks.directory.join("d0.sock").exists());
}

/// A source with filled disks, closed and opened again, and a directory for the target.
pub async fn filled_source(directory: &Path, offers: &[DiskOffer]) -> Disks {
    let source = Disks::create(directory.join("source"), offers);
    let guest = source.open_source().await;
    let writers = writers(&guest, &source).await;
    let filled = tokio::task::spawn_blocking(move || {
        for (mut writer, seed) in writers.into_iter().zip(1..) {
            fill(&mut writer, &mut Random(seed));
            writer.flush().unwrap();
            writer.disconnect().unwrap();
        }
    });
    filled.await.unwrap();
    guest.quit().await;
    source
}

/// Starts to mirror the source's disks, while the target takes the streams.
pub async fn start(
    guest: &Guest,
    disks: &Disks,
    link: &mut Link,
    incoming: &mut IncomingDisks,
) -> OutgoingDisks {
    let held: Vec<_> = incoming.pieces().collect();
    let Link { outlets, inlets, to_source, .. } = link;
    let accept = async {
        for _ in 0..disks.offers.len() {
            assert!(!incoming.have_begun(), "a stream is still to come");
            let (disk, inlet) = take_disk(to_source, inlets).await;
            incoming.add_disk(disk, inlet).unwrap();
        }
        assert!(incoming.have_begun());
    };
    let start = start_known(guest, disks, &held, outlets);
    within("starting", async { tokio::join!(start, accept) }).await.0
}

/// The same when nobody is there to take them.
pub async fn start_alone(guest: &Guest, disks: &Disks, link: &mut Link) -> OutgoingDisks {
    start_known(guest, disks, &[], &mut link.outlets).await
}

/// The same of what the target says that it holds.
async fn start_known(
    guest: &Guest,
    disks: &Disks,
    held: &[(u16, Vec<u8>)],
    outlets: &mut Outlets,
) -> OutgoingDisks {
    let blank = |offer: &DiskOffer| DiskContent::new(offer.size_bytes, SEED).unwrap();
    let mut contents: Vec<DiskContent> = disks.offers.iter().map(blank).collect();
    for (disk, piece) in held {
        contents[usize::from(*disk)].begin_with(piece).unwrap();
    }
    let route = Route {
        run_directory: &disks.directory,
        link_patience: PATIENCE,
        compression_level: 1,
        processor_percent_max: 100,
    };
    let started = OutgoingDisks::start(&guest.qmp, contents, route, outlets);
    within("starting", started).await.unwrap()
}

pub async fn begin(
    guest: &Guest,
    disks: &Disks,
) -> (IncomingDisks, tokio::sync::mpsc::Receiver<DiskEvent>) {
    begin_holding(guest, disks, Vec::new()).await
}

/// The same with disks that hold something in these places.
pub async fn begin_holding(
    guest: &Guest,
    disks: &Disks,
    held: Vec<Extents>,
) -> (IncomingDisks, tokio::sync::mpsc::Receiver<DiskEvent>) {
    let begun = IncomingDisks::begin(&guest.qmp, plan(disks, &disks.offers, held));
    within("exporting", begun).await.unwrap()
}

pub fn plan(disks: &Disks, offers: &[DiskOffer], held: Vec<Extents>) -> DisksPlan {
    let run_directory = disks.directory.clone();
    DisksPlan { run_directory, disks: offers.to_vec(), held, hash_seed: SEED }
}
/// Waits until the source has begun to send.
pub async fn until_sending(outgoing: &OutgoingDisks) {
    let counters = outgoing.counters();
    within("sending", async {
        while counters.bytes_wire() < MIB {
            tokio::task::yield_now().await;
        }
    })
    .await;
}
