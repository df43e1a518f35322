//! Durable bytes.
//!
//! Everything here is handed bytes and gives the same bytes back after a crash, or says which file
//! is damaged, and where. What the bytes mean is the business of the crates above.
//!
//! **Invariants.** This crate knows no word of the domain and no network. Only [`disk`] touches
//! files, so that every store runs unchanged on a simulated disk that loses power ([`tables`] is
//! the exception: its files belong to sled, and nothing in it may be the only copy). What was
//! acknowledged survives a power cut; what cannot be proved whole is refused, never guessed.
//!
//! | module | holds |
//! |---|---|
//! | [`cipher`] | encryption of all of these but tables, by whoever gives the keys |
//! | [`disk`] | the only door to the disk, real and simulated |
//! | [`log`] | the write-ahead log of a replicated log: entries, vote, committed, purge |
//! | [`snapshot`] | whole snapshots, the newest two |
//! | [`record`] | small named records, each replaced atomically |
//! | [`archive`] | files that never change, known by the hash of their content |
//! | [`tables`] | materialised tables that can always be rebuilt |

#![forbid(unsafe_code)]

pub mod archive;
pub mod cipher;
mod damage;
pub mod disk;
pub mod log;
pub mod record;
mod sealed;
pub mod snapshot;
pub mod tables;

pub use damage::{Damage, Damaged};
