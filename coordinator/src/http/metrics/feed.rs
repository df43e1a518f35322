//! A stream of what is measured: after each interval what was measured in it.
//!
//! A reader that is slow gets several intervals in one answer when it takes the next; one that takes nothing for too long
//! loses its place, and can go on from the last `to` that it got. Nobody waits for a reader, and what one costs is bounded.

use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use axum::body::Body;
use novacron_protocol::api::{Code, MetricHistory, Problem};
use novacron_protocol::metric::Metric;
use novacron_protocol::sample::TICK_S;
use novacron_protocol::time::Timestamp;
use tokio::time::sleep;

use super::{FINEST, find, show};
use crate::auth::Grant;
use crate::http::Api;
use crate::http::events::form::Form;
use crate::http::outlet::{Ending, Lost, Outlet};
use crate::samples::question::{Question, seconds};

/// The longest interval: streams are for what comes soon.
const INTERVAL_S_MAX: u64 = 900;

/// How long after a tick what was measured then is here: agents take up to three seconds to send it, and the leader one to
/// pass it on.
const SETTLE_S: u64 = 5;

/// A sign of life after so much silence, as with events.
const SIGN_OF_LIFE: Duration = Duration::from_secs(10);

/// Intervals of one answer: of those that a reader was too slow for, the newest.
const INTERVALS_MAX: u64 = 60;

/// What a stream shows, to whom, and how.
pub(super) struct Feed {
    pub(super) api: Arc<Api>,
    pub(super) grant: Grant,
    pub(super) resource: String,
    pub(super) metrics: Vec<Metric>,
    pub(super) interval_s: u64,
    /// Everything up to here was shown; a multiple of the interval.
    pub(super) from_s: u64,
    pub(super) form: Form,
}

/// The interval, and where a stream begins.
pub(super) fn beginning(
    interval_s: Option<u64>,
    from: Option<Timestamp>,
    now: Timestamp,
) -> Result<(u64, u64), Problem> {
    let interval_s = interval_s.unwrap_or(TICK_S);
    if !(TICK_S..=INTERVAL_S_MAX).contains(&interval_s) || !interval_s.is_multiple_of(TICK_S) {
        let text = format!("interval_s: a multiple of {TICK_S}, at most {INTERVAL_S_MAX}");
        return Err(Problem::new(Code::InvalidRequest, text).about("interval_s"));
    }
    let now_s = now.unix_ms / 1000;
    let remembered_s = FINEST.remembered_s();
    let from_s = from.map_or(now_s, |from| from.unix_ms / 1000);
    if from_s > now_s + interval_s || from_s + remembered_s < now_s {
        let text = format!("from: a moment of the last {remembered_s} s");
        return Err(Problem::new(Code::InvalidRequest, text).about("from"));
    }
    Ok((interval_s, from_s - from_s % interval_s))
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
        outlet.conclude(ending, "metrics", &self.grant, self.form).await;
    }

    async fn follow(&mut self, outlet: &Outlet) -> Result<Infallible, Ending> {
        let mut text = self.form.beginning().into_bytes();
        loop {
            self.api.check_connected()?;
            if let Some(history) = self.next().await.map_err(Ending::Problem)? {
                self.form.write_document(&history.to.to_string(), &history, &mut text);
            }
            if !text.is_empty() {
                self.api.or_stop(outlet.hand_over(std::mem::take(&mut text).into())).await??;
            }
            if !self.wait(outlet).await? {
                text = self.form.sign_of_life(None).into_bytes();
            }
        }
    }

    /// What was measured in the intervals that are over and were not shown. Who may not see it any more gets no further.
    async fn next(&mut self) -> Result<Option<MetricHistory>, Problem> {
        let (now, interval_s) = (self.api.now(), self.interval_s);
        let subject = self.api.glance(|fleet| {
            let sight = self.grant.sight(fleet, now)?;
            find(fleet, &sight, &self.resource)
        })?;
        // The last tick of an interval is a tick before its end.
        let over_s = (now.unix_ms / 1000 + TICK_S).saturating_sub(SETTLE_S);
        let to_s = over_s - over_s % interval_s;
        if to_s <= self.from_s {
            return Ok(None);
        }
        let from_s = self.from_s.max(to_s.saturating_sub(INTERVALS_MAX * interval_s));
        let question = Question { from_s, to_s, interval_s, level: FINEST };
        self.from_s = to_s;
        let samples = &self.api.app.samples;
        show::history(samples, subject, question, self.metrics.clone()).await.map(Some)
    }

    /// Waits for the next interval to be over, and says whether that came before a sign of life was due.
    async fn wait(&self, outlet: &Outlet) -> Result<bool, Ending> {
        let due = seconds(self.from_s + self.interval_s + SETTLE_S - TICK_S);
        let left = Duration::from_millis(due.since_ms(self.api.now()).max(1));
        tokio::select! {
            biased;
            () = self.api.stopping() => Err(Ending::Stopping),
            () = outlet.closed() => Err(Lost::Gone.into()),
            () = sleep(left.min(SIGN_OF_LIFE)) => Ok(left <= SIGN_OF_LIFE),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_stream_begins_within_the_last_hour_and_at_a_full_interval() {
        let now = seconds(1_800_000_123);
        let begin =
            |interval_s, from_s: Option<u64>| beginning(interval_s, from_s.map(seconds), now);
        let fields = |refused: Problem| refused.field.unwrap_or_default();
        assert_eq!(begin(None, None).unwrap(), (10, 1_800_000_120));
        assert_eq!(begin(Some(60), Some(1_799_999_999)).unwrap(), (60, 1_799_999_940));
        for wrong in [0, 5, 15, 910, u64::MAX] {
            assert_eq!(fields(begin(Some(wrong), None).unwrap_err()), "interval_s", "{wrong}");
        }
        for wrong in [1_799_996_522, 1_800_000_134] {
            assert_eq!(fields(begin(None, Some(wrong)).unwrap_err()), "from", "{wrong}");
        }
    }
}
