//! Secrets: in no file, log or trace; turned while they are written; back after a restore.

use std::io::Write;
use std::path::Path;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};

use novacron_coordinator::app::App;
use novacron_coordinator::clock::Clock;
use novacron_coordinator::restoring::{BackupFile, restore};
use novacron_coordinator::secrets::{NewSecret, SecretError, keys_view};
use novacron_coordinator::state::secret::{SealedValue, SecretOrder, SecretPlace};
use novacron_coordinator::state::{Accepted, Body, Command, Fleet, Origin};
use novacron_protocol::api::{Code, KeyTurn, SecretRevealed};
use novacron_protocol::ids::RequestId;
use novacron_protocol::secret::SecretText;
use novacron_vault::{Vault, VaultKey};
use serde_json::json;

use crate::access::town::keep_secret;
use crate::backup::{backup_of, begin_backup, write_encrypted};
use crate::https::Https;
use crate::support::*;

/// What must be found nowhere. Long enough not to be found by chance.
const NEEDLE: &str = "xyzzy-plugh-2f1b-plover";

fn place(name: &str) -> SecretPlace {
    SecretPlace { project: None, name: name.parse().unwrap() }
}

async fn put(app: &App, name: &str, value: &str) -> Result<(), SecretError> {
    let value = SecretText::new(value.to_owned());
    let new = by_operator(NewSecret { place: place(name), value });
    app.secrets.put(request(), new).await
}

/// As soon as there is a key.
async fn keep(app: &App, name: &str, value: &str) {
    until("a value is kept", async || match put(app, name, value).await {
        Ok(()) => Some(()),
        Err(SecretError::NoKeyYet) => None,
        Err(error) => panic!("{error}"),
    })
    .await;
}

async fn reveal(app: &App, name: &str) -> Result<SecretRevealed, SecretError> {
    app.secrets.reveal(request(), by_operator(place(name))).await
}

/// As soon as this member has the key.
async fn value_of(app: &App, name: &str) -> String {
    until("a value is read", async || match reveal(app, name).await {
        Ok(revealed) => Some(revealed.value.expose().to_owned()),
        Err(error) => {
            assert_eq!(error.to_problem().code, Code::SecretKeyMissing, "{error}");
            None
        }
    })
    .await
}

fn holds(bytes: &[u8], needle: &str) -> bool {
    bytes.windows(needle.len()).any(|window| window == needle.as_bytes())
}

/// Files below a directory that hold a text, and how many were looked at.
pub fn files_with(directory: &Path, needle: &str) -> (Vec<String>, usize) {
    let (mut found, mut seen) = (Vec::new(), 0);
    for entry in std::fs::read_dir(directory).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            let (more, count) = files_with(&path, needle);
            found.extend(more);
            seen += count;
        } else {
            seen += 1;
            if holds(&std::fs::read(&path).unwrap(), needle) {
                found.push(path.display().to_string());
            }
        }
    }
    (found, seen)
}

/// Everything that was traced.
#[derive(Clone, Default)]
struct Traced(Arc<Mutex<Vec<u8>>>);

