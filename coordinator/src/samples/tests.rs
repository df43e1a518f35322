use std::collections::BTreeSet;

use novacron_protocol::ids::RegionCode;
use novacron_protocol::sample::TICK_S;
use novacron_storage::disk::SimulatedDisk;
use proptest::prelude::*;

use super::keeper::Marks;
use super::question::seconds;
use super::short::kept;
use super::*;

/// A full hour, so that files of all levels begin with it.
const BEGIN_S: u64 = 1_800_000_000;

fn samples(disk: &SimulatedDisk) -> Samples {
    Samples::open(Arc::new(disk.clone())).unwrap()
}

fn name(host: usize) -> NodeName {
    format!("node-{host}").parse().unwrap()
}

fn part(tick: u32, load: u64) -> TickPart {
    let value = Sample { metric: Metric::Load.number(), device: 0, value: load };
    TickPart { tick: Tick(tick), machines: Vec::new(), host: Some(vec![value]) }
}

fn regions(hosts: usize) -> BTreeMap<NodeName, RegionCode> {
    (0..hosts).map(|host| (name(host), "eu".parse().unwrap())).collect()
}

/// Everything that was noted, for ever.
#[derive(Default)]
struct Model {
    values: BTreeMap<(usize, u64), u64>,
    hosts: usize,
}

impl Model {
    fn tick(&self, host: Option<usize>, at_s: u64) -> Option<u64> {
        let Some(host) = host else {
            let there = (0..self.hosts).filter_map(|host| self.values.get(&(host, at_s)));
            return there.map(|value| kept(*value)).reduce(|sum, value| sum + value);
        };
        self.values.get(&(host, at_s)).map(|value| kept(*value))
    }

    fn point(&self, host: Option<usize>, level: Level, at_s: u64) -> Option<Rollup> {
        let ticks = (at_s..at_s + level.step_s()).step_by(TICK_S as usize);
        let values = ticks.filter_map(|at_s| self.tick(host, at_s));
        Rollup::of(values.map(Rollup::of_one)).map(Rollup::kept)
    }

    fn answer(&self, host: Option<usize>, question: &Question) -> Vec<Option<Rollup>> {
        let step_s = question.level.step_s() as usize;
        let points: Vec<_> = (question.from_s..question.to_s)
            .step_by(step_s)
            .map(|at_s| self.point(host, question.level, at_s))
            .collect();
        coarser(&points, question.level_points())
    }
}

fn subject(host: Option<usize>, hosts: usize) -> Subject {
    match host {
        Some(host) => Subject { resource: Resource::Node(name(host)), hosts: Vec::new() },
        None => Subject {
            resource: Resource::Region("eu".parse().unwrap()),
            hosts: (0..hosts).map(name).collect(),
        },
    }
}

fn check(samples: &Samples, model: &Model, host: Option<usize>, question: &Question) {
    let answer = samples.answer(&subject(host, model.hosts), question, &[Metric::Load]);
    let expected = model.answer(host, question);
    let found = answer.into_iter().next().map(|(_, points)| points);
    match found {
        Some(found) => assert_eq!(found, expected, "{host:?} {question:?}"),
        None => assert!(expected.iter().all(Option::is_none), "{host:?} {question:?}: nothing"),
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(12))]

    /// Hours of two hosts with gaps, restarts at any moment between two files, all questions that can be asked: what is
    /// answered is what a book says that forgets nothing.
    #[test]
    fn answers_are_those_of_a_book_that_forgets_nothing(
        values in prop::collection::vec(prop::option::weighted(0.9, 0_u64..5_000_000), 100),
        ticks in 300_u32..1_500,
        restarts in prop::collection::btree_set(1_u32..1_500, 0..4),
        questions in prop::collection::vec((any::<prop::sample::Index>(), 1_u64..40), 6),
    ) {
        let disk = SimulatedDisk::new(7);
        let (mut samples, regions) = (samples(&disk), regions(2));
        let mut model = Model { hosts: 2, ..Model::default() };
        let mut marks = samples.load(BEGIN_S);
        let first = u32::try_from(BEGIN_S / TICK_S).unwrap();
        for number in 0..ticks {
            let (tick, now_s) = (first + number, BEGIN_S + u64::from(number) * TICK_S);
            for host in 0..2 {
                let place = (number as usize * 7 + host * 13) % values.len();
                let Some(value) = values[place] else { continue };
                samples.take(&name(host), &part(tick, value), seconds(now_s));
                model.values.insert((host, now_s), value);
            }
            let stops = restarts.contains(&number);
            marks = samples.keep(marks, now_s, stops, &regions);
            if stops {
                samples = self::samples(&disk);
                marks = samples.load(now_s);
            }
        }
        let now_s = BEGIN_S + u64::from(ticks) * TICK_S;
        for (place, factor) in questions {
            let age_s = 10 + place.index((now_s - BEGIN_S) as usize) as u64;
            let from = Some(seconds(now_s - age_s));
            for interval_s in [None, Some(10 * factor), Some(60 * factor)] {
                let Ok(question) = Question::new(from, None, interval_s, seconds(now_s)) else { continue };
                for host in [Some(0), Some(1), None] {
                    check(&samples, &model, host, &question);
                }
            }
        }
    }
}

