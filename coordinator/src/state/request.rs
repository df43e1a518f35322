//! Answers to clients' requests, so that a request that is sent again is not done again.
//!
//! Forgetting follows the time in the log and the number of answers, never a replica's clock. An answer that a client
//! may still ask for is kept however many others there are: a client that heard nothing repeats its request for
//! seconds, in which a busy fleet gives out more answers than an idle one does in a day.

use novacron_protocol::ids::RequestId;
use novacron_protocol::time::Timestamp;
use novacron_protocol::wire::codec::Message;
use serde::{Deserialize, Serialize};

use super::command::Command;
use super::fleet::{Applying, Fleet};
use super::reply::{Refusal, Reply};
use super::table::ROW_BYTES_MAX;

/// Answers of which each is kept for a day.
pub const REQUESTS_LEISURELY: usize = 65_536;

/// Answers that are kept at most: as many as [`REQUEST_KEPT_MS`] has at 17,000 writes a second. Each takes about 200
/// bytes of memory, so 100 MB.
pub const REQUESTS_MAX: usize = 524_288;

/// How long an answer is kept at least: twice what clients repeat a request for unless they are told otherwise.
pub const REQUEST_KEPT_MS: u64 = 30_000;

/// How long an answer is kept at most: one day.
pub const REQUEST_TTL_MS: u64 = 24 * 3600 * 1000;

/// Answers that one command forgets at most: more than the one that it gives, so their number shrinks when fewer come,
/// and few enough that nobody waits for it.
const FORGOTTEN_AT_ONCE: usize = 4;

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
        for _ in 0..FORGOTTEN_AT_ONCE {
            let Some(&(at, request)) = self.index.requests_by_age.first() else { return };
            if !is_forgotten(self.requests.len(), now.since_ms(at)) {
                return;
            }
            self.index.requests_by_age.pop_first();
            self.requests.remove(&request);
        }
    }
}

/// Whether the oldest of so many answers, which is of so long ago, is one too many.
fn is_forgotten(kept: usize, age_ms: u64) -> bool {
    match age_ms {
        0..REQUEST_KEPT_MS => kept > REQUESTS_MAX,
        REQUEST_KEPT_MS..=REQUEST_TTL_MS => kept > REQUESTS_LEISURELY,
        _ => true,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_answer_stays_while_somebody_may_ask_again() {
        let (young, old) = (REQUEST_KEPT_MS - 1, REQUEST_KEPT_MS);
        assert!(!is_forgotten(REQUESTS_MAX, young) && is_forgotten(REQUESTS_MAX + 1, young));
        assert!(!is_forgotten(REQUESTS_LEISURELY, old));
        assert!(is_forgotten(REQUESTS_LEISURELY + 1, old));
        assert!(!is_forgotten(1, REQUEST_TTL_MS) && is_forgotten(1, REQUEST_TTL_MS + 1));
    }
}
