//! Connections of which nobody knows yet whose they are. They have fewer places than there are connections, and none of
//! them keeps somebody else out: when the places are taken, one that does nothing goes, of the source that has the most.
//!
//! Whoever opens many thus closes its own, and a client that comes with a certificate or a key gets in, whatever others
//! hold. Pure: who has to go is told to whoever asks.

use std::cmp::Reverse;
use std::collections::BTreeMap;

/// Names a connection; later ones have higher numbers.
pub type Number = u64;

/// Places for connections of nobody, by source.
#[derive(Debug)]
pub struct Lobby<S> {
    most: usize,
    each_max: usize,
    next: Number,
    count: usize,
    sources: BTreeMap<S, BTreeMap<Number, Doing>>,
}

/// What a connection does.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Doing {
    /// It shakes hands, or has asked nothing that is not answered.
    Nothing,
    /// A request of it is under way.
    Asking,
}

impl<S: Ord + Copy> Lobby<S> {
    /// So many places, and so many of them for one source; at least one.
    pub fn new(most: usize, each_max: usize) -> Self {
        let most = most.max(1);
        Self {
            most,
            each_max: each_max.clamp(1, most),
            next: 0,
            count: 0,
            sources: BTreeMap::new(),
        }
    }

    /// Lets one in, and says which other one has to go for it.
    pub fn enter(&mut self, source: S) -> (Number, Option<Number>) {
        let evicted = self.crowded(source).and_then(|crowded| self.evict(crowded));
        let number = self.next;
        self.next += 1;
        self.sources.entry(source).or_default().insert(number, Doing::Nothing);
        self.count += 1;
        (number, evicted)
    }

    /// What one does has changed.
    pub fn does(&mut self, source: S, number: Number, doing: Doing) {
        let own = self.sources.get_mut(&source).and_then(|own| own.get_mut(&number));
        if let Some(own) = own {
            *own = doing;
        }
    }

    /// One went, or is somebody's from now on.
    pub fn leave(&mut self, source: S, number: Number) {
        let Some(own) = self.sources.get_mut(&source) else { return };
        self.count -= usize::from(own.remove(&number).is_some());
        if own.is_empty() {
            self.sources.remove(&source);
        }
    }

    /// The source that one has to leave before another comes from `newcomer`, if one has to.
    fn crowded(&self, newcomer: S) -> Option<S> {
        let own = self.sources.get(&newcomer).map_or(0, BTreeMap::len);
        if own >= self.each_max {
            return Some(newcomer);
        }
        if self.count < self.most {
            return None;
        }
        // The newcomer counts for its source, and among sources that have as many the oldest connection goes.
        let weight = |(source, own): &(&S, &BTreeMap<Number, Doing>)| {
            let oldest = own.first_key_value().map(|(number, _)| *number);
            (own.len() + usize::from(**source == newcomer), Reverse(oldest))
        };
        self.sources.iter().max_by_key(weight).map(|(source, _)| *source)
    }

    /// The oldest that does nothing; if all ask, the oldest.
    fn evict(&mut self, source: S) -> Option<Number> {
        let own = self.sources.get(&source)?;
        let idle = own.iter().find(|(_, doing)| **doing == Doing::Nothing);
        let number = *idle.or_else(|| own.first_key_value())?.0;
        self.leave(source, number);
        Some(number)
    }
}

#[cfg(test)]
mod tests {
    use proptest::collection::vec;
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn the_source_that_has_most_loses_one_that_does_nothing() {
        let mut lobby = Lobby::new(4, 4);
        let numbers = ["a", "a", "b", "a"].map(|source| lobby.enter(source).0);
        lobby.does("a", numbers[0], Doing::Asking);
        assert_eq!(lobby.enter("b").1, Some(numbers[1]), "idle, of `a`, which has three");
        assert_eq!(lobby.enter("b").1, Some(numbers[2]), "with the new one `b` has three");
        lobby.leave("a", numbers[0]);
        assert_eq!(lobby.enter("c").1, None, "there is a place");
        let (of_c, evicted) = lobby.enter("c");
        assert!(evicted.is_some_and(|evicted| !numbers.contains(&evicted)), "`b` has two");
        lobby.does("c", of_c, Doing::Asking);
    }

    #[test]
    fn a_source_keeps_within_its_own_and_where_all_ask_the_oldest_goes() {
        let mut lobby = Lobby::new(9, 2);
        let (first, second) = (lobby.enter("a").0, lobby.enter("a").0);
        for number in [first, second] {
            lobby.does("a", number, Doing::Asking);
        }
        assert_eq!(lobby.enter("a").1, Some(first));
        lobby.does("a", second, Doing::Nothing);
        assert_eq!(lobby.enter("a").1, Some(second));
    }

    #[test]
    fn among_many_sources_with_one_each_the_oldest_goes() {
        let mut lobby = Lobby::new(3, 3);
        let numbers = [7, 5, 6].map(|source| lobby.enter(source).0);
        assert_eq!(lobby.enter(9).1, Some(numbers[0]));
        assert_eq!(lobby.enter(1).1, Some(numbers[1]));
    }

    proptest! {
        /// Whoever has one connection keeps it, as long as some other source has two.
        #[test]
        fn whatever_comes_places_are_bounded_and_a_flood_takes_nobodys_only_place(
            steps in vec((0_u8..6, 0_u8..3), 0..200),
            most in 2_usize..9,
            each_max in 1_usize..9,
        ) {
            let mut lobby = Lobby::new(most, each_max);
            let mut here: BTreeMap<Number, u8> = BTreeMap::new();
            for (source, step) in steps {
                let of = |here: &BTreeMap<Number, u8>, source| here.values().filter(|one| **one == source).count();
                let first = here.iter().find(|(_, one)| **one == source).map(|(number, _)| *number);
                match (step, first) {
                    (0, Some(first)) => {
                        lobby.leave(source, first);
                        here.remove(&first);
                    }
                    (1, Some(first)) => lobby.does(source, first, Doing::Asking),
                    _ => {
                        let most_of_one = (0..6).map(|one| of(&here, one)).max().unwrap_or(0);
                        let (number, evicted) = lobby.enter(source);
                        if let Some(evicted) = evicted {
                            let loser = here.remove(&evicted).expect("it was here");
                            let had = of(&here, loser) + 1;
                            prop_assert!(loser == source || had == most_of_one);
                        }
                        here.insert(number, source);
                    }
                }
                prop_assert_eq!(lobby.count, here.len());
                prop_assert!(here.len() <= most);
                prop_assert!((0..6).all(|one| of(&here, one) <= each_max));
            }
        }
    }
}
