//! What the cluster agrees on, and nothing else.
//!
//! **Invariants.** Pure: no clock, no randomness, no tasks, no hash maps, no Raft, no HTTP. The same commands
//! at the same revisions give the same bytes on every replica. Applying a command never fails and performs
//! nothing outside: what agents shall do are rows of the outbox. Everything is bounded.
//!
//! | module | holds |
//! |---|---|
//! | [`command`] [`reply`] | what can be done, and what that answers |
//! | [`fleet`] | the state and the one way to change it |
//! | [`vm`] [`node`] [`migration`] | the nouns and their rules |
//! | [`batch`] [`drain`] [`settings`] | many migrations at once; what holds for all |
//! | [`annotation`] | what people and tools keep beside machines |
//! | [`snapshot`] | how disks of machines were |
//! | [`placement`] | whether a machine fits a node |
//! | [`outbox`] [`event`] [`request`] | what agents shall do, what happened, what was answered |
//! | `change` [`news`] | what differs, for events; which events tell what a command did |
//! | [`project`] | whose machines are whose, and how much they may take |
//! | [`region`] [`residency`] [`latency`] | where hosts stand, which machines may stand there, how far it is |
//! | [`network`] | bridges under one name, and which machines are in them |
//! | [`principal`] [`binding`] [`api_key`] [`access`] | who may ask, for what, and what proves who it is |
//! | [`secret`] | what is kept encrypted |
//! | [`alert`] | what somebody has to look at |
//! | [`audit`] [`archive`] | who changed what; history that left the tables |
//! | [`member`] [`token`] [`backup`] | the cluster itself, who may join it, and when it was backed up |
//! | [`ledger`] | what machines used, in double entries |
//! | [`incarnation`] | the cluster's lives: founded, restored from a backup |
//! | [`refused`] | requests that members refused |
//! | [`formats`] | which versions of all this the members understand |
//! | [`origin`] | who asked, and from where |
//! | [`table`] [`rows`] `tables` | rows on disk and in snapshots; the one list of tables |
//! | [`check`] | what is always true |

pub mod access;
pub mod alert;
pub mod annotation;
pub mod api_key;
pub mod archive;
pub mod audit;
pub mod backup;
pub mod batch;
pub mod binding;
mod change;
pub mod check;
pub mod command;
pub mod drain;
pub mod event;
pub mod fleet;
pub mod formats;
pub mod incarnation;
mod index;
pub mod latency;
pub mod ledger;
pub mod member;
pub mod migration;
pub mod network;
pub mod news;
pub mod node;
pub mod origin;
pub mod outbox;
pub mod placement;
pub mod principal;
pub mod project;
pub mod refused;
pub mod region;
pub mod reply;
pub mod request;
pub mod residency;
pub mod rows;
pub mod secret;
pub mod settings;
pub mod snapshot;
pub mod table;
mod tables;
#[cfg(test)]
pub(crate) mod testing;
#[cfg(test)]
mod tests;
pub mod token;
pub mod vm;

pub use command::{Body, Command};
pub use fleet::Fleet;
pub use origin::{Asker, Credential, Origin};
pub use reply::{Accepted, Refusal, Reply};
