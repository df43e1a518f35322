//! What is kept of what happened, and where a stream cannot go on.

use novacron_protocol::access::{AccessRole, BindingEffect, Scope};
use novacron_protocol::alert::{AlertKey, AlertObject, Condition};
use novacron_protocol::api::{SettingsChange, Severity};
use novacron_protocol::effect::{ObservedState, Report};
use novacron_protocol::ids::{AlertId, ApiKeyId, ProjectName, RequestId, Revision};
use novacron_protocol::migration::MigrationMode;
use novacron_protocol::node::NodeState;
use novacron_protocol::project::{Quota, Quotas};
use novacron_protocol::wire::codec;
use novacron_transport::token::SecretHash;
use serde_json::{Value, json};

use super::golden;
use crate::state::alert::{AlertOrder, Observed, Raise};
use crate::state::api_key::ApiKey;
use crate::state::audit::AuditNumber;
use crate::state::binding::Right;
use crate::state::change::CHANGE_BYTES_MAX;
use crate::state::command::SessionReports;
use crate::state::event::{Actor, EVENTS_MAX, EventRow};
use crate::state::incarnation::{REVISIONS_GAP, Restored};
use crate::state::migration::Step;
use crate::state::principal::AccessOrder;
use crate::state::project::{ProjectEdit, ProjectOrder};
use crate::state::secret::keys::SecretKeyId;
use crate::state::secret::{SealedValue, SecretOrder, SecretPlace};
use crate::state::testing::*;
use crate::state::{Accepted, Asker, Body, Command, Credential, Fleet};

#[test]
fn a_stream_goes_on_exactly_where_nothing_is_forgotten() {
    let mut fleet = Fleet::default();
    let lost = |fleet: &Fleet, revision, sequence| {
        fleet.events_lost_before(Revision(revision), sequence).map(|oldest| oldest.0)
    };
    // Three events a revision, until two of revision 3 are forgotten.
    let revisions = (EVENTS_MAX as u64 + 2 * 3).div_ceil(3);
    for revision in 1..=revisions {
        happen(&mut fleet, revision, 3);
        let is_lost = lost(&fleet, 0, u32::MAX).is_some();
        assert_eq!(is_lost, revision * 3 > EVENTS_MAX as u64, "{revision}");
    }
    let oldest = *fleet.events.first_key().unwrap();
    assert_eq!((oldest.revision, oldest.sequence), (Revision(3), 2));
    assert_eq!(fleet.events.len(), EVENTS_MAX);
    assert_eq!(fleet.oldest_event_revision(), Revision(4));
    assert_eq!(lost(&fleet, 3, u32::MAX), None);
    assert_eq!(lost(&fleet, 3, 1), None, "it has seen what is forgotten of revision 3");
    assert_eq!(lost(&fleet, 3, 0), Some(4));
    assert_eq!(lost(&fleet, 2, u32::MAX), Some(4));

    happen(&mut fleet, revisions + 1, 1);
    assert_eq!(fleet.oldest_event_revision(), Revision(4));
    assert_eq!(lost(&fleet, 3, u32::MAX), None);
    assert_eq!(lost(&fleet, 3, 1), Some(4));
}

#[test]
fn what_a_restore_undid_is_not_gone_on_from() {
    let mut scene = Scene::new();
    scene.found();
    scene.join("node-01", 16);
    let backup = scene.fleet.revision().0;
    let restored = Restored {
        incarnation: scene.fleet.incarnation().next(),
        member: scene.fleet.next_first_member(),
        facts: member_facts("c9"),
    };
    let request = RequestId(scene.id());
    let command = Command::of_cluster(request, scene.now, Body::BeginIncarnation(restored));
    let begun = backup + REVISIONS_GAP + 1;
    let fleet = &mut scene.fleet;
    fleet.apply(Revision(begun), &command).unwrap();
    happen(fleet, begun + 1, 1);
    for same in [0, 1, backup, begun - 1, begun, begun + 1] {
        assert!(!fleet.is_undone(Revision(same)), "{same}");
    }
    for undone in [backup + 1, backup + 1_000_000] {
        assert!(fleet.is_undone(Revision(undone)), "{undone}");
    }
}

