//! Machines on a real host: made, started, talked to, stopped, removed, and taken up again.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use crate::common::{DROWSY_IMAGE, GREETING, Host, PATIENCE, read_until, spec, vm};
use novacron_agent::qmp::Event;
use novacron_agent::vm::{MachineOrder, Order};
use novacron_protocol::effect::{EffectOutcome, ObservedState};
use novacron_protocol::ids::Generation;
use novacron_protocol::vm::{Boot, DiskSpec, Network, VmSpec};
use rustix::process::{Pid, Signal, kill_process};
use tokio::io::AsyncWriteExt;

const START: MachineOrder = MachineOrder::Existing(Order::Start);
const STOP: MachineOrder = MachineOrder::Existing(Order::Stop { force: false });
const STOP_BY_FORCE: MachineOrder = MachineOrder::Existing(Order::Stop { force: true });
const DESTROY: MachineOrder = MachineOrder::Existing(Order::Destroy);

fn create(change: impl FnOnce(&mut VmSpec)) -> MachineOrder {
    let mut spec = spec();
    change(&mut spec);
    MachineOrder::Create(Box::new(spec))
}

fn reason(outcome: EffectOutcome) -> String {
    match outcome {
        EffectOutcome::Failed { reason } => reason,
        other => panic!("{other:?} is not a failure"),
    }
}

#[tokio::test]
async fn a_machine_lives_from_creation_to_removal() {
    let host = Host::new().await;
    let vm = vm(1);
    host.create_and_start(vm).await;
    assert_eq!(host.state(vm), Some(ObservedState::Running));
    host.wait_for_console(vm, GREETING).await;

    // The guest obeys the power button.
    assert_eq!(host.order(vm, STOP).await, EffectOutcome::Done);
    assert_eq!(host.state(vm), Some(ObservedState::Stopped));
    assert!(!host.run_directory(vm).exists());

    // Each order is safe to give twice.
    assert_eq!(host.order(vm, STOP).await, EffectOutcome::Done);
    assert_eq!(host.order(vm, create(|_| ())).await, EffectOutcome::Done);
    assert_eq!(host.order(vm, START).await, EffectOutcome::Done);
    assert_eq!(host.order(vm, START).await, EffectOutcome::Done);
    assert_eq!(host.order(vm, STOP_BY_FORCE).await, EffectOutcome::Done);
    assert_eq!(host.order(vm, DESTROY).await, EffectOutcome::Done);
    assert_eq!(host.order(vm, DESTROY).await, EffectOutcome::Done);
    assert_eq!(host.state(vm), None);
    assert_eq!(host.remains(vm), Vec::<std::path::PathBuf>::new());
}

#[tokio::test]
async fn the_console_echoes_what_is_typed() {
    let host = Host::new().await;
    let vm = vm(2);
    host.create_and_start(vm).await;
    host.wait_for_console(vm, GREETING).await;
    let console = host.machines.console(vm, 0, true).unwrap();
    let (mut ours, mut theirs) = tokio::io::duplex(4096);
    let serving = tokio::spawn(async move {
        let (mut input, mut output) = tokio::io::split(&mut theirs);
        console.serve(&mut output, &mut input).await
    });
    ours.write_all(b"echo me").await.unwrap();
    let seen = read_until(&mut ours, "echo me").await;
    assert!(seen.starts_with(GREETING), "{seen:?}");
    // The machine's end is the console's end.
    assert_eq!(host.order(vm, DESTROY).await, EffectOutcome::Done);
    tokio::time::timeout(PATIENCE, serving).await.unwrap().unwrap().unwrap();
}

#[tokio::test]
async fn a_guest_outlives_the_agent_and_is_taken_up_again() {
    let host = Host::new().await;
    let vm = vm(3);
    host.create_and_start(vm).await;
    host.wait_for_console(vm, GREETING).await;
    let pid = host.pid(vm);
    let host = host.restart().await;
    assert_eq!(host.state(vm), Some(ObservedState::Running));
    assert_eq!(host.pid(vm), pid);
    // The same order again, from before the restart: nothing is started twice.
    assert_eq!(host.order(vm, START).await, EffectOutcome::Done);
    assert_eq!(host.pid(vm), pid);
    assert_eq!(host.order(vm, STOP).await, EffectOutcome::Done);
    let host = host.restart().await;
    assert_eq!(host.state(vm), Some(ObservedState::Stopped));
}

