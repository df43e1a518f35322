//! The cluster's own alerts: the leader looks at what holds, and has the state note what changed.
//!
//! What holds is a function of the fleet, of what the coordinators say of themselves and of what the month costs
//! ([`conditions`]). It has to hold for a while before an alert fires, and to be gone for a while before the alert is
//! resolved ([`holding`]): what comes and goes makes no noise. All that the next leader needs is in the state, so a change
//! of leaders raises nothing twice and loses nothing; at most a while begins anew.
//!
//! | module | holds |
//! |---|---|
//! | [`conditions`] | what holds: pure |
//! | [`gathering`] | many things of one kind are one: pure |
//! | [`members`] | what holds of the coordinators: pure |
//! | [`money`] | what holds of budgets and of the ledger: pure |
//! | [`holding`] | what is to be raised and resolved, and when: pure |
//! | [`watch`] | the leader's part |

pub mod conditions;
mod gathering;
pub mod holding;
mod members;
mod money;
pub mod watch;

#[cfg(test)]
mod tests;
