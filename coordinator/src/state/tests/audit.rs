//! The audit log: every change has a record, the chain holds, the old leaves for the archive.

use std::net::IpAddr;

use novacron_protocol::access::AccessRole;
use novacron_protocol::api::{Code, SettingsChange};
use novacron_protocol::audit::Chain;
use novacron_protocol::ids::{ApiKeyId, RequestId, Revision, VmId};
use novacron_protocol::node::NodeState;
use serde_json::{Value, json};

use crate::state::api_key::ApiKey;
use crate::state::audit::{AuditNumber, RECENT_MAX, SEGMENT_RECORDS};
use crate::state::principal::AccessOrder;
use crate::state::refused::{REFUSED_ROWS_MAX, REFUSED_TEXT_BYTES_MAX, RefusedRow};
use crate::state::testing::{Scene, name, spec};
use crate::state::{Asker, Body, Command};

fn records(scene: &Scene) -> Vec<Value> {
    let rows = scene.fleet.audit_from(AuditNumber(1));
    rows.map(|(_, row)| serde_json::from_str(&row.line).unwrap()).collect()
}

fn settings(migrations_per_node: u32) -> Body {
    Body::ChangeSettings(SettingsChange { migrations_per_node: Some(migrations_per_node) })
}

#[test]
fn a_change_says_who_from_where_and_what_was_before_and_after() {
    let mut scene = Scene::new();
    let address: IpAddr = "192.0.2.7".parse().unwrap();
    let admin = Asker { address: Some(address), ..scene.found() };
    let stranger = scene.operator("anna");
    scene.ask(&stranger, settings(5)).unwrap_err();
    let refused = records(&scene).pop().unwrap();
    assert_eq!(refused["result"]["code"], "not_allowed");
    assert_eq!(refused["actor"]["name"], "anna");
    scene.ask(&admin, settings(5)).unwrap();
    let record = records(&scene).pop().unwrap();
    let actor = json!({ "kind": "certificate", "name": "admin", "address": "192.0.2.7" });
    assert_eq!(record["actor"], actor);
    assert_eq!((&record["number"], &record["action"]), (&json!(4), &json!("settings.change")));
    assert_eq!(record["object"], json!({ "kind": "settings" }));
    assert_eq!(record["before"], json!({ "migrations_per_node": 3 }));
    assert_eq!(record["after"], json!({ "migrations_per_node": 5 }));
    assert_eq!(record["result"], json!({ "kind": "done" }));
    assert!(record["request"].is_string(), "{record}");
}

#[test]
fn a_refusal_is_recorded_and_a_repetition_is_not() {
    let mut scene = Scene::new();
    let (request, vm) = (RequestId(scene.id()), VmId(scene.id()));
    for _ in 0..2 {
        scene.apply_as(request, Body::StartVm { vm }).unwrap_err();
    }
    let records = records(&scene);
    assert_eq!(records.len(), 1, "{records:#?}");
    assert_eq!(records[0]["result"]["kind"], "refused");
    assert_eq!(records[0]["result"]["code"], "not_found");
    assert_eq!(records[0].get("after"), None);
}

/// A request id that is used for something else is refused, and whoever tried is on record.
#[test]
fn a_request_id_used_again_is_recorded() {
    let mut scene = Scene::new();
    let request = RequestId(scene.id());
    scene.apply_as(request, settings(5)).unwrap();
    scene.apply_as(request, settings(6)).unwrap_err();
    let records = records(&scene);
    assert_eq!(records.len(), 2);
    assert_eq!(records[1]["result"]["code"], "idempotency_conflict");
}

#[test]
fn a_machine_is_followed_through_its_life() {
    let mut scene = Scene::new();
    scene.join("node-01", 16);
    let body = scene.create_body(spec("web"), None, false);
    let Body::CreateVm(create) = &body else { unreachable!() };
    let vm = create.vm;
    scene.apply(body).unwrap();
    scene.settle_all("node-01");
    scene.apply(Body::StartVm { vm }).unwrap();
    scene.apply(Body::SetNodeStates(vec![(name("node-01"), NodeState::Down)])).unwrap();
    scene.apply(Body::SetNodeStates(vec![(name("node-01"), NodeState::Down)])).unwrap();
    let records = records(&scene);
    let actions: Vec<_> = records.iter().map(|record| record["action"].as_str().unwrap()).collect();
    assert_eq!(actions, ["vm.create", "vm.start", "node.state"], "once for each change");
    assert_eq!(records[0].get("before"), None);
    assert_eq!(records[0]["object"]["id"], json!(vm.to_string()));
    assert_eq!(records[0]["after"]["spec"]["name"], "web");
    assert_eq!(records[2]["actor"], json!({ "kind": "cluster" }));
    assert_eq!(records[2]["after"]["state"], json!(NodeState::Down));
}

