//! Formats are promises: what is in the log, in tables and in snapshots must stay readable. If a test here fails,
//! the layout of something that is stored has changed: raise its version and read the old one too.

use std::collections::BTreeSet;

use novacron_protocol::access::{AccessRole, BindingEffect, Scope};
use novacron_protocol::alert::{AlertKey, AlertKind, AlertObject, Condition};
use novacron_protocol::api::{PrincipalState, SettingsChange, Severity};
use novacron_protocol::effect::{Report, SourceResult};
use novacron_protocol::ids::{
    AlertId, ApiKeyId, BatchId, MemberId, MigrationId, ProjectName, RegionCode, SnapshotId,
};
use novacron_protocol::migration::{MigrationMode, MigrationOptions, MigrationPhase};
use novacron_protocol::network::NetworkUsers;
use novacron_protocol::project::{ProjectState, Quota, Quotas};
use novacron_protocol::region::{RegionStatus, Residency, ResidencyRules};
use novacron_protocol::vm::{DiskFormat, Labels};
use novacron_protocol::wire::codec;
use novacron_transport::token::SecretHash;
use uuid::Uuid;
use xxhash_rust::xxh3::xxh3_64;

use crate::state::alert::{AlertOrder, Observed, Raise};
use crate::state::api_key::ApiKey;
use crate::state::binding::Right;
use crate::state::command::{BatchOrder, MigrateBatch};
use crate::state::formats::Formats;
use crate::state::network::{NetworkEdit, NetworkOrder};
use crate::state::principal::AccessOrder;
use crate::state::project::{ProjectEdit, ProjectOrder};
use crate::state::region::{RegionEdit, RegionOrder};
use crate::state::secret::keys::SecretKeyId;
use crate::state::secret::{SealedValue, SecretOrder, SecretPlace};
use crate::state::snapshot::{SnapshotDeed, SnapshotOrder};
use crate::state::table::{Row, TableName};
use crate::state::testing::{Scene, account, name, progress, spec_in};
use crate::state::{Accepted, Body, Fleet};

/// Something of every table, by commands of every kind that makes rows.
pub(super) fn scene() -> Scene {
    let mut scene = Scene::new();
    scene.join("node-01", 16);
    scene.join("node-02", 16);
    let vm = scene.running("web", "node-01");
    let other = scene.create("other");
    let (key, value) = ("owner".to_owned(), Some("alice".to_owned()));
    scene.apply(Body::Annotate { vm: other, key, value }).unwrap();
    let migration = scene.sending(vm, "node-02");
    let progress = progress(MigrationPhase::DataSync, 50);
    scene.report("node-01", vec![Report::Progress { migration, progress }]).unwrap();
    scene.hand_over("node-02", migration);
    scene.source_ends(migration, SourceResult::Completed(account()));
    let change = SettingsChange { migrations_per_node: Some(5) };
    scene.apply(Body::ChangeSettings(change)).unwrap();
    let batch = MigrateBatch {
        batch: BatchId(scene.id()),
        order: BatchOrder {
            source: name("node-02"),
            target: name("node-01"),
            labels: Labels::from([("app".to_owned(), "web".to_owned())]),
            mode: Some(MigrationMode::Live),
            options: MigrationOptions {
                downtime_limit_ms: Some(50),
                ..MigrationOptions::default()
            },
            aborts_on_failure: true,
        },
        items: vec![(vm, MigrationId(scene.id()))],
    };
    scene.apply(Body::MigrateBatch(batch)).unwrap();
    let options = MigrationOptions { auto_converge: true, ..MigrationOptions::default() };
    scene.apply(Body::DrainNode { node: name("node-02"), options }).unwrap();
    let migration = scene.fleet.open_migrations().next().unwrap().id;
    scene.apply(Body::CancelMigration { migration }).unwrap();
    let (migration, target) = (MigrationId(scene.id()), name("node-01"));
    scene.settle_all("node-01");
    scene.apply(Body::DrainVm { migration, vm, target }).unwrap();
    scene.apply(Body::CancelMigration { migration }).unwrap();
    identities(&mut scene);
    regions(&mut scene);
    secrets(&mut scene);
    formats(&mut scene);
    snapshots(&mut scene);
    alerts(&mut scene);
    networks(&mut scene);
    scene.apply(Body::TakeBackup).unwrap();
    scene
}

