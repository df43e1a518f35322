//! A day of two machines, all five dimensions, whose sums were computed by hand.
//!
//! ```text
//! vm-hours     web 24 h · batch 01:10:30 to 03:00:10, 6,580 s              92,980 s · 150,000 / 3,600 = 3,874,166.67
//! storage-gb   web 1 GiB · 24 h + batch 3 GiB · 23 h                       93 GiB h · 27.397           =     2,547.92
//! transfer-gb  one migration completed with 1,000 bytes on the wire        1,000 / 2³⁰ · 50,000,000    =        46.57
//! snapshots    two of web, 12 h                                            24 h · 10                   =       240
//! migrations   one completed, one failed                                   1 · 2,000                   =     2,000
//! ```

use std::collections::BTreeMap;

use novacron_protocol::api::{InvoiceLine, UsageSeries, UsageStep};
use novacron_protocol::effect::SourceResult;
use novacron_protocol::ids::{Generation, ProjectName, VmId};
use novacron_protocol::time::Timestamp;
use novacron_protocol::usage::{HOUR_S, Meter, UsageRecord};
use novacron_protocol::wire::codec;

use super::invoice::{InvoiceFilter, Lines, Tariff};
use super::series::{Series, Steps};
use super::usage::{Table, UsageFilter};
use crate::state::ledger::hour::Hour;
use crate::state::ledger::rate::{Price, RateCard};
use crate::state::ledger::sums::Summary;
use crate::state::testing::{Scene, account, name};
use crate::state::{Accepted, Body};

/// A midnight.
const MIDNIGHT: Hour = Hour(497_016);

const GIB: u64 = 1 << 30;

/// Records of at most five minutes from one second of the day to another.
fn records(vm: VmId, meter: Meter, level: u64, from: u64, to: u64) -> Vec<UsageRecord> {
    let (begin_s, mut from) = (MIDNIGHT.begin_s(), from);
    let mut records = Vec::new();
    while from < to {
        let end = (from + 300).min(to).min((from / HOUR_S + 1) * HOUR_S);
        let (start_s, end_s) = (begin_s + from, begin_s + end);
        records.push(UsageRecord { vm, generation: Generation(1), meter, start_s, end_s, level });
        from = end;
    }
    records
}

fn go_to(scene: &mut Scene, second: u64) {
    scene.now = Timestamp::from_unix_ms((MIDNIGHT.begin_s() + second) * 1000);
    while let Some(through) = scene.fleet.window_due(scene.now) {
        scene.apply(Body::SealWindows { through }).unwrap();
    }
}

fn post(scene: &mut Scene, records: &[UsageRecord]) {
    for some in records.chunks(500) {
        let body = Body::PostUsage { node: name("node-01"), records: some.to_vec() };
        let Ok(Accepted::Usage(outcomes)) = scene.apply(body) else { panic!("not posted") };
        assert!(outcomes.iter().all(|outcome| outcome.is_held()), "{outcomes:?}");
    }
}

/// A plan with a price for everything, from midnight on.
fn give_a_plan(scene: &mut Scene) {
    let prices = [
        Price::each(150_000),
        Price { micro_dollars: 27_397, per_units: 1_000 },
        Price::each(50_000_000),
        Price::each(10),
        Price::each(2_000),
    ];
    let plan: novacron_protocol::ids::PlanName = "all".parse().unwrap();
    let card = RateCard { plan: plan.clone(), valid_from: MIDNIGHT, vms_max: None, prices };
    scene.apply(Body::SetRate(card)).unwrap();
    let project = ProjectName::default();
    scene.apply(Body::SetPlan { project, plan, from: MIDNIGHT }).unwrap();
}

fn the_day() -> Scene {
    let mut scene = Scene::new();
    scene.now = Timestamp::from_unix_ms((MIDNIGHT.begin_s() - 600) * 1000);
    give_a_plan(&mut scene);
    for node in ["node-01", "node-02"] {
        scene.join(node, 16);
    }
    let (web, batch) = (scene.running("web", "node-01"), scene.create("batch"));
    let mut used = records(web, Meter::VmSeconds, 1, 0, 24 * HOUR_S);
    used.extend(records(batch, Meter::VmSeconds, 1, HOUR_S + 630, 3 * HOUR_S + 10));
    used.extend(records(web, Meter::DiskByteSeconds, GIB, 0, 24 * HOUR_S));
    used.extend(records(batch, Meter::DiskByteSeconds, 3 * GIB, HOUR_S, 24 * HOUR_S));
    used.extend(records(web, Meter::SnapshotSeconds, 2, 12 * HOUR_S, 24 * HOUR_S));
    // One hour's records come five hours late.
    let is_late = |record: &UsageRecord| Hour::of_s(record.start_s).0 == MIDNIGHT.0 + 7;
    for hour in 0..24 {
        let this = |record: &&UsageRecord| Hour::of_s(record.start_s).0 == MIDNIGHT.0 + hour;
        let now: Vec<_> = used.iter().filter(this).filter(|one| !is_late(one)).copied().collect();
        go_to(&mut scene, (hour + 1) * HOUR_S);
        post(&mut scene, &now);
        match hour {
            5 => {
                let migration = scene.sending(web, "node-02");
                let reason = "the line was cut".to_owned();
                scene.source_ends(migration, SourceResult::Failed { reason });
                scene.settle_all("node-02");
            }
            6 => {
                let migration = scene.sending(web, "node-02");
                scene.hand_over("node-02", migration);
                scene.source_ends(migration, SourceResult::Completed(account()));
            }
            12 => post(
                &mut scene,
                &used.iter().filter(|one| is_late(one)).copied().collect::<Vec<_>>(),
            ),
            _ => {}
        }
    }
    go_to(&mut scene, 27 * HOUR_S);
    scene
}

