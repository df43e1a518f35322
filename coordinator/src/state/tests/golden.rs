//! Formats are promises: what is in the log, in tables and in snapshots must stay readable. If a test here fails,
//! the layout of something that is stored has changed: raise its version and read the old one too.

use novacron_protocol::api::SettingsChange;
use novacron_protocol::effect::{Report, SourceResult};
use novacron_protocol::ids::{BatchId, MigrationId};
use novacron_protocol::migration::{MigrationMode, MigrationOptions, MigrationPhase};
use novacron_protocol::vm::Labels;
use novacron_protocol::wire::codec;
use xxhash_rust::xxh3::xxh3_64;

use crate::state::command::{BatchOrder, MigrateBatch};
use crate::state::table::{Row, TableName};
use crate::state::testing::{Scene, account, name, progress};
use crate::state::{Body, Fleet};

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
    let change = SettingsChange { migrations_per_node: Some(5) };
    scene.apply(Body::ChangeSettings(change)).unwrap();
    let batch = MigrateBatch {
        batch: BatchId(scene.id()),
        order: BatchOrder {
            source: name("node-02"),
            target: name("node-01"),
            labels: Labels::from([("app".to_owned(), "web".to_owned())]),
            mode: Some(MigrationMode::Live),
            options: MigrationOptions {
                downtime_limit_ms: Some(50),
                ..MigrationOptions::default()
            },
            aborts_on_failure: true,
        },
        items: vec![(vm, MigrationId(scene.id()))],
    };
    scene.apply(Body::MigrateBatch(batch)).unwrap();
    let options = MigrationOptions { auto_converge: true, ..MigrationOptions::default() };
    scene.apply(Body::DrainNode { node: name("node-02"), options }).unwrap();
    let migration = scene.fleet.open_migrations().next().unwrap().id;
    scene.apply(Body::CancelMigration { migration }).unwrap();
    let (migration, target) = (MigrationId(scene.id()), name("node-01"));
    scene.settle_all("node-01");
    scene.apply(Body::DrainVm { migration, vm, target }).unwrap();
    scene.apply(Body::CancelMigration { migration }).unwrap();
    scene
}

#[test]
fn golden_log() {
    let bytes: Vec<u8> =
        scene().log.iter().flat_map(|(_, command)| codec::encode(command).unwrap()).collect();
    assert_eq!((bytes.len(), xxh3_64(&bytes)), (LOG_BYTES, LOG_HASH));
}

#[test]
fn golden_rows() {
    let mut bytes = Vec::new();
    // Events and audit records hold words for people, which may change; their layout is the API's.
    let write = |row: Row| {
        if !matches!(row.table, TableName::Events | TableName::Audit) {
            bytes.extend([&[row.table as u8], &row.key[..], &row.value[..]].concat());
        }
    };
    scene().fleet.visit_rows(write).unwrap();
    assert_eq!((bytes.len(), xxh3_64(&bytes)), (ROWS_BYTES, ROWS_HASH));
}

#[test]
fn golden_snapshot() {
    let bytes = Fleet::default().to_snapshot().unwrap();
    let numbers = [&[0; 8][..], &[0; 8], &[0], &[0; 8], &[0; 8], &3u32.to_le_bytes()].concat();
    let meta = [&numbers[..], &[0; 8], &[0; 32]].concat();
    let expected = [
        &b"ncfleet\0"[..],
        &1u32.to_le_bytes(),
        &[0],
        &1u32.to_le_bytes(),
        &[0],
        &(2 + meta.len() as u32).to_le_bytes(),
        &3u16.to_le_bytes(),
        &meta,
    ];
    assert_eq!(bytes, expected.concat());
}

const LOG_BYTES: usize = 2556;
const LOG_HASH: u64 = 14_414_702_777_391_738_430;
const ROWS_BYTES: usize = 3290;
const ROWS_HASH: u64 = 1_700_058_304_603_690_973;
