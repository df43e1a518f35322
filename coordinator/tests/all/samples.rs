//! What agents measure, from their streams to what the API says, over real links and real disks.

use std::collections::BTreeMap;

use novacron_coordinator::app::App;
use novacron_coordinator::clock::Clock;
use novacron_coordinator::samples::Subject;
use novacron_coordinator::samples::level::Level;
use novacron_coordinator::samples::question::Question;
use novacron_coordinator::samples::table::Resource;
use novacron_protocol::ids::VmId;
use novacron_protocol::metric::Metric;
use novacron_protocol::sample::{MachineSamples, Sample, Tick, parts};
use novacron_transport::Role;
use serde_json::{Value, json};
use tokio::io::AsyncBufReadExt;
use tokio::time::timeout;

use crate::https::Https;
use crate::member::Member;
use crate::support::agent::{Agent, SampleStream};
use crate::support::*;

fn sample(metric: Metric, value: u64) -> Sample {
    Sample { metric: metric.number(), device: 0, value }
}

/// The last so many ticks that are over.
fn ticks(count: u32) -> std::ops::RangeInclusive<u32> {
    let newest = Tick::of(Clock::system().now()).0;
    newest - count + 1..=newest
}

/// Processors in use at a tick: no two ticks have the same.
fn used(tick: u32, of: u64) -> u64 {
    u64::from(tick % 1_000) + of * 1_000
}

/// What a host with one machine measures.
async fn tell(stream: &mut SampleStream, tick: u32, vm: VmId, of: u64) {
    let values = vec![
        sample(Metric::ProcessorUsed, used(tick, of)),
        sample(Metric::DiskWrittenBytes, 512),
        Sample { device: 1, ..sample(Metric::DiskWrittenBytes, 1_024) },
    ];
    let host =
        vec![sample(Metric::ProcessorUsed, used(tick, of)), sample(Metric::MemoryTotal, 1 << 30)];
    for part in parts(Tick(tick), vec![MachineSamples { vm, values }], host) {
        stream.say(part).await;
    }
}

fn at(tick: u32) -> Value {
    json!(Tick(tick).at().to_string())
}

async fn machine(client: &Https, name: &str, node: &str, project: &str) -> VmId {
    let body = json!({ "name": name, "memory": 16 << 20, "cpus": 1, "disk": 1 << 20,
        "node": node, "project": project });
    let made = client.post("/api/v1/vms", &body.to_string()).await;
    assert_eq!(made.status, 201, "{made:?}");
    made.json()["id"].as_str().unwrap().parse().unwrap()
}

/// Hosts of a region with one machine each, the second one's of project `own`.
struct Land {
    member: Member,
    client: Https,
    agents: Vec<Agent>,
    vms: Vec<VmId>,
}

