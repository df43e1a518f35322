//! What one real coordinator says of itself in numbers, read as Prometheus reads it.

use crate::member::Member;
use novacron_metrics::lint;
use novacron_transport::Role;
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
        ("fleet_nodes{state=\"ready\"}", 1.0),
        ("fleet_nodes{state=\"down\"}", 0.0),
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
