//! Agents: their sessions with the leader, what they report, and the consoles of their machines.
//!
//! | module | holds |
//! |---|---|
//! | [`sessions`] | which agents are connected here |
//! | [`console`] | serial consoles, through this member or through the leader |

pub mod console;
pub mod sessions;

pub use console::{Console, ConsoleError, Consoles};
pub use sessions::Sessions;
