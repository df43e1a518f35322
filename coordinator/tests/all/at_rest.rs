//! Encryption of a member's own files: nothing to be read without its key, everything with it, and no start with another.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use novacron_coordinator::clock::Clock;
use novacron_coordinator::config::Config;
use novacron_coordinator::coordinator::Coordinator;
use novacron_coordinator::propose::Intent;
use novacron_coordinator::restoring::{BackupFile, restore};
use novacron_coordinator::samples::Subject;
use novacron_coordinator::samples::level::Level;
use novacron_coordinator::samples::question::Question;
use novacron_coordinator::samples::table::Resource;
use novacron_coordinator::state::audit::{RECENT_MAX, SEGMENT_RECORDS};
use novacron_coordinator::state::command::OpenSession;
use novacron_coordinator::state::node::SessionId;
use novacron_coordinator::state::{Accepted, Body, Command};
use novacron_protocol::ids::{Generation, NodeName, VmId};
use novacron_protocol::metric::Metric;
use novacron_protocol::sample::{Sample, Tick, parts};
use novacron_protocol::usage::{HOUR_S, Meter, UsageRecord};
use novacron_storage::archive::inspect;
use novacron_vault::VaultKey;

use crate::backup::{backup_of, write_encrypted};
use crate::secrets::files_with;
use crate::support::*;

/// What is looked for, as the name of a machine and of a node. Long enough not to be found by chance.
const NEEDLE: &str = "xyzzy-plugh-2f1b-plover";

fn key(number: u8) -> VaultKey {
    VaultKey::from_bytes([number; 32])
}

fn node() -> NodeName {
    NEEDLE.parse().unwrap()
}

/// What an agent's hello does to the fleet, and an hour of a machine's use.
async fn use_machine(cluster: &TestCluster, vm: VmId) {
    let proposer = &cluster.any().proposer;
    let (session, facts, machines) = (SessionId(1), agent::facts(), Vec::new());
    let open = Body::OpenSession(OpenSession { node: node(), session, facts, machines });
    proposer.propose(Command::of_cluster(request(), Clock::system().now(), open)).await.unwrap();
    let begin_s = Clock::system().now().unix_ms / 1000 / HOUR_S * HOUR_S - HOUR_S;
    let record = UsageRecord {
        vm,
        generation: Generation(1),
        meter: Meter::VmSeconds,
        start_s: begin_s,
        end_s: begin_s + 60,
        level: 1,
    };
    let posted = Intent::PostUsage { node: node(), records: vec![record] };
    let posted = proposer.submit(request(), by_operator(posted)).await;
    assert!(matches!(posted, Ok(Accepted::Usage(_))), "{posted:?}");
}

/// What a host measured a moment ago, told to a member.
fn measure(cluster: &TestCluster, member: &str) -> Tick {
    let now = Clock::system().now();
    let tick = Tick(Tick::of(now).0 - 1);
    let used = Sample { metric: Metric::ProcessorUsed.number(), device: 0, value: 1_234 };
    for part in parts(tick, Vec::new(), vec![used]) {
        cluster.app(member).samples.take(&node(), &part, now);
    }
    tick
}

async fn measured(cluster: &TestCluster, member: &str, tick: Tick) -> u64 {
    let from_s = tick.at().unix_ms / 1000;
    let question = Question { from_s, to_s: from_s + 10, interval_s: 10, level: Level::Ticks };
    let subject = Subject { resource: Resource::Node(node()), hosts: Vec::new() };
    let samples = &cluster.app(member).samples;
    // What is in the files comes into memory once the member runs.
    until("samples are loaded", async || {
        let asked = samples.ask(subject.clone(), question, vec![Metric::ProcessorUsed]);
        Some(asked.await.unwrap().first()?.1[0]?.average)
    })
    .await
}

