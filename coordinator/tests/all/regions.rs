//! Regions over the API: what is wrong is named, what a rule forbids is refused in its words, and violations are listed
//! for those who see the machines.

use std::collections::BTreeSet;

use novacron_coordinator::propose::Intent;
use novacron_coordinator::state::region::{RegionEdit, RegionOrder};
use novacron_protocol::effect::AgentMessage;
use novacron_protocol::ids::RegionCode;
use novacron_protocol::region::ResidencyRules;
use novacron_transport::Role;
use serde_json::{Value, json};

use crate::https::Https;
use crate::member::Member;
use crate::support::agent::Agent;
use crate::support::*;

/// `node-eu` in `eu`, `node-us` in `us`, project `bank`.
async fn fleet() -> (Member, Https) {
    let member = Member::start().await;
    let admin = member.client(Role::Operator);
    for region in ["eu", "us"] {
        let body = json!({
            "region_code": region,
            "region_name": "Somewhere",
            "compliance_certifications": ["SOC2"],
        });
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
    let changed =
        done(&admin, "regions/eu/settings", json!({ "data_residency_rules": rules })).await;
    assert_eq!((&changed["data_residency_rules"], &changed["nodes"]), (&rules, &json!(1)));
    assert_eq!(changed["compliance_certifications"], json!(["SOC2"]));
    let listed = admin.get("/api/v1/regions").await.json();
    assert_eq!(listed["items"][0], changed);
    let named = ["region_code", "region_name", "status"].map(|field| changed[field].clone());
    assert_eq!(named, [json!("eu"), json!("Somewhere"), json!("active")]);
    assert!(changed["created_at"].is_string(), "{changed}");
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
        ("regions", r#"{"region_code":"Not Good"}"#, "region_code"),
        (
            "regions",
            r#"{"region_code":"a","data_residency_rules":{"leave":[]}}"#,
            "data_residency_rules.leave",
        ),
        (
            "regions",
            r#"{"region_code":"a","compliance_certifications":["x y"]}"#,
            "compliance_certifications[0]",
        ),
        (
            "regions",
            r#"{"region_code":"a","data_residency_rules":{"may_leave_to":["mars"]}}"#,
            "data_residency_rules.may_leave_to",
        ),
        ("regions/eu/settings", r#"{"status":"asleep"}"#, "status"),
        ("regions/eu/settings", r#"{"latencies_ms":{"mars":1}}"#, "latencies_ms"),
        ("regions/eu/settings", r#"{"latencies_ms":{"eu":1}}"#, "latencies_ms"),
        ("regions/eu/settings", r#"{"latencies_ms":{"us":60001}}"#, "latencies_ms"),
        ("regions", r#"{"region_code":"route"}"#, "region_code"),
        ("projects/bank/settings", r#"{"residency":{"regions":["mars"]}}"#, "residency.regions"),
        ("projects/bank/settings", r#"{"residency":{"region":["eu"]}}"#, "residency.region"),
    ] {
        let answer = admin.post(&format!("/api/v1/{path}"), body).await;
        let wanted = (400, "invalid_request".to_owned(), Some(field.to_owned()));
        assert_eq!(answer.problem(), wanted, "{path} {body}");
    }
    let taken = admin.post("/api/v1/regions", r#"{"region_code":"eu"}"#).await;
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

/// All pages of a list: the field of each item, page by page.
async fn pages(client: &Https, path: &str, field: &str) -> Vec<Vec<String>> {
    let (mut pages, mut cursor) = (Vec::new(), String::new());
    loop {
        let answer = client.get(&format!("/api/v1/{path}{cursor}")).await;
        assert_eq!(answer.status, 200, "{path}: {answer:?}");
        let page = answer.json();
        let text = |item: &Value| item[field].as_str().unwrap().to_owned();
        pages.push(page["items"].as_array().unwrap().iter().map(text).collect());
        let Some(next) = page["next_cursor"].as_str() else { return pages };
        cursor = format!("&cursor={next}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn machines_and_nodes_are_found_by_region_over_pages_and_by_tenants_among_their_own() {
    let (member, admin) = fleet().await;
    member.join_node("node-nowhere", 8 << 30).await;
    member.join_node("node-us-2", 8 << 30).await;
    done(&admin, "nodes/node-us-2/region", json!({ "region": "us" })).await;
    let other = |name: &str, node: &str| {
        let mut body = machine(name, Some(node));
        body["project"] = json!("default");
        body
    };
    for body in [
        machine("a", Some("node-us")),
        machine("b", Some("node-eu")),
        other("c", "node-us"),
        machine("d", Some("node-us-2")),
        machine("e", Some("node-nowhere")),
        other("f", "node-us-2"),
        machine("g", Some("node-us")),
    ] {
        done(&admin, "vms", body).await;
    }
    let us = pages(&admin, "vms?region=us&limit=2", "name").await;
    assert_eq!(us, [vec!["a", "c"], vec!["d", "f"], vec!["g"]]);
    assert_eq!(us, pages(&admin, "vms?region=us&limit=2", "name").await);
    let all = async |path: &str, field: &str| pages(&admin, path, field).await.concat();
    assert_eq!(all("vms?region=eu", "name").await, ["b"]);
    assert_eq!(all("vms?region=us&node=node-us-2", "name").await, ["d", "f"]);
    assert_eq!(all("vms?region=us&project=default", "name").await, ["c", "f"]);
    assert_eq!(all("vms?region=us&text=node-us-2", "name").await, ["d", "f"]);
    assert_eq!(all("vms?region=mars", "name").await, [""; 0]);
    assert_eq!(
        pages(&admin, "nodes?region=us&limit=1", "name").await,
        [["node-us"], ["node-us-2"]]
    );
    assert_eq!(all("nodes?region=eu", "name").await, ["node-eu"]);
    // By number, too: what comes before the page is passed over.
    let second = admin.get("/api/v1/vms?region=us&limit=2&page=2").await.json();
    assert_eq!(
        (&second["items"][0]["name"], &second["items"][1]["name"]),
        (&json!("d"), &json!("f"))
    );
    // What moves elsewhere between two pages is not found there any more, and all that stays is found once.
    let first = admin.get("/api/v1/vms?region=us&limit=2").await.json();
    done(&admin, "nodes/node-us-2/region", json!({ "region": "eu" })).await;
    let rest = format!("vms?region=us&limit=2&cursor={}", first["next_cursor"].as_str().unwrap());
    assert_eq!(all(&rest, "name").await, ["g"]);
    assert_eq!(all("vms?region=eu", "name").await, ["b", "d", "f"]);

    done(&admin, "principals", json!({ "name": "tenant", "kind": "operator" })).await;
    let binding = json!({ "principal": "tenant", "role": "viewer", "project": "bank" });
    done(&admin, "bindings", binding).await;
    let tenant = member.client_named(Role::Operator, "tenant");
    assert_eq!(pages(&tenant, "vms?region=eu&limit=1", "name").await, [["b"], ["d"]]);
    assert_eq!(pages(&tenant, "vms?region=us", "name").await, [["a", "g"]]);
    assert_eq!(tenant.get("/api/v1/nodes?region=us").await.problem().1, "not_allowed");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_route_is_by_what_was_measured_and_by_the_rules_of_a_project() {
    let (member, admin) = fleet().await;
    let route = async |client: &Https, query: &str| {
        client.get(&format!("/api/v1/regions/route?{query}")).await
    };
    let changed =
        done(&admin, "regions/eu/settings", json!({ "latencies_ms": { "us": 80 } })).await;
    assert_eq!(changed["latencies_ms"], json!({ "us": 80 }));
    let found = route(&admin, "from=us").await.json();
    assert_eq!((&found["from"], &found["chosen"]), (&json!("us"), &json!("us")));
    let second = json!({
        "region": "eu", "usable": true, "latency_ms": 80, "nodes": 1, "nodes_ready": 1,
        "reason": "80 ms away, 1 of 1 nodes take machines",
    });
    assert_eq!(found["regions"][1], second);
    done(&admin, "projects/bank/settings", json!({ "residency": { "regions": ["eu"] } })).await;
    let found = route(&admin, "from=us&project=bank").await.json();
    assert_eq!((&found["chosen"], &found["project"]), (&json!("eu"), &json!("bank")));
    let us = &found["regions"][1];
    let words = "machines of project `bank` must stand in region `eu`";
    assert_eq!((&us["usable"], &us["reason"]), (&json!(false), &json!(words)));
    done(&admin, "regions/eu/settings", json!({ "status": "draining" })).await;
    let found = route(&admin, "from=us&project=bank").await.json();
    assert_eq!(found["chosen"], Value::Null, "{found}");
    for (query, field) in
        [("from=mars", "from"), ("from=A+b", "from"), ("from=eu&project=never", "project")]
    {
        let wanted = (404, "not_found".to_owned(), Some(field.to_owned()));
        assert_eq!(route(&admin, query).await.problem(), wanted, "{query}");
    }
    let audit = admin.get("/api/v1/audit?action=region.change").await.json();
    let measured = audit["items"].as_array().unwrap().last().unwrap();
    assert!(measured.to_string().contains("latencies_ms"), "{measured}");

    done(&admin, "principals", json!({ "name": "tenant", "kind": "operator" })).await;
    let binding = json!({ "principal": "tenant", "role": "viewer", "project": "default" });
    done(&admin, "bindings", binding).await;
    let tenant = member.client_named(Role::Operator, "tenant");
    assert_eq!(route(&tenant, "from=us&project=default").await.json()["chosen"], "us");
    for project in ["bank", "never"] {
        let refused = route(&tenant, &format!("from=us&project={project}")).await;
        assert_eq!(refused.problem().1, "not_allowed", "whether it is there is not its business");
    }
}

/// Real agents on real links: one that is silent is suspect after 1.5 s here, and after 10 s unless set.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_node_that_goes_silent_turns_the_route_and_one_that_is_back_turns_it_again() {
    let cluster = TestCluster::start(1).await;
    let credentials = cluster.operator_credentials("watcher").await;
    let client = Https::with(cluster.configs["c1"].api_listen, &credentials);
    let addresses = cluster.peer_addresses();
    let app = cluster.any();
    let order = async |order: RegionOrder| {
        let intent = by_operator(Intent::Regions(order));
        app.proposer.submit(request(), intent).await.unwrap();
    };
    let mut agents = Vec::new();
    for text in ["eu", "us"] {
        let (region, name) = (text.parse::<RegionCode>().unwrap(), String::new());
        let (certifications, rules) = (BTreeSet::new(), ResidencyRules::default());
        order(RegionOrder::Create { region: region.clone(), name, certifications, rules }).await;
        let node = format!("node-{text}");
        let credentials = cluster.agent_credentials(&node).await;
        let agent = Agent::connect(&addresses, &credentials, &node, vec![]).await;
        let place = RegionOrder::Assign { node: node.parse().unwrap(), region: Some(region) };
        order(place).await;
        agents.push((node, credentials, agent));
    }
    let latencies_ms = [("us".parse().unwrap(), 80)].into();
    let (region, edit) = ("eu".parse().unwrap(), RegionEdit::default());
    order(RegionOrder::ChangeWithLatencies { region, edit, latencies_ms }).await;
    let (_, _, mut us) = agents.pop().unwrap();
    let (node, credentials, eu) = agents.pop().unwrap();
    let mut turned_to = async |wanted: &str| {
        until("the route turns", async || {
            us.say(&AgentMessage::Heartbeat).await;
            let route = client.get("/api/v1/regions/route?from=eu").await.json();
            // On a slow machine both may have been silent for so long.
            route["chosen"].as_str()?;
            let chosen = route["regions"][0].clone();
            // Whatever is chosen has a node that answers.
            assert_eq!(chosen["region"], route["chosen"], "{route}");
            assert_ne!(chosen["nodes_ready"], 0, "{route}");
            (route["chosen"] == wanted).then_some(())
        })
        .await;
    };
    turned_to("eu").await;
    eu.close().await;
    turned_to("us").await;
    let eu = Agent::connect(&addresses, &credentials, &node, vec![]).await;
    turned_to("eu").await;
    eu.close().await;
    us.close().await;
    cluster.shutdown().await;
}
