//! What an endpoint has admitted and refused. Counted where it happens, read by the metrics.

use std::sync::atomic::{AtomicU64, Ordering};

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
    /// Enrolments that were refused.
    pub enrolments_refused: Counter,
    /// Certificates that were given out.
    pub enrolments_granted: Counter,
}
