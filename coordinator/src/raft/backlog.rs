//! When a snapshot is due by what the log would have to be read and applied again, which is what a start costs.
//!
//! openraft counts entries. An entry may hold one change of a setting or a thousand records of usage, so five thousand of
//! them may be applied in a tenth of a second or in half a minute: bytes are the better measure.

use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use super::types::Raft;

/// Bytes of commands after which a snapshot is due, if the last one was not larger: some 600,000 records of usage, two
/// seconds of applying. A larger snapshot is written again only after as many bytes of commands, so writing snapshots
/// is never more work for the disk than writing the log.
const BYTES_MIN: u64 = 32 << 20;

/// What was applied since the last snapshot began. Clones share it.
#[derive(Debug, Clone, Default)]
pub struct Backlog(watch::Sender<Bytes>);

#[derive(Debug, Clone, Copy, Default)]
struct Bytes {
    /// Of all commands that were applied by this process.
    applied: u64,
    /// Of those that the last snapshot holds.
    in_snapshot: u64,
    /// Of the last snapshot.
    snapshot: u64,
}

impl Bytes {
    fn is_due(&self) -> bool {
        self.applied - self.in_snapshot >= self.snapshot.max(BYTES_MIN)
    }
}

impl Backlog {
    /// Commands of so many bytes were applied.
    pub(super) fn add(&self, bytes: usize) {
        self.0.send_if_modified(|all| {
            let was_due = all.is_due();
            all.applied += bytes as u64;
            all.is_due() && !was_due
        });
    }

    /// How much a snapshot holds that begins now.
    pub(super) fn mark(&self) -> u64 {
        self.0.borrow().applied
    }

    /// A snapshot is durable that began at a mark.
    pub(super) fn settle(&self, mark: u64, snapshot_bytes: usize) {
        self.0.send_modify(|all| {
            all.in_snapshot = mark.max(all.in_snapshot);
            all.snapshot = snapshot_bytes as u64;
        });
    }

    /// Waits until a snapshot is due, and answers how much the last one holds.
    async fn due(&self) -> u64 {
        self.wait_for(Bytes::is_due).await
    }

    async fn wait_for(&self, is_so: impl Fn(&Bytes) -> bool) -> u64 {
        // The sender is this value's own.
        self.0.subscribe().wait_for(is_so).await.map_or(0, |all| all.in_snapshot)
    }
}

/// Has snapshots taken when they are due, until `stop`.
pub async fn take_snapshots(raft: Raft, backlog: Backlog, stop: CancellationToken) {
    let work = async {
        loop {
            let last = backlog.due().await;
            // Fails only if Raft has stopped; then there is nothing more to wait for.
            if raft.trigger().snapshot().await.is_err() {
                return;
            }
            // This one, or one that was being written already and holds less.
            backlog.wait_for(|all| all.in_snapshot > last).await;
        }
    };
    tokio::select! {
        biased;
        () = stop.cancelled() => {}
        () = work => {}
    }
}

#[cfg(test)]
mod tests {
    use futures_util::FutureExt;

    use super::*;

    #[test]
    fn a_snapshot_is_due_after_as_many_bytes_as_the_last_one_had() {
        let backlog = Backlog::default();
        let is_due = || backlog.due().now_or_never().is_some();
        backlog.add(BYTES_MIN as usize - 1);
        assert!(!is_due());
        let waiting = backlog.due();
        backlog.add(1);
        assert_eq!(waiting.now_or_never(), Some(0));

        let mark = backlog.mark();
        backlog.add(7);
        backlog.settle(mark, 2 * BYTES_MIN as usize);
        backlog.add(2 * BYTES_MIN as usize - 8);
        assert!(!is_due(), "what was applied while it was written counts, and no more");
        backlog.add(1);
        assert_eq!(backlog.due().now_or_never(), Some(mark));
    }
}