/// The events of the last command, as the API shows them.
fn last(scene: &Scene) -> Vec<Value> {
    let behind = Revision(scene.fleet.revision().0 - 1);
    let events = scene.fleet.events_after(behind, None);
    events.map(|event| serde_json::to_value(event.shown()).unwrap()).collect()
}

fn the_last(scene: &Scene) -> Value {
    let mut events = last(scene);
    assert_eq!(events.len(), 1, "{events:#?}");
    events.remove(0)
}

/// What differs, and what it is that differs.
fn change(event: &Value) -> Value {
    json!([event["object"]["kind"], event["before"], event["after"]])
}

#[test]
fn an_event_says_who_caused_it() {
    let mut scene = Scene::new();
    let address = Some("192.0.2.7".parse().unwrap());
    let admin = Asker { address, ..scene.found() };
    scene.join("node-01", 16);
    assert_eq!(the_last(&scene)["actor"], json!({ "kind": "agent", "node": "node-01" }));
    let body = scene.create_body(spec("web"), None, false);
    scene.ask(&admin, body).unwrap();
    for event in last(&scene) {
        assert_eq!(event["actor"], json!({ "kind": "certificate", "name": "admin" }));
    }
    scene.settle_all("node-01");
    assert_eq!(the_last(&scene)["actor"], json!({ "kind": "agent", "node": "node-01" }));
    scene.set_node("node-01", NodeState::Down);
    for event in last(&scene) {
        assert_eq!(event["actor"], json!({ "kind": "cluster" }));
        assert_eq!(event["audit"], json!(scene.fleet.audit_head().number.0), "{event}");
    }
    let key = ApiKey {
        id: ApiKeyId(scene.id()),
        principal: admin.name.clone(),
        name: "backup".to_owned(),
        secret_hash: SecretHash([0xAB; 32]),
        created_at: scene.now,
        expires_at: scene.now.plus_ms(1000),
    };
    let by_key = Asker { credential: Credential::ApiKey(key.id.0), ..admin };
    scene.apply(Body::Access(AccessOrder::CreateKey(key))).unwrap();
    let settings = SettingsChange { migrations_per_node: Some(7) };
    scene.ask(&by_key, Body::ChangeSettings(settings)).unwrap();
    assert_eq!(the_last(&scene)["actor"], json!({ "kind": "api-key", "name": "admin" }));
}

/// Reports of two agents that come together are told as what they are.
#[test]
fn each_report_is_its_own_agents() {
    let mut scene = Scene::new();
    let mut batches = Vec::new();
    for (node, vm) in [("node-01", "a"), ("node-02", "b")] {
        scene.join(node, 16);
        let vm = scene.running(vm, node);
        let row = scene.fleet.node(&name(node)).unwrap();
        let report = Report::Machine(held(vm, 1, ObservedState::Paused));
        batches.push(SessionReports {
            node: name(node),
            session: row.session,
            first_sequence: row.sequence + 1,
            reports: vec![report],
        });
    }
    scene.apply(Body::Reports(batches)).unwrap();
    let actors: Vec<Value> =
        last(&scene).iter().map(|event| event["actor"]["node"].clone()).collect();
    assert_eq!(actors, ["node-01", "node-02"]);
}

