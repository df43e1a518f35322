use novacron_protocol::api::Code;
use novacron_protocol::effect::{Action, EffectOutcome, ObservedState, Report, SourceResult};
use novacron_protocol::ids::Generation;
use novacron_protocol::migration::{MigrationMode, MigrationPhase, MigrationStatus};
use novacron_protocol::node::NodeState;
use novacron_protocol::vm::VmState;

use crate::state::testing::{Scene, account, facts, failed, held, name, progress};
use crate::state::{Body, Refusal};

fn scene() -> Scene {
    let mut scene = Scene::new();
    scene.join("node-01", 16);
    scene.join("node-02", 16);
    scene
}

fn failed_at_source(reason: &str) -> SourceResult {
    SourceResult::Failed { reason: reason.to_owned() }
}

#[test]
fn a_live_migration_goes_through_its_steps() {
    let mut scene = scene();
    let vm = scene.running("web", "node-01");
    let migration = scene.migrate(vm, "node-02", MigrationMode::Live).unwrap();
    assert_eq!(scene.state(vm), VmState::Migrating);
    assert_eq!(scene.migration(migration).phase, MigrationPhase::Prepare);
    assert!(scene.effects("node-01").is_empty(), "the source is told last");
    let expect = scene.effects("node-02").remove(0);
    assert_eq!(expect.generation, Generation(2));
    scene.settle("node-02", &expect, EffectOutcome::Done);
    let send = scene.effects("node-01").remove(0);
    assert_eq!(send.generation, Generation(1));
    assert!(matches!(send.action, Action::SendMigration { target_generation: Generation(2), .. }));
    scene.hand_over("node-02", migration);
    assert_eq!(scene.state(vm), VmState::Running);
    assert_eq!(scene.vm(vm).node, Some(name("node-02")));
    assert_eq!(scene.vm(vm).generation, Generation(2));
    assert_eq!(scene.migration(migration).status(), MigrationStatus::InProgress);
    scene.source_ends(migration, SourceResult::Completed(account()));
    assert_eq!(scene.migration(migration).status(), MigrationStatus::Completed);
    assert!(scene.effects("node-01").is_empty());
    assert_eq!(scene.fleet.allocation(&name("node-01")).memory_bytes, 0);
}

#[test]
fn the_sources_end_proves_that_the_target_accepted() {
    let mut scene = scene();
    let vm = scene.running("web", "node-01");
    let migration = scene.sending(vm, "node-02");
    scene.source_ends(migration, SourceResult::Completed(account()));
    assert_eq!(scene.migration(migration).status(), MigrationStatus::Completed);
    assert_eq!(scene.vm(vm).node, Some(name("node-02")));
    scene.observe("node-02", vm, 2, ObservedState::Paused);
    scene.hand_over("node-02", migration);
    assert_eq!(scene.state(vm), VmState::Paused, "a late hand-over changes nothing");
}

#[test]
fn a_failure_never_overrides_a_hand_over() {
    let mut scene = scene();
    let vm = scene.running("web", "node-01");
    let migration = scene.sending(vm, "node-02");
    scene.hand_over("node-02", migration);
    scene.source_ends(migration, failed_at_source("the link broke"));
    assert_eq!(scene.vm(vm).node, Some(name("node-02")));
    let row = scene.migration(migration);
    assert_eq!(row.status(), MigrationStatus::Completed);
    assert_eq!(row.reason, "the source reported: the link broke");
}

#[test]
fn a_hand_over_after_a_failure_still_moves_the_machine() {
    let mut scene = scene();
    let vm = scene.running("web", "node-01");
    let migration = scene.sending(vm, "node-02");
    scene.source_ends(migration, failed_at_source("a lie"));
    assert_eq!(scene.state(vm), VmState::Running);
    scene.hand_over("node-02", migration);
    assert_eq!(scene.vm(vm).node, Some(name("node-02")), "the target durably has it");
}

#[test]
fn a_failed_migration_leaves_the_machine_and_tells_the_target() {
    let mut scene = scene();
    let vm = scene.running("web", "node-01");
    let migration = scene.sending(vm, "node-02");
    scene.source_ends(migration, failed_at_source("digests differ"));
    assert_eq!(scene.state(vm), VmState::Running);
    assert_eq!(scene.vm(vm).node, Some(name("node-01")));
    assert_eq!(scene.migration(migration).reason, "digests differ");
    let effects = scene.effects("node-02");
    assert_eq!(effects.len(), 1);
    assert_eq!(effects[0].action, Action::AbandonMigration { migration });
    assert_eq!(effects[0].generation, Generation(2));
    let again = scene.sending(vm, "node-02");
    let promised = scene.migration(again).target_generation;
    assert_eq!(promised, Generation(3), "no generation is promised twice");
}

