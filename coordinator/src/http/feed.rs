//! A stream under way of what this member applies: a task that looks at the replica and hands over what is new. What that
//! is, its source knows: events, or records of the audit log.
//!
//! It is fed first with what has been applied, then with each further command as it is applied. The position is looked
//! at before the waiting begins, so nothing is missed, and a source goes on strictly behind the last thing that was
//! looked at, so nothing is repeated.
//!
//! At most one batch waits for the reader. A reader that takes none for too long loses its place; it can go on from
//! where it was. So what a reader costs is bounded, and nobody else waits for it.

use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use axum::body::Body;
use bytes::Bytes;
use novacron_protocol::api::Problem;
use tokio::sync::watch;
use tokio::task::yield_now;
use tokio::time::{Instant, sleep_until};

use super::Api;
use super::events::form::Form;
use super::outlet::{Ending, Lost, Outlet};
use crate::auth::Grant;

/// A sign of life after this much silence tells both ends that the other is still there.
const SIGN_OF_LIFE: Duration = Duration::from_secs(10);

/// From one look at the fleet to the next: what is applied in between is looked at together. A look costs some 5 µs, so
/// 512 streams cost a twentieth of a processor, however much is applied.
const LOOK_PERIOD: Duration = Duration::from_millis(50);

/// Things looked at under one lock of the fleet.
pub(super) const BATCH_THINGS: usize = 1_024;

/// Bytes of a batch, but for its last thing.
pub(super) const BATCH_BYTES: usize = 64 << 10;

/// What a stream shows, in order.
pub(super) trait Source: Send + 'static {
    /// What that is, for the log.
    const WHAT: &'static str;

    /// Writes what is next and is to be shown; whether nothing has happened behind it yet. Whoever may not see it any more
    /// gets no further.
    fn take(
        &mut self,
        reader: &Reader,
        text: &mut Vec<u8>,
    ) -> impl Future<Output = Result<bool, Ending>> + Send;

    /// Up to where everything was looked at, as it is written in an `id`.
    fn place(&self) -> Option<String>;
}

/// Who reads, and how.
pub(super) struct Reader {
    pub(super) api: Arc<Api>,
    pub(super) grant: Grant,
    pub(super) form: Form,
}

/// See the module.
pub(super) struct Feed<S> {
    pub(super) reader: Reader,
    pub(super) source: S,
}

impl<S: Source> Feed<S> {
    /// The stream as a body.
    ///
    /// # Errors
    /// Too many are open.
    pub(super) fn open(self) -> Result<Body, Problem> {
        let (api, grant) = (Arc::clone(&self.reader.api), self.reader.grant.clone());
        api.stream(&grant, |outlet| self.run(outlet))
    }

    async fn run(mut self, outlet: Outlet) {
        let Err(ending) = self.follow(&outlet).await;
        outlet.conclude(ending, S::WHAT, &self.reader.grant, self.reader.form).await;
    }

    async fn follow(&mut self, outlet: &Outlet) -> Result<Infallible, Ending> {
        let (reader, source) = (&self.reader, &mut self.source);
        let (api, form) = (&reader.api, reader.form);
        let mut changes = api.changes();
        let mut text = form.beginning().into_bytes();
        let mut due = Instant::now() + SIGN_OF_LIFE;
        let cut_off_after = api.app.watchers.limits().cut_off_after;
        loop {
            let looked = Instant::now();
            // Marked as seen before it is looked at: whatever comes after this wakes the wait below.
            changes.borrow_and_update();
            let is_last = api.or_stop(source.take(reader, &mut text)).await??;
            if text.is_empty() && !is_last {
                // Much is behind, and nothing of it is to be shown.
                outlet.check_open()?;
                if Instant::now() >= due {
                    text = form.sign_of_life(source.place().as_deref()).into_bytes();
                }
            }
            if !text.is_empty() {
                let text = Bytes::from(std::mem::take(&mut text));
                api.or_stop(outlet.hand_over(text)).await??;
                due = Instant::now() + SIGN_OF_LIFE;
            }
            let wake = due.min(looked + cut_off_after);
            if is_last && !api.or_stop(wait(&mut changes, outlet, wake)).await?? {
                api.check_connected()?;
                text = form.sign_of_life(source.place().as_deref()).into_bytes();
            }
            match is_last {
                true => api.or_stop(sleep_until(looked + LOOK_PERIOD)).await?,
                false => yield_now().await,
            }
        }
    }
}

/// Waits until something was applied, and says whether that came before a sign of life is due.
async fn wait(
    changes: &mut watch::Receiver<u64>,
    outlet: &Outlet,
    due: Instant,
) -> Result<bool, Ending> {
    tokio::select! {
        biased;
        () = outlet.closed() => Err(Lost::Gone.into()),
        changed = changes.changed() => changed.map(|()| true).map_err(|_| Ending::Stopping),
        () = sleep_until(due) => Ok(false),
    }
}
