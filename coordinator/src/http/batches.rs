//! Batches of migrations.

use novacron_protocol::api::{BatchCreate, BatchView, Code, Page, Problem};
use novacron_protocol::ids::{BatchId, NodeName, VmId};
use novacron_protocol::limits::BATCH_ITEMS_MAX;
use novacron_protocol::migration::MigrationMode;
use schemars::JsonSchema;
use serde::Deserialize;

use super::answer::{Accepted, Found};
use super::body::{Json, NoBody};
use super::lists::ListQuery;
use super::parameters::Nothing;
use super::route::{Call, Route, get, post};
use super::{Api, migrations, nodes};
use crate::auth::Authorized;
use crate::propose::Intent;
use crate::state::Accepted as Applied;
use crate::view::resource::batch_view;

pub(super) fn routes() -> Vec<Route> {
    vec![
        get("/api/v1/migrations/batch", "listBatches", "List batches of migrations").to(list),
        post(
            "/api/v1/migrations/batch",
            "createBatch",
            "Move all machines of a node, or those with some labels, to another node",
        )
        .refuses(&[Code::NotFound, Code::NoCapacity, Code::IdempotencyConflict])
        .to(create),
        get("/api/v1/migrations/batch/{batch}", "getBatch", "Show a batch with its machines")
            .refuses(&[Code::NotFound])
            .to(show),
        post(
            "/api/v1/migrations/batch/{batch}/cancel",
            "cancelBatch",
            "Give up what of a batch has not moved",
        )
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
    let page = call.api.read(move |fleet| {
        let behind = fleet.batches().filter(|one| window.after.is_none_or(|after| one.id > after));
        let views = behind.map(|batch| batch_view(fleet, batch, false));
        window.page(views, |one| one.batch_id.to_string(), fleet.revision())
    });
    Ok(Found(page.await?))
}

async fn show(call: Call<BatchPath, Nothing, NoBody>) -> Result<Found<BatchView>, Problem> {
    find(&call.api, call.path.batch).await.map(Found)
}

async fn create(
    call: Call<Nothing, Nothing, Json<BatchCreate>>,
) -> Result<Accepted<BatchView>, Problem> {
    let asked = &call.body.0;
    let (source, target) = (nodes::parse("from", &asked.from)?, nodes::parse("to", &asked.to)?);
    let options = asked.options();
    // Where each moves as it is, what is about guests that run is for those.
    let strictest = asked.mode.unwrap_or(MigrationMode::Live);
    options.check(strictest).map_err(migrations::invalid_option)?;
    let intent = call.authorize(Intent::MigrateBatch {
        vms: chosen(&call.api, &source, asked).await?,
        source,
        target,
        labels: asked.labels.clone(),
        mode: asked.mode,
        options,
        aborts_on_failure: asked.abort_on_failure,
    })?;
    accepted(&call, intent).await.map(Accepted)
}

/// The machines that are meant; one more than may be, so that too many are seen.
async fn chosen(api: &Api, source: &NodeName, asked: &BatchCreate) -> Result<Vec<VmId>, Problem> {
    let (source, labels) = (source.clone(), asked.labels.clone());
    let chosen = api.read(move |fleet| {
        let matching = fleet.machines_matching(&source, &labels);
        matching.map(|vm| vm.id).take(BATCH_ITEMS_MAX + 1).collect()
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
    match call.api.propose(intent, call.request).await? {
        Applied::Batch(batch) => find(&call.api, batch).await,
        other => Err(super::unexpected("a batch", &other)),
    }
}

async fn find(api: &Api, batch: BatchId) -> Result<BatchView, Problem> {
    let view = api.read(move |fleet| fleet.batch(batch).map(|row| batch_view(fleet, row, true)));
    view.await?.ok_or_else(|| {
        Problem::new(Code::NotFound, format!("there is no batch {batch}")).about("batch")
    })
}