#[test]
fn the_targets_refusal_ends_it_before_the_source_is_told() {
    let mut scene = scene();
    let vm = scene.running("web", "node-01");
    let migration = scene.migrate(vm, "node-02", MigrationMode::Live).unwrap();
    let expect = scene.effects("node-02").remove(0);
    scene.settle("node-02", &expect, failed("no room on disk"));
    assert_eq!(scene.migration(migration).status(), MigrationStatus::Failed);
    assert_eq!(scene.migration(migration).reason, "no room on disk");
    assert!(scene.effects("node-01").is_empty());
    assert_eq!(scene.state(vm), VmState::Running);
}

#[test]
fn validation_names_the_check_that_fails() {
    let mut scene = scene();
    let vm = scene.running("web", "node-01");
    let mut refused = |target: &str, mode| {
        let refusal = scene.migrate(vm, target, mode).unwrap_err();
        (refusal.code(), refusal.to_string())
    };
    let (code, text) = refused("node-01", MigrationMode::Live);
    assert_eq!(code, Code::InvalidRequest);
    assert_eq!(text, "machine `web` is on node `node-01` already");
    assert_eq!(refused("node-09", MigrationMode::Live).0, Code::NotFound);
    let (code, text) = refused("node-02", MigrationMode::Cold);
    assert_eq!(code, Code::Conflict);
    assert!(text.ends_with("stop it first, or migrate it with `live` or `warm`"), "{text}");
    scene.join("node-03", 1);
    let refusal = scene.migrate(vm, "node-03", MigrationMode::Live).unwrap_err();
    assert_eq!(refusal.code(), Code::NoCapacity);
    scene.apply(Body::StopVm { vm, force: false }).unwrap();
    scene.settle_all("node-01");
    let refusal = scene.migrate(vm, "node-02", MigrationMode::Live).unwrap_err();
    assert!(refusal.to_string().contains("is stopped: cannot live-migrate it"), "{refusal}");
}

#[test]
fn one_migration_per_machine() {
    let mut scene = scene();
    scene.join("node-03", 16);
    let vm = scene.running("web", "node-01");
    scene.sending(vm, "node-02");
    let refusal = scene.migrate(vm, "node-03", MigrationMode::Live).unwrap_err();
    assert_eq!(refusal.code(), Code::Conflict);
    assert_eq!(scene.apply(Body::DestroyVm { vm }).unwrap_err().code(), Code::Conflict);
}

#[test]
fn more_migrations_than_slots_wait_in_order() {
    let mut scene = scene();
    let vms: Vec<_> = (0..5).map(|n| scene.running(&format!("vm-{n}"), "node-01")).collect();
    let migrations: Vec<_> =
        vms.iter().map(|vm| scene.migrate(*vm, "node-02", MigrationMode::Live).unwrap()).collect();
    let status = |scene: &Scene, at: usize| scene.migration(migrations[at]).status();
    assert_eq!(status(&scene, 2), MigrationStatus::InProgress);
    assert_eq!(status(&scene, 3), MigrationStatus::Queued);
    assert_eq!(scene.state(vms[3]), VmState::Running, "it waits and runs");
    scene.apply(Body::CancelMigration { migration: migrations[0] }).unwrap();
    assert_eq!(status(&scene, 0), MigrationStatus::Cancelled);
    assert_eq!(status(&scene, 3), MigrationStatus::InProgress);
    assert_eq!(status(&scene, 4), MigrationStatus::Queued);
    scene.settle_all("node-02");
    scene.hand_over("node-02", migrations[1]);
    assert_eq!(status(&scene, 4), MigrationStatus::InProgress, "a hand-over frees its slots");
}

