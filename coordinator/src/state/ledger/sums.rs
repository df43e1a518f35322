//! Sums over entries: of a window, what each machine used, and what each project did.

use std::collections::BTreeMap;

use novacron_protocol::ids::{ProjectName, VmId, VmName};
use novacron_protocol::usage::Meter;
use novacron_protocol::vm::Labels;
use novacron_protocol::wire::codec::Message;
use serde::{Deserialize, Serialize};

use super::account::Direction;
use super::batch::{BatchKey, EntryBatch, Posting};
use super::hour::Hour;
use crate::state::fleet::Fleet;

/// What was posted of a meter.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct MeterSum {
    /// Used.
    pub used: u128,
    /// Taken back.
    pub taken_back: u128,
}

impl MeterSum {
    pub(super) fn add(&mut self, posting: &Posting<'_>) {
        let side = match posting.entry.direction() {
            Direction::Used => &mut self.used,
            Direction::TakenBack => &mut self.taken_back,
        };
        *side = side.saturating_add(posting.entry.quantity());
    }

    pub(super) fn merge(&mut self, other: &Self) {
        self.used = self.used.saturating_add(other.used);
        self.taken_back = self.taken_back.saturating_add(other.taken_back);
    }
}

/// Sums for each meter, in the order of [`Meter::ALL`].
pub type MeterSums = [MeterSum; Meter::ALL.len()];

/// The sum of a meter.
pub(super) fn of_meter(sums: &mut MeterSums, meter: Meter) -> &mut MeterSum {
    // Numbers of meters are 1 to their count.
    &mut sums[usize::from(meter.number()) - 1]
}

/// What one machine used of a meter in an hour, as posted into one window.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct UseKey {
    /// The machine.
    pub vm: VmId,
    /// Which of the summary's projects used.
    pub project: u16,
    /// Of what.
    pub meter: Meter,
    /// The hour of the use; the window's own unless it came late or is a correction.
    pub used: Hour,
}

/// A machine as it was when its window was sealed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct MachineThen {
    /// The machine.
    pub vm: VmId,
    /// Its name.
    pub name: String,
    /// Its labels.
    pub labels: Labels,
}

/// What some machines used in a window.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Summary {
    /// The window.
    pub window: Hour,
    /// The projects that used, in order.
    pub projects: Vec<ProjectName>,
    /// What each machine used; a correction can make it negative.
    pub uses: Vec<(UseKey, i128)>,
    /// The machines, in order.
    pub machines: Vec<MachineThen>,
}

/// Machines of one part of a summary: with labels of at most 18 KiB each, commonly some 100 bytes, they are 72 MiB.
const MACHINES_PER_SUMMARY: usize = 4_096;

impl Message for Summary {
    const VERSION: u16 = 1;
    // And the uses: three meters for each machine, more only for what came late.
    const BYTES_MAX: usize = 256 << 20;
    const NAME: &'static str = "summary of a window";
}

impl Summary {
    /// What each project used of each meter, by hour of use.
    pub fn of_projects(&self) -> BTreeMap<(&ProjectName, Meter, Hour), i128> {
        let mut sums = BTreeMap::new();
        for (key, net) in &self.uses {
            if let Some(project) = self.projects.get(usize::from(key.project)) {
                *sums.entry((project, key.meter, key.used)).or_insert(0) += net;
            }
        }
        sums
    }
}

/// Adds up the entries of batches: they are collected and sorted, which costs a fifth of finding each one's sum.
#[derive(Debug, Default)]
pub struct Summing {
    projects: Vec<ProjectName>,
    uses: Vec<(UseKey, i128)>,
    /// How many of `uses` are summed up and in order.
    summed: usize,
}

/// Uses that are collected before they are summed up: 64 bytes each.
const COLLECTED_MAX: usize = 1 << 20;

impl Summing {
    /// Adds the entries of a batch.
    pub fn add(&mut self, key: BatchKey, batch: &EntryBatch) {
        let places: Vec<u16> = batch.projects.iter().map(|project| self.project(project)).collect();
        for posting in batch.postings(key).flatten() {
            let party = batch.parties[usize::from(posting.entry.party)];
            let key = UseKey {
                vm: posting.vm,
                project: places[usize::from(party.project)],
                meter: posting.entry.meter,
                used: posting.entry.used(),
            };
            self.uses.push((key, posting.entry.net()));
        }
        if self.uses.len() - self.summed > COLLECTED_MAX {
            self.sum_up();
        }
    }

    fn sum_up(&mut self) {
        self.uses.sort_unstable_by_key(|(key, _)| *key);
        self.uses.dedup_by(|(key, net), (kept, sum)| {
            let is_same = key == kept;
            if is_same {
                *sum = sum.saturating_add(*net);
            }
            is_same
        });
        self.summed = self.uses.len();
    }

    /// Whether summaries say the same uses, whatever they say of machines.
    pub fn is_summed_up_by(mut self, summaries: &[Summary]) -> bool {
        self.sum_up();
        let said = summaries.iter().flat_map(|summary| &summary.uses);
        let projects = summaries.iter().all(|summary| summary.projects == self.projects);
        projects && said.eq(&self.uses)
    }

    fn project(&mut self, project: &ProjectName) -> u16 {
        let known = self.projects.iter().position(|known| known == project);
        let place = known.unwrap_or_else(|| {
            self.projects.push(project.clone());
            self.projects.len() - 1
        });
        // A fleet has fewer projects.
        u16::try_from(place).unwrap_or(u16::MAX)
    }

    /// The summary of a window in parts, with machines as `fleet` knows them.
    pub fn finish(mut self, window: Hour, fleet: &Fleet) -> Vec<Summary> {
        self.sum_up();
        let mut vms: Vec<VmId> = self.uses.iter().map(|(key, _)| key.vm).collect();
        vms.dedup();
        let mut rest = &self.uses[..];
        let part = |some: &[VmId]| {
            let last = some.last().copied();
            let (uses, behind) =
                rest.split_at(rest.partition_point(|(key, _)| Some(key.vm) <= last));
            rest = behind;
            let machines = some.iter().map(|vm| MachineThen::of(*vm, fleet)).collect();
            Summary { window, projects: self.projects.clone(), uses: uses.to_vec(), machines }
        };
        vms.chunks(MACHINES_PER_SUMMARY).map(part).collect()
    }
}

impl MachineThen {
    fn of(vm: VmId, fleet: &Fleet) -> Self {
        let known = fleet.subject(vm);
        Self {
            vm,
            name: known.map(|known| known.name).map(VmName::to_string).unwrap_or_default(),
            labels: known.map(|known| known.labels.clone()).unwrap_or_default(),
        }
    }
}

impl Fleet {
    /// What was used in a window that is not sealed, so far.
    pub fn open_summary(&self, window: Hour) -> Vec<Summary> {
        let mut summing = Summing::default();
        self.open_batches(window).for_each(|(key, batch)| summing.add(key, batch));
        summing.finish(window, self)
    }
}
