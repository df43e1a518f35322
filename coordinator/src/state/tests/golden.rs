//! Formats are promises: what is in the log, in tables and in snapshots must stay readable. If a test here fails,
//! the layout of something that is stored has changed: raise its version and read the old one too.

use novacron_protocol::effect::SourceResult;
use novacron_protocol::wire::codec;
use xxhash_rust::xxh3::xxh3_64;

use crate::state::testing::{Scene, account, progress};
use novacron_protocol::effect::Report;
use novacron_protocol::migration::MigrationPhase;

/// Something of every table, by commands of every kind that makes rows.
fn scene() -> Scene {
    let mut scene = Scene::new();
    scene.join("node-01", 16);
    scene.join("node-02", 16);
    let vm = scene.running("web", "node-01");
    scene.create("other");
    let migration = scene.sending(vm, "node-02");
    let progress = progress(MigrationPhase::DataSync, 50);
    scene.report("node-01", vec![Report::Progress { migration, progress }]).unwrap();
    scene.hand_over("node-02", migration);
    scene.source_ends(migration, SourceResult::Completed(account()));
    scene
}

#[test]
fn golden_log() {
    let bytes: Vec<u8> =
        scene().log.iter().flat_map(|(_, command)| codec::encode(command).unwrap()).collect();
    assert_eq!((bytes.len(), xxh3_64(&bytes)), (LOG_BYTES, LOG_HASH));
}

#[test]
fn golden_snapshot() {
    let bytes = scene().fleet.to_snapshot().unwrap();
    assert_eq!((bytes.len(), xxh3_64(&bytes)), (SNAPSHOT_BYTES, SNAPSHOT_HASH));
}

const LOG_BYTES: usize = 0;
const LOG_HASH: u64 = 0;
const SNAPSHOT_BYTES: usize = 0;
const SNAPSHOT_HASH: u64 = 0;
