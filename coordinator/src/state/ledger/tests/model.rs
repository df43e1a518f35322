//! Whatever comes, in whatever order and however often: each second of a meter counts once, for whom it was used.
//!
//! The model is a map from every second to the level it was taken with.

use std::collections::BTreeMap;

use novacron_protocol::ids::VmId;
use novacron_protocol::usage::{HOUR_S, Meter, RecordOutcome, UsageRecord};
use proptest::prelude::*;

use super::{at_s, go_to, post, record, scene, used};
use crate::state::ledger::correct::{CorrectUsage, Original};
use crate::state::ledger::entry::EntryId;
use crate::state::ledger::invariants::{Recount, Tallies};
use crate::state::ledger::seal::Totals;
use crate::state::testing::Scene;
use crate::state::{Body, Fleet};

const METERS: [Meter; 3] = [Meter::VmSeconds, Meter::DiskByteSeconds, Meter::SnapshotSeconds];

#[derive(Debug, Clone)]
enum Step {
    /// Records of machine, meter, start and length in steps of ten seconds, and level.
    Post(Vec<(u8, u8, u16, u8, u8)>),
    /// Time passes, in minutes.
    Wait(u8),
    /// The leader seals what it should.
    Seal,
    /// An entry is corrected.
    Correct(u8, u8),
}

fn step() -> impl Strategy<Value = Step> {
    let record = (0..2u8, 0..3u8, 0..1800u16, 1..40u8, 1..3u8);
    prop_oneof![
        6 => proptest::collection::vec(record, 1..8).prop_map(Step::Post),
        3 => any::<u8>().prop_map(Step::Wait),
        2 => Just(Step::Seal),
        1 => (any::<u8>(), 0..3u8).prop_map(|(entry, quantity)| Step::Correct(entry, quantity)),
    ]
}

/// What every second of a machine's meter was taken with.
type Model = BTreeMap<(VmId, Meter, u64), u64>;

struct Walk {
    scene: Scene,
    vms: [VmId; 2],
    model: Model,
    /// What corrections changed, by meter.
    corrected: BTreeMap<Meter, i128>,
    /// Entries, as they were when they were posted.
    entries: Vec<(EntryId, Original)>,
    second: u64,
}

impl Walk {
    fn new() -> Self {
        let (mut scene, first) = scene();
        let second = scene.create("other");
        let (model, corrected) = (Model::new(), BTreeMap::new());
        Self { scene, vms: [first, second], model, corrected, entries: Vec::new(), second: 0 }
    }

    fn record(&self, (vm, meter, start, length, level): (u8, u8, u16, u8, u8)) -> UsageRecord {
        let start = u64::from(start) * 10;
        let hour_end = (start / HOUR_S + 1) * HOUR_S;
        let end = (start + u64::from(length) * 10).min(hour_end);
        let meter = METERS[usize::from(meter)];
        let level = if meter == Meter::VmSeconds { 1 } else { u64::from(level) };
        UsageRecord { meter, level, ..record(self.vms[usize::from(vm)], start, end) }
    }

    fn take(&mut self, step: &Step) {
        match step {
            Step::Post(records) => self.post(records),
            Step::Wait(minutes) => {
                self.second += u64::from(*minutes) * 60;
                go_to(&mut self.scene, self.second);
            }
            Step::Seal => {
                while let Some(through) = self.scene.fleet.window_due(self.scene.now) {
                    self.scene.apply(Body::SealWindows { through }).unwrap();
                }
            }
            Step::Correct(entry, quantity) => self.correct(*entry, *quantity),
        }
    }

    fn post(&mut self, records: &[(u8, u8, u16, u8, u8)]) {
        let records: Vec<_> = records.iter().map(|record| self.record(*record)).collect();
        let from = self.scene.fleet.book().last_index;
        let outcomes = post(&mut self.scene, records.clone());
        for (record, outcome) in records.iter().zip(outcomes) {
            self.judge(record, &outcome);
        }
        self.note_entries(from);
    }

