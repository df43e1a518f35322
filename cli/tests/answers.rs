//! Commands against a coordinator that answers what the test tells it, over real TLS.
#![allow(missing_docs, clippy::unwrap_used, dead_code)]

#[path = "../../sdk/tests/fake/mod.rs"]
mod fake;
mod program;

use std::sync::mpsc::Receiver;

use fake::{Authority, Seen, answer, stream};
use novacron_protocol::api::{Code, Problem};
use program::{Run, command, finish};
use tempfile::{TempDir, tempdir};

const VM: &str = r#"{"id":"0b8f5a66-8f4c-4a57-9d6e-000000000001","name":"web-01","state":"STATE","node":"node-01",
    "generation":3,"migration_id":null,"memory":536870912,"cpus":1,"disk":1073741824,"image":"","disks":[],
    "boot":"disk","network":"user","labels":{},"nodeSelector":{},"enable_tpm":false,
    "created_at":"2026-01-01T00:00:00Z","updated_at":"2026-01-01T00:00:01Z","revision":7,"_links":{}}"#;

const MIGRATION: &str = r#"{"migration_id":"0b8f5a66-8f4c-4a57-9d6e-000000000002",
    "vm":"0b8f5a66-8f4c-4a57-9d6e-000000000001","vm_name":"web-01","mode":"live","status":"STATUS","phase":"data_sync",
    "source":"node-01","target":"node-02","progress_percentage":42,"bytes_transferred":1,"estimated_completion":null,
    "metrics":{"transfer_rate_mbps":1.0},"total_ms":null,"prepare_ms":null,"memory_ms":null,"downtime_ms":null,
    "downtime_parts":null,"rounds":1,"bytes_guest":1,"bytes_wire":1,"bytes_disk":0,"compression_ratio":null,
    "pages_zero":0,"pages_same":0,"pages_sent":0,"verified":false,"memory_path":null,
    "created_at":"2026-01-01T00:00:00Z","ended_at":null,"revision":9,"_links":{}}"#;

const BATCH: &str = r#"{"batch_id":"0b8f5a66-8f4c-4a57-9d6e-000000000003","from":"node-01","to":"node-02",
    "labels":{},"mode":null,"options":{},"abort_on_failure":false,"status":"STATUS",
    "counts":{"items":5,"refused":5,"queued":0,"in_progress":0,"completed":0,"failed":0,"cancelled":0},
    "created_at":"2026-01-01T00:00:00Z","ended_at":null,"revision":9,"_links":{}}"#;

fn vm(state: &str) -> String {
    answer("200 OK", &VM.replace("STATE", state))
}

fn migration(status: &str) -> String {
    answer("200 OK", &MIGRATION.replace("STATUS", status))
}

fn batch(status: &str) -> String {
    answer("200 OK", &BATCH.replace("STATUS", status))
}

fn problem(code: Code) -> String {
    let problem = Problem::new(code, "it cannot be");
    answer(&format!("{} Problem", problem.status), &serde_json::to_string(&problem).unwrap())
}

/// A coordinator and a home that knows it.
struct Place {
    home: TempDir,
    seen: Receiver<Seen>,
}

impl Place {
    fn new(answers: Vec<String>) -> Self {
        let (authority, home) = (Authority::new(), tempdir().unwrap());
        let (url, seen) = authority.serve("coordinator", answers);
        // Writes the credentials beside.
        authority.client(home.path(), &[&url]);
        let config = format!("endpoints: [\"{url}\"]\ncredentials: .\n");
        std::fs::write(home.path().join(".novacron.yaml"), config).unwrap();
        Self { home, seen }
    }

    fn run(&self, line: &str) -> Run {
        let words: Vec<_> = line.split_whitespace().collect();
        finish(&mut command(self.home.path(), &words))
    }

    fn requests(&self) -> Vec<String> {
        self.seen.try_iter().map(|seen| seen.target).collect()
    }
}

#[test]
fn each_refusal_has_its_exit_code_and_its_line() {
    for (code, exit) in [
        (Code::InvalidRequest, 2),
        (Code::NotFound, 3),
        (Code::NameTaken, 4),
        (Code::Conflict, 4),
        (Code::NoCapacity, 4),
        (Code::NotAllowed, 5),
        (Code::Internal, 1),
        (Code::NodeUnreachable, 1),
    ] {
        let run = Place::new(vec![problem(code)]).run("vm start web-01 -o json");
        assert_eq!((run.code, run.stdout.as_str()), (exit, ""), "{code:?}");
        assert!(run.stderr.starts_with("error: it cannot be\n"), "{}", run.stderr);
    }
}

