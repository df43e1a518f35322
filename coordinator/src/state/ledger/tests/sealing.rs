//! Windows: closed by the clock, sealed by the leader, chained by hash.

use novacron_protocol::usage::{HOUR_S, Meter, RecordOutcome};
use novacron_protocol::wire::codec;

use super::{BEGIN, created, go_to, post, post_one, record, scene, seal, used};
use crate::state::ledger::content::WindowPart;
use crate::state::ledger::hash::ContentHash;
use crate::state::ledger::hour::Hour;
use crate::state::ledger::seal::Totals;
use crate::state::ledger::sums::Summary;
use crate::state::{Body, Fleet, Refusal};

#[test]
fn a_window_is_sealed_when_its_grace_is_over_and_not_before() {
    let (mut scene, vm) = scene();
    go_to(&mut scene, 700);
    post_one(&mut scene, record(vm, 0, 300));
    go_to(&mut scene, 3 * HOUR_S - 1);
    // Hours before the first entry have nothing to seal.
    assert!(scene.fleet.window_due(scene.now).is_none_or(|due| due < BEGIN));
    let early = Body::SealWindows { through: BEGIN };
    assert!(matches!(scene.apply(early), Err(Refusal::Conflict(_))));
    go_to(&mut scene, 3 * HOUR_S);
    assert_eq!(scene.fleet.window_due(scene.now), Some(BEGIN));
    scene.apply(Body::SealWindows { through: BEGIN }).unwrap();
    assert_eq!(scene.fleet.window_due(scene.now), None);
    let header = scene.fleet.sealed_window(BEGIN).unwrap();
    assert_eq!((header.first_index, header.last_index, header.entries), (1, 1, 1));
    assert_eq!(header.sums[0].used, 300);
    assert_eq!(scene.fleet.open_batches(BEGIN).count(), 0);
    assert_eq!(scene.fleet.book().open_entries, 0);
    assert_eq!(used(&scene, Meter::VmSeconds), 300);
    // Again changes nothing.
    let hash = scene.fleet.state_hash().unwrap();
    scene.apply(Body::SealWindows { through: BEGIN }).unwrap();
    assert_eq!(scene.fleet.sealed_windows().count(), 1);
    assert_ne!(scene.fleet.state_hash().unwrap(), hash, "the revision is a part of the state");
}

#[test]
fn the_files_of_a_window_are_what_its_header_says() {
    let (mut scene, vm) = scene();
    go_to(&mut scene, 2000);
    post(&mut scene, vec![record(vm, 0, 300), record(vm, 300, 500)]);
    seal(&mut scene, 1);
    let header = scene.fleet.sealed_window(BEGIN).unwrap().clone();
    let files = scene.fleet.drain_departures();
    let known: Vec<_> = header.files().map(|(_, record)| record.hash).collect();
    let hashes: Vec<_> = files.iter().map(|file| ContentHash::of(&file.content)).collect();
    assert_eq!(hashes, known);
    let part: WindowPart = codec::decode(&files[0].content).unwrap();
    let totals = Totals::of(part.batches());
    assert_eq!((totals.entries, totals.sums), (header.entries, header.sums));
    let summary: Summary = codec::decode(&files[1].content).unwrap();
    assert_eq!(summary.uses.len(), 1);
    assert_eq!(summary.uses[0].1, 500);
    assert_eq!(summary.machines[0].name, "web");
}

#[test]
fn headers_are_chained() {
    let (mut scene, vm) = scene();
    for hour in 0..3 {
        go_to(&mut scene, hour * HOUR_S + 700);
        post_one(&mut scene, record(vm, hour * HOUR_S, hour * HOUR_S + 60));
    }
    seal(&mut scene, 3);
    let headers: Vec<_> = scene.fleet.sealed_windows().cloned().collect();
    assert_eq!(headers.len(), 3);
    assert_eq!(headers[0].previous, ContentHash::default());
    assert_eq!(headers[1].previous, headers[0].chain);
    assert_eq!(headers[2].previous, headers[1].chain);
    assert_eq!(scene.fleet.book().chain, headers[2].chain);
    let mut forged = headers[1].clone();
    forged.sums[0].used += 1;
    assert_ne!(forged.chain_hash(), headers[1].chain);
    assert_eq!(scene.replay().state_hash().unwrap(), scene.fleet.state_hash().unwrap());
}

