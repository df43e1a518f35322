use novacron_protocol::api::{Code, EventKind};
use novacron_protocol::effect::{Action, EffectOutcome, ObservedState};
use novacron_protocol::ids::{Revision, VmId};
use novacron_protocol::node::NodeState;
use novacron_protocol::vm::VmState;

use crate::state::placement::Misfit;
use crate::state::testing::{GIB, Scene, facts, failed, name, spec};
use crate::state::vm::VMS_DELETED_MAX;
use crate::state::{Accepted, Body, Refusal};

fn scene() -> Scene {
    let mut scene = Scene::new();
    scene.join("node-01", 8);
    scene
}

fn code(reply: Result<Accepted, Refusal>) -> Code {
    reply.unwrap_err().code()
}

#[test]
fn a_machine_is_made_started_stopped_and_destroyed() {
    let mut scene = scene();
    let body = scene.create_body(spec("web"), None, true);
    let Ok(Accepted::Vm(vm)) = scene.apply(body) else { panic!("refused") };
    assert_eq!(scene.state(vm), VmState::Creating);
    scene.settle_all("node-01");
    assert_eq!(scene.state(vm), VmState::Starting);
    scene.settle_all("node-01");
    assert_eq!(scene.state(vm), VmState::Running);
    scene.apply(Body::StopVm { vm, force: false }).unwrap();
    assert_eq!(scene.state(vm), VmState::Stopping);
    scene.settle_all("node-01");
    assert_eq!(scene.state(vm), VmState::Stopped);
    scene.apply(Body::DestroyVm { vm }).unwrap();
    assert_eq!(scene.state(vm), VmState::Stopping);
    scene.settle_all("node-01");
    assert_eq!(scene.state(vm), VmState::Deleted);
    assert!(scene.effects("node-01").is_empty());
    assert_eq!(scene.fleet.allocation(&name("node-01")).memory_bytes, 0);
    let states: Vec<String> = scene
        .fleet
        .events_after(Revision(0), None)
        .filter(|event| event.kind == EventKind::VmState)
        .map(|event| event.message.clone())
        .collect();
    assert_eq!(states.len(), 6, "{states:?}");
}

#[test]
fn illegal_moves_name_the_state() {
    let mut scene = scene();
    let vm = scene.running("web", "node-01");
    let refusal = scene.apply(Body::StartVm { vm }).unwrap_err();
    assert_eq!(refusal.code(), Code::Conflict);
    assert_eq!(refusal.to_string(), "machine `web` is running: cannot start it");
    scene.apply(Body::StopVm { vm, force: false }).unwrap();
    let refusal = scene.apply(Body::StopVm { vm, force: false }).unwrap_err();
    assert!(refusal.to_string().ends_with("; it can be stopped at once with `force`"));
    scene.apply(Body::StopVm { vm, force: true }).unwrap();
    assert_eq!(scene.effects("node-01").len(), 1, "the first stop is replaced");
    let nobody = VmId(scene.id());
    assert_eq!(code(scene.apply(Body::StartVm { vm: nobody })), Code::NotFound);
}

#[test]
fn a_name_is_free_again_once_its_machine_is_deleted() {
    let mut scene = scene();
    let vm = scene.create("web");
    let again = scene.create_body(spec("web"), None, false);
    let refusal = scene.apply(again.clone()).unwrap_err();
    assert_eq!((refusal.code(), refusal.field()), (Code::NameTaken, Some("name")));
    scene.settle_all("node-01");
    scene.apply(Body::DestroyVm { vm }).unwrap();
    scene.settle_all("node-01");
    scene.apply(again).unwrap();
}

#[test]
fn a_failed_creation_says_why_and_can_only_be_destroyed() {
    let mut scene = scene();
    let vm = scene.create("web");
    let effect = scene.effects("node-01").remove(0);
    scene.settle("node-01", &effect, failed("there is no image `x`"));
    assert_eq!(scene.state(vm), VmState::Failed);
    assert_eq!(scene.vm(vm).reason, "there is no image `x`");
    assert_eq!(code(scene.apply(Body::StartVm { vm })), Code::Conflict);
    scene.apply(Body::DestroyVm { vm }).unwrap();
    let effect = scene.effect("node-01", |action| *action == Action::Destroy);
    scene.settle("node-01", &effect, EffectOutcome::Stale { held: None });
    assert_eq!(scene.state(vm), VmState::Deleted);
}

#[test]
fn a_failed_start_can_be_tried_again() {
    let mut scene = scene();
    let vm = scene.create("web");
    scene.settle_all("node-01");
    scene.apply(Body::StartVm { vm }).unwrap();
    let effect = scene.effects("node-01").remove(0);
    scene.settle("node-01", &effect, failed("no bridge"));
    assert_eq!((scene.state(vm), scene.vm(vm).reason.as_str()), (VmState::Failed, "no bridge"));
    scene.apply(Body::StartVm { vm }).unwrap();
    scene.settle_all("node-01");
    assert_eq!((scene.state(vm), scene.vm(vm).reason.as_str()), (VmState::Running, ""));
}

#[test]
fn what_the_agent_sees_counts_for_its_generation_only() {
    let mut scene = scene();
    scene.join("node-02", 8);
    let vm = scene.running("web", "node-01");
    scene.observe("node-01", vm, 7, ObservedState::Failed);
    scene.observe("node-02", vm, 1, ObservedState::Failed);
    assert_eq!(scene.state(vm), VmState::Running);
    scene.observe("node-01", vm, 1, ObservedState::Paused);
    assert_eq!(scene.state(vm), VmState::Paused);
    scene.observe("node-01", vm, 1, ObservedState::Failed);
    assert_eq!(scene.state(vm), VmState::Failed);
}

