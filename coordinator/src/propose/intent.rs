//! What a client wants, before ids, time and placement are decided for it.

use novacron_protocol::access::{BindingEffect, Scope};
use novacron_protocol::alert::AlertKey;
use novacron_protocol::api::{SettingsChange, Severity};
use novacron_protocol::ids::{
    AlertId, BatchId, MigrationId, NetworkName, NodeName, PlanName, ProjectName, SnapshotName, VmId,
};
use novacron_protocol::migration::{MigrationMode, MigrationOptions};
use novacron_protocol::usage::UsageRecord;
use novacron_protocol::vm::VmSpec;
use novacron_transport::SubjectName;

use crate::state::binding::Right;
use crate::state::command::BatchOrder;
use crate::state::ledger::correct::Original;
use crate::state::ledger::entry::EntryId;
use crate::state::ledger::hour::Hour;
use crate::state::ledger::rate::RateCard;
use crate::state::network::NetworkOrder;
use crate::state::principal::AccessOrder;
use crate::state::project::ProjectOrder;
use crate::state::region::RegionOrder;

/// A change that a client asks for. `auth` decides whether it may.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Intent {
    /// A new machine.
    CreateVm {
        /// What it is made of; [`VmSpec::check`]ed.
        spec: VmSpec,
        /// The network of the fleet that it shall be in, if one is named.
        network: Option<NetworkName>,
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
    /// Move many machines.
    MigrateBatch {
        /// From where, where to and how.
        order: BatchOrder,
        /// The machines, in the order in which they shall move; at most [`BATCH_ITEMS_MAX`] and one more, which is
        /// refused.
        ///
        /// [`BATCH_ITEMS_MAX`]: novacron_protocol::limits::BATCH_ITEMS_MAX
        vms: Vec<VmId>,
    },
    /// Give up what of a batch has not moved.
    CancelBatch {
        /// The batch.
        batch: BatchId,
    },
    /// Have a node take no machines, and move away those that it has.
    DrainNode {
        /// The node.
        node: NodeName,
        /// What the client asks for of each migration.
        options: MigrationOptions,
    },
    /// Have a node take machines again.
    UndrainNode {
        /// The node.
        node: NodeName,
        /// Whether to give up what is under way because of the draining.
        cancel: bool,
    },
    /// Keep a text beside a machine.
    Annotate {
        /// The machine.
        vm: VmId,
        /// Under which key.
        key: String,
        /// The text; `None` removes what is there.
        value: Option<String>,
    },
    /// Take the whole state, with all keys.
    TakeBackup,
    /// Change what holds for the whole fleet.
    ChangeSettings(SettingsChange),
    /// Do something with projects.
    Projects(ProjectOrder),
    /// Take a snapshot of a machine.
    CreateSnapshot {
        /// The machine.
        vm: VmId,
        /// What it shall be called.
        name: SnapshotName,
    },
    /// Make the disks of a machine what they were.
    RestoreSnapshot {
        /// The machine.
        vm: VmId,
        /// Which of its snapshots.
        name: SnapshotName,
    },
    /// Delete a snapshot.
    DeleteSnapshot {
        /// The machine.
        vm: VmId,
        /// Which of its snapshots.
        name: SnapshotName,
    },
    /// Do something with regions.
    Regions(RegionOrder),
    /// Say that something is wrong.
    RaiseAlert {
        /// What it is known by.
        key: AlertKey,
        /// How bad it is.
        severity: Severity,
        /// What is wrong, in one line.
        summary: String,
    },
    /// Say that somebody looks at an alert, or no more.
    AcknowledgeAlert {
        /// Which.
        alert: AlertId,
        /// What to write beside it; `None`: nobody looks any more.
        note: Option<String>,
    },
    /// Say that what an alert says is over.
    ResolveAlert {
        /// Which.
        alert: AlertId,
        /// What to write beside it.
        note: String,
    },
    /// Do something with networks.
    Networks(NetworkOrder),
    /// Change who may do what, bindings apart.
    Access(AccessOrder),
    /// Say what a principal may, or may not, do.
    Bind {
        /// Whose.
        principal: SubjectName,
        /// What it is about.
        right: Right,
        /// Where it holds.
        scope: Scope,
        /// Whether it gives or takes away.
        effect: BindingEffect,
    },
    /// Post what a node measured.
    PostUsage {
        /// The node.
        node: NodeName,
        /// What it measured.
        records: Vec<UsageRecord>,
    },
    /// Correct an entry of the ledger.
    CorrectUsage {
        /// The entry.
        entry: EntryId,
        /// What would have been right.
        quantity: u128,
        /// Why.
        reason: String,
        /// The entry as it is in the archive, if its window is sealed.
        original: Option<Original>,
    },
    /// Set what a plan costs.
    SetRate(RateCard),
    /// Give a project a plan.
    SetPlan {
        /// The project.
        project: ProjectName,
        /// The plan.
        plan: PlanName,
        /// From when; the present hour unless said.
        from: Option<Hour>,
    },
}
