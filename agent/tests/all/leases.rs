//! Machines in the hands of a migration, as far as the machine's side of it goes: real QEMUs on two hosts, joined
//! directly, with the hand-over's decisions made by the test.

use std::path::PathBuf;
use std::sync::atomic::{AtomicU64, Ordering};

use crate::common::{GREETING, Host, PATIENCE, read_until, spec, vm};
use novacron_agent::disk::nbd::NbdClient;
use novacron_agent::qmp::{Capability, MigrateStatus, Qmp, RunState};
use novacron_agent::records::RecordName;
use novacron_agent::vm::record::{Desired, Role};
use novacron_agent::vm::{
    Interrupted, LeaseError, MachineOrder, Order, Receiving, SourceGuest, SourceRole, TargetRole,
    VmRecord,
};
use novacron_protocol::effect::{EffectOutcome, MigrationEnd, ObservedState, SourceResult};
use novacron_protocol::ids::{Generation, MigrationId};
use novacron_protocol::migration::{MigrationMode, MigrationOptions, MigrationPhase};
use novacron_protocol::session::handover::{SourceRecord, TargetRecord, Verdict};
use rustix::process::{Pid, Signal, kill_process};
use tokio::time::timeout;
use uuid::Uuid;

const HERE: Generation = Generation(1);
const THERE: Generation = Generation(2);

fn migration() -> MigrationId {
    MigrationId(Uuid::from_u128(42))
}

fn source_role(mode: MigrationMode) -> SourceRole {
    SourceRole {
        migration: migration(),
        target: "node-02".parse().unwrap(),
        target_address: "127.0.0.1:1".to_owned(),
        mode,
        target_generation: THERE,
        options: MigrationOptions::default(),
        is_shut_down: false,
        restarts: 0,
        decision: SourceRecord::Holds,
        memo: Vec::new(),
    }
}

fn target_role(mode: MigrationMode) -> TargetRole {
    TargetRole {
        migration: migration(),
        source: "node-01".parse().unwrap(),
        mode,
        decision: TargetRecord::Waiting,
    }
}

async fn expect(host: &Host, mode: MigrationMode) -> novacron_agent::vm::IncomingGuest {
    host.machines.expect(vm(1), THERE, spec(), target_role(mode)).await.unwrap()
}

/// For a migration of its own.
async fn lend(host: &Host, mode: MigrationMode) -> SourceGuest {
    static NEXT: AtomicU64 = AtomicU64::new(1000);
    let migration = MigrationId(Uuid::from_u128(NEXT.fetch_add(1, Ordering::Relaxed).into()));
    let role = SourceRole { migration, ..source_role(mode) };
    host.machines.lend(vm(1), HERE, role).await.unwrap()
}

/// How a migration ended for a machine that stayed.
fn end() -> MigrationEnd {
    MigrationEnd {
        target: "node-02".parse().unwrap(),
        phase: MigrationPhase::DataSync,
        result: SourceResult::Cancelled,
    }
}

async fn started_host() -> Host {
    started(Host::new().await).await
}

async fn started(host: Host) -> Host {
    host.create_and_start(vm(1)).await;
    host.wait_for_console(vm(1), GREETING).await;
    host
}

/// Moves a guest's state by QEMU's own means, the target paused.
async fn move_state(source: &Qmp, target: &Receiving, socket: PathBuf) {
    for qmp in [source, &target.qmp] {
        qmp.set_capabilities(&[(Capability::ReturnPath, true), (Capability::Events, true)])
            .await
            .unwrap();
    }
    target.qmp.migrate_incoming(&socket).await.unwrap();
    source.migrate(&socket).await.unwrap();
    let completed = async {
        while source.migration().await.unwrap().status != MigrateStatus::Completed {
            tokio::task::yield_now().await;
        }
    };
    timeout(PATIENCE, completed).await.unwrap();
}

