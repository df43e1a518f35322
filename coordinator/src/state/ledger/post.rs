//! Posting: records of agents, and what migrations took.

use std::collections::BTreeMap;

use novacron_protocol::ids::{Generation, NodeName, ProjectName, VmId};
use novacron_protocol::limits::{USAGE_AGE_S_MAX, USAGE_AHEAD_S_MAX, USAGE_RECORDS_PER_BATCH_MAX};
use novacron_protocol::migration::MigrationAccount;
use novacron_protocol::usage::{Meter, RecordOutcome, UsageRecord};
use novacron_protocol::vm::InvalidField;

use super::batch::{Draft, OPEN_ENTRIES_MAX};
use super::coverage::window_for;
use super::entry::{Entry, What};
use super::hour::Hour;
use crate::state::fleet::{Applying, Fleet};
use crate::state::migration::Migration;
use crate::state::reply::{Accepted, Refusal, Reply};

/// One draft for each window; nearly always there is one window.
type Drafts = BTreeMap<Hour, Draft>;

impl Fleet {
    /// Posts what a node measured, and answers for each record what became of it.
    pub(in crate::state) fn post_usage(
        &mut self,
        now: &Applying,
        node: &NodeName,
        records: &[UsageRecord],
    ) -> Reply {
        self.check_usage_batch(node, records.len())?;
        self.open_book(now);
        let (mut drafts, mut party) = (Drafts::new(), None);
        let outcomes = records
            .iter()
            .map(|record| self.take_record(now, &mut drafts, &mut party, record))
            .collect();
        for (window, draft) in drafts {
            self.write_draft(now, window, node, None, draft);
        }
        Ok(Accepted::Usage(outcomes))
    }

    fn check_usage_batch(&self, node: &NodeName, records: usize) -> Result<(), Refusal> {
        if records > USAGE_RECORDS_PER_BATCH_MAX {
            return Err(Refusal::TooManyRecords(records));
        }
        if records == 0 {
            let problem = "there is no record; a batch has 1 to 1,000".to_owned();
            return Err(Refusal::Invalid { field: "records".to_owned(), problem });
        }
        if self.nodes.get(node).is_none() {
            return Err(Refusal::NoSuchNode(node.clone()));
        }
        if self.book().open_entries >= OPEN_ENTRIES_MAX {
            let text = format!("{OPEN_ENTRIES_MAX} entries of the ledger wait to be sealed");
            return Err(Refusal::Full(text));
        }
        Ok(())
    }

    /// Windows begin with the oldest that a first entry may still be posted into.
    pub(super) fn open_book(&mut self, now: &Applying) {
        let mut book = self.book();
        if book.sealed_before == Hour::default() {
            book.sealed_before = Hour::first_open_at(now.at);
            self.ledger_book.insert(crate::state::table::Only, book);
        }
    }

    fn take_record(
        &mut self,
        now: &Applying,
        drafts: &mut Drafts,
        party: &mut Option<Party>,
        record: &UsageRecord,
    ) -> RecordOutcome {
        if let Some(refused) = refused(now, record) {
            return refused;
        }
        if party.as_ref().is_none_or(|party| party.vm != record.vm) {
            *party = self.party(record.vm);
        }
        let Some(party) = party else { return RecordOutcome::UnknownVm };
        if record.generation > party.generation_promised {
            return never_given(record.generation, party.generation_promised);
        }
        if let Some(held) = self.held(record) {
            return held;
        }
        let used = Hour::of_s(record.start_s);
        let window = window_for(used, self.book().sealed_before, Hour::of(now.at));
        let draft = drafts.entry(window).or_default();
        let party = draft.party(record.vm, &party.project);
        let what = What::Interval {
            generation: record.generation,
            start_s: record.start_s,
            end_s: record.end_s,
            level: record.level,
        };
        draft.push(window, &Entry { party, meter: record.meter, what });
        self.cover(window, record);
        let window_s = window.begin_s();
        match window == used {
            true => RecordOutcome::Created { window_s },
            false => RecordOutcome::CreatedLate { window_s, late_for_s: used.begin_s() },
        }
    }

    fn party(&self, vm: VmId) -> Option<Party> {
        let subject = self.subject(vm)?;
        let (project, generation_promised) = (subject.project.clone(), subject.generation_promised);
        Some(Party { vm, project, generation_promised })
    }

    /// Posts a migration that has just completed. Its step changes once, so this happens once; one that failed is
    /// never posted.
    pub(in crate::state) fn post_migration(
        &mut self,
        now: &Applying,
        migration: &Migration,
        account: Option<&MigrationAccount>,
    ) {
        let (id, vm, source) = (migration.id, migration.vm, &migration.source);
        let Some(subject) = self.subject(vm) else { return };
        let project = subject.project.clone();
        self.open_book(now);
        let at_s = now.at.unix_ms / 1000;
        let window = window_for(Hour::of_s(at_s), self.book().sealed_before, Hour::of_s(at_s));
        let mut draft = Draft::default();
        let party = draft.party(vm, &project);
        let bytes = account.map_or(0, |account| account.bytes_wire);
        for (meter, quantity) in [(Meter::Migrations, 1), (Meter::BytesMoved, bytes)] {
            if quantity > 0 {
                let what = What::Migration { at_s, quantity, migration: id };
                draft.push(window, &Entry { party, meter, what });
            }
        }
        self.write_draft(now, window, source, None, draft);
    }
}

/// Whose usage a record is. Records of one machine come one after the other, so it is looked up once for them.
struct Party {
    vm: VmId,
    project: ProjectName,
    generation_promised: Generation,
}

/// Why a record cannot be taken, whatever the ledger holds.
fn refused(now: &Applying, record: &UsageRecord) -> Option<RecordOutcome> {
    if let Err(problems) = record.check() {
        return Some(RecordOutcome::Invalid { problems });
    }
    let now_s = now.at.unix_ms / 1000;
    if record.end_s > now_s.saturating_add(USAGE_AHEAD_S_MAX) {
        return Some(RecordOutcome::Ahead { by_s: record.end_s - now_s });
    }
    let is_old = record.start_s < now_s.saturating_sub(USAGE_AGE_S_MAX);
    is_old.then(|| RecordOutcome::too_late(now_s))
}

fn never_given(generation: Generation, newest: Generation) -> RecordOutcome {
    let problem = format!("generation {generation} was given to no node; the newest is {newest}");
    let problems = vec![InvalidField { field: "generation".to_owned(), problem }];
    RecordOutcome::Invalid { problems }
}
