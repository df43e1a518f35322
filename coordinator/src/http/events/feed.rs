//! A stream of events under way: a task that looks at this member's replica and hands over what is new.
//!
//! It is fed first with what has been applied, then with each further command as it is applied. The position is looked
//! at before the waiting begins, so nothing is missed, and events are taken strictly behind the last one that was
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

use super::filter::{Filter, is_seen};
use super::form::Form;
use super::position::{Position, after, check};
use crate::auth::Grant;
use crate::http::Api;
use crate::http::outlet::{Ending, Lost, Outlet};

/// A sign of life after this much silence tells both ends that the other is still there.
const SIGN_OF_LIFE: Duration = Duration::from_secs(10);

/// From one look at the fleet to the next: what is applied in between is looked at together. A look costs some 5 µs, so
/// 512 streams cost a twentieth of a processor, however much is applied.
const LOOK_PERIOD: Duration = Duration::from_millis(50);

/// Events looked at under one lock of the fleet.
const BATCH_EVENTS: usize = 1_024;

/// Bytes of a batch, but for its last event.
const BATCH_BYTES: usize = 64 << 10;

/// What a stream shows, to whom, and how.
pub(super) struct Feed {
    pub(super) api: Arc<Api>,
    pub(super) grant: Grant,
    pub(super) filter: Filter,
    pub(super) form: Form,
    /// Everything up to here was looked at.
    pub(super) last: Option<Position>,
}

impl Feed {
    /// The stream as a body.
    ///
    /// # Errors
    /// Too many are open.
    pub(super) fn open(self) -> Result<Body, Problem> {
        let (api, grant) = (Arc::clone(&self.api), self.grant.clone());
        api.stream(&grant, |outlet| self.run(outlet))
    }

    async fn run(mut self, outlet: Outlet) {
        let Err(ending) = self.follow(&outlet).await;
        outlet.conclude(ending, "events", &self.grant, self.form).await;
    }

    async fn follow(&mut self, outlet: &Outlet) -> Result<Infallible, Ending> {
        let mut changes = self.api.changes();
        let mut text = self.form.beginning().into_bytes();
        let mut due = Instant::now() + SIGN_OF_LIFE;
        let cut_off_after = self.api.app.watchers.limits().cut_off_after;
        loop {
            let looked = Instant::now();
            // Marked as seen before it is looked at: whatever comes after this wakes the wait below.
            changes.borrow_and_update();
            let is_last = self.take_batch(&mut text).map_err(Ending::Problem)?;
            if !text.is_empty() {
                let text = Bytes::from(std::mem::take(&mut text));
                self.api.or_stop(outlet.hand_over(text)).await??;
                due = Instant::now() + SIGN_OF_LIFE;
            }
            let wake = due.min(looked + cut_off_after);
            if is_last && !self.api.or_stop(wait(&mut changes, outlet, wake)).await?? {
                self.api.check_connected()?;
                text = self.form.sign_of_life(self.last).into_bytes();
            }
            match is_last {
                true => self.api.or_stop(sleep_until(looked + LOOK_PERIOD)).await?,
                false => yield_now().await,
            }
        }
    }

    /// Looks at the next events and writes those that the filter lets through; whether nothing has happened behind them
    /// yet. Who may not see events any more gets no further ones.
    fn take_batch(&mut self, text: &mut Vec<u8>) -> Result<bool, Problem> {
        let (filter, form, last, now) = (&self.filter, self.form, self.last, self.api.now());
        let (last, is_last) = self.api.glance(|fleet| {
            let sight = self.grant.sight(fleet, now)?;
            check(fleet, last)?;
            let (mut last, mut looked_at) = (last, 0);
            for event in after(fleet, last) {
                if looked_at >= BATCH_EVENTS || text.len() >= BATCH_BYTES {
                    return Ok((last, false));
                }
                if is_seen(&sight, event) && filter.lets_through(event) {
                    form.write(event, text);
                }
                last = Some(Position::of(event));
                looked_at += 1;
            }
            Ok::<_, Problem>((Some(Position::behind(fleet.revision())), true))
        })?;
        self.last = last;
        Ok(is_last)
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
