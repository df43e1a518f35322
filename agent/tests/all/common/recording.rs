//! What a host meters, told to a coordinator that the test plays.

use novacron_agent::metering::{Batch, Recorder};
use novacron_protocol::usage::{RecordOutcome, UsageRecord};
use tokio::task::JoinHandle;
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;

use super::PATIENCE;

pub struct Recording {
    pub recorder: Recorder,
    stop: CancellationToken,
    task: JoinHandle<()>,
}

impl Recording {
    pub fn begin(recorder: Recorder) -> Self {
        let (running, stop) = (recorder.clone(), CancellationToken::new());
        let stopped = stop.clone();
        let task = tokio::spawn(async move { running.run(stopped).await });
        Self { recorder, stop, task }
    }

    pub async fn end(self) {
        self.stop.cancel();
        self.task.await.unwrap();
    }

    /// What is not durable is lost.
    pub async fn die(self) {
        self.task.abort();
        let _ = self.task.await;
    }

    /// Waits until a crash would find what is held now.
    pub async fn until_durable(&self) {
        let durable = async {
            while self.recorder.numbers().is_behind {
                tokio::task::yield_now().await;
            }
        };
        timeout(PATIENCE, durable).await.expect("what is held becomes durable");
    }

    pub async fn next_batch(&self) -> Batch {
        let next = async {
            loop {
                if let Some(batch) = self.recorder.next_batch().await {
                    return batch;
                }
                self.recorder.changed().await;
            }
        };
        timeout(PATIENCE, next).await.expect("usage becomes known")
    }

    /// Takes what becomes known as a ledger that knows nothing yet, until there is what is wanted.
    pub async fn until(&self, wanted: impl Fn(&[UsageRecord]) -> bool) -> Vec<UsageRecord> {
        let mut told = Vec::new();
        while !wanted(&told) {
            let Batch { sequence, records } = self.next_batch().await;
            let outcomes = vec![RecordOutcome::Created { window_s: 0 }; records.len()];
            self.recorder.answered(sequence, outcomes).await.unwrap();
            told.extend(records);
        }
        told
    }
}
