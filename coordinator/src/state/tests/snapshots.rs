//! Snapshots: what can be asked when, what comes of the node's answers, and what does not move or go while it is needed.

use novacron_protocol::api::{Code, SnapshotState};
use novacron_protocol::effect::{Action, EffectOutcome, SourceResult};
use novacron_protocol::ids::{ProjectName, SnapshotId, SnapshotName, VmId};
use novacron_protocol::limits::SNAPSHOTS_PER_VM_MAX;
use novacron_protocol::migration::{MigrationMode, MigrationOptions};
use novacron_protocol::node::NodeState;
use novacron_protocol::project::Quota;
use novacron_protocol::vm::{DiskFormat, VmState};

use crate::planner::{Rooms, Standing};
use crate::state::project::{ProjectEdit, ProjectOrder};
use crate::state::snapshot::{Snapshot, SnapshotDeed, SnapshotOrder};
use crate::state::testing::{Scene, failed, name, spec_in};
use crate::state::{Accepted, Body, Refusal, Reply};

fn called(text: &str) -> SnapshotName {
    text.parse().unwrap()
}

fn order(scene: &mut Scene, vm: VmId, text: &str, deed: SnapshotDeed) -> Reply {
    scene.apply(Body::Snapshots(SnapshotOrder { vm, name: called(text), deed }))
}

fn create(scene: &mut Scene, vm: VmId, text: &str) -> Reply {
    let id = SnapshotId(scene.id());
    order(scene, vm, text, SnapshotDeed::Create(id))
}

/// Takes a snapshot, which the node does.
fn take(scene: &mut Scene, vm: VmId, text: &str) {
    create(scene, vm, text).unwrap();
    scene.settle_all("node-01");
}

fn delete(scene: &mut Scene, vm: VmId, text: &str) -> Reply {
    order(scene, vm, text, SnapshotDeed::Delete)
}

fn restore(scene: &mut Scene, vm: VmId, text: &str) -> Reply {
    order(scene, vm, text, SnapshotDeed::Restore)
}

fn snapshot<'a>(scene: &'a Scene, vm: VmId, text: &str) -> &'a Snapshot {
    scene.fleet.snapshot_named(vm, &called(text)).unwrap()
}

fn parent(scene: &Scene, vm: VmId, text: &str) -> Option<String> {
    let parent = scene.fleet.snapshot(snapshot(scene, vm, text).parent?).unwrap();
    Some(parent.name.to_string())
}

/// A machine with a qcow2 disk that runs on `node-01`; `node-02` is there, too.
fn scene() -> (Scene, VmId) {
    let mut scene = Scene::new();
    scene.join("node-01", 16);
    scene.join("node-02", 16);
    let vm = running(&mut scene, "web");
    (scene, vm)
}

fn running(scene: &mut Scene, vm: &str) -> VmId {
    let mut spec = spec_in(&ProjectName::default(), vm);
    spec.disks[0].format = DiskFormat::Qcow2;
    let body = scene.create_body(spec, Some("node-01"), true);
    let Ok(Accepted::Vm(vm)) = scene.apply(body) else { panic!("refused") };
    scene.settle_all("node-01");
    scene.settle_all("node-01");
    assert_eq!(scene.state(vm), VmState::Running);
    vm
}

fn stop(scene: &mut Scene, vm: VmId) {
    scene.apply(Body::StopVm { vm, force: true }).unwrap();
    scene.settle_all("node-01");
}

#[test]
fn a_snapshot_is_ready_when_its_node_has_it_and_gone_when_nothing_of_it_is_left() {
    let (mut scene, vm) = scene();
    create(&mut scene, vm, "one").unwrap();
    assert_eq!(snapshot(&scene, vm, "one").state(), SnapshotState::Creating);
    let effect = scene.effect("node-01", |action| matches!(action, Action::TakeSnapshot { .. }));
    scene.settle("node-01", &effect, EffectOutcome::Done);
    let row = snapshot(&scene, vm, "one");
    assert_eq!((row.state(), row.is_current), (SnapshotState::Ready, true));
    delete(&mut scene, vm, "one").unwrap();
    assert_eq!(snapshot(&scene, vm, "one").state(), SnapshotState::Deleting);
    let effects = scene.fleet.outbox_after(Default::default()).count();
    assert_eq!(
        delete(&mut scene, vm, "one"),
        Ok(Accepted::Snapshot(snapshot(&scene, vm, "one").id))
    );
    assert_eq!(scene.fleet.outbox_after(Default::default()).count(), effects, "once is enough");
    scene.settle_all("node-01");
    assert!(scene.fleet.snapshot_named(vm, &called("one")).is_none());
    let gone = delete(&mut scene, vm, "one").unwrap_err();
    assert_eq!(gone, Refusal::NoSuchSnapshot { vm, name: called("one") });
}

