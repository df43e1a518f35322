//! Corrections: one reversal for each entry, original kept.

use novacron_protocol::usage::{HOUR_S, Meter};

use super::{BEGIN, go_to, post_one, record, scene, seal, used};
use crate::state::ledger::correct::{CorrectUsage, Original};
use crate::state::ledger::entry::{EntryId, What};
use crate::state::ledger::hour::Hour;
use crate::state::testing::Scene;
use crate::state::{Accepted, Body, Refusal, Reply};

fn correct(scene: &mut Scene, index: u64, quantity: u128, original: Option<Original>) -> Reply {
    correct_in(scene, EntryId { window: BEGIN, index }, quantity, original)
}

fn correct_in(
    scene: &mut Scene,
    entry: EntryId,
    quantity: u128,
    original: Option<Original>,
) -> Reply {
    let (reason, actor) = ("the clock was wrong".to_owned(), "alice".to_owned());
    scene.apply(Body::CorrectUsage(CorrectUsage { entry, quantity, reason, actor, original }))
}

#[test]
fn a_correction_takes_back_and_posts_what_is_right() {
    let (mut scene, vm) = scene();
    go_to(&mut scene, 700);
    post_one(&mut scene, record(vm, 0, 300));
    let Ok(Accepted::Correction(reversal)) = correct(&mut scene, 1, 200, None) else { panic!() };
    assert_eq!((reversal.window, reversal.index), (BEGIN, 2));
    assert_eq!(used(&scene, Meter::VmSeconds), 200);
    let original = scene.fleet.open_entry(EntryId { window: BEGIN, index: 1 }).unwrap();
    assert_eq!(original.entry.quantity(), 300);
    let taken_back = scene.fleet.open_entry(reversal).unwrap();
    assert!(matches!(taken_back.entry.what, What::Reversal(of) if of.original.index == 1));
    let note = taken_back.batch.note.as_ref().unwrap();
    assert_eq!((note.actor.as_str(), note.reason.as_str()), ("alice", "the clock was wrong"));
}

#[test]
fn an_entry_is_corrected_once_and_what_replaced_it_can_be() {
    let (mut scene, vm) = scene();
    go_to(&mut scene, 700);
    post_one(&mut scene, record(vm, 0, 300));
    correct(&mut scene, 1, 200, None).unwrap();
    let entry = EntryId { window: BEGIN, index: 1 };
    assert_eq!(correct(&mut scene, 1, 100, None), Err(Refusal::AlreadyCorrected(entry)));
    assert!(matches!(correct(&mut scene, 2, 100, None), Err(Refusal::Conflict(_))));
    correct(&mut scene, 3, 0, None).unwrap();
    assert_eq!(used(&scene, Meter::VmSeconds), 0);
    assert_eq!(scene.fleet.book().last_index, 4);
}

#[test]
fn corrections_of_nothing_are_refused() {
    let (mut scene, vm) = scene();
    go_to(&mut scene, 700);
    post_one(&mut scene, record(vm, 0, 300));
    let entry = EntryId { window: BEGIN, index: 9 };
    assert_eq!(correct(&mut scene, 9, 1, None), Err(Refusal::NoSuchEntry(entry)));
    assert!(matches!(correct(&mut scene, 1, 300, None), Err(Refusal::Invalid { .. })));
    assert!(matches!(correct(&mut scene, 1, 1 << 97, None), Err(Refusal::Invalid { .. })));
    let (entry, reason, actor) =
        (EntryId { window: BEGIN, index: 1 }, " ".to_owned(), String::new());
    let body =
        Body::CorrectUsage(CorrectUsage { entry, quantity: 1, reason, actor, original: None });
    assert!(matches!(scene.apply(body), Err(Refusal::Invalid { field, .. }) if field == "reason"));
}

#[test]
fn a_sealed_entry_is_corrected_in_the_present_window_for_the_hour_of_its_use() {
    let (mut scene, vm) = scene();
    go_to(&mut scene, 700);
    post_one(&mut scene, record(vm, 0, 300));
    let original =
        Original::from(&scene.fleet.open_entry(EntryId { window: BEGIN, index: 1 }).unwrap());
    seal(&mut scene, 1);
    assert!(matches!(correct(&mut scene, 1, 0, None), Err(Refusal::NoSuchEntry(_))));
    assert!(matches!(
        correct(&mut scene, 2, 0, Some(original.clone())),
        Err(Refusal::NoSuchEntry(_))
    ));
    correct(&mut scene, 1, 0, Some(original)).unwrap();
    assert_eq!(used(&scene, Meter::VmSeconds), 0);
    let present = Hour(BEGIN.0 + 3);
    let summary = scene.fleet.open_summary(present).remove(0);
    assert_eq!((summary.uses[0].0.used, summary.uses[0].1), (BEGIN, -300));
    // Its seconds stay covered: who sends them again is not billed again.
    assert!(post_one(&mut scene, record(vm, 0, 300)).is_held());
    go_to(&mut scene, 9 * HOUR_S);
    seal(&mut scene, 7);
    scene.fleet.check().unwrap();
}
