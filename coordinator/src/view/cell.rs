//! The fleet of this process, shared between the state machine that changes it and everybody who reads it.

use std::sync::{Arc, PoisonError, RwLock};

use tokio::sync::watch;

use crate::state::Fleet;

/// The fleet and how far it is. Cheap to clone. Reading takes a closure, so that nobody holds the lock over an
/// `await`.
#[derive(Debug, Clone)]
pub struct FleetCell {
    fleet: Arc<RwLock<Fleet>>,
    applied: watch::Sender<u64>,
}

impl FleetCell {
    /// A cell with a fleet that is as of a log index.
    pub fn new(fleet: Fleet, applied: u64) -> Self {
        Self { fleet: Arc::new(RwLock::new(fleet)), applied: watch::Sender::new(applied) }
    }

    /// Looks at the fleet as it is here and now.
    pub fn look<T>(&self, look: impl FnOnce(&Fleet) -> T) -> T {
        // A poisoned lock means that a test's closure panicked: `apply` has no panic, and readers change nothing.
        look(&self.fleet.read().unwrap_or_else(PoisonError::into_inner))
    }

    /// Changes the fleet. For the state machine only.
    pub(crate) fn change<T>(&self, change: impl FnOnce(&mut Fleet) -> T) -> T {
        change(&mut self.fleet.write().unwrap_or_else(PoisonError::into_inner))
    }

    /// Says that everything up to a log index is applied.
    pub(crate) fn announce(&self, index: u64) {
        self.applied.send_replace(index);
    }

    /// The log index up to which everything is applied, as it grows.
    pub fn applied(&self) -> watch::Receiver<u64> {
        self.applied.subscribe()
    }
}
