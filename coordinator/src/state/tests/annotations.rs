use novacron_protocol::api::Code;
use novacron_protocol::ids::VmId;
use novacron_protocol::limits::{ANNOTATION_VALUE_BYTES_MAX, ANNOTATIONS_MAX};

use crate::state::annotation::ANNOTATIONS_BYTES_MAX;
use crate::state::testing::Scene;
use crate::state::{Accepted, Body, Reply};

fn annotate(scene: &mut Scene, vm: VmId, key: &str, value: Option<&str>) -> Reply {
    let (key, value) = (key.to_owned(), value.map(str::to_owned));
    scene.apply(Body::Annotate { vm, key, value })
}

#[test]
fn a_text_is_kept_replaced_and_removed() {
    let mut scene = Scene::new();
    let vm = scene.create("web");
    let other = scene.create("other");
    assert_eq!(annotate(&mut scene, vm, "owner", Some("alice")), Ok(Accepted::Vm(vm)));
    annotate(&mut scene, vm, "owner", Some("bob")).unwrap();
    annotate(&mut scene, vm, "cost/center", Some("")).unwrap();
    annotate(&mut scene, other, "owner", Some("carol")).unwrap();
    let of = |scene: &Scene, vm| scene.fleet.annotations(vm).into_iter().collect::<Vec<_>>();
    let text = str::to_owned;
    let expected = [(text("cost/center"), text("")), (text("owner"), text("bob"))];
    assert_eq!(of(&scene, vm), expected);

    annotate(&mut scene, vm, "owner", None).unwrap();
    assert_eq!(of(&scene, vm), expected[..1]);
    let gone = annotate(&mut scene, vm, "owner", None).unwrap_err();
    assert_eq!(gone.code(), Code::NotFound);
    assert_eq!(of(&scene, other).len(), 1);
}

#[test]
fn they_go_with_their_machine() {
    let mut scene = Scene::new();
    let vm = scene.create("web");
    annotate(&mut scene, vm, "owner", Some("alice")).unwrap();
    scene.apply(Body::DestroyVm { vm }).unwrap();
    assert!(scene.fleet.annotations(vm).is_empty());
    let late = annotate(&mut scene, vm, "owner", Some("bob")).unwrap_err();
    assert_eq!(late.code(), Code::Conflict);
    let nobodys = VmId(scene.id());
    assert_eq!(annotate(&mut scene, nobodys, "k", Some("v")).unwrap_err().code(), Code::NotFound);
}

#[test]
fn what_is_too_much_is_refused() {
    let mut scene = Scene::new();
    let vm = scene.create("web");
    let too_long = "v".repeat(ANNOTATION_VALUE_BYTES_MAX + 1);
    for (key, value, field) in [("two words", "v", "key"), ("k", &*too_long, "value")] {
        let refusal = annotate(&mut scene, vm, key, Some(value)).unwrap_err();
        assert_eq!((refusal.code(), refusal.field()), (Code::InvalidRequest, Some(field)));
    }
    for number in 0..ANNOTATIONS_MAX {
        annotate(&mut scene, vm, &format!("k{number}"), Some("v")).unwrap();
    }
    let full = annotate(&mut scene, vm, "one-more", Some("v")).unwrap_err();
    assert_eq!(full.code(), Code::NoCapacity);
    annotate(&mut scene, vm, "k0", Some("another")).unwrap();
}

#[test]
fn the_fleet_has_a_bound_of_its_own() {
    let mut scene = Scene::new();
    let value = "v".repeat(ANNOTATION_VALUE_BYTES_MAX);
    let per_machine = ANNOTATIONS_MAX * (value.len() + 3);
    let machines = ANNOTATIONS_BYTES_MAX / per_machine;
    let vms: Vec<_> = (0..=machines).map(|number| scene.create(&format!("vm-{number}"))).collect();
    // Not as commands: checking every invariant after each would take minutes.
    let mut fill = |vm| {
        let keys = (0..ANNOTATIONS_MAX).map(|number| format!("k{number:02}"));
        let kept = keys.map(|key| scene.fleet.annotate(vm, &key, Some(&value)));
        kept.collect::<Result<Vec<_>, _>>()
    };
    for vm in &vms[..machines] {
        fill(*vm).unwrap();
    }
    let refused = fill(vms[machines]);
    assert_eq!(refused.unwrap_err().code(), Code::NoCapacity);
    scene.apply(Body::DestroyVm { vm: vms[0] }).unwrap();
    annotate(&mut scene, vms[machines], "room-again", Some("v")).unwrap();
}