#[test]
fn cancelling_depends_on_how_far_it_is() {
    let mut scene = scene();
    let vm = scene.running("web", "node-01");
    let prepared = scene.migrate(vm, "node-02", MigrationMode::Live).unwrap();
    scene.apply(Body::CancelMigration { migration: prepared }).unwrap();
    assert_eq!(scene.migration(prepared).status(), MigrationStatus::Cancelled);
    scene.settle_all("node-02");

    let migration = scene.sending(vm, "node-02");
    scene.apply(Body::CancelMigration { migration }).unwrap();
    assert_eq!(scene.migration(migration).status(), MigrationStatus::InProgress);
    let is_cancel = |action: &Action| matches!(action, Action::CancelMigration { .. });
    let cancel = scene.effect("node-01", is_cancel);
    scene.settle("node-01", &cancel, EffectOutcome::Done);
    scene.source_ends(migration, SourceResult::Cancelled);
    assert_eq!(scene.migration(migration).status(), MigrationStatus::Cancelled);
    assert_eq!(scene.state(vm), VmState::Running);
    scene.settle_all("node-02");

    let migration = scene.sending(vm, "node-02");
    scene.hand_over("node-02", migration);
    let refusal = scene.apply(Body::CancelMigration { migration }).unwrap_err();
    assert_eq!(refusal.to_string(), "too late to cancel: node `node-02` has the machine");
}

#[test]
fn only_the_right_nodes_words_count() {
    let mut scene = scene();
    scene.join("node-03", 16);
    let vm = scene.running("web", "node-01");
    let migration = scene.sending(vm, "node-02");
    scene.hand_over("node-03", migration);
    assert_eq!(scene.vm(vm).node, Some(name("node-01")));
    let send = scene.effects("node-01").remove(0);
    scene.settle("node-03", &send, failed("not mine"));
    assert_eq!(scene.migration(migration).status(), MigrationStatus::InProgress);
}

#[test]
fn progress_only_grows() {
    let mut scene = scene();
    let vm = scene.running("web", "node-01");
    let migration = scene.sending(vm, "node-02");
    let mut say = |phase, bytes| {
        let progress = progress(phase, bytes);
        scene.report("node-01", vec![Report::Progress { migration, progress }]).unwrap();
        let row = scene.migration(migration);
        (row.phase, row.progress.as_ref().unwrap().bytes_wire, row.percentage())
    };
    assert_eq!(say(MigrationPhase::DataSync, 50), (MigrationPhase::DataSync, 50, 65));
    assert_eq!(say(MigrationPhase::DiskSync, 40), (MigrationPhase::DataSync, 50, 65));
    assert_eq!(say(MigrationPhase::Switchover, 60), (MigrationPhase::Switchover, 60, 92));
}

#[test]
fn a_warm_migration_takes_a_running_machine_and_leaves_one() {
    let mut scene = scene();
    let vm = scene.running("web", "node-01");
    let migration = scene.migrate(vm, "node-02", MigrationMode::Warm).unwrap();
    assert_eq!(scene.state(vm), VmState::Migrating);
    scene.settle_all("node-02");
    scene.hand_over("node-02", migration);
    scene.source_ends(migration, SourceResult::Completed(account()));
    assert_eq!(scene.state(vm), VmState::Running);
    assert_eq!(scene.vm(vm).node, Some("node-02".parse().unwrap()));

    let stopped = scene.create("db");
    scene.settle_all("node-01");
    let refusal = scene.migrate(stopped, "node-02", MigrationMode::Warm).unwrap_err();
    assert!(refusal.to_string().ends_with("or migrate it without `warm`"), "{refusal}");
}

#[test]
fn a_cold_migration_moves_a_stopped_machine() {
    let mut scene = scene();
    let vm = scene.create("web");
    scene.settle_all("node-01");
    let migration = scene.migrate(vm, "node-02", MigrationMode::Cold).unwrap();
    assert_eq!(scene.state(vm), VmState::Stopped);
    assert_eq!(scene.apply(Body::StartVm { vm }).unwrap_err().code(), Code::Conflict);
    scene.settle_all("node-02");
    scene.hand_over("node-02", migration);
    scene.source_ends(migration, SourceResult::Completed(account()));
    assert_eq!(scene.state(vm), VmState::Stopped);
    assert_eq!(scene.vm(vm).node, Some(name("node-02")));
    scene.apply(Body::StartVm { vm }).unwrap();
}

#[test]
fn a_source_that_is_down_decides_when_it_is_back() {
    let mut scene = scene();
    let vm = scene.running("web", "node-01");
    let migration = scene.sending(vm, "node-02");
    scene.set_node("node-01", NodeState::Down);
    scene.now = scene.now.plus_ms(86_400_000);
    assert!(scene.fleet.expired_effects(scene.now).is_empty(), "it may have begun");
    assert_eq!(scene.state(vm), VmState::Unknown);
    let machine = held(vm, 1, ObservedState::Running);
    scene.hello("node-01", facts(16), vec![machine]);
    scene.source_ends(migration, failed_at_source("the agent was started anew"));
    assert_eq!(scene.state(vm), VmState::Running);
    assert_eq!(scene.migration(migration).status(), MigrationStatus::Failed);
}

