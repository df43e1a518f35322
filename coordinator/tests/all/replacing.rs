//! A coordinator that is lost is replaced while clients write: processes that are killed, and directories that are gone.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use crate::support::{DEADLINE, free_address, until};
use novacron_transport::Credentials;
use serde_json::{Value, json};
use tokio::sync::watch;
use tokio::time::timeout;

use crate::https::Https;

/// How long clients may get no answer while a member that does not lead is lost and replaced.
const SILENCE_MAX: Duration = Duration::from_secs(15);

/// A coordinator as a process.
struct Process {
    config: PathBuf,
    data: PathBuf,
    api: SocketAddr,
    child: Option<Child>,
}

impl Process {
    fn new(directory: &Path, name: &str) -> Self {
        let (data, api) = (directory.join(name), free_address());
        let config = directory.join(format!("{name}.toml"));
        let text = format!(
            "name = \"{name}\"\ndata_directory = {data:?}\npeer_listen = \"{}\"\napi_listen = \"{api}\"\n\
             metrics_listen = \"off\"\n[timing]\nheartbeat_ms = 100\nelection_ms_min = 1000\n",
            free_address()
        );
        std::fs::write(&config, text).unwrap();
        Self { config, data, api, child: None }
    }

    fn program(&self, action: &str) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_novacron-coordinator"));
        command.arg(action).arg("--config").arg(&self.config);
        command
    }

    fn run_once(&self, action: &str, arguments: &[&str]) {
        let output = self.program(action).args(arguments).output().unwrap();
        assert!(output.status.success(), "{action}: {}", String::from_utf8_lossy(&output.stderr));
    }

    fn serve(&mut self) {
        let path = self.config.with_extension("log");
        let log = std::fs::OpenOptions::new().create(true).append(true).open(path).unwrap();
        self.child = Some(self.program("serve").stderr(log).stdin(Stdio::null()).spawn().unwrap());
    }

    fn kill(&mut self) {
        let mut child = self.child.take().unwrap();
        child.kill().unwrap();
        child.wait().unwrap();
    }

    /// Joins with a token that the cluster makes, and serves.
    async fn join(&mut self, client: &Https) {
        let name = self.config.file_stem().unwrap().to_str().unwrap();
        let asked = json!({"role": "coordinator", "name": name}).to_string();
        let made = client.post("/api/v1/tokens", &asked).await.json();
        let token = made["token"].as_str().unwrap();
        let address = made["coordinators"][0].as_str().unwrap();
        self.run_once("join", &["--token", token, "--coordinator", address]);
        self.serve();
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        if self.child.is_some() {
            self.kill();
        }
    }
}

async fn status(client: &Https) -> Option<Value> {
    let answer = client.get("/api/v1/cluster/status").await;
    (answer.status == 200).then(|| answer.json())
}

/// Waits until so many members vote, answer and have caught up; what the cluster says then.
async fn until_whole(client: &Https, members: usize) -> Value {
    until("all members are there", async || {
        let status = status(client).await?;
        let all = status["members"].as_array().unwrap();
        let is_whole = |member: &Value| {
            member["reachable"] == true
                && (member["role"] == "voter" || member["role"] == "leader")
                && member["report"]["archive_missing"] == 0
                && member["lag_entries"].as_u64().unwrap() < 50
        };
        (all.len() == members && all.iter().all(is_whole)).then_some(status)
    })
    .await
}

/// What a client knows to be written, and the longest time in which nothing was.
struct Written {
    names: Vec<String>,
    silence: Duration,
}

