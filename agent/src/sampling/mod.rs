//! What machines and the host do, measured every ten seconds and told to the coordinators: for looking at, not for money
//! ([`metering`](crate::metering) is that).
//!
//! ```text
//! /proc, QMP, tap devices ─► readings ─► rates ─► one tick ─► remembered, ten minutes ═QUIC, a stream of its own═► leader
//! ```
//!
//! What cannot be known is not told: it is absent, and not zero.
//!
//! | module | what |
//! |---|---|
//! | [`rates`], [`remembered`] | pure: what counters grew by; the ticks of the last ten minutes |
//! | `process`, `host` | readings of a process and of the host, from what the kernel says |
//! | `machine` | readings of a machine |
//! | [`sampler`] | the task that measures |

mod host;
mod machine;
mod process;
pub mod rates;
pub mod remembered;
pub mod sampler;

pub use machine::Measurable;
pub use sampler::{Previous, SampleNumbers, Sampler};
