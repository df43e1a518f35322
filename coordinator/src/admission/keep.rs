//! How many bytes this member keeps for others: answers that were not read yet, and bodies that have not come whole.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};

/// Bytes that are kept for each of many and for all. What is small is always kept: places among requests bound that.
#[derive(Debug)]
pub struct Keep<K: Ord> {
    small: u64,
    each_max: u64,
    all_max: u64,
    sums: Mutex<Sums<K>>,
}

#[derive(Debug)]
struct Sums<K> {
    all: u64,
    of: BTreeMap<K, u64>,
}

/// Bytes that are kept until this is dropped.
#[derive(Debug)]
pub struct Kept<K: Ord> {
    keep: Arc<Keep<K>>,
    key: K,
    bytes: u64,
}

impl<K: Ord + Clone> Keep<K> {
    /// So many bytes for each, and for all. What has no more than `small` bytes is kept in any case.
    pub fn new(small: u64, each_max: u64, all_max: u64) -> Arc<Self> {
        let sums = Mutex::new(Sums { all: 0, of: BTreeMap::new() });
        Arc::new(Self { small, each_max, all_max, sums })
    }

    /// Nothing yet, for one.
    pub fn begin(keep: &Arc<Self>, key: K) -> Kept<K> {
        Kept { keep: Arc::clone(keep), key, bytes: 0 }
    }
}

impl<K: Ord + Clone> Kept<K> {
    /// Keeps more, if there is room; whether there is.
    #[must_use]
    pub fn grow(&mut self, bytes: u64) -> bool {
        let is_small = self.bytes + bytes <= self.keep.small;
        let mut sums = self.keep.sums.lock().unwrap_or_else(PoisonError::into_inner);
        let of_one = sums.of.get(&self.key).copied().unwrap_or(0) + bytes;
        let all = sums.all + bytes;
        if !is_small && (of_one > self.keep.each_max || all > self.keep.all_max) {
            return false;
        }
        sums.all = all;
        sums.of.insert(self.key.clone(), of_one);
        drop(sums);
        self.bytes += bytes;
        true
    }

    /// Keeps more whether there is room or not: what has been done has to be said.
    pub fn grow_anyway(&mut self, bytes: u64) {
        let mut sums = self.keep.sums.lock().unwrap_or_else(PoisonError::into_inner);
        sums.all += bytes;
        *sums.of.entry(self.key.clone()).or_default() += bytes;
        drop(sums);
        self.bytes += bytes;
    }
}

impl<K: Ord> Drop for Kept<K> {
    fn drop(&mut self) {
        let mut sums = self.keep.sums.lock().unwrap_or_else(PoisonError::into_inner);
        sums.all -= self.bytes;
        let Some(of_one) = sums.of.get_mut(&self.key) else { return };
        *of_one -= self.bytes;
        if *of_one == 0 {
            sums.of.remove(&self.key);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_kept_is_bounded_for_each_and_for_all_and_comes_back() {
        let keep = Keep::new(2, 100, 150);
        let begin = |key| Keep::begin(&keep, key);
        let (mut first, mut second, mut third) = (begin("a"), begin("a"), begin("b"));
        assert!(first.grow(60) && !second.grow(60) && second.grow(40));
        assert!(!first.grow(1), "100 of one");
        assert!(!third.grow(60) && third.grow(50), "150 of all");
        let mut small = begin("a");
        assert!(small.grow(1) && small.grow(1) && !small.grow(1));
        small.grow_anyway(10);
        drop((first, small));
        assert!(second.grow(10));
        drop((second, third));
        let sums = keep.sums.lock().unwrap();
        assert!(sums.all == 0 && sums.of.is_empty(), "no row of whom nothing is kept");
    }
}
