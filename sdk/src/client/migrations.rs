//! Migrations.

use http::Method;
use novacron_protocol::api::{MigrationView, Page};
use novacron_protocol::ids::MigrationId;

use super::{Client, PageRequest};
use crate::error::Error;
use crate::exchange::{Content, Request};
use crate::query::Path;

/// Migrations.
impl Client {
    /// One page of migrations.
    ///
    /// # Errors
    /// [`Error`].
    pub fn migration_page(&self, page: &PageRequest) -> Result<Page<MigrationView>, Error> {
        self.page(Path::new("migrations"), page)
    }

    /// All migrations that are remembered.
    ///
    /// # Errors
    /// [`Error`].
    pub fn migrations(&self) -> Result<Vec<MigrationView>, Error> {
        self.all(&Path::new("migrations"))
    }

    /// One migration.
    ///
    /// # Errors
    /// [`Error::Problem`] with code `not_found` if there is none.
    pub fn migration(&self, migration: MigrationId) -> Result<MigrationView, Error> {
        self.exchange.json(&Request::get(Path::new("migrations").segment(migration)))
    }

    /// Gives up a migration; the answer comes when that is accepted.
    ///
    /// # Errors
    /// [`Error::Problem`]: `not_found`, `conflict` if it has ended or cannot be undone any more.
    pub fn migration_cancel(&self, migration: MigrationId) -> Result<MigrationView, Error> {
        let path = Path::new("migrations").segment(migration).verb("cancel");
        self.exchange.json(&Request::write(Method::POST, path, Content::None))
    }
}
