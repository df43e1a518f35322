//! Snapshots with real QEMUs and real qcow2 disks: one moment for all disks, back to it, and nothing half done whoever dies.

use std::path::{Path, PathBuf};
use std::process::Command;

use crate::common::{GREETING, Host, PATIENCE, spec, vm};
use novacron_agent::records::RecordName;
use novacron_agent::vm::{MachineOrder, Order, SnapshotOrder, VmRecord};
use novacron_protocol::effect::{EffectOutcome, ObservedState};
use novacron_protocol::ids::SnapshotId;
use novacron_protocol::limits::SNAPSHOTS_PER_VM_MAX;
use novacron_protocol::usage::Meter;
use novacron_protocol::vm::{DiskFormat, DiskSpec, VmSpec};
use rustix::process::{Pid, Signal, kill_process};
use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader};
use tokio::net::{UnixListener, UnixStream};
use tokio::sync::watch;
use uuid::Uuid;

const START: MachineOrder = MachineOrder::Existing(Order::Start);
const STOP: MachineOrder = MachineOrder::Existing(Order::Stop { force: true });

fn id(number: u128) -> SnapshotId {
    SnapshotId(Uuid::from_u128(number))
}

fn take(number: u128) -> MachineOrder {
    MachineOrder::Snapshot(SnapshotOrder::Take(id(number)))
}

fn restore(number: u128) -> MachineOrder {
    MachineOrder::Snapshot(SnapshotOrder::Restore(id(number)))
}

fn delete(number: u128) -> MachineOrder {
    MachineOrder::Snapshot(SnapshotOrder::Delete(id(number)))
}

/// A machine with two disks: that of the boot sector, and a blank one.
fn two_disks() -> VmSpec {
    let mut spec = spec();
    let format = DiskFormat::Qcow2;
    spec.disks.push(DiskSpec { size_bytes: 4 << 20, image: String::new(), format });
    spec
}

async fn made() -> Host {
    let host = Host::new().await;
    done(&host, MachineOrder::Create(Box::new(two_disks()))).await;
    host
}

async fn done(host: &Host, order: MachineOrder) {
    assert_eq!(host.order(vm(1), order.clone()).await, EffectOutcome::Done, "{order:?}");
}

async fn refused(host: &Host, order: MachineOrder) -> String {
    match host.order(vm(1), order).await {
        EffectOutcome::Failed { reason } => reason,
        other => panic!("{other:?} is not a refusal"),
    }
}

fn disk(host: &Host, index: usize) -> PathBuf {
    host.directory.path().join("vms").join(vm(1).to_string()).join(format!("disk{index}.qcow2"))
}

fn run(program: &str, arguments: &[&str], file: &PathBuf) -> String {
    let output = Command::new(program).args(arguments).arg(file).output().unwrap();
    let said = [output.stdout, output.stderr].concat();
    let said = String::from_utf8_lossy(&said).into_owned();
    assert!(output.status.success(), "{program} {arguments:?}: {said}");
    said
}

/// Writes a byte all over a part of both disks, which nobody has open.
fn write(host: &Host, byte: u8) {
    for index in 0..2 {
        let command = format!("write -P {byte} 1M 256k");
        run("qemu-io", &["-f", "qcow2", "-c", &command], &disk(host, index));
    }
}

/// Whether this byte is all over that part of a disk.
fn holds(host: &Host, index: usize, byte: u8) -> bool {
    let command = format!("read -P {byte} 1M 256k");
    let said = run("qemu-io", &["-f", "qcow2", "-r", "-c", &command], &disk(host, index));
    !said.contains("Pattern verification failed")
}

fn both_hold(host: &Host, byte: u8) -> bool {
    holds(host, 0, byte) && holds(host, 1, byte)
}

/// How many snapshots of a name a disk has, and how many in all.
fn count(host: &Host, index: usize, snapshot: u128) -> (usize, usize) {
    let said = run("qemu-img", &["snapshot", "-U", "-l"], &disk(host, index));
    let named = said.matches(&id(snapshot).to_string()).count();
    (named, said.matches("00000000-0000-").count())
}

