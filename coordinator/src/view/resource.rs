//! The nouns of the fleet as the API shows them.

use novacron_protocol::annotation::Annotations;
use novacron_protocol::api::{
    BatchCounts, BatchItemStatus, BatchItemView, BatchStatus, BatchView, Links, MigrationMetrics,
    MigrationView, NodeView, SnapshotState, SnapshotView, VmView,
};
use novacron_protocol::ids::{SnapshotId, SnapshotName};
use novacron_protocol::migration::{
    DOWNTIME_LIMIT_MS_DEFAULT, MigrationAccount, MigrationProgress,
};
use novacron_protocol::time::Timestamp;

use crate::state::Fleet;
use crate::state::batch::{Batch, BatchItem, ItemStep, Stop};
use crate::state::binding::Reach;
use crate::state::migration::{Ending, Migration, Step};
use crate::state::node::Node;
use crate::state::snapshot::Snapshot;
use crate::state::vm::Vm;

/// Where the API's resources live.
const ROOT: &str = "/api/v1";

pub(super) fn links(entries: &[(&str, String)]) -> Links {
    entries
        .iter()
        .map(|(relation, path)| ((*relation).to_owned(), format!("{ROOT}{path}")))
        .collect()
}

/// A machine as the API shows it by itself.
pub fn whole_vm_view(fleet: &Fleet, vm: &Vm) -> VmView {
    VmView { annotations: fleet.annotations(vm.id), ..vm_view(fleet, vm) }
}

/// A machine as lists show it.
pub fn vm_view(fleet: &Fleet, vm: &Vm) -> VmView {
    let first = vm.spec.disks.first();
    let mut links = links(&[
        ("self", format!("/vms/{}", vm.id)),
        ("project", format!("/projects/{}", vm.spec.project)),
    ]);
    if let Some(node) = &vm.node {
        links.insert("node".to_owned(), format!("{ROOT}/nodes/{node}"));
    }
    let network = fleet.network_of(vm.id);
    if let Some(network) = network {
        links.insert("network".to_owned(), format!("{ROOT}/networks/{network}"));
    }
    if let Some(migration) = vm.migration() {
        links.insert("migration".to_owned(), format!("{ROOT}/migrations/{migration}"));
    }
    VmView {
        id: vm.id,
        name: vm.spec.name.clone(),
        project: vm.spec.project.clone(),
        state: vm.state(),
        reason: vm.reason.clone(),
        node: vm.node.clone(),
        generation: vm.generation,
        migration_id: vm.migration(),
        memory: vm.spec.memory_bytes,
        cpus: vm.spec.cpus,
        disk: first.map_or(0, |disk| disk.size_bytes),
        image: first.map(|disk| disk.image.clone()).unwrap_or_default(),
        disks: vm.spec.disks.clone(),
        boot: vm.spec.boot.clone(),
        network: vm.spec.network.clone(),
        network_name: network.cloned(),
        labels: vm.spec.labels.clone(),
        annotations: Annotations::new(),
        node_selector: vm.spec.node_selector.clone(),
        enable_tpm: vm.spec.enable_tpm,
        created_at: vm.created_at,
        updated_at: vm.updated_at,
        revision: vm.revision,
        links,
    }
}

/// A snapshot as the API shows it; none if its machine is gone.
pub fn snapshot_view(fleet: &Fleet, snapshot: &Snapshot) -> Option<SnapshotView> {
    let (vm, name) = (fleet.vm(snapshot.vm)?, &snapshot.name);
    let parent = snapshot.parent.and_then(|parent| fleet.snapshot(parent));
    Some(SnapshotView {
        id: snapshot.id,
        name: name.clone(),
        vm: vm.id,
        vm_name: vm.spec.name.clone(),
        parent: parent.map(|parent| parent.name.clone()),
        is_current: snapshot.is_current,
        state: snapshot.state(),
        reason: snapshot.reason.clone(),
        created_at: snapshot.created_at,
        ready_at: snapshot.ready_at,
        updated_at: snapshot.updated_at,
        revision: snapshot.revision,
        links: links(&[
            ("self", format!("/vms/{}/snapshots/{name}", vm.id)),
            ("vm", format!("/vms/{}", vm.id)),
        ]),
    })
}

