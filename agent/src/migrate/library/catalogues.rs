//! All catalogues of an agent.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, PoisonError};

use novacron_protocol::ids::NodeName;
use novacron_protocol::session::message::ShelfOffer;

use super::catalogue::Catalogue;
use crate::migrate::cache::CacheBudget;

/// Catalogues that are kept at once; the one that was used least recently goes first.
const CATALOGUES_MAX: usize = 64;
/// Bytes of all catalogues: 350,000 pages, or 1.3 GiB on the shelves of other hosts.
const CATALOGUES_BYTES_MAX: u64 = 32 << 20;

/// See the module; clones share them.
#[derive(Debug, Clone)]
pub struct Catalogues {
    budget: CacheBudget,
    kept: Arc<Mutex<VecDeque<Kept>>>,
}

#[derive(Debug)]
struct Kept {
    target: NodeName,
    shelf: ShelfOffer,
    catalogue: Arc<Catalogue>,
}

impl Default for Catalogues {
    fn default() -> Self {
        Self { budget: CacheBudget::new(CATALOGUES_BYTES_MAX), kept: Arc::default() }
    }
}

impl Catalogues {
    /// The catalogue of a shelf of this target; an empty one if nothing is known of that shelf.
    pub fn open(&self, target: &NodeName, shelf: ShelfOffer) -> Arc<Catalogue> {
        let mut kept = self.kept.lock().unwrap_or_else(PoisonError::into_inner);
        let is_it = |kept: &Kept| kept.target == *target && kept.shelf == shelf;
        let known = kept.iter().position(is_it).and_then(|at| kept.remove(at));
        let known = known.unwrap_or_else(|| self.make(target, shelf, &mut kept));
        let catalogue = Arc::clone(&known.catalogue);
        kept.push_back(known);
        catalogue
    }

    fn make(&self, target: &NodeName, shelf: ShelfOffer, kept: &mut VecDeque<Kept>) -> Kept {
        // Room for half of all, so that old ones do not keep a new one small.
        let is_short = || self.budget.used_bytes() > self.budget.limit_bytes() / 2;
        while kept.len() >= CATALOGUES_MAX || is_short() {
            let unused = kept.iter().position(|kept| Arc::strong_count(&kept.catalogue) == 1);
            let Some(oldest) = unused else { break };
            kept.remove(oldest);
        }
        let catalogue = Arc::new(Catalogue::new(rand::random(), shelf.pages_max, &self.budget));
        Kept { target: target.clone(), shelf, catalogue }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::AtomicU64;

    use novacron_protocol::pages::PAGE_BYTES;

    use super::super::{Find, Voucher};
    use super::*;

    fn node(name: &str) -> NodeName {
        name.parse().unwrap()
    }

    fn find(catalogues: &Catalogues, target: &str, id: u64, lane: &Arc<Voucher>) -> Find {
        let catalogue = catalogues.open(&node(target), ShelfOffer { id, pages_max: 100 });
        catalogue.find(catalogue.hash(&[1; PAGE_BYTES]), lane)
    }

    #[test]
    fn another_shelf_is_another_catalogue() {
        let catalogues = Catalogues::default();
        let lane = Voucher::new(Arc::new(AtomicU64::new(0)));
        let first = catalogues.open(&node("node-02"), ShelfOffer { id: 1, pages_max: 100 });
        first.enter(&[first.hash(&[1; PAGE_BYTES])], 5, 0, &lane);
        assert_eq!(find(&catalogues, "node-02", 1, &lane), Find::Known(5));
        assert_eq!(find(&catalogues, "node-02", 2, &lane), Find::Absent);
        assert_eq!(find(&catalogues, "node-03", 1, &lane), Find::Absent, "another host's");
        assert_eq!(find(&catalogues, "node-02", 1, &lane), Find::Known(5), "it was kept");
    }

    #[test]
    fn old_ones_make_room_and_those_in_use_stay() {
        let catalogues = Catalogues::default();
        let shelf = |id| ShelfOffer { id, pages_max: u32::MAX };
        let pages = CATALOGUES_BYTES_MAX / 2 / super::super::catalogue::ENTRY_BYTES;
        let used = catalogues.open(&node("node-02"), shelf(1));
        assert_eq!(used.reserve(pages), Some(0));
        for id in 2..200 {
            let catalogue = catalogues.open(&node("node-02"), shelf(id));
            assert_eq!(catalogue.reserve(pages), Some(0), "{id}");
        }
        assert!(Arc::ptr_eq(&used, &catalogues.open(&node("node-02"), shelf(1))));
        let kept = catalogues.kept.lock().unwrap();
        assert!(kept.len() <= CATALOGUES_MAX, "{}", kept.len());
    }
}
