//! What one real coordinator says of itself in numbers, read as Prometheus reads it.

use crate::member::Member;
use crate::support::until;
use novacron_coordinator::clock::Clock;
use novacron_metrics::lint;
use novacron_transport::Role;
use serde_json::json;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

const WEB: &str =
    r#"{"name":"web-01","memory":536870912,"cpus":1,"disk":1073741824,"image":"debian"}"#;

struct Text(String);

impl Text {
    /// What is said now.
    async fn of(member: &Member) -> Self {
        let mut socket = TcpStream::connect(member.metrics_address()).await.unwrap();
        socket.write_all(b"GET /metrics HTTP/1.1\r\nHost: x\r\n\r\n").await.unwrap();
        let mut answer = String::new();
        socket.read_to_string(&mut answer).await.unwrap();
        let (head, text) = answer.split_once("\r\n\r\n").unwrap();
        assert!(head.starts_with("HTTP/1.1 200"), "{head}");
        Self(text.to_owned())
    }

    fn value(&self, series: &str) -> f64 {
        let sample = self.0.lines().find_map(|line| line.strip_prefix(series)?.strip_prefix(' '));
        sample.unwrap_or_else(|| panic!("no {series} in\n{}", self.0)).parse().unwrap()
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_fleet_and_the_api_are_counted() {
    let member = Member::start().await;
    member.join_node("node-01", 4 << 30).await;
    let client = member.client(Role::Operator);
    assert_eq!(client.post("/api/v1/vms", WEB).await.status, 201);
    assert_eq!(client.post("/api/v1/vms", WEB).await.status, 409);
    assert_eq!(client.get("/api/v1/nothing").await.status, 404);
    assert_eq!(member.anonymous().get("/healthz").await.status, 200);
    let text = Text::of(&member).await;
    for (series, expected) in [
        ("fleet_nodes{state=\"ready\",region=\"\"}", 1.0),
        ("fleet_nodes{state=\"down\",region=\"\"}", 0.0),
        ("fleet_machines{state=\"creating\"}", 1.0),
        ("fleet_migrations{status=\"queued\"}", 0.0),
        ("fleet_migration_queue_seconds", 0.0),
        ("fleet_effects_open", 1.0),
        ("api_requests_total{operation=\"createVm\",status=\"201\"}", 1.0),
        ("api_requests_total{operation=\"createVm\",status=\"409\"}", 1.0),
        ("api_requests_total{operation=\"none\",status=\"404\"}", 1.0),
        ("api_request_seconds_count{operation=\"createVm\"}", 2.0),
        ("api_request_seconds_count{operation=\"isAlive\"}", 1.0),
        ("raft_leads", 1.0),
        ("raft_has_leader", 1.0),
        ("raft_healthy", 1.0),
        ("raft_fit", 1.0),
        ("raft_voters", 1.0),
        ("raft_proposals_bytes", 0.0),
    ] {
        assert_eq!(text.value(&format!("novacron_{series}")), expected, "{series}");
    }
    assert!(text.value("novacron_raft_term") >= 1.0);
    assert!(text.value("novacron_raft_commit_seconds_count{outcome=\"committed\"}") >= 2.0);
    assert!(text.value("novacron_raft_applied_entries_total") >= 3.0);
    assert_eq!(text.value("novacron_raft_applied_index"), text.value("novacron_raft_log_index"));
    assert!(text.value("process_resident_memory_bytes") > 0.0);
    assert_eq!(lint::problems(&text.0), Vec::<String>::new());
    let guide = include_str!("../../../docs/operating.md");
    assert_eq!(lint::undocumented(&text.0, guide), [""; 0]);
    for name in ["node-01", "web-01", "coordinator-1", "operator"] {
        assert!(!text.0.contains(name), "{name} is told to everybody who asks:\n{}", text.0);
    }
    member.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn whoever_invents_paths_makes_no_series() {
    let member = Member::start().await;
    let client = member.client(Role::Operator);
    for number in 0..20 {
        client.get(&format!("/api/v1/vms/vm-{number}")).await;
        client.get(&format!("/made-up-{number}")).await;
    }
    let text = Text::of(&member).await;
    let requests = text.0.lines().filter(|line| line.starts_with("novacron_api_requests_total"));
    assert_eq!(requests.count(), 2, "{}", text.0);
    assert_eq!(text.value("novacron_api_requests_total{operation=\"none\",status=\"404\"}"), 20.0);
    member.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn quotas_costs_ledger_and_audit_log_are_said_as_they_are() {
    let member = Member::start().await;
    member.join_node("node-01", 4 << 30).await;
    let client = member.client(Role::Operator);
    let project = r#"{"name":"own","quotas":{"vms":3,"memory_bytes":4294967296}}"#;
    assert_eq!(client.post("/api/v1/projects", project).await.status, 201);
    let web = WEB.replace("\"cpus\":1", "\"cpus\":1,\"project\":\"own\"");
    let vm = client.post("/api/v1/vms", &web).await.json()["id"].clone();
    let plan = r#"{"project":"own","plan":"standard"}"#;
    assert_eq!(client.post("/api/v1/rates/plans", plan).await.status, 200);
    let start_s = Clock::system().now().unix_ms / 3_600_000 * 3_600;
    // A minute of the hour before would be of another plan: this one's first second is enough.
    let record = json!({ "vm": vm, "generation": 1, "meter": "vm-seconds", "level": 1,
        "start_s": start_s, "end_s": start_s + 3600.min(Clock::system().now().unix_ms / 1000 - start_s).max(1) });
    let posted = json!({ "node": "node-01", "records": [record] }).to_string();
    assert_eq!(client.post("/api/v1/usage/records", &posted).await.status, 200);

    let month = &Clock::system().now().to_string()[..7];
    let invoice = client.get(&format!("/api/v1/invoices/{month}")).await.json();
    let cost = invoice["totals"][0]["micro_dollars"].as_f64().unwrap();
    let series = "novacron_cost_micro_dollars{project=\"own\"}";
    let text = until("the costs are computed", async || {
        let text = Text::of(&member).await;
        text.0.contains(series).then_some(text)
    })
    .await;
    assert_eq!(text.value(series), cost, "as on the invoice");
    for (name, expected) in [
        ("quota_used{project=\"own\",resource=\"vms\"}", 1.0),
        ("quota_limit{project=\"own\",resource=\"vms\"}", 3.0),
        ("quota_used{project=\"own\",resource=\"memory_bytes\"}", 536_870_912.0),
        ("ledger_entries", 1.0),
    ] {
        assert_eq!(text.value(&format!("novacron_{name}")), expected, "{name}");
    }
    assert!(!text.0.contains("project=\"default\""), "it has no quota and no cost");
    let last = client.get("/api/v1/audit?limit=1").await.json()["items"][0]["number"].as_f64();
    assert_eq!(Some(text.value("novacron_audit_records")), last);
    assert_eq!(lint::problems(&text.0), Vec::<String>::new());
    let guide = include_str!("../../../docs/operating.md");
    assert_eq!(lint::undocumented(&text.0, guide), [""; 0]);
    member.stop().await;
}
