//! Whether this member can serve: a quorum answered lately.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::Mutex;
use tokio::time::Instant;

use crate::view::View;

/// How long a quorum may take to confirm the leader.
const CONFIRM_TIMEOUT: Duration = Duration::from_secs(2);

/// How long an answer stands, so that probes cannot load the cluster.
const FRESH: Duration = Duration::from_millis(500);

/// Why this member cannot serve.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum NotReady {
    /// No leader with a quorum, or this member cannot reach it.
    #[error("no quorum: no leader confirmed itself within {} s", CONFIRM_TIMEOUT.as_secs())]
    NoQuorum,
}

/// What was found, and when.
type Verdict = (Instant, Result<(), NotReady>);

/// Answers whether this member can serve. Cheap to clone.
#[derive(Clone)]
pub struct Readiness {
    view: View,
    last: Arc<Mutex<Option<Verdict>>>,
}

impl Readiness {
    pub(crate) fn new(view: View) -> Self {
        Self { view, last: Arc::default() }
    }

    /// Asks the cluster: a member is ready if it could answer a linearizable read now.
    ///
    /// # Errors
    /// [`NotReady`].
    pub async fn check(&self) -> Result<(), NotReady> {
        let mut last = self.last.lock().await;
        if let Some((at, verdict)) = *last
            && at.elapsed() < FRESH
        {
            return verdict;
        }
        let verdict = self.view.catch_up(CONFIRM_TIMEOUT).await.map_err(|_| NotReady::NoQuorum);
        *last = Some((Instant::now(), verdict));
        verdict
    }
}
