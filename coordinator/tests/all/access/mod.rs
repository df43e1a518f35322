//! Who may do what, over real TLS: every route for every role, against a table that was written by hand.

pub mod town;

use std::collections::BTreeSet;

use self::town::{Column, PROJECTS, Town, post};
use novacron_coordinator::auth::{Access, Where};
use novacron_coordinator::http::route::Route;
use novacron_coordinator::http::routes;
use novacron_transport::Role;
use serde_json::{Value, json};

const EXPECTED: &str = include_str!("expected.txt");

/// A row of the table: operation and whose, and a letter for each column.
type Row = ((String, String), String);

fn expected() -> Vec<Row> {
    let lines = EXPECTED.lines().filter(|line| !line.starts_with('#') && !line.is_empty());
    let row = |line: &str| {
        let mut words = line.split_whitespace().map(str::to_owned);
        let key = (words.next().unwrap(), words.next().unwrap());
        (key, words.collect())
    };
    lines.map(row).collect()
}

/// What a route can be about.
fn targets(route: &Route) -> &'static [&'static str] {
    match route.access {
        Access::Needs(_, Where::Machine | Where::Migration | Where::Batch | Where::Project) => {
            &PROJECTS
        }
        Access::Needs(_, Where::Alert) => &["own", "other", "fleet"],
        Access::Anybody | Access::Principals | Access::Needs(..) => &["-"],
    }
}