impl Write for Traced {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.0.lock().unwrap().extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

/// Traces all that this thread does.
fn trace_this_thread() -> (Traced, tracing::subscriber::DefaultGuard) {
    let traced = Traced::default();
    let writer = traced.clone();
    let subscriber = tracing_subscriber::fmt()
        .with_env_filter("trace,quinn=info,quinn_proto=info,openraft=info")
        .with_writer(move || writer.clone())
        .finish();
    (traced, tracing::subscriber::set_default(subscriber))
}

#[tokio::test]
async fn a_value_is_in_no_file_no_backup_no_audit_record_and_no_trace() {
    let (traced, _guard) = trace_this_thread();
    let mut cluster = TestCluster::start(3).await;
    let credentials = cluster.operator_credentials("alice").await;
    let client = |name: &str| Https::with(cluster.configs[name].api_listen, &credentials);
    let path = "/api/v1/secrets/password";
    let kept = keep_secret(&client("c1"), path, NEEDLE).await;
    assert_eq!((&kept["version"], &kept["updated_by"]), (&json!(1), &json!("alice")));
    let second = json!({ "value": format!("{NEEDLE}-2") }).to_string();
    // The key that c1 sealed with comes to c2 a moment later.
    let replaced = until("c2 has the key", async || {
        let answer = client("c2").put(path, &second).await;
        assert!(answer.status == 200 || answer.problem().1 == "secret_key_missing", "{answer:?}");
        (answer.status == 200).then_some(answer)
    });
    assert_eq!(replaced.await.json()["version"], 2);
    assert!(!client("c3").get(path).await.body.contains(NEEDLE));
    let refused = client("c3").post(&format!("{path}/reveal"), "").await;
    assert_eq!(refused.problem().1, "not_allowed", "an operator may not");
    assert_eq!(value_of(cluster.app("c3"), "password").await, format!("{NEEDLE}-2"));
    // Into snapshots, and over the border of a segment of the log.
    change_settings(cluster.any(), 600).await;
    let audit = cluster.app("c1").view.local(|fleet| {
        let rows = fleet.audit_from(Default::default());
        rows.map(|(_, row)| row.line.clone()).collect::<String>()
    });
    assert!(audit.contains("secret.put") && audit.contains("secret.reveal"));
    assert!(!audit.contains(NEEDLE));
    let bytes = backup_of(&cluster, "c2").await;
    assert!(!holds(&bytes, NEEDLE), "not even inside of a backup");
    for member in ["c1", "c2", "c3"] {
        cluster.stop(member).await;
    }
    let (found, seen) = files_with(cluster.directory.path(), NEEDLE);
    assert!(found.is_empty() && seen > 30, "{found:?} of {seen} files");
    assert!(!files_with(cluster.directory.path(), "alice").0.is_empty(), "the search finds things");
    let traced = traced.0.lock().unwrap().clone();
    assert!(holds(&traced, "asked to keep a secret") && !holds(&traced, NEEDLE));

    // A restored cluster has it, because the backup has the key.
    let path = cluster.directory.path().join("backup");
    write_encrypted(&path, &bytes);
    let key = key_file(cluster.directory.path(), &VaultKey::from_bytes([7; 32]));
    let mut config = cluster.configs["c1"].clone();
    config.data_directory = cluster.directory.path().join("restored");
    let backup = BackupFile::new(&path, &key).unwrap();
    restore(&config, &backup, Clock::system()).await.unwrap();
    cluster.configs = [("c1".to_owned(), config)].into();
    cluster.run("c1").await;
    assert_eq!(value_of(cluster.app("c1"), "password").await, format!("{NEEDLE}-2"));
    cluster.shutdown().await;
}

fn turn_of(app: &App) -> KeyTurn {
    app.view.local(keys_view).turn
}

async fn settled(cluster: &TestCluster) {
    until("the key has turned", async || {
        (turn_of(cluster.any()) == KeyTurn::Settled).then_some(())
    })
    .await;
}

/// How many keys lie in a member's directory.
fn keys_on_disk(cluster: &TestCluster, member: &str) -> usize {
    let path = cluster.configs[member].data_directory.join("keys/secrets.record");
    let bytes = std::fs::read(path).unwrap_or_default();
    bytes.windows(15).filter(|window| *window == b"novacron-key-1-").count()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_key_turns_while_secrets_are_written_and_a_leader_goes() {
    let ahead_ms = Arc::new(AtomicU64::new(0));
    let offset = Arc::clone(&ahead_ms);
    let clock =
        Clock::from_fn(move || Clock::system().now().plus_ms(offset.load(Ordering::Relaxed)));
    let mut cluster = TestCluster::start_with(3, clock).await;
    for number in 0..40 {
        keep(cluster.any(), &format!("s-{number}"), &format!("value {number}")).await;
    }
    let first = cluster.any().view.local(keys_view).key.unwrap();
    let follower = cluster.followers().await.remove(0);
    let app = cluster.app(&follower).clone();
    let (is_over, over) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicU64::new(0)));
    let (ends, written) = (Arc::clone(&is_over), Arc::clone(&over));
    let writer = tokio::spawn(async move {
        while !ends.load(Ordering::Relaxed) {
            let number = written.load(Ordering::Relaxed) + 1;
            // What a leader that goes leaves open may or may not have happened.
            if put(&app, "counter", &number.to_string()).await.is_ok() {
                written.store(number, Ordering::Relaxed);
            }
        }
    });
    cluster.app(&follower).secrets.turn(request(), by_operator(())).await.unwrap();
    let leader = cluster.leader().await;
    cluster.stop(&leader).await;
    settled(&cluster).await;
    let now = cluster.any().view.local(keys_view).key.unwrap();
    assert_ne!(now, first);
    // The one that was away learns the new key from the others.
    cluster.run(&leader).await;
    is_over.store(true, Ordering::Relaxed);
    writer.await.unwrap();
    for (member, number) in ["c1", "c2", "c3"].into_iter().zip([0, 20, 39]) {
        let value = value_of(cluster.app(member), &format!("s-{number}")).await;
        assert_eq!(value, format!("value {number}"));
    }
    let counter: u64 = value_of(cluster.any(), "counter").await.parse().unwrap();
    assert!(counter >= over.load(Ordering::Relaxed) && counter > 0);

