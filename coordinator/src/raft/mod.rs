//! Everything that knows openraft. Glue only: what is agreed on is [`crate::state`], where it is kept is
//! `novacron-storage`, how it travels is [`crate::peers`].
//!
//! | module | holds |
//! |---|---|
//! | [`types`] | what openraft is told about our types |
//! | [`log_store`] | log and vote, durable before they are acknowledged |
//! | [`machine`] | applying, tables on disk, snapshots |
//! | [`network`] | Raft's calls over the links between members |
//! | [`timing`] | elections: windows that never overlap |

pub mod log_store;
pub mod machine;
pub mod network;
mod record;
mod tables;
pub mod timing;
pub mod types;

pub use types::{MemberNode, Raft, TypeConfig};
