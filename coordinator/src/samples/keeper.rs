//! The task that keeps history: it loads the last hour when the member starts, writes what is complete, and removes what
//! is old. One piece of work at a time, on a thread that may wait for the disk.
//!
//! A minute is written 20 s after its end, so a member that dies loses at most the last 80 s (and one that is stopped
//! nothing); of these its agents still have what they measured, if it leads afterwards. A quarter of an hour is rolled up
//! eleven minutes after its end: by then agents have sent again what they remember.

use std::collections::BTreeMap;
use std::time::Duration;

use novacron_protocol::ids::{NodeName, RegionCode};
use novacron_protocol::sample::{TICK_S, Tick};
use tokio::time::{MissedTickBehavior, interval};
use tokio_util::sync::CancellationToken;

use super::level::{Level, WINDOW_S};
use super::segment::{Segment, SegmentError, SegmentWriter};
use super::table::{Resource, Sum};
use super::track::points;
use super::{Samples, add};
use crate::clock::Clock;
use crate::fitness::Fitness;
use crate::view::View;

/// How often it looks whether something is complete.
const LOOK_PERIOD: Duration = Duration::from_secs(5);

/// How long after its end a minute of ticks is written: they are here some seconds after they were measured.
const TICKS_SETTLE_S: u64 = 20;
/// How long after its end a quarter of an hour is rolled up: agents remember ten minutes.
const WINDOW_SETTLE_S: u64 = 660;

/// Things that are looked at under one lock: some 10 ms for a quarter of an hour of all of them.
const THINGS_AT_ONCE: usize = 128;

/// The task, and what it works with.
#[derive(Clone)]
pub struct Keeper {
    /// What it keeps.
    pub samples: Samples,
    /// The fleet: which hosts are in which region.
    pub view: View,
    /// The time.
    pub clock: Clock,
    /// Whether there is room on the disk.
    pub fitness: Fitness,
}

impl Keeper {
    /// Runs until `stop`, and writes then what is there.
    pub async fn run(self, stop: CancellationToken) {
        let mut marks = None;
        let mut looks = interval(LOOK_PERIOD);
        looks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            let stops = tokio::select! {
                biased;
                () = stop.cancelled() => true,
                _ = looks.tick() => false,
            };
            // By a wrong clock, everything may be old.
            let Some(now_s) = self.now_s() else {
                if stops {
                    return;
                }
                continue;
            };
            if marks.is_none() {
                let samples = self.samples.clone();
                marks = self.work(move || samples.load(now_s)).await;
            }
            let Some(marked) = marks.map(|marks: Marks| marks.not_ahead_of(now_s)) else { return };
            let samples = self.samples.clone();
            let regions = self.regions();
            let has_room = self.fitness.check_room().is_ok();
            let keep = move || match has_room {
                true => samples.keep(marked, now_s, stops, &regions),
                // The room that is left is the log's. Memory has the last hour until there is more.
                false => samples.forget(marked, now_s),
            };
            match self.work(keep).await {
                Some(kept) if !stops => marks = Some(kept),
                _ => return,
            }
        }
    }

    async fn work<T: Send + 'static>(
        &self,
        work: impl FnOnce() -> T + Send + 'static,
    ) -> Option<T> {
        let done = tokio::task::spawn_blocking(work).await;
        done.inspect_err(|error| tracing::error!(%error, "samples are not kept any more")).ok()
    }

    /// The time, unless the clock is not to be believed.
    fn now_s(&self) -> Option<u64> {
        let now = self.clock.now();
        self.fitness.check_time(now).is_ok().then_some(now.unix_ms / 1000)
    }

    fn regions(&self) -> BTreeMap<NodeName, RegionCode> {
        self.view.local(|fleet| {
            let placed =
                |node: &crate::state::node::Node| Some((node.name.clone(), node.region.clone()?));
            fleet.nodes().filter_map(placed).collect()
        })
    }
}

/// Up to which second files were written, or there was nothing to write.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Marks {
    ticks_s: u64,
    windows_s: u64,
}

