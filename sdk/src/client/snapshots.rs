//! Snapshots of machines.

use http::Method;
use novacron_protocol::api::{SnapshotCreate, SnapshotView};

use super::Client;
use crate::error::Error;
use crate::exchange::{Content, Request};
use crate::query::Path;

fn snapshots_path(vm: &str) -> Path {
    Path::new("vms").segment(vm).verb("snapshots")
}

/// Snapshots of a machine, by their names.
impl Client {
    /// All snapshots of a machine, in the order in which they were taken.
    ///
    /// # Errors
    /// [`Error::Problem`] with code `not_found` if there is no such machine.
    pub fn snapshots(&self, vm: &str) -> Result<Vec<SnapshotView>, Error> {
        self.all(&snapshots_path(vm))
    }

    /// One snapshot.
    ///
    /// # Errors
    /// [`Error::Problem`] with code `not_found` if there is none.
    pub fn snapshot(&self, vm: &str, name: &str) -> Result<SnapshotView, Error> {
        self.exchange.json(&Request::get(snapshots_path(vm).segment(name)))
    }

    /// Takes a snapshot of all disks of a machine, running or stopped; the answer comes when that is accepted. See
    /// [`Client::snapshot_wait`].
    ///
    /// # Errors
    /// [`Error::Problem`]: `not_found`, `name_taken`, `conflict`, `quota_exceeded`, `no_capacity`, `invalid_request`.
    pub fn snapshot_create(&self, vm: &str, name: &str) -> Result<SnapshotView, Error> {
        let content = Content::json(&SnapshotCreate { name: name.to_owned() });
        self.exchange.json(&Request::write(Method::POST, snapshots_path(vm), content))
    }

    /// Makes all disks of a stopped machine what they were.
    ///
    /// # Errors
    /// [`Error::Problem`]: `not_found`, `conflict` if it is not stopped.
    pub fn snapshot_restore(&self, vm: &str, name: &str) -> Result<SnapshotView, Error> {
        let path = snapshots_path(vm).segment(name).verb("restore");
        self.exchange.json(&Request::write(Method::POST, path, Content::None))
    }

    /// Deletes a snapshot that no other was made on.
    ///
    /// # Errors
    /// [`Error::Problem`]: `not_found`, `snapshot_needed`, `conflict`.
    pub fn snapshot_delete(&self, vm: &str, name: &str) -> Result<SnapshotView, Error> {
        let path = snapshots_path(vm).segment(name);
        self.exchange.json(&Request::write(Method::DELETE, path, Content::None))
    }
}
