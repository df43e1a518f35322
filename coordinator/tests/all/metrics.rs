//! What real coordinators say of themselves in numbers, read as Prometheus reads it.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::UNIX_EPOCH;

use novacron_coordinator::clock::Clock;
use novacron_metrics::lint;
use novacron_transport::authority::CERTIFICATE_VALIDITY_SECONDS;
use novacron_transport::enrolment::enrol;
use novacron_transport::{Role, SubjectName};
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use crate::access::town::post;
use crate::backup::begin_backup;
use crate::https::Https;
use crate::member::Member;
use crate::support::{TestCluster, create, until};

const WEB: &str =
    r#"{"name":"web-01","memory":536870912,"cpus":1,"disk":1073741824,"image":"debian"}"#;

struct Text(String);

impl Text {
    /// What is said now.
    async fn of(member: &Member) -> Self {
        Self::at(member.metrics_address()).await
    }

    /// What a member of a cluster says now.
    async fn of_member(cluster: &TestCluster, name: &str) -> Self {
        Self::at(cluster.running[name].metrics_address().unwrap()).await
    }

    async fn at(address: SocketAddr) -> Self {
        let mut socket = TcpStream::connect(address).await.unwrap();
        socket.write_all(b"GET /metrics HTTP/1.1\r\nHost: x\r\n\r\n").await.unwrap();
        let mut answer = String::new();
        socket.read_to_string(&mut answer).await.unwrap();
        let (head, text) = answer.split_once("\r\n\r\n").unwrap();
        assert!(head.starts_with("HTTP/1.1 200"), "{head}");
        Self(text.to_owned())
    }

    fn value(&self, series: &str) -> f64 {
        self.find(series).unwrap_or_else(|| panic!("no {series} in\n{}", self.0))
    }

    fn find(&self, series: &str) -> Option<f64> {
        let sample = self.0.lines().find_map(|line| line.strip_prefix(series)?.strip_prefix(' '));
        sample.map(|sample| sample.parse().unwrap())
    }