#[test]
fn memory_is_not_promised_twice_and_cpus_four_times() {
    let mut scene = scene();
    for vm in ["a", "b", "c", "d"] {
        scene.create(vm);
    }
    let body = scene.create_body(spec("e"), Some("node-01"), false);
    let refusal = scene.apply(body).unwrap_err();
    let misfit = Misfit::Memory { needed_bytes: 2 * GIB, free_bytes: 0 };
    assert_eq!(refusal, Refusal::NoRoom { node: name("node-01"), misfit });
    assert_eq!(refusal.code(), Code::NoCapacity);
    assert!(refusal.to_string().contains("2 GiB of memory needed, 0 B free"), "{refusal}");

    scene.join("node-02", 64);
    let mut wide = spec("wide");
    wide.cpus = 32;
    let body = scene.create_body(wide.clone(), Some("node-02"), false);
    scene.apply(body).unwrap();
    wide.name = "wide-2".parse().unwrap();
    wide.cpus = 1;
    let body = scene.create_body(wide, Some("node-02"), false);
    let misfit = Misfit::Cpus { needed: 1, free: 0 };
    assert_eq!(scene.apply(body), Err(Refusal::NoRoom { node: name("node-02"), misfit }));
}

#[test]
fn a_machine_without_a_node_waits_and_is_placed_later() {
    let mut scene = Scene::new();
    let vm = scene.create("web");
    assert_eq!(scene.state(vm), VmState::Pending);
    assert_eq!(scene.vm(vm).reason, "no node has joined the cluster yet");
    scene.join("node-01", 8);
    scene.apply(Body::PlaceVm { vm, node: name("node-01") }).unwrap();
    assert_eq!(scene.state(vm), VmState::Creating);
    assert_eq!(code(scene.apply(Body::PlaceVm { vm, node: name("node-01") })), Code::Conflict);
}

#[test]
fn a_choice_that_is_outdated_leaves_the_machine_pending() {
    let mut scene = scene();
    let mut big = spec("big");
    big.memory_bytes = 6 * GIB;
    let first = scene.create_body(big.clone(), None, false);
    big.name = "big-2".parse().unwrap();
    let second = scene.create_body(big, None, false);
    scene.apply(first).unwrap();
    let Ok(Accepted::Vm(vm)) = scene.apply(second) else { panic!("refused") };
    assert_eq!(scene.state(vm), VmState::Pending);
    assert!(scene.vm(vm).reason.contains("6 GiB of memory needed, 2 GiB free"));
    scene.apply(Body::DestroyVm { vm }).unwrap();
    assert_eq!(scene.state(vm), VmState::Deleted);
}

#[test]
fn an_unknown_node_is_not_found() {
    let mut scene = scene();
    let body = scene.create_body(spec("web"), Some("nowhere"), false);
    assert_eq!(code(scene.apply(body)), Code::NotFound);
}

#[test]
fn machines_of_a_node_that_is_down_are_unknown_until_it_is_back() {
    let mut scene = scene();
    let vm = scene.running("web", "node-01");
    scene.set_node("node-01", NodeState::Suspect);
    assert_eq!(scene.state(vm), VmState::Running);
    scene.set_node("node-01", NodeState::Down);
    assert_eq!(scene.state(vm), VmState::Unknown);
    assert_eq!(code(scene.apply(Body::StopVm { vm, force: true })), Code::Conflict);
    let still_there = crate::state::testing::held(vm, 1, ObservedState::Running);
    scene.hello("node-01", facts(8), vec![still_there]);
    assert_eq!(scene.state(vm), VmState::Running);
}

#[test]
fn effects_of_a_node_that_is_down_expire() {
    let mut scene = scene();
    let vm = scene.create("web");
    scene.now = scene.now.plus_ms(3_600_000);
    assert!(scene.fleet.expired_effects(scene.now).is_empty(), "the agent answers for itself");
    scene.set_node("node-01", NodeState::Down);
    let expired = scene.fleet.expired_effects(scene.now);
    assert_eq!(expired.len(), 1);
    scene.apply(Body::ExpireEffects(expired)).unwrap();
    scene.set_node("node-01", NodeState::Ready);
    assert_eq!(scene.state(vm), VmState::Failed);
    assert_eq!(scene.vm(vm).reason, "node node-01 did not answer in time");
}

#[test]
fn an_order_to_destroy_never_expires() {
    let mut scene = scene();
    let vm = scene.running("web", "node-01");
    scene.set_node("node-01", NodeState::Down);
    scene.apply(Body::DestroyVm { vm }).unwrap();
    scene.now = scene.now.plus_ms(365 * 86_400_000);
    assert!(scene.fleet.expired_effects(scene.now).is_empty());
    scene.hello("node-01", facts(8), vec![]);
    scene.settle_all("node-01");
    assert_eq!(scene.state(vm), VmState::Deleted);
}

#[test]
fn deleted_machines_are_forgotten_in_time() {
    let mut scene = Scene::new();
    for number in 0..VMS_DELETED_MAX + 5 {
        let vm = scene.create(&format!("vm-{number}"));
        scene.apply(Body::DestroyVm { vm }).unwrap();
    }
    assert_eq!(scene.fleet.vms().count(), VMS_DELETED_MAX);
}