#[test]
fn old_records_leave_as_texts_and_the_chain_goes_on() {
    let mut scene = Scene::new();
    let changes = RECENT_MAX + SEGMENT_RECORDS + 10;
    for number in 0..changes {
        let limit = 1 + u32::try_from(number % 60).unwrap();
        let request = RequestId(scene.id());
        let command = Command::of_cluster(request, scene.now, settings(limit));
        scene.fleet.apply(Revision(1 + number as u64), &command).unwrap();
    }
    scene.fleet.check().unwrap();
    let departures = scene.fleet.drain_departures();
    let segments: Vec<_> = scene.fleet.audit_segments().collect();
    assert_eq!(departures.len(), 2);
    assert_eq!(segments.len(), 2);
    let mut chain = Chain::start();
    for (departure, (name, first)) in departures.iter().zip(segments) {
        assert_eq!((departure.name.as_str(), first.0), (name, chain.number + 1));
        chain.follow_text(std::str::from_utf8(&departure.content).unwrap()).unwrap();
    }
    for (number, row) in scene.fleet.audit_from(AuditNumber(0)) {
        chain.follow(row.hash, &row.line).unwrap();
        assert_eq!(chain.number, number.0);
    }
    let head = scene.fleet.audit_head();
    chain.ends_at(head.number.0, head.hash).unwrap();
    assert!(scene.fleet.drain_departures().is_empty(), "given away once");
}

#[test]
fn no_secret_gets_into_a_record() {
    use novacron_transport::Role;
    use novacron_transport::token::{SecretHash, TokenId, TokenRecord};

    use crate::state::token::Token;
    let mut scene = Scene::new();
    let record = TokenRecord {
        role: Role::Agent,
        name: None,
        expires_at: scene.now.plus_ms(1000),
        secret_hash: SecretHash([0xAB; 32]),
        used: false,
    };
    let token = Token { id: TokenId([1; 8]), record, used_by: None, access: AccessRole::Viewer };
    scene.apply(Body::CreateToken(token)).unwrap();
    let line = scene.fleet.audit_from(AuditNumber(1)).next().unwrap().1.line.clone();
    assert!(line.contains("token.create") && !line.contains("171"), "{line}");

    scene.operator("anna");
    let key = ApiKey {
        id: ApiKeyId(scene.id()),
        principal: "anna".parse().unwrap(),
        name: "a test".to_owned(),
        secret_hash: SecretHash([0xAB; 32]),
        created_at: scene.now,
        expires_at: scene.now.plus_ms(1000),
    };
    scene.apply(Body::Access(AccessOrder::CreateKey(key))).unwrap();
    let line = scene.fleet.audit_from(AuditNumber(3)).next().unwrap().1.line.clone();
    assert!(line.contains("api-key.create") && !line.contains("171"), "{line}");
}

#[test]
fn what_was_refused_before_it_was_a_command_has_a_record_with_its_count() {
    let mut scene = Scene::new();
    let row = RefusedRow {
        shown: "API key 1".to_owned(),
        address: Some("192.0.2.7".parse().unwrap()),
        operation: "listVms".to_owned(),
        code: Code::NotAuthenticated,
        count: 9_000,
        first_at: scene.now,
        last_at: scene.now.plus_ms(5),
    };
    let request = RequestId(scene.id());
    let rows = |row: &RefusedRow, count| Body::NoteRefusals { rows: vec![row.clone(); count] };
    for _ in 0..2 {
        scene.apply_as(request, rows(&row, 2)).unwrap();
    }
    let found = records(&scene);
    assert_eq!(found.len(), 2, "a command that is sent again is applied once");
    let actor = json!({ "kind": "presented", "shown": "API key 1", "address": "192.0.2.7" });
    assert_eq!((&found[0]["actor"], &found[0]["action"]), (&actor, &json!("api.refuse")));
    assert_eq!(found[0]["object"], json!({ "kind": "operation", "id": "listVms" }));
    assert_eq!(
        (&found[0]["result"]["code"], &found[0]["times"]["count"]),
        (&json!("not_authenticated"), &json!(9_000))
    );

    let admin = scene.found();
    scene.ask(&admin, rows(&row, 1)).unwrap_err();
    scene.apply(rows(&row, REFUSED_ROWS_MAX + 1)).unwrap_err();
    for wrong in [
        RefusedRow { count: 0, ..row.clone() },
        RefusedRow { shown: "x".repeat(REFUSED_TEXT_BYTES_MAX + 1), ..row.clone() },
        RefusedRow { first_at: row.last_at.plus_ms(1), ..row.clone() },
    ] {
        scene.apply(rows(&wrong, 1)).unwrap_err();
    }
    let refused = records(&scene).iter().filter(|one| one["action"] == "api.refuse").count();
    assert_eq!(refused, 2);
}

#[test]
fn a_change_of_nothing_is_a_command_that_can_be_read_again() {
    let mut scene = Scene::new();
    scene.apply(Body::ChangeSettings(SettingsChange::default())).unwrap();
    assert_eq!(records(&scene).len(), 1);
}
