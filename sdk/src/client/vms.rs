//! Virtual machines.

use http::Method;
use novacron_protocol::api::{
    AnnotationView, AnnotationWrite, MigrationView, Page, VmCreate, VmMigrate, VmStop, VmView,
};
use novacron_protocol::vm::{Labels, VmState};

use super::{Client, PageRequest};
use crate::error::Error;
use crate::exchange::{Content, Request};
use crate::query::Path;

/// Which machines to list.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct VmFilter {
    /// Only those whose name, node, label values or images have this text somewhere, whatever its case.
    pub text: Option<String>,
    /// Only the one of this name.
    pub name: Option<String>,
    /// Only those with all of these labels.
    pub labels: Labels,
    /// Only those of this project.
    pub project: Option<String>,
    /// Only those on this node.
    pub node: Option<String>,
    /// Only those on nodes that stand in this region.
    pub region: Option<String>,
    /// Only those in this network.
    pub network: Option<String>,
    /// Only those in this state.
    pub state: Option<VmState>,
}

impl VmFilter {
    fn path(&self) -> Path {
        let state = self.state.and_then(|state| serde_json::to_value(state).ok());
        let state = state.as_ref().and_then(|state| state.as_str());
        let path = Path::inventory("vms")
            .query_if("text", self.text.as_deref())
            .query_if("name", self.name.as_deref())
            .query_if("project", self.project.as_deref())
            .query_if("node", self.node.as_deref())
            .query_if("region", self.region.as_deref())
            .query_if("network", self.network.as_deref())
            .query_if("state", state);
        self.labels
            .iter()
            .fold(path, |path, (key, value)| path.query("label", format!("{key}={value}")))
    }
}

fn vm_path(vm: &str) -> Path {
    Path::inventory("vms").segment(vm)
}

fn annotation_path(vm: &str, key: &str) -> Path {
    vm_path(vm).verb("annotations").segment(key)
}

/// Machines, by name or id.
impl Client {
    /// One page of machines.
    ///
    /// # Errors
    /// [`Error`].
    pub fn vm_page(&self, filter: &VmFilter, page: &PageRequest) -> Result<Page<VmView>, Error> {
        self.page(filter.path(), page)
    }

    /// All machines that the filter lets through.
    ///
    /// # Errors
    /// [`Error`].
    pub fn vms(&self, filter: &VmFilter) -> Result<Vec<VmView>, Error> {
        self.all(&filter.path())
    }

    /// One machine.
    ///
    /// # Errors
    /// [`Error::Problem`] with code `not_found` if there is none.
    pub fn vm(&self, vm: &str) -> Result<VmView, Error> {
        self.read(vm_path(vm))
    }

    /// Creates a machine; the answer comes when it is accepted, before it runs.
    ///
    /// # Errors
    /// [`Error::Problem`]: `invalid_request` with the field, `name_taken`, `no_capacity`.
    pub fn vm_create(&self, create: &VmCreate) -> Result<VmView, Error> {
        let content = Content::json(create);
        self.exchange.json(&Request::write(Method::POST, Path::inventory("vms"), content))
    }

    /// Starts a machine; the answer comes when that is accepted.
    ///
    /// # Errors
    /// [`Error::Problem`]: `not_found`, `conflict`.
    pub fn vm_start(&self, vm: &str) -> Result<VmView, Error> {
        let path = vm_path(vm).verb("start");
        self.exchange.json(&Request::write(Method::POST, path, Content::None))
    }

    /// Stops a machine; the answer comes when that is accepted.
    ///
    /// # Errors
    /// [`Error::Problem`]: `not_found`, `conflict`.
    pub fn vm_stop(&self, vm: &str, stop: &VmStop) -> Result<VmView, Error> {
        let path = vm_path(vm).verb("stop");
        self.exchange.json(&Request::write(Method::POST, path, Content::json(stop)))
    }

    /// Destroys a machine and its disks; the answer comes when that is accepted.
    ///
    /// # Errors
    /// [`Error::Problem`]: `not_found`, `conflict`.
    pub fn vm_delete(&self, vm: &str) -> Result<VmView, Error> {
        self.exchange.json(&Request::write(Method::DELETE, vm_path(vm), Content::None))
    }

    /// Keeps a text beside a machine, in place of what was there under the same key.
    ///
    /// # Errors
    /// [`Error::Problem`]: `not_found`, `invalid_request` with the field, `no_capacity` if the machine or the fleet has too
    /// many, `conflict` if it is deleted.
    pub fn annotate(&self, vm: &str, key: &str, value: &str) -> Result<AnnotationView, Error> {
        let content = Content::json(&AnnotationWrite { value: value.to_owned() });
        self.exchange.json(&Request::write(Method::PUT, annotation_path(vm, key), content))
    }

    /// What is kept beside a machine under a key. [`Client::vm`] has all of them.
    ///
    /// # Errors
    /// [`Error::Problem`] with code `not_found` if there is no such machine or nothing under that key.
    pub fn annotation(&self, vm: &str, key: &str) -> Result<AnnotationView, Error> {
        self.exchange.json(&Request::get(annotation_path(vm, key)))
    }

    /// Removes what is kept beside a machine under a key.
    ///
    /// # Errors
    /// [`Error::Problem`]: `not_found` if nothing is there, `conflict` if the machine is deleted.
    pub fn annotation_delete(&self, vm: &str, key: &str) -> Result<(), Error> {
        let path = annotation_path(vm, key);
        self.exchange.done(&Request::write(Method::DELETE, path, Content::None))
    }

    /// Moves a machine; the answer comes when that is accepted. See [`Client::migration_wait`].
    ///
    /// # Errors
    /// [`Error::Problem`]: `not_found`, `conflict`, `no_capacity`.
    pub fn vm_migrate(&self, vm: &str, migrate: &VmMigrate) -> Result<MigrationView, Error> {
        let path = vm_path(vm).verb("migrate");
        self.exchange.json(&Request::write(Method::POST, path, Content::json(migrate)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_with_a_slash_stays_one_segment() {
        let path = annotation_path("web-01", "example.org/owner");
        assert_eq!(path.as_str(), "/api/v1/vms/web-01/annotations/example.org%2Fowner");
    }

    #[test]
    fn a_filter_becomes_a_query() {
        let filter = VmFilter {
            labels: [("app".to_owned(), "web".to_owned())].into(),
            project: Some("own".into()),
            node: Some("node-01".into()),
            region: Some("eu-1".into()),
            state: Some(VmState::Running),
            ..VmFilter::default()
        };
        let path = filter.path();
        assert_eq!(
            path.as_str(),
            "/api/v1/vms?project=own&node=node-01&region=eu-1&state=running&label=app%3Dweb"
        );
    }
}
