//! Snapshots of machines.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::Links;
use crate::ids::{Revision, SnapshotId, SnapshotName, VmId, VmName};
use crate::time::Timestamp;

/// A snapshot to take.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct SnapshotCreate {
    /// Name, unique among the machine's: lower-case letters, digits and `-`.
    pub name: String,
}

/// How a snapshot stands.
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, JsonSchema,
)]
#[serde(rename_all = "lowercase")]
pub enum SnapshotState {
    /// Its agent takes it.
    Creating,
    /// It can be restored.
    Ready,
    /// The machine's disks become what they were.
    Restoring,
    /// Its agent removes it.
    Deleting,
    /// It could not be taken, or was lost; it can only be deleted.
    Failed,
    /// It is gone: what a request is answered that is repeated after that.
    Deleted,
}

/// How all disks of a machine were at one moment.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct SnapshotView {
    /// Identity.
    pub id: SnapshotId,
    /// Name, unique among the machine's.
    pub name: SnapshotName,
    /// The machine.
    pub vm: VmId,
    /// Its name.
    pub vm_name: VmName,
    /// The snapshot that the machine stood on when this one was taken.
    pub parent: Option<SnapshotName>,
    /// Whether the machine stands on it: the one that was taken or restored last.
    pub is_current: bool,
    /// How it stands.
    pub state: SnapshotState,
    /// Why it failed, or what went wrong with it last.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub reason: String,
    /// When it was asked for.
    pub created_at: Timestamp,
    /// When it was ready.
    pub ready_at: Option<Timestamp>,
    /// When anything of it changed last.
    pub updated_at: Timestamp,
    /// The revision of that change.
    pub revision: Revision,
    /// Links.
    #[serde(rename = "_links")]
    pub links: Links,
}
