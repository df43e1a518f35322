//! Secrets of projects and of no project. A value is written and, by those who may, read; nothing else shows it.

use novacron_protocol::access::{Permission, Scope};
use novacron_protocol::api::{
    Code, Page, Problem, SecretKeysView, SecretRevealed, SecretView, SecretWrite,
};
use novacron_protocol::ids::{ProjectName, SecretName};
use novacron_protocol::vm::InvalidField;
use schemars::JsonSchema;
use serde::Deserialize;

use super::answer::{Done, Found};
use super::body::{Json, NoBody};
use super::lists::ListQuery;
use super::parameters::{Nothing, Parameters};
use super::route::{Call, Draft, Route, delete, get, post, put};
use crate::auth::Where;
use crate::secrets::{NewSecret, keys_view};
use crate::state::secret::{Secret, SecretPlace};

const FLEET: &str = "/api/v1/secrets";
const FLEET_ONE: &str = "/api/v1/secrets/{secret}";
const FLEET_REVEAL: &str = "/api/v1/secrets/{secret}/reveal";
const PROJECT: &str = "/api/v1/projects/{project}/secrets";
const PROJECT_ONE: &str = "/api/v1/projects/{project}/secrets/{secret}";
const PROJECT_REVEAL: &str = "/api/v1/projects/{project}/secrets/{secret}/reveal";
const KEYS: &str = "/api/v1/cluster/secret-keys";
const TURN: &str = "/api/v1/cluster/secret-keys/turn";

pub(super) fn routes() -> Vec<Route> {
    let (fleet, project) = (Where::Fleet, Where::Project);
    vec![
        get(FLEET, "listSecrets", "List secrets of no project, without their values")
            .needs(Permission::SecretRead, fleet)
            .to(list::<Nothing>),
        get(FLEET_ONE, "getSecret", "Show a secret of no project, without its value")
            .needs(Permission::SecretRead, fleet)
            .refuses(&[Code::NotFound])
            .to(show::<FleetSecret>),
        written(
            put(FLEET_ONE, "putSecret", "Keep a value encrypted, in place of an earlier one")
                .needs(Permission::SecretWrite, fleet),
        )
        .to(write::<FleetSecret>),
        removed(
            delete(FLEET_ONE, "deleteSecret", "Remove a secret of no project")
                .needs(Permission::SecretWrite, fleet),
        )
        .to(remove::<FleetSecret>),
        revealed(
            post(FLEET_REVEAL, "revealSecret", "Read the value of a secret of no project")
                .needs(Permission::SecretReveal, fleet),
        )
        .to(reveal::<FleetSecret>),
        get(PROJECT, "listProjectSecrets", "List secrets of a project, without their values")
            .needs(Permission::SecretRead, project)
            .refuses(&[Code::NotFound])
            .to(list::<ProjectOnly>),
        get(PROJECT_ONE, "getProjectSecret", "Show a secret of a project, without its value")
            .needs(Permission::SecretRead, project)
            .refuses(&[Code::NotFound])
            .to(show::<ProjectSecret>),
        written(
            put(PROJECT_ONE, "putProjectSecret", "Keep a value of a project encrypted")
                .needs(Permission::SecretWrite, project),
        )
        .to(write::<ProjectSecret>),
        removed(
            delete(PROJECT_ONE, "deleteProjectSecret", "Remove a secret of a project")
                .needs(Permission::SecretWrite, project),
        )
        .to(remove::<ProjectSecret>),
        revealed(
            post(PROJECT_REVEAL, "revealProjectSecret", "Read the value of a project's secret")
                .needs(Permission::SecretReveal, project),
        )
        .to(reveal::<ProjectSecret>),
        get(KEYS, "getSecretKeys", "Show which key encrypts secrets, and how far its turn is")
            .needs(Permission::ClusterRead, fleet)
            .to(keys),
        post(TURN, "turnSecretKey", "Encrypt all secrets with a new key")
            .needs(Permission::ClusterAdmin, fleet)
            .refuses(&[Code::Conflict, Code::IdempotencyConflict, Code::UpgradeNeeded])
            .to(turn),
    ]
}

fn written(draft: Draft) -> Draft {
    draft.refuses(&[
        Code::NotFound,
        Code::Conflict,
        Code::NoCapacity,
        Code::IdempotencyConflict,
        Code::SecretKeyMissing,
        Code::UpgradeNeeded,
    ])
}

fn removed(draft: Draft) -> Draft {
    draft.refuses(&[Code::NotFound, Code::IdempotencyConflict, Code::UpgradeNeeded])
}

fn revealed(draft: Draft) -> Draft {
    draft.refuses(&[
        Code::NotFound,
        Code::Conflict,
        Code::IdempotencyConflict,
        Code::SecretKeyMissing,
        Code::UpgradeNeeded,
    ])
}

/// A secret of no project.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct FleetSecret {
    /// Name of the secret.
    secret: String,
}

