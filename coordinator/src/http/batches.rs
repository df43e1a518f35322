//! Batches of migrations.

use std::collections::BTreeSet;

use novacron_protocol::access::{Permission, Scope};
use novacron_protocol::api::{BatchCreate, BatchView, Code, Page, Problem};
use novacron_protocol::ids::{BatchId, NodeName, ProjectName, VmId};
use novacron_protocol::limits::BATCH_ITEMS_MAX;
use schemars::JsonSchema;
use serde::Deserialize;

use super::answer::{Accepted, Found};
use super::body::{Json, NoBody};
use super::lists::ListQuery;
use super::nodes;
use super::parameters::Nothing;
use super::route::{Call, Route, get, post};
use crate::auth::{Authorized, Sight, Where};
use crate::propose::Intent;
use crate::state::batch::Batch;
use crate::state::command::BatchOrder;
use crate::state::{Accepted as Applied, Fleet};
use crate::view::resource::batch_view;

pub(super) fn routes() -> Vec<Route> {
    vec![
        get("/api/v1/migrations/batch", "listBatches", "List batches of migrations")
            .needs(Permission::VmRead, Where::Somewhere)
            .may_be_stale()
            .to(list),
        post(
            "/api/v1/migrations/batch",
            "createBatch",
            "Move all machines of a node, or those with some labels, to another node",
        )
        .needs(Permission::VmMigrate, Where::Somewhere)
        .refuses(&[Code::NotFound, Code::NoCapacity, Code::IdempotencyConflict])
        .to(create),
        get("/api/v1/migrations/batch/{batch}", "getBatch", "Show a batch with its machines")
            .needs(Permission::VmRead, Where::Batch)
            .refuses(&[Code::NotFound])
            .may_be_stale()
            .to(show),
        post(
            "/api/v1/migrations/batch/{batch}/cancel",
            "cancelBatch",
            "Give up what of a batch has not moved",
        )
        .needs(Permission::VmMigrate, Where::Batch)
        .refuses(&[Code::NotFound, Code::Conflict, Code::IdempotencyConflict])
        .to(cancel),
    ]
}

/// Which batch.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct BatchPath {
    /// Id of the batch.
    batch: BatchId,
}

async fn list(call: Call<Nothing, ListQuery, NoBody>) -> Result<Found<Page<BatchView>>, Problem> {
    let window = call.query.window(|text| text.parse::<BatchId>().ok())?;
    let page = call.read(move |fleet, sight| {
        let behind = fleet.batches().filter(|one| window.after.is_none_or(|after| one.id > after));
        let seen = behind.filter(|batch| is_seen(sight, batch));
        let views = seen.map(|batch| batch_view(fleet, batch, sight.machines(), false));
        window.page(views, |one| one.batch_id.to_string(), fleet.revision())
    });
    Ok(Found(page.await?))
}

async fn show(call: Call<BatchPath, Nothing, NoBody>) -> Result<Found<BatchView>, Problem> {
    find(&call, call.path.batch).await.map(Found)
}

async fn create(
    call: Call<Nothing, Nothing, Json<BatchCreate>>,
) -> Result<Accepted<BatchView>, Problem> {
    let asked = &call.body.0;
    let (source, target) = (nodes::parse("from", &asked.from)?, nodes::parse("to", &asked.to)?);
    let options = asked.options();
    let vms = chosen(&call, &source).await?;
    let order = BatchOrder {
        source,
        target,
        labels: asked.labels.clone(),
        mode: asked.mode,
        options,
        aborts_on_failure: asked.abort_on_failure,
    };
    let intent = call.authorize(Intent::MigrateBatch { order, vms })?;
    accepted(&call, intent).await.map(Accepted)
}

/// The machines that are meant, of those that the caller may move; one more than may be, so that too many are seen.
async fn chosen(
    call: &Call<Nothing, Nothing, Json<BatchCreate>>,
    source: &NodeName,
) -> Result<Vec<VmId>, Problem> {
    let (source, labels) = (source.clone(), call.body.0.labels.clone());
    let chosen = call.read(move |fleet, sight| {
        let matching = fleet.machines_matching(&source, &labels);
        let own = matching.filter(|vm| sight.sees(&vm.spec.project) && sight.may(&vm.spec.project));
        own.map(|vm| vm.id).take(BATCH_ITEMS_MAX + 1).collect()
    });
    chosen.await
}

async fn cancel(call: Call<BatchPath, Nothing, NoBody>) -> Result<Accepted<BatchView>, Problem> {
    let intent = call.authorize(Intent::CancelBatch { batch: call.path.batch })?;
    accepted(&call, intent).await.map(Accepted)
}

/// Proposes, and shows the batch that it was about as it stands then.
async fn accepted<P, Q, B>(
    call: &Call<P, Q, B>,
    intent: Authorized<Intent>,
) -> Result<BatchView, Problem> {
    match call.propose(intent).await? {
        Applied::Batch(batch) => find(call, batch).await,
        other => Err(super::unexpected("a batch", &other)),
    }
}

async fn find<P, Q, B>(call: &Call<P, Q, B>, batch: BatchId) -> Result<BatchView, Problem> {
    let view = call.read(move |fleet, sight| {
        let row = fleet.batch(batch).filter(|row| is_seen(sight, row));
        row.map(|row| batch_view(fleet, row, sight.machines(), true))
    });
    view.await?.ok_or_else(|| not_found(batch))
}

/// A batch is seen by who sees any machine of it; one without machines by who sees all.
fn is_seen(sight: &Sight<'_>, batch: &Batch) -> bool {
    match batch.items.is_empty() {
        true => sight.machines().covers(&Scope::Fleet),
        false => batch.items.iter().any(|item| sight.sees(&item.project)),
    }
}

/// Whether the caller may do what it asks for with a batch, if it is there. To see a batch, some machine of it is
/// enough; to change it, all of them have to be the caller's.
pub(super) fn check(fleet: &Fleet, sight: &Sight<'_>, text: &str) -> Result<(), Problem> {
    let row = text.parse::<BatchId>().ok().and_then(|batch| fleet.batch(batch));
    let Some(row) = row else { return Ok(()) };
    if !is_seen(sight, row) {
        return Err(not_found(row.id));
    }
    let seen = row.items.iter().filter(|item| sight.is_change() || sight.sees(&item.project));
    let projects: BTreeSet<&ProjectName> = seen.map(|item| &item.project).collect();
    let check = |project: &ProjectName| sight.check(Scope::Project(project.clone()));
    Ok(projects.into_iter().try_for_each(check)?)
}

fn not_found(batch: BatchId) -> Problem {
    Problem::new(Code::NotFound, format!("there is no batch {batch}")).about("batch")
}
