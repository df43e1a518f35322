//! Where work that waits for the disk is done: on a thread of its own, so that the reactor goes on; in a simulation
//! in place, because which of two threads is done first is decided by no seed.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use tokio::task::JoinError;

/// How long the disk of a simulation takes, asked before and after each piece of work.
type Latency = Arc<dyn Fn() -> Duration + Send + Sync>;

/// Where work that waits for the disk is done. Cheap to clone.
#[derive(Clone, Default)]
pub struct DiskWork(Option<Latency>);

impl fmt::Debug for DiskWork {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(if self.0.is_none() {
            "DiskWork(threads)"
        } else {
            "DiskWork(in place)"
        })
    }
}

impl DiskWork {
    /// On threads that may wait.
    pub fn on_threads() -> Self {
        Self(None)
    }

    /// In place, for disks that never wait: half of the time that `latency` says passes before the work, the other
    /// half after it, so that a member may die between the work and its acknowledgement.
    pub fn in_place(latency: impl Fn() -> Duration + Send + Sync + 'static) -> Self {
        Self(Some(Arc::new(latency)))
    }

    /// Does the work.
    pub(crate) async fn run<T: Send + 'static>(
        &self,
        work: impl FnOnce() -> T + Send + 'static,
    ) -> Result<T, JoinError> {
        let Some(latency) = &self.0 else { return tokio::task::spawn_blocking(work).await };
        let half = latency() / 2;
        pass(half).await;
        let done = work();
        pass(half).await;
        Ok(done)
    }
}

async fn pass(time: Duration) {
    if !time.is_zero() {
        tokio::time::sleep(time).await;
    }
}
