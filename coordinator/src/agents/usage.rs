//! What an agent measured, into the ledger: a message is a command. Commands that wait together share an entry of the log,
//! so nothing is gathered here; an agent sends one message at a time, so nothing piles up either.

use novacron_protocol::ids::NodeName;
use novacron_protocol::limits::USAGE_RECORDS_PER_BATCH_MAX;
use novacron_protocol::usage::{RecordOutcome, UsageRecord};

use crate::clock::{Clock, new_request};
use crate::peers::desk::Desk;
use crate::state::{Accepted, Body, Command};

/// Usage that is not in the ledger.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(super) enum NotPosted {
    /// No agent sends this.
    #[error("a message of {0} records of usage: 1 to {USAGE_RECORDS_PER_BATCH_MAX} are a batch")]
    NotABatch(usize),
    /// The fleet, or this member, does not take it now, and why.
    #[error("{0}")]
    Declined(String),
    /// This member does not lead any more, or no quorum answers; it may have been committed.
    #[error("the usage could not be committed")]
    NoQuorum,
}

/// Commits records of a node; the same ones again change nothing.
///
/// # Errors
/// [`NotPosted`].
pub(super) async fn post(
    desk: &Desk,
    clock: &Clock,
    node: &NodeName,
    records: Vec<UsageRecord>,
) -> Result<Vec<RecordOutcome>, NotPosted> {
    if !(1..=USAGE_RECORDS_PER_BATCH_MAX).contains(&records.len()) {
        return Err(NotPosted::NotABatch(records.len()));
    }
    let at = clock.now();
    let body = Body::PostUsage { node: node.clone(), records };
    match desk.propose(Command::of_cluster(new_request(at), at, body)).await {
        Ok(Ok(Accepted::Usage(outcomes))) => Ok(outcomes),
        Ok(Ok(other)) => {
            tracing::error!(?other, "usage was answered with something else");
            Err(NotPosted::NoQuorum)
        }
        Ok(Err(refusal)) => {
            tracing::warn!(%node, %refusal, "usage cannot be taken");
            Err(NotPosted::Declined(refusal.to_string()))
        }
        Err(declined) => {
            tracing::info!(%node, %declined, "usage could not be committed");
            Err(NotPosted::NoQuorum)
        }
    }
}
