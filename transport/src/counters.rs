//! What an endpoint has admitted and refused. Counted where it happens, read by the metrics.

use std::sync::atomic::{AtomicU64, Ordering};

use crate::enrolment::RefusalCode;

/// One counter; relaxed, because nothing is decided by its value.
#[derive(Debug, Default)]
pub struct Counter(AtomicU64);

impl Counter {
    /// Counts one.
    pub(crate) fn increment(&self) {
        self.0.fetch_add(1, Ordering::Relaxed);
    }

    /// How many there were since the endpoint was bound.
    pub fn get(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}

/// The counters of one endpoint.
#[derive(Debug, Default)]
pub struct Counters {
    /// Peers that were verified and handed to the owner, in either direction.
    pub connections_opened: Counter,
    /// Incoming attempts turned away before the handshake, because too many were under way or waiting.
    pub handshakes_refused: Counter,
    /// Handshakes that failed: no or unknown certificate, no common version or protocol, silence.
    pub handshakes_failed: Counter,
    /// Peers with a good certificate whose identity was not welcome.
    pub identities_refused: Counter,
    /// Frames that were oversized or cut off, and messages that made no sense; each cost its connection.
    pub violations: Counter,
    /// Certificates that were given out.
    pub enrolments_granted: Counter,
    /// Enrolments that were refused, in the order of [`RefusalCode::ALL`].
    refused: [Counter; RefusalCode::ALL.len()],
}

impl Counters {
    /// An enrolment was refused.
    pub(crate) fn enrolment_refused(&self, code: RefusalCode) {
        self.of(code).increment();
    }

    /// How many enrolments were refused for this.
    pub fn enrolments_refused(&self, code: RefusalCode) -> u64 {
        self.of(code).get()
    }

    fn of(&self, code: RefusalCode) -> &Counter {
        &self.refused[code as usize]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_refusal_has_a_counter_of_its_own() {
        let counters = Counters::default();
        for (times, code) in RefusalCode::ALL.into_iter().enumerate() {
            (0..times).for_each(|_| counters.enrolment_refused(code));
        }
        for (times, code) in RefusalCode::ALL.into_iter().enumerate() {
            assert_eq!(counters.enrolments_refused(code), times as u64, "{code:?}");
        }
    }
}
