//! Networks.

use http::Method;
use novacron_protocol::api::{NetworkChange, NetworkCreate, NetworkView};

use super::Client;
use crate::error::Error;
use crate::exchange::{Content, Request};
use crate::query::Path;

fn network_path(network: &str) -> Path {
    Path::new("networks").segment(network)
}

/// Networks.
impl Client {
    /// All networks that this client sees.
    ///
    /// # Errors
    /// [`Error`].
    pub fn networks(&self) -> Result<Vec<NetworkView>, Error> {
        self.all(&Path::new("networks"))
    }

    /// One network.
    ///
    /// # Errors
    /// [`Error::Problem`] with code `not_found` if there is none, or none for this client's projects.
    pub fn network(&self, network: &str) -> Result<NetworkView, Error> {
        self.exchange.json(&Request::get(network_path(network)))
    }

    /// Makes a network.
    ///
    /// # Errors
    /// [`Error::Problem`]: `invalid_request` with the field, `name_taken`.
    pub fn network_create(&self, create: &NetworkCreate) -> Result<NetworkView, Error> {
        let content = Content::json(create);
        self.exchange.json(&Request::write(Method::POST, Path::new("networks"), content))
    }

    /// Changes a network.
    ///
    /// # Errors
    /// [`Error::Problem`]: `not_found`, `invalid_request` with the field, `conflict` while machines need what it was.
    pub fn network_change(
        &self,
        network: &str,
        change: &NetworkChange,
    ) -> Result<NetworkView, Error> {
        let path = network_path(network).verb("settings");
        self.exchange.json(&Request::write(Method::POST, path, Content::json(change)))
    }

    /// Deletes a network that no machine is in.
    ///
    /// # Errors
    /// [`Error::Problem`]: `not_found`, `conflict`.
    pub fn network_delete(&self, network: &str) -> Result<(), Error> {
        self.exchange.done(&Request::write(Method::DELETE, network_path(network), Content::None))
    }
}
