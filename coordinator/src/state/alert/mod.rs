//! Alerts: what somebody has to look at. The leader raises and resolves those of the cluster, clients their own.
//!
//! ```text
//!            raise ──► firing ◄──► acknowledged            raised again: counted, and stays as it is;
//!                        │ ▲            │                  worse than before: firing
//!                        │ └── worse ───┤
//!                        ▼              ▼
//!                     resolved ◄────────┘                  raised again: a new alert that names this one
//! ```
//!
//! There is at most one alert with a key that is not resolved. Resolved ones are kept for a while ([`retention`]).
//!
//! | module | holds |
//! |---|---|
//! | [`lifecycle`] | what raising, acknowledging and resolving do |
//! | [`place`] | whose an alert is, and where |
//! | [`retention`] | how many are kept, and for how long |
//! | [`index`] | finding them by key, owner and age |
//! | [`budget`] | how much a project may cost before an alert says so |

pub mod budget;
pub(super) mod index;
mod lifecycle;
mod place;
pub mod retention;

use novacron_protocol::alert::{AlertKey, AlertKind};
use novacron_protocol::api::{AlertState, Severity};
use novacron_protocol::ids::{AlertId, ProjectName, RegionCode, Revision};
use novacron_protocol::time::Timestamp;
use novacron_protocol::wire::codec::Message;
use novacron_transport::SubjectName;
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use super::fleet::Fleet;
use super::table::ROW_BYTES_MAX;

/// An alert as the fleet keeps it: about 400 bytes, at most 2 KiB.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Alert {
    /// Identity.
    pub id: AlertId,
    /// What it is known by.
    pub key: AlertKey,
    /// How bad it is.
    pub severity: Severity,
    /// What is wrong, as it was said last.
    pub summary: String,
    /// Whose it is; `None`: the fleet's.
    pub project: Option<ProjectName>,
    /// Where it is, if that is known.
    pub region: Option<RegionCode>,
    /// How it stands.
    pub stage: Stage,
    /// Who raised it first; `None`: the cluster.
    pub raised_by: Option<SubjectName>,
    /// When it was raised first.
    pub since: Timestamp,
    /// When it was raised last.
    pub last_raised_at: Timestamp,
    /// How often it was raised.
    pub raises: u64,
    /// The one with the same key before it.
    pub previous: Option<AlertId>,
    /// The revision that raised it first.
    pub raised: Revision,
    /// The revision of its last change.
    pub revision: Revision,
}

impl Message for Alert {
    const VERSION: u16 = 1;
    const BYTES_MAX: usize = ROW_BYTES_MAX;
    const NAME: &'static str = "alert row";
}

/// How an alert stands.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum Stage {
    /// Somebody has to look.
    Firing,
    /// Somebody looks.
    Acknowledged(Deed),
    /// It is over.
    Resolved {
        /// By whom or by what.
        resolution: Deed,
        /// Who had acknowledged it.
        acknowledgement: Option<Deed>,
    },
}

/// Who did something with an alert.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Deed {
    /// Who; `None`: the cluster.
    pub by: Option<SubjectName>,
    /// When.
    pub at: Timestamp,
    /// What was written beside it.
    pub note: String,
}

impl Stage {
    /// As the world sees it.
    pub fn state(&self) -> AlertState {
        match self {
            Self::Firing => AlertState::Firing,
            Self::Acknowledged(_) => AlertState::Acknowledged,
            Self::Resolved { .. } => AlertState::Resolved,
        }
    }
}

impl Alert {
    /// When it was resolved; `None` while it is open.
    pub fn resolved_at(&self) -> Option<Timestamp> {
        match &self.stage {
            Stage::Resolved { resolution, .. } => Some(resolution.at),
            Stage::Firing | Stage::Acknowledged(_) => None,
        }
    }

    /// Whether a client raised it.
    pub fn is_named(&self) -> bool {
        matches!(self.key.kind, AlertKind::Named(_))
    }
}