#[test]
fn a_chain_has_parents_and_what_a_child_needs_stays() {
    let (mut scene, vm) = scene();
    for text in ["one", "two"] {
        take(&mut scene, vm, text);
    }
    stop(&mut scene, vm);
    restore(&mut scene, vm, "one").unwrap();
    scene.settle_all("node-01");
    assert!(snapshot(&scene, vm, "one").is_current && !snapshot(&scene, vm, "two").is_current);
    take(&mut scene, vm, "three");
    let parents = ["one", "two", "three"].map(|text| parent(&scene, vm, text));
    assert_eq!(parents, [None, Some("one".to_owned()), Some("one".to_owned())]);
    let refusal = delete(&mut scene, vm, "one").unwrap_err();
    assert_eq!(refusal.code(), Code::SnapshotNeeded);
    let words = "snapshot `one` is what snapshot `two` was made on: delete `two` first";
    assert_eq!(refusal.to_string(), words);
    for text in ["two", "three"] {
        delete(&mut scene, vm, text).unwrap();
        scene.settle_all("node-01");
    }
    // What the machine stands on is deleted: it stands on what that was made on.
    assert!(snapshot(&scene, vm, "one").is_current);
    delete(&mut scene, vm, "one").unwrap();
    scene.settle_all("node-01");
    take(&mut scene, vm, "four");
    assert_eq!(parent(&scene, vm, "four"), None);
}

#[test]
fn a_running_machine_is_not_restored_and_one_that_is_being_restored_not_started() {
    let (mut scene, vm) = scene();
    take(&mut scene, vm, "one");
    let refusal = restore(&mut scene, vm, "one").unwrap_err();
    let words = "machine `web` is running: cannot restore it; stop it first";
    assert_eq!((refusal.code(), refusal.to_string().as_str()), (Code::Conflict, words));
    stop(&mut scene, vm);
    restore(&mut scene, vm, "one").unwrap();
    let refusal = scene.apply(Body::StartVm { vm }).unwrap_err();
    assert!(refusal.to_string().ends_with("it is being restored: wait until that is done"));
    for again in [restore(&mut scene, vm, "one"), create(&mut scene, vm, "two")] {
        let words = again.unwrap_err().to_string();
        assert!(words.contains("snapshot `one` of machine `web` is being restored"), "{words}");
    }
    scene.settle_all("node-01");
    scene.apply(Body::StartVm { vm }).unwrap();
}

#[test]
fn what_a_node_could_not_do_is_said_and_can_be_tried_again() {
    let (mut scene, vm) = scene();
    create(&mut scene, vm, "one").unwrap();
    let effect = scene.effects("node-01").pop().unwrap();
    scene.settle("node-01", &effect, failed("no room"));
    let row = snapshot(&scene, vm, "one");
    assert_eq!((row.state(), row.reason.as_str()), (SnapshotState::Failed, "no room"));
    stop(&mut scene, vm);
    assert_eq!(restore(&mut scene, vm, "one").unwrap_err().code(), Code::Conflict);
    // The node may have it all the same: it is told to remove it.
    delete(&mut scene, vm, "one").unwrap();
    scene.settle_all("node-01");
    take(&mut scene, vm, "two");
    // What was begun to be deleted may be gone from some disks.
    let fails = [
        (SnapshotDeed::Restore, SnapshotState::Ready),
        (SnapshotDeed::Delete, SnapshotState::Failed),
        (SnapshotDeed::Delete, SnapshotState::Failed),
    ];
    for (deed, state) in fails {
        order(&mut scene, vm, "two", deed).unwrap();
        let effect = scene.effects("node-01").pop().unwrap();
        scene.settle("node-01", &effect, failed("a test"));
        let row = snapshot(&scene, vm, "two");
        assert_eq!((row.state(), row.reason.as_str()), (state, "a test"));
    }
    assert_eq!(restore(&mut scene, vm, "two").unwrap_err().code(), Code::Conflict);
    delete(&mut scene, vm, "two").unwrap();
    scene.settle_all("node-01");
}

#[test]
fn a_machine_with_snapshots_does_not_move_and_says_what_to_do() {
    let (mut scene, vm) = scene();
    create(&mut scene, vm, "one").unwrap();
    let refusal = scene.migrate(vm, "node-02", MigrationMode::Live).unwrap_err();
    assert_eq!(refusal.code(), Code::HasSnapshots);
    let words = "machine `web` has 1 snapshots, which cannot move with it: delete them first";
    assert_eq!(refusal.to_string(), words);
    scene.settle_all("node-01");
    let (node, options) = (name("node-01"), MigrationOptions::default());
    scene.apply(Body::DrainNode { node: node.clone(), options }).unwrap();
    let drain = scene.fleet.drain(&node).unwrap();
    let standing = Rooms::of(&scene.fleet).standings(drain, scene.now).next().unwrap().1;
    assert_eq!(standing, Standing::Blocked { reason: words.to_owned() });
    delete(&mut scene, vm, "one").unwrap();
    scene.settle_all("node-01");
    scene.migrate(vm, "node-02", MigrationMode::Live).unwrap();
    // And one that is to move takes none.
    assert_eq!(create(&mut scene, vm, "two").unwrap_err().code(), Code::Conflict);
}

