//! Formats are promises: what is in tables, snapshots and archives must stay readable, and hashes must stay what they
//! are. If a test here fails, the layout of something that is stored has changed: raise its version.

use novacron_protocol::ids::ProjectName;
use novacron_protocol::usage::{Meter, UsageRecord};
use novacron_protocol::wire::codec::{self, Message};
use proptest::prelude::*;
use xxhash_rust::xxh3::xxh3_64;

use super::{BEGIN, go_to, post, record, scene, seal};
use crate::state::Body;
use crate::state::ledger::content::WindowPart;
use crate::state::ledger::correct::CorrectUsage;
use crate::state::ledger::entry::EntryId;
use crate::state::ledger::hash::ContentHash;
use crate::state::ledger::rate::{Price, RateCard};
use crate::state::ledger::sums::Summary;
use crate::state::table::{Row, TableName};
use crate::state::testing::Scene;

/// Something of every table of the ledger, and two sealed files.
fn full_scene() -> Scene {
    let (mut scene, vm) = scene();
    go_to(&mut scene, 700);
    let disk = UsageRecord { meter: Meter::DiskByteSeconds, level: 1 << 30, ..record(vm, 0, 60) };
    post(&mut scene, vec![record(vm, 0, 300), disk]);
    seal(&mut scene, 1);
    post(&mut scene, vec![record(vm, 300, 310), record(vm, 7200, 7210)]);
    let entry = EntryId { window: BEGIN.next().next(), index: 3 };
    let (reason, actor) = ("a test".to_owned(), "alice".to_owned());
    let correction = CorrectUsage { entry, quantity: 7, reason, actor, original: None };
    scene.apply(Body::CorrectUsage(correction)).unwrap();
    let (plan, valid_from) = ("own".parse().unwrap(), super::Hour(BEGIN.0 + 9));
    let card = RateCard { plan, valid_from, vms_max: Some(3), prices: [Price::each(5); 5] };
    scene.apply(Body::SetRate(card)).unwrap();
    let (project, plan) = (ProjectName::default(), "standard".parse().unwrap());
    scene.apply(Body::SetPlan { project, plan, from: super::Hour(BEGIN.0 + 3) }).unwrap();
    scene
}

#[test]
fn golden_rows() {
    let mut bytes = Vec::new();
    full_scene()
        .fleet
        .visit_rows(|row: Row| {
            if row.table >= TableName::LedgerBook && row.table <= TableName::LedgerPlans {
                bytes.extend([&[row.table as u8], &row.key[..], &row.value[..]].concat());
            }
        })
        .unwrap();
    assert_eq!((bytes.len(), xxh3_64(&bytes)), (ROWS_BYTES, ROWS_HASH));
}

#[test]
fn golden_files() {
    let scene = full_scene();
    let files: Vec<_> = scene.fleet.departures.iter().collect();
    let names: Vec<_> = files.iter().map(|file| file.name.as_str()).collect();
    assert_eq!(names, ["ledger-0000497000-entries-00000", "ledger-0000497000-summary-00000"]);
    let hashes: Vec<_> =
        files.iter().map(|file| ContentHash::of(&file.content).to_string()).collect();
    assert_eq!(hashes, [ENTRIES_HASH, SUMMARY_HASH]);
    let header = scene.fleet.sealed_window(BEGIN).unwrap();
    assert_eq!(header.chain.to_string(), CHAIN_HASH);
}

#[test]
fn golden_log() {
    let ledger = |body: &Body| {
        matches!(
            body,
            Body::PostUsage { .. }
                | Body::SealWindows { .. }
                | Body::CorrectUsage(_)
                | Body::SetRate(_)
                | Body::SetPlan { .. }
        )
    };
    let scene = full_scene();
    let commands = scene.log.iter().filter(|(_, command)| ledger(&command.body));
    let bytes: Vec<u8> =
        commands.flat_map(|(_, command)| codec::encode(command).unwrap()).collect();
    assert_eq!((bytes.len(), xxh3_64(&bytes)), (LOG_BYTES, LOG_HASH));
}

fn headed<M: Message>(bytes: &[u8]) -> Vec<u8> {
    [&M::VERSION.to_le_bytes()[..], bytes].concat()
}

proptest! {
    #[test]
    fn any_bytes_are_a_file_or_a_typed_refusal(bytes in proptest::collection::vec(any::<u8>(), 0..300)) {
        let _ = codec::decode::<Summary>(&headed::<Summary>(&bytes));
        if let Ok(part) = codec::decode::<WindowPart>(&headed::<WindowPart>(&bytes)) {
            let read = part.batches().map(|(key, batch)| batch.postings(key).count());
            assert!(read.sum::<usize>() < 1_000_000);
        }
    }

    #[test]
    fn a_damaged_part_is_read_or_refused(at in any::<proptest::sample::Index>(), bit in 0..8u8) {
        let scene = full_scene();
        let mut bytes = scene.fleet.departures[0].content.to_vec();
        let at = at.index(bytes.len());
        bytes[at] ^= 1 << bit;
        if let Ok(part) = codec::decode::<WindowPart>(&bytes) {
            let read = part.batches().map(|(key, batch)| batch.postings(key).count());
            assert!(read.sum::<usize>() < 1_000_000);
        }
    }
}

const ROWS_BYTES: usize = 1313;
const ROWS_HASH: u64 = 3_583_320_404_285_525_702;
const LOG_BYTES: usize = 749;
const LOG_HASH: u64 = 80_658_942_874_262_630;
const ENTRIES_HASH: &str = "c44feaf9df6e72dabb42ec19a85e12d0f4369f7cfc64d4d8185059239e782e91";
const SUMMARY_HASH: &str = "28e185a11947fb0645456f869fda3902f2a227ca6dc9ef02f6794f39ed2ccb98";
const CHAIN_HASH: &str = "46a0ce1893ffcfecb603cd5fd2e33c977f5e58209a888a010453a315e97d39a7";
