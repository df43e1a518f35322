//! The agent: one hypervisor host.
//!
//! It runs machines as QEMU processes that outlive it, moves them to other agents, and does what the
//! coordinators order: nothing else. **Invariants.** It knows effects and generations, no word of consensus. It
//! acts on a machine only for the generation that it holds. Its death stops no guest.
//!
//! | module | what |
//! |---|---|
//! | [`config`] | what its operator says |
//! | [`agent`] | all of it put together: join, serve, probe |
//! | [`link`] | the session with the coordinators: effects in, reports out, consoles |
//! | [`host`] | what this host has, can run, and may lend |
//! | [`vm`] | its machines: states, records, processes, disks, consoles |
//! | [`migrate`] | moving machines |
//! | [`disk`] | disks of a machine that moves |
//! | [`metering`], [`sampling`] | what machines use, for money; what they and the host do, for looking at |
//! | [`report`], [`records`] | what is to be told, and what must not be forgotten |
//! | [`qmp`] | how QEMU is told what to do |
//! | [`sys`] | the only `unsafe`: guest memory shared with QEMU |
//! | [`clock`], [`reason`](mod@reason) | the wall clock; errors as people read them |

pub mod agent;
pub mod clock;
pub mod config;
pub mod disk;
pub mod hold;
pub mod host;
pub mod link;
pub mod metering;
pub mod metrics;
pub mod migrate;
pub mod qmp;
pub mod reason;
pub mod records;
pub mod report;
pub mod sampling;
pub mod sys;
pub mod vm;
