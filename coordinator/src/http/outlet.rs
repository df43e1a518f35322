//! Where a stream under way hands over what it has. At most one batch waits for the reader, so what a reader costs is
//! bounded; one that takes none for too long loses its place. And how all streams begin and end.

use std::convert::Infallible;
use std::time::Duration;

use axum::body::Body;
use bytes::Bytes;
use futures_util::stream;
use novacron_protocol::api::Problem;
use tokio::sync::mpsc;
use tokio::time::timeout;

use super::Api;
use super::events::form::Form;
use crate::auth::Grant;

/// Why nothing can be handed over any more.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Lost {
    /// The reader went away.
    Gone,
    /// It took nothing for too long.
    Slow,
}

/// Why a stream ends that could go on.
#[derive(Debug)]
pub(super) enum Ending {
    /// The reader does not read.
    Lost(Lost),
    /// The coordinator shuts down; the client goes on at another one.
    Stopping,
    /// This member has lost the cluster, or has not got what is next: it would not come from here.
    CutOff,
    /// It cannot go on, and why.
    Problem(Problem),
}

impl From<Lost> for Ending {
    fn from(lost: Lost) -> Self {
        Self::Lost(lost)
    }
}

impl Api {
    /// A stream as a body, which `run` feeds.
    ///
    /// # Errors
    /// Too many are open.
    pub(super) fn stream<F>(
        &self,
        grant: &Grant,
        run: impl FnOnce(Outlet) -> F,
    ) -> Result<Body, Problem>
    where
        F: Future<Output = ()> + Send + 'static,
    {
        let watchers = &self.app.watchers;
        let place = watchers.admit(&grant.asker().name).map_err(|none| none.to_problem())?;
        let (outlet, body) = Outlet::new(watchers.limits().slow_reader_after);
        watchers.run(place, run(outlet));
        Ok(body)
    }

    /// Does a stream's work, unless the coordinator shuts down meanwhile.
    pub(super) async fn or_stop<T>(&self, work: impl Future<Output = T>) -> Result<T, Ending> {
        tokio::select! {
            biased;
            () = self.stopping() => Err(Ending::Stopping),
            done = work => Ok(done),
        }
    }

    /// A member without a leader has nothing to say, and its reader must not take that for peace.
    pub(super) fn check_connected(&self) -> Result<(), Ending> {
        let patience = self.app.watchers.limits().cut_off_after;
        match self.app.view.known_at().is_some_and(|at| at.elapsed() <= patience) {
            true => Ok(()),
            false => Err(Ending::CutOff),
        }
    }
}

/// See the module.
pub(super) struct Outlet {
    sender: mpsc::Sender<Bytes>,
    patience: Duration,
}

impl Outlet {
    /// An outlet, and the body that has what is handed over.
    pub(super) fn new(patience: Duration) -> (Self, Body) {
        let (sender, inlet) = mpsc::channel(1);
        let body = Body::from_stream(stream::unfold(inlet, async |mut inlet| {
            let bytes: Bytes = inlet.recv().await?;
            Some((Ok::<_, Infallible>(bytes), inlet))
        }));
        (Self { sender, patience }, body)
    }

    /// Hands over once the reader has taken what came before.
    pub(super) async fn hand_over(&self, text: Bytes) -> Result<(), Lost> {
        let handed = timeout(self.patience, self.sender.send(text)).await;
        handed.map_err(|_| Lost::Slow)?.map_err(|_| Lost::Gone)
    }

    /// Says why a stream of `what` ends, to whom it is of use.
    pub(super) async fn conclude(&self, ending: Ending, what: &str, grant: &Grant, form: Form) {
        match ending {
            Ending::Problem(problem) => {
                let _ = self.hand_over(form.problem(&problem).into()).await;
            }
            Ending::Lost(Lost::Slow) => {
                let who = &grant.asker().name;
                tracing::info!(%who, "a stream of {what} ends: its reader takes nothing");
            }
            Ending::Lost(Lost::Gone) | Ending::Stopping | Ending::CutOff => {}
        }
    }

    /// An error if the reader has gone.
    pub(super) fn check_open(&self) -> Result<(), Lost> {
        if self.sender.is_closed() { Err(Lost::Gone) } else { Ok(()) }
    }

    /// Ready when the reader has gone.
    pub(super) async fn closed(&self) {
        self.sender.closed().await;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const PATIENCE: Duration = Duration::from_secs(30);

    #[tokio::test(start_paused = true)]
    async fn a_reader_that_takes_nothing_loses_its_place_and_costs_one_batch() {
        let (outlet, body) = Outlet::new(PATIENCE);
        let began = tokio::time::Instant::now();
        assert_eq!(outlet.hand_over("first".into()).await, Ok(()));
        assert_eq!(began.elapsed(), Duration::ZERO);
        assert_eq!(outlet.hand_over("second".into()).await, Err(Lost::Slow));
        assert_eq!(began.elapsed(), PATIENCE);
        drop(body);
        assert_eq!(outlet.hand_over("third".into()).await, Err(Lost::Gone));
        outlet.closed().await;
    }
}
