//! What agents measured, over time: what [`decision 48`](../../docs/decisions/0048-metrics-with-history.md) chose.
//!
//! ```text
//! agents ──parts──► leader: table ──each second──► table of every other member
//!                              └─ every minute, every quarter: files of this member ─► old ones removed
//! API ◄── points of files, and of the table what is not in files yet
//! ```
//!
//! Nothing of it is in the log, in the state or in a backup: it is for looking at, and a member that was away has a hole.
//!
//! | module | holds |
//! |---|---|
//! | [`short`] [`rollup`] [`level`] | pure: numbers in two bytes, what is kept of several, how finely and for how long |
//! | [`track`] [`table`] | pure: the last hour |
//! | [`question`] | pure: what somebody wants to see |
//! | [`segment`] | one file |
//! | [`files`] [`keeper`] | the files of this member, and the task that writes them |
//! | [`passing`] | the leader passes on what it took |

pub mod files;
pub mod keeper;
pub mod level;
pub mod passing;
pub mod question;
pub mod rollup;
pub mod segment;
pub mod short;
pub mod table;
pub mod track;

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use novacron_protocol::ids::NodeName;
use novacron_protocol::metric::Metric;
use novacron_protocol::sample::{MachineSamples, Sample, TICK_S, Tick, TickPart};
use novacron_protocol::time::Timestamp;
use novacron_storage::disk::{Disk, DiskError};
use serde::{Deserialize, Serialize};
use tokio::sync::Semaphore;

use self::files::Files;
use self::level::Level;
use self::question::Question;
use self::rollup::{Rollup, coarser};
use self::segment::SegmentError;
use self::table::{Resource, Sum, Table, Taken};
use self::track::{Points, SeriesKey, TICKS, points};

/// How far ahead of this member's clock a tick may be.
const AHEAD_MS_MAX: u64 = 60_000;

/// Questions that read files at once. Each reads at most 2,880 small parts.
const READERS_MAX: usize = 4;

/// Hosts that are added up under one lock.
const HOSTS_AT_ONCE: usize = 64;

/// A part of a tick, and whose it is: what the leader passes on.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct NodePart {
    /// The host.
    pub node: NodeName,
    /// What was measured there.
    pub part: TickPart,
}

/// What somebody asks about.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Subject {
    /// The thing.
    pub resource: Resource,
    /// Of a region: its hosts now. What was before the last quarter of an hour was added up then.
    pub hosts: Vec<NodeName>,
}

/// Why there is no answer.
#[derive(Debug, thiserror::Error)]
pub enum AskError {
    /// Reading ended in the middle.
    #[error("the task that reads files of samples ended")]
    Ending,
}

/// What was counted since this member was started.
#[derive(Debug, Default)]
struct Counts {
    noted: AtomicU64,
    untimely: AtomicU64,
    crowded_out: AtomicU64,
    not_passed_on: AtomicU64,
    not_written: AtomicU64,
    damaged: AtomicU64,
}

/// How it stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SampleNumbers {
    /// Series in memory.
    pub series: u64,
    /// Values that were noted.
    pub noted: u64,
    /// Parts of ticks that were too old, or ahead of the clock.
    pub untimely: u64,
    /// Values for which there was no room.
    pub crowded_out: u64,
    /// Parts of ticks that another member could not be given.
    pub not_passed_on: u64,
    /// Files that could not be written.
    pub not_written: u64,
    /// Files and entries that could not be read.
    pub damaged: u64,
}

/// The samples of one member. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Samples {
    shared: Arc<Shared>,
}

#[derive(Debug)]
struct Shared {
    table: Mutex<Table>,
    files: Files,
    readers: Arc<Semaphore>,
    late: Late,
    counts: Counts,
}

/// What came after its minute was written.
#[derive(Debug)]
struct Late {
    /// What is older was written.
    written: AtomicU32,
    /// The oldest tick that came later than that.
    oldest: AtomicU32,
}

impl Default for Late {
    fn default() -> Self {
        Self { written: AtomicU32::new(0), oldest: AtomicU32::new(u32::MAX) }
    }
}

impl Late {
    fn note(&self, tick: Tick) {
        if tick.0 < self.written.load(Ordering::Relaxed) {
            self.oldest.fetch_min(tick.0, Ordering::Relaxed);
        }
    }

