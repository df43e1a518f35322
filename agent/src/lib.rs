//! The agent: one hypervisor host.
//!
//! It runs machines as QEMU processes that outlive it, moves them to other agents, and does what the
//! coordinators order: nothing else. **Invariants.** It knows effects and generations, no word of consensus. It
//! acts on a machine only for the generation that it holds. Its death stops no guest.
//!
//! | module | what |
//! |---|---|
//! | [`qmp`] | how QEMU is told what to do |
//! | [`sys`] | the only `unsafe`: guest memory shared with QEMU |

pub mod migrate;
pub mod qmp;
pub mod sys;
