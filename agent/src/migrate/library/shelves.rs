//! All shelves of an agent.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, PoisonError};

use novacron_protocol::session::message::ShelfOffer;

use super::Circle;
use super::shelf::Shelf;
use crate::migrate::cache::CacheBudget;

/// Circles that have a shelf at once; the one that was used least recently goes first.
const SHELVES_MAX: usize = 64;

/// A new shelf takes half of what is free, and at least this part of the whole, for which old ones go.
const PART_MIN: u64 = 8;

/// See the module. The one used least recently is first; clones share them.
#[derive(Debug, Clone)]
pub struct Shelves {
    budget: CacheBudget,
    kept: Arc<Mutex<Kept>>,
}

type Kept = VecDeque<(Circle, Arc<Shelf>)>;

impl Shelves {
    /// None, with room for so many bytes of pages in all. Shelves that are out of here, but in use, count too.
    pub fn new(bytes_max: u64) -> Self {
        Self { budget: CacheBudget::new(bytes_max), kept: Arc::default() }
    }

    /// The budget, of which each shelf takes its room as long as it is.
    pub fn budget(&self) -> &CacheBudget {
        &self.budget
    }

    /// The shelf of a circle; a new one, of this identity, if there is none or the old one has no future. `None` if
    /// there is no room. It stays what it is for as long as somebody holds it.
    pub fn open(&self, circle: &Circle, new_id: u64) -> Option<Arc<Shelf>> {
        let mut kept = self.kept.lock().unwrap_or_else(PoisonError::into_inner);
        let known = kept.iter().position(|(known, _)| known == circle);
        let known = known.and_then(|at| kept.remove(at)).map(|(_, shelf)| shelf);
        let shelf = match known.filter(|shelf| shelf.has_future()) {
            Some(shelf) => shelf,
            None => self.make(new_id, &mut kept)?,
        };
        kept.push_back((circle.clone(), Arc::clone(&shelf)));
        Some(shelf)
    }

    fn make(&self, id: u64, kept: &mut Kept) -> Option<Arc<Shelf>> {
        let least = self.budget.limit_bytes() / PART_MIN;
        let free = || self.budget.limit_bytes().saturating_sub(self.budget.used_bytes());
        while free() < least || kept.len() >= SHELVES_MAX {
            let unused = kept.iter().position(|(_, shelf)| Arc::strong_count(shelf) == 1);
            let Some(oldest) = unused else { break };
            kept.remove(oldest);
        }
        let free_bytes = free();
        let pages_max = Shelf::pages_in((free_bytes / 2).max(free_bytes.min(least)));
        if pages_max == 0 || kept.len() >= SHELVES_MAX {
            return None;
        }
        Shelf::new(ShelfOffer { id, pages_max }, &self.budget).map(Arc::new)
    }
}

#[cfg(test)]
mod tests {
    use novacron_protocol::pages::PAGE_BYTES;

    use super::*;

    const BUDGET_BYTES: u64 = 40 << 20;

    fn circle(tenant: &str) -> Circle {
        let source = "node-01".parse().unwrap();
        Circle { source, source_run: 1, tenant: tenant.to_owned() }
    }

    fn shelves() -> Shelves {
        Shelves::new(BUDGET_BYTES)
    }

    fn fill(shelf: &Shelf) {
        let last = u64::from(shelf.offer().pages_max) - 1;
        shelf.put([(last, &[1; PAGE_BYTES])].into_iter()).unwrap();
    }

    #[test]
    fn tenants_hosts_and_runs_do_not_share_a_shelf() {
        let shelves = shelves();
        let id = |circle: Circle, new_id| shelves.open(&circle, new_id).unwrap().offer().id;
        assert_eq!(id(circle("a"), 1), 1);
        assert_eq!(id(circle("b"), 2), 2);
        assert_eq!(id(Circle { source: "node-03".parse().unwrap(), ..circle("a") }, 3), 3);
        assert_eq!(id(Circle { source_run: 2, ..circle("a") }, 4), 4);
        assert_eq!(id(circle("a"), 5), 1, "it is still there");
    }

    #[test]
    fn a_full_shelf_stays_with_those_who_use_it_and_others_get_a_new_one() {
        let shelves = shelves();
        let shelf = shelves.open(&circle(""), 1).unwrap();
        fill(&shelf);
        assert_eq!(shelves.open(&circle(""), 2).unwrap().offer().id, 2);
        let last = u64::from(shelf.offer().pages_max) - 1;
        assert_eq!(shelf.get(last), Ok([1; PAGE_BYTES]));
    }

    #[test]
    fn all_shelves_together_never_have_more_than_the_whole_room() {
        let shelves = shelves();
        let mut held = Vec::new();
        for number in 0..20 {
            held.extend(shelves.open(&circle(&number.to_string()), number));
            let taken: u64 = held.iter().map(|shelf| u64::from(shelf.offer().pages_max)).sum();
            assert!(taken * PAGE_BYTES as u64 <= BUDGET_BYTES, "{taken}");
        }
        assert!(held[0].offer().pages_max >= 4096, "the first has nearly half");
        assert!(held.len() < 20, "nothing is left, and all are in use");
        assert!(shelves.open(&circle("new"), 98).is_none());
        held.clear();
        assert!(shelves.open(&circle("new"), 99).is_some());
    }

    #[test]
    fn without_room_there_are_none() {
        assert!(Shelves::new(0).open(&circle(""), 1).is_none());
    }
}
