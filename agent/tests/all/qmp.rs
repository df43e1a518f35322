//! The QMP client against a real QEMU.

use std::process::Stdio;
use std::time::Duration;

use novacron_agent::qmp::{
    self, Capability, Command, Empty, Event, MigrateParameters, MigrateStatus, QmpError, RunState,
    YankInstance,
};
use tokio::process::{Child, Command as Program};
use tokio::time::timeout;

const PATIENCE: Duration = Duration::from_secs(30);

/// A QEMU without a guest; it ends with the test.
struct Qemu {
    _process: Child,
    directory: tempfile::TempDir,
    qmp: qmp::Qmp,
}

async fn qemu() -> Qemu {
    let directory = tempfile::tempdir().unwrap();
    let socket = directory.path().join("q.sock");
    let monitor = format!("unix:{},server=on,wait=off", socket.display());
    let process = Program::new("qemu-system-x86_64")
        .args(["-nodefaults", "-display", "none", "-machine", "q35,accel=tcg", "-m", "16M", "-S"])
        .args(["-no-shutdown", "-qmp", &monitor])
        .stdin(Stdio::null())
        .kill_on_drop(true)
        .spawn()
        .expect("QEMU is missing: install qemu-system-x86 10 or newer, or run `cargo xtask test`");
    let connecting = async {
        loop {
            match qmp::connect(&socket, PATIENCE).await {
                Ok(qmp) => return qmp,
                Err(QmpError::Connect { .. }) => tokio::task::yield_now().await,
                Err(error) => panic!("{error}"),
            }
        }
    };
    let qmp = timeout(PATIENCE, connecting).await.unwrap();
    Qemu { _process: process, directory, qmp }
}

#[tokio::test]
async fn the_guest_is_told_and_says_what_it_does() {
    let qemu = qemu().await;
    let qmp = &qemu.qmp;
    assert!(qmp.version().await.unwrap().major >= 10);
    assert_eq!(qmp.status().await.unwrap().status, RunState::Prelaunch);
    let mut events = qmp.events();
    qmp.cont().await.unwrap();
    assert_eq!(timeout(PATIENCE, events.recv()).await.unwrap().unwrap(), Event::Resume);
    assert!(qmp.status().await.unwrap().running);
    qmp.stop().await.unwrap();
    assert_eq!(timeout(PATIENCE, events.recv()).await.unwrap().unwrap(), Event::Stop);
    qmp.quit().await.unwrap();
    timeout(PATIENCE, qmp.closed()).await.unwrap();
    assert!(matches!(qmp.status().await, Err(QmpError::Closed)));
}

#[tokio::test]
async fn a_refusal_has_qemus_class_and_words() {
    let qemu = qemu().await;
    let refused = qemu.qmp.blockdev_del("nowhere").await.unwrap_err();
    assert!(refused.is_class("GenericError"), "{refused}");
    assert!(refused.to_string().contains("nowhere"), "{refused}");

    #[derive(serde::Serialize)]
    struct Unknown {}
    impl Command for Unknown {
        const NAME: &'static str = "no-such-command";
        type Answer = Empty;
    }
    assert!(qemu.qmp.execute(&Unknown {}).await.unwrap_err().is_class("CommandNotFound"));
}

#[tokio::test]
async fn many_commands_at_once_get_their_own_answers() {
    let qemu = qemu().await;
    let mut tasks = tokio::task::JoinSet::new();
    for number in 0..32 {
        let qmp = qemu.qmp.clone();
        tasks.spawn(async move {
            if number % 2 == 0 {
                assert!(qmp.version().await.unwrap().major >= 10);
            } else {
                let node = format!("node{number}");
                let refused = qmp.blockdev_del(&node).await.unwrap_err();
                assert!(refused.to_string().contains(&node), "{refused}");
            }
        });
    }
    while let Some(done) = tasks.join_next().await {
        done.unwrap();
    }
}

