//! Where a stream under way hands over what it has. At most one batch waits for the reader, so what a reader costs is
//! bounded; one that takes none for too long loses its place.

use std::convert::Infallible;
use std::time::Duration;

use axum::body::Body;
use bytes::Bytes;
use futures_util::stream;
use tokio::sync::mpsc;
use tokio::time::timeout;

/// Why nothing can be handed over any more.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Lost {
    /// The reader went away.
    Gone,
    /// It took nothing for too long.
    Slow,
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
