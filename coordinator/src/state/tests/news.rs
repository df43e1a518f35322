//! Whatever a command changes, events tell: those that it is said to have, with who caused it, about what changed.

use std::collections::{BTreeMap, BTreeSet};

use novacron_protocol::access::AccessRole;
use novacron_protocol::effect::ObservedState;
use novacron_protocol::ids::{
    Generation, MigrationId, NodeName, PlanName, ProjectName, RequestId, Revision,
};
use novacron_protocol::migration::MigrationMode;
use novacron_protocol::node::NodeState;
use novacron_protocol::project::Quotas;
use novacron_protocol::usage::{Meter, UsageRecord};
use novacron_transport::Role;
use novacron_transport::token::{SecretHash, TokenId, TokenRecord};
use serde_json::Value;

use super::golden;
use crate::state::audit::{Subject, Words};
use crate::state::command::OpenSession;
use crate::state::event::{Actor, EventRow};
use crate::state::formats::{FIRST, Formats};
use crate::state::ledger::correct::CorrectUsage;
use crate::state::ledger::entry::EntryId;
use crate::state::ledger::hour::Hour;
use crate::state::ledger::rate::{Price, RateCard};
use crate::state::member::MemberFacts;
use crate::state::migration::Step;
use crate::state::network::NetworkOrder;
use crate::state::news::{CONSEQUENCES, News};
use crate::state::node::SessionId;
use crate::state::principal::AccessOrder;
use crate::state::project::ProjectOrder;
use crate::state::refused::RefusedRow;
use crate::state::region::RegionOrder;
use crate::state::snapshot::{SnapshotDeed, SnapshotOrder};
use crate::state::testing::{Scene, facts, member_facts, name, spec};
use crate::state::token::Token;
use crate::state::{Body, Command, Fleet, Origin};

macro_rules! bodies {
    ($($variant:ident),* $(,)?) => {
        /// All commands there are; one that is added has to be added here.
        const BODIES: &[&str] = &[$(stringify!($variant)),*];

        fn word(body: &Body) -> &'static str {
            match body {
                $(Body::$variant { .. } => stringify!($variant),)*
            }
        }
    };
}

bodies!(
    CreateVm,
    PlaceVm,
    StartVm,
    StopVm,
    DestroyVm,
    MigrateVm,
    CancelMigration,
    CreateToken,
    UseToken,
    FoundCluster,
    BeginIncarnation,
    AdmitMember,
    EnterMember,
    RemoveMember,
    OpenSession,
    Reports,
    SetNodeStates,
    ExpireEffects,
    MigrateBatch,
    CancelBatch,
    ChangeSettings,
    DrainNode,
    UndrainNode,
    DrainVm,
    PostUsage,
    SealWindows,
    CorrectUsage,
    SetRate,
    SetPlan,
    Projects,
    Access,
    Annotate,
    Regions,
    NoteRefusals,
    Secrets,
    NoteFormats,
    Snapshots,
    Alerts,
    Networks,
    CreateVmIn,
    TakeBackup,
);

/// A sample of each command, most of them by somebody.
fn samples() -> Vec<Scene> {
    vec![golden::scene(), machines(), cluster(), money(), removals()]
}

