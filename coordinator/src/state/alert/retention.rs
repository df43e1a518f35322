//! How many alerts there are, and for how long they are kept.

use novacron_protocol::ids::AlertId;
use novacron_protocol::time::Timestamp;

use super::super::fleet::{Applying, Fleet};
use super::super::reply::Refusal;
use super::Alert;

/// Alerts that are not resolved: at most 2 KiB each, so 20 MiB of memory and of every snapshot.
pub const ALERTS_OPEN_MAX: usize = 10_000;

/// Of these, those that clients raised: what is left is the cluster's own.
pub const ALERTS_NAMED_MAX: usize = 8_000;

/// Of these, those of one project, and those of none.
pub const ALERTS_NAMED_PER_PROJECT_MAX: usize = 200;

/// Alerts that are resolved and kept for the record: 20 MiB at most.
pub const ALERTS_RESOLVED_MAX: usize = 10_000;

/// Of these, those of one project: what its clients raise and resolve takes nobody else's record away.
pub const ALERTS_RESOLVED_PER_PROJECT_MAX: usize = 1_000;

/// For how long resolved alerts are kept: 30 days.
pub const ALERTS_RESOLVED_MS_MAX: u64 = 30 * 24 * 3_600 * 1_000;

/// Alerts that one command of the leader raises and resolves: at most 320 KiB, of the 4 MiB of a command.
pub const OBSERVED_MAX: usize = 256;

/// Alerts that one command forgets because of their age: it takes no longer than any other.
const FORGOTTEN_MAX: usize = 512;

impl Fleet {
    /// Whether resolved alerts have been kept for long enough at a moment.
    pub fn has_old_alerts(&self, now: Timestamp) -> bool {
        self.oldest_alert_over(now).is_some()
    }

    fn oldest_alert_over(&self, now: Timestamp) -> Option<AlertId> {
        let (at, id) = self.index.alerts.oldest_resolved()?;
        (now.since_ms(at) > ALERTS_RESOLVED_MS_MAX).then_some(id)
    }

    /// Whether a client may raise one more alert.
    pub(super) fn check_named_room(&self, alert: &Alert) -> Result<(), Refusal> {
        let whose = match &alert.project {
            Some(project) => format!("project `{project}` has"),
            None => "the fleet has".to_owned(),
        };
        if self.index.alerts.named_open_of(&alert.project) >= ALERTS_NAMED_PER_PROJECT_MAX {
            return Err(Refusal::Full(format!(
                "{whose} {ALERTS_NAMED_PER_PROJECT_MAX} alerts of clients that are not resolved; resolve some"
            )));
        }
        if self.index.alerts.named_open() >= ALERTS_NAMED_MAX || self.has_no_alert_room() {
            return Err(Refusal::Full(format!(
                "{ALERTS_NAMED_MAX} alerts of clients are not resolved; resolve some"
            )));
        }
        Ok(())
    }

    pub(super) fn has_no_alert_room(&self) -> bool {
        self.index.alerts.open_count() >= ALERTS_OPEN_MAX
    }

    /// Keeps no more of the record than there is room for, and not for longer than was said.
    pub(super) fn trim_alerts(&mut self, now: &Applying, resolved: Option<&Alert>) {
        if let Some(alert) = resolved {
            let owner = &alert.project;
            while owner.is_some()
                && self.index.alerts.resolved_count_of(owner) > ALERTS_RESOLVED_PER_PROJECT_MAX
                && let Some(oldest) = self.index.alerts.oldest_resolved_of(owner)
            {
                self.forget_alert(oldest);
            }
        }
        while self.index.alerts.resolved_count() > ALERTS_RESOLVED_MAX
            && let Some((_, oldest)) = self.index.alerts.oldest_resolved()
        {
            self.forget_alert(oldest);
        }
        for _ in 0..FORGOTTEN_MAX {
            let Some(old) = self.oldest_alert_over(now.at) else { break };
            self.forget_alert(old);
        }
    }

    pub(super) fn forget_alert(&mut self, id: AlertId) {
        if let Some(alert) = self.alerts.remove(&id) {
            self.index.alerts.remove(&alert);
        }
    }

    pub(super) fn check_alert_bounds(&self) -> Result<(), String> {
        let index = &self.index.alerts;
        let of_projects = self.projects.values().map(|project| Some(project.name.clone()));
        let most = of_projects.map(|owner| index.resolved_count_of(&owner)).max();
        let bounds = [
            (index.open_count(), ALERTS_OPEN_MAX, "open alerts"),
            (index.named_open(), ALERTS_NAMED_MAX, "open alerts of clients"),
            (index.resolved_count(), ALERTS_RESOLVED_MAX, "resolved alerts"),
            (most.unwrap_or_default(), ALERTS_RESOLVED_PER_PROJECT_MAX, "of one project"),
        ];
        let passed = bounds.into_iter().find(|(count, most, _)| count > most);
        passed.map_or(Ok(()), |(count, most, what)| Err(format!("{count} {what}, at most {most}")))
    }
}
