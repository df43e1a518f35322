//! Migrations.

use http::Method;
use novacron_protocol::api::{MigrationView, Page};
use novacron_protocol::ids::MigrationId;
use novacron_protocol::migration::MigrationStatus;

use super::{Client, PageRequest};
use crate::error::Error;
use crate::exchange::{Content, Request};
use crate::query::Path;
use crate::word::word;

/// Which migrations to list.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct MigrationFilter {
    /// Only those of this machine, by name or id.
    pub vm: Option<String>,
    /// Only those from or to this node.
    pub node: Option<String>,
    /// Only those that stand so.
    pub status: Option<MigrationStatus>,
    /// Only those of this project's machines.
    pub project: Option<String>,
}

impl MigrationFilter {
    fn path(&self) -> Path {
        Path::inventory("migrations")
            .query_if("vm", self.vm.as_deref())
            .query_if("node", self.node.as_deref())
            .query_if("status", self.status.as_ref().map(word))
            .query_if("project", self.project.as_deref())
    }
}

/// Migrations.
impl Client {
    /// One page of migrations.
    ///
    /// # Errors
    /// [`Error`].
    pub fn migration_page(
        &self,
        filter: &MigrationFilter,
        page: &PageRequest,
    ) -> Result<Page<MigrationView>, Error> {
        self.page(filter.path(), page)
    }

    /// All migrations that are remembered.
    ///
    /// # Errors
    /// [`Error`].
    pub fn migrations(&self) -> Result<Vec<MigrationView>, Error> {
        self.all(&MigrationFilter::default().path())
    }

    /// All migrations that are remembered and that the filter lets through.
    ///
    /// # Errors
    /// [`Error`].
    pub fn migrations_like(&self, filter: &MigrationFilter) -> Result<Vec<MigrationView>, Error> {
        self.all(&filter.path())
    }

    /// One migration.
    ///
    /// # Errors
    /// [`Error::Problem`] with code `not_found` if there is none.
    pub fn migration(&self, migration: MigrationId) -> Result<MigrationView, Error> {
        self.read(Path::inventory("migrations").segment(migration))
    }

    /// Gives up a migration; the answer comes when that is accepted.
    ///
    /// # Errors
    /// [`Error::Problem`]: `not_found`, `conflict` if it has ended or cannot be undone any more.
    pub fn migration_cancel(&self, migration: MigrationId) -> Result<MigrationView, Error> {
        let path = Path::inventory("migrations").segment(migration).verb("cancel");
        self.exchange.json(&Request::write(Method::POST, path, Content::None))
    }
}
