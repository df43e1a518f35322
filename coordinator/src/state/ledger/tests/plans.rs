//! Plans and their prices: from an hour on, never before, and what they bound.

use novacron_protocol::ids::{PlanName, ProjectName};
use novacron_protocol::usage::HOUR_S;

use super::{BEGIN, go_to, scene};
use crate::state::ledger::hour::Hour;
use crate::state::ledger::rate::{Dimension, Price, RateCard};
use crate::state::testing::{Scene, spec};
use crate::state::{Body, Refusal, Reply};

fn plan(name: &str) -> PlanName {
    name.parse().unwrap()
}

fn card(name: &str, valid_from: Hour, vms_max: Option<u32>, vm_hour: u64) -> RateCard {
    let mut prices = [Price::each(0); 5];
    prices[0] = Price::each(vm_hour);
    RateCard { plan: plan(name), valid_from, vms_max, prices }
}

fn set_plan(scene: &mut Scene, name: &str, from: Hour) -> Reply {
    let project = ProjectName::default();
    scene.apply(Body::SetPlan { project, plan: plan(name), from })
}

#[test]
fn a_card_holds_from_an_hour_that_has_not_begun() {
    let (mut scene, _) = scene();
    let next = BEGIN.next();
    let begun = scene.apply(Body::SetRate(card("standard", BEGIN, None, 1)));
    assert_eq!(begun, Err(Refusal::RateBegun { next }));
    scene.apply(Body::SetRate(card("standard", next, None, 1))).unwrap();
    // What has not begun may be set again.
    scene.apply(Body::SetRate(card("standard", next, None, 7))).unwrap();
    let price = |scene: &Scene, hour| {
        scene.fleet.rate_card(&plan("standard"), hour).unwrap().price(Dimension::VmHours)
    };
    assert_eq!(price(&scene, BEGIN), Price::each(150_000));
    assert_eq!(price(&scene, next), Price::each(7));
    assert_eq!(price(&scene, Hour(BEGIN.0 + 999)), Price::each(7));
    go_to(&mut scene, HOUR_S);
    let changed = scene.apply(Body::SetRate(card("standard", next, None, 8)));
    assert!(matches!(changed, Err(Refusal::RateBegun { .. })));
    assert_eq!(scene.fleet.rate_cards().len(), 4);
}

#[test]
fn prices_are_bounded() {
    let (mut scene, _) = scene();
    let mut refused = |price: Price| {
        let mut card = card("own", BEGIN.next(), None, 0);
        card.prices[1] = price;
        matches!(scene.apply(Body::SetRate(card)), Err(Refusal::Invalid { field, .. }) if field == "prices.storage-gb")
    };
    assert!(refused(Price { micro_dollars: 1, per_units: 0 }));
    assert!(refused(Price { micro_dollars: 1, per_units: 7 }));
    assert!(refused(Price::each(1_000_000_001)));
    assert!(!refused(Price { micro_dollars: 1_000_000_000, per_units: 1_000_000 }));
}

#[test]
fn the_machine_above_the_bound_is_refused_with_a_hint() {
    let (mut scene, _) = scene();
    set_plan(&mut scene, "standard", BEGIN).unwrap();
    for number in 1..100 {
        scene.create(&format!("vm-{number}"));
    }
    let body = scene.create_body(spec("vm-101"), None, false);
    let refusal = scene.apply(body).unwrap_err();
    assert!(matches!(&refusal, Refusal::PlanFull { vms_max: 100, .. }), "{refusal:?}");
    assert!(refusal.to_string().contains("the plan `professional` has room for more"), "{refusal}");
    // A machine that goes makes room, and so does a larger plan.
    let vm = scene.fleet.find_vm("vm-7").unwrap().id;
    scene.apply(Body::DestroyVm { vm }).unwrap();
    for node in ["node-01", "node-02"] {
        scene.settle_all(node);
    }
    scene.create("vm-101");
    set_plan(&mut scene, "professional", BEGIN).unwrap();
    scene.create("vm-102");
}

#[test]
fn plans_are_known_and_not_changed_backwards() {
    let (mut scene, _) = scene();
    assert!(matches!(set_plan(&mut scene, "none", BEGIN), Err(Refusal::Invalid { .. })));
    let project: ProjectName = "nobody".parse().unwrap();
    let stranger = Body::SetPlan { project: project.clone(), plan: plan("standard"), from: BEGIN };
    assert_eq!(scene.apply(stranger), Err(Refusal::NoSuchProject(project)));
    let next = BEGIN;
    let before = set_plan(&mut scene, "standard", Hour(BEGIN.0 - 1));
    assert_eq!(before, Err(Refusal::RateBegun { next }));
    set_plan(&mut scene, "standard", Hour(BEGIN.0 + 5)).unwrap();
    set_plan(&mut scene, "enterprise", Hour(BEGIN.0 + 3)).unwrap();
    let at = |hours| scene.fleet.plan_of(&ProjectName::default(), Hour(BEGIN.0 + hours)).cloned();
    assert_eq!((at(2), at(9)), (None, Some(plan("enterprise"))));
}
