//! All catalogues of an agent.
//!
//! A target keeps a shelf for longer than there is room here to know what is on it. So what goes first is what a
//! catalogue knows, and not which numbers were given: no number is ever given twice for one shelf. Those are forgotten of
//! all shelves at once, and with them the *run* by which targets know whose shelves they are: all of them are new then.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use novacron_protocol::ids::NodeName;
use novacron_protocol::session::message::ShelfOffer;

use super::catalogue::Catalogue;
use crate::migrate::cache::CacheBudget;

/// Shelves whose numbers are remembered at once: 1 MiB.
const SHELVES_MAX: usize = 4096;
/// Bytes of all that catalogues know: 350,000 pages, or 1.3 GiB on the shelves of other hosts.
const CATALOGUES_BYTES_MAX: u64 = 32 << 20;

/// See the module; clones share them.
#[derive(Debug, Clone)]
pub struct Catalogues {
    budget: CacheBudget,
    state: Arc<Mutex<State>>,
}

#[derive(Debug)]
struct State {
    run: u64,
    /// The one used least recently is first.
    known: VecDeque<Known>,
}

#[derive(Debug)]
struct Known {
    target: NodeName,
    shelf: ShelfOffer,
    catalogue: Arc<Catalogue>,
}

impl State {
    fn begin() -> Self {
        Self { run: rand::random(), known: VecDeque::new() }
    }

    fn take(&mut self, target: &NodeName, shelf: ShelfOffer) -> Option<Known> {
        let is_it = |known: &Known| known.target == *target && known.shelf == shelf;
        self.known.iter().position(is_it).and_then(|at| self.known.remove(at))
    }
}

impl Default for Catalogues {
    fn default() -> Self {
        let state = Arc::new(Mutex::new(State::begin()));
        Self { budget: CacheBudget::new(CATALOGUES_BYTES_MAX), state }
    }
}

impl Catalogues {
    /// What targets are to know their shelves by from now on, a random number.
    pub fn run(&self) -> u64 {
        self.lock().run
    }

    /// The catalogue of the shelf that this target has for this run; an empty one if nothing is known of that shelf.
    /// `None` if the run is over: what is on the shelf, and where, is not known any more.
    pub fn open(&self, run: u64, target: &NodeName, shelf: ShelfOffer) -> Option<Arc<Catalogue>> {
        let mut state = self.lock();
        if state.run != run {
            return None;
        }
        let known = match state.take(target, shelf) {
            Some(known) => known,
            None if state.known.len() == SHELVES_MAX => {
                *state = State::begin();
                return None;
            }
            None => self.make(target, shelf),
        };
        if known.catalogue.is_empty() {
            self.make_room(&state.known);
        }
        let catalogue = Arc::clone(&known.catalogue);
        state.known.push_back(known);
        Some(catalogue)
    }

    fn make(&self, target: &NodeName, shelf: ShelfOffer) -> Known {
        let catalogue = Arc::new(Catalogue::new(rand::random(), shelf.pages_max, &self.budget));
        Known { target: target.clone(), shelf, catalogue }
    }

    /// Room for half of all, so that old ones do not keep a new one small.
    fn make_room(&self, known: &VecDeque<Known>) {
        let is_short = || self.budget.used_bytes() > self.budget.limit_bytes() / 2;
        let unused = known.iter().filter(|known| Arc::strong_count(&known.catalogue) == 1);
        for oldest in unused.take_while(|_| is_short()) {
            oldest.catalogue.forget();
        }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::AtomicU64;

    use novacron_protocol::pages::PAGE_BYTES;

    use super::super::catalogue::ENTRY_BYTES;
    use super::super::{Find, Voucher};
    use super::*;

    const HALF_PAGES: u64 = CATALOGUES_BYTES_MAX / 2 / ENTRY_BYTES;

    fn open(catalogues: &Catalogues, target: &str, id: u64) -> Arc<Catalogue> {
        let shelf = ShelfOffer { id, pages_max: u32::MAX };
        catalogues.open(catalogues.run(), &target.parse().unwrap(), shelf).unwrap()
    }

    fn find(catalogues: &Catalogues, target: &str, id: u64, lane: &Arc<Voucher>) -> Find {
        let catalogue = open(catalogues, target, id);
        catalogue.find(catalogue.hash(&[1; PAGE_BYTES]), lane)
    }

    #[test]
    fn another_shelf_is_another_catalogue() {
        let catalogues = Catalogues::default();
        let lane = Voucher::new(Arc::new(AtomicU64::new(0)));
        let first = open(&catalogues, "node-02", 1);
        first.enter(&[first.hash(&[1; PAGE_BYTES])], 5, 0, &lane);
        assert_eq!(find(&catalogues, "node-02", 1, &lane), Find::Known(5));
        assert_eq!(find(&catalogues, "node-02", 2, &lane), Find::Absent);
        assert_eq!(find(&catalogues, "node-03", 1, &lane), Find::Absent, "another host's");
        assert_eq!(find(&catalogues, "node-02", 1, &lane), Find::Known(5), "it was kept");
    }

    #[test]
    fn old_ones_make_room_and_those_in_use_stay() {
        let catalogues = Catalogues::default();
        let lane = Voucher::new(Arc::new(AtomicU64::new(0)));
        let used = open(&catalogues, "node-02", 1);
        assert_eq!(used.reserve(HALF_PAGES), Some(0));
        used.enter(&[used.hash(&[1; PAGE_BYTES])], 0, 0, &lane);
        for id in 2..200 {
            assert_eq!(open(&catalogues, "node-02", id).reserve(HALF_PAGES), Some(0), "{id}");
        }
        assert_eq!(find(&catalogues, "node-02", 1, &lane), Find::Known(0));
    }

    #[test]
    fn a_number_is_never_given_twice_for_a_shelf() {
        let catalogues = Catalogues::default();
        for round in 0..3 {
            for id in 1..5 {
                let first = open(&catalogues, "node-02", id).reserve(HALF_PAGES);
                assert_eq!(first, Some(round * HALF_PAGES), "shelf {id}");
            }
        }
    }

    #[test]
    fn shelves_of_a_run_that_is_over_are_not_used() {
        let catalogues = Catalogues::default();
        let (run, target) = (catalogues.run(), "node-02".parse().unwrap());
        let shelf = |id| ShelfOffer { id, pages_max: 100 };
        for id in 0..SHELVES_MAX as u64 {
            assert!(catalogues.open(run, &target, shelf(id)).is_some());
        }
        assert_eq!(catalogues.run(), run);
        assert!(catalogues.open(run, &target, shelf(u64::MAX)).is_none(), "one too many");
        assert!(catalogues.open(run, &target, shelf(1)).is_none(), "its numbers are forgotten");
        assert_ne!(catalogues.run(), run);
        assert!(catalogues.open(catalogues.run(), &target, shelf(9999)).is_some());
    }
}
