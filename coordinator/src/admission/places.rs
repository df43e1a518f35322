//! How much of one may be under way at once.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};

/// Places of each of many. A row is there only while something is under way, so the table is bounded by what bounds
/// that: connections, or the requests on them.
#[derive(Debug)]
pub struct Places<K: Ord> {
    each_max: u32,
    taken: Mutex<BTreeMap<K, u32>>,
}

/// A place that is taken until this is dropped.
#[derive(Debug)]
pub struct Place<K: Ord> {
    places: Arc<Places<K>>,
    key: K,
}

impl<K: Ord + Clone> Places<K> {
    /// So many for each.
    pub fn new(each_max: u32) -> Arc<Self> {
        Arc::new(Self { each_max: each_max.max(1), taken: Mutex::new(BTreeMap::new()) })
    }

    /// Takes a place of one, if it has one left.
    pub fn take(places: &Arc<Self>, key: K) -> Option<Place<K>> {
        let mut taken = places.taken.lock().unwrap_or_else(PoisonError::into_inner);
        // At least one place each: a row that is made here is used.
        let count = taken.entry(key.clone()).or_default();
        if *count >= places.each_max {
            return None;
        }
        *count += 1;
        drop(taken);
        Some(Place { places: Arc::clone(places), key })
    }
}

impl<K: Ord> Drop for Place<K> {
    fn drop(&mut self) {
        let mut taken = self.places.taken.lock().unwrap_or_else(PoisonError::into_inner);
        let Some(count) = taken.get_mut(&self.key) else { return };
        *count -= 1;
        if *count == 0 {
            taken.remove(&self.key);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_place_is_free_again_when_it_is_dropped() {
        let places = Places::new(2);
        let first = Places::take(&places, "a").unwrap();
        let second = Places::take(&places, "a").unwrap();
        assert!(Places::take(&places, "a").is_none());
        assert!(Places::take(&places, "b").is_some());
        drop(first);
        assert!(Places::take(&places, "a").is_some());
        drop(second);
        assert!(places.taken.lock().unwrap().is_empty(), "no row without a place");
    }
}
