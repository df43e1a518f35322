//! The coordinator cluster.

use std::time::Duration;

use novacron_protocol::access::{Permission, Scope};
use novacron_protocol::api::{ClusterStatus, ClusterView, Code, Problem, SettingsChange};
use novacron_protocol::ids::MemberId;
use schemars::JsonSchema;
use serde::Deserialize;
use tokio::time::timeout;

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

/// How long a question about the members waits for a quorum.
const CONFIRM_TIMEOUT: Duration = Duration::from_secs(2);

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
    let cluster = &call.api.app.cluster;
    let checked = timeout(CONFIRM_TIMEOUT, call.read(|_, sight| sight.check(Scope::Fleet))).await;
    let status = match checked {
        Ok(Ok(checked)) => {
            checked?;
            cluster.status().await
        }
        Ok(Err(problem)) if problem.code != Code::Unavailable => return Err(problem),
        // Then, above all, somebody wants to know who is reached.
        Ok(Err(_)) | Err(_) => {
            call.glance(|_, sight| Ok(sight.check(Scope::Fleet)?))?;
            cluster.status_here().await
        }
    };
    status.map(Found).map_err(|error| error.to_problem())
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
