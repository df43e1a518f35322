//! The fleet in one document, as operators and tenants see it.

use novacron_transport::Role;
use serde_json::{Value, json};

use crate::https::Https;
use crate::member::Member;
use crate::support::*;

async fn shown(client: &Https) -> Value {
    let answer = client.get("/api/v1/overview").await;
    assert_eq!(answer.status, 200, "{answer:?}");
    answer.json()
}

#[tokio::test(flavor = "multi_thread")]
async fn each_sees_of_the_fleet_what_it_may() {
    let member = Member::start().await;
    member.join_node("node-01", 4 << 30).await;
    let admin = member.client(Role::Operator);
    let quotas =
        json!({ "name": "own", "quotas": { "vms": 2, "cpus": 2, "memory_bytes": 1_u64 << 40 } });
    let made = admin.post("/api/v1/projects", &quotas.to_string()).await;
    assert_eq!(made.status, 201, "{made:?}");
    for (name, project, cpus) in [("a", "default", 1), ("b", "own", 2)] {
        let vm = json!({ "name": name, "memory": 16 << 20, "cpus": cpus, "disk": 1 << 20, "project": project });
        assert_eq!(admin.post("/api/v1/vms", &vm.to_string()).await.status, 201);
    }
    let body = json!({ "name": "bob", "kind": "operator" }).to_string();
    assert_eq!(admin.post("/api/v1/principals", &body).await.status, 201);
    let body = json!({ "principal": "bob", "role": "viewer", "project": "own" }).to_string();
    assert_eq!(admin.post("/api/v1/bindings", &body).await.status, 201);

    let all = shown(&admin).await;
    assert_eq!((&all["machines"]["total"], &all["machines"]["cpus"]), (&json!(2), &json!(3)));
    assert_eq!(all["machines"]["by_state"]["creating"], 2);
    assert_eq!(all["nodes"]["by_state"], json!({ "ready": 1, "suspect": 0, "down": 0 }));
    assert_eq!(all["nodes"]["allocated"]["cpus"], 3);
    assert_eq!(all["nodes"]["capacity"]["memory_bytes"], 4_u64 << 30);
    assert_eq!(all["cost"]["micro_dollars"], 0);
    let cpus = json!({ "project": "own", "quota": "cpus", "used": 2, "limit": 2 });
    assert_eq!(all["quotas"], json!([cpus]), "of two machines one is less than 80 %");
    assert_eq!(all["attention"][0]["kind"], "quota");
    assert_eq!(all["attention_total"], 1);

    let own = shown(&member.client_named(Role::Operator, "bob")).await;
    assert_eq!((&own["machines"]["total"], &own["machines"]["cpus"]), (&json!(1), &json!(2)));
    assert_eq!((own.get("nodes"), own.get("cost")), (None, None));
    assert_eq!(own["quotas"], json!([cpus]));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn coordinators_that_do_not_answer_are_pointed_out() {
    let mut cluster = TestCluster::start(3).await;
    let credentials = cluster.operator_credentials("watcher").await;
    let leader = cluster.leader().await;
    let lost = cluster.followers().await.remove(0);
    let client = Https::with(cluster.configs[&leader].api_listen, &credentials);
    assert_eq!(shown(&client).await["attention"], json!([]));
    cluster.stop(&lost).await;
    let attention = shown(&client).await["attention"].clone();
    let kinds: Vec<_> = attention.as_array().unwrap().iter().map(|one| &one["kind"]).collect();
    assert_eq!(kinds, ["no_spare_member", "member_unreachable"], "{attention}");
    assert_eq!(attention[1]["name"], lost);
    cluster.shutdown().await;
}
