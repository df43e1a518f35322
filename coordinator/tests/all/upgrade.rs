//! A cluster of the release before becomes one of this release, member by member, as real processes under load.
//!
//! `NOVACRON_PREVIOUS_COORDINATOR` names the program of the release before (`cargo xtask upgrade` builds it). Without it,
//! this build plays its part: it understands formats up to the version before, and is told so in its configuration.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};

use novacron_coordinator::state::formats::{NEWEST, SECRETS};
use novacron_transport::Credentials;
use rustix::process::{Pid, Signal, kill_process};
use serde_json::{Value, json};
use tokio::task::spawn_blocking;

use crate::access::town::keep_secret;
use crate::https::{Answer, Https};
use crate::support::{free_address, until};

const PREVIOUS_VARIABLE: &str = "NOVACRON_PREVIOUS_COORDINATOR";
const MEMBERS: [&str; 3] = ["c1", "c2", "c3"];

/// Which program a member runs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Release {
    Before,
    This,
}

impl Release {
    fn program(self) -> OsString {
        let this = || env!("CARGO_BIN_EXE_novacron-coordinator").into();
        match self {
            Self::Before => std::env::var_os(PREVIOUS_VARIABLE).unwrap_or_else(this),
            Self::This => this(),
        }
    }

    /// What of its configuration makes this build the one before.
    fn lines(self) -> String {
        match (self, std::env::var_os(PREVIOUS_VARIABLE)) {
            (Self::Before, None) => format!("test_formats_newest = {}\n", NEWEST.0 - 1),
            _ => String::new(),
        }
    }
}

/// Coordinators as processes.
struct Fleet {
    directory: tempfile::TempDir,
    addresses: BTreeMap<&'static str, [std::net::SocketAddr; 2]>,
    running: BTreeMap<&'static str, Child>,
    admin: Option<Credentials>,
}

impl Drop for Fleet {
    fn drop(&mut self) {
        for child in self.running.values_mut() {
            let _ = child.kill();
            let _ = child.wait();
        }
    }
}

impl Fleet {
    fn new() -> Self {
        let addresses = MEMBERS.map(|name| (name, [free_address(), free_address()])).into();
        let directory = tempfile::tempdir().unwrap();
        Self { directory, addresses, running: BTreeMap::new(), admin: None }
    }

    fn configure(&self, name: &str, release: Release) -> PathBuf {
        let [peers, api] = self.addresses[name];
        let text = format!(
            "name = \"{name}\"\ndata_directory = {:?}\npeer_listen = \"{peers}\"\napi_listen = \"{api}\"\n\
             metrics_listen = \"off\"\n{}[timing]\nheartbeat_ms = 100\nelection_ms_min = 1000\n\
             entries_per_snapshot = 100\n",
            self.directory.path().join(name),
            release.lines(),
        );
        let path = self.directory.path().join(format!("{name}.toml"));
        std::fs::write(&path, text).unwrap();
        path
    }

    fn command(&self, name: &str, release: Release, action: &str) -> Command {
        let mut command = Command::new(release.program());
        command.arg(action).arg("--config").arg(self.configure(name, release));
        command.env("NOVACRON_ALLOW_TEST_DISK", "1").stdin(Stdio::null());
        let log = self.directory.path().join(format!("{name}.log"));
        let log = std::fs::File::options().create(true).append(true).open(log).unwrap();
        command.stdout(log.try_clone().unwrap()).stderr(log);
        command
    }

    fn log(&self, name: &str) -> String {
        std::fs::read_to_string(self.directory.path().join(format!("{name}.log"))).unwrap()
    }

    fn start(&mut self, name: &'static str, release: Release) {
        let child = self.command(name, release, "serve").spawn().unwrap();
        self.running.insert(name, child);
    }

    async fn stop(&mut self, name: &'static str) {
        let mut child = self.running.remove(name).unwrap();
        kill_process(Pid::from_child(&child), Signal::TERM).unwrap();
        let status = spawn_blocking(move || child.wait().unwrap()).await.unwrap();
        assert!(status.success(), "{name} ended with {status}: {}", self.log(name));
    }

