//! A cluster that is lost and comes back from its backup.

use std::io::Write;
use std::path::Path;

use crate::support::agent::{Agent, Greeting};
use crate::support::*;
use novacron_coordinator::app::App;
use novacron_coordinator::backup::{self, Backup};
use novacron_coordinator::clock::Clock;
use novacron_coordinator::coordinator::Coordinator;
use novacron_coordinator::directory::DirectoryError;
use novacron_coordinator::propose::Intent;
use novacron_coordinator::restoring::{BackupFile, RestoreError, restore};
use novacron_coordinator::state::Fleet;
use novacron_coordinator::state::audit::{AuditNumber, RECENT_MAX};
use novacron_protocol::backup::{BACKUP_PURPOSE, BackupError};
use novacron_protocol::effect::{Action, MachineReport, ObservedState};
use novacron_protocol::ids::{Generation, Incarnation};
use novacron_protocol::vm::VmState;
use novacron_vault::{EncryptedWriter, Salt, Vault, VaultError, VaultKey};
use tokio::time::timeout;

fn key() -> VaultKey {
    VaultKey::from_bytes([7; 32])
}

pub fn write_encrypted(path: &Path, content: &[u8]) {
    let vault = Vault::new(BACKUP_PURPOSE, vec![key()]).unwrap();
    let file = std::fs::File::create(path).unwrap();
    let mut writer = EncryptedWriter::new(file, &vault, Salt::draw().unwrap(), b"").unwrap();
    writer.write_all(content).unwrap();
    writer.finish().unwrap();
}

/// Asks a member for a backup.
pub async fn begin_backup(app: &App) -> Result<Backup, backup::BackupError> {
    app.backups.begin(request(), by_operator(Intent::TakeBackup)).await
}

/// All bytes of a backup that a member gives out.
pub async fn backup_of(cluster: &TestCluster, member: &str) -> Vec<u8> {
    let mut backup = begin_backup(cluster.app(member)).await.unwrap();
    let mut bytes = Vec::new();
    while let Some(part) = backup.next_bytes().await.unwrap() {
        bytes.extend(part);
    }
    bytes
}

