//! The coordinator cluster and the tokens to join it.

use http::Method;
use novacron_protocol::api::{
    ClusterStatus, ClusterView, Overview, SettingsChange, TokenCreate, TokenView,
};
use novacron_protocol::ids::MemberId;

use super::Client;
use crate::error::Error;
use crate::exchange::{Content, Request};
use crate::query::Path;

/// The fleet.
impl Client {
    /// The fleet in one document, as far as this client sees it.
    ///
    /// # Errors
    /// [`Error`].
    pub fn overview(&self) -> Result<Overview, Error> {
        self.exchange.json(&Request::get(Path::new("overview")))
    }
}

/// The cluster.
impl Client {
    /// The cluster as the member sees it that answers.
    ///
    /// # Errors
    /// [`Error`].
    pub fn cluster(&self) -> Result<ClusterView, Error> {
        self.exchange.json(&Request::get(Path::new("cluster")))
    }

    /// How each coordinator is.
    ///
    /// # Errors
    /// [`Error`].
    pub fn cluster_status(&self) -> Result<ClusterStatus, Error> {
        self.exchange.json(&Request::get(Path::new("cluster/status")))
    }

    /// The whole state of the cluster, in the form of `novacron_protocol::backup`. It holds the cluster's keys:
    /// whoever writes it to a disk encrypts it. An error in the middle, and an end before the end, are no backup.
    ///
    /// # Errors
    /// [`Error::Problem`]: `conflict` if another backup is under way at the coordinator that answers.
    pub fn backup(&self) -> Result<impl std::io::Read + use<>, Error> {
        self.exchange.stream(&Request::get(Path::new("cluster/backup")))
    }

    /// Removes a coordinator from the cluster.
    ///
    /// # Errors
    /// [`Error::Problem`]: `not_found`, `conflict` if it is the last one.
    pub fn member_remove(&self, member: MemberId) -> Result<ClusterView, Error> {
        let path = Path::new("cluster/members").segment(member);
        self.exchange.json(&Request::write(Method::DELETE, path, Content::None))
    }

    /// Changes what holds for the whole fleet.
    ///
    /// # Errors
    /// [`Error::Problem`]: `invalid_request` with the field.
    pub fn settings_change(&self, change: &SettingsChange) -> Result<ClusterView, Error> {
        let path = Path::new("cluster").verb("settings");
        self.exchange.json(&Request::write(Method::POST, path, Content::json(change)))
    }

    /// Makes a token with which an agent, coordinator or operator can join.
    ///
    /// # Errors
    /// [`Error::Problem`]: `invalid_request` with the field.
    pub fn token_create(&self, create: &TokenCreate) -> Result<TokenView, Error> {
        let content = Content::json(create);
        self.exchange.json(&Request::write(Method::POST, Path::new("tokens"), content))
    }
}
