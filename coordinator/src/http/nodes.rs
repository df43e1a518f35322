//! Hypervisor hosts.

use novacron_protocol::access::Permission;
use novacron_protocol::api::{Code, NodeDrain, NodeUndrain, NodeView, Page, Problem};
use novacron_protocol::ids::NodeName;
use schemars::JsonSchema;
use serde::Deserialize;

use super::answer::{Accepted, Found};
use super::body::{NoBody, OptionalJson};
use super::lists::ListQuery;
use super::parameters::Nothing;
use super::route::{Call, Route, get, post};
use crate::auth::{Authorized, Where};
use crate::propose::Intent;
use crate::state::Accepted as Applied;
use crate::state::node::Node;
use crate::view::drain::node_view_in_full;
use crate::view::resource::node_view;

pub(super) fn routes() -> Vec<Route> {
    vec![
        get("/api/v1/nodes", "listNodes", "List hypervisor hosts")
            .needs(Permission::NodeRead, Where::Fleet)
            .to(list),
        get("/api/v1/nodes/{node}", "getNode", "Show a hypervisor host")
            .needs(Permission::NodeRead, Where::Fleet)
            .refuses(&[Code::NotFound])
            .to(show),
        post(
            "/api/v1/nodes/{node}/drain",
            "drainNode",
            "Have a node take no machines, and move away those that it has",
        )
        .needs(Permission::NodeDrain, Where::Fleet)
        .refuses(&[Code::NotFound, Code::Conflict, Code::IdempotencyConflict])
        .to(drain),
        post("/api/v1/nodes/{node}/undrain", "undrainNode", "Have a node take machines again")
            .needs(Permission::NodeDrain, Where::Fleet)
            .refuses(&[Code::NotFound, Code::Conflict, Code::IdempotencyConflict])
            .to(undrain),
    ]
}

/// Which node.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct NodePath {
    /// Name of the node.
    pub(super) node: String,
}

async fn list(call: Call<Nothing, ListQuery, NoBody>) -> Result<Found<Page<NodeView>>, Problem> {
    let window = call.query.window(|text| text.parse::<NodeName>().ok())?;
    let page = call.read(move |fleet, _| {
        let behind = |node: &&Node| window.after.as_ref().is_none_or(|after| node.name > *after);
        let nodes = fleet.nodes().filter(behind).map(|node| node_view(fleet, node));
        window.page(nodes, |node| node.name.to_string(), fleet.revision())
    });
    Ok(Found(page.await?))
}

async fn show(call: Call<NodePath, Nothing, NoBody>) -> Result<Found<NodeView>, Problem> {
    find(&call, parse("node", &call.path.node)?).await.map(Found)
}

async fn drain(
    call: Call<NodePath, Nothing, OptionalJson<NodeDrain>>,
) -> Result<Accepted<NodeView>, Problem> {
    let node = parse("node", &call.path.node)?;
    let options = call.body.0.options();
    let intent = call.authorize(Intent::DrainNode { node, options })?;
    accepted(&call, intent).await.map(Accepted)
}

async fn undrain(
    call: Call<NodePath, Nothing, OptionalJson<NodeUndrain>>,
) -> Result<Accepted<NodeView>, Problem> {
    let node = parse("node", &call.path.node)?;
    let intent = call.authorize(Intent::UndrainNode { node, cancel: call.body.0.cancel })?;
    accepted(&call, intent).await.map(Accepted)
}

/// Proposes, and shows the node that it was about as it stands then.
pub(super) async fn accepted<P, Q, B>(
    call: &Call<P, Q, B>,
    intent: Authorized<Intent>,
) -> Result<NodeView, Problem> {
    match call.propose(intent).await? {
        Applied::Node(node) => find(call, node).await,
        other => Err(super::unexpected("a node", &other)),
    }
}

async fn find<P, Q, B>(call: &Call<P, Q, B>, name: NodeName) -> Result<NodeView, Problem> {
    let view = call.read({
        let name = name.clone();
        move |fleet, sight| {
            fleet.node(&name).map(|node| node_view_in_full(fleet, node, sight.machines()))
        }
    });
    view.await?.ok_or_else(|| not_found("node", name.as_str()))
}

/// The name of a node. What cannot be a name is no node's.
pub(super) fn parse(field: &str, name: &str) -> Result<NodeName, Problem> {
    name.parse().map_err(|_| not_found(field, name))
}

fn not_found(field: &str, name: &str) -> Problem {
    let name: String = name.chars().take(64).collect();
    Problem::new(Code::NotFound, format!("there is no node `{name}`")).about(field)
}