#[test]
fn a_target_that_never_answers_fails_it() {
    let mut scene = scene();
    let vm = scene.running("web", "node-01");
    let migration = scene.migrate(vm, "node-02", MigrationMode::Live).unwrap();
    scene.set_node("node-02", NodeState::Down);
    scene.now = scene.now.plus_ms(600_000);
    let expired = scene.fleet.expired_effects(scene.now);
    scene.apply(Body::ExpireEffects(expired)).unwrap();
    assert_eq!(scene.migration(migration).status(), MigrationStatus::Failed);
    assert_eq!(scene.state(vm), VmState::Running);
    let left = scene.effects("node-02");
    assert!(matches!(left[..], [ref one] if matches!(one.action, Action::AbandonMigration { .. })));
}

#[test]
fn the_way_back_waits_until_the_source_has_cleared_up() {
    let mut scene = scene();
    let vm = scene.running("web", "node-01");
    let migration = scene.sending(vm, "node-02");
    scene.hand_over("node-02", migration);
    let refusal = scene.migrate(vm, "node-01", MigrationMode::Live).unwrap_err();
    assert!(matches!(refusal, Refusal::Conflict(_)), "{refusal}");
    scene.source_ends(migration, SourceResult::Completed(account()));
    scene.migrate(vm, "node-01", MigrationMode::Live).unwrap();
}

#[test]
fn a_late_hand_over_overrides_what_was_ordered_since() {
    let mut scene = scene();
    scene.join("node-03", 16);
    let vm = scene.running("web", "node-01");
    let migration = scene.sending(vm, "node-02");
    scene.source_ends(migration, failed_at_source("a lie"));
    let other = scene.sending(vm, "node-03");
    scene.hand_over("node-02", migration);
    assert_eq!(scene.vm(vm).node, Some(name("node-02")));
    assert_eq!(scene.migration(other).status(), MigrationStatus::Failed);
    scene.hand_over("node-03", other);
    assert_eq!(scene.vm(vm).node, Some(name("node-03")), "the newest generation wins");
}

#[test]
fn a_long_queue_that_can_no_longer_begin_ends_without_recursion() {
    let mut scene = Scene::new();
    scene.join("node-01", 10_000);
    scene.join("node-02", 10_000);
    let mut facts = facts(10_000);
    facts.capacity.cpus = 10_000;
    facts.capacity.disk_bytes = 1 << 50;
    for node in ["node-01", "node-02"] {
        scene.hello(node, facts.clone(), vec![]);
    }
    let vms: Vec<_> = (0..400).map(|n| scene.running(&format!("vm-{n}"), "node-01")).collect();
    let first = scene.sending(vms[0], "node-02");
    for vm in &vms[1..] {
        scene.migrate(*vm, "node-02", MigrationMode::Live).unwrap();
    }
    let queued = |scene: &Scene| {
        let open = scene.fleet.open_migrations();
        open.filter(|row| row.status() == MigrationStatus::Queued).count()
    };
    assert_eq!(queued(&scene), 397);
    for vm in &vms[3..] {
        scene.observe("node-01", *vm, 1, ObservedState::Failed);
    }
    scene.hand_over("node-02", first);
    assert_eq!(queued(&scene), 0, "one slot came free, and none of them can use it");
}

#[test]
fn a_machine_that_its_targets_old_inventory_lacks_is_found_again() {
    let mut scene = scene();
    let vm = scene.running("web", "node-01");
    let migration = scene.sending(vm, "node-02");
    scene.source_ends(migration, SourceResult::Completed(account()));
    // Said before the machine came, and committed after it.
    scene.hello("node-02", facts(16), vec![]);
    assert_eq!(scene.state(vm), VmState::Failed);
    scene.hand_over("node-02", migration);
    assert_eq!(scene.state(vm), VmState::Running);
    assert_eq!(scene.vm(vm).reason, "");
    // What happened since comes after it, and counts.
    scene.observe("node-02", vm, 2, ObservedState::Failed);
    assert_eq!(scene.state(vm), VmState::Failed);
}
