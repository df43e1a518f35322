//! The coordinator cluster.

use novacron_protocol::api::{ClusterView, Code, Problem};
use novacron_protocol::ids::MemberId;
use schemars::JsonSchema;
use serde::Deserialize;

use super::answer::Found;
use super::body::NoBody;
use super::parameters::Nothing;
use super::route::{Call, Route, delete, get};

pub(super) fn routes() -> Vec<Route> {
    vec![
        get("/api/v1/cluster", "getCluster", "Show the coordinators").to(show),
        delete("/api/v1/cluster/members/{member}", "removeMember", "Remove a coordinator for good")
            .refuses(&[Code::NotFound, Code::Conflict])
            .to(remove),
    ]
}

/// Which coordinator.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct MemberPath {
    /// Id of the coordinator.
    member: u64,
}

async fn show(call: Call<Nothing, Nothing, NoBody>) -> Result<Found<ClusterView>, Problem> {
    call.api.cluster().await.map(Found)
}

async fn remove(call: Call<MemberPath, Nothing, NoBody>) -> Result<Found<ClusterView>, Problem> {
    let member = call.authorize(MemberId(call.path.member))?;
    call.api.remove_member(member, call.request).await?;
    call.api.cluster().await.map(Found)
}
