use novacron_protocol::api::{Code, DrainMachineStatus, DrainView};
use novacron_protocol::effect::{ObservedState, SourceResult};
use novacron_protocol::ids::{MigrationId, VmId};
use novacron_protocol::migration::{MigrationMode, MigrationOptions};
use novacron_protocol::node::{Accelerator, NodeState, Scheduling};

use crate::outbox::reconcile;
use crate::state::binding::Reach;
use crate::state::drain::FAILURES_MAX;
use crate::state::migration::{Cause, Ending, Step};
use crate::state::testing::{Scene, account, facts, name, spec};
use crate::state::{Body, Fleet, Refusal};
use crate::view::drain::node_view_in_full;

fn scene() -> Scene {
    let mut scene = Scene::new();
    ["node-01", "node-02", "node-03"].iter().for_each(|node| scene.join(node, 64));
    scene
}

fn drain(scene: &mut Scene, node: &str) -> Result<(), Refusal> {
    let options = MigrationOptions { auto_converge: true, ..MigrationOptions::default() };
    scene.apply(Body::DrainNode { node: name(node), options }).map(drop)
}

/// One turn of whoever leads; the migrations that it began.
fn turn(scene: &mut Scene) -> Vec<MigrationId> {
    let mut ids = 900_000 + scene.log.len() as u128 * 1000;
    let new_migration = || {
        ids += 1;
        MigrationId(uuid::Uuid::from_u128(ids))
    };
    let bodies = reconcile::due(&scene.fleet, scene.now, new_migration);
    let begun = bodies.into_iter().filter_map(|body| match &body {
        Body::DrainVm { migration, .. } => {
            let migration = *migration;
            scene.apply(body).ok().map(|_| migration)
        }
        _ => scene.apply(body).ok().and(None),
    });
    begun.collect()
}

fn view(scene: &Scene, node: &str) -> DrainView {
    let row = scene.fleet.node(&name(node)).unwrap();
    node_view_in_full(&scene.fleet, row, &Reach::everywhere()).drain.unwrap()
}

fn counts(scene: &Scene, node: &str) -> [u32; 3] {
    let view = view(scene, node);
    [view.moving, view.waiting, view.blocked]
}

fn finish(scene: &mut Scene, migration: MigrationId, result: SourceResult) {
    let target = scene.migration(migration).target.to_string();
    scene.settle_all(&target);
    scene.source_ends(migration, result);
}

fn moves(scene: &mut Scene, migration: MigrationId) {
    finish(scene, migration, SourceResult::Completed(account()));
}

fn fails(scene: &mut Scene, migration: MigrationId) {
    finish(scene, migration, SourceResult::Failed { reason: "the link broke".to_owned() });
}

fn stopped(scene: &mut Scene, vm: &str, node: &str) -> VmId {
    let body = scene.create_body(spec(vm), Some(node), false);
    scene.apply(body).unwrap();
    scene.settle_all(node);
    scene.fleet.vm_named(&vm.parse().unwrap()).unwrap().id
}

#[test]
fn everything_leaves_as_it_is_a_few_at_a_time_and_then_the_node_is_drained() {
    let mut scene = scene();
    for number in 0..4 {
        scene.running(&format!("vm-{number}"), "node-01");
    }
    let cold = stopped(&mut scene, "stopped", "node-01");
    drain(&mut scene, "node-01").unwrap();
    assert_eq!(counts(&scene, "node-01"), [0, 5, 0]);
    let first = turn(&mut scene);
    assert_eq!(first.len(), 3, "as many as may be at work");
    assert!(turn(&mut scene).is_empty());
    assert_eq!(counts(&scene, "node-01"), [3, 2, 0]);
    let targets: Vec<_> = first.iter().map(|id| scene.migration(*id).target.to_string()).collect();
    assert_eq!(targets, ["node-02", "node-03", "node-02"], "where most is free at each time");
    assert!(first.iter().all(|id| scene.migration(*id).options.auto_converge));
    first.iter().for_each(|id| moves(&mut scene, *id));
    let rest = turn(&mut scene);
    let modes: Vec<_> = rest.iter().map(|id| scene.migration(*id).mode).collect();
    assert_eq!(modes, [MigrationMode::Live, MigrationMode::Cold]);
    assert_eq!(scene.fleet.scheduling(&name("node-01")), Scheduling::Draining);
    rest.iter().for_each(|id| moves(&mut scene, *id));
    assert_eq!(scene.fleet.scheduling(&name("node-01")), Scheduling::Drained);
    assert!(scene.vm(cold).node != Some(name("node-01")));
    assert!(view(&scene, "node-01").drained_at.is_some());
    let events = scene.fleet.events_after(Default::default(), None);
    assert!(events.last().unwrap().message == "node node-01 is drained");
}

