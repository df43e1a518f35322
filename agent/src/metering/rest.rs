//! What an answer of the ledger asks for: pure.

use novacron_protocol::usage::{RecordOutcome, Seconds, UsageRecord};

use super::series::AHEAD_S_MAX;

/// What is to be done about a batch that was answered.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Verdict {
    /// Send it again later: some of it lies ahead of the fleet's clock.
    Wait,
    /// It is over.
    Over {
        /// Seconds that are to be sent as records of their own.
        rest: Vec<UsageRecord>,
        /// What the ledger will never take, and why.
        refused: Vec<(UsageRecord, RecordOutcome)>,
    },
}

/// Judges the answer to a batch. `None` if it is not an answer to these records.
pub fn judge(records: &[UsageRecord], outcomes: Vec<RecordOutcome>) -> Option<Verdict> {
    if records.len() != outcomes.len() {
        return None;
    }
    if outcomes.iter().any(is_to_wait_for) {
        return Some(Verdict::Wait);
    }
    let (mut rest, mut refused) = (Vec::new(), Vec::new());
    for (&record, outcome) in records.iter().zip(outcomes) {
        match outcome {
            RecordOutcome::Created { .. }
            | RecordOutcome::CreatedLate { .. }
            | RecordOutcome::Exists => (),
            RecordOutcome::Conflict { ref covered } => match uncovered(&record, covered) {
                Some(parts) => rest.extend(parts),
                // A conflict with nothing would be answered in the same way for ever.
                None => refused.push((record, outcome)),
            },
            outcome => refused.push((record, outcome)),
        }
    }
    Some(Verdict::Over { rest, refused })
}

/// A clock that is further ahead than any that puts itself right is waited for in vain.
fn is_to_wait_for(outcome: &RecordOutcome) -> bool {
    matches!(outcome, RecordOutcome::Ahead { by_s } if *by_s <= 2 * AHEAD_S_MAX)
}

/// The seconds of a record that are not covered, as records; `None` if no second of it is. The same for the same answer,
/// so that it may be sent twice.
fn uncovered(record: &UsageRecord, covered: &[Seconds]) -> Option<Vec<UsageRecord>> {
    let is_some = |seconds: &&Seconds| seconds.start_s < seconds.end_s;
    let mut covered: Vec<Seconds> = covered.iter().filter(is_some).copied().collect();
    covered.sort_unstable();
    let mut start_s = record.start_s;
    let mut rest = Vec::new();
    for Seconds { start_s: from_s, end_s: to_s } in covered {
        let from_s = from_s.min(record.end_s);
        if start_s < from_s {
            rest.push(UsageRecord { start_s, end_s: from_s, ..*record });
        }
        start_s = start_s.max(to_s);
    }
    if start_s < record.end_s {
        rest.push(UsageRecord { start_s, ..*record });
    }
    (rest != [*record]).then_some(rest)
}

#[cfg(test)]
mod tests {
    use novacron_protocol::ids::{Generation, VmId};
    use novacron_protocol::usage::Meter;
    use uuid::Uuid;

    use super::*;

    fn record(start_s: u64, end_s: u64) -> UsageRecord {
        let (vm, generation) = (VmId(Uuid::from_u128(1)), Generation(2));
        UsageRecord { vm, generation, meter: Meter::VmSeconds, start_s, end_s, level: 1 }
    }

    fn conflict(covered: &[(u64, u64)]) -> RecordOutcome {
        let seconds = |&(start_s, end_s)| Seconds { start_s, end_s };
        RecordOutcome::Conflict { covered: covered.iter().map(seconds).collect() }
    }

    fn rest(covered: &[(u64, u64)]) -> Option<Vec<(u64, u64)>> {
        match judge(&[record(10, 20)], vec![conflict(covered)]) {
            Some(Verdict::Over { rest, refused }) if refused.is_empty() => {
                Some(rest.iter().map(|part| (part.start_s, part.end_s)).collect())
            }
            _ => None,
        }
    }

    #[test]
    fn what_is_not_covered_is_sent_as_records_of_its_own() {
        for (covered, expected) in [
            (&[(10, 11)][..], &[(11, 20)][..]),
            (&[(5, 11)], &[(11, 20)]),
            (&[(19, 25)], &[(10, 19)]),
            (&[(12, 14), (16, 18)], &[(10, 12), (14, 16), (18, 20)]),
            (&[(16, 18), (12, 14)], &[(10, 12), (14, 16), (18, 20)]),
            (&[(12, 17), (13, 14)], &[(10, 12), (17, 20)]),
            (&[(10, 20)], &[]),
            (&[(0, 99)], &[]),
        ] {
            assert_eq!(rest(covered).as_deref(), Some(expected), "{covered:?}");
        }
    }

    #[test]
    fn a_conflict_with_nothing_is_refused_not_repeated() {
        for covered in [&[][..], &[(1, 9)], &[(20, 30)], &[(15, 15)]] {
            let outcome = conflict(covered);
            let refused = vec![(record(10, 20), outcome.clone())];
            let expected = Verdict::Over { rest: vec![], refused };
            assert_eq!(judge(&[record(10, 20)], vec![outcome]), Some(expected), "{covered:?}");
        }
    }

    #[test]
    fn a_clock_that_is_ahead_is_waited_for_unless_it_is_absurd() {
        let records = [record(10, 20), record(20, 30)];
        let judge =
            |by_s| judge(&records, vec![RecordOutcome::Exists, RecordOutcome::Ahead { by_s }]);
        assert_eq!(judge(400), Some(Verdict::Wait));
        let outcome = RecordOutcome::Ahead { by_s: 86_400 };
        let refused = vec![(records[1], outcome)];
        assert_eq!(judge(86_400), Some(Verdict::Over { rest: vec![], refused }));
    }

    #[test]
    fn an_answer_to_something_else_is_none() {
        assert_eq!(judge(&[record(1, 2)], vec![]), None);
    }
}