/// An alert of each stage, of the cluster's and of clients', and a budget.
fn alerts(scene: &mut Scene) {
    let raise = |scene: &mut Scene, key| {
        let (id, summary) = (AlertId(scene.id()), "it does not work".to_owned());
        Raise { id, key, severity: Severity::Critical, summary }
    };
    let named = |object| AlertKey { kind: AlertKind::Named("slow".parse().unwrap()), object };
    let (vm, migration) = {
        let migration = scene.fleet.migrations().next().unwrap();
        (migration.vm, migration.id)
    };
    let objects = [
        AlertObject::Cluster,
        AlertObject::Member(MemberId(1)),
        AlertObject::Region("eu".parse().unwrap()),
        AlertObject::Node(name("node-01")),
        AlertObject::Project(ProjectName::default()),
        AlertObject::Vm(vm),
        AlertObject::Migration(migration),
    ];
    let all: Vec<Raise> = objects.into_iter().map(|object| raise(scene, named(object))).collect();
    let ids: Vec<AlertId> = all.iter().map(|raise| raise.id).collect();
    let note = || "a note".to_owned();
    let mut orders: Vec<AlertOrder> = all.into_iter().map(AlertOrder::Raise).collect();
    orders.extend([
        AlertOrder::Acknowledge { alert: ids[0], note: note() },
        AlertOrder::Acknowledge { alert: ids[1], note: note() },
        AlertOrder::Unacknowledge { alert: ids[1] },
        AlertOrder::Acknowledge { alert: ids[2], note: note() },
        AlertOrder::Resolve { alert: ids[2], note: note() },
    ]);
    let seen = raise(scene, AlertKey::of(Condition::LedgerLate, AlertObject::Cluster));
    let (over, again) = (vec![(ids[3], note())], raise(scene, named(AlertObject::Cluster)));
    orders.push(AlertOrder::Observe(Observed { raises: vec![seen], over }));
    orders.push(AlertOrder::Raise(again));
    for order in orders {
        scene.apply(Body::Alerts(order)).unwrap();
    }
    let (project, micro_dollars_per_month) = (ProjectName::default(), Some(7));
    let order = ProjectOrder::SetBudget { project, micro_dollars_per_month };
    scene.apply(Body::Projects(order)).unwrap();
}

/// A network with everything and a machine in it, one that is gone, and the machine's rule.
fn networks(scene: &mut Scene) {
    let create = |network: &str| NetworkOrder::Create {
        network: network.parse().unwrap(),
        description: "Desks".to_owned(),
        bridge: "br0".to_owned(),
        users: NetworkUsers::All,
        regions: BTreeSet::from(["eu".parse().unwrap()]),
    };
    let edit = NetworkEdit {
        bridge: Some("br1".to_owned()),
        users: Some(NetworkUsers::Projects(BTreeSet::from(["other".parse().unwrap()]))),
        ..NetworkEdit::default()
    };
    for order in [
        create("office"),
        create("guests"),
        NetworkOrder::Change { network: "office".parse().unwrap(), edit },
        NetworkOrder::Delete { network: "guests".parse().unwrap() },
    ] {
        scene.apply(Body::Networks(order)).unwrap();
    }
    let spec = spec_in(&"other".parse().unwrap(), "desk");
    let body = scene.create_in_body(spec, "office", Some("node-01"));
    scene.apply(body).unwrap();
}