fn machines() -> Scene {
    let mut scene = Scene::new();
    let admin = scene.found();
    let waiting = scene.create("waiting");
    for node in ["node-01", "node-02"] {
        scene.join(node, 16);
    }
    scene.apply(Body::PlaceVm { vm: waiting, node: name("node-01") }).unwrap();
    scene.settle_all("node-01");
    scene.ask(&admin, Body::StartVm { vm: waiting }).unwrap();
    scene.settle_all("node-01");
    scene.observe("node-01", waiting, 1, ObservedState::Paused);
    scene.observe("node-01", waiting, 1, ObservedState::Running);
    scene.set_node("node-01", NodeState::Down);
    // The agent comes again, on a host with more memory.
    let open = OpenSession {
        node: name("node-01"),
        session: SessionId(77),
        facts: facts(32),
        machines: vec![crate::state::testing::held(waiting, 1, ObservedState::Running)],
    };
    scene.apply(Body::OpenSession(open)).unwrap();
    let migration = scene.sending(waiting, "node-02");
    scene.ask(&admin, Body::CancelMigration { migration }).unwrap();
    scene.source_ends(migration, novacron_protocol::effect::SourceResult::Cancelled);
    let _ = scene.migrate(waiting, "node-02", MigrationMode::Live).unwrap();
    let batch = scene.id();
    let order = crate::state::command::BatchOrder {
        source: name("node-01"),
        target: name("node-02"),
        labels: Default::default(),
        mode: None,
        options: Default::default(),
        aborts_on_failure: false,
    };
    let other = scene.running("other", "node-01");
    let batch = novacron_protocol::ids::BatchId(batch);
    let items = vec![(other, MigrationId(scene.id()))];
    let asked = crate::state::command::MigrateBatch { batch, order, items };
    scene.ask(&admin, Body::MigrateBatch(asked)).unwrap();
    scene.ask(&admin, Body::CancelBatch { batch }).unwrap();
    scene.ask(&admin, Body::StopVm { vm: other, force: false }).unwrap();
    scene.settle_all("node-01");
    scene.ask(&admin, Body::DestroyVm { vm: other }).unwrap();
    scene.settle_all("node-01");
    let options = Default::default();
    let drain = || Body::DrainNode { node: name("node-01"), options };
    scene.ask(&admin, drain()).unwrap();
    scene.ask(&admin, drain()).unwrap();
    scene.ask(&admin, Body::UndrainNode { node: name("node-01"), cancel: false }).unwrap();
    let body = scene.create_body(spec("late"), Some("node-02"), false);
    scene.ask(&admin, body).unwrap();
    scene.settle_all("node-02");
    let vm = scene.running("moving", "node-02");
    scene.migrate(vm, "node-01", MigrationMode::Live).unwrap();
    scene.set_node("node-01", NodeState::Down);
    scene.now = scene.now.plus_ms(600_000);
    let late = scene.fleet.expired_effects(scene.now);
    scene.apply(Body::ExpireEffects(late)).unwrap();
    scene
}

fn cluster() -> Scene {
    let mut scene = Scene::new();
    let old = Formats { oldest: FIRST, newest: FIRST };
    let member = MemberFacts { formats: old, ..member_facts("c1") };
    let cluster = novacron_protocol::ids::ClusterId(scene.id());
    let operator = "admin".parse().unwrap();
    scene.apply(Body::FoundCluster { cluster, member, operator }).unwrap();
    let admin = crate::state::testing::operator_named("admin");
    for _ in 0..2 {
        // The second one takes the place of the first.
        scene.apply(Body::AdmitMember(MemberFacts { formats: old, ..member_facts("c2") })).unwrap();
    }
    let member = scene.fleet.members().last().unwrap().id;
    scene.apply(Body::EnterMember { member }).unwrap();
    let present = scene.fleet.present_members().map(|member| member.id);
    let said = present.map(|member| (member, Formats::default())).collect();
    scene.apply(Body::NoteFormats(said)).unwrap();
    scene.ask(&admin, Body::RemoveMember { member }).unwrap();
    let record = TokenRecord {
        role: Role::Operator,
        name: None,
        expires_at: scene.now.plus_ms(1000),
        secret_hash: SecretHash([0xAB; 32]),
        used: false,
    };
    let (id, access) = (TokenId([3; 8]), AccessRole::Viewer);
    let token = Token { id, record, used_by: None, access };
    scene.ask(&admin, Body::CreateToken(token)).unwrap();
    let (token, role, name) = (id, Role::Operator, "eve".parse().unwrap());
    scene.apply(Body::UseToken { token, role, name }).unwrap();
    scene.ask(&admin, Body::TakeBackup).unwrap();
    let row = RefusedRow {
        shown: "nobody".to_owned(),
        address: None,
        operation: "listVms".to_owned(),
        code: novacron_protocol::api::Code::NotAuthenticated,
        count: 1,
        first_at: scene.now,
        last_at: scene.now,
    };
    scene.apply(Body::NoteRefusals { rows: vec![row] }).unwrap();
    scene.restore("c9");
    scene
}

