//! The last hour of one machine or host, tick by tick: a ring of two bytes for each metric. Pure.

use std::ops::Range;

use novacron_protocol::metric::Metric;
use novacron_protocol::sample::Tick;

use super::level::Level;
use super::rollup::{Rollup, coarser};
use super::short::Short;

/// Ticks that are kept: an hour, and a minute for those who are late.
pub const TICKS: u32 = 366;

/// Bytes that a series takes, its place in a list and the allocator's share included.
pub const SERIES_BYTES: usize = 2 * TICKS as usize + 48;

/// One metric, of one device where a thing has several.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct SeriesKey {
    /// The metric.
    pub metric: Metric,
    /// Which disk or network card.
    pub device: u8,
}

/// The points of one series.
pub type Points = (SeriesKey, Vec<Option<Rollup>>);

#[derive(Debug)]
struct Column {
    key: SeriesKey,
    /// The value of a tick is at its number modulo `TICKS`.
    values: Box<[Short]>,
}

/// What was measured of one thing.
#[derive(Debug, Default)]
pub struct Track {
    newest: Tick,
    columns: Vec<Column>,
}

impl Track {
    /// The newest tick of which there is anything.
    pub fn newest(&self) -> Tick {
        self.newest
    }

    /// How many series there are.
    pub fn series(&self) -> usize {
        self.columns.len()
    }

    /// Whether there is such a series.
    pub fn has(&self, key: SeriesKey) -> bool {
        self.columns.iter().any(|column| column.key == key)
    }

    /// Notes a value. One that is older than what is kept is passed over; of two of one tick the later counts.
    pub fn set(&mut self, tick: Tick, key: SeriesKey, value: u64) {
        if tick > self.newest {
            self.advance(tick);
        }
        if !self.holds(tick) {
            return;
        }
        let place = place(tick.0);
        self.column(key).values[place] = Short::of(value);
    }

    fn holds(&self, tick: Tick) -> bool {
        tick <= self.newest && self.newest.0 - tick.0 < TICKS
    }

    fn advance(&mut self, newest: Tick) {
        let passed = (newest.0 - self.newest.0).min(TICKS);
        for tick in newest.0 - passed + 1..=newest.0 {
            for column in &mut self.columns {
                column.values[place(tick)] = Short::NONE;
            }
        }
        self.newest = newest;
    }

    fn column(&mut self, key: SeriesKey) -> &mut Column {
        let found = self.columns.iter().position(|column| column.key == key);
        let index = found.unwrap_or_else(|| {
            let values = vec![Short::NONE; TICKS as usize].into_boxed_slice();
            self.columns.push(Column { key, values });
            self.columns.len() - 1
        });
        &mut self.columns[index]
    }

    /// The values of all series within some ticks.
    pub fn values(&self, ticks: Range<u32>) -> impl Iterator<Item = (SeriesKey, Vec<Option<u64>>)> {
        self.columns.iter().map(move |column| {
            let value =
                |tick| self.holds(Tick(tick)).then(|| column.values[place(tick)].value()).flatten();
            (column.key, ticks.clone().map(value).collect())
        })
    }

    /// The points of all series at a level, within some ticks that begin with one of its points.
    pub fn points(&self, level: Level, ticks: Range<u32>) -> impl Iterator<Item = Points> {
        self.values(ticks).map(move |(key, values)| (key, points(level, &values)))
    }
}

fn place(tick: u32) -> usize {
    (tick % TICKS) as usize
}

/// Values of ticks as points of a level, as they are kept.
pub fn points(level: Level, values: &[Option<u64>]) -> Vec<Option<Rollup>> {
    let ones: Vec<_> = values.iter().map(|value| value.map(Rollup::of_one)).collect();
    let points = coarser(&ones, level.ticks_per_point());
    points.into_iter().map(|point| point.map(Rollup::kept)).collect()
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use proptest::prelude::*;

    use super::*;

    const KEYS: [SeriesKey; 3] = [
        SeriesKey { metric: Metric::ProcessorUsed, device: 0 },
        SeriesKey { metric: Metric::DiskReads, device: 0 },
        SeriesKey { metric: Metric::DiskReads, device: 1 },
    ];

    proptest! {
        /// Against a map that forgets nothing.
        #[test]
        fn a_track_is_the_newest_part_of_all_that_was_noted(
            noted in prop::collection::vec((1_u32..2_000, 0_usize..3, 0_u64..2_000), 1..300),
        ) {
            let (mut track, mut model) = (Track::default(), BTreeMap::new());
            let mut newest = 0;
            for (tick, key, value) in noted {
                track.set(Tick(tick), KEYS[key], value);
                newest = newest.max(tick);
                if newest - tick < TICKS {
                    model.insert((KEYS[key], tick), value);
                }
                prop_assert_eq!(track.newest(), Tick(newest));
            }
            let oldest = newest.saturating_sub(TICKS - 1);
            for (key, values) in track.values(0..newest + 50) {
                for (tick, value) in (0..).zip(values) {
                    let expected = model.get(&(key, tick)).filter(|_| tick >= oldest);
                    prop_assert_eq!(value.as_ref(), expected, "{:?} at {}", key, tick);
                }
            }
        }
    }
}