#[tokio::test]
async fn migration_is_set_up_and_its_failure_told() {
    let qemu = qemu().await;
    let qmp = &qemu.qmp;
    let capabilities = [
        (Capability::ReturnPath, true),
        (Capability::Events, true),
        (Capability::SwitchoverAck, true),
        (Capability::Multifd, true),
        (Capability::PauseBeforeSwitchover, true),
        (Capability::AutoConverge, true),
    ];
    qmp.set_capabilities(&capabilities).await.unwrap();
    let parameters = MigrateParameters {
        max_bandwidth: Some(0),
        avail_switchover_bandwidth: Some(100 << 20),
        downtime_limit: Some(300),
        multifd_channels: Some(2),
        cpu_throttle_initial: Some(20),
        cpu_throttle_increment: Some(10),
        zero_page_detection: Some("multifd"),
        announce_rounds: Some(0),
    };
    qmp.set_migrate_parameters(&parameters).await.unwrap();
    assert_eq!(qmp.migration().await.unwrap().status, MigrateStatus::None);
    // Taken, and failed a moment later: nobody listens there.
    let mut events = qmp.events();
    qmp.migrate(&qemu.directory.path().join("nobody")).await.unwrap();
    let failed = Event::Migration(qmp::MigrationEvent { status: MigrateStatus::Failed });
    while timeout(PATIENCE, events.recv()).await.unwrap().unwrap() != failed {}
    assert!(qmp.migration().await.unwrap().error_desc.unwrap().contains("nobody"));
    // Out of band, and refused because nothing is under way.
    qmp.yank(vec![YankInstance::Migration]).await.unwrap_err();
    qmp.announce_self().await.unwrap();
}

#[tokio::test]
async fn disks_are_exported_and_mirrored() {
    let (source, target) = (qemu().await, qemu().await);
    let (qmp, socket) = (&source.qmp, target.directory.path().join("n.sock"));
    let disk = serde_json::json!({"driver": "null-co", "node-name": "disk0", "size": 1 << 20});
    qmp.blockdev_add(disk.clone()).await.unwrap();
    target.qmp.blockdev_add(disk).await.unwrap();
    target.qmp.nbd_server_start(&socket).await.unwrap();
    target.qmp.block_export_add("export0", "disk0").await.unwrap();
    qmp.add_nbd_client("client", &socket, "disk0").await.unwrap();
    let mut events = qmp.events();
    qmp.blockdev_mirror("job0", "disk0", "client").await.unwrap();
    let ready = Event::BlockJobReady { job: "job0".to_owned() };
    while timeout(PATIENCE, events.recv()).await.unwrap().unwrap() != ready {}
    let jobs = qmp.block_jobs().await.unwrap();
    assert!(jobs.len() == 1 && jobs[0].ready && jobs[0].device == "job0", "{jobs:?}");
    qmp.block_job_cancel("job0", false).await.unwrap();
    let done = Event::BlockJobCompleted { job: "job0".to_owned(), error: None };
    while timeout(PATIENCE, events.recv()).await.unwrap().unwrap() != done {}
    qmp.blockdev_del("client").await.unwrap();
    target.qmp.block_export_del("export0").await.unwrap();
    target.qmp.nbd_server_stop().await.unwrap();
}

#[tokio::test]
async fn a_socket_without_qemu_is_a_clear_error() {
    let directory = tempfile::tempdir().unwrap();
    let socket = directory.path().join("q.sock");
    let error = qmp::connect(&socket, PATIENCE).await.unwrap_err();
    assert!(matches!(error, QmpError::Connect { .. }));
    let _listener = tokio::net::UnixListener::bind(&socket).unwrap();
    let silent = qmp::connect(&socket, Duration::from_millis(50)).await.unwrap_err();
    assert!(matches!(silent, QmpError::Deadline { command: "greeting", .. }), "{silent}");
}
