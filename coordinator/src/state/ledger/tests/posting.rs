//! What becomes of records.

use novacron_protocol::ids::{Generation, VmId};
use novacron_protocol::usage::{HOUR_S, Meter, RecordOutcome, Seconds, UsageRecord};
use uuid::Uuid;

use super::{BEGIN, at_s, created, go_to, post, post_one, record, scene, used};
use crate::state::testing::name;
use crate::state::{Body, Refusal};

#[test]
fn a_record_is_posted_once_however_often_it_comes() {
    let (mut scene, vm) = scene();
    go_to(&mut scene, 700);
    let first = record(vm, 0, 300);
    assert_eq!(post_one(&mut scene, first), created(BEGIN));
    assert_eq!(post(&mut scene, vec![first, first]), vec![RecordOutcome::Exists; 2]);
    let next = record(vm, 300, 600);
    assert_eq!(post(&mut scene, vec![next, next]), [created(BEGIN), RecordOutcome::Exists]);
    assert_eq!(used(&scene, Meter::VmSeconds), 600);
    assert_eq!(scene.fleet.book().last_index, 2);
}

#[test]
fn what_overlaps_is_refused_with_the_seconds_that_are_covered() {
    let (mut scene, vm) = scene();
    go_to(&mut scene, 1000);
    post(&mut scene, vec![record(vm, 100, 200), record(vm, 300, 400)]);
    let covered = |runs: &[(u64, u64)]| RecordOutcome::Conflict {
        covered: runs
            .iter()
            .map(|(start, end)| Seconds { start_s: at_s(*start), end_s: at_s(*end) })
            .collect(),
    };
    assert_eq!(post_one(&mut scene, record(vm, 150, 350)), covered(&[(150, 200), (300, 350)]));
    assert_eq!(post_one(&mut scene, record(vm, 0, 1000)), covered(&[(100, 200), (300, 400)]));
    assert_eq!(post_one(&mut scene, record(vm, 100, 150)), covered(&[(100, 150)]));
    let other_body = UsageRecord { generation: Generation(0), ..record(vm, 100, 200) };
    assert_eq!(post_one(&mut scene, other_body), covered(&[(100, 200)]));
    // What is not covered may be sent.
    assert_eq!(post_one(&mut scene, record(vm, 200, 300)), created(BEGIN));
    assert_eq!(used(&scene, Meter::VmSeconds), 300);
}

#[test]
fn meters_and_machines_do_not_overlap() {
    let (mut scene, vm) = scene();
    let other = scene.create("other");
    go_to(&mut scene, 1000);
    let disk = UsageRecord { meter: Meter::DiskByteSeconds, level: 1 << 30, ..record(vm, 0, 60) };
    let snapshots = UsageRecord { meter: Meter::SnapshotSeconds, level: 3, ..record(vm, 0, 60) };
    let records = vec![record(vm, 0, 60), disk, snapshots, record(other, 0, 60)];
    assert_eq!(post(&mut scene, records), vec![created(BEGIN); 4]);
    assert_eq!(used(&scene, Meter::VmSeconds), 120);
    assert_eq!(used(&scene, Meter::DiskByteSeconds), 60 << 30);
    assert_eq!(used(&scene, Meter::SnapshotSeconds), 180);
}

#[test]
fn one_batch_may_be_of_two_windows() {
    let (mut scene, vm) = scene();
    go_to(&mut scene, 2 * HOUR_S);
    let records = vec![
        record(vm, HOUR_S - 10, HOUR_S),
        record(vm, HOUR_S, HOUR_S + 10),
        record(vm, HOUR_S - 20, HOUR_S - 10),
    ];
    let expected = [created(BEGIN), created(BEGIN.next()), created(BEGIN)];
    assert_eq!(post(&mut scene, records), expected);
    // Numbers go on within a window's row: 1 and 2 here, 3 there.
    let keys: Vec<u64> =
        [BEGIN, BEGIN.next()].map(|window| scene.fleet.open_batches(window).count() as u64).into();
    assert_eq!(keys, [1, 1]);
    let (key, _) = scene.fleet.open_batches(BEGIN.next()).next().unwrap();
    assert_eq!(key.first_index, 3);
}

#[test]
fn what_cannot_be_is_refused_by_itself() {
    let (mut scene, vm) = scene();
    go_to(&mut scene, 600);
    let stranger = VmId(Uuid::from_u128(1 << 100));
    let outcomes = post(
        &mut scene,
        vec![
            record(stranger, 0, 10),
            record(vm, 10, 10),
            record(vm, 0, 901),
            UsageRecord { generation: Generation(2), ..record(vm, 0, 10) },
            record(vm, 0, 900),
        ],
    );
    assert_eq!(outcomes[0], RecordOutcome::UnknownVm);
    assert!(
        matches!(&outcomes[1], RecordOutcome::Invalid { problems } if problems[0].field == "end_s")
    );
    assert_eq!(outcomes[2], RecordOutcome::Ahead { by_s: 301 });
    assert!(
        matches!(&outcomes[3], RecordOutcome::Invalid { problems } if problems[0].field == "generation")
    );
    assert_eq!(outcomes[4], created(BEGIN));
}

#[test]
fn what_is_older_than_35_days_is_too_late() {
    let (mut scene, vm) = scene();
    let age_s = 35 * 24 * HOUR_S;
    go_to(&mut scene, age_s + 100);
    let oldest_s = at_s(100);
    assert_eq!(post_one(&mut scene, record(vm, 99, 200)), RecordOutcome::TooLate { oldest_s });
    assert!(post_one(&mut scene, record(vm, 100, 200)).is_held());
}

#[test]
fn a_batch_is_refused_whole_if_it_is_empty_or_too_large() {
    let (mut scene, vm) = scene();
    let mut refusal = |count: usize| {
        let node = name("node-01");
        let records = vec![record(vm, 0, 10); count];
        scene.apply(Body::PostUsage { node, records }).unwrap_err()
    };
    assert_eq!(refusal(1_001), Refusal::TooManyRecords(1_001));
    assert!(matches!(refusal(0), Refusal::Invalid { .. }));
    let node = name("nobody");
    let body = Body::PostUsage { node: node.clone(), records: vec![record(vm, 0, 10)] };
    assert_eq!(scene.apply(body), Err(Refusal::NoSuchNode(node)));
    assert_eq!(scene.fleet.book().last_index, 0);
}

#[test]
fn a_machine_that_is_gone_can_still_have_used() {
    let (mut scene, vm) = scene();
    scene.apply(Body::DestroyVm { vm }).unwrap();
    scene.settle_all("node-01");
    // As many others go until its row is forgotten.
    for number in 0..=crate::state::vm::VMS_DELETED_MAX {
        let other = scene.create(&format!("other-{number}"));
        scene.apply(Body::DestroyVm { vm: other }).unwrap();
        scene.settle_all("node-01");
        scene.settle_all("node-02");
    }
    assert!(scene.fleet.vm(vm).is_none());
    go_to(&mut scene, 600);
    assert_eq!(post_one(&mut scene, record(vm, 0, 10)), created(BEGIN));
}
