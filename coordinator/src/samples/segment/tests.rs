use std::path::Path;

use novacron_storage::disk::{Disk, SimulatedDisk};
use proptest::prelude::*;

use super::super::track::points;
use super::*;

fn open(bytes: &[u8]) -> Result<Segment, SegmentError> {
    let disk = SimulatedDisk::new(1);
    let mut file = disk.create(Path::new("file")).unwrap();
    file.append(bytes).unwrap();
    Segment::open(file)
}

fn resource(number: u8) -> Resource {
    let region = || Resource::Region(format!("region-{number}").parse().unwrap());
    match number % 3 {
        0 => Resource::Vm(novacron_protocol::ids::VmId(uuid::Uuid::from_u128(u128::from(number)))),
        1 => Resource::Node(format!("node-{number}").parse().unwrap()),
        _ => region(),
    }
}

fn written(level: Level, entries: &Entries) -> Vec<u8> {
    let mut writer = SegmentWriter::new(level, 900);
    for (resource, series) in entries {
        writer.add(resource, series.iter().cloned()).unwrap();
    }
    writer.finish().unwrap()
}

fn any_entries(level: Level) -> impl Strategy<Value = Entries> {
    let ticks = level.points_per_file() * level.ticks_per_point();
    let value = prop_oneof![Just(None), (0_u64..u64::MAX).prop_map(Some)];
    let moving = prop::collection::vec(value.clone(), ticks);
    let steady = value.prop_map(move |value| vec![value; ticks]);
    let key = (0_usize..Metric::ALL.len(), 0_u8..3);
    let key = key.prop_map(|(metric, device)| SeriesKey { metric: Metric::ALL[metric], device });
    let values = prop_oneof![moving, steady];
    let series = prop::collection::btree_map(key, values, 0..5);
    let series = series.prop_map(move |series| {
        series.into_iter().map(|(key, values)| (key, points(level, &values))).collect()
    });
    let key = any::<u8>().prop_map(resource);
    prop::collection::btree_map(key, series, 0..12)
}

/// What is to be found: series without a point are not there.
fn expected(entries: &Entries) -> Entries {
    let mut entries = entries.clone();
    for series in entries.values_mut() {
        series.retain(|(_, points)| points.iter().any(Option::is_some));
    }
    entries.retain(|_, series| !series.is_empty());
    entries
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn what_is_written_is_found(
        (level, entries) in prop::sample::select(Level::ALL.to_vec())
            .prop_flat_map(|level| (Just(level), any_entries(level))),
    ) {
        let segment = open(&written(level, &entries)).unwrap();
        prop_assert_eq!(segment.begin_s(), 900);
        let expected = expected(&entries);
        for number in 0..=u8::MAX {
            let resource = resource(number);
            let found = segment.find(&resource).unwrap();
            let there = expected.get(&resource).cloned().unwrap_or_default();
            prop_assert_eq!(found, there);
        }
        let all: Entries = segment.all().unwrap().collect::<Result<_, _>>().unwrap();
        prop_assert_eq!(all, expected);
    }

    /// A file that is cut, or has a byte changed, shows less or nothing, and never something else.
    #[test]
    fn damage_is_seen(
        entries in any_entries(Level::Minutes), cut in any::<prop::sample::Index>(),
        place in any::<prop::sample::Index>(), change in 1_u8..,
    ) {
        let bytes = written(Level::Minutes, &entries);
        prop_assert!(open(&bytes[..cut.index(bytes.len())]).is_err());
        let mut changed = bytes.clone();
        changed[place.index(bytes.len())] ^= change;
        let Ok(segment) = open(&changed) else { return Ok(()) };
        let expected = expected(&entries);
        for (resource, series) in &expected {
            if let Ok(found) = segment.find(resource) {
                prop_assert!(found.is_empty() || found == *series);
            }
        }
        for entry in segment.all().into_iter().flatten().flatten() {
            prop_assert_eq!(expected.get(&entry.0), Some(&entry.1));
        }
    }
}

#[test]
fn what_does_not_change_takes_one_point() {
    let key = SeriesKey { metric: Metric::MemoryGiven, device: 0 };
    let bytes = |last| {
        let mut values = vec![Some(1 << 30); 90];
        values[89] = last;
        let entries = Entries::from([(resource(0), vec![(key, points(Level::Minutes, &values))])]);
        written(Level::Minutes, &entries).len()
    };
    assert_eq!(bytes(Some(7)) - bytes(Some(1 << 30)), 14 * 6);
}

#[test]
fn golden_bytes() {
    let key = SeriesKey { metric: Metric::Load, device: 0 };
    let one = |value| Some(Rollup::of_one(value));
    let moving = vec![one(1), None, one(3), one(5_000), one(5), one(6)];
    let node = Resource::Node("a".parse().unwrap());
    let entries = Entries::from([(node, vec![(key, moving)])]);
    let bytes = written(Level::Ticks, &entries);
    let hex = |bytes: &[u8]| bytes.iter().map(|byte| format!("{byte:02x}")).collect::<String>();
    let head = "6e6f7661736d700a 0100 00 00 01000000 8403000000000000 48000000 06000000";
    assert_eq!(hex(&bytes[..32]), head.replace(' ', ""));
    let entry = "06 6e6f64653a61 0100 03 00 01 0100 ffff 0300 e20c 0500 0600";
    assert_eq!(hex(&bytes[40..64]), entry.replace(' ', ""));
    assert_eq!(bytes.len(), 40 + 24 + 8 + 257 * 4 + 16);
}
