//! What raising, acknowledging and resolving do.

use novacron_protocol::alert::AlertKind;
use novacron_protocol::api::EventKind;
use novacron_protocol::ids::AlertId;
use novacron_protocol::limits::{ALERT_NOTE_BYTES_MAX, ALERT_SUMMARY_BYTES_MAX, cut};
use novacron_protocol::vm::InvalidField;
use novacron_transport::SubjectName;
use serde_json::{Value, json};

use super::super::change::Change;
use super::super::fleet::{Applying, Fleet};
use super::super::origin::Origin;
use super::super::region::refuse;
use super::super::reply::{Accepted, Refusal, Reply};
use super::retention::OBSERVED_MAX;
use super::{Alert, AlertOrder, Deed, Observed, Raise, Stage};

impl Fleet {
    pub(in crate::state) fn order_alert(
        &mut self,
        now: &mut Applying,
        origin: &Origin,
        order: &AlertOrder,
    ) -> Reply {
        let by = origin.asker().map(|asker| asker.name.clone());
        match order {
            AlertOrder::Observe(observed) => {
                self.observe_alerts(now, observed);
                Ok(Accepted::Nothing)
            }
            AlertOrder::Raise(raise) => self.raise_named(now, by, raise),
            AlertOrder::Acknowledge { alert, note } => {
                self.acknowledge_alert(now, by, *alert, note)
            }
            AlertOrder::Unacknowledge { alert } => self.unacknowledge_alert(now, *alert),
            AlertOrder::Resolve { alert, note } => self.resolve_by_hand(now, by, *alert, note),
        }
    }

    /// What the leader saw may be different by now: what cannot be done is left out.
    fn observe_alerts(&mut self, now: &mut Applying, observed: &Observed) {
        for raise in observed.raises.iter().take(OBSERVED_MAX) {
            let _ = self.raise(now, None, raise);
        }
        let room = OBSERVED_MAX.saturating_sub(observed.raises.len());
        for (alert, why) in observed.over.iter().take(room) {
            let note = cut(why, ALERT_NOTE_BYTES_MAX).to_owned();
            self.resolve_alert(now, *alert, Deed { by: None, at: now.at, note });
        }
        self.trim_alerts(now, None);
    }

    fn raise_named(&mut self, now: &mut Applying, by: Option<SubjectName>, raise: &Raise) -> Reply {
        if let AlertKind::Condition(condition) = raise.key.kind {
            let problem = format!("the cluster itself raises `{}`: take another", condition.word());
            return Err(Refusal::Invalid { field: "key".to_owned(), problem });
        }
        let summary = wrong_line("summary", &raise.summary, 1, ALERT_SUMMARY_BYTES_MAX);
        refuse(summary.into_iter().collect())?;
        self.raise(now, by, raise)
    }

    fn raise(&mut self, now: &mut Applying, by: Option<SubjectName>, raise: &Raise) -> Reply {
        let there = self.belonging(&raise.key.object)?;
        if let Some(open) = self.index.alerts.open_with(&raise.key) {
            return Ok(self.raise_again(now, open, raise));
        }
        if self.alerts.get(&raise.id).is_some() {
            return Err(Refusal::Conflict(format!("alert {} exists already", raise.id)));
        }
        let alert = Alert {
            id: raise.id,
            key: raise.key.clone(),
            severity: raise.severity,
            summary: cut(&raise.summary, ALERT_SUMMARY_BYTES_MAX).to_owned(),
            project: there.project,
            region: there.region,
            stage: Stage::Firing,
            raised_by: by,
            since: now.at,
            last_raised_at: now.at,
            raises: 1,
            previous: self.index.alerts.latest_with(&raise.key),
            raised: now.revision,
            revision: now.revision,
        };
        match alert.is_named() {
            true => self.check_named_room(&alert)?,
            false if self.has_no_alert_room() => {
                return Err(Refusal::Full("too many alerts are not resolved".to_owned()));
            }
            false => {}
        }
        self.index.alerts.add(&alert);
        self.emit_alert(now, EventKind::AlertRaised, None, &alert, "fires");
        self.alerts.insert(alert.id, alert);
        self.trim_alerts(now, None);
        Ok(Accepted::Alert(raise.id))
    }

    /// It is known already: counted, and shown again only if it is worse than whoever acknowledged it knew.
    fn raise_again(&mut self, now: &mut Applying, id: AlertId, raise: &Raise) -> Accepted {
        let mut is_worse = false;
        let before = self.change_alert(now, id, |alert| {
            is_worse = raise.severity < alert.severity;
            alert.severity = raise.severity;
            alert.summary = cut(&raise.summary, ALERT_SUMMARY_BYTES_MAX).to_owned();
            alert.last_raised_at = now.at;
            alert.raises = alert.raises.saturating_add(1);
            if is_worse {
                alert.stage = Stage::Firing;
            }
        });
        if is_worse {
            self.tell(now, before, EventKind::AlertRaised, "is worse");
        }
        Accepted::Alert(id)
    }