/// What is left to say of a snapshot that is gone, to whoever asks again for what made it go: its id says when it was asked
/// for, and the answer to the request when it was seen last.
pub fn gone_view(
    fleet: &Fleet,
    vm: &Vm,
    snapshot: SnapshotId,
    name: &SnapshotName,
    asked_at: Timestamp,
) -> SnapshotView {
    // The first 48 bits of a UUID of version 7 are milliseconds since 1970 (RFC 9562, section 5.7).
    let created_at = u64::try_from(snapshot.0.as_u128() >> 80).unwrap_or_default();
    SnapshotView {
        id: snapshot,
        name: name.clone(),
        vm: vm.id,
        vm_name: vm.spec.name.clone(),
        parent: None,
        is_current: false,
        state: SnapshotState::Deleted,
        reason: String::new(),
        created_at: Timestamp::from_unix_ms(created_at),
        ready_at: None,
        updated_at: asked_at,
        revision: fleet.revision(),
        links: links(&[("vm", format!("/vms/{}", vm.id))]),
    }
}

/// A node as lists show it.
pub fn node_view(fleet: &Fleet, node: &Node) -> NodeView {
    let name = &node.name;
    NodeView {
        name: name.clone(),
        state: node.state,
        scheduling: fleet.scheduling(name),
        drain: None,
        capacity: node.facts.capacity.clone(),
        allocated: fleet.allocation(name).into(),
        machines: u32::try_from(fleet.machines_on(name)).unwrap_or(u32::MAX),
        labels: node.facts.labels.clone(),
        region: node.region.clone(),
        migration_address: node.facts.migration_address.clone(),
        agent_version: node.facts.agent_version.clone(),
        qemu_version: node.facts.qemu_version.clone(),
        accelerator: node.facts.accelerator,
        accelerator_reason: node.facts.accelerator_reason.clone(),
        created_at: node.created_at,
        updated_at: node.updated_at,
        revision: node.revision,
        links: links(&[("self", format!("/nodes/{name}")), ("vms", format!("/vms?node={name}"))]),
    }
}

/// A migration as the API shows it: from its progress while it runs, from its account once it completed.
pub fn migration_view(migration: &Migration) -> MigrationView {
    let account = migration.account.as_ref();
    let progress = migration.progress.as_ref();
    let counted = |account: Option<u64>, progress: Option<u64>| account.or(progress).unwrap_or(0);
    let bytes_guest = counted(
        account.map(|account| account.bytes_guest),
        progress.map(|progress| progress.bytes_guest),
    );
    let bytes_disk = counted(
        account.map(|account| account.bytes_disk),
        progress.map(|progress| progress.bytes_disk),
    );
    let bytes_wire = counted(
        account.map(|account| account.bytes_wire),
        progress.map(|progress| progress.bytes_wire),
    );
    let load = |of: fn(&MigrationProgress) -> Option<u16>| {
        let permille = progress.filter(|_| !migration.step.is_ended()).and_then(of)?;
        Some(f64::from(permille) / 1000.0)
    };
    let rounds = account.map(|account| account.rounds).or(progress.map(|progress| progress.rounds));
    let of = |number: fn(&MigrationAccount) -> u64| account.map_or(0, number);
    MigrationView {
        migration_id: migration.id,
        vm: migration.vm,
        vm_name: migration.vm_name.clone(),
        mode: migration.mode,
        options: migration.options,
        status: migration.status(),
        phase: migration.phase,
        reason: migration.reason.clone(),
        source: migration.source.clone(),
        target: migration.target.clone(),
        progress_percentage: migration.percentage(),
        bytes_transferred: bytes_wire,
        estimated_completion: estimated_completion(migration),
        convergence: progress
            .filter(|_| !migration.step.is_ended())
            .and_then(|progress| progress.convergence(downtime_limit_ms(migration))),
        dirty_bytes_per_second: progress.and_then(|progress| progress.dirty_bytes_per_second),
        metrics: MigrationMetrics {
            transfer_rate_mbps: rate_mbps(migration),
            source_vm_load: load(|progress| progress.source_load_permille),
            target_vm_load: load(|progress| progress.target_load_permille),
        },
        total_ms: account.map(|account| account.total_ms),
        prepare_ms: account.map(|account| account.prepare_ms),
        memory_ms: account.map(|account| account.memory_ms),
        downtime_ms: account.map(|account| account.downtime_parts.total_us() as f64 / 1000.0),
        downtime_parts: account.map(|account| account.downtime_parts.clone()),
        rounds: rounds.unwrap_or(0),
        bytes_guest,
        bytes_wire,
        bytes_wire_memory: of(|account| account.bytes_wire_memory),
        bytes_wire_disks: of(|account| account.bytes_wire_disks),
        bytes_wire_files: of(|account| account.bytes_wire_files),
        bytes_link: of(|account| account.bytes_link),
        bytes_disk,
        bytes_disk_held: of(|account| account.bytes_disk_held),
        bytes_disk_final: of(|account| account.bytes_disk_final),
        compression_ratio: (bytes_wire > 0)
            .then(|| bytes_guest.saturating_add(bytes_disk) as f64 / bytes_wire as f64),
        pages_zero: of(|account| account.pages_zero),
        pages_same: of(|account| account.pages_same),
        pages_sent: of(MigrationAccount::pages_sent),
        pages_known: of(|account| account.pages_known),
        pages_differing: of(|account| account.pages_differing),
        pages_packed: of(|account| account.pages_packed),
        pages_raw: of(|account| account.pages_raw),
        verified: account.is_some_and(|account| account.verified),
        memory_path: account.map(|account| account.path),
        created_at: migration.created_at,
        ended_at: migration.ended_at,
        revision: migration.revision,
        links: links(&[
            ("self", format!("/migrations/{}", migration.id)),
            ("vm", format!("/vms/{}", migration.vm)),
        ]),
    }
}

