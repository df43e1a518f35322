//! What a simulated host has metered: each of its machines, for each interval of a span, without a gap. Pure.

use novacron_protocol::ids::{Generation, VmId};
use novacron_protocol::usage::{HOUR_S, Meter, UsageRecord};

/// What is metered of each machine, and the level: it runs, and it has a disk of 20 GiB.
const METERS: [(Meter, u64); 2] = [(Meter::VmSeconds, 1), (Meter::DiskByteSeconds, 20 << 30)];

/// Seconds since 1970, cut into intervals of equal length.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Span {
    begin_s: u64,
    end_s: u64,
    step_s: u64,
}

impl Span {
    /// The whole intervals of `step_s` seconds between two seconds. Intervals begin with the hour, so `step_s` has to be a
    /// part of an hour.
    pub fn new(begin_s: u64, end_s: u64, step_s: u64) -> Self {
        assert!(step_s > 0 && HOUR_S.is_multiple_of(step_s), "no record crosses an hour");
        let begin_s = begin_s.next_multiple_of(step_s);
        Self { begin_s, end_s: (end_s - end_s % step_s).max(begin_s), step_s }
    }

    /// Records that so many machines make in it.
    pub fn records(&self, machines: usize) -> u64 {
        self.slots() * (machines * METERS.len()) as u64
    }

    fn slots(&self) -> u64 {
        (self.end_s - self.begin_s) / self.step_s
    }
}

/// Records in the order in which they were metered.
#[derive(Debug, Clone)]
pub struct Tape {
    machines: Vec<(VmId, Generation)>,
    span: Span,
    next: u64,
}

impl Tape {
    /// Of these machines over a span.
    pub fn new(machines: Vec<(VmId, Generation)>, span: Span) -> Self {
        Self { machines, span, next: 0 }
    }
}

impl Iterator for Tape {
    type Item = UsageRecord;

    fn next(&mut self) -> Option<UsageRecord> {
        if self.next >= self.span.records(self.machines.len()) {
            return None;
        }
        let per_slot = (self.machines.len() * METERS.len()) as u64;
        let (slot, place) = (self.next / per_slot, (self.next % per_slot) as usize);
        self.next += 1;
        let (vm, generation) = self.machines[place / METERS.len()];
        let (meter, level) = METERS[place % METERS.len()];
        let start_s = self.span.begin_s + slot * self.span.step_s;
        let end_s = start_s + self.span.step_s;
        Some(UsageRecord { vm, generation, meter, start_s, end_s, level })
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use uuid::Uuid;

    use super::*;

    #[test]
    fn every_second_of_every_meter_is_metered_once() {
        let machines = (1..=3).map(|number| (VmId(Uuid::from_u128(number)), Generation(1)));
        let span = Span::new(7 * HOUR_S - 601, 7 * HOUR_S + 899, 300);
        let records: Vec<_> = Tape::new(machines.collect(), span).collect();
        assert_eq!(records.len() as u64, span.records(3));
        let mut ends = BTreeMap::new();
        for record in records {
            assert_eq!(record.check(), Ok(()));
            let end_s = ends.entry((record.vm, record.meter)).or_insert(7 * HOUR_S - 600);
            assert_eq!(record.start_s, *end_s);
            *end_s = record.end_s;
        }
        assert_eq!(ends.len(), 6);
        assert!(ends.values().all(|end_s| *end_s == 7 * HOUR_S + 600));
    }

    #[test]
    fn nothing_is_metered_by_nobody_or_in_no_time() {
        assert_eq!(Tape::new(Vec::new(), Span::new(0, HOUR_S, 300)).count(), 0);
        let machine = (VmId(Uuid::nil()), Generation(1));
        assert_eq!(Tape::new(vec![machine], Span::new(100, 200, 300)).count(), 0);
    }
}
