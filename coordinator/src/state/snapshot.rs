//! Snapshots of machines: how all disks were at one moment. They lie in the disks themselves, at the machine's node.
//!
//! ```text
//!   creating ──taken──► ready ◄──► restoring         ready, failed ──► deleting ──► gone
//!      │ failed           │ lost                         ▲                │ failed
//!      └──────► failed ◄──┘                              └────────────────┘
//! ```
//!
//! A machine stands on the snapshot that was taken or restored last; that is the parent of the next one. Something is
//! done with one snapshot of a machine at a time.

use novacron_protocol::api::{EventKind, SnapshotState};
use novacron_protocol::effect::{Action, EffectOutcome};
use novacron_protocol::ids::{EffectId, RequestId, Revision, SnapshotId, SnapshotName, VmId};
use novacron_protocol::limits::SNAPSHOTS_PER_VM_MAX;
use novacron_protocol::project::ProjectUsage;
use novacron_protocol::time::Timestamp;
use novacron_protocol::vm::DiskFormat;
use novacron_protocol::wire::codec::Message;
use serde::{Deserialize, Serialize};
use serde_json::json;

use super::audit::Subject;
use super::change::Change;
use super::event::About;
use super::fleet::{Applying, Fleet};
use super::outbox::OutboxRow;
use super::reply::{Accepted, Named, Refusal, Reply};
use super::table::ROW_BYTES_MAX;
use super::vm::{Move, Rest, Vm, problem};

/// Snapshots of one fleet: about 300 bytes each, so 30 MB.
pub const SNAPSHOTS_MAX: usize = 100_000;

/// A snapshot as the fleet keeps it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Snapshot {
    /// Identity.
    pub id: SnapshotId,
    /// The machine.
    pub vm: VmId,
    /// Name, unique among the machine's.
    pub name: SnapshotName,
    /// The one that the machine stood on.
    pub parent: Option<SnapshotId>,
    /// Whether the machine stands on it.
    pub is_current: bool,
    /// How it stands.
    pub step: SnapshotStep,
    /// Why it failed, or what went wrong with it last.
    pub reason: String,
    /// The client request that changed it last.
    pub request: RequestId,
    /// When it was asked for.
    pub created_at: Timestamp,
    /// When it was ready.
    pub ready_at: Option<Timestamp>,
    /// When anything of it changed last.
    pub updated_at: Timestamp,
    /// The revision of that change.
    pub revision: Revision,
}

/// How a snapshot stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum SnapshotStep {
    /// Its node takes it.
    Creating(EffectId),
    /// It can be restored.
    Ready,
    /// Its node makes the disks what they were.
    Restoring(EffectId),
    /// Its node removes it.
    Deleting(EffectId),
    /// It is of no use.
    Failed,
}

impl Message for Snapshot {
    const VERSION: u16 = 1;
    const BYTES_MAX: usize = ROW_BYTES_MAX;
    const NAME: &'static str = "snapshot row";
}

/// What to do with a snapshot.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SnapshotOrder {
    /// The machine.
    pub vm: VmId,
    /// Which of its snapshots.
    pub name: SnapshotName,
    /// What.
    pub deed: SnapshotDeed,
}

/// What can be done with snapshots.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum SnapshotDeed {
    /// Take it, under this new id.
    Create(SnapshotId),
    /// Make the disks of the machine, which is stopped, what they were.
    Restore,
    /// Remove it.
    Delete,
}

impl SnapshotDeed {
    /// What the audit log calls it.
    pub fn action(self) -> &'static str {
        match self {
            Self::Create(_) => "snapshot.create",
            Self::Restore => "snapshot.restore",
            Self::Delete => "snapshot.delete",
        }
    }

    /// What a client asked for, without what was chosen for it.
    pub(super) fn number(self) -> u8 {
        match self {
            Self::Create(_) => 0,
            Self::Restore => 1,
            Self::Delete => 2,
        }
    }
}

impl Snapshot {
    /// The state as the world sees it.
    pub fn state(&self) -> SnapshotState {
        match self.step {
            SnapshotStep::Creating(_) => SnapshotState::Creating,
            SnapshotStep::Ready => SnapshotState::Ready,
            SnapshotStep::Restoring(_) => SnapshotState::Restoring,
            SnapshotStep::Deleting(_) => SnapshotState::Deleting,
            SnapshotStep::Failed => SnapshotState::Failed,
        }
    }