/// A batch as the API shows it, to whom sees the machines of some projects; its machines only where they are asked for.
/// How it stands is that of all of its machines.
pub fn batch_view(fleet: &Fleet, batch: &Batch, sees: &Reach, has_items: bool) -> BatchView {
    let views: Vec<_> = batch.items.iter().map(|item| batch_item_view(fleet, item)).collect();
    let status = batch_status(batch, &views);
    let pairs = batch.items.iter().zip(views);
    let seen = pairs.filter(|(item, _)| sees.covers_project(&item.project));
    let items: Vec<_> = seen.map(|(_, view)| view).collect();
    let order = &batch.order;
    BatchView {
        batch_id: batch.id,
        from: order.source.clone(),
        to: order.target.clone(),
        labels: order.labels.clone(),
        mode: order.mode,
        options: order.options,
        abort_on_failure: order.aborts_on_failure,
        status,
        counts: batch_counts(&items),
        items: if has_items { items } else { Vec::new() },
        created_at: batch.created_at,
        ended_at: batch.ended_at,
        revision: batch.revision,
        links: links(&[("self", format!("/migrations/batch/{}", batch.id))]),
    }
}

fn batch_item_view(fleet: &Fleet, item: &BatchItem) -> BatchItemView {
    let (status, migration_id, reason) = match &item.step {
        ItemStep::Refused(reason) => (BatchItemStatus::Refused, None, reason.clone()),
        ItemStep::Accepted(migration) => {
            let is_queued = fleet.migration(*migration).is_none_or(|row| row.step == Step::Queued);
            let status =
                if is_queued { BatchItemStatus::Queued } else { BatchItemStatus::InProgress };
            (status, Some(*migration), String::new())
        }
        ItemStep::Ended { migration, ending, reason } => {
            let status = match ending {
                Ending::Completed => BatchItemStatus::Completed,
                Ending::Failed => BatchItemStatus::Failed,
                Ending::Cancelled => BatchItemStatus::Cancelled,
            };
            (status, Some(*migration), reason.clone())
        }
    };
    BatchItemView { vm: item.vm, vm_name: item.vm_name.clone(), status, migration_id, reason }
}

