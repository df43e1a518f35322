//! Once the key of this member's disk has turned: files of the archive never change, so nothing else would ever encrypt
//! them anew.

use tokio_util::sync::CancellationToken;

use super::History;
use crate::fitness::Fitness;

/// Encrypts what an earlier key encrypts with the newest one, file by file. What it does not come to, the next start does.
pub async fn run(history: History, fitness: Fitness, stop: CancellationToken) {
    if !history.outgoing.archive().is_encrypted() {
        return;
    }
    let names = history.outgoing.archive().names().unwrap_or_default();
    let mut renewed = 0u64;
    for name in names {
        // The room that is left is the log's.
        if stop.is_cancelled() || fitness.check_room().is_err() {
            return;
        }
        let (outgoing, file) = (history.outgoing.clone(), name.clone());
        match history.work.run(move || outgoing.archive().renew(&file)).await {
            Ok(Ok(is_new)) => renewed += u64::from(is_new),
            Ok(Err(error)) => {
                let error = &error as &dyn std::error::Error;
                tracing::warn!(name, error, "an archived file keeps its key");
            }
            Err(_) => return,
        }
    }
    if renewed > 0 {
        tracing::info!(renewed, "archived files are encrypted with the newest key");
    }
}
