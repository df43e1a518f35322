//! Coordinators in a world that one seed decides: clocks, network, disks, crashes and what clients do.
//!
//! **What is real**: the replicated state, openraft, its glue, the log and the snapshots on a simulated disk that
//! loses power, the leader's desk, links between members with their codec, proposals and linearizable reads. **What is
//! not**: QUIC and TLS, HTTP, sessions of agents on the wire, guests, sled's tables (each start is as after a crash).
//!
//! The same seed gives the same run, bit by bit, in a process of its own: see [`entropy`].
//!
//! | module | holds |
//! |---|---|
//! | [`scenario`] | what a seed decides before a run |
//! | [`world`] | a run: safety while faults happen, then liveness |
//! | [`faults`] [`network`] [`disk`] | what goes wrong |
//! | [`member`] [`process`] [`wire`] [`front`] | coordinators and what is around them |
//! | [`client`] [`host`] [`operator`] | who uses them, who works for them, and who adds and removes them |
//! | [`oracle`] [`witness`] [`fit`] | what must be true |
//! | [`planted`] | bugs to be found |
//! | [`dice`] [`entropy`] [`trace`] [`panics`] | chance, and the proof that there is none |

pub mod client;
pub mod dice;
pub mod disk;
pub mod entropy;
pub mod faults;
pub mod fit;
pub mod front;
pub mod host;
pub mod member;
pub mod network;
pub mod operator;
pub mod oracle;
pub mod panics;
pub mod planted;
pub mod process;
pub mod scenario;
pub mod trace;
pub mod wire;
pub mod witness;
pub mod world;
