//! What end-to-end tests share.
//!
//! | module | holds |
//! |---|---|
//! | [`dev_cluster`] | a cluster of the real programs, by `novacron dev` |
//! | [`fleet`] [`attempt`] | busy guests on it, and their migrations with what must be true afterwards |
//! | [`agent`] [`steps`] | agents that are stopped at a step of a migration, and what is done to them there |
//! | [`place`] [`monitor`] [`witness`] | what is at a node, seen from outside the programs under test |
//! | [`faults`] | coordinators under fire, and what their clients saw |
//! | [`counter`] | what the guest says of itself |
//! | [`wait`] | the one way to wait |

pub mod agent;
pub mod attempt;
pub mod counter;
pub mod dev_cluster;
pub mod faults;
pub mod fleet;
pub mod monitor;
pub mod place;
pub mod steps;
pub mod wait;
pub mod witness;
