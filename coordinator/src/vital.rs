//! Tasks that a coordinator cannot be without.
//!
//! A task that panics is gone without a word, and a coordinator without it looks well: it would call no elections, fetch
//! no archive or answer nobody. So it stops as a whole, and whoever runs it starts it anew.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

/// Runs them. Clones share what they run.
#[derive(Debug, Clone)]
pub(crate) struct Vital {
    tasks: TaskTracker,
    stop: CancellationToken,
    has_failed: Arc<AtomicBool>,
}

impl Vital {
    /// Cancels `stop` if one panics.
    pub(crate) fn new(stop: CancellationToken) -> Self {
        Self { tasks: TaskTracker::new(), stop, has_failed: Arc::default() }
    }

    /// Where tasks are that may end as they like.
    pub(crate) fn tracker(&self) -> &TaskTracker {
        &self.tasks
    }

    /// Runs one that goes on until `stop`.
    pub(crate) fn spawn(&self, task: impl Future<Output = ()> + Send + 'static) {
        let (task, Self { stop, has_failed, .. }) = (tokio::spawn(task), self.clone());
        self.tasks.spawn(async move {
            if task.await.is_err_and(|error| error.is_panic()) {
                tracing::error!(
                    "a task of this coordinator ended in a panic: the coordinator stops"
                );
                has_failed.store(true, Ordering::Relaxed);
                stop.cancel();
            }
        });
    }

    /// Whether one has panicked.
    pub(crate) fn has_failed(&self) -> bool {
        self.has_failed.load(Ordering::Relaxed)
    }

    /// Waits until all have ended.
    pub(crate) async fn wait(&self) {
        self.tasks.close();
        self.tasks.wait().await;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_panic_stops_the_coordinator_and_an_end_does_not() {
        let vital = Vital::new(CancellationToken::new());
        vital.spawn(async {});
        vital.spawn(vital.stop.clone().cancelled_owned());
        assert!(!vital.has_failed() && !vital.stop.is_cancelled());
        vital.spawn(async { panic!("as a bug would") });
        vital.wait().await;
        assert!(vital.has_failed() && vital.stop.is_cancelled());
    }
}
