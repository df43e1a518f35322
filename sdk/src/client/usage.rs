//! What was used, what it costs, and whether the ledger can be trusted.

use std::io::Read;

use http::Method;
use novacron_protocol::api::{
    CorrectionPost, CorrectionView, EntryView, Invoice, LedgerVerdict, PlanChange, RateCardView,
    RatesView, UsagePost, UsagePosted, UsageRow, UsageSeries, UsageStep, WindowView,
};
use novacron_protocol::ids::ProjectName;
use novacron_protocol::time::Timestamp;
use novacron_protocol::usage::Meter;

use super::Client;
use crate::error::Error;
use crate::exchange::{Content, Request};
use crate::query::Path;
use crate::word::word;

/// Which usage, and how it is grouped.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct UsageFilter {
    /// From this full hour on; the beginning of the month unless said.
    pub from: Option<Timestamp>,
    /// Up to this full hour; the end of the present one unless said.
    pub to: Option<Timestamp>,
    /// Only this project's.
    pub project: Option<ProjectName>,
    /// Only this machine's, by name or id.
    pub vm: Option<String>,
    /// Only of this meter.
    pub meter: Option<Meter>,
    /// `meter`, `hour`, `day`, `vm`, `project` or `label:KEY`.
    pub group_by: Option<String>,
}

impl UsageFilter {
    /// A path with all but the group.
    fn within(&self, path: Path) -> Path {
        path.query_if("from", self.from)
            .query_if("to", self.to)
            .query_if("project", self.project.as_ref())
            .query_if("vm", self.vm.as_deref())
            .query_if("meter", self.meter)
    }
}

/// Which lines of an invoice, and how.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct InvoiceFilter {
    /// Only this project's.
    pub project: Option<ProjectName>,
    /// Labels by which each line is split.
    pub allocate: Vec<String>,
}

impl InvoiceFilter {
    fn path(&self, period: &str) -> Path {
        let path = Path::new("invoices").segment(period);
        let path = path.query_if("project", self.project.as_ref());
        self.allocate.iter().fold(path, |path, key| path.query("allocate", key))
    }
}

/// The ledger.
impl Client {
    /// What was used, by group and meter.
    ///
    /// # Errors
    /// [`Error::Problem`]: `invalid_request` with the field; `unavailable` while the coordinator fetches a window from
    /// another.
    pub fn usage(&self, filter: &UsageFilter) -> Result<Vec<UsageRow>, Error> {
        let path = filter.within(Path::new("usage"));
        self.all(&path.query_if("group_by", filter.group_by.as_deref()))
    }

    /// What was used over time: a point for each hour, at most 1,000, or day. The filter's group counts for nothing.
    ///
    /// # Errors
    /// [`Error`], as for [`Client::usage`].
    pub fn usage_series(&self, filter: &UsageFilter, by: UsageStep) -> Result<UsageSeries, Error> {
        let path = filter.within(Path::new("usage").verb("series"));
        self.exchange.json(&Request::get(path.query("by", word(&by))))
    }

    /// Posts what a node measured.
    ///
    /// # Errors
    /// [`Error::Problem`]: `too_many_records` above 1,000, `not_found` without the node.
    pub fn usage_post(&self, post: &UsagePost) -> Result<UsagePosted, Error> {
        let path = Path::new("usage").verb("records");
        self.exchange.json(&Request::write(Method::POST, path, Content::json(post)))
    }

    /// Corrects an entry: it is taken back by a new one, and what is right is posted by another.
    ///
    /// # Errors
    /// [`Error::Problem`]: `not_found`, `already_corrected`, `invalid_request` with the field.
    pub fn usage_correct(&self, correction: &CorrectionPost) -> Result<CorrectionView, Error> {
        let path = Path::new("usage").verb("corrections");
        self.exchange.json(&Request::write(Method::POST, path, Content::json(correction)))
    }

    /// The invoice of a month such as `2026-11`.
    ///
    /// # Errors
    /// [`Error`], as for [`Client::usage`].
    pub fn invoice(&self, period: &str, filter: &InvoiceFilter) -> Result<Invoice, Error> {
        self.exchange.json(&Request::get(filter.path(period)))
    }

    /// The same as CSV.
    ///
    /// # Errors
    /// [`Error`], as for [`Client::usage`].
    pub fn invoice_csv(&self, period: &str, filter: &InvoiceFilter) -> Result<impl Read, Error> {
        self.exchange.stream(&Request::get(filter.path(period).query("format", "csv")))
    }

    /// What plans cost, and which plans projects have.
    ///
    /// # Errors
    /// [`Error`].
    pub fn rates(&self) -> Result<RatesView, Error> {
        self.exchange.json(&Request::get(Path::new("rates")))
    }

    /// Sets what a plan costs from an hour on.
    ///
    /// # Errors
    /// [`Error::Problem`]: `rate_begun` for an hour that is not in the future, `invalid_request` with the field.
    pub fn rate_set(&self, card: &RateCardView) -> Result<RatesView, Error> {
        self.exchange.json(&Request::write(Method::POST, Path::new("rates"), Content::json(card)))
    }

    /// Gives a project a plan from an hour on.
    ///
    /// # Errors
    /// [`Error::Problem`]: `rate_begun` for an hour that is over, `invalid_request` without such a plan.
    pub fn plan_set(&self, change: &PlanChange) -> Result<RatesView, Error> {
        let path = Path::new("rates").verb("plans");
        self.exchange.json(&Request::write(Method::POST, path, Content::json(change)))
    }

    /// The sealed windows of the ledger.
    ///
    /// # Errors
    /// [`Error`].
    pub fn ledger_windows(&self) -> Result<Vec<WindowView>, Error> {
        self.all(&Path::new("ledger").verb("windows"))
    }

    /// The entries of a window, open or sealed.
    ///
    /// # Errors
    /// [`Error`], as for [`Client::usage`].
    pub fn ledger_entries(&self, window: Timestamp) -> Result<Vec<EntryView>, Error> {
        self.all(&Path::new("ledger").verb("entries").query("window", window))
    }

    /// Checks the whole ledger, part by part. `known` is `last` of an earlier check; `checked` is told of each part.
    ///
    /// # Errors
    /// [`Error`]; what is wrong with the ledger is in the verdict.
    pub fn ledger_verify(
        &self,
        known: Option<&str>,
        mut checked: impl FnMut(&LedgerVerdict),
    ) -> Result<LedgerVerdict, Error> {
        let (mut windows, mut entries, mut last, mut cursor) = (0, 0, None, None);
        loop {
            let path = Path::new("ledger").verb("verify");
            let path = path.query_if("cursor", cursor).query_if("known", known);
            let part: LedgerVerdict = self.exchange.json(&Request::get(path))?;
            checked(&part);
            windows += part.windows;
            entries += part.entries;
            last = part.last.clone().or(last);
            cursor = part.next_cursor.clone();
            if cursor.is_none() || !part.intact {
                return Ok(LedgerVerdict { windows, entries, last, ..part });
            }
        }
    }
}
