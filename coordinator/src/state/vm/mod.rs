//! Machines.
//!
//! A machine's state is what its agent last saw of it (`rest`), covered by what the fleet waits for (`task`):
//!
//! ```text
//!                    place                Create done            Start done
//!   (create) ─► pending ─► creating ─────────────► stopped ─► starting ─────────► running ◄─► paused
//!                    │         │ failed               ▲  ▲        │ failed          │  │
//!                    │         ▼                      │  └──────┐ ▼                 │  └─► migrating ─► running
//!                    │       failed ◄─────────────────┼───── failed ◄───(process    │
//!                    │         │                      └── stopping ◄── gone) ───────┘
//!                    ▼         ▼ Destroy done
//!                   deleted ◄──┘        unknown covers all of them while the node is down
//! ```
//!
//! | module | holds |
//! |---|---|
//! | [`moves`] | what can be asked, and in which states |
//! | [`intents`] | what clients and the planner ask |
//! | [`outcomes`] | what became of the effects that a machine waits for |
//! | [`inventory`] | what agents see |

mod intents;
mod inventory;
mod moves;
mod outcomes;

use novacron_protocol::api::EventKind;
use novacron_protocol::ids::{
    EffectId, Generation, MigrationId, NodeName, ProjectName, RequestId, Revision, VmId,
};
use novacron_protocol::limits::{REASON_BYTES_MAX, cut};
use novacron_protocol::time::Timestamp;
use novacron_protocol::vm::{Labels, VmSpec, VmState};
use novacron_protocol::wire::codec::Message;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

pub(super) use inventory::observed_rest;
pub use moves::Move;
pub(super) use outcomes::problem;

use super::change::Change;
use super::event::About;
use super::fleet::{Applying, Fleet};
use super::outbox::Order;
use super::table::ROW_BYTES_MAX;

/// Machines of one fleet, deleted ones apart.
pub const VMS_MAX: usize = 100_000;

/// Deleted machines that are kept for the record.
pub const VMS_DELETED_MAX: usize = 1_000;

/// A machine as the fleet keeps it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Vm {
    /// Identity.
    pub id: VmId,
    /// What it is made of.
    pub spec: VmSpec,
    /// The node that holds it; none while it is pending.
    pub node: Option<NodeName>,
    /// The generation of the right to run it.
    pub generation: Generation,
    /// The highest generation that was ever promised to a node. A migration gets a higher one, also after
    /// one that failed, so that no two nodes are ever given the same.
    pub generation_promised: Generation,
    /// How its agent last saw it.
    pub rest: Rest,
    /// What the fleet waits for.
    pub task: Option<Task>,
    /// Whether its node is down.
    pub is_out_of_sight: bool,
    /// Whether to start it once it is made.
    pub starts_when_made: bool,
    /// Why it is in its state, where that is not obvious.
    pub reason: String,
    /// The last client request about it.
    pub request: RequestId,
    /// When it was accepted.
    pub created_at: Timestamp,
    /// When anything of it changed last.
    pub updated_at: Timestamp,
    /// The revision of that change.
    pub revision: Revision,
}

/// How a machine stands when nobody does anything with it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum Rest {
    /// There are no disks, or not all of them.
    NotMade,
    /// There is no process.
    Stopped,
    /// The guest runs.
    Running,
    /// The guest's processors stand still.
    Paused,
    /// The process ended without being asked, could not be started, or the machine is lost.
    Failed,
    /// It is gone.
    Deleted,
}

/// What the fleet waits for.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum Task {
    /// Its node makes it.
    Create(EffectId),
    /// Its node starts it.
    Start(EffectId),
    /// Its node stops it.
    Stop(EffectId),
    /// Its node removes it.
    Destroy(EffectId),
    /// It is to move, or moves.
    Migrate {
        /// The migration.
        migration: MigrationId,
        /// Where it goes; what it takes is taken there, too.
        target: NodeName,
        /// Whether a live migration has begun.
        is_moving: bool,
    },
}

impl Message for Vm {
    const VERSION: u16 = 2;
    const BYTES_MAX: usize = ROW_BYTES_MAX;
    const NAME: &'static str = "machine row";
}

impl Vm {
    /// Whether it has all of these labels.
    pub fn has_labels(&self, labels: &Labels) -> bool {
        labels.iter().all(|(key, value)| self.spec.labels.get(key) == Some(value))
    }

    /// The project that it belongs to.
    pub fn project(&self) -> &ProjectName {
        &self.spec.project
    }

