//! How old what a member has can be.

use std::sync::{Arc, Mutex, PoisonError};

use tokio::time::Instant;

/// The latest moment at which a member had everything. Cheap to clone.
#[derive(Debug, Clone, Default)]
pub(super) struct Currency {
    known_at: Arc<Mutex<Option<Instant>>>,
}

impl Currency {
    /// A member had everything that was acknowledged before a moment. Moments come in any order.
    pub(super) fn note(&self, at: Instant) {
        let mut known_at = self.known_at.lock().unwrap_or_else(PoisonError::into_inner);
        *known_at = (*known_at).max(Some(at));
    }

    pub(super) fn get(&self) -> Option<Instant> {
        *self.known_at.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn the_latest_moment_counts() {
        let (currency, now) = (Currency::default(), Instant::now());
        assert_eq!(currency.get(), None);
        let earlier = now - Duration::from_millis(5);
        currency.note(now);
        currency.note(earlier);
        assert_eq!(currency.get(), Some(now));
    }
}
