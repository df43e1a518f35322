//! Snapshots of machines.

use novacron_protocol::access::Permission;
use novacron_protocol::api::{Code, Page, Problem, SnapshotCreate, SnapshotView};
use novacron_protocol::ids::{SnapshotId, SnapshotName, VmId};
use schemars::JsonSchema;
use serde::Deserialize;

use super::answer::{Accepted, Found};
use super::body::{Json, NoBody};
use super::lists::ListQuery;
use super::parameters::Nothing;
use super::route::{Call, Route, delete, get, post};
use super::vms::{VmPath, find, named};
use crate::auth::{Authorized, Where};
use crate::propose::Intent;
use crate::state::{Accepted as Applied, Fleet};
use crate::view::resource::{gone_view, snapshot_view};

const ALL: &str = "/api/v1/vms/{vm}/snapshots";
const ONE: &str = "/api/v1/vms/{vm}/snapshots/{snapshot}";

pub(super) fn routes() -> Vec<Route> {
    vec![
        get(ALL, "listSnapshots", "List the snapshots of a machine")
            .needs(Permission::VmRead, Where::Machine)
            .refuses(&[Code::NotFound])
            .to(list),
        post(ALL, "createSnapshot", "Take a snapshot of all disks of a machine")
            .needs(Permission::VmSnapshot, Where::Machine)
            .refuses(&[
                Code::NotFound,
                Code::NameTaken,
                Code::Conflict,
                Code::NoCapacity,
                Code::QuotaExceeded,
                Code::IdempotencyConflict,
            ])
            .to(create),
        get(ONE, "getSnapshot", "Show a snapshot")
            .needs(Permission::VmRead, Where::Machine)
            .refuses(&[Code::NotFound])
            .to(show),
        delete(ONE, "deleteSnapshot", "Delete a snapshot that no other was made on")
            .needs(Permission::VmSnapshot, Where::Machine)
            .refuses(&[
                Code::NotFound,
                Code::Conflict,
                Code::SnapshotNeeded,
                Code::IdempotencyConflict,
            ])
            .to(remove),
        post(
            "/api/v1/vms/{vm}/snapshots/{snapshot}/restore",
            "restoreSnapshot",
            "Make all disks of a stopped machine what they were",
        )
        .needs(Permission::VmSnapshot, Where::Machine)
        .refuses(&[Code::NotFound, Code::Conflict, Code::IdempotencyConflict])
        .to(restore),
    ]
}

/// Which snapshot.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct SnapshotPath {
    /// Name or id of the machine.
    vm: String,
    /// Name of the snapshot.
    snapshot: String,
}

async fn list(call: Call<VmPath, ListQuery, NoBody>) -> Result<Found<Page<SnapshotView>>, Problem> {
    let window = call.query.window(|text| text.parse::<SnapshotId>().ok())?;
    let page = call.read(|fleet, sight| {
        let vm = find(fleet, sight, &call.path.vm)?.id;
        let behind = |id| window.after.is_none_or(|after| id > after);
        let rows = fleet.snapshots_of(vm).filter(|snapshot| behind(snapshot.id));
        let views = rows.filter_map(|snapshot| snapshot_view(fleet, snapshot));
        Ok(window.page(views, |view| view.id.to_string(), fleet.revision()))
    });
    page.await?.map(Found)
}

async fn show(call: Call<SnapshotPath, Nothing, NoBody>) -> Result<Found<SnapshotView>, Problem> {
    let name = parse(&call.path.snapshot)?;
    let view = call.read(|fleet, sight| {
        let vm = find(fleet, sight, &call.path.vm)?.id;
        view(fleet, vm, &name)
    });
    view.await?.map(Found)
}

async fn create(
    call: Call<VmPath, Nothing, Json<SnapshotCreate>>,
) -> Result<Accepted<SnapshotView>, Problem> {
    let name: SnapshotName = call.body.0.name.parse().map_err(|error| {
        Problem::new(Code::InvalidRequest, format!("name: {error}")).about("name")
    })?;
    let vm = named(&call, &call.path.vm).await?;
    let intent = call.authorize(Intent::CreateSnapshot { vm, name: name.clone() })?;
    accepted(&call, vm, name, intent).await
}

async fn remove(
    call: Call<SnapshotPath, Nothing, NoBody>,
) -> Result<Accepted<SnapshotView>, Problem> {
    let (name, vm) = (parse(&call.path.snapshot)?, named(&call, &call.path.vm).await?);
    let intent = call.authorize(Intent::DeleteSnapshot { vm, name: name.clone() })?;
    accepted(&call, vm, name, intent).await
}

async fn restore(
    call: Call<SnapshotPath, Nothing, NoBody>,
) -> Result<Accepted<SnapshotView>, Problem> {
    let (name, vm) = (parse(&call.path.snapshot)?, named(&call, &call.path.vm).await?);
    let intent = call.authorize(Intent::RestoreSnapshot { vm, name: name.clone() })?;
    accepted(&call, vm, name, intent).await
}

/// Proposes, and shows the snapshot as it stands then. A request that is repeated after the snapshot went is answered with
/// what is left to say of it, as one about a machine is.
async fn accepted<P, Q, B>(
    call: &Call<P, Q, B>,
    vm: VmId,
    name: SnapshotName,
    intent: Authorized<Intent>,
) -> Result<Accepted<SnapshotView>, Problem> {
    let snapshot = match call.propose(intent).await? {
        Applied::Snapshot(snapshot) => snapshot,
        other => return Err(super::unexpected("a snapshot", &other)),
    };
    let (request, called) = (call.request, name.to_string());
    let view = call.read(move |fleet, _| {
        let asked_at = fleet.kept_answer(request).map_or(fleet.clock(), |answered| answered.at);
        match fleet.snapshot(snapshot) {
            Some(row) => snapshot_view(fleet, row),
            None => fleet.vm(vm).map(|vm| gone_view(fleet, vm, snapshot, &name, asked_at)),
        }
    });
    view.await?.map(Accepted).ok_or_else(|| not_found(&called))
}

fn view(fleet: &Fleet, vm: VmId, name: &SnapshotName) -> Result<SnapshotView, Problem> {
    let snapshot = fleet.snapshot_named(vm, name);
    let view = snapshot.and_then(|snapshot| snapshot_view(fleet, snapshot));
    view.ok_or_else(|| not_found(name.as_str()))
}

/// The name of a snapshot. What cannot be a name is no snapshot's.
fn parse(name: &str) -> Result<SnapshotName, Problem> {
    name.parse().map_err(|_| not_found(name))
}

fn not_found(name: &str) -> Problem {
    let name: String = name.chars().take(64).collect();
    Problem::new(Code::NotFound, format!("the machine has no snapshot `{name}`")).about("snapshot")
}