async fn record(host: &Host) -> VmRecord {
    host.records.get(RecordName::Vm(vm(1))).await.unwrap().unwrap()
}

#[tokio::test]
async fn disks_become_what_they_were_all_of_them_and_as_often_as_asked() {
    let host = made().await;
    write(&host, 1);
    done(&host, take(1)).await;
    write(&host, 2);
    done(&host, take(2)).await;
    write(&host, 3);
    // Each order is safe to give twice.
    for order in [take(2), restore(1), restore(1)] {
        done(&host, order).await;
    }
    assert!(both_hold(&host, 1));
    done(&host, restore(2)).await;
    assert!(both_hold(&host, 2));
    done(&host, delete(1)).await;
    done(&host, delete(1)).await;
    assert_eq!(refused(&host, restore(1)).await, "the machine has no such snapshot on this node");
    for index in 0..2 {
        assert_eq!((count(&host, index, 1), count(&host, index, 2)), ((0, 1), (1, 1)));
        run("qemu-img", &["check", "-q"], &disk(&host, index));
    }
    assert_eq!(record(&host).await.snapshots, [id(2)]);
    done(&host, MachineOrder::Existing(Order::Destroy)).await;
    assert_eq!(host.remains(vm(1)), Vec::<PathBuf>::new());
}

#[tokio::test]
async fn a_guest_that_runs_notices_nothing_and_its_disks_are_kept_as_of_one_moment() {
    let host = made().await;
    write(&host, 1);
    done(&host, START).await;
    host.wait_for_console(vm(1), GREETING).await;
    done(&host, take(1)).await;
    done(&host, take(2)).await;
    assert_eq!(host.state(vm(1)), Some(ObservedState::Running));
    for index in 0..2 {
        assert_eq!(count(&host, index, 1), (1, 2));
    }
    // Nobody was told of the moment for which it stood still, and it goes on.
    let console = host.machines.console(vm(1), 0, true).unwrap();
    let (mut ours, mut theirs) = tokio::io::duplex(4096);
    let serving = tokio::spawn(async move {
        let (mut input, mut output) = tokio::io::split(&mut theirs);
        console.serve(&mut output, &mut input).await
    });
    AsyncWriteExt::write_all(&mut ours, b"still here").await.unwrap();
    crate::common::read_until(&mut ours, "still here").await;
    serving.abort();
    assert!(refused(&host, restore(1)).await.contains("stop it first"));
    done(&host, delete(2)).await;
    assert_eq!(count(&host, 1, 2), (0, 1));
    done(&host, STOP).await;
    write(&host, 2);
    done(&host, restore(1)).await;
    assert!(both_hold(&host, 1));
    done(&host, START).await;
    host.wait_for_console(vm(1), &format!("{GREETING}still here{GREETING}")).await;
}

#[tokio::test]
async fn a_killed_qemu_leaves_snapshots_that_can_be_restored() {
    let host = made().await;
    write(&host, 1);
    done(&host, START).await;
    host.wait_for_console(vm(1), GREETING).await;
    done(&host, take(1)).await;
    kill_process(Pid::from_raw(host.pid(vm(1))).unwrap(), Signal::KILL).unwrap();
    host.wait_for(vm(1), ObservedState::Failed).await;
    write(&host, 2);
    done(&host, take(2)).await;
    done(&host, restore(1)).await;
    assert!(both_hold(&host, 1));
    for index in 0..2 {
        run("qemu-img", &["check", "-q"], &disk(&host, index));
    }
}

#[tokio::test]
async fn what_an_agent_had_begun_when_it_died_is_not_what_is_kept() {
    let host = made().await;
    write(&host, 1);
    // The agent died when one disk had it, and did not come to write it down.
    let first = disk(&host, 0);
    let name = id(1).to_string();
    let host = host.crash(async || drop(run("qemu-img", &["snapshot", "-c", &name], &first))).await;
    assert_eq!(record(&host).await.snapshots, []);
    write(&host, 2);
    done(&host, take(1)).await;
    write(&host, 3);
    done(&host, restore(1)).await;
    assert!(both_hold(&host, 2), "the first disk is as of another moment than the second");
    for index in 0..2 {
        assert_eq!(count(&host, index, 1), (1, 1));
    }
}