impl Marks {
    /// The same by a clock that was set back: what is marked and was not over yet will be written again.
    fn not_ahead_of(self, now_s: u64) -> Self {
        let by = |mark_s: u64, file_s: u64| mark_s.min(now_s - now_s % file_s);
        let (ticks_s, windows_s) = (self.ticks_s, self.windows_s);
        Self { ticks_s: by(ticks_s, Level::Ticks.file_s()), windows_s: by(windows_s, WINDOW_S) }
    }
}

/// Which files of a level are to be written at a second, by what was written up to now: those that are complete, and that
/// memory still has.
pub fn due(level: Level, written_s: u64, now_s: u64) -> impl Iterator<Item = u64> {
    let file_s = level.file_s();
    let settle_s = settle_s(level);
    let oldest_s = now_s.saturating_sub(Level::Ticks.remembered_s()).next_multiple_of(file_s);
    let first_s = written_s.max(oldest_s);
    (first_s..)
        .step_by(file_s as usize)
        .take_while(move |begin_s| begin_s + file_s + settle_s <= now_s)
}

/// The tick that a second is in.
fn tick_of(second: u64) -> Tick {
    Tick(u32::try_from(second / TICK_S).unwrap_or(u32::MAX))
}

fn settle_s(level: Level) -> u64 {
    if level == Level::Ticks { TICKS_SETTLE_S } else { WINDOW_SETTLE_S }
}

impl Samples {
    /// Brings the last hour into memory, and says what need not be written again.
    pub(super) fn load(&self, now_s: u64) -> Marks {
        let from_s = now_s.saturating_sub(Level::Ticks.remembered_s());
        // What is ahead of the clock would push out what is not; the minute that begins now may be there already.
        for begin_s in self.files().within(Level::Ticks, from_s, now_s + 1) {
            match self.files().read(Level::Ticks, begin_s) {
                Ok(Some(segment)) => self.load_file(&segment),
                Ok(None) => {}
                Err(error) => self.note_damage(begin_s, &error),
            }
        }
        // A file of a time that was not over when the member stopped is written again.
        let over_s = |level: Level| {
            let complete_s = now_s.saturating_sub(settle_s(level));
            let end_s = self.files().end_s(level).unwrap_or(0);
            end_s.min(complete_s - complete_s % level.file_s())
        };
        Marks { ticks_s: over_s(Level::Ticks), windows_s: over_s(Level::Quarters) }
    }

    fn load_file(&self, segment: &Segment) {
        let begin_s = segment.begin_s();
        let entries = match segment.all() {
            Ok(entries) => entries,
            Err(error) => return self.note_damage(begin_s, &error),
        };
        for entry in entries {
            let (resource, series) = match entry {
                Ok(entry) => entry,
                Err(error) => {
                    self.note_damage(begin_s, &error);
                    continue;
                }
            };
            let mut table = self.table();
            for (key, points) in series {
                for (number, point) in (0_u64..).zip(points) {
                    let Some(point) = point else { continue };
                    let tick = tick_of(begin_s + number * TICK_S);
                    table.note(&resource, tick, std::iter::once((key, point.average)));
                }
            }
        }
    }

    /// Writes what is complete, or all that there is if the member stops, and removes what is old.
    pub(super) fn keep(
        &self,
        mut marks: Marks,
        now_s: u64,
        stops: bool,
        regions: &BTreeMap<NodeName, RegionCode>,
    ) -> Marks {
        if let Err(error) = self.keep_due(&mut marks, now_s, stops, regions) {
            let error = &error as &dyn std::error::Error;
            tracing::warn!(error, "samples cannot be written: history may get a hole");
            add(&self.shared.counts.not_written, 1);
        }
        self.forget(marks, now_s)
    }

    /// Forgets what is old; what is marked stays marked.
    fn forget(&self, marks: Marks, now_s: u64) -> Marks {
        if let Err(error) = self.files().retire(now_s) {
            let error = &error as &dyn std::error::Error;
            tracing::warn!(error, "old samples cannot be removed");
        }
        self.table().forget(tick_of(now_s));
        marks
    }

