//! Machines move between two agents: real QEMU, real QUIC, real records. The coordinator's part (who goes where) is
//! played by the test.

use std::path::{Path, PathBuf};
use std::time::Instant;

use crate::common::agent::Agent;
use crate::common::{DROWSY_IMAGE, GREETING, Host, PATIENCE, spec, vm};
use novacron_agent::clock;
use novacron_agent::metrics::{self, DWCP_PATH, HostNumbers};
use novacron_agent::migrate::MigrationSettings;
use novacron_agent::qmp;
use novacron_agent::sampling::Sampler;
use novacron_agent::vm::{MachineOrder, Order, SourceRole, TargetRole};
use novacron_metrics::certificate::Certificate;
use novacron_metrics::lint;
use novacron_metrics::pages::METRICS_PATH;
use novacron_protocol::effect::{
    EffectOutcome, Handover, MigrationEnd, ObservedState, Report, SourceResult,
};
use novacron_protocol::ids::{ClusterId, Generation, MigrationId, VmId};
use novacron_protocol::migration::{
    MemoryPath, MigrationAccount, MigrationMode, MigrationOptions, MigrationPhase,
};
use novacron_protocol::session::handover::{SourceRecord, TargetRecord};
use novacron_protocol::time::Timestamp;
use novacron_protocol::usage::{Meter, UsageRecord};
use novacron_protocol::vm::{Boot, DiskFormat, DiskSpec, VmSpec};
use novacron_transport::ClusterAuthority;
use serde::Serialize;
use uuid::Uuid;

struct Pair {
    authority: ClusterAuthority,
    agents: [Agent; 2],
    options: MigrationOptions,
    next_migration: u128,
}

fn settings() -> MigrationSettings {
    MigrationSettings::default()
}

impl Pair {
    async fn new(settings: MigrationSettings) -> Self {
        // RUST_LOG=debug shows what both agents do.
        let filter = tracing_subscriber::EnvFilter::from_default_env();
        let _ = tracing_subscriber::fmt().with_env_filter(filter).with_test_writer().try_init();
        let now = Timestamp::from_unix_ms(1_790_000_000_000);
        let authority = ClusterAuthority::create(ClusterId(Uuid::from_u128(9)), now).unwrap();
        let first = Agent::start(&authority, "node-01", settings).await;
        let second = Agent::start(&authority, "node-02", settings).await;
        let options = MigrationOptions::default();
        Self { authority, agents: [first, second], options, next_migration: 0 }
    }

    /// Moves a machine and returns how its source says that it ended.
    async fn migrate(&mut self, vm: VmId, plan: &Plan<'_>) -> MigrationEnd {
        let (migration, send) = self.order(vm, plan).await;
        assert_eq!(send.await.unwrap(), EffectOutcome::Done);
        self.agents[plan.from].end_of(migration).await
    }

    /// Orders a migration as a coordinator does: the target first.
    async fn order(
        &mut self,
        vm: VmId,
        plan: &Plan<'_>,
    ) -> (MigrationId, tokio::task::JoinHandle<EffectOutcome>) {
        self.next_migration += 1;
        let migration = MigrationId(Uuid::from_u128(self.next_migration));
        let (source, target) = (&self.agents[plan.from], &self.agents[1 - plan.from]);
        let target_role = TargetRole {
            migration,
            source: source.name.clone(),
            mode: plan.mode,
            decision: TargetRecord::Waiting,
        };
        let spec = plan.spec.clone();
        let expected =
            target.migrations.expect(vm, plan.generation.next(), spec, target_role).await;
        assert_eq!(expected, EffectOutcome::Done);
        let (role, generation) = (self.source_role(migration, plan), plan.generation);
        let migrations = source.migrations.clone();
        let send = tokio::spawn(async move { migrations.send(vm, generation, role).await });
        (migration, send)
    }

    fn source_role(&self, migration: MigrationId, plan: &Plan<'_>) -> SourceRole {
        let target = &self.agents[1 - plan.from];
        SourceRole {
            migration,
            target: target.name.clone(),
            target_address: target.address.to_string(),
            mode: plan.mode,
            target_generation: plan.generation.next(),
            options: self.options,
            is_shut_down: false,
            restarts: 0,
            decision: SourceRecord::Holds,
            memo: Vec::new(),
        }
    }
}

