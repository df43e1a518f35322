//! How far the state machine is, known also to whoever closes what it leaves.

use std::sync::{Arc, Mutex, PoisonError};

use super::record::Position;

/// The position of a state machine. Clones share it.
#[derive(Debug, Clone)]
pub(super) struct Place(Arc<Mutex<Standing>>);

#[derive(Debug)]
struct Standing {
    position: Position,
    /// Whether the fleet is as of the position: not while something is applied, nor after that has failed.
    is_settled: bool,
}

impl Place {
    pub(super) fn new(position: Position) -> Self {
        Self(Arc::new(Mutex::new(Standing { position, is_settled: true })))
    }

    fn with<T>(&self, work: impl FnOnce(&mut Standing) -> T) -> T {
        work(&mut self.0.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// The position that was settled last.
    pub(super) fn get(&self) -> Position {
        self.with(|standing| standing.position.clone())
    }

    /// The position, if the fleet is as of it.
    pub(super) fn settled(&self) -> Option<Position> {
        self.with(|standing| standing.is_settled.then(|| standing.position.clone()))
    }

    /// From here on the fleet may be ahead of the position, which is answered.
    pub(super) fn unsettle(&self) -> Position {
        self.with(|standing| {
            standing.is_settled = false;
            standing.position.clone()
        })
    }

    /// The fleet is as of this position.
    pub(super) fn settle(&self, position: Position) {
        self.with(|standing| *standing = Standing { position, is_settled: true });
    }
}
