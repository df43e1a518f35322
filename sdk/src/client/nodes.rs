//! Hypervisor hosts.

use http::Method;
use novacron_protocol::api::{NodeDrain, NodeUndrain, NodeView, Page};

use super::{Client, PageRequest};
use crate::error::Error;
use crate::exchange::{Content, Request};
use crate::query::Path;

/// Nodes.
impl Client {
    /// One page of nodes.
    ///
    /// # Errors
    /// [`Error`].
    pub fn node_page(&self, page: &PageRequest) -> Result<Page<NodeView>, Error> {
        self.page(Path::new("nodes"), page)
    }

    /// All nodes.
    ///
    /// # Errors
    /// [`Error`].
    pub fn nodes(&self) -> Result<Vec<NodeView>, Error> {
        self.all(&Path::new("nodes"))
    }

    /// One node.
    ///
    /// # Errors
    /// [`Error::Problem`] with code `not_found` if there is none.
    pub fn node(&self, name: &str) -> Result<NodeView, Error> {
        self.exchange.json(&Request::get(Path::new("nodes").segment(name)))
    }

    /// Has a node take no machines and move away those that it has; the answer comes when that is accepted. See
    /// [`Client::drain_wait`].
    ///
    /// # Errors
    /// [`Error::Problem`]: `not_found`, `conflict` if no other node could run machines, `invalid_request` with the field.
    pub fn node_drain(&self, name: &str, drain: &NodeDrain) -> Result<NodeView, Error> {
        let path = Path::new("nodes").segment(name).verb("drain");
        self.exchange.json(&Request::write(Method::POST, path, Content::json(drain)))
    }

    /// Has a node take machines again.
    ///
    /// # Errors
    /// [`Error::Problem`]: `not_found`, `conflict` if it is not being drained.
    pub fn node_undrain(&self, name: &str, undrain: &NodeUndrain) -> Result<NodeView, Error> {
        let path = Path::new("nodes").segment(name).verb("undrain");
        self.exchange.json(&Request::write(Method::POST, path, Content::json(undrain)))
    }
}
