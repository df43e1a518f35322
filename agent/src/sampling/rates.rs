//! Counters as rates: pure.

use std::collections::HashMap;
use std::hash::Hash;
use std::time::Duration;

use novacron_protocol::metric::Metric;
use novacron_protocol::sample::Sample;

/// What a counter says, in the metric's whole numbers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Count {
    /// What it counts.
    pub metric: Metric,
    /// Of which device.
    pub device: u8,
    /// How much since it began.
    pub total: u64,
}

/// What counters said before.
#[derive(Debug)]
pub struct Rates<K> {
    before: HashMap<K, Before>,
}

#[derive(Debug)]
struct Before {
    life: u64,
    at: Duration,
    counts: Vec<Count>,
}

impl<K> Default for Rates<K> {
    fn default() -> Self {
        Self { before: HashMap::new() }
    }
}

impl<K: Eq + Hash> Rates<K> {
    /// What each counter of a thing grew by, for each second since it was read before; `at` is the time of a clock that is
    /// never set. Nothing for counters that were not there before, that began anew with another life of the thing, or that
    /// went back.
    pub fn take(&mut self, thing: K, life: u64, at: Duration, counts: Vec<Count>) -> Vec<Sample> {
        let now = Before { life, at, counts };
        let rates = self.before.get(&thing).map_or_else(Vec::new, |before| now.since(before));
        self.before.insert(thing, now);
        rates
    }

    /// Forgets all things but these.
    pub fn keep_only(&mut self, is_there: impl Fn(&K) -> bool) {
        self.before.retain(|thing, _| is_there(thing));
    }
}

impl Before {
    fn since(&self, before: &Self) -> Vec<Sample> {
        let passed_us = self.at.saturating_sub(before.at).as_micros();
        if self.life != before.life || passed_us == 0 {
            return Vec::new();
        }
        let rate = |count: &Count| {
            let Count { metric, device, total } = *count;
            let earlier =
                before.counts.iter().find(|one| (one.metric, one.device) == (metric, device));
            let grown = total.checked_sub(earlier?.total)?;
            let value = (u128::from(grown) * 1_000_000 + passed_us / 2) / passed_us;
            let value = u64::try_from(value).unwrap_or(u64::MAX);
            Some(Sample { metric: metric.number(), device, value })
        };
        self.counts.iter().filter_map(rate).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn count(device: u8, total: u64) -> Count {
        Count { metric: Metric::DiskReadBytes, device, total }
    }

    fn values(samples: &[Sample]) -> Vec<(u8, u64)> {
        samples.iter().map(|sample| (sample.device, sample.value)).collect()
    }

    #[test]
    fn a_rate_is_what_was_counted_for_each_second_that_passed() {
        let mut rates = Rates::default();
        let mut take =
            |life, at_s, counts| values(&rates.take("vm", life, Duration::from_secs(at_s), counts));
        assert_eq!(take(1, 10, vec![count(0, 500), count(1, 7)]), []);
        assert_eq!(take(1, 20, vec![count(0, 1_500), count(1, 7)]), [(0, 100), (1, 0)]);
        // A tick was missed: the mean of both.
        assert_eq!(take(1, 40, vec![count(0, 1_510), count(2, 4)]), [(0, 1)]);
        // Another process, a counter that went back, no time.
        assert_eq!(take(2, 50, vec![count(0, 2_000)]), []);
        assert_eq!(take(2, 60, vec![count(0, 1_999)]), []);
        assert_eq!(take(2, 60, vec![count(0, 2_999)]), []);
        assert_eq!(take(2, 61, vec![count(0, 2_999)]), [(0, 0)]);
        assert_eq!(take(2, 62, vec![count(0, u64::MAX)]), [(0, u64::MAX - 2_999)]);
    }

    #[test]
    fn what_is_gone_is_forgotten() {
        let mut rates = Rates::default();
        let take = |rates: &mut Rates<u8>, thing, at_s| {
            rates.take(thing, 1, Duration::from_secs(at_s), vec![count(0, at_s)]).len()
        };
        assert_eq!((take(&mut rates, 1, 1), take(&mut rates, 2, 1)), (0, 0));
        rates.keep_only(|thing| *thing == 2);
        assert_eq!((take(&mut rates, 1, 2), take(&mut rates, 2, 2)), (0, 1));
    }
}