#[tokio::test]
async fn a_restore_that_was_interrupted_is_brought_to_its_end_before_anything_runs() {
    let host = made().await;
    write(&host, 1);
    done(&host, take(1)).await;
    write(&host, 2);
    let (first, name) = (disk(&host, 0), id(1).to_string());
    let mut begun = record(&host).await;
    begun.restoring = Some(id(1));
    host.records.put(RecordName::Vm(vm(1)), &begun).await.unwrap();
    let host = host.crash(async || drop(run("qemu-img", &["snapshot", "-a", &name], &first))).await;
    // An order waits until the restore has come to its end.
    refused(&host, restore(9)).await;
    assert_eq!(record(&host).await.restoring, None);
    assert!(both_hold(&host, 1));
    done(&host, START).await;
}

/// The second disk has lost the snapshot, as after a delete that failed in the middle.
async fn one_disk_without_it() -> Host {
    let host = made().await;
    write(&host, 1);
    done(&host, take(1)).await;
    write(&host, 2);
    run("qemu-img", &["snapshot", "-d", &id(1).to_string()], &disk(&host, 1));
    host
}

#[tokio::test]
async fn what_is_not_in_all_disks_is_restored_in_none() {
    let host = one_disk_without_it().await;
    let reason = refused(&host, restore(1)).await;
    assert_eq!(reason, "disk 1 does not have the snapshot any more; nothing was restored");
    assert!(both_hold(&host, 2));
    done(&host, delete(1)).await;
    done(&host, START).await;
}

#[tokio::test]
async fn a_snapshot_whose_delete_fails_is_none_any_more_and_the_delete_can_be_repeated() {
    let host = made().await;
    write(&host, 1);
    done(&host, take(1)).await;
    write(&host, 2);
    let (away, second) = (disk(&host, 1).with_extension("away"), disk(&host, 1));
    std::fs::rename(&second, &away).unwrap();
    assert!(refused(&host, delete(1)).await.contains("qemu-img"));
    std::fs::rename(&away, &second).unwrap();
    assert_eq!(refused(&host, restore(1)).await, "the machine has no such snapshot on this node");
    assert!(both_hold(&host, 2));
    done(&host, delete(1)).await;
    let name = id(1).to_string();
    assert!((0..2).all(|index| !run("qemu-img", &["info"], &disk(&host, index)).contains(&name)));
}

#[tokio::test]
async fn disks_that_were_restored_in_part_are_not_run_from() {
    let host = one_disk_without_it().await;
    let mut begun = record(&host).await;
    begun.restoring = Some(id(1));
    host.records.put(RecordName::Vm(vm(1)), &begun).await.unwrap();
    let host = host.restart().await;
    for order in [START, take(2), delete(1)] {
        let reason = refused(&host, order).await;
        assert!(reason.contains("restored in part only"), "{reason}");
    }
}

#[tokio::test]
async fn what_cannot_be_kept_is_refused() {
    let host = Host::new().await;
    let mut raw = two_disks();
    raw.disks[1].format = DiskFormat::Raw;
    done(&host, MachineOrder::Create(Box::new(raw))).await;
    let reason = refused(&host, take(1)).await;
    assert_eq!(reason, "disk 1 is not qcow2, and snapshots are kept in qcow2 disks only");
    done(&host, MachineOrder::Existing(Order::Destroy)).await;
    done(&host, MachineOrder::Create(Box::new(two_disks()))).await;
    for number in 0..SNAPSHOTS_PER_VM_MAX {
        done(&host, take(number as u128 + 1)).await;
    }
    let reason = refused(&host, take(100)).await;
    assert_eq!(reason, "the machine has 32 snapshots; delete one");
}