struct Plan<'a> {
    from: usize,
    generation: Generation,
    mode: MigrationMode,
    spec: &'a VmSpec,
}

impl Agent {
    /// The reports so far, oldest first. The test plays a coordinator that is never connected for long.
    fn reports(&self) -> Vec<Report> {
        self.host.reporter.begin_session();
        std::iter::from_fn(|| self.host.reporter.next_batch())
            .flat_map(|(_, batch)| batch)
            .collect()
    }

    async fn end_of(&self, migration: MigrationId) -> MigrationEnd {
        self.told(|report| match report {
            Report::MigrationEnded { migration: of, end } if of == migration => Some(end),
            _ => None,
        })
        .await
    }

    /// What `find` finds in a report, once there is one.
    async fn told<T>(&self, find: impl Fn(Report) -> Option<T>) -> T {
        let told = async {
            loop {
                if let Some(found) = self.reports().into_iter().find_map(&find) {
                    return found;
                }
                self.host.reporter.changed().await;
                // A session that begins is a change: without this the timeout below would never have its turn.
                tokio::task::yield_now().await;
            }
        };
        tokio::time::timeout(PATIENCE, told).await.expect("it is reported")
    }

    fn was_handed(&self, vm: VmId, generation: Generation) -> bool {
        let is_handover = |report: &Report| {
            matches!(report, Report::HandedOver(Handover { vm: of, generation: held, .. })
                if *of == vm && *held == generation)
        };
        self.reports().iter().any(is_handover)
    }
}

fn completed(end: &MigrationEnd) -> &MigrationAccount {
    match &end.result {
        SourceResult::Completed(account) => account,
        other => panic!("not completed: {other:?}"),
    }
}

/// The demo guest, which `cargo xtask guest` builds: it writes memory all the time and checks it.
fn busy_spec() -> VmSpec {
    let guest = Path::new(env!("CARGO_MANIFEST_DIR")).join("../target/novacron-guest");
    let guest = guest.canonicalize().expect("the demo guest is needed: cargo xtask guest");
    let path = |name: &str| guest.join(name).display().to_string();
    let arguments = std::fs::read_to_string(guest.join("arguments")).unwrap();
    VmSpec {
        memory_bytes: 192 << 20,
        disks: Vec::new(),
        boot: Boot::Kernel {
            kernel: path("vmlinuz"),
            initrd: path("initrd"),
            append: format!("{arguments} novacron.memory_mib=48 novacron.memory_rate=8"),
        },
        ..spec()
    }
}

async fn create_and_start(host: &Host, vm: VmId, spec: &VmSpec) {
    let create = MachineOrder::Create(Box::new(spec.clone()));
    assert_eq!(host.order(vm, create).await, EffectOutcome::Done);
    assert_eq!(host.order(vm, MachineOrder::Existing(Order::Start)).await, EffectOutcome::Done);
}

fn ticks(console: &str) -> Vec<u64> {
    let number = |line: &str| line.split_once("tick=")?.1.split(' ').next()?.parse().ok();
    // The last line may be cut.
    let whole = console.rsplit_once('\n').map_or("", |(whole, _)| whole);
    whole.lines().filter_map(number).collect()
}