fn batch_status(batch: &Batch, items: &[BatchItemView]) -> BatchStatus {
    match batch.stopped {
        _ if batch.ended_at.is_none() => BatchStatus::InProgress,
        _ if items.iter().all(|item| item.status == BatchItemStatus::Completed) => {
            BatchStatus::Completed
        }
        Some(Stop::Asked) => BatchStatus::Cancelled,
        Some(Stop::Failure) | None => BatchStatus::Failed,
    }
}

fn batch_counts(items: &[BatchItemView]) -> BatchCounts {
    let count = |status| {
        let those = items.iter().filter(|item| item.status == status).count();
        u32::try_from(those).unwrap_or(u32::MAX)
    };
    BatchCounts {
        items: u32::try_from(items.len()).unwrap_or(u32::MAX),
        refused: count(BatchItemStatus::Refused),
        queued: count(BatchItemStatus::Queued),
        in_progress: count(BatchItemStatus::InProgress),
        completed: count(BatchItemStatus::Completed),
        failed: count(BatchItemStatus::Failed),
        cancelled: count(BatchItemStatus::Cancelled),
    }
}

fn rate_mbps(migration: &Migration) -> f64 {
    let mean = migration
        .account
        .as_ref()
        .filter(|account| account.total_ms > 0)
        .map(|account| account.bytes_wire as f64 * 8.0 / 1000.0 / account.total_ms as f64);
    let now =
        migration.progress.as_ref().map(|progress| progress.wire_bits_per_second as f64 / 1e6);
    mean.or(now).unwrap_or(0.0)
}

fn downtime_limit_ms(migration: &Migration) -> u64 {
    migration.options.downtime_limit_ms.unwrap_or(DOWNTIME_LIMIT_MS_DEFAULT)
}

fn estimated_completion(migration: &Migration) -> Option<Timestamp> {
    if migration.step.is_ended() {
        return None;
    }
    let left_ms = migration.progress.as_ref()?.left_ms(downtime_limit_ms(migration))?;
    Some(migration.updated_at.plus_ms(left_ms))
}

#[cfg(test)]
mod tests {
    use novacron_protocol::effect::Report;
    use novacron_protocol::migration::{Convergence, MigrationPhase};

    use super::*;
    use crate::state::testing::{Scene, progress};

    /// What clients of the status document were promised, beside which it may say more.
    #[test]
    fn the_status_document_has_the_promised_fields() {
        let mut scene = Scene::new();
        scene.join("node-01", 16);
        scene.join("node-02", 16);
        let vm = scene.running("web", "node-01");
        let migration = scene.sending(vm, "node-02");
        let progress = progress(MigrationPhase::DataSync, 67);
        scene.report("node-01", vec![Report::Progress { migration, progress }]).unwrap();
        let view = migration_view(scene.migration(migration));
        assert_eq!(view.convergence, Some(Convergence::Converging));
        let document = serde_json::to_value(view).unwrap();
        for field in ["migration_id", "status", "phase", "estimated_completion"] {
            assert!(document[field].is_string(), "{field}: {document:#}");
        }
        for field in ["progress_percentage", "bytes_transferred"] {
            assert!(document[field].is_u64(), "{field}: {document:#}");
        }
        let metrics: Vec<_> = document["metrics"].as_object().unwrap().keys().collect();
        assert_eq!(metrics, ["source_vm_load", "target_vm_load", "transfer_rate_mbps"]);
        assert_eq!(document["metrics"]["source_vm_load"], 0.15);
        assert_eq!(document["metrics"]["target_vm_load"], 0.12);
    }

    #[test]
    fn a_guest_that_writes_too_fast_has_no_estimate() {
        let mut scene = Scene::new();
        scene.join("node-01", 16);
        scene.join("node-02", 16);
        let vm = scene.running("web", "node-01");
        let migration = scene.sending(vm, "node-02");
        let mut progress = progress(MigrationPhase::DataSync, 50);
        progress.dirty_bytes_per_second = Some(progress.content_bytes_per_second);
        scene.report("node-01", vec![Report::Progress { migration, progress }]).unwrap();
        let view = migration_view(scene.migration(migration));
        assert_eq!(view.convergence, Some(Convergence::NotConverging));
        assert_eq!((view.estimated_completion, view.dirty_bytes_per_second), (None, Some(10)));
    }
}