#[tokio::test]
async fn snapshots_are_metered_from_when_they_are_whole_until_they_are_gone() {
    let host = made().await;
    done(&host, take(1)).await;
    host.pass(5_000);
    done(&host, take(2)).await;
    host.pass(7_000);
    for number in [1, 2] {
        done(&host, delete(number)).await;
    }
    let of_snapshots =
        |record: &&novacron_protocol::usage::UsageRecord| record.meter == Meter::SnapshotSeconds;
    let told = host
        .recording
        .until(|told| told.iter().filter(of_snapshots).any(|record| record.level == 2))
        .await;
    let sum = |level| -> u64 {
        let at = told.iter().filter(of_snapshots).filter(|record| record.level == level);
        at.map(|record| record.end_s - record.start_s).sum()
    };
    assert!((5..=8).contains(&sum(1)), "{told:?}");
    assert!((7..=10).contains(&sum(2)), "{told:?}");
}

/// Stands between an agent and a QEMU, and holds back what QEMU says from when it is told to stop until it is let go.
struct SlowQemu {
    has_stopped: watch::Receiver<bool>,
    goes_on: watch::Receiver<bool>,
    lets_go: watch::Sender<bool>,
}

impl SlowQemu {
    /// Takes the place of a QEMU's socket: the next who connects speaks through it.
    fn in_front_of(socket: &Path) -> Self {
        let real = socket.with_extension("real");
        std::fs::rename(socket, &real).unwrap();
        let listener = UnixListener::bind(socket).unwrap();
        let (stopped, has_stopped) = watch::channel(false);
        let (resumed, goes_on) = watch::channel(false);
        let (lets_go, let_go) = watch::channel(false);
        tokio::spawn(async move {
            let (agent, _) = listener.accept().await.unwrap();
            let (orders, mut to_agent) = agent.into_split();
            let (words, mut to_qemu) = UnixStream::connect(&real).await.unwrap().into_split();
            let (told, was_told) = watch::channel(false);
            tokio::spawn(async move {
                let mut orders = BufReader::new(orders).lines();
                while let Ok(Some(line)) = orders.next_line().await {
                    // Before QEMU hears it, so that its answer is held back.
                    let _ = line.contains("\"execute\":\"stop\"").then(|| told.send_replace(true));
                    to_qemu.write_all(format!("{line}\n").as_bytes()).await.unwrap();
                }
            });
            let mut words = BufReader::new(words).lines();
            while let Ok(Some(line)) = words.next_line().await {
                let _ = line.contains("\"STOP\"").then(|| stopped.send_replace(true));
                let _ = line.contains("\"RESUME\"").then(|| resumed.send_replace(true));
                if *was_told.borrow() {
                    let _ = let_go.clone().wait_for(|let_go| *let_go).await;
                }
                to_agent.write_all(format!("{line}\n").as_bytes()).await.unwrap();
            }
        });
        Self { has_stopped, goes_on, lets_go }
    }
}

#[tokio::test]
async fn a_guest_whose_qemu_says_too_late_that_it_stands_still_goes_on() {
    let host = made().await;
    done(&host, START).await;
    host.wait_for_console(vm(1), GREETING).await;
    let socket = host.run_directory(vm(1)).join("q.sock");
    let mut slow = None;
    let host = host.crash(async || slow = Some(SlowQemu::in_front_of(&socket))).await;
    let mut slow = slow.unwrap();
    let too_late = async {
        slow.has_stopped.wait_for(|has_stopped| *has_stopped).await.unwrap();
        // From here on nothing happens but that the agent waits: its clock jumps to where it does so no longer.
        tokio::time::pause();
    };
    let (reason, ()) = tokio::join!(refused(&host, take(1)), too_late);
    tokio::time::resume();
    assert!(reason.contains("stop"), "{reason}");
    slow.lets_go.send_replace(true);
    let goes_on = slow.goes_on.wait_for(|goes_on| *goes_on);
    tokio::time::timeout(PATIENCE, goes_on).await.expect("the guest goes on").unwrap();
    host.wait_for(vm(1), ObservedState::Running).await;
    // What was given up can be asked for again.
    assert_eq!(record(&host).await.snapshots, []);
    done(&host, take(1)).await;
    assert_eq!(record(&host).await.snapshots, [id(1)]);
}