#[test]
fn a_node_that_clears_up_is_not_drained_yet() {
    let mut scene = scene();
    scene.running("web", "node-01");
    drain(&mut scene, "node-01").unwrap();
    let migration = turn(&mut scene)[0];
    scene.settle_all("node-02");
    scene.hand_over("node-02", migration);
    assert_eq!(scene.fleet.machines_on(&name("node-01")), 0);
    assert_eq!(scene.fleet.scheduling(&name("node-01")), Scheduling::Draining);
    scene.source_ends(migration, SourceResult::Completed(account()));
    assert_eq!(scene.fleet.scheduling(&name("node-01")), Scheduling::Drained);
}

#[test]
fn a_draining_node_takes_nothing() {
    let mut scene = scene();
    let vm = scene.running("web", "node-01");
    let other = scene.running("other", "node-03");
    let limit = novacron_protocol::api::SettingsChange { migrations_per_node: Some(1) };
    scene.apply(Body::ChangeSettings(limit)).unwrap();
    scene.sending(other, "node-02");
    let queued = scene.migrate(vm, "node-02", MigrationMode::Live).unwrap();
    assert_eq!(scene.migration(queued).step, Step::Queued);
    drain(&mut scene, "node-02").unwrap();
    assert_eq!(scene.migration(queued).step, Step::Ended(Ending::Failed));
    assert_eq!(scene.migration(queued).reason, "node `node-02` is being drained");
    let refused = scene.migrate(vm, "node-02", MigrationMode::Live).unwrap_err();
    assert!(refused.to_string().ends_with("it is being drained"), "{refused}");
    let body = scene.create_body(spec("new"), Some("node-02"), false);
    assert_eq!(scene.apply(body).unwrap_err().code(), Code::NoCapacity);
    let placed = scene.create("anywhere");
    assert_ne!(scene.vm(placed).node, Some(name("node-02")));
}

#[test]
fn a_batch_that_ends_because_its_target_is_drained_ends_once() {
    use crate::state::command::{BatchOrder, MigrateBatch};
    let mut scene = scene();
    let limit = novacron_protocol::api::SettingsChange { migrations_per_node: Some(1) };
    scene.apply(Body::ChangeSettings(limit)).unwrap();
    let vms = [0, 1, 2, 3].map(|number| scene.running(&format!("vm-{number}"), "node-01"));
    let batch = MigrateBatch {
        batch: novacron_protocol::ids::BatchId(scene.id()),
        order: BatchOrder {
            source: name("node-01"),
            target: name("node-02"),
            labels: Default::default(),
            mode: None,
            options: MigrationOptions::default(),
            aborts_on_failure: true,
        },
        items: vms.map(|vm| (vm, MigrationId(scene.id()))).to_vec(),
    };
    scene.apply(Body::MigrateBatch(batch.clone())).unwrap();
    drain(&mut scene, "node-02").unwrap();
    let endings: Vec<_> =
        batch.items.iter().map(|(_, id)| scene.migration(*id).step.clone()).collect();
    use Ending::{Cancelled, Failed};
    // The first was under way: it is given up, too.
    let expected = [Cancelled, Failed, Cancelled, Cancelled].map(Step::Ended);
    assert_eq!(endings, expected);
    assert!(scene.effects("node-02").len() == 1, "it hears of the one that it prepared");
}

#[test]
fn what_cannot_move_says_why_and_moves_when_that_changes() {
    let mut scene = scene();
    for node in ["node-02", "node-03"] {
        let mut other = facts(64);
        other.accelerator = Accelerator::Kvm;
        scene.hello(node, other, Vec::new());
    }
    let vm = scene.running("web", "node-01");
    let mut with_tpm = facts(64);
    with_tpm.has_swtpm = true;
    let held = vec![crate::state::testing::held(vm, 1, ObservedState::Running)];
    scene.hello("node-01", with_tpm, held);
    let mut tpm = spec("tpm");
    tpm.enable_tpm = true;
    let body = scene.create_body(tpm, Some("node-01"), false);
    scene.apply(body).unwrap();
    assert_eq!(counts_of_new(&mut scene), [0, 1, 1], "one is being created");
    scene.settle_all("node-01");
    assert!(turn(&mut scene).is_empty());
    let blocked = view(&scene, "node-01").machines;
    assert!(blocked.iter().all(|machine| machine.status == DrainMachineStatus::Blocked));
    assert!(blocked[0].reason.starts_with("no node fits: node-02: accelerator"), "{blocked:?}");
    assert!(blocked[1].reason.contains("has a TPM"), "{blocked:?}");
    scene.join("node-03", 64);
    let begun = turn(&mut scene);
    assert_eq!(begun.len(), 1);
    assert_eq!(scene.migration(begun[0]).vm, vm);
}

fn counts_of_new(scene: &mut Scene) -> [u32; 3] {
    drain(scene, "node-01").unwrap();
    counts(scene, "node-01")
}

