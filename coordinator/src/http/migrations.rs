//! Migrations.

use novacron_protocol::access::Permission;
use novacron_protocol::api::{Code, MigrationView, Page, Problem};
use novacron_protocol::ids::MigrationId;
use novacron_protocol::migration::MigrationStatus;
use schemars::JsonSchema;
use serde::Deserialize;

use super::answer::{Accepted, Found};
use super::body::NoBody;
use super::call::check_seen;
use super::lists::{Cursors, ListQuery};
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
            .may_be_stale()
            .to(list),
        get("/api/v1/migrations/{migration}", "getMigration", "Show a migration")
            .needs(Permission::VmRead, Where::Migration)
            .refuses(&[Code::NotFound])
            .may_be_stale()
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

/// Which migrations, and which part of the list.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct MigrationsQuery {
    /// Only migrations of this machine, by name or id; of one that is gone, too.
    #[serde(default)]
    vm: Option<String>,
    /// Only migrations from or to this node.
    #[serde(default)]
    node: Option<String>,
    /// Only migrations that stand so.
    #[serde(default)]
    status: Option<MigrationStatus>,
    /// Only migrations of this project's machines.
    #[serde(default)]
    project: Option<String>,
    /// Items of a page, 1 to 1,000; 100 unless said.
    #[serde(default)]
    limit: Option<u32>,
    /// `next_cursor` of the page before.
    #[serde(default)]
    cursor: Option<String>,
    /// Number of the page, from 1; instead of a cursor.
    #[serde(default)]
    page: Option<u32>,
}

impl MigrationsQuery {
    fn lets_through(&self, one: &Migration) -> bool {
        let is_of = |vm: &str| one.vm_name.as_str() == vm || vm.parse() == Ok(one.vm);
        let touches = |node: &str| one.source.as_str() == node || one.target.as_str() == node;
        self.vm.as_deref().is_none_or(is_of)
            && self.node.as_deref().is_none_or(touches)
            && self.status.is_none_or(|status| one.status() == status)
            && self.project.as_deref().is_none_or(|project| one.project.as_str() == project)
    }
}

async fn list(
    call: Call<Nothing, MigrationsQuery, NoBody>,
) -> Result<Found<Page<MigrationView>>, Problem> {
    let query = &call.query;
    let cursor = query.cursor.clone();
    let list = ListQuery { limit: query.limit, cursor, page: query.page };
    let mut page = list.window(|text| CURSORS.parse(text))?.gather();
    let look = |fleet: &Fleet, sight: &Sight<'_>| {
        let is_shown = |one: &Migration| sight.sees(&one.project) && query.lets_through(one);
        let show = |one: &Migration| is_shown(one).then(|| migration_view(one));
        let rows = fleet.migrations_after(page.after().copied());
        Ok::<_, Problem>(page.look(fleet.revision(), rows, |one| one.id, show))
    };
    call.survey(list.is_scan(), look).await?;
    page.into_page(|migration| CURSORS.write(migration)).map(Found)
}

/// Those of this list.
const CURSORS: Cursors = Cursors("migration-");

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
