//! What can be found quickly: derived from the tables, never stored, rebuilt when the fleet is loaded.

use std::collections::{BTreeMap, BTreeSet};

use novacron_protocol::ids::{
    BindingId, EffectId, MigrationId, NodeName, ProjectName, RequestId, Revision, SnapshotId, VmId,
    VmName,
};
use novacron_protocol::project::ProjectUsage;
use novacron_protocol::time::Timestamp;
use novacron_transport::SubjectName;
use uuid::Uuid;

use super::alert::index::AlertIndex;
use super::binding::Binding;
use super::fleet::Fleet;
use super::ledger::coverage::OpenCoverage;
use super::migration::Migration;
use super::network::attachment::Attached;
use super::snapshot::Snapshot;
use super::vm::{Rest, Vm};

/// Indexes over the tables.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Index {
    /// Names of machines that are not deleted.
    pub(super) names: BTreeMap<VmName, VmId>,
    placed: BTreeMap<NodeName, BTreeSet<VmId>>,
    expected: BTreeMap<NodeName, BTreeSet<VmId>>,
    /// Machines without a node.
    pub(super) pending: BTreeSet<VmId>,
    /// Deleted machines, oldest first.
    pub(super) deleted: BTreeSet<(Revision, VmId)>,
    /// Migrations that have not ended, in the order in which they were accepted.
    pub(super) migrations_open: BTreeSet<(Revision, MigrationId)>,
    /// Migrations that ended, oldest first.
    pub(super) migrations_ended: BTreeSet<(Revision, MigrationId)>,
    /// Machines that are leaving a node, by open migrations.
    leaving: BTreeSet<(NodeName, VmId, MigrationId)>,
    /// Open effects by node, in order.
    pub(super) outbox: BTreeSet<(NodeName, EffectId)>,
    /// Answers to requests, oldest first.
    pub(super) requests_by_age: BTreeSet<(Timestamp, RequestId)>,
    /// What projects take; those that take nothing are not in it.
    pub(super) usage: BTreeMap<ProjectName, ProjectUsage>,
    bindings: BTreeSet<(SubjectName, BindingId)>,
    snapshots: BTreeSet<(VmId, SnapshotId)>,
    /// Seconds of machines' meters in windows that are not sealed.
    pub(super) ledger_open: OpenCoverage,
    /// Machines that are not as they should be, or not made yet.
    pub(super) unwell: BTreeSet<VmId>,
    /// Alerts.
    pub(super) alerts: AlertIndex,
    /// Machines by the networks that they are in.
    pub(super) attached: Attached,
    /// Bytes of all annotations.
    pub(super) annotation_bytes: usize,
    /// Bytes of all encrypted values.
    pub(super) secret_bytes: usize,
}

impl Index {
    pub(super) fn build(fleet: &Fleet) -> Self {
        let mut index = Self::default();
        fleet.vms.values().for_each(|vm| index.add_vm(vm));
        fleet.migrations.values().for_each(|migration| index.add_migration(migration));
        index.outbox = fleet.outbox.iter().map(|(id, row)| (row.node.clone(), *id)).collect();
        index.requests_by_age =
            fleet.requests.iter().map(|(request, answered)| (answered.at, *request)).collect();
        fleet.bindings.values().for_each(|binding| index.add_binding(binding));
        for snapshot in fleet.snapshots.values() {
            let project = fleet.project_of_vm(snapshot.vm).cloned().unwrap_or_default();
            index.add_snapshot(&project, snapshot);
        }
        fleet.alerts.values().for_each(|alert| index.alerts.add(alert));
        index.attached = fleet.build_attached();
        index.ledger_open = fleet.build_open_coverage();
        index.annotation_bytes = fleet.all_annotation_bytes();
        index.secret_bytes = fleet.all_secret_bytes();
        index
    }