#[test]
fn what_comes_after_the_seal_is_posted_into_the_present_window() {
    let (mut scene, vm) = scene();
    go_to(&mut scene, 700);
    post_one(&mut scene, record(vm, 0, 300));
    seal(&mut scene, 1);
    let present = Hour(BEGIN.0 + 3);
    let late = record(vm, 300, 600);
    let posted =
        RecordOutcome::CreatedLate { window_s: present.begin_s(), late_for_s: BEGIN.begin_s() };
    assert_eq!(post_one(&mut scene, late), posted);
    assert_eq!(post_one(&mut scene, late), RecordOutcome::Exists);
    // Sealed seconds are known, their records are not.
    assert_eq!(post_one(&mut scene, record(vm, 0, 300)), RecordOutcome::Exists);
    assert_eq!(post_one(&mut scene, record(vm, 100, 200)), RecordOutcome::Exists);
    let overlapping = post_one(&mut scene, record(vm, 200, 700));
    assert!(matches!(overlapping, RecordOutcome::Conflict { .. }), "{overlapping:?}");
    seal(&mut scene, 4);
    // Both are sealed now, and as one run.
    assert_eq!(post_one(&mut scene, record(vm, 0, 600)), RecordOutcome::Exists);
    let [(key, net)] = summary(&scene.fleet, 1).uses[..] else { panic!("one use expected") };
    assert_eq!((key.used, net), (BEGIN, 300));
}

/// The summary of the `number`th sealed window, of a scene that never kept files.
fn summary(fleet: &Fleet, number: usize) -> Summary {
    let summaries = fleet.departures.iter().filter(|file| file.name.contains("summary"));
    codec::decode(&summaries.collect::<Vec<_>>()[number].content).unwrap()
}

#[test]
fn empty_hours_leave_no_header_and_open_windows_wait_for_the_leader() {
    let (mut scene, vm) = scene();
    go_to(&mut scene, 700);
    post_one(&mut scene, record(vm, 0, 60));
    // Nobody led for a day; whatever comes before the seal is in its own window.
    go_to(&mut scene, 24 * HOUR_S);
    assert_eq!(post_one(&mut scene, record(vm, 60, 120)), created(BEGIN));
    assert_eq!(post_one(&mut scene, record(vm, HOUR_S, HOUR_S + 9)), created(BEGIN.next()));
    seal(&mut scene, 24);
    assert_eq!(scene.fleet.sealed_windows().count(), 2);
    assert_eq!(scene.fleet.book().sealed_before, Hour(BEGIN.0 + 24));
    assert!(post_one(&mut scene, record(vm, 2 * HOUR_S, 2 * HOUR_S + 9)).is_held());
}

#[test]
fn many_windows_are_sealed_in_several_steps() {
    let (mut scene, vm) = scene();
    go_to(&mut scene, 700);
    post_one(&mut scene, record(vm, 0, 1));
    go_to(&mut scene, 12 * HOUR_S);
    for hour in 1..12 {
        post_one(&mut scene, record(vm, hour * HOUR_S, hour * HOUR_S + 1));
    }
    go_to(&mut scene, 14 * HOUR_S);
    let all = Body::SealWindows { through: Hour(BEGIN.0 + 11) };
    assert!(matches!(scene.apply(all), Err(Refusal::Conflict(_))));
    seal(&mut scene, 12);
    assert_eq!(scene.fleet.sealed_windows().count(), 12);
}

#[test]
fn seconds_are_forgotten_when_nothing_of_them_can_come() {
    let (mut scene, vm) = scene();
    go_to(&mut scene, 700);
    post_one(&mut scene, record(vm, 0, 300));
    seal(&mut scene, 1);
    assert_eq!(scene.fleet.ledger_covered.len(), 1);
    let days = 36 * 24;
    seal(&mut scene, days);
    assert_eq!(scene.fleet.ledger_covered.len(), 0);
    assert!(matches!(post_one(&mut scene, record(vm, 0, 300)), RecordOutcome::TooLate { .. }));
}

#[test]
fn a_replica_that_loads_rows_or_a_snapshot_goes_on_as_the_others() {
    let (mut scene, vm) = scene();
    go_to(&mut scene, 700);
    post(&mut scene, vec![record(vm, 0, 300), record(vm, 300, 310)]);
    seal(&mut scene, 1);
    post_one(&mut scene, record(vm, 3 * HOUR_S - 5, 3 * HOUR_S));
    let mut other = Fleet::from_snapshot(&scene.fleet.to_snapshot().unwrap()).unwrap();
    other.check().unwrap();
    for record in [record(vm, 310, 320), record(vm, 3 * HOUR_S - 5, 3 * HOUR_S)] {
        let body = Body::PostUsage { node: "node-01".parse().unwrap(), records: vec![record] };
        let reply = scene.apply(body);
        let (revision, command) = scene.log.last().unwrap();
        assert_eq!(other.apply(*revision, command), reply);
    }
    assert_eq!(other.state_hash().unwrap(), scene.fleet.state_hash().unwrap());
}