    fn keep_due(
        &self,
        marks: &mut Marks,
        now_s: u64,
        stops: bool,
        regions: &BTreeMap<NodeName, RegionCode>,
    ) -> Result<(), SegmentError> {
        // Seen from later, what is not complete is.
        let seen_s = if stops { now_s + Level::Ticks.file_s() + TICKS_SETTLE_S } else { now_s };
        if due(Level::Ticks, marks.ticks_s, seen_s).next().is_some() {
            marks.ticks_s = self.with_late(marks.ticks_s, now_s);
        }
        for begin_s in due(Level::Ticks, marks.ticks_s, seen_s) {
            self.write(begin_s, Level::Ticks.file_s(), &[Level::Ticks], &BTreeMap::new())?;
            marks.ticks_s = begin_s + Level::Ticks.file_s();
            self.shared.late.set_written(tick_of(marks.ticks_s));
        }
        for begin_s in due(Level::Quarters, marks.windows_s, now_s) {
            self.write(begin_s, WINDOW_S, &[Level::Minutes, Level::Quarters], regions)?;
            marks.windows_s = begin_s + WINDOW_S;
        }
        Ok(())
    }

    /// From which second on minutes are to be written: those that agents remember are written again if something came late.
    fn with_late(&self, written_s: u64, now_s: u64) -> u64 {
        let Some(late) = self.shared.late.take() else { return written_s };
        let late_s = late.unix_s().max(now_s.saturating_sub(WINDOW_SETTLE_S));
        written_s.min(late_s - late_s % Level::Ticks.file_s())
    }

    /// Writes a stretch of time, at several levels. One in which nothing was measured makes no file.
    fn write(
        &self,
        begin_s: u64,
        length_s: u64,
        levels: &[Level],
        regions: &BTreeMap<NodeName, RegionCode>,
    ) -> Result<(), SegmentError> {
        let ticks = tick_of(begin_s).0..tick_of(begin_s + length_s).0;
        let mut writers: Vec<_> =
            levels.iter().map(|level| (*level, SegmentWriter::new(*level, begin_s))).collect();
        let mut sums: BTreeMap<&RegionCode, Sum> = BTreeMap::new();
        let mut last = None;
        loop {
            let table = self.table();
            let mut count = 0;
            let mut end = None;
            for (resource, track) in table.behind(last.as_ref(), THINGS_AT_ONCE) {
                count += 1;
                end = Some(resource.clone());
                if track.newest().0 < ticks.start {
                    continue;
                }
                for (level, writer) in &mut writers {
                    writer.add(resource, track.points(*level, ticks.clone()))?;
                }
                let Resource::Node(node) = resource else { continue };
                if let Some(region) = regions.get(node) {
                    sums.entry(region).or_insert_with(|| Sum::new(ticks.clone())).add(track);
                }
            }
            drop(table);
            last = end;
            if count < THINGS_AT_ONCE {
                break;
            }
        }
        for (region, sum) in sums {
            let values: Vec<_> = sum.into_values().collect();
            let region = Resource::Region(region.clone());
            for (level, writer) in &mut writers {
                let series = values.iter().map(|(key, values)| (*key, points(*level, values)));
                writer.add(&region, series)?;
            }
        }
        for (level, writer) in writers {
            if !writer.is_empty() {
                self.files().write(level, begin_s, &writer.finish()?)?;
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_marked_ahead_of_the_clock_is_written_again() {
        let marks = Marks { ticks_s: 9_000, windows_s: 9_000 };
        assert_eq!(marks.not_ahead_of(9_059), marks);
        let back = marks.not_ahead_of(5_530);
        assert_eq!(back, Marks { ticks_s: 5_520, windows_s: 5_400 });
    }

    #[test]
    fn what_is_complete_is_due_once() {
        let due = |level, written_s, now_s| due(level, written_s, now_s).collect::<Vec<_>>();
        assert_eq!(due(Level::Ticks, 6_000, 6_079), [0; 0]);
        assert_eq!(due(Level::Ticks, 6_000, 6_080), [6_000]);
        assert_eq!(due(Level::Ticks, 6_060, 6_080), [0; 0]);
        // What memory does not have any more is not written.
        assert_eq!(due(Level::Ticks, 0, 9_000)[0], 5_400);
        assert_eq!(due(Level::Ticks, 0, 9_001)[0], 5_460);
        assert_eq!(due(Level::Quarters, 9_000, 10_559), [0; 0]);
        assert_eq!(due(Level::Quarters, 9_000, 10_560), [9_000]);
        assert_eq!(due(Level::Quarters, 0, 10_560), [7_200, 8_100, 9_000]);
    }
}
