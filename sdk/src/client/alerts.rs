//! Alerts, and budgets of projects.

use http::Method;
use novacron_protocol::api::{
    AlertNote, AlertRaise, AlertStateFilter, AlertView, BudgetChange, Page, ProjectView, Severity,
};
use novacron_protocol::ids::AlertId;

use super::{Client, PageRequest};
use crate::error::Error;
use crate::exchange::{Content, Request};
use crate::query::Path;
use crate::word::word;

/// Which alerts to list.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct AlertFilter {
    /// Only those that stand so.
    pub state: Option<AlertStateFilter>,
    /// Only those of this severity.
    pub severity: Option<Severity>,
    /// Only those of this kind.
    pub kind: Option<String>,
    /// Only those about this, such as `node/node-01`.
    pub object: Option<String>,
    /// Only those of this project.
    pub project: Option<String>,
    /// Only those about what is in this region.
    pub region: Option<String>,
}

impl AlertFilter {
    fn path(&self) -> Path {
        Path::new("alerts")
            .query_if("state", self.state.as_ref().map(word))
            .query_if("severity", self.severity.as_ref().map(word))
            .query_if("kind", self.kind.as_deref())
            .query_if("object", self.object.as_deref())
            .query_if("project", self.project.as_deref())
            .query_if("region", self.region.as_deref())
    }
}

fn alert_path(alert: AlertId) -> Path {
    Path::new("alerts").segment(alert)
}

/// Alerts, and budgets of projects.
impl Client {
    /// One page of alerts.
    ///
    /// # Errors
    /// [`Error`].
    pub fn alert_page(
        &self,
        filter: &AlertFilter,
        page: &PageRequest,
    ) -> Result<Page<AlertView>, Error> {
        self.page(filter.path(), page)
    }

    /// All alerts that the filter lets through, in the order in which they were raised.
    ///
    /// # Errors
    /// [`Error`].
    pub fn alerts(&self, filter: &AlertFilter) -> Result<Vec<AlertView>, Error> {
        self.all(&filter.path())
    }

    /// One alert.
    ///
    /// # Errors
    /// [`Error::Problem`] with code `not_found` if there is none.
    pub fn alert(&self, alert: AlertId) -> Result<AlertView, Error> {
        self.exchange.json(&Request::get(alert_path(alert)))
    }

    /// Raises an alert, or counts one with the same key that is open.
    ///
    /// # Errors
    /// [`Error::Problem`]: `invalid_request` with the field, `not_found`, `no_capacity`.
    pub fn alert_raise(&self, raise: &AlertRaise) -> Result<AlertView, Error> {
        self.exchange.json(&Request::write(Method::POST, Path::new("alerts"), Content::json(raise)))
    }

    /// Says that somebody looks.
    ///
    /// # Errors
    /// [`Error::Problem`]: `not_found`, `conflict` if it is resolved.
    pub fn alert_acknowledge(&self, alert: AlertId, note: &str) -> Result<AlertView, Error> {
        self.alert_note(alert, "acknowledge", note)
    }

    /// Says that nobody looks any more.
    ///
    /// # Errors
    /// [`Error::Problem`]: `not_found`, `conflict` if it is not acknowledged.
    pub fn alert_unacknowledge(&self, alert: AlertId) -> Result<AlertView, Error> {
        let path = alert_path(alert).verb("unacknowledge");
        self.exchange.json(&Request::write(Method::POST, path, Content::None))
    }

    /// Says that it is over.
    ///
    /// # Errors
    /// [`Error::Problem`]: `not_found`, `conflict` if it is resolved, or the cluster itself watches what it is about.
    pub fn alert_resolve(&self, alert: AlertId, note: &str) -> Result<AlertView, Error> {
        self.alert_note(alert, "resolve", note)
    }

    fn alert_note(&self, alert: AlertId, verb: &str, note: &str) -> Result<AlertView, Error> {
        let content = Content::json(&AlertNote { note: note.to_owned() });
        self.exchange.json(&Request::write(Method::POST, alert_path(alert).verb(verb), content))
    }

    /// Says how much a project may cost in a calendar month before an alert says so; `None` for no budget.
    ///
    /// # Errors
    /// [`Error::Problem`]: `not_found`, `invalid_request`.
    pub fn project_budget(
        &self,
        project: &str,
        micro_dollars_per_month: Option<u64>,
    ) -> Result<ProjectView, Error> {
        let path = Path::new("projects").segment(project).verb("budget");
        let content = Content::json(&BudgetChange { micro_dollars_per_month });
        self.exchange.json(&Request::write(Method::PUT, path, content))
    }
}
