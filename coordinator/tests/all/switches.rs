//! Parts that a configuration turns off: what they answer then, and what is lost.

use novacron_coordinator::clock::Clock;
use novacron_protocol::effect::CoordinatorMessage;
use novacron_protocol::ids::{Generation, VmId};
use novacron_protocol::metric::Metric;
use novacron_protocol::sample::{Sample, Tick, parts};
use novacron_protocol::usage::{Meter, UsageRecord};
use novacron_transport::Role;
use serde_json::json;

use crate::access::town::post;
use crate::https::Answer;
use crate::member::Member;
use crate::support::agent::Agent;
use crate::support::*;

/// What is turned off says so, and how it is turned on.
fn check_off(answer: &Answer, table: &str) {
    assert_eq!((answer.status, answer.problem().1.as_str()), (409, "disabled"), "{answer:?}");
    let detail = answer.json()["detail"].as_str().unwrap().to_owned();
    assert!(detail.contains(&format!("`[{table}]`")), "{detail}");
    assert!(detail.contains("enabled = true"), "{detail}");
}

#[tokio::test(flavor = "multi_thread")]
async fn without_alerts_nothing_fires_and_whoever_asks_is_told() {
    let off = "[alerts]\nenabled = false\nfire_after_ms = 0\n";
    let member = Member::start_configured(Clock::system(), off).await;
    let with_alerts =
        Member::start_configured(Clock::system(), "[alerts]\nfire_after_ms = 0\n").await;
    let client = member.client(Role::Operator);
    check_off(&client.get("/api/v1/alerts").await, "alerts");
    let raise =
        json!({ "key": "slow", "severity": "info", "summary": "slow", "object": "cluster" });
    check_off(&client.post("/api/v1/alerts", &raise.to_string()).await, "alerts");
    // Strangers are told nothing.
    assert_eq!(member.anonymous().get("/api/v1/alerts").await.status, 401);
    for one in [&member, &with_alerts] {
        let client = one.client(Role::Operator);
        post(&client, "projects", json!({ "name": "own", "quotas": { "vms": 1 } })).await;
        let vm = json!({ "name": "web", "project": "own", "memory": 16 << 20, "disk": 1 << 20 });
        post(&client, "vms", vm).await;
    }
    let open = |member: &Member| member.app().view.local(|fleet| fleet.open_alerts().count());
    until("the quota's alert fires where there are alerts", async || {
        (open(&with_alerts) > 0).then_some(())
    })
    .await;
    with_alerts.stop().await;
    assert_eq!(open(&member), 0);
    assert!(!member.metrics().await.contains("novacron_alerts"));
    // The rest is there.
    assert_eq!(client.get("/api/v1/metrics/definitions").await.status, 200);
    assert_eq!(client.get("/api/v1/usage").await.status, 200);
    member.stop().await;
}

/// A host with a machine on it.
async fn host(member: &Member) -> (Agent, VmId) {
    let credentials = member.credentials(Role::Agent, "node-01");
    let agent = Agent::connect(&[member.peer_address()], &credentials, "node-01", vec![]).await;
    let vm = json!({ "name": "web", "node": "node-01", "memory": 16 << 20, "disk": 1 << 20 });
    let vm = post(&member.client(Role::Operator), "vms", vm).await;
    (agent, vm["id"].as_str().unwrap().parse().unwrap())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn without_history_what_agents_measure_is_taken_and_dropped() {
    let off = "[samples]\nenabled = false\n";
    let member = Member::start_configured(Clock::system(), off).await;
    let client = member.client(Role::Operator);
    let (mut agent, vm) = host(&member).await;
    check_off(&client.get("/api/v1/metrics?resource=vm:web").await, "samples");
    check_off(&client.get("/api/v1/metrics/stream?resource=vm:web").await, "samples");
    let mut stream = agent.sample_stream().await;
    assert_eq!(stream.behind, Tick(0));
    let value = Sample { metric: Metric::ProcessorUsed.number(), device: 0, value: 7 };
    for part in parts(Tick::of(Clock::system().now()), vec![], vec![value]) {
        stream.say(part).await;
    }
    // The session goes on, and what it says is heard.
    let answer = agent.usage(vec![second(vm)]).await;
    assert!(matches!(answer, CoordinatorMessage::UsageCommitted { .. }), "{answer:?}");
    assert_eq!(member.app().samples.numbers().noted, 0);
    assert!(!member.metrics().await.contains("novacron_sample"));
    agent.close().await;
    member.stop().await;
}

/// A second that a machine ran, some time ago.
fn second(vm: VmId) -> UsageRecord {
    let now_s = Clock::system().now().unix_ms / 1000;
    let start_s = now_s - now_s % 3_600;
    let (generation, meter) = (Generation(1), Meter::VmSeconds);
    UsageRecord { vm, generation, meter, start_s, end_s: start_s + 1, level: 1 }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn without_metering_agents_keep_what_they_metered_and_the_ledger_is_shown() {
    let off = "[metering]\nenabled = false\n";
    let member = Member::start_configured(Clock::system(), off).await;
    let client = member.client(Role::Operator);
    let (mut agent, vm) = host(&member).await;
    for _ in 0..2 {
        let answer = agent.usage(vec![second(vm)]).await;
        let CoordinatorMessage::UsageDeclined { reason, .. } = answer else { panic!("{answer:?}") };
        assert!(reason.contains("`[metering]`"), "{reason}");
    }
    let posted = json!({ "node": "node-01", "records": [second(vm)] }).to_string();
    check_off(&client.post("/api/v1/usage/records", &posted).await, "metering");
    assert_eq!(member.app().view.local(|fleet| fleet.book().last_index), 0);
    assert_eq!(client.get("/api/v1/usage").await.status, 200);
    let month = &Clock::system().now().to_string()[..7];
    assert_eq!(client.get(&format!("/api/v1/invoices/{month}")).await.status, 200);
    agent.close().await;
    member.stop().await;
}