    /// The oldest one since the last time.
    fn take(&self) -> Option<Tick> {
        let oldest = self.oldest.swap(u32::MAX, Ordering::Relaxed);
        (oldest != u32::MAX).then_some(Tick(oldest))
    }

    fn set_written(&self, before: Tick) {
        self.written.store(before.0, Ordering::Relaxed);
    }
}

fn add(counter: &AtomicU64, count: u64) {
    counter.fetch_add(count, Ordering::Relaxed);
}

impl Samples {
    /// What a member has on its disk. The last hour comes into memory when the [`keeper`] runs.
    ///
    /// # Errors
    /// [`DiskError`].
    pub fn open(disk: Arc<dyn Disk>) -> Result<Self, DiskError> {
        let files = Files::open(disk)?;
        let (table, counts) = (Mutex::default(), Counts::default());
        let readers = Arc::new(Semaphore::new(READERS_MAX));
        let late = Late::default();
        Ok(Self { shared: Arc::new(Shared { table, files, readers, late, counts }) })
    }

    fn table(&self) -> MutexGuard<'_, Table> {
        self.shared.table.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn files(&self) -> &Files {
        &self.shared.files
    }

    /// The newest tick that is here as a whole of a host; 0 if there is none.
    pub fn newest(&self, node: &NodeName) -> Tick {
        let host = Resource::Node(node.clone());
        self.table().track(&host).map_or(Tick(0), track::Track::newest)
    }

    /// Notes what a host measured. What is too old to be of use, or ahead of the clock, is counted and passed over.
    pub fn take(&self, node: &NodeName, part: &TickPart, now: Timestamp) {
        if !is_timely(part.tick, now) {
            return add(&self.shared.counts.untimely, 1);
        }
        self.shared.late.note(part.tick);
        let mut table = self.table();
        let mut taken = Taken::default();
        let mut note = |resource: &Resource, values: &[Sample]| {
            let one = table.take(resource, part.tick, values);
            taken.noted += one.noted;
            taken.crowded_out += one.crowded_out;
        };
        for MachineSamples { vm, values } in &part.machines {
            note(&Resource::Vm(*vm), values);
        }
        if let Some(host) = &part.host {
            note(&Resource::Node(node.clone()), host);
        }
        drop(table);
        add(&self.shared.counts.noted, taken.noted);
        add(&self.shared.counts.crowded_out, taken.crowded_out);
    }

    /// How something was: the points of each series of these metrics, as many as the question has intervals.
    ///
    /// # Errors
    /// [`AskError`].
    pub async fn ask(
        &self,
        subject: Subject,
        question: Question,
        metrics: Vec<Metric>,
    ) -> Result<Vec<Points>, AskError> {
        let permit = Arc::clone(&self.shared.readers).acquire_owned().await;
        let permit = permit.map_err(|_| AskError::Ending)?;
        let samples = self.clone();
        let read = tokio::task::spawn_blocking(move || {
            let answer = samples.answer(&subject, &question, &metrics);
            drop(permit);
            answer
        });
        read.await.map_err(|_| AskError::Ending)
    }

    fn answer(&self, subject: &Subject, question: &Question, metrics: &[Metric]) -> Vec<Points> {
        let mut canvas = Canvas::new(question, metrics);
        let mut rest_s = question.from_s;
        if question.level != Level::Ticks {
            rest_s = self.files().end_s(question.level).unwrap_or(0).max(question.from_s);
            self.read_files(&subject.resource, question, rest_s, &mut canvas);
        }
        let Some(newest) = self.newest_of(subject) else { return canvas.finish(question) };
        // What no file has may be long ago, and memory has an hour.
        let oldest_s = newest.unix_s().saturating_sub(u64::from(TICKS) * TICK_S);
        rest_s = rest_s.max(oldest_s - oldest_s % question.level.step_s());
        if rest_s < question.to_s {
            let ticks = question.ticks_from(rest_s);
            self.recent(subject, question.level, ticks, |points| canvas.put(rest_s, points));
        }
        canvas.finish(question)
    }

    /// The newest tick that is in memory of something, or of any host of a region.
    fn newest_of(&self, subject: &Subject) -> Option<Tick> {
        let newest = |resource: &Resource| self.table().track(resource).map(track::Track::newest);
        match subject.resource {
            Resource::Region(_) => {
                subject.hosts.iter().filter_map(|host| newest(&Resource::Node(host.clone()))).max()
            }
            _ => newest(&subject.resource),
        }
    }