fn money() -> Scene {
    let mut scene = Scene::new();
    let begin = Hour(497_000);
    scene.now = begin.begin();
    let admin = scene.found();
    scene.join("node-01", 16);
    let vm = scene.running("web", "node-01");
    scene.now = scene.now.plus_ms(600_000);
    let record = UsageRecord {
        vm,
        generation: Generation(1),
        meter: Meter::VmSeconds,
        start_s: begin.begin_s(),
        end_s: begin.begin_s() + 60,
        level: 1,
    };
    scene.apply(Body::PostUsage { node: name("node-01"), records: vec![record] }).unwrap();
    let correction = CorrectUsage {
        entry: EntryId { window: begin, index: 1 },
        quantity: 30,
        reason: "a test".to_owned(),
        actor: "admin".to_owned(),
        original: None,
    };
    scene.ask(&admin, Body::CorrectUsage(correction)).unwrap();
    let plan: PlanName = "own".parse().unwrap();
    for price in [7, 8] {
        let prices = [Price::each(price); 5];
        let card = RateCard { plan: plan.clone(), valid_from: begin.next(), vms_max: None, prices };
        scene.ask(&admin, Body::SetRate(card)).unwrap();
    }
    let (project, from) = (ProjectName::default(), begin.next());
    scene.ask(&admin, Body::SetPlan { project, plan, from }).unwrap();
    scene.now = begin.begin().plus_ms(3 * 3_600_000);
    let through = scene.fleet.window_due(scene.now).unwrap();
    scene.apply(Body::SealWindows { through }).unwrap();
    scene
}

/// Everything of the golden scene that can be removed.
fn removals() -> Scene {
    let mut scene = golden::scene();
    let project = scene.make_project("gone", Quotas::default());
    let disks = scene.fleet.find_vm("disks").unwrap().id;
    for snapshot in ["one", "two"] {
        let node = scene.vm(disks).node.clone().unwrap();
        scene.settle_all(node.as_str());
        let (name, deed) = (snapshot.parse().unwrap(), SnapshotDeed::Delete);
        let _ = scene.apply(Body::Snapshots(SnapshotOrder { vm: disks, name, deed }));
    }
    let binding = scene.fleet.bindings_after(None).last().unwrap().id;
    let key = scene.fleet.api_keys_after(None).next().unwrap().id;
    let region = "us".parse().unwrap();
    for body in [
        Body::Access(AccessOrder::RevokeKey { key }),
        Body::Access(AccessOrder::Unbind { binding }),
        Body::Access(AccessOrder::DeletePrincipal { name: "alice".parse().unwrap() }),
        Body::Regions(RegionOrder::Assign { node: name("node-01"), region: None }),
        Body::Regions(RegionOrder::Create {
            region: "fr".parse().unwrap(),
            name: String::new(),
            certifications: BTreeSet::new(),
            rules: Default::default(),
        }),
        Body::Regions(RegionOrder::Delete { region: "fr".parse().unwrap() }),
        Body::Networks(NetworkOrder::Create {
            network: "own".parse().unwrap(),
            description: String::new(),
            bridge: "br7".to_owned(),
            users: novacron_protocol::network::NetworkUsers::Projects(BTreeSet::from([
                project.clone()
            ])),
            regions: BTreeSet::from([region]),
        }),
        Body::Projects(ProjectOrder::SetBudget {
            project: project.clone(),
            micro_dollars_per_month: Some(7),
        }),
        Body::Projects(ProjectOrder::SetBudget {
            project: project.clone(),
            micro_dollars_per_month: None,
        }),
        Body::Projects(ProjectOrder::Delete { project }),
        Body::Networks(NetworkOrder::Delete { network: "own".parse().unwrap() }),
    ] {
        scene.apply(body).unwrap();
    }
    scene
}

