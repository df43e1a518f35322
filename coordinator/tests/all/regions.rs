//! Regions over the API: what is wrong is named, what a rule forbids is refused in its words, and violations are listed
//! for those who see the machines.

use novacron_transport::Role;
use serde_json::{Value, json};

use crate::https::Https;
use crate::member::Member;

/// `node-eu` in `eu`, `node-us` in `us`, project `bank`.
async fn fleet() -> (Member, Https) {
    let member = Member::start().await;
    let admin = member.client(Role::Operator);
    for region in ["eu", "us"] {
        let body =
            json!({ "code": region, "name": "Somewhere", "compliance_certifications": ["SOC2"] });
        done(&admin, "regions", body).await;
        let node = format!("node-{region}");
        member.join_node(&node, 8 << 30).await;
        done(&admin, &format!("nodes/{node}/region"), json!({ "region": region })).await;
    }
    done(&admin, "projects", json!({ "name": "bank" })).await;
    (member, admin)
}

async fn done(client: &Https, path: &str, body: Value) -> Value {
    let answer = client.post(&format!("/api/v1/{path}"), &body.to_string()).await;
    assert!((200..300).contains(&answer.status), "{path}: {answer:?}");
    answer.json()
}

fn machine(name: &str, node: Option<&str>) -> Value {
    json!({ "name": name, "project": "bank", "node": node, "memory": 16 << 20, "disk": 1 << 20 })
}

#[tokio::test(flavor = "multi_thread")]
async fn a_region_is_made_changed_shown_and_deleted() {
    let (_member, admin) = fleet().await;
    let rules = json!({ "may_leave_to": ["us"] });
    let changed = done(&admin, "regions/eu/settings", json!({ "residency_rules": rules })).await;
    assert_eq!((&changed["residency_rules"], &changed["nodes"]), (&rules, &json!(1)));
    assert_eq!(changed["compliance_certifications"], json!(["SOC2"]));
    let listed = admin.get("/api/v1/regions").await.json();
    assert_eq!(listed["items"][0], changed);
    assert_eq!(admin.get("/api/v1/nodes/node-eu").await.json()["region"], "eu");
    let none = done(&admin, "nodes/node-eu/region", json!({ "region": null })).await;
    assert_eq!(none["region"], Value::Null);
    assert_eq!(admin.send("DELETE", "/api/v1/regions/eu", &[], b"").await.status, 204);
    assert_eq!(admin.get("/api/v1/regions/eu").await.problem().1, "not_found");
    let used = admin.send("DELETE", "/api/v1/regions/us", &[], b"").await;
    assert_eq!(used.problem().1, "conflict");
    let audit = admin.get("/api/v1/audit?action=region").await.json();
    let actions = audit["items"].as_array().unwrap().iter().map(|entry| entry["action"].clone());
    let wanted = ["delete", "delete", "change", "create", "create"];
    assert_eq!(Vec::from_iter(actions), wanted.map(|verb| json!(format!("region.{verb}"))));
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_wrong_with_a_region_is_named() {
    let (_member, admin) = fleet().await;
    for (path, body, field) in [
        ("regions", r#"{"code":"Not Good"}"#, "code"),
        ("regions", r#"{"code":"a","residency_rules":{"leave":[]}}"#, "residency_rules.leave"),
        (
            "regions",
            r#"{"code":"a","compliance_certifications":["x y"]}"#,
            "compliance_certifications[0]",
        ),
        (
            "regions",
            r#"{"code":"a","residency_rules":{"may_leave_to":["mars"]}}"#,
            "residency_rules.may_leave_to",
        ),
        ("regions/eu/settings", r#"{"status":"asleep"}"#, "status"),
        ("projects/bank/settings", r#"{"residency":{"regions":["mars"]}}"#, "residency.regions"),
        ("projects/bank/settings", r#"{"residency":{"region":["eu"]}}"#, "residency.region"),
    ] {
        let answer = admin.post(&format!("/api/v1/{path}"), body).await;
        let wanted = (400, "invalid_request".to_owned(), Some(field.to_owned()));
        assert_eq!(answer.problem(), wanted, "{path} {body}");
    }
    let taken = admin.post("/api/v1/regions", r#"{"code":"eu"}"#).await;
    assert_eq!(taken.problem().1, "name_taken");
    for (path, body) in [
        ("nodes/node-eu/region", r#"{"region":"mars"}"#),
        ("nodes/nobody/region", r#"{"region":"eu"}"#),
        ("regions/mars/settings", "{}"),
    ] {
        let answer = admin.post(&format!("/api/v1/{path}"), body).await;
        assert_eq!(answer.problem().1, "not_found", "{path}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_rule_is_obeyed_and_who_stands_against_it_is_listed_for_its_tenant() {
    let (member, admin) = fleet().await;
    let before = done(&admin, "vms", machine("old", Some("node-us"))).await;
    let residency = json!({ "regions": ["eu"] });
    done(&admin, "projects/bank/settings", json!({ "residency": residency })).await;
    assert_eq!(
        admin.get("/api/v1/projects/bank").await.json()["residency"]["regions"],
        json!(["eu"])
    );
    assert_eq!(done(&admin, "vms", machine("new", None)).await["node"], "node-eu");
    let body = machine("there", Some("node-us")).to_string();
    let refused = admin.post("/api/v1/vms", &body).await;
    assert_eq!((refused.status, refused.problem().1.as_str()), (422, "residency_rule"));
    member.settle("node-eu").await;
    member.settle("node-eu").await;
    let away = r#"{"target":"node-us","mode":"live"}"#;
    let refused = admin.post("/api/v1/vms/new/migrate", away).await;
    assert_eq!(refused.problem().1, "residency_rule", "{refused:?}");

    for (name, project) in [("tenant", "bank"), ("other", "default")] {
        done(&admin, "principals", json!({ "name": name, "kind": "operator" })).await;
        let binding = json!({ "principal": name, "role": "viewer", "project": project });
        done(&admin, "bindings", binding).await;
    }
    let listed = async |name: &str| {
        let client = member.client_named(Role::Operator, name);
        client.get("/api/v1/residency/violations").await.json()["items"].clone()
    };
    let seen = listed("tenant").await;
    assert_eq!((&seen[0]["vm"], &seen[0]["region"]), (&before["id"], &json!("us")));
    let reason = "machines of project `bank` must stand in region `eu`, and it stands in `us`";
    assert_eq!(seen[0]["reason"], reason);
    assert_eq!(listed("other").await, json!([]));
    let page = member.metrics().await;
    for line in [
        "novacron_fleet_residency_violations 1",
        "novacron_fleet_nodes{state=\"ready\",region=\"us\"} 1",
        "novacron_fleet_nodes{state=\"ready\",region=\"\"} 0",
    ] {
        assert!(page.lines().any(|one| one == line), "{line} is not in {page}");
    }
}
