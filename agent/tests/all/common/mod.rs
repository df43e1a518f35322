//! A host for tests: real QEMU, real disks, a directory of its own. Whatever happens, no QEMU outlives the test.

pub mod agent;
mod recording;

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use novacron_agent::clock::{self, Clocks};
use novacron_agent::host::{Hypervisor, look_for_qemu};
use novacron_agent::metering::Recorder;
use novacron_agent::metering::time::Reading;
use novacron_agent::records::Records;
use novacron_agent::report::Reporter;
use novacron_agent::vm::{Directories, Interrupted, MachineOrder, Machines, Order, Settings};
use novacron_protocol::effect::{EffectOutcome, MachineReport, ObservedState};
use novacron_protocol::ids::{Generation, VmId};
use novacron_protocol::node::Accelerator;
use novacron_protocol::vm::{Boot, DiskFormat, DiskSpec, Labels, Network, VmSpec};
use recording::Recording;
use rustix::process::{Pid, Signal, kill_process};
use tokio::io::AsyncReadExt;
use tokio::time::{Instant, timeout};

/// Longer than anything takes on a busy machine.
pub const PATIENCE: Duration = Duration::from_secs(60);

/// A boot sector: writes `hello` and a line end to the first serial port, then echoes what comes in, until the power
/// button is pressed (ACPI's fixed registers at 0x600, where SeaBIOS puts them), when it powers the machine off.
const BOOT_SECTOR: [u8; 67] = [
    0xfa, 0x31, 0xc0, 0x8e, 0xd8, 0xbe, 0x43, 0x7c, 0xac, 0x84, 0xc0, 0x74, 0x11, 0x88, 0xc3, 0xba,
    0xfd, 0x03, 0xec, 0xa8, 0x20, 0x74, 0xfb, 0x88, 0xd8, 0xb2, 0xf8, 0xee, 0xeb, 0xea, 0xba, 0x02,
    0x06, 0xb8, 0x00, 0x01, 0xef, 0xba, 0xfd, 0x03, 0xec, 0xa8, 0x01, 0x74, 0x04, 0xb2, 0xf8, 0xec,
    0xee, 0xba, 0x00, 0x06, 0xed, 0xf6, 0xc4, 0x01, 0x74, 0xeb, 0xba, 0x04, 0x06, 0xb8, 0x00, 0x20,
    0xef, 0xeb, 0xe2,
];

/// What the boot sector writes.
pub const GREETING: &str = "hello\r\n";

/// What comes before the echo in a guest that does not obey the first press of the button: it waits for it, and forgets
/// it.
const DROWSINESS: [u8; 20] = [
    0xba, 0x02, 0x06, 0xb8, 0x00, 0x01, 0xef, 0xba, 0x00, 0x06, 0xed, 0xf6, 0xc4, 0x01, 0x74, 0xfa,
    0xb8, 0x00, 0x01, 0xef,
];
/// Where in the boot sector the greeting has been written.
const GREETED_AT: usize = 30;
/// Where in the boot sector is written, in one byte, where the greeting begins.
const GREETING_PLACE_AT: usize = 6;

/// The image with a boot sector that obeys the second press.
pub const DROWSY_IMAGE: &str = "drowsy";

/// The image with that boot sector.
pub const IMAGE: &str = "echo";

pub struct Host {
    pub directory: HostDirectory,
    pub machines: Machines,
    pub reporter: Reporter,
    pub interrupted: Vec<Interrupted>,
    pub records: Records,
    pub recording: Recording,
    /// Milliseconds by which the clocks of metering are ahead of the host's.
    pub passed_ms: Arc<AtomicU64>,
    programs: Programs,
}

struct HostWithoutAgent {
    directory: HostDirectory,
    programs: Programs,
    passed_ms: Arc<AtomicU64>,
}

impl HostWithoutAgent {
    async fn begin(self) -> Host {
        let Self { directory, programs, passed_ms } = self;
        let taken_up = take_up(directory.path(), &programs, clocks(&passed_ms)).await;
        let TakenUp { machines, reporter, interrupted, records, recording } = taken_up;
        Host { directory, machines, reporter, interrupted, records, recording, passed_ms, programs }
    }
}

