//! Principals, bindings and API keys: who may do what.

use novacron_protocol::access::{Permission, PermissionPattern, Scope};
use novacron_protocol::api::{
    ApiKeyCreate, ApiKeyMade, ApiKeyView, BindingCreate, BindingView, Code, Page, PrincipalChange,
    PrincipalCreate, PrincipalView, Problem,
};
use novacron_protocol::ids::{ApiKeyId, BindingId, ProjectName};
use novacron_transport::SubjectName;
use schemars::JsonSchema;
use serde::Deserialize;

use super::answer::{Created, Done, Found};
use super::body::{Json, NoBody};
use super::lists::ListQuery;
use super::parameters::Nothing;
use super::route::{Call, Route, delete, get, post};
use crate::auth::{Sight, Where};
use crate::propose::{Intent, NewApiKey};
use crate::state::api_key::ApiKey;
use crate::state::binding::{Binding, Right};
use crate::state::principal::{AccessOrder, Principal};
use crate::state::{Accepted as Applied, Fleet};
use crate::view::access::{api_key_view, binding_view, principal_view};

pub(super) fn routes() -> Vec<Route> {
    [principal_routes(), binding_routes(), api_key_routes()].into_iter().flatten().collect()
}

fn principal_routes() -> Vec<Route> {
    vec![
        get("/api/v1/principals", "listPrincipals", "List principals")
            .needs(Permission::PrincipalRead, Where::Fleet)
            .to(list),
        post("/api/v1/principals", "createPrincipal", "Make a principal, which may do nothing yet")
            .needs(Permission::PrincipalAdmin, Where::Fleet)
            .refuses(&[Code::NameTaken, Code::NoCapacity, Code::IdempotencyConflict])
            .to(create),
        get("/api/v1/principals/{principal}", "getPrincipal", "Show a principal")
            .needs(Permission::PrincipalRead, Where::Fleet)
            .refuses(&[Code::NotFound])
            .to(show),
        post(
            "/api/v1/principals/{principal}/settings",
            "changePrincipal",
            "Disable a principal, make it active again, or change what it is called",
        )
        .needs(Permission::PrincipalAdmin, Where::Fleet)
        .refuses(&[Code::NotFound, Code::Conflict, Code::IdempotencyConflict])
        .to(change),
        delete(
            "/api/v1/principals/{principal}",
            "deletePrincipal",
            "Delete a principal, its bindings and its API keys",
        )
        .needs(Permission::PrincipalAdmin, Where::Fleet)
        .refuses(&[Code::NotFound, Code::Conflict, Code::IdempotencyConflict])
        .to(remove),
    ]
}

fn binding_routes() -> Vec<Route> {
    vec![
        get("/api/v1/bindings", "listBindings", "List who may do what")
            .needs(Permission::PrincipalRead, Where::Fleet)
            .to(list_bindings),
        post("/api/v1/bindings", "createBinding", "Say what a principal may, or may not, do")
            .needs(Permission::PrincipalAdmin, Where::Fleet)
            .refuses(&[Code::NotFound, Code::Conflict, Code::NoCapacity, Code::IdempotencyConflict])
            .to(bind),
        delete("/api/v1/bindings/{binding}", "deleteBinding", "Take a binding back")
            .needs(Permission::PrincipalAdmin, Where::Fleet)
            .refuses(&[Code::NotFound, Code::Conflict, Code::IdempotencyConflict])
            .to(unbind),
    ]
}

fn api_key_routes() -> Vec<Route> {
    vec![
        get("/api/v1/api-keys", "listApiKeys", "List API keys, without their secrets")
            .needs(Permission::PrincipalRead, Where::Fleet)
            .to(list_keys),
        post("/api/v1/api-keys", "createApiKey", "Make an API key; its secret is shown once")
            .needs(Permission::PrincipalAdmin, Where::Fleet)
            .refuses(&[Code::NotFound, Code::Conflict, Code::NoCapacity, Code::IdempotencyConflict])
            .to(create_key),
        delete("/api/v1/api-keys/{key}", "revokeApiKey", "Make an API key worth nothing")
            .needs(Permission::PrincipalAdmin, Where::Fleet)
            .refuses(&[Code::NotFound, Code::IdempotencyConflict])
            .to(revoke_key),
    ]
}

