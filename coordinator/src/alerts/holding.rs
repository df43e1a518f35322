//! What is to be raised and resolved: what holds, compared with the alerts that there are.
//!
//! ```text
//!   holds for `fire_after` ──► raised        is gone for `resolve_after` ──► resolved
//! ```
//!
//! Time is given, as what has passed since the leader began. What is remembered here may be forgotten at any moment: then
//! the whiles begin anew.

use std::collections::BTreeMap;
use std::time::Duration;

use novacron_protocol::alert::{AlertKey, AlertKind};
use novacron_protocol::ids::AlertId;

use super::conditions::{Finding, Findings, Outlook, conditions};
use crate::state::alert::retention::OBSERVED_MAX;
use crate::state::alert::{Alert, Observed, Raise};

/// A summary that changes, such as a number in it, is not noted more often.
const REFRESH_MS: u64 = 10 * 60 * 1_000;

/// For how long something has to hold, and to be gone.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct AlertPatience {
    /// Before an alert fires.
    pub fire_after: Duration,
    /// Before it is resolved.
    pub resolve_after: Duration,
}

impl Default for AlertPatience {
    /// A host is suspect after 10 s of silence, so its alert fires about half a minute after it fell silent; what comes and
    /// goes within a minute is one alert.
    fn default() -> Self {
        Self { fire_after: Duration::from_secs(15), resolve_after: Duration::from_secs(60) }
    }
}

/// Since when things hold that have no alert, and since when things are gone that have one.
#[derive(Debug, Default)]
pub struct Holding {
    holds: BTreeMap<AlertKey, Duration>,
    gone: BTreeMap<AlertId, Duration>,
}

impl Holding {
    /// What is to be done at a moment; at most [`OBSERVED_MAX`] alerts, so it may have to be asked again.
    pub fn step(
        &mut self,
        at: Duration,
        patience: &AlertPatience,
        outlook: &Outlook<'_>,
        new_id: impl FnMut() -> AlertId,
    ) -> Observed {
        let found = conditions(outlook);
        let mut raises = self.raises(at, patience, outlook, &found, new_id);
        let mut over = self.over(at, patience, outlook, &found);
        raises.truncate(OBSERVED_MAX);
        over.truncate(OBSERVED_MAX - raises.len());
        Observed { raises, over }
    }

    fn raises(
        &mut self,
        at: Duration,
        patience: &AlertPatience,
        outlook: &Outlook<'_>,
        found: &Findings,
        mut new_id: impl FnMut() -> AlertId,
    ) -> Vec<Raise> {
        self.holds.retain(|key, _| found.alerts.contains_key(key));
        let mut raises = Vec::new();
        for (key, finding) in &found.alerts {
            let is_due = match outlook.fleet.open_alert(key) {
                Some(open) => is_news(open, finding, outlook),
                None => {
                    let since = *self.holds.entry(key.clone()).or_insert(at);
                    at.saturating_sub(since) >= patience.fire_after && !is_told(key, outlook)
                }
            };
            if is_due && outlook.fleet.has_object(&key.object) {
                let Finding { severity, summary } = finding.clone();
                raises.push(Raise { id: new_id(), key: key.clone(), severity, summary });
            }
        }
        raises
    }

    fn over(
        &mut self,
        at: Duration,
        patience: &AlertPatience,
        outlook: &Outlook<'_>,
        found: &Findings,
    ) -> Vec<(AlertId, String)> {
        let mut gone = BTreeMap::new();
        let mut over = Vec::new();
        for alert in outlook.fleet.open_alerts() {
            let Some(why) = why_gone(alert, outlook, found) else { continue };
            let since = self.gone.get(&alert.id).copied().unwrap_or(at);
            gone.insert(alert.id, since);
            if at.saturating_sub(since) >= patience.resolve_after {
                over.push((alert.id, why.to_owned()));
            }
        }
        self.gone = gone;
        over
    }
}

/// Whether an alert that there is says something else by now. What gets worse is told at once; what gets a little better
/// and worse again, such as the use of a quota, is not told each time.
fn is_news(open: &Alert, finding: &Finding, outlook: &Outlook<'_>) -> bool {
    let is_old = outlook.now.since_ms(open.last_raised_at) >= REFRESH_MS;
    let is_other =
        open.severity != finding.severity || !is_same_line(&open.summary, &finding.summary);
    finding.severity < open.severity || (is_old && is_other)
}

/// A summary is cut where it is kept.
fn is_same_line(kept: &str, found: &str) -> bool {
    found.starts_with(kept)
        && (kept.len() == found.len() || found.len() > kept.len() && is_cut(kept))
}

fn is_cut(kept: &str) -> bool {
    use novacron_protocol::limits::ALERT_SUMMARY_BYTES_MAX;
    // A letter has up to four bytes.
    kept.len() + 4 > ALERT_SUMMARY_BYTES_MAX
}

/// Whether it happened once, and somebody has resolved the alert about it.
fn is_told(key: &AlertKey, outlook: &Outlook<'_>) -> bool {
    let AlertKind::Condition(condition) = key.kind else { return false };
    condition.is_past() && outlook.fleet.latest_alert(key).is_some()
}

/// Why an alert that there is may be over.
fn why_gone(alert: &Alert, outlook: &Outlook<'_>, found: &Findings) -> Option<&'static str> {
    match alert.key.kind {
        AlertKind::Condition(condition) => {
            if found.alerts.contains_key(&alert.key) || !outlook.sees(condition) {
                return None;
            }
            Some(match found.gathered.contains(&alert.key) {
                true => "there are many: one alert tells of them together",
                false => "it does not hold any more",
            })
        }
        AlertKind::Named(_) => {
            let is_gone = !outlook.fleet.has_object(&alert.key.object);
            is_gone.then_some("what it was about is gone")
        }
    }
}