#[tokio::test]
async fn a_killed_process_is_a_failure_and_can_be_started_again() {
    let host = Host::new().await;
    let vm = vm(4);
    host.create_and_start(vm).await;
    kill_process(Pid::from_raw(host.pid(vm)).unwrap(), Signal::KILL).unwrap();
    host.wait_for(vm, ObservedState::Failed).await;
    let reason = host.report(vm).unwrap().reason;
    assert_eq!(reason, "QEMU ended by itself (signal: 9 (SIGKILL)): it left no word");
    let host = host.restart().await;
    assert_eq!(host.report(vm).unwrap().reason, reason);
    assert_eq!(host.state(vm), Some(ObservedState::Failed));
    assert_eq!(host.order(vm, START).await, EffectOutcome::Done);
    assert_eq!(host.state(vm), Some(ObservedState::Running));

    // An agent that is not the parent does not know.
    let host = host.restart().await;
    kill_process(Pid::from_raw(host.pid(vm)).unwrap(), Signal::KILL).unwrap();
    host.wait_for(vm, ObservedState::Failed).await;
    let reason = host.report(vm).unwrap().reason;
    assert!(reason.contains("how is not known"), "{reason}");
    assert_eq!(host.order(vm, DESTROY).await, EffectOutcome::Done);
}

/// What the agent has logged, of the test's own thread.
#[derive(Clone, Default)]
struct Log(Arc<Mutex<Vec<u8>>>);