/// The secrets of a project.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct ProjectOnly {
    /// Name of the project.
    project: String,
}

/// A secret of a project.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct ProjectSecret {
    /// Name of the project.
    project: String,
    /// Name of the secret.
    secret: String,
}

/// A path to the secrets of one project, or of none.
trait Owner: Parameters + Send + 'static {
    fn project(&self) -> Result<Option<ProjectName>, Problem>;
}

impl Owner for Nothing {
    fn project(&self) -> Result<Option<ProjectName>, Problem> {
        Ok(None)
    }
}

impl Owner for ProjectOnly {
    fn project(&self) -> Result<Option<ProjectName>, Problem> {
        super::projects::parse(&self.project).map(Some)
    }
}

/// A path to one secret.
trait Place: Parameters + Send + 'static {
    fn place(&self) -> Result<SecretPlace, Problem>;
}

impl Place for FleetSecret {
    fn place(&self) -> Result<SecretPlace, Problem> {
        Ok(SecretPlace { project: None, name: parse(&self.secret)? })
    }
}

impl Place for ProjectSecret {
    fn place(&self) -> Result<SecretPlace, Problem> {
        let project = super::projects::parse(&self.project)?;
        Ok(SecretPlace { project: Some(project), name: parse(&self.secret)? })
    }
}

fn parse(text: &str) -> Result<SecretName, Problem> {
    text.parse::<SecretName>()
        .map_err(|error| Problem::new(Code::InvalidRequest, error.to_string()).about("secret"))
}

async fn list<P: Owner>(
    call: Call<P, ListQuery, NoBody>,
) -> Result<Found<Page<SecretView>>, Problem> {
    let project = call.path.project()?;
    let window = call.query.window(|text| text.parse::<SecretName>().ok())?;
    let page = call.read(move |fleet, sight| {
        sight.check(project.clone().map_or(Scope::Fleet, Scope::Project))?;
        let rows = fleet.secrets_of(project.as_ref(), window.after.as_ref());
        let views = rows.map(|(place, row)| view(place, row));
        Ok::<_, Problem>(window.page(views, |one| one.name.to_string(), fleet.revision()))
    });
    page.await?.map(Found)
}

async fn show<P: Place>(call: Call<P, Nothing, NoBody>) -> Result<Found<SecretView>, Problem> {
    find(&call, &call.path.place()?).await.map(Found)
}

async fn write<P: Place>(
    call: Call<P, Nothing, Json<SecretWrite>>,
) -> Result<Found<SecretView>, Problem> {
    let place = call.path.place()?;
    let value = call.body.0.value.clone();
    value.check_value().map_err(invalid)?;
    let new = call.authorize(NewSecret { place: place.clone(), value })?;
    call.api.put_secret(new, call.request).await?;
    find(&call, &place).await.map(Found)
}

async fn remove<P: Place>(call: Call<P, Nothing, NoBody>) -> Result<Done, Problem> {
    let place = call.authorize(call.path.place()?)?;
    call.api.delete_secret(place, call.request).await?;
    Ok(Done)
}

async fn reveal<P: Place>(
    call: Call<P, Nothing, NoBody>,
) -> Result<Found<SecretRevealed>, Problem> {
    let place = call.authorize(call.path.place()?)?;
    call.api.reveal_secret(place, call.request).await.map(Found)
}

async fn keys(call: Call<Nothing, Nothing, NoBody>) -> Result<Found<SecretKeysView>, Problem> {
    call.read(|fleet, _| keys_view(fleet)).await.map(Found)
}

async fn turn(call: Call<Nothing, Nothing, NoBody>) -> Result<Found<SecretKeysView>, Problem> {
    let asked = call.authorize(())?;
    call.api.turn_secret_key(asked, call.request).await?;
    call.read(|fleet, _| keys_view(fleet)).await.map(Found)
}

/// The secret, for those who may know that it is there.
async fn find<P: Place, Q, B>(
    call: &Call<P, Q, B>,
    place: &SecretPlace,
) -> Result<SecretView, Problem> {
    let found = call.read(|fleet, sight| {
        sight.check(place.scope())?;
        Ok::<_, Problem>(fleet.secret(place).map(|row| view(place, row)))
    });
    let not_found =
        || Problem::new(Code::NotFound, format!("there is no secret `{place}`")).about("secret");
    found.await??.ok_or_else(not_found)
}

fn view(place: &SecretPlace, row: &Secret) -> SecretView {
    SecretView {
        name: place.name.clone(),
        project: place.project.clone(),
        version: row.version,
        created_at: row.created_at,
        updated_at: row.updated_at,
        updated_by: row.updated_by.as_ref().map_or("cluster", |name| name.as_str()).to_owned(),
        key: row.value.key.to_string(),
    }
}

fn invalid(wrong: InvalidField) -> Problem {
    Problem::new(Code::InvalidRequest, wrong.to_string()).about(wrong.field)
}