#[test]
fn a_list_is_an_array_and_a_table_has_units() {
    let page = format!("{{\"items\":[{}],\"revision\":7}}", VM.replace("STATE", "running"));
    let json = Place::new(vec![answer("200 OK", &page)]).run("vm list -o json");
    let items: serde_json::Value = serde_json::from_str(&json.stdout).unwrap();
    assert_eq!(items[0]["memory"], 536_870_912);
    let yaml = Place::new(vec![answer("200 OK", &page)]).run("vm list --output yaml");
    let items: serde_json::Value = serde_norway::from_str(&yaml.stdout).unwrap();
    assert_eq!(items[0]["name"], "web-01");
    let table = Place::new(vec![answer("200 OK", &page)]).run("vm list");
    assert!(
        table.stdout.starts_with("NAME ") && table.stdout.contains("512 MiB"),
        "{}",
        table.stdout
    );
    let empty = Place::new(vec![answer("200 OK", r#"{"items":[],"revision":7}"#)]).run("vm list");
    assert_eq!((empty.stdout.as_str(), empty.stderr.as_str()), ("", "there are no machines\n"));
}

#[test]
fn a_read_that_may_be_behind_says_how_old_it_is() {
    let page = format!("{{\"items\":[{}],\"revision\":7}}", VM.replace("STATE", "running"));
    let aged = |age: &str| {
        answer("200 OK", &page).replacen("\r\n", &format!("\r\nx-stale-ms: {age}\r\n"), 1)
    };
    let place = Place::new(vec![aged("1500"), aged("unknown")]);
    let run = place.run("vm list --stale=2s -o json");
    assert_eq!((run.code, run.stderr.as_str()), (0, "this may be up to 1.5 s old\n"));
    let run = place.run("--stale vm list -o json");
    assert_eq!((run.code, run.stderr.as_str()), (0, "nobody knows how old this is\n"));
    let query = "GET /api/v1/vms?limit=500&consistency=stale";
    assert_eq!(place.requests(), [format!("{query}&max_stale_ms=2000"), query.to_owned()]);
}

#[test]
fn events_are_asked_for_as_they_are_meant() {
    let place = Place::new(vec![answer("200 OK", r#"{"items":[],"revision":7}"#)]);
    let run = place
        .run("events --kind vm.state --kind migration.* --node node-01 --project own --from 3");
    assert_eq!(run.code, 0, "{}", run.stderr);
    let query = "from_revision=3&node=node-01&project=own&kind=vm.state&kind=migration.%2A";
    assert_eq!(place.requests(), [format!("GET /api/v1/events?{query}&limit=500")]);
}

#[test]
fn lists_are_filtered_as_they_are_meant() {
    let nothing = || answer("200 OK", r#"{"items":[],"revision":7}"#);
    let place = Place::new(vec![nothing(), nothing(), nothing()]);
    for line in [
        "vm list --text we --name web-01 --state running --region eu-1",
        "node list --text rack -l zone=a --state down --region eu-1",
        "migrate status --vm web-01 --node node-01 --status in_progress --project own",
    ] {
        assert_eq!(place.run(line).code, 0, "{line}");
    }
    let expected = [
        "GET /api/v1/vms?text=we&name=web-01&region=eu-1&state=running&limit=500",
        "GET /api/v1/nodes?text=rack&region=eu-1&state=down&label=zone%3Da&limit=500",
        "GET /api/v1/migrations?vm=web-01&node=node-01&status=in_progress&project=own&limit=500",
    ];
    assert_eq!(place.requests(), expected);
    assert_eq!(place.run("node list --state lost").code, 2);
}

#[test]
fn the_overview_is_a_page_for_people_and_a_document_for_programs() {
    let document = r#"{"revision":9,"at":"2026-11-26T00:00:00Z",
        "machines":{"total":3,"by_state":{"running":2,"failed":1,"paused":0},"cpus":6,"memory_bytes":6442450944,
            "disk_bytes":1073741824},
        "migrations":{"queued":1,"in_progress":2},
        "nodes":{"total":2,"by_state":{"ready":1,"down":1},"draining":1,
            "capacity":{"memory_bytes":8589934592,"cpus":16,"disk_bytes":1099511627776},
            "allocated":{"memory_bytes":6442450944,"cpus":6,"disk_bytes":1073741824}},
        "regions":[{"region":"eu","status":"active","nodes":{"ready":1,"suspect":0,"down":1},"machines":3,
            "micro_dollars_per_hour":150274},{"nodes":{"ready":0,"suspect":0,"down":0},"machines":0}],
        "violations":1,
        "savings":[{"rule":"stopped_machines","count":3,"micro_dollars_per_month":399996,"names":["old","older"]}],
        "cost":{"month":"2026-11","micro_dollars":1500000,"projects":[{"project":"own","micro_dollars":1500000}]},
        "quotas":[{"project":"own","quota":"cpus","used":6,"limit":6}],
        "attention":[{"severity":"critical","kind":"node_down","name":"node-02","detail":"its agent does not answer"}],
        "attention_total":7}"#;
    let place = Place::new(vec![answer("200 OK", document), answer("200 OK", document)]);
    let shown = place.run("overview");
    assert_eq!(shown.code, 0, "{}", shown.stderr);
    for line in [
        "machines    3: 2 running, 1 failed",
        "size        6 CPUs, 6 GiB of memory, 1 GiB of disk",
        "migrations  2 under way, 1 queued",
        "nodes       2: 1 ready, 1 down; 1 drained or being drained",
        "regions     REGION  STATUS  READY  SUSPECT  DOWN  MACHINES  DOLLARS AN HOUR",
        "            eu      active  1      0        1     3         0.150274",
        "            -       -       0      0        0     0         -",
        "violations  1 against a rule of residency",
        "stopped_machines  3      0.399996         old,older and 1 more",
        "own/cpus  6     6",
        "critical  node_down  node-02  its agent does not answer",
        "6 more",
    ] {
        assert!(shown.stdout.contains(line), "{line}: {}", shown.stdout);
    }
    let json: serde_json::Value =
        serde_json::from_str(&place.run("overview -o json").stdout).unwrap();
    assert_eq!(json["cost"]["micro_dollars"], 1_500_000);
    assert_eq!(place.requests(), ["GET /api/v1/overview", "GET /api/v1/overview"]);
}

#[test]
fn annotations_are_written_and_removed_one_after_the_other() {
    let vm_with = VM.replace("STATE", "running").replace(
        "\"labels\":{}",
        r#""labels":{},"annotations":{"note":"two\nlines","owner":"alice"}"#,
    );
    let written = r#"{"vm":"0b8f5a66-8f4c-4a57-9d6e-000000000001","key":"owner","value":"alice"}"#;
    let place = Place::new(vec![
        vm("running"),
        answer("200 OK", written),
        answer("204 No Content", ""),
        answer("200 OK", &vm_with),
    ]);
    let run = place.run("vm annotate web-01 owner=alice old-");
    assert_eq!(run.code, 0, "{}", run.stderr);
    let shown = "annotations  note=two\\nlines\n             owner=alice\n";
    assert!(run.stdout.contains(shown), "{}", run.stdout);
    let of = "/api/v1/vms/0b8f5a66-8f4c-4a57-9d6e-000000000001";
    let expected = [
        "GET /api/v1/vms/web-01".to_owned(),
        format!("PUT {of}/annotations/owner"),
        format!("DELETE {of}/annotations/old"),
        format!("GET {of}"),
    ];
    assert_eq!(place.requests(), expected);
    let wrong = Place::new(Vec::new()).run("vm annotate web-01 owner");
    assert_eq!(wrong.code, 2);
    assert!(wrong.stderr.contains("write KEY=VALUE, or KEY-"), "{}", wrong.stderr);
}

#[test]
fn a_secret_is_read_from_standard_input_or_a_file_and_shown_only_when_that_is_asked() {
    let view = r#"{"name":"password","project":"web","version":2,"created_at":"2026-01-01T00:00:00Z",
        "updated_at":"2026-01-01T00:00:01Z","updated_by":"alice","key":"0102030405060708"}"#;
    let place = Place::new(vec![answer("200 OK", view), answer("200 OK", view)]);
    let (home, file) = (place.home.path(), place.home.path().join("value"));
    std::fs::write(&file, "hunter2\n").unwrap();
    let set = ["secret", "set", "password", "--project", "web"];
    let stdin = std::fs::File::open(&file).unwrap();
    let run = finish(command(home, &set).stdin(stdin));
    assert!(run.code == 0 && run.stdout.contains("alice"), "{run:?}");
    let from_file = [&set[..], &["--from-file", file.to_str().unwrap()]].concat();
    assert_eq!(finish(&mut command(home, &from_file)).code, 0);
    let seen: Vec<_> = place.seen.try_iter().collect();
    assert_eq!(seen[0].target, "PUT /api/v1/projects/web/secrets/password");
    let bodies: Vec<_> = seen.iter().map(|one| String::from_utf8_lossy(&one.body)).collect();
    // The end of the line that a person types is not part of it; a file is taken as it is.
    assert_eq!(bodies, [r#"{"value":"hunter2"}"#, r#"{"value":"hunter2\n"}"#]);

    // Nothing at all is no value, and a value is no argument.
    assert_eq!(finish(&mut command(home, &set)).code, 2);
    let argument = [&set[..], &["hunter2"]].concat();
    assert_eq!(finish(&mut command(home, &argument)).code, 2);

    let revealed = r#"{"name":"password","version":2,"value":"hunter2"}"#;
    let place = Place::new(vec![answer("200 OK", revealed), answer("200 OK", view)]);
    assert_eq!(place.run("secret show password --reveal").stdout, "hunter2");
    let shown = place.run("secret show password");
    assert!(shown.stdout.contains("version") && !shown.stdout.contains("hunter2"), "{shown:?}");
    let targets = ["POST /api/v1/secrets/password/reveal", "GET /api/v1/secrets/password"];
    assert_eq!(place.requests(), targets);
}

#[test]
fn a_key_turns_until_nothing_is_left_to_encrypt_anew() {
    let keys = |turn: &str, left: u32| {
        let body = format!(
            r#"{{"key":"0102030405060708","since":"2026-01-01T00:00:00Z","turn":"{turn}","to_reseal":{left}}}"#
        );
        answer("200 OK", &body)
    };
    let place = Place::new(vec![keys("asked", 0), keys("resealing", 3), keys("settled", 0)]);
    let run = place.run("cluster rotate-key --wait");
    assert!(run.code == 0 && run.stdout.contains("settled"), "{run:?}");
    let look = "GET /api/v1/cluster/secret-keys";
    assert_eq!(place.requests(), ["POST /api/v1/cluster/secret-keys/turn", look, look]);
    let late = Place::new(vec![keys("asked", 0)]).run("cluster rotate-key --wait --timeout 0s");
    assert_eq!(late.code, 6);
}

#[test]
fn waiting_asks_until_the_machine_runs() {
    let place = Place::new(vec![vm("starting"), vm("starting"), vm("running")]);
    let run = place.run("vm start web-01 --wait -o json");
    assert_eq!(run.code, 0, "{}", run.stderr);
    assert_eq!(serde_json::from_str::<serde_json::Value>(&run.stdout).unwrap()["state"], "running");
    let by_id = "GET /api/v1/vms/0b8f5a66-8f4c-4a57-9d6e-000000000001";
    assert_eq!(place.requests(), ["POST /api/v1/vms/web-01/start", by_id, by_id]);
}

#[test]
fn a_machine_that_fails_while_one_waits_is_a_failure() {
    let run = Place::new(vec![vm("starting"), vm("failed")]).run("vm start web-01 --wait");
    assert_eq!(run.code, 1);
    assert!(run.stderr.contains("web-01 is failed"), "{}", run.stderr);
}

#[test]
fn what_takes_too_long_ends_with_6() {
    let run =
        Place::new(vec![vm("stopping"), vm("stopping")]).run("vm stop web-01 --wait --timeout 0s");
    assert_eq!((run.code, run.stdout.as_str()), (6, ""));
    assert!(run.stderr.contains("web-01 is stopping"), "{}", run.stderr);
}

#[test]
fn a_migration_that_takes_too_long_is_in_a_phase_that_has_its_usual_name() {
    let place = Place::new(vec![migration("in_progress"), migration("in_progress")]);
    let run = place.run("vm migrate web-01 --target node-02 --live --wait --timeout 0s");
    assert_eq!(run.code, 6);
    assert!(run.stderr.contains("is in phase data_sync"), "{}", run.stderr);
}

#[test]
fn a_batch_of_which_every_machine_was_refused_has_failed() {
    let place = Place::new(vec![batch("failed")]);
    let run = place.run("migrate batch --from node-01 --to node-02 -o json");
    assert_eq!(run.code, 1, "{}", run.stderr);
    assert_eq!(serde_json::from_str::<serde_json::Value>(&run.stdout).unwrap()["status"], "failed");
    assert!(run.stderr.starts_with("error: node-01 to node-02: 0 of 5 moved"), "{}", run.stderr);
    assert!(!run.stderr.contains("--watch"), "{}", run.stderr);
    let run =
        Place::new(vec![batch("in_progress")]).run("migrate batch --from node-01 --to node-02");
    assert_eq!(run.code, 0, "{}", run.stderr);
    assert!(run.stderr.contains("batch-status"), "{}", run.stderr);
}

#[test]
fn a_cluster_that_is_down_is_said_to_be_before_the_patience_ends() {
    let place = Place::new(vec![]);
    let began = std::time::Instant::now();
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let nobody = format!("https://{}", listener.local_addr().unwrap());
    drop(listener);
    let run = place.run(&format!("vm list --endpoint {nobody}"));
    assert_eq!((run.code, run.stdout.as_str()), (1, ""));
    let lines: Vec<_> = run.stderr.lines().collect();
    assert!(
        lines[0].starts_with("no coordinator answers; trying again for up to "),
        "{}",
        run.stderr
    );
    assert!(lines[1].starts_with("error: no coordinator answers (https://"), "{}", run.stderr);
    assert!(began.elapsed().as_secs() < 10, "it took {:?}", began.elapsed());
}

#[test]
fn what_was_asked_to_end_is_said_to_be() {
    let place = Place::new(vec![migration("in_progress")]);
    let run = place.run("migrate cancel 0b8f5a66-8f4c-4a57-9d6e-000000000002");
    assert_eq!(run.code, 0, "{}", run.stderr);
    assert!(
        run.stderr.contains("it was asked to end") && run.stderr.contains("migrate status 0b8f")
    );
    let place = Place::new(vec![batch("in_progress")]);
    let run = place.run("migrate batch-cancel 0b8f5a66-8f4c-4a57-9d6e-000000000003");
    assert_eq!(run.code, 0, "{}", run.stderr);
    assert!(run.stderr.contains("was asked to end"), "{}", run.stderr);
}

#[test]
fn the_console_of_a_machine_that_does_not_run_is_refused() {
    let run = Place::new(vec![vm("stopped")]).run("vm console web-01");
    assert_eq!((run.code, run.stdout.as_str()), (4, ""));
    assert!(run.stderr.contains("web-01 does not run: it is stopped"), "{}", run.stderr);
    assert!(run.stderr.contains("hint: `--log`"), "{}", run.stderr);
}

#[test]
fn nobody_is_asked_without_a_terminal() {
    let run = Place::new(vec![vm("running")]).run("vm destroy web-01");
    assert_eq!(run.code, 2);
    assert!(run.stderr.contains("--yes"), "{}", run.stderr);
    let place = Place::new(vec![vm("running"), problem(Code::NotFound)]);
    let run = place.run("vm destroy web-01 --yes --wait -o json");
    assert_eq!(run.code, 0, "{}", run.stderr);
    assert_eq!(serde_json::from_str::<serde_json::Value>(&run.stdout).unwrap()["state"], "deleted");
}

#[test]
fn a_migration_ends_with_its_result_and_its_record() {
    for (status, exit) in [("completed", 0), ("failed", 1), ("cancelled", 1)] {
        let place =
            Place::new(vec![migration("queued"), migration("in_progress"), migration(status)]);
        let run = place.run("vm migrate web-01 --target node-02 --live --watch --wait -o json");
        assert_eq!(run.code, exit, "{}", run.stderr);
        let record: serde_json::Value = serde_json::from_str(&run.stdout).unwrap();
        assert_eq!(record["status"], status);
        assert!(run.stderr.starts_with("web-01: 42 %, data_sync, round 1"), "{}", run.stderr);
        let first = place.seen.recv().unwrap();
        let body: serde_json::Value = serde_json::from_slice(&first.body).unwrap();
        assert_eq!(body, serde_json::json!({"target": "node-02", "mode": "live"}));
    }
}

#[test]
fn events_are_a_table_or_a_line_each() {
    let event = r#"{"revision":3,"sequence":0,"at":"2026-01-01T00:00:00Z","kind":"vm.deleted","actor":{"kind":"certificate","name":"alice"},"object":{"kind":"vm","id":"web-01"},"vm":null,"node":null,"migration":null,"request":null,"message":"web-01 is gone"}"#;
    let page = format!("{{\"items\":[{event}],\"revision\":3}}");
    let place = Place::new(vec![answer("200 OK", &page)]);
    let shown = place.run("events --from 2").stdout;
    assert!(shown.contains("vm.deleted") && shown.contains("alice"), "{shown}");
    assert!(place.requests()[0].contains("from_revision=2"));
    let place = Place::new(vec![vm("stopping"), stream(&format!("{event}\n"))]);
    let run = place.run("vm watch web-01 -o json");
    assert_eq!(run.code, 0, "{}", run.stderr);
    assert_eq!(run.stdout.lines().count(), 1);
    assert!(run.stdout.contains("web-01 is gone"));
}

#[test]
fn the_console_log_is_printed_as_it_is() {
    let place = Place::new(vec![stream("booting\r\nlogin: ")]);
    assert_eq!(place.run("vm console web-01 --log").stdout, "booting\r\nlogin: ");
    assert_eq!(place.requests(), ["GET /api/v1/vms/web-01/console?from=0&follow=false"]);
}

#[test]
fn a_token_is_asked_for_as_it_was_said() {
    let token = r#"{"token":"t","role":"agent","name":null,"expires_at":"2026-01-01T00:00:00Z","coordinators":["10.0.0.1:7400"]}"#;
    let place = Place::new(vec![answer("201 Created", token)]);
    let run = place.run("token create --role agent --ttl 5m");
    assert!(run.stderr.contains("novacron-agent join"), "{}", run.stderr);
    let body: serde_json::Value = serde_json::from_slice(&place.seen.recv().unwrap().body).unwrap();
    assert_eq!(body, serde_json::json!({"role": "agent", "ttl_seconds": 300}));
}

#[test]
fn a_terminal_gets_a_bar_and_a_pipe_only_the_record() {
    let place =
        Place::new(vec![migration("queued"), migration("in_progress"), migration("completed")]);
    let line = format!(
        "{} vm migrate web-01 --target node-02 --live --watch -o json > {}",
        env!("CARGO_BIN_EXE_novacron"),
        place.home.path().join("record").display()
    );
    let mut script = std::process::Command::new("script");
    script.args(["-qec", &line, "/dev/null"]).env("HOME", place.home.path()).env("TERM", "xterm");
    let output = script.stdin(std::process::Stdio::null()).output().unwrap();
    let screen = String::from_utf8_lossy(&output.stdout);
    assert!(screen.contains("web-01 [") && screen.contains("42 %"), "{screen}");
    let record = std::fs::read_to_string(place.home.path().join("record")).unwrap();
    assert_eq!(serde_json::from_str::<serde_json::Value>(&record).unwrap()["status"], "completed");
}

const SNAPSHOT: &str = r#"{"id":"0b8f5a66-8f4c-4a57-9d6e-000000000004","name":"before","vm":"0b8f5a66-8f4c-4a57-9d6e-000000000001",
    "vm_name":"web-01","parent":null,"is_current":false,"state":"STATE","reason":"REASON","created_at":"2026-01-01T00:00:00Z",
    "ready_at":null,"updated_at":"2026-01-01T00:00:00Z","revision":7,"_links":{}}"#;

#[test]
fn a_snapshot_is_waited_for_and_what_went_wrong_is_the_exit_code() {
    let snapshot = |state: &str, reason: &str| {
        answer("200 OK", &SNAPSHOT.replace("STATE", state).replace("REASON", reason))
    };
    let taken =
        Place::new(vec![snapshot("creating", ""), snapshot("creating", ""), snapshot("ready", "")]);
    let run = taken.run("vm snapshot create web-01 before --wait");
    assert_eq!(run.code, 0, "{}", run.stderr);
    assert!(run.stdout.contains("state    ready"), "{}", run.stdout);
    let one = "GET /api/v1/vms/0b8f5a66-8f4c-4a57-9d6e-000000000001/snapshots/before";
    assert_eq!(taken.requests(), ["POST /api/v1/vms/web-01/snapshots", one, one]);
    let gone = Place::new(vec![snapshot("deleting", ""), problem(Code::NotFound)]);
    let run = gone.run("vm snapshot delete web-01 before --wait");
    assert_eq!((run.code, run.stderr.as_str()), (0, "snapshot before is deleted\n"));
    for (state, word) in [("failed", "failed: no room"), ("ready", ": no room")] {
        let place = Place::new(vec![snapshot("restoring", ""), snapshot(state, "no room")]);
        let run = place.run("vm restore web-01 before --wait");
        assert_eq!(run.code, 1);
        assert!(
            run.stderr.contains(&format!("snapshot before{}", word.replace("failed", " failed"))),
            "{}",
            run.stderr
        );
    }
}

const NETWORK: &str = r#"{"name":"office","bridge":"br0","users":{"projects":["web"]},"regions":["eu"],"vms":2,
    "created_at":"2026-01-01T00:00:00Z","updated_at":"2026-01-01T00:00:00Z","revision":7,"_links":{}}"#;

#[test]
fn networks_are_made_changed_and_deleted() {
    let network = || answer("200 OK", NETWORK);
    let place = Place::new(vec![network(), network(), answer("204 No Content", "")]);
    let made = place.run("network create office --bridge br0 --projects web --regions eu");
    assert_eq!(made.code, 0, "{}", made.stderr);
    assert!(made.stdout.contains("bridge    br0"), "{}", made.stdout);
    assert_eq!(place.run("network set office --projects all").code, 0);
    assert_eq!(place.run("network delete office").stderr, "network office is deleted\n");
    let wanted = [
        "POST /api/v1/networks",
        "POST /api/v1/networks/office/settings",
        "DELETE /api/v1/networks/office",
    ];
    assert_eq!(place.requests(), wanted);
    let wrong = place.run("network create office --bridge br0 --projects Web");
    assert_eq!(wrong.code, 2, "{}", wrong.stderr);
}

const REGION: &str = r#"{"region_code":"eu","region_name":"","compliance_certifications":[],"data_residency_rules":{},"status":"STATUS","latencies_ms":{"us":80},
    "nodes":0,"created_at":"2026-01-01T00:00:00Z","updated_at":"2026-01-01T00:00:00Z","revision":7,"_links":{}}"#;

const ROUTE: &str = r#"{"from":"eu","project":"bank","chosen":"us","revision":7,"regions":[
    {"region":"us","usable":true,"latency_ms":80,"nodes":2,"nodes_ready":1,
     "reason":"80 ms away, 1 of 2 nodes take machines"},
    {"region":"moon","usable":false,"nodes":0,"nodes_ready":0,"reason":"no node stands in it"}]}"#;

const SERIES: &str = r#"{"from":"2026-11-26T00:00:00Z","to":"2026-11-26T02:00:00Z","by":"hour","points":[
    {"at":"2026-11-26T00:00:00Z","quantities":{"vm-seconds":"3600"},"micro_dollars":150000},
    {"at":"2026-11-26T01:00:00Z","quantities":{"vm-seconds":"0"}}]}"#;

