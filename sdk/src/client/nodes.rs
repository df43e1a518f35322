//! Hypervisor hosts.

use novacron_protocol::api::{NodeView, Page};

use super::{Client, PageRequest};
use crate::error::Error;
use crate::exchange::Request;
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
}