/// Which principal.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct PrincipalPath {
    /// Name of the principal.
    principal: String,
}

/// Which binding.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct BindingPath {
    /// Id of the binding.
    binding: BindingId,
}

/// Which API key.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct ApiKeyPath {
    /// Id of the API key.
    key: ApiKeyId,
}

/// Whose, and which part of the list.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct OwnedQuery {
    /// Only those of this principal.
    #[serde(default)]
    principal: Option<String>,
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

impl OwnedQuery {
    fn parts(&self) -> (Option<String>, ListQuery) {
        let Self { principal, limit, cursor, page } = self.clone();
        (principal, ListQuery { limit, cursor, page })
    }
}

async fn list(
    call: Call<Nothing, ListQuery, NoBody>,
) -> Result<Found<Page<PrincipalView>>, Problem> {
    let mut page = call.query.window(|text| text.parse::<SubjectName>().ok())?.gather();
    let look = |fleet: &Fleet, _: &Sight<'_>| {
        let after = page.after().cloned();
        let show = |principal: &Principal| Some(principal_view(principal));
        let rows = fleet.principals_after(after.as_ref());
        Ok::<_, Problem>(page.look(fleet.revision(), rows, |one| one.name.clone(), show))
    };
    call.survey(call.query.is_scan(), look).await?;
    page.into_page(ToString::to_string).map(Found)
}

async fn show(call: Call<PrincipalPath, Nothing, NoBody>) -> Result<Found<PrincipalView>, Problem> {
    let name = parse(&call.path.principal)?;
    find(&call, name).await.map(Found)
}

async fn create(
    call: Call<Nothing, Nothing, Json<PrincipalCreate>>,
) -> Result<Created<PrincipalView>, Problem> {
    let PrincipalCreate { name, kind, display_name } = call.body.0.clone();
    let name = name.parse::<SubjectName>().map_err(|error| invalid("name", error.to_string()))?;
    let order = AccessOrder::CreatePrincipal { name, kind, display_name };
    accepted(&call, order).await.map(Created)
}

async fn change(
    call: Call<PrincipalPath, Nothing, Json<PrincipalChange>>,
) -> Result<Found<PrincipalView>, Problem> {
    let name = parse(&call.path.principal)?;
    let PrincipalChange { state, display_name } = call.body.0.clone();
    let order = AccessOrder::ChangePrincipal { name, state, display_name };
    accepted(&call, order).await.map(Found)
}

async fn remove(call: Call<PrincipalPath, Nothing, NoBody>) -> Result<Done, Problem> {
    let name = parse(&call.path.principal)?;
    done(&call, AccessOrder::DeletePrincipal { name }).await
}

/// Proposes, and shows the principal as it stands then.
async fn accepted<P, Q, B>(
    call: &Call<P, Q, B>,
    order: AccessOrder,
) -> Result<PrincipalView, Problem> {
    match call.propose(call.authorize(Intent::Access(order))?).await? {
        Applied::Principal(name) => find(call, name).await,
        other => Err(super::unexpected("a principal", &other)),
    }
}

async fn done<P, Q, B>(call: &Call<P, Q, B>, order: AccessOrder) -> Result<Done, Problem> {
    call.propose(call.authorize(Intent::Access(order))?).await?;
    Ok(Done)
}

async fn find<P, Q, B>(call: &Call<P, Q, B>, name: SubjectName) -> Result<PrincipalView, Problem> {
    let text = name.to_string();
    let view = call.read(move |fleet, _| fleet.principal(&name).map(principal_view));
    view.await?.ok_or_else(|| not_found(&text))
}

async fn list_bindings(
    call: Call<Nothing, OwnedQuery, NoBody>,
) -> Result<Found<Page<BindingView>>, Problem> {
    let (principal, list) = call.query.parts();
    let mut page = list.window(|text| text.parse::<BindingId>().ok())?.gather();
    let look = |fleet: &Fleet, _: &Sight<'_>| {
        let is_own = |one: &Binding| is_of(principal.as_deref(), &one.principal);
        let show = |one: &Binding| is_own(one).then(|| binding_view(one));
        let rows = fleet.bindings_after(page.after().copied());
        Ok::<_, Problem>(page.look(fleet.revision(), rows, |one| one.id, show))
    };
    call.survey(list.is_scan(), look).await?;
    page.into_page(ToString::to_string).map(Found)
}