#[test]
fn quarters_are_remembered_when_minutes_are_not() {
    let disk = SimulatedDisk::new(7);
    let (samples, regions) = (samples(&disk), regions(1));
    let mut model = Model { hosts: 1, ..Model::default() };
    let mut marks = samples.load(BEGIN_S);
    let first = u32::try_from(BEGIN_S / TICK_S).unwrap();
    // Half an hour, and two days later another one.
    for begin in [0, 2 * 8_640] {
        for number in begin..begin + 360_u32 {
            let now_s = BEGIN_S + u64::from(number) * TICK_S;
            if number < begin + 180 {
                samples.take(&name(0), &part(first + number, u64::from(number)), seconds(now_s));
                model.values.insert((0, now_s), u64::from(number));
            }
            marks = samples.keep(marks, now_s, false, &regions);
        }
    }
    let now_s = BEGIN_S + 2 * 86_400 + 3_600;
    for host in [Some(0), None] {
        let ago = |ago_s: u64| Some(seconds(now_s - ago_s));
        let old = Question::new(ago(2 * 86_400 + 3_600), None, None, seconds(now_s)).unwrap();
        assert_eq!(old.level, Level::Quarters);
        check(&samples, &model, host, &old);
        let answer = samples.answer(&subject(host, 1), &old, &[Metric::Load]);
        assert_eq!(answer[0].1.iter().flatten().count(), 4);
    }
    let begins = |level| samples.files().within(level, 0, u64::MAX).len();
    assert_eq!((begins(Level::Minutes), begins(Level::Quarters)), (2, 4));
    // Series that nobody tells any more are gone from memory.
    let marks = samples.keep(marks, now_s + 7_200, false, &regions);
    assert_eq!(samples.numbers().series, 0);
    assert_ne!(marks, Marks::default());
}

#[test]
fn what_is_ahead_of_the_clock_or_too_old_is_counted() {
    let samples = samples(&SimulatedDisk::new(1));
    let now = seconds(BEGIN_S);
    let tick = Tick::of(now).0;
    for (tick, untimely) in
        [(tick, 0), (tick + 6, 0), (tick + 7, 1), (tick - 365, 1), (tick - 366, 2)]
    {
        samples.take(&name(0), &part(tick, 1), now);
        assert_eq!(samples.numbers().untimely, untimely, "{tick}");
    }
    assert_eq!(samples.newest(&name(0)), Tick(tick + 6));
    assert_eq!(samples.newest(&name(1)), Tick(0));
}

#[test]
fn a_damaged_file_is_a_hole_and_counted() {
    let disk = SimulatedDisk::new(7);
    let (samples, regions) = (samples(&disk), regions(1));
    let mut marks = samples.load(BEGIN_S);
    let first = u32::try_from(BEGIN_S / TICK_S).unwrap();
    for number in 0..400_u32 {
        let now_s = BEGIN_S + u64::from(number) * TICK_S;
        samples.take(&name(0), &part(first + number, 9), seconds(now_s));
        marks = samples.keep(marks, now_s, false, &regions);
    }
    let now_s = BEGIN_S + 4_000;
    let from = Some(seconds(BEGIN_S));
    let question = Question::new(from, None, Some(900), seconds(now_s)).unwrap();
    let there = |samples: &Samples| {
        let answer = samples.answer(&subject(Some(0), 1), &question, &[Metric::Load]);
        answer[0].1.iter().map(Option::is_some).collect::<Vec<_>>()
    };
    assert_eq!(there(&samples), [true; 5]);
    let path = format!("samples/minutes/{:012}.samples", BEGIN_S + 900);
    assert!(disk.flip_bit(std::path::Path::new(&path), 20, 3));
    assert_eq!(there(&samples), [true, false, true, true, true]);
    assert_eq!(samples.numbers().damaged, 1);
    let metrics: BTreeSet<_> = [Metric::Processors].into();
    let none = samples.answer(&subject(Some(0), 1), &question, &Vec::from_iter(metrics));
    assert!(none.is_empty());
}

#[test]
fn what_came_late_is_there_after_a_restart() {
    let disk = SimulatedDisk::new(7);
    let (samples, regions) = (samples(&disk), regions(1));
    let first = u32::try_from(BEGIN_S / TICK_S).unwrap();
    let mut marks = samples.load(BEGIN_S);
    let now_s = BEGIN_S + 600;
    samples.take(&name(0), &part(first, 1), seconds(BEGIN_S));
    marks = samples.keep(marks, now_s, false, &regions);
    // A host that was away sends what it remembers, and its machines' minutes are written again.
    for number in 1..60 {
        samples.take(&name(0), &part(first + number, 7), seconds(now_s));
    }
    samples.keep(marks, now_s + 60, false, &regions);
    let samples = self::samples(&disk);
    samples.load(now_s + 60);
    let question = Question::new(Some(seconds(BEGIN_S)), None, Some(10), seconds(now_s + 60));
    let answer = samples.answer(&subject(Some(0), 1), &question.unwrap(), &[Metric::Load]);
    assert_eq!(answer[0].1.iter().flatten().count(), 60);
}

#[test]
fn a_member_that_stops_at_a_full_minute_has_what_was_measured_then() {
    let disk = SimulatedDisk::new(7);
    let (samples, regions) = (samples(&disk), regions(1));
    let marks = samples.load(BEGIN_S);
    let tick = Tick::of(seconds(BEGIN_S));
    samples.take(&name(0), &part(tick.0, 7), seconds(BEGIN_S));
    samples.keep(marks, BEGIN_S, true, &regions);
    let samples = self::samples(&disk);
    samples.load(BEGIN_S);
    assert_eq!(samples.newest(&name(0)), tick);
}
