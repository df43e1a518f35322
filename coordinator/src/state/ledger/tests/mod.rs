//! Scenes of the ledger, and what holds of it whatever comes.

mod correcting;
mod formats;
mod model;
mod plans;
mod posting;
mod sealing;

use novacron_protocol::ids::{Generation, VmId};
use novacron_protocol::time::Timestamp;
use novacron_protocol::usage::{HOUR_S, Meter, RecordOutcome, UsageRecord};

use super::hour::Hour;
use crate::state::testing::{Scene, name};
use crate::state::{Accepted, Body};

/// The full hour at which scenes here begin.
const BEGIN: Hour = Hour(497_000);

/// A fleet at the beginning of an hour, with two nodes and a machine on the first.
fn scene() -> (Scene, VmId) {
    let mut scene = Scene::new();
    scene.now = BEGIN.begin();
    scene.join("node-01", 16);
    scene.join("node-02", 16);
    let vm = scene.running("web", "node-01");
    (scene, vm)
}

/// One second of the hour at which scenes begin.
fn at_s(second: u64) -> u64 {
    BEGIN.begin_s() + second
}

/// Machine seconds from one second of the first hour to another.
fn record(vm: VmId, from: u64, to: u64) -> UsageRecord {
    UsageRecord {
        vm,
        generation: Generation(1),
        meter: Meter::VmSeconds,
        start_s: at_s(from),
        end_s: at_s(to),
        level: 1,
    }
}

fn post(scene: &mut Scene, records: Vec<UsageRecord>) -> Vec<RecordOutcome> {
    match scene.apply(Body::PostUsage { node: name("node-01"), records }) {
        Ok(Accepted::Usage(outcomes)) => outcomes,
        other => panic!("not posted: {other:?}"),
    }
}

fn post_one(scene: &mut Scene, record: UsageRecord) -> RecordOutcome {
    post(scene, vec![record]).remove(0)
}

/// Lets the clock be so many seconds after the beginning.
fn go_to(scene: &mut Scene, second: u64) {
    scene.now = Timestamp::from_unix_ms(at_s(second) * 1000);
}

/// Lets the clock run to where the first `hours` windows may be sealed, and has the leader do it.
fn seal(scene: &mut Scene, hours: u64) {
    go_to(scene, (hours + 2) * HOUR_S);
    while let Some(through) = scene.fleet.window_due(scene.now) {
        scene.apply(Body::SealWindows { through }).unwrap();
    }
}

fn created(window: Hour) -> RecordOutcome {
    RecordOutcome::Created { window_s: window.begin_s() }
}

/// What all projects used of a meter, as the accounts say.
fn used(scene: &Scene, meter: Meter) -> i128 {
    let net = |owner: fn(&super::account::Owner) -> bool| -> i128 {
        let of_it =
            scene.fleet.accounts().filter(|(key, _)| key.meter == meter && owner(&key.owner));
        of_it.map(|(_, account)| account.debits as i128 - account.credits as i128).sum()
    };
    let projects = net(|owner| matches!(owner, super::account::Owner::Project(_)));
    let nodes = net(|owner| matches!(owner, super::account::Owner::Node(_)));
    assert_eq!(projects, -nodes);
    projects
}
