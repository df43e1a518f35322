//! Hypervisor hosts.

use novacron_protocol::access::Permission;
use novacron_protocol::api::{Code, NodeDrain, NodeUndrain, NodeView, Page, Problem};
use novacron_protocol::ids::NodeName;
use novacron_protocol::node::NodeState;
use schemars::JsonSchema;
use serde::Deserialize;

use super::answer::{Accepted, Found};
use super::body::{NoBody, OptionalJson};
use super::lists::{Cursors, ListQuery};
use super::parameters::Nothing;
use super::route::{Call, Route, get, post};
use super::search::{Sought, has_labels, labels};
use crate::auth::{Authorized, Sight, Where};
use crate::propose::Intent;
use crate::state::node::Node;
use crate::state::{Accepted as Applied, Fleet};
use crate::view::drain::node_view_in_full;
use crate::view::resource::node_view;

pub(super) fn routes() -> Vec<Route> {
    vec![
        get("/api/v1/nodes", "listNodes", "List hypervisor hosts")
            .needs(Permission::NodeRead, Where::Fleet)
            .may_be_stale()
            .to(list),
        get("/api/v1/nodes/{node}", "getNode", "Show a hypervisor host")
            .needs(Permission::NodeRead, Where::Fleet)
            .refuses(&[Code::NotFound])
            .may_be_stale()
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

/// Which nodes, and which part of the list.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct NodesQuery {
    /// Only nodes whose name or label values have this text somewhere, whatever its case; 1 to 128 bytes.
    #[serde(default)]
    text: Option<String>,
    /// Only nodes with this label, as `key=value`. May be repeated: all of them must be there.
    #[serde(default)]
    label: Vec<String>,
    /// Only nodes that stand in this region.
    #[serde(default)]
    region: Option<String>,
    /// Only nodes in this state.
    #[serde(default)]
    state: Option<NodeState>,
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

async fn list(call: Call<Nothing, NodesQuery, NoBody>) -> Result<Found<Page<NodeView>>, Problem> {
    let NodesQuery { text, label, region, state, limit, cursor, page } = call.query.clone();
    let list = ListQuery { limit, cursor, page };
    let mut page = list.window(|text| CURSORS.parse(text))?.gather();
    let is_scan = list.is_scan() || text.is_some();
    let (text, labels) = (Sought::parse(text.as_deref())?, labels(&label)?);
    let is_shown = |node: &Node| {
        let stands = || node.region.as_ref().map(|region| region.as_str());
        state.is_none_or(|state| node.state == state)
            && region.as_deref().is_none_or(|wanted| stands() == Some(wanted))
            && has_labels(&node.facts.labels, &labels)
            && text.as_ref().is_none_or(|text| text.is_in_node(node))
    };
    let look = |fleet: &Fleet, _: &Sight<'_>| {
        let after = page.after().cloned();
        let rows = fleet.nodes_after(after.as_ref());
        let show = |node: &Node| is_shown(node).then(|| node_view(fleet, node));
        Ok::<_, Problem>(page.look(fleet.revision(), rows, |node| node.name.clone(), show))
    };
    call.survey(is_scan, look).await?;
    page.into_page(|name| CURSORS.write(name)).map(Found)
}

/// Those of this list.
const CURSORS: Cursors = Cursors("node-");

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