impl std::io::Write for Log {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.0.lock().unwrap().extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

#[tokio::test]
async fn the_log_says_how_qemu_ended_if_it_crashed_when_the_guest_shut_down() {
    let log = Log::default();
    let writer = log.clone();
    let subscriber = tracing_subscriber::fmt().with_ansi(false).with_writer(move || writer.clone());
    let _logging = tracing::subscriber::set_default(subscriber.finish());
    let host = Host::new().await;
    let vm = vm(11);
    // A blank disk: nothing obeys the button.
    let blank = create(|spec| spec.disks[0].image = String::new());
    assert_eq!(host.order(vm, blank).await, EffectOutcome::Done);
    assert_eq!(host.order(vm, START).await, EffectOutcome::Done);
    let operator = host.run_directory(vm).join("o.sock");
    let qmp = novacron_agent::qmp::connect(&operator, PATIENCE).await.unwrap();
    let mut events = qmp.events();
    let is_press =
        |event: &Event| matches!(event, Event::Other { name, .. } if name == "POWERDOWN");
    let crash = async {
        // At the second press the machine has been stopping since the first.
        for _ in 0..2 {
            while !is_press(&events.recv().await.unwrap()) {}
        }
        kill_process(Pid::from_raw(host.pid(vm)).unwrap(), Signal::SEGV).unwrap();
    };
    let (outcome, _, ()) = tokio::join!(host.order(vm, STOP), host.order(vm, STOP), crash);
    assert_eq!(outcome, EffectOutcome::Done);
    assert_eq!(host.state(vm), Some(ObservedState::Stopped));
    let log = String::from_utf8(log.0.lock().unwrap().clone()).unwrap();
    let line = log.lines().find(|line| line.contains("QEMU did not end as it should"));
    let line = line.unwrap_or_else(|| panic!("{log}"));
    assert!(line.contains("WARN") && line.contains("SIGSEGV"), "{line}");
}

#[tokio::test]
async fn a_guest_that_powers_off_while_the_agent_is_away_is_stopped_not_failed() {
    let host = Host::new().await;
    let vm = vm(5);
    host.create_and_start(vm).await;
    host.wait_for_console(vm, GREETING).await;
    let operator = host.run_directory(vm).join("o.sock");
    host.machines.shut_down().await;
    let qmp = novacron_agent::qmp::connect(&operator, PATIENCE).await.unwrap();
    let mut events = qmp.events();
    qmp.power_down().await.unwrap();
    while !matches!(events.recv().await.unwrap(), Event::Shutdown(_)) {}
    drop(qmp);
    let host = host.restart().await;
    assert_eq!(host.state(vm), Some(ObservedState::Stopped));
}

#[tokio::test]
async fn a_guest_that_does_not_shut_down_says_what_helps() {
    let host = Host::new().await;
    let vm = vm(6);
    // A blank disk: the firmware finds nothing to boot and ignores the button.
    let blank = create(|spec| spec.disks[0].image = String::new());
    assert_eq!(host.order(vm, blank).await, EffectOutcome::Done);
    assert_eq!(host.order(vm, START).await, EffectOutcome::Done);
    let soon = Duration::from_millis(300);
    let given_up = reason(host.order_for(vm, Generation(1), STOP, soon).await);
    assert!(given_up.contains("--force"), "{given_up}");
    assert_eq!(host.state(vm), Some(ObservedState::Running));
    assert_eq!(host.order(vm, STOP_BY_FORCE).await, EffectOutcome::Done);
}

#[tokio::test]
async fn the_button_is_pressed_again_for_a_guest_that_does_not_hear_it_at_first() {
    let host = Host::new().await;
    let vm = vm(10);
    let drowsy = create(|spec| DROWSY_IMAGE.clone_into(&mut spec.disks[0].image));
    assert_eq!(host.order(vm, drowsy).await, EffectOutcome::Done);
    assert_eq!(host.order(vm, START).await, EffectOutcome::Done);
    host.wait_for_console(vm, GREETING).await;
    assert_eq!(host.order(vm, STOP).await, EffectOutcome::Done);
    assert_eq!(host.state(vm), Some(ObservedState::Stopped));
}

#[tokio::test]
async fn another_generation_changes_nothing() {
    let host = Host::new().await;
    let vm = vm(7);
    assert_eq!(host.order(vm, START).await, reasonless_absent());
    assert_eq!(host.order(vm, create(|_| ())).await, EffectOutcome::Done);
    for other in [Generation(0), Generation(2)] {
        for order in [START, STOP, DESTROY, create(|_| ())] {
            let outcome = host.order_for(vm, other, order, PATIENCE).await;
            assert_eq!(outcome, EffectOutcome::Stale { held: Some(Generation(1)) });
        }
    }
    assert_eq!(host.state(vm), Some(ObservedState::Stopped));
}

fn reasonless_absent() -> EffectOutcome {
    EffectOutcome::Stale { held: None }
}

#[tokio::test]
async fn what_cannot_be_made_says_why_and_leaves_nothing() {
    let host = Host::with_swtpm("/nowhere/swtpm").await;
    let bad: [(MachineOrder, &[&str]); 6] = [
        (create(|spec| spec.disks[0].image = "windows".into()), &["image:", "windows", "echo"]),
        (create(|spec| spec.disks[0].size_bytes = 512 << 10), &["disk:", "less than", "echo"]),
        (create(|spec| spec.enable_tpm = true), &["enable_tpm:", "/nowhere/swtpm", "install"]),
        (
            create(|spec| spec.network = Network::Bridge { bridge: "nobridge0".into() }),
            &["network.bridge:", "nobridge0"],
        ),
        (
            create(|spec| spec.boot = kernel("/nowhere/vmlinuz", "")),
            &["kernel:", "/nowhere/vmlinuz"],
        ),
        (
            create(|spec| spec.boot = kernel("/proc/version", "/nowhere/initrd")),
            &["kernel:", "/proc/version"],
        ),
    ];
    for (number, (order, expected)) in bad.into_iter().enumerate() {
        let vm = vm(100 + number as u128);
        let reason = reason(host.order(vm, order).await);
        for word in expected {
            assert!(reason.contains(word), "{word:?} is not in {reason:?}");
        }
        assert_eq!(host.remains(vm), Vec::<std::path::PathBuf>::new());
    }
}

fn kernel(kernel: &str, initrd: &str) -> Boot {
    Boot::Kernel { kernel: kernel.into(), initrd: initrd.into(), append: String::new() }
}

#[tokio::test]
async fn a_kernel_that_is_no_kernel_fails_at_the_start_with_qemus_words() {
    let host = Host::new().await;
    let file = host.directory.path().join("no-kernel");
    std::fs::write(&file, "text").unwrap();
    let vm = vm(8);
    let order = create(|spec| {
        spec.boot = kernel(file.to_str().unwrap(), "");
        spec.disks = Vec::<DiskSpec>::new();
    });
    assert_eq!(host.order(vm, order).await, EffectOutcome::Done);
    // The copy is the machine's own.
    std::fs::remove_file(&file).unwrap();
    let reason = reason(host.order(vm, START).await);
    assert!(reason.contains("QEMU did not start"), "{reason}");
    assert_eq!(host.state(vm), Some(ObservedState::Failed));
    assert_eq!(host.order(vm, DESTROY).await, EffectOutcome::Done);
    assert_eq!(std::fs::read_dir(host.directory.path().join("files")).unwrap().count(), 0);
}

#[tokio::test]
async fn a_tpm_lives_and_ends_with_its_machine() {
    let host = Host::new().await;
    let vm = vm(9);
    let order = create(|spec| spec.enable_tpm = true);
    assert_eq!(host.order(vm, order).await, EffectOutcome::Done);
    for _ in 0..2 {
        assert_eq!(host.order(vm, START).await, EffectOutcome::Done);
        let pid = std::fs::read_to_string(host.run_directory(vm).join("tpm.pid")).unwrap();
        assert_eq!(host.order(vm, STOP_BY_FORCE).await, EffectOutcome::Done);
        assert!(!std::path::Path::new("/proc").join(pid.trim()).join("exe").exists());
    }
    assert_eq!(host.order(vm, DESTROY).await, EffectOutcome::Done);
    assert_eq!(host.remains(vm), Vec::<std::path::PathBuf>::new());
}
