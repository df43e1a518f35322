//! How many bytes may be remembered, counted in chunks.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

/// A limit that all shadows of an agent share; clones are the same budget.
#[derive(Debug, Clone)]
pub struct CacheBudget {
    inner: Arc<Inner>,
}

#[derive(Debug)]
struct Inner {
    limit_bytes: u64,
    used_bytes: AtomicU64,
}

/// Bytes that are taken out of a budget until this is dropped.
#[derive(Debug)]
pub struct Lease {
    budget: CacheBudget,
    bytes: u64,
}

impl CacheBudget {
    /// A budget of so many bytes, none of them taken.
    pub fn new(limit_bytes: u64) -> Self {
        Self { inner: Arc::new(Inner { limit_bytes, used_bytes: AtomicU64::new(0) }) }
    }

    /// Bytes that may be taken in all.
    pub fn limit_bytes(&self) -> u64 {
        self.inner.limit_bytes
    }

    /// Bytes that are taken.
    pub fn used_bytes(&self) -> u64 {
        self.inner.used_bytes.load(Ordering::Relaxed)
    }

    /// A lease of nothing, to be grown.
    pub(crate) fn lease(&self) -> Lease {
        Lease { budget: self.clone(), bytes: 0 }
    }

    fn take(&self, bytes: u64) -> bool {
        let fits = |used: u64| used.checked_add(bytes).filter(|sum| *sum <= self.limit_bytes());
        let used = &self.inner.used_bytes;
        used.fetch_update(Ordering::Relaxed, Ordering::Relaxed, fits).is_ok()
    }
}

impl Lease {
    /// Takes more; false, and nothing is taken, if there is not as much left.
    #[must_use]
    pub(crate) fn grow(&mut self, bytes: u64) -> bool {
        let taken = self.budget.take(bytes);
        if taken {
            self.bytes += bytes;
        }
        taken
    }

    /// Gives back what it has.
    pub(crate) fn clear(&mut self) {
        self.budget.inner.used_bytes.fetch_sub(self.bytes, Ordering::Relaxed);
        self.bytes = 0;
    }

    /// Bytes that it has.
    pub(super) fn bytes(&self) -> u64 {
        self.bytes
    }
}

impl Drop for Lease {
    fn drop(&mut self) {
        self.clear();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_taken_comes_back() {
        let budget = CacheBudget::new(10);
        let mut first = budget.lease();
        let mut second = budget.lease();
        assert!(first.grow(6));
        assert!(!second.grow(5));
        assert!(second.grow(4));
        assert_eq!((budget.used_bytes(), first.bytes(), second.bytes()), (10, 6, 4));
        drop(first);
        assert!(second.grow(6));
        assert!(!second.grow(u64::MAX));
        second.clear();
        assert_eq!((budget.used_bytes(), second.bytes()), (0, 0));
        drop(second);
        assert_eq!(budget.used_bytes(), 0);
    }
}
