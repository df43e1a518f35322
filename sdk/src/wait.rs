//! Waiting for something to have happened. Progress makes no events, so this asks again and again; the pauses
//! are short beside what a migration takes and long beside what an answer costs.

use std::time::{Duration, Instant};

use novacron_protocol::api::{
    BatchStatus, BatchView, Code, MigrationView, NodeView, SnapshotState, SnapshotView, VmView,
};
use novacron_protocol::ids::{BatchId, MigrationId};
use novacron_protocol::node::Scheduling;
use novacron_protocol::vm::VmState;

use crate::client::Client;
use crate::error::Error;
use crate::word::word;

/// Between two questions.
const PAUSE: Duration = Duration::from_millis(250);

/// Waiting.
impl Client {
    /// Waits until a migration has ended, well or not, and returns its record. `on_progress` is told how it
    /// stands after each question.
    ///
    /// # Errors
    /// [`Error::TimedOut`] if it has not ended within `limit`; what [`Client::migration`] gives.
    pub fn migration_wait(
        &self,
        migration: MigrationId,
        limit: Duration,
        mut on_progress: impl FnMut(&MigrationView),
    ) -> Result<MigrationView, Error> {
        poll(limit, || {
            let view = self.migration(migration)?;
            on_progress(&view);
            if view.status.is_terminal() {
                return Ok(Step::Done(view));
            }
            Ok(Step::Not(format!("migration {migration} is in phase {}", word(&view.phase))))
        })
    }

    /// Waits until every migration of a batch has ended. `on_progress` is told how it stands after each question.
    ///
    /// # Errors
    /// [`Error::TimedOut`] if it has not ended within `limit`; what [`Client::batch`] gives.
    pub fn batch_wait(
        &self,
        batch: BatchId,
        limit: Duration,
        mut on_progress: impl FnMut(&BatchView),
    ) -> Result<BatchView, Error> {
        poll(limit, || {
            let view = self.batch(batch)?;
            on_progress(&view);
            if view.status != BatchStatus::InProgress {
                return Ok(Step::Done(view));
            }
            let left = view.counts.queued + view.counts.in_progress;
            Ok(Step::Not(format!("{left} machines of batch {batch} have not moved")))
        })
    }

    /// Waits until a node is drained, takes machines again, or has only machines left that cannot move. `on_progress` is
    /// told how it stands after each question.
    ///
    /// # Errors
    /// [`Error::TimedOut`] if it has not come to that within `limit`; what [`Client::node`] gives.
    pub fn drain_wait(
        &self,
        node: &str,
        limit: Duration,
        mut on_progress: impl FnMut(&NodeView),
    ) -> Result<NodeView, Error> {
        poll(limit, || {
            let view = self.node(node)?;
            on_progress(&view);
            let left = view.drain.as_ref().map_or(0, |drain| drain.moving + drain.waiting);
            let is_stuck = left == 0 && view.drain.as_ref().is_some_and(|drain| drain.blocked > 0);
            if view.scheduling != Scheduling::Draining || is_stuck {
                return Ok(Step::Done(view));
            }
            Ok(Step::Not(format!("{left} machines have not left {node}")))
        })
    }

    /// Waits until nothing is done with a snapshot any more; `None` if it is gone.
    ///
    /// # Errors
    /// [`Error::TimedOut`] with how it stood last; what [`Client::snapshot`] gives, `not_found` apart.
    pub fn snapshot_wait(
        &self,
        vm: &str,
        name: &str,
        limit: Duration,
    ) -> Result<Option<SnapshotView>, Error> {
        poll(limit, || {
            let view = match self.snapshot(vm, name) {
                Ok(view) => view,
                Err(Error::Problem(problem)) if problem.code == Code::NotFound => {
                    return Ok(Step::Done(None));
                }
                Err(error) => return Err(error),
            };
            match view.state {
                SnapshotState::Ready | SnapshotState::Failed => Ok(Step::Done(Some(view))),
                SnapshotState::Deleted => Ok(Step::Done(None)),
                state => Ok(Step::Not(format!("snapshot {name} is {}", word(&state)))),
            }
        })
    }

    /// Waits until a machine is as `is_done` wants it. A machine that failed, or is gone, is never waited for.
    ///
    /// # Errors
    /// [`Error::TimedOut`] with the machine's last state; what [`Client::vm`] gives, `not_found` once it is gone.
    pub fn vm_wait(
        &self,
        vm: &str,
        limit: Duration,
        is_done: impl Fn(&VmView) -> bool,
    ) -> Result<VmView, Error> {
        poll(limit, || {
            let view = self.vm(vm)?;
            if is_done(&view) || matches!(view.state, VmState::Failed | VmState::Deleted) {
                return Ok(Step::Done(view));
            }
            Ok(Step::Not(format!("{} is {}", view.name, word(&view.state))))
        })
    }
}

enum Step<T> {
    Done(T),
    /// Not yet, and how it stands.
    Not(String),
}

fn poll<T>(limit: Duration, mut ask: impl FnMut() -> Result<Step<T>, Error>) -> Result<T, Error> {
    let began = Instant::now();
    loop {
        match ask()? {
            Step::Done(value) => return Ok(value),
            Step::Not(what) if began.elapsed() >= limit => {
                return Err(Error::TimedOut { what, after: limit });
            }
            Step::Not(_) => std::thread::sleep(PAUSE.min(limit.saturating_sub(began.elapsed()))),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_late_says_how_it_stood() {
        let late = poll::<()>(Duration::ZERO, || Ok(Step::Not("it runs".into()))).unwrap_err();
        assert!(matches!(late, Error::TimedOut { ref what, .. } if what == "it runs"));
        assert_eq!(poll(Duration::ZERO, || Ok(Step::Done(1))).unwrap(), 1);
    }
}