    /// The words of a label with what is counted under them, those apart that nothing is counted under.
    fn counted(&self, begin: &str) -> BTreeMap<String, u64> {
        let samples =
            self.0.lines().filter_map(|line| line.strip_prefix(begin)?.split_once("\"} "));
        let counts = samples.map(|(word, count)| (word.to_owned(), count.parse().unwrap()));
        counts.filter(|(_, count)| *count > 0).collect()
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
        ("fleet_machines{state=\"creating\",region=\"\"}", 1.0),
        ("fleet_machines{state=\"running\",region=\"\"}", 0.0),
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
    let now_s = UNIX_EPOCH.elapsed().unwrap().as_secs_f64();
    let left_s = text.value("novacron_certificate_expiry_timestamp_seconds") - now_s;
    let granted_s = CERTIFICATE_VALIDITY_SECONDS as f64;
    assert!(left_s > 0.99 * granted_s && left_s <= granted_s, "{left_s} s");
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

fn counts<const N: usize>(expected: [(&str, u64); N]) -> BTreeMap<String, u64> {
    expected.into_iter().map(|(word, count)| (word.to_owned(), count)).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn hosts_and_machines_are_counted_by_region() {
    let member = Member::start().await;
    let client = member.client(Role::Operator);
    post(&client, "regions", json!({ "region_code": "eu" })).await;
    for node in ["node-01", "node-02"] {
        member.join_node(node, 4 << 30).await;
    }
    post(&client, "nodes/node-01/region", json!({ "region": "eu" })).await;
    for (name, node) in [("a", "node-01"), ("b", "node-01"), ("c", "node-02")] {
        let vm = json!({ "name": name, "node": node, "memory": 16 << 20, "disk": 1 << 20 });
        post(&client, "vms", vm).await;
    }
    let text = Text::of(&member).await;
    for (series, expected) in [
        ("nodes{state=\"ready\",region=\"eu\"}", Some(1.0)),
        ("nodes{state=\"ready\",region=\"\"}", Some(1.0)),
        ("machines{state=\"creating\",region=\"eu\"}", Some(2.0)),
        ("machines{state=\"creating\",region=\"\"}", Some(1.0)),
        ("machines{state=\"failed\",region=\"\"}", Some(0.0)),
        ("machines{state=\"failed\",region=\"eu\"}", None),
    ] {
        assert_eq!(text.find(&format!("novacron_fleet_{series}")), expected, "{series}");
    }
    assert_eq!(lint::problems(&text.0), Vec::<String>::new());
    member.stop().await;
}

/// Somebody who shows a key.
async fn by_key(client: &Https, key: &str) -> u16 {
    let bearer = format!("Bearer {key}");
    client.send("GET", "/api/v1/vms", &[("authorization", bearer.as_str())], b"").await.status
}

/// Every way in which nobody is somebody.
async fn ask_as_nobody(member: &Member, admin: &Https, ahead: &AtomicU64) {
    let anonymous = member.anonymous();
    for _ in 0..3 {
        assert_eq!(anonymous.get("/api/v1/vms").await.status, 401);
    }
    for _ in 0..2 {
        let nobody = member.client_named(Role::Operator, "nobody");
        assert_eq!(nobody.get("/api/v1/vms").await.status, 401);
    }
    assert_eq!(member.client_named(Role::Agent, "node-01").get("/api/v1/vms").await.status, 403);
    post(admin, "principals", json!({ "name": "robot", "kind": "service" })).await;
    post(admin, "bindings", json!({ "principal": "robot", "role": "viewer" })).await;
    let body = json!({ "principal": "robot", "name": "a test", "ttl_seconds": 3600 });
    let [old, revoked] =
        [post(admin, "api-keys", body.clone()).await, post(admin, "api-keys", body).await];
    let text = |key: &Value| key["key"].as_str().unwrap().to_owned();
    assert_eq!(by_key(&anonymous, &text(&revoked)).await, 200);
    let path = format!("/api/v1/api-keys/{}", revoked["id"].as_str().unwrap());
    assert_eq!(admin.send("DELETE", &path, &[], b"").await.status, 204);
    for _ in 0..4 {
        assert_eq!(by_key(&anonymous, &text(&revoked)).await, 401);
    }
    // Of a key that there is, another secret.
    let mut forged = text(&old);
    let digit = forged.pop().unwrap();
    forged.push(if digit == '0' { '1' } else { '0' });
    assert_eq!(by_key(&anonymous, &forged).await, 401);
    for _ in 0..2 {
        assert_eq!(by_key(&anonymous, "nonsense").await, 401);
    }
    ahead.fetch_add(3_601_000, Ordering::SeqCst);
    for _ in 0..5 {
        assert_eq!(by_key(&anonymous, &text(&old)).await, 401);
    }
}

/// What somebody wants who may not, and what nobody may.
async fn ask_too_much(member: &Member, admin: &Https) {
    post(admin, "principals", json!({ "name": "carol", "kind": "operator" })).await;
    let carol = member.client_named(Role::Operator, "carol");
    for _ in 0..2 {
        assert_eq!(carol.get("/api/v1/vms").await.status, 403);
    }
    post(admin, "principals/carol/settings", json!({ "state": "disabled" })).await;
    assert_eq!(carol.get("/api/v1/vms").await.status, 401);
    for region in ["eu", "us"] {
        post(admin, "regions", json!({ "region_code": region })).await;
        let node = format!("node-{region}");
        member.join_node(&node, 8 << 30).await;
        post(admin, &format!("nodes/{node}/region"), json!({ "region": region })).await;
    }
    post(admin, "projects", json!({ "name": "bank", "residency": { "regions": ["eu"] } })).await;
    post(admin, "projects", json!({ "name": "shop", "quotas": { "vms": 1 } })).await;
    let vm = |project: &str, name: &str, node: &str| json!({ "name": name, "project": project, "node": node, "memory": 16 << 20, "disk": 1 << 20 });
    post(admin, "vms", vm("shop", "till", "node-us")).await;
    for (body, code, times) in [
        (vm("bank", "vault", "node-us"), "residency_rule", 3),
        (vm("shop", "counter", "node-us"), "quota_exceeded", 2),
    ] {
        for _ in 0..times {
            assert_eq!(admin.post("/api/v1/vms", &body.to_string()).await.problem().1, code);
        }
    }
}

/// A token that is good once, and one that is none.
async fn apply(member: &Member, admin: &Https) {
    let token = post(admin, "tokens", json!({ "role": "agent", "name": "node-09" })).await;
    let token = token["token"].as_str().unwrap().to_owned();
    let name: SubjectName = "node-09".parse().unwrap();
    let enrolled = async |token: &str| {
        let token = token.parse().unwrap();
        enrol(member.api_address(), &token, Role::Agent, &name, &[]).await.is_ok()
    };
    assert!(enrolled(&token).await);
    for _ in 0..2 {
        assert!(!enrolled(&token).await);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn whoever_is_refused_is_counted_once_and_by_why() {
    let ahead = Arc::<AtomicU64>::default();
    let of_clock = Arc::clone(&ahead);
    let clock =
        Clock::from_fn(move || Clock::system().now().plus_ms(of_clock.load(Ordering::SeqCst)));
    let member = Member::start_with(clock).await;
    let admin = member.client(Role::Operator);
    let refusals = "novacron_security_refusals_total{reason=\"";
    assert_eq!(Text::of(&member).await.counted(refusals), counts([]));
    apply(&member, &admin).await;
    ask_too_much(&member, &admin).await;
    ask_as_nobody(&member, &admin, &ahead).await;
    let text = Text::of(&member).await;
    let expected = counts([
        ("certificate_role", 1),
        ("key_expired", 5),
        ("key_malformed", 2),
        ("key_unknown", 5),
        ("nothing_shown", 3),
        ("certificate_unknown", 2),
        ("permission", 2),
        ("principal_disabled", 1),
        ("quota", 2),
        ("residency", 3),
    ]);
    assert_eq!(text.counted(refusals), expected);
    let enrolments = text.counted("novacron_enrolments_total{outcome=\"");
    assert_eq!(enrolments, counts([("granted", 1), ("token_used", 2)]));
    assert_eq!(lint::problems(&text.0), Vec::<String>::new());
    member.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_backup_is_as_old_as_its_beginning_and_counts_from_the_founding_on() {
    let ahead = Arc::<AtomicU64>::default();
    let of_clock = Arc::clone(&ahead);
    let clock =
        Clock::from_fn(move || Clock::system().now().plus_ms(of_clock.load(Ordering::SeqCst)));
    let member = Member::start_with(clock).await;
    let age_s = async || Text::of(&member).await.value("novacron_backup_age_seconds");
    let founded_s = age_s().await;
    assert!(founded_s < 600.0, "{founded_s}");
    let hour_s = 3_600.0;
    ahead.fetch_add(3_600_000, Ordering::SeqCst);
    assert!(age_s().await >= hour_s);
    let backup = until("the clock is trusted, and the key there", async || {
        begin_backup(member.app()).await.ok()
    });
    drop(backup.await);
    let age = age_s().await;
    assert!(age < hour_s, "{age}");
    member.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_leader_that_is_gone_is_missed_until_there_is_another() {
    let mut cluster = TestCluster::start(3).await;
    let leader = cluster.leader().await;
    let survivors = cluster.followers().await;
    let silences = async |cluster: &TestCluster, name: &str| {
        let text = Text::of_member(cluster, name).await;
        let value = |part: &str| text.value(&format!("novacron_raft_leaderless_seconds_{part}"));
        (value("count"), value("sum"))
    };
    let mut before = Vec::new();
    for name in &survivors {
        before.push(silences(&cluster, name).await);
    }
    cluster.stop(&leader).await;
    create(cluster.app(&survivors[0]), "after").await.unwrap();
    for (name, (count, sum)) in survivors.iter().zip(before) {
        let (count, sum) = until("it is told for how long nobody led", async || {
            let now = silences(&cluster, name).await;
            (now.0 > count).then_some((now.0 - count, now.1 - sum))
        })
        .await;
        // Elections wait for a second.
        assert!(sum > count, "{name}: {count} times, {sum} s");
    }
    cluster.shutdown().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_member_that_is_away_is_behind_and_silent_until_it_is_back() {
    let mut cluster = TestCluster::start(3).await;
    let leader = cluster.leader().await;
    let away = cluster.followers().await.remove(0);
    let members = cluster.any().cluster.view().await.unwrap().members;
    let id = |name: &str| members.iter().find(|member| member.name == name).unwrap().id;
    let series =
        |what: &str, name: &str| format!("novacron_raft_{what}{{member=\"{}\"}}", id(name));
    let (lag, silence) =
        (series("replication_lag_entries", &away), series("follower_silence_seconds", &away));
    until("nobody is behind", async || {
        (Text::of_member(&cluster, &leader).await.value(&lag) == 0.0).then_some(())
    })
    .await;
    let follower = Text::of_member(&cluster, &away).await;
    assert_eq!(follower.find(&lag), None, "only a leader knows");
    let own = series("replication_lag_entries", &leader);
    assert_eq!(
        Text::of_member(&cluster, &leader).await.find(&own),
        None,
        "it is not behind itself"
    );

    cluster.stop(&away).await;
    for number in 0..5 {
        create(cluster.app(&leader), &format!("vm-{number}")).await.unwrap();
    }
    until("its silence is told, and how far it is behind", async || {
        let text = Text::of_member(&cluster, &leader).await;
        (text.value(&silence) > 1.0 && text.value(&lag) >= 5.0).then_some(())
    })
    .await;
    cluster.run(&away).await;
    until("it is back", async || {
        let text = Text::of_member(&cluster, &leader).await;
        (text.value(&silence) < 1.0 && text.value(&lag) == 0.0).then_some(())
    })
    .await;
    let text = Text::of_member(&cluster, &leader).await;
    assert_eq!(lint::problems(&text.0), Vec::<String>::new());
    let guide = include_str!("../../../docs/operating.md");
    assert_eq!(lint::undocumented(&text.0, guide), [""; 0]);
    cluster.shutdown().await;
}