    fn acknowledge_alert(
        &mut self,
        now: &mut Applying,
        by: Option<SubjectName>,
        id: AlertId,
        note: &str,
    ) -> Reply {
        self.open_or_refuse(id)?;
        let note = checked_note(note)?;
        let deed = Deed { by, at: now.at, note };
        let before = self.change_alert(now, id, |alert| alert.stage = Stage::Acknowledged(deed));
        self.tell(now, before, EventKind::AlertAcknowledged, "is acknowledged");
        Ok(Accepted::Alert(id))
    }

    fn unacknowledge_alert(&mut self, now: &mut Applying, id: AlertId) -> Reply {
        let alert = self.open_or_refuse(id)?;
        if alert.stage == Stage::Firing {
            return Err(Refusal::Conflict(format!("alert {id} is not acknowledged: it fires")));
        }
        let before = self.change_alert(now, id, |alert| alert.stage = Stage::Firing);
        self.tell(now, before, EventKind::AlertRaised, "is not acknowledged any more and fires");
        Ok(Accepted::Alert(id))
    }

    fn resolve_by_hand(
        &mut self,
        now: &mut Applying,
        by: Option<SubjectName>,
        id: AlertId,
        note: &str,
    ) -> Reply {
        let alert = self.open_or_refuse(id)?;
        if let AlertKind::Condition(condition) = alert.key.kind
            && !condition.is_past()
        {
            return Err(Refusal::Conflict(format!(
                "the cluster itself watches `{}` and resolves alert {id} when that is over: acknowledge it",
                alert.key
            )));
        }
        let note = checked_note(note)?;
        self.resolve_alert(now, id, Deed { by, at: now.at, note });
        Ok(Accepted::Alert(id))
    }

    /// Nothing if it is not open.
    fn resolve_alert(&mut self, now: &mut Applying, id: AlertId, resolution: Deed) {
        if self.open_or_refuse(id).is_err() {
            return;
        }
        let before = self.change_alert(now, id, |alert| {
            let acknowledgement = match std::mem::replace(&mut alert.stage, Stage::Firing) {
                Stage::Acknowledged(deed) => Some(deed),
                Stage::Firing | Stage::Resolved { .. } => None,
            };
            alert.stage = Stage::Resolved { resolution, acknowledgement };
        });
        self.tell(now, before, EventKind::AlertResolved, "is resolved");
        if let Some(alert) = self.alerts.get(&id).cloned() {
            self.trim_alerts(now, Some(&alert));
        }
    }

    fn open_or_refuse(&self, id: AlertId) -> Result<&Alert, Refusal> {
        let alert = self.alerts.get(&id).ok_or(Refusal::NoSuchAlert(id))?;
        match &alert.stage {
            Stage::Resolved { .. } => Err(Refusal::Conflict(format!(
                "alert {id} is resolved: if it happens again, that is a new alert"
            ))),
            Stage::Firing | Stage::Acknowledged(_) => Ok(alert),
        }
    }

    /// The alert as it was.
    fn change_alert(
        &mut self,
        now: &Applying,
        id: AlertId,
        change: impl FnOnce(&mut Alert),
    ) -> Option<Alert> {
        let before = self.alerts.get(&id).cloned()?;
        let mut alert = before.clone();
        self.index.alerts.remove(&alert);
        change(&mut alert);
        alert.revision = now.revision;
        self.index.alerts.add(&alert);
        self.alerts.insert(id, alert);
        Some(before)
    }

    fn tell(&mut self, now: &mut Applying, before: Option<Alert>, kind: EventKind, what: &str) {
        let Some(before) = before else { return };
        if let Some(alert) = self.alerts.get(&before.id).cloned() {
            self.emit_alert(now, kind, Some(&before), &alert, what);
        }
    }

    fn emit_alert(
        &mut self,
        now: &mut Applying,
        kind: EventKind,
        before: Option<&Alert>,
        alert: &Alert,
        what: &str,
    ) {
        let Alert { id, key, summary, .. } = alert;
        let message = format!("alert {id} {what}: {key}: {summary}");
        let change = Change::between(before.map(shown).as_ref(), Some(&shown(alert)));
        self.emit(now, kind, alert.about().with(change), message);
    }

    /// Removes the alerts of a project that is gone, and its budget.
    pub(in crate::state) fn forget_alerts(
        &mut self,
        project: &novacron_protocol::ids::ProjectName,
    ) {
        let own = self.alerts.values().filter(|alert| alert.project.as_ref() == Some(project));
        let own: Vec<AlertId> = own.map(|alert| alert.id).collect();
        own.into_iter().for_each(|id| self.forget_alert(id));
        self.budgets.remove(project);
    }
}

/// What an event says of an alert as it was or is.
fn shown(alert: &Alert) -> Value {
    json!({ "state": alert.stage.state(), "severity": alert.severity })
}

fn checked_note(note: &str) -> Result<String, Refusal> {
    refuse(wrong_line("note", note, 0, ALERT_NOTE_BYTES_MAX).into_iter().collect())?;
    Ok(note.to_owned())
}

/// What is wrong with one line for a person.
fn wrong_line(field: &str, text: &str, least: usize, most: usize) -> Option<InvalidField> {
    let is_right = (least..=most).contains(&text.len()) && !text.chars().any(char::is_control);
    let problem = format!("{least} to {most} bytes in one line, without control characters");
    (!is_right).then(|| InvalidField { field: field.to_owned(), problem })
}