impl Land {
    async fn build() -> Self {
        let member = Member::start().await;
        let client = member.client(Role::Operator);
        let mut agents = Vec::new();
        for node in ["node-01", "node-02"] {
            let credentials = member.credentials(Role::Agent, node);
            let agent = Agent::connect(&[member.peer_address()], &credentials, node, vec![]).await;
            agents.push(agent);
        }
        for (path, body) in [
            ("projects", json!({ "name": "own" })),
            ("regions", json!({ "region_code": "eu", "region_name": "Europe" })),
        ] {
            let made = client.post(&format!("/api/v1/{path}"), &body.to_string()).await;
            assert_eq!(made.status, 201, "{made:?}");
        }
        for node in ["node-01", "node-02"] {
            let path = format!("/api/v1/nodes/{node}/region");
            assert_eq!(client.post(&path, r#"{"region":"eu"}"#).await.status, 200);
        }
        let vms = vec![
            machine(&client, "a", "node-01", "default").await,
            machine(&client, "b", "node-02", "own").await,
        ];
        Self { member, client, agents, vms }
    }

    /// Both hosts measure for so many ticks; what was told is here afterwards.
    async fn measure(&self, count: u32) -> std::ops::RangeInclusive<u32> {
        let ticks = ticks(count);
        for (of, agent) in (0..).zip(&self.agents) {
            let mut stream = agent.sample_stream().await;
            for tick in ticks.clone() {
                tell(&mut stream, tick, self.vms[of], of as u64).await;
            }
        }
        let newest = Tick(*ticks.end());
        for node in ["node-01", "node-02"] {
            let node = node.parse().unwrap();
            until("all was noted", async || {
                (self.member.app().samples.newest(&node) == newest).then_some(())
            })
            .await;
        }
        ticks
    }

    async fn stop(self) {
        for agent in self.agents {
            agent.close().await;
        }
        self.member.stop().await;
    }
}

fn path(resource: &str, ticks: &std::ops::RangeInclusive<u32>, more: &str) -> String {
    let at = |tick: u32| Tick(tick).at();
    let (from, to) = (at(*ticks.start()), at(ticks.end() + 1));
    format!("/api/v1/metrics?resource={resource}&from={from}&to={to}{more}")
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_asked_for_is_what_was_measured() {
    let land = Land::build().await;
    let ticks = land.measure(30).await;
    let get = async |resource: &str, more: &str| {
        let answer = land.client.get(&path(resource, &ticks, more)).await;
        assert_eq!(answer.status, 200, "{answer:?}");
        answer.json()
    };
    let thousandths = |value: u64| json!(value as f64 / 1000.0);
    let one = "&metric=processor_used";
    for (resource, of) in [("vm:a", 0), ("vm:b", 1), ("node:node-02", 1)] {
        let points = ticks.clone().map(|tick| {
            let value = thousandths(used(tick, of));
            json!({ "at": at(tick), "average": value, "minimum": value, "maximum": value })
        });
        let expected = json!([{ "metric": "processor_used", "unit": "processors", "kind": "rate",
            "points": points.collect::<Vec<_>>() }]);
        let found = get(resource, one).await;
        assert_eq!(found["series"], expected, "{resource}");
        assert_eq!((&found["interval_s"], &found["resolution_s"]), (&json!(10), &json!(10)));
    }
    // A region is the sum of its hosts.
    let region = get("region:eu", "&metric=processor_used&metric=nodes").await;
    let sums = ticks.clone().map(|tick| thousandths(used(tick, 0) + used(tick, 1)));
    let found =
        region["series"][0]["points"].as_array().unwrap().iter().map(|point| &point["average"]);
    assert!(found.eq(sums.collect::<Vec<_>>().iter()), "{region}");
    assert_eq!(region["series"][1]["points"][0]["average"], json!(2.0));
    // All metrics, disks told apart, and a longer interval.
    let all = get(&format!("vm:{}", land.vms[0]), "&interval_s=60").await;
    let names = all["series"].as_array().unwrap().iter().map(|series| {
        (
            series["metric"].as_str().unwrap(),
            series["device"].as_str(),
            &series["points"][1]["average"],
        )
    });
    let mean = &all["series"][0]["points"][1]["average"];
    let disk = |device, value: f64| ("disk_written_bytes_per_second", Some(device), json!(value));
    let (first, second) = (disk("disk0", 512.0), disk("disk1", 1_024.0));
    let expected = [
        ("processor_used", None, mean),
        (first.0, first.1, &first.2),
        (second.0, second.1, &second.2),
    ];
    assert_eq!(names.collect::<Vec<_>>(), expected);
    let minute = all["series"][0]["points"][1]["at"].as_str().unwrap().to_owned();
    let begin = ticks.clone().find(|tick| at(*tick) == json!(minute)).unwrap();
    let six = (begin..begin + 6).map(|tick| used(tick, 0));
    assert_eq!(*mean, thousandths((six.sum::<u64>() + 3) / 6));
    land.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn whose_machines_somebody_does_not_see_it_learns_nothing_of() {
    let land = Land::build().await;
    let made = json!({ "name": "one", "kind": "operator" }).to_string();
    assert_eq!(land.client.post("/api/v1/principals", &made).await.status, 201);
    let binding = json!({ "principal": "one", "role": "viewer", "project": "own" }).to_string();
    assert_eq!(land.client.post("/api/v1/bindings", &binding).await.status, 201);
    let ticks = land.measure(3).await;
    let one = land.member.client_named(Role::Operator, "one");
    let get = async |client: &Https, resource: &str| client.get(&path(resource, &ticks, "")).await;
    assert_eq!(get(&one, "vm:b").await.json()["series"].as_array().unwrap().len(), 3);
    let other = format!("vm:{}", land.vms[0]);
    for (resource, status) in
        [("vm:a", 404), (&other, 404), ("vm:none", 404), ("node:node-02", 403), ("region:eu", 403)]
    {
        assert_eq!(get(&one, resource).await.status, status, "{resource}");
        let stream = format!("/api/v1/metrics/stream?resource={resource}");
        assert_eq!(one.get(&stream).await.status, status, "{resource}");
    }
    assert_eq!(get(&land.client, "node:none").await.status, 404);
    assert_eq!(get(&land.client, "region:none").await.status, 404);
    // A host says nothing about a machine of another one.
    let mut stream = land.agents[0].sample_stream().await;
    let (mut forged, newest) = (ticks.clone(), *ticks.end());
    let before = get(&land.client, "vm:b").await.json()["series"].clone();
    tell(&mut stream, forged.next().unwrap(), land.vms[1], 7).await;
    tell(&mut stream, newest, land.vms[0], 1).await;
    until("the later one was noted", async || {
        let told = get(&land.client, "vm:a&metric=processor_used").await.json();
        let last = &told["series"][0]["points"][2]["average"];
        (*last == json!(used(newest, 1) as f64 / 1000.0)).then_some(())
    })
    .await;
    assert_eq!(get(&land.client, "vm:b").await.json()["series"], before);
    land.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn refusals_say_what_would_be_right() {
    let member = Member::start().await;
    member.join_node("node-01", 4 << 30).await;
    let client = member.client(Role::Operator);
    let now = Clock::system().now();
    let ago = |seconds: u64| {
        novacron_protocol::time::Timestamp::from_unix_ms(now.unix_ms - seconds * 1_000)
    };
    let (hours, weeks) = (ago(7_200), ago(40 * 86_400));
    for (query, field, right) in [
        ("".to_owned(), "resource", ""),
        ("resource=web".to_owned(), "resource", "`vm:`"),
        ("resource=node:node-01&metric=cpu".to_owned(), "metric", "processor_used"),
        ("resource=node:node-01&metric=disk_reads_per_second".to_owned(), "metric", "load"),
        (
            format!("resource=node:node-01&from={hours}&interval_s=10"),
            "interval_s",
            "multiple of 60",
        ),
        (format!("resource=node:node-01&from={weeks}"), "from", "30 days"),
        (format!("resource=node:node-01&to={hours}&from={now}"), "from", "before `to`"),
    ] {
        let answer = client.get(&format!("/api/v1/metrics?{query}")).await;
        let (status, code, found) = answer.problem();
        assert_eq!((status, code.as_str()), (400, "invalid_request"), "{query}");
        assert_eq!(found.as_deref(), Some(field), "{query}");
        let detail = answer.json()["detail"].as_str().unwrap().to_owned();
        assert!(detail.contains(right), "{query}: {detail}");
    }
    for query in ["&interval_s=15", "&interval_s=1000", &format!("&from={hours}")] {
        let path = format!("/api/v1/metrics/stream?resource=node:node-01{query}");
        assert_eq!(client.get(&path).await.status, 400, "{query}");
    }
    let none = client.get("/api/v1/metrics?resource=node:node-01").await.json();
    assert_eq!(none["series"], json!([]));
    let definitions = client.get("/api/v1/metrics/definitions").await.json();
    assert_eq!(definitions["items"].as_array().unwrap().len(), Metric::ALL.len());
    assert_eq!(definitions["items"][0]["unit"], "processors");
    member.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_stream_begins_where_it_is_told_and_goes_on_as_things_are_measured() {
    let land = Land::build().await;
    let ticks = land.measure(6).await;
    let from = Tick(*ticks.start()).at();
    let path = format!("/api/v1/metrics/stream?resource=vm:a&metric=processor_used&from={from}");
    let mut lines = land.client.follow(&path).await.lines();
    let mut next = async || loop {
        let line = timeout(DEADLINE, lines.next_line()).await.expect("silence").unwrap().unwrap();
        if let Ok(answer @ Value::Object(_)) = serde_json::from_str::<Value>(&line) {
            return answer;
        }
    };
    let first = next().await;
    let seen = |answer: &Value| {
        let series = answer["series"].as_array().unwrap().clone();
        let points = series.iter().flat_map(|one| one["points"].as_array().unwrap().clone());
        points.map(|point| point["at"].clone()).collect::<Vec<_>>()
    };
    let (mut told, mut end) = (seen(&first), first["to"].clone());
    assert_eq!(first["from"], json!(from.to_string()));
    // Each answer begins where the one before ended, and what is measured now comes within the next ones.
    let mut stream = land.agents[0].sample_stream().await;
    let newest = ticks.end() + 1;
    tell(&mut stream, newest, land.vms[0], 0).await;
    while !told.contains(&at(newest)) {
        let answer = next().await;
        assert_eq!(answer["from"], end);
        told.extend(seen(&answer));
        end = answer["to"].clone();
    }
    let expected: Vec<_> = (*ticks.start()..=newest).map(at).collect();
    assert_eq!(told, expected);
    // A browser goes on behind the last `id`, which is that end.
    let id = Tick(newest).at().to_string();
    let headers = [("accept", "text/event-stream"), ("last-event-id", id.as_str())];
    let path = "/api/v1/metrics/stream?resource=vm:a";
    let mut lines = land.client.follow_with(path, &headers).await.lines();
    let data = loop {
        let line = timeout(DEADLINE, lines.next_line()).await.expect("silence").unwrap().unwrap();
        if let Some(data) = line.strip_prefix("data: ") {
            break serde_json::from_str::<Value>(data).unwrap();
        }
    };
    assert_eq!(data["from"], json!(id));
    land.stop().await;
}

/// What a member has of a host, at each tick.
async fn known(app: &App, node: &str) -> BTreeMap<u32, u64> {
    let now = Clock::system().now();
    let question = Question::new(None, None, Some(10), now).unwrap();
    assert_eq!(question.level, Level::Ticks);
    let subject = Subject { resource: Resource::Node(node.parse().unwrap()), hosts: Vec::new() };
    let answer = app.samples.ask(subject, question, vec![Metric::ProcessorUsed]).await.unwrap();
    let first = question.ticks_from(0).start;
    let points = answer.into_iter().flat_map(|(_, points)| (first..).zip(points));
    points.filter_map(|(tick, point)| Some((tick, point?.average))).collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn history_outlives_the_leader_and_restarts() {
    let mut cluster = TestCluster::start(3).await;
    let credentials = cluster.agent_credentials("node-01").await;
    let addresses = cluster.peer_addresses();
    let agent = Agent::connect(&addresses, &credentials, "node-01", vec![]).await;
    let mut stream = agent.sample_stream().await;
    assert_eq!(stream.behind, Tick(0));
    let vm = create(cluster.any(), "web").await.unwrap();
    let told: BTreeMap<u32, u64> = ticks(60).map(|tick| (tick, used(tick, 0))).collect();
    for tick in told.keys() {
        tell(&mut stream, *tick, vm, 0).await;
    }
    for name in ["c1", "c2", "c3"] {
        until("every member has it", async || {
            (known(cluster.app(name), "node-01").await == told).then_some(())
        })
        .await;
    }
    // A new leader says what it has, so nothing is sent twice.
    let leader = cluster.leader().await;
    cluster.stop(&leader).await;
    drop(agent);
    let agent = Agent::connect(&addresses, &credentials, "node-01", vec![]).await;
    let newest = *told.keys().next_back().unwrap();
    assert_eq!(agent.sample_stream().await.behind, Tick(newest));
    let new = cluster.leader().await;
    assert_eq!(known(cluster.app(&new), "node-01").await, told);
    // The one that was stopped has what it had.
    cluster.run(&leader).await;
    until("its files were read", async || {
        (known(cluster.app(&leader), "node-01").await == told).then_some(())
    })
    .await;
    agent.close().await;
    cluster.shutdown().await;
}
