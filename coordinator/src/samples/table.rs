//! The last hour of everything, bounded. Pure.

use std::collections::BTreeMap;
use std::ops::Bound::{Excluded, Unbounded};
use std::ops::Range;

use novacron_protocol::ids::{NodeName, RegionCode, VmId};
use novacron_protocol::limits::DISKS_MAX;
use novacron_protocol::metric::{Metric, ResourceKind};
use novacron_protocol::sample::{Sample, Tick};

use super::track::{SERIES_BYTES, SeriesKey, TICKS, Track};

/// Bytes of memory that series may take.
const MEMORY_BYTES_MAX: usize = 255 << 20;

/// Series in memory: 342,000. More are not taken.
pub const SERIES_MAX: usize = MEMORY_BYTES_MAX / SERIES_BYTES;

/// What is measured.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub enum Resource {
    /// A machine.
    Vm(VmId),
    /// A host.
    Node(NodeName),
    /// All hosts of a region: the sum of what was measured of them, so it is in files and never in the table.
    Region(RegionCode),
}

impl Resource {
    /// What kind of thing it is.
    pub fn kind(&self) -> ResourceKind {
        match self {
            Self::Vm(_) => ResourceKind::Vm,
            Self::Node(_) => ResourceKind::Node,
            Self::Region(_) => ResourceKind::Region,
        }
    }

    /// As it is written: `vm:` and its id, `node:` and its name, `region:` and its code.
    pub fn to_text(&self) -> String {
        match self {
            Self::Vm(vm) => format!("vm:{vm}"),
            Self::Node(node) => format!("node:{node}"),
            Self::Region(region) => format!("region:{region}"),
        }
    }

    /// The thing of a text.
    pub fn of_text(text: &str) -> Option<Self> {
        let (kind, name) = text.split_once(':')?;
        match kind {
            "vm" => name.parse().ok().map(Self::Vm),
            "node" => name.parse().ok().map(Self::Node),
            "region" => name.parse().ok().map(Self::Region),
            _ => None,
        }
    }
}

/// What became of values.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Taken {
    /// Values that were noted.
    pub noted: u64,
    /// Values for which there is no room.
    pub crowded_out: u64,
}

/// What was measured in the last hour.
#[derive(Debug)]
pub struct Table {
    tracks: BTreeMap<Resource, Track>,
    series: usize,
    series_max: usize,
}

impl Default for Table {
    fn default() -> Self {
        Self::with_room_for(SERIES_MAX)
    }
}

impl Table {
    /// An empty one, for so many series.
    pub fn with_room_for(series_max: usize) -> Self {
        Self { tracks: BTreeMap::new(), series: 0, series_max }
    }

    /// How many series there are.
    pub fn series(&self) -> usize {
        self.series
    }

    /// What was measured of a thing.
    pub fn track(&self, resource: &Resource) -> Option<&Track> {
        self.tracks.get(resource)
    }

    /// Notes what was measured at a tick. What is not a metric of such a thing is passed over.
    pub fn take(&mut self, resource: &Resource, tick: Tick, values: &[Sample]) -> Taken {
        let known = values.iter().filter_map(|sample| {
            let metric = Metric::of_number(sample.metric)?;
            let key = SeriesKey { metric, device: sample.device };
            let is_one = metric.is_of(resource.kind()) && is_device(key, resource.kind());
            is_one.then_some((key, sample.value))
        });
        self.note(resource, tick, known)
    }

    /// The same, of values whose metrics are known.
    pub fn note(
        &mut self,
        resource: &Resource,
        tick: Tick,
        values: impl Iterator<Item = (SeriesKey, u64)>,
    ) -> Taken {
        let mut taken = Taken::default();
        let mut fresh = Track::default();
        let known = self.tracks.get_mut(resource);
        let is_known = known.is_some();
        let track = known.unwrap_or(&mut fresh);
        let before = track.series();
        for (key, value) in values {
            let series = self.series + track.series() - before;
            if series >= self.series_max && !track.has(key) {
                taken.crowded_out += 1;
                continue;
            }
            track.set(tick, key, value);
            taken.noted += 1;
        }
        self.series += track.series() - before;
        if !is_known && fresh.series() > 0 {
            self.tracks.insert(resource.clone(), fresh);
        }
        taken
    }

    /// The next things behind one, in order, at most so many: whoever looks at all of them does not hold everybody up.
    pub fn behind<'a>(
        &'a self,
        last: Option<&Resource>,
        count: usize,
    ) -> impl Iterator<Item = (&'a Resource, &'a Track)> {
        let begin = last.map_or(Unbounded, |last| Excluded(last.clone()));
        self.tracks.range((begin, Unbounded)).take(count)
    }

    /// Forgets things of which nothing has come for so long that nothing of them is left.
    pub fn forget(&mut self, now: Tick) {
        self.tracks.retain(|_, track| track.newest().0.saturating_add(TICKS) > now.0);
        self.series = self.tracks.values().map(Track::series).sum();
    }
}

/// Whether there can be such a device: an agent that says anything must not fill the room of others.
fn is_device(SeriesKey { metric, device }: SeriesKey, kind: ResourceKind) -> bool {
    device == 0 || (usize::from(device) < DISKS_MAX && metric.device(kind, device).is_some())
}

/// The sum of what was measured of some hosts, tick by tick.
#[derive(Debug)]
pub struct Sum {
    ticks: Range<u32>,
    sums: BTreeMap<SeriesKey, Vec<Option<u64>>>,
}