#[test]
fn what_cannot_have_a_snapshot_is_told_why() {
    let (mut scene, vm) = scene();
    take(&mut scene, vm, "one");
    let taken = create(&mut scene, vm, "one").unwrap_err();
    assert_eq!((taken.code(), taken.field()), (Code::NameTaken, Some("name")));
    let raw = scene.running("raw", "node-01");
    let refusal = create(&mut scene, raw, "one").unwrap_err();
    assert!(refusal.to_string().contains("qcow2 disks only"), "{refusal}");
    scene.set_node("node-01", NodeState::Down);
    let refusal = create(&mut scene, vm, "two").unwrap_err();
    assert!(refusal.to_string().ends_with("wait until its node is back"), "{refusal}");
    scene.set_node("node-01", NodeState::Ready);
    for number in 1..SNAPSHOTS_PER_VM_MAX {
        take(&mut scene, vm, &format!("s{number}"));
    }
    assert_eq!(create(&mut scene, vm, "more").unwrap_err().code(), Code::NoCapacity);
    assert_eq!(scene.fleet.project_usage(&ProjectName::default()).snapshots, 32);
}

#[test]
fn snapshots_count_against_their_projects_quota() {
    let (mut scene, vm) = scene();
    let project = ProjectName::default();
    let edit = ProjectEdit { quotas: vec![(Quota::Snapshots, Some(1))], ..ProjectEdit::default() };
    scene.apply(Body::Projects(ProjectOrder::Change { project, edit })).unwrap();
    take(&mut scene, vm, "one");
    let refusal = create(&mut scene, vm, "two").unwrap_err();
    let words = "quota `snapshots` of project `default`: 1 needed, 1 of 1 used, 0 left";
    assert_eq!((refusal.code(), refusal.to_string().as_str()), (Code::QuotaExceeded, words));
    delete(&mut scene, vm, "one").unwrap();
    scene.settle_all("node-01");
    create(&mut scene, vm, "two").unwrap();
}

#[test]
fn snapshots_go_with_their_machine() {
    let (mut scene, vm) = scene();
    take(&mut scene, vm, "one");
    create(&mut scene, vm, "two").unwrap();
    scene.apply(Body::DestroyVm { vm }).unwrap();
    scene.settle_all("node-01");
    assert_eq!(scene.state(vm), VmState::Deleted);
    assert_eq!(scene.fleet.snapshots_of(vm).count(), 0);
    assert_eq!(scene.fleet.project_usage(&ProjectName::default()).snapshots, 0);
    assert_eq!(scene.effects("node-01"), []);
}

#[test]
fn a_machine_that_was_handed_over_after_all_has_lost_its_snapshots() {
    let (mut scene, vm) = scene();
    let migration = scene.sending(vm, "node-02");
    scene.source_ends(migration, SourceResult::Failed { reason: "a test".to_owned() });
    take(&mut scene, vm, "one");
    create(&mut scene, vm, "two").unwrap();
    scene.hand_over("node-02", migration);
    assert_eq!(scene.vm(vm).node, Some(name("node-02")));
    for text in ["one", "two"] {
        let row = snapshot(&scene, vm, text);
        assert_eq!((row.state(), row.is_current), (SnapshotState::Failed, false));
        assert_eq!(row.reason, "the machine was handed over without it");
    }
    let orders = scene.effects("node-01");
    assert!(!orders.iter().any(|effect| matches!(effect.action, Action::TakeSnapshot { .. })));
    delete(&mut scene, vm, "two").unwrap();
    scene.settle_all("node-02");
    assert_eq!(scene.fleet.snapshots_of(vm).count(), 1);
}

#[test]
fn a_lost_machine_has_lost_its_snapshots_and_they_can_be_deleted() {
    let (mut scene, vm) = scene();
    take(&mut scene, vm, "one");
    scene.join("node-01", 16);
    assert_eq!(scene.state(vm), VmState::Failed);
    assert_eq!(snapshot(&scene, vm, "one").state(), SnapshotState::Failed);
    delete(&mut scene, vm, "one").unwrap();
    let effect = scene.effects("node-01").pop().unwrap();
    scene.settle("node-01", &effect, EffectOutcome::Stale { held: None });
    assert_eq!(scene.fleet.snapshots_of(vm).count(), 0);
}
