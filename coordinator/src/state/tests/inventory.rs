use novacron_protocol::effect::{Action, MachineReport, ObservedState, Report, SourceResult};
use novacron_protocol::ids::Generation;
use novacron_protocol::vm::VmState;

use crate::state::Body;
use crate::state::testing::{Scene, account, facts, held, name};

fn scene() -> Scene {
    let mut scene = Scene::new();
    scene.join("node-01", 16);
    scene.join("node-02", 16);
    scene
}

#[test]
fn a_machine_that_is_missing_is_lost() {
    let mut scene = scene();
    let vm = scene.running("web", "node-01");
    scene.hello("node-01", facts(16), vec![]);
    assert_eq!(scene.state(vm), VmState::Failed);
    assert_eq!(scene.vm(vm).reason, "lost: node node-01 came back without it");
}

#[test]
fn a_machine_that_is_being_made_or_has_perhaps_left_is_not_lost() {
    let mut scene = scene();
    let moving = scene.running("moving", "node-01");
    let migration = scene.sending(moving, "node-02");
    let body = scene.create_body(crate::state::testing::spec("made"), Some("node-01"), false);
    let Ok(crate::state::Accepted::Vm(made)) = scene.apply(body) else { panic!("refused") };
    scene.hello("node-01", facts(16), vec![]);
    assert_eq!(scene.state(made), VmState::Creating);
    assert_eq!(scene.state(moving), VmState::Migrating);
    scene.source_ends(migration, SourceResult::Completed(account()));
    assert_eq!(scene.vm(moving).node, Some(name("node-02")));
}

#[test]
fn an_old_copy_is_destroyed_once_the_new_one_is_known_to_be_accepted() {
    let mut scene = scene();
    let vm = scene.running("web", "node-01");
    let migration = scene.sending(vm, "node-02");
    scene.hand_over("node-02", migration);
    scene.hello("node-01", facts(16), vec![held(vm, 1, ObservedState::Paused)]);
    assert!(
        scene.effects("node-01").iter().all(|effect| effect.action != Action::Destroy),
        "the source clears up by itself until it has said how it ended"
    );
    scene.source_ends(migration, SourceResult::Completed(account()));
    for _ in 0..2 {
        scene.hello("node-01", facts(16), vec![held(vm, 1, ObservedState::Paused)]);
    }
    let orders = scene.effects("node-01");
    assert_eq!(orders.len(), 1, "ordered once");
    assert_eq!((&orders[0].action, orders[0].generation), (&Action::Destroy, Generation(1)));
    scene.settle_all("node-01");
    assert_eq!(scene.state(vm), VmState::Running, "the machine itself is at the target");
}

#[test]
fn a_machine_that_fails_while_it_moves_keeps_its_reason() {
    let mut scene = scene();
    let vm = scene.running("web", "node-01");
    let migration = scene.sending(vm, "node-02");
    let reason = "QEMU ended by itself (signal: 11 (SIGSEGV)): it left no word".to_owned();
    let report = MachineReport { reason: reason.clone(), ..held(vm, 1, ObservedState::Failed) };
    scene.report("node-01", vec![Report::Machine(report)]).unwrap();
    assert_eq!(scene.state(vm), VmState::Migrating);
    let why = "disk 0 failed on its way".to_owned();
    scene.source_ends(migration, SourceResult::Failed { reason: why });
    assert_eq!(scene.state(vm), VmState::Failed);
    assert_eq!(scene.vm(vm).reason, reason);

    scene.apply(Body::StartVm { vm }).unwrap();
    assert_eq!(scene.vm(vm).reason, "", "it is another attempt");
    scene.settle_all("node-01");
    assert_eq!(scene.vm(vm).reason, "");
}

#[test]
fn copies_that_may_be_the_only_ones_stay() {
    let mut scene = scene();
    let vm = scene.running("web", "node-01");
    let unknown = novacron_protocol::ids::VmId(scene.id());
    let reports =
        vec![held(vm, 2, ObservedState::Running), held(unknown, 1, ObservedState::Running)];
    scene.hello("node-02", facts(16), reports);
    assert!(scene.effects("node-02").is_empty());
}

#[test]
fn copies_of_deleted_machines_are_destroyed() {
    let mut scene = scene();
    let vm = scene.running("web", "node-01");
    scene.apply(Body::DestroyVm { vm }).unwrap();
    scene.settle_all("node-01");
    scene.hello("node-01", facts(16), vec![held(vm, 1, ObservedState::Stopped)]);
    assert_eq!(scene.effects("node-01").len(), 1);
    scene.settle_all("node-01");
    assert_eq!(scene.state(vm), VmState::Deleted);
}
