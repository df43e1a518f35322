//! Regions: where hosts stand, what holds there, and which machines stand against a rule.

use novacron_protocol::access::{Permission, Scope};
use novacron_protocol::api::{
    Code, NodeRegionChange, NodeView, Page, Problem, RegionChange, RegionCreate, RegionRoute,
    RegionView, ResidencyViolationView,
};
use novacron_protocol::ids::{ProjectName, RegionCode, VmId};
use schemars::JsonSchema;
use serde::Deserialize;

use super::answer::{Created, Done, Found};
use super::body::{Json, NoBody};
use super::lists::ListQuery;
use super::nodes::{self, NodePath};
use super::parameters::Nothing;
use super::projects;
use super::route::{Call, Route, delete, get, post};
use crate::auth::{Authorized, Sight, Where};
use crate::propose::Intent;
use crate::state::region::{RegionEdit, RegionOrder};
use crate::state::residency::Violation;
use crate::state::vm::Vm;
use crate::state::{Accepted as Applied, Fleet};
use crate::view::region::{region_view, route_view, violation_view};

pub(super) fn routes() -> Vec<Route> {
    vec![
        get("/api/v1/regions", "listRegions", "List regions")
            .needs(Permission::RegionRead, Where::Somewhere)
            .to(list),
        post("/api/v1/regions", "createRegion", "Make a region")
            .needs(Permission::RegionAdmin, Where::Fleet)
            .refuses(&[Code::NameTaken, Code::NoCapacity, Code::IdempotencyConflict])
            .to(create),
        get(
            "/api/v1/regions/route",
            "routeRegions",
            "Say to which region to turn from one: regions in order of preference",
        )
        .needs(Permission::RegionRead, Where::Somewhere)
        .refuses(&[Code::NotFound])
        .to(route),
        get("/api/v1/regions/{region}", "getRegion", "Show a region")
            .needs(Permission::RegionRead, Where::Somewhere)
            .refuses(&[Code::NotFound])
            .to(show),
        post("/api/v1/regions/{region}/settings", "changeRegion", "Change a region")
            .needs(Permission::RegionAdmin, Where::Fleet)
            .refuses(&[Code::NotFound, Code::IdempotencyConflict])
            .to(change),
        delete("/api/v1/regions/{region}", "deleteRegion", "Delete a region that is not in use")
            .needs(Permission::RegionAdmin, Where::Fleet)
            .refuses(&[Code::NotFound, Code::Conflict, Code::IdempotencyConflict])
            .to(remove),
        post(
            "/api/v1/nodes/{node}/region",
            "assignNodeRegion",
            "Say in which region a host stands",
        )
        .needs(Permission::RegionAdmin, Where::Fleet)
        .refuses(&[Code::NotFound, Code::IdempotencyConflict])
        .to(assign),
        get(
            "/api/v1/residency/violations",
            "listResidencyViolations",
            "List machines that stand against a rule of residency",
        )
        .needs(Permission::RegionRead, Where::Somewhere)
        .to(violations),
    ]
}

/// Which region.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct RegionPath {
    /// Code of the region.
    region: String,
}

/// From where, and for whom.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct RouteQuery {
    /// The region that it is seen from.
    from: String,
    /// By the rules of residency of this project.
    #[serde(default)]
    project: Option<ProjectName>,
}

async fn list(call: Call<Nothing, ListQuery, NoBody>) -> Result<Found<Page<RegionView>>, Problem> {
    let window = call.query.window(|text| text.parse::<RegionCode>().ok())?;
    let page = call.read(move |fleet, _| {
        let counts = fleet.nodes_by_region();
        let views = fleet.regions_after(window.after.as_ref());
        let views = views.map(|region| region_view(fleet, region, &counts));
        window.page(views, |region| region.region_code.to_string(), fleet.revision())
    });
    page.await.map(Found)
}

/// What the fleet knows of its nodes now: one that is late is not counted any more.
async fn route(call: Call<Nothing, RouteQuery, NoBody>) -> Result<Found<RegionRoute>, Problem> {
    let RouteQuery { from, project } = call.query.clone();
    let from = parse_as("from", &from)?;
    let view = call.read(move |fleet, sight| {
        if let Some(project) = &project {
            sight.check(Scope::Project(project.clone()))?;
            fleet.project(project).ok_or_else(|| projects::not_found(project.as_str()))?;
        }
        fleet.region(&from).ok_or_else(|| not_found_as("from", from.as_str()))?;
        let has_nodes = sight.reach_for(Permission::NodeRead).covers(&Scope::Fleet);
        Ok::<_, Problem>(route_view(fleet, from, project, has_nodes))
    });
    Ok(Found(view.await??))
}

