//! Projects: whose machines are whose, and how much they may take.

use novacron_protocol::access::{Permission, Scope};
use novacron_protocol::api::{
    BudgetChange, Code, Page, Problem, ProjectChange, ProjectCreate, ProjectView,
};
use novacron_protocol::ids::ProjectName;
use schemars::JsonSchema;
use serde::Deserialize;

use super::answer::{Created, Done, Found};
use super::body::{Json, NoBody};
use super::lists::ListQuery;
use super::parameters::Nothing;
use super::route::{Call, Route, delete, get, post, put};
use crate::auth::{Authorized, Sight, Where};
use crate::propose::Intent;
use crate::state::project::{Project, ProjectEdit, ProjectOrder};
use crate::state::{Accepted as Applied, Fleet};
use crate::view::access::project_view;

pub(super) fn routes() -> Vec<Route> {
    vec![
        get("/api/v1/projects", "listProjects", "List projects")
            .needs(Permission::ProjectRead, Where::Somewhere)
            .may_be_stale()
            .to(list),
        post("/api/v1/projects", "createProject", "Make a project")
            .needs(Permission::ProjectAdmin, Where::Fleet)
            .refuses(&[Code::NameTaken, Code::NoCapacity, Code::IdempotencyConflict])
            .to(create),
        get("/api/v1/projects/{project}", "getProject", "Show a project and what it takes")
            .needs(Permission::ProjectRead, Where::Project)
            .refuses(&[Code::NotFound])
            .may_be_stale()
            .to(show),
        post("/api/v1/projects/{project}/settings", "changeProject", "Change a project")
            .needs(Permission::ProjectAdmin, Where::Fleet)
            .refuses(&[Code::NotFound, Code::IdempotencyConflict])
            .to(change),
        put(
            "/api/v1/projects/{project}/budget",
            "setBudget",
            "Say how much a project may cost in a month before an alert says so",
        )
        .needs(Permission::ProjectAdmin, Where::Fleet)
        .refuses(&[Code::NotFound, Code::IdempotencyConflict])
        .to(set_budget),
        delete("/api/v1/projects/{project}", "deleteProject", "Delete a project without machines")
            .needs(Permission::ProjectAdmin, Where::Fleet)
            .refuses(&[Code::NotFound, Code::Conflict, Code::IdempotencyConflict])
            .to(remove),
    ]
}

/// Which project.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct ProjectPath {
    /// Name of the project.
    project: String,
}

/// A project that is not seen is not there, for whoever does not see it.
pub(super) fn check(sight: &Sight<'_>, text: &str) -> Result<(), Problem> {
    let project = parse(text)?;
    match sight.may(&project) {
        true => Ok(()),
        false => Err(not_found(text)),
    }
}

async fn list(call: Call<Nothing, ListQuery, NoBody>) -> Result<Found<Page<ProjectView>>, Problem> {
    let mut page = call.query.window(|text| text.parse::<ProjectName>().ok())?.gather();
    let look = |fleet: &Fleet, sight: &Sight<'_>| {
        let after = page.after().cloned();
        let is_seen = |project: &Project| sight.may(&project.name);
        let show = |project: &Project| is_seen(project).then(|| project_view(fleet, project));
        let rows = fleet.projects_after(after.as_ref());
        Ok::<_, Problem>(page.look(fleet.revision(), rows, |project| project.name.clone(), show))
    };
    call.survey(call.query.is_scan(), look).await?;
    page.into_page(ToString::to_string).map(Found)
}

async fn show(call: Call<ProjectPath, Nothing, NoBody>) -> Result<Found<ProjectView>, Problem> {
    let name = parse(&call.path.project)?;
    find(&call, name).await.map(Found)
}

async fn create(
    call: Call<Nothing, Nothing, Json<ProjectCreate>>,
) -> Result<Created<ProjectView>, Problem> {
    let ProjectCreate { name, display_name, quotas, labels, residency } = call.body.0.clone();
    let project = name.parse::<ProjectName>().map_err(|error| {
        Problem::new(Code::InvalidRequest, format!("name: {error}")).about("name")
    })?;
    let order = ProjectOrder::Create { project, display_name, quotas, labels, residency };
    let intent = call.authorize(Intent::Projects(order))?;
    accepted(&call, intent).await.map(Created)
}

async fn change(
    call: Call<ProjectPath, Nothing, Json<ProjectChange>>,
) -> Result<Found<ProjectView>, Problem> {
    let project = parse(&call.path.project)?;
    let ProjectChange { display_name, state, quotas, labels, residency } = call.body.0.clone();
    let quotas = quotas.entries();
    let edit = ProjectEdit { display_name, state, quotas, labels, residency };
    let intent = call.authorize(Intent::Projects(ProjectOrder::Change { project, edit }))?;
    accepted(&call, intent).await.map(Found)
}

async fn set_budget(
    call: Call<ProjectPath, Nothing, Json<BudgetChange>>,
) -> Result<Found<ProjectView>, Problem> {
    let project = parse(&call.path.project)?;
    let micro_dollars_per_month = call.body.0.micro_dollars_per_month;
    let order = ProjectOrder::SetBudget { project, micro_dollars_per_month };
    let intent = call.authorize(Intent::Projects(order))?;
    accepted(&call, intent).await.map(Found)
}

async fn remove(call: Call<ProjectPath, Nothing, NoBody>) -> Result<Done, Problem> {
    let project = parse(&call.path.project)?;
    let intent = call.authorize(Intent::Projects(ProjectOrder::Delete { project }))?;
    call.propose(intent).await?;
    Ok(Done)
}

/// Proposes, and shows the project as it stands then.
async fn accepted<P, Q, B>(
    call: &Call<P, Q, B>,
    intent: Authorized<Intent>,
) -> Result<ProjectView, Problem> {
    match call.propose(intent).await? {
        Applied::Project(project) => find(call, project).await,
        other => Err(super::unexpected("a project", &other)),
    }
}

async fn find<P, Q, B>(call: &Call<P, Q, B>, name: ProjectName) -> Result<ProjectView, Problem> {
    let text = name.to_string();
    let view = call.read(move |fleet, sight| {
        sight.check(Scope::Project(name.clone()))?;
        Ok::<_, Problem>(fleet.project(&name).map(|project| project_view(fleet, project)))
    });
    view.await??.ok_or_else(|| not_found(&text))
}

/// The name of a project. What cannot be a name is no project's.
pub(super) fn parse(name: &str) -> Result<ProjectName, Problem> {
    name.parse().map_err(|_| not_found(name))
}

pub(super) fn not_found(name: &str) -> Problem {
    let name: String = name.chars().take(64).collect();
    Problem::new(Code::NotFound, format!("there is no project `{name}`")).about("project")
}
