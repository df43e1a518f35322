//! The ledger over the API and on real members, with a clock that the test moves.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use crate::https::Https;
use crate::member::Member;
use crate::support::*;
use novacron_coordinator::app::App;
use novacron_coordinator::clock::Clock;
use novacron_coordinator::ledger::LedgerError;
use novacron_coordinator::propose::Intent;
use novacron_coordinator::state::command::OpenSession;
use novacron_coordinator::state::ledger::hour::Hour;
use novacron_coordinator::state::node::SessionId;
use novacron_coordinator::state::{Accepted, Body, Command, Fleet};
use novacron_protocol::ids::{Generation, VmId};
use novacron_protocol::usage::{HOUR_S, Meter, UsageRecord};
use novacron_transport::Role;
use serde_json::{Value, json};

/// The system's clock, and hours on top of it.
#[derive(Clone, Default)]
struct Ahead(Arc<AtomicU64>);

impl Ahead {
    fn clock(&self) -> Clock {
        let ahead = Arc::clone(&self.0);
        Clock::from_fn(move || Clock::system().now().plus_ms(ahead.load(Ordering::SeqCst)))
    }

    fn pass_hours(&self, hours: u64) {
        self.0.fetch_add(hours * HOUR_S * 1000, Ordering::SeqCst);
    }

    fn hour(&self) -> Hour {
        Hour::of(self.clock().now())
    }
}

/// A coordinator with a node, a machine on it, and an operator's client.
async fn scene() -> (Member, Https, Ahead, VmId) {
    let ahead = Ahead::default();
    let member = Member::start_with(ahead.clock()).await;
    member.join_node("node-01", 4 << 30).await;
    let client = member.client(Role::Operator);
    let web = r#"{"name":"web-01","memory":536870912,"cpus":1,"disk":1073741824,"image":"debian","labels":{"team":"red"}}"#;
    let created = client.post("/api/v1/vms", web).await;
    assert_eq!(created.status, 201, "{created:?}");
    let vm = created.json()["id"].as_str().unwrap().parse().unwrap();
    (member, client, ahead, vm)
}

fn record(vm: VmId, hour: Hour, from: u64, to: u64) -> UsageRecord {
    let (start_s, end_s) = (hour.begin_s() + from, hour.begin_s() + to);
    UsageRecord { vm, generation: Generation(1), meter: Meter::VmSeconds, start_s, end_s, level: 1 }
}

fn batch(records: &[UsageRecord]) -> String {
    json!({ "node": "node-01", "records": records }).to_string()
}

async fn post(client: &Https, records: &[UsageRecord]) -> Vec<Value> {
    let posted = client.post("/api/v1/usage/records", &batch(records)).await;
    assert_eq!(posted.status, 200, "{posted:?}");
    posted.json()["outcomes"].as_array().unwrap().clone()
}

async fn get(client: &Https, path: &str) -> Value {
    let answer = client.get(path).await;
    assert_eq!(answer.status, 200, "{path}: {answer:?}");
    answer.json()
}

async fn items(client: &Https, path: &str) -> Vec<Value> {
    get(client, path).await["items"].as_array().unwrap().clone()
}

async fn until_sealed(client: &Https, windows: usize) {
    until("the windows are sealed", async || {
        let sealed = items(client, "/api/v1/ledger/windows").await.len();
        (sealed == windows).then_some(())
    })
    .await;
}