async fn bind(
    call: Call<Nothing, Nothing, Json<BindingCreate>>,
) -> Result<Created<BindingView>, Problem> {
    let asked = &call.body.0;
    let intent = Intent::Bind {
        principal: parse(&asked.principal)?,
        right: right(asked)?,
        scope: scope(asked.project.as_deref())?,
        effect: asked.effect,
    };
    let binding = match call.propose(call.authorize(intent)?).await? {
        Applied::Binding(binding) => binding,
        other => return Err(super::unexpected("a binding", &other)),
    };
    let view = call.read(move |fleet, _| fleet.binding(binding).map(binding_view)).await?;
    let gone = || Problem::new(Code::NotFound, format!("binding {binding} is gone already"));
    view.ok_or_else(gone).map(Created)
}

/// Exactly one of role and permission.
fn right(asked: &BindingCreate) -> Result<Right, Problem> {
    match (asked.role, &asked.permission) {
        (Some(role), None) => Ok(Right::Role(role)),
        (None, Some(text)) => {
            let pattern = text.parse::<PermissionPattern>();
            let pattern = pattern.map_err(|error| invalid("permission", error.to_string()))?;
            Ok(Right::Permissions(pattern))
        }
        _ => Err(invalid("role", "give a role or a permission, one of both".to_owned())),
    }
}

fn scope(project: Option<&str>) -> Result<Scope, Problem> {
    let Some(text) = project else { return Ok(Scope::Fleet) };
    let project = text.parse::<ProjectName>();
    project.map(Scope::Project).map_err(|error| invalid("project", error.to_string()))
}

async fn unbind(call: Call<BindingPath, Nothing, NoBody>) -> Result<Done, Problem> {
    done(&call, AccessOrder::Unbind { binding: call.path.binding }).await
}

async fn list_keys(
    call: Call<Nothing, OwnedQuery, NoBody>,
) -> Result<Found<Page<ApiKeyView>>, Problem> {
    let (principal, list) = call.query.parts();
    let mut page = list.window(|text| text.parse::<ApiKeyId>().ok())?.gather();
    let look = |fleet: &Fleet, _: &Sight<'_>| {
        let is_own = |one: &ApiKey| is_of(principal.as_deref(), &one.principal);
        let show = |one: &ApiKey| is_own(one).then(|| api_key_view(one));
        let rows = fleet.api_keys_after(page.after().copied());
        Ok::<_, Problem>(page.look(fleet.revision(), rows, |one| one.id, show))
    };
    call.survey(list.is_scan(), look).await?;
    page.into_page(ToString::to_string).map(Found)
}

async fn create_key(
    call: Call<Nothing, Nothing, Json<ApiKeyCreate>>,
) -> Result<Created<ApiKeyMade>, Problem> {
    let ApiKeyCreate { principal, name, ttl_seconds } = call.body.0.clone();
    let new = NewApiKey { principal: parse(&principal)?, name, ttl_seconds };
    let secret = call.api.create_api_key(call.authorize(new)?, call.request).await?;
    let id = secret.id();
    let view = call.read(move |fleet, _| fleet.api_key(id).map(api_key_view)).await?;
    let gone = || Problem::new(Code::NotFound, format!("API key {id} is revoked already"));
    Ok(Created(ApiKeyMade { key: secret.to_text(), view: view.ok_or_else(gone)? }))
}

async fn revoke_key(call: Call<ApiKeyPath, Nothing, NoBody>) -> Result<Done, Problem> {
    done(&call, AccessOrder::RevokeKey { key: call.path.key }).await
}

fn is_of(wanted: Option<&str>, principal: &SubjectName) -> bool {
    wanted.is_none_or(|wanted| principal.as_str() == wanted)
}

/// The name of a principal. What cannot be a name is nobody's.
fn parse(name: &str) -> Result<SubjectName, Problem> {
    name.parse().map_err(|_| not_found(name))
}

fn not_found(name: &str) -> Problem {
    let name: String = name.chars().take(64).collect();
    Problem::new(Code::NotFound, format!("there is no principal `{name}`")).about("principal")
}

fn invalid(field: &str, problem: String) -> Problem {
    Problem::new(Code::InvalidRequest, format!("{field}: {problem}")).about(field)
}