    /// The state as the world sees it.
    pub fn state(&self) -> VmState {
        if self.rest == Rest::Deleted {
            return VmState::Deleted;
        }
        if self.node.is_none() {
            return VmState::Pending;
        }
        if self.is_out_of_sight {
            return VmState::Unknown;
        }
        match &self.task {
            Some(Task::Create(_)) => VmState::Creating,
            Some(Task::Start(_)) => VmState::Starting,
            Some(Task::Stop(_) | Task::Destroy(_)) => VmState::Stopping,
            Some(Task::Migrate { is_moving: true, .. }) => VmState::Migrating,
            Some(Task::Migrate { is_moving: false, .. }) | None => self.rest.state(),
        }
    }

    /// The migration under way.
    pub fn migration(&self) -> Option<MigrationId> {
        match &self.task {
            Some(Task::Migrate { migration, .. }) => Some(*migration),
            _ => None,
        }
    }

    /// Where the migration under way goes.
    pub fn migration_target(&self) -> Option<&NodeName> {
        match &self.task {
            Some(Task::Migrate { target, .. }) => Some(target),
            _ => None,
        }
    }

    pub(in crate::state) fn task_effect(&self) -> Option<EffectId> {
        match self.task {
            Some(
                Task::Create(effect)
                | Task::Start(effect)
                | Task::Stop(effect)
                | Task::Destroy(effect),
            ) => Some(effect),
            _ => None,
        }
    }

    pub(in crate::state) fn order(&self, node: NodeName) -> Order {
        Order { node, vm: self.id, generation: self.generation, request: self.request }
    }
}

impl Rest {
    fn state(self) -> VmState {
        match self {
            Self::NotMade | Self::Failed => VmState::Failed,
            Self::Stopped => VmState::Stopped,
            Self::Running => VmState::Running,
            Self::Paused => VmState::Paused,
            Self::Deleted => VmState::Deleted,
        }
    }
}

impl Fleet {
    /// Changes a machine, keeps the indexes, and tells the world if its state changed.
    pub(in crate::state) fn change_vm(
        &mut self,
        now: &mut Applying,
        vm: VmId,
        change: impl FnOnce(&mut Vm),
    ) {
        let Some(before) = self.vms.get(&vm) else { return };
        let mut after = before.clone();
        change(&mut after);
        if after == *before {
            return;
        }
        after.updated_at = now.at;
        after.revision = now.revision;
        self.index.remove_vm(before);
        self.index.add_vm(&after);
        let has_moved = before.state() != after.state() || before.node != after.node;
        if before.node != after.node || after.rest == Rest::Deleted {
            self.residency_violations.remove(&vm);
        }
        let news = has_moved.then(|| {
            let about = About::vm(vm, after.node.as_ref());
            let change = Change::between(Some(&shown(before)), Some(&shown(&after)));
            (vm_event(&after), about.with(change), vm_message(&after))
        });
        self.vms.insert(vm, after);
        if let Some((kind, about, message)) = news {
            self.emit(now, kind, about, message);
        }
    }
}

/// A reason, cut to what a row may hold.
pub(in crate::state) fn bounded(reason: &str) -> String {
    cut(reason, REASON_BYTES_MAX).to_owned()
}

/// What an event says of a machine as it was or is.
fn shown(vm: &Vm) -> Value {
    json!({ "state": vm.state(), "node": vm.node })
}

fn vm_event(vm: &Vm) -> EventKind {
    if vm.rest == Rest::Deleted { EventKind::VmDeleted } else { EventKind::VmState }
}

fn vm_message(vm: &Vm) -> String {
    let place = vm.node.as_ref().map(|node| format!(" on {node}")).unwrap_or_default();
    let reason = if vm.reason.is_empty() { String::new() } else { format!(": {}", vm.reason) };
    format!("machine {} {}{place}{reason}", vm.spec.name, in_words(vm.state()))
}

fn in_words(state: VmState) -> &'static str {
    match state {
        VmState::Pending => "waits for a node",
        VmState::Creating => "is being created",
        VmState::Stopped => "is stopped",
        VmState::Starting => "is starting",
        VmState::Running => "runs",
        VmState::Paused => "is paused",
        VmState::Migrating => "begins to move, still",
        VmState::Stopping => "is stopping",
        VmState::Failed => "has failed",
        VmState::Unknown => "is out of sight",
        VmState::Deleted => "is deleted, it was",
    }
}
