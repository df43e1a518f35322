//! Hypervisor hosts.

use http::Method;
use novacron_protocol::api::{NodeDrain, NodeUndrain, NodeView, Page};
use novacron_protocol::node::NodeState;
use novacron_protocol::vm::Labels;

use super::{Client, PageRequest};
use crate::error::Error;
use crate::exchange::{Content, Request};
use crate::query::Path;
use crate::word::word;

/// Which nodes to list.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct NodeFilter {
    /// Only those whose name or label values have this text somewhere, whatever its case.
    pub text: Option<String>,
    /// Only those with all of these labels.
    pub labels: Labels,
    /// Only those that stand in this region.
    pub region: Option<String>,
    /// Only those in this state.
    pub state: Option<NodeState>,
}

impl NodeFilter {
    fn path(&self) -> Path {
        let path = Path::inventory("nodes")
            .query_if("text", self.text.as_deref())
            .query_if("region", self.region.as_deref())
            .query_if("state", self.state.as_ref().map(word));
        let labels = self.labels.iter();
        labels.fold(path, |path, (key, value)| path.query("label", format!("{key}={value}")))
    }
}

/// Nodes.
impl Client {
    /// One page of nodes.
    ///
    /// # Errors
    /// [`Error`].
    pub fn node_page(
        &self,
        filter: &NodeFilter,
        page: &PageRequest,
    ) -> Result<Page<NodeView>, Error> {
        self.page(filter.path(), page)
    }

    /// All nodes.
    ///
    /// # Errors
    /// [`Error`].
    pub fn nodes(&self) -> Result<Vec<NodeView>, Error> {
        self.all(&NodeFilter::default().path())
    }

    /// All nodes that the filter lets through.
    ///
    /// # Errors
    /// [`Error`].
    pub fn nodes_like(&self, filter: &NodeFilter) -> Result<Vec<NodeView>, Error> {
        self.all(&filter.path())
    }

    /// One node.
    ///
    /// # Errors
    /// [`Error::Problem`] with code `not_found` if there is none.
    pub fn node(&self, name: &str) -> Result<NodeView, Error> {
        self.read(Path::inventory("nodes").segment(name))
    }

    /// Has a node take no machines and move away those that it has; the answer comes when that is accepted. See
    /// [`Client::drain_wait`].
    ///
    /// # Errors
    /// [`Error::Problem`]: `not_found`, `conflict` if no other node could run machines, `invalid_request` with the field.
    pub fn node_drain(&self, name: &str, drain: &NodeDrain) -> Result<NodeView, Error> {
        let path = Path::inventory("nodes").segment(name).verb("drain");
        self.exchange.json(&Request::write(Method::POST, path, Content::json(drain)))
    }

    /// Has a node take machines again.
    ///
    /// # Errors
    /// [`Error::Problem`]: `not_found`, `conflict` if it is not being drained.
    pub fn node_undrain(&self, name: &str, undrain: &NodeUndrain) -> Result<NodeView, Error> {
        let path = Path::inventory("nodes").segment(name).verb("undrain");
        self.exchange.json(&Request::write(Method::POST, path, Content::json(undrain)))
    }
}
