//! Networks over the API: machines name them, tenants see theirs, and what is in use stays.

use novacron_transport::Role;
use serde_json::{Value, json};

use crate::https::Https;
use crate::member::Member;

/// `node-eu` in `eu`, `node-us` in `us`, projects `bank` and `shop` with an operator each.
async fn fleet() -> (Member, Https) {
    let member = Member::start().await;
    let admin = member.client(Role::Operator);
    for region in ["eu", "us"] {
        done(&admin, "regions", json!({ "region_code": region })).await;
        let node = format!("node-{region}");
        member.join_node(&node, 8 << 30).await;
        done(&admin, &format!("nodes/{node}/region"), json!({ "region": region })).await;
    }
    for project in ["bank", "shop"] {
        done(&admin, "projects", json!({ "name": project })).await;
        done(&admin, "principals", json!({ "name": project, "kind": "operator" })).await;
        let binding = json!({ "principal": project, "role": "operator", "project": project });
        done(&admin, "bindings", binding).await;
    }
    (member, admin)
}

async fn done(client: &Https, path: &str, body: Value) -> Value {
    let answer = client.post(&format!("/api/v1/{path}"), &body.to_string()).await;
    assert!((200..300).contains(&answer.status), "{path}: {answer:?}");
    answer.json()
}

fn machine(name: &str, project: &str, network: Value) -> Value {
    json!({ "name": name, "project": project, "network": network, "memory": 16 << 20, "disk": 1 << 20 })
}

