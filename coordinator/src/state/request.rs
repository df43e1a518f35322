//! Answers to clients' requests, so that a request that is sent again is not done again.
//!
//! Forgetting follows the time in the log and the number of answers, never a replica's clock.

use novacron_protocol::ids::RequestId;
use novacron_protocol::time::Timestamp;
use novacron_protocol::wire::codec::Message;
use serde::{Deserialize, Serialize};

use super::command::Command;
use super::fleet::{Applying, Fleet};
use super::reply::{Refusal, Reply};
use super::table::ROW_BYTES_MAX;

/// Answers that are kept.
pub const REQUESTS_MAX: usize = 65_536;

/// How long an answer is kept: one day.
pub const REQUEST_TTL_MS: u64 = 24 * 3600 * 1000;

/// An answer that was given.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Answered {
    /// What was asked.
    pub fingerprint: u64,
    /// The answer.
    pub reply: Reply,
    /// When.
    pub at: Timestamp,
}

impl Message for Answered {
    const VERSION: u16 = 1;
    const BYTES_MAX: usize = ROW_BYTES_MAX;
    const NAME: &'static str = "request row";
}

impl Fleet {
    /// What a request was answered before, whatever it asked, if that is kept still.
    pub fn kept_answer(&self, request: RequestId) -> Option<&Answered> {
        self.requests.get(&request)
    }

    /// The answer that this very command got before, if it did. Applying it again would answer the same.
    pub fn answer_to(&self, command: &Command) -> Option<Reply> {
        let before = self.requests.get(&command.request)?;
        (command.fingerprint() == Some(before.fingerprint)).then(|| before.reply.clone())
    }

    /// The answer that a request got before, if it did.
    pub(super) fn answered(&self, request: RequestId, fingerprint: u64) -> Option<Reply> {
        let before = self.requests.get(&request)?;
        if before.fingerprint != fingerprint {
            return Some(Err(Refusal::RequestReused));
        }
        Some(before.reply.clone())
    }

    pub(super) fn remember(
        &mut self,
        now: &Applying,
        request: RequestId,
        fingerprint: u64,
        reply: &Reply,
    ) {
        let answered = Answered { fingerprint, reply: reply.clone(), at: now.at };
        self.index.requests_by_age.insert((now.at, request));
        self.requests.insert(request, answered);
        self.forget_old_requests(now.at);
    }

    fn forget_old_requests(&mut self, now: Timestamp) {
        while let Some(&(at, request)) = self.index.requests_by_age.first() {
            if self.requests.len() <= REQUESTS_MAX && now.since_ms(at) <= REQUEST_TTL_MS {
                return;
            }
            self.index.requests_by_age.pop_first();
            self.requests.remove(&request);
        }
    }
}