#[tokio::test]
async fn a_lent_machine_is_the_migrations_until_it_is_kept() {
    let host = started_host().await;
    let stale = host.machines.lend(vm(1), THERE, source_role(MigrationMode::Live)).await;
    assert!(matches!(stale, Err(LeaseError::Stale(_))));
    let cold = host.machines.lend(vm(1), HERE, source_role(MigrationMode::Cold)).await;
    assert!(matches!(cold, Err(LeaseError::Refused(_))));
    let guest = lend(&host, MigrationMode::Live).await;
    for order in [Order::Start, Order::Stop { force: true }, Order::Destroy] {
        let outcome = host.order(vm(1), MachineOrder::Existing(order)).await;
        assert!(
            matches!(outcome, EffectOutcome::Failed { reason } if reason.contains("migrating"))
        );
    }
    // QEMU's own migration stops the guest at its end; keeping the machine lets it go on.
    guest.qmp().unwrap().stop().await.unwrap();
    guest.keep(end()).await.unwrap();
    assert_eq!(host.state(vm(1)), Some(ObservedState::Running));
    let stop = MachineOrder::Existing(Order::Stop { force: false });
    assert_eq!(host.order(vm(1), stop).await, EffectOutcome::Done);
}

#[tokio::test]
async fn decisions_and_leases_survive_the_agent() {
    let host = started_host().await;
    let mut guest = lend(&host, MigrationMode::Live).await;
    guest.count_restart(3).await.unwrap();
    guest.decide(SourceRecord::Released, b"remember".to_vec()).await.unwrap();
    drop(guest);
    let mut host = host.restart().await;
    let Some(Interrupted::Source(guest)) = host.interrupted.pop() else { panic!("no lease") };
    assert_eq!(guest.role().decision, SourceRecord::Released);
    assert_eq!(guest.role().memo, b"remember");
    assert_eq!(guest.role().restarts, 3);
    assert!(guest.qmp().unwrap().status().await.unwrap().running);
    guest.remove().await.unwrap();
    assert_eq!(host.state(vm(1)), None);
    assert_eq!(host.remains(vm(1)), Vec::<PathBuf>::new());
}

/// Has QEMU migrate into a socket that takes everything, as far as the point at which it stops the guest and waits.
async fn wait_before_switchover(qmp: &Qmp, socket: PathBuf) -> tokio::task::JoinHandle<()> {
    let listener = tokio::net::UnixListener::bind(&socket).unwrap();
    let reader = tokio::spawn(async move {
        let (mut stream, _) = listener.accept().await.unwrap();
        let _ = tokio::io::copy(&mut stream, &mut tokio::io::sink()).await;
    });
    let wanted = [(Capability::ReturnPath, true), (Capability::PauseBeforeSwitchover, true)];
    qmp.set_capabilities(&wanted).await.unwrap();
    qmp.migrate(&socket).await.unwrap();
    let waiting = async {
        while qmp.migration().await.unwrap().status != MigrateStatus::PreSwitchover {
            tokio::task::yield_now().await;
        }
    };
    timeout(PATIENCE, waiting).await.unwrap();
    reader
}

#[tokio::test]
async fn a_guest_whose_agent_died_before_the_switchover_goes_on() {
    let host = started_host().await;
    let guest = lend(&host, MigrationMode::Live).await;
    let socket = guest.facts().directories.run.join("out.sock");
    let reader = wait_before_switchover(guest.qmp().unwrap(), socket).await;
    drop(guest);
    reader.abort();
    let mut host = host.restart().await;
    let Some(Interrupted::Source(guest)) = host.interrupted.pop() else { panic!("no lease") };
    let qmp = guest.qmp().unwrap().clone();
    assert!(!qmp.status().await.unwrap().running);
    guest.keep(end()).await.unwrap();
    assert_eq!(host.state(vm(1)), Some(ObservedState::Running));
    assert!(qmp.status().await.unwrap().running);
}

async fn wait_until_shut_down(qmp: &Qmp) {
    let down = async {
        while qmp.status().await.unwrap().status != RunState::Shutdown {
            tokio::task::yield_now().await;
        }
    };
    timeout(PATIENCE, down).await.unwrap();
}

/// Boots that the console has seen.
async fn wait_for_boots(host: &Host, boots: usize) {
    host.wait_for_console(vm(1), &GREETING.repeat(boots)).await;
}

#[tokio::test]
async fn a_guest_that_was_shut_down_for_a_migration_is_started_again_if_it_stays() {
    let host = started_host().await;
    let guest = lend(&host, MigrationMode::Warm).await;
    guest.shut_down().await.unwrap();
    wait_until_shut_down(guest.qmp().unwrap()).await;
    guest.keep(end()).await.unwrap();
    assert_eq!(host.state(vm(1)), Some(ObservedState::Running));
    wait_for_boots(&host, 2).await;

    // The same if the agent ends in between.
    let guest = lend(&host, MigrationMode::Warm).await;
    guest.shut_down().await.unwrap();
    wait_until_shut_down(guest.qmp().unwrap()).await;
    drop(guest);
    let mut host = host.restart().await;
    let Some(Interrupted::Source(guest)) = host.interrupted.pop() else { panic!("no lease") };
    guest.keep(end()).await.unwrap();
    assert_eq!(host.state(vm(1)), Some(ObservedState::Running));
    wait_for_boots(&host, 3).await;
}

