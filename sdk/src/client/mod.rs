//! The client. Methods are grouped by resource, one file each.

mod access;
mod audit;
mod batches;
mod cluster;
mod migrations;
mod nodes;
mod regions;
mod usage;
mod vms;

use std::sync::Arc;

use novacron_protocol::api::Page;
use serde::de::DeserializeOwned;

use crate::config::Config;
use crate::error::{ConfigError, Error};
use crate::exchange::{Exchange, Notice, Request, Shared};
use crate::query::Path;

pub use audit::AuditFilter;
pub use usage::{InvoiceFilter, UsageFilter};
pub use vms::VmFilter;

/// A connection to a fleet. Cheap to clone; clones share connections. Every call blocks.
#[derive(Debug, Clone)]
pub struct Client {
    pub(crate) exchange: Shared,
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
        Ok(Self { exchange: Arc::new(Exchange::new(config, None)?) })
    }

    /// The same, and `notice` is called once by each call that has waited for about two seconds because no coordinator
    /// answers.
    ///
    /// # Errors
    /// [`ConfigError`] as [`Client::new`] gives it.
    pub fn with_notice(config: &Config, notice: Notice) -> Result<Self, ConfigError> {
        Ok(Self { exchange: Arc::new(Exchange::new(config, Some(notice))?) })
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
        let path = path.query_if("limit", page.limit).query_if("cursor", page.cursor.as_deref());
        self.exchange.json(&Request::get(path))
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