fn names(page: &Value) -> Vec<&str> {
    page["items"].as_array().unwrap().iter().map(|item| item["name"].as_str().unwrap()).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_network_is_made_used_changed_and_deleted() {
    let (member, admin) = fleet().await;
    let body = json!({
        "name": "office", "bridge": "br0", "description": "Desks",
        "users": { "projects": ["bank"] }, "regions": ["us"],
    });
    let made = done(&admin, "networks", body).await;
    assert_eq!((&made["users"]["projects"], &made["vms"]), (&json!(["bank"]), &json!(0)));
    let taken = admin.post("/api/v1/networks", r#"{"name":"office","bridge":"br1"}"#).await;
    assert_eq!(taken.problem().1, "name_taken");

    let vm = done(&admin, "vms", machine("web", "bank", json!({ "named": "office" }))).await;
    assert_eq!(vm["network"], json!({ "bridge": { "bridge": "br0" } }));
    assert_eq!((&vm["network_name"], &vm["node"]), (&json!("office"), &json!("node-us")));
    assert_eq!(vm["_links"]["network"], "/api/v1/networks/office");
    done(&admin, "vms", machine("plain", "bank", json!("none"))).await;
    let inside = admin.get("/api/v1/vms?network=office").await.json();
    assert_eq!((names(&inside), &inside["items"][0]), (vec!["web"], &vm));
    assert_eq!(names(&admin.get("/api/v1/vms?network=moon").await.json()), [""; 0]);
    let shown = admin.get("/api/v1/networks/office").await.json();
    assert_eq!(shown["vms"], 1);

    let used = admin.send("DELETE", "/api/v1/networks/office", &[], b"").await;
    assert_eq!((used.status, used.problem().1.as_str()), (409, "conflict"));
    assert!(used.json()["detail"].as_str().unwrap().contains("machine `web`"), "{used:?}");
    for change in [r#"{"bridge":"br1"}"#, r#"{"users":{"projects":["shop"]}}"#] {
        let used = admin.post("/api/v1/networks/office/settings", change).await;
        assert_eq!(used.problem().1, "conflict", "{change}");
    }
    let change = json!({ "description": "Chairs", "users": "all" });
    let changed = done(&admin, "networks/office/settings", change).await;
    assert_eq!((&changed["description"], &changed["users"]), (&json!("Chairs"), &json!("all")));

    member.settle("node-us").await;
    member.settle("node-us").await;
    let away = r#"{"target":"node-eu","mode":"live"}"#;
    let refused = admin.post("/api/v1/vms/web/migrate", away).await;
    assert_eq!(refused.problem().1, "residency_rule", "{refused:?}");

    assert_eq!(admin.send("DELETE", "/api/v1/vms/web", &[], b"").await.status, 202);
    member.settle("node-us").await;
    assert_eq!(admin.send("DELETE", "/api/v1/networks/office", &[], b"").await.status, 204);
    assert_eq!(admin.get("/api/v1/networks/office").await.problem().1, "not_found");
    let audit = admin.get("/api/v1/audit?action=network").await.json();
    let actions = audit["items"].as_array().unwrap().iter().map(|entry| entry["action"].clone());
    let wanted = ["delete", "change", "change", "change", "delete", "create", "create"];
    assert_eq!(Vec::from_iter(actions), wanted.map(|verb| json!(format!("network.{verb}"))));
    let events = admin.get("/api/v1/events?kind=network.*&limit=100").await.json();
    assert_eq!(events["items"].as_array().unwrap().len(), 3, "{events}");
}

#[tokio::test(flavor = "multi_thread")]
async fn tenants_see_and_use_what_is_theirs_and_no_bridge_by_its_name() {
    let (member, admin) = fleet().await;
    for (name, users) in [
        ("both", json!({ "projects": ["bank", "shop"] })),
        ("shared", json!("all")),
        ("vault", json!({ "projects": ["bank"] })),
    ] {
        done(&admin, "networks", json!({ "name": name, "bridge": "br0", "users": users })).await;
    }
    for (vm, project) in [("one", "bank"), ("two", "shop"), ("three", "shop")] {
        done(&admin, "vms", machine(vm, project, json!({ "named": "both" }))).await;
    }
    let [bank, shop] = ["bank", "shop"].map(|name| member.client_named(Role::Operator, name));
    let list = async |client: &Https| client.get("/api/v1/networks").await.json();
    assert_eq!(names(&list(&admin).await), ["both", "shared", "vault"]);
    assert_eq!(names(&list(&bank).await), ["both", "shared", "vault"]);
    let seen = list(&shop).await;
    assert_eq!(names(&seen), ["both", "shared"]);
    // Of others it learns neither that they may be in it nor how many are.
    assert_eq!(seen["items"][0]["users"], json!({ "projects": ["shop"] }));
    assert_eq!(seen["items"][0]["vms"], 2);
    assert_eq!(shop.get("/api/v1/networks/vault").await.problem().1, "not_found");
    let page = shop.get("/api/v1/networks?limit=1").await.json();
    let cursor = page["next_cursor"].as_str().unwrap();
    let next = shop.get(&format!("/api/v1/networks?limit=1&cursor={cursor}")).await.json();
    assert_eq!(names(&next), ["shared"]);

    for network in ["vault", "moon"] {
        let body = machine("new", "shop", json!({ "named": network })).to_string();
        let refused = shop.post("/api/v1/vms", &body).await;
        let field = Some("network.named".to_owned());
        assert_eq!(refused.problem(), (400, "invalid_request".to_owned(), field), "{refused:?}");
        let detail = refused.json()["detail"].as_str().unwrap().to_owned();
        let words = format!(
            "there is no network `{network}` for project `shop`; there is `both`, `shared`"
        );
        assert!(detail.contains(&words), "{detail}");
    }
    let by_name = json!({ "bridge": { "bridge": "br0" } });
    let body = machine("new", "shop", by_name.clone()).to_string();
    let refused = shop.post("/api/v1/vms", &body).await;
    assert_eq!((refused.status, refused.problem().1.as_str()), (403, "not_allowed"));
    let made = done(&admin, "vms", machine("by-name", "shop", by_name.clone())).await;
    assert_eq!((&made["network"], &made["network_name"]), (&by_name, &Value::Null));
    done(&shop, "vms", machine("new", "shop", json!({ "named": "shared" }))).await;
}
