//! Links between members of the cluster: one connection to each, one stream for each call.
//!
//! | module | holds |
//! |---|---|
//! | [`message`] | what members ask each other |
//! | [`desk`] | what the leader does for others, and in `members` who is one |
//! | `committer` | many commands in one entry |
//! | `courier` | many commands in one call |
//! | [`links`] | connections to the others |
//! | [`leader`] | calls to whoever leads, which may be this member |
//! | `attempt` | what came of one try |
//! | [`keepers`] | whether those who stay keep what there is |
//! | [`server`] | answering |

mod attempt;
mod committer;
mod courier;
pub mod desk;
pub mod keepers;
pub mod leader;
pub mod links;
pub mod message;
#[cfg(test)]
pub(crate) mod pair;
pub mod server;

pub use committer::{UNIT_BYTES, UNITS_MAX};
pub use leader::{LeaderError, LeaderLink};
pub use links::{Carrier, PeerError, PeerLinks};
pub use message::{Answer, Call, Committed, Declined};
