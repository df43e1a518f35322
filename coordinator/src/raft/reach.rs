//! How far the snapshots on disk reach, for whoever drops what they hold.
//!
//! openraft 0.9 orders a snapshot to be installed and the log up to it to be purged, and waits for neither: purged first,
//! a member that dies in between has neither the entries nor the snapshot, and cannot start any more.

use tokio::sync::watch;

/// What is known of the snapshots. Clones share it.
#[derive(Debug, Clone)]
pub struct SnapshotReach(watch::Sender<Reach>);

#[derive(Debug, Clone, Copy)]
struct Reach {
    /// The index up to which the last durable snapshot holds everything, if there is one.
    index: Option<u64>,
    /// Whether a snapshot could not be written.
    is_failed: bool,
}

/// A snapshot could not be written: what it should have held must stay in the log.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the snapshot that the log is to be purged for could not be written")]
pub struct NotWritten;

impl SnapshotReach {
    /// As far as a snapshot reaches that is on disk.
    pub(super) fn new(index: Option<u64>) -> Self {
        Self(watch::Sender::new(Reach { index, is_failed: false }))
    }

    /// How far.
    pub(super) fn index(&self) -> Option<u64> {
        self.0.borrow().index
    }

    /// A snapshot is durable.
    pub(super) fn extend(&self, index: Option<u64>) {
        self.0.send_modify(|reach| reach.index = reach.index.max(index));
    }

    /// A snapshot could not be written. The process that this happens to ends.
    pub(super) fn fail(&self) {
        self.0.send_modify(|reach| reach.is_failed = true);
    }

    /// Waits until a snapshot holds everything up to an index.
    ///
    /// # Errors
    /// [`NotWritten`].
    pub(super) async fn reaches(&self, index: u64) -> Result<(), NotWritten> {
        let mut reach = self.0.subscribe();
        let is_there = |reach: &Reach| reach.index.is_some_and(|reached| reached >= index);
        let settled = reach.wait_for(|reach| reach.is_failed || is_there(reach)).await;
        // The sender is this value's own.
        settled.ok().filter(|reach| is_there(reach)).map(drop).ok_or(NotWritten)
    }
}

#[cfg(test)]
mod tests {
    use futures_util::FutureExt;

    use super::*;

    #[test]
    fn the_log_waits_for_the_snapshot() {
        let reach = SnapshotReach::new(Some(41));
        assert_eq!(reach.reaches(41).now_or_never(), Some(Ok(())));
        let purging = reach.reaches(54);
        assert_eq!(reach.reaches(54).now_or_never(), None);
        reach.extend(Some(54));
        assert_eq!(purging.now_or_never(), Some(Ok(())));
        reach.extend(Some(50));
        assert_eq!(reach.reaches(54).now_or_never(), Some(Ok(())));
    }

    #[test]
    fn the_log_stays_if_the_snapshot_cannot_be_written() {
        let reach = SnapshotReach::new(None);
        reach.fail();
        assert_eq!(reach.reaches(0).now_or_never(), Some(Err(NotWritten)));
    }
}
