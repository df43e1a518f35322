//! A bucket for each of many, in a table that cannot grow without end.

use std::collections::BTreeMap;
use std::time::Duration;

use super::bucket::{Bucket, Rate};

/// Rows of a table; with some 100 bytes each 1.6 MB. Whoever comes when all are in use shares one bucket with all
/// others who do.
pub const ROWS_MAX: usize = 16_384;

/// Between two looks for rows that are not needed, when there is no room: each look is at every row.
const SWEEP_PERIOD: Duration = Duration::from_millis(250);

/// Buckets by key.
#[derive(Debug)]
pub struct Buckets<K> {
    rate: Rate,
    rows: BTreeMap<K, Bucket>,
    shared: Bucket,
    swept_at: Option<Duration>,
}

impl<K: Ord> Buckets<K> {
    /// Full buckets for everybody.
    pub fn new(rate: Rate) -> Self {
        let shared = Bucket::full(rate, Duration::ZERO);
        Self { rate, rows: BTreeMap::new(), shared, swept_at: None }
    }

    /// How often each may.
    pub fn rate(&self) -> Rate {
        self.rate
    }

    /// Takes a token of one.
    ///
    /// # Errors
    /// How long it takes until there is one.
    pub fn take(&mut self, key: K, now: Duration) -> Result<(), Duration> {
        if let Some(bucket) = self.rows.get_mut(&key) {
            return bucket.take(self.rate, now);
        }
        self.make_room(now);
        if self.rows.len() >= ROWS_MAX {
            return self.shared.take(self.rate, now);
        }
        let mut bucket = Bucket::full(self.rate, now);
        let taken = bucket.take(self.rate, now);
        self.rows.insert(key, bucket);
        taken
    }

    /// A full bucket is what one without a row has.
    fn make_room(&mut self, now: Duration) {
        let is_due = self.swept_at.is_none_or(|at| now >= at.saturating_add(SWEEP_PERIOD));
        if self.rows.len() < ROWS_MAX || !is_due {
            return;
        }
        self.swept_at = Some(now);
        let rate = self.rate;
        self.rows.retain(|_, bucket| !bucket.is_full(rate, now));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const RATE: Rate = Rate { per_second: 1, burst: 2 };

    #[test]
    fn one_does_not_use_up_what_is_anothers() {
        let mut buckets = Buckets::new(RATE);
        let now = Duration::ZERO;
        assert_eq!([1; 3].map(|key| buckets.take(key, now).is_ok()), [true, true, false]);
        assert_eq!(buckets.take(2, now), Ok(()));
    }

    #[test]
    fn however_many_come_the_table_is_bounded_and_those_in_it_are_served() {
        let mut buckets = Buckets::new(RATE);
        let mut let_in = 0;
        for key in 0..2 * ROWS_MAX {
            let_in += usize::from(buckets.take(key, Duration::ZERO).is_ok());
        }
        assert_eq!(let_in, ROWS_MAX + 2, "all others share the burst of one");
        assert_eq!(buckets.rows.len(), ROWS_MAX);
        assert_eq!(buckets.take(7, Duration::ZERO), Ok(()));
        // A second later the rows of those who asked once say nothing any more.
        assert_eq!(buckets.take(usize::MAX, Duration::from_secs(1)), Ok(()));
        assert_eq!(buckets.rows.len(), 2, "the one that asked twice, and the new one");
    }
}