    /// Replaces the program of a member.
    async fn replace(&mut self, name: &'static str, release: Release) {
        self.stop(name).await;
        self.start(name, release);
        self.until_ready(name).await;
    }

    fn client(&self, name: &str) -> Https {
        Https::with(self.addresses[name][1], self.admin.as_ref().unwrap())
    }

    async fn until_ready(&self, name: &str) {
        let client = self.client(name);
        until("a member is ready", async || {
            let answer = client.attempt("GET", "/readyz", &[], b"").await?;
            (answer.status == 200).then_some(())
        })
        .await;
    }

    /// Founds the cluster with the release before.
    async fn found_alone(&mut self) {
        let out = self.directory.path().join("admin");
        let mut init = self.command("c1", Release::Before, "init");
        let status = init.arg("--cluster-operators-out").arg(&out).status().unwrap();
        assert!(status.success(), "{}", self.log("c1"));
        self.admin = Some(Credentials::load(Path::new(&out)).unwrap());
        self.start("c1", Release::Before);
        self.until_ready("c1").await;
    }

    /// A member of the release before is given an id, and not started.
    async fn admit(&self, name: &str) {
        let body = json!({ "role": "coordinator", "name": name }).to_string();
        let made = self.client("c1").post("/api/v1/tokens", &body).await;
        assert_eq!(made.status, 201, "{made:?}");
        let token = made.json();
        let mut join = self.command(name, Release::Before, "join");
        join.arg("--token").arg(token["token"].as_str().unwrap());
        join.arg("--coordinator").arg(token["coordinators"][0].as_str().unwrap());
        let status = spawn_blocking(move || join.status().unwrap()).await.unwrap();
        assert!(status.success(), "{}", self.log(name));
    }

    async fn until_voters(&self, voters: usize) {
        let client = self.client("c1");
        until("all vote", async || {
            let cluster = client.get("/api/v1/cluster").await.json();
            let members = cluster["members"].as_array()?;
            let votes = |member: &&Value| member["role"] == "voter" || member["role"] == "leader";
            let votes = members.iter().filter(votes).count();
            (votes == voters).then_some(())
        })
        .await;
    }

    /// Founds the cluster with the release before, and lets all join.
    async fn found(&mut self) {
        self.found_alone().await;
        for name in ["c2", "c3"] {
            self.admit(name).await;
            self.start(name, Release::Before);
            self.until_ready(name).await;
        }
        self.until_voters(MEMBERS.len()).await;
    }

    async fn formats(&self, name: &str) -> Option<u64> {
        let status = self.client(name).get("/api/v1/cluster/status").await;
        (status.status == 200).then(|| status.json()["formats"].as_u64()).flatten()
    }
}

/// A client that makes projects, one after the other, and goes on trying each with the same key.
struct Load {
    is_over: Arc<AtomicBool>,
    made: Arc<AtomicU32>,
    task: tokio::task::JoinHandle<()>,
}

impl Load {
    fn start(fleet: &Fleet) -> Self {
        let clients = MEMBERS.map(|name| fleet.client(name));
        let (is_over, made) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicU32::new(0)));
        let (ends, count) = (Arc::clone(&is_over), Arc::clone(&made));
        let task = tokio::spawn(async move {
            while !ends.load(Ordering::Relaxed) {
                let number = count.load(Ordering::Relaxed);
                make_project(&clients, number).await;
                count.store(number + 1, Ordering::Relaxed);
            }
        });
        Self { is_over, made, task }
    }

    /// Waits until so many more are made.
    async fn goes_on(&self, more: u32) {
        let enough = self.made.load(Ordering::Relaxed) + more;
        until("the load goes on", async || {
            assert!(!self.task.is_finished(), "the load has ended");
            (self.made.load(Ordering::Relaxed) >= enough).then_some(())
        })
        .await;
    }

    async fn end(self) -> u32 {
        self.is_over.store(true, Ordering::Relaxed);
        self.task.await.unwrap();
        self.made.load(Ordering::Relaxed)
    }
}

