//! Where work that waits for the disk is done: on a thread of its own, so that the reactor goes on; in a simulation
//! in place, because which of two threads is done first is decided by no seed.

use std::fmt;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::{Duration, Instant};

use tokio::task::JoinError;

use super::lookout::Lookout;

/// What takes less is not worth another thread: the two ways between threads take a good part of it, and all else that the
/// thread would do can wait for as long.
const BRIEF_MAX: Duration = Duration::from_micros(500);

/// How long the disk of a simulation takes, asked before and after each piece of work.
type Latency = Arc<dyn Fn() -> Duration + Send + Sync>;

/// Where work that waits for the disk is done. Cheap to clone.
#[derive(Clone)]
pub struct DiskWork(Place);

#[derive(Clone)]
enum Place {
    Threads(Arc<Pace>),
    /// Where it is asked for.
    Here(Latency),
}

/// How quick the disk is.
#[derive(Default)]
struct Pace {
    /// Whether the last piece of work that was timed took less than [`BRIEF_MAX`].
    was_brief: AtomicBool,
    lookout: OnceLock<Option<Arc<Lookout>>>,
}

impl fmt::Debug for DiskWork {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(match self.0 {
            Place::Threads(_) => "DiskWork(threads)",
            Place::Here(_) => "DiskWork(in place)",
        })
    }
}

impl DiskWork {
    /// On threads that may wait.
    pub fn on_threads() -> Self {
        Self(Place::Threads(Arc::default()))
    }

    /// In place, for disks that never wait: half of the time that `latency` says passes before the work, the other
    /// half after it, so that a member may die between the work and its acknowledgement.
    pub fn in_place(latency: impl Fn() -> Duration + Send + Sync + 'static) -> Self {
        Self(Place::Here(Arc::new(latency)))
    }

    /// Does the work.
    pub(crate) async fn run<T: Send + 'static>(
        &self,
        work: impl FnOnce() -> T + Send + 'static,
    ) -> Result<T, JoinError> {
        let Place::Here(latency) = &self.0 else { return tokio::task::spawn_blocking(work).await };
        let half = latency() / 2;
        pass(half).await;
        let done = work();
        pass(half).await;
        Ok(done)
    }

    /// Does work that is done all the time and should be brief, without waiting for another thread, if it was brief the
    /// last time; `None` if it has to be [`run`](Self::run_timed) instead, or if the work says so. A disk that stalls
    /// holds up one thread of the reactor; the [`Lookout`] has the others go on.
    pub(crate) fn here<T>(&self, work: impl FnOnce() -> Option<T>) -> Option<T> {
        let Place::Threads(pace) = &self.0 else { return None };
        if !pace.was_brief.load(Ordering::Relaxed) {
            return None;
        }
        let lookout = pace.lookout.get_or_init(Lookout::begin).as_ref()?;
        let begun = Instant::now();
        let done = lookout.watch(work);
        if done.is_some() {
            pace.note(begun.elapsed());
        }
        done
    }

    /// Does work as [`run`](Self::run) does, and notes how long it takes.
    pub(crate) async fn run_timed<T: Send + 'static>(
        &self,
        work: impl FnOnce() -> T + Send + 'static,
    ) -> Result<T, JoinError> {
        let Place::Threads(pace) = &self.0 else { return self.run(work).await };
        let timed = move || {
            let begun = Instant::now();
            (work(), begun.elapsed())
        };
        let (done, took) = self.run(timed).await?;
        pace.note(took);
        Ok(done)
    }
}

impl Pace {
    fn note(&self, took: Duration) {
        self.was_brief.store(took < BRIEF_MAX, Ordering::Relaxed);
    }
}

async fn pass(time: Duration) {
    if !time.is_zero() {
        tokio::time::sleep(time).await;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn on_quick_disk() -> DiskWork {
        let work = DiskWork::on_threads();
        let Place::Threads(pace) = &work.0 else { unreachable!("that is where it is") };
        pace.note(Duration::ZERO);
        work
    }

    fn take(time: Duration) -> bool {
        let begun = Instant::now();
        while begun.elapsed() < time {}
        true
    }

    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn only_a_disk_that_was_quick_is_waited_for_in_place() {
        assert_eq!(DiskWork::on_threads().here(|| Some(())), None);
        let work = on_quick_disk();
        assert_eq!(work.here(|| None::<()>), None);
        assert_eq!(work.here(|| Some(take(BRIEF_MAX))), Some(true));
        assert_eq!(work.here(|| Some(())), None);
        work.run_timed(|| take(BRIEF_MAX)).await.unwrap();
        assert_eq!(work.here(|| Some(())), None);
    }

    #[tokio::test]
    async fn a_reactor_of_one_thread_never_waits() {
        assert_eq!(on_quick_disk().here(|| Some(())), None);
    }

    #[tokio::test(start_paused = true)]
    async fn a_simulated_disk_takes_its_time() {
        let work = DiskWork::in_place(|| Duration::from_millis(4));
        assert_eq!(work.here(|| Some(())), None);
        let begun = tokio::time::Instant::now();
        work.run_timed(|| ()).await.unwrap();
        assert_eq!(begun.elapsed(), Duration::from_millis(4));
    }
}
