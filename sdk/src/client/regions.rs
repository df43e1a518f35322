//! Regions, and machines that stand against a rule of residency.

use http::Method;
use novacron_protocol::api::{
    NodeRegionChange, NodeView, RegionChange, RegionCreate, RegionRoute, RegionView,
    ResidencyViolationView,
};

use super::Client;
use crate::error::Error;
use crate::exchange::{Content, Request};
use crate::query::Path;

fn region_path(region: &str) -> Path {
    Path::new("regions").segment(region)
}

/// Regions.
impl Client {
    /// All regions.
    ///
    /// # Errors
    /// [`Error`].
    pub fn regions(&self) -> Result<Vec<RegionView>, Error> {
        self.all(&Path::new("regions"))
    }

    /// One region.
    ///
    /// # Errors
    /// [`Error::Problem`] with code `not_found` if there is none.
    pub fn region(&self, region: &str) -> Result<RegionView, Error> {
        self.exchange.json(&Request::get(region_path(region)))
    }

    /// Makes a region.
    ///
    /// # Errors
    /// [`Error::Problem`]: `invalid_request` with the field, `name_taken`.
    pub fn region_create(&self, create: &RegionCreate) -> Result<RegionView, Error> {
        let content = Content::json(create);
        self.exchange.json(&Request::write(Method::POST, Path::new("regions"), content))
    }

    /// Changes a region. Migrations that a new rule forbids are given up.
    ///
    /// # Errors
    /// [`Error::Problem`]: `not_found`, `invalid_request` with the field.
    pub fn region_change(&self, region: &str, change: &RegionChange) -> Result<RegionView, Error> {
        let path = region_path(region).verb("settings");
        self.exchange.json(&Request::write(Method::POST, path, Content::json(change)))
    }

    /// Deletes a region in which no host stands and that no rule names.
    ///
    /// # Errors
    /// [`Error::Problem`]: `not_found`, `conflict`.
    pub fn region_delete(&self, region: &str) -> Result<(), Error> {
        self.exchange.done(&Request::write(Method::DELETE, region_path(region), Content::None))
    }

    /// To which region somebody in `from` should turn: all of them in order, by the rules of a project if one is given.
    ///
    /// # Errors
    /// [`Error::Problem`] with code `not_found` for the region or the project.
    pub fn region_route(&self, from: &str, project: Option<&str>) -> Result<RegionRoute, Error> {
        let path = Path::new("regions").verb("route").query("from", from);
        self.exchange.json(&Request::get(path.query_if("project", project)))
    }

    /// Says in which region a host stands; `None` for none.
    ///
    /// # Errors
    /// [`Error::Problem`] with code `not_found` for the host or the region.
    pub fn node_region(&self, node: &str, region: Option<&str>) -> Result<NodeView, Error> {
        let path = Path::new("nodes").segment(node).verb("region");
        let change = NodeRegionChange { region: region.map(str::to_owned) };
        self.exchange.json(&Request::write(Method::POST, path, Content::json(&change)))
    }

    /// The machines that stand against a rule, of those that this client sees.
    ///
    /// # Errors
    /// [`Error`].
    pub fn residency_violations(&self) -> Result<Vec<ResidencyViolationView>, Error> {
        self.all(&Path::new("residency").segment("violations"))
    }
}