    /// Compares an outcome with what the model says.
    fn judge(&mut self, record: &UsageRecord, outcome: &RecordOutcome) {
        let key = |second| (record.vm, record.meter, second);
        let seconds = record.start_s..record.end_s;
        let taken: Vec<u64> =
            seconds.clone().filter(|second| self.model.contains_key(&key(*second))).collect();
        match outcome {
            RecordOutcome::Created { .. } | RecordOutcome::CreatedLate { .. } => {
                assert!(taken.is_empty(), "{record:?} was taken twice");
                self.model.extend(seconds.map(|second| (key(second), record.level)));
            }
            RecordOutcome::Exists => assert_eq!(taken.len(), seconds.count(), "{record:?}"),
            RecordOutcome::Conflict { covered } => {
                let named: Vec<u64> =
                    covered.iter().flat_map(|run| run.start_s..run.end_s).collect();
                assert_eq!(named, taken, "{record:?}");
            }
            RecordOutcome::Ahead { .. } => {
                assert!(record.end_s > at_s(self.second) + 300, "{record:?}")
            }
            other => panic!("{record:?}: {other:?}"),
        }
    }

    fn note_entries(&mut self, after: u64) {
        let windows: Vec<_> = self.scene.fleet.open_windows().collect();
        for window in windows {
            for (key, batch) in self.scene.fleet.open_batches(window) {
                let new = batch.postings(key).flatten().filter(|posting| posting.index > after);
                let new = new.map(|posting| {
                    (EntryId { window, index: posting.index }, Original::from(&posting))
                });
                self.entries.extend(new);
            }
        }
    }

    fn correct(&mut self, entry: u8, quantity: u8) {
        if self.entries.is_empty() {
            return;
        }
        let (entry, original) = self.entries[usize::from(entry) % self.entries.len()].clone();
        let (reason, actor) = ("a test".to_owned(), "alice".to_owned());
        let (quantity, before) = (u128::from(quantity), self.scene.fleet.book().last_index);
        let (meter, was) = (original.meter, original.quantity as i128);
        let body = Body::CorrectUsage(CorrectUsage {
            entry,
            quantity,
            reason,
            actor,
            original: Some(original),
        });
        if self.scene.apply(body).is_ok() {
            *self.corrected.entry(meter).or_default() += quantity as i128 - was;
            self.note_entries(before);
        }
    }

    fn compare(&self) {
        for meter in METERS {
            let of_it = self.model.iter().filter(|((_, of, _), _)| *of == meter);
            let sum: i128 = of_it.map(|(_, level)| i128::from(*level)).sum();
            let corrected = self.corrected.get(&meter).copied().unwrap_or_default();
            assert_eq!(used(&self.scene, meter), sum + corrected, "{meter}");
        }
    }

    /// Entries are numbered without a gap, and the accounts are what they say, read from sealed files and open rows.
    fn recount(&self) {
        let fleet = &self.scene.fleet;
        let (mut recount, mut indices, mut windows) = (Recount::default(), Vec::new(), Vec::new());
        for file in fleet.departures.iter().filter(|file| file.name.contains("entries")) {
            windows.push(novacron_protocol::wire::codec::decode(&file.content).unwrap());
        }
        let windows: Vec<crate::state::ledger::content::WindowPart> = windows;
        let open: Vec<_> = fleet.open_windows().collect();
        let sealed = windows.iter().flat_map(|part| part.batches());
        let open = open.iter().flat_map(|window| fleet.open_batches(*window));
        for (key, batch) in sealed.chain(open) {
            recount.add(key, batch);
            indices.extend(batch.postings(key).map(|posting| posting.unwrap().index));
        }
        assert_eq!(Tallies::of(fleet).difference(&recount), None);
        indices.sort_unstable();
        let all: Vec<u64> = (1..=fleet.book().last_index).collect();
        assert_eq!(indices, all);
        for (part, header) in windows.iter().zip(fleet.sealed_windows()) {
            assert_eq!(Totals::of(part.batches()).sums, header.sums);
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 100, ..ProptestConfig::default() })]

    #[test]
    fn every_second_counts_once(steps in proptest::collection::vec(step(), 1..40)) {
        let mut walk = Walk::new();
        for step in &steps {
            // `Scene::apply` checks every invariant after every command.
            walk.take(step);
        }
        walk.compare();
        walk.recount();
        let hash = walk.scene.fleet.state_hash().unwrap();
        prop_assert_eq!(walk.scene.replay().state_hash().unwrap(), hash);
        let loaded = Fleet::from_snapshot(&walk.scene.fleet.to_snapshot().unwrap()).unwrap();
        prop_assert_eq!(loaded.state_hash().unwrap(), hash);
        loaded.check().unwrap();
    }
}
