//! The link to the coordinators.
//!
//! | module | what |
//! |---|---|
//! | [`candidates`] | pure: which coordinator to dial next |
//! | [`dial`] | reaching the one that leads, for as long as the agent lives |
//! | [`session`] | hello, reports, heartbeats, effects, consoles |
//! | `samples` | what was measured |
//! | [`life`] | which life of its cluster an agent follows |
//! | [`inbox`] | effects: done once, told until committed |

pub mod candidates;
mod consoles;
pub mod dial;
pub mod inbox;
pub mod life;
mod migration_orders;
mod samples;
pub mod session;

pub use dial::{DialError, Dialer, resolve, run};
pub use inbox::Inbox;
pub use life::Life;
pub use session::SessionContext;