/// What all members understand, as they would say in an upgrade.
fn formats(scene: &mut Scene) {
    let said = scene.fleet.present_members().map(|member| (member.id, Formats::default()));
    let said = said.collect();
    scene.apply(Body::NoteFormats(said)).unwrap();
}

/// A key that turned, and a secret of each kind.
fn secrets(scene: &mut Scene) {
    let (one, two) = (SecretKeyId([1; 8]), SecretKeyId([2; 8]));
    let place =
        |project: Option<ProjectName>| SecretPlace { project, name: "password".parse().unwrap() };
    let value = |key| SealedValue { id: Uuid::from_u128(7), key, sealed: vec![7; 9] };
    for order in [
        SecretOrder::Announce { key: one },
        SecretOrder::Use { key: one },
        SecretOrder::Put { place: place(None), value: value(one), mark: 7 },
        SecretOrder::Turn,
        SecretOrder::Announce { key: two },
        SecretOrder::Use { key: two },
        SecretOrder::Put { place: place(Some(ProjectName::default())), value: value(two), mark: 8 },
        SecretOrder::Reveal { place: place(None) },
        SecretOrder::Reseal(vec![(place(None), value(two))]),
        SecretOrder::Forget { key: one },
        SecretOrder::Delete { place: place(None) },
    ] {
        scene.apply(Body::Secrets(order)).unwrap();
    }
}

/// A snapshot that was restored, and one that is being taken.
fn snapshots(scene: &mut Scene) {
    let mut spec = spec_in(&"other".parse().unwrap(), "disks");
    spec.disks[0].format = DiskFormat::Qcow2;
    let body = scene.create_body(spec, Some("node-01"), false);
    scene.make_project("other", Quotas::default());
    let Ok(Accepted::Vm(vm)) = scene.apply(body) else { panic!("refused") };
    scene.settle_all("node-01");
    let ids = [SnapshotId(scene.id()), SnapshotId(scene.id())];
    let [one, two] = ids.map(SnapshotDeed::Create);
    for (name, deed) in [("one", one), ("one", SnapshotDeed::Restore), ("two", two)] {
        let name = name.parse().unwrap();
        scene.apply(Body::Snapshots(SnapshotOrder { vm, name, deed })).unwrap();
        if deed != two {
            scene.settle_all("node-01");
        }
    }
}

/// A region with everything, a node in it, and a machine against a rule.
fn regions(scene: &mut Scene) {
    let (region, other) = ("eu".parse::<RegionCode>().unwrap(), "us".parse().unwrap());
    for code in [&region, &other] {
        scene
            .apply(Body::Regions(RegionOrder::Create {
                region: code.clone(),
                name: "Here".to_owned(),
                certifications: BTreeSet::from(["ISO-27001".parse().unwrap()]),
                rules: ResidencyRules { may_leave_to: None },
            }))
            .unwrap();
    }
    let rules = ResidencyRules { may_leave_to: Some(BTreeSet::from([other.clone()])) };
    let (rules, status) = (Some(rules), Some(RegionStatus::Active));
    let edit = RegionEdit { name: None, certifications: None, rules, status };
    scene.apply(Body::Regions(RegionOrder::Change { region: region.clone(), edit })).unwrap();
    let (of, edit) = (region.clone(), RegionEdit::default());
    let latencies_ms = [(other.clone(), 90)].into();
    let order = RegionOrder::ChangeWithLatencies { region: of, edit, latencies_ms };
    scene.apply(Body::Regions(order)).unwrap();
    let (node, region) = (name("node-01"), Some(region));
    scene.apply(Body::Regions(RegionOrder::Assign { node, region })).unwrap();
    let certifications = BTreeSet::from(["SOC2".parse().unwrap()]);
    let residency = Some(Residency { regions: BTreeSet::from([other]), certifications });
    let edit = ProjectEdit { residency, ..ProjectEdit::default() };
    let project = ProjectName::default();
    scene.apply(Body::Projects(ProjectOrder::Change { project, edit })).unwrap();
}