#[test]
fn an_event_says_what_was_before_and_what_is_after() {
    let mut scene = Scene::new();
    let admin = scene.found();
    scene.join("node-01", 16);
    let vm = scene.running("web", "node-01");
    scene.ask(&admin, Body::StopVm { vm, force: true }).unwrap();
    let event = the_last(&scene);
    let expected = json!(["vm", { "state": "running" }, { "state": "stopping" }]);
    assert_eq!(change(&event), expected);
    assert_eq!(event["object"]["id"], json!(vm.to_string()));
    assert_eq!(event["audit"], json!(scene.fleet.audit_head().number.0));
    scene.settle_all("node-01");
    let event = the_last(&scene);
    assert_eq!(change(&event), json!(["vm", { "state": "stopping" }, { "state": "stopped" }]));
    assert_eq!(event["audit"], Value::Null, "what agents report has no record");
    scene.set_node("node-01", NodeState::Suspect);
    assert_eq!(
        change(&the_last(&scene)),
        json!(["node", { "state": "ready" }, { "state": "suspect" }])
    );

    let project = scene.make_project("own", Quotas { vms: Some(3), ..Quotas::default() });
    let made = the_last(&scene);
    assert_eq!((&made["before"], &made["after"]["quotas"]["vms"]), (&Value::Null, &json!(3)));
    let edit = ProjectEdit { quotas: vec![(Quota::Vms, Some(5))], ..ProjectEdit::default() };
    let order = ProjectOrder::Change { project: project.clone(), edit };
    scene.ask(&admin, Body::Projects(order)).unwrap();
    let quota = |limit| json!({ "quotas": { "vms": limit } });
    assert_eq!(change(&the_last(&scene)), json!(["project", quota(3), quota(5)]));

    let viewer = Right::Role(AccessRole::Viewer);
    let anna = scene.operator("anna");
    let binding = scene.bind(&anna, viewer, Scope::Fleet, BindingEffect::Allow).unwrap();
    let made = the_last(&scene);
    assert_eq!((&made["before"], &made["after"]["principal"]), (&Value::Null, &json!("anna")));
    scene.ask(&admin, Body::Access(AccessOrder::Unbind { binding })).unwrap();
    let gone = the_last(&scene);
    assert_eq!((&gone["before"], &gone["after"]), (&made["after"], &Value::Null));
    assert_eq!(gone["object"], json!({ "kind": "binding", "id": binding.to_string() }));
}

#[test]
fn a_secret_is_told_without_its_value() {
    let mut scene = Scene::new();
    let admin = scene.found();
    let key = SecretKeyId([1; 8]);
    scene.apply(Body::Secrets(SecretOrder::Announce { key })).unwrap();
    scene.apply(Body::Secrets(SecretOrder::Use { key })).unwrap();
    let place =
        SecretPlace { project: Some(ProjectName::default()), name: "door".parse().unwrap() };
    for version in [1, 2] {
        let value = SealedValue { id: scene.id(), key, sealed: vec![7; 9] };
        let order = SecretOrder::Put { place: place.clone(), value, mark: version };
        scene.ask(&admin, Body::Secrets(order)).unwrap();
    }
    let event = the_last(&scene);
    assert_eq!(change(&event), json!(["secret", { "version": 1 }, { "version": 2 }]));
    let said = (&event["kind"], &event["project"], &event["object"]["id"]);
    assert_eq!(said, (&json!("secret.set"), &json!("default"), &json!("default/door")));
    let read = SecretOrder::Reveal { place: place.clone() };
    scene.ask(&admin, Body::Secrets(read)).unwrap();
    assert_eq!(last(&scene), Vec::<Value>::new(), "that is in the audit log");
    scene.ask(&admin, Body::Secrets(SecretOrder::Delete { place })).unwrap();
    let event = the_last(&scene);
    let before = json!({ "version": 2, "updated_by": "admin" });
    assert_eq!(change(&event), json!(["secret", before, Value::Null]));
}

/// An alert has its id only once it is raised; its record names it by its key.
#[test]
fn events_of_one_command_name_the_records_of_what_each_is_about() {
    let mut scene = Scene::new();
    scene.found();
    let raise = |scene: &mut Scene, object| Raise {
        id: AlertId(scene.id()),
        key: AlertKey::of(Condition::LedgerLate, object),
        severity: Severity::Warning,
        summary: "late".to_owned(),
    };
    scene.join("node-01", 16);
    let objects = [AlertObject::Node(name("node-01")), AlertObject::Cluster];
    let raises = objects.map(|object| raise(&mut scene, object)).to_vec();
    let ids: Vec<Value> = raises.iter().map(|raise| json!(raise.id.to_string())).collect();
    let before = scene.fleet.audit_head().number.0;
    scene.apply(Body::Alerts(AlertOrder::Observe(Observed { raises, over: Vec::new() }))).unwrap();
    let events = last(&scene);
    let said: Vec<_> = events.iter().map(|one| (&one["object"]["id"], &one["audit"])).collect();
    let numbers = [json!(before + 1), json!(before + 2)];
    assert_eq!(said, [(&ids[0], &numbers[0]), (&ids[1], &numbers[1])]);
    let expected = json!({ "state": "firing", "severity": "warning" });
    assert_eq!(events[0]["after"], expected);
}