fn month_of(hour: Hour) -> String {
    hour.to_string()[..7].to_owned()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_overview_says_what_the_month_costs_so_far() {
    let (_member, client, ahead, vm) = scene().await;
    let plan = r#"{"project":"default","plan":"standard"}"#;
    assert_eq!(client.post("/api/v1/rates/plans", plan).await.status, 200);
    let mut seen = Vec::new();
    for round in 0..3 {
        ahead.pass_hours(1);
        let hour = Hour(ahead.hour().0 - 1);
        post(&client, &[record(vm, hour, 0, 600 + round)]).await;
        // Twice: what was kept of sealed windows counts as what is read anew.
        for _ in 0..2 {
            let cost = get(&client, "/api/v1/overview").await["cost"].clone();
            let month = cost["month"].as_str().unwrap();
            let invoice = get(&client, &format!("/api/v1/invoices/{month}")).await;
            assert_eq!(cost["projects"], invoice["totals"]);
            assert_eq!(cost["micro_dollars"], invoice["micro_dollars"]);
            seen.push(cost["micro_dollars"].as_i64().unwrap());
        }
        ahead.pass_hours(4);
        until_sealed(&client, 1 + usize::try_from(round).unwrap()).await;
    }
    assert!(seen[0] > 0, "{seen:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn the_sums_of_usage_over_time_are_those_of_the_table_for_whoever_may_read_them() {
    let (member, client, ahead, vm) = scene().await;
    let plan = r#"{"project":"default","plan":"standard"}"#;
    assert_eq!(client.post("/api/v1/rates/plans", plan).await.status, 200);
    let first = Hour(ahead.hour().0 - 1);
    let hour = |number| Hour(first.0 + number);
    // Three hours that will be sealed, three without anything, and one that is open.
    post(&client, &[record(vm, hour(0), 0, 600)]).await;
    ahead.pass_hours(2);
    let disk = UsageRecord {
        meter: Meter::DiskByteSeconds,
        level: 1 << 30,
        ..record(vm, hour(2), 0, 1800)
    };
    post(&client, &[record(vm, hour(1), 0, 3600), record(vm, hour(2), 0, 1200), disk]).await;
    ahead.pass_hours(4);
    until_sealed(&client, 3).await;
    post(&client, &[record(vm, hour(6), 0, 60)]).await;
    let range = format!("from={first}&to={}", hour(8));
    let series = get(&client, &format!("/api/v1/usage/series?{range}&by=hour")).await;
    let points = series["points"].as_array().unwrap().clone();
    assert_eq!(points.len(), 8);
    let whole = |value: &Value| value.as_str().unwrap().parse::<i128>().unwrap();
    let seconds: Vec<_> =
        points.iter().map(|point| whole(&point["quantities"]["vm-seconds"])).collect();
    assert_eq!(seconds, [600, 3600, 1200, 0, 0, 0, 60, 0], "{series}");
    for by in ["hour", "day"] {
        let series = get(&client, &format!("/api/v1/usage/series?{range}&by={by}")).await;
        let points = series["points"].as_array().unwrap();
        for row in items(&client, &format!("/api/v1/usage?{range}")).await {
            let meter = row["meter"].as_str().unwrap();
            let sum: i128 = points.iter().map(|point| whole(&point["quantities"][meter])).sum();
            assert_eq!(sum, whole(&row["quantity"]), "{by} {meter}");
        }
        let money: i64 = points.iter().filter_map(|point| point["micro_dollars"].as_i64()).sum();
        // The plan holds from the second hour on: 4,860 s at 0.15 an hour.
        assert_eq!(money, 202_500, "{series}");
    }
    let only =
        get(&client, &format!("/api/v1/usage/series?{range}&meter=migrations&vm=web-01")).await;
    let quantities = &only["points"][0]["quantities"];
    assert_eq!(quantities, &json!({ "migrations": "0" }), "by day, unless said");

    let far = Hour(first.0 + 1_001);
    let many = client.get(&format!("/api/v1/usage/series?from={first}&to={far}&by=hour")).await;
    assert_eq!(many.problem(), (400, "invalid_request".to_owned(), Some("by".to_owned())));
    assert!(many.json()["detail"].as_str().unwrap().contains("ask by day"), "{many:?}");
    get(&client, &format!("/api/v1/usage/series?from={first}&to={far}&by=day")).await;

    // A tenant of another project sees zeros of its own, and may not ask for others.
    for (path, body) in [
        ("projects", json!({ "name": "other" })),
        ("principals", json!({ "name": "tenant", "kind": "operator" })),
        ("bindings", json!({ "principal": "tenant", "role": "billing", "project": "other" })),
    ] {
        assert_eq!(client.post(&format!("/api/v1/{path}"), &body.to_string()).await.status, 201);
    }
    let tenant = member.client_named(Role::Operator, "tenant");
    let own = get(&tenant, &format!("/api/v1/usage/series?{range}&by=hour")).await;
    let sums = own["points"].as_array().unwrap().iter();
    assert_eq!(sums.map(|point| whole(&point["quantities"]["vm-seconds"])).sum::<i128>(), 0);
    let refused = tenant.get(&format!("/api/v1/usage/series?{range}&project=default")).await;
    assert_eq!(refused.problem().1, "not_allowed");
}

#[tokio::test(flavor = "multi_thread")]
async fn records_become_usage_windows_and_an_invoice() {
    let (_member, client, ahead, vm) = scene().await;
    let hour = Hour(ahead.hour().0 - 1);
    let plan = r#"{"project":"default","plan":"standard"}"#;
    assert_eq!(client.post("/api/v1/rates/plans", plan).await.status, 200);
    let records = [record(vm, hour, 0, 1800), record(vm, hour, 1800, 3600)];
    let created = json!({ "created": { "window_s": hour.begin_s() } });
    assert_eq!(post(&client, &records).await, [created.clone(), created]);
    assert_eq!(post(&client, &records[..1]).await, ["exists"]);

    let range = format!("from={hour}&to={}", hour.next());
    let by_team = items(&client, &format!("/api/v1/usage?{range}&group_by=label:team")).await;
    let red = json!({ "group": "red", "meter": "vm-seconds", "quantity": "3600" });
    assert_eq!(by_team, [red]);
    let by_vm = items(&client, &format!("/api/v1/usage?{range}&group_by=vm&vm=web-01")).await;
    assert_eq!(by_vm[0]["vm_name"], "web-01");

    // The plan holds from the present hour on, and that was the one before: it costs nothing.
    let invoice = get(&client, &format!("/api/v1/invoices/{}", month_of(hour))).await;
    assert_eq!((&invoice["status"], &invoice["micro_dollars"]), (&json!("draft"), &json!(0)));

    ahead.pass_hours(1);
    let hour = Hour(ahead.hour().0 - 1);
    post(&client, &[record(vm, hour, 0, 3600)]).await;
    ahead.pass_hours(4);
    until_sealed(&client, 2).await;
    let invoice = get(&client, &format!("/api/v1/invoices/{}?allocate=team", month_of(hour))).await;
    let priced: Vec<&Value> = invoice["lines"]
        .as_array()
        .unwrap()
        .iter()
        .filter(|line| line["plan"] == "standard")
        .collect();
    assert_eq!(priced.len(), 1, "{invoice}");
    assert_eq!(priced[0]["micro_dollars"], 150_000);
    assert_eq!(priced[0]["allocations"][0]["tags"], json!({ "team": "red" }));
    assert_eq!(priced[0]["allocations"][0]["micro_dollars"], 150_000);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_sealed_is_corrected_by_new_entries_and_can_be_verified() {
    let (_member, client, ahead, vm) = scene().await;
    let hour = Hour(ahead.hour().0 - 1);
    post(&client, &[record(vm, hour, 0, 1800), record(vm, hour, 1800, 3600)]).await;
    ahead.pass_hours(4);
    until_sealed(&client, 1).await;

    let late = post(&client, &[record(vm, Hour(hour.0 - 2), 0, 60)]).await;
    assert_eq!(late[0]["created_late"]["late_for_s"], Hour(hour.0 - 2).begin_s(), "{late:?}");
    let entries = items(&client, &format!("/api/v1/ledger/entries?window={hour}")).await;
    assert_eq!(entries.len(), 2);
    let correction = json!({
        "window": hour.begin(),
        "index": entries[1]["index"],
        "quantity": "600",
        "reason": "the guest hung",
    });
    let corrected = client.post("/api/v1/usage/corrections", &correction.to_string()).await;
    assert_eq!(corrected.status, 200, "{corrected:?}");
    let reversal = corrected.json()["reversal"]["window"].as_str().unwrap().to_owned();
    let again = client.post("/api/v1/usage/corrections", &correction.to_string()).await;
    assert_eq!(again.problem(), (409, "already_corrected".to_owned(), None));
    let posted = items(&client, &format!("/api/v1/ledger/entries?window={reversal}")).await;
    let reasons: Vec<_> = posted.iter().map(|entry| &entry["reason"]).collect();
    assert_eq!(reasons, [&Value::Null, &json!("the guest hung"), &json!("the guest hung")]);

    ahead.pass_hours(3);
    until_sealed(&client, 2).await;
    let verdict = get(&client, "/api/v1/ledger/verify").await;
    assert_eq!(verdict["intact"], true, "{verdict}");
    assert_eq!((&verdict["windows"], &verdict["entries"]), (&json!(2), &json!(5)));
    let known = verdict["last"].as_str().unwrap();
    let known = get(&client, &format!("/api/v1/ledger/verify?known={known}")).await;
    assert_eq!(known["intact"], true);
    let other = format!("{}:{}", hour.0, "0".repeat(64));
    let other = get(&client, &format!("/api/v1/ledger/verify?known={other}")).await;
    assert_eq!(other["fault"], "it is not the window that was known", "{other}");
    let missing = format!("{}:{}", hour.0 - 9, "0".repeat(64));
    let missing = get(&client, &format!("/api/v1/ledger/verify?known={missing}")).await;
    assert_eq!(missing["fault"], "a window that was known is missing", "{missing}");
    let audited = items(&client, "/api/v1/audit?action=usage.post").await;
    assert_eq!(audited.len(), 2, "what agents measure is no deed; what an operator posts is");
    let corrected = items(&client, "/api/v1/audit?action=ledger.correct").await;
    assert_eq!(corrected.len(), 2, "the refused one, too: {corrected:?}");
}

/// Somebody else's arithmetic: every entry of every window, its hour, its plan, one division at the end.
#[tokio::test(flavor = "multi_thread")]
async fn an_invoice_can_be_recomputed_from_raw_entries() {
    let (_member, client, ahead, vm) = scene().await;
    client.post("/api/v1/rates/plans", r#"{"project":"default","plan":"professional"}"#).await;
    let first = ahead.hour();
    for hour in 0..3 {
        ahead.pass_hours(1);
        let now = Hour(first.0 + hour);
        let disk = UsageRecord {
            meter: Meter::DiskByteSeconds,
            level: 1 << 30,
            ..record(vm, now, 0, 977)
        };
        post(&client, &[record(vm, now, 7, 1000 + hour), disk]).await;
    }
    ahead.pass_hours(3);
    until_sealed(&client, 3).await;
    let mut seconds = 0u64;
    let windows = items(&client, "/api/v1/ledger/windows").await;
    for window in &windows {
        let window = window["window"].as_str().unwrap();
        for entry in items(&client, &format!("/api/v1/ledger/entries?window={window}")).await {
            if entry["meter"] == "vm-seconds" {
                seconds += entry["quantity"].as_str().unwrap().parse::<u64>().unwrap();
            }
        }
    }
    assert_eq!(seconds, 993 + 994 + 995);
    let months = [month_of(first), month_of(Hour(first.0 + 2))];
    let mut billed = 0;
    for month in months.iter().take(if months[0] == months[1] { 1 } else { 2 }) {
        billed += get(&client, &format!("/api/v1/invoices/{month}")).await["micro_dollars"]
            .as_i64()
            .unwrap();
        let csv = client.get(&format!("/api/v1/invoices/{month}?format=csv")).await;
        assert_eq!(csv.header("content-type"), Some("text/csv; charset=utf-8"));
        let rows: Vec<Vec<&str>> =
            csv.body.split_terminator("\r\n").map(|row| row.split(',').collect()).collect();
        let column = rows[0].iter().position(|name| *name == "micro_dollars").unwrap();
        let sum: i64 = rows[1..].iter().map(|row| row[column].parse::<i64>().unwrap()).sum();
        let json = get(&client, &format!("/api/v1/invoices/{month}")).await;
        assert_eq!(sum, json["micro_dollars"].as_i64().unwrap());
    }
    // 2,982 seconds at 120,000 micro-dollars an hour are 99,400 exactly; a month's end between them could round twice.
    assert!((billed - 99_400).abs() <= 1, "{billed}");
}

#[tokio::test(flavor = "multi_thread")]
async fn bad_input_is_refused_with_a_code_and_a_field() {
    let (_member, client, ahead, vm) = scene().await;
    let hour = ahead.hour();
    let too_many = vec![record(vm, hour, 0, 1); 1_001];
    let refused = client.post("/api/v1/usage/records", &batch(&too_many)).await;
    let problem =
        |status, code: &str, field: &str| (status, code.to_owned(), Some(field.to_owned()));
    assert_eq!(refused.problem(), problem(413, "too_many_records", "records"));
    let none = client.post("/api/v1/usage/records", &batch(&[])).await;
    assert_eq!(none.problem(), problem(400, "invalid_request", "records"));
    for (path, field) in [
        ("/api/v1/usage?from=2026-11-26T13:30:00Z", "from"),
        ("/api/v1/usage?from=2026-11-26T13:00:00Z&to=2026-11-26T13:00:00Z", "to"),
        ("/api/v1/usage?group_by=colour", "group_by"),
        ("/api/v1/usage?meter=apples", "meter"),
        ("/api/v1/usage?vm=nobody", "vm"),
        ("/api/v1/usage?cursor=x", "cursor"),
        ("/api/v1/invoices/2026-13", "period"),
        ("/api/v1/invoices/2026-11?allocate=a&allocate=a", "allocate"),
        ("/api/v1/invoices/2026-11?format=pdf", "format"),
        ("/api/v1/ledger/windows?cursor=x", "cursor"),
        ("/api/v1/ledger/verify?known=x", "known"),
        ("/api/v1/ledger/entries?window=2026-11-26T13:00:01Z", "window"),
    ] {
        let answer = client.get(path).await;
        let code = if field == "cursor" { "cursor_unknown" } else { "invalid_request" };
        assert_eq!(answer.problem(), problem(400, code, field), "{path}");
    }
    let at = |valid_from: String, price: u64| {
        let prices = json!({ "storage-gb": { "micro_dollars": price } });
        json!({ "plan": "own", "valid_from": valid_from, "prices": prices }).to_string()
    };
    let begun = client.post("/api/v1/rates", &at(hour.to_string(), 1)).await;
    assert_eq!(begun.problem(), (409, "rate_begun".to_owned(), None));
    let dear = client.post("/api/v1/rates", &at(hour.next().next().to_string(), 1 << 40)).await;
    assert_eq!(dear.problem(), problem(400, "invalid_request", "prices.storage-gb"));
    let none = r#"{"project":"default","plan":"none"}"#;
    let none = client.post("/api/v1/rates/plans", none).await;
    assert_eq!(none.problem(), problem(400, "invalid_request", "plan"));
    let correction = json!({ "window": hour.begin(), "index": 9, "quantity": "-1", "reason": "x" });
    let negative = client.post("/api/v1/usage/corrections", &correction.to_string()).await;
    assert_eq!(negative.problem(), problem(400, "invalid_request", "quantity"));
}

/// What an agent's hello does to the fleet.
async fn join_node(app: &App, name: &str) {
    let (node, at) = (name.parse().unwrap(), Clock::system().now());
    let (session, facts, machines) = (SessionId(1), agent::facts(), Vec::new());
    let open = Body::OpenSession(OpenSession { node, session, facts, machines });
    app.proposer.propose(Command::of_cluster(request(), at, open)).await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_member_that_was_away_has_the_windows_that_were_sealed_without_it() {
    let ahead = Ahead::default();
    let mut cluster = TestCluster::start_with(3, ahead.clock()).await;
    let here = cluster.leader().await;
    join_node(cluster.app(&here), "node-01").await;
    let vm = create(cluster.app(&here), "web").await.unwrap();
    let away = cluster.followers().await[0].clone();
    cluster.stop(&away).await;
    let hour = Hour(ahead.hour().0 - 1);
    let here = cluster.leader().await;
    // More entries of the log than a snapshot leaves: the member comes back with one.
    for second in 0..60 {
        let records = vec![record(vm, hour, second, second + 1)];
        let intent = Intent::PostUsage { node: "node-01".parse().unwrap(), records };
        let posted = cluster.app(&here).proposer.submit(request(), by_operator(intent)).await;
        assert!(matches!(posted, Ok(Accepted::Usage(_))), "{posted:?}");
    }
    ahead.pass_hours(4);
    let sealed = |fleet: &Fleet| fleet.sealed_window(hour).map(|header| header.chain);
    let chain = until("the window is sealed", async || cluster.app(&here).view.local(sealed)).await;
    cluster.run(&away).await;
    let verdict = until("the member has the window", async || {
        let app = cluster.app(&away);
        (app.view.local(sealed) == Some(chain)).then_some(())?;
        let verdict = app.ledger.run(|ledger| ledger.verify(Hour(0), None)).await;
        let verdict: Result<_, LedgerError> = verdict;
        verdict.ok()
    })
    .await;
    assert!(verdict.intact, "{verdict:?}");
    assert_eq!((verdict.windows, verdict.entries), (1, 60));
    cluster.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_tenant_reads_what_it_used_and_nothing_of_others() {
    let (member, client, ahead, web) = scene().await;
    let made = client.post("/api/v1/projects", r#"{"name":"own"}"#).await;
    assert_eq!(made.status, 201, "{made:?}");
    let own = r#"{"name":"own-01","project":"own","memory":536870912,"disk":1073741824,"image":"debian"}"#;
    let own = client.post("/api/v1/vms", own).await.json();
    let own: VmId = own["id"].as_str().unwrap().parse().unwrap();
    ahead.pass_hours(1);
    let hour = Hour(ahead.hour().0 - 1);
    post(&client, &[record(web, hour, 0, 60), record(own, hour, 0, 7)]).await;
    client.post("/api/v1/principals", r#"{"name":"tenant","kind":"operator"}"#).await;
    let binding = r#"{"principal":"tenant","permission":"ledger.read","project":"own"}"#;
    assert_eq!(client.post("/api/v1/bindings", binding).await.status, 201);

    let tenant = member.client_named(Role::Operator, "tenant");
    let seconds = async |client: &Https, query: &str| -> Vec<String> {
        let rows = items(client, &format!("/api/v1/usage?meter=vm-seconds{query}")).await;
        rows.iter().map(|row| row["quantity"].as_str().unwrap().to_owned()).collect()
    };
    assert_eq!(seconds(&client, "").await, ["67"]);
    for query in ["", "&project=own", "&vm=own-01", "&group_by=hour", "&group_by=project"] {
        assert_eq!(seconds(&tenant, query).await, ["7"], "{query}");
    }
    assert_eq!(seconds(&tenant, &format!("&vm={web}")).await, [""; 0], "not by its id either");
    let hidden = tenant.get("/api/v1/usage?vm=web-01").await.problem();
    let absent = tenant.get("/api/v1/usage?vm=web-99").await.problem();
    assert_eq!(hidden, absent);
    assert_eq!(tenant.get("/api/v1/usage?project=default").await.status, 403);

    let month = &hour.begin().to_string()[..7];
    let invoice = get(&tenant, &format!("/api/v1/invoices/{month}")).await;
    let projects = invoice["totals"].as_array().unwrap().iter().map(|total| &total["project"]);
    assert_eq!(projects.collect::<Vec<_>>(), ["own"]);
    let csv = tenant.get(&format!("/api/v1/invoices/{month}?format=csv")).await.body;
    assert!(csv.contains("own") && !csv.contains("default"), "{csv}");
    let other = tenant.get(&format!("/api/v1/invoices/{month}?project=default")).await;
    assert_eq!(other.status, 403);
    assert_eq!(tenant.get("/api/v1/ledger/verify").await.status, 403, "that is everybody's");
    member.stop().await;
}
