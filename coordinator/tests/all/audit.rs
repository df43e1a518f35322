//! The audit log of a cluster: over the API, in the archive, and after damage.

use std::path::PathBuf;

use crate::https::{Https, read_answer};
use crate::member::Member;
use crate::support::*;
use crate::watch::{Browser, SSE, all_come_once};
use novacron_coordinator::audit::AuditFilter;
use novacron_coordinator::propose::{Intent, ProposeError};
use novacron_coordinator::state::Refusal;
use novacron_coordinator::state::audit::{RECENT_MAX, SEGMENT_RECORDS};
use novacron_coordinator::state::binding::Right;
use novacron_coordinator::state::reply::TokenProblem;
use novacron_protocol::access::{AccessRole, BindingEffect, Scope};
use novacron_protocol::api::{AuditActor, AuditEntry, AuditResult, Code, TokenCreate};
use novacron_protocol::audit::{Chain, Fault};
use novacron_transport::Role;
use novacron_transport::enrolment::{self, EnrolError, RefusalCode};
use serde_json::{Value, json};
use tokio::io::AsyncWriteExt;

#[tokio::test(flavor = "multi_thread")]
async fn what_operators_do_is_listed_checked_and_exported() {
    let member = Member::start().await;
    let client = member.client(Role::Operator);
    // The last record that the cluster adds of itself.
    until("the cluster has its first key of secrets", async || {
        let page = client.get("/api/v1/audit?action=secret-key.use").await.json();
        (!page["items"].as_array()?.is_empty()).then_some(())
    })
    .await;
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

/// All records, oldest first.
async fn listed(client: &Https) -> Vec<Value> {
    let page = client.get("/api/v1/audit?limit=1000").await.json();
    page["items"].as_array().unwrap().iter().rev().cloned().collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn who_follows_the_log_goes_on_behind_the_last_record_that_it_got() {
    let member = Member::start().await;
    let client = member.client(Role::Operator);
    until("the cluster has its first key of secrets", async || {
        let page = client.get("/api/v1/audit?action=secret-key.use").await.json();
        (!page["items"].as_array()?.is_empty()).then_some(())
    })
    .await;
    for limit in 1..=5 {
        let change = format!(r#"{{"migrations_per_node":{limit}}}"#);
        client.post("/api/v1/cluster/settings", &change).await;
    }
    let all = listed(&client).await;
    for cut in 1..all.len() {
        let mut browser = Browser::open(&client, "/api/v1/audit", "").await;
        let mut seen = Vec::new();
        for _ in 0..cut {
            seen.push(browser.next().await.unwrap());
        }
        let mut browser = Browser::open(&client, "/api/v1/audit", &browser.last_id).await;
        while seen.len() < all.len() {
            seen.push(browser.next().await.unwrap());
        }
        assert_eq!(seen, all, "cut behind {cut}");
    }
    // What comes later comes, too, and only what was asked for.
    let last = &all[all.len() - 1];
    let path = format!("/api/v1/audit?follow=true&action=settings&after={}", last["number"]);
    let mut browser = Browser::open(&client, &path, "").await;
    client.post("/api/v1/projects", r#"{"name":"own"}"#).await;
    client.post("/api/v1/cluster/settings", r#"{"migrations_per_node":9}"#).await;
    let next = browser.next().await.unwrap();
    assert_eq!(next["after"], json!({ "migrations_per_node": 9 }));
    assert_eq!(next["number"].as_u64(), Some(all.len() as u64 + 2));

    let refused = async |after: &str| {
        client.get(&format!("/api/v1/audit?follow=true&after={after}")).await.problem()
    };
    let field = || Some("after".to_owned());
    assert_eq!(refused("x").await, (400, "invalid_request".to_owned(), field()));
    assert_eq!(refused("1000000").await, (400, "revision_ahead".to_owned(), field()));
    // A restore from a backup would have written another record of this number.
    let other = format!("{}:{}", all.len(), "0".repeat(64));
    assert_eq!(refused(&other).await, (410, "revision_undone".to_owned(), field()));
    let page = client.get("/api/v1/audit?after=1").await;
    assert_eq!(page.problem(), (400, "invalid_request".to_owned(), field()));
    let odd = client.send("GET", "/api/v1/audit", &[SSE, ("last-event-id", "x")], b"").await;
    assert_eq!(odd.problem().1, "cursor_unknown");
}

/// Who may not read the log any more is shown nothing further.
#[tokio::test(flavor = "multi_thread")]
async fn a_right_that_is_taken_back_ends_the_stream() {
    let member = Member::start().await;
    let admin = member.client(Role::Operator);
    let body = json!({ "name": "eve", "kind": "operator" }).to_string();
    assert_eq!(admin.post("/api/v1/principals", &body).await.status, 201);
    let body = json!({ "principal": "eve", "role": "auditor" }).to_string();
    let bound = admin.post("/api/v1/bindings", &body).await.json();
    let eve = member.client_named(Role::Operator, "eve");
    let mut browser = Browser::open(&eve, "/api/v1/audit", "").await;
    assert_eq!(browser.next().await.unwrap()["number"], 1);
    let path = format!("/api/v1/bindings/{}", bound["id"].as_str().unwrap());
    let removed = admin.send("DELETE", &path, &[], b"").await;
    assert!(removed.status < 300, "{removed:?}");
    until("it is told so", async || {
        let said = browser.next().await.expect("it ended without a word");
        (said["code"] == "not_allowed").then_some(())
    })
    .await;
    assert_eq!(eve.get("/api/v1/audit?follow=true").await.status, 403);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_record_comes_once_over_the_death_of_members_and_a_new_leader() {
    let cluster = TestCluster::start(3).await;
    let credentials = cluster.operator_credentials("watcher").await;
    let bind = Intent::Bind {
        principal: "watcher".parse().unwrap(),
        right: Right::Role(AccessRole::Auditor),
        scope: Scope::Fleet,
        effect: BindingEffect::Allow,
    };
    cluster.any().proposer.submit(request(), by_operator(bind)).await.unwrap();
    all_come_once(cluster, &credentials, "/api/v1/audit", listed).await;
}

/// From the archive, over to the tables, and on with what is new.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_is_far_behind_reads_the_archive_first() {
    let member = Member::start().await;
    let client = member.client(Role::Operator);
    change_settings(member.app(), RECENT_MAX + 1).await;
    let archived = member.app().view.local(|fleet| fleet.audit_segments().count());
    assert_eq!(archived, 1);
    let mut browser = Browser::open(&client, "/api/v1/audit", "").await;
    let mut chain = Vec::new();
    let head = member.app().view.local(|fleet| fleet.audit_head().number.0);
    while chain.last() != Some(&head) {
        let record = browser.next().await.unwrap();
        chain.push(record["number"].as_u64().unwrap());
        // Cut off in the middle of the archive, and where it ends.
        if [SEGMENT_RECORDS / 2, SEGMENT_RECORDS].contains(&chain.len()) {
            let last_id = browser.last_id.clone();
            browser = Browser::open(&client, "/api/v1/audit", &last_id).await;
        }
    }
    assert!(chain.into_iter().eq(1..=head), "each once");
    let next = browser.next();
    change_settings(member.app(), 1).await;
    assert_eq!(next.await.unwrap()["number"].as_u64(), Some(head + 1));
}

fn archive_files(cluster: &TestCluster, member: &str) -> Vec<PathBuf> {
    let files = archived(&cluster.configs[member]).into_iter();
    files.filter(|file| file.to_string_lossy().contains("audit-")).collect()
}

/// Its files, of which so many are written behind what it applies.
async fn until_archived(cluster: &TestCluster, member: &str, count: usize) -> Vec<PathBuf> {
    until("the archive is written", async || {
        Some(archive_files(cluster, member)).filter(|files| files.len() == count)
    })
    .await
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
    until_archived(&cluster, &here, 2).await;
    until_intact(&cluster, &here).await;

    cluster.run(&away).await;
    let last = cluster.app(&here).view.local(|fleet| fleet.audit_head());
    until("the member has caught up", async || {
        cluster.app(&away).view.local(|fleet| (fleet.audit_head() == last).then_some(()))
    })
    .await;
    until_intact(&cluster, &away).await;
    let files = until_archived(&cluster, &away, 2).await;

    let mut bytes = std::fs::read(&files[0]).unwrap();
    let middle = bytes.len() / 2;
    bytes[middle] ^= 0x01;
    std::fs::write(&files[0], bytes).unwrap();
    let refused = cluster.app(&away).audit.verify(None).await.unwrap_err();
    assert!(refused.to_string().contains("audit-"), "{refused}");
    until_intact(&cluster, &away).await;

    // Somebody removes one while the member runs.
    std::fs::remove_file(&files[1]).unwrap();
    let refused = cluster.app(&away).audit.verify(None).await.unwrap_err();
    assert!(refused.to_string().contains("audit-"), "{refused}");
    until_intact(&cluster, &away).await;
    cluster.shutdown().await;
}

/// A snapshot has the names only, and whoever is let go as soon as it votes may be the last to have the contents.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_member_has_the_archive_before_it_votes() {
    let mut cluster = TestCluster::start(1).await;
    change_settings(cluster.app("c1"), RECENT_MAX + SEGMENT_RECORDS + 1).await;
    until_archived(&cluster, "c1", 2).await;
    let joined = cluster.join("c2").await;
    cluster.run("c2").await;
    // What it replays itself may still be on its way to the disk.
    let report = until("it votes", async || {
        let status = cluster.app("c1").cluster.status().await.ok()?;
        let newcomer = status.members.into_iter().find(|one| one.member.id == joined.member)?;
        newcomer.report.filter(|_| newcomer.member.role.votes())
    });
    let report = report.await;
    assert_eq!((report.archive_missing, report.archive_files), (0, Some(2)));
    cluster.shutdown().await;
}

/// A file that those who are up do not have may be at one that is down, and is nowhere once all have been asked.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_member_leaves_when_nobody_needs_it_for_the_archive() {
    let mut cluster = TestCluster::start(4).await;
    change_settings(cluster.app("c1"), RECENT_MAX + SEGMENT_RECORDS + 1).await;
    let mut lost = Vec::new();
    for name in ["c1", "c2", "c3", "c4"] {
        lost.push(until_archived(&cluster, name, 2).await.remove(0));
    }
    cluster.stop("c4").await;
    lost.iter().for_each(|file| std::fs::remove_file(file).unwrap());
    for name in ["c1", "c2", "c3"] {
        until("it is missed", async || cluster.app(name).audit.verify(None).await.err()).await;
    }
    let members = cluster.app("c1").cluster.view().await.unwrap().members;
    let leaving = members.iter().find(|member| member.name == "c2").unwrap().id;
    let request = request();
    let remove = async |cluster: &TestCluster| {
        cluster.app("c1").cluster.remove(request, by_operator(leaving)).await
    };
    let Err(ProposeError::Refused(Refusal::Conflict(problem))) = remove(&cluster).await else {
        panic!("it left");
    };
    assert!(
        problem
            .contains("member 1 still looks for 1, member 3 still looks for 1, member 4 does not"),
        "{problem}"
    );
    cluster.run("c4").await;
    until("it leaves", async || remove(&cluster).await.ok()).await;
    cluster.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_token_that_is_used_again_is_told_so() {
    let cluster = TestCluster::start(1).await;
    let create = TokenCreate {
        role: "agent".into(),
        name: Some("node-01".into()),
        access: None,
        ttl_seconds: None,
    };
    let app = cluster.any();
    let made = app.cluster.create_token(request(), by_operator(create)).await.unwrap();
    let (address, token) = (made.coordinators[0].parse().unwrap(), made.token.parse().unwrap());
    let join = async || {
        let name = "node-01".parse().unwrap();
        enrolment::enrol(address, &token, Role::Agent, &name, &[]).await.map(drop)
    };
    join().await.unwrap();
    let Err(EnrolError::Refused(refusal)) = join().await else { panic!("it was let in twice") };
    assert_eq!(refusal.code, RefusalCode::TokenUsed);
    assert!(refusal.to_string().contains("ask for a new one"), "{refusal}");
    assert_eq!(Refusal::Token(TokenProblem::Used).code(), Code::TokenUsed);
    cluster.shutdown().await;
}

/// The records of refusals, once they are `wanted` in all.
async fn refusals(client: &Https, wanted: u64) -> Vec<Value> {
    until("all refusals are written", async || {
        let page = client.get("/api/v1/audit?action=api&limit=1000").await.json();
        let items = page["items"].as_array().unwrap().clone();
        let counts = items.iter().map(|item| item["times"]["count"].as_u64().unwrap());
        (counts.sum::<u64>() >= wanted).then_some(items)
    })
    .await
}

#[tokio::test(flavor = "multi_thread")]
async fn who_is_refused_is_in_the_log_with_what_it_wanted_and_from_where() {
    let cluster = TestCluster::start(3).await;
    let operator = cluster.operator_credentials("anna").await;
    let follower = cluster.followers().await[0].clone();
    let api = cluster.configs[&follower].api_listen;
    let (anna, nobody) = (Https::with(api, &operator), Https::anonymous(api, &operator));
    assert_eq!(anna.get("/api/v1/principals").await.status, 403);
    assert_eq!(nobody.at([127, 0, 0, 2]).get("/api/v1/vms").await.status, 401);
    let key = format!("Bearer nck_{}_{}", uuid::Uuid::from_u128(7).simple(), "ab".repeat(32));
    let guess = anna.send("GET", "/api/v1/vms", &[("authorization", &key)], b"").await;
    assert_eq!(guess.status, 401, "{guess:?}");

    let found = until("they are written", async || {
        let app = cluster.app(&follower);
        let filter = AuditFilter { action: Some("api.refuse".into()), ..AuditFilter::default() };
        let page = app.audit.page(&filter, None, 100).await.ok()?;
        (page.entries.len() >= 3).then_some(page.entries)
    })
    .await;
    let mut found: Vec<String> = found.iter().map(sentence).collect();
    found.sort();
    let key =
        format!("API key {} from 127.0.0.1 listVms not_authenticated 1", uuid::Uuid::from_u128(7));
    let expected = [
        key.as_str(),
        "nobody from 127.0.0.2 listVms not_authenticated 1",
        "operator anna from 127.0.0.1 listPrincipals not_allowed 1",
    ];
    assert_eq!(found, expected);
    cluster.shutdown().await;
}

fn sentence(entry: &AuditEntry) -> String {
    let AuditActor::Presented { shown, address } = &entry.actor else { panic!("{entry:?}") };
    let AuditResult::Refused { code, .. } = &entry.result else { panic!("{entry:?}") };
    let operation = entry.object.as_ref().and_then(|object| object.id.as_deref()).unwrap();
    let (address, code) = (address.as_deref().unwrap(), serde_json::to_value(code).unwrap());
    let count = entry.times.unwrap().count;
    format!("{shown} from {address} {operation} {} {count}", code.as_str().unwrap())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_flood_of_refusals_is_few_records_whose_counts_sum_up() {
    const FLOOD: u64 = 10_000;
    let member = Member::start().await;
    let mut stream = member.anonymous().connect().await;
    let mut refused = 0;
    for number in 0..FLOOD {
        let path = ["vms", "nodes", "audit", "projects"][usize::try_from(number % 4).unwrap()];
        let head = format!("GET /api/v1/{path} HTTP/1.1\r\nhost: x\r\n\r\n");
        stream.write_all(head.as_bytes()).await.unwrap();
        stream.flush().await.unwrap();
        let status = read_answer(&mut stream).await;
        refused += u64::from(matches!(status, 401 | 429));
    }
    assert_eq!(refused, FLOOD);
    let client = member.client(Role::Operator);
    let records = refusals(&client, FLOOD).await;
    let sum: u64 = records.iter().map(|item| item["times"]["count"].as_u64().unwrap()).sum();
    assert_eq!(sum, FLOOD);
    assert!(records.len() < 100, "{} records", records.len());
    assert_eq!(client.get("/api/v1/audit/verify").await.json()["intact"], true);
    member.stop().await;
}
