//! The API over real TLS, against one real coordinator in this process.

use crate::https::{Answer, Https};
use crate::member::Member;
use novacron_transport::Role;
use serde_json::{Value, json};
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

const WEB: &str =
    r#"{"name":"web-01","memory":536870912,"cpus":1,"disk":1073741824,"image":"debian"}"#;
const KEY: &str = "7f3c1a52-5e4e-4b8f-9d0a-0d3b9f1c2e11";

/// A coordinator with one node of 4 GiB, and an operator's client.
async fn fleet() -> (Member, Https) {
    let member = Member::start().await;
    member.join_node("node-01", 4 << 30).await;
    let client = member.client(Role::Operator);
    (member, client)
}

fn problem(status: u16, code: &str, field: Option<&str>) -> (u16, String, Option<String>) {
    (status, code.to_owned(), field.map(str::to_owned))
}

fn names(answer: &Answer) -> Vec<String> {
    let items = answer.json()["items"].as_array().unwrap().clone();
    items.iter().map(|item| item["name"].as_str().unwrap().to_owned()).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_machine_is_created_listed_and_shown() {
    let (_member, client) = fleet().await;
    let created = client.post("/api/v1/vms", WEB).await;
    assert_eq!(created.status, 201, "{created:?}");
    let vm = created.json();
    assert_eq!(
        (&vm["name"], &vm["memory"], &vm["state"]),
        (&json!("web-01"), &json!(512 << 20), &json!("creating"))
    );
    assert_eq!(vm["node"], "node-01");

    let by_id = client.get(vm["_links"]["self"].as_str().unwrap()).await.json();
    let by_name = client.get("/api/v1/vms/web-01").await.json();
    assert_eq!((&by_id["id"], &by_name["id"]), (&vm["id"], &vm["id"]));

    assert_eq!(names(&client.get("/api/v1/vms").await), ["web-01"]);
    assert_eq!(names(&client.get("/api/v1/vms?node=node-01&state=creating").await), ["web-01"]);
    assert_eq!(names(&client.get("/api/v1/vms?node=node-02").await), [""; 0]);
    assert_eq!(names(&client.get("/api/v1/vms?label=app=web").await), [""; 0]);
    let node = client.get("/api/v1/nodes/node-01").await.json();
    assert_eq!(
        (&node["machines"], &node["allocated"]["memory_bytes"]),
        (&json!(1), &json!(512 << 20))
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_repeated_request_is_done_once() {
    let (_member, client) = fleet().await;
    let headers = [("idempotency-key", KEY)];
    let first = client.send("POST", "/api/v1/vms", &headers, WEB.as_bytes()).await;
    let again = client.send("POST", "/api/v1/vms", &headers, WEB.as_bytes()).await;
    assert_eq!((first.status, again.status), (201, 201), "{again:?}");
    assert_eq!(first.json()["id"], again.json()["id"]);
    assert_eq!(first.header("x-request-id"), Some(KEY));
    assert_eq!(names(&client.get("/api/v1/vms").await), ["web-01"]);

    let other = WEB.replace("web-01", "web-02");
    let other = client.send("POST", "/api/v1/vms", &headers, other.as_bytes()).await;
    assert_eq!(other.problem(), problem(422, "idempotency_conflict", None));
    let taken = client.post("/api/v1/vms", WEB).await;
    assert_eq!(taken.problem(), problem(409, "name_taken", Some("name")));
}

#[tokio::test(flavor = "multi_thread")]
async fn texts_are_kept_beside_a_machine() {
    let (_member, client) = fleet().await;
    let vm = client.post("/api/v1/vms", WEB).await.json()["id"].as_str().unwrap().to_owned();
    let put = async |vm: &str, key: &str, value: &str| {
        let (path, body) = (annotation(vm, key), json!({ "value": value }).to_string());
        client.send("PUT", &path, &[], body.as_bytes()).await
    };
    let written = put("web-01", "example.org%2Fowner", "alice").await;
    let view = json!({ "vm": vm, "key": "example.org/owner", "value": "alice" });
    assert_eq!((written.status, written.json()), (200, view));
    assert_eq!(put(&vm, "owner", "bob\n").await.status, 200);
    assert_eq!(put(&vm, "owner", "carol\n").await.status, 200);
    let shown = client.get(&annotation("web-01", "owner")).await;
    assert_eq!((shown.status, &shown.json()["value"]), (200, &json!("carol\n")));
    let annotations = json!({ "example.org/owner": "alice", "owner": "carol\n" });
    assert_eq!(client.get("/api/v1/vms/web-01").await.json()["annotations"], annotations);
    let listed = client.get("/api/v1/vms").await.json();
    assert_eq!(listed["items"][0].get("annotations"), None, "lists leave them out");

    let key = [("idempotency-key", KEY)];
    let delete = async || client.send("DELETE", &annotation(&vm, "owner"), &key, b"").await;
    assert_eq!((delete().await.status, delete().await.status), (204, 204), "it was done once");
    let again = client.send("DELETE", &annotation(&vm, "owner"), &[], b"").await;
    assert_eq!(again.problem().1, "not_found");
    assert_eq!(client.get(&annotation(&vm, "owner")).await.problem().1, "not_found");
    let reused = client.send("PUT", &annotation(&vm, "owner"), &key, br#"{"value":""}"#).await;
    assert_eq!(reused.problem().1, "idempotency_conflict");

    let audited = client.get("/api/v1/audit?action=vm.annotate").await.json();
    // Newest first: two refusals, the one deletion, and what was written before it.
    let carol = &audited["items"][3];
    assert_eq!((&carol["before"], &carol["after"]), (&json!("bob\n"), &json!("carol\n")));
    assert_eq!(carol["object"]["id"], format!("{vm}/owner"));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_text_that_cannot_be_kept_is_refused() {
    let (_member, client) = fleet().await;
    client.post("/api/v1/vms", WEB).await;
    let long = json!({ "value": "v".repeat(4097) }).to_string();
    for (key, body, field) in [
        ("two%20words", r#"{"value":""}"#, Some("key")),
        ("owner", &*long, Some("value")),
        ("owner", r#"{"value":1}"#, Some("value")),
        ("owner", r#"{"text":""}"#, Some("text")),
        ("owner", "", None),
    ] {
        let answer = client.send("PUT", &annotation("web-01", key), &[], body.as_bytes()).await;
        assert_eq!(answer.problem(), problem(400, "invalid_request", field), "{key} {body}");
    }
    for vm in ["none", KEY] {
        let answer = client.send("PUT", &annotation(vm, "owner"), &[], br#"{"value":""}"#).await;
        assert_eq!(answer.problem(), problem(404, "not_found", Some("vm")), "{vm}");
    }
    assert_eq!(client.get("/api/v1/vms/web-01").await.json().get("annotations"), None);
}

fn annotation(vm: &str, key: &str) -> String {
    format!("/api/v1/vms/{vm}/annotations/{key}")
}

#[tokio::test(flavor = "multi_thread")]
async fn bad_input_names_the_field() {
    let (_member, client) = fleet().await;
    for (change, field) in [
        (r#""memory":5"#, "memory"),
        (r#""memory":"512M""#, "memory"),
        (r#""memmory":512"#, "memmory"),
        (r#""cpus":0"#, "cpus"),
        (r#""disk":1000"#, "disk"),
        (r#""image":"../etc""#, "image"),
        (r#""kernel":"vmlinuz""#, "kernel"),
        (r#""disks":[{"size":-1}]"#, "disks[0].size"),
        (r#""labels":{"":""}"#, "labels"),
    ] {
        let answer = client.post("/api/v1/vms", &format!(r#"{{"name":"a",{change}}}"#)).await;
        assert_eq!(answer.problem(), problem(400, "invalid_request", Some(field)), "{change}");
    }
    let named = client.post("/api/v1/vms", r#"{"name":"Not Good"}"#).await;
    assert_eq!(named.problem(), problem(400, "invalid_request", Some("name")));
    let unnamed = client.post("/api/v1/vms", r#"{"memory":536870912}"#).await;
    assert_eq!(unnamed.problem(), problem(400, "invalid_request", Some("name")));
    let broken = client.post("/api/v1/vms", r#"{"name":"#).await;
    assert_eq!(broken.problem(), problem(400, "invalid_request", None));
    for (query, field) in [("limit=0", "limit"), ("state=asleep", "state"), ("lmit=1", "lmit")] {
        let answer = client.get(&format!("/api/v1/vms?{query}")).await;
        let code = if field == "cursor" { "cursor_unknown" } else { "invalid_request" };
        assert_eq!(answer.problem(), problem(400, code, Some(field)), "{query}");
    }
    let foreign = client.get("/api/v1/vms?cursor=x").await;
    assert_eq!(foreign.problem(), problem(400, "cursor_unknown", Some("cursor")));
    let key = client.send("POST", "/api/v1/vms", &[("idempotency-key", "again")], b"{}").await;
    assert_eq!(key.problem(), problem(400, "invalid_request", Some("Idempotency-Key")));
    assert_eq!(names(&client.get("/api/v1/vms").await), [""; 0]);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_not_there_or_does_not_fit_is_said() {
    let (_member, client) = fleet().await;
    let on = |node: &str| format!(r#"{{"name":"a","disk":1073741824,"node":"{node}"}}"#);
    let answer = client.post("/api/v1/vms", &on("node-09")).await;
    assert_eq!((answer.problem().0, answer.problem().1.as_str()), (404, "not_found"), "{answer:?}");
    let answer = client
        .post(
            "/api/v1/vms",
            &on("node-01").replace("1073741824,", "1073741824,\"memory\":8589934592,"),
        )
        .await;
    assert_eq!(
        (answer.problem().0, answer.problem().1.as_str()),
        (422, "no_capacity"),
        "{answer:?}"
    );
    let detail = answer.json()["detail"].as_str().unwrap().to_owned();
    assert!(detail.contains("8 GiB of memory needed, 4 GiB free"), "{detail}");

    for path in ["/api/v1/vms/none", "/api/v1/nodes/none", "/api/v1/nodes/Not%20Good"] {
        assert_eq!(client.get(path).await.problem().0, 404, "{path}");
    }
    assert_eq!(client.get(&format!("/api/v1/migrations/{KEY}")).await.problem().0, 404);
    let migration = client.get("/api/v1/migrations/x").await;
    assert_eq!(migration.problem(), problem(400, "invalid_request", Some("migration")));
    let elsewhere = client.post("/api/v1/vms/none/migrate", r#"{"target":"node-01"}"#).await;
    assert_eq!(elsewhere.problem(), problem(404, "not_found", Some("vm")));
    client.post("/api/v1/vms", WEB).await;
    for (field, options) in [
        ("downtime_limit_ms", r#""mode":"live","downtime_limit_ms":0"#),
        ("downtime_limit_ms", r#""mode":"live","downtime_limit_ms":60001"#),
        ("bandwidth_bits_per_second", r#""mode":"live","bandwidth_bits_per_second":999999"#),
        ("auto_converge", r#""mode":"cold","auto_converge":true"#),
        ("downtime_limit_ms", r#""downtime_limit_ms":50"#),
        ("downtime_limit_ms", r#""mode":"warm","downtime_limit_ms":50"#),
        ("force_shutdown", r#""mode":"live","force_shutdown":true"#),
    ] {
        let body = format!(r#"{{"target":"node-01",{options}}}"#);
        let refused = client.post("/api/v1/vms/web-01/migrate", &body).await;
        assert_eq!(refused.problem(), problem(400, "invalid_request", Some(field)), "{body}");
    }
    let early =
        client.post("/api/v1/vms/web-01/migrate", r#"{"target":"node-01","mode":"live"}"#).await;
    assert_eq!(early.problem(), problem(409, "conflict", None));
    let creating = client.post("/api/v1/vms/web-01/start", "").await;
    assert_eq!(creating.problem(), problem(409, "conflict", None));
}

#[tokio::test(flavor = "multi_thread")]
async fn every_wrong_request_is_answered_by_a_problem() {
    let (_member, client) = fleet().await;
    assert_eq!(client.get("/nothing").await.problem(), problem(404, "not_found", None));
    let wrong_method = client.send("PATCH", "/api/v1/vms", &[], b"").await;
    assert_eq!(wrong_method.problem(), problem(405, "invalid_request", None));
    assert_eq!(wrong_method.header("allow"), Some("GET, POST"));
    let large = vec![b' '; (1 << 20) + 1];
    let json_body = [("content-type", "application/json")];
    let too_large = client.send("POST", "/api/v1/vms", &json_body, &large).await;
    assert_eq!(too_large.problem(), problem(413, "too_large", None));
    let not_json =
        client.send("POST", "/api/v1/vms", &[("content-type", "text/plain")], b"{}").await;
    assert_eq!(not_json.problem(), problem(400, "invalid_request", Some("Content-Type")));
    let no_text = client.get("/api/v1/vms/%FF").await;
    assert_eq!(no_text.problem(), problem(400, "invalid_request", None));
    let unwanted = client.post("/api/v1/vms/web-01/start", r#"{"force":true}"#).await;
    assert_eq!(unwanted.problem(), problem(400, "invalid_request", None));
}

#[tokio::test(flavor = "multi_thread")]
async fn only_operators_are_let_in() {
    let (member, operator) = fleet().await;
    assert_eq!(operator.get("/api/v1/vms").await.status, 200);
    let strangers = [
        (member.anonymous(), "client certificate", (401, "not_authenticated")),
        (member.client_named(Role::Operator, "x"), "principal", (401, "not_authenticated")),
        (member.client(Role::Agent), "agent", (403, "not_allowed")),
        (member.client(Role::Coordinator), "coordinator", (403, "not_allowed")),
        (member.client(Role::Partner), "partner", (403, "not_allowed")),
    ];
    for (stranger, named, wanted) in strangers {
        for path in ["/api/v1/vms", "/api/v1/events?nonsense=1", "/api/v1/cluster"] {
            let answer = stranger.get(path).await;
            let (status, code, field) = answer.problem();
            assert_eq!((status, code.as_str(), field), (wanted.0, wanted.1, None));
            let detail = answer.json()["detail"].as_str().unwrap().to_owned();
            assert!(detail.contains(named) && detail.contains("operator"), "{detail}");
        }
        let created = stranger.post("/api/v1/vms", WEB).await;
        assert_eq!(created.problem(), problem(wanted.0, wanted.1, None));
        for path in ["/healthz", "/readyz", "/api/v1/openapi.json"] {
            assert_eq!(stranger.get(path).await.status, 200, "{path}");
        }
    }
    assert_eq!(names(&operator.get("/api/v1/vms").await), [""; 0]);
}

#[tokio::test(flavor = "multi_thread")]
async fn another_clusters_operator_is_refused_by_the_handshake() {
    let (member, _) = fleet().await;
    let refused = tokio::spawn(async move { member.stranger().get("/api/v1/vms").await }).await;
    assert!(refused.is_err(), "{refused:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn nothing_is_said_without_tls() {
    let (member, _) = fleet().await;
    let mut socket = TcpStream::connect(member.api_address()).await.unwrap();
    socket.write_all(b"GET /healthz HTTP/1.1\r\nhost: novacron\r\n\r\n").await.unwrap();
    let mut answer = Vec::new();
    let _ = socket.read_to_end(&mut answer).await;
    assert!(!String::from_utf8_lossy(&answer).contains("HTTP"), "{answer:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stop_ends_streams_and_closes_connections() {
    let (member, client) = fleet().await;
    let mut followed = client.follow("/api/v1/events?follow=true").await;
    let mut idle = client.connect().await;
    member.stop().await;
    followed.read_to_end(&mut Vec::new()).await.unwrap();
    // A connection on which nothing was asked is just dropped.
    let _ = idle.read_to_end(&mut Vec::new()).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_cluster_shows_itself_and_lets_others_join() {
    let (_member, client) = fleet().await;
    let cluster = client.get("/api/v1/cluster").await.json();
    assert_eq!((&cluster["leader"], &cluster["members"][0]["id"]), (&json!(1), &json!(1)));
    assert_eq!(cluster["members"][0]["role"], "leader");
    let last = client.send("DELETE", "/api/v1/cluster/members/1", &[], b"").await;
    assert_eq!(last.problem(), problem(409, "conflict", None));
    let nobody = client.send("DELETE", "/api/v1/cluster/members/9", &[], b"").await;
    assert_eq!(nobody.problem().0, 404);

    let headers = [("idempotency-key", KEY)];
    let agent = br#"{"role":"agent","name":"node-02","ttl_seconds":60}"#;
    let made = client.send("POST", "/api/v1/tokens", &headers, agent).await;
    assert_eq!(made.status, 201, "{made:?}");
    assert!(made.json()["token"].as_str().unwrap().starts_with("novacron-join."));
    // The secret was shown once.
    let again = client.send("POST", "/api/v1/tokens", &headers, agent).await;
    assert_eq!(again.problem(), problem(409, "conflict", None));
    for (body, field) in [
        (r#"{"role":"root"}"#, "role"),
        (r#"{"role":"agent","name":"Not Good"}"#, "name"),
        (r#"{"role":"agent","ttl_seconds":5}"#, "ttl_seconds"),
        (r#"{"name":"a"}"#, "role"),
    ] {
        let answer = client.post("/api/v1/tokens", body).await;
        assert_eq!(answer.problem(), problem(400, "invalid_request", Some(field)), "{body}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_machine_without_its_agent_has_no_console() {
    let (_member, client) = fleet().await;
    client.post("/api/v1/vms", WEB).await;
    let read = client.get("/api/v1/vms/web-01/console").await;
    assert_eq!(read.problem(), problem(503, "node_unreachable", None));
    let typed = client.send("POST", "/api/v1/vms/web-01/console/input", &[], b"ls\n").await;
    assert_eq!(typed.problem(), problem(409, "conflict", None));
    let none = client.get("/api/v1/vms/none/console?follow=true").await;
    assert_eq!(none.problem(), problem(404, "not_found", Some("vm")));
}

#[tokio::test(flavor = "multi_thread")]
async fn pages_put_together_are_the_list() {
    let (_member, client) = fleet().await;
    let expected: Vec<String> = (0..7).map(|number| format!("web-{number}")).collect();
    for name in &expected {
        let body = format!(r#"{{"name":"{name}","memory":16777216,"disk":1048576,"cpus":1}}"#);
        assert_eq!(client.post("/api/v1/vms", &body).await.status, 201);
    }
    let (mut all, mut path) = (Vec::new(), "/api/v1/vms?limit=3".to_owned());
    loop {
        let page = client.get(&path).await;
        all.extend(names(&page));
        let page = page.json();
        let Some(cursor) = page.get("next_cursor").and_then(Value::as_str) else { break };
        path = format!("/api/v1/vms?limit=3&cursor={cursor}");
    }
    assert_eq!(all, expected);
    assert_eq!(names(&client.get("/api/v1/vms?limit=3&page=3").await), expected[6..]);
}

#[tokio::test(flavor = "multi_thread")]
async fn machines_are_searched_by_what_people_name_them_by() {
    let (member, client) = fleet().await;
    member.join_node("rack-7", 4 << 30).await;
    for (name, node, image, label) in [
        ("web-01", "node-01", "debian", "Frontend"),
        ("web-02", "rack-7", "debian", "frontend"),
        ("db-01", "node-01", "alpine", "backend"),
    ] {
        let vm = json!({ "name": name, "memory": 16 << 20, "cpus": 1, "disk": 1 << 20,
            "image": image, "node": node, "labels": { "tier": label } });
        assert_eq!(client.post("/api/v1/vms", &vm.to_string()).await.status, 201);
    }
    for (query, found) in [
        ("text=WEB", &["web-01", "web-02"][..]),
        ("text=frontEND", &["web-01", "web-02"]),
        ("text=rack", &["web-02"]),
        ("text=alpine", &["db-01"]),
        ("text=b-0", &["web-01", "web-02", "db-01"]),
        ("text=tier", &[]),
        ("name=web-01", &["web-01"]),
        ("name=web", &[]),
        ("text=web&label=tier=frontend", &["web-02"]),
        ("text=web&node=node-01&state=creating", &["web-01"]),
    ] {
        assert_eq!(names(&client.get(&format!("/api/v1/vms?{query}")).await), found, "{query}");
    }
    let nodes = |query: &str| format!("/api/v1/nodes?{query}");
    assert_eq!(names(&client.get(&nodes("text=RACK")).await), ["rack-7"]);
    assert_eq!(names(&client.get(&nodes("state=ready")).await), ["node-01", "rack-7"]);
    assert_eq!(names(&client.get(&nodes("state=down")).await), [""; 0]);
    assert_eq!(names(&client.get(&nodes("label=zone=a")).await), [""; 0]);
    member.settle("node-01").await;
    member.settle("node-01").await;
    let migrate = r#"{"target":"rack-7","mode":"live"}"#;
    let begun = client.post("/api/v1/vms/db-01/migrate", migrate).await;
    assert_eq!(begun.status, 202, "{begun:?}");
    for (query, found) in [
        ("vm=db-01", 1),
        ("vm=web-01", 0),
        ("node=rack-7", 1),
        ("node=node-09", 0),
        ("status=in_progress&project=default", 1),
        ("status=completed", 0),
        ("project=own", 0),
    ] {
        let page = client.get(&format!("/api/v1/migrations?{query}")).await.json();
        assert_eq!(page["items"].as_array().unwrap().len(), found, "{query}");
    }
    for (path, code, field) in [
        ("vms?text=", "invalid_request", "text"),
        ("nodes?label=zone", "invalid_request", "label"),
        ("migrations?status=lost", "invalid_request", "status"),
        ("nodes?state=lost", "invalid_request", "state"),
    ] {
        let refused = client.get(&format!("/api/v1/{path}")).await;
        assert_eq!(refused.problem(), problem(400, code, Some(field)), "{path}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_cursor_of_another_list_is_refused() {
    let (member, client) = fleet().await;
    member.join_node("node-02", 4 << 30).await;
    for name in ["a", "b"] {
        let body = format!(r#"{{"name":"{name}","memory":16777216,"disk":1048576,"cpus":1}}"#);
        assert_eq!(client.post("/api/v1/vms", &body).await.status, 201);
    }
    let lists = ["vms", "nodes", "migrations", "events"];
    for list in ["vms", "nodes", "events"] {
        let page = client.get(&format!("/api/v1/{list}?limit=1")).await.json();
        let cursor = page["next_cursor"].as_str().unwrap();
        for other in lists.into_iter().filter(|other| *other != list) {
            let refused = client.get(&format!("/api/v1/{other}?cursor={cursor}")).await;
            let expected = problem(400, "cursor_unknown", Some("cursor"));
            assert_eq!(refused.problem(), expected, "{cursor} of {list} given to {other}");
        }
        assert_eq!(client.get(&format!("/api/v1/{list}?cursor={cursor}")).await.status, 200);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_followed_stream_has_every_event_once_and_resumes() {
    let (_member, client) = fleet().await;
    client.post("/api/v1/vms", WEB).await;
    let mut lines = client.follow("/api/v1/events?follow=true").await.lines();
    let mut seen = Vec::new();
    let mut next = async || loop {
        let line = lines.next_line().await.unwrap().unwrap();
        if !line.is_empty() {
            return serde_json::from_str::<Value>(&line).unwrap();
        }
    };
    while seen.last().is_none_or(|event: &Value| event["kind"] != "vm.created") {
        seen.push(next().await);
    }
    // What happens while it is followed comes, too.
    client.post("/api/v1/vms", &WEB.replace("web-01", "web-02")).await;
    while seen.iter().filter(|event| event["kind"] == "vm.created").count() < 2 {
        seen.push(next().await);
    }

    let listed = client.get("/api/v1/events?limit=1000").await.json();
    let listed = listed["items"].as_array().unwrap();
    assert_eq!(seen, listed[..seen.len()]);
    let from = seen[1]["revision"].as_u64().unwrap();
    let resumed =
        client.get(&format!("/api/v1/events?limit=1000&from_revision={from}")).await.json();
    let rest: Vec<_> = listed
        .iter()
        .filter(|event| event["revision"].as_u64().unwrap() >= from)
        .cloned()
        .collect();
    // The cluster may have done something by itself meanwhile.
    assert_eq!(resumed["items"].as_array().unwrap()[..rest.len()], rest);
    let about = client.get("/api/v1/events?vm=web-02").await.json();
    assert!(
        about["items"]
            .as_array()
            .unwrap()
            .iter()
            .all(|event| event["vm"] == seen.last().unwrap()["vm"])
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_batch_says_what_became_of_each_machine() {
    let (member, client) = fleet().await;
    member.join_node("node-02", 4 << 30).await;
    for (name, app) in [("web-01", "web"), ("web-02", "web"), ("db-01", "db")] {
        let vm = WEB.replace("web-01", name);
        let vm = vm.replace(
            r#""cpus":1"#,
            &format!(r#""cpus":1,"node":"node-01","labels":{{"app":"{app}"}}"#),
        );
        assert_eq!(client.post("/api/v1/vms", &vm).await.status, 201);
    }
    let path = "/api/v1/migrations/batch";
    let body = r#"{"from":"node-01","to":"node-02","labels":{"app":"web"},"downtime_limit_ms":50}"#;
    let headers = [("idempotency-key", KEY), ("content-type", "application/json")];
    let made = client.send("POST", path, &headers, body.as_bytes()).await;
    assert_eq!(made.status, 202, "{made:?}");
    let batch = made.json();
    assert_eq!((&batch["counts"]["items"], &batch["counts"]["refused"]), (&json!(2), &json!(2)));
    assert_eq!((&batch["status"], &batch["mode"]), (&json!("failed"), &Value::Null));
    assert_eq!(batch["items"][0]["vm_name"], "web-01");
    let reason = batch["items"][0]["reason"].as_str().unwrap();
    assert!(reason.contains("being created"), "{reason}");
    let again = client.send("POST", path, &headers, body.as_bytes()).await;
    assert_eq!(again.json()["batch_id"], batch["batch_id"]);

    let link = batch["_links"]["self"].as_str().unwrap();
    assert_eq!(client.get(link).await.json()["items"].as_array().unwrap().len(), 2);
    let list = client.get(path).await.json();
    assert_eq!(list["items"].as_array().unwrap().len(), 1);
    assert!(list["items"][0].get("items").is_none(), "lists leave the machines out");
    let ended = client.post(&format!("{link}/cancel"), "").await;
    assert_eq!(ended.problem(), problem(409, "conflict", None));
    assert_eq!(client.get(&format!("{path}/{KEY}")).await.problem().0, 404);

    for (body, status, field) in [
        (r#"{"from":"node-01","to":"node-01"}"#, 400, Some("to")),
        (r#"{"from":"node-02","to":"node-01"}"#, 400, Some("from")),
        (r#"{"from":"node-01","to":"node-02","labels":{"app":"x"}}"#, 400, Some("labels")),
        (r#"{"from":"node-01"}"#, 400, Some("to")),
        (r#"{"from":"node-01","to":"node-02","mode":"fast"}"#, 400, Some("mode")),
        (r#"{"from":"node-01","to":"node-02","limit":1}"#, 400, Some("limit")),
        (
            r#"{"from":"node-01","to":"node-02","downtime_limit_ms":0}"#,
            400,
            Some("downtime_limit_ms"),
        ),
        (
            r#"{"from":"node-01","to":"node-02","mode":"cold","auto_converge":true}"#,
            400,
            Some("auto_converge"),
        ),
        (r#"{"from":"Not Good","to":"node-02"}"#, 404, Some("from")),
        (r#"{"from":"node-01","to":"node-09"}"#, 404, None),
    ] {
        let refused = client.post(path, body).await.problem();
        assert_eq!((refused.0, refused.2.as_deref()), (status, field), "{body}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_holds_for_the_whole_fleet_can_be_set() {
    let (_member, client) = fleet().await;
    let limit =
        async |path: &str| client.get(path).await.json()["settings"]["migrations_per_node"].clone();
    assert_eq!(limit("/api/v1/cluster").await, 3);
    let path = "/api/v1/cluster/settings";
    let set = client.post(path, r#"{"migrations_per_node":8}"#).await;
    assert_eq!((set.status, &set.json()["settings"]["migrations_per_node"]), (200, &json!(8)));
    assert_eq!(limit("/api/v1/cluster").await, 8);
    for body in [r#"{"migrations_per_node":0}"#, r#"{"migrations_per_node":65}"#] {
        let refused = client.post(path, body).await;
        let field = Some("migrations_per_node");
        assert_eq!(refused.problem(), problem(400, "invalid_request", field), "{body}");
    }
    let unknown = client.post(path, r#"{"colour":"red"}"#).await;
    assert_eq!(unknown.problem(), problem(400, "invalid_request", Some("colour")));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_node_is_drained_and_takes_machines_again() {
    let (member, client) = fleet().await;
    let path = "/api/v1/nodes/node-01";
    let last = client.post(&format!("{path}/drain"), "").await;
    assert_eq!(last.problem(), problem(409, "conflict", None), "nothing could leave it");
    assert_eq!(client.get(path).await.json()["scheduling"], "active");
    member.join_node("node-02", 4 << 30).await;
    let vm = WEB.replace(r#""cpus":1"#, r#""cpus":1,"node":"node-01""#);
    assert_eq!(client.post("/api/v1/vms", &vm).await.status, 201);
    let body = r#"{"downtime_limit_ms":50,"auto_converge":true}"#;
    let drained = client.post(&format!("{path}/drain"), body).await;
    assert_eq!(drained.status, 202, "{drained:?}");
    let (node, drain) = (drained.json(), drained.json()["drain"].clone());
    assert_eq!((&node["scheduling"], &drain["waiting"]), (&json!("draining"), &json!(1)));
    assert_eq!(drain["options"]["downtime_limit_ms"], 50);
    assert_eq!(drain["machines"][0]["vm_name"], "web-01");
    let reason = drain["machines"][0]["reason"].as_str().unwrap();
    assert!(reason.contains("being created"), "{reason}");
    let list = client.get("/api/v1/nodes").await.json();
    assert_eq!(list["items"][0]["scheduling"], "draining");
    assert!(list["items"][0].get("drain").is_none(), "lists leave the machines out");
    let other = client.post("/api/v1/vms", &vm.replace("web-01", "web-02")).await;
    assert_eq!((other.problem().0, other.problem().1.as_str()), (422, "no_capacity"));
    let last = client.post("/api/v1/nodes/node-02/drain", "{}").await;
    assert_eq!(last.problem(), problem(409, "conflict", None), "the other is being drained");

    let undrain = format!("{path}/undrain");
    let active = client.post(&undrain, r#"{"cancel":true}"#).await;
    assert_eq!((active.status, &active.json()["scheduling"]), (202, &json!("active")));
    assert_eq!(client.post(&undrain, "").await.problem(), problem(409, "conflict", None));
    for (what, body, status, field) in [
        ("drain", r#"{"downtime_limit_ms":0}"#, 400, Some("downtime_limit_ms")),
        ("drain", r#"{"bandwidth_bits_per_second":1}"#, 400, Some("bandwidth_bits_per_second")),
        ("drain", r#"{"force_shutdown":true}"#, 400, Some("force_shutdown")),
        ("undrain", r#"{"cancel":1}"#, 400, Some("cancel")),
    ] {
        let refused = client.post(&format!("{path}/{what}"), body).await.problem();
        assert_eq!((refused.0, refused.2.as_deref()), (status, field), "{body}");
    }
    for what in ["drain", "undrain"] {
        let unknown = client.post(&format!("/api/v1/nodes/node-09/{what}"), "").await;
        assert_eq!(unknown.problem().0, 404, "{what}");
    }
}

/// A field that was left out of a committed command made it one that no member could read.
#[tokio::test(flavor = "multi_thread")]
async fn what_changes_nothing_stops_nothing() {
    let (_member, client) = fleet().await;
    for body in ["{}", r#"{"migrations_per_node":null}"#] {
        let change = client.post("/api/v1/cluster/settings", body).await;
        assert_eq!(change.status, 200, "{body}: {change:?}");
        assert_eq!(client.post("/api/v1/projects/default/settings", "{}").await.status, 200);
        assert_eq!(client.post("/api/v1/principals/admin/settings", "{}").await.status, 200);
        assert_eq!(client.get("/readyz").await.status, 200, "after {body}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn no_member_id_stops_the_only_coordinator() {
    let (_member, client) = fleet().await;
    for member in ["0", "1", "2", "18446744073709551615"] {
        let path = format!("/api/v1/cluster/members/{member}");
        let answer = client.send("DELETE", &path, &[], b"").await;
        assert!(matches!(answer.status, 404 | 409), "{member}: {answer:?}");
        assert_eq!(client.get("/readyz").await.status, 200, "after {member}");
        let change = client.post("/api/v1/cluster/settings", r#"{"migrations_per_node":4}"#).await;
        assert_eq!(change.status, 200, "after {member}: {change:?}");
    }
}
