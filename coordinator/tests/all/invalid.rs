//! A write that cannot be is refused whole, with everything that is wrong with it: over the API, for each kind of body.

use novacron_transport::Role;
use serde_json::{Value, json};

use crate::https::{Answer, Https};
use crate::member::Member;

/// `field code` of everything that an answer says is wrong.
fn wrong(answer: &Answer) -> Vec<String> {
    let (status, code, field) = answer.problem();
    assert_eq!((status, code.as_str()), (400, "invalid_request"), "{answer:?}");
    let problem = answer.json();
    let all = problem["invalid"].as_array().unwrap();
    assert_eq!(all[0]["field"].as_str(), field.as_deref(), "{answer:?}");
    for one in all {
        let (field, reason) = (one["field"].as_str().unwrap(), one["reason"].as_str().unwrap());
        assert!(!field.is_empty() && !reason.is_empty(), "{answer:?}");
    }
    let text = |one: &Value| {
        let (field, code) = (one["field"].as_str().unwrap(), one["code"].as_str().unwrap());
        format!("{field} {code}")
    };
    all.iter().map(text).collect()
}

/// Path, body, and what has to be found.
type Row = (&'static str, Value, &'static [&'static str]);

fn rows() -> Vec<Row> {
    vec![
        (
            "vms",
            json!({ "name": "Not Good", "memory": 1, "cpus": 0, "labels": { "": "x" }, "diks": 1 }),
            &["diks unknown", "name format", "memory range", "cpus range", "labels length"],
        ),
        (
            "vms/web-01/migrate",
            json!({ "target": "n", "mode": "cold", "auto_converge": true, "downtime_limit_ms": 0 }),
            &["downtime_limit_ms range", "auto_converge conflict"],
        ),
        (
            "migrations/batch",
            json!({ "from": "node-01", "mode": "fast", "bandwidth_bits_per_second": 1 }),
            &["to missing", "mode type", "bandwidth_bits_per_second range"],
        ),
        (
            "nodes/node-01/drain",
            json!({ "downtime_limit_ms": 0, "force": true }),
            &["force unknown", "downtime_limit_ms range"],
        ),
        (
            "nodes/node-01/undrain",
            json!({ "cancel": 1, "now": true }),
            &["now unknown", "cancel type"],
        ),
        ("vms/web-01/stop", json!({ "force": "yes", "now": 1 }), &["now unknown", "force type"]),
        (
            "projects",
            json!({ "name": "A", "quotas": { "vms": -1, "ram": 1 }, "labels": { "k": "x".repeat(129) } }),
            &["quotas.ram unknown", "quotas.vms range", "name format", "labels length"],
        ),
        (
            "projects/default/settings",
            json!({ "display_name": "a\nb", "state": "asleep", "quotas": { "cpus": "4" } }),
            &["quotas.cpus type", "state type", "display_name length"],
        ),
        (
            "networks",
            json!({ "name": "user", "bridge": "a b", "users": { "project": [] }, "vlan": 7, "regions": ["A"] }),
            &["vlan unknown", "regions[0] format", "users type", "name conflict", "bridge format"],
        ),
        (
            "networks/office/settings",
            json!({ "bridge": "", "description": "a\nb", "users": { "projects": ["A"] } }),
            &["users type", "description length", "bridge format"],
        ),
        (
            "principals",
            json!({ "name": "A", "display_name": "x".repeat(129) }),
            &["kind missing", "name format", "display_name length"],
        ),
        (
            "principals/admin/settings",
            json!({ "state": "asleep", "display_name": "\u{7}" }),
            &["state type", "display_name length"],
        ),
        (
            "bindings",
            json!({ "principal": "admin", "permission": "vm.fly", "role": "admin", "project": "A" }),
            &["role conflict", "permission format", "project format"],
        ),
        (
            "api-keys",
            json!({ "principal": "admin", "name": "", "ttl_seconds": 5 }),
            &["name length", "ttl_seconds range"],
        ),
        (
            "tokens",
            json!({ "role": "god", "name": "A", "ttl_seconds": 5, "access": "all" }),
            &["access type", "role format", "name format", "ttl_seconds range"],
        ),
        (
            "cluster/settings",
            json!({ "migrations_per_node": 65, "colour": "red" }),
            &["colour unknown", "migrations_per_node range"],
        ),
        (
            "rates",
            json!({ "plan": "A", "valid_from": "2999-01-01T00:30:00Z", "prices": {
                "vm-hours": { "micro_dollars": 1, "per_units": 7 }, "disks": {} } }),
            &["plan format", "prices.disks unknown", "valid_from format", "prices.vm-hours range"],
        ),
        (
            "rates/plans",
            json!({ "project": "A", "plan": "B", "valid_from": "soon" }),
            &["plan format", "project format", "valid_from format"],
        ),
        (
            "usage/records",
            json!({ "node": "A", "records": [{ "vm": "x", "meter": "love" }] }),
            &[
                "node format",
                "records[0].end_s missing",
                "records[0].generation missing",
                "records[0].level missing",
                "records[0].start_s missing",
                "records[0].meter type",
                "records[0].vm format",
            ],
        ),
        (
            "alerts",
            json!({ "key": "vm-failed", "severity": "bad", "summary": "", "object": "disk/1", "x": 1 }),
            &["x unknown", "severity type", "key conflict", "summary length", "object format"],
        ),
        (
            "usage/corrections",
            json!({ "window": "2026-11-26T13:30:00Z", "index": 1, "quantity": "-1", "reason": "" }),
            &["window format", "quantity range", "reason length"],
        ),
        (
            "alerts/7f3c1a52-5e4e-4b8f-9d0a-0d3b9f1c2e11/acknowledge",
            json!({ "note": "a\nb", "x": 1 }),
            &["x unknown", "note length"],
        ),
        (
            "alerts/7f3c1a52-5e4e-4b8f-9d0a-0d3b9f1c2e11/resolve",
            json!({ "note": "a\nb", "x": 1 }),
            &["x unknown", "note length"],
        ),
        (
            "PUT projects/default/budget",
            json!({ "micro_dollars_per_month": -1, "euros": 1 }),
            &["euros unknown", "micro_dollars_per_month range"],
        ),
        (
            "vms/web-01/snapshots",
            json!({ "name": "Not Good", "disk": 1 }),
            &["disk unknown", "name format"],
        ),
        ("nodes/node-01/region", json!({ "region": "A", "x": 1 }), &["x unknown", "region format"]),
        (
            "regions",
            json!({ "region_code": "A", "region_name": "a\nb", "compliance_certifications": [""], "x": 1 }),
            &[
                "x unknown",
                "compliance_certifications[0] format",
                "region_code format",
                "region_name length",
            ],
        ),
        (
            "regions/eu-1/settings",
            json!({ "region_name": "a\nb", "status": "asleep", "latencies_ms": { "A": 1, "B": 1 }, "x": 1 }),
            &[
                "x unknown",
                "status type",
                "latencies_ms.A format",
                "latencies_ms.B format",
                "region_name length",
            ],
        ),
        (
            "PUT vms/web-01/annotations/owner",
            json!({ "value": "x".repeat(4097), "text": "" }),
            &["text unknown", "value length"],
        ),
        ("PUT secrets/key", json!({ "value": "", "x": 1 }), &["x unknown", "value length"]),
        (
            "PUT projects/default/secrets/key",
            json!({ "value": "", "x": 1 }),
            &["x unknown", "value length"],
        ),
    ]
}

/// The method of a row, `POST` where it says none, and its path.
fn request(row: &Row) -> (&'static str, String) {
    let (method, path) = row.0.split_once(' ').unwrap_or(("POST", row.0));
    (method, format!("/api/v1/{path}"))
}

/// Whether a path is one of a route, whose parts in braces stand for any.
fn is_of(path: &str, route: &str) -> bool {
    let (mut parts, mut wanted) = (path.split('/'), route.split('/'));
    loop {
        match (parts.next(), wanted.next()) {
            (None, None) => return true,
            (Some(part), Some(want)) if part == want || want.starts_with('{') => {}
            _ => return false,
        }
    }
}

/// The last that the client did: what the cluster does by itself, such as taking its keys into use, comes when it will.
async fn proposed(client: &Https) -> Value {
    let page = client.get("/api/v1/audit?limit=1&actor=admin").await.json();
    assert_eq!(page["items"].as_array().map(Vec::len), Some(1), "{page}");
    page["items"].clone()
}

#[tokio::test(flavor = "multi_thread")]
async fn each_write_says_all_that_is_wrong_and_does_nothing() {
    let member = Member::start().await;
    member.join_node("node-01", 4 << 30).await;
    let client = member.client(Role::Operator);
    let vm = json!({ "name": "web-01", "memory": 512 << 20, "disk": 1 << 30, "image": "debian" });
    assert_eq!(client.post("/api/v1/vms", &vm.to_string()).await.status, 201);
    let before = proposed(&client).await;
    for row in rows() {
        let (method, path) = request(&row);
        let answer = client.send(method, &path, &[], row.1.to_string().as_bytes()).await;
        assert_eq!(wrong(&answer), row.2, "{path}: {answer:?}");
    }
    assert_eq!(proposed(&client).await, before, "nothing was even proposed");
    member.stop().await;
}

/// So that a new one cannot be forgotten above.
#[tokio::test(flavor = "multi_thread")]
async fn every_route_that_takes_a_document_has_a_row() {
    let member = Member::start().await;
    let description = member.anonymous().get("/api/v1/openapi.json").await.json();
    let rows = rows();
    let mut without = Vec::new();
    for (route, methods) in description["paths"].as_object().unwrap() {
        for (method, operation) in methods.as_object().unwrap() {
            let takes_one = !operation["requestBody"]["content"]["application/json"].is_null();
            let has_row = rows
                .iter()
                .map(request)
                .any(|(of, path)| of.eq_ignore_ascii_case(method) && is_of(&path, route));
            if takes_one && !has_row {
                without.push(format!("{method} {route}"));
            }
        }
    }
    assert_eq!(without, [""; 0]);
    member.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_batch_of_1001_is_refused_whole() {
    let member = Member::start().await;
    member.join_node("node-01", 4 << 30).await;
    let client = member.client(Role::Operator);
    let record = json!({ "vm": uuid(), "generation": 1, "meter": "vm-seconds", "start_s": 0,
        "end_s": 60, "level": 1 });
    let body = json!({ "node": "node-01", "records": vec![record; 1001] });
    let answer = client.post("/api/v1/usage/records", &body.to_string()).await;
    assert_eq!(answer.problem(), (413, "too_many_records".to_owned(), Some("records".to_owned())));
    member.stop().await;
}

fn uuid() -> &'static str {
    "7f3c1a52-5e4e-4b8f-9d0a-0d3b9f1c2e11"
}
