//! Disks go from one real QEMU to another through the mirror, over real QUIC, while somebody writes to them.
//!
//! The guests are empty: what writes is a client of the source's own NBD export, which takes the same way through
//! QEMU's block layer as a guest's device. A booted guest that writes moves in the end-to-end tests.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on fails")]

use std::net::{Ipv4Addr, SocketAddr};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use novacron_agent::disk::nbd::NbdClient;
use novacron_agent::disk::{DiskError, DiskEvent, DisksPlan, IncomingDisks, OutgoingDisks, Route};
use novacron_agent::migrate::relay::{Inlet, Inlets, Outlets};
use novacron_agent::qmp::{self, Capability, MigrateStatus, Qmp, RunState};
use novacron_agent::vm::Extents;
use novacron_agent::vm::image::DiskMaker;
use novacron_protocol::disk::{DiskContent, RECORD_BYTES_MAX, Record, RecordEncoder, RunContent};
use novacron_protocol::ids::ClusterId;
use novacron_protocol::pages::Compression;
use novacron_protocol::session::message::{DiskOffer, StreamHeader};
use novacron_protocol::time::Timestamp;
use novacron_protocol::vm::DiskFormat;
use novacron_protocol::wire::codec;
use novacron_transport::authority::Grant;
use novacron_transport::{
    Acceptor, CloseCode, ClusterAuthority, Connection, Credentials, Endpoint, ExpectedPeer,
    FramedRecv, FramedSend, LinkSettings, Role,
};
use quinn::RecvStream;
use serde_json::{Value, json};
use uuid::Uuid;

const MIB: u64 = 1 << 20;
const BLOCK_BYTES: u64 = 64 << 10;
const SEED: u64 = 7;
const PATIENCE: Duration = Duration::from_secs(60);

/// A QEMU that ends with the test.
struct Guest {
    process: Process,
    qmp: Qmp,
}

struct Process(Child);

impl Drop for Process {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

impl Guest {
    async fn quit(mut self) {
        self.qmp.quit().await.unwrap();
        self.process.0.wait().unwrap();
    }
}

async fn within<F: Future>(what: &str, future: F) -> F::Output {
    let outcome = tokio::time::timeout(PATIENCE, future).await;
    outcome.unwrap_or_else(|_| panic!("{what} takes more than {PATIENCE:?}"))
}

/// Disks of one end: a directory with `disk<i>` in them, and what QEMU is told of them.
struct Disks {
    directory: PathBuf,
    offers: Vec<DiskOffer>,
}

impl Disks {
    fn create(directory: PathBuf, offers: &[DiskOffer]) -> Self {
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

    fn format(&self, disk: usize) -> &'static str {
        match self.offers[disk].format {
            DiskFormat::Qcow2 => "qcow2",
            DiskFormat::Raw => "raw",
        }
    }

    fn file(&self, disk: usize) -> PathBuf {
        self.directory.join(format!("disk{disk}"))
    }

    async fn open_source(&self) -> Guest {
        self.open(&[], true).await
    }

    async fn open_target(&self) -> Guest {
        self.open(&["-incoming", "defer"], false).await
    }

