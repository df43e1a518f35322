//! Agents: their sessions with the leader, what they report, and the consoles of their machines.
//!
//! | module | holds |
//! |---|---|
//! | [`session`] | one agent's session, from hello to farewell |
//! | [`hello`] | whether an agent is welcome: pure |
//! | [`sessions`] | which agents are connected here |
//! | `herald` | wakes the sessions that have something to send |
//! | [`reports`] | what agents report, committed |
//! | `usage` | what agents metered, into the ledger |
//! | [`samples`] | what agents measured, into history |
//! | [`liveness`] | whether nodes answer |
//! | [`console`] | serial consoles, through this member or through the leader |

pub mod console;
pub mod hello;
pub(crate) mod herald;
pub mod liveness;
pub mod reports;
pub mod samples;
pub mod session;
pub mod sessions;
mod usage;

pub use console::{Console, ConsoleError, Consoles};
pub use session::AgentServer;
pub use sessions::Sessions;