    /// What its node is to do.
    fn effect(&self) -> Option<EffectId> {
        match self.step {
            SnapshotStep::Creating(effect)
            | SnapshotStep::Restoring(effect)
            | SnapshotStep::Deleting(effect) => Some(effect),
            SnapshotStep::Ready | SnapshotStep::Failed => None,
        }
    }

    /// Where it stands when nothing is done with it.
    fn rest(&self) -> SnapshotStep {
        if self.ready_at.is_some() { SnapshotStep::Ready } else { SnapshotStep::Failed }
    }
}

impl Fleet {
    /// The snapshots of a machine, in the order in which they were taken.
    pub fn snapshots_of(&self, vm: VmId) -> impl Iterator<Item = &Snapshot> {
        self.index.snapshots_of(vm).filter_map(|id| self.snapshots.get(&id))
    }

    /// The snapshot of a machine that has a name.
    pub fn snapshot_named(&self, vm: VmId, name: &SnapshotName) -> Option<&Snapshot> {
        self.snapshots_of(vm).find(|snapshot| snapshot.name == *name)
    }

    /// A snapshot.
    pub fn snapshot(&self, snapshot: SnapshotId) -> Option<&Snapshot> {
        self.snapshots.get(&snapshot)
    }

    pub(super) fn order_snapshot(
        &mut self,
        now: &mut Applying,
        request: RequestId,
        order: &SnapshotOrder,
    ) -> Reply {
        match order.deed {
            SnapshotDeed::Create(id) => self.create_snapshot(now, request, order, id),
            SnapshotDeed::Restore => self.restore_snapshot(now, request, order),
            SnapshotDeed::Delete => self.delete_snapshot(now, request, order),
        }
    }

    fn create_snapshot(
        &mut self,
        now: &mut Applying,
        request: RequestId,
        order: &SnapshotOrder,
        id: SnapshotId,
    ) -> Reply {
        let vm = self.check_snapshot(order.vm, Move::Snapshot)?;
        self.check_new_snapshot(&vm, &order.name, id)?;
        let effect =
            self.issue_snapshot(now, request, &vm, Action::TakeSnapshot { snapshot: id })?;
        let parent = self.snapshots_of(vm.id).find(|snapshot| snapshot.is_current);
        let snapshot = Snapshot {
            id,
            vm: vm.id,
            name: order.name.clone(),
            parent: parent.map(|parent| parent.id),
            is_current: false,
            step: SnapshotStep::Creating(effect),
            reason: String::new(),
            request,
            created_at: now.at,
            ready_at: None,
            updated_at: now.at,
            revision: now.revision,
        };
        self.index.add_snapshot(&vm.spec.project, &snapshot);
        self.snapshots.insert(id, snapshot);
        self.emit_snapshot(now, &vm, &order.name, None, "is being taken");
        Ok(Accepted::Snapshot(id))
    }

    fn check_new_snapshot(
        &self,
        vm: &Vm,
        name: &SnapshotName,
        id: SnapshotId,
    ) -> Result<(), Refusal> {
        if self.snapshot_named(vm.id, name).is_some() {
            return Err(Refusal::Taken { what: Named::Snapshot, name: name.to_string() });
        }
        if self.snapshots.get(&id).is_some() {
            return Err(Refusal::Conflict(format!("snapshot {id} exists already")));
        }
        if self.snapshots_of(vm.id).count() >= SNAPSHOTS_PER_VM_MAX {
            let text =
                format!("a machine has at most {SNAPSHOTS_PER_VM_MAX} snapshots; delete one");
            return Err(Refusal::Full(text));
        }
        if self.snapshots.len() >= SNAPSHOTS_MAX {
            return Err(Refusal::Full(format!("{SNAPSHOTS_MAX} snapshots")));
        }
        let is_raw = vm.spec.disks.iter().any(|disk| disk.format == DiskFormat::Raw);
        if is_raw || vm.spec.disks.is_empty() {
            return Err(Refusal::Conflict(format!(
                "machine `{}` has a raw disk, or none: snapshots are kept in qcow2 disks only",
                vm.spec.name
            )));
        }
        self.check_quota(&vm.spec.project, &ProjectUsage::of_snapshot())
    }

