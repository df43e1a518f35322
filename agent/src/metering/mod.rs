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

pub mod meters;
pub mod rest;
pub mod series;
pub mod time;

#[cfg(test)]
mod tests;