impl Sum {
    /// Of no hosts, within some ticks.
    pub fn new(ticks: Range<u32>) -> Self {
        Self { ticks, sums: BTreeMap::new() }
    }

    /// And of this host. It counts as one where there is anything of it.
    pub fn add(&mut self, host: &Track) {
        let length = self.ticks.len();
        let mut is_there = vec![false; length];
        for (key, values) in host.values(self.ticks.clone()) {
            if !key.metric.is_of(ResourceKind::Region) {
                continue;
            }
            let key = SeriesKey { metric: key.metric, device: 0 };
            let sums = self.sums.entry(key).or_insert_with(|| vec![None; length]);
            for (index, value) in values.into_iter().enumerate() {
                let Some(value) = value else { continue };
                is_there[index] = true;
                sums[index] = Some(sums[index].unwrap_or(0).saturating_add(value));
            }
        }
        let key = SeriesKey { metric: Metric::Nodes, device: 0 };
        let counts = self.sums.entry(key).or_insert_with(|| vec![None; length]);
        for (count, _) in counts.iter_mut().zip(is_there).filter(|(_, is_there)| *is_there) {
            *count = Some(count.unwrap_or(0) + 1);
        }
    }

    /// The sums.
    pub fn into_values(self) -> impl Iterator<Item = (SeriesKey, Vec<Option<u64>>)> {
        self.sums.into_iter()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn node(name: &str) -> Resource {
        Resource::Node(name.parse().unwrap())
    }

    fn sample(metric: Metric, value: u64) -> Sample {
        Sample { metric: metric.number(), device: 0, value }
    }

    #[test]
    fn texts_come_back() {
        let vm = Resource::Vm("6f1c1f2e-0000-4000-8000-000000000001".parse().unwrap());
        for resource in [vm, node("a"), Resource::Region("eu".parse().unwrap())] {
            assert_eq!(Resource::of_text(&resource.to_text()), Some(resource));
        }
        for other in ["", "vm", "vm:web", "node:", "host:a", "region:EU"] {
            assert_eq!(Resource::of_text(other), None, "{other}");
        }
    }

    #[test]
    fn series_are_bounded_and_those_that_are_there_go_on() {
        let mut table = Table::with_room_for(2);
        let both = [sample(Metric::Load, 1), sample(Metric::MemoryUsed, 2)];
        assert_eq!(table.take(&node("a"), Tick(5), &both), Taken { noted: 2, crowded_out: 0 });
        assert_eq!(table.take(&node("b"), Tick(5), &both), Taken { noted: 0, crowded_out: 2 });
        assert_eq!(table.take(&node("a"), Tick(6), &both).noted, 2);
        assert!(table.track(&node("b")).is_none());
        table.forget(Tick(6 + TICKS - 1));
        assert_eq!(table.series(), 2);
        table.forget(Tick(6 + TICKS));
        assert_eq!((table.series(), table.behind(None, 9).count()), (0, 0));
        assert_eq!(table.take(&node("b"), Tick(900), &both).noted, 2);
    }

    #[test]
    fn what_a_thing_does_not_have_is_passed_over() {
        let mut table = Table::default();
        let unknown = Sample { metric: 250, device: 0, value: 1 };
        let device = |metric: Metric, device| Sample { metric: metric.number(), device, value: 1 };
        let vm = Resource::Vm("6f1c1f2e-0000-4000-8000-000000000001".parse().unwrap());
        let reads = |of| device(Metric::DiskReads, of);
        assert_eq!(table.take(&vm, Tick(5), &[reads(15), reads(16), reads(255)]).noted, 1);
        assert_eq!(table.take(&node("b"), Tick(5), &[device(Metric::Load, 1)]).noted, 0);
        let values = [unknown, sample(Metric::MemoryGiven, 1), sample(Metric::Nodes, 1)];
        assert_eq!(table.take(&node("a"), Tick(5), &values), Taken::default());
        assert_eq!(table.series(), 1);
    }

    #[test]
    fn a_sum_is_of_those_that_told_something() {
        let mut table = Table::default();
        table.take(&node("a"), Tick(1), &[sample(Metric::Load, 3)]);
        table.take(&node("a"), Tick(2), &[sample(Metric::Load, 4)]);
        table.take(&node("b"), Tick(2), &[sample(Metric::Load, 10)]);
        let mut sum = Sum::new(1..4);
        for name in ["a", "b"] {
            sum.add(table.track(&node(name)).unwrap());
        }
        let of = |metric| SeriesKey { metric, device: 0 };
        let found: Vec<_> = sum.into_values().collect();
        let expected = [
            (of(Metric::Load), vec![Some(3), Some(14), None]),
            (of(Metric::Nodes), vec![Some(1), Some(2), None]),
        ];
        assert_eq!(found, expected);
    }

    #[test]
    fn all_things_are_seen_in_pieces() {
        let mut table = Table::default();
        for name in ["a", "b", "c", "d", "e"] {
            table.take(&node(name), Tick(1), &[sample(Metric::Load, 3)]);
        }
        let (mut last, mut seen) = (None, Vec::new());
        loop {
            let piece: Vec<_> =
                table.behind(last.as_ref(), 2).map(|(resource, _)| resource.clone()).collect();
            let Some(end) = piece.last() else { break };
            last = Some(end.clone());
            seen.extend(piece);
        }
        assert_eq!(seen, ["a", "b", "c", "d", "e"].map(node));
    }
}
