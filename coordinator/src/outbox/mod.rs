//! The leader's way from rows of the replicated outbox to agents, and what else it has to see to.
//!
//! | module | holds |
//! |---|---|
//! | [`dispatch`] | which effects to send on a session, and when again: pure |
//! | [`reconcile`] | machines that wait for a node, effects whose time is over |

pub mod dispatch;
pub mod reconcile;