#[test]
fn what_differs_is_bounded_and_the_audit_log_has_the_rest() {
    let mut scene = Scene::new();
    let admin = scene.found();
    let labels = |value: &str| {
        let label = |number| (format!("label-{number}"), value.to_owned());
        Some((0..64).map(label).collect())
    };
    for (value, display_name) in [("old", "Old"), ("new", "New")] {
        let display_name = Some(display_name.to_owned());
        let edit = ProjectEdit { labels: labels(value), display_name, ..ProjectEdit::default() };
        let order = ProjectOrder::Change { project: ProjectName::default(), edit };
        scene.ask(&admin, Body::Projects(order)).unwrap();
    }
    let event = the_last(&scene);
    let name = |name: &str| json!({ "display_name": name });
    assert_eq!(change(&event), json!(["project", name("Old"), name("New")]));
    let number = AuditNumber(event["audit"].as_u64().unwrap());
    let (_, row) = scene.fleet.audit_from(number).next().unwrap();
    let record: Value = serde_json::from_str(&row.line).unwrap();
    assert_eq!(record["after"]["labels"]["label-63"], "new");
    for event in scene.fleet.events_after(Revision(0), None) {
        assert!(event.before.len() + event.after.len() <= CHANGE_BYTES_MAX);
    }
}

/// 100,000 of them are in memory and in every snapshot.
#[test]
fn events_are_small() {
    let scene = golden::scene();
    let sizes = |kind: fn(&EventRow) -> bool| -> Vec<usize> {
        let events = scene.fleet.events_after(Revision(0), None).filter(|event| kind(event));
        events.map(|event| codec::encode(event).unwrap().len()).collect()
    };
    let of_agents = sizes(|event| matches!(event.actor, Actor::Agent(_)));
    assert!(of_agents.iter().all(|bytes| *bytes < 400), "{of_agents:?}");
    let all = sizes(|_| true);
    let average = all.iter().sum::<usize>() / all.len();
    assert!(average < 350, "{average} bytes: {all:?}");
}

/// What the cluster does by itself while somebody's command is applied may be in projects of others.
#[test]
fn whoever_frees_a_place_is_not_named_to_those_who_get_it() {
    let mut scene = Scene::new();
    let asker = scene.found();
    ["node-01", "node-02"].iter().for_each(|node| scene.join(node, 64));
    let projects = ["ours", "theirs"].map(|name| scene.make_project(name, Quotas::default()));
    let vms = projects.clone().map(|project| {
        let vm = spec_in(&project, &format!("{project}-vm"));
        let body = scene.create_body(vm, Some("node-01"), false);
        let Ok(Accepted::Vm(vm)) = scene.apply(body) else { panic!("not made") };
        scene.settle_all("node-01");
        vm
    });
    let one = SettingsChange { migrations_per_node: Some(1) };
    scene.apply(Body::ChangeSettings(one)).unwrap();
    let [ours, theirs] = vms.map(|vm| scene.migrate(vm, "node-02", MigrationMode::Cold).unwrap());
    assert_eq!(scene.migration(theirs).step, Step::Queued);
    let before = scene.fleet.revision();
    scene.ask(&asker, Body::CancelMigration { migration: ours }).unwrap();
    let of = |scene: &Scene, migration| -> Vec<EventRow> {
        let events = scene.fleet.events_after(before, None);
        events.filter(|event| event.migration == Some(migration)).cloned().collect()
    };
    assert!(
        of(&scene, ours).iter().all(|event| event.actor == Actor::Certificate(asker.name.clone()))
    );
    assert_ne!(scene.migration(theirs).step, Step::Queued, "there is a place now");
    let told = of(&scene, theirs);
    assert!(!told.is_empty());
    for event in told {
        assert_eq!((event.actor, event.request, event.audit), (Actor::Cluster, None, None));
    }
}
