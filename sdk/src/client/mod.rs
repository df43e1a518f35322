//! The client. Methods are grouped by resource, one file each.

mod access;
mod alerts;
mod audit;
mod batches;
mod cluster;
mod metrics;
mod migrations;
mod networks;
mod nodes;
mod regions;
mod secrets;
mod snapshots;
mod usage;
mod vms;

use std::sync::Arc;
use std::time::Duration;

use novacron_protocol::api::Page;
use serde::de::DeserializeOwned;

use crate::config::Config;
use crate::error::{ConfigError, Error};
use crate::exchange::{Exchange, Notice, Request, Shared};
use crate::query::Path;

pub use alerts::AlertFilter;
pub use audit::AuditFilter;
pub use metrics::MetricQuery;
pub use migrations::MigrationFilter;
pub use nodes::NodeFilter;
pub use usage::{InvoiceFilter, UsageFilter};
pub use vms::VmFilter;

/// A connection to a fleet. Cheap to clone; clones share connections. Every call blocks.
#[derive(Debug, Clone)]
pub struct Client {
    pub(crate) exchange: Shared,
    stale: Option<Stale>,
}

/// Reads of the inventory that may be behind: any coordinator answers them with what it has, also without a quorum.
#[derive(Debug, Clone, Copy)]
pub struct Stale {
    /// How old what is shown may be; any age unless said. Coordinators that have older things are passed over.
    pub max: Option<Duration>,
    /// Told with each answer: everything is shown that was acknowledged so long ago; none if the coordinator does not know.
    pub notice: fn(Option<Duration>),
}

/// Which part of a list.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct PageRequest {
    /// Items, 1 to 1,000; 100 unless said.
    pub limit: Option<u32>,
    /// `next_cursor` of the page before.
    pub cursor: Option<String>,
}

/// Items of a page when a whole list is read.
const PAGE_ITEMS: u32 = 500;

impl Client {
    /// A client. Reads the credentials; connects when it is first used.
    ///
    /// # Errors
    /// [`ConfigError`] if the credentials cannot be read or an endpoint is not a URL.
    pub fn new(config: &Config) -> Result<Self, ConfigError> {
        Ok(Self { exchange: Arc::new(Exchange::new(config, None)?), stale: None })
    }

    /// The same, and `notice` is called once by each call that has waited for about two seconds because no coordinator
    /// answers.
    ///
    /// # Errors
    /// [`ConfigError`] as [`Client::new`] gives it.
    pub fn with_notice(config: &Config, notice: Notice) -> Result<Self, ConfigError> {
        Ok(Self { exchange: Arc::new(Exchange::new(config, Some(notice))?), stale: None })
    }

    /// The same client, whose lists of machines, nodes, migrations and projects, and what it shows of each, may be behind.
    #[must_use]
    pub fn with_stale_reads(&self, stale: Stale) -> Self {
        Self { stale: Some(stale), ..self.clone() }
    }

    /// The API's own description (OpenAPI 3.0.3).
    ///
    /// # Errors
    /// [`Error`].
    pub fn openapi(&self) -> Result<serde_json::Value, Error> {
        self.exchange.json(&Request::get(Path::new("openapi.json")))
    }

    pub(crate) fn page<T: DeserializeOwned>(
        &self,
        path: Path,
        page: &PageRequest,
    ) -> Result<Page<T>, Error> {
        self.read(path.query_if("limit", page.limit).query_if("cursor", page.cursor.as_deref()))
    }

    /// Reads as fresh as was asked for.
    pub(crate) fn read<T: DeserializeOwned>(&self, path: Path) -> Result<T, Error> {
        let Some(stale) = self.stale.filter(|_| path.may_be_stale()) else {
            return self.exchange.json(&Request::get(path));
        };
        let max = stale.max.map(|max| max.as_millis());
        let path = path.query("consistency", "stale").query_if("max_stale_ms", max);
        let (value, age) = self.exchange.json_with_age(&Request::get(path))?;
        (stale.notice)(age);
        Ok(value)
    }

    /// Every item of a list, page by page.
    pub(crate) fn all<T: DeserializeOwned>(&self, path: &Path) -> Result<Vec<T>, Error> {
        let mut items = Vec::new();
        let mut request = PageRequest { limit: Some(PAGE_ITEMS), cursor: None };
        loop {
            let page: Page<T> = self.page(path.clone(), &request)?;
            items.extend(page.items);
            match page.next_cursor {
                Some(cursor) => request.cursor = Some(cursor),
                None => return Ok(items),
            }
        }
    }
}