#[test]
fn usage_over_time_is_a_table_or_a_curve() {
    let place = Place::new(vec![answer("200 OK", SERIES); 3]);
    let rows = place.run("usage --project web --by hour");
    assert_eq!(rows.code, 0, "{}", rows.stderr);
    assert!(rows.stdout.starts_with("FROM "), "{}", rows.stdout);
    assert!(
        rows.stdout.contains("1.00 h    -      -          -      -           0.150000\n"),
        "{}",
        rows.stdout
    );
    let curve = place.run("usage --by hour --curve");
    assert!(curve.stdout.starts_with("vm-seconds: 1.00 h in all"), "{}", curve.stdout);
    assert!(curve.stdout.contains("\n  2026-11-26T00  █·\n"), "{}", curve.stdout);
    let json = place.run("usage --curve -o json");
    assert!(json.stdout.contains("\"points\""), "{}", json.stdout);
    let wanted = [
        "GET /api/v1/usage/series?project=web&by=hour",
        "GET /api/v1/usage/series?by=hour",
        "GET /api/v1/usage/series?by=day",
    ];
    assert_eq!(place.requests(), wanted);
    let wrong = place.run("usage --by vm --curve");
    assert_eq!((wrong.code, wrong.stdout.as_str()), (2, ""), "{}", wrong.stderr);
}