fn lines(scene: &Scene, summaries: impl Iterator<Item = Summary>) -> (Vec<InvoiceLine>, i64) {
    let (tariff, filter) = (Tariff::of(&scene.fleet), InvoiceFilter::default());
    let mut lines = Lines::default();
    summaries.for_each(|summary| lines.add(&summary, &tariff, &filter));
    let (lines, _, sum) = lines.rate(&filter).unwrap();
    (lines, sum)
}

#[test]
fn a_day_costs_what_a_hand_computed() {
    let mut scene = the_day();
    assert_eq!(scene.fleet.sealed_windows().count(), 24);
    let files = scene.fleet.drain_departures();
    let summaries = files.iter().filter(|file| file.name.contains("summary"));
    let summaries = summaries.map(|file| codec::decode(&file.content).unwrap());
    let (lines, sum) = lines(&scene, summaries);
    let found: Vec<_> = lines
        .iter()
        .map(|line| (line.dimension.as_str(), line.quantity.0, line.micro_dollars))
        .collect();
    let gib_hours = 93 * i128::from(GIB) * 3_600;
    let expected = [
        ("vm-hours", 92_980, 3_874_167),
        ("storage-gb", gib_hours, 2_548),
        ("transfer-gb", 1_000, 47),
        ("snapshots", 24 * 3_600, 240),
        ("migrations", 1, 2_000),
    ];
    assert_eq!(found, expected);
    assert_eq!(sum, 3_879_002);
}

/// Of the day and the hours around it.
fn series(
    summaries: &[Summary],
    scene: &Scene,
    by: UsageStep,
    filter: &UsageFilter,
) -> UsageSeries {
    let tariff = Tariff::of(&scene.fleet);
    let steps = Steps::new(Hour(MIDNIGHT.0 - 3)..Hour(MIDNIGHT.0 + 27), by).unwrap();
    let mut series = Series::new(&steps, filter);
    summaries.iter().try_for_each(|summary| series.add(summary, &tariff)).unwrap();
    series.finish().unwrap()
}

#[test]
fn the_sums_of_a_series_are_those_of_the_table_and_of_the_invoice() {
    let mut scene = the_day();
    let files = scene.fleet.drain_departures();
    let summaries = files.iter().filter(|file| file.name.contains("summary"));
    let summaries: Vec<Summary> =
        summaries.map(|file| codec::decode(&file.content).unwrap()).collect();
    let web = summaries[0].machines.iter().find(|then| then.name == "web").unwrap().vm;
    let filters = [
        UsageFilter::default(),
        UsageFilter { vm: Some(web), ..UsageFilter::default() },
        UsageFilter { meter: Some(Meter::DiskByteSeconds), ..UsageFilter::default() },
        UsageFilter { project: Some("other".parse().unwrap()), ..UsageFilter::default() },
    ];
    for (filter, expected) in filters.iter().zip([3_879_002, 3_602_945, 2_548, 0]) {
        let mut table = Table::default();
        summaries.iter().for_each(|summary| table.add(summary, filter));
        let table: BTreeMap<_, _> =
            table.rows().into_iter().map(|row| (row.meter, row.quantity.0)).collect();
        for (by, count) in [(UsageStep::Hour, 30), (UsageStep::Day, 3)] {
            let found = series(&summaries, &scene, by, filter);
            assert_eq!(found.points.len(), count);
            let mut sums = BTreeMap::new();
            for (meter, quantity) in found.points.iter().flat_map(|point| &point.quantities) {
                *sums.entry(*meter).or_insert(0) += quantity.0;
            }
            sums.retain(|_, sum| *sum != 0);
            assert_eq!(sums, table, "{filter:?} {by:?}");
            let money: i64 = found.points.iter().filter_map(|point| point.micro_dollars).sum();
            assert_eq!(money, expected, "{filter:?} {by:?}");
        }
    }
    let hours = series(&summaries, &scene, UsageStep::Hour, &UsageFilter::default()).points;
    // Nothing before midnight; the second hour has all of web and 49:30 of batch.
    assert_eq!((hours[2].quantities[&Meter::VmSeconds].0, hours[2].micro_dollars), (0, None));
    assert_eq!(hours[4].quantities[&Meter::VmSeconds].0, 3_600 + 2_970);
    // (6,570 · 150,000 + 0) / 3,600 for machines, 4 GiB for an hour at 27.397.
    assert_eq!(hours[4].micro_dollars, Some(273_750 + 110));
}

#[test]
fn a_replica_comes_to_the_same() {
    let scene = the_day();
    assert_eq!(scene.replay().state_hash().unwrap(), scene.fleet.state_hash().unwrap());
    let chains = |fleet: &crate::state::Fleet| -> Vec<_> {
        fleet.sealed_windows().map(|header| header.chain).collect()
    };
    assert_eq!(chains(&scene.replay()), chains(&scene.fleet));
}
