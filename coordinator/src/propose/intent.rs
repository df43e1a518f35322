//! What a client wants, before ids, time and placement are decided for it.

use novacron_protocol::ids::{MigrationId, NodeName, VmId};
use novacron_protocol::migration::{MigrationMode, MigrationOptions};
use novacron_protocol::vm::VmSpec;

/// A change that a client asks for. `auth` decides whether it may.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Intent {
    /// A new machine.
    CreateVm {
        /// What it is made of; [`VmSpec::check`]ed.
        spec: VmSpec,
        /// The node that shall run it; the planner picks one unless said.
        node: Option<NodeName>,
        /// Whether to start it once it is made.
        start: bool,
    },
    /// Start a machine.
    StartVm {
        /// The machine.
        vm: VmId,
    },
    /// Stop a machine.
    StopVm {
        /// The machine.
        vm: VmId,
        /// At once, rather than by asking the guest.
        force: bool,
    },
    /// Remove a machine.
    DestroyVm {
        /// The machine.
        vm: VmId,
    },
    /// Move a machine.
    MigrateVm {
        /// The machine.
        vm: VmId,
        /// Where to.
        target: NodeName,
        /// How.
        mode: MigrationMode,
        /// What the client asks for beyond that.
        options: MigrationOptions,
    },
    /// Give up a migration.
    CancelMigration {
        /// The migration.
        migration: MigrationId,
    },
}