    fn read_files(
        &self,
        resource: &Resource,
        question: &Question,
        until_s: u64,
        canvas: &mut Canvas<'_>,
    ) {
        let until_s = until_s.min(question.to_s);
        for begin_s in self.files().within(question.level, question.from_s, until_s) {
            match self.find(question.level, begin_s, resource) {
                Ok(series) => series.into_iter().for_each(|points| canvas.put(begin_s, points)),
                Err(error) => self.note_damage(begin_s, &error),
            }
        }
    }

    fn find(
        &self,
        level: Level,
        begin_s: u64,
        resource: &Resource,
    ) -> Result<Vec<Points>, SegmentError> {
        match self.files().read(level, begin_s)? {
            Some(segment) => segment.find(resource),
            None => Ok(Vec::new()),
        }
    }

    fn note_damage(&self, begin_s: u64, error: &SegmentError) {
        let error = error as &dyn std::error::Error;
        tracing::warn!(
            begin_s,
            error,
            "a file of samples cannot be read: there is a hole in history"
        );
        add(&self.shared.counts.damaged, 1);
    }

    /// What is in memory.
    fn recent(
        &self,
        subject: &Subject,
        level: Level,
        ticks: std::ops::Range<u32>,
        mut put: impl FnMut(Points),
    ) {
        if !matches!(subject.resource, Resource::Region(_)) {
            let table = self.table();
            let track = table.track(&subject.resource);
            return track
                .into_iter()
                .flat_map(|track| track.points(level, ticks.clone()))
                .for_each(put);
        }
        let mut sum = Sum::new(ticks);
        for hosts in subject.hosts.chunks(HOSTS_AT_ONCE) {
            let table = self.table();
            let tracks = hosts.iter().filter_map(|host| table.track(&Resource::Node(host.clone())));
            tracks.for_each(|track| sum.add(track));
        }
        sum.into_values().for_each(|(key, values)| put((key, points(level, &values))));
    }

    /// How it stands.
    pub fn numbers(&self) -> SampleNumbers {
        let series = self.table().series() as u64;
        let Counts { noted, untimely, crowded_out, not_passed_on, not_written, damaged } =
            &self.shared.counts;
        let of = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        SampleNumbers {
            series,
            noted: of(noted),
            untimely: of(untimely),
            crowded_out: of(crowded_out),
            not_passed_on: of(not_passed_on),
            not_written: of(not_written),
            damaged: of(damaged),
        }
    }

    fn note_not_passed_on(&self, parts: u64) {
        add(&self.shared.counts.not_passed_on, parts);
    }
}

fn is_timely(tick: Tick, now: Timestamp) -> bool {
    let is_ahead = tick.at() > now.plus_ms(AHEAD_MS_MAX);
    !is_ahead && tick.0.saturating_add(TICKS) > Tick::of(now).0
}

/// Where the points of a level come together.
struct Canvas<'a> {
    metrics: &'a [Metric],
    from_s: u64,
    step_s: u64,
    length: usize,
    series: BTreeMap<SeriesKey, Vec<Option<Rollup>>>,
}

impl<'a> Canvas<'a> {
    fn new(question: &Question, metrics: &'a [Metric]) -> Self {
        let step_s = question.level.step_s();
        let length = ((question.to_s - question.from_s) / step_s) as usize;
        Self { metrics, from_s: question.from_s, step_s, length, series: BTreeMap::new() }
    }

    /// Points that begin at a second; those outside are left out.
    fn put(&mut self, begin_s: u64, (key, points): Points) {
        if !self.metrics.contains(&key.metric) {
            return;
        }
        let Self { from_s, step_s, length, .. } = *self;
        let series = self.series.entry(key).or_insert_with(|| vec![None; length]);
        for (index, point) in (0..).zip(points) {
            let at_s = begin_s + index * step_s;
            let place = at_s.checked_sub(from_s).and_then(|behind| {
                series.get_mut(usize::try_from(behind / step_s).unwrap_or(usize::MAX))
            });
            if let (Some(place), Some(point)) = (place, point) {
                *place = Some(point);
            }
        }
    }

    fn finish(self, question: &Question) -> Vec<Points> {
        let count = question.level_points();
        let series = self.series.into_iter();
        let series = series.map(|(key, points)| (key, coarser(&points, count)));
        series.filter(|(_, points)| points.iter().any(Option::is_some)).collect()
    }
}

#[cfg(test)]
mod tests;