async fn make_project(clients: &[Https; 3], number: u32) {
    let body = json!({ "name": format!("p-{number}") }).to_string();
    let key = format!("00000000-0000-4000-8000-{number:012}");
    let headers = [("content-type", "application/json"), ("idempotency-key", key.as_str())];
    for client in clients.iter().cycle().skip(number as usize) {
        let path = "/api/v1/projects";
        match client.attempt("POST", path, &headers, body.as_bytes()).await {
            Some(Answer { status: 201, .. }) => return,
            // No leader at the moment, or the outcome is not known: the same again.
            None | Some(Answer { status: 503 | 504, .. }) => {}
            Some(other) => panic!("refused, though it should work: {other:?}"),
        }
    }
}

async fn names_of_projects(client: &Https) -> Vec<String> {
    let (mut names, mut path) = (Vec::new(), "/api/v1/projects?limit=1000".to_owned());
    loop {
        let page = client.get(&path).await.json();
        let name = |item: &Value| item["name"].as_str().unwrap().to_owned();
        names.extend(page["items"].as_array().unwrap().iter().map(name));
        let Some(cursor) = page["next_cursor"].as_str() else { return names };
        path = format!("/api/v1/projects?limit=1000&cursor={cursor}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn members_are_replaced_one_by_one_under_load_and_then_the_cluster_goes_up() {
    let newest = u64::from(NEWEST.0);
    let mut fleet = Fleet::new();
    fleet.found().await;
    let before = fleet.formats("c1").await.unwrap();
    assert!(before == newest || before + 1 == newest, "{before} is not of the release before");
    let load = Load::start(&fleet);
    load.goes_on(20).await;
    // Forward, back, and forward again, while the others are of the release before.
    for release in [Release::This, Release::Before, Release::This] {
        fleet.replace("c1", release).await;
        load.goes_on(20).await;
    }
    fleet.replace("c2", Release::This).await;
    load.goes_on(20).await;
    assert_eq!(fleet.formats("c1").await, Some(before), "c3 is not upgraded");
    if before < u64::from(SECRETS.0) {
        let asked = fleet.client("c1").post("/api/v1/cluster/secret-keys/turn", "").await;
        assert_eq!(asked.problem().1, "upgrade_needed");
    }
    fleet.replace("c3", Release::This).await;
    load.goes_on(20).await;
    until("the cluster goes up", async || {
        (fleet.formats("c2").await == Some(newest)).then_some(())
    })
    .await;
    load.goes_on(20).await;
    let client = fleet.client("c3");
    let kept = keep_secret(&client, "/api/v1/secrets/password", "x").await;
    assert_eq!(kept["version"], 1);

    // Nothing that was acknowledged is lost, on any of them.
    let made = load.end().await;
    for name in MEMBERS {
        let found = names_of_projects(&fleet.client(name)).await;
        let lost = (0..made).find(|number| !found.contains(&format!("p-{number}")));
        assert_eq!(lost, None, "of {made} at {name}");
    }
    if before < newest {
        there_is_no_way_back(&mut fleet).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_member_that_was_admitted_before_the_upgrade_and_upgraded_itself_enters_after_it() {
    let newest = u64::from(NEWEST.0);
    let mut fleet = Fleet::new();
    fleet.found_alone().await;
    fleet.admit("c2").await;
    fleet.replace("c1", Release::This).await;
    until("the cluster goes up", async || {
        (fleet.formats("c1").await == Some(newest)).then_some(())
    })
    .await;
    // With the program that it was admitted with it is told, and ends.
    fleet.start("c2", Release::Before);
    let before = fleet.running.get_mut("c2").unwrap();
    until("it ends by itself", async || before.try_wait().unwrap()).await;
    let log = fleet.log("c2");
    assert!(log.contains("install the release that its other members"), "{log}");
    fleet.start("c2", Release::This);
    fleet.until_voters(2).await;
    fleet.until_ready("c2").await;
    assert_eq!(fleet.formats("c2").await, Some(newest));
}

/// The program of the release before says so, and does not start.
async fn there_is_no_way_back(fleet: &mut Fleet) {
    fleet.stop("c1").await;
    let mut back = fleet.command("c1", Release::Before, "serve");
    let status = spawn_blocking(move || back.status().unwrap()).await.unwrap();
    let log = fleet.log("c1");
    assert!(!status.success() && log.contains(&format!("version {}", NEWEST.0)), "{log}");
}
