//! Streams of events over real TLS: filters, resuming, readers that do not read, and members that die.

use novacron_coordinator::clock::Clock;
use novacron_transport::{Credentials, Role};
use serde_json::{Value, json};
use tokio::io::{AsyncBufReadExt, AsyncReadExt};
use tokio::time::timeout;

use crate::https::{Https, Stream};
use crate::member::Member;
use crate::support::*;

pub const SSE: (&str, &str) = ("accept", "text/event-stream");

/// A browser's side of a stream of Server-Sent Events.
pub struct Browser {
    stream: Stream,
    pub last_id: String,
}

impl Browser {
    pub async fn open(client: &Https, path: &str, last_id: &str) -> Self {
        let mut headers = vec![SSE];
        if !last_id.is_empty() {
            headers.push(("last-event-id", last_id));
        }
        let stream = client.follow_with(path, &headers).await;
        Self { stream, last_id: last_id.to_owned() }
    }

    /// The next event with its id; none if the stream ended. What is no event (signs of life) is taken in as a browser
    /// does that.
    pub async fn next(&mut self) -> Option<Value> {
        // An event counts when the empty line behind it has come: one that was cut off comes again.
        let (mut data, mut id) = (None, None);
        loop {
            let mut line = String::new();
            let read = timeout(DEADLINE, self.stream.read_line(&mut line)).await.expect("silence");
            if read.unwrap_or(0) == 0 || !line.ends_with('\n') {
                return None;
            }
            match line.trim_end().split_once(": ") {
                Some(("id", text)) => id = Some(text.to_owned()),
                Some(("data", text)) => data = Some(serde_json::from_str(text).unwrap()),
                Some(_) => {}
                None => {
                    self.last_id = id.take().unwrap_or_else(|| self.last_id.clone());
                    if let Some(data) = data.take() {
                        return Some(data);
                    }
                }
            }
        }
    }
}

fn place(event: &Value) -> (u64, u64) {
    (event["revision"].as_u64().unwrap(), event["sequence"].as_u64().unwrap())
}

fn vm(name: &str) -> String {
    let vm = json!({ "name": name, "memory": 16 << 20, "cpus": 1, "disk": 1 << 20 });
    vm.to_string()
}

/// Until the cluster has done all that it does by itself: then nothing happens but what somebody asks for.
async fn until_quiet(client: &Https) {
    until("the cluster has its first key of secrets", async || {
        let page = client.get("/api/v1/audit?action=secret-key.use").await.json();
        (!page["items"].as_array()?.is_empty()).then_some(())
    })
    .await;
}

