//! The newest entries, kept in memory up to a number of bytes.

use std::collections::VecDeque;

use bytes::Bytes;

use super::record::Record;

/// A run of entries that ends with the last one of the log (or is empty).
#[derive(Debug)]
pub(super) struct Cache {
    bytes_max: usize,
    bytes: usize,
    first_index: u64,
    entries: VecDeque<Bytes>,
}

impl Cache {
    pub(super) fn new(bytes_max: usize) -> Cache {
        Cache { bytes_max, bytes: 0, first_index: 0, entries: VecDeque::new() }
    }

    pub(super) fn get(&self, index: u64) -> Option<Bytes> {
        let at = usize::try_from(index.checked_sub(self.first_index)?).ok()?;
        self.entries.get(at).cloned()
    }

    /// Follows what was written to the log.
    pub(super) fn apply(&mut self, record: Record) {
        match record {
            Record::Entry { index, bytes } => self.push(index, bytes),
            Record::Truncate { from } => {
                while !self.entries.is_empty() && self.end_index() > from {
                    let dropped = self.entries.pop_back();
                    self.bytes -= dropped.map_or(0, |bytes| bytes.len());
                }
            }
            Record::Purge { up_to, .. } => {
                while !self.entries.is_empty() && self.first_index <= up_to {
                    self.drop_oldest();
                }
            }
            Record::Vote(_) | Record::Committed(_) => {}
        }
    }

    fn push(&mut self, index: u64, bytes: Bytes) {
        if self.entries.is_empty() {
            self.first_index = index;
        }
        self.bytes += bytes.len();
        self.entries.push_back(bytes);
        while self.bytes > self.bytes_max {
            self.drop_oldest();
        }
    }

    fn drop_oldest(&mut self) {
        let dropped = self.entries.pop_front();
        self.bytes -= dropped.map_or(0, |bytes| bytes.len());
        self.first_index += 1;
    }

    fn end_index(&self) -> u64 {
        self.first_index + self.entries.len() as u64
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn entry(index: u64, length: usize) -> Record {
        Record::Entry { index, bytes: vec![index as u8; length].into() }
    }

    #[test]
    fn keeps_the_newest_within_its_bytes() {
        let mut cache = Cache::new(25);
        (1..=5).for_each(|index| cache.apply(entry(index, 10)));
        assert_eq!(cache.get(3), None);
        assert_eq!(cache.get(4), Some(vec![4; 10].into()));
        assert_eq!(cache.bytes, 20);
    }

    #[test]
    fn an_entry_larger_than_the_cache_empties_it() {
        let mut cache = Cache::new(25);
        cache.apply(entry(1, 10));
        cache.apply(entry(2, 26));
        assert_eq!((cache.get(1), cache.get(2), cache.bytes), (None, None, 0));
    }

    #[test]
    fn forgets_what_is_truncated_and_purged() {
        let mut cache = Cache::new(100);
        (1..=5).for_each(|index| cache.apply(entry(index, 10)));
        cache.apply(Record::Truncate { from: 5 });
        cache.apply(Record::Purge { up_to: 2, description: Bytes::new() });
        assert_eq!((cache.get(5), cache.get(2)), (None, None));
        assert_eq!(cache.bytes, 20);
        cache.apply(Record::Truncate { from: 0 });
        assert_eq!(cache.bytes, 0);
    }
}