    async fn open(&self, extra: &[&str], shared: bool) -> Guest {
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

fn run(command: &mut Command) {
    let output = command.output().unwrap();
    let said = String::from_utf8_lossy(&output.stdout).into_owned()
        + &String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{command:?}: {said}");
}

fn assert_equal(source: &Disks, target: &Disks) {
    for disk in 0..source.offers.len() {
        run(Command::new("qemu-img")
            .args(["compare", "-f", source.format(disk), "-F", target.format(disk)])
            .args([source.file(disk), target.file(disk)]));
    }
}

/// Two agents' link.
struct Link {
    source: Endpoint,
    target: Endpoint,
    acceptor: Acceptor,
    to_target: Connection,
    to_source: Connection,
    outlets: Outlets,
    inlets: Inlets,
}

impl Link {
    /// Loses the connection and makes another, on which the streams go on.
    async fn break_and_mend(&mut self, streams: usize) {
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

    async fn take_disk(&mut self) -> (u16, Inlet) {
        take_disk(&self.to_source, &mut self.inlets).await
    }
}

/// The next disk stream of the source.
async fn take_disk(connection: &Connection, inlets: &mut Inlets) -> (u16, Inlet) {
    let (header, frames) = take_stream(connection).await;
    let StreamHeader::Disk { disk } = header else { panic!("unexpected {header:?}") };
    (disk, inlets.add(header, frames).unwrap().unwrap())
}

async fn connect(
    source: &Endpoint,
    target: &Endpoint,
    acceptor: &mut Acceptor,
) -> (Connection, Connection) {
    let address = target.local_address().unwrap();
    let expected = ExpectedPeer::any(Role::Agent);
    let (dialled, accepted) = tokio::join!(source.connect(address, &expected), acceptor.accept());
    (dialled.unwrap(), accepted.unwrap())
}

fn credentials(authority: &ClusterAuthority, name: &str) -> Credentials {
    let now = Timestamp::from_unix_ms(1_790_000_000_000);
    authority.issue(&Grant::new(Role::Agent, name.parse().unwrap(), now)).unwrap()
}

async fn connect_agents() -> Link {
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
async fn take_stream(connection: &Connection) -> (StreamHeader, FramedRecv<RecvStream>) {
    let stream = connection.accept_uni().await.unwrap();
    let mut frames = connection.framed(stream, RECORD_BYTES_MAX);
    let header = frames.receive().await.unwrap().unwrap();
    (codec::decode(&header).unwrap(), frames)
}

fn offers() -> Vec<DiskOffer> {
    vec![
        DiskOffer { size_bytes: 64 * MIB, format: DiskFormat::Qcow2 },
        DiskOffer { size_bytes: 20 * MIB, format: DiskFormat::Raw },
    ]
}

/// Numbers that look random and are the same in every run (SplitMix64).
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mixed = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    fn bytes(&mut self, count: usize) -> Vec<u8> {
        (0..count.div_ceil(8)).flat_map(|_| self.next().to_le_bytes()).take(count).collect()
    }
}

/// A client of the source's own export of a disk, beside the guest.
type Writer = NbdClient<UnixStream>;

/// Exports the source's disks. Before the mirror starts, so that it sees the writes as it sees those of a device.
async fn writers(guest: &Guest, disks: &Disks) -> Vec<Writer> {
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
fn fill(writer: &mut Writer, random: &mut Random) {
    let size = writer.size_bytes();
    writer.write(0, &random.bytes(9 * MIB as usize)).unwrap();
    writer.write(10 * MIB + 512, &b"to be or not to be ".repeat(50_000)).unwrap();
    writer.write(12 * MIB, &vec![0; 3 * MIB as usize]).unwrap();
    writer.write(size - 3 * BLOCK_BYTES, &random.bytes(3 * BLOCK_BYTES as usize)).unwrap();
    writer.write_zeroes(MIB, BLOCK_BYTES as u32).unwrap();
}

/// Small writes all over.
fn disturb(writer: &mut Writer, random: &mut Random) {
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
fn one_offer() -> Vec<DiskOffer> {
    vec![DiskOffer { size_bytes: 16 * MIB, format: DiskFormat::Raw }]
}

async fn node_names(qmp: &Qmp) -> Vec<String> {
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
async fn assert_clean(guest: &Guest, disks: &Disks) {
    assert_eq!(guest.qmp.block_jobs().await.unwrap(), []);
    let names = node_names(&guest.qmp).await;
    assert!(!names.iter().any(|name| name.starts_with("mirror")), "{names:?}");
    assert!(!disks.directory.join("d0.sock").exists());
}

/// A source with filled disks, closed and opened again, and a directory for the target.
async fn filled_source(directory: &Path, offers: &[DiskOffer]) -> Disks {
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
async fn start(
    guest: &Guest,
    disks: &Disks,
    link: &mut Link,
    incoming: &mut IncomingDisks,
) -> OutgoingDisks {
    let Link { outlets, inlets, to_source, .. } = link;
    let accept = async {
        for _ in 0..disks.offers.len() {
            let (disk, inlet) = take_disk(to_source, inlets).await;
            incoming.add_disk(disk, inlet).unwrap();
        }
    };
    let start = start_over(guest, disks, outlets);
    within("starting", async { tokio::join!(start, accept) }).await.0
}

/// The same when nobody is there to take them.
async fn start_alone(guest: &Guest, disks: &Disks, link: &mut Link) -> OutgoingDisks {
    start_over(guest, disks, &mut link.outlets).await
}

async fn start_over(guest: &Guest, disks: &Disks, outlets: &mut Outlets) -> OutgoingDisks {
    start_known(guest, disks, &[], outlets).await
}

/// The same, with what the target says that it holds.
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

async fn begin(
    guest: &Guest,
    disks: &Disks,
) -> (IncomingDisks, tokio::sync::mpsc::Receiver<DiskEvent>) {
    begin_holding(guest, disks, Vec::new()).await
}

/// The same with disks that hold something in these places.
async fn begin_holding(
    guest: &Guest,
    disks: &Disks,
    held: Vec<Extents>,
) -> (IncomingDisks, tokio::sync::mpsc::Receiver<DiskEvent>) {
    let begun = IncomingDisks::begin(&guest.qmp, plan(disks, &disks.offers, held));
    within("exporting", begun).await.unwrap()
}

fn plan(disks: &Disks, offers: &[DiskOffer], held: Vec<Extents>) -> DisksPlan {
    let run_directory = disks.directory.clone();
    DisksPlan { run_directory, disks: offers.to_vec(), held, hash_seed: SEED }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn disks_that_are_being_written_arrive_equal() {
    let directory = tempfile::tempdir().unwrap();
    let source = filled_source(directory.path(), &offers()).await;
    let target = Disks::create(directory.path().join("target"), &offers());
    let at_source = source.open_source().await;
    let at_target = target.open_target().await;
    let mut link = connect_agents().await;
    let (mut incoming, mut events) = begin(&at_target, &target).await;

    let mut writers = writers(&at_source, &source).await;
    let outgoing = start(&at_source, &source, &mut link, &mut incoming).await;
    let counters = outgoing.counters();
    let disturbed = tokio::task::spawn_blocking(move || {
        let mut random = Random(100);
        // While the disks are copied, and as long as that is certain to take.
        while counters.bytes_disk() < 12 * MIB {
            writers.iter_mut().for_each(|writer| disturb(writer, &mut random));
        }
        writers
    });
    let mut writers = within("writing", disturbed).await.unwrap();
    within("copying", outgoing.wait_ready()).await.unwrap();
    let progress = outgoing.progress().await.unwrap();
    assert!(progress.done_bytes > 12 * MIB && progress.total_bytes >= progress.done_bytes);

    // And when they are kept in step. Then a guest would be stopped.
    let disturbed = tokio::task::spawn_blocking(move || {
        writers.iter_mut().for_each(|writer| disturb(writer, &mut Random(101)));
        writers.into_iter().try_for_each(Writer::disconnect)
    });
    disturbed.await.unwrap().unwrap();
    let sent = within("completing", outgoing.complete()).await.unwrap();
    let applied = within("finishing", incoming.finish()).await.unwrap();
    assert_eq!(sent, applied);
    assert!(sent.len() == 2 && sent[0] != [0; 16] && sent[0] != sent[1]);
    assert!(incoming.records_applied() > 0 && events.try_recv().is_err());
    assert_clean(&at_source, &source).await;

    let counters = outgoing.counters();
    assert_eq!(counters.bytes_total(), 84 * MIB);
    assert!(counters.bytes_wire() < counters.bytes_sent(), "{counters:?}");
    assert!(counters.bytes_sent() <= counters.bytes_disk(), "{counters:?}");

    // Taken back after all: nothing is left to abandon.
    outgoing.abandon().await;
    at_source.quit().await;
    at_target.quit().await;
    assert_equal(&source, &target);
}

async fn until(qmp: &Qmp, wanted: MigrateStatus) {
    let reached = async {
        loop {
            let info = qmp.migration().await.unwrap();
            if info.status == wanted {
                return;
            }
            assert!(info.status != MigrateStatus::Failed, "failed: {info:?}");
            tokio::task::yield_now().await;
        }
    };
    within(&format!("reaching {wanted:?}"), reached).await;
}

/// The order of things with a guest that runs; its memory takes QEMU's own way here.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_running_guest_moves_with_its_disks() {
    let directory = tempfile::tempdir().unwrap();
    let source = filled_source(directory.path(), &offers()).await;
    let target = Disks::create(directory.path().join("target"), &offers());
    let at_source = source.open_source().await;
    let at_target = target.open_target().await;
    at_source.qmp.cont().await.unwrap();
    let mut link = connect_agents().await;
    let (mut incoming, _events) = begin(&at_target, &target).await;
    let outgoing = start(&at_source, &source, &mut link, &mut incoming).await;
    within("copying", outgoing.wait_ready()).await.unwrap();

    let capabilities = [(Capability::ReturnPath, true), (Capability::Events, true)];
    at_target.qmp.set_capabilities(&capabilities).await.unwrap();
    at_source.qmp.set_capabilities(&capabilities).await.unwrap();
    let pause = [(Capability::PauseBeforeSwitchover, true)];
    at_source.qmp.set_capabilities(&pause).await.unwrap();
    let socket = directory.path().join("m");
    at_target.qmp.migrate_incoming(&socket).await.unwrap();
    at_source.qmp.migrate(&socket).await.unwrap();
    until(&at_source.qmp, MigrateStatus::PreSwitchover).await;
    let sent = within("completing", outgoing.complete()).await.unwrap();
    assert_clean(&at_source, &source).await;
    at_source.qmp.migrate_continue().await.unwrap();
    until(&at_source.qmp, MigrateStatus::Completed).await;
    assert_eq!(within("finishing", incoming.finish()).await.unwrap(), sent);

    at_target.qmp.cont().await.unwrap();
    assert_eq!(at_target.qmp.status().await.unwrap().status, RunState::Running);
    at_source.quit().await;
    at_target.quit().await;
    assert_equal(&source, &target);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_empty_disk_costs_next_to_nothing() {
    let directory = tempfile::tempdir().unwrap();
    let offers = [DiskOffer { size_bytes: 20 << 30, format: DiskFormat::Qcow2 }];
    let source = Disks::create(directory.path().join("source"), &offers);
    let target = Disks::create(directory.path().join("target"), &offers);
    let (at_source, at_target) = (source.open_source().await, target.open_target().await);
    let mut link = connect_agents().await;
    let (mut incoming, _events) = begin(&at_target, &target).await;
    let outgoing = start(&at_source, &source, &mut link, &mut incoming).await;
    within("copying", outgoing.wait_ready()).await.unwrap();
    let sent = within("completing", outgoing.complete()).await.unwrap();
    assert_eq!(within("finishing", incoming.finish()).await.unwrap(), sent);
    assert_eq!((sent, incoming.records_applied()), (vec![[0; 16]], 0));
    assert_eq!(outgoing.counters().bytes_wire(), 0);
}

/// Bytes that a file takes on the host.
fn allocated_bytes(file: &Path) -> u64 {
    use std::os::unix::fs::MetadataExt;
    std::fs::metadata(file).unwrap().blocks() * 512
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn holes_and_what_was_discarded_cost_nothing() {
    let directory = tempfile::tempdir().unwrap();
    let offer = |format| DiskOffer { size_bytes: 8 << 30, format };
    let offers = [offer(DiskFormat::Qcow2), offer(DiskFormat::Raw)];
    let source = filled_source(directory.path(), &offers).await;
    let target = Disks::create(directory.path().join("target"), &offers);
    let (at_source, at_target) = (source.open_source().await, target.open_target().await);
    let discard = writers(&at_source, &source).await.into_iter().map(|mut writer| {
        tokio::task::spawn_blocking(move || {
            // All but the last block of what `fill` wrote.
            writer.write_zeroes(0, 13 << 20).unwrap();
            writer.write_zeroes(writer.size_bytes() - 3 * BLOCK_BYTES, 128 << 10).unwrap();
            writer.disconnect().unwrap();
        })
    });
    for discarded in discard {
        discarded.await.unwrap();
    }
    let mut link = connect_agents().await;
    let (mut incoming, _events) = begin(&at_target, &target).await;
    let outgoing = start(&at_source, &source, &mut link, &mut incoming).await;
    within("copying", outgoing.wait_ready()).await.unwrap();
    let sent = within("completing", outgoing.complete()).await.unwrap();
    assert_eq!(within("finishing", incoming.finish()).await.unwrap(), sent);
    let wire_bytes = outgoing.counters().bytes_wire();
    assert!(wire_bytes <= 2 * (BLOCK_BYTES + 64), "{wire_bytes} bytes for two blocks");
    at_source.quit().await;
    at_target.quit().await;
    for disk in 0..offers.len() {
        let bytes = allocated_bytes(&target.file(disk));
        assert!(bytes < MIB, "{bytes} bytes are taken by disk {disk}");
    }
    assert_equal(&source, &target);
}

/// Waits until the source has begun to send.
async fn until_sending(outgoing: &OutgoingDisks) {
    let counters = outgoing.counters();
    within("sending", async {
        while counters.bytes_wire() < MIB {
            tokio::task::yield_now().await;
        }
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_target_that_stands_still_is_abandoned_at_once() {
    let directory = tempfile::tempdir().unwrap();
    let source = filled_source(directory.path(), &one_offer()).await;
    let at_source = source.open_source().await;
    let mut link = connect_agents().await;
    let outgoing = start_alone(&at_source, &source, &mut link).await;
    until_sending(&outgoing).await;
    assert!(matches!(outgoing.complete().await, Err(DiskError::NotReady { .. })));

    // QEMU waits for its mirror's writes here, and is deaf.
    let qmp = at_source.qmp.clone();
    let stopping = tokio::spawn(async move { qmp.stop().await });
    let begun = Instant::now();
    within("abandoning", outgoing.abandon()).await;
    within("stopping", stopping).await.unwrap().unwrap();
    assert!(begun.elapsed() < Duration::from_secs(5), "it took {:?}", begun.elapsed());
    assert_clean(&at_source, &source).await;
    outgoing.abandon().await;
    assert!(matches!(outgoing.wait_ready().await, Err(DiskError::Failed { .. })));
}

/// A mirror that is under way must not keep QEMU from starting the next one, whoever takes its stream or does not.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn several_mirrors_start_while_nobody_takes_their_streams() {
    let directory = tempfile::tempdir().unwrap();
    let source = filled_source(directory.path(), &offers()).await;
    let at_source = source.open_source().await;
    let mut link = connect_agents().await;
    let begun = Instant::now();
    let outgoing = start_alone(&at_source, &source, &mut link).await;
    assert!(begun.elapsed() < Duration::from_secs(5), "it took {:?}", begun.elapsed());
    within("abandoning", outgoing.abandon()).await;
    assert_clean(&at_source, &source).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_disk_that_fails_when_it_is_in_step_is_noticed_at_once() {
    let directory = tempfile::tempdir().unwrap();
    let source = filled_source(directory.path(), &one_offer()).await;
    let target = Disks::create(directory.path().join("target"), &one_offer());
    let (at_source, at_target) = (source.open_source().await, target.open_target().await);
    let mut link = connect_agents().await;
    let (mut incoming, _events) = begin(&at_target, &target).await;
    let mut writers = writers(&at_source, &source).await;
    let outgoing = start(&at_source, &source, &mut link, &mut incoming).await;
    within("copying", outgoing.wait_ready()).await.unwrap();
    link.outlets.end();
    // It shows with the next write.
    let write = move || writers[0].write(0, &[1; 512]);
    tokio::task::spawn_blocking(write).await.unwrap().unwrap();
    let failure = within("failing", outgoing.failure()).await;
    assert!(matches!(failure, Some(DiskError::Failed { disk: 0, .. })), "{failure:?}");
    outgoing.abandon().await;
    assert!(outgoing.failure().await.is_none(), "it is over");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_migration_that_ends_fails_the_mirror_and_a_second_attempt_succeeds() {
    let directory = tempfile::tempdir().unwrap();
    let source = filled_source(directory.path(), &one_offer()).await;
    let at_source = source.open_source().await;
    let mut link = connect_agents().await;
    let outgoing = start_alone(&at_source, &source, &mut link).await;
    let (_, mut inlet) = link.take_disk().await;
    for _ in 0..3 {
        inlet.receive().await.unwrap().unwrap();
    }
    link.outlets.end();
    let failure = within("failing", outgoing.wait_ready()).await;
    assert!(matches!(failure, Err(DiskError::Failed { disk: 0, .. })), "{failure:?}");
    // As if the agent had died: only the sockets are closed, and QEMU is left with what it has.
    drop(outgoing);

    let target = Disks::create(directory.path().join("target"), &one_offer());
    let at_target = target.open_target().await;
    let mut link = connect_agents().await;
    let (mut incoming, _events) = begin(&at_target, &target).await;
    let outgoing = start(&at_source, &source, &mut link, &mut incoming).await;
    within("copying", outgoing.wait_ready()).await.unwrap();
    let sent = within("completing", outgoing.complete()).await.unwrap();
    assert_eq!(within("finishing", incoming.finish()).await.unwrap(), sent);
    assert_clean(&at_source, &source).await;
    at_source.quit().await;
    at_target.quit().await;
    assert_equal(&source, &target);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn connections_that_are_lost_are_outlived() {
    let directory = tempfile::tempdir().unwrap();
    let source = filled_source(directory.path(), &offers()).await;
    let target = Disks::create(directory.path().join("target"), &offers());
    let (at_source, at_target) = (source.open_source().await, target.open_target().await);
    let mut link = connect_agents().await;
    let (mut incoming, _events) = begin(&at_target, &target).await;
    let mut writers = writers(&at_source, &source).await;
    let outgoing = start(&at_source, &source, &mut link, &mut incoming).await;
    // In the middle of copying…
    until_sending(&outgoing).await;
    link.break_and_mend(2).await;
    within("copying", outgoing.wait_ready()).await.unwrap();
    // … and when the disks are kept in step.
    link.break_and_mend(2).await;
    let disturbed = tokio::task::spawn_blocking(move || {
        writers.iter_mut().for_each(|writer| disturb(writer, &mut Random(102)));
        writers.into_iter().try_for_each(Writer::disconnect)
    });
    disturbed.await.unwrap().unwrap();
    let sent = within("completing", outgoing.complete()).await.unwrap();
    link.break_and_mend(2).await;
    assert_eq!(within("finishing", incoming.finish()).await.unwrap(), sent);
    assert_clean(&at_source, &source).await;
    at_source.quit().await;
    at_target.quit().await;
    assert_equal(&source, &target);
}

/// Disks that begin as the source's once were: an image, or what an earlier visit left behind.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_the_target_holds_already_is_not_sent() {
    let directory = tempfile::tempdir().unwrap();
    let source = filled_source(directory.path(), &offers()).await;
    let target = Disks::create(directory.path().join("target"), &offers());
    for disk in 0..offers().len() {
        std::fs::copy(source.file(disk), target.file(disk)).unwrap();
    }
    let maker = DiskMaker { qemu_img: "qemu-img".into(), images: PathBuf::new() };
    let mut extents = Vec::new();
    for disk in 0..offers().len() {
        let format = target.offers[disk].format;
        extents.push(maker.extents(&target.file(disk), format).await.unwrap());
    }
    let (at_source, at_target) = (source.open_source().await, target.open_target().await);
    let mut link = connect_agents().await;
    let (mut incoming, _events) = begin_holding(&at_target, &target, extents).await;
    let held: Vec<_> = incoming.pieces().collect();
    assert!(!held.is_empty());

    // Since then something was written, and something was discarded that the target still has.
    let mut writers = writers(&at_source, &source).await;
    let change = tokio::task::spawn_blocking(move || {
        for writer in &mut writers {
            writer.write(5 * MIB, &[0xaa; 4096]).unwrap();
            writer.write_zeroes(2 * MIB, 1 << 20).unwrap();
        }
        writers
    });
    let mut writers = change.await.unwrap();
    let Link { outlets, inlets, to_source, .. } = &mut link;
    let accept = async {
        for _ in 0..offers().len() {
            let (disk, inlet) = take_disk(to_source, inlets).await;
            incoming.add_disk(disk, inlet).unwrap();
        }
    };
    let start = start_known(&at_source, &source, &held, outlets);
    let (outgoing, ()) = tokio::join!(start, accept);
    within("copying", outgoing.wait_ready()).await.unwrap();
    let wire_bytes = outgoing.counters().bytes_wire();
    println!("{wire_bytes} bytes for two blocks and two holes");
    assert!(wire_bytes < 4 * BLOCK_BYTES, "{wire_bytes} bytes for two blocks and two holes");
    let disturbed = tokio::task::spawn_blocking(move || {
        writers.iter_mut().for_each(|writer| disturb(writer, &mut Random(103)));
        writers.into_iter().try_for_each(Writer::disconnect)
    });
    disturbed.await.unwrap().unwrap();
    let sent = within("completing", outgoing.complete()).await.unwrap();
    assert_eq!(within("finishing", incoming.finish()).await.unwrap(), sent);
    at_source.quit().await;
    at_target.quit().await;
    assert_equal(&source, &target);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_qemu_that_dies_fails_its_mirror() {
    let directory = tempfile::tempdir().unwrap();
    let source = filled_source(directory.path(), &one_offer()).await;
    let mut at_source = source.open_source().await;
    let mut link = connect_agents().await;
    let outgoing = start_alone(&at_source, &source, &mut link).await;
    until_sending(&outgoing).await;
    at_source.process.0.kill().unwrap();
    assert!(within("failing", outgoing.wait_ready()).await.is_err());
    let begun = Instant::now();
    outgoing.abandon().await;
    assert!(begun.elapsed() < Duration::from_secs(5), "it took {:?}", begun.elapsed());
}

/// A stream with these frames, as a source would open it.
async fn send_frames(link: &Link, disk: u16, frames: &[Vec<u8>]) -> FramedSend<quinn::SendStream> {
    let stream = link.to_target.open_uni().await.unwrap();
    let mut stream = FramedSend::new(stream, RECORD_BYTES_MAX);
    stream.send(codec::encode(&StreamHeader::Disk { disk }).unwrap().into()).await.unwrap();
    for frame in frames {
        stream.send(frame.clone().into()).await.unwrap();
    }
    stream
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_source_that_breaks_the_rules_is_refused() {
    let directory = tempfile::tempdir().unwrap();
    let offers = vec![DiskOffer { size_bytes: 4 * MIB, format: DiskFormat::Raw }; 3];
    let target = Disks::create(directory.path().join("target"), &offers);
    let at_target = target.open_target().await;
    let mut link = connect_agents().await;
    let (mut incoming, mut events) = begin(&at_target, &target).await;

    let mut encoder = RecordEncoder::new(Compression::Off).unwrap();
    let mut beyond = Vec::new();
    let record = Record { offset: 4 * MIB, content: RunContent::Zero(BLOCK_BYTES as u32) };
    encoder.encode(&record, &mut beyond).unwrap();
    for (disk, frame) in [(0, beyond), (1, vec![0xff; 100])] {
        let _stream = send_frames(&link, disk, &[frame]).await;
        let (disk, inlet) = link.take_disk().await;
        incoming.add_disk(disk, inlet).unwrap();
        let DiskEvent::Failed { reason } = within("refusing", events.recv()).await.unwrap();
        assert!(reason.contains("record"), "{reason}");
    }
    for disk in [1, 3] {
        let _stream = send_frames(&link, disk, &[]).await;
        // As if it had never come before.
        link.inlets = Inlets::default();
        let (disk, inlet) = link.take_disk().await;
        let refusal = incoming.add_disk(disk, inlet);
        assert!(matches!(refusal, Err(DiskError::UnexpectedStream { .. })), "{refusal:?}");
    }
    assert!(matches!(incoming.finish().await, Err(DiskError::Failed { disk: 0, .. })));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_disk_of_another_size_is_refused() {
    let directory = tempfile::tempdir().unwrap();
    let offer = |size_bytes| vec![DiskOffer { size_bytes, format: DiskFormat::Qcow2 }];
    let target = Disks::create(directory.path().join("target"), &offer(4 * MIB));
    let at_target = target.open_target().await;
    let plan = plan(&target, &offer(8 * MIB), Vec::new());
    let begun = IncomingDisks::begin(&at_target.qmp, plan).await;
    assert!(matches!(begun, Err(DiskError::OtherSize { disk: 0, .. })));
}