#[tokio::test]
async fn a_guest_whose_qemu_crashes_while_it_shuts_down_for_a_migration_is_started_again() {
    let host = started(Host::with_slow_ends().await).await;
    let guest = lend(&host, MigrationMode::Warm).await;
    guest.shut_down().await.unwrap();
    let qmp = guest.qmp().unwrap().clone();
    wait_until_shut_down(&qmp).await;
    kill_process(Pid::from_raw(host.pid(vm(1))).unwrap(), Signal::SEGV).unwrap();
    timeout(PATIENCE, qmp.closed()).await.unwrap();
    // The migration has failed because of that, and gives the machine back at once.
    guest.keep(end()).await.unwrap();
    assert_eq!(host.state(vm(1)), Some(ObservedState::Running), "{:?}", host.report(vm(1)));
    wait_for_boots(&host, 2).await;
    host.wait_for(vm(1), ObservedState::Running).await;
}

#[tokio::test]
async fn a_machine_that_arrived_warm_is_started_even_if_the_agent_ends_before() {
    let host = Host::new().await;
    let mut guest = expect(&host, MigrationMode::Warm).await;
    let (hardware, processor) = blueprint().await;
    drop(guest.prepare(hardware, processor).await.unwrap());
    // As an agent leaves it that ends between writing that the machine is its own and starting it.
    drop(guest);
    let mut record: VmRecord = host.records.get(RecordName::Vm(vm(1))).await.unwrap().unwrap();
    (record.role, record.desired) = (Role::Owner, Desired::Running);
    record.arrived_by = Some(migration());
    host.records.put(RecordName::Vm(vm(1)), &record).await.unwrap();
    let host = host.restart().await;
    host.wait_for(vm(1), ObservedState::Running).await;
    wait_for_boots(&host, 1).await;
}

#[tokio::test]
async fn a_rejected_machine_leaves_nothing_but_the_verdict() {
    let host = Host::new().await;
    let mut guest = expect(&host, MigrationMode::Live).await;
    assert_eq!(host.machines.verdict(vm(1), migration()).await.unwrap(), Some(Verdict::Waiting));
    assert_eq!(host.machines.inventory(), []);
    let (hardware, processor) = blueprint().await;
    let receiving = guest.prepare(hardware, processor).await.unwrap();
    assert_eq!(receiving.memory.len_bytes(), spec().memory_bytes);
    guest.reject().await.unwrap();
    assert!(receiving.qmp.is_closed() || timeout(PATIENCE, receiving.qmp.closed()).await.is_ok());
    assert_eq!(host.remains(vm(1)), Vec::<PathBuf>::new());
    let host = host.restart().await;
    assert_eq!(host.machines.verdict(vm(1), migration()).await.unwrap(), Some(Verdict::Refused));
}

/// Writes to the first disk as a migration does.
async fn write(receiving: &Receiving, run: &std::path::Path, data: Vec<u8>) {
    let socket = run.join("w.sock");
    receiving.qmp.nbd_server_start(&socket).await.unwrap();
    receiving.qmp.block_export_add("disk0", "disk0").await.unwrap();
    let written = tokio::task::spawn_blocking(move || {
        let mut client = NbdClient::connect(&socket, "disk0").unwrap();
        client.write(0, &data).unwrap();
        client.flush().unwrap();
    });
    written.await.unwrap();
}

#[tokio::test]
async fn what_arrived_of_a_rejected_machine_is_where_the_next_attempt_begins() {
    const MIB: usize = 1 << 20;
    let host = Host::new().await;
    // With the image it would not begin blank.
    std::fs::remove_dir_all(host.directory.path().join("images")).unwrap();
    let (hardware, processor) = blueprint().await;
    for (attempt, held_blocks) in [(1, 0), (2, 16)] {
        let migration = MigrationId(Uuid::from_u128(attempt));
        let role = TargetRole { migration, ..target_role(MigrationMode::Live) };
        let mut guest = host.machines.expect(vm(1), THERE, spec(), role).await.unwrap();
        let receiving = guest.prepare(hardware.clone(), processor.clone()).await.unwrap();
        assert_eq!(receiving.held[0].count(), held_blocks);
        assert!(!host.former(vm(1)).exists());
        if attempt == 1 {
            write(&receiving, &guest.directories().run, vec![1; MIB]).await;
        }
        guest.reject().await.unwrap();
        assert!(host.former(vm(1)).join("disk0.qcow2").exists());
    }
}

