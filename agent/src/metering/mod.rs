//! What machines use, metered here and told to the coordinators until they have it.
//!
//! ```text
//! drivers ─what is held─► meters ─records─► journal (durable) ─batches─► coordinators
//!                           └─marks, durable      ▲ rest of a conflict      │ outcomes
//!                                                 └──────── rest ◄──────────┘ purge; refused → a file
//! ```
//!
//! | module | what |
//! |---|---|
//! | [`time`], [`series`], [`meters`], [`rest`] | pure: clocks, one meter, all meters, what an answer asks for |
//! | [`journal`], [`refused`], [`store`] | durable: what waits, what was refused, both with what the meters remember |
//! | [`recorder`] | the task that writes, and what drivers and sessions call |
//! | [`signs`] | until when a guest lived that nobody saw end |

pub mod journal;
pub mod meters;
pub mod recorder;
pub mod refused;
pub mod rest;
pub mod series;
pub mod signs;
pub mod store;
pub mod time;

pub use journal::Batch;
pub use meters::Held;
pub use recorder::{NotSent, Recorder, UsageNumbers};

#[cfg(test)]
mod tests;
