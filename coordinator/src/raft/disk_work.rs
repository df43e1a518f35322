//! Where work that waits for the disk is done: on a thread of its own, so that the reactor goes on; in a simulation
//! in place, because which of two threads is done first is decided by no seed.

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use tokio::task::JoinError;

/// Work that takes longer than this is worth another thread: handing it over and back costs about a tenth of it, and the
/// reactor's other work can wait for as long.
const BRIEF_MAX: Duration = Duration::from_micros(500);

/// How long the disk of a simulation takes, asked before and after each piece of work.
type Latency = Arc<dyn Fn() -> Duration + Send + Sync>;

/// Where work that waits for the disk is done. Cheap to clone.
#[derive(Clone)]
pub struct DiskWork(Place);

#[derive(Clone)]
enum Place {
    /// On threads, except what is brief, as the last such work was.
    Threads { was_brief: Arc<AtomicBool> },
    /// Where it is asked for.
    Here(Latency),
}

impl fmt::Debug for DiskWork {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(match self.0 {
            Place::Threads { .. } => "DiskWork(threads)",
            Place::Here(_) => "DiskWork(in place)",
        })
    }
}

impl DiskWork {
    /// On threads that may wait.
    pub fn on_threads() -> Self {
        Self(Place::Threads { was_brief: Arc::default() })
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

    /// Does work that the disk is asked for all the time. One that syncs within [`BRIEF_MAX`] is waited for here: on such a
    /// disk, the two ways between threads are a good part of what an entry of the log costs. The first time that it is
    /// slower is the last that it holds up anybody, until it is quick again.
    pub(crate) async fn run_often<T: Send + 'static>(
        &self,
        work: impl FnOnce() -> T + Send + 'static,
    ) -> Result<T, JoinError> {
        let Place::Threads { was_brief } = &self.0 else { return self.run(work).await };
        let timed = move || {
            let begun = Instant::now();
            (work(), begun.elapsed() <= BRIEF_MAX)
        };
        let (done, is_brief) = match was_brief.load(Ordering::Relaxed) {
            true => timed(),
            false => self.run(timed).await?,
        };
        was_brief.store(is_brief, Ordering::Relaxed);
        Ok(done)
    }
}

async fn pass(time: Duration) {
    if !time.is_zero() {
        tokio::time::sleep(time).await;
    }
}

#[cfg(test)]
mod tests {
    use std::thread::{self, ThreadId};

    use super::*;

    async fn place(work: &DiskWork, takes: Duration) -> ThreadId {
        let worked = work.run_often(move || {
            let begun = Instant::now();
            while begun.elapsed() < takes {}
            thread::current().id()
        });
        worked.await.unwrap()
    }

    #[tokio::test]
    async fn only_a_disk_that_was_quick_is_waited_for_in_place() {
        let own = thread::current().id();
        let work = DiskWork(Place::Threads { was_brief: Arc::new(AtomicBool::new(true)) });
        assert_eq!(place(&work, BRIEF_MAX * 2).await, own);
        assert_ne!(place(&work, BRIEF_MAX * 2).await, own);
        // Whoever asks for other work never waits.
        assert_ne!(work.run(|| thread::current().id()).await.unwrap(), own);
    }
}
