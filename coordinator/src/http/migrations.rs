//! Migrations.

use novacron_protocol::api::{Code, MigrationView, Page, Problem};
use novacron_protocol::ids::MigrationId;
use novacron_protocol::migration::InvalidOption;
use schemars::JsonSchema;
use serde::Deserialize;

use super::Api;
use super::answer::{Accepted, Found};
use super::body::NoBody;
use super::lists::ListQuery;
use super::parameters::Nothing;
use super::route::{Call, Route, get, post};
use crate::auth::Authorized;
use crate::propose::Intent;
use crate::state::Accepted as Applied;
use crate::view::resource::migration_view;

pub(super) fn routes() -> Vec<Route> {
    vec![
        get("/api/v1/migrations", "listMigrations", "List migrations, under way and ended")
            .to(list),
        get("/api/v1/migrations/{migration}", "getMigration", "Show a migration")
            .refuses(&[Code::NotFound])
            .to(show),
        post("/api/v1/migrations/{migration}/cancel", "cancelMigration", "Give up a migration")
            .refuses(&[Code::NotFound, Code::Conflict, Code::IdempotencyConflict])
            .to(cancel),
    ]
}

/// Which migration.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct MigrationPath {
    /// Id of the migration.
    migration: MigrationId,
}

async fn list(
    call: Call<Nothing, ListQuery, NoBody>,
) -> Result<Found<Page<MigrationView>>, Problem> {
    let window = call.query.window(|text| text.parse::<MigrationId>().ok())?;
    let page = call.api.read(move |fleet| {
        let behind =
            fleet.migrations().filter(|one| window.after.is_none_or(|after| one.id > after));
        window.page(
            behind.map(migration_view),
            |one| one.migration_id.to_string(),
            fleet.revision(),
        )
    });
    Ok(Found(page.await?))
}

async fn show(call: Call<MigrationPath, Nothing, NoBody>) -> Result<Found<MigrationView>, Problem> {
    find(&call.api, call.path.migration).await.map(Found)
}

async fn cancel(
    call: Call<MigrationPath, Nothing, NoBody>,
) -> Result<Accepted<MigrationView>, Problem> {
    let intent = call.authorize(Intent::CancelMigration { migration: call.path.migration })?;
    accepted(&call, intent).await.map(Accepted)
}

/// Proposes, and shows the migration that it was about as it stands then.
pub(super) async fn accepted<P, Q, B>(
    call: &Call<P, Q, B>,
    intent: Authorized<Intent>,
) -> Result<MigrationView, Problem> {
    match call.api.propose(intent, call.request).await? {
        Applied::Migration(migration) => find(&call.api, migration).await,
        other => Err(super::unexpected("a migration", &other)),
    }
}

/// An option that no migration of its mode can have.
pub(super) fn invalid_option(wrong: InvalidOption) -> Problem {
    Problem::new(Code::InvalidRequest, wrong.to_string()).about(wrong.field)
}

async fn find(api: &Api, migration: MigrationId) -> Result<MigrationView, Problem> {
    let view = api.read(move |fleet| fleet.migration(migration).map(migration_view)).await?;
    view.ok_or_else(|| {
        Problem::new(Code::NotFound, format!("there is no migration {migration}"))
            .about("migration")
    })
}