/// What of a fleet may not change unheard, by what the audit log calls it.
fn matters(fleet: &Fleet) -> BTreeMap<Words, String> {
    let mut all = BTreeMap::new();
    let mut note = |subject: Subject, text: String| drop(all.insert(subject.words(), text));
    for vm in fleet.vms() {
        note(Subject::Vm(vm.id), format!("{:?} {:?}", vm.state(), vm.node));
    }
    for node in fleet.nodes() {
        let text = format!("{:?} {:?} {:?}", node.state, node.region, node.facts);
        note(Subject::Node(node.name.clone()), text);
    }
    for drain in fleet.drains() {
        note(Subject::Drain(drain.node.clone()), drained(fleet, &drain.node));
    }
    for migration in fleet.migrations() {
        let is_cancelling = matches!(migration.step, Step::Sending { cancel: Some(_), .. });
        let text = format!("{:?} {:?} {is_cancelling}", migration.status(), migration.phase);
        note(Subject::Migration(migration.id), text);
    }
    for batch in fleet.batches() {
        note(Subject::Batch(batch.id), format!("{:?} {:?}", batch.stopped, batch.ended_at));
    }
    for member in fleet.members() {
        note(Subject::Member(member.id), format!("{} {:?}", member.facts.name, member.part));
    }
    for snapshot in fleet.snapshots.values() {
        let subject = Subject::Snapshot(snapshot.vm, snapshot.name.clone());
        note(subject, format!("{:?}", snapshot.state()));
    }
    for alert in fleet.alerts.values() {
        let text = format!("{:?} {:?}", alert.stage.state(), alert.severity);
        note(Subject::Alert(alert.id), text);
    }
    note(Subject::Cluster, format!("{:?} {:?}", fleet.formats(), fleet.incarnation()));
    for subject in whole(fleet) {
        let text = fleet.describe(&subject).map(|text| without_times(text.get()));
        note(subject, text.unwrap_or_default());
    }
    all
}

/// Of what every field matters, but for times and revisions.
fn whole(fleet: &Fleet) -> Vec<Subject> {
    let mut all = vec![Subject::Settings, Subject::SecretKeys];
    all.extend(fleet.tokens.iter().map(|(id, _)| Subject::Token(*id)));
    all.extend(fleet.projects.iter().map(|(name, _)| Subject::Project(name.clone())));
    all.extend(fleet.principals.iter().map(|(name, _)| Subject::Principal(name.clone())));
    all.extend(fleet.bindings.iter().map(|(id, _)| Subject::Binding(*id)));
    all.extend(fleet.api_keys.iter().map(|(id, _)| Subject::ApiKey(*id)));
    all.extend(fleet.ledger_corrected.iter().map(|(id, _)| Subject::LedgerEntry(*id)));
    all.extend(fleet.ledger_rates.iter().map(|(key, _)| Subject::Rate(key.clone())));
    all.extend(fleet.ledger_plans.iter().map(|(name, _)| Subject::Plan(name.clone())));
    all.extend(fleet.regions.iter().map(|(code, _)| Subject::Region(code.clone())));
    all.extend(fleet.secrets.iter().map(|(place, _)| Subject::Secret(place.clone())));
    all.extend(fleet.budgets.iter().map(|(name, _)| Subject::Budget(name.clone())));
    all.extend(fleet.networks.iter().map(|(name, _)| Subject::Network(name.clone())));
    all
}

fn drained(fleet: &Fleet, node: &NodeName) -> String {
    let options = fleet.drain(node).map(|drain| drain.options);
    format!("{:?} {options:?}", fleet.scheduling(node))
}

fn without_times(text: &str) -> String {
    let mut value: Value = serde_json::from_str(text).unwrap();
    if let Some(fields) = value.as_object_mut() {
        // Latencies are in the audit log: see `Fleet::change_region`.
        for name in ["created_at", "updated_at", "revision", "latencies_ms"] {
            fields.remove(name);
        }
    }
    value.to_string()
}

/// What was applied, with the events that it made.
struct Applied<'a> {
    command: &'a Command,
    events: Vec<&'a EventRow>,
}

