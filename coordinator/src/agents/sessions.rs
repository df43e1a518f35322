//! Which agents are connected to this member.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};

use novacron_protocol::ids::NodeName;
use novacron_transport::Connection;
use tokio::sync::Notify;
use tokio::time::Instant;

use crate::state::node::SessionId;

/// An agent that is connected here.
#[derive(Debug, Clone)]
pub struct Session {
    /// Identity.
    pub id: SessionId,
    /// The link.
    pub connection: Connection,
    /// When it was heard last.
    pub heard_at: Instant,
    /// Told when there are new effects for it.
    pub(super) wake: Arc<Notify>,
}

/// The agents that are connected to this member. Cheap to clone.
#[derive(Debug, Clone, Default)]
pub struct Sessions {
    open: Arc<Mutex<BTreeMap<NodeName, Session>>>,
}

impl Sessions {
    fn with<T>(&self, change: impl FnOnce(&mut BTreeMap<NodeName, Session>) -> T) -> T {
        change(&mut self.open.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// Takes a session in and gives back the one whose place it takes.
    pub fn insert(&self, node: NodeName, session: Session) -> Option<Session> {
        self.with(|open| open.insert(node, session))
    }

    /// Forgets a session, unless another has taken its place.
    pub fn remove(&self, node: &NodeName, id: SessionId) {
        self.with(|open| {
            if open.get(node).is_some_and(|session| session.id == id) {
                open.remove(node);
            }
        });
    }

    /// Notes that a session's agent was heard.
    pub fn heard(&self, node: &NodeName, id: SessionId) {
        self.with(|open| {
            if let Some(session) = open.get_mut(node).filter(|session| session.id == id) {
                session.heard_at = Instant::now();
            }
        });
    }

    /// There are new effects for a node.
    pub(super) fn wake(&self, node: &NodeName) {
        self.with(|open| open.get(node).iter().for_each(|session| session.wake.notify_one()));
    }

    /// The session of a node.
    pub fn get(&self, node: &NodeName) -> Option<Session> {
        self.with(|open| open.get(node).cloned())
    }

    /// All sessions.
    pub fn all(&self) -> Vec<(NodeName, Session)> {
        self.with(|open| {
            open.iter().map(|(node, session)| (node.clone(), session.clone())).collect()
        })
    }

    /// Forgets all sessions and gives them back.
    pub fn take_all(&self) -> Vec<Session> {
        self.with(|open| std::mem::take(open).into_values().collect())
    }
}
