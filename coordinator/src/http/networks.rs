//! Networks: bridges under one name, and whose machines may be in them.

use novacron_protocol::access::{Permission, Scope};
use novacron_protocol::api::{Code, NetworkChange, NetworkCreate, NetworkView, Page, Problem};
use novacron_protocol::ids::NetworkName;
use novacron_protocol::network::NetworkUsers;
use schemars::JsonSchema;
use serde::Deserialize;

use super::answer::{Created, Done, Found};
use super::body::{Json, NoBody};
use super::lists::{Cursors, ListQuery};
use super::parameters::Nothing;
use super::route::{Call, Route, delete, get, post};
use crate::auth::{Authorized, Sight, Where};
use crate::propose::Intent;
use crate::state::Accepted as Applied;
use crate::state::network::{Network, NetworkEdit, NetworkOrder};
use crate::view::network::network_view;

pub(super) fn routes() -> Vec<Route> {
    vec![
        get("/api/v1/networks", "listNetworks", "List networks")
            .needs(Permission::NetworkRead, Where::Somewhere)
            .to(list),
        post("/api/v1/networks", "createNetwork", "Make a network")
            .needs(Permission::NetworkAdmin, Where::Fleet)
            .refuses(&[Code::NameTaken, Code::NoCapacity, Code::IdempotencyConflict])
            .to(create),
        get("/api/v1/networks/{network}", "getNetwork", "Show a network")
            .needs(Permission::NetworkRead, Where::Somewhere)
            .refuses(&[Code::NotFound])
            .to(show),
        post("/api/v1/networks/{network}/settings", "changeNetwork", "Change a network")
            .needs(Permission::NetworkAdmin, Where::Fleet)
            .refuses(&[Code::NotFound, Code::Conflict, Code::IdempotencyConflict])
            .to(change),
        delete(
            "/api/v1/networks/{network}",
            "deleteNetwork",
            "Delete a network that no machine is in",
        )
        .needs(Permission::NetworkAdmin, Where::Fleet)
        .refuses(&[Code::NotFound, Code::Conflict, Code::IdempotencyConflict])
        .to(remove),
    ]
}

/// Which network.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct NetworkPath {
    /// Name of the network.
    network: String,
}

/// Those of this list.
const CURSORS: Cursors = Cursors("network-");

async fn list(call: Call<Nothing, ListQuery, NoBody>) -> Result<Found<Page<NetworkView>>, Problem> {
    let window = call.query.window(|text| CURSORS.parse::<NetworkName>(text))?;
    let page = call.read(move |fleet, sight| {
        let networks = fleet.networks_after(window.after.as_ref());
        let seen = networks.filter(|network| is_seen(network, sight));
        let views = seen.map(|network| network_view(fleet, network, sight.reach()));
        window.page(views, |network| CURSORS.write(&network.name), fleet.revision())
    });
    page.await.map(Found)
}

/// Of networks for some projects only those are told that one may look for: whose they are is nobody else's business.
fn is_seen(network: &Network, sight: &Sight<'_>) -> bool {
    let reach = sight.reach();
    reach.covers(&Scope::Fleet)
        || network.users == NetworkUsers::All
        || network.users.named().any(|project| reach.covers_project(project))
}

async fn show(call: Call<NetworkPath, Nothing, NoBody>) -> Result<Found<NetworkView>, Problem> {
    let network = parse(&call.path.network)?;
    find(&call, network).await.map(Found)
}

async fn create(
    call: Call<Nothing, Nothing, Json<NetworkCreate>>,
) -> Result<Created<NetworkView>, Problem> {
    let asked = call.body.0.clone();
    let network = asked.name.parse::<NetworkName>().map_err(|error| {
        Problem::new(Code::InvalidRequest, format!("name: {error}")).about("name")
    })?;
    let order = NetworkOrder::Create {
        network,
        description: asked.description,
        bridge: asked.bridge,
        users: asked.users,
        regions: asked.regions,
    };
    let intent = call.authorize(Intent::Networks(order))?;
    accepted(&call, intent).await.map(Created)
}

async fn change(
    call: Call<NetworkPath, Nothing, Json<NetworkChange>>,
) -> Result<Found<NetworkView>, Problem> {
    let network = parse(&call.path.network)?;
    let asked = call.body.0.clone();
    let edit = NetworkEdit {
        description: asked.description,
        bridge: asked.bridge,
        users: asked.users,
        regions: asked.regions,
    };
    let intent = call.authorize(Intent::Networks(NetworkOrder::Change { network, edit }))?;
    accepted(&call, intent).await.map(Found)
}

async fn remove(call: Call<NetworkPath, Nothing, NoBody>) -> Result<Done, Problem> {
    let network = parse(&call.path.network)?;
    let intent = call.authorize(Intent::Networks(NetworkOrder::Delete { network }))?;
    call.propose(intent).await?;
    Ok(Done)
}

/// Proposes, and shows the network as it stands then.
async fn accepted<P, Q, B>(
    call: &Call<P, Q, B>,
    intent: Authorized<Intent>,
) -> Result<NetworkView, Problem> {
    match call.propose(intent).await? {
        Applied::Network(network) => find(call, network).await,
        other => Err(super::unexpected("a network", &other)),
    }
}

async fn find<P, Q, B>(call: &Call<P, Q, B>, name: NetworkName) -> Result<NetworkView, Problem> {
    let text = name.to_string();
    let view = call.read(move |fleet, sight| {
        let network = fleet.network(&name).filter(|network| is_seen(network, sight));
        network.map(|network| network_view(fleet, network, sight.reach()))
    });
    view.await?.ok_or_else(|| not_found(&text))
}

/// The name of a network. What cannot be a name is no network's.
fn parse(name: &str) -> Result<NetworkName, Problem> {
    name.parse().map_err(|_| not_found(name))
}

fn not_found(name: &str) -> Problem {
    let name: String = name.chars().take(64).collect();
    Problem::new(Code::NotFound, format!("there is no network `{name}`")).about("network")
}