impl Applied<'_> {
    /// What is not as it must be, in words.
    fn faults(&self) -> Vec<String> {
        let Command { origin, body, .. } = self.command;
        let own = match body.news() {
            News::Told(kinds) => kinds,
            News::Untold(_) => &[],
        };
        let mut faults = Vec::new();
        for (number, event) in self.events.iter().enumerate() {
            if !own.contains(&event.kind) && !CONSEQUENCES.contains(&event.kind) {
                faults.push(format!("{} is not said to tell {:?}", word(body), event.kind));
            }
            if event.sequence as usize != number {
                faults.push(format!("{}: {event:?} is not number {number}", word(body)));
            }
            let is_right = match (&event.actor, body) {
                (Actor::Agent(node), Body::OpenSession(open)) => *node == open.node,
                (Actor::Agent(node), Body::Reports(all)) => all.iter().any(|one| one.node == *node),
                (Actor::Certificate(by), _) => origin.asker().is_some_and(|one| one.name == *by),
                (Actor::ApiKey(_) | Actor::Agent(_), _) => false,
                (Actor::Cluster, _) => {
                    *origin == Origin::Cluster || CONSEQUENCES.contains(&event.kind)
                }
            };
            if !is_right {
                faults.push(format!("{}: {event:?} is not by {origin:?}", word(body)));
            }
        }
        faults
    }

    /// Events that do not name one of the records that the command has, if it has any.
    fn without_record(&self, before: u64, after: u64) -> Vec<String> {
        let is_wrong = |event: &&&EventRow| match event.audit {
            Some(number) => !(before + 1..=after).contains(&number.0),
            None => after > before,
        };
        let wrong = self.events.iter().filter(is_wrong);
        let said = |event: &&EventRow| {
            format!("{}: {event:?} names no record of {before}..={after}", word(&self.command.body))
        };
        wrong.map(said).collect()
    }

    /// What changed, and no event is about it.
    fn unheard(
        &self,
        before: &BTreeMap<Words, String>,
        after: &BTreeMap<Words, String>,
    ) -> Vec<String> {
        let body = &self.command.body;
        let told: BTreeSet<Words> = self.events.iter().map(|event| object(event)).collect();
        // A restore changes much, and one event tells.
        let is_restore = matches!(body, Body::BeginIncarnation(_));
        let changed = after.iter().filter(|(what, text)| before.get(*what) != Some(*text));
        let unheard = changed.filter(|(what, _)| !is_restore && !told.contains(*what));
        let mut faults: Vec<String> = unheard
            .map(|(what, text)| format!("{}: {what:?} is {text}, and nobody is told", word(body)))
            .collect();
        // What goes with something else is not told apart.
        if let Some(gone) = before.keys().find(|what| !after.contains_key(*what))
            && self.events.is_empty()
        {
            faults.push(format!("{}: {gone:?} is gone, and nobody is told", word(body)));
        }
        faults
    }
}

fn object(event: &EventRow) -> Words {
    let object = event.shown().object;
    (Box::leak(object.kind.into_boxed_str()), object.id)
}

#[test]
fn every_change_is_told_with_who_caused_it() {
    let (mut seen, mut faults) = (BTreeSet::new(), Vec::new());
    for scene in samples() {
        let mut fleet = Fleet::default();
        let mut before = matters(&fleet);
        for (revision, command) in &scene.log {
            let records = fleet.audit_head().number.0;
            fleet.apply(*revision, command).ok();
            let behind = Revision(revision.0 - 1);
            let applied = Applied { command, events: fleet.events_after(behind, None).collect() };
            let after = matters(&fleet);
            faults.extend(applied.faults());
            faults.extend(applied.without_record(records, fleet.audit_head().number.0));
            faults.extend(applied.unheard(&before, &after));
            if !applied.events.is_empty() || matches!(command.body.news(), News::Untold(_)) {
                seen.insert(word(&command.body));
            }
            before = after;
        }
    }
    assert!(faults.is_empty(), "{}", faults.join("\n"));
    let missing: Vec<_> = BODIES.iter().filter(|body| !seen.contains(*body)).collect();
    assert!(missing.is_empty(), "no sample of {missing:?} told anything");
}

/// What a person or a program is told must not have what nobody may know.
#[test]
fn no_secret_is_told() {
    for scene in samples() {
        for event in scene.fleet.events_after(Revision(0), None) {
            let text = serde_json::to_string(&event.shown()).unwrap();
            for secret in ["secret_hash", "sealed", "171,171", "7,7,7"] {
                assert!(!text.contains(secret), "{text}");
            }
        }
    }
}

/// A request that comes again changes nothing, and nothing is told.
#[test]
fn a_repetition_is_not_told() {
    let mut scene = Scene::new();
    let request = RequestId(scene.id());
    let change = novacron_protocol::api::SettingsChange { migrations_per_node: Some(9) };
    for _ in 0..2 {
        scene.apply_as(request, Body::ChangeSettings(change)).unwrap();
    }
    assert_eq!(scene.fleet.events_after(Revision(0), None).count(), 1);
}
