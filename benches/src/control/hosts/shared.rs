//! What all simulated hosts share: where coordinators are, what the scenario asks for, and what was counted.

use std::net::SocketAddr;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};

use tokio::sync::{Semaphore, watch};

use super::tape::Span;

/// Hosts that connect at once: half of the handshakes that a coordinator has under way at once.
const CONNECTING_MAX: usize = 32;

/// See the module.
#[derive(Debug)]
pub struct Shared {
    /// Where coordinators await agents.
    pub doors: Vec<SocketAddr>,
    /// Who may connect now.
    pub entry: Semaphore,
    /// What to meter: a number of the order, and the span.
    pub orders: watch::Receiver<Option<(u64, Span)>>,
    /// What was counted.
    pub counts: Counts,
    trouble: Mutex<Option<String>>,
}

/// Counted over all hosts.
#[derive(Debug, Default)]
pub struct Counts {
    /// Hosts that have a session now.
    pub connected: AtomicU64,
    /// Sessions that were opened.
    pub sessions: AtomicU64,
    /// Effects that were carried out.
    pub carried_out: AtomicU64,
    /// Records that the ledger has taken.
    pub records: AtomicU64,
    /// Records of these that it had before, because an answer was lost.
    pub repeated: AtomicU64,
    /// Parts of what was measured that were sent.
    pub sample_parts: AtomicU64,
    /// Spans that a host has sent whole.
    pub spans: AtomicU64,
}

impl Counts {
    /// One of them.
    pub fn of(counter: &AtomicU64) -> u64 {
        counter.load(Ordering::Relaxed)
    }

    /// Counts.
    pub fn add(counter: &AtomicU64, count: usize) {
        counter.fetch_add(count as u64, Ordering::Relaxed);
    }
}

impl Shared {
    /// For hosts that connect at these addresses.
    pub fn new(doors: Vec<SocketAddr>, orders: watch::Receiver<Option<(u64, Span)>>) -> Self {
        let (entry, counts) = (Semaphore::new(CONNECTING_MAX), Counts::default());
        Self { doors, entry, orders, counts, trouble: Mutex::new(None) }
    }

    /// Notes what must not happen to a host; the first is kept.
    pub fn note_trouble(&self, text: String) {
        let mut trouble = self.trouble.lock().unwrap_or_else(PoisonError::into_inner);
        trouble.get_or_insert(text);
    }

    /// What happened that must not.
    pub fn trouble(&self) -> Option<String> {
        self.trouble.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

/// A host that has a session, while this is held.
#[derive(Debug)]
pub struct Present<'a>(&'a Counts);

impl<'a> Present<'a> {
    /// Counts it.
    pub fn new(counts: &'a Counts) -> Self {
        counts.connected.fetch_add(1, Ordering::Relaxed);
        counts.sessions.fetch_add(1, Ordering::Relaxed);
        Self(counts)
    }
}

impl Drop for Present<'_> {
    fn drop(&mut self) {
        self.0.connected.fetch_sub(1, Ordering::Relaxed);
    }
}