/// What an agent has once it has taken up its machines.
struct TakenUp {
    machines: Machines,
    reporter: Reporter,
    interrupted: Vec<Interrupted>,
    records: Records,
    recording: Recording,
}

/// What a host runs machines with.
struct Programs {
    qemu: PathBuf,
    swtpm: PathBuf,
}

impl Default for Programs {
    fn default() -> Self {
        Self { qemu: "qemu-system-x86_64".into(), swtpm: "swtpm".into() }
    }
}

impl Host {
    pub async fn new() -> Self {
        Self::with(HostDirectory(tempfile::tempdir().unwrap()), Programs::default()).await
    }

    /// A host with another TPM program, or none.
    pub async fn with_swtpm(swtpm: &str) -> Self {
        let programs = Programs { swtpm: swtpm.into(), ..Programs::default() };
        Self::with(HostDirectory(tempfile::tempdir().unwrap()), programs).await
    }

    /// A host on which QEMU's process lives for a second after QEMU has let go of everything: as one does that dumps its
    /// core, or frees much memory.
    pub async fn with_slow_ends() -> Self {
        let directory = HostDirectory(tempfile::tempdir().unwrap());
        let qemu = directory.path().join("slow-end");
        let Programs { qemu: real, swtpm } = Programs::default();
        fs::write(&qemu, format!("#!/bin/sh\n{} \"$@\"\nsleep 1\n", real.display())).unwrap();
        fs::set_permissions(&qemu, fs::Permissions::from_mode(0o700)).unwrap();
        Self::with(directory, Programs { qemu, swtpm }).await
    }

    async fn with(directory: HostDirectory, programs: Programs) -> Self {
        let images = directory.path().join("images");
        fs::create_dir(&images).unwrap();
        fs::write(images.join(format!("{IMAGE}.img")), boot_image(&[])).unwrap();
        fs::write(images.join(format!("{DROWSY_IMAGE}.img")), boot_image(&DROWSINESS)).unwrap();
        HostWithoutAgent { directory, programs, passed_ms: Arc::default() }.begin().await
    }

    /// Time passes for what is metered.
    pub fn pass(&self, ms: u64) {
        self.passed_ms.fetch_add(ms, Ordering::Relaxed);
    }

    /// What the wall clock of metering shows, in milliseconds.
    pub fn metered_ms(&self) -> u64 {
        clocks(&self.passed_ms).read().wall_ms
    }

    /// The agent ends and starts again; guests go on.
    pub async fn restart(self) -> Self {
        let (rest, recording) = self.leave().await;
        recording.end().await;
        rest.begin().await
    }

    /// The agent dies without a last word, something happens, and it starts again; guests go on.
    pub async fn crash(self, meanwhile: impl AsyncFnOnce()) -> Self {
        let (rest, recording) = self.leave().await;
        recording.die().await;
        meanwhile().await;
        rest.begin().await
    }

    /// All of the agent ends but for what makes usage durable.
    async fn leave(self) -> (HostWithoutAgent, Recording) {
        let Self { directory, programs, passed_ms, recording, machines, .. } = self;
        machines.shut_down().await;
        (HostWithoutAgent { directory, programs, passed_ms }, recording)
    }

    pub async fn order(&self, vm: VmId, order: MachineOrder) -> EffectOutcome {
        self.order_for(vm, Generation(1), order, PATIENCE).await
    }

    pub async fn order_for(
        &self,
        vm: VmId,
        generation: Generation,
        order: MachineOrder,
        patience: Duration,
    ) -> EffectOutcome {
        let deadline = Instant::now() + patience;
        let answer = self.machines.order(vm, generation, order, deadline);
        timeout(PATIENCE * 2, answer).await.expect("an answer in time").expect("an answer")
    }