/// Creates machines one after the other until it is told to stop. A request that is not answered is sent again.
async fn write(client: Https, mut stop: watch::Receiver<bool>) -> Written {
    let (mut names, mut silence, mut last) = (Vec::new(), Duration::ZERO, Instant::now());
    while !*stop.borrow_and_update() {
        let name = format!("vm-{}", names.len());
        let body =
            json!({"name": name, "memory": 1 << 30, "cpus": 1, "disk": 1 << 30, "image": "debian"});
        let key = uuid::Uuid::from_u128(names.len() as u128 + 1).to_string();
        let headers = [("content-type", "application/json"), ("idempotency-key", key.as_str())];
        let body = body.to_string();
        let answer = client.send("POST", "/api/v1/vms", &headers, body.as_bytes()).await;
        match answer.status {
            201 => {
                names.push(name);
                silence = silence.max(last.elapsed());
                last = Instant::now();
            }
            503 | 504 => {}
            _ => panic!("{answer:?}"),
        }
    }
    Written { names, silence }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_lost_member_is_replaced_while_clients_write() {
    let directory = tempfile::tempdir().unwrap();
    let directory = directory.path();
    let [mut first, mut second, mut third] =
        ["c1", "c2", "c3"].map(|name| Process::new(directory, name));
    let operator = directory.join("operator");
    first.run_once("init", &["--cluster-operators-out", operator.to_str().unwrap()]);
    first.serve();
    let client = Https::with(first.api, &Credentials::load(&operator).unwrap());
    until("the first member answers", async || {
        std::net::TcpStream::connect(first.api).ok()?;
        status(&client).await
    })
    .await;
    second.join(&client).await;
    third.join(&client).await;
    let whole = until_whole(&client, 3).await;
    assert_eq!((&whole["incarnation"], &whole["tolerates_a_loss"]), (&json!(1), &json!(true)));
    let leader = whole["leader"].as_u64().unwrap();
    let members = whole["members"].as_array().unwrap();
    let (lost, kept) = if leader == 2 { (&mut third, second) } else { (&mut second, third) };
    let name = lost.config.file_stem().unwrap().to_str().unwrap().to_owned();
    let id = members.iter().find(|member| member["name"] == name).unwrap()["id"].as_u64().unwrap();

    let (stop, stopped) = watch::channel(false);
    let writer = tokio::spawn(write(client.clone(), stopped));
    lost.kill();
    let remains = directory.join("remains");
    std::fs::rename(&lost.data, &remains).unwrap();
    let seen = until("the lost member is missed", async || {
        let status = status(&client).await?;
        let all = status["members"].as_array().unwrap().clone();
        all.into_iter().find(|member| member["id"] == id && member["reachable"] == false)
    })
    .await;
    assert!(seen["problem"].as_str().is_some_and(|problem| !problem.is_empty()), "{seen}");
    assert_eq!(status(&client).await.unwrap()["tolerates_a_loss"], false);
    // With the other one the last majority would go.
    let path = |id: u64| format!("/api/v1/cluster/members/{id}");
    let spare = members.iter().find(|member| member["id"] != id && member["id"] != leader);
    let spare = spare.unwrap()["id"].as_u64().unwrap();
    let refused = client.send("DELETE", &path(spare), &[], b"").await;
    assert_eq!(refused.status, 409, "{refused:?}");
    assert!(refused.body.contains("no majority"), "{refused:?}");
    let path = path(id);
    let removed = client.send("DELETE", &path, &[], b"").await;
    assert_eq!(removed.status, 200, "{removed:?}");
    assert_eq!(
        client.send("DELETE", &path, &[], b"").await.problem(),
        (409, "member_id_used".to_owned(), None)
    );
    lost.join(&client).await;
    let whole = until_whole(&client, 3).await;
    assert_eq!(whole["tolerates_a_loss"], true);
    let members = whole["members"].as_array().unwrap();
    let back = members.iter().find(|member| member["name"] == name).unwrap();
    assert_eq!(back["id"], 4, "the same name, and an id that was never used: {whole}");
    stop.send_replace(true);
    let written = timeout(DEADLINE, writer).await.unwrap().unwrap();
    assert!(written.silence < SILENCE_MAX, "clients got no answer for {:?}", written.silence);
    assert!(!written.names.is_empty());

    // The new member has all of it: it is asked itself.
    let there = Https::with(lost.api, &Credentials::load(&operator).unwrap());
    for name in &written.names {
        assert_eq!(there.get(&format!("/api/v1/vms/{name}")).await.status, 200, "{name}");
    }
    // The data that was lost turns up again: whoever serves it is told, and ends by itself.
    lost.kill();
    std::fs::rename(&lost.data, directory.join("new")).unwrap();
    std::fs::rename(&remains, &lost.data).unwrap();
    lost.serve();
    let mut ghost = lost.child.take().unwrap();
    let ended = until("the old member ends", async || ghost.try_wait().unwrap()).await;
    assert_eq!(ended.code(), Some(3), "nobody starts it again");
    let log = std::fs::read_to_string(lost.config.with_extension("log")).unwrap();
    assert!(log.contains(&format!("member {id} was removed from the cluster")), "{log}");
    drop((first, kept));
}
