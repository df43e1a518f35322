//! What an agent reports, into the fleet: a message is a command. Commands that wait together share an entry of the log,
//! so nothing is gathered here; a session has one message under way at a time, so nothing piles up either.

use novacron_protocol::limits::REPORTS_PER_MESSAGE_MAX;
use novacron_protocol::wire::codec;

use crate::clock::{Clock, new_request};
use crate::peers::desk::Desk;
use crate::state::command::{COMMAND_BYTES_MAX, SessionReports};
use crate::state::{Accepted, Body, Command};

/// Bytes of a command with the reports of one message: half of what a command may have, so that entries have room for
/// those of others.
const BATCH_BYTES_MAX: usize = COMMAND_BYTES_MAX / 2 - 64 * 1024;

/// Reports that cannot be committed here.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum NotCommitted {
    /// They are too many or too large for one message.
    #[error("the reports of one message are too many or too large")]
    TooLarge,
    /// This member does not lead any more, or no quorum answers.
    #[error("the reports could not be committed")]
    NoQuorum,
}

/// Where sessions hand in their reports, while this member leads.
#[derive(Clone)]
pub struct Reports {
    desk: Desk,
    clock: Clock,
}

impl Reports {
    pub(crate) fn new(desk: Desk, clock: Clock) -> Self {
        Self { desk, clock }
    }

    /// Commits the reports and answers the number of the session's last committed report.
    ///
    /// # Errors
    /// [`NotCommitted`]; the agent sends them again in its next session.
    pub async fn commit(&self, batch: SessionReports) -> Result<u64, NotCommitted> {
        let is_long = batch.reports.len() > REPORTS_PER_MESSAGE_MAX;
        let at = self.clock.now();
        let command = Command::of_cluster(new_request(at), at, Body::Reports(vec![batch]));
        let bytes = codec::encoded_bytes(&command);
        if is_long || bytes.is_none_or(|bytes| bytes > BATCH_BYTES_MAX) {
            return Err(NotCommitted::TooLarge);
        }
        match self.desk.propose(command).await {
            Ok(Ok(Accepted::Sequences(sequences))) => {
                sequences.first().copied().ok_or(NotCommitted::NoQuorum)
            }
            Ok(other) => {
                tracing::error!(?other, "reports were answered with something else");
                Err(NotCommitted::NoQuorum)
            }
            Err(declined) => {
                tracing::info!(%declined, "reports could not be committed");
                Err(NotCommitted::NoQuorum)
            }
        }
    }
}