    pub async fn create_and_start(&self, vm: VmId) {
        let create = MachineOrder::Create(Box::new(spec()));
        assert_eq!(self.order(vm, create).await, EffectOutcome::Done);
        assert_eq!(self.order(vm, MachineOrder::Existing(Order::Start)).await, EffectOutcome::Done);
    }

    pub fn report(&self, vm: VmId) -> Option<MachineReport> {
        self.machines.inventory().into_iter().find(|report| report.vm == vm)
    }

    pub fn state(&self, vm: VmId) -> Option<ObservedState> {
        self.report(vm).map(|report| report.state)
    }

    /// Waits until the machine is reported in this state.
    pub async fn wait_for(&self, vm: VmId, state: ObservedState) {
        let reported = async {
            while self.state(vm) != Some(state) {
                self.reporter.changed().await;
            }
        };
        let seen = timeout(PATIENCE, reported).await;
        assert!(seen.is_ok(), "{state:?} is not reported, but {:?}", self.report(vm));
    }

    /// Waits until the console shows `expected`.
    pub async fn wait_for_console(&self, vm: VmId, expected: &str) -> String {
        let console = self.machines.console(vm, 0, true).expect("a console");
        let (ours, mut theirs) = tokio::io::duplex(4096);
        let serving = tokio::spawn(async move {
            let (mut input, mut output) = tokio::io::split(&mut theirs);
            console.serve(&mut output, &mut input).await
        });
        let mut ours = ours;
        let seen = read_until(&mut ours, expected).await;
        serving.abort();
        seen
    }

    pub fn run_directory(&self, vm: VmId) -> PathBuf {
        self.directory.path().join("run").join(vm.to_string())
    }

    pub fn pid(&self, vm: VmId) -> i32 {
        let text = fs::read_to_string(self.run_directory(vm).join("qemu.pid")).unwrap();
        text.trim().parse().unwrap()
    }

    /// Every path below the data directory that names the machine, but for disks that it once had: they are no copy
    /// of it.
    pub fn remains(&self, vm: VmId) -> Vec<PathBuf> {
        let mut found = Vec::new();
        collect(self.directory.path(), &vm.to_string(), &mut found);
        found.retain(|path| *path != self.former(vm));
        found
    }

    /// Where disks are kept of a machine that left.
    pub fn former(&self, vm: VmId) -> PathBuf {
        self.directory.path().join("former").join(vm.to_string())
    }
}

/// Tells a process to end, and waits until it has.
pub async fn end_process(pid: i32) {
    kill_process(Pid::from_raw(pid).unwrap(), Signal::TERM).unwrap();
    let ended = async {
        while Path::new(&format!("/proc/{pid}")).exists() {
            tokio::task::yield_now().await;
        }
    };
    timeout(PATIENCE, ended).await.expect("the process ends");
}

/// Reads until `expected` has come.
pub async fn read_until<R: tokio::io::AsyncRead + Unpin>(reader: &mut R, expected: &str) -> String {
    let mut seen = Vec::new();
    let reading = async {
        while !seen.ends_with(expected.as_bytes()) {
            let mut byte = [0];
            reader.read_exact(&mut byte).await.unwrap();
            seen.push(byte[0]);
        }
    };
    let done = timeout(PATIENCE, reading).await;
    let text = String::from_utf8_lossy(&seen).into_owned();
    assert!(done.is_ok(), "{expected:?} does not come, but {text:?}");
    text
}

fn collect(directory: &Path, mark: &str, found: &mut Vec<PathBuf>) {
    for entry in fs::read_dir(directory).into_iter().flatten().flatten() {
        let path = entry.path();
        if entry.file_name().to_string_lossy().contains(mark) {
            found.push(path.clone());
        }
        if path.is_dir() {
            collect(&path, mark, found);
        }
    }
}

/// The host's clocks, and so much later.
fn clocks(passed_ms: &Arc<AtomicU64>) -> Clocks {
    let passed_ms = Arc::clone(passed_ms);
    Clocks::from_fn(move || {
        let Reading { wall_ms, monotonic_ms } = Clocks::system().read();
        let passed_ms = passed_ms.load(Ordering::Relaxed);
        Reading { wall_ms: wall_ms + passed_ms, monotonic_ms: monotonic_ms + passed_ms }
    })
}