/// Every file below a directory, whole.
fn whole(directory: &Path) -> BTreeMap<PathBuf, Vec<u8>> {
    let mut files = BTreeMap::new();
    for entry in std::fs::read_dir(directory).unwrap() {
        let path = entry.unwrap().path();
        match path.is_dir() {
            true => files.extend(whole(&path)),
            false => drop(files.insert(path.clone(), std::fs::read(&path).unwrap())),
        }
    }
    files
}

/// Why a member does not start, as the program says it. It changes no file.
async fn refused(config: &Config, storage_key_file: Option<&Path>) -> String {
    let before = whole(&config.data_directory);
    let config =
        Config { storage_key_file: storage_key_file.map(Path::to_owned), ..config.clone() };
    let Err(error) = Coordinator::start(&config, Clock::system()).await else { panic!("started") };
    assert!(whole(&config.data_directory) == before, "something was changed");
    format!("{:#}", anyhow::Error::from(error))
}

async fn is_intact(cluster: &TestCluster, member: &str) {
    until("the whole audit log is at hand, and right", async || {
        let verdict = cluster.app(member).audit.verify(None).await.ok()?;
        assert!(verdict.intact, "{verdict:?}");
        Some(())
    })
    .await;
}

/// One member encrypts, the other does not: they have the same state, and give each other snapshots and files of the
/// archive.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nothing_of_a_member_can_be_read_on_its_disk_without_its_key() {
    let mut cluster = TestCluster::start_encrypted(&key(1)).await;
    let vm = create(cluster.any(), NEEDLE).await.unwrap();
    use_machine(&cluster, vm).await;
    // Who joins gets a snapshot.
    change_settings(cluster.any(), 100).await;
    let right = cluster.storage_key_file.take();
    cluster.add("c2").await;
    // So much that the first records are archived.
    change_settings(cluster.any(), RECENT_MAX + SEGMENT_RECORDS + 1).await;
    for member in ["c1", "c2"] {
        let files = until("the archive is written", async || {
            Some(archived(&cluster.configs[member])).filter(|files| files.len() == 2)
        });
        files.await;
        is_intact(&cluster, member).await;
    }
    create(cluster.any(), &format!("{NEEDLE}-2")).await.unwrap();
    for member in ["c1", "c2"] {
        // By a clock that was compared with no other, nothing is written: under load that takes its time.
        until("its clock was compared", async || {
            let fitness = cluster.running[member].fitness();
            fitness.check_time(Clock::system().now()).ok()
        })
        .await;
    }
    let ticks = ["c1", "c2"].map(|member| measure(&cluster, member));
    let backup = backup_of(&cluster, "c1").await;
    for member in ["c2", "c1"] {
        cluster.stop(member).await;
    }

    let directory = |member: &str| cluster.configs[member].data_directory.clone();
    let (found, seen) = files_with(&directory("c1"), NEEDLE);
    assert!(found.is_empty() && seen > 15, "{found:?} of {seen} files");
    for place in ["log", "snapshots", "tables", "samples"] {
        let (found, _) = files_with(&directory("c2").join(place), NEEDLE);
        assert!(!found.is_empty(), "without a key it is in {place}");
    }
    // What is archived is compressed.
    let holds = |file: &PathBuf| {
        let (_, _, content) = inspect(&std::fs::read(file).unwrap()).ok()?;
        Some(content.windows(NEEDLE.len()).any(|part| part == NEEDLE.as_bytes()))
    };
    let readable = archived(&cluster.configs["c2"]).iter().filter_map(holds).collect::<Vec<_>>();
    assert!(readable.len() == 2 && readable.contains(&true), "{readable:?}");
    assert_eq!(archived(&cluster.configs["c1"]).iter().find_map(holds), None);

    // Other keys, none, and one where there was none.
    let config = cluster.configs["c1"].clone();
    let wrong = key_file(cluster.directory.path(), &key(2));
    let told = refused(&config, Some(&wrong)).await;
    let (id, other) = (key(1).id().to_string(), key(2).id().to_string());
    for part in ["log/00000000000000000", &id, &other, "`storage_key_file`"] {
        assert!(told.contains(part), "{told}");
    }
    let told = refused(&config, None).await;
    assert!(told.contains(&id) && told.contains("`storage_key_file`"), "{told}");
    let told = refused(&cluster.configs["c2"], Some(&wrong)).await;
    assert!(told.contains("not encrypted") && told.contains("join anew"), "{told}");
    let no_key = cluster.directory.path().join("no-key");
    std::fs::write(&no_key, "password").unwrap();
    let told = refused(&config, Some(&no_key)).await;
    assert!(told.contains("no-key") && told.contains("`storage_key_file`"), "{told}");

    // With its own it is all there; what is missing of the archive comes from the other, however it lies there.
    let (first, second) = (archived(&config), archived(&cluster.configs["c2"]));
    std::fs::remove_file(&first[0]).unwrap();
    let is_other = |file: &&PathBuf| file.file_name() != first[0].file_name();
    std::fs::remove_file(second.iter().find(is_other).unwrap()).unwrap();
    for member in ["c1", "c2"] {
        cluster.run(member).await;
    }
    for (member, tick) in ["c1", "c2"].into_iter().zip(ticks) {
        is_intact(&cluster, member).await;
        let names = cluster
            .app(member)
            .view
            .local(|fleet| fleet.vms().map(|vm| vm.spec.name.to_string()).collect::<Vec<_>>());
        assert_eq!(names, [NEEDLE.to_owned(), format!("{NEEDLE}-2")]);
        assert_eq!(measured(&cluster, member, tick).await, 1_234);
    }

    let readable = |config| archived(config).iter().filter(|file| holds(file).is_some()).count();
    assert_eq!((readable(&config), archived(&config).len()), (0, 2));
    assert_eq!(readable(&cluster.configs["c2"]), 2);

    // The key turns: a new one first, then only the new one is not enough.
    cluster.stop("c1").await;
    let both = cluster.directory.path().join("both");
    std::fs::write(&both, format!("{}\n{}\n", key(2).to_text(), key(1).to_text())).unwrap();
    cluster.configs.get_mut("c1").unwrap().storage_key_file = Some(both);
    cluster.run("c1").await;
    create(cluster.app("c1"), "later").await.unwrap();
    let newest = key(2).id().0;
    until("the archive is encrypted with the new key", async || {
        let needs = |file: &PathBuf| std::fs::read(file).is_ok_and(|bytes| bytes[32..40] == newest);
        archived(&config).iter().all(needs).then_some(())
    })
    .await;
    for record in ["member/identity.record", "keys/secrets.record"] {
        let bytes = std::fs::read(config.data_directory.join(record)).unwrap();
        assert_eq!(bytes[32..40], newest, "{record}");
    }
    cluster.stop("c1").await;
    assert!(refused(&config, Some(&wrong)).await.contains(&id), "old files need the old key");
    assert!(refused(&config, right.as_deref()).await.contains(&other), "new ones the new key");
    cluster.run("c1").await;
    is_intact(&cluster, "c1").await;
    for member in ["c1", "c2"] {
        cluster.stop(member).await;
    }

    // What is restored is encrypted as well.
    let path = cluster.directory.path().join("backup");
    write_encrypted(&path, &backup);
    let backup = BackupFile::new(&path, &key_file(cluster.directory.path(), &key(7))).unwrap();
    let data_directory = cluster.directory.path().join("restored");
    let config = Config { data_directory, storage_key_file: right, ..config };
    restore(&config, &backup, Clock::system()).await.unwrap();
    cluster.configs = [("c1".to_owned(), config.clone())].into();
    cluster.run("c1").await;
    is_intact(&cluster, "c1").await;
    cluster.stop("c1").await;
    let (found, seen) = files_with(&config.data_directory, NEEDLE);
    assert!(found.is_empty() && seen > 10, "{found:?} of {seen} files");
    assert!(refused(&config, None).await.contains(&id));
}
