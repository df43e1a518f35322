//! Reports of all agents, gathered into few log entries: openraft 0.9 waits for the disk once per entry, so
//! one entry for each report would bound the fleet at the disk's flushes per second.

use std::time::Duration;

use novacron_protocol::limits::REPORTS_PER_MESSAGE_MAX;
use novacron_protocol::wire::codec;
use tokio::sync::{mpsc, oneshot};
use tokio::time::{Instant, timeout_at};
use tokio_util::sync::CancellationToken;

use crate::clock::{Clock, new_request};
use crate::peers::desk::Desk;
use crate::state::command::{COMMAND_BYTES_MAX, SessionReports};
use crate::state::{Accepted, Body, Command};

/// How long the first report waits for others.
const GATHER: Duration = Duration::from_millis(10);

/// Reports in one entry, beyond which nobody is waited for.
const REPORTS_PER_ENTRY: usize = 256;

/// Bytes in one entry, beyond which nobody is waited for; one batch of a session is at most as much again, and
/// both fit a command.
const ENTRY_BYTES: usize = COMMAND_BYTES_MAX / 2 - 64 * 1024;

/// Sessions whose reports wait; a session has at most one batch here.
const QUEUE: usize = 256;

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

struct Waiting {
    batch: SessionReports,
    bytes: usize,
    committed: oneshot::Sender<u64>,
}

/// Where sessions hand in their reports. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Reports {
    queue: mpsc::Sender<Waiting>,
}

impl Reports {
    /// A queue and the task that commits what comes into it; the task ends with `stop`.
    pub fn start(
        desk: Desk,
        clock: Clock,
        stop: CancellationToken,
    ) -> (Self, impl Future<Output = ()>) {
        let (queue, waiting) = mpsc::channel(QUEUE);
        (Self { queue }, run(waiting, desk, clock, stop))
    }

    /// Commits the reports and answers the number of the session's last committed report.
    ///
    /// # Errors
    /// [`NotCommitted`]; the agent sends them again in its next session.
    pub async fn commit(&self, batch: SessionReports) -> Result<u64, NotCommitted> {
        let bytes = batch_bytes(&batch);
        if batch.reports.len() > REPORTS_PER_MESSAGE_MAX || bytes > ENTRY_BYTES {
            return Err(NotCommitted::TooLarge);
        }
        let (committed, answer) = oneshot::channel();
        let waiting = Waiting { batch, bytes, committed };
        self.queue.send(waiting).await.map_err(|_| NotCommitted::NoQuorum)?;
        answer.await.map_err(|_| NotCommitted::NoQuorum)
    }
}

/// Bytes that a batch takes in a command; the whole command is measured, which is a few bytes more.
fn batch_bytes(batch: &SessionReports) -> usize {
    let at = novacron_protocol::time::Timestamp::default();
    let body = Body::Reports(vec![batch.clone()]);
    let command =
        Command::of_cluster(novacron_protocol::ids::RequestId(uuid::Uuid::nil()), at, body);
    codec::encode(&command).map_or(usize::MAX, |bytes| bytes.len())
}

async fn run(
    mut queue: mpsc::Receiver<Waiting>,
    desk: Desk,
    clock: Clock,
    stop: CancellationToken,
) {
    loop {
        let gathered = tokio::select! {
            biased;
            () = stop.cancelled() => return,
            gathered = gather(&mut queue) => gathered,
        };
        if gathered.is_empty() {
            return;
        }
        commit(gathered, &desk, &clock).await;
    }
}

/// The first batch, and those that come soon after it. Empty once the queue has ended.
async fn gather(queue: &mut mpsc::Receiver<Waiting>) -> Vec<Waiting> {
    let Some(first) = queue.recv().await else { return Vec::new() };
    let deadline = Instant::now() + GATHER;
    let (mut reports, mut bytes) = (first.batch.reports.len(), first.bytes);
    let mut gathered = vec![first];
    while reports < REPORTS_PER_ENTRY && bytes < ENTRY_BYTES {
        let Ok(Some(next)) = timeout_at(deadline, queue.recv()).await else { break };
        reports += next.batch.reports.len();
        bytes += next.bytes;
        gathered.push(next);
    }
    gathered
}

/// Commits and answers. Whoever gets no answer knows that nothing is certain: its receiver sees the sender
/// dropped.
async fn commit(gathered: Vec<Waiting>, desk: &Desk, clock: &Clock) {
    let (batches, answers): (Vec<_>, Vec<_>) =
        gathered.into_iter().map(|waiting| (waiting.batch, waiting.committed)).unzip();
    let at = clock.now();
    let command = Command::of_cluster(new_request(at), at, Body::Reports(batches));
    match desk.propose(command).await {
        Ok(Ok(Accepted::Sequences(sequences))) => {
            for (answer, sequence) in answers.into_iter().zip(sequences) {
                // The session may have ended meanwhile.
                let _ = answer.send(sequence);
            }
        }
        Ok(other) => tracing::error!(?other, "reports were answered with something else"),
        Err(declined) => tracing::info!(%declined, "reports could not be committed"),
    }
}