#[test]
fn a_failure_is_tried_again_later_elsewhere_and_not_for_ever() {
    let mut scene = scene();
    scene.running("web", "node-01");
    drain(&mut scene, "node-01").unwrap();
    let mut targets = Vec::new();
    for failure in 1..=FAILURES_MAX {
        let begun = turn(&mut scene);
        targets.push(scene.migration(begun[0]).target.to_string());
        fails(&mut scene, begun[0]);
        scene.settle_all("node-02");
        scene.settle_all("node-03");
        assert!(turn(&mut scene).is_empty(), "not at once");
        let machine = view(&scene, "node-01").machines.remove(0);
        assert!(machine.reason.ends_with("the link broke"), "{machine:?}");
        assert_eq!(machine.retry_at.is_none(), failure == FAILURES_MAX, "{machine:?}");
        scene.now = scene.now.plus_ms(600_000);
    }
    assert!(targets.windows(2).all(|pair| pair[0] != pair[1]), "{targets:?}");
    assert!(turn(&mut scene).is_empty());
    assert_eq!(counts(&scene, "node-01"), [0, 0, 1]);
    drain(&mut scene, "node-01").unwrap();
    assert_eq!(turn(&mut scene).len(), 1, "asked again, it is tried anew");
}

#[test]
fn a_new_leader_goes_on_from_what_is_replicated() {
    let mut scene = scene();
    for number in 0..4 {
        scene.running(&format!("vm-{number}"), "node-01");
    }
    drain(&mut scene, "node-01").unwrap();
    let first = turn(&mut scene);
    fails(&mut scene, first[0]);
    let snapshot = scene.fleet.to_snapshot().unwrap();
    let before = view(&scene, "node-01");
    scene.fleet = Fleet::from_snapshot(&snapshot).unwrap();
    assert_eq!(view(&scene, "node-01"), before);
    assert_eq!(turn(&mut scene).len(), 1, "the fourth; the first waits");
}

#[test]
fn a_target_that_goes_down_before_a_machine_left_is_replaced() {
    let mut scene = scene();
    scene.running("web", "node-01");
    let busy = scene.running("busy", "node-03");
    scene
        .apply(Body::ChangeSettings(novacron_protocol::api::SettingsChange {
            migrations_per_node: Some(1),
        }))
        .unwrap();
    scene.sending(busy, "node-02");
    drain(&mut scene, "node-01").unwrap();
    let queued = turn(&mut scene)[0];
    assert_eq!(scene.migration(queued).step, Step::Queued);
    let target = scene.migration(queued).target.to_string();
    scene.set_node(&target, NodeState::Down);
    assert_eq!(scene.migration(queued).step, Step::Ended(Ending::Failed));
    scene.now = scene.now.plus_ms(5_000);
    let elsewhere = turn(&mut scene)[0];
    assert_ne!(scene.migration(elsewhere).target.to_string(), target);
}

#[test]
fn undraining_begins_nothing_more_and_gives_up_only_what_was_asked_for() {
    for cancel in [false, true] {
        let mut scene = scene();
        let vms = [0, 1, 2].map(|number| scene.running(&format!("vm-{number}"), "node-01"));
        scene
            .apply(Body::ChangeSettings(novacron_protocol::api::SettingsChange {
                migrations_per_node: Some(2),
            }))
            .unwrap();
        let own = scene.sending(vms[0], "node-02");
        drain(&mut scene, "node-01").unwrap();
        let begun = turn(&mut scene);
        assert_eq!(begun.len(), 2);
        scene.settle_all("node-02");
        scene.settle_all("node-03");
        assert_eq!(scene.migration(begun[1]).step, Step::Queued);
        scene.apply(Body::UndrainNode { node: name("node-01"), cancel }).unwrap();
        assert_eq!(scene.migration(begun[1]).step, Step::Ended(Ending::Cancelled));
        let is_asked =
            |id| matches!(scene.migration(id).step, Step::Sending { cancel: Some(_), .. });
        assert_eq!((is_asked(begun[0]), is_asked(own)), (cancel, false));
        assert_eq!(scene.migration(begun[0]).cause, Cause::Drain);
        assert!(turn(&mut scene).is_empty());
        assert_eq!(scene.fleet.scheduling(&name("node-01")), Scheduling::Active);
        let again = scene.apply(Body::UndrainNode { node: name("node-01"), cancel }).unwrap_err();
        assert_eq!(again.to_string(), "node `node-01` is not being drained");
    }
}

#[test]
fn the_last_node_that_could_run_machines_is_not_drained() {
    let mut scene = scene();
    assert_eq!(drain(&mut scene, "node-09").unwrap_err().code(), Code::NotFound);
    drain(&mut scene, "node-01").unwrap();
    assert_eq!(scene.fleet.scheduling(&name("node-01")), Scheduling::Drained, "it had nothing");
    let mut bare = facts(64);
    bare.qemu_version.clear();
    scene.hello("node-02", bare, Vec::new());
    let refused = drain(&mut scene, "node-03").unwrap_err();
    assert_eq!(refused.code(), Code::Conflict);
    assert!(refused.to_string().contains("the last that could run machines"), "{refused}");
    scene.join("node-02", 64);
    drain(&mut scene, "node-03").unwrap();
}
