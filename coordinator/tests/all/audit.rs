//! The audit log of a cluster: over the API, in the archive, and after damage.

use std::path::PathBuf;

use crate::member::Member;
use crate::support::*;
use novacron_coordinator::state::audit::{RECENT_MAX, SEGMENT_RECORDS};
use novacron_protocol::audit::{Chain, Fault};
use novacron_transport::Role;
use serde_json::{Value, json};

#[tokio::test(flavor = "multi_thread")]
async fn what_operators_do_is_listed_checked_and_exported() {
    let member = Member::start().await;
    let client = member.client(Role::Operator);
    client.post("/api/v1/cluster/settings", r#"{"migrations_per_node":5}"#).await;
    client.post("/api/v1/vms/nobody/start", "").await;
    let settings = r#"{"migrations_per_node":6}"#;
    client.post("/api/v1/cluster/settings", settings).await;

    let listed = client.get("/api/v1/audit?action=settings").await.json();
    let entries = listed["items"].as_array().unwrap();
    let after: Vec<&Value> = entries.iter().map(|entry| &entry["after"]).collect();
    let change = |limit| json!({ "migrations_per_node": limit });
    assert_eq!(after, [&change(6), &change(5)], "newest first");
    assert_eq!(entries[0]["before"], change(5));
    assert_eq!(entries[0]["actor"]["address"], "127.0.0.1");
    assert!(
        client.get("/api/v1/audit?actor=nobody").await.json()["items"]
            .as_array()
            .unwrap()
            .is_empty()
    );

    let verdict = client.get("/api/v1/audit/verify").await.json();
    assert_eq!(verdict["intact"], true, "{verdict}");
    let exported = client.get("/api/v1/audit/export").await;
    let mut chain = Chain::start();
    chain.follow_text(&unchunked(&exported.body)).unwrap();
    assert_eq!(verdict["last"], chain.number);
    assert_eq!(verdict["hash"], chain.hash.to_string());

    let known = format!("{}:{}", chain.number, chain.hash);
    client.post("/api/v1/cluster/settings", r#"{"migrations_per_node":7}"#).await;
    let verify =
        async |known: &str| client.get(&format!("/api/v1/audit/verify?known={known}")).await;
    assert_eq!(verify(&known).await.json()["intact"], true);
    let cut = format!("{}:{}", chain.number + 9, chain.hash);
    let verdict = verify(&cut).await.json();
    assert_eq!(verdict["fault"], Fault::Cut.to_string(), "{verdict}");
    assert_eq!(verdict["fault_at"], chain.number + 2);
    assert_eq!(
        verify("x").await.problem(),
        (400, "invalid_request".to_owned(), Some("known".to_owned()))
    );
}

/// The content of a body in HTTP/1.1's chunks, of which this client knows nothing.
fn unchunked(mut body: &str) -> String {
    let mut content = String::new();
    while let Some((length, rest)) = body.split_once("\r\n") {
        let length = usize::from_str_radix(length, 16).unwrap();
        content.push_str(&rest[..length]);
        body = &rest[length + 2..];
    }
    content
}

#[tokio::test(flavor = "multi_thread")]
async fn pages_put_together_are_the_log() {
    let member = Member::start().await;
    let client = member.client(Role::Operator);
    for limit in 1..=9 {
        let change = format!(r#"{{"migrations_per_node":{limit}}}"#);
        client.post("/api/v1/cluster/settings", &change).await;
    }
    let (mut numbers, mut cursor) = (Vec::new(), String::new());
    loop {
        let page = client.get(&format!("/api/v1/audit?limit=4{cursor}")).await.json();
        let items = page["items"].as_array().unwrap();
        numbers.extend(items.iter().map(|item| item["number"].as_u64().unwrap()));
        let Some(next) = page.get("next_cursor").and_then(Value::as_str) else { break };
        cursor = format!("&cursor={next}");
    }
    let last = numbers[0];
    assert!(last >= 9);
    assert_eq!(numbers, (1..=last).rev().collect::<Vec<_>>());
}

fn archive_files(cluster: &TestCluster, member: &str) -> Vec<PathBuf> {
    let directory = cluster.configs[member].data_directory.join("archive");
    let files = std::fs::read_dir(directory).unwrap().map(|entry| entry.unwrap().path());
    let mut files: Vec<_> =
        files.filter(|file| file.to_string_lossy().contains("audit-")).collect();
    files.sort();
    files
}

/// Until the member's whole log is at hand, and is right.
async fn until_intact(cluster: &TestCluster, member: &str) {
    until("the whole log is at hand", async || {
        let verdict = cluster.app(member).audit.verify(None).await.ok()?;
        assert!(verdict.intact, "{verdict:?}");
        Some(())
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_member_gets_what_it_misses_and_what_was_damaged_from_the_others() {
    let mut cluster = TestCluster::start(3).await;
    let away = cluster.followers().await[0].clone();
    cluster.stop(&away).await;
    let here = cluster.followers().await[0].clone();
    change_settings(cluster.app(&here), RECENT_MAX + SEGMENT_RECORDS + 1).await;
    assert_eq!(archive_files(&cluster, &here).len(), 2);
    until_intact(&cluster, &here).await;

    cluster.run(&away).await;
    let last = cluster.app(&here).view.local(|fleet| fleet.audit_head());
    until("the member has caught up", async || {
        cluster.app(&away).view.local(|fleet| (fleet.audit_head() == last).then_some(()))
    })
    .await;
    until_intact(&cluster, &away).await;
    let files = archive_files(&cluster, &away);
    assert_eq!(files.len(), 2);

    let mut bytes = std::fs::read(&files[0]).unwrap();
    let middle = bytes.len() / 2;
    bytes[middle] ^= 0x01;
    std::fs::write(&files[0], bytes).unwrap();
    let refused = cluster.app(&away).audit.verify(None).await.unwrap_err();
    assert!(refused.to_string().contains("audit-"), "{refused}");
    until_intact(&cluster, &away).await;
    cluster.shutdown().await;
}