/// A founded cluster with a project, principals, bindings of each kind, and an API key.
fn identities(scene: &mut Scene) {
    scene.found();
    let quotas = Quotas { vms: Some(3), disk_bytes: Some(1 << 40), ..Quotas::default() };
    let project = scene.make_project("web", quotas);
    let edit = ProjectEdit {
        state: Some(ProjectState::Suspended),
        quotas: vec![(Quota::Cpus, Some(9)), (Quota::Vms, None)],
        ..ProjectEdit::default()
    };
    let order = ProjectOrder::Change { project: project.clone(), edit };
    scene.apply(Body::Projects(order)).unwrap();
    let asker = scene.operator("alice");
    let (role, denied) =
        (Right::Role(AccessRole::Operator), Right::Permissions("vm.*".parse().unwrap()));
    scene.bind(&asker, role, Scope::Fleet, BindingEffect::Allow).unwrap();
    scene.bind(&asker, denied, Scope::Project(project), BindingEffect::Deny).unwrap();
    let key = ApiKey {
        id: ApiKeyId(scene.id()),
        principal: asker.name.clone(),
        name: "backup".to_owned(),
        secret_hash: SecretHash([7; 32]),
        created_at: scene.now,
        expires_at: scene.now.plus_ms(1000),
    };
    scene.apply(Body::Access(AccessOrder::CreateKey(key))).unwrap();
    let (name, state) = ("alice".parse().unwrap(), Some(PrincipalState::Disabled));
    let order = AccessOrder::ChangePrincipal { name, state, display_name: Some("A".to_owned()) };
    scene.apply(Body::Access(order)).unwrap();
}

#[test]
fn golden_log() {
    let bytes: Vec<u8> =
        scene().log.iter().flat_map(|(_, command)| codec::encode(command).unwrap()).collect();
    assert_eq!((bytes.len(), xxh3_64(&bytes)), (LOG_BYTES, LOG_HASH));
}

#[test]
fn golden_rows() {
    let mut bytes = Vec::new();
    // Events and audit records hold words for people, which may change; their layout is the API's.
    let write = |row: Row| {
        if !matches!(row.table, TableName::Events | TableName::Audit) {
            bytes.extend([&[row.table as u8], &row.key[..], &row.value[..]].concat());
        }
    };
    scene().fleet.visit_rows(write).unwrap();
    assert_eq!((bytes.len(), xxh3_64(&bytes)), (ROWS_BYTES, ROWS_HASH));
}

#[test]
fn golden_snapshot() {
    let bytes = Fleet::default().to_snapshot().unwrap();
    let numbers = [&[0; 8][..], &[0; 8], &[0], &[0; 8], &[0; 8], &3u32.to_le_bytes()].concat();
    let meta = [&numbers[..], &[0; 8], &[0; 32], &[0; 8], &[0; 2]].concat();
    // Name, no display name, active, six quotas that are none, no labels, no rules of residency, two times, a revision.
    let project = [&7u64.to_le_bytes()[..], b"default", &[0; 8 + 4 + 6 + 8 + 16 + 3 * 8]].concat();
    let expected = [
        &b"ncfleet\0"[..],
        &1u32.to_le_bytes(),
        &[0],
        &1u32.to_le_bytes(),
        &[0],
        &(2 + meta.len() as u32).to_le_bytes(),
        &4u16.to_le_bytes(),
        &meta,
        &[20],
        &7u32.to_le_bytes(),
        b"default",
        &(2 + project.len() as u32).to_le_bytes(),
        &2u16.to_le_bytes(),
        &project,
    ];
    assert_eq!(bytes, expected.concat());
}

const LOG_BYTES: usize = 8243;
const LOG_HASH: u64 = 15_560_075_120_987_795_778;
const ROWS_BYTES: usize = 9939;
const ROWS_HASH: u64 = 16_328_115_816_512_315_884;