async fn listed(client: &Https) -> Vec<Value> {
    let page = client.get("/api/v1/events?limit=1000").await.json();
    page["items"].as_array().unwrap().clone()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_browser_goes_on_behind_the_last_event_that_it_got() {
    let member = Member::start().await;
    member.join_node("node-01", 4 << 30).await;
    let client = member.client(Role::Operator);
    for number in 0..5 {
        client.post("/api/v1/vms", &vm(&format!("web-{number}"))).await;
    }
    let all = listed(&client).await;
    // Cut off behind each event in turn: also between two of one revision.
    for cut in 1..all.len() {
        let mut browser = Browser::open(&client, "/api/v1/events", "").await;
        let mut seen = Vec::new();
        for _ in 0..cut {
            seen.push(browser.next().await.unwrap());
        }
        let mut browser = Browser::open(&client, "/api/v1/events", &browser.last_id).await;
        while seen.len() < all.len() {
            seen.push(browser.next().await.unwrap());
        }
        assert_eq!(seen, all, "cut behind {cut}");
    }
    let page = client.get("/api/v1/events?limit=1").await;
    assert_eq!(page.header("x-oldest-revision"), Some("1"));
    assert_eq!(page.json()["events_max"], 100_000);
    let odd = client.send("GET", "/api/v1/events", &[SSE, ("last-event-id", "x")], b"").await;
    let field = Some("Last-Event-ID".to_owned());
    assert_eq!(odd.problem(), (400, "cursor_unknown".to_owned(), field));
}

#[tokio::test(flavor = "multi_thread")]
async fn an_event_says_who_what_and_which_record_has_the_whole() {
    let member = Member::start().await;
    let client = member.client(Role::Operator);
    client.post("/api/v1/projects", r#"{"name":"own","quotas":{"vms":3}}"#).await;
    let all = listed(&client).await;
    let made = all.into_iter().find(|event| event["kind"] == "project.changed").unwrap();
    assert_eq!(made["object"], json!({ "kind": "project", "id": "own" }));
    assert_eq!(made["actor"]["kind"], "certificate");
    assert_eq!((made.get("before"), &made["after"]["quotas"]["vms"]), (None, &json!(3)));
    let object = "/api/v1/audit?object=own";
    let record = client.get(object).await.json()["items"][0].clone();
    assert_eq!(
        (&record["number"], &record["actor"]["name"]),
        (&made["audit"], &made["actor"]["name"])
    );
    // The same from a stream.
    let mut browser = Browser::open(&client, "/api/v1/events?kind=project.*", "").await;
    assert_eq!(browser.next().await, Some(made));
}

/// Whoever may follow events of a project, and not read its secrets, does not learn that there are some; prices are for
/// those who read the ledger, and who may do what for those who read principals.
#[tokio::test(flavor = "multi_thread")]
async fn events_of_secrets_and_prices_are_for_those_who_may_read_them() {
    let member = Member::start().await;
    let admin = member.client(Role::Operator);
    for (name, role) in [("viewer", "viewer"), ("operator", "operator"), ("auditor", "auditor")] {
        let body = json!({ "name": name, "kind": "operator" }).to_string();
        assert_eq!(admin.post("/api/v1/principals", &body).await.status, 201);
        let body = json!({ "principal": name, "role": role }).to_string();
        assert_eq!(admin.post("/api/v1/bindings", &body).await.status, 201);
    }
    let secret = "/api/v1/projects/default/secrets/door";
    until("there is a key of secrets", async || {
        let put = admin.send("PUT", secret, &[], br#"{"value":"swordfish"}"#).await;
        (put.status < 300).then_some(())
    })
    .await;
    let hour = member.app().view.local(|fleet| fleet.clock().unix_ms / 3_600_000) + 2;
    let from = novacron_protocol::time::Timestamp::from_unix_ms(hour * 3_600_000);
    let price = json!({ "micro_dollars": 7, "per_units": 1 });
    let prices = ["vm-hours", "storage-gb", "transfer-gb", "snapshots", "migrations"];
    let prices: serde_json::Map<String, Value> =
        prices.iter().map(|name| ((*name).to_owned(), price.clone())).collect();
    let rates = json!({ "plan": "standard", "valid_from": from, "prices": prices }).to_string();
    let set = admin.post("/api/v1/rates", &rates).await;
    assert!(set.status < 300, "{set:?}");
    let sees = async |name: &str| {
        let client = member.client_named(Role::Operator, name);
        let all = listed(&client).await;
        assert!(!json!(all).to_string().contains("swordfish"));
        let has = |kind: &str| all.iter().any(|event| event["kind"] == kind);
        (has("secret.set"), has("rate.set"), has("access.changed"))
    };
    assert_eq!(sees("viewer").await, (false, false, false));
    assert_eq!(sees("operator").await, (true, false, false));
    assert_eq!(sees("auditor").await, (true, true, true));
}

#[tokio::test(flavor = "multi_thread")]
async fn events_are_filtered_by_kind_node_and_project() {
    let member = Member::start().await;
    for node in ["node-01", "node-02"] {
        member.join_node(node, 4 << 30).await;
    }
    let client = member.client(Role::Operator);
    until_quiet(&client).await;
    let made = client.post("/api/v1/projects", r#"{"name":"own"}"#).await;
    assert_eq!(made.status, 201, "{made:?}");
    for (name, node, project) in [("a", "node-01", "default"), ("b", "node-02", "own")] {
        let body = json!({ "name": name, "memory": 16 << 20, "cpus": 1, "disk": 1 << 20,
            "node": node, "project": project });
        assert_eq!(client.post("/api/v1/vms", &body.to_string()).await.status, 201);
    }
    let all = listed(&client).await;
    let filtered = async |query: &str, keep: &dyn Fn(&Value) -> bool| {
        let found = client.get(&format!("/api/v1/events?limit=1000&{query}")).await.json();
        let expected: Vec<_> = all.iter().filter(|event| keep(event)).cloned().collect();
        assert!(!expected.is_empty() && expected.len() < all.len(), "{query}");
        assert_eq!(found["items"], json!(expected), "{query}");
        // The same as a stream.
        let path = format!("/api/v1/events?{query}");
        let mut browser = Browser::open(&client, &path, "").await;
        for event in &expected {
            assert_eq!(browser.next().await.as_ref(), Some(event), "{query}");
        }
    };
    let kind = |event: &Value| event["kind"].as_str().unwrap().to_owned();
    filtered("kind=vm.created", &|event| kind(event) == "vm.created").await;
    filtered("kind=vm.*", &|event| kind(event).starts_with("vm.")).await;
    let two = |event: &Value| kind(event) == "node.joined" || kind(event).starts_with("project.");
    filtered("kind=node.joined&kind=project.*", &two).await;
    filtered("node=node-02", &|event| event["node"] == "node-02").await;
    filtered("project=own", &|event| event["project"] == "own").await;
    for wrong in ["kind=vm", "kind=vm.*&kind=none.*", "node=Not%20Good"] {
        let refused = client.get(&format!("/api/v1/events?{wrong}")).await.problem();
        assert_eq!((refused.0, refused.1.as_str()), (400, "invalid_request"), "{wrong}");
    }
    let ahead = client.get("/api/v1/events?from_revision=1000000").await;
    let field = Some("from_revision".to_owned());
    assert_eq!(ahead.problem(), (400, "revision_ahead".to_owned(), field));
    let revision = client.get("/api/v1/vms").await.json()["revision"].as_u64().unwrap();
    let next = client.get(&format!("/api/v1/events?from_revision={}", revision + 1)).await;
    assert_eq!(next.json()["items"], json!([]), "the revision after a list is one to follow from");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_quiet_reader_is_told_how_far_there_was_nothing() {
    let settings = "[watch]\ncut_off_after_ms = 1000";
    let member = Member::start_configured(Clock::system(), settings).await;
    let client = member.client(Role::Operator);
    let mut browser = Browser::open(&client, "/api/v1/events?kind=node.*", "").await;
    change_settings(member.app(), 3).await;
    let revision = member.app().view.local(|fleet| fleet.revision().0);
    until("a sign of life says how far", async || {
        let mut line = String::new();
        browser.stream.read_line(&mut line).await.unwrap();
        let id = line.trim_end().strip_prefix("id: ")?.parse::<u64>().unwrap();
        (id >= revision).then_some(())
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_reader_that_does_not_read_loses_its_place_and_goes_on_later() {
    let settings = "[watch]\nslow_reader_after_ms = 500";
    let member = Member::start_configured(Clock::system(), settings).await;
    let client = member.client(Role::Operator);
    let mut stalled = Browser::open(&client, "/api/v1/events", "").await;
    let first = stalled.next().await.unwrap();
    let mut reading = Browser::open(&client, "/api/v1/events", "").await;
    let counted = tokio::spawn(async move {
        let mut places = Vec::new();
        while places.len() < 30_001 {
            let event = reading.next().await.unwrap();
            if event["kind"] == "settings.changed" || places.is_empty() {
                places.push(place(&event));
            }
        }
        places
    });
    assert_eq!(member.app().watchers.open(), 2);
    // More than what lies in the buffers between the two.
    change_settings(member.app(), 30_208).await;
    let places = counted.await.unwrap();
    assert!(places.is_sorted_by(|one, next| one < next), "the other reader got each once");
    until("the one that does not read has lost its place", async || {
        (member.app().watchers.open() == 0).then_some(())
    })
    .await;

    let mut seen = vec![first];
    while let Some(event) = stalled.next().await {
        seen.push(event);
    }
    assert!(seen.len() < 30_000, "its stream ended: {}", seen.len());
    let mut again = Browser::open(&client, "/api/v1/events", &stalled.last_id).await;
    let kept = member.app().view.local(|fleet| {
        let places = fleet.events_after(Default::default(), None);
        places.map(|event| (event.revision.0, u64::from(event.sequence))).collect::<Vec<_>>()
    });
    while seen.len() < kept.len() {
        seen.push(again.next().await.unwrap());
    }
    let seen: Vec<_> = seen.iter().map(place).collect();
    assert_eq!(seen, kept, "each once, none left out");
}

#[tokio::test(flavor = "multi_thread")]
async fn streams_are_bounded_for_a_member_and_for_each_principal() {
    let settings = "[watch]\nwatchers_max = 3\nwatchers_per_principal_max = 2";
    let member = Member::start_configured(Clock::system(), settings).await;
    let admin = member.client(Role::Operator);
    for name in ["bob", "carol"] {
        let body = json!({ "name": name, "kind": "operator" }).to_string();
        assert_eq!(admin.post("/api/v1/principals", &body).await.status, 201);
        let body = json!({ "principal": name, "role": "viewer" }).to_string();
        assert_eq!(admin.post("/api/v1/bindings", &body).await.status, 201);
    }
    let follow = "/api/v1/events?follow=true";
    let first = admin.follow(follow).await;
    let _second = admin.follow(follow).await;
    let third = admin.get(follow).await;
    assert_eq!(third.problem(), (429, "too_many_watchers".to_owned(), None));
    let bob = member.client_named(Role::Operator, "bob");
    let _of_bob = bob.follow(follow).await;
    let carol = member.client_named(Role::Operator, "carol");
    assert_eq!(carol.get(follow).await.problem().1, "too_many_watchers");
    assert_eq!(carol.get("/api/v1/events").await.status, 200, "pages are not streams");
    drop(first);
    until("the place comes back", async || (member.app().watchers.open() == 2).then_some(())).await;
    let _of_carol = carol.follow(follow).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_event_comes_once_over_the_death_of_members_and_a_new_leader() {
    let cluster = TestCluster::start(3).await;
    let credentials = cluster.operator_credentials("watcher").await;
    all_come_once(cluster, &credentials, "/api/v1/events", listed).await;
}

/// Follows what is at a path while each member dies and comes back, and compares with all that is listed at the end.
pub async fn all_come_once(
    mut cluster: TestCluster,
    credentials: &Credentials,
    path: &str,
    listed: impl AsyncFn(&Https) -> Vec<Value>,
) {
    let client = |cluster: &TestCluster, name: &str| {
        Https::with(cluster.configs[name].api_listen, credentials)
    };
    // At the leader, which dies; at a follower, which dies too once the first is back; at the last one.
    let leader = cluster.leader().await;
    let followers = cluster.followers().await;
    let (mut seen, mut last_id) = (Vec::new(), String::new());
    for (round, at) in [&leader, &followers[0], &followers[1]].into_iter().enumerate() {
        let mut browser = Browser::open(&client(&cluster, at), path, &last_id).await;
        for number in 0..6 {
            create(cluster.app(at), &format!("vm-{round}-{number}")).await.unwrap();
        }
        // Some of them only: the rest has to come from another member.
        for _ in 0..4 {
            seen.push(browser.next().await.unwrap());
        }
        cluster.stop(at).await;
        while let Some(one) = browser.next().await {
            seen.push(one);
        }
        last_id = browser.last_id;
        cluster.leader().await;
        let other = cluster.running.keys().next().unwrap().clone();
        create(cluster.app(&other), &format!("between-{round}")).await.unwrap();
        cluster.run(at).await;
    }
    let client = client(&cluster, &leader);
    let mut browser = Browser::open(&client, path, &last_id).await;
    let all = listed(&client).await;
    while seen.len() < all.len() {
        seen.push(browser.next().await.unwrap());
    }
    assert_eq!(seen, all);
    cluster.shutdown().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_stream_of_a_member_that_lost_the_cluster_ends() {
    let mut cluster = TestCluster::start(3).await;
    let credentials = cluster.operator_credentials("watcher").await;
    let client = Https::with(cluster.configs["c1"].api_listen, &credentials);
    let mut stream = client.follow("/api/v1/events?follow=true").await;
    cluster.stop("c2").await;
    cluster.stop("c3").await;
    let mut rest = Vec::new();
    timeout(DEADLINE, stream.read_to_end(&mut rest)).await.expect("it goes on").unwrap();
    assert!(rest.ends_with(b"\n"), "whole lines only");
    cluster.shutdown().await;
}