/// What a power cut makes of a qcow2 file whose references were written before their counts.
fn lose_counts(file: &std::path::Path) {
    let mut bytes = std::fs::read(file).unwrap();
    let number = |bytes: &[u8], at: usize| {
        u64::from_be_bytes(bytes[at..at + 8].try_into().unwrap()) as usize
    };
    // The table of counts is named in the header, and names its first block of them: 65,536 bytes.
    let counts = number(&bytes, number(&bytes, 48));
    bytes[counts..counts + 0x1_0000].fill(0);
    std::fs::write(file, bytes).unwrap();
}

#[tokio::test]
async fn a_disk_that_a_power_cut_has_torn_is_not_used_again() {
    const MIB: usize = 1 << 20;
    let host = Host::new().await;
    let (hardware, processor) = blueprint().await;
    let mut held_blocks = Vec::new();
    for attempt in 0..2 {
        let migration = MigrationId(Uuid::from_u128(attempt));
        let role = TargetRole { migration, ..target_role(MigrationMode::Live) };
        let mut guest = host.machines.expect(vm(1), THERE, spec(), role).await.unwrap();
        let receiving = guest.prepare(hardware.clone(), processor.clone()).await.unwrap();
        held_blocks.push(receiving.held[0].count());
        write(&receiving, &guest.directories().run, vec![1; MIB]).await;
        guest.reject().await.unwrap();
        lose_counts(&host.former(vm(1)).join("disk0.qcow2"));
    }
    assert_eq!(held_blocks[1], held_blocks[0], "the image is what it begins with");
    assert!(held_blocks[0] < 16);
}

#[tokio::test]
async fn an_arrival_that_the_agents_end_cut_short_goes_on_over_what_has_arrived() {
    const MIB: usize = 1 << 20;
    let host = Host::new().await;
    let mut guest = expect(&host, MigrationMode::Live).await;
    let (hardware, processor) = blueprint().await;
    let receiving = guest.prepare(hardware.clone(), processor.clone()).await.unwrap();
    let before = receiving.held[0].count();
    receiving.memory.write_page(9, &[7; 4096]).unwrap();
    write(&receiving, &guest.directories().run, vec![1; MIB]).await;
    drop((guest, receiving));

    let mut host = host.restart().await;
    let Some(Interrupted::Target(mut guest)) = host.interrupted.pop() else { panic!("no lease") };
    assert_eq!(guest.migration(), migration());
    assert!(guest.may_be_offered_anew());
    for attempt in 0..2 {
        let receiving = guest.prepare(hardware.clone(), processor.clone()).await.unwrap();
        let mut page = [0; 4096];
        receiving.memory.read_page(9, &mut page).unwrap();
        assert_eq!(page, [7; 4096], "attempt {attempt}");
        assert!(receiving.held[0].count() >= before.max(16), "attempt {attempt}");
    }
    guest.reject().await.unwrap();
    assert_eq!(host.remains(vm(1)), Vec::<PathBuf>::new());
}

#[tokio::test]
async fn a_refusal_that_the_agents_end_cut_short_stays_one() {
    let host = Host::new().await;
    drop(expect(&host, MigrationMode::Live).await);
    host.machines.refuse(migration()).await.unwrap();
    let mut host = host.restart().await;
    let Some(Interrupted::Target(guest)) = host.interrupted.pop() else { panic!("no lease") };
    assert!(!guest.may_be_offered_anew());
    guest.reject().await.unwrap();
    assert_eq!(host.remains(vm(1)), Vec::<PathBuf>::new());
}

#[tokio::test]
async fn a_machine_that_stayed_is_not_lent_for_the_same_migration_again() {
    let host = started_host().await;
    let guest = host.machines.lend(vm(1), HERE, source_role(MigrationMode::Live)).await.unwrap();
    guest.keep(end()).await.unwrap();
    // As an agent leaves it that ends before it has said so.
    assert!(!host.reporter.has_ended(migration()));
    let host = host.restart().await;
    assert!(host.reporter.has_ended(migration()));
    let again = host.machines.lend(vm(1), HERE, source_role(MigrationMode::Live)).await;
    assert!(matches!(again, Err(LeaseError::Over)));
    drop(lend(&host, MigrationMode::Live).await);
}

