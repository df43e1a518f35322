//! A look at whoever waits for the disk on a thread of the reactor.
//!
//! tokio wakes a second thread only when there is more than one thing to do. So if the one that had looked at sockets and
//! timers begins to wait for something else, nobody looks at them any more, although other threads are idle. Something to
//! do, given from outside, wakes one of them, and it looks at everything from then on.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Weak};
use std::thread;
use std::time::{Duration, Instant};

use tokio::runtime::{Handle, RuntimeFlavor};

/// How often is looked: sockets and timers are left alone for no more than twice as long.
const PERIOD: Duration = Duration::from_millis(20);

/// Nobody waits.
const NOBODY: u64 = 0;

/// Sees to it that the reactor goes on while one of its threads waits.
#[derive(Debug)]
pub(super) struct Lookout {
    runtime: Handle,
    made: Instant,
    /// When the wait began, in microseconds since this was made.
    since: AtomicU64,
}

impl Lookout {
    /// For the reactor that this is called on; `None` if it has no second thread that could go on.
    pub(super) fn begin() -> Option<Arc<Self>> {
        let runtime = Handle::try_current().ok()?;
        let has_others = runtime.runtime_flavor() == RuntimeFlavor::MultiThread
            && runtime.metrics().num_workers() > 1;
        if !has_others {
            return None;
        }
        let lookout =
            Arc::new(Self { runtime, made: Instant::now(), since: AtomicU64::new(NOBODY) });
        let watched = Arc::downgrade(&lookout);
        let named = thread::Builder::new().name("disk-lookout".to_owned());
        named.spawn(move || look(&watched)).ok().map(|_| lookout)
    }

    /// Does work that may wait. For one at a time.
    pub(super) fn watch<T>(&self, work: impl FnOnce() -> T) -> T {
        self.since.store(self.now(), Ordering::Relaxed);
        let done = work();
        self.since.store(NOBODY, Ordering::Relaxed);
        done
    }

    fn now(&self) -> u64 {
        u64::try_from(self.made.elapsed().as_micros()).unwrap_or(u64::MAX).max(NOBODY + 1)
    }

    fn is_late(&self) -> bool {
        let since = self.since.load(Ordering::Relaxed);
        since != NOBODY && self.now().saturating_sub(since) > PERIOD.as_micros() as u64
    }
}

/// Ends with the reactor's use for it.
fn look(watched: &Weak<Lookout>) {
    while let Some(lookout) = watched.upgrade() {
        if lookout.is_late() {
            drop(lookout.runtime.spawn(async {}));
        }
        drop(lookout);
        thread::sleep(PERIOD);
    }
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc;

    use tokio::runtime::Builder;
    use tokio::time::timeout;

    use super::*;

    async fn timer(time: Duration) {
        drop(timeout(time, std::future::pending::<()>()).await);
    }

    #[test]
    fn timers_go_on_while_the_thread_that_looked_at_them_waits() {
        let runtime = Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
        let (news, waiting) = mpsc::channel();
        let told = runtime.block_on(async {
            let lookout = Lookout::begin().unwrap();
            let waits = tokio::spawn(async move {
                // Woken by the thread that looks at timers, on which it then waits for another timer.
                timer(Duration::from_millis(10)).await;
                lookout.watch(|| waiting.recv_timeout(Duration::from_secs(60)))
            });
            drop(tokio::spawn(async move {
                timer(Duration::from_millis(50)).await;
                news.send(())
            }));
            waits.await.unwrap()
        });
        assert_eq!(told, Ok(()));
    }

    #[tokio::test]
    async fn a_reactor_of_one_thread_is_not_made_to_wait() {
        assert!(Lookout::begin().is_none());
    }
}
