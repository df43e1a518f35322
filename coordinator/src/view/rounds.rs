//! Rounds of asking the leader for the index that reads must have seen. A round costs the leader a heartbeat to
//! a quorum, so readers share it: whoever comes while one is under way gets the next, which begins after they
//! came and therefore counts for them.

use std::sync::{Arc, Mutex, PoisonError};

use tokio::sync::oneshot;

use super::ReadError;
use crate::peers::{Answer, Call, LeaderLink};

type Answered = Result<u64, ReadError>;

/// The rounds of one member. Cheap to clone.
#[derive(Clone)]
pub(super) struct Rounds {
    leader: LeaderLink,
    queue: Arc<Mutex<Queue>>,
}

#[derive(Default)]
struct Queue {
    waiting: Vec<oneshot::Sender<Answered>>,
    is_asking: bool,
}

impl Rounds {
    pub(super) fn new(leader: LeaderLink) -> Self {
        Self { leader, queue: Arc::default() }
    }

    /// The answer of the next round that begins after this call. Cancel-safe.
    pub(super) async fn next(&self) -> Answered {
        let (waiting, answer) = oneshot::channel();
        let must_ask = self.with(|queue| {
            queue.waiting.push(waiting);
            !std::mem::replace(&mut queue.is_asking, true)
        });
        if must_ask {
            // A task of its own: the reader that began the round may go away before the others are answered.
            drop(tokio::spawn(self.clone().ask()));
        }
        answer.await.unwrap_or(Err(ReadError::Unavailable))
    }

    /// Round after round, until nobody waits.
    async fn ask(self) {
        while let Some(waiting) = self.with(Queue::take) {
            let answered = match self.leader.call(Call::ReadIndex).await {
                Ok(Answer::ReadIndex(index)) => Ok(index),
                Ok(_) | Err(_) => Err(ReadError::Unavailable),
            };
            for reader in waiting {
                // A reader that has gone away needs no answer.
                let _ = reader.send(answered);
            }
        }
    }

    fn with<T>(&self, change: impl FnOnce(&mut Queue) -> T) -> T {
        change(&mut self.queue.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

impl Queue {
    fn take(&mut self) -> Option<Vec<oneshot::Sender<Answered>>> {
        // Readers that gave up leave nothing behind.
        self.waiting.retain(|reader| !reader.is_closed());
        self.is_asking = !self.waiting.is_empty();
        self.is_asking.then(|| std::mem::take(&mut self.waiting))
    }
}