/// What the machine that [`spec`] describes is made of.
async fn blueprint() -> (novacron_agent::vm::Hardware, novacron_agent::vm::Processor) {
    let source = started_host().await;
    let guest = lend(&source, MigrationMode::Live).await;
    (guest.facts().hardware.clone(), guest.facts().processor.clone())
}

#[tokio::test]
async fn an_accepted_guest_runs_at_the_target_and_is_the_targets() {
    let (source, target) = (started_host().await, Host::new().await);
    let leaving = lend(&source, MigrationMode::Live).await;
    let mut arriving = expect(&target, MigrationMode::Live).await;
    let facts = leaving.facts();
    let prepared = arriving.prepare(facts.hardware.clone(), facts.processor.clone()).await.unwrap();
    let socket = arriving.directories().run.join("in.sock");
    move_state(leaving.qmp().unwrap(), &prepared, socket).await;
    assert!(!prepared.qmp.status().await.unwrap().running);
    // The guest's memory is what the agent has mapped: the boot sector is at 0x7c00.
    let mut page = [0; 4096];
    prepared.memory.read_page(7, &mut page).unwrap();
    assert_eq!(page[0xc00..0xc03], [0xfa, 0x31, 0xc0]);

    arriving.accept(false).await.unwrap();
    assert_eq!(target.state(vm(1)), Some(ObservedState::Running));
    leaving.remove().await.unwrap();
    assert_eq!(source.remains(vm(1)), Vec::<PathBuf>::new());

    let console = target.machines.console(vm(1), 0, true).unwrap();
    let (mut ours, mut theirs) = tokio::io::duplex(64);
    tokio::spawn(async move {
        let (mut input, mut output) = tokio::io::split(&mut theirs);
        console.serve(&mut output, &mut input).await
    });
    tokio::io::AsyncWriteExt::write_all(&mut ours, b"still here").await.unwrap();
    read_until(&mut ours, "still here").await;

    // It is an ordinary machine now, after a restart as well, and the verdict outlives it. (QEMU answers one client
    // at a time: the old agent's connection has to go.)
    drop(prepared);
    let target = target.restart().await;
    assert_eq!(target.state(vm(1)), Some(ObservedState::Running));
    let destroy = MachineOrder::Existing(Order::Destroy);
    let stale = target.order_for(vm(1), HERE, destroy.clone(), PATIENCE).await;
    assert_eq!(stale, EffectOutcome::Stale { held: Some(THERE) });
    let done = target.order_for(vm(1), THERE, destroy, PATIENCE).await;
    assert_eq!(done, EffectOutcome::Done);
    assert_eq!(target.remains(vm(1)), Vec::<PathBuf>::new());
    assert_eq!(target.machines.verdict(vm(1), migration()).await.unwrap(), Some(Verdict::Accepted));
}

#[tokio::test]
async fn a_stopped_machine_is_lent_with_its_disks_only() {
    let host = Host::new().await;
    let create = MachineOrder::Create(Box::new(spec()));
    assert_eq!(host.order(vm(1), create).await, EffectOutcome::Done);
    let live = host.machines.lend(vm(1), HERE, source_role(MigrationMode::Live)).await;
    assert!(matches!(live, Err(LeaseError::Refused(_))));
    let mut guest = lend(&host, MigrationMode::Cold).await;
    let qmp = guest.hold_disks().await.unwrap();
    assert!(!qmp.status().await.unwrap().running);
    guest.keep(end()).await.unwrap();
    assert_eq!(host.state(vm(1)), Some(ObservedState::Stopped));
    assert!(!host.run_directory(vm(1)).exists());

    // At the target the waiting QEMU goes, and the machine is started if that was asked for.
    let target = Host::new().await;
    let guest = lend(&host, MigrationMode::Cold).await;
    let mut arriving = expect(&target, MigrationMode::Cold).await;
    let facts = guest.facts();
    arriving.prepare(facts.hardware.clone(), facts.processor.clone()).await.unwrap();
    arriving.accept(true).await.unwrap();
    assert_eq!(target.state(vm(1)), Some(ObservedState::Running));
    guest.remove().await.unwrap();
}