/// What an agent says in numbers after it gave its first machine away is what the account says.
fn check_metrics(agent: &Agent, account: &MigrationAccount) {
    let host = HostNumbers {
        machines: agent.host.machines.clone(),
        migrations: agent.migrations.clone(),
        reporter: agent.host.reporter.clone(),
        recorder: agent.host.recording.recorder.clone(),
        sampler: Sampler::new(agent.host.machines.clone(), "/".into()),
    };
    let pages = metrics::pages(host, Certificate { expires_at_s: 2_000_000_000 });
    let text = pages.text(METRICS_PATH).unwrap().unwrap();
    assert_eq!(lint::problems(&text), Vec::<String>::new());
    let dwcp = pages.text(DWCP_PATH).unwrap().unwrap();
    let guide = include_str!("../../../docs/operating.md");
    assert_eq!(lint::undocumented(&(text.clone() + &dwcp), guide), [""; 0]);
    let value = |series: &str| -> f64 {
        let sample = text.lines().find_map(|line| line.strip_prefix(series)?.strip_prefix(' '));
        sample.unwrap_or_else(|| panic!("no {series} in\n{text}")).parse().unwrap()
    };
    for (series, expected) in [
        ("migrations_total{role=\"source\",mode=\"live\",result=\"completed\"}", 1),
        ("migration_duration_seconds_count{mode=\"live\",result=\"completed\"}", 1),
        ("migration_guest_bytes_total{content=\"memory\"}", account.bytes_guest),
        ("migration_guest_bytes_total{content=\"disk\"}", account.bytes_disk),
        ("migration_wire_bytes_total{content=\"memory\"}", account.bytes_wire_memory),
        ("migration_wire_bytes_total{content=\"disk\"}", account.bytes_wire_disks),
        ("migration_wire_bytes_total{content=\"file\"}", account.bytes_wire_files),
        ("migration_link_sent_bytes_total", account.bytes_link),
        ("migration_pages_total{form=\"zero\"}", account.pages_zero),
        ("migration_pages_total{form=\"same\"}", account.pages_same),
        ("migration_pages_total{form=\"known\"}", account.pages_known),
        ("migration_pages_total{form=\"difference\"}", account.pages_differing),
        ("migration_pages_total{form=\"packed\"}", account.pages_packed),
        ("migration_pages_total{form=\"raw\"}", account.pages_raw),
        ("migration_rounds_total", account.rounds.into()),
        ("migrations_running{role=\"target\"}", 0),
    ] {
        assert_eq!(value(&format!("novacron_{series}")), expected as f64, "{series}");
    }
    let sum = |name: &str| -> f64 {
        let samples = text.lines().filter(|line| line.starts_with(&format!("{name}{{")));
        samples.map(|line| line.rsplit_once(' ').unwrap().1.parse::<f64>().unwrap()).sum()
    };
    assert_eq!(sum("novacron_migration_wire_bytes_total"), account.bytes_wire as f64);
    let downtime = account.downtime_parts.total_us() as f64 / 1e6;
    let is_equal = |seconds: f64| (seconds - downtime).abs() < 1e-9;
    assert!(is_equal(sum("novacron_migration_downtime_seconds_sum")), "{downtime} not in\n{text}");
    assert!(is_equal(sum("novacron_migration_downtime_parts_seconds_total")), "{text}");
    assert_eq!(sum("novacron_migration_pages_total") * 4096.0, account.bytes_guest as f64);
    assert!(account.bytes_link > account.bytes_wire);
    assert!(value("novacron_migration_link_packets_total") > 0.0);
    for metric in ["total", "duration_seconds_count", "downtime_milliseconds_count"] {
        let line = format!("dwcp_migration_{metric}{{mode=\"live\",result=\"completed\"}} 1");
        assert!(dwcp.lines().any(|found| found == line), "{line}\nnot in\n{dwcp}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_busy_guest_moves_there_and_back_and_notices_nothing() {
    let mut pair = Pair::new(settings()).await;
    let (vm, spec) = (vm(1), busy_spec());
    create_and_start(&pair.agents[0].host, vm, &spec).await;
    pair.agents[0].host.wait_for_console(vm, "tick=5 ").await;

    for (from, generation) in [(0, Generation(1)), (1, Generation(2))] {
        let plan = Plan { from, generation, mode: MigrationMode::Live, spec: &spec };
        let end = pair.migrate(vm, &plan).await;
        let account = completed(&end);
        println!("{account:#?}");
        check_metrics(&pair.agents[from], account);
        assert!(account.verified);
        assert_eq!(account.path, MemoryPath::Pages);
        assert!(account.downtime_parts.total_us() > 0);
        assert!(account.bytes_wire > 0 && account.bytes_wire < account.bytes_guest);

        let (source, target) = (&pair.agents[from].host, &pair.agents[1 - from].host);
        assert_eq!(source.state(vm), None);
        assert_eq!(source.remains(vm), Vec::<PathBuf>::new());
        assert_eq!(target.state(vm), Some(ObservedState::Running));
        assert!(pair.agents[1 - from].was_handed(vm, generation.next()));

        // The console's log came along, and the guest's counter goes on in it without gap or repeat.
        let log = target.directory.path().join("vms").join(vm.to_string()).join("console.log");
        let before = ticks(&std::fs::read_to_string(&log).unwrap());
        let later = format!("tick={} ", before.last().unwrap() + 10);
        let seen = target.wait_for_console(vm, &later).await;
        assert!(!seen.contains("FAULT"), "{seen}");
        let counted = ticks(&seen);
        assert!(counted.windows(2).all(|pair| pair[1] == pair[0] + 1), "{counted:?}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_guest_moves_through_the_tunnel() {
    let mut pair = Pair::new(MigrationSettings { force_tunnel: true, ..settings() }).await;
    let (vm, spec) = (vm(2), spec());
    create_and_start(&pair.agents[0].host, vm, &spec).await;
    pair.agents[0].host.wait_for_console(vm, GREETING).await;
    let plan = Plan { from: 0, generation: Generation(1), mode: MigrationMode::Live, spec: &spec };
    let end = pair.migrate(vm, &plan).await;
    let account = completed(&end);
    assert!(account.verified);
    assert_eq!(account.path, MemoryPath::Tunnel);
    assert_eq!(pair.agents[1].host.state(vm), Some(ObservedState::Running));
    assert_eq!(pair.agents[0].host.remains(vm), Vec::<PathBuf>::new());
}

/// What was metered of a machine's guest at either end, in order.
async fn metered(agent: &Agent, vm: VmId) -> Vec<UsageRecord> {
    let is_it = |record: &UsageRecord| record.vm == vm && record.meter == Meter::VmSeconds;
    let told = agent.host.recording.until(|told| told.iter().any(is_it)).await;
    told.into_iter().filter(is_it).collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_seconds_of_a_guest_that_moves_are_the_sources_then_the_targets() {
    let mut pair = Pair::new(settings()).await;
    let (vm, spec) = (vm(11), spec());
    let begun_s = clock::now().unix_ms / 1000;
    create_and_start(&pair.agents[0].host, vm, &spec).await;
    pair.agents[0].host.wait_for_console(vm, GREETING).await;
    let plan = Plan { from: 0, generation: Generation(1), mode: MigrationMode::Live, spec: &spec };
    completed(&pair.migrate(vm, &plan).await);
    let stop = MachineOrder::Existing(Order::Stop { force: true });
    let target = &pair.agents[1].host;
    let stopped = target.order_for(vm, Generation(2), stop, PATIENCE).await;
    assert_eq!(stopped, EffectOutcome::Done);
    let ended_s = clock::now().unix_ms.div_ceil(1000);

    let (there, here) = (metered(&pair.agents[0], vm).await, metered(&pair.agents[1], vm).await);
    assert!(there.iter().all(|record| record.generation == Generation(1)));
    assert!(here.iter().all(|record| record.generation == Generation(2)));
    let all: Vec<_> = there.iter().chain(&here).collect();
    assert!(all[0].start_s >= begun_s && all[all.len() - 1].end_s <= ended_s, "{all:?}");
    for two in all.windows(2) {
        // Both count the second of the hand-over, and the ledger takes it once; nothing is missing but the downtime.
        let gap_s = two[1].start_s.cast_signed() - two[0].end_s.cast_signed();
        assert!((-1..=1).contains(&gap_s), "{all:?}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_stopped_machine_moves_with_its_disks() {
    let mut pair = Pair::new(settings()).await;
    let (vm, spec) = (vm(3), spec());
    let host = &pair.agents[0].host;
    let create = MachineOrder::Create(Box::new(spec.clone()));
    assert_eq!(host.order(vm, create).await, EffectOutcome::Done);
    let plan = Plan { from: 0, generation: Generation(1), mode: MigrationMode::Cold, spec: &spec };
    let end = pair.migrate(vm, &plan).await;
    let account = completed(&end);
    assert!(account.verified);
    assert_eq!(account.path, MemoryPath::None);
    assert_eq!(account.downtime_parts.total_us(), 0);
    let target = &pair.agents[1].host;
    assert_eq!(target.state(vm), Some(ObservedState::Stopped));
    assert_eq!(pair.agents[0].host.remains(vm), Vec::<PathBuf>::new());

    // It boots from what arrived.
    let start = MachineOrder::Existing(Order::Start);
    let started = target.order_for(vm, Generation(2), start, PATIENCE).await;
    assert_eq!(started, EffectOutcome::Done);
    target.wait_for_console(vm, GREETING).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_running_machine_moves_warm_and_boots_at_the_target() {
    let mut pair = Pair::new(settings()).await;
    let (vm, spec) = (vm(8), spec());
    create_and_start(&pair.agents[0].host, vm, &spec).await;
    pair.agents[0].host.wait_for_console(vm, GREETING).await;
    let plan = Plan { from: 0, generation: Generation(1), mode: MigrationMode::Warm, spec: &spec };
    let end = pair.migrate(vm, &plan).await;
    let account = completed(&end);
    println!("{account:#?}");
    assert!(account.verified && account.rounds > 0);
    assert_eq!((account.path, account.bytes_wire_memory), (MemoryPath::None, 0));
    assert!(account.downtime_parts.total_us() > 0);
    assert!(account.bytes_disk_final < account.bytes_disk + account.bytes_disk_held);
    let target = &pair.agents[1].host;
    assert_eq!(target.state(vm), Some(ObservedState::Running));
    assert_eq!(pair.agents[0].host.remains(vm), Vec::<PathBuf>::new());
    // It booted at the source, and again here.
    target.wait_for_console(vm, &GREETING.repeat(2)).await;
}

/// QEMU resets every device when a guest shuts down, also the network card that a migration has brought.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_guest_that_came_live_leaves_warm() {
    let mut pair = Pair::new(settings()).await;
    let (vm, spec) = (vm(12), busy_spec());
    create_and_start(&pair.agents[0].host, vm, &spec).await;
    pair.agents[0].host.wait_for_console(vm, "tick=5 ").await;
    for (from, mode) in [(0, MigrationMode::Live), (1, MigrationMode::Warm)] {
        let plan = Plan { from, generation: Generation(1 + from as u64), mode, spec: &spec };
        let end = pair.migrate(vm, &plan).await;
        assert!(completed(&end).verified);
        assert_eq!(pair.agents[1 - from].host.state(vm), Some(ObservedState::Running));
    }
}

/// Writes the greeting and then halts for ever: no button wakes it.
fn put_deaf_guest(host: &Host) {
    let mut image = std::fs::read(host.directory.path().join("images/echo.img")).unwrap();
    // Behind the greeting, where the sector begins to echo.
    image[30..34].copy_from_slice(&[0xfa, 0xf4, 0xeb, 0xfd]);
    std::fs::write(host.directory.path().join("images/deaf.img"), image).unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_guest_that_does_not_shut_down_stays_or_is_forced() {
    let mut pair = Pair::new(MigrationSettings { shutdown_s: 1, ..settings() }).await;
    put_deaf_guest(&pair.agents[0].host);
    let (vm, mut spec) = (vm(9), spec());
    "deaf".clone_into(&mut spec.disks[0].image);
    create_and_start(&pair.agents[0].host, vm, &spec).await;
    pair.agents[0].host.wait_for_console(vm, GREETING).await;
    let plan = Plan { from: 0, generation: Generation(1), mode: MigrationMode::Warm, spec: &spec };
    let (migration, send) = pair.order(vm, &plan).await;
    assert_eq!(send.await.unwrap(), EffectOutcome::Done);
    let end = pair.agents[0].end_of(migration).await;
    let SourceResult::Failed { reason } = &end.result else { panic!("{end:?}") };
    assert!(reason.contains("did not shut down within 1 s"), "{reason}");
    assert_eq!(pair.agents[1].migrations.abandon(vm, migration).await, EffectOutcome::Done);
    pair.agents[0].host.wait_for(vm, ObservedState::Running).await;
    assert_eq!(pair.agents[1].host.state(vm), None);
    // The same boot as before.
    let log = pair.agents[0].host.wait_for_console(vm, GREETING).await;
    assert_eq!(log, GREETING);

    pair.options.force_shutdown = true;
    completed(&pair.migrate(vm, &plan).await);
    pair.agents[1].host.wait_for_console(vm, &GREETING.repeat(2)).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_guest_that_is_not_up_yet_when_it_is_told_to_shut_down_is_told_again() {
    let mut pair = Pair::new(settings()).await;
    let (vm, mut spec) = (vm(12), spec());
    DROWSY_IMAGE.clone_into(&mut spec.disks[0].image);
    create_and_start(&pair.agents[0].host, vm, &spec).await;
    pair.agents[0].host.wait_for_console(vm, GREETING).await;
    let plan = Plan { from: 0, generation: Generation(1), mode: MigrationMode::Warm, spec: &spec };
    completed(&pair.migrate(vm, &plan).await);
    pair.agents[1].host.wait_for_console(vm, &GREETING.repeat(2)).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_kernel_is_sent_no_faster_than_was_asked() {
    const KERNEL_BYTES: u64 = 1 << 20;
    let mut pair = Pair::new(settings()).await;
    pair.options.bandwidth_bits_per_second = Some(KERNEL_BYTES * 8 / 2);
    let host = &pair.agents[0].host;
    put_noise(host, "kernel", 1);
    let kernel = host.directory.path().join("images/kernel.raw").display().to_string();
    let boot = Boot::Kernel { kernel, initrd: String::new(), append: String::new() };
    let (vm, spec) = (vm(13), VmSpec { boot, disks: Vec::new(), ..spec() });
    let create = MachineOrder::Create(Box::new(spec.clone()));
    assert_eq!(host.order(vm, create).await, EffectOutcome::Done);
    let plan = Plan { from: 0, generation: Generation(1), mode: MigrationMode::Cold, spec: &spec };
    let end = pair.migrate(vm, &plan).await;
    let account = completed(&end);
    assert_eq!(account.bytes_wire_files, KERNEL_BYTES);
    // Two seconds, but for what may leave at once.
    assert!(account.total_ms >= 1900, "{account:#?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_record_counts_what_was_sent_before_the_source_was_restarted() {
    const KERNEL_BYTES: u64 = 1 << 20;
    let mut pair = Pair::new(settings()).await;
    // The kernel takes a second, the disk four.
    pair.options.bandwidth_bits_per_second = Some(KERNEL_BYTES * 8);
    let host = &pair.agents[0].host;
    put_noise(host, "kernel", 1);
    put_noise(host, "noise", 4);
    let kernel = host.directory.path().join("images/kernel.raw").display().to_string();
    let boot = Boot::Kernel { kernel, initrd: String::new(), append: String::new() };
    let (vm, mut spec) = (vm(14), VmSpec { boot, ..spec() });
    spec.disks[0] = DiskSpec { size_bytes: 0, image: "noise".into(), format: DiskFormat::Raw };
    let create = MachineOrder::Create(Box::new(spec.clone()));
    assert_eq!(host.order(vm, create).await, EffectOutcome::Done);
    let plan = Plan { from: 0, generation: Generation(1), mode: MigrationMode::Cold, spec: &spec };
    let ordered = Instant::now();
    let (migration, send) = pair.order(vm, &plan).await;
    // Files are sent before the target makes disks.
    let arriving = pair.agents[1].host.directory.path().join("vms").join(vm.to_string());
    let has_come = async {
        while !arriving.exists() {
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(PATIENCE, has_come).await.unwrap();
    send.abort();
    let _ = send.await;

    let Pair { authority, agents: [source, target], .. } = pair;
    let source = source.restart(&authority, settings()).await;
    let end = source.end_of(migration).await;
    let account = completed(&end);
    assert_eq!(account.bytes_wire_files, KERNEL_BYTES);
    assert!(account.bytes_wire_disks >= 4 * KERNEL_BYTES && account.verified, "{account:#?}");
    // All the time, but for what the end takes.
    let whole = ordered.elapsed();
    assert!(u128::from(account.total_ms) * 10 >= whole.as_millis() * 9, "{whole:?}: {account:#?}");
    drop(target);
}

/// Numbers that look random, as an image of the host.
fn put_noise(host: &Host, image: &str, mebibytes: usize) {
    let mut state = 88_172_645_463_325_252_u64;
    let mut next = || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state.to_le_bytes()
    };
    let bytes: Vec<u8> = (0..mebibytes << 17).flat_map(|_| next()).collect();
    let file = host.directory.path().join("images").join(format!("{image}.raw"));
    std::fs::write(file, bytes).unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_the_target_has_of_the_disks_is_not_sent() {
    const MIB: u64 = 1 << 20;
    let mut pair = Pair::new(settings()).await;
    pair.agents.iter().for_each(|agent| put_noise(&agent.host, "everywhere", 24));
    put_noise(&pair.agents[0].host, "at-the-source", 8);
    let disk = |image: &str, size_bytes, format| {
        let image = image.to_owned();
        DiskSpec { size_bytes, image, format }
    };
    let mut spec = spec();
    spec.disks.push(disk("everywhere", 64 * MIB, DiskFormat::Qcow2));
    spec.disks.push(disk("at-the-source", 0, DiskFormat::Raw));
    let vm = vm(7);
    create_and_start(&pair.agents[0].host, vm, &spec).await;
    pair.agents[0].host.wait_for_console(vm, GREETING).await;

    for (from, generation, wire_bytes) in [
        (0, Generation(1), 8 * MIB..9 * MIB),
        (1, Generation(2), 0..MIB / 4),
        (0, Generation(3), 0..MIB / 4),
    ] {
        let plan = Plan { from, generation, mode: MigrationMode::Live, spec: &spec };
        let end = pair.migrate(vm, &plan).await;
        let account = completed(&end);
        assert!(account.verified);
        let disk_bytes = account.bytes_wire - account.bytes_wire_memory;
        assert!(wire_bytes.contains(&disk_bytes), "{disk_bytes} bytes, not {wire_bytes:?}");
        assert!(pair.agents[from].host.former(vm).join("disk1.qcow2").exists());
        assert!(!pair.agents[1 - from].host.former(vm).exists());
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_migration_says_how_busy_both_hosts_are() {
    let mut pair = Pair::new(settings()).await;
    put_noise(&pair.agents[0].host, "at-the-source", 4);
    let mut spec = spec();
    let image = "at-the-source".to_owned();
    spec.disks.push(DiskSpec { size_bytes: 0, image, format: DiskFormat::Raw });
    let vm = vm(10);
    create_and_start(&pair.agents[0].host, vm, &spec).await;
    // 4 MiB take four seconds.
    pair.options.bandwidth_bits_per_second = Some(8_000_000);
    let plan = Plan { from: 0, generation: Generation(1), mode: MigrationMode::Live, spec: &spec };
    let (migration, _) = pair.order(vm, &plan).await;
    let loads = pair.agents[0].told(|report| match report {
        Report::Progress { migration: of, progress } if of == migration => {
            progress.source_load_permille.zip(progress.target_load_permille)
        }
        _ => None,
    });
    let (source, target) = loads.await;
    // Both are this one, which is busy with QEMU.
    assert!((1..=1000).contains(&source) && (1..=1000).contains(&target), "{source} {target}");
    completed(&pair.agents[0].end_of(migration).await);
}

#[derive(Serialize)]
struct Quit {}

impl qmp::Command for Quit {
    const NAME: &'static str = "quit";
    type Answer = qmp::Empty;
}

/// The guest runs at the source, and nothing is left at the target.
async fn assert_it_never_left(pair: &Pair, vm: VmId) {
    let (source, target) = (&pair.agents[0].host, &pair.agents[1].host);
    source.wait_for(vm, ObservedState::Running).await;
    let before = ticks(&source.wait_for_console(vm, "tick=1 ").await).len();
    let later = format!("tick={} ", before + 30);
    let seen = source.wait_for_console(vm, &later).await;
    assert!(!seen.contains("FAULT"), "{seen}");
    assert_eq!(target.state(vm), None);
    assert_eq!(target.remains(vm), Vec::<PathBuf>::new());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_target_whose_qemu_dies_leaves_the_guest_at_the_source() {
    let mut pair = Pair::new(settings()).await;
    let (vm, spec) = (vm(4), busy_spec());
    create_and_start(&pair.agents[0].host, vm, &spec).await;
    pair.agents[0].host.wait_for_console(vm, "tick=5 ").await;
    let plan = Plan { from: 0, generation: Generation(1), mode: MigrationMode::Live, spec: &spec };
    let (migration, send) = pair.order(vm, &plan).await;
    let operator = pair.agents[1].host.run_directory(vm).join("o.sock");
    let killed = async {
        loop {
            if let Ok(qmp) = qmp::connect(&operator, PATIENCE).await {
                return qmp.execute(&Quit {}).await;
            }
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(PATIENCE, killed).await.expect("the target's QEMU starts").unwrap();
    assert_eq!(send.await.unwrap(), EffectOutcome::Done);
    let end = pair.agents[0].end_of(migration).await;
    assert!(matches!(&end.result, SourceResult::Failed { .. }), "{end:?}");
    assert_eq!(pair.agents[1].migrations.abandon(vm, migration).await, EffectOutcome::Done);
    assert_it_never_left(&pair, vm).await;

    // Nothing stands in the way of the next attempt.
    let end = pair.migrate(vm, &plan).await;
    completed(&end);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_cancelled_migration_leaves_the_guest_at_the_source() {
    let mut pair = Pair::new(settings()).await;
    let (vm, spec) = (vm(5), busy_spec());
    create_and_start(&pair.agents[0].host, vm, &spec).await;
    pair.agents[0].host.wait_for_console(vm, "tick=5 ").await;
    let plan = Plan { from: 0, generation: Generation(1), mode: MigrationMode::Live, spec: &spec };
    let (migration, send) = pair.order(vm, &plan).await;
    assert_eq!(pair.agents[0].migrations.cancel(vm, migration).await, EffectOutcome::Done);
    assert_eq!(send.await.unwrap(), EffectOutcome::Done);
    let end = pair.agents[0].end_of(migration).await;
    assert_eq!(end.result, SourceResult::Cancelled);
    assert_eq!(pair.agents[1].migrations.abandon(vm, migration).await, EffectOutcome::Done);
    assert_it_never_left(&pair, vm).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_order_to_forget_may_overtake_the_one_to_expect() {
    let pair = Pair::new(settings()).await;
    let (target, vm, migration) = (&pair.agents[1], vm(6), MigrationId(Uuid::from_u128(1)));
    assert_eq!(target.migrations.abandon(vm, migration).await, EffectOutcome::Done);
    let role = TargetRole {
        migration,
        source: pair.agents[0].name.clone(),
        mode: MigrationMode::Live,
        decision: TargetRecord::Waiting,
    };
    let expected = target.migrations.expect(vm, Generation(2), busy_spec(), role).await;
    assert!(matches!(expected, EffectOutcome::Failed { .. }), "{expected:?}");
    assert_eq!(target.host.remains(vm), Vec::<PathBuf>::new());
}

/// A stopped machine at the first agent, and the order to send it, which was never given.
async fn stopped_machine(pair: &Pair, vm: VmId, spec: &VmSpec) -> SourceRole {
    let create = MachineOrder::Create(Box::new(spec.clone()));
    assert_eq!(pair.agents[0].host.order(vm, create).await, EffectOutcome::Done);
    let plan = Plan { from: 0, generation: Generation(1), mode: MigrationMode::Cold, spec };
    pair.source_role(MigrationId(Uuid::from_u128(7)), &plan)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_end_that_could_not_be_told_is_told_when_somebody_asks() {
    let pair = Pair::new(settings()).await;
    let (source, vm) = (&pair.agents[0], vm(8));
    let role = stopped_machine(&pair, vm, &spec()).await;
    // As a task leaves it that could write that the machine stays, and then not that the migration is over.
    let guest = source.host.machines.lend(vm, Generation(1), role.clone()).await.unwrap();
    let end = MigrationEnd {
        target: role.target.clone(),
        phase: MigrationPhase::Prepare,
        result: SourceResult::Failed { reason: "the disk is full".to_owned() },
    };
    guest.keep(end.clone()).await.unwrap();
    assert!(!source.host.reporter.has_ended(role.migration));
    let sent = source.migrations.send(vm, Generation(1), role.clone()).await;
    assert_eq!(sent, EffectOutcome::Done);
    assert_eq!(source.end_of(role.migration).await, end);
    source.host.reporter.committed(u64::MAX).await;
    assert!(!source.host.reporter.has_ended(role.migration));
    // Cancelling it, and sending it after that, says how it ended, too.
    let cancelled = source.migrations.cancel(vm, role.migration).await;
    assert_eq!(cancelled, EffectOutcome::Done);
    assert_eq!(source.end_of(role.migration).await, end);
    source.host.reporter.committed(u64::MAX).await;
    let migration = role.migration;
    assert_eq!(source.migrations.send(vm, Generation(1), role).await, EffectOutcome::Done);
    assert_eq!(source.end_of(migration).await, end);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_migration_that_is_stuck_is_not_said_to_be_over() {
    let pair = Pair::new(settings()).await;
    let (source, vm) = (&pair.agents[0], vm(9));
    let role = stopped_machine(&pair, vm, &spec()).await;
    let migration = role.migration;
    // As a task leaves it that could write nothing any more.
    drop(source.host.machines.lend(vm, Generation(1), role.clone()).await.unwrap());
    let cancelled = source.migrations.cancel(vm, migration).await;
    assert!(matches!(cancelled, EffectOutcome::Failed { .. }), "{cancelled:?}");
    let sent = source.migrations.send(vm, Generation(1), role).await;
    assert!(matches!(sent, EffectOutcome::Failed { .. }), "{sent:?}");
    assert!(!source.host.reporter.has_ended(migration));
}
