//! The whole state as one stream, for `novacron cluster backup`.

use std::io;
use std::sync::Arc;

use axum::body::Body;
use bytes::Bytes;
use futures_util::stream;
use novacron_protocol::access::{Permission, Scope};
use novacron_protocol::api::{Code, Problem};

use super::Api;
use super::answer::OctetStream;
use super::body::NoBody;
use super::parameters::Nothing;
use super::route::{Call, Route, get};
use crate::auth::Where;
use crate::backup::Backup;
use crate::propose::Intent;

pub(super) fn routes() -> Vec<Route> {
    vec![
        get(
            "/api/v1/cluster/backup",
            "backupCluster",
            "Take the whole state, with the cluster's keys",
        )
        .needs(Permission::ClusterAdmin, Where::Fleet)
        .refuses(&[
            Code::Conflict,
            Code::IdempotencyConflict,
            Code::OutcomeUnknown,
            Code::UpgradeNeeded,
        ])
        .to(backup),
    ]
}

async fn backup(call: Call<Nothing, Nothing, NoBody>) -> Result<OctetStream, Problem> {
    call.read(|_, sight| sight.check(Scope::Fleet)).await??;
    let asked = call.authorize(Intent::TakeBackup)?;
    let begun = call.api.app.backups.begin(call.request, asked).await;
    let backup = begun.map_err(|error| error.to_problem())?;
    let output = Output { api: call.api, backup };
    Ok(OctetStream(Body::from_stream(stream::unfold(Some(output), Output::next))))
}

/// A backup on its way to a client. Dropped with the client's connection.
struct Output {
    api: Arc<Api>,
    backup: Backup,
}

impl Output {
    /// The next bytes. A backup that breaks off ends with an error, so that the client does not take it for whole.
    async fn next(output: Option<Self>) -> Option<(io::Result<Bytes>, Option<Self>)> {
        let mut output = output?;
        let bytes = tokio::select! {
            biased;
            () = output.api.stopping() => Err(io::ErrorKind::ConnectionAborted.into()),
            bytes = output.backup.next_bytes() => bytes,
        };
        match bytes {
            Ok(Some(bytes)) => Some((Ok(bytes), Some(output))),
            Ok(None) => None,
            Err(error) => Some((Err(error), None)),
        }
    }
}
