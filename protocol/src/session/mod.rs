//! A migration between two agents: what they say, in which order, and who may run the machine.
//!
//! [`handover`] is the rule of the one owner and nothing else. [`source`] and [`target`] are the two ends of the
//! control stream as state machines without I/O: events go in, actions come out, time is an argument. Memory and disk
//! payloads travel on streams of their own and appear here only as facts (“everything is applied”, “these are the
//! digests”).

pub mod handover;
pub mod main_stream;
pub mod message;
pub mod retention;
pub mod source;
pub mod target;
pub mod tunnel;