    fn restore_snapshot(
        &mut self,
        now: &mut Applying,
        request: RequestId,
        order: &SnapshotOrder,
    ) -> Reply {
        let snapshot = self.known_snapshot(order)?.clone();
        let vm = self.check_snapshot(order.vm, Move::Restore)?;
        self.check_active(&vm.spec.project)?;
        if snapshot.step != SnapshotStep::Ready {
            let text = format!("snapshot `{}` failed: there is nothing to restore", order.name);
            return Err(Refusal::Conflict(text));
        }
        let action = Action::RestoreSnapshot { snapshot: snapshot.id };
        let effect = self.issue_snapshot(now, request, &vm, action)?;
        Ok(self.begin_step(now, &vm, &snapshot, SnapshotStep::Restoring(effect)))
    }

    fn delete_snapshot(
        &mut self,
        now: &mut Applying,
        request: RequestId,
        order: &SnapshotOrder,
    ) -> Reply {
        let snapshot = self.known_snapshot(order)?.clone();
        // Asked for twice, as with machines.
        if matches!(snapshot.step, SnapshotStep::Deleting(_)) {
            return Ok(Accepted::Snapshot(snapshot.id));
        }
        let is_child = |other: &&Snapshot| other.parent == Some(snapshot.id);
        let child = self.snapshots_of(order.vm).find(is_child).map(|child| child.name.clone());
        if let Some(child) = child {
            return Err(Refusal::SnapshotNeeded { name: order.name.clone(), child });
        }
        let vm = self.check_snapshot(order.vm, Move::DeleteSnapshot)?;
        let action = Action::DeleteSnapshot { snapshot: snapshot.id };
        let effect = self.issue_snapshot(now, request, &vm, action)?;
        Ok(self.begin_step(now, &vm, &snapshot, SnapshotStep::Deleting(effect)))
    }

    fn begin_step(
        &mut self,
        now: &mut Applying,
        vm: &Vm,
        snapshot: &Snapshot,
        step: SnapshotStep,
    ) -> Accepted {
        self.set_snapshot(now, snapshot.id, step, String::new());
        let what = format!("is {}", busy_word(step));
        self.emit_snapshot(now, vm, &snapshot.name, Some(snapshot.state()), &what);
        Accepted::Snapshot(snapshot.id)
    }

    fn known_snapshot(&self, order: &SnapshotOrder) -> Result<&Snapshot, Refusal> {
        self.vms.get(&order.vm).ok_or(Refusal::NoSuchVm(order.vm))?;
        let none = || Refusal::NoSuchSnapshot { vm: order.vm, name: order.name.clone() };
        self.snapshot_named(order.vm, &order.name).ok_or_else(none)
    }

    /// Whether something may be done with a snapshot of a machine now.
    fn check_snapshot(&self, vm: VmId, asked: Move) -> Result<Vm, Refusal> {
        let vm = self.movable(vm, asked)?;
        let busy = self.snapshots_of(vm.id).find(|snapshot| snapshot.effect().is_some());
        match busy {
            Some(busy) => Err(Refusal::Conflict(format!(
                "snapshot `{}` of machine `{}` is {}: wait until that is done",
                busy.name,
                vm.spec.name,
                busy_word(busy.step)
            ))),
            None if vm.task.is_some() => Err(Refusal::Conflict(format!(
                "machine `{}` is busy; try again later",
                vm.spec.name
            ))),
            None => Ok(vm),
        }
    }

    fn issue_snapshot(
        &mut self,
        now: &Applying,
        request: RequestId,
        vm: &Vm,
        action: Action,
    ) -> Result<EffectId, Refusal> {
        let Some(node) = vm.node.clone() else {
            return Err(Refusal::Conflict(format!("machine `{}` is on no node", vm.spec.name)));
        };
        let mut order = vm.order(node);
        order.request = request;
        Ok(self.issue(now, order, action))
    }

