//! Alerts over the API and on real clusters: raised by clients and by the cluster itself, seen by those whom they concern.

use novacron_coordinator::clock::Clock;
use novacron_coordinator::state::alert::Alert;
use novacron_protocol::alert::{AlertKey, AlertObject, Condition};
use novacron_protocol::api::{AlertState, Severity};
use novacron_protocol::effect::AgentMessage;
use novacron_protocol::usage::HOUR_S;
use novacron_transport::Role;
use serde_json::{Value, json};

use crate::access::town::{Town, post};
use crate::https::Https;
use crate::member::Member;
use crate::support::agent::Agent;
use crate::support::*;

/// So that tests need not wait for long.
const QUICK: &str = "[alerts]\nfire_after_ms = 300\nresolve_after_ms = 600\n";

async fn items(client: &Https, query: &str) -> Vec<Value> {
    let answer = client.get(&format!("/api/v1/alerts{query}")).await;
    assert_eq!(answer.status, 200, "{answer:?}");
    answer.json()["items"].as_array().unwrap().clone()
}

fn texts(items: &[Value], field: &str) -> Vec<String> {
    items.iter().map(|item| item[field].as_str().unwrap_or_default().to_owned()).collect()
}

fn alert(key: &str, object: &str) -> Value {
    json!({ "key": key, "severity": "warning", "summary": "it is slow", "object": object })
}