/// Asks for something that is never done: who may is told that the request is wrong.
async fn ask(column: &Column, route: &Route, path: &str) -> char {
    let body: &[u8] = if route.method.is_safe() { b"" } else { b"nonsense" };
    match column.ask(route.method.as_str(), path, body).await {
        401 => '?',
        403 => '-',
        404 => '.',
        status => {
            let is_done = (200..300).contains(&status);
            assert!(!is_done || route.method.is_safe(), "{}: nonsense was done", route.operation);
            '+'
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn every_route_answers_every_role_as_the_table_says() {
    let town = Town::build().await;
    let columns = town.columns().await;
    let letters: String = columns.iter().map(|column| column.letter).collect();
    assert_eq!(letters, "VOAUBvoaubNDKXGCP");
    let before = refusals(&town).await;
    let mut actual = Vec::new();
    for route in routes::table() {
        for target in targets(&route) {
            let path = town.path(route.path, target.replace('-', "own").as_str());
            let mut row = String::new();
            for column in &columns {
                row.push(ask(column, &route, &path).await);
            }
            actual.push(((route.operation.to_owned(), (*target).to_owned()), row));
        }
    }
    let sorted = |rows: Vec<Row>| rows.into_iter().collect::<BTreeSet<_>>();
    let (expected, actual) = (sorted(expected()), sorted(actual));
    let wrong: Vec<_> = expected.symmetric_difference(&actual).collect();
    assert!(wrong.is_empty(), "expected or found, not both: {wrong:#?}");

    // Each of them is counted, once.
    let count =
        |letter| actual.iter().flat_map(|(_, row)| row.chars()).filter(move |one| *one == letter);
    let after = refusals(&town).await;
    let counted = [after[0] - before[0], after[1] - before[1]];
    assert_eq!(counted, [count('?').count(), count('-').count()]);
}

/// Refusals that were counted: of nobody, and of somebody.
async fn refusals(town: &Town) -> [usize; 2] {
    let page = town.member.metrics().await;
    ["authentication", "authorization"].map(|kind| {
        let wanted = format!("refusal=\"{kind}\"");
        let lines = page.lines().filter(|line| {
            line.starts_with("novacron_api_refusals_total") && line.contains(&wanted)
        });
        lines.map(|line| line.rsplit(' ').next().unwrap().parse::<usize>().unwrap()).sum()
    })
}

fn texts(list: &Value, field: &str) -> BTreeSet<String> {
    let items = list["items"].as_array().unwrap();
    items.iter().map(|item| item[field].as_str().unwrap_or_default().to_owned()).collect()
}

fn set<const N: usize>(texts: [&str; N]) -> BTreeSet<String> {
    texts.into_iter().map(str::to_owned).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn lists_hold_what_somebody_may_see() {
    let town = Town::build().await;
    town.principal("one", "operator").await;
    town.bind("one", json!({ "role": "operator", "project": "own" })).await;
    let client = town.member.client_named(Role::Operator, "one");
    let list = async |path: &str| client.get(&format!("/api/v1/{path}")).await.json();
    assert_eq!(texts(&list("vms").await, "name"), set(["own-1", "own-2", "own-3"]));
    assert_eq!(texts(&list("vms?project=other").await, "name"), set([]));
    assert_eq!(texts(&list("vms?limit=1").await, "name"), set(["own-1"]));
    assert_eq!(texts(&list("projects").await, "name"), set(["own"]));
    assert_eq!(texts(&list("migrations").await, "vm_name"), set(["own-1", "own-2"]));
    let batches = list("migrations/batch").await;
    assert_eq!(batches["items"].as_array().unwrap().len(), 1);
    let events = list("events?limit=1000").await;
    assert_eq!(texts(&events, "project"), set(["own"]));
    let all = town.admin.get("/api/v1/events?limit=1000").await.json();
    assert_eq!(texts(&all, "project"), set(["", "own", "other"]));
    let other = client.get("/api/v1/events?vm=other-1").await;
    assert_eq!(other.problem().1, "not_found");
    // A batch over both projects shows the machines that are seen, and cannot be given up.
    let body = json!({ "from": "node-01", "to": "node-02" });
    let batch = post(&town.admin, "migrations/batch", body).await;
    let path = format!("/api/v1/migrations/batch/{}", batch["batch_id"].as_str().unwrap());
    let seen = client.get(&path).await.json();
    let names = |view: &Value| texts(view, "vm_name");
    assert_eq!(names(&seen), set(["own-1", "own-2"]));
    assert_eq!(names(&town.admin.get(&path).await.json()).len(), 4);
    let cancelled = client.post(&format!("{path}/cancel"), "").await;
    assert_eq!(cancelled.problem().1, "not_allowed", "not all of its machines are the caller's");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_machine_is_made_where_one_may_and_says_whose_it_is() {
    let town = Town::build().await;
    town.principal("one", "operator").await;
    town.bind("one", json!({ "role": "operator", "project": "own" })).await;
    let client = town.member.client_named(Role::Operator, "one");
    let create = async |name: &str, project: Option<&str>| {
        let body = json!({ "name": name, "project": project, "disk": 1 << 20, "memory": 16 << 20 });
        client.post("/api/v1/vms", &body.to_string()).await
    };
    let made = create("new", Some("own")).await;
    assert_eq!((made.status, &made.json()["project"]), (201, &json!("own")));
    // Whether a project is there is nobody's business who may not in it.
    for project in [None, Some("other"), Some("never")] {
        let refused = create("not", project).await;
        assert_eq!(refused.problem().1, "not_allowed", "{project:?}");
    }
    let malformed = create("not", Some("Not Good")).await;
    assert_eq!(malformed.problem(), (400, "invalid_request".into(), Some("project".into())));
    // All that a batch would move and may not is left out.
    let body = json!({ "from": "node-01", "to": "node-02", "labels": { "batch": "other-2" } });
    let batch = client.post("/api/v1/migrations/batch", &body.to_string()).await;
    assert_eq!(batch.problem().0, 400, "there is nothing to move");
    let taken = create("other-1", Some("own")).await;
    let words = taken.json()["detail"].as_str().unwrap().to_owned();
    assert_eq!((taken.status, words.as_str()), (409, "the name `other-1` is taken"));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_key_works_until_it_is_revoked_and_its_secret_is_shown_once() {
    let town = Town::build().await;
    town.principal("robot", "service").await;
    let binding = town.bind("robot", json!({ "role": "viewer" })).await;
    let made = town.key("robot").await;
    let (key, id) = (made["key"].as_str().unwrap(), made["id"].as_str().unwrap());
    let anonymous = town.member.anonymous();
    let get = async |path: &str, key: &str| {
        let bearer = format!("Bearer {key}");
        anonymous.send("GET", path, &[("authorization", &bearer)], b"").await
    };
    assert_eq!(get("/api/v1/vms", key).await.status, 200);
    let whoami = get("/api/v1/whoami", key).await.json();
    assert_eq!(
        (&whoami["name"], &whoami["kind"], &whoami["credential"], &whoami["api_key"]),
        (&json!("robot"), &json!("service"), &json!("api_key"), &json!(id))
    );
    assert!(whoami["permissions"].as_array().unwrap().contains(&json!("vm.read")));
    let listed = town.admin.get("/api/v1/api-keys?principal=robot").await;
    assert_eq!(texts(&listed.json(), "id"), set([id]));
    let secret = key.rsplit('_').next().unwrap();
    assert!(!listed.body.contains(secret) && !listed.body.contains("hash"), "{listed:?}");

    let last = if key.ends_with('0') { "1" } else { "0" };
    let other = format!("{}{last}", &key[..key.len() - 1]);
    for wrong in [other.as_str(), "nck_1_2", ""] {
        let refused = get("/api/v1/vms", wrong).await;
        assert_eq!(refused.problem(), (401, "not_authenticated".into(), None), "{wrong}");
        assert_eq!(refused.header("www-authenticate"), Some("Bearer"));
        assert!(!refused.body.contains(&secret[..20]), "{refused:?}");
    }
    // The certificate of the connection does not help a wrong key.
    let bearer = format!("Bearer {other}");
    let by_admin = town.admin.send("GET", "/api/v1/vms", &[("authorization", &bearer)], b"").await;
    assert_eq!(by_admin.status, 401);

    let path = format!("/api/v1/bindings/{}", binding["id"].as_str().unwrap());
    assert_eq!(town.admin.send("DELETE", &path, &[], b"").await.status, 204);
    assert_eq!(get("/api/v1/vms", key).await.problem().1, "not_allowed");
    let path = format!("/api/v1/api-keys/{id}");
    assert_eq!(town.admin.send("DELETE", &path, &[], b"").await.status, 204);
    assert_eq!(get("/api/v1/whoami", key).await.problem().1, "not_authenticated");
}

#[tokio::test(flavor = "multi_thread")]
async fn wrong_projects_principals_bindings_and_keys_are_named() {
    let town = Town::build().await;
    town.principal("robot", "service").await;
    for (path, body, field) in [
        ("projects", r#"{"name":"Not Good"}"#, "name"),
        ("projects", r#"{"name":"a","quotas":{"vm":1}}"#, "quotas.vm"),
        ("projects", r#"{"name":"a","quotas":{"vms":-1}}"#, "quotas.vms"),
        ("projects", r#"{"name":"a","labels":{"":""}}"#, "labels"),
        ("projects/own/settings", r#"{"state":"asleep"}"#, "state"),
        ("principals", r#"{"name":"x y","kind":"service"}"#, "name"),
        ("principals", r#"{"name":"a","kind":"agent"}"#, "kind"),
        ("bindings", r#"{"principal":"robot"}"#, "role"),
        ("bindings", r#"{"principal":"robot","role":"root"}"#, "role"),
        ("bindings", r#"{"principal":"robot","permission":"vm.fly"}"#, "permission"),
        ("bindings", r#"{"principal":"robot","role":"admin","permission":"*"}"#, "role"),
        ("bindings", r#"{"principal":"robot","role":"admin","project":"x y"}"#, "project"),
        ("api-keys", r#"{"principal":"robot","name":""}"#, "name"),
        ("api-keys", r#"{"principal":"robot","name":"a","ttl_seconds":5}"#, "ttl_seconds"),
    ] {
        let answer = town.admin.post(&format!("/api/v1/{path}"), body).await;
        let wanted = (400, "invalid_request".to_owned(), Some(field.to_owned()));
        assert_eq!(answer.problem(), wanted, "{path} {body}");
    }
    for (path, body, code, field) in [
        ("projects", r#"{"name":"own"}"#, "name_taken", Some("name")),
        ("principals", r#"{"name":"admin","kind":"service"}"#, "name_taken", Some("name")),
        ("bindings", r#"{"principal":"x","role":"admin"}"#, "not_found", Some("principal")),
        (
            "bindings",
            r#"{"principal":"robot","role":"admin","project":"x"}"#,
            "not_found",
            Some("project"),
        ),
        ("api-keys", r#"{"principal":"x","name":"a"}"#, "not_found", Some("principal")),
        ("principals/admin/settings", r#"{"state":"disabled"}"#, "conflict", None),
    ] {
        let answer = town.admin.post(&format!("/api/v1/{path}"), body).await;
        let (_, found, about) = answer.problem();
        assert_eq!((found.as_str(), about.as_deref()), (code, field), "{path} {body}");
    }
    let full = town.admin.send("DELETE", "/api/v1/projects/own", &[], b"").await;
    assert_eq!(full.problem().1, "conflict");
}

#[tokio::test(flavor = "multi_thread")]
async fn who_follows_events_and_loses_the_right_gets_no_further_ones() {
    use tokio::io::{AsyncBufReadExt, AsyncReadExt};
    let town = Town::build().await;
    town.principal("one", "operator").await;
    let binding = town.bind("one", json!({ "role": "viewer" })).await;
    let client = town.member.client_named(Role::Operator, "one");
    let mut stream = client.follow("/api/v1/events?follow=true&from_revision=1").await;
    let mut line = String::new();
    stream.read_line(&mut line).await.unwrap();
    let path = format!("/api/v1/bindings/{}", binding["id"].as_str().unwrap());
    assert_eq!(town.admin.send("DELETE", &path, &[], b"").await.status, 204);
    post(&town.admin, "projects", json!({ "name": "after" })).await;
    let mut rest = String::new();
    stream.read_to_string(&mut rest).await.unwrap();
    assert!(rest.contains("\"not_allowed\""), "{rest}");
    assert!(!rest.contains("project after was made"), "{rest}");
}