async fn show(call: Call<RegionPath, Nothing, NoBody>) -> Result<Found<RegionView>, Problem> {
    let region = parse(&call.path.region)?;
    find(&call, region).await.map(Found)
}

async fn create(
    call: Call<Nothing, Nothing, Json<RegionCreate>>,
) -> Result<Created<RegionView>, Problem> {
    let asked = call.body.0.clone();
    let region = asked.region_code.parse::<RegionCode>().map_err(|error| {
        Problem::new(Code::InvalidRequest, format!("region_code: {error}")).about("region_code")
    })?;
    let order = RegionOrder::Create {
        region,
        name: asked.region_name,
        certifications: asked.compliance_certifications,
        rules: asked.data_residency_rules,
    };
    let intent = call.authorize(Intent::Regions(order))?;
    accepted(&call, intent).await.map(Created)
}

async fn change(
    call: Call<RegionPath, Nothing, Json<RegionChange>>,
) -> Result<Found<RegionView>, Problem> {
    let region = parse(&call.path.region)?;
    let asked = call.body.0.clone();
    let latencies_ms = asked.latencies_ms;
    let edit = RegionEdit {
        name: asked.region_name,
        certifications: asked.compliance_certifications,
        rules: asked.data_residency_rules,
        status: asked.status,
    };
    let order = match latencies_ms {
        None => RegionOrder::Change { region, edit },
        Some(latencies_ms) => RegionOrder::ChangeWithLatencies { region, edit, latencies_ms },
    };
    let intent = call.authorize(Intent::Regions(order))?;
    accepted(&call, intent).await.map(Found)
}

async fn remove(call: Call<RegionPath, Nothing, NoBody>) -> Result<Done, Problem> {
    let region = parse(&call.path.region)?;
    let intent = call.authorize(Intent::Regions(RegionOrder::Delete { region }))?;
    call.propose(intent).await?;
    Ok(Done)
}

async fn assign(
    call: Call<NodePath, Nothing, Json<NodeRegionChange>>,
) -> Result<Found<NodeView>, Problem> {
    let node = nodes::parse("node", &call.path.node)?;
    let region = call.body.0.region.as_deref().map(parse).transpose()?;
    let intent = call.authorize(Intent::Regions(RegionOrder::Assign { node, region }))?;
    nodes::accepted(&call, intent).await.map(Found)
}

/// Of the machines that are seen.
async fn violations(
    call: Call<Nothing, ListQuery, NoBody>,
) -> Result<Found<Page<ResidencyViolationView>>, Problem> {
    let mut page = call.query.window(|text| text.parse::<VmId>().ok())?.gather();
    let look = |fleet: &Fleet, sight: &Sight<'_>| {
        let show = |(vm, row): (&Vm, &Violation)| {
            sight.may(vm.project()).then(|| violation_view(fleet, vm, row)).flatten()
        };
        let rows = fleet.violations_after(page.after().copied());
        Ok::<_, Problem>(page.look(fleet.revision(), rows, |(vm, _)| vm.id, show))
    };
    call.survey(call.query.is_scan(), look).await?;
    page.into_page(ToString::to_string).map(Found)
}

/// Proposes, and shows the region as it stands then.
async fn accepted<P, Q, B>(
    call: &Call<P, Q, B>,
    intent: Authorized<Intent>,
) -> Result<RegionView, Problem> {
    match call.propose(intent).await? {
        Applied::Region(region) => find(call, region).await,
        other => Err(super::unexpected("a region", &other)),
    }
}

async fn find<P, Q, B>(call: &Call<P, Q, B>, code: RegionCode) -> Result<RegionView, Problem> {
    let text = code.to_string();
    let view = call.read(move |fleet, _| {
        let region = fleet.region(&code);
        region.map(|region| region_view(fleet, region, &fleet.nodes_by_region()))
    });
    view.await?.ok_or_else(|| not_found(&text))
}

/// The code of a region. What cannot be a code is no region's.
fn parse(code: &str) -> Result<RegionCode, Problem> {
    parse_as("region", code)
}

fn parse_as(field: &str, code: &str) -> Result<RegionCode, Problem> {
    code.parse().map_err(|_| not_found_as(field, code))
}

fn not_found(code: &str) -> Problem {
    not_found_as("region", code)
}

fn not_found_as(field: &str, code: &str) -> Problem {
    let code: String = code.chars().take(64).collect();
    Problem::new(Code::NotFound, format!("there is no region `{code}`")).about(field)
}
