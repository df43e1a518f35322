//! What the requests of one connection share; an extension of each.

use std::sync::Arc;

use super::unread::Unread;
use crate::admission::Visit;

/// One connection. Cheap to clone.
#[derive(Debug, Clone)]
pub(super) struct Connection {
    /// Its place.
    pub(super) visit: Arc<Visit>,
    /// Answers that its other end has not read.
    pub(super) unread: Arc<Unread>,
}

impl Connection {
    /// One that has answered nothing.
    pub(super) fn of(visit: Arc<Visit>) -> Self {
        Self { visit, unread: Arc::default() }
    }
}