    /// Whether the disks of a machine are becoming what they were.
    pub(super) fn is_restoring(&self, vm: VmId) -> bool {
        self.snapshots_of(vm).any(|one| matches!(one.step, SnapshotStep::Restoring(_)))
    }

    /// Refuses to move a machine whose snapshots would stay behind.
    pub(super) fn check_no_snapshots(&self, vm: &Vm) -> Result<(), Refusal> {
        match self.snapshots_of(vm.id).count() {
            0 => Ok(()),
            count => Err(Refusal::HasSnapshots { name: vm.spec.name.clone(), count }),
        }
    }

    /// Its node said what became of it.
    pub(super) fn settle_snapshot(
        &mut self,
        now: &mut Applying,
        row: &OutboxRow,
        id: SnapshotId,
        outcome: &EffectOutcome,
    ) {
        let Some(snapshot) = self.snapshots.get(&id).cloned() else { return };
        let Some(vm) = self.vms.get(&snapshot.vm).cloned() else { return };
        if snapshot.effect() != Some(row.effect.id) {
            return;
        }
        let (name, before) = (&snapshot.name, Some(snapshot.state()));
        let is_gone = *outcome == EffectOutcome::Stale { held: None };
        match (snapshot.step, problem(&row.node, outcome)) {
            (SnapshotStep::Deleting(_), None) => self.drop_snapshot(now, &vm, &snapshot),
            (SnapshotStep::Deleting(_), Some(_)) if is_gone => {
                self.drop_snapshot(now, &vm, &snapshot);
            }
            (SnapshotStep::Creating(_) | SnapshotStep::Restoring(_), None) => {
                let word = if snapshot.ready_at.is_some() { "is restored" } else { "is ready" };
                self.set_snapshot(now, id, SnapshotStep::Ready, String::new());
                self.stand_on(snapshot.vm, Some(id));
                self.emit_snapshot(now, &vm, name, before, word);
            }
            (step, Some(problem)) => {
                let message = format!("failed: {problem}");
                // Some disks may have lost it: it can be deleted again, and not restored.
                let is_whole = !matches!(step, SnapshotStep::Deleting(_));
                let rest = if is_whole { snapshot.rest() } else { SnapshotStep::Failed };
                self.set_snapshot(now, id, rest, problem);
                self.emit_snapshot(now, &vm, name, before, &message);
            }
            (SnapshotStep::Ready | SnapshotStep::Failed, None) => {}
        }
    }

    fn set_snapshot(&mut self, now: &Applying, id: SnapshotId, step: SnapshotStep, reason: String) {
        self.snapshots.update(&id, |snapshot| {
            snapshot.step = step;
            snapshot.reason = reason;
            if step == SnapshotStep::Ready && snapshot.ready_at.is_none() {
                snapshot.ready_at = Some(now.at);
            }
            snapshot.updated_at = now.at;
            snapshot.revision = now.revision;
        });
    }

    /// The one that the machine stands on from now on.
    fn stand_on(&mut self, vm: VmId, current: Option<SnapshotId>) {
        let all: Vec<SnapshotId> = self.index.snapshots_of(vm).collect();
        for id in all {
            self.snapshots.update(&id, |snapshot| snapshot.is_current = current == Some(id));
        }
    }

    fn drop_snapshot(&mut self, now: &mut Applying, vm: &Vm, snapshot: &Snapshot) {
        self.remove_snapshot(vm, snapshot.id);
        if snapshot.is_current {
            self.stand_on(vm.id, snapshot.parent);
        }
        self.emit_snapshot(now, vm, &snapshot.name, Some(snapshot.state()), "is deleted");
    }

    fn remove_snapshot(&mut self, vm: &Vm, id: SnapshotId) {
        if let Some(snapshot) = self.snapshots.remove(&id) {
            self.index.remove_snapshot(&vm.spec.project, &snapshot);
        }
    }

    /// The machine is deleted, and its snapshots were in its disks.
    pub(super) fn forget_snapshots(&mut self, vm: VmId) {
        let Some(machine) = self.vms.get(&vm).cloned() else { return };
        for id in self.take_snapshot_effects(vm) {
            self.remove_snapshot(&machine, id);
        }
    }