    // The key before lies on disks until nothing that it encrypted can come any more.
    until("all have both keys", async || {
        ["c1", "c2", "c3"].iter().all(|one| keys_on_disk(&cluster, one) == 2).then_some(())
    })
    .await;
    ahead_ms.store(11 * 60 * 1000, Ordering::Relaxed);
    change_settings(cluster.any(), 1).await;
    until("the key before is thrown away", async || {
        ["c1", "c2", "c3"].iter().all(|one| keys_on_disk(&cluster, one) == 1).then_some(())
    })
    .await;
    assert_eq!(value_of(cluster.any(), "s-7").await, "value 7");
    cluster.shutdown().await;
}

/// The key that a member with one key has.
fn key_on_disk(cluster: &TestCluster, member: &str) -> VaultKey {
    let path = cluster.configs[member].data_directory.join("keys/secrets.record");
    let bytes = std::fs::read(path).unwrap();
    let begin = bytes.windows(15).position(|window| window == b"novacron-key-1-").unwrap();
    let line = bytes[begin..].split(|byte| *byte == b'\n').next().unwrap();
    std::str::from_utf8(line).unwrap().parse().unwrap()
}

/// Has something done that no client can ask for; returns the request.
async fn order_secret(app: &App, order: SecretOrder) -> RequestId {
    let (asked, at) = (request(), Clock::system().now());
    let (order, asker) = by_operator(order).into_parts();
    let (origin, body) = (Origin::Asker(asker), Body::Secrets(order));
    let command = Command { request: asked, at, origin, body };
    assert_eq!(app.proposer.propose(command).await, Ok(Accepted::Secret(1)));
    asked
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_damaged_secret_does_not_stop_the_turn_of_the_key() {
    let ahead_ms = Arc::new(AtomicU64::new(0));
    let offset = Arc::clone(&ahead_ms);
    let clock =
        Clock::from_fn(move || Clock::system().now().plus_ms(offset.load(Ordering::Relaxed)));
    let cluster = TestCluster::start_with(1, clock).await;
    let app = cluster.any();
    keep(app, "behind", "hunter2").await;
    let before = key_on_disk(&cluster, "c1");
    let value =
        SealedValue { id: uuid::Uuid::from_u128(7), key: before.id().into(), sealed: vec![7; 100] };
    order_secret(app, SecretOrder::Put { place: place("ahead"), value, mark: 0 }).await;

    app.secrets.turn(request(), by_operator(())).await.unwrap();
    until("only the damaged one is left", async || {
        let (keys, behind) =
            app.view.local(|fleet| (keys_view(fleet), fleet.secret(&place("behind")).cloned()));
        let is_resealed = keys.key == Some(behind?.value.key.to_string());
        (is_resealed && keys.turn == KeyTurn::Resealing && keys.to_reseal == 1).then_some(())
    })
    .await;
    assert_eq!(value_of(app, "behind").await, "hunter2");
    ahead_ms.store(11 * 60 * 1000, Ordering::Relaxed);
    change_settings(app, 1).await;

    put(app, "ahead", "hunter3").await.unwrap();
    until("the key before is thrown away", async || {
        (key_on_disk(&cluster, "c1") != before && keys_on_disk(&cluster, "c1") == 1).then_some(())
    })
    .await;
    assert_eq!(value_of(app, "ahead").await, "hunter3");
    cluster.shutdown().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_request_that_was_marked_as_builds_before_did_is_still_the_same_request() {
    let cluster = TestCluster::start(1).await;
    keep(cluster.any(), "other", "hunter2").await;
    let app = cluster.any();
    // A secret is kept as those builds did it: marked without its place.
    let key = key_on_disk(&cluster, "c1");
    let id = key.id().into();
    let mark = Vault::new("novacron secret", vec![key]).unwrap().mark(b"", b"hunter2");
    let sealed = vec![7; 100];
    let value = SealedValue { id: uuid::Uuid::from_u128(7), key: id, sealed };
    let order = SecretOrder::Put { place: place("password"), value, mark };
    let asked = order_secret(app, order).await;

    let again = async |value: &str| {
        let value = SecretText::new(value.to_owned());
        app.secrets.put(asked, by_operator(NewSecret { place: place("password"), value })).await
    };
    again("hunter2").await.unwrap();
    let version = app.view.local(|fleet| fleet.secret(&place("password")).unwrap().version);
    assert_eq!(version, 1, "it was not done again");
    let other = again("hunter3").await.unwrap_err().to_problem();
    assert_eq!(other.code, Code::IdempotencyConflict);
    cluster.shutdown().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_member_without_its_keys_does_all_else_says_so_and_gets_them_from_another() {
    let mut cluster = TestCluster::start(1).await;
    keep(cluster.any(), "password", "hunter2").await;
    let record = cluster.configs["c1"].data_directory.join("keys/secrets.record");
    let kept = std::fs::read(&record).unwrap();
    cluster.stop("c1").await;
    std::fs::remove_file(&record).unwrap();
    cluster.run("c1").await;
    let app = cluster.app("c1");
    create(app, "web").await.unwrap();
    let refused = reveal(app, "password").await.unwrap_err();
    assert_eq!(refused.to_problem().code, Code::SecretKeyMissing);
    assert_eq!(
        put(app, "password", "x").await.unwrap_err().to_problem().code,
        Code::SecretKeyMissing
    );
    let backup = begin_backup(app).await.err().unwrap();
    assert_eq!(backup.to_problem().code, Code::Unavailable, "it would be no backup");
    let status = app.cluster.status().await.unwrap();
    let alerts = &status.members[0].report.as_ref().unwrap().alerts;
    let key = app.view.local(keys_view).key.unwrap();
    assert!(alerts.iter().any(|alert| alert.contains(&key)), "{alerts:?}");

    // Back from wherever its owner had kept it; a member that joins then gets it over the link.
    cluster.stop("c1").await;
    std::fs::write(&record, kept).unwrap();
    cluster.run("c1").await;
    cluster.add("c2").await;
    assert_eq!(value_of(cluster.app("c2"), "password").await, "hunter2");
    assert_eq!(cluster.app("c2").view.local(Fleet::secret_keys).wanted().count(), 1);
    cluster.shutdown().await;
}
