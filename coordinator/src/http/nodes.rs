//! Hypervisor hosts.

use novacron_protocol::api::{Code, NodeView, Page, Problem};
use novacron_protocol::ids::NodeName;
use schemars::JsonSchema;
use serde::Deserialize;

use super::answer::Found;
use super::body::NoBody;
use super::lists::ListQuery;
use super::parameters::Nothing;
use super::route::{Call, Route, get};
use crate::state::node::Node;
use crate::view::resource::node_view;

pub(super) fn routes() -> Vec<Route> {
    vec![
        get("/api/v1/nodes", "listNodes", "List hypervisor hosts").to(list),
        get("/api/v1/nodes/{node}", "getNode", "Show a hypervisor host")
            .refuses(&[Code::NotFound])
            .to(show),
    ]
}

/// Which node.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct NodePath {
    /// Name of the node.
    node: String,
}

async fn list(call: Call<Nothing, ListQuery, NoBody>) -> Result<Found<Page<NodeView>>, Problem> {
    let window = call.query.window(|text| text.parse::<NodeName>().ok())?;
    let page = call.api.read(move |fleet| {
        let behind = |node: &&Node| window.after.as_ref().is_none_or(|after| node.name > *after);
        let nodes = fleet.nodes().filter(behind).map(|node| node_view(fleet, node));
        window.page(nodes, |node| node.name.to_string(), fleet.revision())
    });
    Ok(Found(page.await?))
}

async fn show(call: Call<NodePath, Nothing, NoBody>) -> Result<Found<NodeView>, Problem> {
    let name = parse("node", &call.path.node)?;
    let view = call.api.read({
        let name = name.clone();
        move |fleet| fleet.node(&name).map(|node| node_view(fleet, node))
    });
    view.await?.map(Found).ok_or_else(|| not_found("node", name.as_str()))
}

/// The name of a node. What cannot be a name is no node's.
pub(super) fn parse(field: &str, name: &str) -> Result<NodeName, Problem> {
    name.parse().map_err(|_| not_found(field, name))
}

fn not_found(field: &str, name: &str) -> Problem {
    let name: String = name.chars().take(64).collect();
    Problem::new(Code::NotFound, format!("there is no node `{name}`")).about(field)
}