    /// The machine is where its snapshots are not, or its disks are gone.
    pub(super) fn lose_snapshots(&mut self, now: &mut Applying, vm: VmId, reason: &str) {
        let machine = self.vms.get(&vm).cloned();
        for id in self.take_snapshot_effects(vm) {
            let before =
                self.snapshots.get(&id).map(|snapshot| (snapshot.name.clone(), snapshot.state()));
            self.set_snapshot(now, id, SnapshotStep::Failed, reason.to_owned());
            self.snapshots.update(&id, |snapshot| snapshot.ready_at = None);
            if let (Some(machine), Some((name, state))) = (&machine, before) {
                self.emit_snapshot(now, machine, &name, Some(state), &format!("is lost: {reason}"));
            }
        }
        self.stand_on(vm, None);
    }

    /// Takes back what is still to be done with the snapshots of a machine; answers which there are.
    fn take_snapshot_effects(&mut self, vm: VmId) -> Vec<SnapshotId> {
        let all: Vec<(SnapshotId, Option<EffectId>)> =
            self.snapshots_of(vm).map(|snapshot| (snapshot.id, snapshot.effect())).collect();
        for effect in all.iter().filter_map(|(_, effect)| *effect) {
            self.take_row(effect);
        }
        all.into_iter().map(|(id, _)| id).collect()
    }

    fn emit_snapshot(
        &mut self,
        now: &mut Applying,
        vm: &Vm,
        name: &SnapshotName,
        before: Option<SnapshotState>,
        what: &str,
    ) {
        let after = self.snapshot_named(vm.id, name).map(Snapshot::state);
        let shown = |state: SnapshotState| json!({ "state": state });
        let (before, after) = (before.map(shown), after.map(shown));
        let about = About::of(Subject::Snapshot(vm.id, name.clone()));
        let about = About { node: vm.node.clone(), ..about };
        let about = about.with(Change::between(before.as_ref(), after.as_ref()));
        let message = format!("snapshot {name} of machine {} {what}", vm.spec.name);
        self.emit(now, EventKind::SnapshotChanged, about, message);
    }

    pub(super) fn check_snapshots(&self) -> Result<(), String> {
        for snapshot in self.snapshots.values() {
            self.check_snapshot_row(snapshot).map_err(|what| {
                format!("snapshot {} of machine {}: {what}", snapshot.name, snapshot.vm)
            })?;
        }
        Ok(())
    }

    fn check_snapshot_row(&self, snapshot: &Snapshot) -> Result<(), &'static str> {
        let vm = self.vms.get(&snapshot.vm).filter(|vm| vm.rest != Rest::Deleted);
        let vm = vm.ok_or("its machine is not there")?;
        let all = || self.snapshots_of(snapshot.vm);
        let is_parent = |parent| all().any(|other| other.id == parent);
        let is_ordered = |effect| {
            let row = self.outbox.get(&effect);
            row.is_some_and(|row| row.effect.vm == vm.id && Some(&row.node) == vm.node.as_ref())
        };
        let truths = [
            (snapshot.parent.is_none_or(is_parent), "its parent is not there"),
            (all().filter(|other| other.name == snapshot.name).count() == 1, "two have the name"),
            (all().filter(|other| other.is_current).count() <= 1, "the machine stands on two"),
            (all().count() <= SNAPSHOTS_PER_VM_MAX, "one too many"),
            (all().filter(|other| other.effect().is_some()).count() <= 1, "two at a time"),
            (snapshot.effect().is_none_or(is_ordered), "nobody is told what to do with it"),
            (!snapshot.is_current || snapshot.ready_at.is_some(), "current and never taken"),
            (vm.migration().is_none(), "its machine is to move"),
        ];
        truths.into_iter().try_for_each(|(holds, what)| holds.then_some(()).ok_or(what))
    }
}

fn busy_word(step: SnapshotStep) -> &'static str {
    match step {
        SnapshotStep::Creating(_) => "being taken",
        SnapshotStep::Restoring(_) => "being restored",
        SnapshotStep::Deleting(_) => "being deleted",
        SnapshotStep::Ready | SnapshotStep::Failed => "at rest",
    }
}