    /// Snapshots of a machine.
    pub(super) fn snapshots_of(&self, vm: VmId) -> impl Iterator<Item = SnapshotId> + use<'_> {
        let end = |snapshot| (vm, SnapshotId(snapshot));
        self.snapshots.range(end(Uuid::nil())..=end(Uuid::max())).map(|(_, snapshot)| *snapshot)
    }

    pub(super) fn add_snapshot(&mut self, project: &ProjectName, snapshot: &Snapshot) {
        if self.snapshots.insert((snapshot.vm, snapshot.id)) {
            self.charge(project, &ProjectUsage::of_snapshot());
        }
    }

    pub(super) fn remove_snapshot(&mut self, project: &ProjectName, snapshot: &Snapshot) {
        if self.snapshots.remove(&(snapshot.vm, snapshot.id)) {
            self.release(project, &ProjectUsage::of_snapshot());
        }
    }

    /// Bindings of a principal.
    pub(super) fn bindings_of(
        &self,
        principal: &SubjectName,
    ) -> impl Iterator<Item = BindingId> + use<'_> {
        let end = |binding| (principal.clone(), BindingId(binding));
        let own = self.bindings.range(end(Uuid::nil())..=end(Uuid::max()));
        own.map(|(_, binding)| *binding)
    }

    pub(super) fn add_binding(&mut self, binding: &Binding) {
        self.bindings.insert((binding.principal.clone(), binding.id));
    }

    pub(super) fn remove_binding(&mut self, binding: &Binding) {
        self.bindings.remove(&(binding.principal.clone(), binding.id));
    }

    fn charge(&mut self, project: &ProjectName, more: &ProjectUsage) {
        let used = self.usage.entry(project.clone()).or_default();
        *used = used.plus(more);
    }

    fn release(&mut self, project: &ProjectName, less: &ProjectUsage) {
        let Some(used) = self.usage.get_mut(project) else { return };
        *used = used.minus(less);
        if *used == ProjectUsage::default() {
            self.usage.remove(project);
        }
    }

    /// Machines that are on a node.
    pub(super) fn vms_on(&self, node: &NodeName) -> impl Iterator<Item = VmId> + use<'_> {
        self.placed.get(node).into_iter().flatten().copied()
    }

    /// Machines that are on a node or on their way to it.
    pub(super) fn vms_charged_to(&self, node: &NodeName) -> impl Iterator<Item = VmId> {
        self.vms_on(node).chain(self.expected.get(node).into_iter().flatten().copied())
    }

    pub(super) fn add_vm(&mut self, vm: &Vm) {
        if vm.rest == Rest::Deleted {
            self.deleted.insert((vm.revision, vm.id));
            return;
        }
        self.names.insert(vm.spec.name.clone(), vm.id);
        self.charge(&vm.spec.project, &ProjectUsage::of_machine(&vm.spec));
        if matches!(vm.rest, Rest::Failed | Rest::NotMade) {
            self.unwell.insert(vm.id);
        }
        match &vm.node {
            Some(node) => drop(self.placed.entry(node.clone()).or_default().insert(vm.id)),
            None => drop(self.pending.insert(vm.id)),
        }
        if let Some(target) = vm.migration_target() {
            self.expected.entry(target.clone()).or_default().insert(vm.id);
        }
    }

    pub(super) fn remove_vm(&mut self, vm: &Vm) {
        if vm.rest == Rest::Deleted {
            self.deleted.remove(&(vm.revision, vm.id));
            return;
        }
        self.names.remove(&vm.spec.name);
        self.release(&vm.spec.project, &ProjectUsage::of_machine(&vm.spec));
        self.pending.remove(&vm.id);
        self.unwell.remove(&vm.id);
        if let Some(node) = &vm.node {
            remove_member(&mut self.placed, node, vm.id);
        }
        if let Some(target) = vm.migration_target() {
            remove_member(&mut self.expected, target, vm.id);
        }
    }

    pub(super) fn add_migration(&mut self, migration: &Migration) {
        if migration.step.is_ended() {
            self.migrations_ended.insert((migration.revision, migration.id));
        } else {
            self.migrations_open.insert((migration.accepted, migration.id));
            self.leaving.insert((migration.source.clone(), migration.vm, migration.id));
            self.charge(&migration.project, &ProjectUsage::of_migration());
        }
    }

    /// Whether a machine is leaving a node.
    pub(super) fn is_leaving(&self, vm: VmId, node: &NodeName) -> bool {
        let end = |migration| (node.clone(), vm, MigrationId(migration));
        self.leaving.range(end(Uuid::nil())..=end(Uuid::max())).next().is_some()
    }

    /// Whether any machine is leaving a node.
    pub(super) fn is_anything_leaving(&self, node: &NodeName) -> bool {
        let end = |id| (node.clone(), VmId(id), MigrationId(id));
        self.leaving.range(end(Uuid::nil())..=end(Uuid::max())).next().is_some()
    }

    pub(super) fn remove_migration(&mut self, migration: &Migration) {
        self.migrations_ended.remove(&(migration.revision, migration.id));
        if self.migrations_open.remove(&(migration.accepted, migration.id)) {
            self.release(&migration.project, &ProjectUsage::of_migration());
        }
        self.leaving.remove(&(migration.source.clone(), migration.vm, migration.id));
    }
}

fn remove_member(sets: &mut BTreeMap<NodeName, BTreeSet<VmId>>, node: &NodeName, vm: VmId) {
    let Some(set) = sets.get_mut(node) else { return };
    set.remove(&vm);
    if set.is_empty() {
        sets.remove(node);
    }
}