/// Something to raise an alert for.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Raise {
    /// The id of the alert, if it is a new one.
    pub id: AlertId,
    /// What it is known by.
    pub key: AlertKey,
    /// How bad it is.
    pub severity: Severity,
    /// What is wrong, in one line.
    pub summary: String,
}

/// What the leader saw: conditions that hold, and alerts that are over.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Observed {
    /// To raise; with [`Observed::over`] at most [`OBSERVED_MAX`].
    ///
    /// [`OBSERVED_MAX`]: retention::OBSERVED_MAX
    pub raises: Vec<Raise>,
    /// To resolve, and why.
    pub over: Vec<(AlertId, String)>,
}

/// What can be done with alerts.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum AlertOrder {
    /// What the leader saw.
    Observe(Observed),
    /// A client says that something is wrong.
    Raise(Raise),
    /// Somebody looks.
    Acknowledge {
        /// Which.
        alert: AlertId,
        /// What to write beside it.
        note: String,
    },
    /// Nobody looks any more.
    Unacknowledge {
        /// Which.
        alert: AlertId,
    },
    /// It is over.
    Resolve {
        /// Which.
        alert: AlertId,
        /// What to write beside it.
        note: String,
    },
}

impl AlertOrder {
    /// What the audit log calls it.
    pub fn action(&self) -> &'static str {
        match self {
            Self::Observe(_) => "alert.observe",
            Self::Raise(_) => "alert.raise",
            Self::Acknowledge { .. } => "alert.acknowledge",
            Self::Unacknowledge { .. } => "alert.unacknowledge",
            Self::Resolve { .. } => "alert.resolve",
        }
    }

    /// What of it a client asked for: the id of a new alert is the proposer's. `None` for what the cluster does.
    pub(super) fn asked(&self) -> Option<Self> {
        match self {
            Self::Observe(_) => None,
            Self::Raise(raise) => {
                Some(Self::Raise(Raise { id: AlertId(Uuid::nil()), ..raise.clone() }))
            }
            order => Some(order.clone()),
        }
    }
}

impl Fleet {
    /// An alert.
    pub fn alert(&self, alert: AlertId) -> Option<&Alert> {
        self.alerts.get(&alert)
    }

    /// The alerts behind an id, in the order of their ids, which is that in which they were raised.
    pub fn alerts_after(&self, after: Option<AlertId>) -> impl Iterator<Item = &Alert> {
        use std::ops::Bound::{Excluded, Unbounded};
        let begin = after.map_or(Unbounded, Excluded);
        self.alerts.range((begin, Unbounded)).map(|(_, alert)| alert)
    }

    /// The alerts that are not resolved, in the order of their keys.
    pub fn open_alerts(&self) -> impl Iterator<Item = &Alert> {
        self.index.alerts.open().filter_map(|id| self.alerts.get(&id))
    }

    /// The alert with a key that is not resolved.
    pub fn open_alert(&self, key: &AlertKey) -> Option<&Alert> {
        self.index.alerts.open_with(key).and_then(|id| self.alerts.get(&id))
    }

    /// The last alert with a key, of those that are kept.
    pub fn latest_alert(&self, key: &AlertKey) -> Option<&Alert> {
        self.index.alerts.latest_with(key).and_then(|id| self.alerts.get(&id))
    }

    pub(super) fn check_alerts(&self) -> Result<(), String> {
        let open = self.alerts.values().filter(|alert| alert.resolved_at().is_none()).count();
        // By key: a second one would have taken the place of the first.
        if open != self.index.alerts.open().count() {
            return Err("two alerts with one key are open".to_owned());
        }
        let is_there = |project: &ProjectName| self.projects.get(project).is_some();
        let wrong = self.alerts.values().find(|alert| {
            let is_owned = alert.project.as_ref().is_none_or(is_there);
            !is_owned || alert.raises == 0 || alert.since > alert.last_raised_at
        });
        if let Some(alert) = wrong {
            return Err(format!("alert {}: of no project, or never raised", alert.key));
        }
        self.check_alert_bounds()?;
        self.check_budgets()
    }
}
