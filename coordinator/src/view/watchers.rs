//! How many follow what happens, at once: places that are bounded for a member and for each principal, and the tasks
//! that hold them.

use std::sync::Arc;
use std::time::Duration;

use novacron_protocol::api::{Code, Problem};
use novacron_transport::SubjectName;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio_util::task::TaskTracker;

use crate::admission::places::{self, Places};

/// Streams of events at once on one member, unless its configuration says another number. Each holds three batches of
/// 64 KiB at most (one is being written, one waits, one is being made), so they are 96 MiB.
pub const WATCHERS_MAX: usize = 512;

/// Of these, streams of one principal: eight have to want all that they may before others get none.
pub const WATCHERS_PER_PRINCIPAL_MAX: usize = 64;

/// For how long a reader may take nothing. What it takes is counted in batches, so whoever takes 64 KiB in this time
/// (2 KiB a second) goes on.
pub const SLOW_READER_AFTER: Duration = Duration::from_secs(30);

/// For how long a member may be without a leader that a quorum follows until its streams end: several elections.
pub const CUT_OFF_AFTER: Duration = Duration::from_secs(20);

/// What watchers may take of a member.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct WatchLimits {
    /// Streams at once.
    pub watchers_max: usize,
    /// Of these, streams of one principal.
    pub watchers_per_principal_max: usize,
    /// For how long a reader may take nothing until its stream ends.
    pub slow_reader_after: Duration,
    /// For how long the member may be without a leader until streams end.
    pub cut_off_after: Duration,
}

impl Default for WatchLimits {
    fn default() -> Self {
        Self {
            watchers_max: WATCHERS_MAX,
            watchers_per_principal_max: WATCHERS_PER_PRINCIPAL_MAX,
            slow_reader_after: SLOW_READER_AFTER,
            cut_off_after: CUT_OFF_AFTER,
        }
    }
}

/// Why there is no place for one more.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum NoPlace {
    /// The member has as many as it takes.
    #[error(
        "{0} streams of events are open at this coordinator, and it takes no more: ask another one, or close some"
    )]
    Member(usize),
    /// The principal has as many as it may.
    #[error(
        "you have {0} streams of events open at this coordinator, and may not have more: close some"
    )]
    Principal(usize),
}

impl NoPlace {
    /// The whole answer of the API.
    pub fn to_problem(self) -> Problem {
        Problem::new(Code::TooManyWatchers, self.to_string())
    }
}

/// The watchers of one member. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Watchers {
    limits: WatchLimits,
    of_all: Arc<Semaphore>,
    of_each: Arc<Places<SubjectName>>,
    tasks: TaskTracker,
}

impl Watchers {
    /// Nobody watches yet.
    pub fn new(limits: WatchLimits) -> Self {
        // Beyond 2³² nobody is bounded.
        let each_max = u32::try_from(limits.watchers_per_principal_max).unwrap_or(u32::MAX);
        Self {
            limits,
            of_all: Arc::new(Semaphore::new(limits.watchers_max)),
            of_each: Places::new(each_max),
            tasks: TaskTracker::new(),
        }
    }

    /// What they may take.
    pub fn limits(&self) -> WatchLimits {
        self.limits
    }

    /// How many there are.
    pub fn open(&self) -> usize {
        self.limits.watchers_max - self.of_all.available_permits()
    }

    /// A place for one more.
    ///
    /// # Errors
    /// [`NoPlace`].
    pub fn admit(&self, principal: &SubjectName) -> Result<Place, NoPlace> {
        let WatchLimits { watchers_max, watchers_per_principal_max, .. } = self.limits;
        let of_each = Places::take(&self.of_each, principal.clone());
        let of_each = of_each.ok_or(NoPlace::Principal(watchers_per_principal_max))?;
        let of_all = Arc::clone(&self.of_all).try_acquire_owned();
        let of_all = of_all.map_err(|_| NoPlace::Member(watchers_max))?;
        Ok(Place { _of_each: of_each, _of_all: of_all })
    }

    /// Has a place taken until a task ends.
    pub fn run(&self, place: Place, watching: impl Future<Output = ()> + Send + 'static) {
        drop(self.tasks.spawn(async move {
            watching.await;
            drop(place);
        }));
    }

    /// Waits until all have ended.
    pub async fn ended(&self) {
        self.tasks.close();
        self.tasks.wait().await;
    }
}

/// A place that is taken until it is dropped.
#[derive(Debug)]
pub struct Place {
    _of_each: places::Place<SubjectName>,
    _of_all: OwnedSemaphorePermit,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn places_are_bounded_and_come_back() {
        let limits = WatchLimits {
            watchers_max: 3,
            watchers_per_principal_max: 2,
            ..WatchLimits::default()
        };
        let watchers = Watchers::new(limits);
        let admit = |name: &str| watchers.admit(&name.parse().unwrap());
        let first = admit("a").unwrap();
        let _second = admit("a").unwrap();
        assert_eq!(admit("a").unwrap_err(), NoPlace::Principal(2));
        let _third = admit("b").unwrap();
        assert_eq!(admit("c").unwrap_err(), NoPlace::Member(3));
        drop(first);
        assert_eq!(watchers.open(), 2);
        let _again = admit("a").unwrap();
        assert_eq!(admit("b").unwrap_err(), NoPlace::Member(3));
    }
}