#[test]
fn regions_are_made_drained_and_given_nodes() {
    let region = |status: &str| answer("200 OK", &REGION.replace("STATUS", status));
    let place = Place::new(vec![
        region("active"),
        region("draining"),
        answer("204 No Content", ""),
        answer("200 OK", r#"{"items":[],"revision":7}"#),
        region("active"),
        answer("200 OK", ROUTE),
    ]);
    let made = place.run("region create eu --certifications ISO-27001,SOC2 --may-leave-to none");
    assert_eq!(made.code, 0, "{}", made.stderr);
    let drained = place.run("region drain eu");
    assert!(drained.stdout.contains("status        draining"), "{}", drained.stdout);
    assert_eq!(place.run("region delete eu").code, 0);
    let none = place.run("region violations");
    assert_eq!(none.stderr, "no machine stands against a rule\n");
    let set = place.run("region set eu --latencies us=80,ap=150");
    assert!(set.stdout.contains("latencies     us 80 ms"), "{}", set.stdout);
    let route = place.run("region route --from eu --project bank");
    assert_eq!(
        route.stdout,
        "REGION  USABLE  LATENCY  NODES  REASON\n\
         us      yes     80 ms    1/2    80 ms away, 1 of 2 nodes take machines\n\
         moon    no      -        0/0    no node stands in it\n"
    );
    let wanted = [
        "POST /api/v1/regions",
        "POST /api/v1/regions/eu/settings",
        "DELETE /api/v1/regions/eu",
        "GET /api/v1/residency/violations?limit=500",
        "POST /api/v1/regions/eu/settings",
        "GET /api/v1/regions/route?from=eu&project=bank",
    ];
    assert_eq!(place.requests(), wanted);
    let wrong = place.run("region create eu --may-leave-to EU");
    assert_eq!(wrong.code, 2, "{}", wrong.stderr);
}

const ALERT: &str = r#"{"id":"0b8f5a66-8f4c-4a57-9d6e-000000000005","key":"slow/vm/0b8f5a66-8f4c-4a57-9d6e-000000000001",
    "kind":"slow","object":"vm/0b8f5a66-8f4c-4a57-9d6e-000000000001","severity":"warning","state":"STATE",
    "summary":"it is slow","project":"web","region":null,"raised_by":"ci","since":"2026-01-01T00:00:00Z",
    "last_raised_at":"2026-01-01T00:00:02Z","raises":3,
    "acknowledged":{"by":"alice","at":"2026-01-01T00:00:01Z","note":"I look"},"resolved":null,"previous":null,
    "revision":7,"_links":{}}"#;