#[tokio::test(flavor = "multi_thread")]
async fn an_alert_is_raised_counted_acknowledged_and_resolved_over_the_api() {
    let town = Town::build().await;
    town.principal("robot", "service").await;
    town.bind("robot", json!({ "role": "operator", "project": "own" })).await;
    let key = town.key("robot").await["key"].as_str().unwrap().to_owned();
    let anonymous = town.member.anonymous();
    let bearer = format!("Bearer {key}");
    let by_robot = async |path: &str, body: Value| {
        let headers = [("authorization", bearer.as_str()), ("content-type", "application/json")];
        let path = format!("/api/v1/{path}");
        anonymous.send("POST", &path, &headers, body.to_string().as_bytes()).await
    };
    let raised = by_robot("alerts", alert("disk-slow", "vm/own-1")).await;
    assert_eq!(raised.status, 200, "{raised:?}");
    let raised = raised.json();
    assert_eq!((&raised["state"], &raised["raises"]), (&json!("firing"), &json!(1)));
    assert_eq!((&raised["project"], &raised["raised_by"]), (&json!("own"), &json!("robot")));
    let again = by_robot("alerts", alert("disk-slow", "vm/own-1")).await.json();
    assert_eq!((&again["id"], &again["raises"]), (&raised["id"], &json!(2)));
    for (object, status) in [
        ("vm/other-1", 404),
        ("vm/never", 404),
        ("project/other", 403),
        ("project/never", 403),
        ("node/node-01", 403),
        ("cluster", 403),
    ] {
        let refused = by_robot("alerts", alert("disk-slow", object)).await;
        assert_eq!(refused.status, status, "{object}: {refused:?}");
    }

    let path = format!("alerts/{}", raised["id"].as_str().unwrap());
    let seen = post(&town.admin, &format!("{path}/acknowledge"), json!({ "note": "I look" })).await;
    assert_eq!(seen["state"], "acknowledged");
    assert_eq!(seen["acknowledged"]["by"], "admin");
    assert_eq!(seen["acknowledged"]["note"], "I look");
    let again = by_robot("alerts", alert("disk-slow", "vm/own-1")).await.json();
    assert_eq!((&again["state"], &again["raises"]), (&json!("acknowledged"), &json!(3)));
    let fires = town.admin.post(&format!("/api/v1/{path}/unacknowledge"), "").await;
    assert_eq!((fires.status, &fires.json()["state"]), (200, &json!("firing")));
    let over = by_robot(&format!("{path}/resolve"), json!({ "note": "a new disk" })).await.json();
    assert_eq!((&over["state"], &over["resolved"]["by"]), (&json!("resolved"), &json!("robot")));
    let refused = by_robot(&format!("{path}/resolve"), json!({})).await;
    assert_eq!(refused.problem().1, "conflict");
    let next = by_robot("alerts", alert("disk-slow", "vm/own-1")).await.json();
    assert_eq!((&next["previous"], &next["raises"]), (&raised["id"], &json!(1)));

    let kinds = town.admin.get("/api/v1/events?kind=alert.*&limit=1000&project=own").await.json();
    let kinds = texts(kinds["items"].as_array().unwrap(), "kind");
    // The town has one of its own.
    let expected = ["raised", "raised", "acknowledged", "raised", "resolved", "raised"];
    assert_eq!(kinds, expected.map(|what| format!("alert.{what}")));
    let audit = town.admin.get("/api/v1/audit?action=alert&limit=1000").await.json();
    let actions = texts(audit["items"].as_array().unwrap(), "action");
    for what in ["raise", "acknowledge", "unacknowledge", "resolve"] {
        assert!(actions.contains(&format!("alert.{what}")), "{actions:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn alerts_are_listed_as_asked_and_as_far_as_they_are_seen() {
    let town = Town::build().await;
    town.principal("one", "operator").await;
    town.bind("one", json!({ "role": "viewer", "project": "own" })).await;
    let one = town.member.client_named(Role::Operator, "one");
    let region = json!({ "region": "eu" });
    post(&town.admin, "nodes/node-01/region", region).await;
    for number in 0..5 {
        let mut body = alert(&format!("a-{number}"), "node/node-01");
        body["severity"] = ["critical", "info"][number % 2].into();
        post(&town.admin, "alerts", body).await;
    }
    let all = items(&town.admin, "?limit=1000").await;
    assert_eq!(all.len(), 8);
    let count = async |query: &str| items(&town.admin, query).await.len();
    assert_eq!(count("?severity=critical").await, 3);
    assert_eq!(count("?kind=a-1").await, 1);
    assert_eq!(count("?object=node/node-01").await, 5);
    assert_eq!((count("?object=vm/own-1").await, count("?object=vm/own-2").await), (1, 0));
    assert_eq!((count("?region=eu").await, count("?project=own").await), (5, 1));
    post(&town.admin, &format!("alerts/{}/resolve", all[7]["id"].as_str().unwrap()), json!({}))
        .await;
    assert_eq!((count("?state=open").await, count("?state=firing").await), (7, 7));
    assert_eq!((count("?state=resolved").await, count("?state=acknowledged").await), (1, 0));
    for (query, field) in [("?state=gone", "state"), ("?object=x", "object"), ("?kinds=a", "kinds")]
    {
        let refused = town.admin.get(&format!("/api/v1/alerts{query}")).await;
        assert_eq!(refused.problem().2.as_deref(), Some(field), "{refused:?}");
    }
    // Page by page: each once.
    let (mut paged, mut cursor) = (Vec::new(), String::new());
    loop {
        let page = town.admin.get(&format!("/api/v1/alerts?limit=3{cursor}")).await.json();
        paged.extend(texts(page["items"].as_array().unwrap(), "id"));
        let Some(next) = page["next_cursor"].as_str() else { break };
        cursor = format!("&cursor={next}");
    }
    assert_eq!(paged, texts(&all, "id"));

    assert_eq!(texts(&items(&one, "").await, "object").len(), 1);
    assert_eq!(texts(&items(&one, "").await, "project"), ["own"]);
    // Whether there is a machine of that name is nobody's business who does not see it.
    for hidden in ["vm/other-1", "vm/never"] {
        let answer = one.get(&format!("/api/v1/alerts?object={hidden}")).await;
        assert_eq!(answer.problem().0, 400, "{hidden}");
    }
    let shown = one.get("/api/v1/overview").await.json();
    assert_eq!(shown["alerts"], json!({ "critical": 0, "warning": 0, "info": 1 }));
    let shown = town.admin.get("/api/v1/overview").await.json();
    assert_eq!(shown["alerts"], json!({ "critical": 2, "warning": 0, "info": 5 }));
    let page = town.member.metrics().await;
    for (series, value) in [
        ("{severity=\"critical\",state=\"firing\",region=\"eu\"}", 2),
        ("{severity=\"info\",state=\"firing\",region=\"\"}", 3),
        ("{severity=\"info\",state=\"acknowledged\",region=\"\"}", 0),
    ] {
        let line = format!("novacron_alerts{series} {value}");
        assert!(page.contains(&line), "no {line} in\n{page}");
    }
}

/// The open alert with a key, as soon as there is one that is as bad as it gets: who acknowledged a warning is told again.
async fn until_critical(cluster: &TestCluster, key: &AlertKey) -> Alert {
    until("the alert fires", async || {
        let open = cluster.any().view.local(|fleet| fleet.open_alert(key).cloned());
        open.filter(|alert| alert.severity == Severity::Critical)
    })
    .await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_host_that_dies_fires_and_is_over_when_it_is_back_whoever_leads() {
    let mut cluster = TestCluster::start_configured(3, Clock::system(), QUICK).await;
    let credentials = cluster.agent_credentials("node-01").await;
    let addresses = cluster.peer_addresses();
    let agent = Agent::connect(&addresses, &credentials, "node-01", vec![]).await;
    let node = AlertObject::Node("node-01".parse().unwrap());
    let key = AlertKey::of(Condition::NodeUnreachable, node);
    assert_eq!(cluster.any().view.local(|fleet| fleet.open_alert(&key).cloned()), None);
    agent.close().await;
    let fired = until_critical(&cluster, &key).await;

    let credentials_admin = cluster.operator_credentials("watcher").await;
    let followers = cluster.followers().await;
    let client = Https::with(cluster.configs[&followers[0]].api_listen, &credentials_admin);
    let path = format!("/api/v1/alerts/{}/acknowledge", fired.id);
    let acknowledged = client.post(&path, r#"{"note":"on my way"}"#).await;
    assert_eq!(acknowledged.status, 200, "{acknowledged:?}");
    let leader = cluster.leader().await;
    cluster.stop(&leader).await;
    cluster.leader().await;
    // The next leader sees the lost coordinator, too: by then it has looked more than once.
    let lost = format!("{leader} does not answer");
    until("the next leader has looked", async || {
        cluster.any().view.local(|fleet| {
            fleet.open_alerts().any(|alert| alert.summary.contains(&lost)).then_some(())
        })
    })
    .await;
    let shown = client.get(&format!("/api/v1/alerts/{}", fired.id)).await.json();
    assert_eq!((&shown["state"], &shown["key"]), (&json!("acknowledged"), &json!(key.to_string())));
    assert_eq!(shown["acknowledged"]["note"], "on my way");
    let about_it = client.get("/api/v1/alerts?object=node/node-01").await.json();
    assert_eq!(about_it["items"].as_array().unwrap().len(), 1);

    let mut agent = Agent::connect(&addresses, &credentials, "node-01", vec![]).await;
    let resolved = until("it is over", async || {
        agent.say(&AgentMessage::Heartbeat).await;
        cluster.any().view.local(|fleet| {
            let alert = fleet.alert(fired.id).cloned().unwrap();
            (alert.stage.state() == AlertState::Resolved).then_some(alert)
        })
    })
    .await;
    assert!(resolved.raises >= 1 && resolved.since == fired.since);
    agent.close().await;
    cluster.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_budget_that_the_month_has_passed_fires_and_is_over_when_it_is_raised() {
    let member = Member::start_configured(Clock::system(), QUICK).await;
    member.join_node("node-01", 4 << 30).await;
    let client = member.client(Role::Operator);
    post(&client, "projects", json!({ "name": "own" })).await;
    let vm = json!({ "name": "web", "project": "own", "memory": 16 << 20, "disk": 1 << 20 });
    let vm = post(&client, "vms", vm).await["id"].clone();
    post(&client, "rates/plans", json!({ "project": "own", "plan": "standard" })).await;
    let now_s = Clock::system().now().unix_ms / 1000;
    let start_s = now_s - now_s % HOUR_S;
    let record = json!({ "vm": vm, "generation": 1, "meter": "vm-seconds", "level": 1,
        "start_s": start_s, "end_s": (now_s - start_s).max(1) + start_s });
    post(&client, "usage/records", json!({ "node": "node-01", "records": [record] })).await;
    let set = async |amount: u64| {
        let body = json!({ "micro_dollars_per_month": amount }).to_string();
        let answer = client.put("/api/v1/projects/own/budget", &body).await;
        assert_eq!(answer.status, 200, "{answer:?}");
        assert_eq!(answer.json()["budget_micro_dollars_per_month"], amount);
    };
    set(1).await;
    let fired = until("the budget's alert fires", async || {
        items(&client, "?kind=budget&state=firing").await.pop()
    })
    .await;
    assert_eq!((&fired["project"], &fired["severity"]), (&json!("own"), &json!("critical")));
    set(1_000_000_000_000).await;
    until("it is over", async || items(&client, "?kind=budget&state=resolved").await.pop()).await;
    member.stop().await;
}
