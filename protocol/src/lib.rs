//! What two machines must agree on. No sockets, no clock, no tasks, no randomness: everything here is a value or a
//! state machine that is told what happened, so it can be fuzzed, simulated and replayed.
//!
//! | module | holds |
//! |---|---|
//! | [`ids`] [`limits`] [`version`] [`time`] [`size`] | the words every other module uses |
//! | [`vm`] [`annotation`] [`node`] [`region`] [`network`] [`migration`] [`project`] [`usage`] | the nouns |
//! | [`access`] | permissions and roles |
//! | [`alert`] | what an alert is about |
//! | [`api`] | the JSON that the world sees |
//! | [`metric`] [`sample`] | what is measured over time, and how it travels |
//! | [`audit`] | the chain of the audit log |
//! | [`effect`] | coordinator to agent and back |
//! | [`session`] | source agent to target agent: messages and the hand-over rule |
//! | [`backup`] | a backup of a cluster, part by part |
//! | [`wire`] | how messages become bytes |
//! | [`qemu`] | QEMU's migration stream: parser and writer |
//! | [`pages`] | guest pages on our wire: batches, content table, digest |
//! | [`disk`] | disk blocks on our wire: records, content table, digest |
#![forbid(unsafe_code)]

pub mod access;
pub mod alert;
pub mod annotation;
pub mod api;
pub mod audit;
pub mod backup;
pub mod disk;
pub mod effect;
mod held_runs;
pub mod ids;
pub mod limits;
pub mod metric;
pub mod migration;
pub mod network;
pub mod node;
pub mod pages;
pub mod project;
pub mod qemu;
pub mod region;
pub mod sample;
pub mod secret;
pub mod session;
pub mod size;
pub mod time;
pub mod usage;
pub mod version;
pub mod vm;
pub mod wire;
