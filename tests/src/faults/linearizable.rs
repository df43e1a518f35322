//! Whether a history of a register could have happened one operation after the other, each at some moment between its
//! beginning and its end.
//!
//! The search is that of Wing and Gong with Lowe's memory of places where it has been: operations are taken one by one,
//! always one that began before all of those that are left had ended; a place is the set of operations that were taken
//! and the value that they led to. Registers are independent of each other, so each is searched alone.

use std::collections::{BTreeMap, HashSet};

use super::history::{Action, Operation, Register, Value};

/// Places that a search may visit: some seconds and a gigabyte at most. A history of so many operations at once is
/// one that the load should not have made.
const PLACES_MAX: usize = 4_000_000;

/// What a search found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Verdict {
    /// It could have happened.
    Linearizable,
    /// It could not, by the operations of this register.
    Impossible {
        /// The register.
        register: Register,
        /// Its operations in the order of their beginnings.
        operations: Vec<Operation>,
    },
    /// The search was given up.
    TooWide {
        /// The register.
        register: Register,
    },
}

/// Judges a history of any number of registers.
pub fn judge(history: &[Operation]) -> Verdict {
    let mut registers: BTreeMap<Register, Vec<Operation>> = BTreeMap::new();
    for operation in history {
        registers.entry(operation.register).or_default().push(*operation);
    }
    for (register, mut operations) in registers {
        operations.sort_by_key(|operation| operation.began_ns);
        match Search::new(&operations).run() {
            Some(true) => {}
            Some(false) => return Verdict::Impossible { register, operations },
            None => return Verdict::TooWide { register },
        }
    }
    Verdict::Linearizable
}

/// The search over one register.
struct Search {
    /// Operations that must be taken, in the order of their beginnings: those that were answered.
    answered: Vec<Operation>,
    /// Those that may be taken at any time after their beginning, or never, in the same order.
    unanswered: Vec<Operation>,
    seen: HashSet<(Taken, Value)>,
}

/// Operations that were taken. However long the history is, this is as short as many are under way at once, and as many
/// without an answer had an effect: an operation that is never taken does not keep what is behind it here.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Default)]
struct Taken {
    /// All answered ones before this.
    all_before: usize,
    /// And some answered ones behind it.
    beyond: Vec<usize>,
    /// And these that were not answered.
    unanswered: Vec<usize>,
}

impl Taken {
    fn contains(&self, answered: usize) -> bool {
        answered < self.all_before || self.beyond.binary_search(&answered).is_ok()
    }

    fn with(&self, next: Next) -> Self {
        let mut taken = self.clone();
        let (among, at) = match next {
            Next::Answered(at) => (&mut taken.beyond, at),
            Next::Unanswered(at) => (&mut taken.unanswered, at),
        };
        if let Err(place) = among.binary_search(&at) {
            among.insert(place, at);
        }
        while taken.beyond.first() == Some(&taken.all_before) {
            taken.beyond.remove(0);
            taken.all_before += 1;
        }
        taken
    }
}

/// An operation that may be next.
#[derive(Debug, Clone, Copy)]
enum Next {
    Answered(usize),
    Unanswered(usize),
}

impl Search {
    /// Over operations in the order of their beginnings.
    fn new(operations: &[Operation]) -> Self {
        let (answered, unanswered) =
            operations.iter().partition(|operation| operation.ended_ns.is_some());
        Self { answered, unanswered, seen: HashSet::new() }
    }

    /// Whether there is an order; nothing if the search was given up.
    fn run(mut self) -> Option<bool> {
        let mut ways = vec![(Taken::default(), Value(0))];
        while let Some((taken, value)) = ways.pop() {
            if taken.all_before == self.answered.len() {
                return Some(true);
            }
            if !self.seen.insert((taken.clone(), value)) {
                continue;
            }
            if self.seen.len() > PLACES_MAX {
                return None;
            }
            for next in self.next(&taken) {
                match self.operation(next).action {
                    Action::Write(written) => ways.push((taken.with(next), written)),
                    Action::Read(read) if read == value => ways.push((taken.with(next), value)),
                    Action::Read(_) => {}
                }
            }
        }
        Some(false)
    }

    fn operation(&self, next: Next) -> &Operation {
        match next {
            Next::Answered(at) => &self.answered[at],
            Next::Unanswered(at) => &self.unanswered[at],
        }
    }

    /// Operations that may be next: those that began before any that is left had ended. Those without an answer are the
    /// first here, and tried last.
    fn next(&self, taken: &Taken) -> Vec<Next> {
        let (mut first_end_ns, mut answered) = (u64::MAX, Vec::new());
        for (at, operation) in self.answered.iter().enumerate().skip(taken.all_before) {
            // Who began later ended later, too.
            if operation.began_ns > first_end_ns {
                break;
            }
            if !taken.contains(at) {
                first_end_ns = first_end_ns.min(operation.ended_ns.unwrap_or(u64::MAX));
                answered.push(at);
            }
        }
        let unanswered = self.unanswered.iter().enumerate();
        let unanswered = unanswered.take_while(|(_, one)| one.began_ns <= first_end_ns);
        let unanswered = unanswered.filter(|(at, _)| taken.unanswered.binary_search(at).is_err());
        unanswered
            .map(|(at, _)| Next::Unanswered(at))
            .chain(answered.into_iter().map(Next::Answered))
            .collect()
    }
}

