//! The coordinator cluster.

use novacron_protocol::access::{Permission, Scope};
use novacron_protocol::api::{ClusterStatus, ClusterView, Code, Problem, SettingsChange};
use novacron_protocol::ids::MemberId;
use schemars::JsonSchema;
use serde::Deserialize;

use super::answer::Found;
use super::body::{Json, NoBody};
use super::parameters::Nothing;
use super::route::{Call, Route, delete, get, post};
use crate::auth::Where;
use crate::propose::Intent;

pub(super) fn routes() -> Vec<Route> {
    vec![
        get("/api/v1/cluster", "getCluster", "Show the coordinators")
            .needs(Permission::ClusterRead, Where::Fleet)
            .to(show),
        get("/api/v1/cluster/status", "getClusterStatus", "Ask each coordinator how it is")
            .needs(Permission::ClusterRead, Where::Fleet)
            .to(status),
        delete("/api/v1/cluster/members/{member}", "removeMember", "Remove a coordinator for good")
            .needs(Permission::ClusterAdmin, Where::Fleet)
            .refuses(&[Code::NotFound, Code::Conflict, Code::MemberIdUsed])
            .to(remove),
        post("/api/v1/cluster/settings", "changeSettings", "Change what holds for the whole fleet")
            .needs(Permission::ClusterAdmin, Where::Fleet)
            .refuses(&[Code::IdempotencyConflict])
            .to(change_settings),
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

async fn status(call: Call<Nothing, Nothing, NoBody>) -> Result<Found<ClusterStatus>, Problem> {
    call.read(|_, sight| sight.check(Scope::Fleet)).await??;
    call.api.app.cluster.status().await.map(Found).map_err(|error| error.to_problem())
}

async fn remove(call: Call<MemberPath, Nothing, NoBody>) -> Result<Found<ClusterView>, Problem> {
    let member = call.authorize(MemberId(call.path.member))?;
    call.api.remove_member(member, call.request).await?;
    call.api.cluster().await.map(Found)
}

async fn change_settings(
    call: Call<Nothing, Nothing, Json<SettingsChange>>,
) -> Result<Found<ClusterView>, Problem> {
    let intent = call.authorize(Intent::ChangeSettings(call.body.0))?;
    call.propose(intent).await?;
    call.api.cluster().await.map(Found)
}
