//! Once the key of this member's disk has turned: files of the archive never change, so nothing else would ever encrypt
//! them anew.

use tokio_util::sync::CancellationToken;

use super::{History, HistoryError};
use crate::fitness::Fitness;

/// Encrypts what an earlier key encrypts with the newest one, file by file. What it does not come to, the next start does.
pub async fn run(history: History, fitness: Fitness, stop: CancellationToken) {
    if !history.outgoing.archive().is_encrypted() {
        return;
    }
    let names = match history.outgoing.archive().names() {
        Ok(names) => names,
        Err(error) => return warn(&error, "archived files keep their keys"),
    };
    let (mut renewed, count) = (0u64, names.len());
    for (done, name) in names.into_iter().enumerate() {
        // The room that is left is the log's.
        if stop.is_cancelled() || fitness.check_room().is_err() {
            let left = count - done;
            tracing::info!(left, "archived files keep their keys until the next start");
            break;
        }
        let again = history.clone();
        match history.work.run(move || again.renew(&name)).await {
            Ok(Ok(is_new)) => renewed += u64::from(is_new),
            Ok(Err(error)) => warn(&error, "an archived file keeps its key"),
            Err(_) => return,
        }
    }
    if renewed > 0 {
        tracing::info!(renewed, "archived files are encrypted with the newest key");
    }
}

fn warn(error: &(dyn std::error::Error + 'static), what: &str) {
    tracing::warn!(error, "{what}");
}

impl History {
    /// Whether it was encrypted anew. One that is damaged is had from another member, with its key.
    fn renew(&self, name: &str) -> Result<bool, HistoryError> {
        let renewed = self.outgoing.archive().renew(name);
        renewed.or_else(|error| self.found(name, Err(error)).map(|_| false))
    }
}