/// What a restore must not change: machines but for what is promised, nodes, migrations, open effects.
fn substance(fleet: &Fleet) -> Vec<String> {
    let machines = fleet.vms().map(|vm| {
        let mut vm = vm.clone();
        vm.generation_promised = Generation(0);
        format!("{vm:?}")
    });
    let nodes = fleet.nodes().map(|node| format!("{:?}", (&node.name, &node.facts)));
    let migrations = fleet.migrations().map(|migration| format!("{migration:?}"));
    let effects = fleet.outbox_after(Default::default()).map(|row| format!("{row:?}"));
    machines.chain(nodes).chain(migrations).chain(effects).collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_cluster_that_is_lost_comes_back_with_machines_agents_and_orders() {
    let mut cluster = TestCluster::start(3).await;
    let follower = cluster.followers().await.remove(0);
    change_settings(cluster.app(&follower), RECENT_MAX + 1).await;
    let credentials = cluster.agent_credentials("node-01").await;
    let mut agent =
        Agent::connect(&cluster.peer_addresses(), &credentials, "node-01", vec![]).await;
    let web = create(cluster.any(), "web").await.unwrap();
    for _ in 0..2 {
        let effect = agent.effects().await.remove(0);
        agent.done(&effect).await;
    }
    let db = create(cluster.any(), "db").await.unwrap();
    let open = agent.effects().await.remove(0);
    assert!(matches!(open.action, Action::Create { .. }));
    let bytes = backup_of(&cluster, &follower).await;
    let before = cluster.app(&follower).view.local(substance);
    let cluster_id = cluster.any().cluster.id();
    let old = cluster.configs.clone();
    let revision = cluster.any().view.local(Fleet::revision);
    agent.close().await;
    for member in ["c1", "c2", "c3"] {
        cluster.stop(member).await;
    }

    let path = cluster.directory.path().join("backup");
    write_encrypted(&path, &bytes);
    let backup = BackupFile::new(&path, &key_file(cluster.directory.path(), &key())).unwrap();
    let inspection = backup.check().unwrap();
    assert_eq!((inspection.head.machines, inspection.head.archived_files), (2, 1));
    assert_eq!((inspection.head.cluster, inspection.contradiction), (cluster_id, None));
    // At the addresses of a member that is lost, with a data directory of its own.
    let mut config = old["c1"].clone();
    config.data_directory = cluster.directory.path().join("restored");
    let restored = restore(&config, &backup, Clock::system()).await.unwrap();
    assert_eq!(restored.head, inspection.head);
    assert!(restored.member.0 > 3 && restored.incarnation > Incarnation(1));
    cluster.configs = [("c1".to_owned(), config)].into();
    cluster.run("c1").await;
    let app = cluster.app("c1");
    let after = app.view.read(|fleet| (substance(fleet), fleet.revision())).await.unwrap();
    assert_eq!(after.0, before);
    assert!(after.1 > revision, "revisions go on");
    let view = app.cluster.view().await.unwrap();
    assert_eq!((view.cluster, view.members.len()), (cluster_id, 1));
    assert_eq!(view.members[0].id, restored.member);

    // The agent comes with the certificate that it has, and is told again what is open.
    let held = MachineReport {
        vm: web,
        generation: Generation(1),
        state: ObservedState::Running,
        reason: String::new(),
    };
    let addresses = cluster.peer_addresses();
    let mut agent = Agent::connect(&addresses, &credentials, "node-01", vec![held]).await;
    assert_eq!(agent.effects().await.remove(0), open);
    agent.done(&open).await;
    let start = agent.effects().await.remove(0);
    assert!((start.vm, &start.action) == (db, &Action::Start) && start.id > open.id);
    agent.done(&start).await;
    let states = app.view.read(|fleet| [web, db].map(|vm| fleet.vm(vm).unwrap().state())).await;
    assert_eq!(states, Ok([VmState::Running; 2]));

    // Others join, with ids that were never used. Those of the life before are not answered, and end.
    cluster.add("c5").await;
    let view = cluster.any().cluster.view().await.unwrap();
    assert_eq!(view.members[1].id.0, restored.member.0 + 1);
    let newer = Incarnation(restored.incarnation.0 + 1);
    let sent_away = Agent::greet_from(newer, addresses[0], &credentials, "node-01", vec![]).await;
    let Greeting::Refused(reason) = sent_away else { panic!("an agent of a later life is taken") };
    assert!(reason.contains("must not run any more"), "{reason}");
    for ghost in ["c2", "c3"] {
        let ghost = Coordinator::start(&old[ghost], Clock::system()).await.unwrap();
        timeout(DEADLINE, ghost.stopping()).await.expect("it learns that its life is over");
        ghost.shutdown().await;
    }
    create(cluster.any(), "later").await.unwrap();

    // The past is there, too; and all of it after a restart, from its own disk.
    let verdict = cluster.app("c1").audit.verify(None).await.unwrap();
    assert!(verdict.intact, "{verdict:?}");
    agent.close().await;
    cluster.stop("c5").await;
    cluster.stop("c1").await;
    cluster.run("c1").await;
    cluster.run("c5").await;
    let machines = cluster.app("c1").view.read(|fleet| fleet.vms().count()).await;
    assert_eq!(machines, Ok(3));
    cluster.shutdown().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_wrong_with_a_backup_is_said_before_anything_is_written() {
    let cluster = TestCluster::start(1).await;
    create(cluster.any(), "web").await.unwrap();
    let bytes = backup_of(&cluster, "c1").await;
    let directory = cluster.directory.path();
    let path = directory.join("backup");
    write_encrypted(&path, &bytes);
    let config = config("c2", directory);
    let right = key_file(directory, &key());
    let attempt = async |path: &Path, key_file: &Path| {
        let file = BackupFile::new(path, key_file).unwrap();
        restore(&config, &file, Clock::system()).await.unwrap_err()
    };

    let other = key_file(directory, &VaultKey::from_bytes([8; 32]));
    let needed = key().id();
    let wrong_key = attempt(&path, &other).await;
    assert!(
        matches!(&wrong_key, RestoreError::Encrypted(VaultError::OtherKey { needed: id, .. }) if *id == needed)
    );
    let whole = std::fs::read(&path).unwrap();
    let damaged = directory.join("damaged");
    std::fs::write(&damaged, &whole[..whole.len() - 1]).unwrap();
    let cut = attempt(&damaged, &right).await;
    assert!(matches!(cut, RestoreError::Encrypted(VaultError::CutOff)), "{cut:?}");
    let mut flipped = whole.clone();
    flipped[whole.len() / 2] ^= 1;
    std::fs::write(&damaged, &flipped).unwrap();
    let changed = attempt(&damaged, &right).await;
    assert!(matches!(changed, RestoreError::Encrypted(VaultError::Changed { .. })), "{changed:?}");

    // A stream that the coordinator broke off, and that was encrypted as far as it came.
    write_encrypted(&damaged, &bytes[..bytes.len() - 50]);
    let broken_off = attempt(&damaged, &right).await;
    assert!(matches!(broken_off, RestoreError::Backup(BackupError::CutOff)), "{broken_off:?}");
    write_encrypted(&damaged, b"something else");
    let nothing = attempt(&damaged, &right).await;
    assert!(matches!(nothing, RestoreError::Backup(BackupError::NotABackup)), "{nothing:?}");
    std::fs::write(&damaged, b"something else").unwrap();
    let plain = BackupFile::new(&damaged, &right).unwrap().check().unwrap_err();
    assert!(matches!(plain, RestoreError::Encrypted(VaultError::NotSealed)), "{plain:?}");
    assert!(!config.data_directory.exists(), "nothing was made");

    let in_use = cluster.configs["c1"].clone();
    let file = BackupFile::new(&path, &right).unwrap();
    let refused = restore(&in_use, &file, Clock::system()).await.unwrap_err();
    assert!(matches!(refused, RestoreError::Directory(DirectoryError::InUse { .. })));
    cluster.shutdown().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn one_backup_at_a_time_and_none_without_a_quorum() {
    let mut cluster = TestCluster::start(3).await;
    let first = begin_backup(cluster.app("c1")).await.unwrap();
    let second = begin_backup(cluster.app("c1")).await.err().unwrap();
    assert_eq!(second.to_problem().code, novacron_protocol::api::Code::Conflict);
    drop(first);
    // Whoever has got one has got all secrets: it is on record, and what was refused is not.
    let given_out = cluster.app("c1").view.local(|fleet| {
        let lines = fleet.audit_from(AuditNumber(1)).map(|(_, row)| row.line.clone());
        lines.filter(|line| line.contains("cluster.backup")).collect::<Vec<_>>()
    });
    assert_eq!(given_out.len(), 1, "{given_out:?}");
    assert!(given_out[0].contains(r#""result":{"kind":"done"}"#), "{given_out:?}");
    drop(begin_backup(cluster.app("c1")).await.unwrap());
    cluster.stop("c2").await;
    cluster.stop("c3").await;
    let alone = begin_backup(cluster.app("c1")).await.err().unwrap();
    assert_eq!(alone.to_problem().code, novacron_protocol::api::Code::Unavailable);
    cluster.shutdown().await;
}
