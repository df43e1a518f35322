//! Who changed what.

use std::io::Read;

use novacron_protocol::api::{AuditEntry, AuditVerdict};

use super::{Client, PageRequest};
use crate::error::Error;
use crate::exchange::Request;
use crate::query::Path;

/// Which records of the audit log.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct AuditFilter {
    /// Only what this one did: a name, or `cluster`.
    pub actor: Option<String>,
    /// Only this action (`vm.create`), or all of a noun (`vm`).
    pub action: Option<String>,
    /// Only what was done to the object with this id.
    pub object: Option<String>,
}

impl AuditFilter {
    pub(crate) fn path(&self) -> Path {
        Path::new("audit")
            .query_if("actor", self.actor.as_deref())
            .query_if("action", self.action.as_deref())
            .query_if("object", self.object.as_deref())
    }
}

/// The audit log.
impl Client {
    /// The newest `count` records that pass the filter, newest first.
    ///
    /// # Errors
    /// [`Error`]; `unavailable` while the coordinator fetches an older part of the log from another.
    pub fn audit(&self, filter: &AuditFilter, count: usize) -> Result<Vec<AuditEntry>, Error> {
        let path = filter.path();
        let (mut entries, mut cursor) = (Vec::new(), None);
        while entries.len() < count {
            let left = u32::try_from(count - entries.len()).unwrap_or(u32::MAX).min(1000);
            let page = self.page(path.clone(), &PageRequest { limit: Some(left), cursor })?;
            entries.extend(page.items);
            cursor = page.next_cursor;
            if cursor.is_none() {
                break;
            }
        }
        Ok(entries)
    }

    /// Checks the whole log. `known` is a record that it had once, as `number:hash`.
    ///
    /// # Errors
    /// [`Error`]; what is wrong with the log is in the verdict.
    pub fn audit_verify(&self, known: Option<&str>) -> Result<AuditVerdict, Error> {
        self.exchange
            .json(&Request::get(Path::new("audit").verb("verify").query_if("known", known)))
    }

    /// The whole log as text: for each record its hash, a space and the record as it was written.
    ///
    /// # Errors
    /// [`Error`]. A stream that ends with an error is a part of the log only.
    pub fn audit_export(&self) -> Result<impl Read, Error> {
        self.exchange.stream(&Request::get(Path::new("audit").verb("export")))
    }
}