#[cfg(test)]
mod tests {
    use super::super::dice::Dice;
    use super::*;

    fn operation(client: u32, action: Action, began_ns: u64, ended_ns: u64) -> Operation {
        let ended_ns = (ended_ns > 0).then_some(ended_ns);
        Operation { client, register: Register(1), action, began_ns, ended_ns }
    }

    fn write(value: u64, began_ns: u64, ended_ns: u64) -> Operation {
        operation(1, Action::Write(Value(value)), began_ns, ended_ns)
    }

    fn read(value: u64, began_ns: u64, ended_ns: u64) -> Operation {
        operation(2, Action::Read(Value(value)), began_ns, ended_ns)
    }

    fn is_possible(history: &[Operation]) -> bool {
        judge(history) == Verdict::Linearizable
    }

    #[test]
    fn what_happens_one_after_the_other_is_possible() {
        assert!(is_possible(&[]));
        assert!(is_possible(&[read(0, 1, 2), write(1, 3, 4), read(1, 5, 6), write(2, 7, 8)]));
    }

    #[test]
    fn a_stale_read_is_not() {
        assert!(!is_possible(&[write(1, 1, 2), write(2, 3, 4), read(1, 5, 6)]));
        assert!(!is_possible(&[write(1, 1, 2), read(0, 3, 4)]));
    }

    #[test]
    fn a_lost_write_is_not() {
        assert!(!is_possible(&[write(1, 1, 2), write(2, 3, 4), read(2, 5, 6), read(1, 7, 8)]));
    }

    #[test]
    fn a_value_that_nobody_wrote_is_not() {
        assert!(!is_possible(&[write(1, 1, 2), read(9, 1, 3)]));
    }

    #[test]
    fn what_overlaps_may_have_happened_in_any_order() {
        let writes = [write(1, 1, 10), write(2, 1, 10)];
        for last in [1, 2] {
            assert!(is_possible(&[writes[0], writes[1], read(last, 11, 12)]), "{last}");
        }
        // But in one order only.
        let both = [writes[0], writes[1], read(1, 11, 12), read(2, 13, 14)];
        assert!(!is_possible(&both));
    }

    #[test]
    fn a_write_without_an_answer_may_have_happened_or_not_or_late() {
        let unknown = write(2, 3, 0);
        assert!(is_possible(&[write(1, 1, 2), unknown, read(1, 4, 5)]));
        assert!(is_possible(&[write(1, 1, 2), unknown, read(2, 4, 5)]));
        assert!(is_possible(&[write(1, 1, 2), unknown, read(1, 4, 5), read(2, 6, 7)]));
        // Once it was seen it does not go away.
        assert!(!is_possible(&[write(1, 1, 2), unknown, read(2, 4, 5), read(1, 6, 7)]));
    }

    #[test]
    fn a_write_without_an_answer_keeps_nothing_of_what_is_behind_it() {
        let answered = (1..=5_000).map(|step| write(step, step * 10, step * 10 + 15));
        let history: Vec<_> = std::iter::once(write(1_000_000, 1, 0)).chain(answered).collect();
        let search = Search::new(&history);
        let mut taken = Taken::default();
        for at in 0..2_500 {
            assert!(
                search.next(&taken).len() <= 3,
                "the one without an answer, and two that overlap"
            );
            taken = taken.with(Next::Answered(at));
        }
        assert_eq!(taken, Taken { all_before: 2_500, ..Taken::default() });
        assert_eq!(search.run(), Some(true));
    }

    #[test]
    fn registers_do_not_speak_for_each_other() {
        let other = Operation { register: Register(2), ..read(0, 3, 4) };
        assert!(is_possible(&[write(1, 1, 2), other]));
        let Verdict::Impossible { register, operations } =
            judge(&[other, write(1, 1, 2), read(0, 3, 4)])
        else {
            panic!("a stale read passed")
        };
        assert_eq!((register, operations.len()), (Register(1), 2));
    }

    /// Histories that a real register made, with every operation stretched at random; then one answer is changed.
    #[test]
    fn histories_of_a_register_are_possible_and_not_with_one_answer_changed() {
        let mut dice = Dice::new(1);
        let mut roll = move |sides: usize| dice.below(sides) as u64;
        for seed in 0..200u64 {
            let (mut history, mut value) = (Vec::new(), 0);
            for moment in (1..=40u64).map(|step| step * 100) {
                let (early, late) = (roll(250), roll(250));
                let (began, ended) = (moment.saturating_sub(early).max(1), moment + late);
                if roll(2) == 0 {
                    value = moment;
                    history.push(write(value, began, ended));
                } else {
                    history.push(read(value, began, ended));
                }
            }
            assert!(is_possible(&history), "seed {seed}");
            history.push(write(1_000_000, 10_000, 10_001));
            history.push(read(value, 10_002, 10_003));
            assert!(!is_possible(&history), "seed {seed}");
        }
    }
}
