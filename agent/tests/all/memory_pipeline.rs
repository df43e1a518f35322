//! The memory of a running guest goes from one real QEMU to another through the page pipeline, over real QUIC.
//!
//! The guest is firmware only: its memory is small and mostly still, but its stream is QEMU's own. A booted guest
//! that writes all the time moves in the end-to-end tests.

use std::net::{Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::time::Duration;

use novacron_agent::migrate::cache::Images;
use novacron_agent::migrate::library::{Catalogue, Catalogues, Circle, Shelf, Shelves};
use novacron_agent::migrate::memory::{
    Beginning, Incoming, IncomingEvent, IncomingForm, IncomingPlan, Knowledge, MemoryTotals,
    Outgoing, OutgoingEvent, OutgoingForm, PagesPlan, QemuSockets,
};
use novacron_agent::migrate::relay::{Inlets, Outlets};
use novacron_agent::qmp::{self, Capability, MigrateParameters, MigrateStatus, Qmp, RunState};
use novacron_agent::sys::GuestMemory;
use novacron_protocol::ids::ClusterId;
use novacron_protocol::pages::batch::BATCH_BYTES_MAX;
use novacron_protocol::qemu::StreamLimits;
use novacron_protocol::qemu::return_path::ReturnMessage;
use novacron_protocol::session::main_stream::MAIN_FRAME_BYTES_MAX;
use novacron_protocol::session::message::StreamHeader;
use novacron_protocol::time::Timestamp;
use novacron_protocol::wire::codec;
use novacron_transport::authority::Grant;
use novacron_transport::{
    ClusterAuthority, Connection, Credentials, Endpoint, ExpectedPeer, LinkSettings, Role,
};
use serde::Serialize;
use uuid::Uuid;

const MEMORY_BYTES: u64 = 64 << 20;
const CHANNELS: u8 = 2;
const PATIENCE: Duration = Duration::from_secs(30);

/// A QEMU that ends with the test.
struct Guest {
    process: Child,
    qmp: Qmp,
}

impl Drop for Guest {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

async fn start_guest(directory: &Path, name: &str, extra: &[&str]) -> Guest {
    let socket = directory.join(format!("{name}.qmp"));
    let process = Command::new("qemu-system-x86_64")
        .args(["-nodefaults", "-no-user-config", "-display", "none", "-accel", "tcg"])
        .args(["-m", "64M", "-smp", "1"])
        .arg("-qmp")
        .arg(format!("unix:{},server=on,wait=off", socket.display()))
        .args(extra)
        .stdin(Stdio::null())
        .spawn()
        .expect("qemu-system-x86_64 is needed: cargo xtask test installs it");
    let mut guest_process = Some(process);
    let qmp = tokio::time::timeout(PATIENCE, async {
        loop {
            if let Ok(qmp) = qmp::connect(&socket, Duration::from_secs(5)).await {
                return qmp;
            }
            tokio::task::yield_now().await;
        }
    })
    .await
    .expect("QEMU opens its QMP socket");
    Guest { process: guest_process.take().unwrap(), qmp }
}

fn credentials(authority: &ClusterAuthority, name: &str) -> Credentials {
    let now = Timestamp::from_unix_ms(1_790_000_000_000);
    authority.issue(&Grant::new(Role::Agent, name.parse().unwrap(), now)).unwrap()
}

async fn connect_agents() -> (Endpoint, Endpoint, Connection, Connection) {
    let now = Timestamp::from_unix_ms(1_790_000_000_000);
    let authority = ClusterAuthority::create(ClusterId(Uuid::from_u128(9)), now).unwrap();
    let loopback = SocketAddr::from((Ipv4Addr::LOCALHOST, 0));
    let settings = LinkSettings::migration();
    let target = credentials(&authority, "node-02");
    let (target, mut acceptor) =
        Endpoint::bind(loopback, &target, &[Role::Agent], settings.clone()).unwrap();
    let source = Endpoint::client(loopback, &credentials(&authority, "node-01"), settings).unwrap();
    let address = target.local_address().unwrap();
    let expected = ExpectedPeer::any(Role::Agent);
    let (dialled, accepted) = tokio::join!(source.connect(address, &expected), acceptor.accept());
    (source, target, dialled.unwrap(), accepted.unwrap())
}

async fn until(qmp: &Qmp, wanted: MigrateStatus) {
    tokio::time::timeout(PATIENCE, async {
        loop {
            let info = qmp.migration().await.unwrap();
            if info.status == wanted {
                return;
            }
            assert!(info.status != MigrateStatus::Failed, "failed: {info:?}");
            tokio::task::yield_now().await;
        }
    })
    .await
    .unwrap_or_else(|_| panic!("QEMU does not reach {wanted:?}"));
}

/// Accepts the streams of the source until all lanes and the main stream are there.
async fn take_streams(connection: &Connection, incoming: &mut Incoming, streams: u8) -> Inlets {
    let mut inlets = Inlets::default();
    for _ in 0..streams {
        let stream = connection.accept_uni().await.unwrap();
        let mut header_frames =
            connection.framed(stream, MAIN_FRAME_BYTES_MAX.max(BATCH_BYTES_MAX));
        let header = header_frames.receive().await.unwrap().unwrap();
        let header = codec::decode(&header).unwrap();
        let inlet = inlets.add(header, header_frames).unwrap().unwrap();
        match header {
            StreamHeader::Lane { lane } => incoming.add_lane(lane, inlet).unwrap(),
            StreamHeader::Main => incoming.add_main(inlet).unwrap(),
            other => panic!("unexpected {other:?}"),
        }
    }
    incoming.feed();
    inlets
}

/// `pmemsave`: what QEMU itself sees as the guest's memory.
#[derive(Serialize)]
struct SaveMemory {
    val: u64,
    size: u64,
    filename: PathBuf,
}

impl qmp::Command for SaveMemory {
    const NAME: &'static str = "pmemsave";
    type Answer = qmp::Empty;
}

async fn memory_of(qmp: &Qmp, directory: &Path, name: &str) -> Vec<u8> {
    let filename = directory.join(name);
    qmp.execute(&SaveMemory { val: 0, size: MEMORY_BYTES, filename: filename.clone() })
        .await
        .unwrap();
    std::fs::read(filename).unwrap()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_guest_arrives_page_by_page_equal_and_runs() {
    let totals = move_a_guest(by_page(7), None).await;
    assert!(totals.bytes_guest >= MEMORY_BYTES, "{totals:?}");
    assert!(totals.bytes_wire < MEMORY_BYTES / 8, "zero pages were sent: {totals:?}");
    assert!(totals.rounds >= 1);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_guest_arrives_through_the_tunnel_equal_and_runs() {
    let totals = move_a_guest(OutgoingForm::Tunnel, None).await;
    assert!(totals.bytes_wire > 0 && totals.bytes_wire < totals.bytes_guest, "{totals:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_second_guest_sends_what_the_first_did_not_bring() {
    let catalogues = Catalogues::default();
    let source_run = catalogues.run();
    let circle = Circle { source: "node-01".parse().unwrap(), source_run, tenant: String::new() };
    let shelf = Shelves::new(MEMORY_BYTES).open(&circle, 5).unwrap();
    let target = "node-02".parse().unwrap();
    let catalogue = catalogues.open(source_run, &target, shelf.offer()).unwrap();
    let shared = Shared { shelf, catalogue };
    let first = move_a_guest(by_page(7), Some(&shared)).await;
    // Another migration has another seed.
    let second = move_a_guest(by_page(8), Some(&shared)).await;
    // The rest is what firmware writes at each start, and what it writes while it moves.
    assert!(second.pages_known * 2 > first.pages_sent(), "{first:?} {second:?}");
    assert!(second.pages_sent() < first.pages_sent(), "{first:?} {second:?}");
}

/// What machines share between these two agents.
struct Shared {
    shelf: Arc<Shelf>,
    catalogue: Arc<Catalogue>,
}

fn by_page(hash_seed: u64) -> OutgoingForm {
    OutgoingForm::Pages(PagesPlan {
        channels: CHANNELS,
        hash_seed,
        compression_level: 1,
        processor_percent_max: 100,
        limits: StreamLimits::for_guest_memory(MEMORY_BYTES),
    })
}

async fn move_a_guest(form: OutgoingForm, shared: Option<&Shared>) -> MemoryTotals {
    let streams = if form.channels() == 0 { 1 } else { form.channels() + 2 };
    let directory = tempfile::tempdir().unwrap();
    let directory = directory.path();
    let machine = "pc-q35-10.0,memory-backend=pc.ram,suppress-vmdesc=on";
    let private = ["-machine", machine, "-object", "memory-backend-ram,id=pc.ram,size=64M"];
    let source = start_guest(directory, "source", &private).await;

    let ram = directory.join("ram");
    let memory = Arc::new(GuestMemory::create(&ram, MEMORY_BYTES).unwrap());
    let object = format!(
        "memory-backend-file,id=pc.ram,size=64M,share=on,prealloc=off,mem-path={}",
        ram.display()
    );
    let waiting = ["-machine", machine, "-object", &object, "-S", "-incoming", "defer"];
    let target = start_guest(directory, "target", &waiting).await;

    let (_source_endpoint, _target_endpoint, to_target, to_source) = connect_agents().await;
    let (mut incoming, mut incoming_events) =
        begin_target(directory, &target, memory, form, shared).await;
    let mut outlets = Outlets::begin(to_target);
    let (outgoing, mut outgoing_events) =
        begin_source(directory, &source, &mut outlets, form, shared).await;
    let _inlets = take_streams(&to_source, &mut incoming, streams).await;

    // A tunnel does not know where memory ends.
    let mut sent = form.channels() == 0;
    let mut sent_digest = None;
    let mut loaded = false;
    while !(loaded && sent) {
        tokio::select! {
            event = outgoing_events.recv() => match event.unwrap() {
                OutgoingEvent::RoundEnded | OutgoingEvent::SwitchoverBegun => {}
                OutgoingEvent::MemorySent(digest) => (sent, sent_digest) = (true, Some(digest)),
                OutgoingEvent::Failed { reason } => panic!("source: {reason}"),
            },
            event = incoming_events.recv() => match event.unwrap() {
                IncomingEvent::ReturnPath(bytes) => outgoing.give_return_path(&bytes).unwrap(),
                IncomingEvent::Loaded => loaded = true,
                IncomingEvent::Failed { reason } => panic!("target: {reason}"),
            },
            () = tokio::time::sleep(PATIENCE) => panic!("the migration hangs"),
        }
    }
    assert_eq!(sent_digest, incoming.digest());

    // The source's QEMU waits for the target's word before it completes.
    assert_eq!(source.qmp.migration().await.unwrap().status, MigrateStatus::Device);
    let mut shut = Vec::new();
    ReturnMessage::Shut { status: 0 }.encode(&mut shut);
    outgoing.give_return_path(&shut).unwrap();
    until(&source.qmp, MigrateStatus::Completed).await;

    let before = memory_of(&source.qmp, directory, "source.mem").await;
    let after = memory_of(&target.qmp, directory, "target.mem").await;
    assert!(before == after, "the memories differ");
    outgoing.all_processed();
    target.qmp.cont().await.unwrap();
    assert_eq!(target.qmp.status().await.unwrap().status, RunState::Running);
    outgoing.counters().totals()
}

async fn begin_target(
    directory: &Path,
    target: &Guest,
    memory: Arc<GuestMemory>,
    form: OutgoingForm,
    shared: Option<&Shared>,
) -> (Incoming, tokio::sync::mpsc::Receiver<IncomingEvent>) {
    let qemu_socket = directory.join("in");
    let capabilities = [(Capability::ReturnPath, true), (Capability::Events, true)];
    target.qmp.set_capabilities(&capabilities).await.unwrap();
    target.qmp.migrate_incoming(&qemu_socket).await.unwrap();
    let form = match form {
        OutgoingForm::Pages(plan) => {
            IncomingForm::Pages { lanes: plan.channels + 1, hash_seed: plan.hash_seed }
        }
        OutgoingForm::Tunnel => IncomingForm::Tunnel,
    };
    let images = Images::new(MEMORY_BYTES);
    let plan = IncomingPlan {
        form,
        qemu_socket,
        boot_files: Vec::new(),
        beginning: Beginning::Zeros,
        images,
        shelf: shared.map(|shared| Arc::clone(&shared.shelf)),
    };
    Incoming::begin(plan, memory).unwrap()
}

async fn begin_source(
    directory: &Path,
    source: &Guest,
    outlets: &mut Outlets,
    form: OutgoingForm,
    shared: Option<&Shared>,
) -> (Outgoing, tokio::sync::mpsc::Receiver<OutgoingEvent>) {
    let capabilities = [
        (Capability::ReturnPath, true),
        (Capability::Events, true),
        (Capability::Multifd, form.channels() > 0),
    ];
    source.qmp.set_capabilities(&capabilities).await.unwrap();
    let parameters = MigrateParameters {
        max_bandwidth: Some(0),
        multifd_channels: Some(form.channels().max(1)),
        ..MigrateParameters::default()
    };
    source.qmp.set_migrate_parameters(&parameters).await.unwrap();
    let sockets = QemuSockets::bind(&directory.join("out")).unwrap();
    source.qmp.migrate(sockets.path()).await.unwrap();
    let sockets = sockets.accept(usize::from(form.channels()) + 1).await.unwrap();
    let images = Images::new(MEMORY_BYTES);
    let catalogue = shared.map(|shared| Arc::clone(&shared.catalogue));
    let knowledge = Knowledge { boot_files: Vec::new(), base: None, images, catalogue };
    Outgoing::start(sockets, outlets, form, knowledge).await.unwrap()
}
