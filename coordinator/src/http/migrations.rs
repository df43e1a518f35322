//! Migrations.

use novacron_protocol::access::Permission;
use novacron_protocol::api::{Code, MigrationView, Page, Problem};
use novacron_protocol::ids::MigrationId;
use schemars::JsonSchema;
use serde::Deserialize;

use super::answer::{Accepted, Found};
use super::body::NoBody;
use super::call::check_seen;
use super::lists::ListQuery;
use super::parameters::Nothing;
use super::route::{Call, Route, get, post};
use crate::auth::{Authorized, Sight, Where};
use crate::propose::Intent;
use crate::state::migration::Migration;
use crate::state::{Accepted as Applied, Fleet};
use crate::view::resource::migration_view;

pub(super) fn routes() -> Vec<Route> {
    vec![
        get("/api/v1/migrations", "listMigrations", "List migrations, under way and ended")
            .needs(Permission::VmRead, Where::Somewhere)
            .to(list),
        get("/api/v1/migrations/{migration}", "getMigration", "Show a migration")
            .needs(Permission::VmRead, Where::Migration)
            .refuses(&[Code::NotFound])
            .to(show),
        post("/api/v1/migrations/{migration}/cancel", "cancelMigration", "Give up a migration")
            .needs(Permission::VmMigrate, Where::Migration)
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
    let page = call.read(move |fleet, sight| {
        let behind = |one: &&Migration| window.after.is_none_or(|after| one.id > after);
        let seen = |one: &&Migration| sight.sees(&one.project);
        let behind = fleet.migrations().filter(behind).filter(seen);
        window.page(
            behind.map(migration_view),
            |one| one.migration_id.to_string(),
            fleet.revision(),
        )
    });
    Ok(Found(page.await?))
}

async fn show(call: Call<MigrationPath, Nothing, NoBody>) -> Result<Found<MigrationView>, Problem> {
    find(&call, call.path.migration).await.map(Found)
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
    match call.propose(intent).await? {
        Applied::Migration(migration) => find(call, migration).await,
        other => Err(super::unexpected("a migration", &other)),
    }
}

async fn find<P, Q, B>(
    call: &Call<P, Q, B>,
    migration: MigrationId,
) -> Result<MigrationView, Problem> {
    let view = call.read(move |fleet, sight| {
        let row = fleet.migration(migration).ok_or_else(|| not_found(migration))?;
        check_seen(sight, &row.project, || not_found(migration))?;
        Ok(migration_view(row))
    });
    view.await?
}

/// Whether the caller may do what it asks for with a migration, if it is there.
pub(super) fn check(fleet: &Fleet, sight: &Sight<'_>, text: &str) -> Result<(), Problem> {
    let Ok(migration) = text.parse::<MigrationId>() else { return Ok(()) };
    match fleet.project_of_migration(migration) {
        Some(project) => check_seen(sight, project, || not_found(migration)),
        None => Ok(()),
    }
}

fn not_found(migration: MigrationId) -> Problem {
    Problem::new(Code::NotFound, format!("there is no migration {migration}")).about("migration")
}