async fn take_up(directory: &Path, programs: &Programs, clocks: Clocks) -> TakenUp {
    let Programs { qemu, swtpm } = programs;
    let version = look_for_qemu(qemu).await;
    let version = version.unwrap_or_else(|problem| panic!("{problem}; or run `cargo xtask test`"));
    let settings = Settings {
        directories: Directories {
            data: directory.to_owned(),
            images: directory.join("images"),
            memory: directory.join("memory"),
        },
        qemu: qemu.clone(),
        qemu_img: "qemu-img".into(),
        swtpm: swtpm.clone(),
        hypervisor: Hypervisor {
            qemu: Ok(version),
            accelerator: Accelerator::Tcg,
            accelerator_reason: "a test".to_owned(),
        },
        disk_cache_bytes: 1 << 30,
    };
    let records = open_records(directory).await;
    let reporter = Reporter::load(records.clone()).await.unwrap();
    let recorder = Recorder::open(records.disk(), clocks).await.unwrap();
    let (told, at) = (recorder.clone(), clock::now());
    let taken_up = Machines::take_up(settings, records.clone(), reporter.clone(), told, at).await;
    let (machines, interrupted) = taken_up.unwrap();
    let recording = Recording::begin(recorder);
    TakenUp { machines, reporter, interrupted, records, recording }
}

/// The tasks of an agent that has just ended may still have them for a moment.
async fn open_records(directory: &Path) -> Records {
    let opened = async {
        loop {
            match Records::open(directory) {
                Ok(records) => return records,
                Err(_) => tokio::task::yield_now().await,
            }
        }
    };
    timeout(PATIENCE, opened).await.expect("the records are free")
}

/// With this done after the greeting.
fn boot_image(after_greeting: &[u8]) -> Vec<u8> {
    let (before, after) = BOOT_SECTOR.split_at(GREETED_AT);
    let mut image = [before, after_greeting, after, GREETING.as_bytes()].concat();
    image[GREETING_PLACE_AT] += after_greeting.len() as u8;
    image.resize(1 << 20, 0);
    image[510..512].copy_from_slice(&[0x55, 0xaa]);
    image
}

pub fn vm(number: u128) -> VmId {
    VmId(uuid::Uuid::from_u128(0x6f1c_1f2e_0000_4000_8000_0000_0000_0000 + number))
}

/// A small machine that boots the image.
pub fn spec() -> VmSpec {
    VmSpec {
        name: "test-01".parse().unwrap(),
        project: novacron_protocol::ids::ProjectName::default(),
        memory_bytes: 64 << 20,
        cpus: 1,
        disks: vec![DiskSpec {
            size_bytes: 2 << 20,
            image: IMAGE.to_owned(),
            format: DiskFormat::Qcow2,
        }],
        boot: Boot::Disk,
        network: Network::User,
        labels: Labels::new(),
        node_selector: Labels::new(),
        enable_tpm: false,
    }
}

/// The directory of one host; whatever runs from it ends with it.
pub struct HostDirectory(tempfile::TempDir);

impl HostDirectory {
    pub fn path(&self) -> &Path {
        self.0.path()
    }
}

impl Drop for HostDirectory {
    fn drop(&mut self) {
        let runs = self.path().join("run");
        for run in fs::read_dir(runs).into_iter().flatten().flatten() {
            let pid_file = run.path().join("qemu.pid");
            let pid = fs::read_to_string(&pid_file).ok().and_then(|text| text.trim().parse().ok());
            let Some(pid) = pid.and_then(Pid::from_raw) else { continue };
            // Only a process that is this test's own.
            let line = fs::read_to_string(format!("/proc/{}/cmdline", pid.as_raw_nonzero()));
            if line.is_ok_and(|line| line.contains(&*pid_file.to_string_lossy())) {
                let _ = kill_process(pid, Signal::KILL);
            }
        }
    }
}
