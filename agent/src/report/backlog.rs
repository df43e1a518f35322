//! What is to be told and was not committed yet: pure.
//!
//! There is one entry per thing that is told about (a machine, a migration's progress, an effect), and a newer report
//! takes the place of an older one: so the backlog is bounded by what the agent has in its care, however long no
//! coordinator answers.

use std::collections::BTreeMap;

use novacron_protocol::effect::Report;
use novacron_protocol::ids::{EffectId, MigrationId, VmId};

/// What a report is about.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Subject {
    /// How a machine stands.
    Machine(VmId),
    /// How far a migration is.
    Progress(MigrationId),
    /// What became of an effect.
    Effect(EffectId),
    /// The end of a migration at its source.
    Ended(MigrationId),
    /// The arrival of a machine at its target.
    HandedOver(MigrationId),
}

impl Subject {
    /// What `report` is about.
    pub fn of(report: &Report) -> Self {
        match report {
            Report::EffectDone { effect, .. } => Self::Effect(*effect),
            Report::Machine(machine) => Self::Machine(machine.vm),
            Report::Progress { migration, .. } => Self::Progress(*migration),
            Report::MigrationEnded { migration, .. } => Self::Ended(*migration),
            Report::HandedOver(handover) => Self::HandedOver(handover.migration),
        }
    }
}

#[derive(Debug)]
struct Entry {
    report: Report,
    /// Its number in this session, once it was sent.
    sequence: Option<u64>,
}

/// The reports, in the order in which they were made.
#[derive(Debug, Default)]
pub struct Backlog {
    entries: BTreeMap<u64, Entry>,
    places: BTreeMap<Subject, u64>,
    next_place: u64,
    sent: u64,
}

impl Backlog {
    /// Adds a report in place of an older one about the same.
    pub fn push(&mut self, report: Report) {
        let subject = Subject::of(&report);
        let place = self.next_place;
        self.next_place += 1;
        if let Some(older) = self.places.insert(subject, place) {
            self.entries.remove(&older);
        }
        self.entries.insert(place, Entry { report, sequence: None });
    }

    /// A new session: numbers begin again, and everything is to be sent again.
    pub fn begin_session(&mut self) {
        self.sent = 0;
        self.entries.values_mut().for_each(|entry| entry.sequence = None);
    }

    /// At most `reports_max` unsent reports and the number of the first, if there are any.
    pub fn next_batch(&mut self, reports_max: usize) -> Option<(u64, Vec<Report>)> {
        let first = self.sent + 1;
        let mut batch = Vec::new();
        let unsent = self.entries.values_mut().filter(|entry| entry.sequence.is_none());
        for entry in unsent.take(reports_max) {
            self.sent += 1;
            entry.sequence = Some(self.sent);
            batch.push(entry.report.clone());
        }
        (!batch.is_empty()).then_some((first, batch))
    }

    /// What the coordinators have committed: all reports up to `sequence`. They are forgotten.
    pub fn committed(&mut self, sequence: u64) -> Vec<Subject> {
        let is_committed = |entry: &Entry| entry.sequence.is_some_and(|sent| sent <= sequence);
        let done: Vec<u64> = self
            .entries
            .iter()
            .filter(|(_, entry)| is_committed(entry))
            .map(|(place, _)| *place)
            .collect();
        let entries = done.iter().filter_map(|place| self.entries.remove(place));
        let subjects: Vec<Subject> = entries.map(|entry| Subject::of(&entry.report)).collect();
        for subject in &subjects {
            self.places.remove(subject);
        }
        subjects
    }

    /// Reports not committed yet.
    pub fn len(&self) -> usize {
        self.entries.len()
    }

    /// Whether everything is committed.
    pub fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    /// The report about this, if it is not committed yet.
    pub fn get(&self, subject: Subject) -> Option<&Report> {
        self.places
            .get(&subject)
            .and_then(|place| self.entries.get(place))
            .map(|entry| &entry.report)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use novacron_protocol::effect::{EffectOutcome, MachineReport, ObservedState};
    use novacron_protocol::ids::Generation;

    fn effect(id: u64) -> Report {
        Report::EffectDone { effect: EffectId(id), outcome: EffectOutcome::Done }
    }

    fn machine(state: ObservedState) -> Report {
        let vm = "6f1c1f2e-0000-4000-8000-000000000001".parse().unwrap();
        Report::Machine(MachineReport {
            vm,
            generation: Generation(1),
            state,
            reason: String::new(),
        })
    }

    #[test]
    fn reports_are_numbered_in_order_and_forgotten_once_committed() {
        let mut backlog = Backlog::default();
        (1..=3).for_each(|id| backlog.push(effect(id)));
        assert_eq!(backlog.next_batch(2), Some((1, vec![effect(1), effect(2)])));
        assert_eq!(backlog.next_batch(2), Some((3, vec![effect(3)])));
        assert_eq!(backlog.next_batch(2), None);
        let subjects = [Subject::Effect(EffectId(1)), Subject::Effect(EffectId(2))];
        assert_eq!(backlog.committed(2), subjects);
        backlog.begin_session();
        assert_eq!(backlog.next_batch(9), Some((1, vec![effect(3)])));
        backlog.committed(1);
        assert!(backlog.is_empty());
    }

    #[test]
    fn a_newer_report_is_not_forgotten_with_the_older_one() {
        let mut backlog = Backlog::default();
        backlog.push(machine(ObservedState::Stopped));
        backlog.next_batch(9);
        backlog.push(machine(ObservedState::Running));
        assert_eq!(backlog.len(), 1);
        assert_eq!(backlog.committed(1), []);
        assert_eq!(backlog.next_batch(9), Some((2, vec![machine(ObservedState::Running)])));
    }
}