#[test]
fn alerts_are_listed_raised_and_changed_as_they_are_meant() {
    let alert = |state: &str| answer("200 OK", &ALERT.replace("STATE", state));
    let page = format!("{{\"items\":[{}],\"revision\":7}}", ALERT.replace("STATE", "firing"));
    let nothing = || answer("200 OK", r#"{"items":[],"revision":7}"#);
    let place = Place::new(vec![
        answer("200 OK", &page),
        nothing(),
        nothing(),
        alert("firing"),
        alert("acknowledged"),
        alert("firing"),
        alert("resolved"),
        problem(Code::Conflict),
    ]);
    let listed = place.run("alert list --severity warning --object vm/web-01");
    assert!(listed.stdout.contains("warning   firing"), "{}", listed.stdout);
    assert_eq!(place.run("alert list --all").stderr, "no such alerts\n");
    assert_eq!(place.run("alert list --state resolved").stderr, "no such alerts\n");
    let id = "0b8f5a66-8f4c-4a57-9d6e-000000000005";
    let raised = place.run("alert raise slow vm/web-01 slow --severity critical");
    assert!(raised.stdout.contains("3 times, first by ci"), "{}", raised.stdout);
    let seen = place.run(&format!("alert ack {id} --note seen"));
    assert!(seen.stdout.contains("by alice: I look"), "{}", seen.stdout);
    assert_eq!(place.run(&format!("alert unack {id}")).code, 0);
    assert_eq!(place.run(&format!("alert resolve {id}")).code, 0);
    assert_eq!(place.run(&format!("alert resolve {id}")).code, 4);
    let all: Vec<_> = place.seen.try_iter().collect();
    let targets: Vec<_> = all.iter().map(|seen| seen.target.clone()).collect();
    let verb = |verb: &str| format!("POST /api/v1/alerts/{id}/{verb}");
    let wanted = [
        "GET /api/v1/alerts?state=open&severity=warning&object=vm%2Fweb-01&limit=500".to_owned(),
        "GET /api/v1/alerts?limit=500".to_owned(),
        "GET /api/v1/alerts?state=resolved&limit=500".to_owned(),
        "POST /api/v1/alerts".to_owned(),
        verb("acknowledge"),
        verb("unacknowledge"),
        verb("resolve"),
        verb("resolve"),
    ];
    assert_eq!(targets, wanted);
    let body: serde_json::Value = serde_json::from_slice(&all[3].body).unwrap();
    let wanted = serde_json::json!({
        "key": "slow", "object": "vm/web-01", "summary": "slow", "severity": "critical"
    });
    assert_eq!(body, wanted);
    let body: serde_json::Value = serde_json::from_slice(&all[4].body).unwrap();
    assert_eq!(body, serde_json::json!({ "note": "seen" }));
    let wrong = place.run("alert show 7");
    assert!(wrong.code == 2 && wrong.stderr.contains("alert list"), "{}", wrong.stderr);
}

#[test]
fn metrics_are_a_row_each_or_the_whole_answer() {
    let history = r#"{"resource":"vm:0b8f5a66-8f4c-4a57-9d6e-000000000001","from":"2026-01-01T00:00:00Z",
        "to":"2026-01-01T00:02:00Z","interval_s":60,"resolution_s":10,"series":[{"metric":"processor_used",
        "unit":"processors","kind":"rate","points":[
            {"at":"2026-01-01T00:00:00Z","average":0.5,"minimum":0.25,"maximum":0.75},
            {"at":"2026-01-01T00:01:00Z","average":1.5,"minimum":1.0,"maximum":2.0}]}]}"#;
    let place = Place::new(vec![answer("200 OK", history), answer("200 OK", history)]);
    let line = "metrics vm web-01 --metric processor_used --since 30m --interval 1m";
    let run = place.run(line);
    let rows: Vec<Vec<_>> =
        run.stdout.lines().map(|row| row.split_whitespace().collect()).collect();
    assert_eq!((run.code, rows.len()), (0, 2), "{}{}", run.stdout, run.stderr);
    assert_eq!(rows[1], ["processor_used", "1.50", "1.00", "0.25", "2.00", "\u{2581}\u{2588}"]);
    let json = place.run(&format!("{line} -o json"));
    let found: serde_json::Value = serde_json::from_str(&json.stdout).unwrap();
    assert_eq!(found["series"][0]["points"][1]["maximum"], 2.0);
    let asked = place.requests();
    assert!(asked[0].contains("web-01") && asked[0].contains("interval_s=60"), "{asked:?}");
    assert!(asked[0].contains("metric=processor_used") && asked[0].contains("from="), "{asked:?}");
    let wrong = Place::new(vec![]).run("metrics vm web-01 --watch --since 1h");
    assert_eq!(wrong.code, 2);
}
